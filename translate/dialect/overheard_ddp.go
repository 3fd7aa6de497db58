package dialect

import (
	"encoding/json"
	"slices"
)

// ddpOverheard knows subscriptions by their ids. Documents do not tell of which one they are: once the client has subscribed to something else, it can
// no longer be told what of them SUBSCRIBE asks for.
type ddpOverheard struct {
	asked
	login  bool   // the session waits for the answer to one
	id     string // of the client's login
	others bool
}

func newDDPOverheard(o Options, lines []string) *ddpOverheard {
	connect, err := o.Connect()
	d := &ddpOverheard{login: err == nil && connect != ""}
	d.asked = newAsked(lines, func(line string) (string, error) {
		name, params, err := ddpSubscription(line)
		return ddpSame(name, params), err
	})
	return d
}

// ddpSame is equal for subscriptions that ask for the same.
func ddpSame(name string, params []json.RawMessage) string {
	values := []any{}
	for _, one := range params {
		values = append(values, anyJSON(one))
	}
	return name + " " + sortedJSON(values)
}

func (d *ddpOverheard) Listening() bool { return !d.others && d.asked.Listening() }

func (d *ddpOverheard) Client(f Frame) {
	var m struct {
		Msg, ID, Name, Method string
		Params                []json.RawMessage
	}
	if json.Unmarshal(f.Data, &m) != nil {
		return
	}
	switch {
	case m.Msg == "sub":
		line := d.lines[ddpSame(m.Name, m.Params)]
		d.others = d.others || line == ""
		d.ask(m.ID, line, false)
	case m.Msg == "unsub":
		d.forget(m.ID)
	case m.Msg == "method" && m.Method == "login" && len(m.ID) <= maxOverheardID:
		d.id = m.ID
	}
}

func (d *ddpOverheard) Server(f Frame) []Frame {
	var m ddpMessage
	if json.Unmarshal(f.Data, &m) != nil {
		return []Frame{f}
	}
	id := string(m.ID)
	switch m.Msg {
	case "connected":
		d.open = true
	case "ready":
		return d.readied(m.Subs)
	case "nosub":
		d.forget(id)
		return nil
	case "result":
		if !d.login || id != d.id {
			return nil
		}
		d.login = false
		return []Frame{jsonFrame(map[string]any{"msg": "result", "id": ddpLogin})}
	case "error":
		return nil
	}
	return []Frame{f}
}

// readied puts the client's ids into the session's.
func (d *ddpOverheard) readied(subs []string) []Frame {
	ids := []string{}
	for _, id := range subs {
		d.confirm(id, "")
		if line := d.lineOf(id); line != "" && !slices.Contains(ids, line) {
			ids = append(ids, line)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	return []Frame{jsonFrame(map[string]any{"msg": "ready", "subs": ids})}
}
