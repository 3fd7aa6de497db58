//go:build linux && !portable

// This file is what a connection of HTTP/2 writes to its clients: events, heartbeats, and the last words.

package deliver

import (
	"encoding/binary"
	"math/rand/v2"
	"time"

	"sidestream/proxy/stream"
	"sidestream/translate/sse"
)

// serve writes to one client what is due. It returns whether it is over for s.why, and nothing is to follow.
func (c *h2Conn) serve(s *strand, out *h2Batch, now time.Duration) (over bool) {
	switch {
	case !s.live:
		return false
	case s.flags&isAway != 0:
		return now >= s.due && c.reset(s, out)
	}
	c.release(s, now)
	due := s.flags&(isDue|isClosing) == isDue && now >= s.due
	if len(s.rest) > 0 {
		if before := s.rest; !c.say(s, out, before, now) {
			switch {
			case len(s.rest) < len(before) || len(out.frames) >= h2BatchSize:
				s.stuck = now
			case now >= c.stalls(s):
				s.why = Stalled
				return c.reset(s, out)
			case due: // it is cut as it is: what it has is the beginning of something
				return c.reset(s, out)
			}
			return false
		}
	}
	if s.flags&isClosing != 0 {
		return c.depart(s, out, now)
	}
	if s.waits = now < s.held() && !due; !s.waits {
		if end := c.give(s, out, now); len(s.rest) > 0 {
			return false
		} else if end.Kind != stream.Open {
			return c.end(s, out, end, now)
		}
	}
	if due {
		return c.hint(s, out, int(s.why), now)
	}
	if now >= s.beats() {
		c.beat(s, out, now)
	}
	return false
}

// release sets when a client is to come back, if it is.
func (c *h2Conn) release(s *strand, now time.Duration) {
	why, window := Aged, stream.RetireTime
	switch {
	case c.drained:
		why, window = Drained, c.clients.window
	case !s.group.retired:
		return
	}
	if s.flags&isClosing == 0 && (s.flags&isDue == 0 || int(s.why) != why) {
		s.flags |= isDue
		s.due, s.why = now+rand.N(max(window, 1)), uint8(why)
	}
}

// give writes what the ring has for a client. end is set once nothing is behind that.
func (c *h2Conn) give(s *strand, out *h2Batch, now time.Duration) (end stream.End) {
	g := s.group
	if first := s.first; first != nil {
		s.first = nil
		end, whole := c.offer(s, out, first, first.pre, now)
		first.forget()
		batches.Put(first)
		if !whole || end.Kind != stream.Open {
			return end
		}
	}
	for b := &out.ring; ; b.forget() {
		if b.ring != g.ring || !b.fits(s.cursor, isOld) {
			b.load(g.ring, s.cursor, isOld) // events as they are, without chunks
		}
		if end, whole := c.offer(s, out, b, nil, now); !whole || !b.more {
			return end
		}
	}
}

// offer writes pre, what is said before b, and b. It returns whether the client's window took all, and then b's end.
func (c *h2Conn) offer(s *strand, out *h2Batch, b *batch, pre []byte, now time.Duration) (end stream.End, whole bool) {
	pre = append(pre, b.preface(s.group.ring, s.flags|isOld)...)
	s.flags = b.told(s.flags)
	if stream.Pending(b.next) {
		s.cursor = b.next
		return stream.End{}, c.say(s, out, pre, now)
	}
	s.cursor = b.from
	if !c.say(s, out, pre, now) {
		if b.leaps() {
			s.cursor++
			s.rest = following(s.rest, b.events[0])
		}
		return stream.End{}, false
	}
	for _, e := range b.events {
		s.cursor++
		out.events++
		out.bytes += int64(len(e))
		if !c.say(s, out, e, now) {
			break
		}
	}
	if b.from < s.joined {
		s.group.route.Stats.Replayed.Add(int64(min(s.cursor, s.joined) - b.from))
	}
	if whole = len(s.rest) == 0; whole {
		end = b.end
	}
	return end, whole
}

// say writes p. What the client's window does not take waits in rest; then it returns false.
func (c *h2Conn) say(s *strand, out *h2Batch, p []byte, now time.Duration) (whole bool) {
	if len(p) == 0 {
		return true
	}
	left := out.put(c, s, p)
	if len(left) < len(p) {
		s.wrote = now
	}
	if len(left) > 0 && len(s.rest) == 0 {
		s.stuck = now
	}
	s.rest = left
	return len(left) == 0
}

func (c *h2Conn) beat(s *strand, out *h2Batch, now time.Duration) {
	s.flags &^= isFresh
	text := []byte(sse.Heartbeat)
	if s.flags&isBeating != 0 {
		text = sse.AppendHeartbeat(nil, s.group.ring.IDAt(s.cursor), s.group.route.Heartbeat)
	}
	c.say(s, out, text, now)
}

// end is what a client is told behind the last event.
func (c *h2Conn) end(s *strand, out *h2Batch, end stream.End, now time.Duration) (over bool) {
	switch end.Kind {
	case stream.Finished:
		return c.last(s, out, nil, Finished, now)
	case stream.Refused:
		return c.last(s, out, sse.AppendRefused(nil, s.group.ring.LastID(), end.Status), Refused, now)
	}
	return c.hint(s, out, Aged, now)
}

// hint tells a client when to come back, as its last bytes.
func (c *h2Conn) hint(s *strand, out *h2Batch, why int, now time.Duration) (over bool) {
	return c.last(s, out, sse.AppendRetry(nil, c.clients.Hint(s.group.route)), why, now)
}

// last writes a client's last bytes.
func (c *h2Conn) last(s *strand, out *h2Batch, p []byte, why int, now time.Duration) (over bool) {
	s.flags |= isClosing
	s.why = uint8(why)
	return c.say(s, out, p, now) && c.depart(s, out, now)
}

// depart lets a client go that has got its last bytes: at once when its stream is complete, else after a moment.
func (c *h2Conn) depart(s *strand, out *h2Batch, now time.Duration) (over bool) {
	if s.why == Finished {
		return c.finish(s, out)
	}
	s.flags |= isAway
	s.due = now + moment
	return false
}

// finish ends a stream as complete.
func (c *h2Conn) finish(s *strand, out *h2Batch) (over bool) {
	out.frames, out.open = h2Frame{0, frameData, flagEndStream, s.id}.append(out.frames), nil
	return true
}

// reset ends a stream so that its client comes back: none but an EventSource does after a clean end, and WebKit's notices no other.
func (c *h2Conn) reset(s *strand, out *h2Batch) (over bool) {
	if s.flags&isClean != 0 && s.code == 0 {
		return c.finish(s, out)
	}
	out.frames, out.open = h2Frame{4, frameReset, 0, s.id}.append(out.frames), nil
	code := uint32(internalError)
	if s.code != 0 {
		code = uint32(s.code)
	}
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
