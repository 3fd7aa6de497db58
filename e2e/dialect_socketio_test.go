//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// sioSeen is what servers/socketio.mjs has seen of its clients.
type sioSeen struct {
	Connections, Beats, Recovered int
	Ends                          []string
	Got                           [][]any
}

func (h *hub) sioSeen(t *testing.T) (seen sioSeen) {
	t.Helper()
	h.do(t, map[string]any{"do": "seen"}, &seen)
	return seen
}

// emits has the server emit to a namespace, once somebody is there. args are JSON; {"hex":".."} are bytes.
func (h *hub) emits(t *testing.T, space, name, args string) {
	t.Helper()
	h.reached(t, 1, map[string]any{"do": "emit", "topic": space, "name": name, "args": json.RawMessage(args)})
}

func TestDialectSocketIO(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"4", "4 packed", "2", "4 for 2"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			protocol, options := "socket.io", `{}`
			settings := []string{`CONNECT={"token":"t"}`, "SUBSCRIBE=/\n/admin"}
			if version == "4 packed" {
				protocol, options = "socket.io+msgpack", `{"msgpack":true}`
			} else if version != "4" {
				protocol, settings = "socket.io-v2", []string{"SUBSCRIBE=/\n/admin?token=t"}
				options = map[string]string{"2": `{"version":2}`, "4 for 2": `{"allowEIO3":true}`}[version]
			}
			h := startHub(t, "socketio", options)
			settings = append(settings, "HELLO=> [\"echo\",{\"n\":1.10}]\n< event==\"echoed\" and topic==\"/\"\n> /admin,[\"echo\",2]\n< event==\"echoed\" and topic==\"/admin\"")
			s := startSidecar(t, hubRoute(protocol, "ws://"+h.addr, settings...)...)
			events := ask(t, s.addr, "HTTP/1.0", "/events", "retry: ")
			eventually(t, "HELLO to be through", func() bool { return strings.Contains(s.apiStatus(t), `"connected"`) })

			h.emits(t, "/", "one", `[{"a":"é\n<&>"}]`)
			h.emits(t, "/admin", "two", `[1,"x"]`)
			h.emits(t, "/", "none", `[]`)
			h.emits(t, "/admin", "bin", `[{"hex":"010203"},{"x":[{"hex":"ff"}]}]`)
			h.emits(t, "/", "blob", `[{"hex":""}]`)
			h.emits(t, "/", "when", `[{"date":"2024-02-29T12:34:56.789Z"},9007199254740991]`)
			events.event(t, "one", `{"a":"é\n<&>"}`)
			events.event(t, "two", `[1,"x"]`)
			events.event(t, "none", `[]`)
			events.event(t, "bin", `["AQID",{"x":["/w=="]}]`)
			events.event(t, "blob", `""`)
			events.event(t, "when", `["2024-02-29T12:34:56.789Z",9007199254740991]`)
			if got := fmt.Sprint(h.sioSeen(t).Got); got != "[[map[n:1.1]] [2]]" {
				t.Errorf("HELLO sent %s", got)
			}
			for _, args := range []string{`[1]`, `[{"hex":"07"}]`} {
				for _, space := range []string{"/", "/admin"} {
					var answers [][]any
					h.do(t, map[string]any{"do": "ask", "topic": space, "name": "asked", "args": json.RawMessage(args)}, &answers)
					if len(answers) != 1 || len(answers[0]) != 0 {
						t.Errorf("asking %s was answered with %v", args, answers)
					}
				}
			}
			events.event(t, "asked", `"Bw=="`)

			h.comesBack(t, events)
			h.emits(t, "/admin", "again", `[1]`)
			events.event(t, "again", "1")
			events.got.Reset()
			h.do(t, map[string]any{"do": "kick", "topic": "/admin"}, nil)
			events.event(t, "stream.gap", gapEvent)
			h.emits(t, "/admin", "again", `[2]`)
			events.event(t, "again", "2")
		})
	}
}

// Events missed while the connection was lost come with the next one, and no gap is said; a server that has been restarted
// does not know them.
func TestDialectSocketIORecovery(t *testing.T) {
	t.Parallel()
	for protocol, options := range map[string]string{"socket.io": `{"recovery":true}`, "socket.io+msgpack": `{"recovery":true,"msgpack":true}`} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			socketIORecovers(t, protocol, options)
		})
	}
}

