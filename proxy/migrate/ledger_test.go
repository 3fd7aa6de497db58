package migrate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func request(path string, header ...string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return r
}

// counts is what the ledger counts, with how long ago each was seen.
func counts(l *Ledger) string {
	var all []string
	for _, c := range l.Counts() {
		all = append(all, fmt.Sprintf("%s %s %d/%d %v", c.Path, c.Transport, c.Clients, c.Total, time.Since(c.Last)))
	}
	return strings.Join(all, ", ")
}

func want(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s:\n got %s\nwant %s", what, got, want)
	}
}

// TestConnected checks that a connection is a client while it is open, and was seen last when it ended.
func TestConnected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLedger()
		chrome := request("/ws", "Origin", "https://app.example", "User-Agent", "Mozilla/5.0 (X11) AppleWebKit/537.36 Chrome/130.0 Safari/537.36")
		one := l.Connected("/ws", WebSocket, chrome)
		time.Sleep(time.Hour)
		two := l.Connected("/ws", WebSocket, request("/ws", "User-Agent", "curl/8.0"))
		tunnel := l.Connected("/ws", Tunnel, chrome)
		want(t, "open", counts(l), "/ws tunnel 1/1 0s, /ws websocket 2/2 0s")
		two()
		two()
		time.Sleep(time.Minute)
		want(t, "one is left", counts(l), "/ws tunnel 1/1 0s, /ws websocket 1/2 0s")
		one()
		tunnel()
		time.Sleep(time.Minute)
		want(t, "none is", counts(l), "/ws tunnel 0/1 1m0s, /ws websocket 0/2 1m0s")
		seen := l.Seen()
		if len(seen) != 3 || seen[2].Browser != "curl" || time.Since(seen[2].At) != 2*time.Minute || seen[1].Page != "app.example" || seen[1].Browser != "Chrome" {
			t.Errorf("seen: %+v", seen)
		}
	})
}

// TestAsked checks what is a poll, and for how long.
func TestAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLedger()
		r := request("/api/prices", "Referer", "https://app.example/orders/4711?secret=x", "User-Agent", "Firefox/130.0")
		l.Asked("/api/prices", true, "1.2.3.4", r)
		want(t, "a path that is replaced", counts(l), "/api/prices poll 1/1 0s")
		for range 3 { // what comes at once is one question
			l.Asked("/other", false, "1.2.3.4", r)
		}
		for range 3 {
			time.Sleep(2 * time.Second)
			want(t, "not yet", counts(l), fmt.Sprintf("/api/prices poll 1/1 %v", time.Since(l.Counts()[0].Last)))
			l.Asked("/other", false, "1.2.3.4", r)
		}
		time.Sleep(2 * time.Second)
		l.Asked("/other", false, "1.2.3.4", r)
		want(t, "at a steady interval", counts(l), "/api/prices poll 1/1 8s, /other poll 1/1 0s")
		l.Asked("/api/prices", true, "1.2.3.5", r)
		time.Sleep(29 * time.Second)
		want(t, "half a minute later", counts(l), "/api/prices poll 2/2 29s, /other poll 1/1 29s")
		time.Sleep(2 * time.Second)
		want(t, "and more", counts(l), "/api/prices poll 2/2 31s, /other poll 0/1 31s")
		time.Sleep(time.Minute)
		want(t, "all have gone", counts(l), "/api/prices poll 0/2 1m31s, /other poll 0/1 1m31s")
		if s := l.Seen()[0]; s.Page != "/orders/{id}" || s.Browser != "Firefox" {
			t.Errorf("seen: %+v", s)
		}
		for i := range 8 { // irregular, as people click
			time.Sleep([]time.Duration{time.Second, 20 * time.Second, 3 * time.Second, time.Minute}[i%4])
			l.Asked("/clicked", false, "1.2.3.4", r)
		}
		if got := counts(l); strings.Contains(got, "/clicked") {
			t.Errorf("what comes at no steady interval is a poll: %s", got)
		}
	})
}

