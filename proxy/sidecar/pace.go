package sidecar

import (
	"context"
	"math"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// Go collects when as much garbage has come as is in use: up to half of the heap is garbage. Collecting twice as often costs twice as much, which
// is little for who makes little garbage, or has little to do. So the collector comes sooner than by itself for as long as what that costs in addition is within a bound.
const (
	usualPercent = 100 // Go's own: of what is in use, how much garbage may come to it
	leastPercent = 25
	extraOfUsed  = 0.01            // of the CPU that the process uses
	extraOfCore  = 0.002           // and of one core
	paceTime     = 5 * time.Second // how long what has been is remembered, about
	leastChange  = 8               // a change by less than an eighth is not worth it: each stops the process for a moment
)

// spent is CPU, in seconds since the process began.
type spent struct{ collector, used float64 }

func readSpent() spent {
	all := []metrics.Sample{{Name: "/cpu/classes/gc/total:cpu-seconds"}, {Name: "/cpu/classes/total:cpu-seconds"}, {Name: "/cpu/classes/idle:cpu-seconds"}}
	metrics.Read(all)
	return spent{all[0].Value.Float64(), all[1].Value.Float64() - all[2].Value.Float64()}
}

// pace decides how soon the collector comes.
type pace struct {
	percent int
	before  spent
	at      time.Time // of before

	// What came lately counts most.
	usual, used, time float64 // s: what collecting would have taken at the usual percentage, the process otherwise, and how long that was
}

// look returns the percentage from now on.
func (p *pace) look(now spent, at time.Time) int {
	passed := at.Sub(p.at).Seconds()
	keep := math.Exp(-passed / paceTime.Seconds())
	collector := max(0, now.collector-p.before.collector)
	p.usual = p.usual*keep + collector*float64(p.percent)/usualPercent
	p.used = p.used*keep + max(0, now.used-p.before.used-collector)
	p.time = p.time*keep + passed
	p.before, p.at = now, at
	percent := usualPercent
	if extra := extraOfUsed*p.used + extraOfCore*p.time; extra > 0 {
		percent = max(leastPercent, int(usualPercent*p.usual/(p.usual+extra))) // where the collector takes as much more as it may
	}
	if change := percent - p.percent; max(change, -change) > p.percent/leastChange {
		p.percent = percent
	}
	return p.percent
}

// collections tells of the collector's: each time that it has been there, of several at once maybe once, until ctx is done.
func collections(ctx context.Context) <-chan struct{} {
	been := make(chan struct{}, 1)
	type mark struct{ _ [16]byte }
	var set func(*mark)
	set = func(m *mark) {
		if ctx.Err() != nil {
			return
		}
		select {
		case been <- struct{}{}:
		default:
		}
		runtime.SetFinalizer(m, set)
	}
	runtime.SetFinalizer(new(mark), set)
	return been
}

// keepPace sets how soon the collector comes, until ctx is done. It looks every so often at least.
func keepPace(ctx context.Context, every time.Duration) {
	defer debug.SetGCPercent(debug.SetGCPercent(usualPercent))
	been, tick := collections(ctx), time.NewTicker(every)
	defer tick.Stop()
	for p, set := (pace{percent: usualPercent, before: readSpent(), at: time.Now()}), usualPercent; ; {
		select {
		case <-ctx.Done():
			return
		case <-been: // so that it comes no sooner than usual where much is to be done from one moment to the next
		case <-tick.C: // so that it comes at all where there is nothing more to be done
		}
		if percent := p.look(readSpent(), time.Now()); percent != set {
			debug.SetGCPercent(percent)
			set = percent
		}
	}
}
