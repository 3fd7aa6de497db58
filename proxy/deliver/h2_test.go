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
		w.Write(bulk(n))
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

// bulk is n bytes, each of which says where it is.
func bulk(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i * 7 / 5)
	}
	return p
}

// dial connects a peer. first is its settings.
func (lo *loom) dial(first ...http2.Setting) *peerH2 {
	ours, theirs := net.Pipe()
	lo.l.conns <- newH2Conn(theirs, &lo.clients)
	return newPeerH2(lo.t, ours, first...)
}

// peerH2 is a client of HTTP/2 that says itself what it takes.
type peerH2 struct {
	t    *testing.T
	conn net.Conn
	done chan struct{} // closed when nothing comes any more

	writing sync.Mutex
	framer  *http2.Framer
	encoder *hpack.Encoder
	block   bytes.Buffer
	fields  [][2]string // further ones of each request
	next    uint32

	answered func()          // called when a head has come, before anything else is read
	came     func(id uint32) // the same for data

	mu      sync.Mutex
	grants  bool // what came is granted again
	streams map[uint32]*heard
	pings   int
	goAways int
	why     http2.ErrCode // of the last one
	window  int64         // of the connection
	initial int64         // of a stream
}

// heard is what a peer has got of a stream.
type heard struct {
	status string
	body   bytes.Buffer
	window int64
	sends  bool // a body
	ended  bool
	reset  http2.ErrCode // with 0: not
}

func newPeerH2(t *testing.T, conn net.Conn, first ...http2.Setting) *peerH2 {
	p := &peerH2{t: t, conn: conn, done: make(chan struct{}), framer: http2.NewFramer(conn, conn), next: 1, grants: true,
		streams: map[uint32]*heard{}, window: firstWindow, initial: firstWindow}
	p.encoder = hpack.NewEncoder(&p.block)
	p.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	for _, s := range first {
		if s.ID == http2.SettingInitialWindowSize {
			p.initial = int64(s.Val)
		}
	}
	go p.read() // ends with conn
	p.write(func(f *http2.Framer) error {
		if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
			return err
		}
		return f.WriteSettings(first...)
	})
	return p
}

func (p *peerH2) write(do func(*http2.Framer) error) {
	p.writing.Lock()
	defer p.writing.Unlock()
	do(p.framer) // if it is closed, read says so
}

func (p *peerH2) read() {
	defer close(p.done)
	var answers sync.WaitGroup
	defer answers.Wait()
	answer := func(do func(*http2.Framer) error) { answers.Go(func() { p.write(do) }) } // a pipe holds nothing
	for {
		f, err := p.framer.ReadFrame()
		if err != nil {
			return
		}
		p.mu.Lock()
		s := p.streams[f.Header().StreamID]
		if s != nil && (s.ended || s.reset != 0) {
			if r, ok := f.(*http2.RSTStreamFrame); ok && s.sends && r.ErrCode != http2.ErrCodeInternal {
				p.mu.Unlock() // no more of the request is read
				continue
			}
			p.t.Errorf("behind the end of a stream: %v", f)
		}
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			if s.status = f.PseudoValue("status"); f.StreamEnded() {
				s.ended = true
			}
			if p.answered != nil {
				p.answered()
			}
		case *http2.DataFrame:
			if s.status == "" {
				p.t.Errorf("before the head: %v", f)
			}
			n := int64(len(f.Data()))
			s.body.Write(f.Data())
			s.window -= n
			p.window -= n
			if s.window < 0 && n > 0 || p.window < 0 {
				p.t.Errorf("stream %d: %d bytes sent beyond a window", f.StreamID, n)
			}
			if p.came != nil {
				p.came(f.StreamID)
			}
			if s.ended = f.StreamEnded(); p.grants && n > 0 {
				s.window, p.window = s.window+n, p.window+n
				answer(func(w *http2.Framer) error {
					if err := w.WriteWindowUpdate(0, uint32(n)); err != nil {
						return err
					}
					return w.WriteWindowUpdate(f.StreamID, uint32(n))
				})
			}
		case *http2.RSTStreamFrame:
			s.reset = f.ErrCode
		case *http2.SettingsFrame:
			if !f.IsAck() {
				answer((*http2.Framer).WriteSettingsAck)
			}
		case *http2.PingFrame:
			p.pings++
		case *http2.GoAwayFrame:
			p.goAways++
			p.why = f.ErrCode
		}
		p.mu.Unlock()
	}
}

