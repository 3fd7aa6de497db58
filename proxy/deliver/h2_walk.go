//go:build linux && !portable

// This file is how a connection of HTTP/2 writes to its clients what next (cursor.go) says.

package deliver

import (
	"encoding/binary"
	"math/rand/v2"
	"time"

	"sidestream/proxy/stream"
)

// serve writes to one client what is due. It returns when to do so again if nothing happens until then, or that the client
// is gone, for s.state.why.
func (c *h2Conn) serve(s *strand, out *h2Batch, now time.Duration) (next time.Duration, over bool) {
	switch {
	case !s.live:
		return never, false
	case s.code != 0:
		return never, s.reset(out, uint32(s.code))
	}
	t := tick(now.Milliseconds())
	c.release(s, t)
	if len(s.rest) > 0 && s.state.flags&isParting == 0 {
		before := len(s.rest)
		switch {
		case c.say(s, out, s.rest, now):
			s.state = s.state.freed(t)
		case len(s.rest) < before || len(out.frames) >= h2BatchSize:
			s.stuck = now
			return c.stalls(s), false
		case now >= c.stalls(s):
			s.state = s.state.gone(Stalled)
			return never, s.end(out, s.state.end())
		}
	}
	a, full := c.give(s, out, t, now)
	switch {
	case a.do == doFinish, a.do == doCut:
		return never, s.end(out, a.do)
	case full, len(s.rest) > 0 && s.state.flags&isParting == 0:
		next = c.stalls(s)
	default:
		next = never
	}
	if a.timed {
		next = min(next, now.Truncate(time.Millisecond)+time.Duration(a.after)*time.Millisecond)
	}
	return next, false
}

// release sets when a client is to come back, if it is.
func (c *h2Conn) release(s *strand, now tick) {
	why, window := uint8(Aged), stream.RetireTime
	switch {
	case c.drained:
		why, window = Drained, c.clients.window
	case !s.group.retired:
		return
	}
	if s.state.mayLeave(why) {
		s.state = s.state.leaves(why, now+ticks(rand.N(max(window, 1))))
	}
}

// give does with a client what is due, until it is to wait for something or its answer ends. full: there was no room in out,
// and nothing is said of the client.
func (c *h2Conn) give(s *strand, out *h2Batch, t tick, now time.Duration) (a action, full bool) {
	g := s.group
	f := facts{now: t, silence: ticks(g.route.Heartbeat), first: s.fresh, coalesce: ticks(g.route.Coalesce), ring: ringGrown}
	sp := speech{g.ring, g.route, c.clients}
	var b *batch
	for {
		whole := true
		switch s.state, a = s.state.next(&f); a.do {
		case doRead:
			b = c.read(s, out, f.ring == ringMore)
			b.tell(&f)
			f.more = f.more || s.prelude != nil // the ring may have grown since
		case doWrite:
			var pre []byte
			if a.say&sayOpening != 0 {
				pre = s.prelude.opening
			}
			whole = c.write(s, out, sp.append(pre, a.say, s.state, &f), b, &f, now)
			s.endPrelude()
		case doSay, doLast:
			whole = c.say(s, out, sp.append(nil, a.say, s.state, &f), now)
		default:
			return a, false
		}
		if !whole {
			s.state.flags |= isBlocked
			if len(out.frames) >= h2BatchSize {
				return action{}, true
			}
		}
	}
}

// read is what the ring has for a client. more: what was read before is written.
func (c *h2Conn) read(s *strand, out *h2Batch, more bool) *batch {
	if s.prelude != nil {
		return s.prelude.batch
	}
	b := &out.ring
	if more {
		b.forget()
	}
	if !b.fits(s.group.ring, s.state.at, true) {
		b.load(s.group.ring, s.state.at, true) // events as they are, without chunks
	}
	return b
}

// endPrelude lets go of what the answer has begun with.
func (s *strand) endPrelude() {
	if s.prelude != nil {
		s.prelude.batch.forget()
		batches.Put(s.prelude.batch)
		s.prelude = nil
	}
}

// write writes pre, what is said before b, and b. It returns whether the client's window took all.
func (c *h2Conn) write(s *strand, out *h2Batch, pre []byte, b *batch, f *facts, now time.Duration) (whole bool) {
	if !c.say(s, out, pre, now) {
		if b.leaps() {
			s.state = s.state.took(f, 1)
			s.rest = following(s.rest, b.events[0])
		}
		return false
	}
	n := uint64(0)
	whole = true
	for _, e := range b.events {
		n++
		out.events++
		out.bytes += int64(len(e))
		if whole = c.say(s, out, e, now); !whole {
			break
		}
	}
	s.state = s.state.took(f, n)
	if b.from < s.joined {
		s.group.route.Stats.Replayed.Add(int64(min(s.state.at, s.joined) - b.from))
	}
	if whole {
		f.written()
	}
	return whole
}

// say writes p. What the client's window does not take waits in rest; then it returns false.
func (c *h2Conn) say(s *strand, out *h2Batch, p []byte, now time.Duration) (whole bool) {
	if len(p) == 0 {
		return true
	}
	left := out.put(c, s, p)
	if len(left) > 0 && len(s.rest) == 0 {
		s.stuck = now
	}
	s.rest = left
	return len(left) == 0
}

// end ends a stream as complete, or so that its client comes back: none but an EventSource does after a clean end, and
// WebKit's notices no other.
func (s *strand) end(out *h2Batch, do deed) (over bool) {
	if do == doFinish {
		out.frames, out.open = h2Frame{0, frameData, flagEndStream, s.id}.append(out.frames), nil
		return true
	}
	return s.reset(out, internalError)
}

// reset ends a stream with an error.
func (s *strand) reset(out *h2Batch, code uint32) (over bool) {
	out.frames, out.open = h2Frame{4, frameReset, 0, s.id}.append(out.frames), nil
	out.frames = binary.BigEndian.AppendUint32(out.frames, code)
	return true
}

// put appends of p what the client's windows take, and returns the rest.
func (o *h2Batch) put(c *h2Conn, s *strand, p []byte) (left []byte) {
	st := c.streams[s.id]
	for len(p) > 0 && len(o.frames) < h2BatchSize {
		n := min(int64(len(p)), st.window, c.avail)
		if n <= 0 {
			c.starved = c.starved || c.avail <= 0
			break
		}
		if o.open != s || len(o.frames)-o.start-frameHead >= framePayload {
			o.open, o.start = s, len(o.frames)
			o.frames = h2Frame{0, frameData, 0, s.id}.append(o.frames)
		}
		used := len(o.frames) - o.start - frameHead
		n = min(n, int64(framePayload-used))
		o.frames = append(o.frames, p[:n]...)
		p = p[n:]
		st.window -= n
		c.avail -= n
		used += int(n)
		o.frames[o.start], o.frames[o.start+1], o.frames[o.start+2] = byte(used>>16), byte(used>>8), byte(used)
	}
	return p
}
