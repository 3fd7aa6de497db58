package learn

import (
	"encoding/json"
	"slices"
	"strings"
)

// bayeuxOwn are the fields of a message that the dialect sets itself.
var bayeuxOwn = []string{"channel", "clientId", "id", "subscription", "version", "minimumVersion", "supportedConnectionTypes", "connectionType", "advice"}

func readBayeux(c *Conversation) (s speech) {
	for _, f := range c.Frames {
		var all []map[string]json.RawMessage
		if !f.FromClient || json.Unmarshal(f.Data, &all) != nil {
			continue
		}
		for _, m := range all {
			var channel string
			_ = json.Unmarshal(m["channel"], &channel)
			switch {
			case channel == "/meta/handshake":
				if doc := bayeuxFields(m); doc != "" {
					s.add(connects, "", doc)
				}
			case channel == "/meta/subscribe":
				for _, to := range textOrTexts(m["subscription"]) {
					s.add(subscribes, to, bayeuxFields(m))
				}
			case early(c, f) && strings.HasPrefix(channel, "/") && !strings.HasPrefix(channel, "/meta/") && m["data"] != nil:
				s.add(says, channel, string(m["data"]))
			}
		}
	}
	return s
}

// bayeuxFields are the fields of a message that are the application's, as JSON; "" for none.
func bayeuxFields(m map[string]json.RawMessage) string {
	fields := map[string]any{}
	for name, value := range m {
		if !slices.Contains(bayeuxOwn, name) {
			fields[name] = value
		}
	}
	var ext map[string]json.RawMessage
	if raw, ok := fields["ext"].(json.RawMessage); ok && json.Unmarshal(raw, &ext) == nil {
		delete(ext, "ack") // which is asked for in any case
		if fields["ext"] = ext; len(ext) == 0 {
			delete(fields, "ext")
		}
	}
	if len(fields) == 0 {
		return ""
	}
	return encode(fields)
}

// textOrTexts is a text, or a list of them.
func textOrTexts(raw json.RawMessage) (texts []string) {
	var one string
	if json.Unmarshal(raw, &one) == nil {
		return []string{one}
	}
	_ = json.Unmarshal(raw, &texts) // anything else is none
	return texts
}