// ask sends a request and returns its stream. body, unless nil, is sent in pieces.
func (p *peerH2) ask(method, target string, body []byte) uint32 {
	p.writing.Lock()
	defer p.writing.Unlock()
	p.mu.Lock()
	id := p.next
	p.next += 2
	p.streams[id] = &heard{window: p.initial, sends: len(body) > 0}
	p.mu.Unlock()
	p.block.Reset()
	head := [][2]string{{":method", method}, {":scheme", "http"}, {":authority", "x"}, {":path", target}, {"accept", "text/event-stream"}}
	for _, h := range append(head, p.fields...) {
		p.encoder.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]})
	}
	block := p.block.Bytes()
	half := len(block) / 2 // a head in two frames
	p.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block[:half], EndStream: body == nil})
	p.framer.WriteContinuation(id, true, block[half:])
	for len(body) > 0 {
		n := min(len(body), 1+rand.IntN(16000))
		p.framer.WriteData(id, n == len(body), body[:n])
		body = body[n:]
	}
	return id
}

// askWith asks for events with one further field, in one frame that has param's padding and priority.
func (p *peerH2) askWith(param http2.HeadersFrameParam, field hpack.HeaderField) uint32 {
	p.writing.Lock()
	defer p.writing.Unlock()
	p.mu.Lock()
	param.StreamID, param.EndStream, param.EndHeaders = p.next, true, true
	p.next += 2
	p.streams[param.StreamID] = &heard{window: p.initial}
	p.mu.Unlock()
	p.block.Reset()
	for _, h := range [][2]string{{":method", "GET"}, {":scheme", "http"}, {":authority", "x"}, {":path", "/"}} {
		p.encoder.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]})
	}
	p.encoder.WriteField(field)
	param.BlockFragment = p.block.Bytes()
	p.framer.WriteHeaders(param)
	return param.StreamID
}

// grant lets n more bytes come in a stream, 0 on the connection.
func (p *peerH2) grant(id uint32, n int64) {
	p.mu.Lock()
	if id == 0 {
		p.window += n
	} else {
		p.streams[id].window += n
	}
	p.mu.Unlock()
	p.write(func(f *http2.Framer) error { return f.WriteWindowUpdate(id, uint32(n)) })
}

func (p *peerH2) hold() { p.mu.Lock(); p.grants = false; p.mu.Unlock() }

// got is what has come in a stream.
func (p *peerH2) got(id uint32) *heard {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.streams[id]
	h := &heard{status: s.status, window: s.window, ended: s.ended, reset: s.reset}
	h.body.Write(s.body.Bytes())
	return h
}

// lines are what has come in a stream since the last call, blank ones left out.
func (p *peerH2) lines(id uint32) (some []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.streams[id]
	for text := range strings.SplitSeq(s.body.String(), "\n") {
		if text != "" {
			some = append(some, text)
		}
	}
	s.body.Reset()
	return some
}

// strandsOf is how many clients without goroutines there are.
func (lo *loom) strandsOf() (n int) {
	lo.clients.engine.mu.Lock()
	defer lo.clients.engine.mu.Unlock()
	for c := range lo.clients.engine.carriers {
		c.mu.Lock()
		n += c.strands
		c.mu.Unlock()
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
		events := p.ask("GET", "/", nil)
		synctest.Wait()
		if n := lo.strandsOf(); n != 1 {
			t.Fatalf("%d clients without goroutines: has net/http changed?", n)
		}
		first := p.got(events)
		if first.status != "200" || !hint.MatchString(strings.TrimSpace(first.body.String())) || first.ended {
			t.Fatalf("got %s %q, ended: %v", first.status, first.body.String(), first.ended)
		}
		sent := bulk(200_000)
		big, echo := p.ask("GET", "/bulk?300000", nil), p.ask("POST", "/echo", sent)
		lo.ring.Append(say("1"))
		head := p.ask("HEAD", "/bulk?10", nil)
		synctest.Wait()
		if got := p.got(big); !bytes.Equal(got.body.Bytes(), bulk(300_000)) || !got.ended {
			t.Errorf("%d bytes of 300000, ended: %v", got.body.Len(), got.ended)
		}
		if got := p.got(echo); !bytes.Equal(got.body.Bytes(), sent) || !got.ended {
			t.Errorf("%d bytes of 200000, ended: %v", got.body.Len(), got.ended)
		}
		if got := p.got(head); got.body.Len() != 0 || !got.ended {
			t.Errorf("HEAD: %d bytes, ended: %v", got.body.Len(), got.ended)
		}
		if got := p.lines(events); len(got) != 3 || got[1] != "data: 1" {
			t.Errorf("got %q", got)
		}
		p.write(func(f *http2.Framer) error { return f.WritePing(false, [8]byte{1}) })
		synctest.Wait()
		if p.pings != 1 {
			t.Error("a ping is not answered")
		}
		p.conn.Close()
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
		p.answered = func() { said++; lo.ring.Append(say(strconv.Itoa(said))) }
		for n := range 100 {
			id := p.ask("GET", "/", nil)
			synctest.Wait()
			if got := p.lines(id); len(got) < 3 || got[1] != fmt.Sprint("data: ", n+1) {
				t.Fatalf("got %q, want event %d first", got, n+1)
			}
		}
		p.conn.Close()
	})
}

