//go:build linux && !portable

package deliver

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"sidestream/proxy/deliver/h2"
	"sidestream/proxy/deliver/h2/h2test"
	"sidestream/proxy/stream"
	"sidestream/translate"
)

// loom is a server for HTTP/2 of one ring, as proxy.Server has it, over connections in memory; /other is of another one.
// What is no event stream: /bulk?n answers with n bytes, /head?n with n bytes of head, /echo with the body.
type loom struct {
	*bench
	l     *pipes
	s     *http.Server
	other *stream.Ring
}

func newLoom(t *testing.T, bounds stream.Bounds) *loom {
	b := newBench(t, bounds)
	lo := &loom{bench: b, other: stream.NewRing(stream.NewEpoch(time.Now()), bounds, &b.stats, false), l: &pipes{conns: make(chan net.Conn), done: make(chan struct{})}}
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
		finish(lo.clients.Join(w, r, Client{Route: &lo.route, Ring: ring, Retiring: lo.retiring, Cursor: lo.cursor, Lost: lo.lost, LastID: lo.lastID, Beats: lo.beats, Leave: func() {}}))
	}
}

// dial connects a peer. first is its settings.
func (lo *loom) dial(first ...http2.Setting) *h2test.Peer {
	ours, theirs := net.Pipe()
	lo.l.conns <- newCarrier(theirs, &lo.clients)
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

// inLoom runs f in a bubble, with everything closed behind it.
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
		if n := lo.route.Stats.Gone[Left].Load(); n != 1 {
			t.Errorf("%d have left", n)
		}
	})
}

// TestH2OpenMeansListening: who has been answered gets whatever comes from then on.
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

func TestH2Ends(t *testing.T) {
	for _, c := range endings {
		inLoom(t, stream.Bounds{}, func(t *testing.T, lo *loom) {
			p := lo.dial()
			id := p.Ask("GET", "/", nil)
			synctest.Wait()
			lo.ring.Append(say("1"))
			lo.ring.Close(c.end)
			synctest.Wait()
			if got := p.Got(id); got.Ended != c.clean || got.Reset != 0 {
				t.Errorf("%+v: ended: %v, reset: %v", c.end, got.Ended, got.Reset)
			}
			pass(moment)
			got := p.Got(id)
			lines := slices.DeleteFunc(p.Lines(id), func(l string) bool { return strings.HasPrefix(l, "id: ") })
			if got.Ended != c.clean || (got.Reset == http2.ErrCodeInternal) == c.clean || !strings.HasPrefix(lines[len(lines)-1], c.last) {
				t.Errorf("%+v: ended: %v, reset: %v, behind %q", c.end, got.Ended, got.Reset, lines)
			}
			if lo.route.Stats.Gone[c.reason].Load() != 1 || lo.route.Stats.Clients.Load() != 0 {
				t.Errorf("%+v: not counted as %s", c.end, Reasons[c.reason])
			}
			big := p.Ask("GET", "/bulk?1000", nil)
			synctest.Wait()
			if p.Got(big).Body.Len() != 1000 {
				t.Error("the connection is of no use any more")
			}
			p.Conn.Close()
		})
	}
}

func TestH2DrainSpreadsTheClients(t *testing.T) {
	inLoom(t, stream.Bounds{}, func(t *testing.T, lo *loom) {
		p, other := lo.dial(), lo.dial()
		for range 200 {
			p.Ask("GET", "/", nil)
		}
		full := other.Ask("GET", "/", nil)
		synctest.Wait()
		other.Hold()
		lo.ring.Append(say(strings.Repeat("x", 70<<10)))
		begin, halves := time.Now(), 0
		drained := make(chan struct{})
		go func() { lo.clients.Drain(10 * time.Second); close(drained) }()
		pass(5 * time.Second)
		halves = int(lo.route.Stats.Gone[Drained].Load())
		<-drained
		if took := time.Since(begin); took < 9*time.Second || took > 10*time.Second+moment || halves < 60 || halves > 140 {
			t.Errorf("draining took %v, %d of 201 were gone after half of it", took, halves)
		}
		for _, id := range p.Streams() {
			got, lines := p.Got(id), p.Lines(id)
			if got.Reset != http2.ErrCodeInternal || !hint.MatchString(lines[len(lines)-1]) {
				t.Fatalf("reset: %v, behind %q", got.Reset, lines[len(lines)-1])
			}
		}
		if got := other.Got(full); got.Reset != http2.ErrCodeInternal || got.Ended {
			t.Errorf("whose window was full: reset %v, ended %v", got.Reset, got.Ended)
		}
		if n := lo.route.Stats.Gone[Drained].Load(); n != 201 {
			t.Errorf("%d counted as drained", n)
		}
		late := p.Ask("GET", "/", nil)
		pass(moment)
		if got := p.Got(late); got.Reset == 0 || !strings.Contains(got.Body.String(), "stream.busy") {
			t.Errorf("who came late got %q", got.Body.String())
		}
		p.Conn.Close()
		other.Conn.Close()
	})
}

