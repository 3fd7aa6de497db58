//go:build linux && !portable

package deliver

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"sidestream/e2e/pipes"
	"sidestream/proxy/deliver/h2/h2test"
	"sidestream/proxy/stream"
)

// loom is a server for HTTP/2 of one ring, as proxy.Server has it, over connections in memory; /other is of another one.
// What is no event stream: /bulk?n answers with n bytes, /head?n with n bytes of head, /echo with the body.
type loom struct {
	*bench
	l     *pipes.Listener
	s     *http.Server
	other *stream.Ring
}

func newLoom(t *testing.T, bounds stream.Bounds) *loom {
	b := newBench(t, bounds)
	lo := &loom{bench: b, other: stream.NewRing(stream.NewEpoch(time.Now()), bounds, &b.stats, false), l: pipes.Listen()}
	lo.s = &http.Server{Handler: lo, ConnContext: WithConn, Protocols: new(http.Protocols), IdleTimeout: -1, ErrorLog: log.New(io.Discard, "", 0)}
	lo.s.Protocols.SetUnencryptedHTTP2(true)
	go lo.s.Serve(lo.l) // ends with close
	return lo
}

func (lo *loom) close() {
	lo.s.Close()
	lo.clients.Close()
	lo.bench.close()
}

func (lo *loom) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/bulk":
		n, _ := strconv.Atoi(r.URL.RawQuery)
		w.Write(h2test.Bulk(n))
	case "/echo":
		io.Copy(w, r.Body)
	case "/head":
		n, _ := strconv.Atoi(r.URL.RawQuery)
		w.Header().Set("X-Large", strings.Repeat("x", n))
	default:
		ring := lo.ring
		if r.URL.Path == "/other" {
			ring = lo.other
		}
		finish(lo.clients.Join(w, r, Client{Route: &lo.route, Ring: ring, Retiring: lo.retiring, Leaving: lo.leaving, Cursor: lo.cursor, Lost: lo.lost, LastID: lo.lastID, Beats: lo.beats, Pass: lo.pass, Leave: func() {}}))
	}
}

// dial connects a peer. first is its settings.
func (lo *loom) dial(first ...http2.Setting) *h2test.Peer {
	ours, theirs := net.Pipe()
	lo.l.Offer(newCarrier(theirs, &lo.clients, nil))
	return h2test.New(lo.t, ours, first...)
}

// adopted is how many clients without goroutines there are.
func (lo *loom) adopted() (n int) {
	lo.clients.engine.mu.Lock()
	defer lo.clients.engine.mu.Unlock()
	for m := range lo.clients.engine.carriers {
		n += m.conn.Adopted()
	}
	return n
}

// inLoom runs f in a bubble, with everything closed after it.
func inLoom(t *testing.T, bounds stream.Bounds, f func(t *testing.T, lo *loom)) {
	synctest.Test(t, func(t *testing.T) {
		lo := newLoom(t, bounds)
		lo.t = t
		f(t, lo)
		lo.close()
		synctest.Wait()
		if n := lo.route.Stats.Clients.Load(); n != 0 {
			t.Errorf("%d clients are left", n)
		}
	})
}

