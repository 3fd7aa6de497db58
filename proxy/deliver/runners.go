//go:build linux && !portable

package deliver

import "sync"

// runners are goroutines that have an owner, who waits for them. The zero value has none.
type runners struct {
	mu      sync.Mutex // guards closed, and running.Add against running.Wait
	closed  bool
	running sync.WaitGroup
}

// start runs f in a goroutine, or returns false: the owner has stopped waiting. The caller says when f ends.
func (r *runners) start(f func()) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	r.running.Go(f)
	return true
}

// wait lets no further one start, and returns when those there are have ended.
func (r *runners) wait() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.running.Wait()
}
