package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sidestream/proxy/access"
	"sidestream/proxy/deliver"
	"sidestream/proxy/history"
)

// reload has s go by env, where the routes that are named have not changed.
func (s *sidecar) reload(t *testing.T, kept string, env ...string) {
	t.Helper()
	if err := s.Reload(s.next(t, kept, env...)); err != nil {
		t.Fatal(err)
	}
}

func (s *sidecar) next(t *testing.T, kept string, env ...string) Settings {
	t.Helper()
	c := configure(t, env...)
	for i, rc := range c.Routes {
		if old := s.table().named(rc.Name); slices.Contains(strings.Fields(kept), rc.Name) {
			c.Routes[i] = old.RouteSettings
		}
	}
	c.History = s.History
	return c
}

// route is the environment of a route of f: its events are those of the WebSocket with its name as the query.
func (f *feed) route(name, more string) (env []string) {
	upper := "SSE_ROUTE_" + strings.ToUpper(name) + "_"
	env = []string{upper + "PATH=/" + name, upper + "FROM=" + f.ws() + "/ws?" + name, upper + "RETRY=20ms"}
	for _, setting := range strings.Fields(more) {
		env = append(env, upper+setting)
	}
	return env
}

// Only what has changed is touched: a stays with its clients and its connection, b's come back to the new one, d's path is the service's, c is
// there.
func TestReload(t *testing.T) {
	t.Parallel()
	f := newFeed(t)
	f.answer = func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "legacy %s", r.URL.Path) }
	global := []string{"SSE_UPSTREAM=" + f.URL, "SSE_DRAIN=10s", "SSE_RESTART=1h"} // a busy machine may be late for its end, when all are cut
	s := serve(t, slices.Concat(global, f.route("a", ""), f.route("b", "HEARTBEAT=7s"), f.route("d", ""))...)
	a, b, d := s.get(t, "/a"), s.get(t, "/b"), s.get(t, "/d")
	place := ""
	for name, r := range map[string]*response{"a": a, "b": b, "d": d} {
		f.publish(t, name, "1")
		if e := r.wantData(t, "1"); name == "b" {
			place = e.id
		}
	}
	beside := s.get(t, "/a") // by another writer
	beside.wantOpen(t)
	was, dials := s.Routes()[0], f.dials.Load()
	s.reload(t, "a", slices.Concat(global, f.route("a", ""), f.route("b", "HEARTBEAT=8s"), f.route("c", ""))...)
	if now := s.Routes(); now[0] != was || len(now) != 3 || now[1].Heartbeat != 8*time.Second || now[2].Name != "c" {
		t.Fatalf("the routes are %v", now)
	}

	fresh, c := s.get(t, "/b"), s.get(t, "/c")
	f.publish(t, "c", "1")
	c.wantData(t, "1")
	eventually(t, "the new route has a connection of its own beside the old one's", func() bool { return f.dials.Load() == dials+2 })
	f.publish(t, "b", "2")
	fresh.wantData(t, "2")
	rest, err := b.rest() // within a minute: SSE_RESTART is not of reloads
	if !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(rest, "retry: 1") {
		t.Errorf("it was told %q, %v", rest, err)
	}
	back := s.get(t, "/b", "Last-Event-ID: "+place)
	back.wantGap(t, "restart", "null") // its id is of another life of the stream, and nobody knows what it has missed
	back.conn.Close()

	if rest, err := d.rest(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the route that is gone ends with %v: %q", err, rest)
	}
	if r := s.ask(t, "GET /d HTTP/1.1", "Accept: text/event-stream"); r.StatusCode != 200 || r.Header.Get("Content-Type") == "text/event-stream" {
		t.Errorf("its path answers %s as %s", r.Status, r.Header.Get("Content-Type"))
	}
	for i := range 3 {
		f.publish(t, "a", fmt.Sprint(i+2))
		a.wantData(t, fmt.Sprint(i+2))
		beside.wantData(t, fmt.Sprint(i+2))
	}
	if n := was.Clients.Clients.Load(); n != 2 {
		t.Errorf("%d clients are counted of the route that has not changed", n)
	}
	eventually(t, "what has changed has ended", func() bool {
		s.Proxy.reload.mu.Lock()
		defer s.Proxy.reload.mu.Unlock()
		f.mu.Lock()
		defer f.mu.Unlock()
		return len(s.Proxy.reload.leaving) == 0 && len(f.conns) == 3
	})
	if n := s.Left()[deliver.Reloaded]; n != 2 { // d's, which is no more, included
		t.Errorf("%d clients left for the reload", n)
	}
}

