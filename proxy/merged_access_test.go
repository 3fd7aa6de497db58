package proxy

import (
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"sidestream/proxy/access"
	"sidestream/proxy/history"
)

// private are three routes of f, of which one is for everyone, one for each cookie, and one for whom a admits, and a route of all.
func private(f *feed, a *app, more ...string) []string {
	return append([]string{"SSE_RETRY=20ms", "SSE_DRAIN=300ms",
		"SSE_ROUTE_NEWS_PATH=/news", "SSE_ROUTE_NEWS_FROM=" + f.ws() + "/ws?news",
		"SSE_ROUTE_INBOX_PATH=/inbox", "SSE_ROUTE_INBOX_FROM=" + f.ws() + "/ws?inbox={cookie.s:nobody}",
		"SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM=" + f.ws() + "/ws?u={auth.X-User}", "SSE_ROUTE_A_AUTH=forward", "SSE_ROUTE_A_AUTH_URL=" + a.URL + "/auth",
		"SSE_ROUTE_A_AUTH_CLAIMS=X-User", "SSE_ROUTE_ALL_PATH=/all", "SSE_ROUTE_ALL_FROM=routes:news,inbox,a"}, more...)
}

// wantRefused reads one stream.refused.
func (r *response) wantRefused(t *testing.T, data string) {
	t.Helper()
	if e, err := r.tryNext(t); err != nil || e.name != "stream.refused" || e.data != data {
		t.Fatalf("got %+v, %v, want %s", e, err, data)
	}
}

// No user ever gets what is another's, whatever else they share; each part admits whom it would admit alone; and what is revoked ends.
func TestMergedAccess(t *testing.T) {
	f, a := newFeed(t), newApp(t, map[string]string{"s=1": "joe", "s=2": "ann", "s=4": "banned"})
	s := serve(t, private(f, a)...)
	for _, path := range []string{"/all", setOf("/news", "/inbox", "/a")} {
		label := map[string]string{"news": "news", "inbox": "inbox", "a": "a"}
		about := `"route":"a"`
		if path != "/all" {
			label = map[string]string{"news": "0", "inbox": "1", "a": "2"}
			about = `"from":"/a"`
		}
		joe, ann := s.get(t, path, "Cookie: s=1"), s.get(t, path, "Cookie: s=2")
		nobody, banned := s.get(t, path), s.get(t, path, "Cookie: s=4")
		nobody.wantRefused(t, `{"status":401,`+about+`}`)
		banned.wantRefused(t, `{"status":403,`+about+`}`)
		f.publish(t, "inbox=1", "for joe")
		joe.wantNamed(t, label["inbox"], "for joe")
		f.publish(t, "u=ann", "for ann")
		ann.wantNamed(t, label["a"], "for ann")
		f.publish(t, "inbox=nobody", "for nobody")
		nobody.wantNamed(t, label["inbox"], "for nobody")
		f.publish(t, "news", "for all")
		var last event
		for _, one := range []*response{joe, ann, nobody, banned} {
			last = one.wantNamed(t, label["news"], "for all")
		}
		if cut, err := s.Revoke(access.Revocation{Auth: map[string]string{"X-User": "joe"}}); err != nil || cut < 1 {
			t.Fatal(cut, err)
		}
		f.publish(t, "u=joe", "too late")
		if rest, err := joe.rest(); err == nil || strings.Contains(rest, "too late") || strings.Contains(rest, "refused") {
			t.Errorf("who was revoked is told %q, %v", rest, err)
		}
		a.set("s=1", "") // logged out
		back := s.get(t, path, "Cookie: s=1", "Last-Event-ID: "+last.id)
		back.wantRefused(t, `{"status":401,`+about+`}`)
		back.wantGap(t, "restart", "null")
		f.publish(t, "inbox=1", "still joe's")
		back.wantNamed(t, label["inbox"], "still joe's")
		f.publish(t, "u=ann", "to the end")
		ann.wantNamed(t, label["a"], "to the end")
		a.set("s=1", "joe")
		for _, one := range []*response{joe, ann, nobody, banned, back} {
			one.conn.Close()
		}
	}
}

