package deliver

import (
	"bufio"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sidestream/proxy/access"
	"sidestream/proxy/stream"
	"sidestream/translate"
)

// The tests here are over real sockets, so that they hold both for clients without goroutines and, with -tags
// portable, for those that have one.

// harbour is a server of one ring over TCP.
type harbour struct {
	turns   atomic.Int64
	t       *testing.T
	ring    *stream.Ring
	route   Pacing
	clients Clients
	addr    string
	network string
	left    atomic.Int64
	opened  atomic.Int64
	met     atomic.Int64 // connections that net/http has been given
	retire  chan struct{}
	leaving stream.Release // written before retire is closed
	beats   atomic.Bool
	pass    atomic.Pointer[access.Pass]
	gzip    bool // every other client takes it
	secure  bool // over TLS, every other client with 1.2
	address atomic.Pointer[netip.Addr]
}

func newHarbour(t *testing.T, bounds stream.Bounds, heartbeat time.Duration, set ...func(*Pacing)) *harbour {
	return newHarbourOf(t, bounds, heartbeat, 0, set...)
}

// newHarbourOf is newHarbour with a limit of its own for what was there before a client, 0 for none.
func newHarbourOf(t *testing.T, bounds stream.Bounds, heartbeat time.Duration, replay int64, set ...func(*Pacing)) *harbour {
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return newHarbourAt(t, l, bounds, heartbeat, replay, set...)
}

// newHarbourAt is newHarbourOf on l.
func newHarbourAt(t *testing.T, l net.Listener, bounds stream.Bounds, heartbeat time.Duration, replay int64, set ...func(*Pacing)) *harbour {
	return newHarbourWith(t, l, nil, bounds, heartbeat, replay, set...)
}

// newSecureHarbour is newHarbour over TLS.
func newSecureHarbour(t *testing.T, bounds stream.Bounds, heartbeat time.Duration, set ...func(*Pacing)) *harbour {
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return newHarbourWith(t, l, selfSigned(), bounds, heartbeat, 0, set...)
}

// wire makes a harbour.
type wire func(t *testing.T, bounds stream.Bounds, heartbeat time.Duration, set ...func(*Pacing)) *harbour

// overEach runs f in clear and over TLS: what a client gets is the same.
func overEach(t *testing.T, f func(t *testing.T, newHarbour wire)) {
	t.Run("clear", func(t *testing.T) { f(t, newHarbour) })
	t.Run("TLS", func(t *testing.T) { f(t, newSecureHarbour) })
}

// selfSigned is a server's configuration for tests.
func selfSigned() *tls.Config {
	certified := httptest.NewTLSServer(nil)
	defer certified.Close()
	return &tls.Config{Certificates: certified.TLS.Certificates, NextProtos: []string{"h2", "http/1.1"}}
}

// newHarbourWith is newHarbourAt, over TLS with a config.
func newHarbourWith(t *testing.T, l net.Listener, config *tls.Config, bounds stream.Bounds, heartbeat time.Duration, replay int64, set ...func(*Pacing)) *harbour {
	h := &harbour{t: t, secure: config != nil, retire: make(chan struct{}), ring: stream.NewRing(stream.NewEpoch(time.Now()), bounds, new(stream.Stats), false),
		route: Pacing{Heartbeat: heartbeat, Retry: time.Second, Stats: new(Stats), Log: slog.New(slog.DiscardHandler)}}
	h.clients.Set(0, replay)
	for _, f := range set {
		f(&h.route)
	}
	h.addr, h.network = l.Addr().String(), l.Addr().Network()
	stop := serving(&h.clients, l, h, h, config)
	t.Cleanup(func() {
		stop()
		eventually(t, "every client has left", func() bool { return h.route.Stats.Clients.Load() == 0 })
	})
	return h
}

// serving has admits, and then h asked by the connections of l, until stop.
func serving(c *Clients, l net.Listener, h http.Handler, admits Admission, config *tls.Config) (stop func()) {
	first, second := c.Listeners(l, admits, config)
	var running sync.WaitGroup
	var servers []*http.Server
	for i, l := range []net.Listener{first, second} {
		if l == nil {
			continue
		}
		s := &http.Server{Handler: h, ConnContext: meets(h), TLSConfig: config.Clone(), Protocols: new(http.Protocols), ErrorLog: log.New(io.Discard, "", 0)}
		s.Protocols.SetHTTP1(i == 0)
		s.Protocols.SetHTTP2(config != nil)
		s.Protocols.SetUnencryptedHTTP2(second == nil && config == nil || i == 1)
		servers = append(servers, s)
		running.Go(func() { s.Serve(l) })
	}
	return func() {
		for _, s := range servers {
			s.Close()
		}
		c.Close()
		running.Wait()
	}
}

