package deliver

import (
	"bufio"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"sidestream/e2e/pipes"
	"sidestream/proxy/access"
	"sidestream/proxy/stream"
	"sidestream/translate"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bench is a server of one ring.
type bench struct {
	t        *testing.T
	ring     *stream.Ring
	route    Pacing
	clients  Clients
	retiring chan struct{}
	leaving  *stream.Release
	cursor   uint64
	lost     bool
	lastID   string // "" as if it were a new client
	beats    bool   // heartbeats are events
	polls    bool   // each answer is whole
	pass     *access.Pass
	fields   string // further lines of each request's head
	l        *pipes.Listener
	server   *http.Server
	stats    stream.Stats
}

func newBench(t *testing.T, bounds stream.Bounds) *bench {
	b := &bench{t: t, lastID: "known", retiring: make(chan struct{}), l: pipes.Listen(),
		route: Pacing{Heartbeat: 15 * time.Second, Retry: 3 * time.Second, Stats: new(Stats), Log: slog.New(slog.DiscardHandler)}}
	b.ring = stream.NewRing(stream.NewEpoch(time.Now()), bounds, &b.stats, false)
	b.server = &http.Server{Handler: b, ConnContext: WithConn, Protocols: new(http.Protocols)}
	b.server.Protocols.SetHTTP1(true)
	b.server.Protocols.SetUnencryptedHTTP2(true)
	go b.server.Serve(b.l)
	return b
}

func (b *bench) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	finish(b.clients.Join(w, r, Client{Route: &b.route, Ring: b.ring, Retiring: b.retiring, Leaving: b.leaving, Cursor: b.cursor, Lost: b.lost, LastID: b.lastID, Beats: b.beats, Polls: b.polls, Pass: b.pass, Leave: func() {}}))
}

// finish sees an answer to its end, as the proxy's handler does.
func finish(rest Rest) {
	if rest() {
		panic(http.ErrAbortHandler)
	}
}

func (b *bench) close() { b.server.Close(); synctest.Wait() }

// reader is a client that notes when each line came.
type reader struct {
	net.Conn
	mu    sync.Mutex
	start time.Time
	lines []line
	err   error
	ended time.Duration
	done  chan struct{}
}

type line struct {
	at   time.Duration
	text string
}

func (b *bench) connect() *reader {
	ours, theirs := net.Pipe()
	b.l.Offer(theirs)
	r := &reader{Conn: ours, start: time.Now(), done: make(chan struct{})}
	io.WriteString(ours, "GET / HTTP/1.1\r\nHost: x\r\n"+b.fields+"\r\n")
	in := bufio.NewReader(ours)
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	go func() {
		defer close(r.done)
		body := bufio.NewReader(resp.Body)
		for {
			text, err := body.ReadString('\n')
			r.mu.Lock()
			if err != nil {
				r.err, r.ended = err, time.Since(r.start)
				r.mu.Unlock()
				return
			}
			r.lines = append(r.lines, line{time.Since(r.start), strings.TrimSuffix(text, "\n")})
			r.mu.Unlock()
		}
	}()
	synctest.Wait()
	return r
}

// take returns the lines that have come since the last call, blank ones left out.
func (r *reader) take() []line {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	var some []line
	for _, l := range r.lines {
		if l.text != "" {
			some = append(some, l)
		}
	}
	r.lines = nil
	return some
}

func say(text string) translate.Message { return translate.Message{Data: []byte(text)} }

// pass lets time go by.
func pass(d time.Duration) { time.Sleep(d); synctest.Wait() }

func TestHeartbeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, stream.Bounds{})
		r := b.connect()
		if got := r.take(); len(got) != 1 || got[0].at != 0 || !strings.HasPrefix(got[0].text, "retry: ") {
			t.Fatalf("got %v, want a retry hint at once", got)
		}
		pass(31 * time.Second)
		if got := r.take(); len(got) != 2 || got[0] != (line{15 * time.Second, ":"}) || got[1] != (line{30 * time.Second, ":"}) {
			t.Errorf("got %v, want heartbeats at 15 and 30 s", got)
		}
		pass(9 * time.Second) // 40 s
		b.ring.Append(say("x"))
		if got := r.take(); len(got) != 2 || got[0].text != "data: x" || got[0].at != 40*time.Second {
			t.Errorf("got %v, want the event at 40 s", got)
		}
		pass(20 * time.Second)
		if got := r.take(); len(got) != 1 || got[0] != (line{55 * time.Second, ":"}) {
			t.Errorf("got %v, want the next heartbeat 15 s after the event", got)
		}
		r.Close()
		b.close()
	})
}

func TestNoHeartbeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, stream.Bounds{})
		b.route.Heartbeat = 0
		r := b.connect()
		r.take()
		pass(time.Hour)
		if got := r.take(); len(got) > 0 {
			t.Errorf("got %v", got)
		}
		r.Close()
		b.close()
	})
}

var hint = regexp.MustCompile(`^retry: ([0-9]+)$`)

func retryOf(t *testing.T, l line) time.Duration {
	t.Helper()
	m := hint.FindStringSubmatch(l.text)
	if m == nil {
		t.Fatalf("%q is no retry hint", l.text)
	}
	ms, _ := strconv.Atoi(m[1])
	return time.Duration(ms) * time.Millisecond
}

func TestDrainSpreadsTheClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, stream.Bounds{})
		b.clients.restart = 5 * time.Second
		var all []*reader
		for range 200 {
			all = append(all, b.connect())
		}
		begin := time.Now()
		b.clients.Drain(10 * time.Second)
		if took := time.Since(begin); took < 9*time.Second || took > 10*time.Second+moment {
			t.Errorf("draining took %v", took)
		}
		var halves [2]int
		hints := map[time.Duration]bool{}
		for _, r := range all {
			<-r.done
			got := r.take()
			last := got[len(got)-1]
			retry := retryOf(t, last)
			back := last.at + retry - (10*time.Second + b.clients.restart + time.Second) // after the restart
			if back < -time.Millisecond || back >= 3*time.Second {
				t.Errorf("a retry of %v at %v is %v after the restart, want [0, RETRY)", retry, last.at, back)
			}
			hints[retry] = true
			if !errors.Is(r.err, io.ErrUnexpectedEOF) || r.ended-last.at != moment {
				t.Errorf("ended with %v, %v after the hint", r.err, r.ended-last.at)
			}
			if last.at < 5*time.Second {
				halves[0]++
			} else {
				halves[1]++
			}
		}
		if min(halves[0], halves[1]) < 60 || len(hints) < 150 {
			t.Errorf("%v in each half of the window, %d different hints: not spread", halves, len(hints))
		}
		if n := b.route.Stats.Disconnected[Drained].Load(); n != 200 {
			t.Errorf("%d counted as drained", n)
		}
		b.close()
	})
}

func TestAgeReleasesWithinTenSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, stream.Bounds{})
		r := b.connect()
		pass(time.Minute)
		r.take()
		close(b.retiring)
		b.ring.Append(say("still served"))
		if got := r.take(); len(got) != 2 || got[0].text != "data: still served" {
			t.Errorf("got %v", got)
		}
		<-r.done
		if r.ended > 70*time.Second+moment || !errors.Is(r.err, io.ErrUnexpectedEOF) {
			t.Errorf("ended at %v with %v", r.ended, r.err)
		}
		b.close()
		if b.route.Stats.Disconnected[Aged].Load() != 1 {
			t.Error("not counted")
		}
	})
}

// endings are how a stream ends, and what its clients have of it after an event "1".
var endings = []struct {
	end    stream.End
	reason int
	clean  bool
	last   string
}{
	{stream.End{Kind: stream.Finished}, Finished, true, `data: 1`},
	{stream.End{Kind: stream.Refused, Status: 401}, Refused, false, `data: {"status":401}`},
	{stream.End{Kind: stream.Retired}, Aged, false, `retry: `},
}