// A part that its upstream refuses later ends the stream: its clients come back, and get what is left.
func TestMergedPartRefusedLater(t *testing.T) {
	f, a := newFeed(t), newApp(t, map[string]string{"s=1": "joe"})
	s := serve(t, private(f, a, `SSE_ROUTE_INBOX_DONE=.=="bye"`, "SSE_ROUTE_NEWS_CLOSE=4000-4999=refused:403", `SSE_ROUTE_NEWS_HELLO=! .=="no"`)...)
	path := setOf("/news", "/inbox", "/a")
	c := s.get(t, path, "Cookie: s=1")
	f.publish(t, "inbox=1", "hello")
	c.wantNamed(t, "1", "hello")
	f.publish(t, "inbox=1", `"bye"`)
	c.wantNamed(t, "1", `"bye"`)
	c.wantNamed(t, "stream.end", `{"from":"/inbox"}`)
	f.publish(t, "u=joe", "more")
	id := c.wantNamed(t, "2", "more").id
	f.verify = func(r *http.Request) int {
		if r.URL.RawQuery == "news" {
			return http.StatusForbidden
		}
		return 0
	}
	f.publish(t, "news", `"no"`)
	if rest, err := c.rest(); err == nil {
		t.Fatalf("it ends as complete: %q", rest)
	}
	back := s.get(t, path, "Cookie: s=1", "Last-Event-ID: "+id)
	back.wantRefused(t, `{"status":403,"from":"/news"}`)
	back.wantGap(t, "restart", "null")
	f.publish(t, "u=joe", "what is left")
	for e := back.next(t); e.data != "what is left"; e = back.next(t) {
		if e.name != "stream.end" && e.data != `"bye"` {
			t.Fatalf("got %+v", e)
		}
	}
}

// When none is left that is the answer, of a route its status.
func TestMergedNothingLeft(t *testing.T) {
	f, a := newFeed(t), newApp(t, nil)
	f.verify = func(*http.Request) int { return http.StatusNotFound }
	s := serve(t, private(f, a)...)
	if r := s.get(t, "/all"); r.StatusCode != 404 {
		t.Errorf("status %d", r.StatusCode)
	}
	r := s.get(t, setOf("/news", "/a", "//x", "/_sidestream/events?from=/news"))
	for _, want := range []string{`{"status":404,"from":"/news"}`, `{"status":401,"from":"/a"}`, `{"status":404,"from":"//x"}`, `{"status":404,"from":"/_sidestream/events?from=/news"}`} {
		r.wantRefused(t, want)
	}
	if rest, err := r.rest(); err != io.EOF || rest != "" {
		t.Errorf("%q, %v", rest, err)
	}
}

// A client for whom one part has no room, and that the others refuse, is told to come back: for good is only what all parts say.
func TestMergedRefusedAndFull(t *testing.T) {
	f, a := newFeed(t), newApp(t, map[string]string{"s=1": "joe"})
	s := serve(t, private(f, a, "SSE_ROUTE_PAIR_PATH=/pair", "SSE_ROUTE_PAIR_FROM=routes:a,news", "SSE_ROUTE_NEWS_MAX_CLIENTS=1")...)
	there := s.get(t, "/news")
	there.wantOpen(t)
	late := s.get(t, "/pair", "Last-Event-ID: 12-3")
	if text, err := late.rest(); late.StatusCode != http.StatusOK || !strings.Contains(text, "event: stream.busy\ndata: {}\nid: 12-3\n") {
		t.Errorf("%s: %q, %v", late.Status, text, err)
	}
	there.conn.Close()
	eventually(t, "there is room", func() bool {
		return !slices.ContainsFunc(s.Routes(), func(rt *Route) bool { return rt.Clients.Clients.Load() > 0 })
	})
	back := s.get(t, "/pair", "Last-Event-ID: 12-3")
	back.wantRefused(t, `{"status":401,"route":"a"}`)
	back.wantGap(t, "restart", "null")
}

