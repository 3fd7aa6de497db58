package dialect

import (
	"bytes"
	"encoding/json"
	"strings"
)

// firsts are what the first frame of a server tells of its dialect.
var firsts = []struct{ begins, protocol string }{
	{`0{"sid":`, "socket.io"},
	{"CONNECTED\n", "stomp"},
	{"\x1e", "signalr"},
}

// Guess is the dialect that a first frame is of, "" when that is not to be told: raw, for instance.
func Guess(data []byte) string {
	text := strings.TrimSpace(string(data[:min(len(data), 4<<10)]))
	for _, f := range firsts {
		if strings.HasPrefix(string(data), f.begins) {
			return f.protocol
		}
	}
	if text == "o" || strings.HasPrefix(text, "a[\"") {
		return "sockjs"
	}
	if bytes.HasSuffix(data, []byte{0x1e}) {
		return "signalr"
	}
	if len(data) >= 4 && data[0] == 0x20 && data[1] == 2 { // CONNACK
		return "mqtt"
	}
	var object struct{ Type string }
	if json.Unmarshal(data, &object) == nil {
		switch object.Type {
		case "welcome":
			return "actioncable"
		case "connection_ack":
			return "graphql-transport-ws"
		case "ka":
			return "graphql-ws"
		}
	}
	var list []json.RawMessage
	if json.Unmarshal(data, &list) == nil && len(list) > 2 {
		if string(list[0]) == "2" || string(list[0]) == "4" { // WELCOME, CHALLENGE
			return "wamp"
		}
		if len(list) == 5 && strings.HasPrefix(string(list[3]), `"phx_`) {
			return "phoenix"
		}
	}
	return ""
}
