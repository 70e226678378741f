// A chat business server for wafergate: Go and the published Standard Webhooks package, nothing else.
//
//	go mod init chat && go mod tidy
//	GATEWAY=http://127.0.0.1:8080 TENANT=shop KEY=whsec_... PORT=3000 go run .
//
// A client asks GET /tunnel?user=NAME and dials the connectUrl that it gets; what it says goes to everybody in the group "chat".
package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

type object = map[string]any

func env(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

var (
	gateway, tenant = env("GATEWAY", "http://127.0.0.1:8080"), env("TENANT", "shop")
	key, port       = os.Getenv("KEY"), env("PORT", "3000")
	webhookURL      = env("WEBHOOK_URL", "http://127.0.0.1:"+port+"/events")
)

// call calls the gateway, signed by RFC 9421.
func call(method, path string, value object) (int, []byte, error) {
	body, _ := json.Marshal(value)
	sum, nonce := sha256.Sum256(body), make([]byte, 16)
	rand.Read(nonce)
	digest := "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"
	params := fmt.Sprintf(`("@method" "@path" "content-digest");created=%d;keyid="%s";nonce="%x";alg="hmac-sha256"`, time.Now().Unix(), tenant, nonce)
	base := fmt.Sprintf("\"@method\": %s\n\"@path\": %s\n\"content-digest\": %s\n\"@signature-params\": %s", method, path, digest, params)
	secret, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(key, "whsec_"))
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(base))
	request, err := http.NewRequest(method, gateway+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	request.Header.Set("Content-Digest", digest)
	request.Header.Set("Signature-Input", "s="+params)
	request.Header.Set("Signature", "s=:"+base64.StdEncoding.EncodeToString(mac.Sum(nil))+":")
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return answer.StatusCode, text, err
}

func toChat(kind string, content object) object {
	return object{"to": object{"group": "chat"}, "type": kind, "content": content}
}

// answerTo says what an event is answered with: actions save a request of our own.
func answerTo(event object) object {
	user := event["userid"]
	switch event["type"] {
	case "wafergate.tunnel.connected":
		return object{"actions": []object{{"push": toChat("joined", object{"user": user})}}}
	case "wafergate.tunnel.message":
		return object{"actions": []object{{"push": toChat("said", object{"user": user, "text": event["data"]})}}}
	case "wafergate.tunnel.closed": // The last one leaves an empty group behind: 404 group_unknown is fine.
		if _, _, err := call("POST", "/v1/push", toChat("left", object{"user": user})); err != nil {
			log.Print(err)
		}
	}
	return object{}
}

func main() {
	webhook, err := standardwebhooks.NewWebhook(key)
	if err != nil {
		log.Fatal(err)
	}
	http.HandleFunc("/tunnel", func(w http.ResponseWriter, r *http.Request) {
		wish := object{"user": r.URL.Query().Get("user"), "groups": []string{"chat"}, "webhookUrl": webhookURL}
		status, text, err := call("POST", "/v1/tunnels", wish)
		if err != nil {
			status, text = 502, []byte(`{"error":"the gateway does not answer"}`)
		}
		w.WriteHeader(status)
		w.Write(text)
	})
	http.HandleFunc("/events", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var event object
		if err != nil || webhook.Verify(body, r.Header) != nil || json.Unmarshal(body, &event) != nil {
			http.Error(w, "not signed", 400)
			return
		}
		json.NewEncoder(w).Encode(answerTo(event))
	})
	fmt.Println("chat on http://127.0.0.1:" + port)
	log.Fatal(http.ListenAndServe("127.0.0.1:"+port, nil))
}
