package deliver

import (
	"sync"
	"sync/atomic"
	"time"
)

// deadlines are the times at which clients want to be woken: a heap, with one timer for all of them instead of several for
// each. It also ends writes that are stuck for too long, or must not go on, which their goroutines cannot do. The zero value has none. Safe for
// concurrent use.
type deadlines struct {
	mu    sync.Mutex // guards what follows, and pos and until of each deadline
	timer *time.Timer
	heap  []*deadline // the earliest first; the children of i are 2i+1 and 2i+2
}

// deadline is one client's, or one connection's.
type deadline struct {
	wake    func()       // it must not block
	cut     func()       // makes the present write fail
	began   atomic.Int64 // when that began, in ns since 1970; 0: there is none
	stalled atomic.Bool  // it was cut

	at    time.Time // what was set; the owner's alone
	until time.Time
	pos   int  // in heap, counted from 1; 0: not there
	over  bool // it is stopped
	short bool // see hurry
}

// set has d woken at the given time at the latest; it may be woken before that, and then sets it again.
func (ds *deadlines) set(d *deadline, at, now time.Time) {
	if d.at.After(now) && !d.at.After(at) {
		return
	}
	d.at = at
	ds.mu.Lock()
	defer ds.mu.Unlock()
	ds.put(d, at)
	ds.wind()
}

// stop forgets d: nothing of it is called any more.
func (ds *deadlines) stop(d *deadline) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	ds.remove(d)
	d.over = true
	if len(ds.heap) == 0 && ds.timer != nil {
		ds.timer.Stop()
	}
}

// hurry cuts the write that is under way, or another one, unless it ends within a moment: what it writes may be seen no more. Any
// goroutine may call it; after stop it does nothing.
func (ds *deadlines) hurry(d *deadline, now time.Time) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	if d.over {
		return
	}
	d.short = true
	ds.put(d, now.Add(moment))
	ds.wind()
}

// wind sets the timer for the earliest. mu is held, as it is below.
func (ds *deadlines) wind() {
	switch {
	case len(ds.heap) == 0:
	case ds.timer == nil:
		ds.timer = time.AfterFunc(time.Until(ds.heap[0].until), ds.fire)
	default:
		ds.timer.Reset(time.Until(ds.heap[0].until))
	}
}

// fire wakes those that are due.
func (ds *deadlines) fire() {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	for now := time.Now(); len(ds.heap) > 0 && !ds.heap[0].until.After(now); {
		d := ds.heap[0]
		ds.remove(d)
		if began := d.began.Load(); began != 0 && d.short {
			d.cut()
		} else if began != 0 {
			if end := time.Unix(0, began).Add(stallTime); end.After(now) {
				ds.put(d, end)
			} else {
				d.stalled.Store(true)
				d.cut()
			}
		}
		d.wake()
		if d.short { // until it is stopped
			ds.put(d, now.Add(moment))
		}
	}
	ds.wind()
}

// put moves d to its place for until.
func (ds *deadlines) put(d *deadline, until time.Time) {
	d.until = until
	if d.pos == 0 {
		ds.heap = append(ds.heap, d)
		d.pos = len(ds.heap)
	}
	ds.up(d.pos - 1)
	ds.down(d.pos - 1)
}

func (ds *deadlines) remove(d *deadline) {
	if d.pos == 0 {
		return
	}
	i, last := d.pos-1, len(ds.heap)-1
	ds.swap(i, last)
	ds.heap[last] = nil
	ds.heap, d.pos = ds.heap[:last], 0
	if i < last {
		ds.up(i)
		ds.down(i)
	}
}

func (ds *deadlines) up(i int) {
	for i > 0 && ds.before(i, (i-1)/2) {
		ds.swap(i, (i-1)/2)
		i = (i - 1) / 2
	}
}

func (ds *deadlines) down(i int) {
	for {
		child := 2*i + 1
		if child+1 < len(ds.heap) && ds.before(child+1, child) {
			child++
		}
		if child >= len(ds.heap) || !ds.before(child, i) {
			return
		}
		ds.swap(i, child)
		i = child
	}
}

func (ds *deadlines) before(i, j int) bool { return ds.heap[i].until.Before(ds.heap[j].until) }

func (ds *deadlines) swap(i, j int) {
	ds.heap[i], ds.heap[j] = ds.heap[j], ds.heap[i]
	ds.heap[i].pos, ds.heap[j].pos = i+1, j+1
}

// clock is where a writer's ticks begin.
type clock struct{ start time.Time }

func (c clock) now() tick { return c.at(time.Now()) }

func (c clock) at(t time.Time) tick { return tick(t.Sub(c.start).Milliseconds()) }

// after is the moment that is so many ticks after now's, for a timer.
func (c clock) after(now time.Time, wait tick) time.Time {
	return c.start.Add(now.Sub(c.start).Truncate(time.Millisecond) + time.Duration(wait)*time.Millisecond)
}
