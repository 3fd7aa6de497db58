//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// hubSeen is what servers/signalr.mjs has seen of its clients.
type hubSeen struct {
	Results      []struct{ InvocationID, Error, Who string }
	Negotiations []struct{ Authorization, Cookie, Key, URL string }
	Upgrades     []struct{ Authorization, Cookie, Key, URL string }
	Received     []struct {
		Type         int
		Target       string
		InvocationID string
		Arguments    []any
	}
	Resumed int
	Ends    []struct {
		Hub, Why string
		Code     int
	}
}

func (h *hub) signalrSeen(t *testing.T) (seen hubSeen) {
	t.Helper()
	h.do(t, map[string]any{"do": "seen"}, &seen)
	return seen
}

// invoke has the hub invoke records' targets on the clients of a group, "" all of them, once there are n.
func (h *hub) invoke(t *testing.T, n int, group string, records ...map[string]any) {
	t.Helper()
	command := map[string]any{"do": "send", "records": records}
	if group != "" {
		command["group"] = group
	}
	h.reached(t, n, command)
}

func invocation(target string, args ...any) map[string]any {
	return map[string]any{"type": 1, "target": target, "arguments": append([]any{}, args...)}
}

func TestDialectSignalR(t *testing.T) {
	t.Parallel()
	for protocol, packed := range map[string]string{"signalr": "false", "signalr+msgpack": "true"} {
		t.Run(protocol, func(t *testing.T) { signalrWorks(t, protocol, packed) })
	}
}

func signalrWorks(t *testing.T, protocol, packed string) {
	h := startHub(t, "signalr", `{}`)
	s := startSidecar(t, hubRoute(protocol, "ws://"+h.addr+"/hub", "SUBSCRIBE=Join [\"red\"]\nstream Counter [2]",
		`HELLO={"type":1,"target":"Echo","invocationId":"waited","arguments":[true]}`+"\n< .invocationId == \"waited\" and .result\nJoin [\"blue\"]\n"+
			`{"type":1,"target":"Echo","invocationId":"mine","arguments":[[7]]}`)...)
	events := ask(t, s.addr, "HTTP/1.0", "/events", "retry: ")
	page := official(t, "signalr", "http://"+h.addr+"/hub", `{"packed":`+packed+`,"on":["Tick","Ask","None"],"invoke":[["Join","red"],["Nothing"],["Admin"],["Closed"],["Broken"],["Echo"],["Counter",1]],"stream":[["Counter",2],["Echo",1]]}`)
	page.shows(t, `{"ready":true}`)
	ask := invocation("Ask", map[string]any{"a": 1})
	ask["invocationId"] = "s1"
	h.invoke(t, 2, "red", invocation("Tick", 1), invocation("Tick", "a", "é\n"), map[string]any{"type": 6}, invocation("None"), ask)

	events.event(t, "Welcome", "[]") // which came together with the handshake's answer
	events.event(t, "Counter", `{"i":1}`)
	events.event(t, "Counter", `{"i":2}`)
	events.event(t, "Tick", "1")
	events.event(t, "Tick", `["a","é\n"]`)
	events.event(t, "None", "[]")
	events.event(t, "Ask", `{"a":1}`)
	for _, want := range []string{
		`{"result":null}`, `Unknown hub method 'Nothing'`, `Failed to invoke 'Admin' because user is unauthorized`,
		`An unexpected error occurred invoking 'Closed' on the server. HubException: the market is closed`,
		`An unexpected error occurred invoking 'Broken' on the server."`, `Failed to invoke 'Echo' due to an error`,
		`{"item":{"i":1}}`, `{"item":{"i":2}}`, `{"complete":"Counter"}`, `the non-streaming 'Echo' method with a streaming`, `the streaming 'Counter' method with a non-streaming`,
		`{"event":"Tick","args":[1]}`, `{"event":"Tick","args":["a","é\n"]}`, `{"event":"None","args":[]}`, `{"event":"Ask","args":[{"a":1}]}`,
	} {
		page.shows(t, want)
	}
	// A result that is wanted is answered by both in the same way.
	eventually(t, "two results", func() bool { return len(h.signalrSeen(t).Results) == 2 })
	for _, r := range h.signalrSeen(t).Results {
		if r.InvocationID != "s1" || r.Error != "Client didn't provide a result." {
			t.Errorf("answered with %+v", r)
		}
	}
	events.event(t, "", `{"type":3,"invocationId":"mine","result":[7]}`)
	h.invoke(t, 1, "blue", invocation("Blue", true))
	events.event(t, "Blue", "true")

	h.comesBack(t, events)
	h.invoke(t, 1, "red", invocation("Tick", 2))
	events.event(t, "Tick", "2")
	h.do(t, map[string]any{"do": "close", "record": map[string]any{"type": 7, "allowReconnect": true}}, nil)
	events.got.Reset()
	events.event(t, "stream.gap", gapEvent)
	h.invoke(t, 1, "red", invocation("Tick", 3))
	events.event(t, "Tick", "3")
	s.drain(t)
	eventually(t, "the sidecar to have left with a word", func() bool {
		ends := h.signalrSeen(t).Ends
		return len(ends) > 0 && ends[len(ends)-1].Why == "left"
	})
}

