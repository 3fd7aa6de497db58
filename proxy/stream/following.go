package stream

import (
	"context"

	"sidestream/proxy/history"
	"sidestream/translate"
	"sidestream/translate/sse"
)

// This file is the ring of a stream that several processes share: one appends, and the others' rings follow. The rules:
//
//   - An event has the same id everywhere. Its number in the ring is that of its epoch's beginning and its seq.
//   - What is missing before an event is said by one gap at the place before it.
//   - A client may come from a process that has more than this one. It keeps its own account of that: see ahead.

// maxLives bounds the epochs that a ring knows. A stream gets a new one when its source runs elsewhere.
const maxLives = 64

// turn has what follows be of epoch: after the event numbered base. The epoch that a ring is made with goes unused where another one comes
// before its first event. mu is held.
func (r *Ring) turn(epoch Epoch, base uint64) {
	if r.lives[len(r.lives)-1].epoch != epoch {
		r.live(newLife(epoch, base))
	}
	r.begun = true
}

// live begins a life.
func (r *Ring) live(l life) {
	r.turns++
	if l.turn = r.turns; !r.begun {
		r.lives = numbering{l}
		return
	}
	if r.lives = append(r.lives, l); len(r.lives) > maxLives {
		r.lives = append(r.lives[:0:0], r.lives[1:]...)
		for r.log.len() > 0 && r.log.before() < r.lives[0].base { // what has no number any more
			r.snapshot.detach(r.log.drop(), r.bounds)
		}
	}
}

// Begin has what is appended from now on be of epoch. history: what is appended first was there before.
func (r *Ring) Begin(epoch Epoch, history bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.turn(epoch, r.log.last)
	r.history, r.follows = history, false
}

// BeginAlone has what is appended from now on be of the epoch that the ring was made with: no store knows of it.
func (r *Ring) BeginAlone(history bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.begun {
		r.live(newLife(r.own, r.log.last))
	}
	r.begun, r.history, r.follows = true, history, false
	r.lives[len(r.lives)-1].alone = true
}

// Follows lets the ring know that another process appends.
func (r *Ring) Follows() {
	r.mu.Lock()
	defer r.unlock(false)
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

// Follow takes in what another process has appended after what the ring has. hole: what came before the first of the events is missing, and
// older are those that stand in for it as the newest of their key. past is what all of them come to; nil: as before.
func (r *Ring) Follow(events, older []history.Event, past []byte, hole bool) {
	r.mu.Lock()
	defer r.unlock(false)
	if r.end.Kind != Open || len(events) == 0 {
		return
	}
	for _, e := range older {
		r.take(e, 0)
	}
	if hole {
		r.jump(events[0].Position)
	}
	for i := range events {
		r.followOne(&events[i])
	}
	if past != nil {
		r.snapshot.now, r.snapshot.whole, r.snapshot.at = past, nil, 0
	}
	r.told()
	r.snapshot.dropped = nil // whoever appends has the store let go of keys
	r.evict()
	r.wake()
}

func (r *Ring) followOne(e *history.Event) {
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
		r.take(*e, r.log.last)
		r.stats.Events.Add(1)
		r.stats.Bytes.Add(int64(len(e.Data)))
	}
}

// meet sees to it that the event at p, which is of the newest epoch, gets the number that it has there: a ring that has nothing yet begins
// with it, and otherwise something is missing.
func (r *Ring) meet(p history.Position) {
	newest := r.lives[len(r.lives)-1]
	switch {
	case p.Seq == 0 || newest.base+p.Seq == r.log.last+1:
	case r.log.len() == 0 && newest.base+p.Seq > r.log.last:
		r.log.begin(newest.base + p.Seq - 1)
	default:
		r.jump(p)
	}
}

// jump leaves out what came before the event at p, and lets go of all that is kept: it leads nowhere. One gap says so, at the place
// before p.
func (r *Ring) jump(p history.Position) {
	for r.log.len() > 0 {
		r.snapshot.detach(r.log.drop(), r.bounds)
	}
	r.log.compact()
	before, base := max(p.Seq, 1)-1, r.log.last+1
	if newest := r.lives[len(r.lives)-1]; newest.epoch == Epoch(p.Epoch) && newest.base+before > r.log.last {
		base = newest.base
	}
	r.turn(Epoch(p.Epoch), base)
	r.log.last = r.lives[len(r.lives)-1].base + before
	r.hole = r.log.last
	r.keep(r.gapAt(Epoch(p.Epoch).prefix().id(before)))
}

// gapAt is a gap that no process has appended, at the place that id is.
func (r *Ring) gapAt(id string) event {
	e := event{at: now(), id: id}
	e.chunk = r.log.encode(r.log.bytes, len(id), func(dst []byte) []byte { return sse.AppendGap(dst, id, translate.GapHistory, -1) })
	r.stats.gap(translate.GapHistory)
	return e
}

func (r *Ring) share(refresh func(context.Context)) {
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

// FindAnywhere is [Ring.Find] for a client that may come from another replica, which is ahead of this one: an id that may be of the ring's
// and is not known is looked for in the store. The holder's clients may be ahead of that too, while the holder cannot reach it: at a replica
// that follows, such a client waits until its place is reached. Where the epoch ends before, a gap tells it, and it alone.
func (r *Ring) FindAnywhere(ctx context.Context, id string) (cursor uint64, ok bool) {
	cursor, ok = r.Find(id)
	r.mu.Lock()
	refresh, newest := r.refresh, r.lives[len(r.lives)-1].epoch
	r.mu.Unlock()
	if ok || refresh == nil || !newest.reaches(id) {
		return cursor, ok
	}
	refresh(ctx)
	if cursor, ok = r.Find(id); ok {
		return cursor, ok
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	last := &r.lives[len(r.lives)-1]
	seq, ok := last.ids.seq(id)
	if !ok || !r.follows || r.end.Kind != Open || r.log.last == 0 || seq > maxSeq {
		return 0, false
	}
	return ahead(last.turn, seq), true
}

// A cursor of a client that is ahead of the ring is no number of an event: it holds the life, by its turn, and the seq that the client has.
const (
	isAhead = 1 << 62
	maxTurn = 1<<30 - 1
	maxSeq  = 1<<32 - 1
)

// Ahead reports whether a cursor is none yet: its client waits until the ring has come to its place.
func Ahead(cursor uint64) bool { return !Pending(cursor) && cursor >= isAhead }

func ahead(turn uint32, seq uint64) uint64 { return isAhead | uint64(turn&maxTurn)<<32 | seq }

// land makes a place of a cursor that is ahead, once its life has come so far. lost: the life has ended before, and the client gets a gap and
// goes on at the place returned. Otherwise it is the cursor that it was.
func (r *Ring) land(cursor uint64) (at uint64, lost bool) {
	if Pending(cursor) || cursor < isAhead {
		return cursor, false
	}
	turn, seq := uint32(cursor>>32)&maxTurn, cursor&maxSeq
	for i := range r.lives {
		if l := &r.lives[i]; l.turn&maxTurn == turn {
			last := r.log.last
			if i < len(r.lives)-1 {
				last = r.lives[i+1].base
			}
			switch {
			case l.base+seq <= last:
				return l.base + seq, false
			case i == len(r.lives)-1:
				return cursor, false
			}
			return last, true
		}
	}
	return max(r.lives[0].base, 1), true // the life is forgotten
}
