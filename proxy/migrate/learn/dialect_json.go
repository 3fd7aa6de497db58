package learn

import (
	"bytes"
	"encoding/json"
	"strings"
)

// readGraphQL reads, of graphql-transport-ws and the older graphql-ws:
//
//	{"type":"connection_init","payload":{..}}
//	{"type":"subscribe" or "start","id":"1","payload":{"query","variables","operationName"}}
func readGraphQL(c *Conversation) (s speech) {
	for _, f := range c.Frames {
		var m struct {
			Type    string
			Payload json.RawMessage
		}
		if !f.FromClient || json.Unmarshal(f.Data, &m) != nil {
			continue
		}
		switch m.Type {
		case "connection_init":
			if len(m.Payload) > 2 {
				s.add(connects, "", string(m.Payload))
			}
		case "subscribe", "start":
			s.operation(m.Payload)
		}
	}
	return s
}

var isSubscription = lazily(`(?m)^\s*subscription\b`)

// operation adds an operation that is a subscription.
func (s *speech) operation(payload json.RawMessage) {
	var op struct {
		Query         string          `json:"query"`
		Variables     json.RawMessage `json:"variables,omitempty"`
		OperationName *string         `json:"operationName,omitempty"`
	}
	if json.Unmarshal(payload, &op) != nil {
		return
	}
	if op.Query == "" { // AppSync has the operation as a text
		var other struct{ Data string }
		if json.Unmarshal(payload, &other) == nil && strings.Contains(other.Data, "subscription") {
			s.add(subscribes, "", string(payload))
		}
		return
	}
	if !isSubscription.MatchString(op.Query) {
		s.notes = append(s.notes, "queries and mutations over the WebSocket are no events, and left out")
		return
	}
	if string(op.Variables) == "null" || string(op.Variables) == "{}" {
		op.Variables = nil
	}
	if op.OperationName != nil && *op.OperationName == "" {
		op.OperationName = nil
	}
	s.add(subscribes, "", encode(op))
}

// writeGraphQL is a document on one line where that is all there is.
func writeGraphQL(kind, _, doc string) string {
	var op map[string]json.RawMessage
	if kind != subscribes || json.Unmarshal([]byte(doc), &op) != nil {
		return doc
	}
	if op["query"] != nil && !bytes.Contains(op["query"], []byte("subscription")) {
		return "" // all of it is secret
	}
	if len(op) != 1 {
		return doc
	}
	var query string
	if json.Unmarshal(op["query"], &query) != nil || strings.ContainsAny(query, "#'\"") {
		return doc
	}
	return strings.Join(strings.Fields(query), " ")
}

// readActionCable reads {"command":"subscribe","identifier":"{..}"} and {"command":"message","identifier":..,"data":"{..}"}.
func readActionCable(c *Conversation) (s speech) {
	for _, f := range c.Frames {
		var m struct{ Command, Identifier, Data string }
		if !f.FromClient || json.Unmarshal(f.Data, &m) != nil || !isObject([]byte(m.Identifier)) {
			continue
		}
		switch {
		case m.Command == "subscribe":
			s.add(subscribes, "", m.Identifier)
		case m.Command == "message" && early(c, f) && isObject([]byte(m.Data)):
			s.add(says, "", `{"identifier":`+m.Identifier+`,"data":`+m.Data+`}`)
		}
	}
	return s
}

// readPhoenix reads [join_ref,ref,topic,event,payload] and, of version 1, {"topic","event","payload","ref"}.
func readPhoenix(c *Conversation) (s speech) {
	for _, f := range c.Frames {
		if !f.FromClient || f.Binary {
			continue
		}
		var v1 struct {
			Topic, Event string
			Payload      json.RawMessage
		}
		var list []json.RawMessage
		if json.Unmarshal(f.Data, &list) == nil && len(list) == 5 {
			_ = json.Unmarshal(list[2], &v1.Topic)
			_ = json.Unmarshal(list[3], &v1.Event)
			v1.Payload = list[4]
		} else if json.Unmarshal(f.Data, &v1) != nil {
			continue
		}
		switch params := string(v1.Payload); {
		case v1.Event == "phx_join":
			if params == "{}" {
				params = ""
			}
			s.add(subscribes, v1.Topic, params)
		case v1.Topic != "phoenix" && v1.Event != "phx_leave" && v1.Event != "" && early(c, f):
			s.add(says, v1.Topic+" "+v1.Event, params)
		}
	}
	return s
}

func withoutWebSocket(path string) string { return strings.TrimSuffix(path, "/websocket") }

// readSignalR reads records that end in 0x1e: {"protocol","version"}, {"type":1,"target","arguments"} invokes, 4 streams.
func readSignalR(c *Conversation) (s speech) {
	for _, f := range c.Frames {
		if !f.FromClient {
			continue
		}
		for record := range strings.SplitSeq(string(f.Data), "\x1e") {
			var m struct {
				Type             int
				Protocol, Target string
				Arguments        json.RawMessage
			}
			if json.Unmarshal([]byte(record), &m) != nil {
				continue
			}
			args := string(m.Arguments)
			if args == "[]" {
				args = ""
			}
			switch {
			case m.Protocol != "" && m.Protocol != "json":
				s.wrong = "the hub speaks " + lettersOnly(m.Protocol) + ", of SignalR only JSON is supported"
			case m.Type == 1 && early(c, f):
				s.add(subscribes, m.Target, args)
			case m.Type == 4:
				s.add(subscribes, "stream "+m.Target, args)
			}
		}
	}
	return s
}

// readWAMP reads [1,realm,{..}] HELLO, [5,signature,{}] AUTHENTICATE and [32,request,{options},topic] SUBSCRIBE.
func readWAMP(c *Conversation) (s speech) {
	connect := map[string]any{}
	for _, f := range c.Frames {
		var list []json.RawMessage
		if !f.FromClient || json.Unmarshal(f.Data, &list) != nil || len(list) < 3 {
			continue
		}
		var text string
		switch string(list[0]) {
		case "1":
			var details struct{ AuthID string }
			_ = json.Unmarshal(list[1], &text)
			_ = json.Unmarshal(list[2], &details)
			connect["realm"] = text
			if details.AuthID != "" {
				connect["authid"] = details.AuthID
			}
		case "5":
			connect["ticket"] = "ticket"
			s.notes = append(s.notes, "the client answers a challenge: the page gives the ticket; for WAMP-CRA write \"secret\" in its place")
		case "32":
			if len(list) < 4 || json.Unmarshal(list[3], &text) != nil {
				continue
			}
			options := string(list[2])
			if options == "{}" {
				options = ""
			}
			s.add(subscribes, text, options)
		}
	}
	if connect["realm"] != nil {
		s.items = append([]item{{connects, "", encode(connect)}}, s.items...)
	}
	return s
}
