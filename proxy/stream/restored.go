package stream

import (
	"errors"
	"time"

	"sidestream/proxy/history"
	"sidestream/translate"
)

// This file is a stream whose history outlives the process. The rules:
//
//   - An event is written before a client is given it, together with what the source needs to go on after it.
//   - A stream that was there before begins as one whose connection was lost: with a gap, unless the source can tell that nothing was.
//   - Where writing fails the stream goes on without: what is not written yet is written with the next event, as far as it is kept.

// restore begins the stream with what is known of it. false: nothing can be, and the stream is one without a history.
func (st *Stream) restore(epoch Epoch) bool {
	s := st.streams
	kept, loaded, err := s.History.Stream(s.Route, st.req.Key, uint64(epoch))
	if err != nil {
		st.log.Error("the stream's history cannot be opened, it goes on without", "err", err)
		return false
	}
	finished := string(loaded.State) == finishedState
	st.resumes = !finished && len(loaded.State) > 0 && st.resume(loaded)
	st.Ring = NewRing(Epoch(kept.Epoch), s.Bounds, &s.Stats, st.source.History() && !st.resumes)
	st.Ring.Restore(loaded)
	st.restored, _ = st.Ring.Last()
	st.kept, st.written = kept, st.restored
	kept.Hold(st.Ring)
	st.begin()
	if loaded.Damaged {
		st.append(translate.Message{Gap: translate.GapHistory})
	}
	st.owed = loaded.Epoch != 0 && !loaded.Damaged && !finished
	if n := len(loaded.Events); finished && n > 0 && time.Since(loaded.Events[n-1].At) < s.Linger {
		st.Ring.Close(End{Kind: Finished})
	}
	return true
}

// begin has the epoch written, of which clients may be given places before there is an event.
func (st *Stream) begin() {
	_, b := st.Ring.Prepare(st.written)
	st.kept.Append(b) // where it fails the folder says so, and a client with such a place is told "restart"
}

// finishedState is written in the place of a source's state when the stream is finished: until LINGER has passed since its last event it
// is finished in the next process too.
const finishedState = "\x00finished"

// writeEnd notes that the stream is finished.
func (st *Stream) writeEnd() {
	if st.kept != nil {
		_, b := st.Ring.Prepare(st.written)
		b.State = []byte(finishedState)
		st.kept.Append(b)
	}
}

// over reports whether the stream was finished in the process before.
func (st *Stream) over() bool {
	_, end := st.Ring.Last()
	if end.Kind != Finished {
		return false
	}
	st.streams.report(st, true, nil)
	st.tell()
	return true
}

// resume has the source go on where the last one stopped.
func (st *Stream) resume(l history.Loaded) bool {
	err := st.source.Restore(l.State, l.Past)
	if err != nil {
		st.log.Warn("what the upstream needs to go on cannot be read, it begins anew", "err", err)
		st.source = st.streams.source(st.req, st.log)
	}
	return err == nil
}

// append gives messages to the ring, once they are written where a history is kept.
func (st *Stream) append(ms ...translate.Message) {
	if st.kept == nil {
		st.Ring.Append(ms...)
		return
	}
	p, b := st.Ring.Prepare(st.written, ms...)
	if b.Epoch == 0 { // the ring has ended
		return
	}
	b.State = st.source.Save()
	err := st.kept.Append(b)
	if errors.Is(err, history.ErrClosed) { // another stream goes on from here
		return
	}
	if last := st.Ring.Publish(p); err == nil {
		st.written = last
	}
}
