package upstream

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// TestInstead checks which stream an old client would share, if it came over events: the one that a client of the route gets with the
// same values.
func TestInstead(t *testing.T) {
	for name, c := range map[string]struct {
		s      SourceSettings
		base   string
		target string // of the old client
		header []string
		events string // of the client of the route
		paths  map[string]string
		none   bool
	}{
		"nothing of the client":      {s: SourceSettings{From: "ws://h/ws"}, target: "/ws?v=7", events: "/"},
		"another path":               {s: SourceSettings{From: "ws://h/ws"}, target: "/ws2", none: true},
		"below a base":               {s: SourceSettings{From: "ws://h/app/ws"}, base: "/app", target: "/ws", events: "/"},
		"a value in the path":        {s: SourceSettings{From: "ws://h/jobs/{path.id}/ws"}, target: "/jobs/a%20b/ws", events: "/", paths: map[string]string{"id": "a b"}},
		"a part of a segment":        {s: SourceSettings{From: "ws://h/job-{path.id}.ws"}, target: "/job-7.ws", events: "/", paths: map[string]string{"id": "7"}},
		"a value in the query":       {s: SourceSettings{From: "ws://h/ws?v=1&t={query.token}"}, target: "/ws?x=9&t=a%2Bb&v=1", events: "/?token=a%2Bb"},
		"another value in the query": {s: SourceSettings{From: "ws://h/ws?v=1&t={query.token}"}, target: "/ws?v=2&t=a", none: true},
		"none where one is needed":   {s: SourceSettings{From: "ws://h/ws?t={query.token}"}, target: "/ws", none: true},
		"the whole query":            {s: SourceSettings{From: "ws://h/ws?{query}"}, target: "/ws?a=1&b=2", events: "/?a=1&b=2"},
		"a cookie in a header":       {s: SourceSettings{From: "ws://h/ws", Headers: "Cookie: sid={cookie.sid}"}, target: "/ws", header: []string{"Cookie", "a=1; sid=7"}, events: "/"},
		"a token in a header":        {s: SourceSettings{From: "ws://h/ws", Headers: "Authorization: Bearer {query.token}"}, target: "/ws", header: []string{"Authorization", "Bearer abc"}, events: "/?token=abc"},
		"forwarded":                  {s: SourceSettings{From: "ws://h/ws", Forward: []string{"Cookie"}}, target: "/ws", header: []string{"Cookie", "a=1; sid=7"}, events: "/"},
		"the same value twice":       {s: SourceSettings{From: "ws://h/{path.id}/ws?i={path.id}"}, target: "/7/ws?i=8", none: true},
		"a value of a frame":         {s: SourceSettings{From: "ws://h/ws", Hello: `{"user":"{query.user}"}`}, target: "/ws", none: true},
		"a default in a frame":       {s: SourceSettings{From: "ws://h/ws", Hello: `{"room":"{query.room:lobby}"}`}, target: "/ws?room=a", none: true},
		"a default in SUBSCRIBE":     {s: SourceSettings{From: "ws://h/ws", Protocol: "stomp", Subscribe: "/topic/{path.id:lobby}"}, target: "/ws", none: true},
		"a default in CONNECT":       {s: SourceSettings{From: "ws://h/ws", Protocol: "stomp", Subscribe: "/topic/a", Connect: "login:{query.user:guest}"}, target: "/ws", none: true},
		"a default in PING":          {s: SourceSettings{From: "ws://h/ws", Ping: "{query.beat:ping}", PingEvery: time.Second}, target: "/ws", none: true},
		"a default in TICKET":        {s: SourceSettings{From: "ws://h/ws", Ticket: "http://h/ticket?user={query.user:guest}", Dial: ".url"}, target: "/ws", none: true},
		"a default in both":          {s: SourceSettings{From: "ws://h/ws?room={query.room:lobby}", Hello: "{query.room:lobby}"}, target: "/ws", none: true},
		"a default of a claim":       {s: SourceSettings{From: "ws://h/ws", Headers: "X-User: {auth.sub:guest}", Claims: []string{"sub"}}, target: "/ws", none: true},
		"a default in the address":   {s: SourceSettings{From: "ws://h/ws?room={query.room:lobby}"}, target: "/ws", events: "/"},
		"a cookie in a frame":        {s: SourceSettings{From: "ws://h/ws", Hello: "{cookie.sid:none}"}, target: "/ws", header: []string{"Cookie", "sid=7"}, events: "/"},
		"a part of the whole query":  {s: SourceSettings{From: "ws://h/ws?{query}", Hello: "{query.room:lobby}"}, target: "/ws?room=a&b=2", events: "/?room=a&b=2"},
		"no part of the whole query": {s: SourceSettings{From: "ws://h/ws?{query}", Hello: "{query.room:lobby}"}, target: "/ws?b=2", none: true},
		"one that a frame has too":   {s: SourceSettings{From: "ws://h/ws?u={query.user}", Hello: `{"user":"{query.user}"}`}, target: "/ws?u=7", events: "/?user=7"},
		"Socket.IO":                  {s: SourceSettings{From: "ws://h", Protocol: "socket.io"}, target: "/socket.io/?EIO=4&transport=websocket&sid=x", events: "/"},
		"SockJS":                     {s: SourceSettings{From: "ws://h/echo", Protocol: "sockjs"}, target: "/echo/123/abcdef/websocket", events: "/"},
		"a Unix socket":              {s: SourceSettings{From: "http+unix:///run/a.sock:/api/{path.id}", Every: time.Second}, target: "/api/7", events: "/", paths: map[string]string{"id": "7"}},
	} {
		t.Run(name, func(t *testing.T) {
			c.s.PathNames = []string{"id"}
			if c.s.Mode == "" {
				c.s.Mode = ModeChanges
			}
			if c.s.Protocol == "" {
				c.s.Protocol = "raw"
			}
			c.s.MaxMessage, c.s.Binary, c.s.Method, c.s.Pages = 1<<20, "base64", "GET", 1
			rt, err := Compile(c.s)
			if err != nil {
				t.Fatal(err)
			}
			request := func(target string) *http.Request {
				r := httptest.NewRequest(http.MethodGet, target, nil)
				for i := 0; i < len(c.header); i += 2 {
					r.Header.Set(c.header[i], c.header[i+1])
				}
				return r
			}
			got, ok := rt.Instead(request(c.target), c.base)
			if ok == c.none {
				t.Fatalf("found %v", ok)
			}
			if c.none {
				return
			}
			want, err := rt.Expand(request(c.events), func(name string) string { return c.paths[name] })
			if err != nil {
				t.Fatal(err)
			}
			if got.Key != want.Key {
				t.Errorf("it is taken for another client: %v", got.shown)
			}
		})
	}
}

