//go:build linux && !portable

// This file is what net/http writes to an HTTP/2 connection: all of it but the ends of event streams.

package deliver

import "sync"

// h2Partials are for frames that net/http writes in pieces.
var h2Partials = sync.Pool{New: func() any { p := make([]byte, 0, frameHead+framePayload); return &p }}

// Write is net/http's: its frames are passed on, whole ones at a time, and those of a head together.
func (c *h2Conn) Write(p []byte) (int, error) {
	given := len(p)
	if joined := c.partial; joined != nil {
		*joined = append(*joined, p...)
		p, c.partial = *joined, nil
		if cap(*joined) <= 4*framePayload {
			defer h2Partials.Put(joined)
		}
	}
	for {
		run, next := c.judge(p)
		if err := c.send(p[:run]); err != nil {
			return 0, err
		}
		c.begin()
		p = p[run:]
		switch next.what {
		case h2Complete:
			if len(p) > 0 {
				c.partial = h2Partials.Get().(*[]byte)
				*c.partial = append((*c.partial)[:0], p...)
			}
			return given, nil
		case h2Waits:
			if err := c.await(p); err != nil {
				return 0, err
			}
		case h2Dropped:
			p = p[next.size:]
		}
	}
}

// What comes behind frames that are passed on as they are.
const (
	h2Complete = iota // nothing, or not all of a frame
	h2Waits           // a frame that has to wait, and all behind it
	h2Dropped         // a frame that the client does not see, or not now
)

type h2Next struct{ what, size int }

// judge returns how much of p goes out as it is, and what is behind that.
func (c *h2Conn) judge(p []byte) (run int, next h2Next) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		f, size := readWhole(p[run:])
		if size == 0 {
			return run, h2Next{}
		}
		if c.mustWait(f) {
			return run, h2Next{h2Waits, 0}
		}
		s := c.streams[f.stream]
		switch f.kind {
		case frameData:
			c.granted -= int64(f.size)
			if s != nil && s.strand != nil {
				c.begun = append(c.begun, s.strand)
				return run, h2Next{h2Dropped, size}
			}
			if c.holds(f, s) {
				c.hold(f, s, p[run+frameHead:run+size])
				return run, h2Next{h2Dropped, size}
			}
			c.avail -= int64(f.size)
			if f.flags&flagEndStream != 0 {
				c.forget(f.stream, Left)
			}
		case frameHeaders:
			if f.flags&flagEndStream != 0 {
				c.forget(f.stream, Left)
			}
		case frameReset:
			if s != nil && s.held > 0 {
				c.hold(f, s, p[run+frameHead:run+size])
				return run, h2Next{h2Dropped, size}
			}
			c.forget(f.stream, Left)
		}
		run += size
	}
}

// begin has those written to whom net/http has written the head, and nothing more to write.
func (c *h2Conn) begin() {
	if len(c.begun) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, s := range c.begun {
		s.live = true
		s.group.touch()
		c.begun[i] = nil
	}
	c.begun = c.begun[:0]
}

// send writes frames to the client.
func (c *h2Conn) send(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	_, err := c.Conn.Write(p)
	return c.note(err)
}
