// This file decides what a client is told next. That is all that the writers have in common - the goroutine (client.go),
// the shard (shard.go), HTTP/2 (h2_client.go) and [Copy] - and they decide nothing of it: they move the bytes, and say what
// has become of them. The rules:
//
//   - A cursor is a value without pointers: there are many, and the collector skips them.
//   - next is pure, but for the cursor. It knows no clock, no chance, no ring and no socket: what it needs of them is in facts,
//     which the writer fills in. The writer does what next returns, and asks again, until that is doWait or an end.
//   - The order of what is due: the end of what the client was admitted with, what waits already, the ring, the release, a heartbeat.
//
// A client's states, each of which takes part in every writer's loop in the same way:
//
//	        doRead, doTurn, doWrite, doSay     doLast             doPart               doCut, doFinish
//	(unopened) ───────────────────────▶ here ─────────▶ closing ─────────▶ parting ───────────────────▶ over
//
// With isBlocked, which the writer sets and clears, the client stays where it is: its bytes have to leave first.

package deliver

import (
	"math/rand/v2"
	"time"

	"sidestream/proxy/access"
	"sidestream/proxy/stream"
)

// tick is a moment in ms, on a clock of its writer's own. It wraps after 49 days: only differences count.
type tick uint32

// reached reports whether at is not in the future of now.
func reached(now, at tick) bool { return int32(now-at) >= 0 }

// ticks is d in ms, rounded up, and no more than what differences of ticks can tell.
func ticks(d time.Duration) tick {
	return tick(min((max(d, 0)+time.Millisecond-1)/time.Millisecond, 1<<30))
}

// flags are what is known of a client.
type flags uint16

const (
	isUnchunked flags = 1 << iota // HTTP/1.0: no chunks, and a cut is a reset
	isUnopened                    // nothing of its answer is written
	isLost                        // its id was unknown, which it has not been told yet
	isNew                         // it came without an id, and has not been told one yet
	isBeating                     // its heartbeats are events
	isFresh                       // it waits for the first of them
	isClean                       // a clean end makes it come back, and nothing else does: see looksNative
	isBlocked                     // bytes for it wait; set and cleared by its writer
	isLeaving                     // it is to come back at due
	isClosing                     // its last words are written, or wait
	isParting                     // it has a moment to get them, until due
	isOver                        // nothing more is done with it
	isGuarded                     // it was admitted with a pass, which may end
	isReplaying                   // it has not caught up yet with what was there before it
	isQueued                      // it waits until turn to be given more of that
	isTurn                        // it is to be given it now
)

// traits are flags that did not fit in there.
type traits uint8

const (
	isTerse    traits = 1 << iota // see Client.Terse
	isDeflated                    // it takes gzip
	isInRun                       // it has had all of the run that the event at its place is of: see stream.Ring.Deflated
	isSealed                      // it is over TLS; its writer's
)

// cursor is where one client stands in its stream, and what it is owed.
type cursor struct {
	at     uint64 // the last event it has, or stream.Begin
	wrote  tick   // when it was written to last
	due    tick   // with isLeaving or isParting
	turn   tick   // with isQueued
	flags  flags
	why    uint8 // with isLeaving, isClosing or isOver: why it will have disconnected
	traits traits
}

// newCursor is that of cl, when it comes.
func newCursor(cl *Client, now tick) cursor {
	c := cursor{at: cl.Cursor, flags: isUnopened | isReplaying, wrote: now - ticks(cl.Route.Coalesce)}
	if cl.Terse {
		c.traits |= isTerse
	}
	if cl.Gzip {
		c.traits |= isDeflated
	}
	if cl.Lost {
		c.flags |= isLost
	}
	if cl.Beats {
		c.flags |= isBeating | isFresh
	}
	if cl.LastID == "" && cl.Before == nil {
		c.flags |= isNew
	}
	if cl.Pass != nil {
		c.flags |= isGuarded
		c.expires(cl.Pass, now)
	}
	return c
}

// expireTime is over which the clients are released whose credentials have run out; those still count for as long and a little more.
const expireTime = 20 * time.Second

// expires has a client come back when its pass has run out.
func (c *cursor) expires(p *access.Pass, now tick) {
	if until := p.Until(); !until.IsZero() {
		c.leaves(Expired, now+ticks(time.Until(until)+rand.N(expireTime)))
	}
}

// reading is what facts say of the ring.
type reading uint8

const (
	ringSame  reading = iota // nothing that the cursor does not know of
	ringGrown                // there may be events after the cursor
	ringMore                 // the same, and those before them have just been written
	ringRead                 // it was read after the cursor
)