func socketIORecovers(t *testing.T, protocol, options string) {
	h := startHub(t, "socketio", options)
	s := startSidecar(t, hubRoute(protocol, "ws://"+h.addr, `CONNECT={"token":"t"}`, "SUBSCRIBE=/\n/admin")...)
	events := ask(t, s.addr, "HTTP/1.0", "/events", "retry: ")
	h.reached(t, 1, map[string]any{"do": "count", "topic": "/admin"})
	h.emits(t, "/", "first", `["text"]`)
	h.emits(t, "/admin", "first", `[1,{"hex":"01"}]`)
	events.event(t, "first", `"text"`)
	events.event(t, "first", `[1,"AQ=="]`)
	for i := range 3 {
		space := []string{"/", "/admin"}[i%2]
		h.do(t, map[string]any{"do": "miss", "topic": space, "name": "missed", "args": []any{i, map[string]string{"hex": "ff"}}}, nil)
		events.event(t, "missed", fmt.Sprintf(`[%d,"/w=="]`, i))
		h.emits(t, space, "live", fmt.Sprintf(`["%d"]`, i))
		events.event(t, "live", fmt.Sprintf(`"%d"`, i))
	}
	if text := events.got.String(); strings.Contains(text, "stream.gap") || strings.Count(text, "event: missed") != 3 || strings.Count(text, "event: first") != 2 {
		t.Errorf("got %q", text)
	}
	if seen := h.sioSeen(t); seen.Recovered != 6 || seen.Connections != 4 { // of two namespaces
		t.Errorf("%+v", seen)
	}
	events.got.Reset()
	h.kill()
	h.start(t)
	events.event(t, "stream.gap", gapEvent)
	h.emits(t, "/", "live", `["new"]`)
	events.event(t, "live", `"new"`)
}

// TestDialectSocketIORedis: with redis-streams-adapter sessions are recovered from Redis, which holds volatile events too.
func TestDialectSocketIORedis(t *testing.T) {
	t.Parallel()
	addr := freeAddr(t)
	_, port, _ := strings.Cut(addr, ":")
	redis := launch(t, nil, "redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", t.TempDir())
	eventually(t, "Redis to listen", func() bool { return strings.Contains(redis.stdout.String(), "Ready to accept connections") })
	h := startHub(t, "socketio", `{"recovery":true,"redis":`+port+`}`)
	s := startSidecar(t, hubRoute("socket.io", "ws://"+h.addr)...)
	events := ask(t, s.addr, "HTTP/1.0", "/events", "retry: ")
	h.reached(t, 1, map[string]any{"do": "count", "topic": "/"})
	h.emits(t, "/", "first", `[0]`)
	events.event(t, "first", `0`)
	for i := range 3 {
		h.do(t, map[string]any{"do": "volatile", "topic": "/", "name": "volatile", "args": []any{i}}, nil)
		events.event(t, "volatile", fmt.Sprint(i))
		h.do(t, map[string]any{"do": "miss", "topic": "/", "name": "missed", "args": []any{i}}, nil)
		events.event(t, "missed", fmt.Sprint(i))
		h.reached(t, 1, map[string]any{"do": "count", "topic": "/"})
		h.emits(t, "/", "live", fmt.Sprintf(`[%d]`, i))
		events.event(t, "live", fmt.Sprint(i))
	}
	text := events.got.String()
	if strings.Contains(text, "stream.gap") || strings.Count(text, "event: missed") != 3 || strings.Count(text, "event: first") != 1 || strings.Count(text, "event: live") != 3 {
		t.Errorf("got %q", text)
	}
	// They had come, and come again: nothing in them tells.
	if n := strings.Count(text, "event: volatile"); n != 6 {
		t.Errorf("%d volatile events; if it is 3, say so in the README: %q", n, text)
	}
	if seen := h.sioSeen(t); seen.Recovered != 3 {
		t.Errorf("%+v", seen)
	}
}

