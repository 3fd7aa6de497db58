package stream

import (
	"sidestream/proxy/history"
	"sidestream/translate"
)

// This file is the ring of a stream whose history is kept elsewhere too: what is known of it is taken in when it begins, and an event is not
// shown to clients before it is kept. What other processes append is in following.go.

// Restore takes in what is known of the stream from before, oldest first. Called once, before anything is appended.
func (r *Ring) Restore(l history.Loaded) {
	r.mu.Lock()
	defer r.unlock(false)
	r.snapshot.telling = true
	for _, e := range l.Events[:l.Older] {
		r.take(e, 0)
	}
	rest := l.Events[l.Older:]
	if len(rest) > 0 {
		// The number of an event of the first epoch is its seq, so that what was let go of is counted.
		r.log.begin(rest[0].Seq - 1)
		r.turn(Epoch(rest[0].Epoch), 0)
	}
	for _, e := range rest {
		r.turn(Epoch(e.Epoch), r.log.last)
		r.log.last++
		r.take(e, r.log.last)
	}
	if l.Epoch != 0 { // of which there may be no event
		r.turn(Epoch(l.Epoch), r.log.last)
	}
	if l.Past != nil {
		r.snapshot.now = l.Past
	}
	r.evict()
	if l.Epoch != 0 { // what a list had before is there
		r.told()
	}
}

// take takes in e as the event numbered seq, or, where that is 0, only as the newest of its key.
func (r *Ring) take(e history.Event, seq uint64) {
	kept := event{at: momentOf(e.At), id: e.ID}
	kept.chunk = r.log.encode(r.log.bytes, len(e.Data), func(dst []byte) []byte { return append(dst, e.Data...) })
	r.snapshot.note(translate.Message{Key: e.Key}, &kept, seq, "", r.bounds)
	if seq == 0 {
		if kept.keyed != nil {
			kept.keyed.was = e.Position
		}
		r.snapshot.detach(kept.keyed, r.bounds)
		return
	}
	r.keep(kept)
}

// Prepared are events that clients are not shown yet.
type Prepared struct {
	epoch  Epoch
	ms     []translate.Message
	events []event
	open   bool // the ring had not ended, and takes them
}

// Prepare encodes messages, and numbers them as those after the newest event and ahead others that were prepared and not published. A ring that has
// ended prepares nothing.
func (r *Ring) Prepare(ahead int, ms ...translate.Message) (p Prepared) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.end.Kind != Open {
		return p
	}
	p = Prepared{epoch: r.lives[len(r.lives)-1].epoch, ms: ms, open: true}
	now := now()
	for i, m := range ms {
		p.events = append(p.events, r.encode(m, r.log.last+uint64(ahead+i)+1, now))
	}
	return p
}

// ended reports whether the ring has ended.
func (r *Ring) ended() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.end.Kind != Open
}

// Batch is what is to be kept before prepared events are published: the events after the one numbered written, as far as the ring still
// has them, and these. whole: all that stands in for the past is to be kept again too.
func (r *Ring) Batch(written uint64, whole bool, prepared ...Prepared) (b history.Batch) {
	r.mu.Lock()
	defer r.mu.Unlock()
	newest := r.lives[len(r.lives)-1]
	b.Epoch, b.Kept = uint64(newest.epoch), r.log.len()
	b.Events = r.since(b.Events, max(written, newest.base)) // what is of an older epoch was kept then
	n := len(b.Events)
	b.Events, b.Past = r.next(b.Events, prepared)
	if b.Past == nil && (whole || written < r.log.last) { // that of events which could not be kept when they came
		b.Past = r.snapshot.now
	}
	if whole || max(written, newest.base) < r.log.before() {
		b.Older = r.snapshot.older(r.lives)
	}
	b.Kept += len(b.Events) - n
	if b.Kept > 0 && !r.lives.of(r.log.before()+1).alone {
		b.Oldest = r.lives.position(r.log.before() + 1)
	}
	b.Gone, r.snapshot.dropped = r.snapshot.dropped, nil
	return b
}

// next appends what is prepared, as it is to be kept, and returns what all events come to after it. mu is held.
func (r *Ring) next(dst []history.Event, prepared []Prepared) (events []history.Event, past []byte) {
	seq := r.log.last
	for _, p := range prepared {
		for i, m := range p.ms {
			seq++
			dst = append(dst, p.events[i].kept(r.lives.position(seq), keyOf(m)))
			if m.State != nil {
				past = m.State
			}
		}
	}
	return dst, past
}

func keyOf(m translate.Message) string {
	if m.Gap != "" {
		return ""
	}
	return m.Key
}

func (e *event) kept(p history.Position, key string) history.Event {
	return history.Event{Position: p, At: e.at.wall(), ID: e.id, Key: key, Data: e.bytes()}
}

// since appends the events after the one numbered seq, as far as they are there. mu is held.
func (r *Ring) since(dst []history.Event, seq uint64) []history.Event {
	for seq = max(seq, r.log.before()); seq < r.log.last; seq++ {
		if r.lives.of(seq + 1).alone {
			continue
		}
		e := r.log.at(seq)
		key := ""
		if e.keyed != nil {
			key = e.keyed.key
		}
		dst = append(dst, e.kept(r.lives.position(seq+1), key))
	}
	return dst
}

// Publish appends what was prepared, in the same order, and returns the number of the newest event.
func (r *Ring) Publish(prepared ...Prepared) uint64 {
	r.mu.Lock()
	defer r.unlock(false)
	n := 0
	for _, p := range prepared {
		if r.end.Kind != Open || len(p.events) > 0 && p.epoch != r.lives[len(r.lives)-1].epoch { // another process appends by now
			break
		}
		for i, m := range p.ms {
			r.add(m, p.events[i])
		}
		n += len(p.ms)
	}
	r.grown(n)
	return r.log.last
}

// Holds is part of [history.Follower].
func (r *Ring) Holds(p history.Position, key string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	cursor, ok := r.lives.cursor(Epoch(p.Epoch).prefix().id(p.Seq), r.log.last)
	if ok && cursor > r.log.before() {
		return true
	}
	el := r.snapshot.keys[key]
	return el != nil && (!ok || el.Value.(*keyed).seq == cursor || el.Value.(*keyed).seq == 0)
}

// Since returns what was kept after p, what is prepared included, and what all of it comes to; see [history.Follower].
func (r *Ring) Since(p history.Position, prepared ...Prepared) (events []history.Event, past []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	all, past := r.next(r.since(nil, 0), prepared)
	for _, e := range all {
		if p.Before(e.Position) {
			events = append(events, e)
		}
	}
	if past == nil {
		past = r.snapshot.now
	}
	return events, past
}

// Older is part of [history.Follower].
func (r *Ring) Older() (events []history.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.snapshot.older(r.lives)
}

// Undrop has keys be named again by the next Batch, since the store has not let go of them.
func (r *Ring) Undrop(keys []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.snapshot.dropped = append(keys, r.snapshot.dropped...)
}