// TestH2ARequestWithABodyKeepsItsGoroutine: net/http has to read the rest, or to stop it.
func TestH2ARequestWithABodyKeepsItsGoroutine(t *testing.T) {
	inLoom(t, stream.Bounds{}, func(t *testing.T, lo *loom) {
		p := lo.dial()
		id := p.ask("GET", "/", []byte{})
		synctest.Wait()
		lo.ring.Append(say("1"))
		synctest.Wait()
		if got := p.lines(id); lo.strandsOf() != 0 || len(got) != 3 || got[1] != "data: 1" {
			t.Errorf("%d without goroutines, got %q", lo.strandsOf(), got)
		}
		p.conn.Close()
	})
}

func TestH2Heartbeats(t *testing.T) {
	inLoom(t, stream.Bounds{}, func(t *testing.T, lo *loom) {
		p := lo.dial()
		id := p.ask("GET", "/", nil)
		synctest.Wait()
		p.lines(id)
		for _, c := range []struct {
			wait time.Duration
			want string
		}{{14 * time.Second, ""}, {2 * time.Second, ":"}, {15 * time.Second, ":"}} {
			pass(c.wait)
			if got := strings.Join(p.lines(id), "|"); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		}
		pass(9 * time.Second)
		lo.ring.Append(say("x"))
		pass(14 * time.Second)
		if got := p.lines(id); len(got) != 2 {
			t.Errorf("got %q, want the event alone", got)
		}
		pass(2 * time.Second)
		if got := p.lines(id); len(got) != 1 || got[0] != ":" {
			t.Errorf("got %q", got)
		}
		p.conn.Close()
	})
}

// TestH2HeartbeatsAsEvents: the first one comes within a second.
func TestH2HeartbeatsAsEvents(t *testing.T) {
	inLoom(t, stream.Bounds{}, func(t *testing.T, lo *loom) {
		lo.beats = true
		p := lo.dial()
		id := p.ask("GET", "/", nil)
		pass(firstBeat)
		first := p.lines(id)
		pass(14 * time.Second)
		between := p.lines(id)
		pass(time.Second)
		if second := p.lines(id); len(first) != 4 || first[1] != "event: stream.heartbeat" || len(between) > 0 || len(second) != 3 {
			t.Errorf("got %q, then %q, then %q", first, between, second)
		}
		p.conn.Close()
	})
}

