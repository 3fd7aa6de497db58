package learn

import (
	"encoding/json"
	"strings"
)

// readWebPubSub reads what a client of Azure Web PubSub joins and sends.
func readWebPubSub(c *Conversation) (s speech) {
	for _, f := range c.Frames {
		var m map[string]json.RawMessage
		if !f.FromClient || json.Unmarshal(f.Data, &m) != nil {
			continue
		}
		var kind, group string
		_ = json.Unmarshal(m["type"], &kind)
		_ = json.Unmarshal(m["group"], &group)
		delete(m, "ackId") // which are the dialect's
		switch {
		case kind == "joinGroup" && group != "":
			s.add(subscribes, group, "")
		case early(c, f) && (kind == "sendToGroup" || kind == "event"):
			s.add(says, "", encode(m))
		}
	}
	return s
}

// awpsQuery are what a client puts into an address to go on with a session.
func awpsQuery(name string) bool { return strings.HasPrefix(name, "awps_") }