// meets is [WithConn], which a harbour counts.
func meets(h http.Handler) func(context.Context, net.Conn) context.Context {
	return func(ctx context.Context, c net.Conn) context.Context {
		if h, ok := h.(*harbour); ok {
			h.met.Add(1)
		}
		return WithConn(ctx, c)
	}
}

func (h *harbour) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	finish(h.clients.Join(w, r, h.client(r)))
}

func (h *harbour) Beside(r *http.Request) (Client, http.Header, First, bool) {
	return h.client(r), nil, nil, true
}

func (h *harbour) client(r *http.Request) Client {
	cl := Client{Route: &h.route, Ring: h.ring, Retiring: h.retire, Leaving: &h.leaving, Cursor: stream.Begin, LastID: r.Header.Get("Last-Event-ID"),
		Leave: func() { h.left.Add(1) }, Beats: h.beats.Load(), Pass: h.pass.Load(), Gzip: r.Header.Get("Accept-Encoding") == "gzip"}
	if from := h.address.Load(); from != nil {
		cl.Address = *from
	}
	if cl.LastID != "" {
		var ok bool
		if cl.Cursor, ok = h.ring.Find(cl.LastID); !ok {
			cl.Cursor, cl.Lost = stream.Begin, true
		}
	}
	return cl
}

// open connects; proto is 1.1 or 1.0. Every other client comes by net/http.
func (h *harbour) open(proto, id string) (net.Conn, *bufio.Reader) {
	c, err := net.Dial(h.network, h.addr)
	if err != nil {
		h.t.Error(err)
		return nil, nil
	}
	n := h.opened.Add(1)
	if h.secure {
		c = tls.Client(c, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS13 - uint16(n%2)})
	}
	c.SetDeadline(time.Now().Add(5 * time.Minute)) // of all that is read from it
	more := ""
	if n%4 < 2 { // not in step with tests that take turns themselves
		more = "Te: trailers\r\n"
	}
	if h.gzip && n%8 < 4 {
		more += "Accept-Encoding: gzip\r\n"
	}
	fmt.Fprintf(c, "GET / HTTP/%s\r\nHost: x\r\nLast-Event-ID: %s\r\n%s\r\n", proto, id, more)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		h.t.Error(err)
		c.Close()
		return nil, nil
	}
	return c, h.unzipped(resp)
}

// unzipped is the body of an answer, decompressed where it is compressed.
func (h *harbour) unzipped(resp *http.Response) *bufio.Reader {
	if resp.Header.Get("Content-Encoding") != "gzip" {
		return bufio.NewReader(resp.Body)
	}
	in, err := gzip.NewReader(resp.Body)
	if err != nil {
		h.t.Error(err)
		return bufio.NewReader(strings.NewReader(""))
	}
	return bufio.NewReader(in)
}

// tcp is what c is over.
func tcp(c net.Conn) *net.TCPConn {
	if secure, ok := c.(*tls.Conn); ok {
		c = secure.NetConn()
	}
	return c.(*net.TCPConn)
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
		<-time.After(time.Millisecond)
	}
}

// payload is event n: its number, and a length and filling that follow from it.
func payload(n int) string {
	return fmt.Sprintf("%d:%s", n, strings.Repeat(string(rune('a'+n%26)), n*7919%3000))
}

// reference reads a stream and checks every byte of it. next is the number of the event that must come, -1 any.
type reference struct {
	in   *bufio.Reader
	next int
	id   string
	gaps int
}

func (r *reference) line() (string, error) {
	text, err := r.in.ReadString('\n')
	return strings.TrimSuffix(text, "\n"), err
}

// event reads one event and returns its number.
func (r *reference) event() (int, error) {
	var block []string
	for {
		text, err := r.line()
		if err != nil {
			return 0, err
		}
		switch {
		case text == "" && len(block) == 0:
			return 0, errors.New("a blank line after no event")
		case text == "":
			return r.check(block)
		case len(block) == 0 && (text == ":" || hint.MatchString(text)):
		default:
			block = append(block, text)
		}
	}
}