// As long as a client of what has changed is there, it misses nothing.
func TestReloadMissesNothing(t *testing.T) {
	f := newFeed(t)
	const drain = "SSE_DRAIN=1h" // over which it leaves at some time
	s := serve(t, append(f.route("b", "HEARTBEAT=7s"), drain)...)
	b := s.get(t, "/b")
	f.publish(t, "b", "1")
	b.wantData(t, "1")
	s.reload(t, "", append(f.route("b", "HEARTBEAT=8s"), drain)...)
	f.publish(t, "b", "2") // nobody has come to the new one yet
	b.wantData(t, "2")
	fresh := s.get(t, "/b")
	eventually(t, "there are two connections", func() bool { return f.dials.Load() == 2 })
	f.publish(t, "b", "3")
	fresh.wantData(t, "3")
	b.wantData(t, "3")
}

// reloadedWithHistory is a sidecar that keeps a history, whose route b has changed after its client had one event, at place. What is replaced has drain to end.
func reloadedWithHistory(t *testing.T, drain time.Duration) (f *feed, s *sidecar, b *response, place string) {
	t.Helper()
	f = newFeed(t)
	store, err := history.Settings{Dir: t.TempDir(), TTL: time.Hour}.Start(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	c := configure(t, f.route("b", "HEARTBEAT=7s")...)
	c.History, c.Drain = store, drain
	s = serveWith(t, c, slog.New(slog.DiscardHandler))
	b = s.get(t, "/b")
	f.publish(t, "b", "1")
	place = b.wantData(t, "1").id
	next := s.next(t, "", f.route("b", "HEARTBEAT=8s")...)
	next.Drain = drain
	if err := s.Reload(next); err != nil {
		t.Fatal(err)
	}
	return f, s, b, place
}

// Where a history is kept ids go on, and so do the events: the new route takes the old one's stream over once it has a client.
func TestReloadWithHistory(t *testing.T) {
	f, s, b, first := reloadedWithHistory(t, time.Hour)
	f.publish(t, "b", "2") // nobody has come to the new one yet
	place := b.wantData(t, "2")
	b.conn.Close()
	back := s.get(t, "/b", "Last-Event-ID: "+place.id)
	back.wantGap(t, "upstream", "null") // a feed that cannot say what it sent between two connections
	f.publish(t, "b", "3")
	back.wantData(t, "3")
	early := s.get(t, "/b", "Last-Event-ID: "+first)
	early.wantData(t, "2")
}

// The same where the old one's clients are sent away.
func TestReloadWithHistorySendsAway(t *testing.T) {
	f, s, b, place := reloadedWithHistory(t, time.Second)
	if rest, err := b.rest(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("it ends with %v: %q", err, rest)
	}
	back := s.get(t, "/b", "Last-Event-ID: "+place)
	back.wantGap(t, "upstream", "null")
	f.publish(t, "b", "2")
	back.wantData(t, "2")
}

// Eager routes start and stop with the configuration; readiness is a matter of the start alone.
func TestReloadEager(t *testing.T) {
	f := newFeed(t)
	s := serve(t, f.route("a", "EAGER=true")...)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); s.Eager(ctx) }()
	eventually(t, "a starts", func() bool { return f.dials.Load() == 1 && s.Ready() })
	s.reload(t, "a", slices.Concat(f.route("a", "EAGER=true"), f.route("b", "EAGER=true"))...)
	if !s.Ready() {
		t.Error("it is not ready for an eager route that is new")
	}
	eventually(t, "b starts", func() bool { return f.dials.Load() == 2 })
	s.reload(t, "b", f.route("b", "EAGER=true")...)
	open := func() int { f.mu.Lock(); defer f.mu.Unlock(); return len(f.conns) }
	eventually(t, "a stops", func() bool { return open() == 1 })
	s.reload(t, "", f.route("b", "EAGER=true HEARTBEAT=3s")...)
	eventually(t, "b starts again", func() bool { return f.dials.Load() == 3 && open() == 1 })
	cancel()
	<-ended
	eventually(t, "it stops", func() bool { return f.dials.Load() == 3 })
}

// A route that is taken out before it was tried, or even begun, is not waited for.
func TestReloadBeforeEager(t *testing.T) {
	f := newFeed(t)
	s := serve(t, f.route("a", "EAGER=true")...)
	if s.Ready() {
		t.Error("it is ready before its eager route is tried")
	}
	s.reload(t, "", f.route("b", "")...)
	if !s.Ready() {
		t.Error("it waits for a route that is no more")
	}
	s.reload(t, "", f.route("c", "EAGER=true")...) // readiness is a matter of the start alone
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); s.Eager(ctx) }()
	eventually(t, "c starts", func() bool { return f.dials.Load() == 1 })
	cancel()
	<-ended
	if n := s.untried.Load(); n != 0 {
		t.Errorf("%d are waited for", n)
	}
}

