package h2

import (
	"bufio"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// StallTime is after how long a peer is cut that takes nothing.
	StallTime = 30 * time.Second
	// Never is a moment that does not come.
	Never = time.Duration(1<<63 - 1)

	idleTime    = 2 * time.Minute  // a connection without a stream is closed
	farewell    = time.Second      // between GOAWAY and the end of the connection
	maxStreams  = 250              // of a connection at once, as net/http advertises
	maxSettings = 100              // in one frame: as net/http
	readAhead   = 512              // bytes
	headTime    = 10 * time.Second // for the head of a request, from its first bytes
)

// Filler fills the streams that a connection has adopted. Fill, Ready and Ended are called with the connection's lock held,
// which guards what they use: they must not wait, nor call the connection. The others may be called at any time.
type Filler interface {
	// Fill writes by w what is due at now, which is since the connection began. It returns when to be called again, if
	// nothing happens until then; where w is full it is called again at once.
	Fill(w *Writer, now time.Duration) (next time.Duration)
	// Ready is called when s can be written to: net/http has written the head of its answer and nothing follows, or the client
	// has granted more. It reports whether Fill is to be called.
	Ready(s *Stream) bool
	// Ended is called once when s is over, whether the client, the connection or the filler has ended it. stalled: the client read
	// nothing.
	Ended(s *Stream, stalled bool)
	// Settle is called after those, without the lock.
	Settle()

	// WakeAt has c.Wake called at that time at the latest. It is called once c is wrapped, too.
	WakeAt(c *Conn, at, now time.Time)
	// Go runs f, which is waited for before the end, or returns false: the end has come, and Close is called.
	Go(f func()) bool
	// Closed is called when the connection is closed, perhaps twice. None of those that follow net/http's comings and goings, nor WakeAt, is called after it, but it may
	// be while one of them is.
	Closed()

	// Park has c.Attend called when there is something to read, or may be. Reads of the connection below do not wait from now on: they fail with
	// [os.ErrDeadlineExceeded]. false: it cannot be done, and Recall follows.
	Park(c *Conn) bool
	// Quiet is called when there is nothing more to read for now.
	Quiet()
	// Recall is Park's opposite: reads wait, and net/http is given v. false: there is no net/http any more.
	Recall(v *Visit) bool
}

// Stream is one that is open.
type Stream struct {
	Client any // the filler's own

	id      uint32
	held    int32 // of its frames wait, or are on their way from there
	whole   bool  // the request ended with its head
	adopted bool  // false: net/http's
	live    bool  // net/http has written the head of its answer, and is done with it
	ended   bool  // the filler has ended it
	window  int64 // what the client has granted of it, less what was sent in it since it was adopted
}

// Conn is a connection of HTTP/2 without TLS, or within TLS, for a server of net/http that speaks nothing else on it, and has
// no idle timeout. That has it as a [Visit], which it reads with one goroutine and writes with one at a time; every method here may be called by any.
type Conn struct {
	net.Conn
	filler Filler
	start  time.Time

	// The reader's own: net/http's, or attend's where the connection is parked.
	source  *bufio.Reader // of Conn; small, as most frames are; nil where it is parked and nothing is in it
	passing int           // bytes of a frame that are passed on as they are
	queued  []byte        // to be returned before anything else
	slow    bool          // there is a deadline for a head that has begun
	headEnd bool          // the frame that is passed on is the last of it
	in      [headSize + 16*6]byte

	// The writer's own.
	partial *[]byte      // of a frame, or a head, that net/http has not written completely
	begun   []*Stream    // that net/http is done with
	writes  atomic.Bool  // net/http does, or has written a part of a frame
	stirs   bool         // what it writes is more than answers to PINGs
	wrote   atomic.Int64 // when it has last written such, since start

	writing sync.Mutex // held while frames are written

	fills     errand       // run
	running   func()       // run, made once
	attends   errand       // attend
	expecting atomic.Int32 // see parks

	mu        sync.Mutex // guards what follows, and what the filler uses
	room      sync.Cond  // held has become less, a stream is forgotten, or the connection is closed
	closed    bool
	leaving   bool // GOAWAY was sent: no frame is read any more
	farewell  bool // net/http has got the client's, and closes when it has no streams of its own
	stalled   bool // the peer took nothing
	starved   bool // an adopted stream waits for the connection's window
	streams   map[uint32]*Stream
	adopted   int
	newest    uint32        // the last stream that the client has opened
	granted   int64         // see the equation, as for the next three
	avail     int64         //
	waiting   int64         //
	owed      int64         //
	initial   int64         // window of a stream
	held      []held        // what net/http has sent beyond avail
	flawed    []*Stream     // whose windows have become larger than there can be
	heldFirst bool          // it is its turn
	blocked   time.Duration // since when net/http's writer waits; 0: it does not
	moved     time.Duration // when the connection's window was last granted more
	idle      time.Duration // without a stream, when it is to end; 0: not set

	visit    *Visit        // net/http's; nil: it is to leave, or has
	parked   bool          // it has
	parkable bool          // it may be
	returned bool          // it was
	stirred  time.Duration // when a frame was last net/http's
	told     told          // some of it is the reader's
	settling settling
	departs  bool // clients are being sent away
}

