package sidecar

import (
	"context"
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

func TestPace(t *testing.T) {
	for _, c := range []struct {
		what            string
		collector, used float64 // s in each second: at the usual pace, and the process without it
		least, most     int
	}{
		{"nothing goes on", 0, 0, leastPercent, leastPercent},
		{"much goes on, without garbage", 0.0001, 1, leastPercent, leastPercent},
		{"little garbage, of who does little", 0.0005, 0.02, leastPercent, leastPercent},
		{"some garbage, of who does little", 0.005, 0.05, 62, 72},
		{"much garbage", 0.2, 1.5, 88, 100},
		{"nothing but garbage", 2, 0, 99, 100},
	} {
		at := time.Now()
		p := pace{percent: usualPercent, at: at}
		s, percent, cost := spent{}, usualPercent, 0.0
		for range 100 {
			at = at.Add(time.Second)
			cost = c.collector * usualPercent / float64(percent)
			s.collector += cost
			s.used += c.used + cost
			percent = p.look(s, at)
		}
		if percent < c.least || percent > c.most {
			t.Errorf("%s: %d", c.what, percent)
		}
		if extra := cost - c.collector; extra > 1.2*(extraOfUsed*c.used+extraOfCore) {
			t.Errorf("%s: collecting takes %.4f more", c.what, extra)
		}
	}
}

// TestPaceOfHerd: where much is to be done all at once, after nothing was, that is soon as if this were not here.
func TestPaceOfHerd(t *testing.T) {
	at := time.Now()
	p := pace{percent: usualPercent, at: at}
	for range 10 {
		at = at.Add(paceTime)
		p.look(spent{}, at)
	}
	if p.percent != leastPercent {
		t.Fatalf("at rest: %d", p.percent)
	}
	s := spent{}
	for range 20 { // collections within a fifth of a second
		s.collector, s.used = s.collector+0.01, s.used+0.02
		at = at.Add(10 * time.Millisecond)
		p.look(s, at)
	}
	if p.percent < 50 {
		t.Errorf("of a herd: %d", p.percent)
	}
}

// TestPaceIsKept: who is at rest has a collector that comes sooner, and whoever stops leaves what was set before.
func TestPaceIsKept(t *testing.T) {
	percent := func() int { return int(sumOf("/gc/gogc:percent")) }
	const before = 90
	defer debug.SetGCPercent(debug.SetGCPercent(before))
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { // ends with ctx
		keepPace(ctx, 10*time.Millisecond)
		close(done)
	}()
	for end := time.Now().Add(time.Minute); percent() != leastPercent; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after a minute of rest: %d", percent())
		}
	}
	stop()
	<-done
	if got := percent(); got != before {
		t.Errorf("in the end: %d", got)
	}
}

func TestCollectionsAreTold(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	been := collections(ctx)
	for range 3 {
		runtime.GC()
		select {
		case <-been:
		case <-time.After(time.Minute):
			t.Fatal("nobody was told")
		}
	}
}
