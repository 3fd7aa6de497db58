package stream

import (
	"time"

	"sidestream/proxy/history"
	"sidestream/translate"
)

// This file is a stream whose history is kept elsewhere too, over restarts or by several replicas. The rules:
//
//   - One process runs the source, for a term; the others follow what it appends. Where a folder keeps the history it is always this one.
//   - A term of a stream that was there before begins as one whose connection was lost: with a gap, unless the source can tell that nothing
//     was.

// finishedState is kept in the place of a source's state when the stream is finished: until LINGER has passed since its last event it
// is finished in the next process too.
const finishedState = "\x00finished"

// load takes in what is known of the stream. Until it is done, clients wait; where this process leads at once, until its term has begun, which may
// begin with a gap that whoever has no place is not to be told of too.
func (st *Stream) load() {
	s := st.streams
	if s.History == nil {
		st.loaded.lift()
		return
	}
	kept, loaded, err := s.History.Open(st.alive, s.Route, st.req.Key, uint64(st.Ring.Epoch()))
	if err != nil {
		st.log.Error("the stream's history cannot be opened, it goes on without", "err", err)
		st.loaded.lift()
		return
	}
	st.kept = kept
	st.Ring.Restore(loaded)
	if !kept.Brief() {
		st.Ring.share(kept.Refresh)
		defer st.loaded.lift()
	}
	st.restore()
	if n := len(loaded.Events); n > 0 && string(loaded.State) == finishedState && time.Since(loaded.Events[n-1].At).Abs() < s.Linger { // the clock may have been set back since
		st.Ring.Close(End{Kind: Finished})
	}
}

// restore notes that what is in the ring was there before.
func (st *Stream) restore() {
	last, _ := st.Ring.Last()
	st.restored.Store(last)
}

// missed appends the gap that is owed. Where it tells of what came since the process before, who begins here has no place that it was lost after, or
// is told of that by itself.
func (st *Stream) missed() {
	was, _ := st.Ring.Last()
	st.append(translate.Message{Gap: translate.GapUpstream})
	if st.kept != nil && was == st.restored.Load() {
		st.restore()
	}
}

// follow returns when this process is to run the source, and begins the term; false: the stream is over.
func (st *Stream) follow() bool {
	if st.kept == nil {
		return true
	}
	defer st.loaded.lift()
	if st.led {
		st.renew()
	}
	t, err := st.kept.Lead(st.alive, st)
	if err != nil {
		st.over()
		return false
	}
	st.begin(t)
	return true
}

// begin begins a term.
func (st *Stream) begin(t history.Term) {
	if st.led { // what the source knew is of then
		st.source = st.streams.source(&st.req, st.log)
	}
	first := !st.led
	st.led = true
	finished := string(t.State) == finishedState
	st.resumes = !finished && len(t.State) > 0 && st.resume(t)
	st.was, st.heard, st.refusing = false, false, time.Time{}
	if t.Epoch == 0 {
		st.Ring.BeginAlone(st.lists && !st.resumes)
	} else {
		st.Ring.Begin(Epoch(t.Epoch), st.lists && !st.resumes)
	}
	written, _ := st.Ring.Last()
	st.outbox.open(written, t.Epoch == 0)
	if t.Damaged {
		st.append(translate.Message{Gap: translate.GapHistory})
		if first { // who begins here has no place that it was lost after, or is told of that by itself
			st.restore()
		}
	}
	st.owed = t.Again && !t.Damaged && !finished
}

// resume has the source go on where the last one stopped.
func (st *Stream) resume(t history.Term) bool {
	err := st.source.Restore(t.State, t.Past)
	if err != nil {
		st.log.Warn("what the upstream needs to go on cannot be read, it begins anew", "err", err)
		st.source = st.streams.source(&st.req, st.log)
	}
	return err == nil
}

// over reports whether the stream has ended in another process, or the one before.
func (st *Stream) over() bool {
	_, end := st.Ring.Last()
	switch end.Kind {
	case Finished:
		st.streams.report(st, true, nil)
	case Refused:
		st.refused.Store(&translate.Refused{Status: end.Status, Reason: "the upstream refused it where another replica asked"})
	default:
		return false
	}
	st.loaded.lift()
	st.tell()
	return true
}

// Follows is part of [history.Follower]. Whether the source is connected, the one who runs it knows.
func (st *Stream) Follows() {
	st.Ring.Follows()
	st.connected()
}

// TermOver is part of [history.Follower].
func (st *Stream) TermOver() {
	st.ends.Lock()
	defer st.ends.Unlock()
	st.alive.end()
}

// stop ends the stream.
func (st *Stream) stop() {
	st.ends.Lock()
	defer st.ends.Unlock()
	st.gone = true
	st.alive.end()
}

// isGone reports whether the stream has ended, rather than a term of its.
func (st *Stream) isGone() bool {
	st.ends.Lock()
	defer st.ends.Unlock()
	return st.gone || st.streams.alive.Err() != nil
}

// renew goes on after a term.
func (st *Stream) renew() {
	st.ends.Lock()
	defer st.ends.Unlock()
	if !st.gone {
		st.alive = new(living)
	}
}

// Take is part of [history.Follower].
func (st *Stream) Take(events, older []history.Event, past []byte, hole bool) {
	st.Ring.Follow(events, older, past, hole)
}

// Holds is part of [history.Follower].
func (st *Stream) Holds(p history.Position, key string) bool { return st.Ring.Holds(p, key) }

// Older is part of [history.Follower].
func (st *Stream) Older() []history.Event { return st.Ring.Older() }
