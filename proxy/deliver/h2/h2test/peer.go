// Package h2test is what tests of HTTP/2 need at the other end: a client that is in no hurry to be polite.
package h2test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// FirstWindow is the window of a connection, and of a stream unless the client says otherwise.
const FirstWindow = 65535

// Peer is a client of HTTP/2 that decides itself what it takes. It reports what breaks the protocol to its test.
type Peer struct {
	Conn net.Conn
	Done chan struct{} // closed when nothing comes any more

	// To be set before the first request.
	Fields   [][2]string     // further ones of each request
	Rough    bool            // what comes after the end of a stream is no error, but counted: it is asked for
	Answered func()          // called when a head has come, before anything else is read
	Came     func(id uint32) // the same for data

	t       *testing.T
	writing sync.Mutex // guards what follows
	framer  *http2.Framer
	encoder *hpack.Encoder
	block   bytes.Buffer
	next    uint32

	mu      sync.Mutex // guards what follows
	grants  bool       // what came is granted again
	streams map[uint32]*Heard
	pings   int
	after   int
	settled int   // how often the other end has said its settings
	acks    int   // of settings
	allowed int64 // to be sent of bodies, ever
	sent    int64 // of that
	goAways int
	why     http2.ErrCode // of the last GOAWAY
	window  int64         // of the connection
	initial int64         // of a stream
	granted int64         // of the connection's window, ever
	came    int64         // of all streams
}

// Heard is what a peer has got of a stream.
type Heard struct {
	Status string
	Body   bytes.Buffer
	Window int64
	Ended  bool
	Reset  http2.ErrCode // 0: it was not

	sends bool // a body
}

// New has a peer speak over conn. Its settings are first.
func New(t *testing.T, conn net.Conn, first ...http2.Setting) *Peer {
	p := &Peer{t: t, Conn: conn, Done: make(chan struct{}), framer: http2.NewFramer(conn, conn), next: 1, grants: true,
		streams: map[uint32]*Heard{}, window: FirstWindow, initial: FirstWindow, granted: FirstWindow}
	p.encoder = hpack.NewEncoder(&p.block)
	p.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	for _, s := range first {
		if s.ID == http2.SettingInitialWindowSize {
			p.initial = int64(s.Val)
		}
	}
	go p.read() // ends with conn
	p.Write(func(f *http2.Framer) error {
		if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
			return err
		}
		return f.WriteSettings(first...)
	})
	return p
}

// Write writes frames.
func (p *Peer) Write(do func(*http2.Framer) error) {
	p.writing.Lock()
	defer p.writing.Unlock()
	do(p.framer) // if it is closed, read says so
}

// WriteRaw writes bytes.
func (p *Peer) WriteRaw(b []byte) {
	p.writing.Lock()
	defer p.writing.Unlock()
	p.Conn.Write(b)
}

func (p *Peer) read() {
	defer close(p.Done)
	var answers sync.WaitGroup
	defer answers.Wait()
	answer := func(do func(*http2.Framer) error) { answers.Go(func() { p.Write(do) }) } // a pipe holds nothing
	for {
		f, err := p.framer.ReadFrame()
		if err != nil {
			return
		}
		p.mu.Lock()
		s := p.streams[f.Header().StreamID]
		if s != nil && (s.Ended || s.Reset != 0) {
			if r, ok := f.(*http2.RSTStreamFrame); ok && s.sends && r.ErrCode != http2.ErrCodeInternal {
				p.mu.Unlock() // no more of the request is read
				continue
			}
			if p.after++; !p.Rough {
				p.t.Errorf("after the end of a stream: %v", f)
			}
		}
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			if s.Status = f.PseudoValue("status"); f.StreamEnded() {
				s.Ended = true
			}
			if p.Answered != nil {
				p.Answered()
			}
		case *http2.DataFrame:
			p.data(s, f, answer)
		case *http2.RSTStreamFrame:
			if s == nil { // it was asked for in other ways
				s = &Heard{}
				p.streams[f.StreamID] = s
			}
			s.Reset = f.ErrCode
		case *http2.SettingsFrame:
			if f.IsAck() {
				p.acks++
				break
			}
			p.settled++
			answer((*http2.Framer).WriteSettingsAck)
		case *http2.WindowUpdateFrame:
			if f.StreamID == 0 {
				p.allowed += int64(f.Increment)
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

// data takes in what came of a stream. mu is held.
func (p *Peer) data(s *Heard, f *http2.DataFrame, answer func(func(*http2.Framer) error)) {
	if s.Status == "" {
		p.t.Errorf("before the head: %v", f)
	}
	n, id := int64(len(f.Data())), f.StreamID
	s.Body.Write(f.Data())
	s.Window -= n
	p.window -= n
	p.came += n
	if s.Window < 0 && n > 0 || p.window < 0 {
		p.t.Errorf("stream %d: %d bytes sent beyond a window", id, n)
	}
	if p.Came != nil {
		p.Came(id)
	}
	if s.Ended = f.StreamEnded(); p.grants && n > 0 {
		s.Window, p.window, p.granted = s.Window+n, p.window+n, p.granted+n
		answer(func(w *http2.Framer) error {
			if err := w.WriteWindowUpdate(0, uint32(n)); err != nil {
				return err
			}
			return w.WriteWindowUpdate(id, uint32(n))
		})
	}
}

// Ask sends a request and returns its stream. body, unless nil, is sent in pieces.
func (p *Peer) Ask(method, target string, body []byte) uint32 {
	p.writing.Lock()
	defer p.writing.Unlock()
	id := p.begin(len(body) > 0)
	p.block.Reset()
	fields := [][2]string{{":method", method}, {":scheme", "http"}, {":authority", "x"}, {":path", target}, {"accept", "text/event-stream"}}
	for _, h := range append(fields, p.Fields...) {
		p.encoder.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]})
	}
	block := p.block.Bytes()
	half := len(block) / 2 // a head in two frames
	p.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block[:half], EndStream: body == nil})
	p.framer.WriteContinuation(id, true, block[half:])
	for len(body) > 0 {
		n := min(len(body), 1+rand.IntN(16000))
		p.mu.Lock()
		p.sent += int64(n)
		p.mu.Unlock()
		p.framer.WriteData(id, n == len(body), body[:n])
		body = body[n:]
	}
	return id
}

