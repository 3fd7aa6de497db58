package stream

import (
	"bytes"
	"context"
	"errors"
	"sync"

	"sidestream/proxy/history"
	"sidestream/proxy/upstream"
	"sidestream/translate"
)

// This file is the way of a stream's events into its history. The rules:
//
//   - An event is kept before a client is given it, together with what the source needs to go on after it.
//   - While a batch is on its way the next one gathers. The source waits only where too much has, or where it says that what it has
//     emitted has to be kept: an acknowledgement, the end.
//   - Once the ring has ended, or the term is over, nothing that comes is taken any more, and with it not what the source would go on with after it:
//     whoever goes on does so where the last event that is kept stands. The source is told, so that it acknowledges nothing.
//   - Where keeping fails the stream goes on without: what is not kept yet is kept with the next event, or once the store lets the stream
//     know that it can be, as far as the ring still has it.

// maxGathered bounds the bytes that gather, about.
const maxGathered = 1 << 20

// outbox is what a stream's source has emitted and the history does not have. The zero value is empty.
type outbox struct {
	mu      sync.Mutex // guards what follows
	changed sync.Cond  // on mu; see busy and size
	waiting []Prepared
	flying  []Prepared // those of the batch that is on its way
	ahead   int        // events prepared and not published
	size    int        // bytes of those that wait
	state   []byte     // what the source needs to go on after them; nil: as before
	saved   []byte     // the state that was kept last
	end     int        // how the stream ends after them
	again   bool       // what could not be kept is to be tried
	busy    bool       // a batch is on its way
	whole   bool       // all that stands in for the past is to be kept again
	alone   bool       // the store has not been there in this term
	unkept  bool       // the last batch could not be kept
	running bool       // within a term; otherwise nothing is kept, nor published
	written uint64     // number of the newest event that is kept
}

// append gives messages to the ring, once they are kept where a history is.
func (st *Stream) append(ms ...translate.Message) {
	if st.kept == nil {
		st.appendNow(ms)
		return
	}
	o := st.outbox
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.running || st.stopped() != nil {
		return
	}
	prepared := st.Ring.Prepare(o.ahead, ms...)
	if !prepared.open {
		return
	}
	o.put(prepared)
	if state := st.source.Save(); state != nil {
		o.state = state
	}
	st.send()
	for o.busy && o.size > maxGathered && o.running {
		o.changed.Wait()
	}
}

// appendNow gives messages to the ring, and wakes the clients when that costs least.
func (st *Stream) appendNow(ms []translate.Message) {
	comes := upstream.ComesLater
	if len(ms) > 0 {
		comes = st.comes()
	}
	switch comes {
	case upstream.ComesNothing:
		st.Ring.AppendLast(ms...)
	case upstream.ComesMore:
		st.Ring.AppendMore(ms...)
	default:
		st.Ring.Append(ms...)
	}
}

// stopped is why nothing more is taken, nil while it is. The ring of a stream that is retired ends before its source does.
func (st *Stream) stopped() error {
	if err := st.alive.Err(); err != nil {
		return err
	}
	if st.kept != nil && st.Ring.ended() {
		return upstream.ErrRetired
	}
	return nil
}

func (o *outbox) put(p Prepared) {
	o.waiting = append(o.waiting, p)
	o.ahead += len(p.events)
	for i := range p.events {
		o.size += len(p.events[i].chunk)
	}
}

// settle returns once everything emitted before is kept, or could not be. really: what could not be is waited for too, as long as the term lasts,
// where another process may have to go on from what is kept.
func (st *Stream) settle(really bool) {
	if st.kept == nil {
		return
	}
	o := st.outbox
	if really = really && !st.kept.Brief(); really {
		defer context.AfterFunc(st.alive, o.wake)()
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.busy || really && o.unkept && o.running && !o.alone && st.alive.Err() == nil {
		o.changed.Wait()
	}
}

// wake has those that wait look again.
func (o *outbox) wake() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.changed.Broadcast()
}

