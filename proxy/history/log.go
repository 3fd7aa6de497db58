package history

import (
	"context"
	"errors"
	"slices"
	"sort"
	"sync/atomic"
	"time"
)

// Stats counts what a folder does. Each is a total since the start, but for Failing.
type Stats struct {
	Appends  atomic.Int64 // batches
	Events   atomic.Int64
	Bytes    atomic.Int64 // written for them
	Copied   atomic.Int64 // bytes written to tidy up
	Failures atomic.Int64 // appends that failed
	Damaged  atomic.Int64 // segments and streams that were found damaged
	Failing  atomic.Bool  // the last append failed
}

// FolderLog is one stream of a folder, while it is open: a [Log] whose only process is this one.
type FolderLog struct {
	Epoch uint64 // of what is appended; its events are numbered from 1

	folder *Folder
	entry  *entry
	loaded Loaded // without events; until the term begins
	closed bool   // guarded by Folder.mu
}

// Lead is at once. Clients may be given places in the new epoch before it has events, so that it is written.
func (l *FolderLog) Lead(_ context.Context, f Follower) (Term, error) {
	l.folder.mu.Lock()
	kept := len(l.entry.events)
	if !l.closed {
		l.entry.open = f
	}
	l.folder.mu.Unlock()
	l.Append(Batch{Epoch: l.Epoch, Kept: kept}) // where it fails the folder says so, and a client with such a place is told "restart"
	was := l.loaded
	l.loaded = Loaded{}
	return Term{Epoch: l.Epoch, State: was.State, Past: was.Past, Again: was.Epoch != 0, Damaged: was.Damaged}, nil
}

// Refresh does nothing: nobody else appends.
func (l *FolderLog) Refresh(context.Context) {}

// Brief is true.
func (l *FolderLog) Brief() bool { return true }

// errOrder is a fault of the caller's.
var errOrder = errors.New("events are not in order")

// Append writes b; all of it is in the file when it returns, so that the process may be killed, and synced where the folder's Sync is 0.
// After an error nothing of it is, and the next batch has to begin with the same events, or with later ones, after which nothing
// before them is known any more.
func (l *FolderLog) Append(b Batch) error {
	f, e := l.folder, l.entry
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed || l.closed {
		return ErrClosed
	}
	if f.failing && time.Since(f.tried) < retryTime {
		if len(b.Events) > 0 {
			f.owe(e)
		}
		return errFailing
	}
	f.tried = time.Now()
	err := f.append(e, b)
	switch {
	case len(b.Events) == 0:
	case err == nil:
		f.pay(e)
	default:
		f.owe(e)
	}
	f.report(err)
	if err == nil && f.Sync == 0 {
		if err := f.current.Sync(); err != nil { // it is written all the same, and would be a second time
			f.Stats.Failures.Add(1)
			f.Log.Warn("the history cannot be synced", "err", plain(err))
		}
	}
	return err
}

// retryTime is how often writing is tried while it fails: what a stream has to write grows meanwhile.
const retryTime = time.Second

var errFailing = errors.New("the last event could not be written")

// report notes how an append went.
func (f *Folder) report(err error) {
	if err != nil {
		f.Stats.Failures.Add(1)
	}
	failing := err != nil
	changed := failing != f.failing
	f.failing = failing
	f.mark()
	if changed {
		f.Stats.Failing.Store(failing)
		if failing {
			f.Log.Error("events cannot be written to the history, streams go on without it", "err", plain(err))
		} else {
			f.Log.Info("events are written to the history again")
		}
	}
}

