package learn

import "encoding/json"

// readDDP reads, of Meteor and Rocket.Chat:
//
//	{"msg":"method","method":"login","id":"1","params":[{"resume":".."}]}    what it is given is CONNECT
//	{"msg":"sub","id":"2","name":"orders","params":[..]}
func readDDP(c *Conversation) (s speech) {
	for _, f := range c.Frames {
		var m struct {
			Msg, Name, Method string
			Params            []json.RawMessage
		}
		if !f.FromClient || json.Unmarshal(f.Data, &m) != nil {
			continue
		}
		params := encode(m.Params)
		if len(m.Params) == 0 {
			params = ""
		}
		switch {
		case m.Msg == "sub":
			s.add(subscribes, m.Name, params)
		case m.Msg == "method" && m.Method == "login" && len(m.Params) == 1 && isObject(m.Params[0]):
			s.add(connects, "", string(m.Params[0]))
		case m.Msg == "method" && m.Method != "login" && early(c, f):
			s.add(says, m.Method, params)
		}
	}
	return s
}
