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
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
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
	maxEarly      = 1024     // messages
	maxEarlyBytes = 16 << 20 // of their data

	pieceSize   = 32 << 10 // bytes of a byte stream read at once
	maxRequests = 16       // before one dial
	maxAnswer   = 1 << 20  // bytes of the answer to one

	maxSkipped = 64 << 20 // bytes of one message over MAX_MESSAGE that are read past before the connection is given up
)

var errIdle = errors.New("nothing was received for IDLE")

// subscription is the source of a WebSocket route.
type subscription struct {
	q       Request
	log     *slog.Logger
	session dialect.Session
	jar     *jar
	state   translate.State   // {state.*}: what STATE has captured
	dials   translate.Counter // {stream.n} of the address: counts dials
	count   translate.Counter // {stream.n} of CONNECT and SUBSCRIBE: counts from 1 on each connection
	dropped bool              // a connection never was ready, so nothing is sure to go on from the last one that was

	// What came before the connection was ready waits here for the ring.
	early []translate.Message
	acks  []dialect.Frame // for them
	gap   bool            // and some of them were skipped
}

// value fills in {stream.n}, by counting with c, and {state.*}.
func (s *subscription) value(c *translate.Counter) func(string) string {
	return func(name string) string {
		if name, ok := strings.CutPrefix(name, translate.StatePrefix); ok {
			return s.state.Text(name)
		}
		return c.Value(name)
	}
}

// ticket is the request that TICKET makes before each dial.
func (s *subscription) ticket() (*dialect.HTTPRequest, error) {
	value := s.value(&s.dials)
	own, h, err := s.q.fill(value, false)
	if err != nil {
		return nil, err
	}
	target, err := s.q.text("TICKET").Fill(value)
	if err != nil {
		return nil, err
	}
	if h.Get("Accept") == "" {
		h.Set("Accept", "application/json")
	}
	if !sameHost(own, target) {
		h.Del("Host") // which is the name of FROM's
	}
	return &dialect.HTTPRequest{Method: s.q.Route.ticketMethod, URL: target, Header: h}, nil
}

// sameHost says whether two addresses have the same host, whatever their ports.
func sameHost(a, b string) bool {
	one, err := url.Parse(a)
	two, err2 := url.Parse(b)
	return err == nil && err2 == nil && strings.EqualFold(one.Hostname(), two.Hostname())
}

// dial is the route's own address and header, for the dialect to build on.
func (s *subscription) dial() (dialect.Dial, error) {
	address, h, err := s.q.fill(s.value(&s.dials), false)
	if err != nil {
		return dialect.Dial{}, err
	}
	if h.Get("Origin") == "" {
		h.Set("Origin", origin(address))
	}
	offered := s.q.Route.settings.Subprotocol
	if len(offered) == 0 {
		offered = s.q.Route.dialect.Subprotocols
	}
	return dialect.Dial{URL: address, Header: h, Subprotocols: offered}, nil
}

func (s *subscription) connect() (string, error) { return s.q.text("CONNECT").Fill(s.value(&s.count)) }

func (s *subscription) subscribe() (lines []string, err error) {
	for _, t := range s.q.texts("SUBSCRIBE") {
		line, err := t.Fill(s.value(&s.count))
		if err != nil {
			return nil, err
		}
		lines = append(lines, line)
	}
	return lines, nil
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
	s.count = translate.Counter{}
	dial, err := s.prepare(ctx)
	if err != nil {
		return nil, later(mayPass(err))
	}
	c := &socket{subscription: s, start: time.Now(), retimed: make(chan struct{}, 1), turn: make(chan struct{}, 1)}
	if err := c.handshake(ctx, dial); err != nil {
		return nil, err
	}
	if err := c.begin(ctx); err != nil {
		c.ws.CloseNow()
		// What it may have taken in is not in the ring, and what the next connection goes on from may be this one.
		s.dropped, s.early, s.acks, s.gap = true, nil, nil, false
		return nil, later(mayPass(err))
	}
	c.resumed = c.resumed && !s.dropped
	s.dropped = false
	s.q.Route.Stats.Connects.Add(1)
	return c, nil
}

// later puts what the session knows of the next attempt into this package's terms.
func later(err error) error {
	if d := after(err); d > 0 {
		return &Retry{After: d, Err: err}
	}
	return err
}

// prepare asks the session where to dial, and makes the requests that it needs to know.
func (s *subscription) prepare(ctx context.Context) (dialect.Dial, error) {
	s.q.Route.reread(s.log)
	var last *dialect.HTTPResponse
	for range maxRequests {
		dial, err := s.session.Dial(last)
		if err != nil || dial.Request == nil {
			return dial, err
		}
		if last, err = s.request(ctx, dial.Request); err != nil {
			return dial, err
		}
	}
	return dialect.Dial{}, fmt.Errorf("more than %d requests before the dial", maxRequests)
}

