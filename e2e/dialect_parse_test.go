//go:build e2e

package e2e

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

// parseSeen is what Parse Server's LiveQuery server holds.
type parseSeen struct{ Clients, Subscriptions int }

func (h *hub) parseSeen(t *testing.T) (seen parseSeen) {
	t.Helper()
	h.do(t, map[string]any{"do": "seen"}, &seen)
	return seen
}

// parseSave has the server told that an object was saved, which was original before, or is new with nil.
func (h *hub) parseSave(t *testing.T, object, original map[string]any) {
	t.Helper()
	for _, o := range []map[string]any{object, original} {
		if o != nil && o["className"] == nil {
			o["className"] = "Order"
		}
	}
	h.do(t, map[string]any{"do": "save", "object": object, "original": original}, nil)
}

const parseKeys = `CONNECT={"applicationId":"app","clientKey":"key","sessionToken":"r:ann.token"}`

func TestDialectParse(t *testing.T) {
	t.Parallel()
	h := startHub(t, "parse", `{"session":"r:ann.token"}`)
	s := startSidecar(t, hubRoute("parse", "ws://"+h.addr, parseKeys, `SUBSCRIBE=Order {"where":{"state":"open"},"keys":["state","n"]}`+"\nNote", `EVENT="\(event) \(topic)"`, "DATA=[.object.objectId,.object.n,.original.n]", "KEY=.object.objectId", "START=latest")...)
	events := ask(t, s.addr, "HTTP/1.0", "/events", "retry:")
	s.explains(t, "upstream connected")
	page := official(t, "parse", "ws://"+h.addr, `{"connect":{"javascriptKey":"key","sessionToken":"r:ann.token"},"subscribe":[["Order",{"state":"open"}]]}`)
	page.shows(t, `{"open":"Order"}`)
	order := func(state string, n int) map[string]any {
		return map[string]any{"objectId": "a", "state": state, "n": n, "ACL": map[string]any{"ann": map[string]any{"read": true}}}
	}
	h.parseSave(t, order("open", 1), nil)
	events.event(t, "create Order", `["a",1,null]`)
	page.shows(t, `"op":"create"`)
	h.parseSave(t, order("open", 2), order("open", 1))
	events.event(t, "update Order", `["a",2,1]`)
	h.parseSave(t, order("paid", 3), order("open", 2))
	events.event(t, "leave Order", `["a",3,2]`)
	page.shows(t, `"op":"leave"`)
	h.parseSave(t, order("open", 4), order("paid", 3))
	events.event(t, "enter Order", `["a",4,3]`)
	h.do(t, map[string]any{"do": "remove", "object": map[string]any{"className": "Order", "objectId": "a", "state": "open", "n": 5}}, nil)
	events.event(t, "delete Order", `["a",5,null]`)
	page.shows(t, `"op":"delete"`)
	h.parseSave(t, map[string]any{"className": "Note", "objectId": "n"}, nil)
	events.event(t, "create Note", `["n",null,null]`)
	h.parseSave(t, map[string]any{"objectId": "x", "state": "open", "ACL": map[string]any{"bob": map[string]any{"read": true}}}, nil)
	h.parseSave(t, map[string]any{"objectId": "f", "state": "open", "fails": true}, nil)
	events.event(t, "stream.gap", gapEvent) // what it could not tell
	s.explains(t, "line 1 of SUBSCRIBE: it fails (141)")
	if got := events.got.String(); strings.Contains(got, `"x"`) {
		t.Errorf("an object of another's: %s", got)
	}
	events.got.Reset()
	h.do(t, map[string]any{"do": "drop"}, nil)
	events.event(t, "stream.gap", gapEvent)
	eventually(t, "the second connection", func() bool { return s.connects() == 2 })
	h.parseSave(t, order("open", 7), nil)
	events.event(t, "create Order", `["a",7,null]`)
	if got := strings.Count(events.got.String(), "stream.gap"); got != 1 {
		t.Errorf("%d gaps", got)
	}
	page.killed()
	s.drain(t)
	eventually(t, "nothing to be left at the server", func() bool { return h.parseSeen(t) == (parseSeen{}) })
	if strings.Contains(s.stderr.String(), "ann.token") {
		t.Errorf("the token is in the log: %s", &s.stderr)
	}
	if _, err := os.Stat("logs"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the server leaves files in this folder: %v", err)
	}
}