// AskWith sends a GET with one further field, in one frame that has param's padding and priority.
func (p *Peer) AskWith(param http2.HeadersFrameParam, field hpack.HeaderField) uint32 {
	p.writing.Lock()
	defer p.writing.Unlock()
	param.StreamID, param.EndStream, param.EndHeaders = p.begin(false), true, true
	p.block.Reset()
	for _, h := range [][2]string{{":method", "GET"}, {":scheme", "http"}, {":authority", "x"}, {":path", "/"}} {
		p.encoder.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]})
	}
	p.encoder.WriteField(field)
	param.BlockFragment = p.block.Bytes()
	p.framer.WriteHeaders(param)
	return param.StreamID
}

// begin returns the next stream.
func (p *Peer) begin(sends bool) uint32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	id := p.next
	p.next += 2
	p.streams[id] = &Heard{Window: p.initial, sends: sends}
	return id
}

// Next is the stream of the next request.
func (p *Peer) Next() uint32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.next
}

// Grant lets n more bytes come in a stream, 0 on the connection.
func (p *Peer) Grant(id uint32, n int64) {
	p.mu.Lock()
	if id == 0 {
		p.window, p.granted = p.window+n, p.granted+n
	} else {
		p.streams[id].Window += n
	}
	p.mu.Unlock()
	p.Write(func(f *http2.Framer) error { return f.WriteWindowUpdate(id, uint32(n)) })
}

// Resize changes the window that streams begin with.
func (p *Peer) Resize(window uint32) {
	p.mu.Lock()
	for _, s := range p.streams {
		s.Window += max(int64(window)-p.initial, 0) // what is on its way is not counted against it
	}
	p.initial = int64(window)
	p.mu.Unlock()
	p.Write(func(f *http2.Framer) error {
		return f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: window})
	})
}

// Cancel resets a stream.
func (p *Peer) Cancel(id uint32) {
	p.Write(func(f *http2.Framer) error { return f.WriteRSTStream(id, http2.ErrCodeCancel) })
}

// Ping sends one.
func (p *Peer) Ping() {
	p.Write(func(f *http2.Framer) error { return f.WritePing(false, [8]byte{1}) })
}

// Hold has nothing granted any more by itself, Flow again all that comes.
func (p *Peer) Hold() { p.mu.Lock(); p.grants = false; p.mu.Unlock() }

// Flow is Hold's opposite.
func (p *Peer) Flow() { p.mu.Lock(); p.grants = true; p.mu.Unlock() }

// Left is what is left of the connection's window.
func (p *Peer) Left() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.window
}

// Account is what was ever granted of the connection's window, and what has come.
func (p *Peer) Account() (granted, came int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.granted, p.came
}

// Pings is how many PINGs have been answered.
func (p *Peer) Pings() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pings
}

// After is how many frames have come after the ends of their streams.
func (p *Peer) After() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.after
}

// Settings is how often the other end has said its own, and how often it has acknowledged those of p.
func (p *Peer) Settings() (said, acks int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.settled, p.acks
}

// Allowed is what may be sent of bodies on the connection.
func (p *Peer) Allowed() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return FirstWindow + p.allowed - p.sent
}

// GoAways is how many GOAWAYs have come, and why the last one.
func (p *Peer) GoAways() (n int, why http2.ErrCode) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.goAways, p.why
}

// Got is what has come in a stream.
func (p *Peer) Got(id uint32) *Heard {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.streams[id]
	h := &Heard{Status: s.Status, Window: s.Window, Ended: s.Ended, Reset: s.Reset}
	h.Body.Write(s.Body.Bytes())
	return h
}

// Streams are all that were asked for.
func (p *Peer) Streams() (ids []uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id := range p.streams {
		ids = append(ids, id)
	}
	return ids
}

// Lines are what has come in a stream since the last call, blank ones left out.
func (p *Peer) Lines(id uint32) (some []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.streams[id]
	for text := range strings.SplitSeq(s.Body.String(), "\n") {
		if text != "" {
			some = append(some, text)
		}
	}
	s.Body.Reset()
	return some
}

// Bulk is n bytes, each of which says where it is.
func Bulk(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i * 7 / 5)
	}
	return p
}
