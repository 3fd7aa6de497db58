package stream

import (
	"context"
	"testing"
	"testing/synctest"
)

// TestLiving: it is a context as those of package context are, also for contexts that are made of it and for what is to be done at its end, and keeps nothing
// of those who do not wait any more.
func TestLiving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := new(living)
		child, cancel := context.WithCancel(l)
		defer cancel()
		called := make(chan string, 9)
		l.AfterFunc(func() { called <- "its own" })
		context.AfterFunc(l, func() { called <- "of package context" })
		stop := l.AfterFunc(func() { called <- "that was stopped" })
		if !stop() || stop() {
			t.Error("what is stopped was to be done once")
		}
		done := l.Done()
		synctest.Wait()
		if l.Err() != nil || child.Err() != nil || len(called) > 0 {
			t.Error("it has ended by itself")
		}
		l.end()
		l.end()
		<-done
		<-l.Done()
		synctest.Wait()
		if l.Err() != context.Canceled || child.Err() != context.Canceled || context.Cause(child) != context.Canceled {
			t.Errorf("%v; a context that was made of it: %v", l.Err(), child.Err())
		}
		if len(called) != 2 || stop() {
			t.Errorf("%d were called", len(called))
		}
		late := l.AfterFunc(func() { called <- "late" })
		synctest.Wait()
		if len(called) != 3 || late() {
			t.Errorf("%d were called", len(called))
		}
		select {
		case <-func() context.Context { l := new(living); l.end(); return l }().Done():
		default:
			t.Error("who asks after the end waits")
		}
		for range 100 {
			l := new(living)
			child, cancel := context.WithCancel(l)
			cancel()
			if <-child.Done(); len(l.after) > 0 {
				t.Fatal("it keeps what has ended before")
			}
		}
	})
}

func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g gate
		before, passed := g.passed(), make(chan bool, 2)
		for range 2 {
			go func() { <-before; passed <- true }() // ends once it is lifted
		}
		synctest.Wait()
		select {
		case <-g.passed():
			t.Error("it is open, and not lifted")
		default:
		}
		g.lift()
		synctest.Wait()
		if <-g.passed(); len(passed) != 2 || g.waits != nil {
			t.Errorf("%d have passed", len(passed))
		}
	})
}
