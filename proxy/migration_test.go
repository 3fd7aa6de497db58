package proxy

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"sidestream/proxy/migrate"
)

// migrationOf is what the report has of a path, in short.
func (s *sidecar) migrationOf(path string) string {
	for _, m := range s.Migration().Paths {
		if m.Path == path {
			last := "never"
			if m.Last != nil {
				last = m.Last.Page + "|" + m.Last.Browser
			}
			var routes []string
			for _, r := range m.Routes {
				routes = append(routes, r.Name)
			}
			return fmt.Sprintf("ws %d poll %d sse %d tunnel %d, old %d new %d, last %s, %s, routes %v", m.Clients[migrate.WebSocket], m.Clients[migrate.Poll],
				m.Clients[migrate.SSE], m.Clients[migrate.Tunnel], m.Old, m.New, last, m.State, routes)
		}
	}
	return "unknown"
}

func (s *sidecar) wantMigration(t *testing.T, path, want string) {
	t.Helper()
	eventually(t, path+" is "+want+", and not "+s.migrationOf(path), func() bool { return s.migrationOf(path) == want })
}

// dialOld connects as an old client does.
func (s *sidecar) dialOld(t *testing.T, path string, head http.Header) *websocket.Conn {
	t.Helper()
	c, _, err := websocket.Dial(t.Context(), "ws://"+s.addr+path, &websocket.DialOptions{HTTPHeader: head})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.CloseNow() })
	return c
}

// TestMigration checks who is counted where: old clients on the path that the route replaces, on the route too, and those of paths that no
// route replaces.
func TestMigration(t *testing.T) {
	f := newFeed(t)
	f.answer = func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, "{}")
	}
	s := serve(t, "SSE_UPSTREAM="+f.URL, "SSE_TUNNEL=/", "SSE_ROUTE_PRICES_PATH=/events/prices", "SSE_ROUTE_PRICES_FROM="+f.ws()+"/ws", "SSE_ROUTE_PRICES_REPLACES=/ws,/api/prices",
		"SSE_ROUTE_JOB_PATH=/events/jobs/{id}", "SSE_ROUTE_JOB_FROM="+f.ws()+"/jobs/{path.id}")
	s.wantMigration(t, "/ws", "ws 0 poll 0 sse 0 tunnel 0, old 0 new 0, last never, waiting, routes [prices]")
	s.wantMigration(t, "/jobs/{2}", "ws 0 poll 0 sse 0 tunnel 0, old 0 new 0, last never, waiting, routes [job]")
	old := s.dialOld(t, "/ws?x=1", http.Header{"Origin": {"http://" + s.addr}, "User-Agent": {"Mozilla/5.0 Firefox/130"}})
	s.wantMigration(t, "/ws", "ws 1 poll 0 sse 0 tunnel 0, old 1 new 0, last "+s.addr+"|Firefox, in use, routes [prices]")
	if n := s.Routes()[1].WebSockets.Load(); n != 1 {
		t.Errorf("the route that replaces /ws counts %d WebSockets", n)
	}
	s.dialOld(t, "/jobs/7", nil)
	s.wantMigration(t, "/jobs/{2}", "ws 1 poll 0 sse 0 tunnel 0, old 1 new 0, last |Go, in use, routes [job]")
	s.dialOld(t, "/else/12/ws", nil)
	s.wantMigration(t, "/else/{id}/ws", "ws 1 poll 0 sse 0 tunnel 0, old 1 new 0, last |Go, in use, routes []")
	s.ask(t, "GET /api/prices?since=4 HTTP/1.1", "Referer: http://app/page/4711?token=secret", "User-Agent: curl/8").Body.Close()
	s.wantMigration(t, "/api/prices", "ws 0 poll 1 sse 0 tunnel 0, old 1 new 0, last /page/{id}|curl, in use, routes [prices]")
	s.get(t, "/events/prices")
	s.wantMigration(t, "/api/prices", "ws 0 poll 1 sse 0 tunnel 0, old 1 new 1, last /page/{id}|curl, in use, routes [prices]")
	s.wantMigration(t, "/events/prices", "ws 0 poll 0 sse 1 tunnel 0, old 0 new 1, last never, , routes [prices]")
	old.Close(websocket.StatusNormalClosure, "")
	s.wantMigration(t, "/ws", "ws 0 poll 0 sse 0 tunnel 0, old 0 new 1, last "+s.addr+"|Firefox, waiting, routes [prices]")
	text, err := json.Marshal(s.Migration())
	if err != nil || bytes.Contains(text, []byte("secret")) || bytes.Contains(text, []byte("/4711")) {
		t.Errorf("the report tells %s, %v", text, err)
	}
}

