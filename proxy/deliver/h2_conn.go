//go:build linux && !portable

// This file takes HTTP/2 clients out of net/http, whose server keeps a goroutine, a buffer and a request for each stream
// (RFC 9113 and its section numbers). It sits below: a connection that sees the frames that go by. The rules:
//
//   - net/http reads every request and asks the handler, and what it writes goes out as it is. Only the end of an event
//     stream does not: when the handler has handed its client over and returns, net/http ends the stream with an empty
//     frame. That one is left out, and the stream goes on, written to by the connection itself (h2_client.go).
//   - No header is read or written here: the state of their compression stays between net/http and the client.
//   - The connection's flow-control window is net/http's and ours: it takes all of it for its own. What it sends beyond
//     what is left of it waits here, while everything else goes by (h2_held.go).
//   - net/http takes a connection without streams of its own for an idle one. So its timeout is off, and ours is here.
//   - Nothing is written while mu is held, and nobody who holds mu waits for anything but other locks.

package deliver

import (
	"bufio"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"sidestream/proxy/stream"
)

const (
	h2IdleTime    = 2 * time.Minute  // a connection without a stream is closed
	h2Farewell    = time.Second      // between GOAWAY and the end of the connection
	h2MaxStrands  = 250              // event streams of a connection without goroutines: as many as net/http lets a client have
	h2MaxStreams  = h2MaxStrands     // streams of a connection at once, as net/http advertises
	h2MaxSettings = 100              // in one frame: as net/http
	h2Buffer      = 512              // bytes read ahead
	h2HeadTime    = 10 * time.Second // for the head of a request, from its first bytes
)

// h2Stream is a stream that is open.
type h2Stream struct {
	window int64   // what the client has granted of it, less what of ours was sent
	whole  bool    // the request ended with its head
	strand *strand // nil: net/http's
	held   int     // of its frames wait, or are on their way from there
}

// h2Conn is a connection of HTTP/2 without TLS, or within TLS. net/http reads it with one goroutine and writes it with
// one at a time.
type h2Conn struct {
	net.Conn
	clients *Clients
	clock   clock

	// The reader's own.
	source  *bufio.Reader // of Conn; small, as most frames are
	passing int           // bytes of a frame that are passed on as they are
	queued  []byte        // to be returned before anything else
	slow    bool          // there is a deadline for a head that has begun
	headEnd bool          // the frame that is passed on is the last of it
	in      [frameHead + 16*6]byte

	// The writer's own.
	partial *[]byte   // of a frame, or a head, that net/http has not written completely
	begun   []*strand // that net/http is done with

	writing sync.Mutex // held while frames are written

	state   atomic.Int32 // of run
	alarmed atomic.Bool  // everything is to be looked at
	alarm   alarm        // run's own

	mu        sync.Mutex // guards what follows
	room      sync.Cond  // held has become less, a stream is forgotten, or the connection is closed
	closed    bool
	leaving   bool // GOAWAY was sent: no frame is read any more
	farewell  bool // net/http has got the client's, and closes when it has no streams of its own
	stalled   bool // the peer took nothing
	drained   bool // its clients are to come back
	starved   bool // an event stream waits for the connection's window
	streams   map[uint32]*h2Stream
	strands   int
	newest    uint32        // the last stream that the client has opened
	granted   int64         // what net/http takes for the connection's window: never less than avail without waiting
	avail     int64         // what there is of it
	initial   int64         // window of a stream
	held      []h2Held      // what net/http has sent beyond avail
	waiting   int64         // bytes of that
	heldFirst bool          // it is its turn
	blocked   time.Duration // since when net/http's writer waits; 0: it does not
	moved     time.Duration // when the connection's window was last granted more
	idle      time.Duration // without a stream, when it is to end; 0: not set
	groups    []*h2Group
	first     int // where the next look at them begins
	byRing    map[*stream.Ring]*h2Group
	departed  []departed // to be counted out
}

// newH2Conn returns conn for a server of net/http that speaks nothing but HTTP/2 on it, and has no idle timeout. The
// preface has not been read yet.
func newH2Conn(conn net.Conn, c *Clients) *h2Conn {
	h := &h2Conn{Conn: conn, clients: c, clock: clock{time.Now()}, source: bufio.NewReaderSize(conn, h2Buffer), passing: len(h2Preface), streams: map[uint32]*h2Stream{},
		byRing: map[*stream.Ring]*h2Group{}, granted: firstWindow, avail: firstWindow, initial: firstWindow}
	h.room.L = &h.mu
	h.alarm.ring = h.awaken
	c.init()
	c.engine.hold(h)
	h.awaken()
	return h
}

// forget ends what is known of a stream; the client of it goes for reason. mu is held.
func (c *h2Conn) forget(id uint32, reason int) {
	s := c.streams[id]
	if s == nil {
		return
	}
	delete(c.streams, id)
	c.room.Broadcast()
	if s.strand != nil {
		c.drop(s.strand, reason)
	}
	if s.strand != nil || len(c.streams) == 0 {
		c.schedule()
	}
}

// lost is the reason that a client goes for when the connection is lost. mu is held.
func (c *h2Conn) lost() int {
	if c.stalled {
		return Stalled
	}
	return Left
}

// Close is net/http's, and ours: whoever is left goes.
func (c *h2Conn) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return net.ErrClosed
	}
	c.closed = true
	c.held = nil
	c.room.Broadcast()
	for id, s := range c.streams {
		delete(c.streams, id)
		if s.strand != nil {
			c.drop(s.strand, c.lost())
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