func (r *reference) check(block []string) (int, error) {
	if len(block) == 3 && block[0] == "event: stream.open" {
		return r.event()
	}
	if len(block) == 3 && block[0] == "event: stream.gap" {
		var missed int
		if _, err := fmt.Sscanf(block[1], `data: {"reason":"evicted","missed":%d}`, &missed); err != nil || missed <= 0 {
			return 0, fmt.Errorf("a gap of %q", block)
		}
		if r.gaps += missed; r.next >= 0 {
			r.next += missed
		}
		return r.event()
	}
	var n int
	if len(block) != 2 || !strings.HasPrefix(block[1], "id: ") {
		return 0, fmt.Errorf("a block of %.200q", block)
	}
	if _, err := fmt.Sscanf(block[0], "data: %d:", &n); err != nil || block[0] != "data: "+payload(n) {
		return 0, fmt.Errorf("data of %.100q", block[0])
	}
	if r.next >= 0 && n != r.next {
		return 0, fmt.Errorf("event %d where %d must come", n, r.next)
	}
	r.next, r.id = n+1, block[1][4:]
	return n, nil
}

// append has the ring grow by who waits for something then, and by who does not, in turn.
func (h *harbour) append(ms ...translate.Message) {
	if h.turns.Add(1)%2 == 0 {
		h.ring.Append(ms...)
	} else {
		h.ring.AppendLast(ms...)
	}
}

// publish appends events 1..n, with a pause now and then.
func (h *harbour) publish(n int) {
	for i := 1; i <= n; i++ {
		h.append(translate.Message{Data: []byte(payload(i))})
		if i%7 == 0 {
			<-time.After(time.Millisecond)
		}
	}
}

func TestEveryByteReachesEveryClientZipped(t *testing.T) {
	overEach(t, func(t *testing.T, newHarbour wire) {
		h := newHarbour(t, stream.Bounds{Start: stream.StartAll}, 5*time.Millisecond)
		h.gzip = true
		everyByteReachesEveryClient(t, h)
	})
}

func TestEveryByteReachesEveryClient(t *testing.T) {
	overEach(t, func(t *testing.T, newHarbour wire) {
		everyByteReachesEveryClient(t, newHarbour(t, stream.Bounds{Start: stream.StartAll}, 5*time.Millisecond))
	})
}

func everyByteReachesEveryClient(t *testing.T, h *harbour) {
	t.Helper()
	const events = 600
	var readers sync.WaitGroup
	for i := range 40 {
		c, in := h.open([]string{"1.1", "1.0"}[i%2], "")
		if c == nil {
			t.FailNow()
		}
		readers.Go(func() {
			defer c.Close()
			r := reference{in: in, next: 1}
			for r.next <= events {
				if _, err := r.event(); err != nil {
					t.Errorf("client %d: %v", i, err)
					return
				}
			}
		})
	}
	h.publish(events)
	readers.Wait()
	eventually(t, "all have left", func() bool { return h.left.Load() == 40 })
	if n := h.route.Stats.Events.Load(); n != 40*events {
		t.Errorf("%d events counted, want %d", n, 40*events)
	}
}

// TestChurn lets clients come, return with their ids, read slowly, vanish in the middle of an event and leave by reset,
// while events flow. Each checks every byte.
func TestChurn(t *testing.T) {
	overEach(t, func(t *testing.T, newHarbour wire) { churn(t, newHarbour, false) })
}

func TestChurnZipped(t *testing.T) {
	overEach(t, func(t *testing.T, newHarbour wire) { churn(t, newHarbour, true) })
}

func churn(t *testing.T, newHarbour wire, zipped bool) {
	h := newHarbour(t, stream.Bounds{Start: stream.StartAll}, 3*time.Millisecond)
	h.gzip = zipped
	const events, workers = 1200, 16
	done := make(chan struct{})
	var visits atomic.Int64
	var running sync.WaitGroup
	for w := range workers {
		running.Go(func() {
			random := rand.New(rand.NewPCG(uint64(w), 1))
			r := reference{next: 1}
			for r.next <= events {
				c, in := h.open([]string{"1.1", "1.0"}[random.IntN(2)], r.id)
				if c == nil {
					return
				}
				visits.Add(1)
				r.in = in
				for stay := random.IntN(60); stay > 0 && r.next <= events; stay-- {
					if _, err := r.event(); err != nil {
						t.Errorf("worker %d: %v", w, err)
						c.Close()
						return
					}
					if random.IntN(40) == 0 {
						<-time.After(time.Duration(random.IntN(5)) * time.Millisecond)
					}
				}
				in.ReadByte() // somewhere in the next event
				if random.IntN(2) == 0 {
					tcp(c).SetLinger(0)
				}
				c.Close()
			}
		})
	}
	go func() { defer close(done); h.publish(events) }()
	running.Wait()
	<-done
	if visits.Load() < workers*10 {
		t.Errorf("only %d visits", visits.Load())
	}
	eventually(t, "all have left", func() bool { return h.left.Load() == visits.Load() })
}