// The limits of a part count for those who have it with others, and are given back; who has it not for want of room comes back before long.
func TestMergedLimits(t *testing.T) {
	f, a := newFeed(t), newApp(t, nil)
	s := serve(t, private(f, a, "SSE_ROUTE_NEWS_MAX_CLIENTS=2", "SSE_ROUTE_INBOX_MAX_CLIENTS_PER_STREAM=1")...)
	path := setOf("/news", "/inbox")
	one := s.get(t, path, "Cookie: s=1")
	one.wantOpen(t)
	two := s.get(t, path, "Cookie: s=1")
	two.wantRefused(t, `{"status":503,"from":"/inbox"}`)
	two.wantOpen(t)
	three := s.get(t, path, "Cookie: s=3")
	three.wantRefused(t, `{"status":503,"from":"/news"}`)
	three.wantOpen(t)
	if r := s.get(t, "/news"); !strings.Contains(headOf(t, r), "stream.busy") {
		t.Error("a place in the route is given twice")
	}
	for _, r := range []*response{one, two, three} {
		r.conn.Close()
	}
	eventually(t, "the places to be given back", func() bool {
		r := s.get(t, path, "Cookie: s=1")
		defer r.conn.Close()
		e, err := r.tryNext(t)
		return err == nil && e.name == "stream.open"
	})
}

func headOf(t *testing.T, r *response) string {
	e, err := r.tryNext(t)
	if err != nil {
		t.Fatal(err)
	}
	return e.name
}

// A ticket stands for what it was asked for with, in each part.
func TestMergedTickets(t *testing.T) {
	f, a := newFeed(t), newApp(t, map[string]string{"s=1": "joe"})
	s := serve(t, private(f, a, ticketKey)...)
	ticket, status := s.ticket(t, `{"paths":["/news","/inbox","/a","/all"]}`, "Cookie: s=1")
	if status != 200 {
		t.Fatal(ticket)
	}
	for path, label := range map[string]string{"/all?ticket=": "a", setOf("/news", "/inbox?x=1", "/a") + "&ticket=": "2"} {
		r := s.get(t, path+url.QueryEscape(ticket))
		r.wantOpen(t)
		f.publish(t, "u=joe", "for joe")
		r.wantNamed(t, label, "for joe")
	}
	r := s.get(t, setOf("/news", "/a")+"&ticket=x")
	r.wantRefused(t, `{"status":401,"from":"/news"}`)
	other, _ := s.ticket(t, `{"paths":["/news"]}`, "Cookie: s=1")
	r = s.get(t, setOf("/news", "/a")+"&ticket="+url.QueryEscape(other))
	r.wantRefused(t, `{"status":401,"from":"/a"}`)
	r.wantOpen(t)
}

// A long poll is told what there is at once, and then waits.
func TestSetPolled(t *testing.T) {
	f, a := newFeed(t), newApp(t, nil)
	s := serve(t, private(f, a)...)
	keep := s.get(t, setOf("/news", "/a"))
	keep.wantRefused(t, `{"status":401,"from":"/a"}`)
	id := keep.wantOpen(t)
	first, err := s.get(t, setOf("/news", "/a")+"&poll=1").rest()
	if want := "event: stream.refused\ndata: {\"status\":401,\"from\":\"/a\"}\n\nevent: stream.open\ndata: {}\nid: " + id + "\n\n"; err != io.EOF || first != want {
		t.Errorf("%q, %v", first, err)
	}
	f.publish(t, "news", "one")
	next := keep.wantNamed(t, "0", "one").id
	if text, err := s.get(t, setOf("/news", "/a")+"&poll=1", "Last-Event-ID: "+id).rest(); err != io.EOF || text != "event: 0\ndata: one\nid: "+next+"\n\n" {
		t.Errorf("%q, %v", text, err)
	}
}

// Pages of other origins ask as for any route.
func TestSetOrigins(t *testing.T) {
	f, a := newFeed(t), newApp(t, nil)
	s := serve(t, private(f, a, "SSE_CORS_ORIGINS=https://app.example")...)
	if r := s.get(t, setOf("/news"), "Origin: https://evil.example"); r.StatusCode != 403 {
		t.Errorf("status %d", r.StatusCode)
	}
	r := s.get(t, setOf("/news"), "Origin: https://app.example")
	if r.StatusCode != 200 || r.Header.Get("Access-Control-Allow-Origin") != "https://app.example" {
		t.Errorf("status %d, %v", r.StatusCode, r.Header)
	}
	r.wantOpen(t)
	pre := s.ask(t, "OPTIONS "+setPath+" HTTP/1.1", "Origin: https://app.example", "Access-Control-Request-Method: GET")
	if pre.StatusCode != 204 {
		t.Errorf("preflight: %d", pre.StatusCode)
	}
	if r := s.ask(t, "POST "+setPath+" HTTP/1.1", "Content-Length: 0"); r.StatusCode != 405 {
		t.Errorf("POST: %d", r.StatusCode)
	}
}

