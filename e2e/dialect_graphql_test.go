//go:build e2e

package e2e

import (
	"strings"
	"testing"
	"time"
)

// graphQLSeen is what servers/graphql.mjs has seen of its clients.
type graphQLSeen struct {
	Connects                          []any
	Terminated, Completed, Subscribed int
}

func (h *hub) graphQLSeen(t *testing.T) (seen graphQLSeen) {
	t.Helper()
	h.do(t, map[string]any{"do": "seen"}, &seen)
	return seen
}

// ticks has the server publish a tick in a room, once somebody follows it.
func (h *hub) ticks(t *testing.T, room string, tick map[string]any) {
	t.Helper()
	h.reached(t, 1, map[string]any{"do": "say", "topic": room, "tick": tick})
}

const graphQLTwo = "SUBSCRIBE=subscription { tick { n room } }\n" +
	`{"query":"subscription B($r:String) { tick(room:$r) { text } }","variables":{"r":"{query.room}"},"operationName":"B"}`

func TestDialectGraphQL(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, protocol, options, goodbye string }{
		{"transport", "graphql-transport-ws", `{}`, "complete"},
		{"legacy", "graphql-ws", `{"legacy":true,"pings":100}`, "connection_terminate"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := startHub(t, "graphql", c.options)
			s := startSidecar(t, hubRoute(c.protocol, "ws://"+h.addr+"/graphql", graphQLTwo, `CONNECT={"token":"{query.token}"}`, "EVENT=topic",
				`HELLO=mutation { say(room:"nobody",text:"{query.room}") }`+"\n< .data.say == 0")...)
			query := "/events?token=a%22b&room=%22)%7B"
			events := ask(t, s.addr, "HTTP/1.0", query, "retry: ")
			h.ticks(t, "a", map[string]any{"n": 1.5})
			events.event(t, "1", `{"data":{"tick":{"n":1.5,"room":"a"}}}`)
			h.ticks(t, `"){`, map[string]any{"text": "hé\n\"q\""})
			events.event(t, "B", `{"data":{"tick":{"text":"hé\n\"q\""}}}`)
			h.ticks(t, "a", map[string]any{"n": "x"})
			events.until(t, `"errors":[{`)
			if got := h.graphQLSeen(t).Connects[0].(map[string]any)["token"]; got != `a"b` {
				t.Errorf("connected with %q", got)
			}

			h.comesBack(t, events)
			h.ticks(t, "a", map[string]any{"n": 2})
			events.event(t, "1", `{"data":{"tick":{"n":2,"room":"a"}}}`)
			events.got.Reset()
			h.do(t, map[string]any{"do": "fail", "topic": "a", "why": "the source broke"}, nil)
			events.event(t, "stream.gap", gapEvent)
			s.explains(t, "the operation of line 1 failed: the source broke")
			h.ticks(t, "a", map[string]any{"n": 3})
			events.event(t, "1", `{"data":{"tick":{"n":3,"room":"a"}}}`)

			h.reached(t, 1, map[string]any{"do": "end", "topic": "a"})
			h.ticks(t, `"){`, map[string]any{"text": "still"})
			events.event(t, "B", `{"data":{"tick":{"text":"still"}}}`)
			h.do(t, map[string]any{"do": "end", "topic": `"){`}, nil)
			if err := events.rest(); err != nil {
				t.Errorf("ended with %v, want a clean end", err)
			}

			again := ask(t, s.addr, "HTTP/1.0", "/events?token=c&room=d", "retry: ")
			h.ticks(t, "d", map[string]any{"text": "e"})
			again.event(t, "B", `{"data":{"tick":{"text":"e"}}}`)
			before := h.graphQLSeen(t)
			s.drain(t)
			eventually(t, c.goodbye, func() bool {
				seen := h.graphQLSeen(t)
				return seen.Completed == before.Completed+2 && (c.goodbye == "complete" || seen.Terminated > before.Terminated)
			})
		})
	}
}