func TestH2Ends(t *testing.T) {
	for _, c := range endings {
		inLoom(t, stream.Bounds{}, func(t *testing.T, lo *loom) {
			p := lo.dial()
			id := p.ask("GET", "/", nil)
			synctest.Wait()
			lo.ring.Append(say("1"))
			lo.ring.Close(c.end)
			synctest.Wait()
			if got := p.got(id); got.ended != c.clean || got.reset != 0 {
				t.Errorf("%+v: ended: %v, reset: %v", c.end, got.ended, got.reset)
			}
			pass(moment)
			got := p.got(id)
			lines := slices.DeleteFunc(p.lines(id), func(l string) bool { return strings.HasPrefix(l, "id: ") })
			if got.ended != c.clean || (got.reset == http2.ErrCodeInternal) == c.clean || !strings.HasPrefix(lines[len(lines)-1], c.last) {
				t.Errorf("%+v: ended: %v, reset: %v, behind %q", c.end, got.ended, got.reset, lines)
			}
			if lo.route.Stats.Gone[c.reason].Load() != 1 || lo.route.Stats.Clients.Load() != 0 {
				t.Errorf("%+v: not counted as %s", c.end, Reasons[c.reason])
			}
			big := p.ask("GET", "/bulk?1000", nil)
			synctest.Wait()
			if p.got(big).body.Len() != 1000 {
				t.Error("the connection is of no use any more")
			}
			p.conn.Close()
		})
	}
}

func TestH2DrainSpreadsTheClients(t *testing.T) {
	inLoom(t, stream.Bounds{}, func(t *testing.T, lo *loom) {
		p, other := lo.dial(), lo.dial()
		for range 200 {
			p.ask("GET", "/", nil)
		}
		full := other.ask("GET", "/", nil)
		synctest.Wait()
		other.hold()
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
		for id := range p.streams {
			got, lines := p.got(id), p.lines(id)
			if got.reset != http2.ErrCodeInternal || !hint.MatchString(lines[len(lines)-1]) {
				t.Fatalf("reset: %v, behind %q", got.reset, lines[len(lines)-1])
			}
		}
		if got := other.got(full); got.reset != http2.ErrCodeInternal || got.ended {
			t.Errorf("whose window was full: reset %v, ended %v", got.reset, got.ended)
		}
		if n := lo.route.Stats.Gone[Drained].Load(); n != 201 {
			t.Errorf("%d counted as drained", n)
		}
		late := p.ask("GET", "/", nil)
		pass(moment)
		if got := p.got(late); got.reset == 0 || !strings.Contains(got.body.String(), "stream.busy") {
			t.Errorf("who came late got %q", got.body.String())
		}
		p.conn.Close()
		other.conn.Close()
	})
}

func TestH2AgeReleasesWithinTenSeconds(t *testing.T) {
	inLoom(t, stream.Bounds{}, func(t *testing.T, lo *loom) {
		p := lo.dial()
		id := p.ask("GET", "/", nil)
		pass(61 * time.Second)
		p.lines(id)
		close(lo.retiring)
		lo.ring.Wake()
		lo.ring.Append(say("still served"))
		synctest.Wait()
		if got := p.lines(id); len(got) != 2 || got[0] != "data: still served" {
			t.Errorf("got %q", got)
		}
		pass(stream.RetireTime + moment)
		if got := p.got(id); got.reset != http2.ErrCodeInternal || lo.route.Stats.Gone[Aged].Load() != 1 {
			t.Errorf("reset: %v, %d counted", got.reset, lo.route.Stats.Gone[Aged].Load())
		}
		p.conn.Close()
	})
}

// TestH2AStreamThatTakesNothing is cut after 30 s; those beside it are not, and one that takes a little from time to time
// goes on.
func TestH2AStreamThatTakesNothing(t *testing.T) {
	inLoom(t, stream.Bounds{}, func(t *testing.T, lo *loom) {
		p := lo.dial(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1000})
		p.grant(0, 1<<20)
		stuck, little, reads := p.ask("GET", "/", nil), p.ask("GET", "/", nil), p.ask("GET", "/", nil)
		synctest.Wait()
		p.hold()
		p.grant(reads, 1<<20)
		for i := range 10 {
			lo.ring.Append(say(fmt.Sprint(i, strings.Repeat("x", 500))))
			synctest.Wait()
		}
		pass(20 * time.Second)
		p.grant(little, 10)
		pass(10*time.Second - time.Millisecond)
		if n := lo.route.Stats.Clients.Load(); n != 3 {
			t.Fatalf("%d clients after 29 s", n)
		}
		pass(time.Millisecond)
		if n := lo.route.Stats.Gone[Stalled].Load(); n != 1 || p.got(stuck).reset == 0 {
			t.Fatalf("after 30 s %d are stalled, reset: %v", n, p.got(stuck).reset)
		}
		pass(20 * time.Second)
		if n := lo.route.Stats.Gone[Stalled].Load(); n != 2 || p.got(little).reset == 0 {
			t.Fatalf("after 50 s %d are stalled", n)
		}
		pass(time.Hour)
		if got := p.lines(reads); lo.route.Stats.Clients.Load() != 1 || len(got) < 240 {
			t.Errorf("the third has got %d lines", len(got))
		}
		p.conn.Close()
	})
}