// TestMigrationOfWhatWasThere checks that a route that is made for a path takes over what is known of it: who is there, who was, and who may have been.
func TestMigrationOfWhatWasThere(t *testing.T) {
	f := newFeed(t)
	f.answer = func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, "{}")
	}
	s := serve(t, "SSE_UPSTREAM="+f.URL)
	lobby := s.dialOld(t, "/rooms/lobby/ws", http.Header{"User-Agent": {"curl/8"}})
	s.dialOld(t, "/rooms/4711/ws", http.Header{"User-Agent": {"curl/8"}})
	gone := s.dialOld(t, "/jobs/4711", nil)
	s.wantMigration(t, "/rooms/lobby/ws", "ws 1 poll 0 sse 0 tunnel 0, old 1 new 0, last |curl, in use, routes []")
	gone.Close(websocket.StatusNormalClosure, "")
	s.wantMigration(t, "/jobs/{id}", "ws 0 poll 0 sse 0 tunnel 0, old 0 new 0, last |Go, waiting, routes []")

	s.reload(t, "", "SSE_UPSTREAM="+f.URL, "SSE_ROUTE_ROOM_PATH=/events/rooms/{id}", "SSE_ROUTE_ROOM_FROM="+f.ws()+"/rooms/{path.id}/ws",
		"SSE_ROUTE_JOB_PATH=/events/job", "SSE_ROUTE_JOB_FROM="+f.ws()+"/jobs/17")
	s.wantMigration(t, "/rooms/{2}/ws", "ws 2 poll 0 sse 0 tunnel 0, old 2 new 0, last |curl, in use, routes [room]")
	s.wantMigration(t, "/rooms/lobby/ws", "unknown")
	s.wantMigration(t, "/rooms/{id}/ws", "unknown")
	for _, c := range s.MigrationCounts() {
		if c.Transport == migrate.WebSocket && strings.HasPrefix(c.Path, "/rooms/") && (c.Path != "/rooms/{2}/ws" || c.Clients != 2 || c.Total != 2) {
			t.Errorf("the metrics have %+v", c)
		}
	}
	for _, m := range s.Migration().Paths {
		if m.Path == "/rooms/{2}/ws" && (len(m.Seen) != 1 || m.Seen[0].Path != m.Path) {
			t.Errorf("seen: %+v", m.Seen)
		}
		if m.Path == "/jobs/17" && (m.Last != nil || !m.doubt.After(s.migration.Since())) {
			t.Errorf("who was at /jobs/{id} may have been at /jobs/17: %+v", m)
		}
	}
	lobby.Close(websocket.StatusNormalClosure, "")
	s.wantMigration(t, "/rooms/{2}/ws", "ws 1 poll 0 sse 0 tunnel 0, old 1 new 0, last |curl, in use, routes [room]")
	s.reload(t, "", "SSE_UPSTREAM="+f.URL)
	s.wantMigration(t, "/rooms/{id}/ws", "ws 1 poll 0 sse 0 tunnel 0, old 1 new 0, last |curl, in use, routes []")
}

