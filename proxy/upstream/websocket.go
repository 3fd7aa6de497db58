// This file is the WebSocket subscription (RFC 6455; compression RFC 7692). Its rules:
//
//   - Connect is through when the handshake, the dialect and HELLO are. What arrives before goes out first.
//   - A message over MAX_MESSAGE (after inflation) is skipped and leaves a gap; the connection goes on.
//   - Whatever arrives, pongs and parts of messages included, is life. Half of IDLE without any sends a ping, all of IDLE
//     without any ends the connection.
//   - A subprotocol that was offered must be chosen: browsers fail such a connection too.

package upstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"sidestream/translate"
	"sidestream/translate/dialect"
)

const (
	dialTime = 10 * time.Second // from dialling to the upgrade's answer
	sendTime = 10 * time.Second // one frame upstream
	byeTime  = time.Second      // the closing handshake

	// What may arrive before HELLO is through, and has to wait for the ring.
	maxEarly      = 16 << 10 // messages
	maxEarlyBytes = 16 << 20 // of them

	pieceSize   = 32 << 10 // bytes of a byte stream read at once
	maxRequests = 16       // before one dial
	maxAnswer   = 1 << 20  // bytes of the answer to one

	maxSkipped = 64 << 20 // bytes of one message over MAX_MESSAGE that are read past before the connection is given up
)

var errIdle = errors.New("nothing was received within IDLE")

// wsConn is one connection. Run's caller reads, and a keeper writes what time demands.
type wsConn struct {
	*subscription
	ws      socket
	write1  func(ctx context.Context, f dialect.Frame) error // writes one frame
	conn    io.Closer                                        // below ws
	host    string                                           // that was dialled
	resumed bool
	ended   error               // the dialect finished before it was ready
	buf     *incoming           // the frame being read; nil: none is
	open    bool                // the session is ready
	foreign bool                // a text was not UTF-8
	undone  []translate.Message // of buf, that take time
	reads   bool                // what is emitted is the reader's; guarded by taking
	held    bool                // [ComesMore] was said, and nothing emitted since
	rest    io.Reader           // of the message being read in pieces; nil: none is
	kind    websocket.MessageType
	last    atomic.Int64 // when something was received last, in ns since start
	message atomic.Int64 // when a message, or a part of one, was
	start   time.Time

	previous int64 // when the last message was read, as message is
	soon     int   // so many in a row have come soon after the one before

	turn   chan struct{} // full while frames are being written
	left   bool          // the session has said its last words; belongs to the holder of turn
	taking sync.Mutex    // held from when the session takes a frame until what came of it is emitted; never within mu

	timers dialect.Timers // guarded by mu
	keeper *keeper        // guarded by mu; nil until the connection is run

	term   *term                  // nil until the connection is run
	life   context.Context        // Run's
	moving *move                  // to another address; nil: it stays. Run's goroutine alone looks at it
	next   atomic.Pointer[wsConn] // what has taken its place, and is ready; nil: nothing
	due    bool                   // a move was announced before the connection was ready
	busy   atomic.Int32           // what was read is being emitted
}

func (c *wsConn) touch() {
	c.last.Store(int64(time.Since(c.start)))
}

func (c *wsConn) touchMessage() {
	c.touch()
	c.message.Store(c.last.Load())
}

// received is when something was received last.
func (c *wsConn) received() time.Time { return c.start.Add(time.Duration(c.last.Load())) }

// heard is when a message was.
func (c *wsConn) heard() time.Time { return c.start.Add(time.Duration(c.message.Load())) }

func (c *wsConn) Resumed() bool { return c.resumed }

// write is called by the holder of the turn.
func (c *wsConn) write(ctx context.Context, frames []dialect.Frame) error {
	c.mu.Lock()
	c.session.Sending(frames)
	c.mu.Unlock()
	for _, f := range frames {
		ctx, cancel := context.WithTimeout(ctx, sendTime)
		err := c.write1(ctx, f)
		cancel()
		if err != nil {
			return fmt.Errorf("send: %w", Kind(err))
		}
	}
	return nil
}