// TestInsteadCost checks that old clients that come again and again do not compile what is read backwards again: that made most of 239
// allocations.
func TestInsteadCost(t *testing.T) {
	rt, err := Compile(SourceSettings{From: "ws://h/{path.id}/ws?a={query.a}&b={query.b}", Protocol: "raw", MaxMessage: 1 << 20, PathNames: []string{"id"}})
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodGet, "/7/ws?a=1&b=2", nil)
	if _, ok := rt.Instead(r, ""); !ok {
		t.Fatal("it is nobody's")
	}
	if n := testing.AllocsPerRun(100, func() { rt.Instead(r, "") }); n > 120 {
		t.Errorf("%v allocations", n)
	}
}

// TestOverheardHears checks that of polls, and of dialects without ids, the client's side is not needed.
func TestOverheardHears(t *testing.T) {
	for name, c := range map[string]struct {
		s    SourceSettings
		want bool
	}{
		"a poll":   {SourceSettings{From: "http://h/ws", Every: time.Second}, false},
		"raw":      {SourceSettings{From: "ws://h/ws", Protocol: "raw"}, false},
		"with ids": {SourceSettings{From: "ws://h/ws", Protocol: "stomp", Subscribe: "/topic/a"}, true},
	} {
		c.s.MaxMessage, c.s.Binary = 1<<20, "base64"
		if got := overheard(t, c.s, "/ws").Hears(); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestOverheardListening checks when an old client can be compared with a stream.
func TestOverheardListening(t *testing.T) {
	bounds := SourceSettings{MaxMessage: 1 << 20, Binary: "base64"}
	poll, mqtt := bounds, bounds
	poll.From, poll.Every = "http://h/ws", time.Second
	if !overheard(t, poll, "/ws").Listening() {
		t.Error("a poll is not compared")
	}
	stomp := bounds
	stomp.From, stomp.Protocol, stomp.Subscribe = "ws://h/ws", "stomp", "/topic/a"
	o := overheard(t, stomp, "/ws")
	if o.Frame(t.Context(), time.Now(), []byte("CONNECTED\nversion:1.2\n\n\x00"), false); o.Listening() {
		t.Error("who has not subscribed is compared")
	}
	if o.Asked([]byte("SUBSCRIBE\nid:7\ndestination:/topic/a\n\n\x00"), false); !o.Listening() {
		t.Error("who has subscribed is not compared")
	}
	if o.Frame(t.Context(), time.Now(), []byte("ERROR\n\nno\x00"), false); !o.Over() || o.Listening() {
		t.Error("it is compared after the end")
	}
	mqtt.From, mqtt.Protocol, mqtt.Subscribe = "ws://h/ws", "mqtt", "a"
	o = overheard(t, mqtt, "/ws")
	if o.Asked([]byte("\x10\x0d\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x00"), true); !o.Over() {
		t.Error("another version is read")
	}
}

// overheard reads for a client that comes to target.
func overheard(t *testing.T, s SourceSettings, target string) *Overheard {
	t.Helper()
	rt, err := Compile(s)
	if err != nil {
		t.Fatal(err)
	}
	if !rt.Overhears() {
		t.Fatal("it cannot be overheard")
	}
	r := httptest.NewRequest(http.MethodGet, target, nil)
	q, ok := rt.Instead(r, "")
	if !ok {
		t.Fatal("it is nobody's")
	}
	return q.Overhear(r, "")
}

// TestOverheard checks what is read of what an old client is sent.
func TestOverheard(t *testing.T) {
	for name, c := range map[string]struct {
		s      SourceSettings
		target string
		frames []string
		want   string
	}{
		"raw":                           {SourceSettings{From: "ws://h/ws", Protocol: "raw", Select: `select(.a)`, Data: ".a"}, "/ws", []string{`{"a":1}`, `{"b":2}`, `nonsense`, `{"a":3}`}, "[ 1  3]"},
		"HELLO takes what answers it":   {SourceSettings{From: "ws://h/ws", Protocol: "raw", Hello: "> hi\n< .ok"}, "/ws", []string{`{"ok":true}`, `{"a":1}`}, `[ {"a":1}]`},
		"Socket.IO":                     {SourceSettings{From: "ws://h", Protocol: "socket.io"}, "/socket.io/?EIO=4&transport=websocket", []string{`0{"sid":"a","upgrades":[],"pingInterval":1000,"pingTimeout":1000}`, `40{"sid":"b"}`, `2`, `42["price",{"n":1}]`}, `[price {"n":1}]`},
		"Socket.IO after a long poll":   {SourceSettings{From: "ws://h", Protocol: "socket.io"}, "/socket.io/?EIO=4&transport=websocket&sid=a", []string{`3probe`, `42["price",{"n":1}]`, `42["price",{"n":2}]`}, `[price {"n":1} price {"n":2}]`},
		"Socket.IO with a namespace":    {SourceSettings{From: "ws://h", Protocol: "socket.io", Subscribe: "/prices"}, "/socket.io/?EIO=4&transport=websocket&sid=a", []string{`3probe`, `42/prices,["price",{"n":1}]`}, `[price {"n":1}]`},
		"SockJS":                        {SourceSettings{From: "ws://h/echo", Protocol: "sockjs"}, "/echo/1/a/websocket", []string{`o`, `h`, `a["x","y"]`}, `[ x  y]`},
		"nothing after what is refused": {SourceSettings{From: "ws://h/ws", Protocol: "raw", Hello: "! .error"}, "/ws", []string{`{"a":1}`, `{"error":1}`, `{"a":2}`}, `[ {"a":1}]`},
	} {
		t.Run(name, func(t *testing.T) {
			c.s.MaxMessage, c.s.Binary = 1<<20, "base64"
			o := overheard(t, c.s, c.target)
			var got []string
			for _, frame := range c.frames {
				for _, m := range o.Frame(t.Context(), time.Now(), []byte(frame), false) {
					got = append(got, m.Event+" "+string(m.Data))
				}
			}
			if fmt.Sprint(got) != c.want {
				t.Errorf("heard %v, want %s", got, c.want)
			}
		})
	}
}