func (s *subscription) request(ctx context.Context, r *dialect.HTTPRequest) (*dialect.HTTPResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	req, err := newRequest(ctx, r.Method, r.URL, r.Header, string(r.Body))
	if err != nil {
		return nil, err
	}
	resp, err := s.q.Route.client(polls, s.jar).Do(req)
	if err != nil {
		return nil, fmt.Errorf("request before the dial: %w", Kind(err))
	}
	defer resp.Body.Close()
	if !s.q.Route.welcome(resp) {
		return nil, fmt.Errorf("request before the dial: %w", s.verdict(resp))
	}
	plain, err := decoded(resp, func() {})
	if err != nil {
		return nil, fmt.Errorf("request before the dial: %w", err)
	}
	body, err := io.ReadAll(io.LimitReader(plain, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("request before the dial: %w", Kind(err))
	}
	if page := login(resp, true, json.Valid(body)); page != nil {
		return nil, fmt.Errorf("request before the dial: %w", page)
	}
	if len(body) > maxAnswer {
		return nil, fmt.Errorf("request before the dial: the answer is over %d bytes", maxAnswer)
	}
	return &dialect.HTTPResponse{Status: resp.StatusCode, Header: resp.Header, Body: body}, nil
}

// socket is one connection. Run's caller reads, and a keeper beside it writes what time demands.
type socket struct {
	*subscription
	ws      *websocket.Conn
	conn    net.Conn // below ws
	host    string   // that was dialled
	resumed bool
	ended   error        // the dialect finished before it was ready
	buf     bytes.Buffer // the frame being read
	open    bool         // the session is ready
	rest    io.Reader    // of the message being read in pieces; nil: none is
	kind    websocket.MessageType
	last    atomic.Int64 // when something was received last, in ns since start
	message atomic.Int64 // when a message, or a part of one, was
	start   time.Time
	retimed chan struct{} // has one element when the session's timers have changed
	turn    chan struct{} // full while somebody writes frames

	mu     sync.Mutex // guards session and timers
	timers dialect.Timers
}

func (c *socket) touch() {
	c.last.Store(int64(time.Since(c.start)))
}

func (c *socket) touchMessage() {
	c.touch()
	c.message.Store(c.last.Load())
}

// received is when something was received last.
func (c *socket) received() time.Time { return c.start.Add(time.Duration(c.last.Load())) }

// heard is when a message was.
func (c *socket) heard() time.Time { return c.start.Add(time.Duration(c.message.Load())) }

func (c *socket) handshake(ctx context.Context, d dialect.Dial) error {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(got httptrace.GotConnInfo) { c.conn = got.Conn }})
	host := d.Header.Get("Host")
	d.Header.Del("Host")
	options := &websocket.DialOptions{
		HTTPClient:     c.q.Route.client(sockets, c.jar),
		HTTPHeader:     d.Header,
		Host:           host,
		Subprotocols:   d.Subprotocols,
		OnPingReceived: func(context.Context, []byte) bool { c.touch(); return true },
		OnPongReceived: func(context.Context, []byte) { c.touch() },
	}
	if at, err := url.Parse(d.URL); err == nil {
		c.host = at.Host
	}
	c.q.Route.compress(c.host, options)
	ws, resp, err := websocket.Dial(ctx, d.URL, options)
	if err != nil {
		c.doubted(err)
		return c.refusal(resp, err)
	}
	if len(d.Subprotocols) > 0 && ws.Subprotocol() == "" {
		ws.CloseNow()
		return errors.New("the upstream chose none of the subprotocols offered; " + c.unchosen())
	}
	ws.SetReadLimit(-1) // read has its own, which lets the connection live
	c.ws = ws
	c.touchMessage() // the handshake may have taken longer than IDLE
	return nil
}

// unchosen is what to change then.
func (c *socket) unchosen() string {
	if hint := c.q.Route.dialect.Unchosen; hint != "" && len(c.q.Route.settings.Subprotocol) == 0 {
		return hint
	}
	return "check SUBPROTOCOL"
}

// refusal tells a verdict from a failure by the answer to the upgrade.
func (c *socket) refusal(resp *http.Response, err error) error {
	if resp == nil || resp.StatusCode == http.StatusSwitchingProtocols {
		kind := Kind(err)
		if strings.Contains(err.Error(), "Sec-WebSocket-Protocol") {
			return fmt.Errorf("connect: %w; check SUBPROTOCOL, and whether it is PROTOCOL that is spoken there", kind)
		}
		return fmt.Errorf("connect: %w", kind)
	}
	return c.subscription.verdict(resp)
}