// TestLedgerIsBounded checks that neither paths nor clients grow without end.
func TestLedgerIsBounded(t *testing.T) {
	l := NewLedger()
	for i := range 3 * maxPaths {
		l.Connected("/x"+strings.Repeat("y", i)+"/ws", WebSocket, request("/", "Referer", fmt.Sprintf("http://a/p%c%c", 'a'+i%26, 'a'+i/26), "User-Agent", "x"))
	}
	if n := len(l.Counts()); n != maxPaths+1 || l.Counts()[0].Path != Other || l.Counts()[0].Clients != 2*maxPaths {
		t.Errorf("%d paths, first %+v", n, l.Counts()[0])
	}
	if n := len(l.Seen()); n > maxPaths+maxSeen+1 {
		t.Errorf("%d pages and browsers are known", n)
	}
	for i := range maxAskers + 100 {
		l.Asked("/p", true, fmt.Sprint(i), request("/"))
	}
	if n := len(l.askers); n != maxAskers {
		t.Errorf("%d clients of polls are known", n)
	}
}

// TestPathsGiveWay checks which paths are kept where there are too many: those of the configuration, those that somebody is on, and the newest.
func TestPathsGiveWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLedger()
		l.Known = func(path string, _ Transport) string {
			if path == "/known" || path == "/known/one" {
				return "/known"
			}
			return ""
		}
		name := func(i int) string { return fmt.Sprintf("/x%s/ws", strings.Repeat("y", i)) }
		stay := l.Connected(name(0), WebSocket, request("/"))
		l.Asked(name(1), true, "1.2.3.4", request("/")) // is expected for a minute
		time.Sleep(time.Second)
		for i := 2; i < maxPaths; i++ {
			l.Connected(name(i), WebSocket, request("/"))()
			time.Sleep(time.Millisecond)
		}
		l.Connected("/known", WebSocket, request("/"))()
		want(t, "all are told apart", fmt.Sprint(len(l.paths), l.strays), fmt.Sprint(maxPaths+1, maxPaths))
		time.Sleep(time.Second)
		l.Connected("/new/ws", WebSocket, request("/"))()
		has := func(path string) bool { return strings.Contains(counts(l), path+" ") }
		if !has(name(0)) || !has(name(1)) || has(name(2)) || !has(name(3)) || !has("/new/ws") || !has("/known") {
			t.Errorf("not the oldest that nobody is on has given way: %s", counts(l))
		}
		if c := l.Counts()[0]; c.Path != Other || c.Total != 1 || time.Since(c.Last) < time.Second {
			t.Errorf("what is beyond: %+v", c)
		}
		l.Restore([]Seen{{Path: "/long/ago", Transport: Poll, At: time.Now().Add(-time.Hour)}, {Path: "/known/one", Transport: Poll, At: time.Now().Add(-2 * time.Hour)}})
		if has("/long/ago") || !strings.Contains(counts(l), "/known poll 0/0 2h0m0s") || !strings.Contains(counts(l), "(other) poll 0/0 1h0m0s") {
			t.Errorf("what was before: %s", counts(l))
		}
		stay()
		time.Sleep(time.Minute)
		for i := range 2 * maxPaths {
			l.Connected(fmt.Sprintf("/z%s/ws", strings.Repeat("y", i)), WebSocket, request("/"))
		}
		l.Asked("/known/one", true, "1.2.3.4", request("/"))
		if has(name(0)) || has(name(1)) || !strings.Contains(counts(l), "/known poll 1/1 0s") || l.strays != maxPaths {
			t.Errorf("%d, %s", l.strays, counts(l))
		}
		l.Asked("/beyond/all", true, "1.2.3.4", request("/"))
		if !strings.Contains(counts(l), "(other) poll 1/2 0s") {
			t.Errorf("clients beyond the bound: %s", counts(l))
		}
	})
}

// TestRestoreNewest checks that of what was before the newest is told apart.
func TestRestoreNewest(t *testing.T) {
	l := NewLedger()
	var all []Seen
	for i := range 3 * maxPaths {
		all = append(all, Seen{Path: fmt.Sprintf("/x%s/ws", strings.Repeat("y", i)), Transport: Poll, At: time.Unix(1e9+int64(i), 0)})
	}
	l.Restore(all)
	for _, c := range l.Counts() {
		if c.Path != Other && c.Last.Unix() < 1e9+2*maxPaths || c.Path == Other && c.Last.Unix() != 1e9+2*maxPaths-1 {
			t.Errorf("%+v", c)
		}
	}
}

