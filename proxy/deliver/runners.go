//go:build linux && !portable

package deliver

import (
	"sync"
	"sync/atomic"
)

// runners are goroutines that have an owner, who waits for them. The zero value has none. One starts for each connection of
// HTTP/2 and event, so that costs as little as it can.
type runners struct {
	n       atomic.Int64 // how many there are; from noRunners on once wait was called
	waiting sync.Once
	over    sync.Once
	ended   chan struct{} // made by wait, and closed when all have ended
}

const noRunners = -1 << 62

// start runs f in a goroutine, or returns false: the owner has stopped waiting. The caller says when f ends.
func (r *runners) start(f func()) bool {
	if r.n.Add(1) <= 0 {
		r.end()
		return false
	}
	go r.run(f) // ends with f
	return true
}

func (r *runners) run(f func()) {
	defer r.end()
	f()
}

func (r *runners) end() {
	if r.n.Add(-1) == noRunners {
		r.over.Do(func() { close(r.ended) })
	}
}

// wait lets no further one start, and returns when those there are have ended.
func (r *runners) wait() {
	r.waiting.Do(func() {
		r.ended = make(chan struct{})
		r.n.Add(noRunners + 1)
		r.end()
	})
	<-r.ended
}
