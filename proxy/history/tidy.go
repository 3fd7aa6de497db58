package history

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"time"
)

// tidyStep is about how many bytes are copied at once, while appends wait.
const tidyStep = 64 << 10

// sweepTime is how often streams are looked at that have been closed for the folder's TTL.
const sweepTime = time.Minute

// running is a folder that is looked after.
type running struct {
	*Folder
	stop context.CancelFunc
	done chan struct{}
}

// String is the folder.
func (s Settings) String() string { return s.Dir }

// Start opens the folder and looks after it until Stop. It fails as [Open] does.
func (s Settings) Start(log *slog.Logger) (Running, error) {
	s.Log = log
	f, err := Open(s)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	r := &running{Folder: f, stop: stop, done: make(chan struct{})}
	go func() { defer close(r.done); f.Run(ctx) }() // ends with Stop, which waits
	return r, nil
}

// Stop ends it. What cannot be synced is in the log.
func (r *running) Stop() {
	r.stop()
	<-r.done
	r.Close()
}

// Report returns how the folder is.
func (f *Folder) Report() Report {
	f.mu.Lock()
	defer f.mu.Unlock()
	st := &f.Stats
	r := Report{Up: !f.failing, Streams: len(f.streams), Files: len(f.segments), Appends: st.Appends.Load(), Events: st.Events.Load(), Bytes: st.Bytes.Load(),
		Copied: st.Copied.Load(), Failures: st.Failures.Load(), Damaged: st.Damaged.Load()}
	for _, e := range f.streams {
		if e.log != nil {
			r.Leading++
		}
	}
	for _, s := range f.segments {
		r.Size, r.Needed = r.Size+s.size, r.Needed+s.live
	}
	return r
}

// Run syncs, tidies up, asks for what could not be written, and forgets streams that have not been open for TTL, until ctx is done.
func (f *Folder) Run(ctx context.Context) {
	every := f.Sync
	if every <= 0 {
		every = time.Second // for the garbage
	}
	sync, sweep, again := time.NewTicker(every), time.NewTicker(min(sweepTime, max(f.TTL, time.Second))), time.NewTicker(retryTime)
	defer again.Stop()
	defer sync.Stop()
	defer sweep.Stop()
	f.tidy() // each process begins a segment, and what the ones before have left may not be needed any more
	for {
		select {
		case <-ctx.Done():
			return
		case <-sync.C:
			f.sync(f.Sync >= 0)
		case <-sweep.C:
			f.sweep(time.Now())
		case <-again.C:
			f.collect()
		case <-f.untidy:
			for f.rewrite(ctx) {
			}
		}
	}
}

// tidy has Run look whether there is too much that is not needed.
func (f *Folder) tidy() {
	select {
	case f.untidy <- struct{}{}:
	default:
	}
}

// sync has what was written reach the disk, unless really is false, and then removes what was copied.
func (f *Folder) sync(really bool) error {
	f.mu.Lock()
	garbage := f.garbage
	f.garbage = nil
	var dirty []*segment
	for _, s := range f.segments {
		if s.dirty {
			dirty, s.dirty = append(dirty, s), false
		}
	}
	f.mu.Unlock()
	var err error
	for _, s := range dirty {
		if really && err == nil {
			err = f.syncFile(segmentName(s.number))
		}
	}
	if really && err == nil && len(dirty) > 0 {
		err = f.syncFile(".") // a segment may be new
	}
	if err != nil {
		f.Log.Warn("the history cannot be synced", "err", plain(err))
		f.mu.Lock()
		defer f.mu.Unlock()
		f.garbage = append(garbage, f.garbage...)
		for _, s := range dirty {
			s.dirty = true
		}
		return err
	}
	for _, s := range garbage {
		os.Remove(f.path(segmentName(s.number)))
	}
	return nil
}

func (f *Folder) syncFile(file string) error {
	opened, err := os.Open(f.path(file))
	if err != nil {
		return err
	}
	defer opened.Close()
	return opened.Sync()
}

// sweep forgets the streams that have been closed for TTL.
func (f *Folder) sweep(now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range f.streams {
		if e.log == nil && now.Sub(e.idle) >= f.TTL {
			f.forget(e)
		}
	}
	f.tidy()
}

