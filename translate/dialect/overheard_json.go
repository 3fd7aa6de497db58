// This file reads what other clients are sent, and what they have subscribed to, in the dialects that are JSON. See overheard.go.

package dialect

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
)

// graphQLOverheard knows operations by what they ask for.
type graphQLOverheard struct{ asked }

func newGraphQLOverheard(lines []string) *graphQLOverheard {
	return &graphQLOverheard{newAsked(lines, func(line string) (string, error) {
		operation, _, err := gqlOperation(line)
		return sameOperation(operation), err
	})}
}

// sameOperation is equal for operations that ask for the same: white space in the document does not count, nor what is empty.
func sameOperation(payload json.RawMessage) string {
	p, isObject := anyJSON(payload).(map[string]any)
	if !isObject {
		return ""
	}
	for name, value := range p {
		if object, isObject := value.(map[string]any); value == nil || value == "" || isObject && len(object) == 0 {
			delete(p, name)
		}
	}
	if query, ok := p["query"].(string); ok {
		p["query"] = strings.Join(strings.Fields(query), " ")
	}
	return sortedJSON(p)
}

func (g *graphQLOverheard) Client(f Frame) {
	var m gqlMessage
	if json.Unmarshal(f.Data, &m) != nil {
		return
	}
	switch m.Type {
	case "subscribe", "start":
		g.ask(string(m.ID), g.lines[sameOperation(m.Payload)], true)
	case "complete", "stop":
		g.forget(string(m.ID))
	case "connection_terminate":
		g.open = false
	}
}

func (g *graphQLOverheard) Server(f Frame) []Frame {
	var m gqlMessage
	if json.Unmarshal(f.Data, &m) != nil || m.ID == "" {
		g.open = g.open || m.Type == "connection_ack"
		return []Frame{f}
	}
	line := g.lineOf(string(m.ID))
	if m.Type == "complete" || m.Type == "error" {
		g.forget(string(m.ID))
	}
	if line == "" {
		return nil
	}
	m.ID = gqlID(line)
	return []Frame{m.frame()}
}

// cableOverheard knows subscriptions by their identifiers, which are the lines.
type cableOverheard struct{ asked }

func newCableOverheard(lines []string) *cableOverheard {
	c := &cableOverheard{newAsked(lines, func(line string) (string, error) { return line, nil })}
	c.open = true
	return c
}

func (c *cableOverheard) Client(f Frame) {
	var m struct{ Command, Identifier string }
	if json.Unmarshal(f.Data, &m) != nil {
		return
	}
	switch line := c.lines[m.Identifier]; m.Command {
	case "subscribe":
		if c.first(line).id == "" { // Rails confirms it once
			c.ask(line, line, false)
		}
	case "unsubscribe":
		c.forget(line)
	}
}

func (c *cableOverheard) Server(f Frame) []Frame {
	var m cableMessage
	if json.Unmarshal(f.Data, &m) != nil {
		return []Frame{f}
	}
	switch line := c.lines[m.Identifier]; m.Type {
	case "confirm_subscription":
		c.confirm(line, "")
	case "reject_subscription":
		c.forget(line)
	case "welcome": // of AnyCable, which knows what the client had before
		for identifier, line := range c.lines {
			if m.Restored && (m.RestoredIDs == nil || slices.Contains(m.RestoredIDs, identifier)) {
				c.ask(line, line, true)
			}
		}
	}
	return []Frame{f}
}

// phxOverheard knows joins by their topics.
type phxOverheard struct {
	asked
	params map[string]string // of the lines, by topic
}

func newPhxOverheard(lines []string) *phxOverheard {
	p := &phxOverheard{params: map[string]string{}}
	p.asked = newAsked(lines, func(line string) (string, error) {
		topic, params, err := parseTopicLine(line, phxLineForm)
		p.params[topic] = sameObject(params)
		return topic, err
	})
	p.open = true
	return p
}

// sameObject is equal for equal objects of parameters. None are as good as an empty one.
func sameObject(data []byte) string {
	if isNull(data) {
		return "{}"
	}
	return sortedJSON(anyJSON(data))
}

func (p *phxOverheard) Client(f Frame) {
	m, err := (&phoenix{v1: isObject(f.Data)}).parse(f)
	line := p.lines[m.topic]
	if err != nil || line == "" || m.event != "phx_join" && m.event != "phx_leave" {
		return
	}
	p.drop(func(s asking) bool { return s.line == line }) // of two joins, the service ends the first
	if m.event == "phx_join" && sameObject(m.payload) == p.params[m.topic] {
		p.ask(m.ref, line, false)
	}
}