func TestDialectSocketIORefusals(t *testing.T) {
	t.Parallel()
	v4, v2, packed := startHub(t, "socketio", `{}`), startHub(t, "socketio", `{"version":2}`), startHub(t, "socketio", `{"msgpack":true}`)
	for name, c := range map[string]struct {
		h         *hub
		protocol  string
		from      string
		settings  []string
		status    int
		explained string
	}{
		"token":             {v4, "socket.io", "", []string{"SUBSCRIBE=/admin", `CONNECT={"token":"x"}`}, 401, "refused the namespace /admin: not authorized"},
		"no token":          {v4, "socket.io", "", []string{"SUBSCRIBE=/\n/admin"}, 401, "refused the namespace /admin: not authorized"},
		"forbidden":         {v4, "socket.io", "", []string{"SUBSCRIBE=/admin", `CONNECT={"token":"v"}`}, 403, "not allowed in here"},
		"with a status":     {v4, "socket.io", "", []string{"SUBSCRIBE=/admin", `CONNECT={"token":"z"}`}, 410, "refused the namespace /admin: not authorized"},
		"no namespace":      {v4, "socket.io", "", []string{"SUBSCRIBE=/nothing"}, 404, "Invalid namespace"},
		"token, v2":         {v2, "socket.io-v2", "", []string{"SUBSCRIBE=/admin?token=x"}, 401, "refused the namespace /admin: not authorized"},
		"forbidden, v2":     {v2, "socket.io-v2", "", []string{"SUBSCRIBE=/admin?token=v"}, 403, "not allowed in here"},
		"with a status, v2": {v2, "socket.io-v2", "", []string{"SUBSCRIBE=/admin?token=z"}, 410, "moved out"},
		"no namespace, v2":  {v2, "socket.io-v2", "", []string{"SUBSCRIBE=/nothing"}, 404, "Invalid namespace"},
		"token, packed":     {packed, "socket.io+msgpack", "", []string{"SUBSCRIBE=/admin", `CONNECT={"token":"x"}`}, 401, "refused the namespace /admin: not authorized"},
		"status, packed":    {packed, "socket.io+msgpack", "", []string{"SUBSCRIBE=/admin", `CONNECT={"token":"z"}`}, 410, "refused the namespace /admin: not authorized"},
		"nothing, packed":   {packed, "socket.io+msgpack", "", []string{"SUBSCRIBE=/nothing"}, 404, "Invalid namespace"},
		"packed to v4":      {v4, "socket.io+msgpack", "", nil, 200, "or write PROTOCOL=socket.io"},
		"v4 to packed":      {packed, "socket.io", "", nil, 200, "write PROTOCOL=socket.io+msgpack"},
		"v2 to v4":          {v4, "socket.io-v2", "", nil, 200, "if the server is Socket.IO 3 or 4, write PROTOCOL=socket.io"},
		"v4 to v2":          {v2, "socket.io", "", nil, 200, "write PROTOCOL=socket.io-v2"},
		"EIO":               {v4, "socket.io", "/?EIO=3", nil, 400, "write PROTOCOL=socket.io-v2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startSidecar(t, hubRoute(c.protocol, "ws://"+c.h.addr+c.from, c.settings...)...)
			if got := s.firstStatus(t); got != c.status {
				t.Errorf("answered %d, want %d", got, c.status)
			}
			s.explains(t, c.explained)
		})
	}
}

func TestDialectSocketIOLimit(t *testing.T) {
	t.Parallel()
	h := startHub(t, "socketio", `{}`)
	s := startSidecar(t, hubRoute("socket.io", "ws://"+h.addr, "MAX_MESSAGE=4KiB")...)
	events := ask(t, s.addr, "HTTP/1.0", "/events", "retry: ")
	atLimit(t, events, func(filling string) { h.emits(t, "/", "big", `["`+filling+`"]`) },
		func(filling string) int { return len(`42["big","` + filling + `"]`) }, 4096, func(filling string) string { return `data: "` + filling + "\"\n" })
	// An attachment over the limit, and two that are together.
	for _, args := range []string{`[{"hex":"` + strings.Repeat("00", 4097) + `"}]`, `[{"hex":"` + strings.Repeat("00", 2100) + `"},{"hex":"` + strings.Repeat("00", 2100) + `"}]`} {
		events.got.Reset()
		h.emits(t, "/", "big", args)
		h.emits(t, "/", "after", `[{"hex":"01"}]`)
		events.event(t, "stream.gap", gapEvent)
		events.event(t, "after", `"AQ=="`)
		if text := events.got.String(); strings.Contains(text, "event: big") || strings.Count(text, "stream.gap") != 1 {
			t.Errorf("got %q", text)
		}
	}
	if n := h.sioSeen(t).Connections; n != 1 {
		t.Errorf("%d connections", n)
	}
}

// An idle session lives for many of the server's intervals, and one that does not speak its keepalive dies.
func TestDialectSocketIOKeepalive(t *testing.T) {
	t.Parallel()
	for protocol, c := range map[string]struct{ options, query, hello string }{
		"socket.io":    {`{"pingInterval":150,"pingTimeout":1500}`, "EIO=4&transport=websocket", "HELLO=40"},
		"socket.io-v2": {`{"version":2,"pingInterval":150,"pingTimeout":1500}`, "EIO=3&transport=websocket", "SELECT=."},
	} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			h := startHub(t, "socketio", c.options)
			mute := startSidecar(t, hubRoute("raw", "ws://"+h.addr+"/socket.io/?"+c.query, c.hello)...)
			ask(t, mute.addr, "HTTP/1.0", "/events", "retry: ")
			eventually(t, "the mute one to be cut", func() bool { return strings.Contains(fmt.Sprint(h.sioSeen(t).Ends), "ping timeout") })
			mute.drain(t)

			s := startSidecar(t, hubRoute(protocol, "ws://"+h.addr)...)
			events := ask(t, s.addr, "HTTP/1.0", "/events", "retry: ")
			h.emits(t, "/", "first", `[1]`)
			events.event(t, "first", "1")
			before := h.sioSeen(t)
			eventually(t, "many keepalives", func() bool { return h.sioSeen(t).Beats >= before.Beats+25 })
			h.emits(t, "/", "still", `[2]`)
			events.event(t, "still", "2")
			if after := h.sioSeen(t); after.Connections != before.Connections || strings.Contains(events.got.String(), "stream.gap") {
				t.Errorf("%+v, then %+v; %q", before, after, events.got.String())
			}
		})
	}
}
