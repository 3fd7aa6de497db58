package learn

import (
	"bytes"
	"encoding/json"
	"strings"

	"sidestream/translate/dialect"
)

// bySubprotocol are the dialects that a WebSocket's subprotocol names.
var bySubprotocol = map[string]string{
	"graphql-transport-ws": "graphql-transport-ws", "graphql-ws": "graphql-ws", "mqtt": "mqtt", "mqttv3.1": "mqtt",
	"v10.stomp": "stomp", "v11.stomp": "stomp", "v12.stomp": "stomp", "wamp.2.json": "wamp",
	"actioncable-v1-json": "actioncable", "actioncable-v1-ext-json": "actioncable", "phoenix": "phoenix", "centrifuge-json": "centrifuge", "json.reliable.webpubsub.azure.v1": "webpubsub", "json.webpubsub.azure.v1": "webpubsub",
	"aws-appsync-event-ws": "appsync",
}

// spoken is the dialect of a conversation, by its subprotocol, address and first messages; raw when it is of none.
func spoken(c *Conversation) string {
	if name := bySubprotocol[c.Subprotocol]; name != "" {
		if name == "graphql-ws" && ofAppSync(c) {
			return "appsync"
		}
		return name
	}
	if eio, ok := value(c.Query, "EIO"); ok {
		if eio == "3" {
			return "socket.io-v2"
		}
		return "socket.io"
	}
	if isClassic(c) {
		return "signalr-classic"
	}
	if sockJS.MatchString(c.Path) && saysOpen(c) {
		return sockJSOver(c)
	}
	for i, f := range c.Frames {
		if i == maxFirstFrames {
			break
		}
		if f.Cut {
			continue
		}
		if f.FromClient {
			if name := byClient(f.Data); name != "" {
				return name
			}
		} else if name := dialect.Guess(f.Data); name != "" && sure(name, c, f) {
			return older(name, c)
		}
	}
	return "raw"
}

// older is the version of a dialect.
func older(name string, c *Conversation) string {
	if name != "socket.io" {
		return name
	}
	for _, f := range c.Frames {
		if text := string(f.Data); f.FromClient && strings.HasPrefix(text, "40/") && strings.Contains(text, "?") || !f.FromClient && text == "40" {
			return "socket.io-v2"
		}
	}
	return name
}

// maxFirstFrames are those by which a dialect is recognised.
const maxFirstFrames = 12

// sure reports whether what one message of the service suggests is borne out by more.
func sure(name string, c *Conversation, f Frame) bool {
	switch name {
	case "signalr":
		return hasClient(c, func(data []byte) bool { return bytes.Contains(data, []byte(`"protocol"`)) })
	case "socket.io", "stomp", "phoenix", "nats":
		return true
	case "mqtt":
		return f.Binary && hasClient(c, func(data []byte) bool { return len(data) > 0 && data[0] == 0x10 })
	case "sockjs":
		return false // its address would have told
	}
	// The others' first messages look like those of feeds that speak nothing but JSON: what clients send tells.
	return hasClient(c, func(data []byte) bool { return byClient(data) == name })
}

func hasClient(c *Conversation, is func([]byte) bool) bool {
	for _, f := range c.Frames {
		if f.FromClient && is(f.Data) {
			return true
		}
	}
	return false
}

// saysOpen reports whether the service's first message is SockJS's.
func saysOpen(c *Conversation) bool {
	for _, f := range c.Frames {
		if !f.FromClient && len(f.Data) > 0 {
			return string(f.Data) == "o"
		}
	}
	return false
}