// TestRoomIsLookedForSeldom checks that a request that finds no room does not look through all clients if one has done that within a second.
func TestRoomIsLookedForSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLedger()
		for i := range maxAskers {
			l.Asked("/p", true, fmt.Sprint(i), request("/"))
		}
		ask := func(after time.Duration, known bool) int {
			time.Sleep(after)
			l.Asked("/new", known, "1.2.3.4", request("/"))
			return len(l.askers)
		}
		if n := ask(firstPoll-500*time.Millisecond, true); n != maxAskers || !strings.Contains(counts(l), "/new poll 0/0 0s") {
			t.Errorf("all are there: %d, and %s", n, counts(l))
		}
		if n := ask(900*time.Millisecond, false); n != maxAskers { // they have gone meanwhile
			t.Errorf("it was looked twice within a second: %d", n)
		}
		if n := ask(100*time.Millisecond, false); n != 1 {
			t.Errorf("after a second: %d", n)
		}
	})
}

// TestVisitorsGiveWay checks that made-up pages do not keep later ones from being named, nor take the names of those that are connected.
func TestVisitorsGiveWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLedger()
		from := func(page string) *http.Request {
			return request("/ws", "Origin", "https://"+page, "User-Agent", "curl/8")
		}
		left := l.Connected("/ws", WebSocket, from("stays"))
		for i := range 3 * maxSeen {
			time.Sleep(time.Second)
			l.Connected("/ws", WebSocket, from(fmt.Sprint("made-up", i)))()
		}
		time.Sleep(time.Second)
		l.Connected("/ws", WebSocket, from("late"))()
		l.Restore([]Seen{{Path: "/ws", Transport: WebSocket, Page: "before", At: time.Now().Add(-time.Hour)}})
		pages := map[string]bool{}
		for _, s := range l.Seen() {
			pages[s.Page] = true
		}
		if !pages["stays"] || !pages["late"] || pages["before"] || pages["made-up0"] || len(pages) != maxSeen+1 {
			t.Errorf("named are %v", pages)
		}
		left()
		want(t, "all have left", counts(l), fmt.Sprintf("/ws websocket 0/%d 0s", 3*maxSeen+2))
	})
}

// TestSiblings checks that names of things, which no rule tells from words, are not told apart when they are many, and who is there is counted on.
func TestSiblings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLedger()
		l.Known = func(path string, _ Transport) string {
			if path == "/users/known" {
				return path
			}
			return ""
		}
		l.Connected("/users/known", WebSocket, request("/"))()
		var left []func()
		for i := range maxSiblings {
			left = append(left, l.Connected(fmt.Sprintf("/users/name%c", 'a'+i), WebSocket, request("/", "Origin", fmt.Sprint("http://a", i))))
		}
		l.Asked("/users/namea", true, "1.2.3.4", request("/"))
		if n := len(l.Counts()); n != maxSiblings+2 {
			t.Errorf("%d paths: %s", n, counts(l))
		}
		time.Sleep(time.Second)
		l.Connected("/users/one-more", WebSocket, request("/"))()
		l.Connected("/users/and-more", WebSocket, request("/"))()
		want(t, "many", counts(l), "/users/known websocket 0/1 1s, /users/{id} poll 1/1 1s, /users/{id} websocket 20/22 0s")
		l.Asked("/users/namea", true, "1.2.3.4", request("/"))
		for _, f := range left {
			f()
		}
		time.Sleep(time.Second)
		want(t, "all have left", counts(l), "/users/known websocket 0/1 2s, /users/{id} poll 1/1 1s, /users/{id} websocket 0/22 1s")
		for key, a := range l.paths {
			if a.open != 0 || len(a.now) != 0 {
				t.Errorf("%v has %d open, %v", key, a.open, a.now)
			}
		}
		if l.strays != 2 {
			t.Errorf("%d count for the bound", l.strays)
		}
	})
}

