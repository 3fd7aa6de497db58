//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// ddpSeen is what servers/ddp.mjs has seen of its clients.
type ddpSeen struct {
	Calls                      [][]any
	Subs, Unsubs, Pings, Pongs int
}

func (h *hub) ddpSeen(t *testing.T) (seen ddpSeen) {
	t.Helper()
	h.do(t, map[string]any{"do": "seen"}, &seen)
	return seen
}

// ddpPut makes a document what fields say; nil removes it.
func (h *hub) ddpPut(t *testing.T, collection, id string, fields map[string]any) {
	t.Helper()
	h.do(t, map[string]any{"do": "put", "collection": collection, "id": id, "fields": fields}, nil)
}

func TestDialectDDP(t *testing.T) {
	t.Parallel()
	h := startHub(t, "ddp", `{"ping":300,"login":true}`)
	h.ddpPut(t, "orders", "a", map[string]any{"state": "open", "n": 1})
	h.ddpPut(t, "prices", "p", map[string]any{"price": 1.5})
	s := startSidecar(t, hubRoute("ddp", "ws://"+h.addr, `CONNECT={"resume":"good.token"}`, "SUBSCRIBE=orders [\"open\"]\nprices\nstream [\"x\",false]", `EVENT="\(event) \(topic)"`, "SEND=true", `HELLO=> say ["hello"]`, `KEY="\(topic) \(.id)"`, "START=latest")...)
	events := ask(t, s.addr, "HTTP/1.0", "/events", "retry:")
	events.event(t, "added orders", `{"fields":{"n":1,"state":"open"},"id":"a"}`)
	events.event(t, "added prices", `{"fields":{"price":1.5},"id":"p"}`)
	events.until(t, `"params":["hello"]`)
	page := official(t, "ddp", "ws://"+h.addr+"/websocket", `{"login":{"resume":"good.token"},"subscribe":[["orders","open"]]}`)
	page.shows(t, `{"msg":"added","id":"a","now":{"_id":"a","n":1,"state":"open"}}`)
	page.shows(t, `{"ready":"orders"}`)
	h.ddpPut(t, "orders", "a", map[string]any{"state": "open", "n": 2, "hé": "\"ü\"\n"})
	events.event(t, "changed orders", `{"fields":{"hé":"\"ü\"\n","n":2,"state":"open"},"id":"a"}`)
	page.shows(t, `{"msg":"changed","id":"a","now":{"_id":"a","n":2,"state":"open","hé":"\"ü\"\n"}}`)
	h.ddpPut(t, "orders", "a", map[string]any{"state": "open", "n": 3})
	events.event(t, "changed orders", `{"fields":{"n":3,"state":"open"},"id":"a"}`)
	h.ddpPut(t, "orders", "b", map[string]any{"state": "paid"})
	h.ddpPut(t, "orders", "c", map[string]any{"state": "open"})
	events.event(t, "added orders", `{"fields":{"state":"open"},"id":"c"}`)
	h.reached(t, 1, map[string]any{"do": "stream", "topic": "stream", "args": []any{1}})
	events.event(t, "changed stream-notify", `{"fields":{"args":[1],"eventName":"x"},"id":"id"}`)
	if !s.posts(`say ["from a page",{"a":1}]`) || s.posts(`{"a":1}`) || s.posts("say 1") {
		t.Error("a message is refused, or what is none is taken")
	}
	events.until(t, `"params":["from a page",{"a":1}]`)
	if !s.posts("none []") {
		t.Error("a message is refused")
	}
	s.explains(t, "a method failed: Method 'none' not found (404)")
	if text := events.got.String(); strings.Contains(text, `"b"`) || strings.Contains(text, "stream.gap") || s.connects() != 1 {
		t.Errorf("%d connections: %s", s.connects(), text)
	}
	// Who comes later gets each document as it is.
	late := ask(t, s.addr, "HTTP/1.0", "/events", "from a page")
	if text := late.got.String(); !strings.Contains(text, `{"fields":{"n":3,"state":"open"},"id":"a"}`) || strings.Contains(text, `"n":1`) || strings.Contains(text, `"n":2`) {
		t.Errorf("a later client got %s", text)
	}

	// After a reconnect there is a gap, then what is: what has changed meanwhile, and what is gone.
	events.got.Reset()
	h.do(t, map[string]any{"do": "cut"}, nil)
	h.ddpPut(t, "orders", "a", map[string]any{"state": "open", "n": 4})
	h.ddpPut(t, "orders", "c", nil)
	events.event(t, "stream.gap", gapEvent)
	events.event(t, "removed orders", `{"id":"c"}`)
	events.event(t, "added orders", `{"fields":{"n":4,"state":"open"},"id":"a"}`)
	h.ddpPut(t, "orders", "a", map[string]any{"state": "paid", "n": 4})
	events.event(t, "removed orders", `{"id":"a"}`)

	// A subscription that the server stops is made again.
	events.got.Reset()
	h.do(t, map[string]any{"do": "stop", "topic": "prices"}, nil)
	events.event(t, "stream.gap", gapEvent)
	s.explains(t, "the subscription of line 2: the server has stopped it")
	events.event(t, "added prices", `{"fields":{"price":1.5},"id":"p"}`)
	before := h.ddpSeen(t).Unsubs
	s.drain(t)
	eventually(t, "unsub of all", func() bool { return h.ddpSeen(t).Unsubs == before+3 })
	if log := s.stderr.String(); strings.Contains(log, "good.token") {
		t.Errorf("the token is in the log: %s", log)
	}
}