func TestSlowReadersMissAndAreTold(t *testing.T) { overEach(t, slowReadersMissAndAreTold) }

func slowReadersMissAndAreTold(t *testing.T, newHarbour wire) {
	h := newHarbour(t, stream.Bounds{Events: 50}, time.Hour)
	const events = 4000
	var slow []*reference
	for range 4 {
		c, in := h.open("1.1", "")
		if c == nil {
			t.FailNow()
		}
		defer c.Close()
		slow = append(slow, &reference{in: in, next: 1})
	}
	c, in := h.open("1.1", "")
	defer c.Close()
	fast := reference{in: in, next: -1}
	eventually(t, "all are there", func() bool { return h.route.Stats.Clients.Load() == 5 })
	for i := 1; i <= events; i++ {
		h.append(translate.Message{Data: []byte(payload(i))})
		if _, err := fast.event(); err != nil { // in step: the slow ones do not hold it up
			t.Fatal(err)
		}
	}
	if fast.gaps > 0 {
		t.Errorf("the fast client missed %d", fast.gaps)
	}
	for i, r := range slow {
		for r.next <= events {
			if _, err := r.event(); err != nil {
				t.Fatalf("slow client %d: %v", i, err)
			}
		}
		if r.gaps == 0 {
			t.Errorf("slow client %d missed nothing: the test does not test", i)
		}
	}
}

func TestCutsOverRealSockets(t *testing.T) { overEach(t, cutsOverRealSockets) }

func cutsOverRealSockets(t *testing.T, newHarbour wire) {
	for proto, want := range map[string]error{"1.1": io.ErrUnexpectedEOF, "1.0": syscall.ECONNRESET} {
		for name, cut := range map[string]func(*harbour){
			"drain":   func(h *harbour) { h.clients.Drain(50 * time.Millisecond) },
			"refused": func(h *harbour) { h.ring.Close(stream.End{Kind: stream.Refused, Status: 401}) },
			"retired": func(h *harbour) { h.ring.Close(stream.End{Kind: stream.Retired}) },
		} {
			h := newHarbour(t, stream.Bounds{}, time.Hour)
			c, in := h.open(proto, "")
			eventually(t, "it is there", func() bool { return h.route.Stats.Clients.Load() == 1 })
			h.publish(3)
			go cut(h)
			r := reference{in: in, next: 1}
			for range 3 {
				if _, err := r.event(); err != nil {
					t.Fatalf("%s %s: %v", proto, name, err)
				}
			}
			rest, err := io.ReadAll(in)
			if !errors.Is(err, want) {
				t.Errorf("%s %s: ended with %v, want %v", proto, name, err, want)
			}
			if text := string(rest); name == "refused" != strings.Contains(text, `data: {"status":401}`) || name != "refused" && !strings.Contains(text, "retry: ") {
				t.Errorf("%s %s: the last words are %q", proto, name, text)
			}
			c.Close()
		}
	}
}

func TestFinishedIsACleanEnd(t *testing.T) { overEach(t, finishedIsACleanEnd) }

func finishedIsACleanEnd(t *testing.T, newHarbour wire) {
	for _, proto := range []string{"1.1", "1.0"} {
		h := newHarbour(t, stream.Bounds{Start: stream.StartAll}, time.Hour)
		h.publish(200) // more than a socket takes at once
		h.ring.Close(stream.End{Kind: stream.Finished})
		c, in := h.open(proto, h.ring.Position(0))
		r := reference{in: in, next: 1}
		for range 200 {
			if _, err := r.event(); err != nil {
				t.Fatalf("%s: %v", proto, err)
			}
		}
		if rest, err := io.ReadAll(in); len(rest) > 0 || err != nil {
			t.Errorf("%s: ended with %q and %v", proto, rest, err)
		}
		c.Close()
	}
}

// Heartbeats as events say where the client stands: at once, and whenever nothing else was written for so long. They are
// only for those that asked for them.
func TestHeartbeatEvents(t *testing.T) { overEach(t, heartbeatEvents) }