func TestShape(t *testing.T) {
	for path, want := range map[string]string{
		"/ws": "/ws", "/api/v2/prices": "/api/v2/prices", "/jobs/17/ws": "/jobs/{id}/ws", "/u/2f1e4c1a-6a3b-4a55-9d2e-0c9c7a1b2c3d": "/u/{id}",
		"/echo/123/k3j2h1x9/websocket": "/echo/{id}/{id}/websocket", "/t/0123456789abcdef": "/t/{id}", "/a%20b": "/{id}", "/socket.io/": "/socket.io/",
		"/invite/x7Kp2q": "/invite/{id}", "/t/9f8e7d6c.5b4a3f2e": "/t/{id}", "/t/kQxLmNvBzRtYpWsD": "/t/{id}", "/reset/GZ3AAAABBBBCCCC": "/reset/{id}", "/t/a~1": "/t/{id}",
		"/user-4711/feed-2": "/{id}/feed-2", "/t/abcdefghijklmnopqrst": "/t/{id}", "/t/kQxLmNvB-zRtYpWsD": "/t/{id}", "/10.1.2.3": "/{id}", "/7.json": "/{id}", "/a<b": "/{id}",
		"/app.v2.js": "/app.v2.js", "/prices.json": "/prices.json", "/v1.2/x": "/v1.2/x", "/v1beta1": "/v1beta1", "/2024q1": "/2024q1", "/sha256": "/sha256",
		"/stockTickerHub": "/stockTickerHub", "/Notifications": "/Notifications", "/live_prices-feed": "/live_prices-feed", "/api/s3": "/api/s3", "/9": "/{id}",
		"/oauth2": "/oauth2", "/" + strings.Repeat("a/", 20): Other, "/x" + strings.Repeat("y", 60): "/{id}", "/" + strings.Repeat("abcdefghij/", 12): Other,
	} {
		if got := Shape(path); got != want {
			t.Errorf("%s is %s, want %s", path, got, want)
		}
	}
}

func TestPattern(t *testing.T) {
	for _, c := range []struct {
		pattern Pattern
		path    string
		want    bool
	}{
		{"/ws", "/ws", true}, {"/ws", "/ws/", false}, {"/ws", "/w", false}, {"/jobs/{id}/ws", "/jobs/7/ws", true}, {"/jobs/{id}/ws", "/jobs//ws", false},
		{"/jobs/{id}/ws", "/jobs/7/8/ws", false}, {"/jobs/{id}/ws", "/jobs/7", false}, {"/x/{rest...}", "/x/a/b", true}, {"/x/{rest...}", "/x/", true}, {"/x/{rest...}", "/x", false},
		{"/", "/", true}, {"/", "/a", false},
	} {
		if got := c.pattern.Match(c.path); got != c.want {
			t.Errorf("%s matches %s: %v", c.pattern, c.path, got)
		}
	}
}

func TestPatternMay(t *testing.T) {
	for _, c := range []struct {
		pattern Pattern
		shape   string
		want    bool
	}{
		{"/rooms/7/ws", "/rooms/{id}/ws", true}, {"/rooms/7/ws", "/rooms/{2}/ws", true}, {"/rooms/7/ws", "/rooms/8/ws", false}, {"/rooms/7/ws", "/rooms/{id}", false},
		{"/rooms/7", "/rooms/{id}/ws", false}, {"/{a}/7", "/x/{id}", true}, {"/x/{rest...}", "/x/{id}/y", true}, {"/x/{rest...}", "/x", false}, {"/x/7/8", "/x/{rest...}", true},
	} {
		if got := c.pattern.May(c.shape); got != c.want {
			t.Errorf("%s may be %s: %v", c.shape, c.pattern, got)
		}
	}
}

func TestBrowsers(t *testing.T) {
	for agent, want := range map[string]string{
		"Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36 Edg/130.0": "Edge",
		"Mozilla/5.0 (Macintosh) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.0 Safari/605.1.15":                 "Safari",
		"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0":                                        "Firefox",
		"node": "Node.js", "": "none told", "whatever": "other",
	} {
		if got := browserOf(agent); got != want {
			t.Errorf("%q is %s, want %s", agent, got, want)
		}
	}
}

// notes is a store in memory.
type notes struct {
	mu    sync.Mutex
	all   map[string]time.Time
	away  bool
	full  bool // it can be read only
	hangs bool // it answers when nobody waits any more
}

func (n *notes) Note(_ context.Context, more map[string]time.Time) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.away || n.full {
		return errors.New("away")
	}
	maps.Copy(n.all, more)
	return nil
}

