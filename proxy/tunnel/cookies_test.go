package tunnel

import (
	"net/http"
	"slices"
	"testing"
	"time"
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
		if got := afterwards(c.had, c.lines, now); !slices.Equal(got, c.want) {
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
