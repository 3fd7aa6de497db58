//go:build linux && !portable

// This file keeps what net/http sends beyond the client's window for the connection, of which it does not know what
// event streams have used (RFC 9113, section 5.2). The rules:
//
//   - net/http's writer does not wait for a window: PINGs, heads and the data of others must get by. It waits when much is held,
//     which takes a client that has left much unread, and for the trailers of a stream whose data is held: heads
//     must stay in their order. Who grants nothing for 30 s meanwhile is cut.
//   - The frames of a stream stay in their order. What is held leaves in run's batches; until such a batch is written, what
//     comes behind it in a stream waits too.
//   - Where the window does not take all, event streams and what is held take turns. Where there are event streams, what is
//     held leaves them a little of the window for as long as the client goes on granting: they need not wait for that.
//   - net/http gets each grant but what makes up for what event streams have used, and no less: it is never held up by a
//     window that the client has granted.

package deliver

import (
	"bytes"
	"net"
	"time"
)

const (
	h2MaxHeld  = 128 << 10              // bytes held before net/http's writer waits; the default window is less
	h2Reserve  = 16 << 10               // of the window, for event streams
	h2Reserves = 250 * time.Millisecond // behind a grant
)

// h2Held is a frame that waits: data, or the reset of a stream behind its data.
type h2Held struct {
	frame   h2Frame
	payload []byte
	stream  *h2Stream // nil: forgotten before
}

// mustWait says that net/http's writer is to wait before it goes on with f. mu is held.
func (c *h2Conn) mustWait(f h2Frame) bool {
	if c.closed {
		return true
	}
	s := c.streams[f.stream]
	return c.waiting >= h2MaxHeld || f.kind == frameHeaders && s != nil && s.held > 0
}

// await waits until the first frame of p can be gone on with.
func (c *h2Conn) await(p []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer func() { c.blocked = 0 }()
	for f := readH2Frame(p); c.mustWait(f); c.room.Wait() {
		if c.closed {
			return net.ErrClosed
		}
		if c.blocked == 0 {
			c.blocked = max(time.Since(c.clock.start), 1)
			c.schedule() // which sees to it that this does not take for ever
		}
	}
	return nil
}

// holds says whether data waits. mu is held.
func (c *h2Conn) holds(f h2Frame, s *h2Stream) bool {
	switch {
	case s != nil && s.held > 0:
		return true
	case f.size == 0:
		return false
	}
	return len(c.held) > 0 || c.starved || c.avail-c.reserve() < int64(f.size)
}

// reserve is what event streams need not share of the window. mu is held.
func (c *h2Conn) reserve() int64 {
	if c.strands == 0 {
		return 0
	}
	return h2Reserve
}

// hold has a frame wait. mu is held.
func (c *h2Conn) hold(f h2Frame, s *h2Stream, payload []byte) {
	c.held = append(c.held, h2Held{f, bytes.Clone(payload), s})
	if s != nil {
		s.held++
	}
	if f.kind == frameData {
		c.waiting += int64(f.size)
	}
	c.schedule()
}

// flush puts into out what may go of what is held, at most so many bytes. It returns when to do so again if nothing happens
// until then. mu is held.
func (c *h2Conn) flush(out *h2Batch, most int, now time.Duration) (next time.Duration) {
	reserve := c.reserve()
	if now >= c.moved+h2Reserves {
		reserve = 0
	}
	defer c.room.Broadcast()
	for len(c.held) > 0 && most > 0 && len(out.frames) < h2BatchSize {
		h := &c.held[0]
		f, n := h.frame, len(h.payload)
		if f.kind == frameData && n > 0 {
			if n = int(min(int64(n), c.avail-reserve, framePayload)); n <= 0 {
				if c.avail <= 0 {
					return never
				}
				return c.moved + h2Reserves
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
		out.open = nil
		out.frames = append(f.append(out.frames), h.payload[:n]...)
		if h.payload = h.payload[n:]; last {
			out.flown = append(out.flown, *h)
			c.held[0] = h2Held{}
			c.held = c.held[1:]
		}
	}
	switch {
	case len(c.held) > 0:
		return now
	case c.held != nil:
		c.held = nil
	}
	return never
}

// flown notes that frames which were held have been written.
func (c *h2Conn) flown(some []h2Held) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, h := range some {
		some[i] = h2Held{}
		if h.stream == nil {
			continue
		}
		h.stream.held--
		if h.frame.kind == frameReset || h.frame.flags&flagEndStream != 0 {
			c.forget(h.frame.stream, Left)
		}
	}
	c.room.Broadcast()
}

// patience is when a writer that waits has done so for too long. mu is held.
func (c *h2Conn) patience() time.Duration {
	if c.blocked == 0 {
		return never
	}
	return max(c.blocked, c.moved) + stallTime
}
