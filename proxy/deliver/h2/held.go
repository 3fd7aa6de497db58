// This file keeps what net/http sends beyond the client's window for the connection, of which it does not know what
// adopted streams have used (RFC 9113, section 5.2). The rules:
//
//   - net/http's writer does not wait for a window: PINGs, heads and the data of others must get by. It waits when much is held,
//     which takes a client that has left much unread, and for the trailers of a stream whose data is held: heads
//     must stay in their order. A client that grants nothing for 30 s meanwhile is disconnected.
//   - The frames of a stream stay in their order. What is held leaves in run's batches; until such a batch is written, what
//     comes after it in a stream waits too.
//   - Where the window does not take all, adopted streams and what is held take turns. Where there are adopted streams, what is
//     held leaves them a little of the window for as long as the client goes on granting: they need not wait for that.
//   - net/http gets each grant but what makes up for what adopted streams have used, and no less: it is never held up by a
//     window that the client has granted.

package h2

import (
	"bytes"
	"net"
	"time"
)

const (
	maxHeld     = 128 << 10              // bytes held before net/http's writer waits; the default window is less
	reserved    = 16 << 10               // of the window, for adopted streams
	reserveTime = 250 * time.Millisecond // after a grant
)

// held is a frame that waits: data, or the reset of a stream after its data.
type held struct {
	frame   head
	payload []byte
	stream  *Stream // nil: forgotten before
}

// mustWait reports whether net/http's writer has to wait before it goes on with f. mu is held.
func (c *Conn) mustWait(f head) bool {
	if c.closed {
		return true
	}
	s := c.streams[f.stream]
	return c.waiting >= maxHeld || f.kind == frameHeaders && s != nil && s.held > 0
}

// await waits until the first frame of p can be gone on with.
func (c *Conn) await(p []byte) error {
	c.mu.Lock()
	defer c.unlock()
	defer func() { c.blocked = 0 }()
	for f := readHead(p); c.mustWait(f); c.room.Wait() {
		if c.closed {
			return net.ErrClosed
		}
		if c.blocked == 0 {
			c.blocked = max(time.Since(c.start), 1)
			c.Wake() // which sees to it that this does not take for ever
		}
	}
	return nil
}

// holds reports whether data has to wait. mu is held.
func (c *Conn) holds(f head, s *Stream) bool {
	switch {
	case s != nil && s.held > 0:
		return true
	case f.size == 0:
		return false
	}
	return len(c.held) > 0 || c.starved || c.avail-c.reserve() < int64(f.size)
}

// reserve is what adopted streams need not share of the window. mu is held.
func (c *Conn) reserve() int64 {
	if c.adopted == 0 {
		return 0
	}
	return reserved
}

// hold has a frame wait. mu is held.
func (c *Conn) hold(f head, s *Stream, payload []byte) {
	c.held = append(c.held, held{f, bytes.Clone(payload), s})
	if s != nil {
		s.held++
	}
	if f.kind == frameData {
		c.waiting += int64(f.size)
	}
	c.Wake()
}

// flush puts into w what may go of what is held, at most so many bytes. It returns when to do so again if nothing happens
// until then. mu is held.
func (c *Conn) flush(w *Writer, most int, now time.Duration) (next time.Duration) {
	reserve := c.reserve()
	if now >= c.moved+reserveTime {
		reserve = 0
	}
	defer c.room.Broadcast()
	for len(c.held) > 0 && most > 0 && len(w.frames) < batchSize {
		h := &c.held[0]
		f, n := h.frame, len(h.payload)
		if f.kind == frameData && n > 0 {
			if n = int(min(int64(n), c.avail-reserve, framePayload)); n <= 0 {
				if c.avail <= 0 {
					return Never
				}
				return c.moved + reserveTime
			}
			c.avail -= int64(n)
			c.waiting -= int64(n)
			most -= n
		}
		f.size = n
		last := n == len(h.payload)
		if !last {
			f.flags &^= flagEndStream
		}
		w.open = nil
		w.frames = append(f.append(w.frames), h.payload[:n]...)
		if h.payload = h.payload[n:]; last {
			w.flown = append(w.flown, *h)
			c.held[0] = held{}
			c.held = c.held[1:]
		}
	}
	switch {
	case len(c.held) > 0:
		return now
	case c.held != nil:
		c.held = nil
	}
	return Never
}

// flown notes that frames which were held have been written.
func (c *Conn) flown(some []held) {
	c.mu.Lock()
	defer c.unlock()
	for i, h := range some {
		some[i] = held{}
		if h.stream == nil {
			continue
		}
		h.stream.held--
		if h.frame.kind == frameReset || h.frame.flags&flagEndStream != 0 {
			c.forget(h.frame.stream, false)
		}
	}
	c.room.Broadcast()
}

// patience is when a writer that waits has done so for too long. mu is held.
func (c *Conn) patience() time.Duration {
	if c.blocked == 0 {
		return Never
	}
	return max(c.blocked, c.moved) + StallTime
}
