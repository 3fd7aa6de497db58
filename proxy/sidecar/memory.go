package sidecar

import (
	"context"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// What thousands of clients needed while they all came at once is garbage a moment later, and Go keeps it: an idle process collects every two
// minutes, and then keeps room for as much again as is in use. So where little has been asked for lately, memory is collected and given back.
const (
	memoryTime = 10 * time.Second // how often it is looked
	restTime   = time.Minute      // between two collections because nothing goes on any more
	leastSpare = 2 << 20          // bytes that are worth giving back, at least; and a 32nd of what is in use
	quiet      = 256 << 10        // bytes asked for since the last look up to which nothing is going on; and a 512th of what is in use
)

// heap is how the heap is, in bytes.
type heap struct {
	live  uint64 // in use at the last collection
	spare uint64 // could be given back: garbage, unless it came into use since the last collection, and pages that are free
	asked uint64 // since the process began
}

func readHeap() heap {
	all := []metrics.Sample{
		{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/free:bytes"}, {Name: "/gc/heap/allocs:bytes"},
	}
	metrics.Read(all)
	live, objects, free := all[0].Value.Uint64(), all[1].Value.Uint64(), all[2].Value.Uint64()
	return heap{live: live, spare: max(objects, live) - live + free, asked: all[3].Value.Uint64()}
}

// isDue reports whether memory is to be given back, where the heap was as before at the last look. A collection costs what going through all that
// is in use costs: at what is quiet here, one comes every 80 seconds at most, and by itself one would come every two minutes.
func (h heap) isDue(before heap) bool {
	return h.spare > max(leastSpare, h.live/32) && h.isQuiet(before)
}

func (h heap) isQuiet(before heap) bool { return h.asked-before.asked < quiet+h.live/512 }

// isMuch reports whether many may have gone, or looking again costs little. What sync.Pools had for them, such as the buffers of their connections, outlives the
// first collection, and would stay until one comes by itself, after two minutes: some 5 KiB of each of them.
func (h heap) isMuch() bool { return h.spare > h.live/4 || h.live < 64<<20 }

// giver decides when memory is given back.
type giver struct {
	before heap      // as of the last look
	last   time.Time // when it was given back last
	busy   bool      // something went on since: what was in use at the last collection may be garbage, which only another one tells
	left   uint64    // what was spare all the same when it had been given back: for that nobody collects again
}

// look says what is to be done as the heap is now: give memory back, after a collection more than that takes where twice is true.
func (g *giver) look(now heap, at time.Time) (give, twice bool) {
	g.left = min(g.left, now.spare)
	over := now
	over.spare -= g.left
	rests := now.isQuiet(g.before) && g.busy && at.Sub(g.last) >= restTime
	if give = rests || over.isDue(g.before); give {
		g.busy, g.last = false, at
	} else if !now.isQuiet(g.before) {
		g.busy = true
	}
	g.before = now
	return give, rests || over.isMuch()
}

// giveBack gives memory back to the system that is not needed any more, until ctx is done.
func giveBack(ctx context.Context) {
	tick := time.NewTicker(memoryTime)
	defer tick.Stop()
	for g := (giver{before: readHeap()}); ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			give, twice := g.look(readHeap(), time.Now())
			if !give {
				continue
			}
			if twice {
				runtime.GC()
			}
			debug.FreeOSMemory()
			g.left = readHeap().spare
		}
	}
}
