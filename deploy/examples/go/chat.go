// A chat business server for wafergate: Go 1.22 and the published Standard Webhooks package, nothing else.
//
//	GATEWAY=http://127.0.0.1:8080 TENANT=shop KEY=whsec_... PORT=3000 go run .
//
// A client asks GET /tunnel?user=NAME and dials the connectUrl that it gets; what it says goes to everybody in the group "chat".
// Requests are signed, so the key itself never travels: a bearer key would be shorter, but only TLS or loopback may carry one.
package main

import (
	"bytes"
	"cmp"
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

var (
	gateway = cmp.Or(os.Getenv("GATEWAY"), "http://127.0.0.1:8080")
	tenant  = cmp.Or(os.Getenv("TENANT"), "shop")
	key     = os.Getenv("KEY")
	address = "127.0.0.1:" + cmp.Or(os.Getenv("PORT"), "3000")
	events  = cmp.Or(os.Getenv("WEBHOOK_URL"), "http://"+address+"/events")
)

// post posts to the gateway, signed by RFC 9421.
func post(path string, value object) (*http.Response, error) {
	body, _ := json.Marshal(value)
	sum, nonce := sha256.Sum256(body), make([]byte, 16)
	rand.Read(nonce)
	digest := "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"
	params := fmt.Sprintf(`("@method" "@path" "content-digest");created=%d;keyid="%s";nonce="%x";alg="hmac-sha256"`,
		time.Now().Unix(), tenant, nonce)
	secret, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(key, "whsec_"))
	mac := hmac.New(sha256.New, secret)
	fmt.Fprintf(mac, "\"@method\": POST\n\"@path\": %s\n\"content-digest\": %s\n\"@signature-params\": %s", path, digest, params)
	request, err := http.NewRequest("POST", gateway+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Digest", digest)
	request.Header.Set("Signature-Input", "s="+params)
	request.Header.Set("Signature", "s=:"+base64.StdEncoding.EncodeToString(mac.Sum(nil))+":")
	return http.DefaultClient.Do(request)
}

// answerTo says what an event is answered with: the gateway does what the answer asks for, so we need no request of our own.
func answerTo(event object) object {
	kind, content := "joined", object{"user": event["userid"]}
	switch event["type"] {
	case "wafergate.tunnel.message":
		kind, content["text"] = "said", event["data"]
	case "wafergate.tunnel.closed":
		kind, content["reason"] = "left", event["data"].(object)["reason"]
	}
	push := object{"to": object{"group": "chat"}, "type": kind, "content": content}
	return object{"actions": []object{{"push": push}}}
}

func main() {
	webhook, err := standardwebhooks.NewWebhook(key)
	if err != nil {
		log.Fatal(err)
	}
	http.HandleFunc("GET /tunnel", func(w http.ResponseWriter, r *http.Request) {
		wish := object{"user": r.URL.Query().Get("user"), "groups": []string{"chat"}, "webhookUrl": events}
		answer, err := post("/v1/tunnels", wish)
		if err != nil {
			http.Error(w, "the gateway does not answer", 502)
			return
		}
		defer answer.Body.Close()
		w.WriteHeader(answer.StatusCode)
		io.Copy(w, answer.Body)
	})
	http.HandleFunc("POST /events", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var event object
		if webhook.Verify(body, r.Header) != nil || json.Unmarshal(body, &event) != nil {
			http.Error(w, "not signed", 400)
			return
		}
		json.NewEncoder(w).Encode(answerTo(event))
	})
	fmt.Println("chat on http://" + address)
	log.Fatal(http.ListenAndServe(address, nil))
}
