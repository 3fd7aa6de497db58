//go:build linux && !portable

// This file takes HTTP/2 clients out of net/http, whose server keeps a goroutine, a buffer and a request for each stream
// (RFC 9113 and its section numbers). It sits below: a connection that sees the frames that go by. The rules:
//
//   - net/http reads every request and asks the handler, and what it writes goes out as it is. Only the end of an event
//     stream does not: when the handler has handed its client over and returns, net/http ends the stream with an empty
//     frame. That one is left out, and the stream goes on, written to by the connection itself (h2_client.go).
//   - No header is read or written here: the state of their compression stays between net/http and the client.
//   - The connection's flow-control window is net/http's and ours. What was granted is counted here; what net/http would
//     send beyond that waits. A client's further grants are net/http's but for a quarter, once there are event streams.
//   - net/http takes a connection without streams of its own for an idle one. So its timeout is off, and ours is here.
//   - Nothing is written while mu is held, and nobody who holds mu waits for anything but other locks.

package deliver

import (
	"encoding/binary"
	"errors"
	"io"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"sidestream/proxy/stream"
)

const (
	h2IdleTime    = 2 * time.Minute // a connection without a stream is closed
	h2Farewell    = time.Second     // between GOAWAY and the end of the connection
	h2MaxStrands  = 250             // event streams of a connection without goroutines: as many as net/http lets a client have
	h2MaxStreams  = 10000           // streams of a connection; net/http refuses far fewer
	h2MaxSettings = 100             // in one frame: as net/http
)

// h2Stream is a stream that is open.
type h2Stream struct {
	window int64   // what the client has granted of it, less what of ours was sent
	whole  bool    // the request has ended
	strand *strand // nil: net/http's
}

// h2Conn is a connection of HTTP/2 without TLS, or within TLS. net/http reads it with one goroutine and writes it with
// one at a time.
type h2Conn struct {
	net.Conn
	clients *Clients
	start   time.Time

	// The reader's own.
	passing int    // bytes of a frame that are passed on as they are
	queued  []byte // to be returned before anything else
	in      [frameHead + 16*6]byte

	// The writer's own.
	partial *[]byte   // of a frame, or a head, that net/http has not written completely
	begun   []*strand // whose heads are being written

	writing sync.Mutex // held while frames are written

	state   atomic.Int32 // of run
	alarmed atomic.Bool  // everything is to be looked at
	alarm   alarm        // run's own

	mu       sync.Mutex // guards what follows
	room     sync.Cond  // available has grown, or the connection is closed
	closed   bool
	leaving  bool // GOAWAY was sent: no frame is read any more
	shared   bool // there was an event stream
	stalled  bool // the kernel has cut it: the peer took nothing
	drained  bool // its clients are to come back
	starved  bool // an event stream waits for the connection's window
	streams  map[uint32]*h2Stream
	strands  int
	newest   uint32        // the last stream that the client has opened
	granted  int64         // what net/http takes for the connection's window
	avail    int64         // what there is of it
	largest  int64         // that avail ever was: the client's window
	initial  int64         // window of a stream
	idle     time.Duration // without a stream, when it is to end; 0: not set
	groups   []*h2Group
	first    int // where the next look at them begins
	byRing   map[*stream.Ring]*h2Group
	departed []departed // to be counted out
}

// newH2Conn returns conn for a server of net/http that speaks nothing but HTTP/2 on it, and has no idle timeout. The
// preface has not been read yet.
func newH2Conn(conn net.Conn, c *Clients) *h2Conn {
	h := &h2Conn{Conn: conn, clients: c, start: time.Now(), passing: len(h2Preface), streams: map[uint32]*h2Stream{},
		byRing: map[*stream.Ring]*h2Group{}, granted: firstWindow, avail: firstWindow, largest: firstWindow, initial: firstWindow}
	h.room.L = &h.mu
	h.alarm.ring = h.awaken
	c.init()
	c.engine.hold(h)
	h.awaken()
	return h
}