func TestDialectParseRefusals(t *testing.T) {
	t.Parallel()
	h := startHub(t, "parse", `{"session":"r:ann.token"}`)
	for name, c := range map[string]struct {
		connect, subscribe string
		status             int
		says               string
	}{
		"a wrong key":           {`CONNECT={"applicationId":"app","clientKey":"wrong.key"}`, "SUBSCRIBE=Order", 401, "Key in request is not valid (4)"},
		"a class that is not":   {parseKeys, "SUBSCRIBE=Order\nSecret", 403, "line 2 of SUBSCRIBE: Not for … (141)"},
		"a where that is wrong": {parseKeys, `SUBSCRIBE=Order {"where":{"a":{"$regex":"("}}}`, 400, "line 1 of SUBSCRIBE"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startSidecar(t, hubRoute("parse", "ws://"+h.addr, c.connect, c.subscribe)...)
			if got := s.firstStatus(t); got != c.status {
				t.Errorf("answered %d, want %d", got, c.status)
			}
			s.explains(t, c.says)
			if log := s.stderr.String(); strings.Contains(log, "ann.token") || strings.Contains(log, "wrong.key") {
				t.Errorf("a secret is in the log: %s", log)
			}
		})
	}
}

// A session with nothing to say lives through many of the server's pings, and leaves nothing there when it ends.
func TestDialectParseIdle(t *testing.T) {
	t.Parallel()
	h := startHub(t, "parse", `{"ping":1000}`)
	s := startSidecar(t, hubRoute("parse", "ws://"+h.addr, `CONNECT={"applicationId":"app","clientKey":"key"}`, "SUBSCRIBE=Order", "DATA=.object.n", "IDLE=1s")...)
	events := ask(t, s.addr, "HTTP/1.0", "/events", "retry:")
	h.idles(t, s, events, 4*time.Second, func() { h.parseSave(t, map[string]any{"objectId": "a", "n": 7}, nil) }, "7")
}

// TestLearnParse learns from the official client. Its keys are not in the file.
func TestLearnParse(t *testing.T) {
	t.Parallel()
	h := startHub(t, "parse", `{"session":"r:ann.token"}`)
	save := func(n int) { h.parseSave(t, map[string]any{"objectId": "a", "state": "open", "n": n}, nil) }
	file, text := learned(t, h.addr, func(front string) {
		page := official(t, "parse", "ws://"+front+"/", `{"connect":{"javascriptKey":"key","sessionToken":"r:ann.token"},"subscribe":[["Order",{"state":"open"}]]}`)
		page.shows(t, `{"open":"Order"}`)
		save(1)
		page.shows(t, `"op":"create"`)
	})
	holds(t, text, "_PROTOCOL=parse", `_SUBSCRIBE=Order {"where":{"state":"open"}}`, `_CONNECT={"applicationId":"app","javascriptKey":"key","sessionToken":"{query.sessionToken}"}`)
	if strings.Contains(text, "ann.token") {
		t.Errorf("the token is in the file:\n%s", text)
	}
	side := startSidecar(t, "SSE_ENV_FILE="+file)
	events := ask(t, side.addr, "HTTP/1.0", "/events/feed?sessionToken=r:ann.token", "retry:")
	side.explains(t, "upstream connected")
	save(2)
	events.until(t, `"n":2`)
	proves(t, side, file, "feed", func(n int) { save(n + 3) }, "query.sessionToken=r:ann.token")
}