func heartbeatEvents(t *testing.T, newHarbour wire) {
	h := newHarbour(t, stream.Bounds{Start: stream.StartAll}, 150*time.Millisecond)
	h.append(say("one"), translate.Message{ID: "own", Data: []byte("two")})
	h.beats.Store(true)
	_, fresh := h.open("1.1", "")
	_, old := h.open("1.0", "own")
	eventually(t, "two clients", func() bool { return h.route.Stats.Clients.Load() == 2 })
	h.beats.Store(false)
	_, other := h.open("1.1", "own")
	const beat = "event: stream.heartbeat\ndata: {\"every\":150}\nid: own\n\n"
	read := func(in *bufio.Reader, want string) {
		t.Helper()
		if retry, err := in.ReadString('\n'); err != nil || !strings.HasPrefix(retry, "retry: ") {
			t.Fatalf("%q, %v", retry, err)
		}
		got := make([]byte, len(want))
		if _, err := io.ReadFull(in, got); err != nil || string(got) != want {
			t.Errorf("got %q, want %q, %v", got, want, err)
		}
	}
	read(fresh, "data: one\nid: "+h.ring.Epoch().String()+"-1\n\ndata: two\nid: own\n\n"+beat+beat)
	read(old, beat+beat)
	read(other, ":\n:\n")
	h.append(say("three"))
	next := "event: stream.heartbeat\ndata: {\"every\":150}\nid: " + h.ring.Epoch().String() + "-3\n"
	for _, in := range []*bufio.Reader{fresh, old} {
		for last := ""; !strings.HasSuffix(last, next); { // past those that were under way, and the event
			line, err := in.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			last += line
		}
	}
}

func TestHeartbeatsOverRealSockets(t *testing.T) { overEach(t, heartbeatsOverRealSockets) }

func heartbeatsOverRealSockets(t *testing.T, newHarbour wire) {
	h := newHarbour(t, stream.Bounds{}, 40*time.Millisecond)
	for _, proto := range []string{"1.1", "1.0"} {
		begin := time.Now() // before whatever is written, however late that is read
		c, in := h.open(proto, h.ring.Place(0))
		in.ReadString('\n')
		for range 5 {
			if text, err := in.ReadString('\n'); text != ":\n" || err != nil {
				t.Fatalf("%s: got %q, %v", proto, text, err)
			}
		}
		if took := time.Since(begin); took < 5*30*time.Millisecond {
			t.Errorf("%s: 5 heartbeats in %v", proto, took)
		}
		c.Close()
	}
}

func TestManyStreamsInOneShard(t *testing.T) { overEach(t, manyStreamsInOneShard) }

func manyStreamsInOneShard(t *testing.T, newHarbour wire) {
	var all []*harbour
	for range 30 {
		all = append(all, newHarbour(t, stream.Bounds{}, time.Hour))
	}
	for round := 1; round <= 3; round++ {
		for _, h := range all {
			c, in := h.open("1.1", "")
			h.append(translate.Message{Data: []byte(payload(round))}) // a client that has an answer misses nothing from then on
			r := reference{in: in, next: round}
			if _, err := r.event(); err != nil {
				t.Fatal(err)
			}
			c.Close()
			eventually(t, "it has left", func() bool { return h.left.Load() == int64(round) })
		}
	}
}

func TestCoalesce(t *testing.T) { overEach(t, coalesce) }

func coalesce(t *testing.T, newHarbour wire) {
	h := newHarbour(t, stream.Bounds{}, time.Hour, func(rt *Pacing) { rt.Coalesce = 50 * time.Millisecond })
	c, in := h.open("1.1", "")
	defer c.Close()
	r := reference{in: in, next: 1}
	var arrivals []time.Time // of bursts
	var published [301]atomic.Int64
	begun, done := time.Now(), make(chan struct{})
	go func() {
		defer close(done)
		for i := 1; i <= 300; i++ {
			published[i].Store(int64(time.Since(begun)))
			h.append(translate.Message{Data: []byte(payload(i))})
			if i%7 == 0 {
				<-time.After(time.Millisecond)
			}
		}
	}()
	for i := 1; i <= 300; i++ {
		if _, err := r.event(); err != nil {
			t.Fatal(err)
		}
		// What was published before the last burst was read may be the rest of that: who reads may be held up.
		if n := len(arrivals); n == 0 || begun.Add(time.Duration(published[i].Load())).After(arrivals[n-1]) {
			arrivals = append(arrivals, time.Now())
		}
	}
	<-done
	// 300 events take 42 ms at least to publish, and as many bursts could come in them as writes are made. The next write comes
	// soon after one that was late, so the time is counted from before the first.
	if took := arrivals[len(arrivals)-1].Sub(begun); len(arrivals) > 2+int(took/h.route.Coalesce) {
		t.Errorf("%d bursts in %v, want at most one every %v", len(arrivals), took, h.route.Coalesce)
	}
}