// Read is net/http's: it gets the frames that are for it.
func (c *h2Conn) Read(p []byte) (int, error) {
	for {
		if len(c.queued) > 0 {
			n := copy(p, c.queued)
			c.queued = c.queued[n:]
			return n, nil
		}
		if c.passing > 0 {
			n, err := c.Conn.Read(p[:min(len(p), c.passing)])
			c.passing -= n
			return n, c.note(err)
		}
		if err := c.receive(); err != nil {
			return 0, c.note(err)
		}
	}
}

// note remembers why the connection was lost.
func (c *h2Conn) note(err error) error {
	if errors.Is(err, syscall.ETIMEDOUT) {
		c.mu.Lock()
		c.stalled = true
		c.mu.Unlock()
	}
	return err
}

// receive reads the head of the next frame, and all of those that are looked into. What net/http gets of it is queued.
func (c *h2Conn) receive() error {
	head := c.in[:frameHead]
	if _, err := io.ReadFull(c.Conn, head); err != nil {
		return err
	}
	f := readH2Frame(head)
	switch {
	case f.kind == frameWindowUpdate && f.size == 4, f.kind == frameSettings && f.flags&flagAck == 0 && f.size <= h2MaxSettings*6:
		frame := append(c.in[:frameHead], make([]byte, f.size)...)
		if _, err := io.ReadFull(c.Conn, frame[frameHead:]); err != nil {
			return err
		}
		if c.heard(f, frame[frameHead:]) {
			c.queued = frame
		}
		return nil
	}
	pass, err := c.notice(f)
	switch {
	case err != nil:
		return err
	case pass:
		c.queued, c.passing = head, f.size
		return nil
	}
	_, err = io.CopyN(io.Discard, c.Conn, int64(f.size))
	return err
}

// notice says whether a frame that is not looked into is passed on.
func (c *h2Conn) notice(f h2Frame) (pass bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leaving {
		return false, nil
	}
	s := c.streams[f.stream]
	switch f.kind {
	case frameHeaders:
		if s == nil && f.stream > c.newest {
			if len(c.streams) >= h2MaxStreams {
				return false, errors.New("too many streams")
			}
			s = &h2Stream{window: c.initial}
			c.newest, c.streams[f.stream] = f.stream, s
			c.idle = 0
		}
		fallthrough
	case frameData:
		if s != nil && f.flags&flagEndStream != 0 {
			s.whole = true
		}
	case frameReset:
		c.forget(f.stream, Left)
	case frameGoAway: // net/http would close a connection that has none but our streams
		return c.strands == 0, nil
	}
	return true, nil
}

// heard takes in a frame of settings or a window update, which it may change, and says whether it is passed on.
func (c *h2Conn) heard(f h2Frame, payload []byte) (pass bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leaving {
		return false
	}
	if f.kind == frameSettings {
		for ; len(payload) >= 6; payload = payload[6:] {
			if value := int64(binary.BigEndian.Uint32(payload[2:])); binary.BigEndian.Uint16(payload) == settingWindow && value <= largestWindow {
				for _, s := range c.streams {
					s.window = min(s.window+value-c.initial, largestWindow)
				}
				c.initial = value
				c.touch()
			}
		}
		return true
	}
	more := int64(binary.BigEndian.Uint32(payload) & math.MaxInt32)
	if f.stream != 0 {
		s := c.streams[f.stream]
		if s == nil {
			return true
		}
		s.window = min(s.window+more, largestWindow)
		if s.strand == nil {
			return true
		}
		if len(s.strand.rest) > 0 {
			s.strand.group.touch()
		}
		return false
	}
	if more == 0 {
		return true // an error, which net/http deals with
	}
	c.avail = min(c.avail+more, largestWindow)
	c.largest = max(c.largest, c.avail)
	c.room.Broadcast()
	if !c.shared {
		c.granted += more
		return true
	}
	if c.starved {
		c.starved = false
		c.touch()
	}
	more = c.avail - c.largest/4 - c.granted
	if more <= 0 {
		return false
	}
	c.granted += more
	binary.BigEndian.PutUint32(payload, uint32(more))
	return true
}

// forget ends what is known of a stream; the client of it goes for reason. mu is held.
func (c *h2Conn) forget(id uint32, reason int) {
	s := c.streams[id]
	if s == nil {
		return
	}
	delete(c.streams, id)
	if s.strand != nil {
		c.drop(s.strand, reason)
	}
	if s.strand != nil || len(c.streams) == 0 {
		c.schedule()
	}
}