// TestH2TakesClientsOver: the handler has returned, its client is served, and other requests of the connection are as ever.
func TestH2TakesClientsOver(t *testing.T) {
	inLoom(t, stream.Bounds{}, func(t *testing.T, lo *loom) {
		p := lo.dial()
		events := p.Ask("GET", "/", nil)
		synctest.Wait()
		if n := lo.adopted(); n != 1 {
			t.Fatalf("%d clients without goroutines: has net/http changed?", n)
		}
		first := p.Got(events)
		if first.Status != "200" || !hint.MatchString(strings.TrimSpace(first.Body.String())) || first.Ended {
			t.Fatalf("got %s %q, ended: %v", first.Status, first.Body.String(), first.Ended)
		}
		sent := h2test.Bulk(200_000)
		big, echo := p.Ask("GET", "/bulk?300000", nil), p.Ask("POST", "/echo", sent)
		lo.ring.Append(say("1"))
		head := p.Ask("HEAD", "/bulk?10", nil)
		synctest.Wait()
		if got := p.Got(big); !bytes.Equal(got.Body.Bytes(), h2test.Bulk(300_000)) || !got.Ended {
			t.Errorf("%d bytes of 300000, ended: %v", got.Body.Len(), got.Ended)
		}
		if got := p.Got(echo); !bytes.Equal(got.Body.Bytes(), sent) || !got.Ended {
			t.Errorf("%d bytes of 200000, ended: %v", got.Body.Len(), got.Ended)
		}
		if got := p.Got(head); got.Body.Len() != 0 || !got.Ended {
			t.Errorf("HEAD: %d bytes, ended: %v", got.Body.Len(), got.Ended)
		}
		if got := p.Lines(events); len(got) != 3 || got[1] != "data: 1" {
			t.Errorf("got %q", got)
		}
		p.Write(func(f *http2.Framer) error { return f.WritePing(false, [8]byte{1}) })
		synctest.Wait()
		if p.Pings() != 1 {
			t.Error("a ping is not answered")
		}
		p.Conn.Close()
		synctest.Wait()
		if n := lo.route.Stats.Disconnected[Left].Load(); n != 1 {
			t.Errorf("%d have left", n)
		}
	})
}

// TestH2OpenMeansListening: a client that has its head gets whatever comes from then on.
func TestH2OpenMeansListening(t *testing.T) {
	inLoom(t, stream.Bounds{}, func(t *testing.T, lo *loom) {
		lo.cursor = stream.Begin
		p := lo.dial()
		said := 0
		p.Answered = func() { said++; lo.ring.Append(say(strconv.Itoa(said))) }
		for n := range 100 {
			id := p.Ask("GET", "/", nil)
			synctest.Wait()
			if got := p.Lines(id); len(got) < 3 || got[1] != fmt.Sprint("data: ", n+1) {
				t.Fatalf("got %q, want event %d first", got, n+1)
			}
		}
		p.Conn.Close()
	})
}

// TestH2ARequestWithABodyKeepsItsGoroutine: net/http has to read the rest, or to stop it.
func TestH2ARequestWithABodyKeepsItsGoroutine(t *testing.T) {
	inLoom(t, stream.Bounds{}, func(t *testing.T, lo *loom) {
		p := lo.dial()
		id := p.Ask("GET", "/", []byte{})
		synctest.Wait()
		lo.ring.Append(say("1"))
		synctest.Wait()
		if got := p.Lines(id); lo.adopted() != 0 || len(got) != 3 || got[1] != "data: 1" {
			t.Errorf("%d without goroutines, got %q", lo.adopted(), got)
		}
		p.Conn.Close()
	})
}

func TestH2Heartbeats(t *testing.T) {
	inLoom(t, stream.Bounds{}, func(t *testing.T, lo *loom) {
		p := lo.dial()
		id := p.Ask("GET", "/", nil)
		synctest.Wait()
		p.Lines(id)
		for _, c := range []struct {
			wait time.Duration
			want string
		}{{14 * time.Second, ""}, {2 * time.Second, ":"}, {15 * time.Second, ":"}} {
			pass(c.wait)
			if got := strings.Join(p.Lines(id), "|"); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		}
		pass(9 * time.Second)
		lo.ring.Append(say("x"))
		pass(14 * time.Second)
		if got := p.Lines(id); len(got) != 2 {
			t.Errorf("got %q, want the event alone", got)
		}
		pass(2 * time.Second)
		if got := p.Lines(id); len(got) != 1 || got[0] != ":" {
			t.Errorf("got %q", got)
		}
		p.Conn.Close()
	})
}

