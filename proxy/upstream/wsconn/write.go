package wsconn

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// Opcodes (RFC 6455, section 5.2).
const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xa
)

const (
	maxControl = 125      // bytes of a control frame's payload
	maxPongs   = 4 << 10  // bytes of pongs that wait to be sent
	pieceSize  = 16 << 10 // bytes of a frame that are masked and written at once
)

// outputs are where frames are put together.
var outputs = sync.Pool{New: func() any { b := make([]byte, 0, 512); return &b }}

// Write sends a message as one frame. Where ctx ends before, so does the connection.
func (c *Conn) Write(ctx context.Context, kind websocket.MessageType, data []byte) error {
	if c.gone() {
		return net.ErrClosed
	}
	return c.writeFrame(ctx, byte(kind), data)
}

func (c *Conn) writeFrame(ctx context.Context, op byte, payload []byte) error {
	if !c.enter(&c.writing) {
		return net.ErrClosed
	}
	defer c.written()
	c.mu.Lock()
	said := c.said
	c.said = said || op == opClose
	c.mu.Unlock()
	if said {
		return net.ErrClosed
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if ctx.Done() != nil {
		stop := context.AfterFunc(ctx, func() { c.CloseNow() })
		defer stop()
	}
	out := outputs.Get().(*[]byte)
	defer putOutput(out)
	var mask [4]byte
	rand.Read(mask[:])
	*out = appendHead((*out)[:0], op, len(payload), mask)
	for at := 0; ; {
		n := min(len(payload)-at, pieceSize)
		*out = appendMasked(*out, payload[at:at+n], mask, at)
		if _, err := c.conn.Write(*out); err != nil {
			return c.broken(ctx, err)
		}
		if at += n; at == len(payload) {
			return nil
		}
		*out = (*out)[:0]
	}
}

// putOutput keeps what is not large.
func putOutput(out *[]byte) {
	if cap(*out) <= pieceSize+64 {
		outputs.Put(out)
	}
}

// broken is the end of a connection that nothing more can be written to.
func (c *Conn) broken(ctx context.Context, err error) error {
	ours := c.CloseNow() != nil
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if ours {
		return net.ErrClosed
	}
	return err
}

// written sends the pongs that are due, and lets the next one write.
func (c *Conn) written() {
	for {
		c.mu.Lock()
		if len(c.pongs) == 0 || c.closed || c.said {
			c.writing = false
			c.changed.Broadcast()
			c.mu.Unlock()
			return
		}
		pongs := c.pongs
		c.pongs = nil
		c.mu.Unlock()
		out := outputs.Get().(*[]byte)
		*out = (*out)[:0]
		for len(pongs) > 0 {
			n := int(pongs[0])
			var mask [4]byte
			rand.Read(mask[:])
			*out = appendMasked(appendHead(*out, opPong, n, mask), pongs[1:1+n], mask, 0)
			pongs = pongs[1+n:]
		}
		c.conn.SetWriteDeadline(time.Now().Add(closeTime))
		_, err := c.conn.Write(*out)
		putOutput(out)
		c.conn.SetWriteDeadline(time.Time{})
		c.mu.Lock()
		c.said = c.said || err != nil // what is still to be read may be read
		c.mu.Unlock()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			c.CloseNow()
		}
	}
}

// pong answers a ping, before the reader waits the next time.
func (c *Conn) pong(payload []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.pongs)+1+len(payload) > maxPongs {
		c.pongs = c.pongs[:0]
	}
	c.pongs = append(append(c.pongs, byte(len(payload))), payload...)
}

// answer sends the pongs that are due, unless somebody writes, who does so then.
func (c *Conn) answer() {
	c.mu.Lock()
	if len(c.pongs) == 0 || c.writing || c.closed || c.said {
		c.mu.Unlock()
		return
	}
	c.writing = true
	c.mu.Unlock()
	c.written()
}

// appendHead appends the head of a frame that is whole and masked.
func appendHead(dst []byte, op byte, n int, mask [4]byte) []byte {
	dst = append(dst, 0x80|op)
	switch {
	case n <= 125:
		dst = append(dst, 0x80|byte(n))
	case n <= 0xffff:
		dst = binary.BigEndian.AppendUint16(append(dst, 0x80|126), uint16(n))
	default:
		dst = binary.BigEndian.AppendUint64(append(dst, 0x80|127), uint64(n))
	}
	return append(dst, mask[:]...)
}

// appendMasked appends what stands in a payload from at on.
func appendMasked(dst, p []byte, mask [4]byte, at int) []byte {
	start := len(dst)
	dst = append(dst, p...)
	p = dst[start:]
	var key [8]byte
	for i := range key {
		key[i] = mask[(at+i)&3]
	}
	wide := binary.LittleEndian.Uint64(key[:])
	for ; len(p) >= 8; p = p[8:] {
		binary.LittleEndian.PutUint64(p, binary.LittleEndian.Uint64(p)^wide)
	}
	for i := range p {
		p[i] ^= key[i]
	}
	return dst
}
