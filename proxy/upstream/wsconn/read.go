package wsconn

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"unicode/utf8"

	"github.com/coder/websocket"
)

// buffer is what was read ahead of a message. A connection has one only from the first byte of a message until its last.
type buffer struct {
	data       [4 << 10]byte
	start, end int // of what is not taken yet
}

const direct = 1 << 10 // bytes that are wanted at least, and not there, to be read past the buffer

var buffers = sync.Pool{New: func() any { return new(buffer) }}

func (b *buffer) len() int {
	if b == nil {
		return 0
	}
	return b.end - b.start
}

// Reader waits for the next message. What it returns is to be read to its end, io.EOF, before the next call, and until then ctx is watched: where it ends,
// so does the connection. A close of the peer's is a [websocket.CloseError].
func (c *Conn) Reader(ctx context.Context) (websocket.MessageType, io.Reader, error) {
	if !c.begin() {
		return 0, nil, c.end(net.ErrClosed)
	}
	defer c.leave(&c.reading)
	if c.inside {
		return 0, nil, errors.New("the previous message was not read to its end")
	}
	if ctx.Done() != nil {
		c.stop = context.AfterFunc(ctx, func() { c.CloseNow() })
	}
	h, err := c.next()
	if err == nil && h.op == opContinuation {
		err = c.fail(websocket.StatusProtocolError, "a frame that continues no message")
	}
	if err != nil {
		return 0, nil, c.over(err)
	}
	c.inside, c.kind, c.fin, c.left, c.text = true, websocket.MessageType(h.op), h.fin, h.size, text{}
	if h.packed {
		c.packed = c.unpack()
	}
	return c.kind, (*message)(c), nil
}

// message is the one being read.
type message Conn

func (m *message) Read(p []byte) (int, error) {
	c := (*Conn)(m)
	if !c.inside {
		return 0, io.EOF
	}
	if len(p) == 0 {
		return 0, nil
	}
	if !c.begin() {
		return 0, c.end(net.ErrClosed)
	}
	defer c.leave(&c.reading)
	n, err := c.content(p)
	if c.kind == websocket.MessageText && !c.options.Bytes && (!c.text.add(p[:n]) || errors.Is(err, io.EOF) && !c.text.whole()) {
		err = c.fail(websocket.StatusInvalidFramePayloadData, "a text message that is not UTF-8")
		n = 0
	}
	if err == io.EOF {
		c.inside = false
		c.over(nil)
	} else if err != nil {
		err = c.over(err)
	}
	return n, err
}

// content is the next of the message; io.EOF only at its end.
func (c *Conn) content(p []byte) (int, error) {
	if c.packed != nil {
		return c.inflate(p)
	}
	return c.payload(p)
}

// over lets go of what a message, or the wait for one, has taken. err is why; nil: it is read.
func (c *Conn) over(err error) error {
	if c.stop != nil {
		c.stop()
		c.stop = nil
	}
	if c.packed != nil {
		c.packed.c = nil
		inflaters.Put(c.packed)
		c.packed = nil
	}
	if err != nil {
		c.release()
		return c.end(err)
	}
	return nil
}

// end is err, of a connection that may have been ended meanwhile.
func (c *Conn) end(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended != nil {
		return c.ended
	}
	if c.closed {
		return net.ErrClosed
	}
	return err
}

func (c *Conn) release() {
	if c.in != nil {
		c.in.start, c.in.end = 0, 0
		buffers.Put(c.in)
		c.in = nil
	}
}

// payload is the next of the message as it was sent.
func (c *Conn) payload(p []byte) (n int, err error) {
	for c.left == 0 {
		if c.fin {
			return 0, io.EOF
		}
		h, err := c.next()
		if err != nil {
			return 0, err
		}
		if h.op != opContinuation {
			return 0, c.fail(websocket.StatusProtocolError, "a message within another")
		}
		c.fin, c.left = h.fin, h.size
	}
	p = p[:min(int64(len(p)), c.left)]
	switch {
	case c.in.len() == 0 && len(p) >= direct:
		c.answer()
		c.drained = false
		n, err = c.from(p)
		err = cut(err)
	default:
		if err = c.need(1); err == nil {
			n = copy(p, c.in.data[c.in.start:c.in.end])
			c.in.start += n
		}
	}
	c.left -= int64(n)
	if n > 0 {
		err = nil // it comes again
	}
	return n, err
}

