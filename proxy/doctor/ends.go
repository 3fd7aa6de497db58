package doctor

import (
	"context"
	"fmt"
	"sync"
	"time"

	"sidestream/proxy/probe"
)

// ends checks that a cut looks like one, and a clean end like one.
func (d *doctor) ends(ctx context.Context) []Finding {
	plan := probe.Plan{Events: 3, Every: 50 * time.Millisecond}
	torn := plan
	torn.Cut = true
	var clean, cut *course
	var all sync.WaitGroup
	all.Go(func() { clean = d.watch(ctx, plan, "") })
	all.Go(func() { cut = d.watch(ctx, torn, "") })
	all.Wait()
	f := Finding{Check: "cut", Level: OK, Seen: "a stream that is cut looks like a network failure, a complete one like an end"}
	switch {
	case cut.status == 0 && !cut.late && clean.status == 200 && clean.err == nil:
		f.Seen += "; what is between answers only once it has all of it"
	case cut.status == 502 || cut.status == 503 || cut.status == 504: // of one that waits for the whole
		f.Seen = fmt.Sprintf("a stream that is cut is answered %d, a complete one ends", cut.status)
	case cut.status != 200 && cut.err == nil || clean.status != 200:
		f.Level, f.Seen = Note, "how a cut looks was not found out: "+ending(clean)
	case cut.err == nil:
		f.Level, f.ill, f.Seen = Fix, seamless, "a stream that the sidecar cuts looks like one that is complete"
		f.Means = "fetch-based clients take a clean end for the end, and do not come back after a restart of the sidecar; EventSource and the sidecar's scripts do"
	case cut.late:
		f.Level, f.ill, f.Seen = Fix, seamless, "a client does not notice that the sidecar has cut its stream: "+ending(cut)
		f.Means = "it waits for events that nobody sends, until it misses heartbeats"
	case len(cut.arrivals) < plan.Events:
		f.Level, f.Seen = Note, fmt.Sprintf("when a stream is cut, the last %d of %d events are lost on the way", plan.Events-len(cut.arrivals), plan.Events)
		f.Means = "clients get them when they come back with their last id"
	case clean.err != nil:
		f.Level, f.Seen = Note, "a stream that is complete ends with an error: "+ending(clean)
		f.Means = "clients of a complete stream come back once, and are told 204"
	}
	return []Finding{f}
}
