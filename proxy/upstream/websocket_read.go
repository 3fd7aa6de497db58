// This file is how frames are read: whole messages up to MAX_MESSAGE, or pieces where the dialect takes a WebSocket as a stream of bytes.

package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"

	"sidestream/translate/dialect"
)

// receive gives one frame to the session.
func (c *wsConn) receive(ctx context.Context, f dialect.Frame) (got dialect.Received, err error) {
	rt := c.q.Route
	if rt.onlyProgram() { // which has its time afterwards
		got, err = c.given(ctx, f)
	} else {
		got, err = c.givenInTime(ctx, f)
	}
	rt.trace.received(f, got, err)
	rt.decoding(c.log, got.Decoded)
	for _, failed := range got.Failed {
		rt.failed(c.log, failed)
	}
	for _, said := range got.Complaints {
		if more, ok := rt.noisy.Allow(); ok {
			c.log.Warn("the upstream complains", "err", said, "suppressed", more)
		}
	}
	return got, err
}

// given is what the session makes of a frame.
func (c *wsConn) given(ctx context.Context, f dialect.Frame) (dialect.Received, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.retime()
	return c.session.Receive(ctx, time.Now(), f)
}

// givenInTime is given where programs run over it.
func (c *wsConn) givenInTime(ctx context.Context, f dialect.Frame) (dialect.Received, error) {
	ctx, m := c.q.Route.inTime(ctx)
	defer m.release()
	return c.given(ctx, f)
}

// retime lets the keeper know when the session's timers have changed. mu is held.
func (c *wsConn) retime() {
	t := c.session.Timers()
	if t == c.timers {
		return
	}
	c.timers = t
	if c.keeper != nil {
		c.keeper.retime(t)
	}
}

// read returns the next frame, whose data is good until the next call, or that one was skipped for its size.
func (c *wsConn) read(ctx context.Context) (f dialect.Frame, skipped bool, err error) {
	limit := int64(c.q.Route.settings.MaxMessage)
	switch stream := c.q.Route.dialect.Stream; {
	case stream && c.open:
		f, err = c.readPiece(ctx)
		return f, false, err
	case stream: // a reader ends with its ctx, which here is that of a step: whole messages, then
		limit = maxEarlyBytes
	}
	c.letGo()
	kind, r, err := c.ws.Reader(c.watched(ctx))
	if err != nil {
		return f, false, c.closed(ctx, err)
	}
	c.touchMessage()
	c.buf = messages.Get().(*incoming)
	if err := c.buf.fill(lifeReader{r, c}, limit+1); err != nil {
		return f, false, c.closed(ctx, err)
	}
	c.q.Route.Stats.Received.Add(1)
	if int64(c.buf.Len()) <= limit {
		if kind == websocket.MessageText && !c.foreign && textOfAnyKind(c.q.Route.dialect) && !utf8.Valid(c.buf.Bytes()) {
			c.foreign = true // said once for a connection
			c.log.Warn("a text message is not UTF-8, clients see U+FFFD where it is not; the service has to send UTF-8 (RFC 6455, section 5.6)")
		}
		return dialect.Frame{Binary: kind == websocket.MessageBinary, Data: c.buf.Bytes()}, false, nil
	}
	c.q.Route.Stats.Oversize.Add(1)
	c.log.Warn("message larger than MAX_MESSAGE skipped", "limit", limit)
	n, err := io.Copy(io.Discard, io.LimitReader(lifeReader{r, c}, maxSkipped))
	if err == nil && n == maxSkipped {
		err = fmt.Errorf("a message of more than %d bytes", maxSkipped)
	}
	if err == nil {
		c.mu.Lock()
		err = c.session.Skipped()
		c.mu.Unlock()
	}
	return f, true, err
}

// incoming is a message being read.
type incoming struct {
	bytes.Buffer
	from lifeReader // while it is filled
	left int64
}

// messages are those of messages that were read.
var messages = sync.Pool{New: func() any { return new(incoming) }}

// fill reads most bytes, or all that there are.
func (b *incoming) fill(from lifeReader, most int64) error {
	b.from, b.left = from, most
	_, err := b.ReadFrom((*filling)(b))
	b.from = lifeReader{}
	return err
}

// filling is what a message is filled from.
type filling incoming

func (f *filling) Read(p []byte) (int, error) {
	if f.left <= 0 {
		return 0, io.EOF
	}
	n, err := f.from.Read(p[:min(int64(len(p)), f.left)])
	f.left -= int64(n)
	return n, err
}

// letGo lets go of the buffer of the last frame, which is not needed any more.
func (c *wsConn) letGo() {
	if c.buf == nil {
		return
	}
	if c.buf.Cap() <= 64<<10 { // what one large message has needed shall not be kept
		c.buf.Reset()
		messages.Put(c.buf)
	}
	c.buf = nil
}

// watched is what ends a read before its time. Of a connection that runs it is nothing: the end of that closes it.
func (c *wsConn) watched(ctx context.Context) context.Context {
	if c.open && !c.q.Route.posts() {
		return context.Background()
	}
	return ctx
}

// readPiece returns the next piece of a byte stream, whatever its messages are; none where it has come to the end of one.
func (c *wsConn) readPiece(ctx context.Context) (f dialect.Frame, err error) {
	if c.rest == nil {
		var r io.Reader
		if c.kind, r, err = c.ws.Reader(c.watched(ctx)); err != nil {
			return f, c.closed(ctx, err)
		}
		c.q.Route.Stats.Received.Add(1)
		c.touchMessage()
		c.rest = lifeReader{r, c}
	}
	if c.buf == nil {
		c.buf = messages.Get().(*incoming)
	}
	c.buf.Grow(pieceSize)
	piece := c.buf.AvailableBuffer()[:pieceSize]
	n, err := c.rest.Read(piece)
	if errors.Is(err, io.EOF) {
		c.rest, err = nil, nil
	}
	if err != nil {
		return f, c.closed(ctx, err)
	}
	return dialect.Frame{Binary: c.kind == websocket.MessageBinary, Data: piece[:n]}, nil
}

// lifeReader notes that a message goes on arriving.
type lifeReader struct {
	io.Reader
	c *wsConn
}

func (r lifeReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if n > 0 {
		r.c.touchMessage()
	}
	return n, err
}