// verdict is the route's, which may be to forget what was to be gone on from.
func (s *subscription) verdict(resp *http.Response) error {
	err := s.q.Route.verdict(resp)
	if err == errAnew {
		s.state.Forget()
	}
	if final(err) {
		s.jar.forget()
	}
	return err
}

// begin speaks until the session is ready.
func (c *socket) begin(ctx context.Context) error {
	frames, err := c.session.Open(c.ws.Subprotocol())
	if err != nil {
		return err
	}
	if err := c.send(ctx, frames); err != nil {
		return err
	}
	ready := false
	for t := c.session.Timers(); t.Opening > 0 && !ready; {
		step, stop := context.WithTimeoutCause(ctx, t.Opening, unanswered(t))
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

// unanswered is the error of an opening that took too long.
func unanswered(t dialect.Timers) error {
	if t.Waiting == "" {
		return fmt.Errorf("no answer within %v (step %d of the opening)", t.Opening, t.Step)
	}
	return fmt.Errorf("no answer within %v, waiting for %s", t.Opening, t.Waiting)
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
	if errors.Is(err, translate.ErrFinished) { // what it said before is for the ring
		c.ended = err
	} else if err != nil {
		return false, err
	}
	c.early, c.acks = append(c.early, got.Messages...), append(c.acks, got.Acks...)
	size := 0
	for _, m := range c.early {
		size += len(m.Data)
	}
	if max(len(c.early), len(c.acks)) > maxEarly || size > maxEarlyBytes {
		c.early, c.acks, c.gap = nil, nil, true
		return false, fmt.Errorf("more than %d messages or %d bytes arrived before HELLO was through", maxEarly, maxEarlyBytes)
	}
	if c.ended != nil {
		return true, nil
	}
	c.resumed = got.Resumed
	return got.Ready, c.send(ctx, got.Replies)
}

func (c *socket) Resumed() bool { return c.resumed }

// receive gives one frame to the session.
func (c *socket) receive(ctx context.Context, f dialect.Frame) (got dialect.Received, err error) {
	rt := c.q.Route
	err = rt.bounded(ctx, func(ctx context.Context) (err error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		got, err = c.session.Receive(ctx, time.Now(), f)
		c.retime()
		return err
	})
	for _, failed := range got.Failed {
		rt.failed(c.log, failed)
	}
	for _, said := range got.Said {
		if more, ok := rt.noisy.allow(); ok {
			c.log.Warn("the upstream complains", "err", said, "unsaid", more)
		}
	}
	return got, err
}

// retime lets the keeper know when the session's timers have changed. mu is held.
func (c *socket) retime() {
	t := c.session.Timers()
	if t == c.timers {
		return
	}
	c.timers = t
	select {
	case c.retimed <- struct{}{}:
	default:
	}
}

// write is called by who has the turn.
func (c *socket) write(ctx context.Context, frames []dialect.Frame) error {
	for _, f := range frames {
		kind := websocket.MessageText
		if f.Binary {
			kind = websocket.MessageBinary
		}
		ctx, cancel := context.WithTimeout(ctx, sendTime)
		err := c.ws.Write(ctx, kind, f.Data)
		cancel()
		if err != nil {
			return fmt.Errorf("send: %w", Kind(err))
		}
	}
	return nil
}

// read returns the next frame, whose data is good until the next call, or that one was skipped for its size.
func (c *socket) read(ctx context.Context) (f dialect.Frame, skipped bool, err error) {
	limit := int64(c.q.Route.settings.MaxMessage)
	switch stream := c.q.Route.dialect.Stream; {
	case stream && c.open:
		f, err = c.readPiece(ctx)
		return f, false, err
	case stream: // a reader ends with its ctx, which here is that of a step: whole messages, then
		limit = maxEarlyBytes
	}
	kind, r, err := c.ws.Reader(ctx)
	if err != nil {
		return f, false, c.closed(ctx, err)
	}
	c.touchMessage()
	r = lifeReader{r, c}
	if c.buf.Cap() > 1<<20 {
		c.buf = bytes.Buffer{} // one large message shall not be kept for the life of the connection
	}
	c.buf.Reset()
	if _, err := c.buf.ReadFrom(io.LimitReader(r, limit+1)); err != nil {
		return f, false, c.closed(ctx, err)
	}
	c.q.Route.Stats.Received.Add(1)
	if int64(c.buf.Len()) <= limit {
		return dialect.Frame{Binary: kind == websocket.MessageBinary, Data: c.buf.Bytes()}, false, nil
	}
	c.q.Route.Stats.Oversize.Add(1)
	c.log.Warn("message over MAX_MESSAGE skipped", "limit", limit)
	n, err := io.Copy(io.Discard, io.LimitReader(r, maxSkipped))
	if err == nil && n == maxSkipped {
		err = fmt.Errorf("a message of over %d bytes", maxSkipped)
	}
	if err == nil {
		c.mu.Lock()
		err = c.session.Skipped()
		c.mu.Unlock()
	}
	return f, true, err
}

// readPiece returns the next piece of a byte stream, whatever its messages are.
func (c *socket) readPiece(ctx context.Context) (f dialect.Frame, err error) {
	if c.buf.Cap() < pieceSize {
		c.buf.Grow(pieceSize)
	}
	piece := c.buf.AvailableBuffer()[:pieceSize]
	for {
		if c.rest == nil {
			var r io.Reader
			if c.kind, r, err = c.ws.Reader(ctx); err != nil {
				return f, c.closed(ctx, err)
			}
			c.q.Route.Stats.Received.Add(1)
			c.touchMessage()
			c.rest = lifeReader{r, c}
		}
		n, err := c.rest.Read(piece)
		if errors.Is(err, io.EOF) {
			c.rest, err = nil, nil
		}
		if err != nil {
			return f, c.closed(ctx, err)
		}
		if n > 0 {
			return dialect.Frame{Binary: c.kind == websocket.MessageBinary, Data: piece[:n]}, nil
		}
	}
}

// lifeReader notes that a message goes on arriving.
type lifeReader struct {
	io.Reader
	c *socket
}

func (r lifeReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if n > 0 {
		r.c.touchMessage()
	}
	return n, err
}

// closed asks the session what the end of the connection means, and makes the library's error short: a close code, or
// what went wrong.
func (c *socket) closed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err() // our own doing
	}
	c.doubted(err)
	var e websocket.CloseError
	coded := errors.As(err, &e)
	c.mu.Lock()
	meaning := c.session.Closed(int(e.Code), e.Reason)
	c.mu.Unlock()
	switch {
	case meaning != nil:
		return meaning
	case coded:
		return fmt.Errorf("closed by the upstream with code %d", e.Code)
	}
	return fmt.Errorf("connection lost: %w", Kind(err))
}

