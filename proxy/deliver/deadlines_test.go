package deliver

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sidestream/proxy/stream"
)

// TestAlarms sets them at random, and holds them against the times they must come at.
func TestAlarms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ds deadlines
		const n = 200
		woken, want := make([]time.Time, n), make([]time.Time, n)
		all := make([]deadline, n)
		for i := range all {
			all[i].wake = func() { woken[i] = time.Now() }
		}
		now := time.Now()
		for _, i := range rand.Perm(n) {
			for _, at := range []time.Duration{rand.N(time.Hour), rand.N(time.Hour)} { // the earlier counts
				at := now.Add(time.Second + at)
				ds.set(&all[i], at, now)
				if want[i].IsZero() || at.Before(want[i]) {
					want[i] = at
				}
			}
			if i%5 == 0 {
				ds.stop(&all[i])
				want[i] = time.Time{}
			}
		}
		pass(2 * time.Hour)
		for i := range all {
			if !woken[i].Equal(want[i]) {
				t.Errorf("deadline %d came at %v, want %v", i, woken[i], want[i])
			}
		}
		if len(ds.heap) > 0 {
			t.Errorf("%d are left", len(ds.heap))
		}
	})
}

// TestStuckWritesAreCut: 30 s after they began, and none that has ended.
func TestStuckWritesAreCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ds deadlines
		cut := map[string]time.Duration{}
		began := time.Now()
		start := func(name string) *deadline {
			d := &deadline{wake: func() {}, cut: func() { cut[name] = time.Since(began) }}
			d.began.Store(time.Now().UnixNano())
			ds.set(d, time.Now().Add(stallTime), time.Now())
			return d
		}
		start("stuck")
		done := start("done")
		other := start("done, and stuck in the next")
		pass(10 * time.Second)
		done.began.Store(0)
		other.began.Store(time.Now().UnixNano())
		pass(time.Hour)
		if len(cut) != 2 || cut["stuck"] != stallTime || cut["done, and stuck in the next"] != stallTime+10*time.Second {
			t.Error(cut)
		}
	})
}

// h2 connects a transport to b over one connection in memory.
func (b *bench) h2() *http.Transport {
	tr := &http.Transport{Protocols: new(http.Protocols), DialContext: func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		b.l.Offer(theirs)
		return ours, nil
	}}
	tr.Protocols.SetUnencryptedHTTP2(true)
	return tr
}

// TestStalledHTTP2: a stream that takes nothing for 30 s is cut, those beside it are not.
func TestStalledHTTP2(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, stream.Bounds{})
		defer b.close()
		tr := b.h2()
		defer tr.CloseIdleConnections()
		var stuck, reads *http.Response
		for _, resp := range []**http.Response{&stuck, &reads} {
			req, _ := http.NewRequest(http.MethodGet, "http://x/", nil)
			r, err := tr.RoundTrip(req)
			if err != nil || r.ProtoMajor != 2 {
				t.Fatal(r, err)
			}
			defer r.Body.Close()
			*resp = r
		}
		go func() { // ends with the server
			for p := make([]byte, 1<<20); ; {
				if _, err := reads.Body.Read(p); err != nil {
					return
				}
			}
		}()
		text := strings.Repeat("x", 64<<10)
		for i := range 100 { // more than a stream's window
			b.ring.Append(say(fmt.Sprint(i, text)))
			synctest.Wait()
		}
		pass(stallTime - time.Second)
		if n := b.route.Stats.Clients.Load(); n != 2 {
			t.Fatalf("%d clients after 29 s", n)
		}
		pass(time.Second)
		if n, gone := b.route.Stats.Clients.Load(), b.route.Stats.Disconnected[Stalled].Load(); n != 1 || gone != 1 {
			t.Fatalf("after 30 s there are %d clients, %d stalled", n, gone)
		}
		pass(time.Hour)
		if n := b.route.Stats.Clients.Load(); n != 1 {
			t.Fatal("the other is gone as well")
		}
	})
}