func TestEnds(t *testing.T) {
	for _, c := range endings {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, stream.Bounds{})
			r := b.connect()
			b.ring.Append(say("1"))
			b.ring.Close(c.end)
			<-r.done
			got := r.take()
			last := got[len(got)-1].text
			if strings.HasPrefix(last, "id: ") {
				last = got[len(got)-2].text
			}
			if !strings.HasPrefix(last, c.last) || (r.err == io.EOF) != c.clean {
				t.Errorf("%+v: ended with %q and %v", c.end, last, r.err)
			}
			b.close()
			if b.route.Stats.Disconnected[c.reason].Load() != 1 {
				t.Errorf("%+v: not counted as %s", c.end, Reasons[c.reason])
			}
		})
	}
}

func TestAClientThatLeavesIsNoticedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, stream.Bounds{})
		r := b.connect()
		if n := b.route.Stats.Clients.Load(); n != 1 {
			t.Fatalf("%d clients", n)
		}
		r.Close()
		synctest.Wait()
		if n := b.route.Stats.Clients.Load(); n != 0 {
			t.Errorf("still %d clients", n)
		}
		b.close()
	})
}

func TestSlowClientGetsAGapAndGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, stream.Bounds{Events: 4})
		ours, theirs := net.Pipe()
		b.l.Offer(theirs)
		io.WriteString(ours, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		in := bufio.NewReader(ours)
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		fast := b.connect()
		// The pipe holds nothing, so the writer is stuck while the client does not read.
		for i := range 100 {
			b.ring.Append(say(strconv.Itoa(i)))
			synctest.Wait()
		}
		if got := fast.take(); got[len(got)-2].text != "data: 99" {
			t.Errorf("the fast client has got %v", got[len(got)-2])
		}
		go func() { pass(time.Second); ours.Close() }()
		body, _ := io.ReadAll(resp.Body)
		text := string(body)
		gap := regexp.MustCompile(`event: stream.gap\ndata: \{"reason":"evicted","missed":([0-9]+)\}`).FindStringSubmatch(text)
		if gap == nil {
			t.Fatalf("no gap in %q", text)
		}
		missed, _ := strconv.Atoi(gap[1])
		if got := strings.Count(text, "\ndata: ") - 1; got+missed != 100 {
			t.Errorf("%d events and %d missed are not 100", got, missed)
		}
		if strings.Count(text, "stream.gap") != 1 || !strings.Contains(text, "data: 99\n") {
			t.Errorf("got %q", text)
		}
		fast.Close()
		b.close()
	})
}

func TestLostIsSaidBeforeAnythingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, stream.Bounds{Start: 1})
		b.ring.Append(say("1"), say("2"))
		b.cursor, b.lost = stream.Begin, true
		r := b.connect()
		got := r.take()
		want := []string{"event: stream.gap", `data: {"reason":"restart","missed":null}`, "id: " + b.ring.Position(1), "data: 2", "id: " + b.ring.Position(2)}
		if len(got) != 6 {
			t.Fatalf("got %v", got)
		}
		for i, text := range want {
			if got[i+1].text != text {
				t.Errorf("line %d is %q, want %q", i, got[i+1].text, text)
			}
		}
		r.Close()
		b.close()
	})
}

func TestLargeReplayComesInBatchesAndWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, stream.Bounds{})
		big := strings.Repeat("x", 100<<10)
		for range 20 {
			b.ring.Append(say(big))
		}
		r := b.connect()
		n := 0
		for _, l := range r.take() {
			if l.text == "data: "+big {
				n++
			}
		}
		if n != 20 {
			t.Errorf("got %d of 20", n)
		}
		r.Close()
		b.close()
	})
}