// victim is the segment of which the least is needed, if what is not needed is too much: more than what is and two segments.
func (f *Folder) victim() *segment {
	f.mu.Lock()
	defer f.mu.Unlock()
	var size, live int64
	var worst *segment
	for _, s := range f.segments[:len(f.segments)-1] {
		if s.hurt {
			s.hurt = false // it is tried once
			return s
		}
		size, live = size+s.size, live+s.live
		if s.live == 0 || worst == nil || s.live < worst.live {
			if worst = s; s.live == 0 {
				return s
			}
		}
	}
	if size <= 2*live+2*f.segmentSize {
		return nil
	}
	return worst
}

// rewrite copies what is needed of one segment to the last one, and has it removed. It returns whether there may be more to do.
func (f *Folder) rewrite(ctx context.Context) bool {
	s := f.victim()
	if s == nil || ctx.Err() != nil {
		return false
	}
	data, err := os.ReadFile(f.path(segmentName(s.number)))
	if err != nil {
		f.Log.Warn("the history cannot be tidied up", "err", plain(err))
		return false
	}
	numbers := map[uint32]*entry{}
	for at := len(segmentMagic); at < len(data); {
		if at, err = f.copy(s, data, at, numbers); err != nil {
			if ctx.Err() == nil {
				f.Log.Warn("the history cannot be tidied up", "err", plain(err))
			}
			return false
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.live > 0 { // its records did not all read
		return false
	}
	f.segments = slices.DeleteFunc(f.segments, func(x *segment) bool { return x == s })
	f.garbage = append(f.garbage, s)
	return true
}

// copy looks at the records from at on, about a step of them, and returns where the next step begins.
func (f *Folder) copy(s *segment, data []byte, at int, numbers map[uint32]*entry) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return at, ErrClosed
	}
	if f.lastSegment().size >= f.segmentSize {
		if err := f.begin(); err != nil {
			return at, err
		}
	}
	to := f.lastSegment()
	w := writing{buf: f.buf[:0], base: to.size, segment: to}
	var moved []func()
	defined := map[*entry]bool{}
	for start := at; at < len(data) && at-start < tidyStep; {
		r, err := readRecord(data[at:])
		if err != nil {
			at = len(data)
			break
		}
		if n, _, _, ok := r.define(); r.kind == kindDefine && ok {
			numbers[r.stream] = f.streams[n]
		}
		if e := numbers[r.stream]; e != nil {
			for _, place := range e.places(r, ref{s, uint32(at), uint32(r.size)}) {
				if !to.defined[e] && !defined[e] {
					w.add(func(b []byte) []byte { return appendDefine(b, e.number, e.name, e.epoch, e.born) })
					defined[e] = true
				}
				where := w.add(func(b []byte) []byte { return appendCopy(b, e.number, r) })
				moved = append(moved, func() { replace(place, where) })
			}
		}
		at += r.size
	}
	if err := f.write(&w); err != nil {
		return at, err
	}
	f.Stats.Copied.Add(int64(len(w.buf)))
	for e := range defined {
		to.defined[e] = true
	}
	for _, done := range moved {
		done()
	}
	return at, nil
}

// places are where e has the record at, none when it is not needed.
func (e *entry) places(r record, at ref) (all []*ref) {
	switch r.kind {
	case kindState:
		if e.state == at {
			all = append(all, &e.state)
		}
	case kindPast:
		if e.past == at {
			all = append(all, &e.past)
		}
	case kindOwes:
		if e.owed == at {
			all = append(all, &e.owed)
		}
	case kindEvent:
		event, _, _ := r.event()
		for _, list := range [][]kept{e.events, e.keyed} {
			if i, ok := index(list, event.Position); ok && list[i].ref == at {
				all = append(all, &list[i].ref)
			}
		}
	}
	return all
}

// Close ends the folder, once all its streams are closed and Run has returned: all is synced, and another process may have it.
func (f *Folder) Close() error {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	err := f.sync(f.Sync >= 0)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.release()
	return err
}