// What was revoked stays revoked where a route changes, and is revoked for clients that have not left yet.
func TestReloadKeepsRevocations(t *testing.T) {
	f := newFeed(t)
	var asked atomic.Int64
	f.answer = func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		w.Header().Set("X-User", r.Header.Get("Cookie"))
	}
	env := func(more string) []string {
		return append(f.route("a", more+" AUTH=forward AUTH_URL="+f.URL+" AUTH_CLAIMS=X-User"), "SSE_DRAIN=1h")
	}
	s := serve(t, env("HEARTBEAT=7s")...)
	joe := s.get(t, "/a", "Cookie: joe")
	joe.wantOpen(t)
	s.reload(t, "", env("HEARTBEAT=8s")...)
	if cut, err := s.Revoke(access.Revocation{Route: "a", Auth: map[string]string{"X-User": "joe"}}); cut != 1 || err != nil {
		t.Errorf("%d clients of the old route were cut, %v", cut, err)
	}
	if e := joe.next(t); e.name != "stream.refused" {
		t.Errorf("it was told %+v", e)
	}
}

// A sidecar that drains goes by what it went by.
func TestNoReloadWhileDraining(t *testing.T) {
	f := newFeed(t)
	s := serve(t, f.route("a", "")...)
	s.Drain(0)
	if err := s.Reload(s.next(t, "", f.route("b", "")...)); !errors.Is(err, ErrStopping) || s.Routes()[0].Name != "a" {
		t.Errorf("%v, and the route is %s", err, s.Routes()[0].Name)
	}
	s.Drain(time.Hour) // twice is once
}

// Bounds, origins and proxies count from then on.
func TestReloadGlobals(t *testing.T) {
	f := newFeed(t)
	s := serve(t, append(f.route("a", ""), "SSE_CORS_ORIGINS=https://one.example", "SSE_MAX_CLIENTS=1")...)
	one, two := "Origin: https://one.example", "Origin: https://two.example"
	first := s.get(t, "/a", one)
	first.wantOpen(t)
	if e := s.get(t, "/a").next(t); e.name != "stream.busy" {
		t.Errorf("over the bound it says %+v", e)
	}
	s.reload(t, "a", append(f.route("a", ""), "SSE_CORS_ORIGINS=https://two.example", "SSE_MAX_CLIENTS=3", "SSE_MAX_CLIENTS_PER_IP=1")...)
	second := s.get(t, "/a", two)
	second.wantOpen(t)
	if e := s.get(t, "/a", two).next(t); e.name != "stream.busy" {
		t.Errorf("over the bound of an address it says %+v", e)
	}
	if r := s.get(t, "/a", one); r.StatusCode != http.StatusForbidden {
		t.Errorf("an origin that is none any more gets %s", r.Status)
	}
	f.publish(t, "a", "1")
	first.wantData(t, "1")
}

// The bound of streams is that of pages with tunnels too.
func TestReloadBoundsOfPages(t *testing.T) {
	f := newFeed(t)
	env := append(f.route("a", ""), "SSE_UPSTREAM="+f.URL, "SSE_TUNNEL=/ws", "SSE_MAX_STREAMS=1")
	s := serve(t, env...)
	page := func(n int) *response {
		return s.get(t, fmt.Sprintf("%s?page=%s%d", tunnelPath, strings.Repeat("x", 16), n))
	}
	page(1).next(t)
	if e := page(2).next(t); e.name != "stream.busy" {
		t.Errorf("over the bound it says %+v", e)
	}
	env[len(env)-1] = "SSE_MAX_STREAMS=2"
	s.reload(t, "a", env...)
	if e := page(3).next(t); e.name == "stream.busy" {
		t.Errorf("under the new bound it says %+v", e)
	}
}

// Two never run the source of one stream: the old one's stops when the new one has a client, whose events both have then.
func TestReloadTakesOver(t *testing.T) {
	f, s, _, _ := reloadedWithHistory(t, time.Hour)
	s.get(t, "/b", "Last-Event-ID: 1-1").wantGap(t, "restart", "null")
	eventually(t, "the old connection is closed, and there is a new one", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.dials.Load() == 2 && len(f.conns) == 1
	})
}

