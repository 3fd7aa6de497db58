package dialect

import "encoding/json"

// parseOverheard knows subscriptions by their request ids.
type parseOverheard struct{ asked }

func newParseOverheard(lines []string) *parseOverheard {
	return &parseOverheard{newAsked(lines, func(line string) (string, error) {
		_, query, err := parseQuery(line)
		return parseSame(jsonFrame(query).Data), err
	})}
}

// parseSame is equal for queries that ask for the same.
func parseSame(query json.RawMessage) string { return sortedJSON(anyJSON(query)) }

func (p *parseOverheard) Client(f Frame) {
	var m struct {
		Op               string
		RequestID, Query json.RawMessage
	}
	if json.Unmarshal(f.Data, &m) != nil {
		return
	}
	id := string(m.RequestID)
	switch m.Op {
	case "subscribe":
		p.ask(id, p.lines[parseSame(m.Query)], false)
	case "update", "unsubscribe":
		p.forget(id)
	}
}

func (p *parseOverheard) Server(f Frame) []Frame {
	var m map[string]json.RawMessage
	if json.Unmarshal(f.Data, &m) != nil {
		return []Frame{f}
	}
	id := string(m["requestId"])
	switch onlyText(m["op"]) {
	case "connected":
		p.open = true
		return []Frame{f}
	case "subscribed":
		p.confirm(id, "")
	case "error":
		p.drop(func(a asking) bool { return a.id == id && !a.confirmed }) // later ones are of events
		return nil
	case "unsubscribed":
		p.forget(id)
		return nil
	}
	line := p.lineOf(id)
	if line == "" {
		return nil
	}
	m["requestId"] = json.RawMessage(line)
	all := map[string]any{}
	for name, value := range m {
		all[name] = value
	}
	return []Frame{jsonFrame(all)}
}
