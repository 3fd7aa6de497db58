package stream

import (
	"time"

	"sidestream/proxy/history"
	"sidestream/translate"
)

// This file is the ring of a stream whose history outlives the process: what was kept is taken in when it begins, and an event is
// not shown to clients before it is written.

// Restore takes in what is known of the stream from before, oldest first. Called once, before anything is appended.
func (r *Ring) Restore(l history.Loaded) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range l.Events[:l.Older] {
		r.take(e, 0)
	}
	rest := l.Events[l.Older:]
	var lives numbering
	if len(rest) > 0 {
		// The number of an event of the first epoch is its seq, so that what was let go of is counted.
		r.log.last = rest[0].Seq - 1
		lives = numbering{{ids: Epoch(rest[0].Epoch).prefix()}}
	} else if l.Epoch != 0 {
		lives = numbering{{ids: Epoch(l.Epoch).prefix()}}
	}
	for i, e := range rest {
		if i > 0 && e.Epoch != rest[i-1].Epoch {
			lives = append(lives, life{Epoch(e.Epoch).prefix(), r.log.last})
		}
		r.log.last++
		r.take(e, r.log.last)
	}
	if n := len(rest); n > 0 && rest[n-1].Epoch < l.Epoch { // which no event is of
		lives = append(lives, life{Epoch(l.Epoch).prefix(), r.log.last})
	}
	r.lives = append(lives, life{r.epoch.prefix(), r.log.last})
	if l.Past != nil {
		r.snapshot.now = l.Past
	}
	r.evict(time.Now())
}

// take takes in e as the event numbered seq, or, where that is 0, only as the newest of its key.
func (r *Ring) take(e history.Event, seq uint64) {
	kept := event{at: e.At, id: e.ID}
	kept.chunk, kept.front = r.log.encode(len(e.Data), func(dst []byte) []byte { return append(dst, e.Data...) })
	r.snapshot.note(translate.Message{Key: e.Key}, &kept, seq, r.bounds)
	if seq == 0 {
		r.snapshot.detach(kept.keyed, r.bounds)
		return
	}
	r.log.add(kept)
}

// Prepared are events that clients are not shown yet.
type Prepared struct {
	ms     []translate.Message
	events []event
	at     time.Time
}

// Prepare numbers and encodes messages for the next [Ring.Publish]. Nothing may be appended in between. b is what is to be written
// before: the events after the one numbered written, as far as they are still kept, and these.
func (r *Ring) Prepare(written uint64, ms ...translate.Message) (p Prepared, b history.Batch) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p = Prepared{ms: ms, at: time.Now()}
	if r.end.Kind != Open {
		return Prepared{}, b
	}
	newest := r.lives[len(r.lives)-1]
	b.Epoch, b.Kept = uint64(r.epoch), r.log.len()+len(ms)
	show := func(e *event, key string, seq uint64) {
		if seq > newest.base { // what is of an older epoch was written then
			b.Events = append(b.Events, history.Event{Position: history.Position{Epoch: b.Epoch, Seq: seq - newest.base}, At: e.at, ID: e.id, Key: key, Data: e.bytes()})
		}
	}
	for seq := max(written, r.log.before()); seq < r.log.last; seq++ {
		e := r.log.at(seq)
		key := ""
		if e.keyed != nil {
			key = e.keyed.key
		}
		show(e, key, seq+1)
	}
	for i, m := range ms {
		seq := r.log.last + uint64(i) + 1
		e := r.encode(m, seq, p.at)
		p.events = append(p.events, e)
		key := m.Key
		if m.Gap != "" {
			key = ""
		}
		show(&e, key, seq)
		if m.State != nil {
			b.Past = m.State
		}
	}
	return p, b
}

// Publish appends what was prepared, and returns the number of the newest event.
func (r *Ring) Publish(p Prepared) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.end.Kind == Open {
		for i, m := range p.ms {
			r.add(m, p.events[i])
		}
		r.grown(len(p.ms), p.at)
	}
	return r.log.last
}

// Holds is [history.Holder]'s: it reports whether the event is kept, in the ring or as the newest of its key.
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
