package stream

import (
	"context"
	"time"

	"sidestream/proxy/history"
	"sidestream/translate"
	"sidestream/translate/sse"
)

// This file is the ring of a stream whose history is kept elsewhere too: what is known of it is taken in when it begins, what other
// processes append is taken in as it comes, and an event of this one's is not shown to clients before it is kept.

// Restore takes in what is known of the stream from before, oldest first. Called once, before anything is appended.
func (r *Ring) Restore(l history.Loaded) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.snapshot.telling = true
	for _, e := range l.Events[:l.Older] {
		r.take(e, 0)
	}
	rest := l.Events[l.Older:]
	if len(rest) > 0 {
		// The number of an event of the first epoch is its seq, so that what was let go of is counted.
		r.log.last = rest[0].Seq - 1
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
	if l.Epoch != 0 { // what a list had before is there
		r.history = false
	}
	r.evict(time.Now())
}

// turn has what follows be of epoch: after the event numbered base. The epoch that a ring is made with goes unused where another one comes
// before its first event. mu is held.
func (r *Ring) turn(epoch Epoch, base uint64) {
	switch newest := r.lives[len(r.lives)-1]; {
	case newest.epoch == epoch:
	case !r.begun:
		r.lives = numbering{newLife(epoch, base)}
	default:
		r.lives = append(r.lives, newLife(epoch, base))
	}
	r.begun = true
	if len(r.lives) > maxLives {
		r.lives = append(r.lives[:0:0], r.lives[1:]...)
		for r.log.len() > 0 && r.log.before() < r.lives[0].base { // what has no number any more
			r.snapshot.detach(r.log.drop(), r.bounds)
		}
	}
}

// maxLives bounds the epochs that a ring knows. A stream gets a new one when its source runs elsewhere.
const maxLives = 64

// BeginAlone has what is appended from now on be of the epoch that the ring was made with: no store knows of it.
func (r *Ring) BeginAlone(history bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.begun {
		r.lives = append(r.lives, newLife(r.own, r.log.last))
	}
	r.begun, r.history, r.follows = true, history, false
	r.lives[len(r.lives)-1].alone = true
}

// Begin has what is appended from now on be of epoch. history: what is appended first was there before. lost: clients have come with a
// place that nobody knows any more, and a gap has to follow.
func (r *Ring) Begin(epoch Epoch, history bool) (lost bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	lost = r.pass()
	r.turn(epoch, r.log.last)
	r.history, r.follows = history, false
	return lost
}

// Follows lets the ring know that another process appends.
func (r *Ring) Follows() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.follows = true
	r.told()
}

// told notes that there is no history to wait for: another process tells what there is.
func (r *Ring) told() {
	if r.history {
		r.history, r.began = false, r.start()
		r.wake()
	}
}

// take takes in e as the event numbered seq, or, where that is 0, only as the newest of its key.
func (r *Ring) take(e history.Event, seq uint64) {
	kept := event{at: e.At, id: e.ID}
	kept.chunk, kept.front = r.log.encode(len(e.Data), func(dst []byte) []byte { return append(dst, e.Data...) })
	r.snapshot.note(translate.Message{Key: e.Key}, &kept, seq, r.bounds)
	if seq == 0 {
		if kept.keyed != nil {
			kept.keyed.was = e.Position
		}
		r.snapshot.detach(kept.keyed, r.bounds)
		return
	}
	r.log.add(kept)
}

// Follow takes in what another process has appended after what the ring has. hole: what came before the first of the events is
// missing, which a gap says. past is what all of them come to; nil: as before.
func (r *Ring) Follow(events, older []history.Event, past []byte, hole bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.end.Kind != Open || len(events) == 0 {
		return
	}
	for _, e := range older {
		r.take(e, 0)
	}
	if hole {
		r.pass()
		r.skip(events[0].Position)
	}
	for _, e := range events {
		if Epoch(e.Epoch) != r.lives[len(r.lives)-1].epoch && r.pass() {
			r.skip(e.Position)
		}
		r.turn(Epoch(e.Epoch), r.log.last)
		r.meet(e.Position)
		switch {
		case e.Seq == 0: // no more than a new epoch
		case e.End == history.EndFinished:
			r.ends(End{Kind: Finished})
		case e.End != 0:
			r.ends(End{Kind: Refused, Status: e.End})
		default:
			r.log.last++
			r.take(e, r.log.last)
			r.stats.Events.Add(1)
			r.stats.Bytes.Add(int64(len(e.Data)))
		}
	}
	if past != nil {
		r.snapshot.now, r.snapshot.whole, r.snapshot.at = past, event{}, 0
	}
	r.told()
	r.snapshot.dropped = nil // whoever appends has the store let go of keys
	r.evict(time.Now())
	r.wake()
}

