package learn

import (
	"encoding/base64"
	"encoding/json"
	"strings"
)

// appSyncMessage is what a client of AppSync's sends: start has in payload what subscribe and publish have beside it.
type appSyncMessage struct {
	Type, Channel string
	Events        []string
	Authorization map[string]string
	Payload       struct {
		Data       string
		Extensions struct{ Authorization map[string]string }
	}
}

// readAppSync reads, of AWS AppSync's GraphQL subscriptions and Events:
//
//	{"type":"start","id":"1","payload":{"data":"{\"query\",\"variables\"}","extensions":{"authorization":{..}}}}
//	{"type":"subscribe","id":"1","channel":"/default/news","authorization":{..}}
//	{"type":"publish","id":"2","channel":"/default/news","events":[".."],"authorization":{..}}
func readAppSync(c *Conversation) (s speech) {
	for _, f := range c.Frames {
		var m appSyncMessage
		if !f.FromClient || json.Unmarshal(f.Data, &m) != nil {
			continue
		}
		switch m.Type {
		case "start":
			s.logsIn(m.Payload.Extensions.Authorization)
			s.operation(json.RawMessage(m.Payload.Data))
		case "subscribe":
			s.logsIn(m.Authorization)
			s.add(subscribes, withSlash(m.Channel), "")
		case "publish":
			for _, event := range m.Events {
				if early(c, f) {
					s.add(says, withSlash(m.Channel), event)
				}
			}
		}
	}
	return s
}

// withSlash is a channel as SUBSCRIBE has it.
func withSlash(channel string) string { return "/" + strings.TrimPrefix(channel, "/") }

// logsIn adds CONNECT. A client that signs does not send its key.
func (s *speech) logsIn(authorization map[string]string) {
	header := map[string]string{}
	for name, value := range authorization {
		header[strings.ToLower(name)] = value
	}
	credential, signed := strings.CutPrefix(header["authorization"], "AWS4-HMAC-SHA256 Credential=")
	switch {
	case signed:
		scope := strings.Split(credential, "/") // id, day, region, service
		if len(scope) < 4 {
			return
		}
		type key struct {
			AccessKeyID     string `json:"accessKeyId"`
			SecretAccessKey string `json:"secretAccessKey"`
			SessionToken    string `json:"sessionToken,omitempty"`
			Region          string `json:"region"`
		}
		s.add(connects, "", encode(key{scope[0], "unknown", header["x-amz-security-token"], scope[2]}))
		s.notes = append(s.notes, "the client signs with a key of IAM, which it does not send: write the sidecar's own into CONNECT")
	case header["authorization"] != "":
		s.add(connects, "", encode(map[string]string{"token": header["authorization"]}))
	case header["x-api-key"] != "":
		s.add(connects, "", encode(map[string]string{"apiKey": header["x-api-key"]}))
	}
}

func writeAppSync(kind, head, doc string) string {
	if head != "" {
		return strings.TrimSpace(head + " " + doc)
	}
	return writeGraphQL(kind, head, doc)
}

// isAppSync reports whether a parameter of the query is AppSync's own: how the connection is authorized.
func isAppSync(name string) bool { return name == "header" || name == "payload" }

// ofAppSync reports whether a conversation under the subprotocol graphql-ws is with AppSync, which has a dialect of its own.
func ofAppSync(c *Conversation) bool {
	return hasClient(c, func(data []byte) bool {
		var m appSyncMessage
		return json.Unmarshal(data, &m) == nil && m.Type == "start" && isObject([]byte(m.Payload.Data)) && m.Payload.Extensions.Authorization != nil
	})
}

// authorized adds what is secret in the authorization of a connection to AppSync, in base64 in a subprotocol or in the query.
func (v *vault) authorized(q *Request) {
	texts := strings.FieldsFunc(q.Header.Get("Sec-Websocket-Protocol"), func(r rune) bool { return r == ',' || r == ' ' })
	for _, p := range q.Query {
		if p.Name == "header" {
			texts = append(texts, "header-"+p.Value)
		}
	}
	for _, text := range texts {
		encoded, ok := strings.CutPrefix(text, "header-")
		encoded = strings.NewReplacer("+", "-", "/", "_").Replace(strings.TrimRight(encoded, "="))
		data, err := base64.RawURLEncoding.DecodeString(encoded)
		var header map[string]string
		if !ok || err != nil || json.Unmarshal(data, &header) != nil {
			continue
		}
		v.add(encoded)
		for name, value := range header {
			if named(name) {
				_, token, _ := strings.Cut(value, " ")
				v.add(token)
				v.add(value)
			}
		}
	}
}