// TestRouteThatIsGone checks that a route that is removed has no clients any more.
func TestRouteThatIsGone(t *testing.T) {
	f := newFeed(t)
	s := serve(t, append(f.route("a", ""), f.route("b", "")...)...)
	s.get(t, "/a").wantOpen(t)
	s.get(t, "/b").wantOpen(t)
	clients := func() string {
		var all []string
		for _, c := range s.MigrationCounts() {
			all = append(all, fmt.Sprintf("%s %s %d", c.Path, c.Transport, c.Clients))
		}
		return strings.Join(all, ", ")
	}
	if got := clients(); got != "/a sse 1, /b sse 1" {
		t.Errorf("before: %s", got)
	}
	s.reload(t, "b", f.route("b", "")...)
	if got := clients(); got != "/a sse 0, /b sse 1" {
		t.Errorf("after: %s", got)
	}
}

// TestNoPoll checks what is none.
func TestNoPoll(t *testing.T) {
	f := newFeed(t)
	f.answer = func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) }
	s := serve(t, "SSE_UPSTREAM="+f.URL, "SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM="+f.URL+"/api/a")
	for _, ask := range [][]string{{"GET /api/a HTTP/1.1"}, {"POST /api/a HTTP/1.1", "Content-Length: 0"}, {"GET /api/a HTTP/1.1", "Sec-Fetch-Dest: document"}} {
		s.ask(t, ask[0], ask[1:]...).Body.Close()
	}
	s.wantMigration(t, "/api/a", "ws 0 poll 0 sse 0 tunnel 0, old 0 new 0, last never, waiting, routes [a]")
}

