// This file is the third source: a body over HTTP that never ends (MODE=stream), as events (text/event-stream), as JSON or as
// lines. Its rules:
//
//   - What it is made of, translate.Body says; a page of HTML is taken for a login.
//   - The last id is sent back as Last-Event-ID, and CURSOR as {stream.cursor}. Only CURSOR makes a promise: with it, a
//     connection that goes on from a cursor has lost nothing; without it there is no knowing what the upstream makes of
//     Last-Event-ID, so a gap is said.
//   - RESET is asked of every record. One for which it is true, and whatever follows it, is no event: the place is forgotten, the
//     request ended, and the next one begins with FIRST, after a gap.
//   - RESET is asked as well when a request fails or an answer ends, with $status null; but not at the proper end of what FIRST
//     asked for, which is where FROM begins.
//   - Anything that arrives, comments and blank lines included, is life. All of IDLE without ends the connection.
//   - An end of the body is no end of the stream, but 204 is, as for an EventSource.

package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"sidestream/translate"
)

const readSize = 32 << 10 // bytes taken from a body at once

var errEnded = errors.New("the upstream ended its answer")

// follow is the source of a route with MODE=stream.
type follow struct {
	q      Request
	log    *slog.Logger
	count  translate.Counter // {stream.n}: counts requests
	jar    *jar
	lastID string      // of the last event in the ring
	cursor string      // of the last message in the ring; "" none
	ahead  resumePoint // where it goes on once the messages being emitted are in the ring
}

// resumePoint is where a request goes on.
type resumePoint struct{ cursor, lastID string }

func (f *follow) Connect(ctx context.Context) (Conn, error) {
	alive, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { cancel(ctx.Err()) })
	c := &httpStreamConn{follow: f, alive: alive, cancel: cancel, resumed: f.cursor != "", listed: f.cursor == "" && f.q.Route.begins}
	err := c.ask(alive)
	if !stop() || err != nil {
		c.close()
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		if final(err) {
			f.jar.forget()
		}
		f.lost(ctx, err)
		return nil, err
	}
	f.q.Route.Stats.Connects.Add(1)
	return c, nil
}

// httpStreamConn is one answer being read.
type httpStreamConn struct {
	*follow
	alive   context.Context // of the request
	cancel  context.CancelCauseFunc
	resumed bool
	listed  bool        // what FIRST asked for
	header  http.Header // of the answer
	status  int
	framed  bool // the answer says itself where it ends
	body    io.ReadCloser
	decoded io.Reader // body without its coding
	heard   func()    // called for whatever arrives
	records *translate.Body
}

func (c *httpStreamConn) Resumed() bool { return c.resumed }

func (c *httpStreamConn) close() {
	c.cancel(nil)
	if c.body != nil {
		c.body.Close()
	}
}

// ask makes the request, whose header has to come within TIMEOUT.
func (c *httpStreamConn) ask(ctx context.Context) error {
	rt := c.q.Route
	req, err := c.request(ctx)
	if err != nil {
		return err
	}
	if d := rt.settings.Timeout; d > 0 {
		t := time.AfterFunc(d, func() { c.cancel(fmt.Errorf("%w (%v)", errPatience, d)) })
		defer t.Stop()
	}
	resp, err := rt.client(rt.pools().polls, c.jar).Do(req)
	if err != nil {
		return noAnswer{fmt.Errorf("connect: %w", because(ctx, err))}
	}
	c.header, c.status, c.body = resp.Header, resp.StatusCode, resp.Body
	c.framed = resp.ProtoMajor > 1 || resp.ContentLength >= 0 || len(resp.TransferEncoding) > 0
	switch {
	case !rt.welcome(resp):
		return c.unwelcome(ctx, resp)
	case resp.StatusCode == http.StatusNoContent:
		return translate.ErrFinished
	}
	if c.decoded, err = decoded(resp, func() { c.heard() }); err != nil {
		return err
	}
	if err := login(resp, rt.settings.Format == "", translate.IsStream(resp.Header.Get("Content-Type"))); err != nil {
		return err
	}
	c.records = translate.NewBody(resp.Header.Get("Content-Type"), rt.settings.Format, rt.settings.MaxMessage)
	c.records.GoOn(c.lastID)
	return nil
}

// unwelcome is the error of an answer other than 2xx. 410 for a cursor is that it is too old.
func (c *httpStreamConn) unwelcome(ctx context.Context, resp *http.Response) error {
	m, err := c.q.Route.problem(ctx, resp)
	if err != nil {
		return err
	}
	if c.placed() && c.q.Route.tooOld(ctx, c.log, m) {
		return c.reset()
	}
	if err := c.q.Route.refusal(ctx, c.log, m); err != nil {
		return err
	}
	if err = c.q.Route.verdict(resp); err == errAnew && c.placed() {
		return c.reset()
	}
	return err
}

// placed reports whether the next request goes on from somewhere.
func (f *follow) placed() bool { return f.cursor != "" || f.lastID != "" }

// reset forgets the place. Its error is that the place was too old.
func (f *follow) reset() error {
	if !f.placed() {
		return errNoPlace
	}
	f.log.Warn("the upstream no longer knows the cursor: starting over")
	f.cursor, f.lastID, f.ahead = "", "", resumePoint{}
	return errReset
}

// lost forgets the place when RESET is true of what ended a request or an answer.
func (f *follow) lost(ctx context.Context, err error) {
	if f.placed() && f.q.Route.lostPlace(ctx, err) {
		f.reset()
	}
}

