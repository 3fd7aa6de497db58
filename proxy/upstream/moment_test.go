package upstream

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestMoment holds a moment against a context with a timer: whatever ends it, and whether it is waited for, and from when on.
func TestMoment(t *testing.T) {
	for name, c := range map[string]struct {
		parent  time.Duration // its deadline; 0 none
		cancels time.Duration // the parent, at; 0 never
		release time.Duration // at; 0 never
		want    error         // from then on
		after   time.Duration // when it is over
	}{
		"its own time":               {0, 0, 0, context.DeadlineExceeded, 5 * time.Second},
		"the parent's time":          {3 * time.Second, 0, 0, context.DeadlineExceeded, 3 * time.Second},
		"the parent has longer":      {8 * time.Second, 0, 0, context.DeadlineExceeded, 5 * time.Second},
		"the parent is cancelled":    {0, 2 * time.Second, 0, context.Canceled, 2 * time.Second},
		"it is released":             {0, 0, 2 * time.Second, context.Canceled, 2 * time.Second},
		"it is released too late":    {0, 0, 7 * time.Second, context.DeadlineExceeded, 5 * time.Second},
		"the parent was over before": {time.Nanosecond, 0, 0, context.DeadlineExceeded, time.Nanosecond},
	} {
		for _, waits := range []time.Duration{-1, 0, time.Second, 4 * time.Second, 9 * time.Second} { // never; at the beginning, ...
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					parent, cancel := context.WithCancel(t.Context())
					defer cancel()
					if c.parent > 0 {
						var stop context.CancelFunc
						parent, stop = context.WithTimeout(parent, c.parent)
						defer stop()
					}
					begun := time.Now()
					m := newMoment(parent, 5*time.Second)
					defer m.release()
					if until, ok := m.Deadline(); !ok || c.parent > 0 && until.After(begun.Add(c.parent)) || until.After(begun.Add(5*time.Second)) {
						t.Errorf("the deadline is %v", until.Sub(begun))
					}
					at := func(d time.Duration, f func()) {
						if d > 0 {
							go func() { <-time.After(d); f() }()
						}
					}
					at(c.cancels, cancel)
					at(c.release, m.release)
					done := make(chan time.Duration, 1)
					if waits >= 0 {
						go func() {
							<-time.After(waits)
							<-m.Done()
							done <- time.Since(begun)
						}()
					}
					var over time.Duration
					for over == 0 && time.Since(begun) < 10*time.Second {
						<-time.After(time.Millisecond)
						if m.Err() != nil {
							over = time.Since(begun)
						}
					}
					if err := m.Err(); !errors.Is(err, c.want) || over < c.after || over > c.after+time.Millisecond {
						t.Errorf("%v after %v", err, over)
					}
					<-time.After(10 * time.Second)
					if waits >= 0 {
						want, heard := max(waits, c.after), <-done
						if heard < want || heard > want+time.Millisecond {
							t.Errorf("whoever waits from %v on hears of it after %v", waits, heard)
						}
					}
					if err := m.Err(); !errors.Is(err, c.want) {
						t.Errorf("it is over for another reason now: %v", err)
					}
				})
			})
		}
	}
}

// TestMomentHasNoTimer checks that a moment that nobody waits for costs one allocation, itself.
func TestMomentHasNoTimer(t *testing.T) {
	ctx := t.Context()
	if n := testing.AllocsPerRun(100, func() {
		m := newMoment(ctx, time.Second)
		if m.Err() != nil {
			t.Error(m.Err())
		}
		m.release()
	}); n > 1 {
		t.Errorf("%v allocations", n)
	}
}