func TestCoalescedEventsLeaveBeforeTheCut(t *testing.T) {
	overEach(t, coalescedEventsLeaveBeforeTheCut)
}

func coalescedEventsLeaveBeforeTheCut(t *testing.T, newHarbour wire) {
	h := newHarbour(t, stream.Bounds{}, time.Hour, func(rt *Pacing) { rt.Coalesce = 10 * time.Second })
	c, in := h.open("1.1", "")
	defer c.Close()
	h.append(translate.Message{Data: []byte(payload(1))})
	r := reference{in: in, next: 1}
	if _, err := r.event(); err != nil {
		t.Fatal(err)
	}
	h.append(translate.Message{Data: []byte(payload(2))})
	go h.clients.Drain(20 * time.Millisecond)
	if _, err := r.event(); err != nil {
		t.Fatal(err)
	}
}

// TestNoWakeUpIsLost appends one event at a time as fast as it is read, while the shards are kicked for other reasons
// as well: a kick that goes missing leaves every later event to the next look at the heartbeats, a second away.
func TestNoWakeUpIsLost(t *testing.T) {
	h := newHarbour(t, stream.Bounds{Events: 10}, time.Hour)
	var all []*reference
	for range 4 {
		c, in := h.open("1.1", "")
		defer c.Close()
		all = append(all, &reference{in: in, next: 1})
	}
	done := make(chan struct{})
	var others sync.WaitGroup
	for range 2 {
		others.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					if c, _ := h.open("1.1", ""); c != nil {
						c.Close()
					}
				}
			}
		})
	}
	defer func() { close(done); others.Wait() }()
	late, end := 0, time.Now().Add(time.Minute) // a machine that is not through by then has tried what it can
	for i := 1; i <= 4000 && time.Now().Before(end); i++ {
		began := time.Now()
		h.append(translate.Message{Data: []byte(payload(i))})
		for _, r := range all {
			if _, err := r.event(); err != nil {
				t.Fatal(err)
			}
		}
		if time.Since(began) > 500*time.Millisecond {
			late++
		}
	}
	if late > 3 { // a busy machine may be late once or twice; a shard that is not woken is from then on
		t.Errorf("%d events came when nothing but the clock can have woken the shard", late)
	}
}

// TestACoalescedFirstEventLeavesBeforeTheCut: nothing but what the client began with has been read for it.
func TestACoalescedFirstEventLeavesBeforeTheCut(t *testing.T) {
	h := newHarbour(t, stream.Bounds{}, time.Hour, func(rt *Pacing) { rt.Coalesce = 5 * time.Second })
	warm, in := h.open("1.1", "")
	defer warm.Close()
	h.append(translate.Message{Data: []byte(payload(1))})
	r := reference{in: in, next: 1}
	if _, err := r.event(); err != nil { // the group was walked: what comes now is held back
		t.Fatal(err)
	}
	c, in := h.open("1.1", "")
	defer c.Close()
	eventually(t, "it is there", func() bool { return h.route.Stats.Clients.Load() == 2 })
	h.append(translate.Message{Data: []byte(payload(2))})
	go h.clients.Drain(0)
	for _, r := range []*reference{{in: in, next: 2}, &r} {
		if _, err := r.event(); err != nil {
			t.Error(err)
		}
	}
}

// TestNothingIsMissedInAnEmptyShard lets clients come one after the other while events flow, so that the group
// of each is new.
func TestNothingIsMissedInAnEmptyShard(t *testing.T) { overEach(t, nothingIsMissedInAnEmptyShard) }

func nothingIsMissedInAnEmptyShard(t *testing.T, newHarbour wire) {
	h := newHarbour(t, stream.Bounds{Events: 100}, time.Hour)
	done := make(chan struct{})
	var publishing sync.WaitGroup
	publishing.Go(func() {
		for i := 1; ; i++ {
			h.append(translate.Message{Data: []byte(payload(i))})
			select {
			case <-done:
				return
			case <-time.After(200 * time.Microsecond):
			}
		}
	})
	for range 300 {
		c, in := h.open("1.1", "")
		r := reference{in: in, next: -1}
		for range 3 {
			if _, err := r.event(); err != nil {
				t.Fatal(err)
			}
		}
		c.Close()
	}
	close(done)
	publishing.Wait()
}
