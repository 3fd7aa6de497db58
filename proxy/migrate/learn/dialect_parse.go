package learn

import "encoding/json"

// readParse reads, of Parse Server's LiveQuery:
//
//	{"op":"connect","applicationId":"..","sessionToken":".."}                            what it is given is CONNECT
//	{"op":"subscribe","requestId":1,"query":{"className":"Order","where":{..}}}
func readParse(c *Conversation) (s speech) {
	for _, f := range c.Frames {
		var m map[string]json.RawMessage
		if !f.FromClient || json.Unmarshal(f.Data, &m) != nil {
			continue
		}
		switch string(m["op"]) {
		case `"connect"`:
			delete(m, "op")
			delete(m, "installationId") // each stream is one of its own
			for name, value := range m {
				if len(value) == 0 || value[0] != '"' || string(value) == `""` {
					delete(m, name)
				}
			}
			s.add(connects, "", encode(m))
		case `"subscribe"`:
			var query map[string]json.RawMessage
			var class string
			if json.Unmarshal(m["query"], &query) != nil || json.Unmarshal(query["className"], &class) != nil {
				continue
			}
			delete(query, "className")
			if string(query["where"]) == "{}" {
				delete(query, "where")
			}
			doc := ""
			if len(query) > 0 {
				doc = encode(query)
			}
			s.add(subscribes, class, doc)
		}
	}
	return s
}