// TestOldWaysToAsk checks that whatever asks on a path that a route replaces is an old client: a script, a frame, a WebSocket that the service refuses; a
// page that is opened there is not.
func TestOldWaysToAsk(t *testing.T) {
	f := newFeed(t)
	f.answer = func(http.ResponseWriter, *http.Request) {}
	var env []string
	for _, name := range []string{"script", "frame", "page", "socket"} {
		upper := "SSE_ROUTE_" + strings.ToUpper(name) + "_"
		env = append(env, upper+"PATH=/events/"+name, upper+"FROM="+f.URL+"/"+name)
	}
	s := serve(t, append(env, "SSE_UPSTREAM="+f.URL)...)
	s.ask(t, "GET /script?callback=f HTTP/1.1", "Sec-Fetch-Dest: script", "User-Agent: curl/8").Body.Close()
	s.ask(t, "GET /frame HTTP/1.1", "Sec-Fetch-Dest: iframe", "User-Agent: curl/8").Body.Close()
	s.ask(t, "GET /page HTTP/1.1", "Sec-Fetch-Dest: document", "User-Agent: curl/8").Body.Close()
	refused := s.ask(t, "GET /socket HTTP/1.1", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 12", "User-Agent: curl/8")
	if refused.StatusCode < 400 {
		t.Errorf("the service takes an old version: %s", refused.Status)
	}
	s.wantMigration(t, "/script", "ws 0 poll 1 sse 0 tunnel 0, old 1 new 0, last |curl, in use, routes [script]")
	s.wantMigration(t, "/frame", "ws 0 poll 1 sse 0 tunnel 0, old 1 new 0, last |curl, in use, routes [frame]")
	s.wantMigration(t, "/page", "ws 0 poll 0 sse 0 tunnel 0, old 0 new 0, last never, waiting, routes [page]")
	s.wantMigration(t, "/socket", "ws 0 poll 0 sse 0 tunnel 0, old 0 new 0, last |curl, waiting, routes [socket]")
	for _, m := range s.Migration().Paths {
		if m.Path == "/socket" && m.Last.Transport != migrate.WebSocket {
			t.Errorf("who asked for a WebSocket: %+v", m.Last)
		}
	}
}

// TestJudge checks when a path is safe to switch off.
func TestJudge(t *testing.T) {
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	day := 24 * time.Hour
	for name, c := range map[string]struct {
		since time.Duration // before now
		last  time.Duration // before now; 0: never
		doubt time.Duration // before now; 0: none
		old   int
		want  string
	}{
		"in use":                       {30 * day, day, 0, 1, InUse},
		"one was there yesterday":      {30 * day, day, 0, 0, Waiting},
		"none for seven days":          {30 * day, 7 * day, 0, 0, Safe},
		"never, but not watched yet":   {6 * day, 0, 0, 0, Waiting},
		"never, in seven days":         {7 * day, 0, 0, 0, Safe},
		"one may have been there":      {30 * day, 8 * day, day, 0, Waiting},
		"long ago, but hardly watched": {day, 20 * day, 0, 0, Waiting},
	} {
		m := newMigrationPath("/ws")
		m.State, m.Old = Waiting, c.old
		if c.last > 0 {
			m.Last = &migrate.Seen{At: now.Add(-c.last)}
		}
		if c.doubt > 0 {
			m.doubt = now.Add(-c.doubt)
		}
		m.judge(now.Add(-c.since), 7, now)
		if m.State != c.want || (m.SafeAt == nil) != (c.want == InUse) {
			t.Errorf("%s: %s, safe at %v", name, m.State, m.SafeAt)
		}
	}
}

// TestBeyond checks that no path is safe while an old client that is not told apart may be its own.
func TestBeyond(t *testing.T) {
	f := newFeed(t)
	s := serve(t, "SSE_UPSTREAM="+f.URL, "SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM="+f.ws()+"/ws", "SSE_MIGRATION_DAYS=1")
	s.migration = migrate.NewKept(&longAgo{seen: 2 * time.Hour})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.migration.Run(ctx, slog.New(slog.DiscardHandler))
	s.wantMigration(t, "/ws", "ws 0 poll 0 sse 0 tunnel 0, old 0 new 0, last never, waiting, routes [a]") // somebody was there 2 h ago
	s.migration = migrate.NewKept(&longAgo{seen: 25 * time.Hour})
	s.migration.Run(ctx, slog.New(slog.DiscardHandler))
	s.wantMigration(t, "/ws", "ws 0 poll 0 sse 0 tunnel 0, old 0 new 0, last never, safe, routes [a]")
	s.migration.Ledger.Connected(migrate.Other, migrate.WebSocket, httptest.NewRequest(http.MethodGet, "/", nil))
	s.wantMigration(t, "/ws", "ws 0 poll 0 sse 0 tunnel 0, old 0 new 0, last never, waiting, routes [a]")
}

// TestMigrationAfterRestart checks that a route takes over what another process, without the route, has kept of its old paths.
func TestMigrationAfterRestart(t *testing.T) {
	f := newFeed(t)
	s := serve(t, "SSE_UPSTREAM="+f.URL, "SSE_ROUTE_A_PATH=/a/{id}", "SSE_ROUTE_A_FROM="+f.ws()+"/rooms/{path.id}/ws", "SSE_MIGRATION_DAYS=1")
	known := s.migration.Ledger.Known
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for note, want := range map[string]string{
		`["/rooms/{id}/ws","websocket","","curl"]`:    "last |curl, waiting",
		`["/rooms/lobby/ws","websocket","","curl"]`:   "last |curl, waiting",
		`["/rooms/lobby/else","websocket","","curl"]`: "last never, safe",
	} {
		s.migration = migrate.NewKept(&longAgo{seen: 2 * time.Hour, note: note})
		s.migration.Ledger.Known = known
		s.migration.Run(ctx, slog.New(slog.DiscardHandler))
		s.wantMigration(t, "/rooms/{2}/ws", "ws 0 poll 0 sse 0 tunnel 0, old 0 new 0, "+want+", routes [a]")
	}
}

// longAgo is a store of a watch that began ten days ago, and has seen one client since: one beyond the bound, if it has no note of another.
type longAgo struct {
	seen time.Duration // ago
	note string
}

func (l *longAgo) Note(context.Context, map[string]time.Time) error { return nil }

func (l *longAgo) Noted(context.Context) (map[string]time.Time, error) {
	now := time.Now()
	return map[string]time.Time{"began x": now.Add(-240 * time.Hour), "watched": now, cmp.Or(l.note, `["(other)","poll","",""]`): now.Add(-l.seen)}, nil
}

// TestSunset checks what old clients are told before and after the day, and that nobody else is.
func TestSunset(t *testing.T) {
	f := newFeed(t)
	f.answer = func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "legacy") }
	s := serve(t, "SSE_UPSTREAM="+f.URL, "SSE_ROUTE_PRICES_PATH=/prices", "SSE_ROUTE_PRICES_FROM="+f.ws()+"/ws", "SSE_ROUTE_PRICES_REPLACES=/soon,/gone,/prices",
		"SSE_SUNSET=/soon=2999-03-01,/gone=2020-01-02,/prices=2020-01-02,/lost=2020-01-02T10:00:00Z")
	soon := s.ask(t, "GET /soon HTTP/1.1")
	if body, _ := io.ReadAll(soon.Body); soon.StatusCode != 200 || string(body) != "legacy" {
		t.Errorf("before the day: %s %q", soon.Status, body)
	}
	if h := soon.Header; h.Get("Sunset") != "Fri, 01 Mar 2999 00:00:00 GMT" || h.Get("Link") != `</prices>; rel="successor-version"` || h.Get("Deprecation") != fmt.Sprintf("@%d", s.table().made.Unix()) {
		t.Errorf("before the day: %v", h)
	}
	_, switched, err := websocket.Dial(t.Context(), "ws://"+s.addr+"/soon", nil)
	if err != nil || switched.Header.Get("Sunset") == "" || switched.Header.Get("Deprecation") == "" {
		t.Errorf("a WebSocket before the day: %v, %v", switched.Header, err)
	}
	gone := s.ask(t, "GET /gone HTTP/1.1")
	body, _ := io.ReadAll(gone.Body)
	if gone.StatusCode != 410 || !strings.Contains(string(body), "/prices") || gone.Header.Get("Sunset") == "" || gone.Header.Get("Deprecation") != "@1577923200" {
		t.Errorf("after the day: %s %q %v", gone.Status, body, gone.Header)
	}
	if _, res, err := websocket.Dial(t.Context(), "ws://"+s.addr+"/gone", nil); err == nil || res.StatusCode != 410 {
		t.Errorf("a WebSocket after the day: %v", err)
	}
	if last := s.Migration().Paths; !strings.Contains(fmt.Sprint(last), "/gone") || !strings.Contains(s.migrationOf("/gone"), "last |Go") {
		t.Errorf("those who come after the day are not seen: %s", s.migrationOf("/gone"))
	}
	if lost := s.ask(t, "GET /lost HTTP/1.1"); lost.StatusCode != 410 {
		t.Errorf("without a route: %s", lost.Status)
	}
	for _, other := range []string{"POST /gone HTTP/1.1", "GET /else HTTP/1.1"} {
		if r := s.ask(t, other, "Content-Length: 0"); r.StatusCode != 200 || r.Header.Get("Sunset") != "" {
			t.Errorf("%s: %s %v", other, r.Status, r.Header)
		}
	}
	if r := s.get(t, "/prices"); r.StatusCode != 200 || r.Header.Get("Content-Type") != "text/event-stream" || r.Header.Get("Sunset") != "" {
		t.Errorf("events at a path whose old transport is gone: %s %v", r.Status, r.Header)
	}
	if r := s.ask(t, "GET /prices HTTP/1.1"); r.StatusCode != 410 {
		t.Errorf("the old transport at the route's path: %s", r.Status)
	}
}
