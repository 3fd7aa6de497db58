package dialect

import (
	"encoding/json"
	"regexp"
)

// rpcOverheard knows subscriptions by the calls that begin them.
type rpcOverheard struct{ asked }

func newRPCOverheard(lines []string) *rpcOverheard {
	r := &rpcOverheard{newAsked(lines, func(line string) (string, error) {
		c, err := parseRPCLine(line)
		return sameCall(c.method, c.params), err
	})}
	r.open = true
	return r
}

// sameCall is equal for calls that ask for the same. No params are as good as an empty list.
func sameCall(method string, params json.RawMessage) string {
	if isNull(params) || string(params) == "[]" {
		return method
	}
	return method + " " + sortedJSON(anyJSON(params))
}

// rpcEnds is what calls are named that end a subscription, whose id is the first of their params.
var rpcEnds = regexp.MustCompile(`(?i)unsubscribe`)

func (r *rpcOverheard) Client(f Frame) {
	all, err := rpcMessages(f)
	if err != nil {
		return
	}
	for _, one := range all {
		var m rpcMessage
		if json.Unmarshal(one, &m) != nil || m.ID == nil {
			continue
		}
		var params []json.RawMessage
		if rpcEnds.MatchString(m.Method) && json.Unmarshal(m.Params, &params) == nil && len(params) > 0 {
			r.drop(func(s asking) bool { return s.confirmed && s.under == string(params[0]) })
			continue
		}
		r.ask(string(m.ID), r.lines[sameCall(m.Method, m.Params)], false)
	}
}

func (r *rpcOverheard) Server(f Frame) (frames []Frame) {
	all, err := rpcMessages(f)
	if err != nil {
		return []Frame{f}
	}
	for _, one := range all {
		var m rpcMessage
		if json.Unmarshal(one, &m) != nil {
			continue
		}
		if heard := r.message(m, one); heard != nil {
			frames = append(frames, Frame{Data: heard})
		}
	}
	return frames
}

// message is what the session is to be given in the place of one of the service's; nil: nothing.
func (r *rpcOverheard) message(m rpcMessage, data []byte) []byte {
	if m.Method != "" {
		var e rpcEvent
		if !isObject(m.Params) || json.Unmarshal(m.Params, &e) != nil || !isRPCID(e.Subscription) {
			return data
		}
		if r.line(func(s asking) bool { return s.confirmed && s.under == string(e.Subscription) }) == "" {
			return nil
		}
		return data
	}
	id := string(m.ID)
	if m.Error != nil {
		r.forget(id)
		return nil
	}
	r.confirm(id, string(m.Result))
	line := r.lineOf(id)
	if line == "" {
		return nil
	}
	return jsonFrame(map[string]any{"jsonrpc": "2.0", "id": json.RawMessage(line), "result": m.Result}).Data
}
