package sidecar

import (
	"context"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestHeapIsDue(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		what         string
		before, then heap
		want         bool
	}{
		{"a herd is gone, and nothing goes on", heap{400 * mib, 0, 900 * mib}, heap{400 * mib, 200 * mib, 901 * mib}, true},
		{"more than a 32nd is spare", heap{400 * mib, 0, 900 * mib}, heap{400 * mib, 13 * mib, 900 * mib}, true},
		{"a herd is gone, and events go on", heap{400 * mib, 0, 900 * mib}, heap{400 * mib, 200 * mib, 920 * mib}, false},
		{"a 32nd is spare", heap{400 * mib, 0, 900 * mib}, heap{400 * mib, 12 * mib, 900 * mib}, false},
		{"a small process", heap{2 * mib, 0, 900 * mib}, heap{2 * mib, 2 * mib, 900 * mib}, false},
		{"a small process that was a large one", heap{2 * mib, 0, 900 * mib}, heap{2 * mib, 3 * mib, 900 * mib}, true},
	} {
		if got := c.then.isDue(c.before); got != c.want {
			t.Errorf("%s: %v", c.what, got)
		}
	}
}

// TestWhatStaysIsLeftAlone: what is spare all the same after memory was given back is no reason to collect again, and what comes to it is.
func TestWhatStaysIsLeftAlone(t *testing.T) {
	const mib = 1 << 20
	g := giver{before: heap{2 * mib, 0, 0}}
	at := time.Now()
	for i, c := range []struct {
		spare, left uint64 // MiB, before and after
		want        bool
	}{{1, 0, false}, {90, 10, true}, {10, 0, false}, {10, 0, false}, {12, 0, false}, {13, 9, true}, {9, 0, false}, {3, 0, false}, {5, 0, false}, {6, 0, true}, {1, 0, false}} {
		at = at.Add(memoryTime)
		give, _ := g.look(heap{2 * mib, c.spare * mib, 0}, at)
		if give != c.want {
			t.Errorf("look %d, %d MiB: %v", i, c.spare, give)
		}
		if give {
			g.left = c.left * mib
		}
	}
}

// sumOf is what these of the runtime's metrics come to.
func sumOf(names ...string) (sum uint64) {
	for _, name := range names {
		one := []metrics.Sample{{Name: name}}
		metrics.Read(one)
		sum += one[0].Value.Uint64()
	}
	return sum
}

// herd is what many need at once: 64 blocks of 1 MiB.
func herd() [][]byte {
	all := make([][]byte, 64)
	for i := range all {
		all[i] = make([]byte, 1<<20)
	}
	return all
}

// TestMemoryIsGivenBack: what was needed for a moment is the system's again soon after, also what lies in a sync.Pool for the next of a herd, and that is done once,
// with two collections, not every time.
func TestMemoryIsGivenBack(t *testing.T) {
	held := func() uint64 {
		return sumOf("/memory/classes/heap/objects:bytes", "/memory/classes/heap/free:bytes", "/memory/classes/heap/unused:bytes")
	}
	cycles := func() uint64 { return sumOf("/gc/cycles/total:gc-cycles") }
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // nothing is collected but by what is tested
	runtime.GC()
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		many, pool := herd(), new(sync.Pool)
		for range 32 {
			pool.Put(new([1 << 20]byte))
		}
		full := held()
		runtime.KeepAlive(many)
		many = nil
		go giveBack(ctx) // ends with ctx
		before := cycles()
		time.Sleep(time.Minute)
		synctest.Wait()
		runtime.KeepAlive(pool)
		if left := held(); left > full-80<<20 {
			t.Errorf("of %d MiB, %d are still held", full>>20, left>>20)
		}
		if n := cycles() - before; n != 2 {
			t.Errorf("%d collections", n)
		}
	})
}

// TestMemoryIsGivenBackAfterRest: what was in use when Go collected last, and is not any more, is given back when nothing goes on.
func TestMemoryIsGivenBackAfterRest(t *testing.T) {
	inUse := func() uint64 { return sumOf("/memory/classes/heap/objects:bytes") }
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // nothing is collected but by what is tested
	runtime.GC()
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go giveBack(ctx) // ends with ctx
		synctest.Wait()
		many := herd()
		runtime.GC()
		full := inUse()
		runtime.KeepAlive(many)
		many = nil
		time.Sleep(3 * memoryTime)
		synctest.Wait()
		if left := inUse(); left > full-48<<20 {
			t.Errorf("of %d MiB, %d are still in use", full>>20, left>>20)
		}
	})
}