// A reload that changes a part sends the clients of what it is a part of to the new one; others stay.
func TestMergedReload(t *testing.T) {
	f := newFeed(t)
	global := []string{"SSE_DRAIN=300ms", "SSE_ROUTE_ALL_PATH=/all", "SSE_ROUTE_ALL_FROM=routes:a,b", "SSE_ROUTE_ALL_RETRY=20ms"}
	s := serve(t, slices.Concat(global, f.route("a", ""), f.route("b", ""))...)
	all, set, other := s.get(t, "/all"), s.get(t, setOf("/a", "/b")), s.get(t, setOf("/a"))
	for _, r := range []*response{all, set, other} {
		r.wantOpen(t)
	}
	s.reload(t, "a", slices.Concat(global, f.route("a", ""), f.route("b", "EVENT=\"new\""))...)
	for name, r := range map[string]*response{"the route": all, "the set": set} {
		if rest, err := r.rest(); err == nil {
			t.Errorf("%s ends as complete: %q", name, rest)
		}
	}
	all, set = s.get(t, "/all"), s.get(t, setOf("/a", "/b"))
	all.wantOpen(t)
	set.wantOpen(t)
	f.publish(t, "b", "1")
	all.wantNamed(t, "new", "1")
	set.wantNamed(t, "1:new", "1")
	f.publish(t, "a", "2")
	other.wantNamed(t, "0", "2")
}

// With a history a merged route goes on where it stopped: who comes back after a restart gets of each part what came until then, and hears only of the parts that
// may have missed something.
func TestMergedHistory(t *testing.T) {
	f := newFeed(t)
	f.answer = answers(`[{"n":1},{"n":2}]`)
	env := []string{"SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM=" + f.ws() + "/ws?a", "SSE_ROUTE_L_PATH=/l", "SSE_ROUTE_L_FROM=" + f.URL + "/l", "SSE_ROUTE_L_MODE=items",
		"SSE_ROUTE_L_EVERY=20ms", "SSE_ROUTE_ALL_PATH=/all", "SSE_ROUTE_ALL_FROM=routes:a,l"}
	dir := t.TempDir()
	start := func() *sidecar {
		store, err := history.Settings{Dir: dir, TTL: time.Hour}.Start(slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		c := configure(t, env...)
		c.History = store
		return serveWith(t, c, slog.New(slog.DiscardHandler))
	}
	s := start()
	c := s.get(t, "/all")
	c.wantOpen(t)
	c.wantNamed(t, "l", `{"n":2}`)
	f.publish(t, "a", "1")
	id := c.wantNamed(t, "a", "1").id
	f.mu.Lock()
	f.answer = answers(`[{"n":1},{"n":2},{"n":3}]`)
	f.mu.Unlock()
	c.wantNamed(t, "l", `{"n":3}`)
	f.publish(t, "a", "2")
	c.wantNamed(t, "a", "2")
	s.server.Close()
	s.Close()
	f.cut()
	f.mu.Lock()
	f.answer = answers(`[{"n":1},{"n":2},{"n":3},{"n":4}]`)
	f.mu.Unlock()
	s = start()
	c = s.get(t, "/all", "Last-Event-ID: "+id)
	c.wantNamed(t, "l", `{"n":3}`)
	c.wantNamed(t, "a", "2")
	f.publish(t, "a", "3")
	rest := map[string]int{}
	for range 3 {
		e := c.next(t)
		rest[e.name+" "+e.data]++
	}
	for _, want := range []string{`l {"n":4}`, `stream.gap {"reason":"upstream","missed":null,"route":"a"}`, "a 3"} {
		if rest[want] != 1 {
			t.Errorf("no %s in %v", want, rest)
		}
	}
}
