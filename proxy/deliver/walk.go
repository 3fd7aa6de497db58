//go:build linux && !portable

// This file is how a shard writes to its clients what next (cursor.go) says.

package deliver

import (
	"container/heap"
	"math/rand/v2"
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
		s.serve(g.members[at], &facts{now: s.now, ring: ringGrown})
	}
	s.tally(g)
}

// tally adds what was written since the last time to the counters of g's route, which others read and write.
func (s *shard) tally(g *group) {
	g.route.Stats.Events.Add(s.events)
	g.route.Stats.Bytes.Add(s.bytes)
	s.events, s.bytes = 0, 0
}

// forget lets go of what was read of rings: they may have grown, or ended.
func (s *shard) forget() {
	for i := range s.batches {
		s.batches[i].forget()
	}
}

// serve does with one client what is due by f.
func (s *shard) serve(index uint32, f *facts) {
	c := &s.slots[index]
	g := s.groups[c.group]
	as := c.form()
	b := &s.batches[as]
	if c.flags&isGuarded != 0 {
		f.stands = s.holds[index].pass.Standing()
	}
	if f.ring == ringGrown && f.coalesce == 0 && b.fits(g.ring, c.at, as) {
		b.tell(f) // as for most
	}
	turn := 0 // bytes that it has its turn for
	for {
		var a action
		whole := false
		switch a = c.next(f); a.do {
		case doRead:
			as = c.form()
			if b = &s.batches[as]; f.ring == ringMore {
				b.forget()
			}
			if !b.fits(g.ring, c.at, as) {
				b.load(g.ring, c.at, as)
			}
			b.tell(f)
			whole = true
		case doTurn:
			turn = s.turn(index, b.size)
			whole = true
		case doWrite:
			before := s.bytes
			whole = s.give(index, g, b, a, f)
			s.clients.replays.back(turn - int(s.bytes-before) - b.saved)
			if turn = 0; whole && !f.more && f.end.Kind == stream.Open && f.silence == 0 && c.flags&isLeaving == 0 {
				return // as most do: nothing else can be due
			}
		case doSay, doLast:
			whole = s.say(index, s.text(g, index, a, f))
		case doPart:
			at := c.due
			s.away = append(s.away, parting{index, c.gen, at, at + ticks(queueTime)})
		case doFinish, doCut:
			s.end(index, a.do)
		}
		if !whole {
			return
		}
	}
}

// turn asks whether a client may be given so many bytes of what was there before it, and returns them, or has it served again later and
// returns 0.
func (s *shard) turn(index uint32, size int) int {
	c := &s.slots[index]
	if c.queue(s.now, s.clients.replays.take(size, time.Now())) {
		return size
	}
	heap.Push(&s.waits, waiting{c.turn, index, c.gen})
	return 0
}

// turnsMost is how many are served that have waited before those who are there are looked at again.
const turnsMost = 4

// turns serves those that have waited for their turn.
func (s *shard) turns() {
	for n := 0; n < turnsMost && len(s.waits) > 0 && reached(s.now, s.waits[0].at); n++ {
		next := heap.Pop(&s.waits).(waiting)
		if c := &s.slots[next.index]; c.fd != 0 && c.gen == next.gen {
			s.forget()
			s.serve(next.index, &facts{now: s.now, ring: ringGrown})
			s.tally(s.groups[c.group])
		}
	}
}

// waiting is when a client that waits for its turn asks again.
type waiting struct {
	at         tick
	index, gen uint32
}

// waitingHeap is those that wait, the first in front.
type waitingHeap []waiting