// TestH2SlowClientGetsAGapAndGoesOn: what its window did not take in time is said.
func TestH2SlowClientGetsAGapAndGoesOn(t *testing.T) {
	inLoom(t, stream.Bounds{Events: 4}, func(t *testing.T, lo *loom) {
		p := lo.dial(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 100})
		id, fast := p.ask("GET", "/", nil), p.ask("GET", "/", nil)
		p.hold()
		p.grant(fast, 1<<20)
		for i := range 100 {
			lo.ring.Append(say(strconv.Itoa(i)))
			synctest.Wait()
		}
		if got := p.lines(fast); got[len(got)-2] != "data: 99" {
			t.Errorf("the fast client has got %q", got[len(got)-2])
		}
		for range 100 { // also the gap comes in pieces
			p.grant(id, 7)
			synctest.Wait()
		}
		got := p.got(id)
		text := got.body.String()
		gap := regexp.MustCompile(`event: stream.gap\ndata: \{"reason":"evicted","missed":([0-9]+)\}`).FindStringSubmatch(text)
		if gap == nil {
			t.Fatalf("no gap in %q", text)
		}
		missed, _ := strconv.Atoi(gap[1])
		if got := strings.Count(text, "\ndata: ") - 1; got+missed != 100 || strings.Count(text, "stream.gap") != 1 || !strings.Contains(text, "data: 99\n") {
			t.Errorf("%d events and %d missed: %q", got, missed, text)
		}
		p.conn.Close()
	})
}

func TestH2LostIsSaidBeforeAnythingElse(t *testing.T) {
	inLoom(t, stream.Bounds{Start: 1}, func(t *testing.T, lo *loom) {
		lo.ring.Append(say("1"), say("2"))
		lo.cursor, lo.lost = stream.Begin, true
		p := lo.dial()
		id := p.ask("GET", "/", nil)
		synctest.Wait()
		want := []string{"event: stream.gap", `data: {"reason":"restart","missed":null}`, "id: " + lo.ring.Position(1), "data: 2", "id: " + lo.ring.Position(2)}
		if got := p.lines(id); len(got) != 6 || strings.Join(got[1:], "|") != strings.Join(want, "|") {
			t.Errorf("got %q, want %q", got, want)
		}
		p.conn.Close()
	})
}

func TestH2Coalesces(t *testing.T) {
	inLoom(t, stream.Bounds{}, func(t *testing.T, lo *loom) {
		lo.route.Coalesce = time.Second
		p := lo.dial()
		id := p.ask("GET", "/", nil)
		pass(70 * time.Second) // not with a heartbeat
		p.lines(id)
		counts := ""
		for i := range 8 {
			lo.ring.Append(say(strconv.Itoa(i)))
			pass(400 * time.Millisecond)
			counts += strconv.Itoa(len(p.lines(id)) / 2)
		}
		if counts != "10202003" {
			t.Errorf("events came as %s", counts)
		}
		p.conn.Close()
	})
}

// TestH2ReleaseGivesWhatWasHeldBack: nothing of the ring is kept from a client that is told to come back.
func TestH2ReleaseGivesWhatWasHeldBack(t *testing.T) {
	inLoom(t, stream.Bounds{}, func(t *testing.T, lo *loom) {
		lo.route.Coalesce = time.Hour
		p := lo.dial()
		id := p.ask("GET", "/", nil)
		synctest.Wait()
		p.lines(id)
		lo.ring.Append(say("1"))
		pass(time.Second)
		if got := p.lines(id); len(got) > 0 {
			t.Errorf("got %q, want nothing yet", got)
		}
		lo.clients.Drain(0)
		if got := p.lines(id); len(got) != 3 || got[0] != "data: 1" || !hint.MatchString(got[2]) {
			t.Errorf("got %q", got)
		}
		p.conn.Close()
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
		p.grant(0, 1<<25)
		id := p.ask("GET", "/", nil)
		synctest.Wait()
		lo.ring.Append(say(big))
		synctest.Wait()
		got := p.got(id)
		if n := strings.Count(got.body.String(), "data: "+big+"\n"); n != 21 {
			t.Errorf("got %d of 21", n)
		}
		if n := lo.route.Stats.Replayed.Load(); n != 20 {
			t.Errorf("%d counted as replayed", n)
		}
		if n := lo.route.Stats.Events.Load(); n != 21 {
			t.Errorf("%d counted as sent", n)
		}
		p.conn.Close()
	})
}

