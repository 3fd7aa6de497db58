//go:build e2e

package e2e

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// classicSeen is what servers/signalrclassic.mjs has seen of its clients.
type classicSeen struct {
	Negotiations, Upgrades []struct{ Authorization, Cookie, Key, URL string }
	Connected, Reconnected []string
	Disconnected           []bool
	Received               []string
}

func (h *hub) classicSeen(t *testing.T) (seen classicSeen) {
	t.Helper()
	h.do(t, map[string]any{"do": "seen"}, &seen)
	return seen
}

// invokes has a hub's clients invoked, those of a group unless that is "", once for each of the arguments.
func (h *hub) invokes(t *testing.T, group, method string, args ...any) {
	t.Helper()
	var calls [][]any
	for _, arg := range args {
		calls = append(calls, []any{method, []any{arg}})
	}
	h.do(t, map[string]any{"do": "publish", "hub": "Chat", "group": group, "calls": calls}, nil)
}

func classicRoute(addr string, settings ...string) []string {
	return hubRoute("signalr-classic", "ws://"+addr+"/signalr", settings...)
}

// classicPage opens the page with the official client, which tells what it sees of a hub.
func classicPage(t *testing.T, addr, transport string) *chromium {
	t.Helper()
	c := startChromium(t)
	c.open(t, "http://"+addr+"/page")
	c.eval(t, `{ const c = window.connection = $.hubConnection("/signalr", { useDefaultPath: false }); c.error((e) => saw.push({ error: e.message }));
		const hub = window.hub = c.createHubProxy("Chat"); for (const name of ["welcome", "said", "tick"]) hub.on(name, (...args) => saw.push({ [name]: args }));
		c.reconnected(() => saw.push({ reconnected: true })); c.start({ transport: "`+transport+`" }).done(() => hub.invoke("Join", "red").done(() => saw.push({ joined: true }))); } "on"`)
	c.shows(t, `{"joined":true}`)
	return c
}

// shows waits until the page has seen something.
func (c *chromium) shows(t *testing.T, what string) {
	t.Helper()
	eventually(t, "the page to see "+what, func() bool { return strings.Contains(c.eval(t, "JSON.stringify(saw)"), what) })
}

func TestDialectSignalRClassic(t *testing.T) {
	t.Parallel()
	h := startHub(t, "signalrclassic", `{"keepAlive":300,"detailed":true}`)
	s := startSidecar(t, classicRoute(h.addr, "SUBSCRIBE=Chat.Join [\"red\"]\nStocks", `EVENT="\(topic // "").\($event // "")"`, "SEND=true", `HELLO=> Chat.Say ["hello"]`, "MAX_MESSAGE=4KiB")...)
	events := ask(t, s.addr, "HTTP/1.1", "/events", "")
	s.explains(t, "upstream connected")
	events.event(t, "Chat.welcome", `[]`)
	events.event(t, "Chat.said", "hello")
	page := classicPage(t, h.addr, "webSockets")
	h.invokes(t, "red", "tick", 1, map[string]any{"a": "é"})
	events.event(t, "Chat.tick", `{"a":"é"}`)
	page.shows(t, `{"tick":[{"a":"é"}]}`)
	for _, text := range []string{`Chat.Say ["one"]`, `{"H":"chat","M":"say","A":["two"]}`, `{"H":"Chat","M":"Echo","A":[{"b":1.50}],"I":"mine"}`, `Chat.Slow [7]`} {
		if !s.posts(text) {
			t.Errorf("%s is refused", text)
		}
	}
	for _, text := range []string{`Chat`, `Chat.Say {"a":1}`, `{"H":"Chat"}`} {
		if s.posts(text) {
			t.Errorf("%s is taken", text)
		}
	}
	page.shows(t, `{"said":["two"]}`)
	events.event(t, ".", `{"I":"mine","R":{"b":1.5}}`)
	s.posts(`Chat.Nothing`)
	s.explains(t, "what was invoked has failed: 'Nothing' method could not be resolved.")
	time.Sleep(1500 * time.Millisecond) // keep-alives
	if n := s.connects(); n != 1 {
		t.Errorf("%d connections", n)
	}
	// Both go on where they were.
	events.got.Reset()
	h.do(t, map[string]any{"do": "drop"}, nil)
	h.invokes(t, "red", "tick", 2, 3)
	events.event(t, "Chat.tick", "2")
	events.event(t, "Chat.tick", "3")
	page.shows(t, `{"tick":[3]}`)
	page.shows(t, `{"reconnected":true}`)
	if text := events.got.String(); strings.Contains(text, "stream.gap") || s.connects() != 2 {
		t.Errorf("%d connections: %s", s.connects(), text)
	}
	seen := h.classicSeen(t)
	if len(seen.Connected) != 2 || len(seen.Negotiations) != 2 || len(seen.Reconnected) != 1 {
		t.Errorf("%+v", seen)
	}
	// A message that is too large is a gap, and no more than that.
	h.invokes(t, "", "said", strings.Repeat("x", 5000))
	events.event(t, "stream.gap", gapEvent)
	h.invokes(t, "", "said", "small")
	events.event(t, "Chat.said", "small")

	// What the server cannot know any more is a gap, and SUBSCRIBE is asked for again.
	for n, does := range []string{"abort", "restart"} {
		events.got.Reset()
		h.do(t, map[string]any{"do": does}, nil)
		events.event(t, "stream.gap", gapEvent)
		events.event(t, "Chat.welcome", `[]`)
		eventually(t, "SUBSCRIBE to be asked for", func() bool { return s.connects() == 3+n })
		h.invokes(t, "red", "tick", does)
		events.event(t, "Chat.tick", does)
	}
}