// cut is what the end of a connection is where it is not one of a message.
func cut(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// skip throws away one frame, and all of a message that is being read.
func (c *Conn) skip() error {
	for c.left > 0 {
		if err := c.need(1); err != nil {
			return err
		}
		n := min(int64(c.in.len()), c.left)
		c.in.start += int(n)
		c.left -= n
	}
	h, err := c.next()
	c.left = h.size
	return err
}

// head is that of a frame.
type head struct {
	fin, packed bool
	op          byte
	size        int64
}

// next returns the next frame of data, and sees to the others.
func (c *Conn) next() (head, error) {
	for {
		h, err := c.head()
		if err != nil || h.op < opClose {
			return h, err
		}
		if err := c.need(int(h.size)); err != nil {
			return h, cut(err)
		}
		payload := c.in.data[c.in.start : c.in.start+int(h.size)]
		c.in.start += int(h.size)
		if h.op == opClose {
			return h, c.closes(payload)
		}
		c.heard(h.op, payload)
	}
}

// heard takes a ping or a pong.
func (c *Conn) heard(op byte, payload []byte) {
	if c.options.Heard != nil {
		c.options.Heard()
	}
	if op == opPing {
		c.pong(payload)
	} else {
		c.ponged(payload)
	}
}

// head reads one, and refuses what the protocol does not have (RFC 6455, sections 5.1 to 5.5; RFC 7692, section 6).
func (c *Conn) head() (h head, err error) {
	if err = c.need(2); err != nil {
		return h, err
	}
	first, second := c.in.data[c.in.start], c.in.data[c.in.start+1]
	h.fin, h.packed, h.op, h.size = first&0x80 != 0, first&0x40 != 0, first&0xf, int64(second&0x7f)
	control := h.op >= opClose
	wrong := ""
	switch {
	case first&0x30 != 0, h.packed && (!c.options.Deflate || h.op != opText && h.op != opBinary):
		wrong = "a frame with rsv bits that nobody has agreed on"
	case h.op > opPong, h.op > opBinary && !control:
		wrong = fmt.Sprintf("a frame with opcode %d", h.op)
	case second&0x80 != 0:
		wrong = "a masked frame"
	case control && !h.fin:
		wrong = "a control frame in parts"
	case control && h.size > maxControl:
		wrong = "a control frame that is too long"
	}
	if wrong != "" {
		return h, c.fail(websocket.StatusProtocolError, wrong)
	}
	length := 0
	switch h.size {
	case 126:
		length = 2
	case 127:
		length = 8
	}
	if err = c.need(2 + length); err != nil {
		return h, cut(err)
	}
	at, least := c.in.data[c.in.start+2:], int64(0)
	switch length {
	case 2:
		h.size, least = int64(binary.BigEndian.Uint16(at)), 126
	case 8:
		h.size, least = int64(binary.BigEndian.Uint64(at)), 1<<16
	}
	if h.size < least {
		return h, c.fail(websocket.StatusProtocolError, "a frame whose length is too large, or written in too many bytes")
	}
	c.in.start += 2 + length
	return h, nil
}

// need has n bytes in the buffer. Where the connection ends before the first, outside of a message, the error is io.EOF.
func (c *Conn) need(n int) error {
	for c.in.len() < n {
		if c.in.len() == 0 {
			if err := c.wait(); err != nil {
				if c.inside {
					err = cut(err)
				}
				return err
			}
			continue
		}
		if c.in.start > 0 {
			c.in.end = copy(c.in.data[:], c.in.data[c.in.start:c.in.end])
			c.in.start = 0
		}
		c.answer()
		c.drained = false
		more, err := c.from(c.in.data[c.in.end:])
		c.in.end += more
		if more == 0 && err != nil {
			return cut(err)
		}
	}
	return nil
}

// wait fills the buffer, which it has none of while nothing comes.
func (c *Conn) wait() error {
	c.answer()
	if !c.inside {
		c.release()
	}
	if c.in == nil && c.raw != nil {
		return c.await()
	}
	p := c.first[:]
	if c.in != nil {
		c.in.start, c.in.end = 0, 0
		p = c.in.data[:]
	}
	c.drained = false
	n, err := c.from(p)
	if n == 0 {
		return err
	}
	if c.in == nil {
		c.in = buffers.Get().(*buffer)
		copy(c.in.data[:], p[:n])
	}
	c.in.end = n
	return nil
}

// closes takes the peer's close.
func (c *Conn) closes(payload []byte) error {
	closed := websocket.CloseError{Code: websocket.StatusNoStatusRcvd}
	if len(payload) > 0 {
		if len(payload) == 1 {
			return c.fail(websocket.StatusProtocolError, "a close payload of one byte")
		}
		closed.Code, closed.Reason = websocket.StatusCode(binary.BigEndian.Uint16(payload)), string(payload[2:])
		if !mayClose(closed.Code) {
			return c.fail(websocket.StatusProtocolError, "a close payload with a code that none may send")
		}
		if !utf8.ValidString(closed.Reason) {
			return c.fail(websocket.StatusInvalidFramePayloadData, "a close payload that is not UTF-8")
		}
	}
	c.mu.Lock()
	c.ended = closed
	c.mu.Unlock()
	c.answer()
	c.sayClose(closed.Code, "")
	c.CloseNow()
	return closed
}

// mayClose reports whether a code may be sent (RFC 6455, section 7.4, and IANA's registry).
func mayClose(code websocket.StatusCode) bool {
	switch code {
	case 1004, 1005, 1006, 1015:
		return false
	}
	return code >= 1000 && code <= 1014 || code >= 3000 && code <= 4999
}

// fail ends the connection for what the peer has done.
func (c *Conn) fail(code websocket.StatusCode, what string) error {
	err := Violation(what)
	c.sayClose(code, what)
	c.CloseNow()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended == nil {
		c.ended = err
	}
	return err
}