// facts are all that next looks at beside the cursor.
type facts struct {
	now      tick
	silence  tick // a heartbeat is due after so long without a word; 0: never
	first    tick // with isFresh: when one is due in any case
	coalesce tick // events wait until so long after the last word

	stands access.Standing // how it stands with the client's pass

	ring     reading
	from, to uint64     // with ringRead: the events after from, up to to; see stream.Ring.After
	missed   uint64     // with ringRead: so many before them
	more     bool       // with ringRead: the ring has more after to
	end      stream.End // with ringRead: what comes after to
}

// written notes that what was read has been written, or begun.
func (f *facts) written() {
	f.from, f.missed = f.to, 0
	if f.more {
		f.ring = ringMore
	}
}

// deed is what a writer is to do.
type deed uint8

const (
	doWait   deed = iota // nothing, until something happens or action.after is over
	doRead               // read the ring after the cursor
	doTurn               // see whether what was read may be written now; see queue
	doWrite              // write the words, then the events that were read; see took
	doSay                // write the words
	doLast               // write the words: they are the last
	doPart               // give the last words a moment, action.after
	doFinish             // end the answer as complete
	doCut                // end it so that no client takes it for complete
)

// action is what next wants done.
type action struct {
	do    deed
	say   words // with doWrite, doSay and doLast
	timed bool  // with doWait: after is set
	after tick  // from facts.now
}

// next returns what is to be done with a client, and makes the cursor that for when it is done.
func (c *cursor) next(f *facts) action {
	switch {
	case c.flags&(isOver|isParting|isClosing) != 0:
		return c.leave(f.now)
	case f.stands != access.Stays:
		return c.dismiss(f)
	case c.flags&isBlocked != 0:
		return c.leave(f.now)
	case c.flags&isQueued != 0 && !reached(f.now, c.turn):
		return c.wait(f)
	case f.ring == ringRead:
		if a := c.read(f); a.do != doWait {
			return a
		}
		c.at = f.to // also a place that START has resolved to, or the wait for a list's history
	}
	released := c.flags&isLeaving != 0 && reached(f.now, c.due)
	held := f.now-c.wrote < f.coalesce
	switch {
	case released && f.ring == ringRead:
		return c.close(f.now, c.why, sayHint)
	case released, f.ring == ringMore, f.ring == ringGrown && !held:
		return action{do: doRead}
	}
	return c.idle(f).within(held && f.ring == ringGrown, f.coalesce-(f.now-c.wrote))
}

// idle is next for a client that is given nothing of the ring now.
func (c *cursor) idle(f *facts) action {
	beats, beat := c.beat(f)
	if beats && beat == 0 {
		say := sayBeat
		if c.flags&isBeating != 0 {
			say = sayBeatEvent
		}
		c.flags, c.wrote = c.flags&^isFresh, f.now
		return action{do: doSay, say: say}
	}
	return action{}.within(beats, beat).within(c.flags&isLeaving != 0, c.due-f.now)
}

// wait is next for a client that waits for its turn.
func (c *cursor) wait(f *facts) action {
	switch {
	case c.flags&isUnopened != 0:
		c.flags, c.wrote = c.flags&^isUnopened, f.now
		return action{do: doSay, say: sayOpening}
	case c.flags&isLeaving != 0 && reached(f.now, c.due): // it comes back for what it waits for
		return c.close(f.now, c.why, sayHint)
	}
	return c.idle(f).within(true, c.turn-f.now)
}

// queue notes what came of a doTurn: what was read may be written, or is to be asked for again after wait.
func (c *cursor) queue(now tick, wait time.Duration) (granted bool) {
	c.flags &^= isQueued
	if wait == 0 {
		c.flags |= isTurn
		return true
	}
	c.flags, c.turn = c.flags|isQueued, now+ticks(wait)
	return false
}

// within is a, after so long at the latest if only is true.
func (a action) within(only bool, after tick) action {
	if only && a.do == doWait && (!a.timed || after < a.after) {
		a.timed, a.after = true, after
	}
	return a
}

// leave is next for a client that gets nothing new, as of now.
func (c *cursor) leave(now tick) action {
	switch {
	case c.flags&isOver != 0:
		return action{}
	case c.flags&isParting != 0 && !reached(now, c.due):
		return action{timed: true, after: c.due - now}
	case c.flags&isParting != 0:
		c.flags |= isOver
		return action{do: c.end()}
	case c.flags&isBlocked == 0 && c.why == Finished:
		c.flags |= isOver
		return action{do: doFinish}
	case c.flags&isBlocked == 0:
		return c.part(now)
	case c.flags&(isLeaving|isClosing) != isLeaving:
		return action{}
	case !reached(now, c.due):
		return action{timed: true, after: c.due - now}
	}
	return c.part(now) // it is cut as it is: what it has is the beginning of something
}

