//go:build e2e

package e2e

import (
	"compress/gzip"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"sidestream/e2e/authority"
)

// This file is what months are made of: clients that come, stay, are cut and go, of every kind, for as long as one likes. Nobody may get what is another's,
// nothing may be doubled or lost without a gap, and what the sidecar takes may not grow.

// soakService is a legacy service. What it sends is numbered, for each user and sidecar, and says whose it is.
type soakService struct {
	pace, shared time.Duration // between two messages of a connection, about: of a private one, and of the shared one
	cuts         int           // a connection is cut after so many messages, about
	echo         echo

	mu    sync.Mutex
	next  map[string]*atomic.Int64
	polls atomic.Int64
}

func (s *soakService) count(key string) *atomic.Int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next[key] == nil {
		s.next[key] = new(atomic.Int64)
	}
	return s.next[key]
}

// ServeHTTP has WebSockets at /private, /shared and /echo, and a document at /poll.
func (s *soakService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/echo" {
		s.echo.ServeHTTP(w, r)
		return
	}
	user, pace := "everybody", s.pace
	if r.URL.Path == "/shared" {
		pace = s.shared
	}
	if c, err := r.Cookie("user"); err == nil {
		user = c.Value
	}
	n := s.count(r.URL.Path + r.URL.RawQuery + " " + user)
	if r.URL.Path == "/poll" {
		s.polls.Add(1)
		fmt.Fprintf(w, `{"user":%q,"n":%d,"pad":%q}`, user, n.Add(1), strings.Repeat("p", 150))
		return
	}
	c, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer c.CloseNow()
	ctx := c.CloseRead(r.Context())
	for ctx.Err() == nil && rand.N(s.cuts) > 0 {
		select {
		case <-time.After(pace/2 + rand.N(pace)):
		case <-ctx.Done():
			return
		}
		text := fmt.Sprintf(`{"user":%q,"n":%d,"pad":%q}`, user, n.Add(1), strings.Repeat("p", rand.N(400)))
		if rand.N(50) == 0 { // a large one, in pieces
			text = text[:len(text)-2] + strings.Repeat("q", 20<<10) + `"}`
		}
		if c.Write(ctx, websocket.MessageText, []byte(text)) != nil {
			return
		}
	}
}

// soaker is one client, over and over.
type soaker struct {
	url, user string
	private   bool // what it gets says whose it is
	transport http.RoundTripper
	zip       bool
	life      time.Duration // of one connection, about
	pause     time.Duration // at most, between two connections
	state     bool          // after a gap what is there is said, also what was said before
	newest    *atomic.Int64 // the newest number that anybody has got there, if that is looked at

	stats  *soakStats
	reader eventReader
	last   int64 // the newest number; -1: none is known
	owed   bool  // a gap has been said since
	heard  time.Time
}

type soakStats struct{ events, gaps, opened, cut, refused, echoed, tunnels, reattached atomic.Int64 }

// lasts is how long a connection of this length does, all in all so long on the average.
func lasts(life time.Duration) time.Duration { return life/4 + rand.N(life*3/2) }

// rests waits for up to so long.
func rests(ctx context.Context, most time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(rand.N(most)):
	}
}

func (s *soaker) run(ctx context.Context, t *testing.T) {
	s.last = -1
	for rests(ctx, s.pause); ctx.Err() == nil; rests(ctx, s.pause) {
		one, cancel := context.WithTimeout(ctx, lasts(s.life))
		s.connect(one, t)
		cancel()
		if rand.N(3) == 0 {
			s.reader.id, s.last = "", -1
		}
	}
}

func (s *soaker) connect(ctx context.Context, t *testing.T) {
	r, _ := http.NewRequestWithContext(ctx, "GET", s.url, nil)
	r.Header.Set("Accept", "text/event-stream")
	r.Header.Set("Cookie", "user="+s.user)
	if s.reader.id != "" {
		r.Header.Set("Last-Event-ID", s.reader.id)
	}
	if s.zip {
		r.Header.Set("Accept-Encoding", "gzip")
	}
	resp, err := s.transport.RoundTrip(r)
	if err != nil {
		if ctx.Err() == nil {
			s.stats.refused.Add(1)
		}
		return
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("%s of %s: %s", s.url, s.user, resp.Status)
		return
	}
	s.stats.opened.Add(1)
	s.heard = time.Now()
	var body io.Reader = resp.Body
	if resp.Header.Get("Content-Encoding") == "gzip" {
		if body, err = gzip.NewReader(resp.Body); err != nil {
			return
		}
	}
	s.reader.read(body, func(m dispatched) { s.event(m.name, m.data, t) })
	if ctx.Err() == nil {
		s.stats.cut.Add(1)
	}
	if quiet := time.Since(s.heard); quiet > 2*patience {
		t.Errorf("%s of %s stood still for %s", s.url, s.user, quiet.Round(time.Second))
	}
}