func TestDialectSignalRRefusals(t *testing.T) {
	t.Parallel()
	h := startHub(t, "signalr", `{}`)
	for name, c := range map[string]struct {
		hub, subscribe string
		status         int
		says           string
	}{
		"packed, no method":     {"/hub", "Nothing", 400, "Unknown hub method 'Nothing'"},
		"packed, hub exception": {"/hub", "Closed", 403, "the market is closed"},
		"packed, aborting":      {"/aborting", "Join [1]", 403, "Connection closed with an error."},
		"no credentials":        {"/secure", "", 401, ""},
		"no hub":                {"/nothing", "", 404, ""},
		"sorry":                 {"/sorry", "", 403, "the hub is full"},
		"no such method":        {"/hub", "Nothing", 400, "Unknown hub method 'Nothing'"},
		"unauthorized":          {"/hub", "Admin", 403, "because user is unauthorized"},
		"hub exception":         {"/hub", "Closed", 403, "the market is closed"},
		"bad arguments":         {"/hub", "Join", 400, "Failed to invoke 'Join'"},
		"not streaming":         {"/hub", "stream Forever", 0, "non-streaming"}, // which a stream's client may learn late
		"aborting":              {"/aborting", "Join [1]", 403, "Connection closed with an error."},
		"old protocol":          {"/old", "", 200, "write PROTOCOL=signalr-classic"},
		"no websockets":         {"/nows", "", 200, "enable WebSockets"},
		"broken":                {"/hub", "Broken", 200, "An unexpected error occurred invoking 'Broken'"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			protocol := "signalr"
			if strings.HasPrefix(name, "packed") {
				protocol = "signalr+msgpack"
			}
			s := startSidecar(t, hubRoute(protocol, "ws://"+h.addr+c.hub, "SUBSCRIBE="+c.subscribe)...)
			if got := s.firstStatus(t); c.status != 0 && got != c.status {
				t.Errorf("answered %d, want %d", got, c.status)
			}
			s.explains(t, c.says)
		})
	}
}

// A redirect takes its own token along, and nothing that was meant for the first host.
func TestDialectSignalRRedirect(t *testing.T) {
	t.Parallel()
	second := startHub(t, "signalr", `{}`)
	first := startHub(t, "signalr", fmt.Sprintf(`{"moved":"http://%s/secure?hub=x"}`, second.addr))
	s := startSidecar(t, hubRoute("signalr", "ws://"+first.addr+"/moved", "HEADERS=Cookie: own=1\nX-Key: own\nAuthorization: Bearer own")...)
	events := ask(t, s.addr, "HTTP/1.0", "/events", "retry: ")
	second.invoke(t, 1, "", invocation("Tick", 1))
	events.event(t, "Tick", "1")
	page := official(t, "signalr", "http://"+first.addr+"/moved", `{"on":["Tick"]}`)
	page.shows(t, `{"ready":true}`)
	one, two := first.signalrSeen(t), second.signalrSeen(t)
	if n := one.Negotiations[0]; n.Authorization != "Bearer own" || n.Cookie != "own=1" || n.Key != "own" || len(one.Upgrades) != 0 {
		t.Errorf("the first host saw %+v", one)
	}
	for _, n := range append(two.Negotiations, two.Upgrades...) {
		if n.Authorization != "Bearer good" || n.Cookie != "" || n.Key != "" || !strings.Contains(n.URL, "hub=x") {
			t.Errorf("the second host saw %+v", n)
		}
	}
	if strings.Contains(s.stderr.String(), "good") {
		t.Error("the token is in the log")
	}
}

