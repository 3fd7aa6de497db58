package wsconn

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/coder/websocket"
)

// closeTime bounds each half of the closing handshake, and the writing of what the protocol demands: pongs and closes.
const closeTime = 5 * time.Second

// Options are what the handshake has agreed on, and who is told.
type Options struct {
	Subprotocol string
	Deflate     bool   // messages may be compressed
	Takeover    bool   // and refer to earlier ones
	Bytes       bool   // a text message may be any bytes, as servers of some protocols put them there
	Heard       func() // called by the reader for each ping and pong; may be nil

	// What is done with a small message takes no time to speak of, so that the runtime need not know that one is read. Its watchdog, which keeps those that take long from
	// holding up others, is then not awake only for that: at each message that comes alone it would look every 20 µs what goes on, at as much CPU as the message takes.
	Brisk bool
}

// Violation is what of the protocol the peer has broken, for which the connection was ended. Nothing of the peer's stands in it.
type Violation string

func (v Violation) Error() string {
	return "the upstream breaks the WebSocket protocol by " + string(v)
}

// Conn is an open WebSocket. Its reader is one goroutine; all else may be called by any.
type Conn struct {
	options Options
	rw      io.ReadWriteCloser // what reads has first what came with the answer to the upgrade
	conn    net.Conn
	raw     syscall.RawConn // waits without a buffer; nil: reading waits

	mu      sync.Mutex // guards what follows
	changed sync.Cond  // one of them has
	reading bool
	writing bool
	said    bool  // a close has been sent, and nothing goes out after it
	ended   error // what the peer has ended the connection with; nil: it goes on
	closed  bool
	pongs   []byte               // to be sent: each one byte of length and its payload
	pings   map[string]chan bool // true: it was answered
	pinged  uint64
	wake    func()      // of one who dozes; nil: nobody does
	glance  func() bool // of the same; nil: wake is called
	ready   bool        // there was something to be read since somebody dozed
	hung    bool        // the end was seen; nobody dozes any more
	closing bool        // Close has set the deadline below
	watched int         // the descriptor that tells; less than 0: none does
	until   time.Time   // the deadline that Close, or else Linger, has set; zero: none

	// The reader's.
	in       *buffer               // read ahead; nil: nothing is
	try      func(fd uintptr) bool // reads what there is
	got      error                 // why it did not; kept for the next one who reads
	drained  bool                  // it has read all there was
	first    [16]byte              // where reading waits, what it begins with
	glancing bool                  // nothing is waited for
	stop     func() bool           // ends the watch over the reader's ctx; nil: there is none
	inside   bool                  // a message that is not read to its end
	kind     websocket.MessageType
	fin      bool  // the frame is the last of its message
	left     int64 // of the frame
	packed   *inflater
	again    bool   // a compressed message had a block that said it was the last one, before its end
	history  []byte // the window, with Takeover
	text     text
}

// New takes an open connection over. rw is what the answer to the upgrade has come with, and conn what it is made on: rw and conn are closed by closing
// either.
func New(rw io.ReadWriteCloser, conn net.Conn, o Options) *Conn {
	c := &Conn{options: o, rw: rw, conn: conn, watched: -1}
	c.changed.L = &c.mu
	c.raw = c.rawConn()
	return c
}

// Subprotocol is what was agreed on.
func (c *Conn) Subprotocol() string { return c.options.Subprotocol }

// begin begins to read, and reports whether one may: the connection is not closed.
func (c *Conn) begin() bool {
	if !c.glancing {
		return c.enter(&c.reading)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	may := !c.reading && !c.closed
	c.reading = c.reading || may
	return may
}

// enter waits until what is false, and makes it true; false: the connection is closed.
func (c *Conn) enter(what *bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for *what && !c.closed {
		c.changed.Wait()
	}
	if c.closed {
		return false
	}
	*what = true
	return true
}

func (c *Conn) leave(what *bool) {
	c.mu.Lock()
	*what = false
	c.changed.Broadcast()
	c.mu.Unlock()
}

// CloseNow closes without a word.
func (c *Conn) CloseNow() error {
	c.mu.Lock()
	was := c.closed
	c.closed = true
	for _, pong := range c.pings {
		pong <- false
	}
	c.pings = nil
	c.changed.Broadcast()
	watched := c.watched >= 0
	c.mu.Unlock()
	if was {
		return net.ErrClosed
	}
	if watched {
		c.unwatch()
	}
	err := c.rw.Close()
	c.awaken(true)
	return err
}

// Close does the closing handshake, and closes. What arrives meanwhile is thrown away, unless somebody else reads.
func (c *Conn) Close(code websocket.StatusCode, reason string) error {
	defer c.CloseNow()
	if err := c.sayClose(code, reason); err != nil {
		return err
	}
	c.mu.Lock()
	c.closing, c.until = true, time.Now().Add(closeTime)
	c.conn.SetReadDeadline(c.until) // of whoever reads
	c.mu.Unlock()
	if !c.enter(&c.reading) {
		return nil
	}
	defer func() { // nobody reads on where a message has lost a part
		c.CloseNow()
		c.leave(&c.reading)
	}()
	for {
		if err := c.skip(); err != nil {
			var closed websocket.CloseError
			if errors.As(err, &closed) || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return err
		}
	}
}

// sayClose sends a close, once.
func (c *Conn) sayClose(code websocket.StatusCode, reason string) error {
	var payload []byte
	if code != websocket.StatusNoStatusRcvd {
		payload = append(binary.BigEndian.AppendUint16(nil, uint16(code)), reason[:min(len(reason), maxControl-2)]...)
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	return c.writeFrame(ctx, opClose, payload)
}

// Ping sends a ping and waits for its pong, which somebody must read.
func (c *Conn) Ping(ctx context.Context) error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return net.ErrClosed
	}
	c.pinged++
	payload := strconv.FormatUint(c.pinged, 10)
	pong := make(chan bool, 1)
	if c.pings == nil {
		c.pings = map[string]chan bool{}
	}
	c.pings[payload] = pong
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.pings, payload)
		c.mu.Unlock()
	}()
	if err := c.writeFrame(ctx, opPing, []byte(payload)); err != nil {
		return err
	}
	select {
	case ok := <-pong:
		if !ok {
			return net.ErrClosed
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// SendPing sends a ping, for whose pong nobody waits but the one who is told what is heard.
func (c *Conn) SendPing(ctx context.Context) error { return c.writeFrame(ctx, opPing, nil) }

// ponged lets the one go who waits for this pong.
func (c *Conn) ponged(payload []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if pong := c.pings[string(payload)]; pong != nil {
		pong <- true
		delete(c.pings, string(payload))
	}
}
