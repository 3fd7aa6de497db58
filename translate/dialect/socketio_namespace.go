// This file is the namespaces of a Socket.IO connection: how they are joined, resumed, refused and left.

package dialect

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// sioSpace is a namespace.
type sioSpace struct {
	name      string
	query     string // v2: with its question mark
	pid       string // what to resume; "" nothing
	offset    string // up to where; "" unknown
	connected bool
	resumed   bool

	seen sioOffsets // what has come of the session

	now struct { // the same of the present connection, which counts once that was ready
		pid, offset string
		seen        sioOffsets
	}
}

// join adds a namespace that is not there yet, with what was kept in was to resume it.
func (s *socketio) join(line string, was []*sioSpace) {
	name, query, found := strings.Cut(line, "?")
	if !strings.HasPrefix(name, "/") {
		name = "/" + name
	}
	if s.space(name) != nil {
		return
	}
	n := &sioSpace{name: name}
	if found {
		n.query = "?" + query
	}
	for _, old := range was {
		if old.name == name {
			n.pid, n.offset, n.seen = old.pid, old.offset, old.seen
		}
	}
	n.now.pid, n.now.offset = n.pid, n.offset
	s.spaces = append(s.spaces, n)
}

func (s *socketio) space(name string) *sioSpace {
	for _, n := range s.spaces {
		if n.name == name {
			return n
		}
	}
	return nil
}

func (s *socketio) connected(p sioPacket, n *sioSpace, got *Received) error {
	if s.v2 && p.space == "/" && s.step == sioConnecting {
		s.step++
		for _, other := range s.spaces {
			if other.name != "/" {
				got.Replies = append(got.Replies, Frame{Data: []byte("40" + other.name + other.query + ",")})
			}
		}
	}
	if n == nil || n.connected {
		return nil
	}
	var answer struct{ SID, PID string }
	if err := json.Unmarshal(p.data, &answer); !s.v2 && (err != nil || answer.SID == "") {
		return errors.New("the server speaks the protocol of Socket.IO 1 and 2; write PROTOCOL=socket.io-v2")
	}
	n.connected = true
	s.step++
	n.resumed = n.pid != "" && n.offset != "" && answer.PID == n.pid
	if !n.resumed {
		n.now.pid, n.now.offset, n.now.seen, n.seen = "", "", sioOffsets{}, sioOffsets{}
		if !s.v2 && len(answer.PID) <= maxSioResume {
			n.now.pid = answer.PID
		}
	}
	if !slices.ContainsFunc(s.spaces, func(n *sioSpace) bool { return !n.connected }) {
		s.ready, got.Ready = true, true
		got.Resumed = !slices.ContainsFunc(s.spaces, func(n *sioSpace) bool { return !n.resumed })
	}
	return nil
}

// disconnected takes a DISCONNECT.
func (s *socketio) disconnected(p sioPacket, n *sioSpace) error {
	if n == nil && p.space != "/" {
		return nil
	}
	for _, n := range s.spaces {
		n.now.pid, n.now.offset = "", ""
	}
	if !s.ready {
		return refuse(http.StatusForbidden, "the server disconnected the namespace "+serverText(p.space)+" instead of going on with it")
	}
	return fmt.Errorf("the server disconnected the namespace %s", serverText(p.space))
}

// refused takes a CONNECT_ERROR.
func (s *socketio) refused(p sioPacket, n *sioSpace) error {
	if n == nil && p.space != "/" {
		return nil
	}
	status, text := sioRefusal(p.data)
	reason := "the server refused the namespace " + serverText(p.space)
	if text = serverText(text); text != "" && !s.echoes(text) {
		reason += ": " + text
	}
	if status == http.StatusRequestTimeout || status == http.StatusTooEarly || status == http.StatusTooManyRequests || status >= 500 {
		return errors.New(reason)
	}
	return refuse(status, reason)
}

// echoes reports whether a text repeats a value that we sent.
func (s *socketio) echoes(text string) bool {
	var auth any
	found := json.Unmarshal([]byte(s.auth), &auth) == nil && holds(auth, text)
	for _, n := range s.spaces {
		query, _ := url.ParseQuery(strings.TrimPrefix(n.query, "?"))
		for _, values := range query {
			found = found || slices.ContainsFunc(values, func(v string) bool { return holds(v, text) })
		}
	}
	return found
}

// holds reports whether a string of value is part of text; one of up to three characters is no secret.
func holds(value any, text string) bool {
	switch v := value.(type) {
	case string:
		return len(v) > 3 && strings.Contains(text, v)
	case []any:
		return slices.ContainsFunc(v, func(v any) bool { return holds(v, text) })
	case map[string]any:
		for _, v := range v {
			if holds(v, text) {
				return true
			}
		}
	}
	return false
}

// Resumable also means that what came on this connection is in the ring: from there on it is to be resumed.
func (s *socketio) Resumable() bool {
	resumable := s.ready
	for _, n := range s.spaces {
		n.pid, n.offset = n.now.pid, n.now.offset
		for _, offset := range n.now.seen.order {
			n.seen.add(offset)
		}
		n.now.seen = sioOffsets{}
		resumable = resumable && n.pid != "" && n.offset != ""
	}
	return resumable
}

// sioRefusal returns the HTTP status and the message of a refusal: {"message","data"}, or what v2 has of them.
func sioRefusal(payload []byte) (status int, text string) {
	var refusal struct {
		Message string
		Data    json.RawMessage
	}
	if json.Unmarshal(payload, &refusal) != nil {
		json.Unmarshal(payload, &refusal.Message) // v2, without data
	}
	for _, object := range [][]byte{refusal.Data, payload} {
		var said struct{ Status, StatusCode, Code json.RawMessage }
		json.Unmarshal(object, &said) // v2 may send a string instead
		for _, number := range []json.RawMessage{said.Status, said.StatusCode, said.Code} {
			if n, err := strconv.Atoi(string(number)); err == nil && n >= 400 && n <= 599 {
				return n, refusal.Message
			}
		}
	}
	if refusal.Message == "Invalid namespace" {
		return http.StatusNotFound, refusal.Message
	}
	words := strings.ToLower(refusal.Message)
	for _, word := range []string{"unauthorized", "unauthenticated", "not authorized", "authentication"} {
		if strings.Contains(words, word) {
			return http.StatusUnauthorized, refusal.Message
		}
	}
	return http.StatusForbidden, refusal.Message
}