// The stream ends when all that was subscribed to has ended.
func TestDialectSignalRFinished(t *testing.T) {
	t.Parallel()
	h := startHub(t, "signalr", `{}`)
	s := startSidecar(t, hubRoute("signalr", "ws://"+h.addr+"/hub?id=", "SUBSCRIBE=stream Prices\nstream Counter [1]")...)
	events := ask(t, s.addr, "HTTP/1.1", "/events", "retry: ")
	events.until(t, `data: {"i":1}`)
	eventually(t, "a price to be taken", func() bool {
		var n int
		h.do(t, map[string]any{"do": "price", "item": map[string]any{"acme": 1.5}}, &n)
		return n > 0
	})
	events.until(t, `data: {"acme":1.5}`)
	eventually(t, "the end to be taken", func() bool {
		var n int
		h.do(t, map[string]any{"do": "price", "item": nil}, &n)
		return n > 0
	})
	events.rest()
	if !strings.HasSuffix(events.got.String(), finalChunk) {
		t.Errorf("no clean end: %q", events.got.String())
	}
	if n := len(h.signalrSeen(t).Negotiations); n != 0 {
		t.Errorf("negotiated %d times with an id in FROM", n)
	}
}

func TestDialectSignalRLimitAndKeepalive(t *testing.T) {
	t.Parallel()
	h := startHub(t, "signalr", `{"clientTimeout":1000,"keepAlive":300}`)
	from := "ws://" + h.addr + "/hub"
	s := startSidecar(t, hubRoute("signalr", from, `PING={"type":6}`, "PING_EVERY=200ms", "MAX_MESSAGE=4KiB")...)
	events := ask(t, s.addr, "HTTP/1.0", "/events", "retry: ")
	size := func(filling string) int {
		return len(`{"type":1,"target":"Big","arguments":["`+filling+`"]}`) + 1
	}
	atLimit(t, events, func(filling string) { h.invoke(t, 1, "", invocation("Big", filling)) }, size, 4096,
		func(filling string) string { return `data: "` + filling + "\"\n" })

	// Another sidecar, which pings as rarely as the protocol has it, is cut several times in the meantime.
	idle := startSidecar(t, hubRoute("signalr", from)...)
	ask(t, idle.addr, "HTTP/1.0", "/events", "retry: ")
	cut := func() (n int) {
		for _, end := range h.signalrSeen(t).Ends {
			if end.Why == "client timeout" {
				n++
			}
		}
		return n
	}
	eventually(t, "the other to be cut twice", func() bool { return cut() >= 2 })
	events.got.Reset()
	h.invoke(t, 1, "", invocation("Tick", 1))
	events.event(t, "Tick", "1")
	if text := events.got.String(); strings.Contains(text, "stream.gap") {
		t.Errorf("the pinging connection was lost: %q", text)
	}
}

// A hub without the protocol says so, and the log what to write.
func TestDialectSignalRWithoutMessagePack(t *testing.T) {
	t.Parallel()
	h := startHub(t, "signalr", `{"jsonOnly":true}`)
	s := startSidecar(t, hubRoute("signalr+msgpack", "ws://"+h.addr+"/hub")...)
	if got := s.firstStatus(t); got != 200 {
		t.Errorf("answered %d", got)
	}
	s.explains(t, "or write PROTOCOL=signalr")
}