// Wrap returns conn, of which the preface has not been read yet, for net/http, and with a filler for what it adopts. It starts
// nothing but a timer. parkable: the filler's Park may be called.
func Wrap(conn net.Conn, filler Filler, parkable bool) *Visit {
	c := &Conn{Conn: conn, filler: filler, start: time.Now(), source: bufio.NewReaderSize(conn, readAhead), passing: len(Preface),
		streams: map[uint32]*Stream{}, granted: firstWindow, avail: firstWindow, initial: firstWindow, idle: idleTime,
		parkable: parkable, told: told{table: newTable(), credit: firstWindow}}
	c.room.L, c.running = &c.mu, c.run
	c.visit = &Visit{Conn: c}
	filler.WakeAt(c, c.start.Add(c.idle), c.start)
	return c.visit
}

// Filler is what Wrap was given.
func (c *Conn) Filler() Filler { return c.filler }

// Start is when the connection began.
func (c *Conn) Start() time.Time { return c.start }

// Adopt has the stream id written to by the filler, once net/http has written the head of its answer, and the handler has
// returned. From then on the stream is in home: where that is part of what the filler knows of a client, one look at the
// memory has both. join is called with the connection's lock. false: it cannot be, and nothing was done.
func (c *Conn) Adopt(id uint32, home *Stream, join func()) bool {
	c.mu.Lock()
	defer c.unlock()
	s := c.streams[id]
	if c.closed || c.farewell || s == nil || !s.whole || s.adopted {
		return false
	}
	*home = *s
	home.adopted = true
	c.streams[id] = home
	for i := range c.flawed {
		if c.flawed[i] == s {
			c.flawed[i] = home
		}
	}
	c.adopted++
	join()
	return true
}

// Abandon ends the stream id if it was adopted, and the head of its answer could not be written.
func (c *Conn) Abandon(id uint32) {
	c.mu.Lock()
	defer c.unlock()
	if s := c.streams[id]; s != nil && s.adopted && !s.live {
		c.forget(id, c.stalled)
	}
}

// Adopted is how many streams are.
func (c *Conn) Adopted() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.adopted
}

// Parked is whether net/http has left c, and nothing reads it but what attends to all that wait.
func (c *Conn) Parked() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.parked
}

// forget ends what is known of a stream. mu is held.
func (c *Conn) forget(id uint32, stalled bool) {
	s := c.streams[id]
	if s == nil {
		return
	}
	delete(c.streams, id)
	c.room.Broadcast()
	if s.adopted {
		c.adopted--
		c.filler.Ended(s, stalled)
	}
	if s.adopted || len(c.streams) == 0 {
		c.Wake()
	}
}

// Close is called for net/http, and by the filler's owner: whatever is left ends.
func (c *Conn) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return net.ErrClosed
	}
	c.closed = true
	c.held, c.waiting = nil, 0
	c.room.Broadcast()
	for id, s := range c.streams {
		delete(c.streams, id)
		if s.adopted {
			c.adopted--
			c.filler.Ended(s, c.stalled)
		}
	}
	c.mu.Unlock()
	c.filler.Closed() // run sets no timer any more
	err := c.Conn.Close()
	c.filler.Settle()
	return err
}

// checked is called after every step, with mu held. Tests set it.
var checked func(*Conn)

// unlock ends a step.
func (c *Conn) unlock() {
	if checked != nil {
		checked(c)
	}
	c.mu.Unlock()
}

// Still calls f with the connection's lock: nothing is filled, joined or ended meanwhile.
func (c *Conn) Still(f func()) {
	c.mu.Lock()
	defer c.unlock()
	f()
}