// doubted remembers an upstream whose compression fails.
func (c *socket) doubted(err error) {
	if c.q.Route.doubt(c.host, err) {
		c.log.Warn("the upstream's compression cannot be read, the next connection does without")
	}
}

func (c *socket) Run(ctx context.Context, emit func([]translate.Message) error) error {
	c.open = true
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
	return c.verdict(err)
}

// verdict is err with what the session knows of the next connection.
func (c *socket) verdict(err error) error {
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

// final says that err is the last word on a stream.
func final(err error) bool {
	var refused *translate.Refused
	return errors.Is(err, translate.ErrFinished) || errors.As(err, &refused)
}

// after is how long the session wants to wait, 0 when it does not say.
func after(err error) time.Duration {
	var l *translate.Later
	if errors.As(err, &l) {
		return min(l.After, maxRetryAfter)
	}
	return 0
}

// goodbye tells an upstream that is still there why we leave.
func (c *socket) goodbye(err error) {
	if final(err) {
		c.farewell(websocket.StatusNormalClosure)
	}
}

// farewell closes the connection politely. The library waits five seconds for each half of it, and for ever for the rest
// of a frame that was begun, while the stream's clients wait for its end.
func (c *socket) farewell(code websocket.StatusCode) {
	cut := time.AfterFunc(byeTime, func() { c.conn.Close() })
	defer cut.Stop()
	c.mu.Lock()
	last := c.session.Leave()
	c.mu.Unlock()
	if c.send(context.Background(), last) != nil {
		return
	}
	c.ws.Close(code, "")
}

// pump reads until the connection ends.
func (c *socket) pump(ctx context.Context, emit func([]translate.Message) error) error {
	first := c.early
	if c.gap {
		first = append([]translate.Message{{Gap: translate.GapUpstream}}, first...)
	}
	acks := c.acks
	c.early, c.acks, c.gap = nil, nil, false
	if err := c.emit(ctx, first, emit); err != nil {
		return err
	}
	if err := c.send(ctx, acks); err != nil {
		return err
	}
	if c.ended != nil {
		return c.ended
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
		if err := c.send(ctx, append(got.Replies, got.Acks...)); err != nil {
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
