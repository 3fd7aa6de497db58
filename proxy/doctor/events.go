package doctor

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"sidestream/proxy/probe"
)

// single is the stream of events one by one; bulk is one of so many bytes that a buffer for them shows its size.
var (
	single = probe.Plan{Events: 10, Every: 300 * time.Millisecond, Size: 60}
	bulk   = probe.Plan{Events: 64, Every: 30 * time.Millisecond, Size: 1024}
)

// manner is in which a stream's events arrive.
type manner int

const (
	prompt    manner = iota // each when it is sent
	delayed                 // each for itself, but late
	oneBehind               // each when the next one is sent
	inLumps                 // several at once
	atTheEnd                // all when the last one was sent
	never                   // none
)

// judge says how a stream's events have arrived, and how late they were: the median.
func (d *doctor) judge(c *course) (manner, time.Duration) {
	n := len(c.arrivals)
	if n == 0 {
		return never, 0
	}
	lates, moments, behind := []time.Duration{}, 1, 0
	for i, a := range c.arrivals {
		lates = append(lates, a.at.Sub(a.sent))
		if i > 0 && a.at.Sub(c.arrivals[i-1].at) > c.plan.Every/10 {
			moments++
		}
		if next := i + 1; next < n {
			if after := a.at.Sub(c.arrivals[next].sent); after > -slack && after < c.plan.Every/2 {
				behind++
			}
		}
	}
	slices.Sort(lates)
	late := max(0, lates[n/2]-d.trip/2)
	switch {
	case n > 1 && c.arrivals[0].at.Sub(c.arrivals[n-1].sent) > -slack:
		return atTheEnd, late
	case behind*2 > n && moments*10 >= n*7:
		return oneBehind, late
	case moments*10 < n*7:
		return inLumps, late
	case late > max(100*time.Millisecond, 3*d.trip):
		return delayed, late
	}
	return prompt, late
}

// events checks whether small events arrive one by one, and what is held back where they do not; plain, and for who accepts gzip.
func (d *doctor) events(ctx context.Context) []Finding {
	var plain, zipped, most *course
	var all sync.WaitGroup
	all.Go(func() { plain = d.watch(ctx, single, "") })
	all.Go(func() { zipped = d.watch(ctx, single, "gzip") })
	all.Go(func() { most = d.watch(ctx, bulk, "") })
	all.Wait()
	if plain.status != 200 && plain.status != 0 {
		return []Finding{{Check: "events", Level: Note, Seen: fmt.Sprintf("the probe's stream was answered %d", plain.status), Means: "nothing can be said about events; try again in a minute"}}
	}
	found := d.arrive(plain, most)
	return append(found, d.compressed(ctx, plain, zipped)...)
}

// arrive is the finding on a stream that was not compressed.
func (d *doctor) arrive(c, most *course) []Finding {
	how, late := d.judge(c)
	f := Finding{Check: "events", Level: Fix, ill: holds}
	switch how {
	case prompt:
		f.Level, f.Seen = OK, fmt.Sprintf("%d events of 60 bytes arrived one by one, each %s after it was sent", len(c.arrivals), short(late))
		if !c.whole() {
			f.Level, f.Seen, f.Means = Fix, fmt.Sprintf("%d of %d events arrived, then the stream was cut", len(c.arrivals), c.plan.Events), "streams are cut; see what silence and the cut say"
		}
	case delayed:
		f.ill, f.Seen, f.Means = lags, fmt.Sprintf("each event arrived %s late", short(late)), "something waits for more to send, or for an acknowledgement"
	case oneBehind:
		f.Seen, f.Means = "each event arrived when the next one was sent", "a page is always one event behind"
	case inLumps:
		f.Seen, f.Means = "events arrived in lumps; "+d.held(most), "pages get events late, and many at once. The scripts of the sidecar go on with long polls"
	case atTheEnd:
		f.Seen, f.Means = "no event arrived before the stream's end; "+d.held(most), "an EventSource gets nothing at all. The scripts of the sidecar go on with long polls"
	case never:
		f.Seen, f.Means = "no event arrived at all: "+ending(c), "an EventSource gets nothing at all"
	}
	return []Finding{f}
}

// held is how much is held back, as a stream of larger events shows.
func (d *doctor) held(c *course) string {
	if len(c.arrivals) == 0 {
		return "64 KiB and more are held back"
	}
	first, n := c.arrivals[0].at, 0
	for _, a := range c.arrivals {
		if !a.sent.After(first.Add(slack / 2)) {
			n++
		}
	}
	if n >= len(c.arrivals) {
		return fmt.Sprintf("the end is waited for, or more than %d KiB", n*c.plan.Size>>10)
	}
	return fmt.Sprintf("some %d KiB are held back", max(1, n*c.plan.Size>>10))
}

// ending is how a stream has ended, in words.
func ending(c *course) string {
	switch {
	case c.late:
		return "nothing came for " + short(c.ended.Sub(cmpTime(c.last, c.begun)))
	case c.err != nil:
		return cause(c.err)
	}
	return "it ended cleanly"
}

// cmpTime is a unless it is zero.
func cmpTime(a, b time.Time) time.Time {
	if a.IsZero() {
		return b
	}
	return a
}

// compressed is the finding on compression, which the sidecar forbids (no-transform).
func (d *doctor) compressed(ctx context.Context, plain, zipped *course) []Finding {
	by := cmp.Or(zipped.header.Get("Content-Encoding"), d.otherCoding(ctx))
	if by == "" {
		if how, _ := d.judge(zipped); how == never && len(plain.arrivals) > 0 { // answered by nothing at all
			return []Finding{{Check: "compression", Level: Fix, ill: compresses, Seen: "a client that accepts gzip got nothing: " + ending(zipped), Means: "browsers accept gzip"}}
		}
		return []Finding{{Check: "compression", Level: OK, Seen: "streams are not compressed"}}
	}
	f := Finding{Check: "compression", Level: Note, ill: compresses, Seen: "streams are compressed (" + by + "), although they say no-transform", Means: "events still arrive at once; it costs the proxy memory for each client"}
	how, late := d.judge(zipped)
	if how != prompt && zipped.header.Get("Content-Encoding") != "" {
		f.Level, f.Means = Fix, "browsers accept it, and get "+map[manner]string{delayed: "each event " + short(late) + " late", oneBehind: "each event only when the next one is sent",
			inLumps: "events in lumps", atTheEnd: "all events at the end", never: "no event"}[how]
	}
	return []Finding{f}
}

// otherCoding is the coding that is chosen for who does not know gzip.
func (d *doctor) otherCoding(ctx context.Context) string {
	c := d.watch(ctx, probe.Plan{Events: 1}, "br, zstd, deflate")
	return strings.TrimSpace(c.header.Get("Content-Encoding"))
}

// short is a duration that a person can read.
func short(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return "less than 1 ms"
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000)
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return fmt.Sprintf("%.0f s", d.Seconds())
}
