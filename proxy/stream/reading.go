package stream

import (
	"context"
	"time"
)

// This file is how a ring is read by a stream that merges it with others: event by event, with what of each a client never sees.

// Entry is one event of a ring.
type Entry struct {
	Bytes  []byte    // as clients get it; not to be written to
	Cursor uint64    // its number; 0 where it is older than what the ring counts
	At     time.Time // when it came, by this process's clock; never before that of an older one. Zero where it stands in for the past
	Key    string    // what a newer one replaces it by (KEY); "" none
}

// Reading is what a ring has after a cursor.
type Reading struct {
	Entries []Entry
	State   []byte // what all events up to Next come to (MODE=patch); nil: nothing does. Not to be written to
	Stands  bool   // State is to be given in the place of everything up to Next: there is no entry
	Next    uint64 // the cursor after them
	Missed  uint64 // so many before them are kept no more; Unknown where a gap is one of these
	Lost    bool   // the cursor's place does not exist any more: something is missing, and how much nobody knows
	End     End    // what comes after Next
}

// Read returns what the ring has after cursor. A cursor that is [Pending] begins where START says, and stays pending while a list's history is awaited.
func (r *Ring) Read(cursor uint64) (rd Reading) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.evict()
	rd.State = r.snapshot.now
	cursor, rd.Lost = r.land(cursor)
	before := r.log.before()
	switch {
	case Pending(cursor) && r.history:
		rd.Next = waiting
		return rd
	case Ahead(cursor): // it waits for its place
		rd.Next = cursor
		return rd
	case Pending(cursor) && r.snapshot.standsIn(r.bounds), cursor < before && r.snapshot.any():
		if !Pending(cursor) {
			rd.Missed = unsure(r.snapshot.unseen(cursor, r.log.last), cursor, r.log.gap)
		}
		rd.Next, rd.End, rd.Stands = r.log.last, r.end, r.snapshot.now != nil
		rd.Entries = r.stand()
		return rd
	}
	if cursor = r.resolve(cursor); cursor < before {
		if r.hole != before+1 { // else the next event tells
			rd.Missed = unsure(before-cursor, cursor, r.log.lapsed)
		}
		cursor = before
	}
	rd.Entries, rd.Next, rd.End = r.entries(nil, cursor), max(cursor, r.log.last), r.end
	return rd
}

// Backlog returns everything that the ring keeps. Where a list's history is awaited it has nothing, and Next is [Pending].
func (r *Ring) Backlog() (rd Reading) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.evict()
	if r.history {
		return Reading{Next: Begin}
	}
	rd = Reading{State: r.snapshot.now, Next: r.log.last, End: r.end}
	for _, e := range r.stand() {
		if e.Cursor <= r.log.before() {
			rd.Entries = append(rd.Entries, e)
		}
	}
	rd.Entries = r.entries(rd.Entries, r.log.before())
	return rd
}

// stand are the newest events of all keys, the oldest first. mu is held.
func (r *Ring) stand() (entries []Entry) {
	if r.snapshot.now != nil || r.snapshot.order == nil {
		return nil
	}
	for el := r.snapshot.order.Front(); el != nil; el = el.Next() {
		k := el.Value.(*keyed)
		entries = append(entries, Entry{Bytes: k.bytes(), Cursor: k.seq, Key: k.key})
	}
	return entries
}

// entries appends the events after cursor, which is none that was let go of. mu is held.
func (r *Ring) entries(dst []Entry, cursor uint64) []Entry {
	for ; cursor < r.log.last; cursor++ {
		e := r.log.at(cursor)
		one := Entry{Bytes: e.bytes(), Cursor: cursor + 1, At: e.at.time()}
		if e.keyed != nil {
			one.Key = e.keyed.key
		}
		dst = append(dst, one)
	}
	return dst
}

// Kept is the number of the event before the oldest that is kept.
func (r *Ring) Kept() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.before()
}

// Told returns once it is known what was there before the ring, and false when that takes longer than wait, or ctx ends.
func (r *Ring) Told(ctx context.Context, wait time.Duration) bool {
	awaited := func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.history
	}
	if !awaited() {
		return true
	}
	grown := make(chan struct{}, 1)
	defer r.Watch(func() {
		select {
		case grown <- struct{}{}:
		default:
		}
	})()
	late := time.NewTimer(wait)
	defer late.Stop()
	for awaited() {
		select {
		case <-grown:
		case <-late.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// Enter returns where a client begins that has no place, and an id with which it misses nothing from there on. Where something stands in for the past
// that is the place before everything: a part of it may be all that the client gets.
func (r *Ring) Enter() (cursor uint64, id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.history || r.snapshot.standsIn(r.bounds) {
		return Begin, r.lives.id(0)
	}
	cursor = r.resolve(Begin)
	return cursor, r.lives.id(cursor)
}
