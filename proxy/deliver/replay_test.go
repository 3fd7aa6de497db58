package deliver

import (
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sidestream/proxy/stream"
)

func TestReplays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		none := replays{}
		if none.take(1<<30, time.Now()) != 0 {
			t.Error("without a limit somebody waits")
		}
		var r replays
		r.rate.Store(1000)
		if r.take(5000, time.Now()) != 0 {
			t.Error("the first one waits")
		}
		wait := r.take(1, time.Now())
		if wait < 4980*time.Millisecond || wait > 5000*time.Millisecond {
			t.Errorf("4980 bytes are owed: %v", wait)
		}
		time.Sleep(wait)
		if r.take(50, time.Now()) != 0 {
			t.Error("one waits whose turn it is")
		}
		r.back(50)
		time.Sleep(time.Hour)
		if r.take(20, time.Now()) != 0 || r.take(1, time.Now()) == 0 {
			t.Error("more than 20 ms bring is saved up")
		}
		r.back(1 << 20)
		time.Sleep(time.Second)
		if r.take(20, time.Now()) != 0 || r.take(1, time.Now()) == 0 {
			t.Error("what was given back is more than is saved up")
		}
	})
}

// However many wait, so many ask at once; everybody has a turn, and what there is to give is given.
func TestReplaysAreSpread(t *testing.T) {
	for _, clients := range []int{10, 1000, 20_000} {
		synctest.Test(t, func(t *testing.T) {
			const size, rate = 10_000, 10_000_000
			asked, begun := 0, time.Now()
			var r replays
			r.rate.Store(rate)
			var all sync.WaitGroup
			var mu sync.Mutex
			for range clients {
				all.Go(func() {
					for {
						mu.Lock()
						asked++
						mu.Unlock()
						wait := r.take(size, time.Now())
						if wait == 0 {
							return
						}
						time.Sleep(wait)
					}
				})
			}
			all.Wait()
			took, least := time.Since(begun), time.Duration(float64(clients*size-rate/50-size)/rate*float64(time.Second))
			if took < least || took > least*3/2+10*time.Second {
				t.Errorf("%d clients took %v, at least %v", clients, took, least)
			}
			if asked > 20*clients+2000 {
				t.Errorf("%d clients have asked %d times", clients, asked)
			}
		})
	}
}

// A herd gets everything, in its turn, with heartbeats; who is there gets what is new at once, and so does who has missed nothing.
func TestHerdWaitsItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, stream.Bounds{})
		b.clients.Set(0, 100_000)
		live := b.connect()
		for range 50 {
			b.ring.Append(say(strings.Repeat("x", 1000)))
		}
		synctest.Wait()
		b.cursor = 0
		var herd []*reader
		for range 200 {
			herd = append(herd, b.connect())
		}
		b.cursor, _ = b.ring.Last()
		fresh := b.connect()
		live.take()
		fresh.take()
		for range 30 {
			pass(time.Second)
			b.ring.Append(say("new"))
			for name, r := range map[string]*reader{"live": live, "fresh": fresh} {
				if got := r.take(); len(got) < 2 || !strings.HasSuffix(texts(got), "data: new id: "+b.ring.LastID()) || got[len(got)-1].at != time.Since(r.start) {
					t.Fatalf("%s: %q at %v", name, texts(got), time.Since(r.start))
				}
			}
		}
		pass(110 * time.Second) // 200 × 50 kB at 100 kB a second, and a little
		for i, r := range herd {
			got := texts(r.take())
			if n := strings.Count(got, "data: xxx"); n != 50 {
				t.Errorf("%d: %d events of 50, until %v", i, n, time.Since(r.start))
			}
			if n := strings.Count(got, "data: new"); n != 30 || strings.Count(got, "stream.gap") != 0 || strings.LastIndex(got, "data: xxx") > strings.Index(got, "data: new") {
				t.Errorf("%d: %d new events", i, n)
			}
		}
		for _, r := range append(herd, live, fresh) {
			r.Close()
		}
		b.close()
	})
}

// Waiting is no reason to be cut, nor to stay for longer than others.
func TestHerdIsKeptAliveAndReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, stream.Bounds{})
		b.clients.Set(0, 1000)
		for range 20 {
			b.ring.Append(say(strings.Repeat("x", 10_000)))
		}
		b.cursor = 0
		first, second := b.connect(), b.connect() // which waits for what the first has taken, 200 s
		pass(100 * time.Second)
		if got := texts(second.take()); !strings.HasPrefix(got, "retry: ") || strings.Count(got, ":") != 1+6 || strings.Contains(got, "data") {
			t.Errorf("%q", got)
		}
		if n := strings.Count(texts(first.take()), "data: "); n != 20 {
			t.Errorf("the first has %d events", n)
		}
		begun := time.Now()
		b.clients.Drain(5 * time.Second)
		<-second.done
		if got := texts(second.take()); time.Since(begun) > 6*time.Second || !hint.MatchString(got) {
			t.Errorf("after %v: %q", time.Since(begun), got)
		}
		b.close()
	})
}

// The same over sockets, with as few goroutines as there can be.
func TestRealHerd(t *testing.T) {
	h := newHarbourOf(t, stream.Bounds{Start: stream.StartAll}, 20*time.Millisecond, 2<<20)
	const events = 300
	h.publish(events)
	var readers sync.WaitGroup
	begun := time.Now()
	for i := range 30 {
		readers.Go(func() {
			c, in := h.open([]string{"1.1", "1.0"}[i%2], "")
			if c == nil {
				return
			}
			defer c.Close()
			r := reference{in: in, next: 1}
			for r.next <= events {
				if _, err := r.event(); err != nil {
					t.Errorf("client %d: %v", i, err)
					return
				}
			}
		})
	}
	readers.Wait()
	// 30 × 0.45 MB at 2 MiB a second, but for what the first may take at once.
	if took := time.Since(begun); took < 4*time.Second {
		t.Errorf("a herd took %v", took)
	}
	eventually(t, "all events are counted", func() bool { return h.route.Stats.Events.Load() == 30*events })
	if n := h.route.Stats.Replayed.Load(); n < 29*events || n > 30*events {
		t.Errorf("%d counted as replayed", n)
	}
}
