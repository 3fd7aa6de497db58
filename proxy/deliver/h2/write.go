// This file is what net/http writes to a connection: all of it but the ends of adopted streams.

package h2

import (
	"sync"
	"time"
)

// partials are for frames that net/http writes in pieces.
var partials = sync.Pool{New: func() any { p := make([]byte, 0, headSize+framePayload); return &p }}

// write is Visit's.
func (c *Conn) write(p []byte) (int, error) {
	given := len(p)
	c.writes.Store(true)
	c.stirs = false
	defer func() {
		if c.stirs {
			c.wrote.Store(int64(time.Since(c.start)))
		}
		c.writes.Store(c.partial != nil)
	}()
	if joined := c.partial; joined != nil {
		*joined = append(*joined, p...)
		p, c.partial = *joined, nil
		if cap(*joined) <= 4*framePayload {
			defer partials.Put(joined)
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
		case complete:
			if len(p) > 0 {
				c.partial = partials.Get().(*[]byte)
				*c.partial = append((*c.partial)[:0], p...)
			}
			return given, nil
		case waits:
			if err := c.await(p); err != nil {
				return 0, err
			}
		case dropped:
			if err := c.send(next.instead); err != nil {
				return 0, err
			}
			p = p[next.size:]
		}
	}
}

// What comes after frames that are passed on as they are.
const (
	complete = iota // nothing, or not all of a frame
	waits           // a frame that has to wait, and all after it
	dropped         // a frame that the client does not see, or not now
	behind          // one that is to be held once what is before it has left: what is held leaves when it may
	goes            // none: it is passed on like those before it
)

type following struct {
	what, size int
	instead    []byte // of what is dropped
}

// judge returns how much of p goes out as it is, and what comes after that.
func (c *Conn) judge(p []byte) (run int, next following) {
	c.mu.Lock()
	defer c.unlock()
	for {
		f, size := readWhole(p[run:])
		if size == 0 {
			return run, following{}
		}
		if f.kind != framePing {
			c.stir()
			c.stirs = true
		}
		payload := p[run+headSize : run+size]
		if c.settling.resets > 0 {
			if passes, instead := c.settles(f, payload); !passes {
				return run, following{dropped, size, instead}
			}
		}
		if c.mustWait(f) {
			return run, following{what: waits}
		}
		what := c.leaves(f, payload, run == 0)
		if what != goes {
			return run, following{what: what, size: size}
		}
		run += size
	}
}

// leaves takes in a frame that no other keeps waiting, and returns whether it goes, or what comes of it instead. alone: all before it has left. mu is held.
func (c *Conn) leaves(f head, payload []byte, alone bool) (what int) {
	s := c.streams[f.stream]
	switch f.kind {
	case frameData:
		adopted := s != nil && s.adopted
		holds := !adopted && c.holds(f, s)
		if holds && !alone {
			return behind
		}
		c.granted -= int64(f.size)
		switch {
		case adopted:
			c.owed -= int64(f.size) // which is 0: its handler writes nothing
			c.begun = append(c.begun, s)
			return dropped
		case holds:
			c.hold(f, s, payload)
			return dropped
		}
		c.avail -= int64(f.size)
		if f.flags&flagEndStream != 0 {
			c.forget(f.stream, false)
		}
	case frameHeaders:
		if f.flags&flagEndStream != 0 {
			c.forget(f.stream, false)
		}
	case frameReset:
		switch {
		case s == nil || s.held == 0:
			c.forget(f.stream, false)
		case !alone:
			return behind
		default:
			c.hold(f, s, payload)
			return dropped
		}
	case frameGoAway:
		c.parkable = false // it is about to close the connection
	default:
		c.told.says(f, payload)
	}
	return goes
}

// begin has those streams filled whose head net/http has written, and nothing more to write.
func (c *Conn) begin() {
	if len(c.begun) == 0 {
		return
	}
	c.mu.Lock()
	defer c.unlock()
	for i, s := range c.begun {
		s.live = true
		c.begun[i] = nil
		if c.streams[s.id] == s {
			c.ready(s)
		}
	}
	c.begun = c.begun[:0]
}

// send writes frames to the client.
func (c *Conn) send(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	_, err := c.Conn.Write(p)
	return c.note(err)
}