// TestH2HeartbeatsAsEvents: the first one comes within a second.
func TestH2HeartbeatsAsEvents(t *testing.T) {
	inLoom(t, stream.Bounds{}, func(t *testing.T, lo *loom) {
		lo.beats = true
		p := lo.dial()
		id := p.Ask("GET", "/", nil)
		pass(firstBeat)
		first := p.Lines(id)
		pass(14 * time.Second)
		between := p.Lines(id)
		pass(time.Second)
		if second := p.Lines(id); len(first) != 4 || first[1] != "event: stream.heartbeat" || len(between) > 0 || len(second) != 3 {
			t.Errorf("got %q, then %q, then %q", first, between, second)
		}
		p.Conn.Close()
	})
}

// TestH2AStreamThatTakesNothing is cut after 30 s; those beside it are not, and one that takes a little from time to time
// goes on.
func TestH2AStreamThatTakesNothing(t *testing.T) {
	inLoom(t, stream.Bounds{}, func(t *testing.T, lo *loom) {
		p := lo.dial(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1000})
		p.Grant(0, 1<<20)
		stuck, little, reads := p.Ask("GET", "/", nil), p.Ask("GET", "/", nil), p.Ask("GET", "/", nil)
		synctest.Wait()
		p.Hold()
		p.Grant(reads, 1<<20)
		for i := range 10 {
			lo.ring.Append(say(fmt.Sprint(i, strings.Repeat("x", 500))))
			synctest.Wait()
		}
		pass(20 * time.Second)
		p.Grant(little, 10)
		pass(10*time.Second - time.Millisecond)
		if n := lo.route.Stats.Clients.Load(); n != 3 {
			t.Fatalf("%d clients after 29 s", n)
		}
		pass(time.Millisecond)
		if n := lo.route.Stats.Disconnected[Stalled].Load(); n != 1 || p.Got(stuck).Reset == 0 {
			t.Fatalf("after 30 s %d are stalled, reset: %v", n, p.Got(stuck).Reset)
		}
		pass(20 * time.Second)
		if n := lo.route.Stats.Disconnected[Stalled].Load(); n != 2 || p.Got(little).Reset == 0 {
			t.Fatalf("after 50 s %d are stalled", n)
		}
		pass(time.Hour)
		if got := p.Lines(reads); lo.route.Stats.Clients.Load() != 1 || len(got) < 240 {
			t.Errorf("the third has got %d lines", len(got))
		}
		p.Conn.Close()
	})
}

// TestH2SlowClientGetsAGapAndGoesOn: what its window did not take in time is said.
func TestH2SlowClientGetsAGapAndGoesOn(t *testing.T) {
	inLoom(t, stream.Bounds{Events: 4}, func(t *testing.T, lo *loom) {
		p := lo.dial(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 100})
		id, fast := p.Ask("GET", "/", nil), p.Ask("GET", "/", nil)
		p.Hold()
		p.Grant(fast, 1<<20)
		for i := range 100 {
			lo.ring.Append(say(strconv.Itoa(i)))
			synctest.Wait()
		}
		if got := p.Lines(fast); got[len(got)-2] != "data: 99" {
			t.Errorf("the fast client has got %q", got[len(got)-2])
		}
		for range 100 { // also the gap comes in pieces
			p.Grant(id, 7)
			synctest.Wait()
		}
		got := p.Got(id)
		text := got.Body.String()
		gap := regexp.MustCompile(`event: stream.gap\ndata: \{"reason":"evicted","missed":([0-9]+)\}`).FindStringSubmatch(text)
		if gap == nil {
			t.Fatalf("no gap in %q", text)
		}
		missed, _ := strconv.Atoi(gap[1])
		if got := strings.Count(text, "\ndata: ") - 1; got+missed != 100 || strings.Count(text, "stream.gap") != 1 || !strings.Contains(text, "data: 99\n") {
			t.Errorf("%d events and %d missed: %q", got, missed, text)
		}
		p.Conn.Close()
	})
}

