//go:build e2e

package e2e

import (
	"strings"
	"testing"
)

// phoenixSeen is what servers/phoenix.mjs has seen of its clients.
type phoenixSeen struct {
	Upgrades, Joins []string
	Ends            []struct {
		Code int
		Why  string
	}
}

func (h *hub) phoenixSeen(t *testing.T) (seen phoenixSeen) {
	t.Helper()
	h.do(t, map[string]any{"do": "seen"}, &seen)
	return seen
}

// says has the channel say an event to n clients, once there are so many.
func (h *hub) says(t *testing.T, n int, how, topic, event string, payload any) {
	t.Helper()
	command := map[string]any{"do": how, "topic": topic, "event": event, "payload": payload}
	if text, ok := payload.(hexadecimal); ok {
		command["hex"] = text
	}
	h.reached(t, n, command)
}

// hexadecimal is a binary payload.
type hexadecimal string

func TestDialectPhoenix(t *testing.T) {
	t.Parallel()
	h := startHub(t, "phoenix", `{}`)
	s := startSidecar(t, hubRoute("phoenix", "ws://"+h.addr+"/socket?token=t", "SUBSCRIBE=room:lobby\nsecret:a {\"key\":\"k\"}\nstate:x",
		"HELLO=room:lobby ask {\"n\":1.10}\n< .response.answer.n == 1.10")...)
	events := ask(t, s.addr, "HTTP/1.0", "/events", "retry: ")
	page := official(t, "phoenix", "ws://"+h.addr+"/socket", `{"params":{"token":"t"},"authToken":"tok","join":{"room:lobby":{},"secret:a":{"key":"k"},"secret:b":{},"state:x":{},"nothing:x":{},"full:x":{},"crash:x":{}}}`)
	for _, want := range []string{
		`{"joined":"room:lobby","response":{}}`, `{"joined":"secret:a","response":{}}`, `{"joined":"state:x","response":{"items":[1,2.5]}}`,
		`{"refused":"secret:b","response":{"reason":"unauthorized"}}`, `{"refused":"nothing:x","response":{"reason":"unmatched topic"}}`,
		`{"refused":"full:x","response":{"reason":"full"}}`, `{"refused":"crash:x","response":{"reason":"join crashed"}}`,
	} {
		page.shows(t, want)
	}
	events.event(t, "phx_reply", `{"status":"ok","response":{"items":[1,2.5]}}`)
	events.event(t, "presence_state", `{}`)

	h.says(t, 2, "broadcast", "room:lobby", "new_msg", map[string]any{"body": "hé\n"})
	h.says(t, 2, "push", "secret:a", "price", map[string]any{"acme": 1.5})
	h.says(t, 2, "broadcast", "room:lobby", "blob", hexadecimal("00ff10"))
	h.says(t, 2, "push", "secret:a", "blob", hexadecimal("010203"))
	events.event(t, "new_msg", `{"body":"hé\n"}`)
	events.event(t, "price", `{"acme":1.5}`)
	events.event(t, "blob", `AP8Q`)
	events.event(t, "blob", `AQID`)
	for _, want := range []string{
		`{"topic":"room:lobby","event":"new_msg","data":{"body":"hé\n"}}`, `{"topic":"secret:a","event":"price","data":{"acme":1.5}}`,
		`{"topic":"room:lobby","event":"blob","data":{"hex":"00ff10"}}`, `{"topic":"secret:a","event":"blob","data":{"hex":"010203"}}`,
	} {
		page.shows(t, want)
	}

	page.Process.Kill()
	<-page.ended

	h.comesBack(t, events)
	h.says(t, 1, "broadcast", "room:lobby", "new_msg", map[string]any{"n": 2})
	events.event(t, "new_msg", `{"n":2}`)
	for i, end := range []map[string]any{
		{"do": "end", "topic": "room:lobby", "event": "phx_error"}, {"do": "end", "topic": "secret:a", "event": "phx_close"}, {"do": "drain", "topic": "state:x"},
	} {
		events.got.Reset()
		before := len(h.phoenixSeen(t).Joins)
		h.reached(t, 1, end)
		events.event(t, "stream.gap", gapEvent)
		eventually(t, "the channels to be joined again", func() bool { return len(h.phoenixSeen(t).Joins) == before+3 })
		h.says(t, 1, "broadcast", "state:x", "new_msg", i)
		events.event(t, "new_msg", string(rune('0'+i)))
	}
}

