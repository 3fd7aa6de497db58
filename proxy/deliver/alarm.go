package deliver

import (
	"sync"
	"sync/atomic"
	"time"
)

// alarms are the times at which clients with goroutines want to be woken: one timer for all of them instead of several
// for each. It also sees to those who are stuck in a write for too long, which they cannot do themselves. The zero value
// has none. Safe for concurrent use.
type alarms struct {
	mu    sync.Mutex // guards what follows, and pos and until of the clients'
	timer *time.Timer
	heap  []*alarm // the earliest first; the children of i are 2i+1 and 2i+2
}

// alarm is one client's.
type alarm struct {
	ring    func()       // wakes it; it must not block
	cut     func()       // makes the write that it is in fail
	began   atomic.Int64 // when it began to write, in ns since 1970; 0: it is not writing, or the kernel watches over it
	stalled atomic.Bool  // it was cut

	at    time.Time // what it has set; the client's own
	until time.Time
	pos   int // in heap, counted from 1; 0: not there
}

// set has a wake at the latest at the given time; it may be woken before, and then sets it again.
func (as *alarms) set(a *alarm, at, now time.Time) {
	if a.at.After(now) && !a.at.After(at) {
		return
	}
	a.at = at
	as.mu.Lock()
	defer as.mu.Unlock()
	as.put(a, at)
	as.wind()
}

// stop forgets a: nothing of it is called any more.
func (as *alarms) stop(a *alarm) {
	as.mu.Lock()
	defer as.mu.Unlock()
	as.remove(a)
	if len(as.heap) == 0 && as.timer != nil {
		as.timer.Stop()
	}
}

// wind sets the timer for the earliest. mu is held.
func (as *alarms) wind() {
	switch {
	case len(as.heap) == 0:
	case as.timer == nil:
		as.timer = time.AfterFunc(time.Until(as.heap[0].until), as.fire)
	default:
		as.timer.Reset(time.Until(as.heap[0].until))
	}
}

// fire wakes those whose time has come.
func (as *alarms) fire() {
	as.mu.Lock()
	defer as.mu.Unlock()
	for now := time.Now(); len(as.heap) > 0 && !as.heap[0].until.After(now); {
		a := as.heap[0]
		as.remove(a)
		if began := a.began.Load(); began != 0 {
			if end := time.Unix(0, began).Add(stallTime); end.After(now) {
				as.put(a, end)
			} else {
				a.stalled.Store(true)
				a.cut()
			}
		}
		a.ring()
	}
	as.wind()
}

// put gives a its place for until. mu is held, as it is below.
func (as *alarms) put(a *alarm, until time.Time) {
	a.until = until
	if a.pos == 0 {
		as.heap = append(as.heap, a)
		a.pos = len(as.heap)
	}
	as.up(a.pos - 1)
	as.down(a.pos - 1)
}

func (as *alarms) remove(a *alarm) {
	if a.pos == 0 {
		return
	}
	i, last := a.pos-1, len(as.heap)-1
	as.swap(i, last)
	as.heap[last] = nil
	as.heap, a.pos = as.heap[:last], 0
	if i < last {
		as.up(i)
		as.down(i)
	}
}

func (as *alarms) up(i int) {
	for i > 0 && as.before(i, (i-1)/2) {
		as.swap(i, (i-1)/2)
		i = (i - 1) / 2
	}
}

func (as *alarms) down(i int) {
	for {
		child := 2*i + 1
		if child+1 < len(as.heap) && as.before(child+1, child) {
			child++
		}
		if child >= len(as.heap) || !as.before(child, i) {
			return
		}
		as.swap(i, child)
		i = child
	}
}

func (as *alarms) before(i, j int) bool { return as.heap[i].until.Before(as.heap[j].until) }

func (as *alarms) swap(i, j int) {
	as.heap[i], as.heap[j] = as.heap[j], as.heap[i]
	as.heap[i].pos, as.heap[j].pos = i+1, j+1
}