// TestH2ManySmallEvents: more than one reading of the ring brings.
func TestH2ManySmallEvents(t *testing.T) {
	inLoom(t, stream.Bounds{Events: 5000}, func(t *testing.T, lo *loom) {
		for range 3 * mostEvents {
			lo.ring.Append(say("x"))
		}
		p := lo.dial()
		id := p.ask("GET", "/", nil)
		synctest.Wait()
		if got := p.got(id); strings.Count(got.body.String(), "data: x\n") != 3*mostEvents {
			t.Errorf("got %d of %d", strings.Count(got.body.String(), "data: x\n"), 3*mostEvents)
		}
		p.conn.Close()
	})
}

// TestH2AQuarterOfTheWindowIsForEvents: a download that takes all it gets does not keep them.
func TestH2AQuarterOfTheWindowIsForEvents(t *testing.T) {
	inLoom(t, stream.Bounds{}, func(t *testing.T, lo *loom) {
		p := lo.dial(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 25})
		p.hold()
		id := p.ask("GET", "/", nil)
		synctest.Wait()
		p.lines(id)
		big := p.ask("GET", "/bulk?1000000", nil)
		synctest.Wait()
		lo.ring.Append(say("1"))
		for turn := range 10 {
			p.grant(0, firstWindow/2)
			synctest.Wait()
			lo.ring.Append(say(strings.Repeat("x", 1000)))
			synctest.Wait()
			if got := p.got(id); strings.Count(got.body.String(), "data: ") != turn+2 {
				t.Fatalf("after %d grants: %q", turn+1, got.body.String())
			}
		}
		if got := p.got(big).body.Len(); got < 200_000 {
			t.Errorf("the download has got %d bytes", got)
		}
		p.conn.Close()
	})
}

// TestH2SnapshotIsNotLeftBehind: what stands in for the past comes, whatever the client's window.
func TestH2SnapshotIsNotLeftBehind(t *testing.T) {
	for _, window := range []uint32{firstWindow, 0, 5, 50} {
		inLoom(t, stream.Bounds{Start: 1}, func(t *testing.T, lo *loom) {
			for i := range 5 {
				lo.ring.Append(translate.Message{Key: fmt.Sprint(i), Data: fmt.Append(nil, "key", i)})
			}
			lo.cursor = stream.Begin
			p := lo.dial(http2.Setting{ID: http2.SettingInitialWindowSize, Val: window})
			id := p.ask("GET", "/", nil)
			synctest.Wait()
			p.grant(id, 10000)
			synctest.Wait()
			text := p.got(id).body.String()
			if n := strings.Count(text, "data: key"); n != 5 || strings.Contains(text, "gap") {
				t.Errorf("window %d: %d of 5 keys: %q", window, n, text)
			}
			p.conn.Close()
		})
	}
}

// TestH2SnapshotBehindAGap: the same for a client that was slow, however it takes the gap.
func TestH2SnapshotBehindAGap(t *testing.T) {
	for _, piece := range []int64{10_000, 7} {
		inLoom(t, stream.Bounds{Events: 4}, func(t *testing.T, lo *loom) {
			p := lo.dial(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 100})
			id := p.ask("GET", "/", nil)
			synctest.Wait()
			p.hold()
			latest := map[string]int{}
			for i := range 50 {
				key := fmt.Sprint("key", i%4)
				latest[key] = i
				lo.ring.Append(translate.Message{Key: key, Data: fmt.Append(nil, key, "=", i)})
				synctest.Wait()
			}
			for range max(1, 3000/piece) {
				p.grant(id, piece)
				synctest.Wait()
			}
			text := p.got(id).body.String()
			for key, i := range latest {
				if !strings.Contains(text, fmt.Sprintf("data: %s=%d\n", key, i)) {
					t.Fatalf("granted by %d: the newest of %s is missing: %q", piece, key, text)
				}
			}
			p.conn.Close()
		})
	}
}