func TestDialectGraphQLRefusals(t *testing.T) {
	t.Parallel()
	servers := map[string]*hub{}
	for name, options := range map[string]string{
		"transport": `{}`, "legacy": `{"legacy":true}`, "accepting": `{"accepting":true}`, "noping": `{"noping":true}`,
	} {
		servers[name] = startHub(t, "graphql", options)
	}
	const transport, legacy, fine = "graphql-transport-ws", "graphql-ws", "subscription { tick { n } }"
	for name, c := range map[string]struct {
		server, protocol, connect, subscribe string
		status                               int
		says                                 string
	}{
		"forbidden":            {"transport", transport, `{"token":"bad"}`, fine, 403, "closed with code 4403: Forbidden"},
		"unauthorized":         {"transport", transport, `{"token":"none"}`, fine, 401, "closed with code 4401: Unauthorized"},
		"schema":               {"transport", transport, `{}`, fine + "\nsubscription { tick { nope } }", 400, "the operation of line 2: Cannot query field"},
		"syntax":               {"transport", transport, `{}`, "subscription { tick { } }", 400, "Syntax Error"},
		"denied":               {"transport", transport, `{}`, `subscription { denied(code: "FORBIDDEN") }`, 403, "the operation of line 1: denied to you"},
		"not logged in":        {"transport", transport, `{}`, `subscription { denied(code: "UNAUTHENTICATED") }`, 401, "the operation of line 1: denied to you"},
		"no pings":             {"noping", transport, `{}`, fine, 200, "closed with code 4400"},
		"other dialect":        {"transport", legacy, `{}`, fine, 200, "write PROTOCOL=graphql-transport-ws"},
		"other, accepted":      {"accepting", legacy, `{}`, fine, 400, "write PROTOCOL=graphql-transport-ws"},
		"legacy, forbidden":    {"legacy", legacy, `{"token":"bad"}`, fine, 403, "connection_error: nope"},
		"legacy, schema":       {"legacy", legacy, `{}`, "subscription { tick { nope } }", 0, "the operation of line 1: Cannot query field"},
		"legacy, syntax":       {"legacy", legacy, `{}`, "subscription { tick { } }", 0, "the operation of line 1: Syntax Error"},
		"legacy, other":        {"legacy", transport, `{}`, fine, 400, "write PROTOCOL=graphql-ws"},
		"legacy, over nothing": {"legacy", "raw", "", "", 200, "closed by the upstream with code 1002"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := servers[c.server]
			settings := []string{"CONNECT=" + c.connect, "SUBSCRIBE=" + c.subscribe}
			if c.protocol == "raw" {
				settings = []string{`HELLO={"type":"connection_init"}`}
			}
			s := startSidecar(t, hubRoute(c.protocol, "ws://"+h.addr+"/graphql", settings...)...)
			if c.status == 0 { // what comes too late for a status
				ask(t, s.addr, "HTTP/1.0", "/events", `{"status":400}`)
			} else if got := s.firstStatus(t); got != c.status {
				t.Errorf("answered %d, want %d", got, c.status)
			}
			s.explains(t, c.says)
		})
	}
}

// A server that closes at a ping is subscribed to all the same.
func TestDialectGraphQLWithoutPings(t *testing.T) {
	t.Parallel()
	h := startHub(t, "graphql", `{"noping":true}`)
	s := startSidecar(t, hubRoute("graphql-transport-ws", "ws://"+h.addr+"/graphql", "SUBSCRIBE=subscription { tick { n } }")...)
	events := ask(t, s.addr, "HTTP/1.0", "/events", "retry: ")
	s.explains(t, "closed with code 4400")
	eventually(t, "the next connection", func() bool { return len(h.graphQLSeen(t).Connects) == 2 })
	h.ticks(t, "a", map[string]any{"n": 7})
	events.event(t, "", `{"data":{"tick":{"n":7}}}`)
}

func TestDialectGraphQLLimitAndKeepalive(t *testing.T) {
	t.Parallel()
	h := startHub(t, "graphql", `{"pings":150,"ws":150}`)
	from := "ws://" + h.addr + "/graphql"
	s := startSidecar(t, hubRoute("graphql-transport-ws", from, "SUBSCRIBE=subscription { tick(room:\"big\") { text } }", "MAX_MESSAGE=4KiB")...)
	events := ask(t, s.addr, "HTTP/1.0", "/events", "retry: ")
	atLimit(t, events, func(filling string) { h.ticks(t, "big", map[string]any{"text": filling}) },
		func(filling string) int {
			return len(`{"id":"1","type":"next","payload":{"data":{"tick":{"text":"` + filling + `"}}}}`)
		}, 4096,
		func(filling string) string { return `data: {"data":{"tick":{"text":"` + filling + "\"}}}\n" })

	// One that does not answer the server's pings is cut, again and again; the other outlives it.
	mute := startSidecar(t, hubRoute("raw", from, "SUBPROTOCOL=graphql-transport-ws", `HELLO={"type":"connection_init"}`)...)
	silent := ask(t, mute.addr, "HTTP/1.0", "/events", "retry: ")
	silent.event(t, "stream.gap", gapEvent)
	silent.got.Reset()
	silent.event(t, "stream.gap", gapEvent)
	events.got.Reset()
	h.ticks(t, "big", map[string]any{"text": "sent"})
	events.event(t, "", `{"data":{"tick":{"text":"sent"}}}`)
	if text := events.got.String(); strings.Contains(text, "stream.gap") {
		t.Errorf("the answering connection was lost: %q", text)
	}
	if seen := h.graphQLSeen(t); seen.Subscribed != 1 {
		t.Errorf("subscribed %d times", seen.Subscribed)
	}
}

// A legacy session with nothing to say lives through many of the server's intervals; one whose server falls silent is given up.
func TestDialectGraphQLLegacyIdle(t *testing.T) {
	t.Parallel()
	h := startHub(t, "graphql", `{"legacy":true,"pings":100}`)
	s := startSidecar(t, hubRoute("graphql-ws", "ws://"+h.addr+"/graphql", "SUBSCRIBE=subscription { tick { n } }", "IDLE=1s")...)
	events := ask(t, s.addr, "HTTP/1.0", "/events", "retry: ")
	h.ticks(t, "a", map[string]any{"n": 1})
	events.event(t, "", `{"data":{"tick":{"n":1}}}`)
	h.idles(t, s, events, 4*time.Second, func() { h.ticks(t, "a", map[string]any{"n": 2}) }, `{"data":{"tick":{"n":2}}}`)
}