// writeEnd notes how the stream has ended, and returns once that is kept. state is kept in the place of the source's; nil: that stays.
func (st *Stream) writeEnd(end int, state []byte) {
	if st.kept == nil {
		return
	}
	o := st.outbox
	o.mu.Lock()
	if o.end = end; state != nil {
		o.state = state
	}
	st.send()
	o.mu.Unlock()
	st.settle(false)
}

// send has what waits be kept. mu is held, and let go of meanwhile where that is brief.
func (st *Stream) send() {
	o := st.outbox
	switch {
	case o.busy || !o.running:
	case st.kept.Brief():
		o.busy = true
		o.mu.Unlock()
		st.keep()
		o.mu.Lock()
	default:
		o.busy = true
		st.streams.run.Go(st.keep) // ends when nothing waits, or with the term
	}
}

// keep sends batches until nothing waits.
func (st *Stream) keep() {
	o := st.outbox
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.running && o.due() {
		if st.Ring.ended() { // another stream goes on from what is kept; clients are given nothing of this
			o.running = false
			break
		}
		batch, b := o.waiting, history.Batch{}
		state, end, whole := o.state, o.end, o.whole
		o.flying, o.whole = batch, false
		o.waiting, o.size, o.state, o.end, o.again = nil, 0, nil, 0, false
		o.mu.Unlock()
		b = st.Ring.Batch(o.written, whole, batch...)
		b.State, b.End = state, end
		err := st.kept.Append(b)
		o.mu.Lock()
		o.flying = nil
		if errors.Is(err, history.ErrClosed) { // another stream goes on from here
			o.running = false
			break
		}
		o.publish(st.Ring, batch, err == nil)
		if o.unkept = err != nil; err != nil {
			o.whole = o.whole || whole
			st.Ring.Undrop(b.Gone)
		}
		if err == nil && state != nil {
			o.saved = state
		} else if err != nil && o.state == nil {
			o.state, o.end = state, end
		}
		o.changed.Broadcast()
		if err != nil && len(o.waiting) == 0 {
			break
		}
	}
	o.busy = false
	o.changed.Broadcast()
}

// due reports whether there is anything to keep.
func (o *outbox) due() bool {
	events := false
	for _, p := range o.waiting {
		events = events || len(p.events) > 0
	}
	if !events && o.end == 0 && !o.again && (o.state == nil || bytes.Equal(o.state, o.saved)) {
		o.waiting = nil
		return false
	}
	return true
}

// Since is part of [history.Follower]: with what is on its way, which the store may have had already.
func (st *Stream) Since(p history.Position) ([]history.Event, []byte) {
	o := st.outbox
	o.mu.Lock()
	defer o.mu.Unlock()
	return st.Ring.Since(p, o.flying...)
}

// publish shows clients what was kept, or could not be.
func (o *outbox) publish(ring *Ring, batch []Prepared, kept bool) {
	for _, p := range batch {
		o.ahead -= len(p.events)
	}
	if last := ring.Publish(batch...); kept {
		o.written = last
	}
}

// open begins a term, in which the events up to the one numbered written are kept.
func (o *outbox) open(written uint64, alone bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.alone, o.unkept, o.whole = alone, false, false
	o.waiting, o.ahead, o.size, o.state, o.saved, o.end, o.again, o.running, o.written = nil, 0, 0, nil, nil, 0, false, true, written
}

// close ends it, and returns when nothing is on its way any more.
func (o *outbox) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.running = false
	o.changed.Broadcast()
	for o.busy {
		o.changed.Wait()
	}
}

// Retry is part of [history.Follower].
func (st *Stream) Retry(epoch uint64) {
	o := st.outbox
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.running {
		return
	}
	if epoch != 0 {
		for o.busy {
			o.changed.Wait()
		}
		st.Ring.Begin(Epoch(epoch), false)
		o.written, _ = st.Ring.Last()
		o.alone, o.whole = false, true
		o.put(st.Ring.Prepare(o.ahead, translate.Message{Gap: translate.GapHistory})) // whoever follows has not seen what came meanwhile
	}
	o.again = true
	st.send()
}