// TestDialectSignalRClassicPersistent is about connections without hubs, and groups that carry any JSON.
func TestDialectSignalRClassicPersistent(t *testing.T) {
	t.Parallel()
	h := startHub(t, "signalrclassic", `{}`)
	s := startSidecar(t, hubRoute("signalr-classic", "ws://"+h.addr+"/echo?tenant=7", "SEND=true", `HELLO=> {"hello":1}`)...)
	events := ask(t, s.addr, "HTTP/1.0", "/events", "retry: ")
	s.explains(t, "upstream connected")
	h.do(t, map[string]any{"do": "broadcast", "values": []any{map[string]any{"H": "a", "M": "b", "A": []int{1}}, []int{1}, "text"}}, nil)
	events.event(t, "", `{"A":[1],"H":"a","M":"b"}`)
	events.event(t, "", `[1]`)
	if !s.posts("as it is") {
		t.Error("a text is refused")
	}
	events.event(t, "", `"as it is"`)
	seen := h.classicSeen(t)
	if url := seen.Upgrades[0].URL; !strings.Contains(url, "tenant=7") || strings.Contains(url, "connectionData") || !slices.Equal(seen.Received, []string{`{"hello":1}`, "as it is"}) {
		t.Errorf("%+v", seen)
	}
}

func TestDialectSignalRClassicRefusals(t *testing.T) {
	t.Parallel()
	h := startHub(t, "signalrclassic", `{"detailed":true}`)
	for name, r := range map[string]struct {
		path, subscribe string
		status          int
		says            string
	}{
		"hub exception": {"/signalr", "Chat.Closed", 403, "Chat.Closed: the market is closed"},
		"no method":     {"/signalr", "Chat.Join", 400, "'Join' method could not be resolved."},
		"exception":     {"/signalr", "Chat.Broken", 502, "Chat.Broken: Object reference not set"},
		"unauthorized":  {"/secure", "Chat", 401, "401"},
		"sorry":         {"/sorry", "Chat", 403, "negotiate: the hub is full"},
		"core":          {"/core", "Chat", 502, "write PROTOCOL=signalr"},
		"no WebSockets": {"/nows", "Chat", 502, "the server offers no WebSockets"},
		"no hub":        {"/signalr", "Nobody", 502, "500"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startSidecar(t, hubRoute("signalr-classic", "ws://"+h.addr+r.path, "SUBSCRIBE="+r.subscribe)...)
			if r.status != 502 {
				if got := s.firstStatus(t); got != r.status {
					t.Errorf("status %d, want %d", got, r.status)
				}
			} else {
				ask(t, s.addr, "HTTP/1.0", "/events", "retry: ")
			}
			s.explains(t, r.says)
		})
	}
	s := startSidecar(t, hubRoute("signalr", "ws://"+h.addr+"/signalr")...)
	ask(t, s.addr, "HTTP/1.0", "/events", "retry: ")
	s.explains(t, "write PROTOCOL=signalr-classic")
}

// TestDialectSignalRClassicMoved: the token of a redirect goes there, and what is the first host's does not.
func TestDialectSignalRClassicMoved(t *testing.T) {
	t.Parallel()
	second := startHub(t, "signalrclassic", `{}`)
	first := startHub(t, "signalrclassic", fmt.Sprintf(`{"moved":"http://%s/secure?hub=x"}`, second.addr))
	s := startSidecar(t, hubRoute("signalr-classic", "ws://"+first.addr+"/moved", "SUBSCRIBE=Chat", "HEADERS=Cookie: own=1\nX-Key: own\nAuthorization: Bearer own")...)
	events := ask(t, s.addr, "HTTP/1.0", "/events", "retry: ")
	events.event(t, "welcome", "[]")
	second.do(t, map[string]any{"do": "drop"}, nil)
	second.invokes(t, "", "said", "meanwhile")
	events.event(t, "said", `"meanwhile"`)
	if text := events.got.String(); strings.Contains(text, "stream.gap") {
		t.Error(text)
	}
	one, two := first.classicSeen(t), second.classicSeen(t)
	if len(one.Negotiations) != 1 || one.Negotiations[0].Authorization != "Bearer own" || one.Negotiations[0].Cookie != "own=1" || len(two.Upgrades) != 2 {
		t.Errorf("%+v\n%+v", one, two)
	}
	for _, got := range slices.Concat(two.Negotiations, two.Upgrades) {
		if got.Authorization != "Bearer good" || got.Cookie != "" || got.Key != "" || !strings.Contains(got.URL, "hub=x") {
			t.Errorf("%+v", got)
		}
	}
}