func (f *Folder) append(e *entry, b Batch) error {
	if f.lastSegment().size >= f.segmentSize {
		if err := f.begin(); err != nil {
			return err
		}
		f.tidy()
	}
	s := f.lastSegment()
	batch := writing{buf: f.buf[:0], base: s.size, segment: s}
	if !s.defined[e] {
		batch.add(func(buf []byte) []byte { return appendDefine(buf, e.number, e.name, e.epoch, e.born) })
	}
	last := e.last
	var events []kept
	for i := range b.Events {
		event := &b.Events[i]
		if !last.Before(event.Position) {
			return errOrder
		}
		where := batch.add(func(buf []byte) []byte { return appendEvent(buf, e.number, event, last) })
		events = append(events, kept{event.Position, where, event.Key})
		last = event.Position
	}
	state, past := e.state, e.past
	if b.State != nil {
		state = batch.add(func(buf []byte) []byte { return appendBlob(buf, kindState, e.number, last, b.State) })
	}
	if b.Past != nil {
		past = batch.add(func(buf []byte) []byte { return appendBlob(buf, kindPast, e.number, last, b.Past) })
	}
	if err := f.write(&batch); err != nil {
		return err
	}
	s.defined[e] = true
	if len(events) > 0 && len(e.events) > 0 && events[0].Epoch == e.last.Epoch && events[0].Seq != e.last.Seq+1 {
		e.cut(0) // events between were lost, since the disk was full: what stands before them leads nowhere
	}
	for _, k := range events {
		s.live += int64(k.size)
	}
	e.events, e.last = append(e.events, events...), last
	replace(&e.state, state)
	replace(&e.past, past)
	if e.cut(b.Kept) > tidyAfter { // what a process before had not let go of in the files
		f.tidy()
	}
	if len(e.keyed) > e.sorted {
		f.prune(e)
		e.sorted = 2*len(e.keyed) + 64
	}
	f.Stats.Appends.Add(1)
	f.Stats.Events.Add(int64(len(events)))
	f.Stats.Bytes.Add(int64(len(batch.buf)))
	return nil
}

// replace makes to the place of what from was.
func replace(from *ref, to ref) {
	if *from == to {
		return
	}
	from.free()
	to.segment.live += int64(to.size)
	*from = to
}

// tidyAfter is how many events a stream lets go of at once for the folder to be tidied up.
const tidyAfter = 64

// cut lets go of all but the newest events, and returns how many it has.
func (e *entry) cut(keep int) (over int) {
	if over = len(e.events) - max(keep, 0); over <= 0 {
		return 0
	}
	for _, k := range e.events[:over] {
		if k.key != "" && (e.open == nil || e.open.Holds(k.Position, k.key)) {
			e.keyed = append(e.keyed, k)
			continue
		}
		k.free()
	}
	clear(e.events[:over])
	// What is cut off at the front goes when append makes a new array: to move the rest each time would cost more than all else.
	if e.events = e.events[over:]; cap(e.events) > 64 && len(e.events) < cap(e.events)/4 {
		e.events = slices.Clone(e.events)
	}
	return over
}

// writing is a batch on its way.
type writing struct {
	buf     []byte
	base    int64
	segment *segment
	final   int // where the last record begins
}

// add appends a record, and returns where it will be.
func (w *writing) add(record func([]byte) []byte) ref {
	start := len(w.buf)
	w.final, w.buf = start, record(w.buf)
	return ref{w.segment, uint32(w.base) + uint32(start), uint32(len(w.buf) - start)}
}

// write puts a batch at the end of the last segment, all of it or nothing.
func (f *Folder) write(w *writing) error {
	f.buf = w.buf[:0]
	if cap(f.buf) > 1<<20 {
		f.buf = nil
	}
	if len(w.buf) == 0 {
		return nil
	}
	endBatch(w.buf[w.final:])
	n, err := f.current.WriteAt(w.buf, w.base)
	if err != nil {
		if n > 0 {
			f.current.Truncate(w.base)
		}
		return err
	}
	w.segment.size += int64(n)
	w.segment.dirty = true
	return nil
}

// Close ends the use of a stream, whose history is kept for the folder's TTL.
func (l *FolderLog) Close() {
	f, e := l.folder, l.entry
	f.mu.Lock()
	defer f.mu.Unlock()
	if l.closed {
		return
	}
	f.prune(e)
	l.closed = true
	e.log, e.open, e.idle = nil, nil, time.Now()
	if f.TTL <= 0 && !f.closed {
		f.forget(e)
	}
}

// prune lets go of the keyed events that the stream does not hold any more.
func (f *Folder) prune(e *entry) {
	e.keyed = slices.DeleteFunc(e.keyed, func(k kept) bool {
		gone := e.open != nil && !e.open.Holds(k.Position, k.key)
		if gone {
			k.free()
		}
		return gone
	})
}

// forget lets go of a stream. If it is read again before the segments have gone, it is too old then too.
func (f *Folder) forget(e *entry) {
	f.drop(e)
	if e.owed.free(); e.owes { // which is known as long as files have anything of it
		f.owing--
	}
	f.gone = max(f.gone, e.epoch)
	delete(f.streams, e.name)
	delete(f.lastSegment().defined, e)
}

// index finds the event at p.
func index(events []kept, p Position) (int, bool) {
	i := sort.Search(len(events), func(i int) bool { return !events[i].Position.Before(p) })
	return i, i < len(events) && events[i].Position == p
}