func (n *notes) Noted(ctx context.Context) (map[string]time.Time, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.hangs {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if n.away {
		return nil, errors.New("away")
	}
	return maps.Clone(n.all), nil
}

// process runs a ledger with a store until what it returns is called.
func process(t *testing.T, store Store) (k *Kept, stop func()) {
	k = NewKept(store)
	ctx, cancel := context.WithCancel(t.Context())
	var run sync.WaitGroup
	run.Go(func() { k.Run(ctx, slog.New(slog.DiscardHandler)) }) // ends with ctx
	return k, func() { cancel(); run.Wait() }
}

// TestKept checks what another process knows: when who was there last, and since when anybody has looked.
func TestKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &notes{all: map[string]time.Time{}}
		first, stop := process(t, store)
		began := first.Since()
		time.Sleep(90 * time.Minute)
		left := first.Ledger.Connected("/ws", WebSocket, request("/ws", "User-Agent", "curl/8"))
		time.Sleep(time.Hour)
		stop() // while it is connected
		left()
		time.Sleep(23 * time.Hour)

		second, stop := process(t, store)
		time.Sleep(time.Second)
		want(t, "after a restart", counts(second.Ledger), "/ws websocket 0/0 23h0m1s")
		if d := second.Since().Sub(began); d > 0 || d < -time.Second {
			t.Errorf("the watch goes on since %v, began %v", second.Since(), began)
		}
		other, stopOther := process(t, store) // another replica
		time.Sleep(time.Second)
		second.Ledger.Connected("/new", WebSocket, request("/new"))()
		time.Sleep(2 * time.Minute)
		if got := counts(other.Ledger); !strings.Contains(got, "/new websocket 0/0") {
			t.Errorf("the other replica knows %s", got)
		}
		stop()
		stopOther()
		time.Sleep(25 * time.Hour) // for which nobody has looked
		third, stop := process(t, store)
		defer stop()
		time.Sleep(time.Second)
		if since := time.Since(third.Since()); since != time.Second {
			t.Errorf("the watch was interrupted for 25 h, and began %v ago", since)
		}
		stop()
		time.Sleep(time.Hour)
		fourth, stop := process(t, store)
		defer stop()
		time.Sleep(time.Second)
		if since := time.Since(fourth.Since()).Round(time.Second); since != time.Hour+2*time.Second && since != time.Hour+time.Second {
			t.Errorf("the watch that went on began %v ago", since)
		}
	})
}

// TestStoreIsAway checks that a store that comes late is read then, and nothing is lost meanwhile.
func TestStoreIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &notes{all: map[string]time.Time{noteOf(Seen{Path: "/ws", Transport: WebSocket}): time.Now()}, away: true}
		k, stop := process(t, store)
		k.Ledger.Connected("/now", WebSocket, request("/now"))()
		time.Sleep(10 * time.Minute)
		want(t, "while it is away", counts(k.Ledger), "/now websocket 0/1 10m0s")
		store.mu.Lock()
		store.away = false
		store.mu.Unlock()
		time.Sleep(2 * time.Minute)
		want(t, "when it is back", counts(k.Ledger), "/now websocket 0/1 12m0s, /ws websocket 0/0 12m0s")
		stop()
		if seen := seenOf(store.all); len(seen) != 2 {
			t.Errorf("kept: %+v", seen)
		}
	})
}

// TestBeganIsKeptLater checks that a watch that starts again is noted as soon as it can be: otherwise the next start would resume the one that was interrupted.
func TestBeganIsKeptLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &notes{all: map[string]time.Time{noteBegan + "x": time.Now().Add(-240 * time.Hour), noteWatched: time.Now().Add(-48 * time.Hour)}, full: true}
		first, stop := process(t, store)
		time.Sleep(10 * time.Second)
		store.mu.Lock()
		store.full = false
		store.mu.Unlock()
		time.Sleep(2 * time.Minute)
		began := first.Since()
		stop()
		second, stop := process(t, store)
		defer stop()
		time.Sleep(time.Second)
		if d := second.Since().Sub(began); d > 0 || d < -time.Second {
			t.Errorf("the watch began %v after it was taken up", d)
		}
	})
}

// TestKeepEnds checks that the end of the process waits a second for the store, whatever is under way.
func TestKeepEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, stop := process(t, &notes{hangs: true})
		time.Sleep(time.Second)
		began := time.Now()
		stop()
		if d := time.Since(began); d != lastTime {
			t.Errorf("it took %v", d)
		}
	})
}

// TestOldIsNotKept checks that what a store lets go is not noted again.
func TestOldIsNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &notes{all: map[string]time.Time{}}
		k := NewKept(store)
		k.Ledger.Restore([]Seen{{Path: "/old", Transport: Poll, At: time.Now().Add(-keepFor)}, {Path: "/ws", Transport: Poll, At: time.Now().Add(time.Hour - keepFor)}})
		if err := k.sync(t.Context(), keepTime); err != nil {
			t.Fatal(err)
		}
		if seen := seenOf(store.all); len(seen) != 1 || seen[0].Path != "/ws" {
			t.Errorf("kept: %+v", seen)
		}
	})
}