// event holds an event against what must be.
func (s *soaker) event(name, data string, t *testing.T) {
	switch name {
	case "stream.gap":
		s.owed = true
		s.stats.gaps.Add(1)
		return
	case "", "message":
	default:
		return
	}
	var e struct {
		User string
		N    int64
	}
	if err := json.Unmarshal([]byte(data), &e); err != nil {
		t.Errorf("%s got %.100q: %v", s.user, data, err)
		return
	}
	s.stats.events.Add(1)
	s.heard = time.Now()
	if s.private && e.User != s.user {
		t.Errorf("%s got what is %s's, by %s", s.user, e.User, s.url)
	}
	if s.newest != nil && s.newest.Load() < e.N { // another may come first with a newer one: near enough
		s.newest.Store(e.N)
	}
	if again := e.N == s.last && s.state && s.owed; s.last >= 0 && !again && (e.N <= s.last || e.N > s.last+1 && !s.owed) {
		t.Errorf("%s got %d after %d by %s (a gap was said: %v)", s.user, e.N, s.last, s.url, s.owed)
	}
	s.last, s.owed = e.N, false
}

// soakForm is how TestSoak is run.
type soakForm struct {
	length        time.Duration
	clients       int
	long          bool
	life, pause   time.Duration // of a connection, and between two
	pace, shared  time.Duration // between two messages
	cuts, replay  int           // events
	every, linger string
}

// soakFormOf is a short form for every day, and a long one that SSE_E2E_SOAK asks for, with lives and paces of pages: after its first ten minutes everything that was there
// at its start has gone, most of it several times, replay buffers hold what they always will, and what is taken then may be held against what is taken hours later.
func soakFormOf(t *testing.T) soakForm {
	f := soakForm{length: 12 * time.Second, clients: 120, life: 3 * time.Second, pause: 750 * time.Millisecond, pace: time.Second, shared: time.Second, cuts: 60, replay: 200, every: "2s", linger: "5s"}
	if text := os.Getenv("SSE_E2E_SOAK"); text != "" {
		f = soakForm{long: true, life: 3 * time.Minute, pace: 9 * time.Second, shared: 9 * time.Second, cuts: 40, replay: 20, every: "20s", linger: "15s"}
		if _, err := fmt.Sscan(text, (*soakLength)(&f.length), &f.clients); err != nil {
			t.Fatalf("SSE_E2E_SOAK=%q is none; write 2h 5000: %v", text, err)
		}
		f.life = min(f.life, f.length/5) // a short one sees them come and go too
		f.pause = f.life / 12
	}
	return f
}

// env is that of a sidecar before the service at app, side tells one from another.
func (f soakForm) env(app, side string, more []string) []string {
	all := append([]string{"SSE_LOG_LEVEL=error", "SSE_UPSTREAM=http://" + app, "SSE_LINGER=" + f.linger, "SSE_RETRY=1s", "SSE_MAX_CLIENTS=0", "SSE_MAX_STREAMS=0", fmt.Sprint("SSE_REPLAY_EVENTS=", f.replay), "SSE_TUNNEL=/echo"}, more...)
	for _, r := range []string{"SHARED shared ws COMPRESS=gzip", "PRIVATE private ws FORWARD=Cookie", "POLL poll http FORWARD=Cookie EVERY=" + f.every} {
		words := strings.Fields(r)
		route := "SSE_ROUTE_" + words[0] + "_"
		all = append(all, route+"PATH=/"+words[1], route+"FROM="+words[2]+"://"+app+"/"+words[1]+"?"+side)
		for _, w := range words[3:] {
			all = append(all, route+w)
		}
	}
	return all
}

// soakMix is what twenty clients are: half of them private.
var soakMix = strings.Fields("shared private poll shared tunnel private shared dialect private shared poll shared private dialect tunnel shared private shared poll shared")

