package dialect

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
)

// centOverheard knows subscriptions by the ids of the commands that ask for them. What the server subscribes to by itself needs no asking.
type centOverheard struct {
	asked
	channels []string          // of the lines, in order
	connect  string            // id of the client's connect
	ids      map[string]string // of the session's commands, by the line's number
}

func newCentOverheard(lines []string) *centOverheard {
	c := &centOverheard{ids: map[string]string{}}
	c.asked = newAsked(lines, func(line string) (string, error) {
		l, err := centSubscription(line)
		c.channels = append(c.channels, l.channel)
		return sameChannel(l.channel, l.fields), err
	})
	return c
}

// sameChannel is equal for subscriptions that ask for the same: what a server may be told of how is no matter.
func sameChannel(channel string, fields map[string]json.RawMessage) string {
	values := map[string]any{}
	for _, name := range []string{"data", "tf", "join_leave"} {
		if fields[name] != nil && string(fields[name]) != "false" {
			values[name] = anyJSON(fields[name])
		}
	}
	return channel + " " + sortedJSON(values)
}

// centDocuments are the JSON objects of a frame, one after the other.
func centDocuments(data []byte) (all []map[string]json.RawMessage) {
	for in := json.NewDecoder(bytes.NewReader(data)); ; {
		var one map[string]json.RawMessage
		if in.Decode(&one) != nil {
			return all
		}
		all = append(all, one)
	}
}

func (c *centOverheard) Client(f Frame) {
	for _, command := range centDocuments(f.Data) {
		id := string(command["id"])
		var sub map[string]json.RawMessage
		switch {
		case command["connect"] != nil && len(id) <= maxOverheardID:
			c.connect = id
		case command["subscribe"] != nil && json.Unmarshal(command["subscribe"], &sub) == nil:
			c.ask(id, c.lines[sameChannel(jsonText(sub["channel"]), sub)], false)
		case command["unsubscribe"] != nil && json.Unmarshal(command["unsubscribe"], &sub) == nil:
			c.ended(jsonText(sub["channel"]))
		}
	}
}

// ended notes that a subscription to a channel is over.
func (c *centOverheard) ended(channel string) {
	if i := slices.Index(c.channels, channel); i >= 0 {
		c.drop(func(s asking) bool { return s.line == strconv.Itoa(i+1) })
	}
}

func (c *centOverheard) Server(f Frame) (frames []Frame) {
	for _, reply := range centDocuments(f.Data) {
		if c.heard(reply) {
			frames = append(frames, jsonFrame(reply))
		}
	}
	return frames
}

// heard puts a server's reply into the session's terms, and reports whether it is for the session.
func (c *centOverheard) heard(reply map[string]json.RawMessage) bool {
	id := string(reply["id"])
	switch {
	case reply["push"] != nil:
		var p centPush
		if json.Unmarshal(reply["push"], &p) == nil && p.Unsubscribe != nil {
			c.ended(p.Channel)
			return false // the client sees to it
		}
		return true
	case reply["connect"] != nil && id == c.connect:
		c.letIn(reply["connect"])
		reply["id"] = json.RawMessage("1")
		return true
	case reply["error"] != nil:
		c.forget(id)
		return false
	case reply["subscribe"] != nil:
		c.confirm(id, "")
		line := c.lineOf(id)
		if line == "" || c.ids[line] == "" {
			return false
		}
		reply["id"] = json.RawMessage(c.ids[line])
		return true
	}
	return false
}

// letIn works out what ids the session gives its commands: those for what the server has not subscribed to already.
func (c *centOverheard) letIn(connected json.RawMessage) {
	var made centConnected
	_ = json.Unmarshal(connected, &made) // what is wrong with it the session finds out
	c.open = true
	clear(c.ids)
	next := 2
	for i, channel := range c.channels {
		line := strconv.Itoa(i + 1)
		if made.Subs[channel] != nil {
			c.ask("server "+line, line, true)
			continue
		}
		c.ids[line] = strconv.Itoa(next)
		next++
	}
}
