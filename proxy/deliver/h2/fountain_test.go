package h2

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/http2"

	"sidestream/e2e/pipes"
	"sidestream/proxy/deliver/h2/h2test"
)

// The equation, and what else always holds, is asked after every step of every test.
func TestMain(m *testing.M) {
	checked = func(c *Conn) {
		if flaw := c.broken(); flaw != "" {
			panic(flaw)
		}
	}
	goleak.VerifyTestMain(m)
}

type connKey struct{}

// works is a server of net/http whose answers to / are adopted, and filled with what is poured into their connection. What
// is none: /bulk?n answers with n bytes, /head?n with n bytes of head, /echo with the body, /trailers?n with n bytes and a trailer.
type works struct {
	t    *testing.T
	l    net.Listener
	back *pipes.Listener // of connections that net/http is called back to
	s    *http.Server
	stay bool // net/http does not leave

	mu        sync.Mutex  // guards what follows
	fountains []*fountain // all that there were
}

func newWorks(t *testing.T, l net.Listener) *works {
	wo := &works{t: t, l: l, back: pipes.Listen()}
	wo.s = &http.Server{Handler: wo, ConnContext: withConn, Protocols: new(http.Protocols), IdleTimeout: -1, ErrorLog: log.New(io.Discard, "", 0)}
	wo.s.Protocols.SetUnencryptedHTTP2(true)
	go wo.s.Serve(wo)      // ends with close
	go wo.s.Serve(wo.back) // the same
	return wo
}

func withConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c.(*ledger).Visit.Conn)
}

// Accept, Close and Addr are net.Listener's.
func (wo *works) Accept() (net.Conn, error) {
	c, err := wo.l.Accept()
	if err != nil {
		return nil, err
	}
	f := &fountain{joined: map[uint32]int{}, back: wo.back, queue: h2test.NewQueue(c)}
	v := Wrap(f.queue, f, !wo.stay)
	f.conn = v.Conn
	f.ledger = &ledger{Visit: v, granted: firstWindow, reading: len(Preface)}
	wo.mu.Lock()
	wo.fountains = append(wo.fountains, f)
	wo.mu.Unlock()
	return f.ledger, nil
}

// fountain is the nth that there was.
func (wo *works) fountain(n int) *fountain {
	wo.mu.Lock()
	defer wo.mu.Unlock()
	return wo.fountains[n]
}

func (wo *works) Close() error   { return wo.l.Close() }
func (wo *works) Addr() net.Addr { return wo.l.Addr() }

func (wo *works) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n, _ := strconv.Atoi(r.URL.RawQuery)
	switch r.URL.Path {
	case "/bulk":
		w.Write(h2test.Bulk(n))
	case "/echo":
		io.Copy(w, r.Body)
	case "/head":
		w.Header().Set("X-Large", strings.Repeat("x", n))
	case "/trailers":
		w.Header().Set("Trailer", "X-Sum")
		w.Write(h2test.Bulk(n))
		w.Header().Set("X-Sum", "1")
	default:
		c := r.Context().Value(connKey{}).(*Conn)
		id := StreamID(w)
		home := new(Stream)
		if !c.Adopt(id, home, func() { c.Filler().(*fountain).join(home) }) {
			w.Write([]byte("not adopted"))
			return
		}
		switch r.URL.Path {
		case "/late":
			time.Sleep(10 * time.Millisecond)
		case "/slow":
			time.Sleep(time.Second)
		}
		w.WriteHeader(http.StatusOK)
		if http.NewResponseController(w).Flush() != nil {
			c.Abandon(id)
		}
	}
}

// close ends everything, and looks for what is left.
func (wo *works) close() {
	wo.s.Close()
	wo.mu.Lock()
	defer wo.mu.Unlock()
	for _, f := range wo.fountains {
		f.conn.Close()
		f.running.Wait()
		if n := f.conn.Adopted(); n != 0 || len(f.basins) != 0 || f.gone != len(f.joined) {
			wo.t.Errorf("%d streams are left adopted, %d with their filler, which was told of %d of %d", n, len(f.basins), f.gone, len(f.joined))
		}
	}
}

// fountain is a Filler whose streams all get what is poured.
type fountain struct {
	conn    *Conn
	queue   *h2test.Queue
	back    *pipes.Listener
	ledger  *ledger
	running sync.WaitGroup
	timer   *time.Timer

	mu      sync.Mutex // guards what follows
	at      time.Time  // of timer
	closed  bool
	basins  []*basin
	poured  []byte
	joined  map[uint32]int // each stream, and what had been poured before
	gone    int
	stall   int // of gone
	first   int
	ending  bool // streams end once they have all
	departs bool // clients are to go elsewhere
	parked  int  // how often
	full    bool // it cannot be parked
}

