package h2

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"
)

// errand is done by one goroutine, for as long as it is wanted.
type errand struct{ state atomic.Int32 }

const (
	asleep = iota
	awake
	again // it has to look once more
)

// wants has it done, or done once more. It returns true where a goroutine has to begin.
func (e *errand) wants() bool { return e.state.Swap(again) == asleep }

// do does it until it is not wanted any more.
func (e *errand) do(it func()) {
	for {
		e.state.Store(awake)
		it()
		if e.state.CompareAndSwap(awake, asleep) {
			return
		}
	}
}

// Wake has the filler asked, and everything else looked at that may be due. It does not block.
func (c *Conn) Wake() {
	if c.fills.wants() {
		c.filler.Go(c.running) // ends when there is nothing to do
	}
}

// run serves the connection while there is something to do.
func (c *Conn) run() {
	c.fills.do(func() {
		for c.turn() {
		}
	})
}

var writers = sync.Pool{New: func() any { return new(Writer) }}

// turn writes one batch, and returns whether there is more.
func (c *Conn) turn() (more bool) {
	w := writers.Get().(*Writer)
	defer writers.Put(w)
	w.reset(c)
	c.mu.Lock()
	if !c.closed {
		more = c.look(w)
	}
	c.unlock()
	if c.send(w.frames) != nil || w.over {
		c.end()
		more = false
	}
	if len(w.flown) > 0 {
		c.flown(w.flown)
		w.flown = w.flown[:0]
	}
	w.conn = nil
	c.filler.Settle()
	return more
}

// end has the connection be closed: by net/http, whose reader hears of it, where it is there.
func (c *Conn) end() {
	c.mu.Lock()
	parked := c.parked
	c.mu.Unlock()
	if c.Conn.Close(); parked {
		c.Close()
	}
}

// look fills w with what is due, sets the timer for what is not, and returns whether there is more. mu is held.
func (c *Conn) look(w *Writer) (more bool) {
	clock := time.Now()
	now := clock.Sub(c.start)
	next := min(c.idles(w, now), c.patience())
	if now >= c.patience() {
		c.stalled, w.over = true, true
		return false
	}
	if c.starved && c.avail > 0 {
		c.starved, w.refilled = false, true
	}
	waiting := c.waiting
	if c.heldFirst {
		c.flush(w, framePayload, now)
	}
	if c.adopted > 0 || c.parked {
		next = min(next, c.filler.Fill(w, now))
		more = w.Full()
	}
	c.cut(w)
	after := c.flush(w, batchSize, now)
	c.heldFirst = len(c.held) > 0 && c.waiting == waiting
	next, more = min(next, after), more || after <= now
	for i, s := range w.ended {
		c.forget(s.id, c.stalled)
		w.ended[i] = nil
	}
	w.ended = w.ended[:0]
	if next = min(next, c.parks(now)); next != Never && !more {
		c.filler.WakeAt(c, c.start.Add(next), clock)
	}
	return more
}

// cut ends the streams whose windows have become too large, once they have a head (section 6.9.1). mu is held.
func (c *Conn) cut(w *Writer) {
	kept := c.flawed[:0]
	for _, s := range c.flawed {
		switch {
		case s.ended || c.streams[s.id] != s:
		case s.live:
			w.cut(s, flowError)
		default:
			kept = append(kept, s)
		}
	}
	clear(c.flawed[len(kept):])
	if c.flawed = kept; len(kept) == 0 {
		c.flawed = nil
	}
}

// idles ends a connection that has had no stream for long, or is parked and has none while clients are sent away. It returns when to look again. mu is held.
func (c *Conn) idles(w *Writer, now time.Duration) (next time.Duration) {
	away := c.departs && c.parked // no net/http sees to it
	switch {
	case c.leaving:
		if w.over = now >= c.idle; w.over {
			return Never
		}
	case len(c.streams) > 0:
		return Never
	case c.idle == 0 && !away:
		c.idle = now + idleTime
	case now >= c.idle || away:
		c.leaving = true
		c.idle = now + farewell
		frame := head{8, frameGoAway, 0, 0}.append(w.frames)
		frame = binary.BigEndian.AppendUint32(frame, c.newest)
		w.frames, w.open = binary.BigEndian.AppendUint32(frame, 0), nil // NO_ERROR
	}
	return c.idle
}
