//go:build linux && !portable

// This file is what a shard writes to its clients: events, heartbeats, and the last words.

package deliver

import (
	"time"

	"golang.org/x/sys/unix"

	"sidestream/proxy/stream"
	"sidestream/translate/sse"
)

// walk brings every client of g up to date.
func (s *shard) walk(g *group) {
	n := len(g.members)
	if n == 0 {
		return
	}
	g.first = (g.first + 1) % n
	s.forget()
	for i := range n {
		at := g.first + i
		if at >= n {
			at -= n
		}
		s.advance(g.members[at])
	}
	s.tally(g)
	s.clock = s.now() // a walk may take a while
	s.bury()
}

// tally adds what was written since the last time to the counters of g's route, which others read and write.
func (s *shard) tally(g *group) {
	g.route.Stats.Events.Add(s.events)
	g.route.Stats.Bytes.Add(s.bytes)
	s.events, s.bytes = 0, 0
}

// forget lets go of what was read of rings: they may have grown, or ended.
func (s *shard) forget() {
	s.batches[0].forget()
	s.batches[1].forget()
}

// advance writes to one client what the ring has for it.
func (s *shard) advance(index uint32) {
	c := &s.slots[index]
	g := s.groups[c.group]
	for c.flags&(isSlow|isClosing|isAway) == 0 && c.fd != 0 {
		b := &s.batches[c.flags&isOld]
		if b.ring != g.ring || !b.fits(c.cursor, c.flags) {
			b.load(g.ring, c.cursor, c.flags)
		}
		if stream.Pending(b.next) {
			c.cursor = b.next
			return
		}
		if stream.Pending(c.cursor) {
			c.cursor = b.from
		}
		if !s.give(index, g, b) {
			return
		}
		if b.more && c.cursor == b.next {
			b.forget()
			continue
		}
		if c.cursor == b.next && b.end.Kind != stream.Open {
			s.end(index, b.end)
		}
		return
	}
}

// give writes b, and what is said before it, to one client. It returns false when the socket took less, or is gone.
func (s *shard) give(index uint32, g *group, b *batch) bool {
	c := &s.slots[index]
	pre := b.preface(g.ring, c.flags)
	c.flags = b.told(c.flags)
	if len(pre)+len(b.events) == 0 {
		return true
	}
	b.prepend(pre)
	took, rest, err := b.write(int(c.fd))
	b.prepend(nil)
	c.wrote = s.clock
	if err != nil && err != unix.EAGAIN {
		s.lose(index, why(err))
		return false
	}
	c.cursor = b.from + took
	s.events += int64(took)
	s.bytes += int64(b.bytes(took))
	if rest != nil || took < uint64(len(b.events)) {
		s.slow(index, rest)
		return false
	}
	return true
}

// say writes something that is not of the ring, whole: what the socket does not take waits in rests. It returns false
// when the client has become slow or is gone.
func (s *shard) say(index uint32, p []byte) bool {
	c := &s.slots[index]
	n, err := writeBytes(int(c.fd), p)
	c.wrote = s.clock
	if err != nil && err != unix.EAGAIN {
		s.lose(index, why(err))
		return false
	}
	if n < len(p) {
		s.slow(index, p[n:])
		return false
	}
	return true
}

var (
	beat    = frame(nil, 0, []byte(sse.Heartbeat))
	beatOld = []byte(sse.Heartbeat)
)

// look goes over all slots for heartbeats and releases that are due. It returns in how many ms to do so again.
func (s *shard) look(now uint32) uint32 {
	s.mu.Lock()
	drained, window := s.drained, s.window
	s.mu.Unlock()
	next := uint32(1000)
	for _, g := range s.groups {
		if g == nil {
			continue
		}
		if releases := s.releases(g, now, drained, window); releases {
			next = min(next, 10)
		}
		if hb := uint32(g.route.Heartbeat.Milliseconds()); hb > 0 {
			next = min(next, max(hb/16, 5))
			s.heartbeats(g, now, hb)
		}
	}
	return next
}