// closed asks the session what the end of the connection means, and makes the library's error short: a close code, or
// what went wrong.
func (c *wsConn) closed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err() // our own doing
	}
	if c.q.Route.posts() {
		c.mu.Lock()
		defer c.mu.Unlock()
		return cmp.Or(c.session.Closed(0, ""), err)
	}
	c.doubted(err)
	var e websocket.CloseError
	coded := errors.As(err, &e)
	var meaning error
	if c.moving == nil { // else it was told to go
		c.mu.Lock()
		meaning = c.session.Closed(int(e.Code), e.Reason)
		c.mu.Unlock()
	}
	switch {
	case meaning != nil:
		return meaning
	case coded:
		return fmt.Errorf("closed by the upstream with code %d", e.Code)
	}
	return fmt.Errorf("connection lost: %w", Kind(err))
}

// doubted remembers an upstream whose compression fails.
func (c *wsConn) doubted(err error) {
	if c.q.Route.doubt(c.host, err) {
		c.log.Warn("the upstream's compression cannot be read; the next connection does without it")
	}
}

// term is a connection that is run.
type term struct {
	emit    func([]translate.Message) error
	stopped atomic.Bool // emit has failed; it may be called by the keeper too
	alive   context.Context
	end     context.CancelCauseFunc
	keeper  *keeper
	stay    func() bool      // ends the wait for ctx's end
	left    chan struct{}    // closed once the farewell is over
	first   bool             // what came before the connection was ready is emitted
	brief   bool             // a message takes no time, and may be emitted by who tells that there is one
	failed  error            // of one that was
	briefly *translate.Brief // shortly's
	glance  func() bool      // does so; nil: there is none yet
}

// enter begins to run the connection.
func (c *wsConn) enter(ctx context.Context, emit func([]translate.Message) error) {
	t := &term{left: make(chan struct{})}
	t.emit = func(ms []translate.Message) error {
		c.busy.Add(1)
		err := emit(ms)
		c.busy.Add(-1)
		if err != nil {
			t.stopped.Store(true)
		}
		return err
	}
	c.open, c.life, c.term = true, ctx, t
	c.taking.Lock() // for pump
	// The connection outlives ctx by its closing handshake.
	t.alive, t.end = context.WithCancelCause(context.WithoutCancel(ctx))
	if !c.q.Route.posts() {
		context.AfterFunc(t.alive, func() { c.ws.CloseNow() })
	}
	t.keeper = newKeeper(c, t.alive, t.end)
	t.stay = context.AfterFunc(ctx, func() { // ends with the farewell
		defer close(t.left)
		c.farewell(websocket.StatusGoingAway)
		t.end(ctx.Err())
	})
}

// run is Turn, until this connection ends.
func (c *wsConn) run(ctx context.Context, wake func()) (asleep bool, err error) {
	t := c.term
	if asleep, err = c.pump(t.alive, t.emit, wake); asleep {
		return true, nil
	}
	c.followed(t.emit)
	if !t.stay() {
		<-t.left
	}
	switch cause := context.Cause(t.alive); {
	case ctx.Err() != nil:
		err = ctx.Err()
	case cause != nil:
		err = cause
	default:
		c.goodbye(err)
	}
	t.end(err)
	t.keeper.stop()
	c.ws.CloseNow()
	return false, c.verdict(err)
}

