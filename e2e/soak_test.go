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
	"regexp"
	"strconv"
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
	pace time.Duration // between two messages of a connection, about
	cuts int           // a connection is cut after so many messages, about

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

// ServeHTTP has WebSockets at /private and /shared, and a document at /poll.
func (s *soakService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	user := "everybody"
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
		case <-time.After(s.pace/2 + rand.N(s.pace)):
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
	transport http.RoundTripper
	zip       bool
	life      time.Duration // of one connection, about

	stats  *soakStats
	reader eventReader
	last   int64 // the newest number; -1: none is known
	owed   bool  // a gap has been said since
}

type soakStats struct{ events, gaps, opened, cut, refused atomic.Int64 }

func (s *soaker) run(ctx context.Context, t *testing.T) {
	s.last = -1
	for ctx.Err() == nil {
		one, cancel := context.WithTimeout(ctx, s.life/4+rand.N(s.life*3/2))
		s.connect(one, t)
		cancel()
		if rand.N(3) == 0 {
			s.reader.id, s.last = "", -1
		}
		select {
		case <-ctx.Done():
		case <-time.After(rand.N(s.life / 4)):
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
	if want := s.user; e.User != want && !strings.Contains(s.url, "/shared") {
		t.Errorf("%s got what is %s's, by %s", want, e.User, s.url)
	}
	if s.last >= 0 && (e.N <= s.last || e.N > s.last+1 && !s.owed) {
		t.Errorf("%s got %d after %d by %s (a gap was said: %v)", s.user, e.N, s.last, s.url, s.owed)
	}
	s.last, s.owed = e.N, false
}

// takes is what a process takes.
type takes struct{ rss, descriptors, threads, goroutines float64 }

var goroutinesMetric = regexp.MustCompile(`(?m)^go_goroutines ([0-9.e+]+)$`)

func (s *sidecar) takes(t *testing.T) (n takes) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		v, _ := strconv.ParseFloat(fields[1], 64)
		switch fields[0] {
		case "VmRSS:":
			n.rss = v / 1024
		case "Threads:":
			n.threads = v
		}
	}
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	n.descriptors = float64(len(open))
	resp, err := plain.Get("http://" + s.admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	metrics, _ := io.ReadAll(resp.Body)
	if m := goroutinesMetric.FindSubmatch(metrics); m != nil {
		n.goroutines, _ = strconv.ParseFloat(string(m[1]), 64)
	}
	return n
}

func (n takes) String() string {
	return fmt.Sprintf("%.1f MiB, %.0f descriptors, %.0f threads, %.0f goroutines", n.rss, n.descriptors, n.threads, n.goroutines)
}

// letsGo waits until the sidecar has what it had before its clients came, and so many descriptors and goroutines: after LINGER. What waits for the next client of a route stays, and for a
// minute and a half connections that polls may use again.
func (s *sidecar) letsGo(t *testing.T, name string, was takes, descriptors, goroutines float64) {
	t.Helper()
	now := s.takes(t)
	for end := time.Now().Add(3 * patience); now.descriptors > was.descriptors+descriptors || now.goroutines > was.goroutines+goroutines; now = s.takes(t) {
		if time.Now().After(end) {
			t.Errorf("%s: what clients had is not let go of", name)
			break
		}
		time.Sleep(200 * time.Millisecond)
	}
	t.Logf("%s: before %s; after %s", name, was, now)
}

// mean is what a process takes over so long.
func (s *sidecar) mean(t *testing.T, over time.Duration) (n takes) {
	const looks = 10
	for range looks {
		time.Sleep(over / looks)
		now := s.takes(t)
		n.rss, n.descriptors, n.threads, n.goroutines = n.rss+now.rss/looks, n.descriptors+now.descriptors/looks, n.threads+now.threads/looks, n.goroutines+now.goroutines/looks
	}
	return n
}

// TestSoak: clients of a shared route, of private WebSockets and of private polls, over HTTP/1.1 in clear and with TLS, HTTP/2 and gzip, come and go, and what
// they get is looked at. When all have gone the sidecars have what they had before. SSE_E2E_SOAK is how long and with how many clients, such as "2h 5000":
// then what the sidecars take is measured too, and may not grow by more than 5 % after the first ten minutes, or a third of the time.
func TestSoak(t *testing.T) {
	length, clients, long := 12*time.Second, 120, false
	if text := os.Getenv("SSE_E2E_SOAK"); text != "" {
		if _, err := fmt.Sscan(text, (*soakLength)(&length), &clients); err != nil {
			t.Fatalf("SSE_E2E_SOAK=%q is none; write 2h 5000: %v", text, err)
		}
		long = true
	} else {
		t.Parallel()
	}
	service := &soakService{pace: time.Second, cuts: 60, next: map[string]*atomic.Int64{}}
	if long {
		service.pace, service.cuts = 2*time.Second, 300
	}
	server := httptest.NewServer(service)
	t.Cleanup(server.Close)
	app := strings.TrimPrefix(server.URL, "http://")
	dir, ours := t.TempDir(), authority.New("ours")
	pair := ours.Issue("sidecar", "127.0.0.1")
	write(t, dir, map[string][]byte{"cert": pair.Cert, "key": pair.Key})
	env := func(side string) []string {
		all := []string{"SSE_LOG_LEVEL=error", "SSE_UPSTREAM=http://" + app, "SSE_LINGER=5s", "SSE_RETRY=1s", "SSE_MAX_CLIENTS=0", "SSE_MAX_STREAMS=0", "SSE_REPLAY_EVENTS=200"}
		for _, r := range []string{"SHARED shared ws COMPRESS=gzip", "PRIVATE private ws FORWARD=Cookie", "POLL poll http FORWARD=Cookie EVERY=2s"} {
			words := strings.Fields(r)
			route := "SSE_ROUTE_" + words[0] + "_"
			all = append(all, route+"PATH=/"+words[1], route+"FROM="+words[2]+"://"+app+"/"+words[1]+"?"+side)
			for _, w := range words[3:] {
				all = append(all, route+w)
			}
		}
		return all
	}
	clear := startSidecar(t, env("clear")...)
	secret := startSidecar(t, append(env("secret"), "SSE_TLS_CERT="+filepath.Join(dir, "cert"), "SSE_TLS_KEY="+filepath.Join(dir, "key"))...)
	sidecars := map[string]*sidecar{"clear": clear, "TLS": secret}
	before := map[string]takes{}
	for name, s := range sidecars {
		before[name] = s.takes(t)
	}

	trust := &tls.Config{RootCAs: ours.Pool(), MinVersion: tls.VersionTLS12}
	dial := (&net.Dialer{Timeout: patience}).DialContext
	one := &http.Transport{DialContext: dial, DisableKeepAlives: true, DisableCompression: true}
	sealed := &http.Transport{DialContext: dial, DisableKeepAlives: true, DisableCompression: true, TLSClientConfig: trust.Clone(), TLSHandshakeTimeout: patience}
	var stats soakStats
	var all sync.WaitGroup
	ctx, stop := context.WithTimeout(t.Context(), length)
	defer stop()
	var tabs []*http.Transport
	for i := range clients {
		s := &soaker{user: fmt.Sprint("user", i), stats: &stats, life: time.Minute}
		if !long {
			s.life = 3 * time.Second
		}
		path := []string{"/shared", "/shared", "/private", "/private", "/poll"}[i%5]
		switch i / 5 % 4 {
		case 0:
			s.url, s.transport = "http://"+clear.addr+path, one
		case 1:
			s.url, s.transport, s.zip = "http://"+clear.addr+path, one, true
		case 2:
			s.url, s.transport = "https://"+secret.addr+path, sealed
		default: // some of one browser
			if len(tabs) == 0 || rand.N(5) == 0 {
				tabs = append(tabs, &http.Transport{DialContext: dial, TLSClientConfig: trust.Clone(), TLSHandshakeTimeout: patience, ForceAttemptHTTP2: true, DisableCompression: true})
			}
			s.url, s.transport = "https://"+secret.addr+path, tabs[len(tabs)-1]
		}
		all.Go(func() { s.run(ctx, t) }) // ends with ctx
	}
	if long {
		soakGrowth(t, ctx, length, sidecars, &stats)
	}
	all.Wait()
	for _, tab := range append(tabs, one, sealed) {
		tab.CloseIdleConnections()
	}
	t.Logf("%d events, %d gaps, %d connections, %d of them cut, %d attempts failed, %d polls", stats.events.Load(), stats.gaps.Load(), stats.opened.Load(), stats.cut.Load(), stats.refused.Load(), service.polls.Load())
	if stats.events.Load() < int64(clients) || stats.opened.Load() < int64(clients) {
		t.Error("not much has happened")
	}
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

// soakGrowth prints what the sidecars take, and holds the end against what it was after ten minutes, or a third of the time.
func soakGrowth(t *testing.T, ctx context.Context, length time.Duration, sidecars map[string]*sidecar, stats *soakStats) {
	warm, began := min(10*time.Minute, length/3), time.Now()
	window := min(time.Minute, warm/4)
	at := map[string]takes{}
	report := func(when string) {
		for name, s := range sidecars {
			n := s.mean(t, window/2)
			at[name+when] = n
			fmt.Printf("%s after %s, %s: %s; %d events, %d gaps\n", name, time.Since(began).Round(time.Second), when, n, stats.events.Load(), stats.gaps.Load())
		}
	}
	sleep := func(until time.Duration) {
		select {
		case <-time.After(until - time.Since(began)):
		case <-ctx.Done():
		}
	}
	sleep(warm - 2*window)
	report("warm")
	for next := 2 * warm; next < length-3*window; next += warm {
		sleep(next)
		report("on the way")
	}
	sleep(length - 2*window)
	report("at the end")
	for name := range sidecars {
		was, now := at[name+"warm"], at[name+"at the end"]
		for what, grown := range map[string][2]float64{"memory": {was.rss, now.rss}, "descriptors": {was.descriptors, now.descriptors}, "threads": {was.threads, now.threads}, "goroutines": {was.goroutines, now.goroutines}} {
			if grown[1] > grown[0]*1.05+2 {
				t.Errorf("%s: %s grew from %.1f to %.1f", name, what, grown[0], grown[1])
			}
		}
	}
}