func (h waitingHeap) Len() int           { return len(h) }
func (h waitingHeap) Less(i, j int) bool { return int32(h[i].at-h[j].at) < 0 }
func (h waitingHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push is heap.Interface's.
func (h *waitingHeap) Push(w any) { *h = append(*h, w.(waiting)) }

// Pop is heap.Interface's.
func (h *waitingHeap) Pop() any {
	last := len(*h) - 1
	w := (*h)[last]
	*h = (*h)[:last]
	return w
}

// give writes b, and say before it, to one client. It returns false when the socket took less, or is disconnected.
func (s *shard) give(index uint32, g *group, b *vectored, a action, f *facts) (whole bool) {
	c := &s.slots[index]
	var pre []byte
	if a.say != 0 {
		pre = s.text(g, index, a, f)
	}
	b.zip()
	b.prepend(pre)
	to := s.outlet(index)
	took, rest, err := b.write(to)
	b.prepend(nil)
	if err != nil && err != unix.EAGAIN {
		s.lose(index, why(err))
		return false
	}
	c.took(f, took)
	if c.traits&isDeflated != 0 {
		b.gave(&c.cursor, took, &s.sums[index])
	}
	s.events += int64(took)
	s.bytes += int64(b.bytes(took))
	if rest != nil || took < uint64(len(b.events)) || to.waits() {
		s.block(index, rest)
		return false
	}
	f.written()
	return true
}

// say writes something that is not of the ring, whole: what the socket does not take waits in rests. It returns false
// when the client is blocked or disconnected.
func (s *shard) say(index uint32, p []byte) (whole bool) {
	to := s.outlet(index)
	n, err := to.bytes(p)
	if err != nil && err != unix.EAGAIN {
		s.lose(index, why(err))
		return false
	}
	if n < len(p) || to.waits() {
		s.block(index, p[n:])
		return false
	}
	return true
}

// A heartbeat that is no event is the same for all.
var (
	beat          = frame(nil, 0, []byte(sse.Heartbeat))
	beatUnchunked = []byte(sse.Heartbeat)
)

// text is what a says to one client, as it gets it.
func (s *shard) text(g *group, index uint32, a action, f *facts) []byte {
	c, say := &s.slots[index], a.say
	switch {
	case c.traits&isDeflated != 0:
		return s.deflated(g, index, a, f)
	case say == sayBeat && c.flags&isUnchunked != 0:
		return beatUnchunked
	case say == sayBeat:
		return beat
	case say == sayEnd && c.flags&isUnchunked != 0:
		return nil
	case say == sayEnd:
		return []byte(stream.LastChunk)
	}
	return frame(nil, c.flags, speech{g.ring, g.route, s.clients}.append(nil, say, c.cursor, f))
}

// deflated is text for a client that takes gzip.
func (s *shard) deflated(g *group, index uint32, a action, f *facts) []byte {
	c := &s.slots[index]
	closes := a.do == doLast && c.completes(a.say)
	p := c.tell(speech{g.ring, g.route, s.clients}.append(nil, a.say, c.cursor, f), &s.sums[index], false, closes)
	if p = frame(nil, c.flags, p); a.say == sayEnd && c.flags&isUnchunked == 0 {
		p = append(p, stream.LastChunk...)
	}
	return p
}

// look goes over all slots for heartbeats and releases that are due. It returns in how many ms to do so again.
func (s *shard) look() tick {
	s.mu.Lock()
	drained, window := s.drained, s.window
	s.mu.Unlock()
	next := tick(1000)
	for _, g := range s.groups {
		if g == nil {
			continue
		}
		if s.releases(g, drained, window) {
			next = min(next, 10)
		}
		if every := ticks(g.route.Heartbeat); every > 0 {
			next = min(next, max(every/16, 5))
			s.heartbeats(g, every)
		}
	}
	s.expire()
	s.stalls()
	return next
}

// expire serves those whose credentials have run out.
func (s *shard) expire() {
	for index := range s.holds {
		c := &s.slots[index]
		if c.flags&isLeaving != 0 && c.why == Expired && reached(s.now, c.due) && c.flags&(isClosing|isOver) == 0 {
			s.forget()
			s.serve(index, &facts{now: s.now}) // with what COALESCE held back
			s.tally(s.groups[c.group])
		}
	}
}

// releases decides and finds which clients are to come back. It reports whether any client of g is.
func (s *shard) releases(g *group, drained bool, window time.Duration) bool {
	reason := uint8(Drained)
	if !drained {
		if g.retired = g.retired || closed(g.retiring); !g.retired {
			return false
		}
		window, reason = release(g.leaving)
	}
	for _, index := range g.members {
		c := &s.slots[index]
		if c.mayLeave(reason) {
			c.leaves(reason, s.now+ticks(rand.N(max(window, 1))))
		}
		if reached(s.now, c.due) && c.flags&(isClosing|isOver) == 0 {
			s.forget()
			s.serve(index, &facts{now: s.now}) // with what COALESCE held back
			s.tally(g)
		}
	}
	return true
}

// heartbeats writes one to clients that nothing else was written to for so long: a little less for some, so that clients that
// got the same event do not get their heartbeats in the same instant.
func (s *shard) heartbeats(g *group, every tick) {
	s.forget()
	for _, index := range g.members {
		silence := every - every/8 - every*tick(index&15)/128
		s.serve(index, &facts{now: s.now, silence: max(silence, 1), first: s.now})
	}
	s.tally(g)
}

// part cuts those whose moment is over.
func (s *shard) part() {
	kept := s.away[:0]
	for _, p := range s.away {
		c := &s.slots[p.index]
		if c.fd == 0 || c.gen != p.gen {
			continue
		}
		if !reached(s.now, p.at) || c.flags&isUnchunked != 0 && !reached(s.now, p.most) && holds(c.fd) {
			kept = append(kept, p)
			continue
		}
		s.serve(p.index, &facts{now: s.now})
	}
	s.away = kept
}

// end ends a client's answer, and with it the connection.
func (s *shard) end(index uint32, do deed) {
	if s.bye(index, do == doFinish) && do == doFinish {
		return // that it is complete is still to leave: see resume
	}
	s.lose(index, s.slots[index].why)
}

// holds reports whether the kernel has bytes that the peer has not acknowledged, which a reset would throw away.
func holds(fd int32) bool {
	n, err := unix.IoctlGetInt(int(fd), unix.SIOCOUTQ)
	return err == nil && n > 0
}
