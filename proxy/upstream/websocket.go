// This file is the WebSocket subscription (RFC 6455; compression RFC 7692). Its rules:
//
//   - Connect is through when the handshake, the dialect and HELLO are. What arrives before goes out first.
//   - A message over MAX_MESSAGE (after inflation) is skipped and leaves a gap; the connection goes on.
//   - Whatever arrives, pongs and parts of messages included, is life. Half of IDLE without any sends a ping, all of IDLE
//     without any ends the connection.
//   - A subprotocol that was offered must be chosen: browsers fail such a connection too.

package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"sidestream/translate"
)

const (
	dialTime = 10 * time.Second // from dialling to the upgrade's answer
	sendTime = 10 * time.Second // one frame upstream
	byeTime  = time.Second      // the closing handshake

	// What may arrive before HELLO is through, and has to wait for the ring.
	maxEarly      = 1024     // messages
	maxEarlyBytes = 16 << 20 // of their data

	maxSkipped = 64 << 20 // bytes of one message over MAX_MESSAGE that are read past before the connection is given up
)

var errIdle = errors.New("nothing was received for IDLE")

// subscription is the source of a WebSocket route.
type subscription struct {
	q       Request
	log     *slog.Logger
	session translate.Session
	count   translate.Counter // {stream.n} of the address: counts dials
}

// dial is the route's own address and header, for the dialect to build on.
func (s *subscription) dial() (translate.Dial, error) {
	address, h, err := s.q.fill(s.count.Value)
	if err != nil {
		return translate.Dial{}, err
	}
	if h.Get("Origin") == "" {
		h.Set("Origin", origin(address))
	}
	return translate.Dial{URL: address, Header: h, Subprotocols: s.q.Route.settings.Subprotocol}, nil
}

// origin is the upstream's own, which is what a page served by it would send.
func origin(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "null"
	}
	scheme := "http"
	if u.Scheme == "wss" {
		scheme = "https"
	}
	return scheme + "://" + u.Host
}

func (s *subscription) Connect(ctx context.Context) (Conn, error) {
	dial, err := s.session.Dial()
	if err != nil {
		return nil, err
	}
	c := &socket{subscription: s, start: time.Now()}
	if err := c.handshake(ctx, dial); err != nil {
		return nil, err
	}
	if err := c.open(ctx); err != nil {
		c.ws.CloseNow()
		return nil, err
	}
	s.q.Route.Stats.Connects.Add(1)
	return c, nil
}

// socket is one connection. Run's caller reads, and a keeper beside it writes what time demands.
type socket struct {
	*subscription
	ws      *websocket.Conn
	conn    net.Conn // below ws
	resumed bool
	early   []translate.Message // came before the connection was ready
	gap     bool                // and some of them were skipped
	buf     bytes.Buffer        // the frame being read
	last    atomic.Int64        // when something was received last, in ns since start
	start   time.Time

	mu sync.Mutex // guards session
}

func (c *socket) touch() {
	c.last.Store(int64(time.Since(c.start)))
}

// received is when something was received last.
func (c *socket) received() time.Time { return c.start.Add(time.Duration(c.last.Load())) }

func (c *socket) handshake(ctx context.Context, d translate.Dial) error {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(got httptrace.GotConnInfo) { c.conn = got.Conn }})
	host := d.Header.Get("Host")
	d.Header.Del("Host")
	ws, resp, err := websocket.Dial(ctx, d.URL, &websocket.DialOptions{
		HTTPClient:      sockets,
		HTTPHeader:      d.Header,
		Host:            host,
		Subprotocols:    d.Subprotocols,
		CompressionMode: websocket.CompressionNoContextTakeover,
		OnPingReceived:  func(context.Context, []byte) bool { c.touch(); return true },
		OnPongReceived:  func(context.Context, []byte) { c.touch() },
	})
	if err != nil {
		return refusal(resp, err)
	}
	if len(d.Subprotocols) > 0 && ws.Subprotocol() == "" {
		ws.CloseNow()
		return errors.New("the upstream chose none of the subprotocols offered; check SUBPROTOCOL")
	}
	ws.SetReadLimit(-1) // read has its own, which lets the connection live
	c.ws = ws
	c.touch() // the handshake may have taken longer than IDLE
	return nil
}

// refusal tells a verdict from a failure by the answer to the upgrade.
func refusal(resp *http.Response, err error) error {
	if resp == nil || resp.StatusCode == http.StatusSwitchingProtocols {
		return fmt.Errorf("connect: %w", cleaned(err))
	}
	return verdict(resp)
}

// open speaks until the session is ready.
func (c *socket) open(ctx context.Context) error {
	frames, err := c.session.Open()
	if err != nil {
		return err
	}
	if err := c.send(ctx, frames); err != nil {
		return err
	}
	ready := false
	for t := c.session.Timers(); t.Opening > 0 && !ready; {
		step, stop := context.WithTimeoutCause(ctx, t.Opening, fmt.Errorf("no answer within %v (step %d of the opening)", t.Opening, t.Step))
		for now := t; now.Step == t.Step && now.Opening > 0 && !ready; now = c.session.Timers() {
			if ready, err = c.step(step); err != nil {
				stop()
				return err
			}
		}
		stop()
		t = c.session.Timers()
	}
	return nil
}

// step takes one frame before the connection is ready.
func (c *socket) step(ctx context.Context) (ready bool, err error) {
	frame, skipped, err := c.read(ctx)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return false, cause
	}
	if err != nil || skipped {
		c.gap = c.gap || skipped
		return false, err
	}
	frame.Data = bytes.Clone(frame.Data)
	got, err := c.receive(ctx, frame)
	if err != nil {
		return false, err
	}
	c.early = append(c.early, got.Messages...)
	size := 0
	for _, m := range c.early {
		size += len(m.Data)
	}
	if len(c.early) > maxEarly || size > maxEarlyBytes {
		return false, fmt.Errorf("more than %d messages or %d bytes arrived before HELLO was through", maxEarly, maxEarlyBytes)
	}
	c.resumed = got.Resumed
	return got.Ready, c.send(ctx, got.Replies)
}