func TestH2LostIsSaidBeforeAnythingElse(t *testing.T) {
	inLoom(t, stream.Bounds{Start: 1}, func(t *testing.T, lo *loom) {
		lo.ring.Append(say("1"), say("2"))
		lo.cursor, lo.lost = stream.Begin, true
		p := lo.dial()
		id := p.Ask("GET", "/", nil)
		synctest.Wait()
		want := []string{"event: stream.gap", `data: {"reason":"restart","missed":null}`, "id: " + lo.ring.Position(1), "data: 2", "id: " + lo.ring.Position(2)}
		if got := p.Lines(id); len(got) != 6 || strings.Join(got[1:], "|") != strings.Join(want, "|") {
			t.Errorf("got %q, want %q", got, want)
		}
		p.Conn.Close()
	})
}

func TestH2Coalesces(t *testing.T) {
	inLoom(t, stream.Bounds{}, func(t *testing.T, lo *loom) {
		lo.route.Coalesce = time.Second
		p := lo.dial()
		id := p.Ask("GET", "/", nil)
		pass(70 * time.Second) // not with a heartbeat
		p.Lines(id)
		counts := ""
		for i := range 8 {
			lo.ring.Append(say(strconv.Itoa(i)))
			pass(400 * time.Millisecond)
			counts += strconv.Itoa(len(p.Lines(id)) / 2)
		}
		if counts != "10202003" {
			t.Errorf("events came as %s", counts)
		}
		p.Conn.Close()
	})
}

// TestH2ReleaseGivesWhatWasHeldBack: nothing of the ring is kept from a client that is told to come back.
func TestH2ReleaseGivesWhatWasHeldBack(t *testing.T) {
	inLoom(t, stream.Bounds{}, func(t *testing.T, lo *loom) {
		lo.route.Coalesce = time.Hour
		p := lo.dial()
		id := p.Ask("GET", "/", nil)
		synctest.Wait()
		p.Lines(id)
		lo.ring.Append(say("1"))
		pass(time.Second)
		if got := p.Lines(id); len(got) > 0 {
			t.Errorf("got %q, want nothing yet", got)
		}
		lo.clients.Drain(0)
		if got := p.Lines(id); len(got) != 3 || got[0] != "data: 1" || !hint.MatchString(got[2]) {
			t.Errorf("got %q", got)
		}
		p.Conn.Close()
	})
}

// TestH2OverTLS: it is the same there, and the handler can find out about the TLS.
func TestH2OverTLS(t *testing.T) {
	certified := httptest.NewTLSServer(nil)
	config := &tls.Config{Certificates: certified.TLS.Certificates, NextProtos: []string{"h2", "http/1.1"}}
	certified.Close()
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	lo := &loom{bench: &bench{t: t, route: Pacing{Heartbeat: time.Second, Retry: time.Second, Stats: new(Stats), Log: slog.New(slog.DiscardHandler)}}}
	lo.ring = stream.NewRing(stream.NewEpoch(time.Now()), stream.Bounds{}, &lo.stats, false)
	seen := make(chan *tls.ConnectionState, 2)
	stop := serving(&lo.clients, l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen <- TLS(r)
		lo.ServeHTTP(w, r)
	}), nil, config)
	defer stop()
	for _, proto := range []int{2, 1} {
		tr := &http.Transport{Protocols: new(http.Protocols), TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
		tr.Protocols.SetHTTP1(proto == 1)
		tr.Protocols.SetHTTP2(proto == 2)
		resp, err := tr.RoundTrip(httptest.NewRequest("GET", "https://"+l.Addr().String()+"/", nil))
		if err != nil {
			t.Fatal(err)
		}
		in := bufio.NewScanner(resp.Body)
		if !in.Scan() || !hint.MatchString(in.Text()) || resp.ProtoMajor != proto {
			t.Errorf("HTTP/%d: got %q over %s", proto, in.Text(), resp.Proto)
		}
		if state := <-seen; state == nil || state.Version < tls.VersionTLS12 {
			t.Errorf("HTTP/%d: the handler sees %v", proto, state)
		}
		if n := lo.adopted(); n != proto-1 {
			t.Errorf("HTTP/%d: %d without goroutines", proto, n)
		}
		resp.Body.Close()
		tr.CloseIdleConnections()
		eventually(t, "the client has left", func() bool { return lo.route.Stats.Clients.Load() == 0 })
	}
}
