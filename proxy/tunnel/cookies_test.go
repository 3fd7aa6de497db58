package tunnel

import (
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"
	"weak"

	"github.com/coder/websocket"

	"sidestream/proxy/stream"
)

func TestAfterwards(t *testing.T) {
	now := time.Date(2026, 11, 28, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct{ had, lines, want []string }{
		{[]string{"a=1", "b=2"}, []string{"a=3; Path=/; HttpOnly"}, []string{"b=2", "a=3"}},
		{[]string{"a=1"}, []string{`new="x y"; Path=/`}, []string{"a=1", `new="x y"`}},
		{[]string{"a=1"}, []string{"a=2; Path=/ws", "b=1; Path=/_sidestream/tunnel/ws"}, []string{"a=1"}}, // do not come along
		{[]string{"a=1"}, []string{"a=2; Path=/_sidestream", "b=1; Path=/_sidestream/tunnel"}, []string{"a=2", "b=1"}},
		{[]string{"a=1", "b=1"}, []string{"a=; Max-Age=0; Path=/", "b=; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Path=/"}, nil},
		{[]string{"a=1"}, []string{"nonsense", ""}, []string{"a=1"}},
		{[]string{"a=1"}, []string{`a={"b":"c, d"}; Path=/; HttpOnly`, `s@x=\\; path=/`}, []string{`a={"b":"c, d"}`, `s@x=\\`}}, // as browsers take them
		{[]string{"a=1"}, []string{"a=2; Max-Age=60; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Path=/"}, []string{"a=2"}},
		{[]string{"a=1"}, []string{" a = 2 ; Path=/"}, []string{"a=2"}},
	} {
		if got := afterwards(c.had, c.lines, now, tunnelPath); !slices.Equal(got, c.want) {
			t.Errorf("%q and %q make %q, want %q", c.had, c.lines, got, c.want)
		}
	}
}

func TestWithPath(t *testing.T) {
	for target, want := range map[string]string{"/ws": "/", "/a/b/ws?x=/y/": "/a/b", "/a/": "/a", "/": "/"} {
		if got := withPath([]string{"a=1; HttpOnly", "b=2; path=/x", `c={"d":1}`}, target); !slices.Equal(got, []string{"a=1; HttpOnly; Path=" + want, "b=2; path=/x", `c={"d":1}; Path=` + want}) {
			t.Errorf("%s: %q", target, got)
		}
	}
}

// TestAPageIsItsCookies in whatever order, and whoever else has its id is somebody else.
func TestAPageIsItsCookies(t *testing.T) {
	key := func(cookie, authorization string) pageKey {
		r := &http.Request{Header: http.Header{"Cookie": {cookie}, "Authorization": {authorization}}}
		return identity("id", cookiesOf(r), r)
	}
	if key("a=1; b=2", "") != key("b=2; a=1", "") {
		t.Error("the order of cookies counts")
	}
	for _, other := range []pageKey{key("a=1", ""), key("a=1; b=3", ""), key("a=1; b=2; c=3", ""), key("a=1; b=2", "Bearer x"), key("a=1,b=2", "")} {
		if other == key("a=1; b=2", "") {
			t.Error("others have the same key")
		}
	}
}

// TestAPageWithCookiesIsOne, whatever number of sets of cookies it is known by.
func TestAPageWithCookiesIsOne(t *testing.T) {
	bubble(t, nil, (*world).listen, func(w *world) {
		c := w.enter()
		defer c.Leave()
		if status := w.post("/cookie", `"tunnel":1,"open":[]`); status != 202 {
			t.Fatal(status)
		}
		if pages, tunnels := w.Count(); pages != 1 || tunnels != 1 {
			t.Errorf("%d pages with %d tunnels, want one of each", pages, tunnels)
		}
	})
}

// TestOpenIsAnsweredAgain, when the first answer was lost, even if the tunnel has ended: its cookies, and its last messages, are still to come.
func TestOpenIsAnsweredAgain(t *testing.T) {
	bubble(t, nil, func(_ *world, ws *websocket.Conn) { ws.Close(websocket.StatusNormalClosure, "that was all") }, func(w *world) {
		c := w.enter()
		defer c.Leave()
		for try := range 3 {
			if status := w.post("/cookie", `"tunnel":1,"open":[]`); status != 202 {
				t.Errorf("try %d: %d, want 202", try+1, status)
			}
			synctest.Wait()
		}
		if n := w.Stats.Opened.Load(); n != 1 {
			t.Errorf("opened %d times, want once", n)
		}
	})
}

// TestAPageIsKnownByCookiesOfSeveralAnswers: those of tunnels that were opened at once reach the browser in any order.
func TestAPageIsKnownByCookiesOfSeveralAnswers(t *testing.T) {
	ps := New(Settings{Pages: stream.NewLimit(10), Window: 1 << 20})
	r := &http.Request{Header: http.Header{"Cookie": {"s=1"}}}
	p, err := ps.enter("id", r)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b", "c"} {
		p.know("id", r, []string{name + "=1; Path=/"})
	}
	for cookie, want := range map[string]bool{"s=1": true, "s=1; b=1": true, "s=1; c=1; a=1": true, "c=1; b=1; a=1; s=1": true, "a=1": false, "s=2; a=1": false, "s=1; a=2": false} {
		found, err := ps.find(header{Page: "id"}, &http.Request{Header: http.Header{"Cookie": {cookie}}})
		if (found == p && err == nil) != want {
			t.Errorf("with %q: found %v, want %v", cookie, err == nil, want)
		}
	}
	for n := range 3 * maxKeys {
		p.know("id", r, []string{"n=" + strconv.Itoa(n) + "; Path=/"})
	}
	if len(p.keys) > maxKeys || len(ps.byKey) != len(p.keys) {
		t.Errorf("%d keys, %d in all; want at most %d", len(p.keys), len(ps.byKey), maxKeys)
	}
	ps.Close()
	if len(ps.byKey) != 0 {
		t.Errorf("%d keys are left", len(ps.byKey))
	}
}