// meet sees to it that the event at p, which is of the newest epoch, gets the number that it has there: a ring that has nothing yet begins
// with it, and otherwise something is missing.
func (r *Ring) meet(p history.Position) {
	newest := r.lives[len(r.lives)-1]
	switch {
	case p.Seq == 0 || newest.base+p.Seq == r.log.last+1:
	case r.log.len() == 0 && newest.base+p.Seq > r.log.last:
		r.log.last = newest.base + p.Seq - 1
	default:
		r.skip(p)
	}
}

// skip leaves out what came before the event at p, and lets go of all that is kept: it leads nowhere. One gap says so, at the place
// before p.
func (r *Ring) skip(p history.Position) {
	r.clear()
	before, base := max(p.Seq, 1)-1, r.log.last+1
	if newest := r.lives[len(r.lives)-1]; newest.epoch == Epoch(p.Epoch) && newest.base+before > r.log.last {
		base = newest.base
	}
	r.turn(Epoch(p.Epoch), base)
	r.log.last = r.lives[len(r.lives)-1].base + before
	m := translate.Message{Gap: translate.GapHistory}
	id := Epoch(p.Epoch).prefix().id(before)
	e := event{at: time.Now(), id: id}
	e.chunk, e.front = r.log.encode(len(id), func(dst []byte) []byte { return sse.AppendGap(dst, id, m.Gap, -1) })
	r.hole = r.log.last
	r.stats.gap(m.Gap)
	r.log.add(e)
}

// Prepared are events that clients are not shown yet.
type Prepared struct {
	epoch  Epoch
	ms     []translate.Message
	events []event
	at     time.Time
}

// Prepare encodes messages, and numbers them as those after the newest event and ahead others that were prepared and not published.
func (r *Ring) Prepare(ahead int, ms ...translate.Message) (p Prepared) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.end.Kind != Open {
		return p
	}
	p = Prepared{epoch: r.lives[len(r.lives)-1].epoch, ms: ms, at: time.Now()}
	for i, m := range ms {
		p.events = append(p.events, r.encode(m, r.log.last+uint64(ahead+i)+1, p.at))
	}
	return p
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
	return history.Event{Position: p, At: e.at, ID: e.id, Key: key, Data: e.bytes()}
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
	defer r.mu.Unlock()
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
	r.grown(n, time.Now())
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

func (r *Ring) share(refresh func(context.Context) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refresh = refresh
}

// Shared reports whether others may have appended what the ring does not have yet, so that an id that it does not know is asked for.
func (r *Ring) Shared() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.refresh != nil
}

// maxAhead is how far ahead of this replica another one is believed to be.
const maxAhead = 10000

// FindAnywhere is [Ring.Find] for a client that may come from another replica, which is ahead of this one: an id that may be of the ring's
// and is not known is looked for in the store. While the store is away, or was a moment ago, the holder's clients are ahead of what others know:
// at a replica that follows, such a client waits at its place. Where the epoch ends before that is reached, a gap says so.
func (r *Ring) FindAnywhere(ctx context.Context, id string) (cursor uint64, ok bool) {
	cursor, ok = r.Find(id)
	r.mu.Lock()
	refresh, newest := r.refresh, r.lives[len(r.lives)-1].epoch
	r.mu.Unlock()
	if ok || refresh == nil || !newest.reaches(id) {
		return cursor, ok
	}
	sure := refresh(ctx)
	if cursor, ok = r.Find(id); ok || sure {
		return cursor, ok
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	last := &r.lives[len(r.lives)-1]
	seq, ok := last.ids.seq(id)
	if !ok || !r.follows || seq > r.log.last-min(r.log.last, last.base)+maxAhead {
		return 0, false
	}
	cursor = last.base + seq
	r.ahead = max(r.ahead, cursor)
	return cursor, true
}

// pass lets go of all that is kept where an epoch ends before the place that clients have come with: true, and a gap has to follow.
func (r *Ring) pass() bool {
	if r.ahead <= r.log.last {
		return false
	}
	r.clear()
	r.log.last, r.ahead = r.ahead, 0
	r.hole = r.log.last + 1
	return true
}

// clear lets go of all events.
func (r *Ring) clear() {
	for r.log.len() > 0 {
		r.snapshot.detach(r.log.drop(), r.bounds)
	}
	r.log.compact()
}

// Undrop has keys be named again by the next Batch, since the store has not let go of them.
func (r *Ring) Undrop(keys []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.snapshot.dropped = append(keys, r.snapshot.dropped...)
}

// Newest is where the newest event stands.
func (r *Ring) Newest() history.Position {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lives.position(r.log.last)
}