// TestDialectSignalRClassicCuts cuts connections in mid-frame again and again under load: each message arrives once and in the order of its topic, and no gap
// is said.
func TestDialectSignalRClassicCuts(t *testing.T) {
	t.Parallel()
	h := startHub(t, "signalrclassic", `{"buffer":1000000,"disconnectTimeout":600000}`)
	var after []int
	for range 8 {
		after = append(after, 1500+rand.IntN(6000)) // the first is ready by then, or another one
	}
	u := startUnsteady(t, h.addr, after...)
	s := startSidecar(t, classicRoute(u.addr, `SUBSCRIBE=Chat.Join ["red"]`)...)
	events := ask(t, s.addr, "HTTP/1.0", "/events", "retry: ")
	s.explains(t, "upstream connected")
	want := map[string][]string{}
	for round := 0; !u.done() || round < 20; round++ {
		for topic, group := range map[string]string{"red": "red", "all": ""} {
			var batch []any
			for range 1 + rand.IntN(30) {
				one := fmt.Sprint(topic, len(want[topic]))
				batch, want[topic] = append(batch, one), append(want[topic], fmt.Sprintf("data: %q", one))
			}
			h.invokes(t, group, "tick", batch...)
		}
		time.Sleep(10 * time.Millisecond)
	}
	for topic, lines := range want {
		events.until(t, lines[len(lines)-1]+"\n")
		var got []string
		for line := range strings.Lines(events.got.String()) {
			if line = strings.TrimSpace(line); strings.HasPrefix(line, `data: "`+topic) {
				got = append(got, line)
			}
		}
		if !slices.Equal(got, lines) {
			t.Errorf("%s: %d of %d, or out of order: %v", topic, len(got), len(lines), got)
		}
	}
	if n := s.connects(); n != 9 || strings.Contains(events.got.String(), "stream.gap") {
		t.Errorf("%d connections; a gap: %v", n, strings.Contains(events.got.String(), "stream.gap"))
	}
	if seen := h.classicSeen(t); len(seen.Connected) != 1 || len(seen.Negotiations) != 1 {
		t.Errorf("OnConnected was called for %d, of %d negotiations", len(seen.Connected), len(seen.Negotiations))
	}
}

// TestDialectSignalRClassicOverrun: what a server has let go of meanwhile is a gap, and what it has kept comes after it. Where it has kept all there is
// none, however large its ring.
func TestDialectSignalRClassicOverrun(t *testing.T) {
	t.Parallel()
	for _, buffer := range []int{1, 34, 38, 100} {
		t.Run(fmt.Sprint(buffer), func(t *testing.T) {
			t.Parallel()
			h := startHub(t, "signalrclassic", fmt.Sprintf(`{"buffer":%d}`, buffer))
			s := startSidecar(t, classicRoute(h.addr, "SUBSCRIBE=Chat")...)
			events := ask(t, s.addr, "HTTP/1.0", "/events", "retry: ")
			s.explains(t, "upstream connected")
			h.invokes(t, "", "said", "first")
			gaps := 0
			for missed := max(buffer, 32) - 3; missed < 2*max(buffer, 32); missed += 1 + max(buffer, 32)/12 {
				connects := s.connects()
				events.got.Reset()
				h.do(t, map[string]any{"do": "missed", "count": missed}, nil)
				eventually(t, "another connection", func() bool { return s.connects() > connects })
				h.invokes(t, "", "said", "last")
				events.event(t, "said", `"last"`)
				text := events.got.String()
				first := 0 // that has come
				for !strings.Contains(text, fmt.Sprintf("data: %d\n", first)) {
					first++
				}
				gap := strings.Index(text, "stream.gap")
				if (gap >= 0) != (first > 0) || gap > strings.Index(text, "event: said") {
					t.Errorf("%d missed, from %d on came, and a gap: %v", missed, first, gap >= 0)
				}
				for n := first; n < missed; n++ {
					if strings.Count(text, fmt.Sprintf("data: %d\n", n)) != 1 {
						t.Errorf("%d missed, and %d did not come once", missed, n)
					}
				}
				if gap >= 0 {
					gaps++
				}
			}
			if gaps == 0 {
				t.Error("nothing was lost")
			}
		})
	}
}
