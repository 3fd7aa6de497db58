//go:build linux && !portable

package deliver

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Whatever is left before a wake is seen by who waits, however long it meant to wait and whoever else wakes it, and a wake ends no more than its own wait and
// the next one.
func TestPollerWakes(t *testing.T) {
	for _, wakers := range []int{1, 3} {
		p, err := newPoller(4)
		if err != nil {
			t.Fatal(err)
		}
		const posts = 3000
		var posted, seen atomic.Int64
		over := make(chan struct{})
		go func() { // ends with the last post
			defer close(over)
			for i := 0; seen.Load() < int64(wakers*posts); i++ {
				p.wait([]time.Duration{-1, time.Hour, -1, 0, time.Hour, 100 * time.Microsecond}[i%6])
				seen.Store(posted.Load())
			}
		}()
		var all sync.WaitGroup
		for range wakers {
			all.Go(func() {
				for i := range posts {
					n := posted.Add(1)
					p.wake()
					if i%3 == 0 { // else at once again
						continue
					}
					for deadline := time.Now().Add(time.Minute); seen.Load() < n; time.Sleep(time.Microsecond) {
						if time.Now().After(deadline) {
							t.Error("what was left was not seen")
							p.wake()
							return
						}
					}
				}
			})
		}
		all.Wait()
		if t.Failed() {
			return // who waits may do so for ever
		}
		<-over
		quiet := make(chan struct{})
		go func() { // ends with the wakes below
			defer close(quiet)
			for range 6 {
				p.wait(-1)
			}
		}()
		time.Sleep(20 * time.Millisecond) // that it waits without a deadline, mostly
		p.wake()
		select {
		case <-quiet:
			t.Error("it is woken again and again")
		case <-time.After(50 * time.Millisecond):
		}
		for done := false; !done; {
			p.wake()
			select {
			case <-quiet:
				done = true
			case <-time.After(time.Millisecond):
			}
		}
		p.close()
	}
}