func TestDialectDDPRefusals(t *testing.T) {
	t.Parallel()
	h := startHub(t, "ddp", `{}`)
	for name, c := range map[string]struct {
		connect, subscribe string
		status             int
		says               string
	}{
		"a wrong token":       {`CONNECT={"resume":"bad.token"}`, "SUBSCRIBE=prices", 401, "login: You've been logged out by the server"},
		"no such publication": {"SEND=true", "SUBSCRIBE=prices\nnothing", 404, "the subscription of line 2: Subscription 'nothing' not found (404)"},
		"not logged in":       {"SEND=true", "SUBSCRIBE=secret", 401, "the subscription of line 1: Log in first (not-authorized)"},
		"stopped at once":     {"SEND=true", "SUBSCRIBE=gone", 403, "the server has stopped it"},
		"limited":             {"SEND=true", "SUBSCRIBE=busy", 200, "too many requests"},
		"never ready":         {"SEND=true", "SUBSCRIBE=never", 200, "no answer within 10s, waiting for ready for all lines of SUBSCRIBE"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startSidecar(t, hubRoute("ddp", "ws://"+h.addr+"/websocket", c.connect, c.subscribe)...)
			if got := s.firstStatus(t); got != c.status {
				t.Errorf("answered %d, want %d", got, c.status)
			}
			s.explains(t, c.says)
			if log := s.stderr.String(); strings.Contains(log, "bad.token") {
				t.Errorf("the token is in the log: %s", log)
			}
		})
	}
}

// A session with nothing to say lives through many of the server's pings; one whose server falls silent is given up.
func TestDialectDDPIdle(t *testing.T) {
	t.Parallel()
	h := startHub(t, "ddp", `{"ping":150}`)
	s := startSidecar(t, hubRoute("ddp", "ws://"+h.addr, "SUBSCRIBE=prices", "DATA=.fields.n", "IDLE=1s")...)
	events := ask(t, s.addr, "HTTP/1.0", "/events", "retry:")
	n := 0
	h.idles(t, s, events, 4*time.Second, func() {
		n++
		h.ddpPut(t, "prices", fmt.Sprint(n), map[string]any{"n": 7})
	}, "7")
	if seen := h.ddpSeen(t); seen.Pongs < 10 {
		t.Errorf("%d pongs", seen.Pongs)
	}
}

// TestLearnDDP learns from a client of Meteor's. Its token is not in the file.
func TestLearnDDP(t *testing.T) {
	t.Parallel()
	h := startHub(t, "ddp", `{"login":true}`)
	put := func(n int) { h.ddpPut(t, "orders", "a", map[string]any{"state": "open", "n": n}) }
	file, text := learned(t, h.addr, func(front string) {
		page := official(t, "ddp", "ws://"+front+"/websocket", `{"login":{"resume":"good.token"},"subscribe":[["orders","open"],["prices"]]}`)
		page.shows(t, `{"ready":"prices"}`)
		put(1)
		page.shows(t, `{"msg":"added","id":"a"`)
		put(2)
		page.shows(t, `{"msg":"changed","id":"a"`)
	})
	holds(t, text, "_PROTOCOL=ddp", "orders [\"open\"]\nprices", `_CONNECT={"resume":"{query.resume}"}`)
	if strings.Contains(text, "good.token") {
		t.Errorf("the token is in the file:\n%s", text)
	}
	side := startSidecar(t, "SSE_ENV_FILE="+file)
	events := ask(t, side.addr, "HTTP/1.0", "/events/websocket?resume=good.token", "retry:")
	events.until(t, `"n":2`)
	proves(t, side, file, "websocket", func(n int) { put(n + 3) }, "query.resume=good.token")
	if seen := h.ddpSeen(t); !slices.ContainsFunc(seen.Calls, func(call []any) bool { return call[0] == "login" }) {
		t.Error("nobody has logged in")
	}
}