// releases sets and finds out who is to come back. It returns whether anybody of g is.
func (s *shard) releases(g *group, now uint32, drained bool, window time.Duration) bool {
	reason := Drained
	if !drained {
		reason, window = Aged, stream.RetireTime
		if g.retired = g.retired || closed(g.retiring); !g.retired {
			return false
		}
	}
	for _, index := range g.members {
		c := &s.slots[index]
		if c.flags&isDue == 0 || int(c.why) != reason && c.flags&isClosing == 0 {
			c.flags, c.due = c.flags|isDue, now+spread(window)
			c.why = uint8(reason)
		}
		if reached(now, c.due) && c.flags&(isClosing|isAway) == 0 {
			s.comeBack(index, reason)
		}
	}
	return true
}

// heartbeats writes one to whom nothing else was written for so long: a little less for some, so that those who got the
// same event do not get their heartbeats in the same instant.
func (s *shard) heartbeats(g *group, now, every uint32) {
	for _, index := range g.members {
		c := &s.slots[index]
		due := now-c.wrote >= every-every/8-every*(index&15)/128 || c.flags&isFresh != 0
		if !due || c.flags&(isSlow|isClosing|isAway) != 0 {
			continue
		}
		text := beat
		if c.flags&isOld != 0 {
			text = beatOld
		}
		if c.flags&isBeating != 0 {
			c.flags &^= isFresh
			text = frame(nil, c.flags, sse.AppendHeartbeat(nil, g.ring.IDAt(c.cursor), g.route.Heartbeat))
		}
		s.say(index, text)
	}
}

// end is what a client is told behind the last event.
func (s *shard) end(index uint32, end stream.End) {
	c := &s.slots[index]
	g := s.groups[c.group]
	switch end.Kind {
	case stream.Refused:
		s.last(index, Refused, frame(nil, c.flags, sse.AppendRefused(nil, g.ring.LastID(), end.Status)))
	case stream.Finished:
		var last []byte
		if c.flags&isOld == 0 {
			last = []byte(stream.LastChunk)
		}
		s.last(index, Finished, last)
	default:
		s.hint(index, Aged)
	}
}

// comeBack releases a client. One whose socket is full is cut as it is: what it has is the beginning of something.
func (s *shard) comeBack(index uint32, reason int) {
	c := &s.slots[index]
	s.forget()
	s.advance(index) // what COALESCE held back
	s.tally(s.groups[c.group])
	switch {
	case c.flags&isClosing != 0: // on its way already
	case c.flags&isSlow != 0:
		c.flags |= isClosing
		c.why = uint8(reason)
		s.depart(index)
	default:
		s.hint(index, reason)
	}
}

// hint tells a client when to come back, as its last bytes.
func (s *shard) hint(index uint32, reason int) {
	c := &s.slots[index]
	s.last(index, reason, frame(nil, c.flags, sse.AppendRetry(nil, s.clients.Hint(s.groups[c.group].route))))
}

// last writes a client's last bytes.
func (s *shard) last(index uint32, reason int, p []byte) {
	c := &s.slots[index]
	c.flags |= isClosing
	c.why = uint8(reason)
	if s.say(index, p) {
		s.depart(index)
	}
}

// depart lets a client go that has got its last bytes: at once when its stream is complete, else after a moment.
func (s *shard) depart(index uint32) {
	c := &s.slots[index]
	if c.why == Finished {
		s.lose(index, Finished)
		return
	}
	c.flags |= isAway
	at := s.now() + uint32(moment.Milliseconds())
	s.away = append(s.away, parting{index, c.gen, at, at + uint32(queueTime.Milliseconds())})
}

// part cuts those whose moment is over.
func (s *shard) part(now uint32) {
	kept := s.away[:0]
	for _, p := range s.away {
		c := &s.slots[p.index]
		if c.fd == 0 || c.gen != p.gen {
			continue
		}
		if !reached(now, p.at) || c.flags&isOld != 0 && !reached(now, p.most) && holds(c.fd) {
			kept = append(kept, p)
			continue
		}
		if c.flags&isOld != 0 { // the end of the connection is the end of the body, so it must be a reset
			unix.SetsockoptLinger(int(c.fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		}
		s.lose(p.index, int(c.why))
	}
	s.away = kept
}

// holds says whether the kernel has bytes that the peer has not acknowledged, which a reset would throw away.
func holds(fd int32) bool {
	n, err := unix.IoctlGetInt(int(fd), unix.SIOCOUTQ)
	return err == nil && n > 0
}