func (p *phxOverheard) Server(f Frame) []Frame {
	if f.Binary { // only broadcasts have no refs
		if m, err := parsePhxBinary(f.Data); err == nil && f.Data[0] == phxBroadcast && p.first(p.lines[m.topic]).id != "" {
			return []Frame{f}
		}
		return nil
	}
	v1 := isObject(f.Data)
	m, err := (&phoenix{v1: v1}).parse(f)
	line := p.lines[m.topic]
	theirs := p.first(line).id
	if err != nil || line == "" || theirs == "" || m.joinRef != "" && m.joinRef != theirs {
		return nil
	}
	p.told(m, theirs)
	if m.joinRef != "" {
		m.joinRef = line
	}
	switch m.ref {
	case theirs:
		m.ref = line
	case "":
	default:
		m.ref = "c" + m.ref // of no join
	}
	return []Frame{(&phoenix{v1: v1}).frame(m.joinRef, m.ref, m.topic, m.event, m.payload)}
}

// told notes what the service says of a join.
func (p *phxOverheard) told(m phxMessage, join string) {
	switch {
	case m.event == "phx_close" || m.event == "phx_error":
		p.forget(join)
	case m.event == "phx_reply" && m.ref == join:
		var reply struct{ Status string }
		if json.Unmarshal(m.payload, &reply) == nil && reply.Status == "ok" {
			p.confirm(join, "")
		} else {
			p.forget(join)
		}
	}
}

// isObject reports whether data looks like a JSON object.
func isObject(data []byte) bool {
	return strings.HasPrefix(strings.TrimSpace(string(data[:min(len(data), 64)])), "{")
}

// wampUnsubscribe is what only other clients send.
const wampUnsubscribe = 34

// wampOverheard knows subscriptions by their topics.
type wampOverheard struct{ asked }

func newWAMPOverheard(lines []string) *wampOverheard {
	w := &wampOverheard{newAsked(lines, func(line string) (string, error) {
		topic, options, err := parseTopicLine(line, wampLineForm)
		return sameTopic(topic, options), err
	})}
	w.open = true
	return w
}

// sameTopic is equal for subscriptions that ask for the same.
func sameTopic(topic string, options []byte) string { return topic + " " + sameObject(options) }

func (w *wampOverheard) Client(f Frame) {
	var m wampMessage
	if json.Unmarshal(f.Data, &m) != nil || len(m) < 3 {
		return
	}
	switch m.id(0) {
	case strconv.Itoa(wampSubscribe):
		w.ask(m.id(1), w.lines[sameTopic(m.text(3), m[2])], false)
	case strconv.Itoa(wampUnsubscribe):
		w.drop(func(s asking) bool { return s.confirmed && s.under == m.id(2) })
	}
}

func (w *wampOverheard) Server(f Frame) []Frame {
	var m wampMessage
	if json.Unmarshal(f.Data, &m) != nil || len(m) < 2 {
		return nil
	}
	switch m.id(0) {
	case strconv.Itoa(wampWelcome), strconv.Itoa(wampAbort), strconv.Itoa(wampGoodbye):
		return []Frame{f}
	case strconv.Itoa(wampError): // [ERROR, SUBSCRIBE, request, ...]
		if m.id(1) == strconv.Itoa(wampSubscribe) {
			w.forget(m.id(2))
		}
	case strconv.Itoa(wampUnsubscribed): // [UNSUBSCRIBED, 0, {"subscription": ...}], by the router itself
		var details struct{ Subscription json.RawMessage }
		if m.id(1) == "0" && len(m) > 2 && json.Unmarshal(m[2], &details) == nil {
			w.drop(func(s asking) bool { return s.confirmed && s.under == string(details.Subscription) })
		}
	case strconv.Itoa(wampSubscribed):
		w.confirm(m.id(1), m.id(2))
		if line := w.lineOf(m.id(1)); line != "" {
			return []Frame{wampFrame(wampSubscribed, json.RawMessage(line), json.RawMessage(line))}
		}
	case strconv.Itoa(wampEvent):
		if line := w.line(func(s asking) bool { return s.confirmed && s.under == m.id(1) }); line != "" {
			m[1] = json.RawMessage(line)
			return []Frame{jsonFrame(m)}
		}
	}
	return nil
}
