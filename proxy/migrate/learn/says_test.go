package learn_test

import (
	"strings"
	"testing"
)

// What a user sends later is not what the connection begins with, and what begins it is.
func TestSaysLater(t *testing.T) {
	for _, c := range []struct{ protocol, subprotocol, begin, say, hello string }{
		{"webpubsub", "json.reliable.webpubsub.azure.v1", `< {"type":"system","event":"connected","connectionId":"c","reconnectionToken":"t"}
			> {"type":"joinGroup","group":"chat","ackId":1}
			< {"type":"ack","ackId":1,"success":true}`, `> {"type":"sendToGroup","group":"chat","dataType":"text","data":"hi","ackId":2}`, `"data":"hi"`},
		{"centrifuge", "", `> {"connect":{},"id":1}
			< {"id":1,"connect":{"client":"c","version":"6"}}
			> {"subscribe":{"channel":"chat"},"id":2}
			< {"id":2,"subscribe":{}}`, `> {"publish":{"channel":"chat","data":"hi"},"id":3}`, `chat "hi"`},
		{"bayeux", "", `> [{"channel":"/meta/handshake","version":"1.0","supportedConnectionTypes":["websocket"],"id":"1"}]
			< [{"channel":"/meta/handshake","successful":true,"clientId":"c","version":"1.0","supportedConnectionTypes":["websocket"],"id":"1"}]
			> [{"channel":"/meta/subscribe","subscription":"/chat","clientId":"c","id":"2"}]
			< [{"channel":"/meta/subscribe","subscription":"/chat","successful":true,"clientId":"c","id":"2"}]`, `> [{"channel":"/chat","data":{"text":"hi"},"clientId":"c","id":"3"}]`, `/chat {"text":"hi"}`},
		{"stomp", "v12.stomp", `>q "CONNECT\naccept-version:1.2\nhost:h\n\n\x00"
			<q "CONNECTED\nversion:1.2\n\n\x00"
			>q "SUBSCRIBE\nid:1\ndestination:/topic/chat\n\n\x00"`, `>q "SEND\ndestination:/topic/chat\n\nhi\x00"`, `"body":"hi"`},
		{"nats", "", `<q "INFO {\"server_id\":\"N\",\"version\":\"2\",\"max_payload\":1048576} \r\n"
			>q "CONNECT {\"verbose\":false}\r\nPING\r\nSUB chat 1\r\n"
			<q "PONG\r\n"`, `>q "PUB chat 2\r\nhi\r\n"`, `"payload":"hi"`},
	} {
		for later, hello := range map[string]string{"": c.hello, "+60s\n": ""} {
			conversation := talk(t, "/chat", "", strings.ReplaceAll(c.begin+"\n"+later+c.say, "\t", ""))
			conversation.Subprotocol = c.subprotocol
			r, _ := conclude(t, seen(conversation))
			rt := one(t, r)
			has(t, rt, "PROTOCOL="+c.protocol)
			if got := rt.Get("HELLO"); !strings.Contains(got, hello) || (got == "") != (hello == "") {
				t.Errorf("%s, %q: HELLO is %q", c.protocol, later, got)
			}
		}
	}
}
