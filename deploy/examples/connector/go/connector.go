// A business server that dials out to wafergate: Go 1.23 and the WebSocket package of coder. It repeats what a client says.
//
//	GATEWAY=https://ws.example.com TENANT=shop KEY=whsec_... NAME=shop; go mod tidy && go run .
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/coder/websocket"
)

type object = map[string]any

var session, instance = "", make([]byte, 16)

func answerTo(event object) object {
	if event["type"] != "wafergate.tunnel.message" {
		return object{}
	}
	return object{"actions": []any{object{"push": object{"content": fmt.Sprint("you said: ", event["data"])}}}}
}

func serve(ctx context.Context) error {
	header := http.Header{"Authorization": {"Bearer " + os.Getenv("TENANT") + ":" + os.Getenv("KEY")}}
	options := &websocket.DialOptions{HTTPHeader: header, Subprotocols: []string{"wafergate.connector.v1"}}
	connection, _, err := websocket.Dial(ctx, os.Getenv("GATEWAY")+"/v1/connector", options)
	if err != nil {
		return err
	}
	defer connection.CloseNow()
	connection.SetReadLimit(64 << 20)
	say := func(head, body object) error {
		line, _ := json.Marshal(head)
		content, _ := json.Marshal(body)
		return connection.Write(ctx, websocket.MessageText, append(append(line, '\n'), content...))
	}
	go func() {
		for responds := true; responds; time.Sleep(20 * time.Second) {
			within, cancel := context.WithTimeout(ctx, 25*time.Second)
			responds = connection.Ping(within) == nil // it closes a connection that does not
			cancel()
		}
	}()
	err = say(object{"type": "hello", "v": 1, "name": os.Getenv("NAME"), "instance": fmt.Sprintf("%x", instance), "session": session, "purpose": "serve", "take": object{"named": true}, "window": object{"events": 256, "bytes": 4 << 20}, "agent": "connector.go"}, nil)
	for err == nil {
		_, message, failed := connection.Read(ctx)
		if err = failed; err != nil {
			break
		}
		line, body, _ := bytes.Cut(message, []byte("\n"))
		var head, event object
		json.Unmarshal(line, &head)
		json.Unmarshal(body, &event)
		switch head["type"] {
		case "welcome":
			session = head["session"].(string)
			fmt.Println("ready", session)
		case "event":
			err = say(object{"type": "answer", "id": head["id"], "attempt": head["attempt"], "status": 200, "ms": 0}, answerTo(event))
		}
	}
	return err
}

func main() {
	for rand.Read(instance); ; time.Sleep(time.Second / 2) {
		fmt.Println(serve(context.Background()))
	}
}
