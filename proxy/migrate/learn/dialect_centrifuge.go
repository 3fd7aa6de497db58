package learn

import (
	"bytes"
	"encoding/json"
	"slices"
)

// What a client of Centrifuge says for its application; the dialect sets the rest itself.
var (
	centrifugeConnect   = []string{"token", "data"}
	centrifugeSubscribe = []string{"token", "data", "tf", "join_leave"}
	centrifugeSays      = []string{"rpc", "send"}
)

func readCentrifuge(c *Conversation) (s speech) {
	for _, f := range c.Frames {
		if !f.FromClient || f.Cut {
			continue
		}
		for in := json.NewDecoder(bytes.NewReader(f.Data)); ; {
			var command map[string]json.RawMessage
			if in.Decode(&command) != nil {
				break
			}
			s.command(command, early(c, f))
		}
	}
	return s
}

// command adds what a command of Centrifuge's asks for, and what it says if that is early.
func (s *speech) command(command map[string]json.RawMessage, early bool) {
	fields := func(kind string) (all map[string]json.RawMessage) {
		if json.Unmarshal(command[kind], &all) != nil {
			return nil
		}
		return all
	}
	if connect := fields("connect"); connect != nil {
		if doc := only(connect, centrifugeConnect); doc != "" {
			s.add(connects, "", doc)
		}
	}
	var channel string
	if sub := fields("subscribe"); json.Unmarshal(sub["channel"], &channel) == nil && channel != "" {
		s.add(subscribes, channel, only(sub, centrifugeSubscribe))
	}
	if !early {
		return
	}
	if pub := fields("publish"); pub["data"] != nil && json.Unmarshal(pub["channel"], &channel) == nil {
		s.add(says, channel, string(pub["data"]))
	}
	for _, kind := range centrifugeSays {
		if command[kind] != nil {
			s.add(says, "", encode(map[string]any{kind: command[kind]}))
		}
	}
}

// only is an object with some of the fields, as JSON; "" for none. null and false say nothing.
func only(all map[string]json.RawMessage, names []string) string {
	kept := map[string]any{}
	for name, value := range all {
		if slices.Contains(names, name) && !slices.Contains([]string{"null", "false", `""`, "{}"}, string(value)) {
			kept[name] = value
		}
	}
	if len(kept) == 0 {
		return ""
	}
	return encode(kept)
}
