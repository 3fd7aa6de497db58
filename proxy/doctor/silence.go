package doctor

import (
	"context"
	"fmt"
	"sync"
	"time"

	"sidestream/proxy/probe"
)

const (
	rungs      = 6                // streams at once, each with a silence of its own
	rounds     = 3                // of them, at most
	heartbeats = 15 * time.Second // the default of HEARTBEAT
)

// silence finds out after how long a stream in which nothing is sent is cut, up to d.idle, and whether one with heartbeats is. Streams with
// silences of different lengths run at once. One that is cut tells the time; one that is forgotten, as by a router, tells only that it was too
// long: then the time is between it and the longest that arrived, and looked for there.
func (d *doctor) silence(ctx context.Context) []Finding {
	var beating *course
	var all sync.WaitGroup
	all.Go(func() {
		beating = d.watch(ctx, probe.Plan{Events: 2, Silence: d.idle, Beat: max(d.idle/20, 250*time.Millisecond)}, "")
	})
	low, high, exact := time.Duration(0), d.idle+1, false
	var fine time.Duration
	for range rounds {
		least, most := low, min(high, d.idle)
		var lowNow, highNow time.Duration
		lowNow, highNow, exact = d.climb(ctx, least, most)
		low = max(low, lowNow)
		if highNow == 0 {
			break
		}
		high = highNow
		if fine = max(time.Second, high/10); exact || high-low <= fine {
			break
		}
	}
	all.Wait()
	f := Finding{Check: "silence", Level: OK, Seen: fmt.Sprintf("a stream in which nothing is sent for %s lives on", short(d.idle))}
	switch {
	case high > d.idle && low < d.idle:
		f.Level, f.Seen, f.Means = Note, "how long a silence may be was not found out", "the probe's streams were refused; try again in a minute"
	case high > d.idle && d.idle < heartbeats:
		f.Level, f.Means = Note, "which is less than the default of HEARTBEAT, 15 s; -idle 45s tries more"
	case high > d.idle && d.idle < probe.MaxSilence:
		f.Seen += "; -idle tries more, up to 5m"
	case high > d.idle:
	default:
		f = tooLong(low, high, exact)
	}
	return append([]Finding{f}, lasting(beating)...)
}

// climb runs streams with silences between least and most, the latter included. low is the longest that lived, high the shortest time after which one was
// lost, exact where that was seen. Both are 0 where there was none.
func (d *doctor) climb(ctx context.Context, least, most time.Duration) (low, high time.Duration, exact bool) {
	courses := make([]*course, rungs)
	var all sync.WaitGroup
	for i := range courses {
		silence := (least + (most-least)*time.Duration(i+1)/rungs).Round(time.Millisecond)
		all.Go(func() {
			courses[i] = d.watch(ctx, probe.Plan{Events: 2, Silence: silence, Every: 10 * time.Millisecond}, "")
		})
	}
	all.Wait()
	for _, c := range courses {
		lost := c.plan.Silence
		seen := !c.late && len(c.arrivals) == 1 && !c.whole()
		if seen {
			lost = c.ended.Sub(c.last)
		}
		switch {
		case c.status != 200 && !c.late && c.status != 0:
			// refused: nothing is known of it
		case c.whole():
			low = max(low, c.plan.Silence)
		case high == 0 || lost < high:
			high, exact = lost, seen
		}
	}
	return low, high, exact
}

// tooLong is the finding that silences have an end.
func tooLong(low, high time.Duration, exact bool) Finding {
	f := Finding{Check: "silence", Level: Note, ill: impatient, Seen: "a stream in which nothing is sent is cut after " + short(high), Means: "no harm as long as HEARTBEAT, 15 s unless set, is well below it"}
	if !exact {
		f.Seen = fmt.Sprintf("a stream in which nothing is sent is forgotten without a word after %s to %s", short(low), short(high))
	}
	if high < heartbeats*4/3 {
		f.Level = Fix
		f.Means = fmt.Sprintf("with HEARTBEAT, 15 s unless set, quiet streams are lost again and again; SSE_HEARTBEAT=%s helps at once", wholeSeconds(high/2))
	}
	return f
}

func wholeSeconds(d time.Duration) time.Duration {
	if d < time.Second {
		return d.Truncate(100 * time.Millisecond)
	}
	return d.Truncate(time.Second)
}

// lasting is the finding that a stream is ended although it is not silent; none where it is not.
func lasting(c *course) []Finding {
	if c.whole() || c.status != 200 {
		return nil
	}
	return []Finding{{Check: "length", Level: Fix, ill: impatient, Seen: "a stream with heartbeats was lost after " + short(c.ended.Sub(c.begun)) + ": " + ending(c),
		Means: "what is between ends answers that last long; clients come back each time"}}
}