// part gives a client the moment after its last words.
func (c *cursor) part(now tick) action {
	c.flags, c.due = c.flags|isClosing|isParting, now+ticks(moment)
	return action{do: doPart, timed: true, after: ticks(moment)}
}

// dismiss is next for a client whose pass has ended: it gets nothing more of the ring.
func (c *cursor) dismiss(f *facts) action {
	why, say := uint8(Revoked), sayRefused
	if f.stands == access.ComeBack {
		why, say = Expired, sayHint
	}
	if c.flags&isBlocked != 0 { // it is cut as it is: what it has is the beginning of something
		c.why = why
		return c.part(f.now)
	}
	if c.flags&isUnopened != 0 {
		c.flags &^= isUnopened
		say |= sayOpening
	}
	return c.close(f.now, why, say)
}

// end is how an answer ends that its client is to come back from.
func (c *cursor) end() deed {
	if c.flags&isClean != 0 {
		return doFinish
	}
	return doCut
}

// read is next for what was read of the ring; doWait: that is nothing, or all of it is written.
func (c *cursor) read(f *facts) action {
	var say words
	if c.flags&isUnopened != 0 {
		say |= sayOpening
	}
	pending, events := stream.Pending(f.to), f.to-f.from
	switch {
	case pending:
		events = 0
	case c.traits&isTerse != 0 && f.missed > 0:
		c.flags &^= isUnopened
		return c.close(f.now, Missed, say|sayHint)
	case events > 0 && c.flags&(isReplaying|isTurn) == isReplaying:
		return action{do: doTurn}
	case c.flags&isLost != 0:
		say |= sayRestart
	case f.missed > 0:
		say |= sayMissed
	case c.flags&isNew != 0 && events == 0 && stays(f.end) && c.traits&isTerse == 0:
		say |= sayOpen
	}
	if c.flags &^= isTurn; events == 0 && !pending {
		c.flags &^= isReplaying
	}
	switch {
	case say != 0 || events > 0:
		if c.flags &^= isUnopened; !pending {
			c.flags &^= isLost | isNew
		}
		c.at, c.wrote = f.from, f.now
		return action{do: doWrite, say: say}
	case f.end.Kind == stream.Finished:
		return c.close(f.now, Finished, sayEnd)
	case f.end.Kind == stream.Refused:
		return c.close(f.now, Refused, sayRefused)
	case f.end.Kind != stream.Open:
		return c.close(f.now, Aged, sayHint)
	}
	return action{}
}

// stays reports whether a client may come back to a ring with this end, and so needs to know its place.
func stays(end stream.End) bool { return end.Kind == stream.Open || end.Kind == stream.Retired }

// close has a client told its last words.
func (c *cursor) close(now tick, why uint8, say words) action {
	c.flags, c.why, c.wrote = c.flags|isClosing, why, now
	return action{do: doLast, say: say}
}

// beat reports whether heartbeats are due at all, and in how long the next one is. The first one that is an event does not
// wait for silence: it is a client's word that they come.
func (c *cursor) beat(f *facts) (beats bool, after tick) {
	silent := f.now - c.wrote
	switch {
	case f.silence == 0:
		return false, 0
	case c.flags&isFresh != 0 && reached(f.now, f.first):
		return true, 0
	case c.flags&isFresh != 0:
		return true, f.first - f.now
	case silent >= f.silence:
		return true, 0
	}
	return true, f.silence - silent
}

// took notes that the client has got, or has waiting, n of the events that were read.
func (c *cursor) took(f *facts, n uint64) {
	if c.at = f.from + n; c.at == f.to && !f.more {
		c.flags &^= isReplaying
	}
}

// leaves has a client come back at due, for why, or before that if it was to anyway.
func (c *cursor) leaves(why uint8, due tick) {
	if c.flags&isLeaving != 0 && reached(due, c.due) {
		due = c.due
	}
	c.flags, c.why, c.due = c.flags|isLeaving, why, due
}

// mayLeave reports whether leaves is still to be called for why: it is not on its way, or not for that.
func (c *cursor) mayLeave(why uint8) bool {
	return c.flags&(isClosing|isOver) == 0 && (c.flags&isLeaving == 0 || c.why != why)
}

// freed notes that the bytes have left that waited.
func (c *cursor) freed(now tick) { c.flags, c.wrote = c.flags&^isBlocked, now }

// left notes that the client has left: one that had got its last words goes for what they were said for.
func (c *cursor) left() {
	if c.flags&isParting == 0 {
		c.why = Left
	}
	c.flags |= isOver
}

// disconnected notes that the client is there no more, for why.
func (c *cursor) disconnected(why uint8) { c.flags, c.why = c.flags|isOver, why }