// verdict is err with what the session knows of the next connection.
func (c *wsConn) verdict(err error) error {
	if final(err) {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session.Resumable() {
		return &Retry{Resumes: true, After: after(err), Err: err}
	}
	return later(err)
}

// goodbye tells an upstream that is still there why we leave.
func (c *wsConn) goodbye(err error) {
	if final(err) {
		c.farewell(websocket.StatusNormalClosure)
	}
}

// farewell closes the connection politely. The library waits five seconds for each half of it, and for ever for the rest
// of a frame that was begun, while the stream's clients wait for its end.
func (c *wsConn) farewell(code websocket.StatusCode) {
	cut := time.AfterFunc(byeTime, func() { c.conn.Close() })
	defer cut.Stop()
	c.mu.Lock()
	last, cuts := c.session.Leave(), c.session.Cuts()
	c.mu.Unlock()
	if cuts {
		c.ws.CloseNow()
		return
	}
	if c.say(last) != nil {
		return
	}
	c.ws.Close(code, "")
}

// pump reads until the connection ends, or nothing is there to be read and wake tells when there is. It begins with taking held.
func (c *wsConn) pump(ctx context.Context, emit func([]translate.Message) error, wake func()) (asleep bool, err error) {
	if !c.term.first {
		c.term.first = true
		if err := c.before(ctx, emit); err != nil {
			return false, err
		}
	}
	for {
		if err := c.term.failed; err != nil {
			return false, err
		}
		if c.held && (c.undone != nil || !c.more()) {
			c.followed(emit)
		}
		if err := c.finish(ctx, emit); err != nil {
			return false, err
		}
		if c.dozes(wake) {
			return true, nil
		}
		if err := c.one(c.shortly(ctx), emit); err != nil && c.undone == nil {
			return false, err
		}
	}
}

// before is what comes before anything is read.
func (c *wsConn) before(ctx context.Context, emit func([]translate.Message) error) error {
	acks, err := c.first(ctx, emit)
	c.taking.Unlock()
	if err != nil {
		return err
	}
	if err := c.send(ctx, acks); err != nil {
		return err
	}
	if c.ended != nil {
		return c.ended
	}
	if c.due {
		c.move()
	}
	return nil
}

// one reads a frame, and does what it asks for.
func (c *wsConn) one(ctx context.Context, emit func([]translate.Message) error) error {
	frame, skipped, err := c.read(ctx)
	if skipped {
		if err := emit([]translate.Message{{Gap: translate.GapUpstream}}); err != nil {
			return err
		}
	}
	c.pace()
	if err != nil || skipped || c.q.Route.dialect.Stream && len(frame.Data) == 0 {
		return err
	}
	frames, err := c.take(ctx, frame, emit)
	if err != nil {
		return err
	}
	return c.send(ctx, frames)
}

// first emits what came before the connection was ready, and returns what acknowledges it.
func (c *wsConn) first(ctx context.Context, emit func([]translate.Message) error) (acks []dialect.Frame, err error) {
	first := c.early
	if c.gap {
		first = append([]translate.Message{{Gap: translate.GapUpstream}}, first...)
	}
	acks = c.acks
	c.early, c.acks, c.gap, c.size = nil, nil, false, 0
	if len(first) == 0 && c.begun() {
		if err := emit([]translate.Message{}); err != nil { // a session has begun, which is to be saved
			return nil, err
		}
	}
	if err := c.emit(ctx, first, emit); err != nil {
		return nil, err
	}
	if len(acks) > 0 {
		err = emit(nil)
	}
	return acks, err
}

// take emits what the session makes of a frame, and returns what to send then. Where some of it is left undone nothing is sent: only routes that send nothing leave any.
func (c *wsConn) take(ctx context.Context, frame dialect.Frame, emit func([]translate.Message) error) ([]dialect.Frame, error) {
	c.taking.Lock()
	c.reads = true
	defer func() {
		c.reads = false
		c.taking.Unlock()
	}()
	got, err := c.receive(ctx, frame)
	if got.Moving {
		c.move()
	}
	if emitErr := c.emit(ctx, got.Messages, emit); emitErr != nil {
		return nil, emitErr
	}
	if err == nil && len(got.Acks) > 0 {
		err = emit(nil) // the upstream forgets what is acknowledged
	}
	return append(got.Replies, got.Acks...), err
}

func (c *wsConn) emit(ctx context.Context, ms []translate.Message, emit func([]translate.Message) error) error {
	if len(ms) == 0 {
		return nil
	}
	out, done, err := c.q.Route.apply(ctx, c.log, ms)
	unfinished, long := errors.AsType[*unfinished](err)
	if err != nil && !long {
		return err
	}
	if long {
		c.undone = unfinished.rest
	}
	if len(out) > 0 {
		if err := emit(out); err != nil {
			c.undone = nil
			return err
		}
	}
	if long {
		return err
	}
	if done {
		return translate.ErrFinished
	}
	return nil
}