func TestH2AgeReleasesWithinTenSeconds(t *testing.T) {
	inLoom(t, stream.Bounds{}, func(t *testing.T, lo *loom) {
		p := lo.dial()
		id := p.Ask("GET", "/", nil)
		pass(61 * time.Second)
		p.Lines(id)
		close(lo.retiring)
		lo.ring.Wake()
		lo.ring.Append(say("still served"))
		synctest.Wait()
		if got := p.Lines(id); len(got) != 2 || got[0] != "data: still served" {
			t.Errorf("got %q", got)
		}
		pass(stream.RetireTime + moment)
		if got := p.Got(id); got.Reset != http2.ErrCodeInternal || lo.route.Stats.Gone[Aged].Load() != 1 {
			t.Errorf("reset: %v, %d counted", got.Reset, lo.route.Stats.Gone[Aged].Load())
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
		if n := lo.route.Stats.Gone[Stalled].Load(); n != 1 || p.Got(stuck).Reset == 0 {
			t.Fatalf("after 30 s %d are stalled, reset: %v", n, p.Got(stuck).Reset)
		}
		pass(20 * time.Second)
		if n := lo.route.Stats.Gone[Stalled].Load(); n != 2 || p.Got(little).Reset == 0 {
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

// TestH2LargeReplayComesWhole, and so does what follows it.
func TestH2LargeReplayComesWhole(t *testing.T) {
	inLoom(t, stream.Bounds{}, func(t *testing.T, lo *loom) {
		big := strings.Repeat("x", 100<<10)
		for range 20 {
			lo.ring.Append(say(big))
		}
		p := lo.dial(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 25})
		p.Grant(0, 1<<25)
		id := p.Ask("GET", "/", nil)
		synctest.Wait()
		lo.ring.Append(say(big))
		synctest.Wait()
		got := p.Got(id)
		if n := strings.Count(got.Body.String(), "data: "+big+"\n"); n != 21 {
			t.Errorf("got %d of 21", n)
		}
		if n := lo.route.Stats.Replayed.Load(); n != 20 {
			t.Errorf("%d counted as replayed", n)
		}
		if n := lo.route.Stats.Events.Load(); n != 21 {
			t.Errorf("%d counted as sent", n)
		}
		p.Conn.Close()
	})
}

// TestH2ManySmallEvents: more than one reading of the ring brings.
func TestH2ManySmallEvents(t *testing.T) {
	inLoom(t, stream.Bounds{Events: 5000}, func(t *testing.T, lo *loom) {
		for range 3 * mostEvents {
			lo.ring.Append(say("x"))
		}
		p := lo.dial()
		id := p.Ask("GET", "/", nil)
		synctest.Wait()
		if got := p.Got(id); strings.Count(got.Body.String(), "data: x\n") != 3*mostEvents {
			t.Errorf("got %d of %d", strings.Count(got.Body.String(), "data: x\n"), 3*mostEvents)
		}
		p.Conn.Close()
	})
}

// TestH2AQuarterOfTheWindowIsForEvents: a download that takes all it gets does not keep them.
func TestH2AQuarterOfTheWindowIsForEvents(t *testing.T) {
	inLoom(t, stream.Bounds{}, func(t *testing.T, lo *loom) {
		p := lo.dial(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 25})
		p.Hold()
		id := p.Ask("GET", "/", nil)
		synctest.Wait()
		p.Lines(id)
		big := p.Ask("GET", "/bulk?1000000", nil)
		synctest.Wait()
		lo.ring.Append(say("1"))
		for turn := range 10 {
			p.Grant(0, h2test.FirstWindow/2)
			synctest.Wait()
			lo.ring.Append(say(strings.Repeat("x", 1000)))
			synctest.Wait()
			if got := p.Got(id); strings.Count(got.Body.String(), "data: ") != turn+2 {
				t.Fatalf("after %d grants: %q", turn+1, got.Body.String())
			}
		}
		if got := p.Got(big).Body.Len(); got < 200_000 {
			t.Errorf("the download has got %d bytes", got)
		}
		p.Conn.Close()
	})
}

// TestH2SnapshotIsNotLeftBehind: what stands in for the past comes, whatever the client's window.
func TestH2SnapshotIsNotLeftBehind(t *testing.T) {
	for _, window := range []uint32{h2test.FirstWindow, 0, 5, 50} {
		inLoom(t, stream.Bounds{Start: 1}, func(t *testing.T, lo *loom) {
			for i := range 5 {
				lo.ring.Append(translate.Message{Key: fmt.Sprint(i), Data: fmt.Append(nil, "key", i)})
			}
			lo.cursor = stream.Begin
			p := lo.dial(http2.Setting{ID: http2.SettingInitialWindowSize, Val: window})
			id := p.Ask("GET", "/", nil)
			synctest.Wait()
			p.Grant(id, 10000)
			synctest.Wait()
			text := p.Got(id).Body.String()
			if n := strings.Count(text, "data: key"); n != 5 || strings.Contains(text, "gap") {
				t.Errorf("window %d: %d of 5 keys: %q", window, n, text)
			}
			p.Conn.Close()
		})
	}
}

// TestH2SnapshotBehindAGap: the same for a client that was slow, however it takes the gap.
func TestH2SnapshotBehindAGap(t *testing.T) {
	for _, piece := range []int64{10_000, 7} {
		inLoom(t, stream.Bounds{Events: 4}, func(t *testing.T, lo *loom) {
			p := lo.dial(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 100})
			id := p.Ask("GET", "/", nil)
			synctest.Wait()
			p.Hold()
			latest := map[string]int{}
			for i := range 50 {
				key := fmt.Sprint("key", i%4)
				latest[key] = i
				lo.ring.Append(translate.Message{Key: key, Data: fmt.Append(nil, key, "=", i)})
				synctest.Wait()
			}
			for range max(1, 3000/piece) {
				p.Grant(id, piece)
				synctest.Wait()
			}
			text := p.Got(id).Body.String()
			for key, i := range latest {
				if !strings.Contains(text, fmt.Sprintf("data: %s=%d\n", key, i)) {
					t.Fatalf("granted by %d: the newest of %s is missing: %q", piece, key, text)
				}
			}
			p.Conn.Close()
		})
	}
}

// TestH2AFullRingDoesNotKeepTheOthers: who takes all that a connection carries is not written to before everyone else.
func TestH2AFullRingDoesNotKeepTheOthers(t *testing.T) {
	inLoom(t, stream.Bounds{}, func(t *testing.T, lo *loom) {
		p := lo.dial(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
		p.Grant(0, 1<<30)
		first := p.Ask("GET", "/", nil)
		synctest.Wait()
		p.Ask("GET", "/other", nil)
		synctest.Wait()
		frames, quiet := 0, 0
		p.Came = func(id uint32) {
			if id == first {
				quiet++
			} else if frames++; frames < 500 {
				lo.other.Append(say(strings.Repeat("x", 20_000)))
			} else if frames == 500 && quiet == 0 {
				t.Error("nothing has come in the other stream")
			}
			if frames == 50 {
				lo.ring.Append(say("1"))
			}
		}
		for range 10 {
			lo.other.Append(say(strings.Repeat("x", 20_000)))
		}
		synctest.Wait()
		if frames < 500 || quiet != 1 {
			t.Errorf("%d frames, and %d of the other stream", frames, quiet)
		}
		p.Conn.Close()
	})
}

// TestH2IdleConnections end with a GOAWAY, those with event streams do not, however long nothing else happens.
func TestH2IdleConnections(t *testing.T) {
	inLoom(t, stream.Bounds{}, func(t *testing.T, lo *loom) {
		idle, used := lo.dial(), lo.dial()
		id := used.Ask("GET", "/", nil)
		pass(time.Minute)
		big := idle.Ask("GET", "/bulk?1000", nil)
		synctest.Wait()
		pass((2 * time.Minute) - time.Second)
		if n, _ := idle.GoAways(); n > 0 || idle.Got(big).Body.Len() != 1000 {
			t.Fatal("closed before its time")
		}
		pass(time.Second)
		if n, _ := idle.GoAways(); n != 1 {
			t.Fatal("no GOAWAY")
		}
		late := idle.Ask("GET", "/bulk?1000", nil)
		pass(time.Second)
		<-idle.Done
		if idle.Got(late).Status != "" {
			t.Error("a request behind GOAWAY was answered, which its client asks again elsewhere")
		}
		pass(time.Hour)
		used.Write(func(f *http2.Framer) error { return f.WriteGoAway(0, 0, nil) }) // it will not push; we do not either
		pass(time.Hour)
		lo.ring.Append(say("there"))
		synctest.Wait()
		n, _ := used.GoAways()
		if got := used.Lines(id); n > 0 || got[len(got)-2] != "data: there" {
			t.Errorf("%d GOAWAYs, and %q", n, got[len(got)-2])
		}
		used.Write(func(f *http2.Framer) error { return f.WriteRSTStream(id, http2.ErrCodeCancel) })
		synctest.Wait()
		if n := lo.route.Stats.Gone[Left].Load(); n != 1 {
			t.Errorf("%d have left", n)
		}
		pass((2 * time.Minute) + time.Second)
		<-used.Done
	})
}

// TestH2TheWindowOfTheConnection: event streams may use all of it; what net/http would send meanwhile comes behind that,
// whole, and then they share.
func TestH2TheWindowOfTheConnection(t *testing.T) {
	inLoom(t, stream.Bounds{}, func(t *testing.T, lo *loom) {
		p := lo.dial(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
		p.Hold()
		id := p.Ask("GET", "/", nil)
		synctest.Wait()
		text := strings.Repeat("x", 1000)
		for range 100 {
			lo.ring.Append(say(text))
		}
		synctest.Wait()
		if got := p.Got(id); got.Body.Len() != h2test.FirstWindow {
			t.Fatalf("got %d bytes of a window of %d", got.Body.Len(), h2test.FirstWindow)
		}
		bulks := []uint32{p.Ask("GET", "/bulk?100000", nil), p.Ask("GET", "/bulk?100000", nil)}
		pass(time.Second)
		// A client that grants once it has got half of the window, as many do.
		total := func() (n int64) {
			for _, id := range p.Streams() {
				got := p.Got(id)
				n += int64(got.Body.Len())
			}
			return n
		}
		granted, turns := int64(h2test.FirstWindow), 0
		for ; turns < 100; turns++ {
			if due := h2test.FirstWindow - (granted - total()); due >= h2test.FirstWindow/2 {
				granted += due
				p.Grant(0, due)
				pass(time.Second)
				continue
			}
			break
		}
		got := p.Got(id)
		if n := strings.Count(got.Body.String(), "data: "); n != 100 {
			t.Errorf("%d of 100 events, after %d grants", n, turns)
		}
		for _, id := range bulks {
			if got := p.Got(id); !bytes.Equal(got.Body.Bytes(), h2test.Bulk(100_000)) || !got.Ended {
				t.Errorf("%d of 100000 bytes, ended: %v, after %d grants", got.Body.Len(), got.Ended, turns)
			}
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
	lo := &loom{bench: &bench{t: t, route: Route{Heartbeat: time.Second, Retry: time.Second, Stats: new(Stats), Log: slog.New(slog.DiscardHandler)}}}
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

// TestH2EveryByte has clients with windows of all sizes, in one connection with requests of other kinds, who come and go.
func TestH2EveryByte(t *testing.T) {
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	lo := &loom{bench: &bench{t: t, route: Route{Heartbeat: time.Second, Retry: time.Second, Stats: new(Stats), Log: slog.New(slog.DiscardHandler)}}}
	lo.ring = stream.NewRing(stream.NewEpoch(time.Now()), stream.Bounds{Events: 1 << 20, Bytes: 1 << 30}, &lo.stats, false)
	stop := serving(&lo.clients, l, lo, nil, nil)
	const events = 1500
	var running sync.WaitGroup
	for n := range 3 {
		running.Go(func() {
			conn, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(100 * time.Second))
			p := h2test.New(t, conn, http2.Setting{ID: http2.SettingInitialWindowSize, Val: []uint32{0, 100, 1 << 20}[n]})
			var ids []uint32
			for range 10 {
				id := p.Ask("GET", "/", nil)
				ids = append(ids, id)
				p.Grant(id, 1+rand.Int64N(5000))
			}
			for i := range 60 {
				size := 1 + rand.IntN(200_000)
				big := p.Ask("GET", fmt.Sprintf("/bulk?%d", size), nil)
				p.Grant(big, 1<<20)
				gone := p.Ask("GET", "/", nil) // on its way out
				if i%2 == 0 {
					<-time.After(time.Millisecond)
				}
				p.Write(func(f *http2.Framer) error { return f.WriteRSTStream(gone, http2.ErrCodeCancel) })
				if n == 0 && i%10 == 0 { // windows that shrink, and grow again
					for _, v := range []uint32{0, uint32(rand.IntN(3000))} {
						p.Resize(v)
					}
				}
				eventually(t, "the download", func() bool { got := p.Got(big); return got.Ended })
				if got := p.Got(big); !bytes.Equal(got.Body.Bytes(), h2test.Bulk(size)) {
					t.Errorf("a download of %d bytes came as %d others", size, got.Body.Len())
				}
			}
			for _, id := range ids {
				p.Grant(id, 1<<24)
			}
			for _, id := range ids {
				eventually(t, "the end", func() bool { got := p.Got(id); return got.Ended || got.Reset != 0 })
				at := 0
				for _, text := range p.Lines(id) {
					if data, ok := strings.CutPrefix(text, "data: "); ok {
						if data != payload(at) {
							t.Errorf("event %d is %.40q", at, data)
							return
						}
						at++
					}
				}
				if got := p.Got(id); at != events || got.Reset != 0 {
					t.Errorf("%d of %d events, reset: %v", at, events, got.Reset)
				}
			}
		})
	}
	for i := range events {
		lo.ring.Append(translate.Message{Data: []byte(payload(i))})
		if i%50 == 0 {
			<-time.After(10 * time.Millisecond)
		}
	}
	lo.ring.Close(stream.End{Kind: stream.Finished})
	running.Wait()
	stop()
	if n := lo.route.Stats.Clients.Load(); n != 0 {
		t.Errorf("%d clients are left", n)
	}
}

// FuzzH2: whatever a client sends, the connection ends with it, and nobody is left.
func FuzzH2(f *testing.F) {
	frames := func(do func(*http2.Framer)) []byte {
		var b bytes.Buffer
		do(http2.NewFramer(&b, nil))
		return b.Bytes()
	}
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	for _, h := range [][2]string{{":method", "GET"}, {":scheme", "http"}, {":authority", "x"}, {":path", "/"}} {
		e.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]})
	}
	get := func(w *http2.Framer, id uint32) {
		w.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true})
	}
	f.Add(frames(func(w *http2.Framer) { w.WriteSettings(); get(w, 1); w.WriteRSTStream(1, 0); get(w, 3) }))
	f.Add(frames(func(w *http2.Framer) {
		w.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 5})
		get(w, 1)
		w.WriteWindowUpdate(1, 1<<31-1)
		w.WriteWindowUpdate(0, 1<<31-1)
		w.WriteGoAway(0, 0, nil)
		w.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1})
		w.WriteData(1, true, []byte("x"))
		get(w, 1)
	}))
	f.Add(append(frames(func(w *http2.Framer) { w.WriteSettings(); get(w, 1) }), 0xff, 0xff, 0xff, 8, 0, 0, 0, 0, 0))
	f.Add(binary.BigEndian.AppendUint32(nil, 1<<30))
	f.Fuzz(func(t *testing.T, sent []byte) {
		synctest.Test(t, func(t *testing.T) {
			lo := newLoom(t, stream.Bounds{})
			ours, theirs := net.Pipe()
			lo.l.conns <- newCarrier(theirs, &lo.clients)
			go io.Copy(io.Discard, ours) // ends with ours
			ours.SetWriteDeadline(time.Now().Add(time.Second))
			io.WriteString(ours, h2.Preface)
			ours.Write(sent)
			lo.ring.Append(say("1"))
			synctest.Wait()
			lo.ring.Append(say("2"))
			pass(time.Second)
			ours.Close()
			synctest.Wait()
			if n := lo.route.Stats.Clients.Load(); n != 0 {
				t.Errorf("%d clients are left", n)
			}
			lo.close()
		})
	})
}