// heads is a connection that sees to it that each write has whole heads: between two of them something else may come.
type heads struct {
	net.Conn
	t      *testing.T
	pieces *int // frames that go on with a head
}

func (c heads) Write(p []byte) (int, error) {
	open := false
	for rest := p; len(rest) >= frameHead; {
		f := readH2Frame(rest)
		switch f.kind {
		case frameHeaders:
			open = f.flags&flagEndHeaders == 0
		case 9: // CONTINUATION
			open = f.flags&flagEndHeaders == 0
			*c.pieces++
		default:
			if open {
				c.t.Errorf("%+v comes within a head", f)
			}
		}
		rest = rest[min(len(rest), frameHead+f.size):]
	}
	if open {
		c.t.Error("a write ends within a head")
	}
	return c.Conn.Write(p)
}

// TestH2HeadsInPieces: an event does not come between the frames of a head (RFC 9113, section 6.10).
func TestH2HeadsInPieces(t *testing.T) {
	inLoom(t, stream.Bounds{}, func(t *testing.T, lo *loom) {
		ours, theirs := net.Pipe()
		pieces := 0
		lo.l.conns <- newH2Conn(heads{theirs, t, &pieces}, &lo.clients)
		p := newPeerH2(t, ours)
		id := p.ask("GET", "/", nil)
		synctest.Wait()
		for n := range 3 {
			large := p.ask("GET", "/head?100000", nil)
			lo.ring.Append(say("x"))
			synctest.Wait()
			if !p.got(large).ended || strings.Count(p.got(id).body.String(), "data: x\n") != n+1 {
				t.Errorf("%d: got %q, ended: %v", n, p.got(id).body.String(), p.got(large).ended)
			}
		}
		if pieces < 9 {
			t.Errorf("only %d pieces", pieces)
		}
		p.conn.Close()
	})
}