// TestCookiesOfTheOneBefore reach the upstream with the next WebSocket, where a browser would have sent them.
func TestCookiesOfTheOneBefore(t *testing.T) {
	p := newPage(New(Settings{Pages: stream.NewLimit(1), Window: 1 << 20}), known{})
	defer p.linger.Stop()
	p.learn([]string{"old=1; Path=/"})
	for _, c := range []struct{ line, host, proto, had, want string }{
		{"s=2; Path=/", "h", "", "s=1; a=1", "a=1; s=2"},
		{"s=2; Path=/ws", "h", "", "", "s=2"},
		{"s=2; Path=/w", "h", "", "a=1", "a=1"},
		{"s=2; Path=/; Secure", "h", "", "a=1", "a=1"},
		{"s=2; Path=/; Secure", "h", "https", "a=1", "a=1; s=2"},
		{"s=2; Path=/; Domain=example.com", "www.example.com:81", "", "a=1", "a=1; s=2"},
		{"s=2; Path=/; Domain=example.com", "badexample.com", "", "a=1", "a=1"},
		{"a=; Path=/; Max-Age=0", "h", "", "a=1", ""},
	} {
		tun := newTunnel(p, 1, "/ws?x=1")
		tun.cookiesSeen = p.cookies
		p.learn([]string{c.line})
		in := &http.Request{RequestURI: "/ws?x=1", Host: c.host, Header: http.Header{}}
		if c.had != "" {
			in.Header.Set("Cookie", c.had)
		}
		if c.proto != "" {
			in.Header.Set("X-Forwarded-Proto", c.proto)
		}
		if tun.catchUp(in); in.Header.Get("Cookie") != c.want {
			t.Errorf("%+v: came with %q", c, in.Header.Get("Cookie"))
		}
	}
	for range 3 * maxLines {
		p.learn([]string{"x=1"})
	}
	if len(p.given) != maxLines {
		t.Errorf("%d lines are kept", len(p.given))
	}
}

// TestATunnelKeepsNoTarget: it may have as many bytes as a head, and a page remembers its tunnels when they have ended.
func TestATunnelKeepsNoTarget(t *testing.T) {
	bubble(t, nil, (*world).listen, func(w *world) {
		c := w.enter()
		defer c.Leave()
		target := "/a?" + strings.Repeat("x", 60<<10)
		kept := weak.Make(unsafe.StringData(target))
		if status := w.post(target, `"tunnel":1,"open":[]`); status != 202 {
			t.Fatal(status)
		}
		synctest.Wait() // it is open, and said to be
		if status := w.post(target+"y", `"tunnel":1,"seq":1`); status != 404 {
			t.Errorf("another target: answered %d", status)
		}
		if status := w.post(target, `"tunnel":1,"seq":1`, "tone"); status != 204 {
			t.Errorf("the same target: answered %d", status)
		}
		target = ""
		synctest.Wait()
		runtime.GC()
		if kept.Value() != nil {
			t.Error("the tunnel keeps its target")
		}
	})
}

func TestCookiesAreBounded(t *testing.T) {
	lines := append([]string{strings.Repeat("x", maxCookie+1)}, slices.Repeat([]string{"a=1"}, 3*maxCookies)...)
	if got := bounded(lines); len(got) != maxCookies-1 || got[0] != "a=1" {
		t.Errorf("%d lines are handed on", len(got))
	}
	if got := bounded(nil); len(got) != 0 {
		t.Errorf("%q of none", got)
	}
}
