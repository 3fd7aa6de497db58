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
	{`INFO {"server_id":`, "nats"},
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
	if protocol := guessObject(data); protocol != "" {
		return protocol
	}
	var metas []struct{ Channel string }
	if json.Unmarshal(data, &metas) == nil && len(metas) > 0 && strings.HasPrefix(metas[0].Channel, bayeuxMeta) {
		return "bayeux"
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

// guessObject is Guess for a frame that begins with a JSON object.
func guessObject(data []byte) string {
	var object struct {
		Type, JSONRPC string
		Event         string
		C             string // of ASP.NET SignalR
		M             []json.RawMessage

		ReconnectionToken string // of Azure Web PubSub
		Connect           *struct{ Client string }
		Payload           any

		ConnectionTimeoutMs any
		Msg                 any
		Op, ClientID        any
		ServerID            any `json:"server_id"`
	}
	if json.NewDecoder(bytes.NewReader(data)).Decode(&object) != nil { // others may follow it
		return ""
	}
	if object.Connect != nil && object.Connect.Client != "" {
		return "centrifuge"
	}
	if (strings.HasPrefix(object.C, "d-") || strings.HasPrefix(object.C, "s-")) && object.M != nil {
		return classicName
	}
	if object.Type == "system" && object.Event == "connected" && object.ReconnectionToken != "" {
		return pubSubName
	}
	if object.Msg == "connected" || object.ServerID == "0" {
		return "ddp"
	}
	if object.Op == "connected" && object.ClientID != nil {
		return "parse"
	}
	if object.JSONRPC == "2.0" {
		return "jsonrpc"
	}
	switch object.Type {
	case "welcome":
		return "actioncable"
	case "connection_ack":
		if payload, _ := object.Payload.(map[string]any); payload["connectionTimeoutMs"] != nil || object.ConnectionTimeoutMs != nil {
			return "appsync"
		}
		return "graphql-transport-ws"
	case "ka":
		return "graphql-ws"
	}
	return ""
}
