package wsconn

import (
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/coder/websocket"
)

const windowSize = 32 << 10

// tail is what a sender has left away (RFC 7692, section 7.2.2), and an end.
const tail = "\x00\x00\xff\xff\x01\x00\x00\xff\xff"

// unsaid is that, which some senders leave where it is. No message that is compressed as it should be ends like this.
const unsaid = 0x0000ffff

// inflater is a decompressor, which is large. A connection has one only while it reads a compressed message.
type inflater struct {
	io.Reader
	c    *Conn
	tail int    // bytes of it that were given
	last uint32 // the last four bytes that were sent
	err  error  // of the connection
}

var inflaters = sync.Pool{New: func() any { return new(inflater) }}

// unpack begins a compressed message.
func (c *Conn) unpack() *inflater {
	p := inflaters.Get().(*inflater)
	p.c, p.tail, p.last, p.err = c, 0, 1, nil
	p.begin()
	return p
}

// begin begins a stream of deflate, which refers to what came before where that was agreed on.
func (p *inflater) begin() {
	if p.Reader == nil {
		p.Reader = flate.NewReaderDict(source{p}, p.c.history)
		return
	}
	p.Reader.(flate.Resetter).Reset(source{p}, p.c.history)
}

// source is what is to be inflated, byte by byte: nothing is read ahead of it.
type source struct{ p *inflater }

func (s source) Read(b []byte) (n int, err error) {
	p := s.p
	n, err = p.c.payload(b)
	for _, one := range b[max(0, n-4):n] {
		p.last = p.last<<8 | uint32(one)
	}
	if err == io.EOF {
		if p.tail == 0 && p.last == unsaid { // and yet it was
			p.tail = 4
		}
		n = copy(b, tail[p.tail:])
		if p.tail += n; n > 0 {
			return n, nil
		}
		return 0, io.EOF
	}
	p.err = err
	return n, err
}

func (s source) ReadByte() (byte, error) {
	c := s.p.c
	if c.left > 0 && c.in.len() > 0 {
		b := c.in.data[c.in.start]
		c.in.start++
		c.left--
		s.p.last = s.p.last<<8 | uint32(b)
		return b, nil
	}
	var b [1]byte
	_, err := io.ReadFull(s, b[:])
	return b[0], err
}

// inflate is the next of a compressed message.
func (c *Conn) inflate(b []byte) (int, error) {
	for {
		n, err := c.packed.Read(b)
		if c.options.Takeover {
			c.remember(b[:n])
		}
		switch {
		case c.packed.err != nil:
			return n, c.packed.err
		case errors.Is(err, io.EOF):
			c.again = c.again || c.packed.tail < len(tail)
			if more, lost := c.more(); lost != nil {
				return n, lost
			} else if !more {
				return n, io.EOF
			}
			c.packed.begin() // after a block that says it is the last one (RFC 7692, section 7.2.3.4)
			err = nil
		case err != nil:
			c.fail(websocket.StatusInvalidFramePayloadData, "compressed data that is corrupt")
			if errors.Is(err, io.ErrUnexpectedEOF) {
				err = flate.CorruptInputError(0)
			}
			return n, c.corrupt(err)
		}
		if n > 0 {
			return n, nil
		}
	}
}

// corrupt is what the connection ends with then.
func (c *Conn) corrupt(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = fmt.Errorf("inflate: %w", err)
	return c.ended
}

// more reports whether the message goes on.
func (c *Conn) more() (bool, error) {
	if c.left > 0 {
		return true, nil
	}
	_, err := c.payload(nil)
	if err == io.EOF {
		return false, nil
	}
	return true, err
}

// remember keeps what later messages may refer to.
func (c *Conn) remember(b []byte) {
	if len(b) >= windowSize {
		c.history = append(c.history[:0], b[len(b)-windowSize:]...)
		return
	}
	if over := len(c.history) + len(b) - windowSize; over > 0 {
		c.history = c.history[:copy(c.history, c.history[over:])]
	}
	c.history = append(c.history, b...)
}