// TestH2AFullRingDoesNotKeepTheOthers: who takes all that a connection carries is not written to before everyone else.
func TestH2AFullRingDoesNotKeepTheOthers(t *testing.T) {
	inLoom(t, stream.Bounds{}, func(t *testing.T, lo *loom) {
		p := lo.dial(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
		p.grant(0, 1<<30)
		first := p.ask("GET", "/", nil)
		synctest.Wait()
		p.ask("GET", "/other", nil)
		synctest.Wait()
		frames, quiet := 0, 0
		p.came = func(id uint32) {
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
		p.conn.Close()
	})
}

// TestH2IdleConnections end with a GOAWAY, those with event streams do not, however long nothing else happens.
func TestH2IdleConnections(t *testing.T) {
	inLoom(t, stream.Bounds{}, func(t *testing.T, lo *loom) {
		idle, used := lo.dial(), lo.dial()
		id := used.ask("GET", "/", nil)
		pass(time.Minute)
		big := idle.ask("GET", "/bulk?1000", nil)
		synctest.Wait()
		pass(h2IdleTime - time.Second)
		if idle.goAways > 0 || idle.got(big).body.Len() != 1000 {
			t.Fatal("closed before its time")
		}
		pass(time.Second)
		if idle.goAways != 1 {
			t.Fatal("no GOAWAY")
		}
		late := idle.ask("GET", "/bulk?1000", nil)
		pass(h2Farewell)
		<-idle.done
		if idle.got(late).status != "" {
			t.Error("a request behind GOAWAY was answered, which its client asks again elsewhere")
		}
		pass(time.Hour)
		used.write(func(f *http2.Framer) error { return f.WriteGoAway(0, 0, nil) }) // it will not push; we do not either
		pass(time.Hour)
		lo.ring.Append(say("there"))
		synctest.Wait()
		if got := used.lines(id); used.goAways > 0 || got[len(got)-2] != "data: there" {
			t.Errorf("%d GOAWAYs, and %q", used.goAways, got[len(got)-2])
		}
		used.write(func(f *http2.Framer) error { return f.WriteRSTStream(id, http2.ErrCodeCancel) })
		synctest.Wait()
		if n := lo.route.Stats.Gone[Left].Load(); n != 1 {
			t.Errorf("%d have left", n)
		}
		pass(h2IdleTime + h2Farewell)
		<-used.done
	})
}

// TestH2TheWindowOfTheConnection: event streams may use all of it; what net/http would send meanwhile comes behind that,
// whole, and then they share.
func TestH2TheWindowOfTheConnection(t *testing.T) {
	inLoom(t, stream.Bounds{}, func(t *testing.T, lo *loom) {
		p := lo.dial(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
		p.hold()
		id := p.ask("GET", "/", nil)
		synctest.Wait()
		text := strings.Repeat("x", 1000)
		for range 100 {
			lo.ring.Append(say(text))
		}
		synctest.Wait()
		if got := p.got(id); got.body.Len() != firstWindow {
			t.Fatalf("got %d bytes of a window of %d", got.body.Len(), firstWindow)
		}
		bulks := []uint32{p.ask("GET", "/bulk?100000", nil), p.ask("GET", "/bulk?100000", nil)}
		pass(time.Second)
		// A client that grants once it has got half of the window, as many do.
		total := func() (n int64) {
			for id := range p.streams {
				got := p.got(id)
				n += int64(got.body.Len())
			}
			return n
		}
		granted, turns := int64(firstWindow), 0
		for ; turns < 100; turns++ {
			if due := firstWindow - (granted - total()); due >= firstWindow/2 {
				granted += due
				p.grant(0, due)
				pass(time.Second)
				continue
			}
			break
		}
		got := p.got(id)
		if n := strings.Count(got.body.String(), "data: "); n != 100 {
			t.Errorf("%d of 100 events, after %d grants", n, turns)
		}
		for _, id := range bulks {
			if got := p.got(id); !bytes.Equal(got.body.Bytes(), bulk(100_000)) || !got.ended {
				t.Errorf("%d of 100000 bytes, ended: %v, after %d grants", got.body.Len(), got.ended, turns)
			}
		}
		p.conn.Close()
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
		if n := lo.strandsOf(); n != proto-1 {
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
			p := newPeerH2(t, conn, http2.Setting{ID: http2.SettingInitialWindowSize, Val: []uint32{0, 100, 1 << 20}[n]})
			var ids []uint32
			for range 10 {
				id := p.ask("GET", "/", nil)
				ids = append(ids, id)
				p.grant(id, 1+rand.Int64N(5000))
			}
			for i := range 60 {
				size := 1 + rand.IntN(200_000)
				big := p.ask("GET", fmt.Sprintf("/bulk?%d", size), nil)
				p.grant(big, 1<<20)
				gone := p.ask("GET", "/", nil) // on its way out
				if i%2 == 0 {
					<-time.After(time.Millisecond)
				}
				p.write(func(f *http2.Framer) error { return f.WriteRSTStream(gone, http2.ErrCodeCancel) })
				if n == 0 && i%10 == 0 { // windows that shrink, and grow again
					for _, v := range []uint32{0, uint32(rand.IntN(3000))} {
						p.mu.Lock()
						for _, s := range p.streams {
							s.window += max(int64(v)-p.initial, 0) // what is on its way is not counted against it
						}
						p.initial = int64(v)
						p.mu.Unlock()
						p.write(func(f *http2.Framer) error {
							return f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: v})
						})
					}
				}
				eventually(t, "the download", func() bool { got := p.got(big); return got.ended })
				if got := p.got(big); !bytes.Equal(got.body.Bytes(), bulk(size)) {
					t.Errorf("a download of %d bytes came as %d others", size, got.body.Len())
				}
			}
			for _, id := range ids {
				p.grant(id, 1<<24)
			}
			for _, id := range ids {
				eventually(t, "the end", func() bool { got := p.got(id); return got.ended || got.reset != 0 })
				at := 0
				for _, text := range p.lines(id) {
					if data, ok := strings.CutPrefix(text, "data: "); ok {
						if data != payload(at) {
							t.Errorf("event %d is %.40q", at, data)
							return
						}
						at++
					}
				}
				if got := p.got(id); at != events || got.reset != 0 {
					t.Errorf("%d of %d events, reset: %v", at, events, got.reset)
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
			lo.l.conns <- newH2Conn(theirs, &lo.clients)
			go io.Copy(io.Discard, ours) // ends with ours
			ours.SetWriteDeadline(time.Now().Add(time.Second))
			io.WriteString(ours, h2Preface)
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
