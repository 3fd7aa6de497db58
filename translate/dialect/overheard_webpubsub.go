package dialect

import (
	"encoding/json"
	"slices"
)

// pubSubOverheard knows groups by the ackIds of the requests that join them. The session's are the lines' numbers. Messages of groups that no line of
// SUBSCRIBE is are left out.
type pubSubOverheard struct {
	asked
	groups []string
}

func newPubSubOverheard(lines []string) *pubSubOverheard {
	p := &pubSubOverheard{groups: lines}
	p.asked = newAsked(lines, func(line string) (string, error) { return line, pubSubGroup(line) })
	return p
}

func (p *pubSubOverheard) Client(f Frame) {
	var m struct {
		Type, Group string
		AckID       json.Number
	}
	if json.Unmarshal(f.Data, &m) != nil {
		return
	}
	switch line := p.lines[m.Group]; {
	case m.Type == "joinGroup":
		p.ask(string(m.AckID), line, false)
	case m.Type == "leaveGroup" && line != "":
		p.drop(func(s asking) bool { return s.line == line })
	}
}

func (p *pubSubOverheard) Server(f Frame) []Frame {
	var m map[string]json.RawMessage
	if json.Unmarshal(f.Data, &m) != nil {
		return nil
	}
	switch jsonText(m["type"]) {
	case "system":
		p.open = p.open || jsonText(m["event"]) == "connected"
	case "ack":
		id := string(m["ackId"])
		line := p.lineOf(id)
		if string(m["success"]) != "true" || line == "" {
			p.forget(id)
			return nil
		}
		p.confirm(id, "")
		m["ackId"] = json.RawMessage(line)
		return []Frame{jsonFrame(m)}
	case "message":
		if group := jsonText(m["group"]); group != "" && !slices.Contains(p.groups, group) {
			return nil
		}
	case "invokeResponse":
		return nil
	}
	return []Frame{f}
}
