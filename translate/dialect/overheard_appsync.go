package dialect

import "encoding/json"

// appSyncOverheard knows subscriptions by what they ask for: a GraphQL operation, or a channel.
type appSyncOverheard struct{ asked }

func newAppSyncOverheard(lines []string) *appSyncOverheard {
	return &appSyncOverheard{newAsked(lines, func(line string) (string, error) {
		if appSyncIsChannel(line) {
			return line, appSyncChannel(line)
		}
		data, _, err := appSyncOperation(line)
		return sameOperation(data), err
	})}
}

func (a *appSyncOverheard) Client(f Frame) {
	var m struct {
		ID, Type, Channel string
		Payload           struct{ Data string }
	}
	if json.Unmarshal(f.Data, &m) != nil {
		return
	}
	switch m.Type {
	case "start":
		a.ask(m.ID, a.lines[sameOperation(json.RawMessage(m.Payload.Data))], false)
	case "subscribe":
		a.ask(m.ID, a.lines[withSlash(m.Channel)], false)
	case "stop", "unsubscribe":
		a.forget(m.ID)
	}
}

// withSlash is a channel as lines of SUBSCRIBE have it: its client takes it without the first slash too.
func withSlash(channel string) string {
	if appSyncIsChannel(channel) {
		return channel
	}
	return "/" + channel
}

func (a *appSyncOverheard) Server(f Frame) []Frame {
	var m map[string]json.RawMessage
	if json.Unmarshal(f.Data, &m) != nil {
		return []Frame{f}
	}
	id, kind := onlyText(m["id"]), onlyText(m["type"])
	switch kind {
	case "connection_ack":
		a.open = true
		return []Frame{f}
	case "start_ack", "subscribe_success":
		a.confirm(id, "")
	case "publish_success", "publish_error": // of what the client has said
		return nil
	}
	if id == "" {
		return []Frame{f}
	}
	line := a.lineOf(id)
	if kind == "complete" || kind == "error" || kind == "unsubscribe_success" || kind == "subscribe_error" {
		a.forget(id)
	}
	if line == "" {
		return nil
	}
	m["id"] = jsonString(line)
	return []Frame{jsonFrame(m)}
}