// What was revoked stays revoked also where its route comes back later, or another one would admit what it admitted: for all of them, where
// no route was named.
func TestReloadRemembersRevocations(t *testing.T) {
	f := newFeed(t)
	jwt := " AUTH=jwt JWT_KEYS=secret:s3cret AUTH_CLAIMS=sub"
	a, b, c := f.route("a", jwt), f.route("b", jwt), f.route("c", "HEARTBEAT=8s"+jwt)
	s := serve(t, slices.Concat(f.route("c", ""), a, b)...)
	now := time.Now().Unix()
	joe := "Authorization: Bearer " + hs256("s3cret", map[string]any{"sub": "joe", "exp": now + 3600})
	ann := "Authorization: Bearer " + hs256("s3cret", map[string]any{"sub": "ann", "exp": now + 3600, "iat": now - 10})
	s.get(t, "/a", joe).wantOpen(t)
	s.get(t, "/a", ann).wantOpen(t)
	s.get(t, "/b", ann).wantOpen(t)
	for route, sub := range map[string]string{"": "joe", "A": "ann"} {
		if cut, err := s.Revoke(access.Revocation{Route: route, Auth: map[string]string{"sub": sub}}); cut != 1 || err != nil {
			t.Fatal(cut, err)
		}
	}
	s.heard([]byte(`{"revoke":{"route":"d","auth":{"sub":"ann"},"at":"` + time.Now().Format(time.RFC3339Nano) + `"}}`))
	s.reload(t, "b", slices.Concat(b, c)...)
	eventually(t, "a is no more", func() bool {
		s.Proxy.reload.mu.Lock()
		defer s.Proxy.reload.mu.Unlock()
		return !slices.ContainsFunc(s.every(), func(rt *Route) bool { return rt.Name == "a" })
	})
	s.reload(t, "b c", slices.Concat(a, b, c, f.route("d", jwt))...)
	for path, want := range map[string][2]int{"/a": {401, 401}, "/b": {401, 200}, "/c": {401, 200}, "/d": {401, 401}} {
		for i, who := range []string{joe, ann} {
			if got := s.get(t, path, who).StatusCode; got != want[i] {
				t.Errorf("%s %d: %d, want %d", path, i, got, want[i])
			}
		}
	}
}

// A token that was in use is revoked by itself, also where the route does not look any more at what it was revoked by.
func TestReloadForgetsClaims(t *testing.T) {
	f := newFeed(t)
	jwt := " AUTH=jwt JWT_KEYS=secret:s3cret AUTH_CLAIMS="
	s := serve(t, f.route("a", jwt+"sub,tenant")...)
	joe := "Authorization: Bearer " + hs256("s3cret", map[string]any{"sub": "joe", "tenant": "x", "exp": time.Now().Unix() + 3600})
	s.get(t, "/a", joe).wantOpen(t)
	if cut, err := s.Revoke(access.Revocation{Auth: map[string]string{"tenant": "x"}}); cut != 1 || err != nil {
		t.Fatal(cut, err)
	}
	s.reload(t, "", f.route("a", jwt+"sub")...)
	if got := s.get(t, "/a", joe).StatusCode; got != http.StatusUnauthorized {
		t.Error(got)
	}
}

// The same after two reloads, of which nobody has come to the first.
func TestReloadTwiceTakesOver(t *testing.T) {
	f := newFeed(t)
	store, err := history.Settings{Dir: t.TempDir(), TTL: time.Hour}.Start(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	c := configure(t, f.route("b", "HEARTBEAT=7s")...)
	c.History, c.Drain = store, time.Hour
	s := serveWith(t, c, slog.New(slog.DiscardHandler))
	b := s.get(t, "/b")
	f.publish(t, "b", "1")
	b.wantData(t, "1")
	for _, heartbeat := range []string{"8s", "9s"} {
		next := s.next(t, "", f.route("b", "HEARTBEAT="+heartbeat)...)
		next.Drain = time.Hour
		if err := s.Reload(next); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the one between has ended", func() bool {
		s.Proxy.reload.mu.Lock()
		defer s.Proxy.reload.mu.Unlock()
		return len(s.Proxy.reload.leaving) == 1
	})
	s.get(t, "/b", "Last-Event-ID: 1-1").wantGap(t, "restart", "null")
	eventually(t, "the old connection is closed, and there is a new one", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.dials.Load() == 2 && len(f.conns) == 1
	})
}

// Where the history is not the new route's, the old one's clients need its source until they have left.
func TestReloadWithoutHistory(t *testing.T) {
	f := newFeed(t)
	store, err := history.Settings{Dir: t.TempDir(), TTL: time.Hour}.Start(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	c := configure(t, f.route("b", "")...)
	c.History, c.Drain = store, time.Hour
	s := serveWith(t, c, slog.New(slog.DiscardHandler))
	b := s.get(t, "/b")
	f.publish(t, "b", "1")
	b.wantData(t, "1")
	next := s.next(t, "", f.route("b", "HISTORY=memory")...)
	next.Drain = time.Hour
	if err := s.Reload(next); err != nil {
		t.Fatal(err)
	}
	fresh := s.get(t, "/b")
	fresh.wantOpen(t)
	eventually(t, "there are two connections", func() bool { return f.dials.Load() == 2 })
	f.publish(t, "b", "2")
	fresh.wantData(t, "2")
	b.wantData(t, "2")
}
