//go:build linux && !portable

// This file is how a connection of HTTP/2 writes to its clients what next (cursor.go) says.

package deliver

import (
	"math/rand/v2"
	"time"

	"sidestream/proxy/deliver/h2"
)

// subscriber is one client: a stream of a connection that carries others. It fills two lines of a cache: with many clients
// an event costs little more than reading those.
type subscriber struct {
	group   *h2Group
	stream  h2.Stream
	prelude *prelude // what its answer begins with, until that is written
	seat    int32    // in its group
	fresh   tick     // see facts.first
	state   cursor
	rest    []byte        // of something that was begun, with isBlocked
	joined  uint64        // the newest event when it came
	stuck   time.Duration // with rest: since when its window has taken nothing
}

// prelude is what an answer begins with. It is read before the head of the answer is, which from then on misses nothing.
type prelude struct {
	opening []byte
	batch   *batch
}

// serve writes to one client what is due. It returns when to do so again if nothing happens until then.
func (m *carrier) serve(sub *subscriber, w *h2.Writer, t *tally, now time.Duration) (next time.Duration) {
	if !w.Takes(&sub.stream) {
		return h2.Never
	}
	at := tick(now.Milliseconds())
	m.release(sub, at)
	if len(sub.rest) > 0 && sub.state.flags&isParting == 0 {
		before := len(sub.rest)
		switch {
		case sub.say(w, sub.rest, now):
			sub.state.freed(at)
		case len(sub.rest) < before || w.Full():
			sub.stuck = now
			return w.Stalls(&sub.stream, now)
		case now >= w.Stalls(&sub.stream, sub.stuck):
			sub.state.disconnected(Stalled)
			sub.end(w, sub.state.end())
			return h2.Never
		}
	}
	a := m.give(sub, w, t, at, now)
	if next = h2.Never; len(sub.rest) > 0 && sub.state.flags&(isParting|isOver) == 0 {
		next = w.Stalls(&sub.stream, sub.stuck)
	}
	if a.timed {
		next = min(next, now.Truncate(time.Millisecond)+time.Duration(a.after)*time.Millisecond)
	}
	return next
}

// release sets when a client is to come back, if it is.
func (m *carrier) release(sub *subscriber, now tick) {
	if !m.drained && !sub.group.retired {
		return
	}
	window, why := release(sub.group.leaving)
	if m.drained {
		window, why = m.clients.window, Drained
	}
	if sub.state.mayLeave(why) {
		sub.state.leaves(why, now+ticks(rand.N(max(window, 1))))
	}
}

// give does with a client what is due, until it is to wait for something, its answer ends or w is full.
func (m *carrier) give(sub *subscriber, w *h2.Writer, t *tally, at tick, now time.Duration) (a action) {
	g, b := sub.group, m.batch
	f := facts{now: at, silence: g.silence, first: sub.fresh, coalesce: g.coalesce, ring: ringGrown}
	if sub.state.flags&isGuarded != 0 {
		f.stands = m.holds[sub].pass.Standing()
	}
	if f.coalesce == 0 && sub.prelude == nil && b.fits(g.ring, sub.state.at, formPlain|sub.state.form()) {
		b.tell(&f) // as for most
	}
	turn := 0 // bytes that it has its turn for
	for {
		whole := true
		switch a = sub.state.next(&f); a.do {
		case doRead:
			b = m.read(sub, f.ring == ringMore)
			b.tell(&f)
			f.more = f.more || sub.prelude != nil // the ring may have grown since
		case doTurn:
			if sub.state.queue(at, m.clients.replays.take(b.size, time.Now())) {
				turn = b.size
			}
		case doWrite:
			before := t.bytes
			whole = m.write(sub, w, t, m.words(sub, a, &f), b, &f, now)
			m.clients.replays.back(turn - int(t.bytes-before) - b.saved)
			turn = 0
			sub.endPrelude()
		case doSay, doLast:
			whole = sub.say(w, m.words(sub, a, &f), now)
			if a.say&sayOpening != 0 {
				sub.endPrelude()
			}
		case doFinish, doCut:
			sub.end(w, a.do)
			return a
		default:
			return a
		}
		if !whole {
			sub.state.flags |= isBlocked
			if w.Full() { // which says nothing of the client
				return action{}
			}
		}
	}
}

// words are what a says to a client, nil for nothing.
func (m *carrier) words(sub *subscriber, a action, f *facts) (b []byte) {
	opens := a.say&sayOpening != 0
	if opens {
		b = sub.prelude.opening
	}
	if say := a.say &^ sayOpening; say != 0 {
		b = speech{sub.group.ring, sub.group.route, m.clients}.append(b, say, sub.state, f)
	}
	return sub.state.tell(b, m.sums[sub], opens, a.do == doLast && sub.state.completes(a.say))
}

// read is what the ring has for a client. more: what was read before is written.
func (m *carrier) read(sub *subscriber, more bool) *batch {
	if sub.prelude != nil {
		return sub.prelude.batch
	}
	b := m.batch
	if more {
		b.forget()
	}
	if as := formPlain | sub.state.form(); !b.fits(sub.group.ring, sub.state.at, as) {
		b.load(sub.group.ring, sub.state.at, as)
	}
	return b
}

// endPrelude lets go of what the answer has begun with.
func (sub *subscriber) endPrelude() {
	if sub.prelude != nil {
		sub.prelude.batch.forget()
		batches.Put(sub.prelude.batch)
		sub.prelude = nil
	}
}

// write writes pre, what the client is told before b, and b. It reports whether the client's window took all.
func (m *carrier) write(sub *subscriber, w *h2.Writer, t *tally, pre []byte, b *batch, f *facts, now time.Duration) (whole bool) {
	b.zip()
	if !sub.say(w, pre, now) {
		if b.leaps() {
			sub.state.took(f, 1)
			m.gave(sub, b, 1)
			sub.rest = following(sub.rest, b.events[0])
		}
		return false
	}
	n := uint64(0)
	whole = true
	for _, e := range b.events {
		n++
		t.events++
		t.bytes += int64(len(e))
		if whole = sub.say(w, e, now); !whole {
			break
		}
	}
	sub.state.took(f, n)
	m.gave(sub, b, n)
	if b.from < sub.joined {
		sub.group.route.Stats.Replayed.Add(int64(min(sub.state.at, sub.joined) - b.from))
	}
	if whole {
		f.written()
	}
	return whole
}

// gave notes that a client has got so many events of b.
func (m *carrier) gave(sub *subscriber, b *batch, n uint64) {
	if sub.state.traits&isDeflated != 0 {
		b.gave(&sub.state, n, m.sums[sub])
	}
}

// say writes p. What the client's window does not take waits in rest; then it returns false.
func (sub *subscriber) say(w *h2.Writer, p []byte, now time.Duration) (whole bool) {
	left := p[w.Write(&sub.stream, p):]
	if len(left) > 0 && len(sub.rest) == 0 {
		sub.stuck = now
	}
	sub.rest = left
	return len(left) == 0
}

// end ends a stream as complete, or so that its client comes back: none but an EventSource does after a clean end, and
// WebKit's notices no other.
func (sub *subscriber) end(w *h2.Writer, do deed) {
	if do == doFinish {
		w.End(&sub.stream)
	} else {
		w.Reset(&sub.stream)
	}
}