// byClient is the dialect that a client's message is of; "" when it may be of any.
func byClient(data []byte) string {
	text := string(data[:min(len(data), 256)])
	for _, begins := range []string{"CONNECT\n", "CONNECT\r\n", "STOMP\n", "STOMP\r\n"} {
		if strings.HasPrefix(text, begins) {
			return "stomp"
		}
	}
	if bytes.HasSuffix(data, []byte{0x1e}) && bytes.Contains(data, []byte(`"protocol"`)) {
		return "signalr"
	}
	if len(data) > 8 && data[0] == 0x10 && (bytes.Contains(data[:min(len(data), 14)], []byte("MQTT")) || bytes.Contains(data[:min(len(data), 14)], []byte("MQIsdp"))) {
		return "mqtt"
	}
	if strings.HasPrefix(text, `CONNECT {`) {
		return "nats"
	}
	if strings.HasPrefix(strings.TrimSpace(text), "[") {
		return byList(data)
	}
	return byObject(data)
}

func byList(data []byte) string {
	var metas []struct{ Channel string }
	if json.Unmarshal(data, &metas) == nil && len(metas) > 0 && strings.HasPrefix(metas[0].Channel, "/meta/") {
		return "bayeux"
	}
	var list []json.RawMessage
	if json.Unmarshal(data, &list) != nil {
		return ""
	}
	switch {
	case len(list) == 5 && string(list[3]) == `"phx_join"`:
		return "phoenix"
	case len(list) == 3 && string(list[0]) == "1" && list[1][0] == '"' && bytes.Contains(list[2], []byte(`"roles"`)):
		return "wamp"
	}
	return ""
}

func byObject(data []byte) string {
	var object struct {
		Type, Command, Identifier, Event, Topic, Query string
		Payload                                        json.RawMessage
		ID                                             json.RawMessage
		Connect                                        map[string]json.RawMessage
		Msg                                            any
		Op, ApplicationID                              any
		Version                                        any
		Support                                        []any
	}
	if json.NewDecoder(bytes.NewReader(data)).Decode(&object) != nil { // Centrifuge's clients send several, one after the other
		return ""
	}
	switch {
	case object.Msg == "connect" && object.Version != nil && object.Support != nil:
		return "ddp"
	case object.Op == "connect" && object.ApplicationID != nil:
		return "parse"
	case object.Connect != nil && len(object.ID) > 0:
		return "centrifuge"
	case object.Command == "subscribe" && strings.HasPrefix(object.Identifier, "{"):
		return "actioncable"
	case object.Event == "phx_join" && object.Topic != "":
		return "phoenix"
	case object.Type == "subscribe" && bytes.Contains(object.Payload, []byte(`"query"`)):
		return "graphql-transport-ws"
	case object.Type == "start" && bytes.Contains(object.Payload, []byte(`query`)):
		return "graphql-ws"
	}
	return ""
}

// sockJSOver is the dialect within SockJS.
func sockJSOver(c *Conversation) string {
	inner := *c
	inner.Path, inner.Frames = "/", unwrapSockJS(c.Frames)
	if name := spoken(&inner); name != "raw" && name != "sockjs" && name != "mqtt" && name != "nats" {
		return "sockjs+" + name
	}
	return "sockjs"
}

// unwrapSockJS are the messages within SockJS's frames:
//
//	o            open                    h   heartbeat
//	a["..",".."] messages of the service m".." one       c[code,reason]  close
//	["..",".."]  messages of the client
func unwrapSockJS(frames []Frame) (inner []Frame) {
	for _, f := range frames {
		data := f.Data
		if len(data) == 0 || f.Cut {
			continue
		}
		var texts []string
		switch {
		case f.FromClient:
			if json.Unmarshal(data, &texts) != nil {
				var one string
				if json.Unmarshal(data, &one) == nil {
					texts = []string{one}
				}
			}
		case data[0] == 'a':
			_ = json.Unmarshal(data[1:], &texts)
		case data[0] == 'm':
			texts = []string{""}
			_ = json.Unmarshal(data[1:], &texts[0])
		}
		for _, text := range texts {
			if len(inner) < maxFrames*2 {
				inner = append(inner, Frame{At: f.At, FromClient: f.FromClient, Data: []byte(text)})
			}
		}
	}
	return inner
}