// A binary push of the official client comes out of the sidecar, and its answer out of the client: both speak the
// binary form that the server does.
func TestDialectPhoenixBinaryPush(t *testing.T) {
	t.Parallel()
	h := startHub(t, "phoenix", `{}`)
	s := startSidecar(t, hubRoute("phoenix", "ws://"+h.addr+"/socket/websocket", "SUBSCRIBE=room:lobby")...)
	events := ask(t, s.addr, "HTTP/1.0", "/events", "retry: ")
	h.says(t, 1, "broadcast", "room:lobby", "first", 1)
	events.event(t, "first", "1")
	page := official(t, "phoenix", "ws://"+h.addr+"/socket", `{"join":{"room:lobby":{}},"shout":[1,2,255]}`)
	page.shows(t, `{"reply":{"hex":"0102ff"}}`)
	events.event(t, "shout", "AQL/")
}

func TestDialectPhoenixV1(t *testing.T) {
	t.Parallel()
	h := startHub(t, "phoenix", `{}`)
	s := startSidecar(t, hubRoute("phoenix", "ws://"+h.addr+"/socket?vsn=1.0.0", "SUBSCRIBE=room:lobby", "EVENT=topic", "SUBPROTOCOL=phoenix,base64url.bearer.phx.dG9r", "HELLO=room:lobby ask {}\n< event == \"phx_reply\"")...)
	events := ask(t, s.addr, "HTTP/1.0", "/events", "retry: ")
	h.says(t, 1, "broadcast", "room:lobby", "new_msg", map[string]any{"n": 1})
	events.event(t, "room:lobby", `{"n":1}`)
	if up := h.phoenixSeen(t).Upgrades; up[0] != "/socket/websocket?vsn=1.0.0" {
		t.Errorf("dialled %s", up[0])
	}
}

func TestDialectPhoenixRefusals(t *testing.T) {
	t.Parallel()
	h := startHub(t, "phoenix", `{}`)
	for name, c := range map[string]struct {
		from, subscribe string
		status          int
		says            string
	}{
		"connect":      {"/socket?token=bad", "room:x", 403, ""},
		"no socket":    {"/sockets", "room:x", 404, ""},
		"unauthorized": {"/socket", "room:x\nsecret:a", 403, "joining secret:a: unauthorized"},
		"no channel":   {"/socket", "nothing:x", 404, "joining nothing:x: unmatched topic"},
		"full":         {"/socket", "full:x", 403, "joining full:x: full"},
		"crashed":      {"/socket", "crash:x", 200, "joining crash:x: join crashed"},
		"twice":        {"/socket", "room:x\nroom:x", 400, "joins a topic that a line before joins"},
		"version":      {"/socket?vsn=3.0.0", "room:x", 200, "write 2.0.0 or 1.0.0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startSidecar(t, hubRoute("phoenix", "ws://"+h.addr+c.from, "SUBSCRIBE="+c.subscribe)...)
			if got := s.firstStatus(t); got != c.status {
				t.Errorf("answered %d, want %d", got, c.status)
			}
			s.explains(t, c.says)
		})
	}
}

func TestDialectPhoenixLimitAndKeepalive(t *testing.T) {
	t.Parallel()
	h := startHub(t, "phoenix", `{"timeout":1000}`)
	from := "ws://" + h.addr + "/socket"
	s := startSidecar(t, hubRoute("phoenix", from, "SUBSCRIBE=room:a", "PING=phoenix heartbeat", "PING_EVERY=200ms", "MAX_MESSAGE=4KiB")...)
	events := ask(t, s.addr, "HTTP/1.0", "/events", "retry: ")
	size := func(filling string) int { return len(`[null,null,"room:a","big","` + filling + `"]`) }
	atLimit(t, events, func(filling string) { h.says(t, 1, "broadcast", "room:a", "big", filling) }, size, 4096,
		func(filling string) string { return `data: "` + filling + "\"\n" })

	idle := startSidecar(t, hubRoute("phoenix", from, "SUBSCRIBE=room:b")...)
	ask(t, idle.addr, "HTTP/1.0", "/events", "retry: ")
	eventually(t, "the one that pings rarely to be cut twice", func() bool {
		n := 0
		for _, end := range h.phoenixSeen(t).Ends {
			if end.Why == "timeout" {
				n++
			}
		}
		return n >= 2
	})
	events.got.Reset()
	h.says(t, 1, "broadcast", "room:a", "still", true)
	events.event(t, "still", "true")
	if text := events.got.String(); strings.Contains(text, "stream.gap") {
		t.Errorf("the pinging connection was lost: %q", text)
	}
	if joins := h.phoenixSeen(t).Joins; strings.Count(strings.Join(joins, " "), "room:a") != 1 {
		t.Errorf("joined %q", joins)
	}
}