func (c *socket) Resumed() bool { return c.resumed }

// receive gives one frame to the session.
func (c *socket) receive(ctx context.Context, f translate.Frame) (got translate.Received, err error) {
	rt := c.q.Route
	err = rt.bounded(ctx, func(ctx context.Context) (err error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		got, err = c.session.Receive(ctx, f)
		return err
	})
	for _, failed := range got.Failed {
		rt.failed(c.log, failed)
	}
	return got, err
}

func (c *socket) send(ctx context.Context, frames []translate.Frame) error {
	for _, f := range frames {
		kind := websocket.MessageText
		if f.Binary {
			kind = websocket.MessageBinary
		}
		ctx, cancel := context.WithTimeout(ctx, sendTime)
		err := c.ws.Write(ctx, kind, f.Data)
		cancel()
		if err != nil {
			return fmt.Errorf("send: %w", err)
		}
	}
	return nil
}

// read returns the next frame, whose data is good until the next call, or that one was skipped for its size.
func (c *socket) read(ctx context.Context) (f translate.Frame, skipped bool, err error) {
	kind, r, err := c.ws.Reader(ctx)
	if err != nil {
		return f, false, c.closed(err)
	}
	c.touch()
	r = lifeReader{r, c}
	if c.buf.Cap() > 1<<20 {
		c.buf = bytes.Buffer{} // one large message shall not be kept for the life of the connection
	}
	c.buf.Reset()
	limit := int64(c.q.Route.settings.MaxMessage)
	if _, err := c.buf.ReadFrom(io.LimitReader(r, limit+1)); err != nil {
		return f, false, c.closed(err)
	}
	c.q.Route.Stats.Received.Add(1)
	if int64(c.buf.Len()) <= limit {
		return translate.Frame{Binary: kind == websocket.MessageBinary, Data: c.buf.Bytes()}, false, nil
	}
	c.q.Route.Stats.Oversize.Add(1)
	c.log.Warn("message over MAX_MESSAGE skipped", "limit", limit)
	n, err := io.Copy(io.Discard, io.LimitReader(r, maxSkipped))
	if err == nil && n == maxSkipped {
		err = fmt.Errorf("a message of over %d bytes", maxSkipped)
	}
	return f, true, err
}

// lifeReader notes that a message goes on arriving.
type lifeReader struct {
	io.Reader
	c *socket
}

func (r lifeReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if n > 0 {
		r.c.touch()
	}
	return n, err
}

// closed makes the library's error short: a close code, or what went wrong.
func (c *socket) closed(err error) error {
	var e websocket.CloseError
	if errors.As(err, &e) {
		return fmt.Errorf("closed by the upstream with code %d", e.Code)
	}
	return fmt.Errorf("connection lost: %w", cleaned(err))
}

func (c *socket) Run(ctx context.Context, emit func([]translate.Message) error) error {
	// The connection outlives ctx by its closing handshake, which the library forbids once a reader is cancelled.
	alive, end := context.WithCancelCause(context.WithoutCancel(ctx))
	kept := make(chan struct{})
	go func() { // ends with alive
		defer close(kept)
		c.keep(ctx, alive, end)
	}()
	err := c.pump(alive, emit)
	switch cause := context.Cause(alive); {
	case ctx.Err() != nil:
		<-kept // the keeper says goodbye
		err = ctx.Err()
	case cause != nil:
		err = cause
	default:
		c.goodbye(err)
	}
	end(err)
	<-kept
	c.ws.CloseNow()
	return err
}

// goodbye tells an upstream that is still there why we leave.
func (c *socket) goodbye(err error) {
	var refused *translate.Refused
	if errors.Is(err, translate.ErrFinished) || errors.As(err, &refused) {
		c.farewell(websocket.StatusNormalClosure)
	}
}

// farewell closes the connection politely. The library waits five seconds for each half of it, and for ever for the rest
// of a frame that was begun, while the stream's clients wait for its end.
func (c *socket) farewell(code websocket.StatusCode) {
	cut := time.AfterFunc(byeTime, func() { c.conn.Close() })
	defer cut.Stop()
	c.ws.Close(code, "")
}

// pump reads until the connection ends.
func (c *socket) pump(ctx context.Context, emit func([]translate.Message) error) error {
	first := c.early
	c.early = nil
	if c.gap {
		first = append([]translate.Message{{Gap: translate.GapUpstream}}, first...)
	}
	if err := c.emit(ctx, first, emit); err != nil {
		return err
	}
	for {
		frame, skipped, err := c.read(ctx)
		if skipped {
			if err := emit([]translate.Message{{Gap: translate.GapUpstream}}); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
		if skipped {
			continue
		}
		got, err := c.receive(ctx, frame)
		if emitErr := c.emit(ctx, got.Messages, emit); emitErr != nil {
			return emitErr
		}
		if err != nil {
			return err
		}
		if err := c.send(ctx, got.Replies); err != nil {
			return err
		}
	}
}

func (c *socket) emit(ctx context.Context, ms []translate.Message, emit func([]translate.Message) error) error {
	if len(ms) == 0 {
		return nil
	}
	out, done, err := c.q.Route.apply(ctx, c.log, ms)
	if err != nil {
		return err
	}
	if len(out) > 0 {
		if err := emit(out); err != nil {
			return err
		}
	}
	if done {
		return translate.ErrFinished
	}
	return nil
}