// TestSoak: clients of a shared route, of private WebSockets, of private polls and of tunnels, over HTTP/1.1 in clear and with TLS, HTTP/2 and gzip, come and go, and what
// they get is looked at. When all have gone the sidecars have what they had before. SSE_E2E_SOAK is how long and with how many clients, such as "2h 5000":
// then there are all dialects too, and what the sidecars take is measured, and may not grow by more than 5 % after the first ten minutes, or a third of the time.
func TestSoak(t *testing.T) {
	form := soakFormOf(t)
	var dialects soakDialects
	if form.long {
		dialects.start(t, form.length/20)
	} else {
		t.Parallel()
	}
	service := &soakService{pace: form.pace, shared: form.shared, cuts: form.cuts, next: map[string]*atomic.Int64{}}
	server := httptest.NewServer(service)
	t.Cleanup(server.Close)
	app := strings.TrimPrefix(server.URL, "http://")
	dir, ours := t.TempDir(), authority.New("ours")
	pair := ours.Issue("sidecar", "127.0.0.1")
	write(t, dir, map[string][]byte{"cert": pair.Cert, "key": pair.Key})
	clear := startSidecar(t, form.env(app, "clear", dialects.env)...)
	secret := startSidecar(t, append(form.env(app, "secret", dialects.env), "SSE_TLS_CERT="+filepath.Join(dir, "cert"), "SSE_TLS_KEY="+filepath.Join(dir, "key"))...)
	sidecars := map[string]*sidecar{"clear": clear, "TLS": secret}
	before := map[string]takes{}
	for name, s := range sidecars {
		before[name] = s.atRest(t)
	}

	trust := &tls.Config{RootCAs: ours.Pool(), MinVersion: tls.VersionTLS12}
	dial := (&net.Dialer{Timeout: patience}).DialContext
	made := func(h2, once bool) *http.Transport {
		return &http.Transport{DialContext: dial, DisableKeepAlives: once, DisableCompression: true, TLSClientConfig: trust.Clone(), TLSHandshakeTimeout: patience, ForceAttemptHTTP2: h2}
	}
	one := made(false, true)
	var stats soakStats
	var all sync.WaitGroup
	ctx, stop := context.WithTimeout(t.Context(), form.length)
	defer stop()
	dialects.say(ctx, t, &all)
	tabs, readers := []*http.Transport{one}, 0
	for i := range form.clients {
		kind, turn := soakMix[i%len(soakMix)], i/len(soakMix)
		s := &soaker{user: fmt.Sprint("user", i), private: kind == "private" || kind == "poll", stats: &stats, life: form.life, pause: form.pause}
		if kind == "dialect" {
			if form.long {
				of := dialects.routes[readers%len(dialects.routes)]
				kind, s.newest, s.state = of.path, &of.newest, of.path == "ddp"
				turn = readers / len(dialects.routes) // each over everything
				readers++
			} else {
				kind = "shared"
			}
		}
		base, h2 := "http://"+clear.addr, false
		s.transport, s.zip = one, turn%4 == 1
		switch turn % 4 {
		case 2:
			base = "https://" + secret.addr
		case 3: // some of one browser
			base, h2 = "https://"+secret.addr, true
			if len(tabs) == 1 || rand.N(5) == 0 {
				tabs = append(tabs, made(true, false))
			}
			s.transport = tabs[len(tabs)-1]
		}
		s.url = base + "/" + kind
		if kind == "tunnel" {
			tunnel := &soakTunnel{soaker: s, base: base, pace: form.pace, own: func() *http.Transport { return made(h2, false) }}
			all.Go(func() { tunnel.run(ctx, t) }) // ends with ctx
			continue
		}
		all.Go(func() { s.run(ctx, t) }) // ends with ctx
	}
	if form.long {
		soakGrowth(t, ctx, form.length, sidecars, &stats)
	}
	all.Wait()
	for _, tab := range tabs {
		tab.CloseIdleConnections()
	}
	t.Logf("%d events, %d gaps, %d connections, %d of them cut, %d attempts failed, %d polls; %d tunnels, %d messages there and back, %d times reattached", stats.events.Load(), stats.gaps.Load(), stats.opened.Load(), stats.cut.Load(), stats.refused.Load(),
		service.polls.Load(), stats.tunnels.Load(), stats.echoed.Load(), stats.reattached.Load())
	if stats.events.Load() < int64(form.clients) || stats.opened.Load() < int64(form.clients) || stats.echoed.Load() < int64(form.clients/10) {
		t.Error("not much has happened")
	}
	dialects.look(t)
	for name, s := range sidecars {
		s.letsGo(t, name, before[name], 24, 48)
		s.drain(t)
	}
}

// soakLength reads a duration.
type soakLength time.Duration

// Scan is fmt.Scanner's.
func (l *soakLength) Scan(state fmt.ScanState, _ rune) error {
	word, err := state.Token(true, nil)
	if err != nil {
		return err
	}
	d, err := time.ParseDuration(string(word))
	*l = soakLength(d)
	return err
}
