//go:build linux && !portable

package deliver

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestRunners: wait waits for all that were started, and none starts after it; to wait again is to wait as well.
func TestRunners(t *testing.T) {
	for range 200 {
		synctest.Test(t, func(t *testing.T) {
			var r runners
			var started, ended atomic.Int64
			var starting sync.WaitGroup
			for i := range 20 {
				starting.Go(func() {
					for range 5 {
						if r.start(func() { time.Sleep(time.Duration(i) * time.Millisecond); ended.Add(1) }) {
							started.Add(1)
						}
						time.Sleep(time.Millisecond)
					}
				})
			}
			time.Sleep(3 * time.Millisecond)
			starting.Go(func() { r.wait() })
			r.wait()
			n := ended.Load()
			if r.start(func() { t.Error("one was started after wait") }) {
				t.Error("start says that it did")
			}
			starting.Wait()
			if n != started.Load() || n != ended.Load() || n == 0 {
				t.Errorf("%d had ended, %d were started, %d have ended", n, started.Load(), ended.Load())
			}
			r.wait()
		})
	}
}