func (c *httpStreamConn) request(ctx context.Context) (*http.Request, error) {
	value := func(name string) string {
		if name == "cursor" {
			return c.cursor
		}
		return c.count.Value(name)
	}
	c.q.Route.reread(c.log)
	address, h, err := c.q.fill(value, c.cursor == "")
	if err != nil {
		return nil, err
	}
	body, err := c.q.text("BODY").Fill(value)
	if err != nil {
		return nil, err
	}
	if c.lastID != "" {
		h.Set("Last-Event-ID", c.lastID)
	}
	h.Set("Accept-Encoding", "identity") // compression holds events back
	return newRequest(ctx, c.q.Route.settings.Method, address, h, body)
}

func (c *httpStreamConn) Run(ctx context.Context, emit func([]translate.Message) error) error {
	defer c.close()
	stop := context.AfterFunc(ctx, func() { c.cancel(ctx.Err()) })
	defer stop()
	err := c.pump(emit)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var mayPass Passing
	if final(err) && !errors.As(err, &mayPass) {
		return err
	}
	if !c.listed || !errors.Is(err, errEnded) {
		c.lost(ctx, err)
	}
	retry := c.records.Retry()
	if c.q.Route.cursor != nil && c.cursor != "" {
		return &Retry{Resumes: true, After: retry, Err: err}
	}
	if retry > 0 {
		return &Retry{After: retry, Err: err}
	}
	return err
}

// pump reads until the answer ends.
func (c *httpStreamConn) pump(emit func([]translate.Message) error) error {
	rt := c.q.Route
	idle := time.NewTimer(time.Hour)
	idle.Stop()
	if d := rt.settings.Idle; d > 0 {
		idle = time.AfterFunc(d, func() { c.cancel(fmt.Errorf("%w (%v)", errIdle, d)) })
	}
	defer idle.Stop()
	c.heard = func() {
		if d := rt.settings.Idle; d > 0 {
			idle.Reset(d)
		}
	}
	buf := make([]byte, readSize)
	for {
		n, err := c.decoded.Read(buf)
		if n > 0 {
			if err := c.take(c.records.Next(buf[:n]), emit); err != nil {
				return err
			}
			if c.records.Page() {
				return passing(http.StatusUnauthorized, "answered with a page of HTML, probably a login")
			}
		}
		if errors.Is(err, io.EOF) {
			if err := c.take(c.last(), emit); err != nil {
				return err
			}
			return noAnswer{errEnded}
		}
		if err != nil {
			return noAnswer{fmt.Errorf("connection lost: %w", because(c.alive, err))}
		}
	}
}

// last is what the end of the body completes. Where only the connection's end says that it has ended it may have been cut, so that
// a line is whole only if it is JSON.
func (c *httpStreamConn) last() []translate.Message {
	ms := c.records.End()
	if c.framed {
		return ms
	}
	return slices.DeleteFunc(ms, func(m translate.Message) bool { return !json.Valid(m.Data) })
}

// take emits messages, and goes on from after them once they are in the ring.
func (c *httpStreamConn) take(ms []translate.Message, emit func([]translate.Message) error) error {
	ms, verdict := c.read(ms)
	if len(ms) > 0 {
		out, done, err := c.q.Route.apply(c.alive, c.log, ms)
		if err != nil {
			return err
		}
		c.ahead = resumePoint{c.advance(ms), c.readID()}
		if verdict != nil {
			c.ahead.lastID = c.lastID
		}
		if len(out) > 0 {
			if err := emit(out); err != nil {
				return err
			}
		}
		c.follow.cursor = c.ahead.cursor
		if done {
			return translate.ErrFinished
		}
	}
	if verdict == errReset {
		return c.reset()
	}
	if verdict != nil {
		return verdict
	}
	c.lastID = c.readID()
	return nil
}

// readID is the last id that was read, as far as it can be sent back.
func (c *httpStreamConn) readID() string {
	if id := c.records.LastID(); len(id) <= maxCursor {
		return headerSafe(id)
	}
	return c.lastID
}

// read makes records ready for programs, up to one that says that our place is too old, or that the upstream refuses.
func (c *httpStreamConn) read(ms []translate.Message) (_ []translate.Message, verdict error) {
	rt := c.q.Route
	for i, m := range ms {
		if m.Gap != "" {
			rt.Stats.Oversize.Add(1)
			c.log.Warn("message larger than MAX_MESSAGE skipped", "limit", rt.settings.MaxMessage)
			continue
		}
		rt.Stats.Received.Add(1)
		m.Header, m.Status = c.header, c.status
		if parsed, err := m.Parse(false); err == nil && !rt.unparsed() {
			m = parsed
		}
		if rt.reset != nil && rt.tooOld(c.alive, c.log, m) {
			return ms[:i], errReset
		}
		if err := rt.refusal(c.alive, c.log, m); err != nil {
			return ms[:i], err
		}
		ms[i] = m
	}
	return ms, nil
}

// advance is the cursor of the last message that has one, or the one before them.
func (c *httpStreamConn) advance(ms []translate.Message) (next string) {
	rt := c.q.Route
	if next = c.follow.cursor; rt.cursor == nil {
		return next
	}
	for _, m := range ms {
		if m.Gap != "" {
			continue
		}
		var cursor string
		var ok bool
		err := rt.bounded(c.alive, func(ctx context.Context) (err error) {
			cursor, ok, err = rt.cursor.Value(ctx, m)
			return err
		})
		switch {
		case err != nil && c.alive.Err() == nil:
			rt.failed(c.log, err)
		case ok && len(cursor) <= maxCursor:
			next = cursor
		}
	}
	return next
}

// headerSafe is id if it may stand in a header, else "".
func headerSafe(id string) string {
	if _, err := headerValue(id); err != nil {
		return ""
	}
	return id
}