// basin is one stream of a fountain.
type basin struct {
	stream *Stream
	due    []byte
	stuck  time.Duration
}

// pour has p written to each stream that there is.
func (f *fountain) pour(p string) {
	f.mu.Lock()
	f.poured = append(f.poured, p...)
	for _, b := range f.basins {
		b.due = append(b.due, p...)
	}
	f.mu.Unlock()
	f.conn.Wake()
}

// end ends each stream that has all it is to get.
func (f *fountain) end() {
	f.mu.Lock()
	f.ending = true
	f.mu.Unlock()
	f.conn.Wake()
}

func (f *fountain) join(s *Stream) {
	f.mu.Lock()
	defer f.mu.Unlock()
	b := &basin{stream: s}
	s.Client = b
	f.basins = append(f.basins, b)
	f.joined[s.id] = len(f.poured)
}

func (f *fountain) Fill(w *Writer, now time.Duration) (next time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	next = Never
	if f.departs {
		w.Depart()
	}
	f.first++
	for i := range f.basins {
		b := f.basins[(i+f.first)%len(f.basins)]
		n := w.Write(b.stream, b.due)
		b.due = b.due[n:]
		switch {
		case !w.Takes(b.stream):
		case len(b.due) == 0 && f.ending:
			w.End(b.stream)
		case len(b.due) == 0:
			b.stuck = 0
		case n > 0 || b.stuck == 0 || w.Full():
			b.stuck = now
			next = min(next, w.Stalls(b.stream, now))
		case now >= w.Stalls(b.stream, b.stuck):
			w.Reset(b.stream)
		default:
			next = min(next, w.Stalls(b.stream, b.stuck))
		}
	}
	return next
}

func (f *fountain) Ready(*Stream) bool { return true }

func (f *fountain) Ended(s *Stream, stalled bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gone++
	if stalled {
		f.stall++
	}
	for i, b := range f.basins {
		if b == s.Client {
			f.basins = append(f.basins[:i], f.basins[i+1:]...)
			return
		}
	}
	panic("a stream is gone that was not there")
}

func (f *fountain) Settle() {}

func (f *fountain) WakeAt(c *Conn, at, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed || f.at.After(now) && f.at.Before(at) {
		return
	}
	if f.at = at; f.timer == nil {
		f.timer = time.AfterFunc(at.Sub(now), c.Wake)
	} else {
		f.timer.Reset(at.Sub(now))
	}
}

func (f *fountain) Go(run func()) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return false
	}
	f.running.Go(run)
	return true
}

func (f *fountain) Closed() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	f.timer.Stop()
}

func (f *fountain) Park(c *Conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.parked++
	f.queue.Patient(c.Attend)
	return !f.full
}

func (f *fountain) Quiet() {}

func (f *fountain) Recall(v *Visit) bool {
	f.queue.Patient(nil)
	f.mu.Lock()
	had := f.ledger
	f.ledger = &ledger{Visit: v, granted: had.sent + firstWindow, sent: had.sent, reading: len(Preface)}
	l := f.ledger
	f.mu.Unlock()
	return f.back.Offer(l)
}

// over is whether it has heard of the connection's end.
func (f *fountain) over() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.closed
}

// inWorks runs f in a bubble, with everything closed after it.
func inWorks(t *testing.T, f func(t *testing.T, wo *works)) {
	synctest.Test(t, func(t *testing.T) {
		wo := newWorks(t, pipes.Listen())
		f(t, wo)
		wo.close()
		synctest.Wait()
	})
}

// dial connects a peer in memory. first is its settings.
func (wo *works) dial(first ...http2.Setting) (*h2test.Peer, *fountain) {
	ours, theirs := net.Pipe()
	return wo.dialOver(ours, theirs, first...)
}

func (wo *works) dialOver(ours, theirs net.Conn, first ...http2.Setting) (*h2test.Peer, *fountain) {
	wo.l.(*pipes.Listener).Offer(theirs)
	synctest.Wait()
	p := h2test.New(wo.t, ours, first...)
	wo.mu.Lock()
	defer wo.mu.Unlock()
	return p, wo.fountains[len(wo.fountains)-1]
}

// pass lets time go by.
func pass(d time.Duration) { time.Sleep(d); synctest.Wait() }

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