// h2Partials are for frames that net/http writes in pieces.
var h2Partials = sync.Pool{New: func() any { p := make([]byte, 0, frameHead+framePayload); return &p }}

// Write is net/http's: its frames are passed on, whole ones at a time, and those of a head together.
func (c *h2Conn) Write(p []byte) (int, error) {
	given := len(p)
	if joined := c.partial; joined != nil {
		*joined = append(*joined, p...)
		p, c.partial = *joined, nil
		if cap(*joined) <= 4*framePayload {
			defer h2Partials.Put(joined)
		}
	}
	for {
		run, next := c.judge(p)
		if err := c.send(p[:run]); err != nil {
			return 0, err
		}
		c.begin()
		p = p[run:]
		switch next.what {
		case h2Complete:
			if len(p) > 0 {
				c.partial = h2Partials.Get().(*[]byte)
				*c.partial = append((*c.partial)[:0], p...)
			}
			return given, nil
		case h2Waits:
			if err := c.trickle(p[:next.size]); err != nil {
				return 0, err
			}
		}
		p = p[next.size:]
	}
}

// What comes behind frames that are passed on as they are.
const (
	h2Complete = iota // nothing, or not all of a frame
	h2Waits           // a frame for which the client's window is too small
	h2Dropped         // a frame that the client is not to see
)

type h2Next struct{ what, size int }

// judge returns how much of p goes out as it is, and what is behind that.
func (c *h2Conn) judge(p []byte) (run int, next h2Next) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		f, size := readWhole(p[run:])
		if size == 0 {
			return run, h2Next{}
		}
		s := c.streams[f.stream]
		switch f.kind {
		case frameData:
			c.granted -= int64(f.size)
			if s != nil && s.strand != nil {
				return run, h2Next{h2Dropped, size}
			}
			if f.flags&flagEndStream != 0 {
				c.forget(f.stream, Left)
			}
			if c.avail < int64(f.size) {
				return run, h2Next{h2Waits, size}
			}
			c.avail -= int64(f.size)
		case frameHeaders:
			if s != nil && s.strand != nil {
				c.begun = append(c.begun, s.strand)
			}
			if f.flags&flagEndStream != 0 {
				c.forget(f.stream, Left)
			}
		case frameReset:
			c.forget(f.stream, Left)
		}
		run += size
	}
}

// begin has those written to whose heads have gone out.
func (c *h2Conn) begin() {
	if len(c.begun) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, s := range c.begun {
		s.live = true
		s.group.touch()
		c.begun[i] = nil
	}
	c.begun = c.begun[:0]
}

// trickle passes on a frame of data as the window permits.
func (c *h2Conn) trickle(frame []byte) error {
	f, payload := readH2Frame(frame), frame[frameHead:]
	for len(payload) > 0 {
		c.mu.Lock()
		for c.avail <= 0 && !c.closed {
			c.room.Wait()
		}
		if c.closed {
			c.mu.Unlock()
			return net.ErrClosed
		}
		n := int(min(int64(len(payload)), c.avail))
		c.avail -= int64(n)
		c.mu.Unlock()
		piece := h2Frame{n, frameData, f.flags, f.stream}
		if n < len(payload) {
			piece.flags &^= flagEndStream
		}
		if err := c.send(append(piece.append(make([]byte, 0, frameHead+n)), payload[:n]...)); err != nil {
			return err
		}
		payload = payload[n:]
	}
	return nil
}

// send writes frames to the client.
func (c *h2Conn) send(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	_, err := c.Conn.Write(p)
	return c.note(err)
}

// Close is net/http's, and ours: whoever is left goes.
func (c *h2Conn) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return net.ErrClosed
	}
	c.closed = true
	c.room.Broadcast()
	reason := Left
	if c.stalled {
		reason = Stalled
	}
	for id, s := range c.streams {
		delete(c.streams, id)
		if s.strand != nil {
			c.drop(s.strand, reason)
		}
	}
	gone := c.departed
	c.departed = nil
	c.mu.Unlock()
	c.clients.alarms.stop(&c.alarm) // run sets none any more
	c.clients.engine.release(c)
	err := c.Conn.Close()
	c.leave(gone)
	return err
}
