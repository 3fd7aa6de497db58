//go:build linux && !portable

package deliver

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"sidestream/proxy/deliver/h2/h2test"
	"sidestream/proxy/stream"
)

// held is how much of what net/http sends waits at the most; see package h2.
const held = 128 << 10

// thirst has event streams use the connection's window, of so many bytes, whose client grants nothing by itself.
func (lo *loom) thirst(window int64) (p *h2test.Peer, events uint32) {
	p = lo.dial(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 24})
	p.Hold()
	if window > h2test.FirstWindow {
		p.Grant(0, window-h2test.FirstWindow)
	}
	events = p.Ask("GET", "/", nil)
	synctest.Wait()
	for p.Left() > 0 {
		lo.ring.Append(say(strings.Repeat("x", 1000)))
		synctest.Wait()
	}
	return p, events
}

// late has lo's handler answer 10 ms later.
func (lo *loom) late() {
	lo.s.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(10 * time.Millisecond)
		lo.ServeHTTP(w, r)
	})
}

// TestH2DrainWithHeldData: who waits behind it leaves with the others, or is cut.
func TestH2DrainWithHeldData(t *testing.T) {
	inLoom(t, stream.Bounds{}, func(t *testing.T, lo *loom) {
		p, _ := lo.thirst(10 * held)
		p.Ask("GET", "/bulk?1000000", nil)
		synctest.Wait()
		p.Ask("GET", "/", nil)
		synctest.Wait()
		drained := make(chan struct{})
		go func() { lo.clients.Drain(time.Second); close(drained) }()
		pass(stallTime + time.Second)
		if !closed(drained) {
			t.Errorf("%d clients are left", lo.route.Stats.Clients.Load())
		}
		p.Conn.Close()
	})
}

// TestH2ABusyRingLeavesOthersTheWindow: nor is anybody cut for what others have taken.
func TestH2ABusyRingLeavesOthersTheWindow(t *testing.T) {
	for _, busy := range []string{"/", "/other"} {
		inLoom(t, stream.Bounds{}, func(t *testing.T, lo *loom) {
			p := lo.dial(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
			p.Hold()
			ids := map[string]uint32{"/": p.Ask("GET", "/", nil)}
			synctest.Wait()
			ids["/other"] = p.Ask("GET", "/other", nil)
			synctest.Wait()
			fast, slow, quiet := lo.ring, lo.other, ids["/other"]
			if busy == "/other" {
				fast, slow, quiet = slow, fast, ids["/"]
			}
			for i := range 300 {
				for range 8 {
					fast.Append(say(strings.Repeat("x", 10_000)))
				}
				if i%100 == 10 {
					slow.Append(say("small"))
				}
				pass(200 * time.Millisecond)
				p.Grant(0, 60_000)
				synctest.Wait()
				if want := (i + 80) / 100; strings.Count(p.Got(quiet).Body.String(), "small") < want {
					t.Fatalf("%s, after %d ms: %d of %d", busy, i*200, strings.Count(p.Got(quiet).Body.String(), "small"), want)
				}
			}
			for _, id := range ids {
				if got := p.Got(id); got.Reset != 0 {
					t.Errorf("reset: %v", got.Reset)
				}
			}
			p.Conn.Close()
		})
	}
}

// TestH2FinishedAtOnce: what is complete when its client comes ends once.
func TestH2FinishedAtOnce(t *testing.T) {
	inLoom(t, stream.Bounds{}, func(t *testing.T, lo *loom) {
		lo.ring.Append(say("1"))
		lo.ring.Close(stream.End{Kind: stream.Finished})
		p := lo.dial()
		for range 200 {
			id := p.Ask("GET", "/", nil)
			synctest.Wait()
			if got := p.Got(id); !got.Ended {
				t.Fatal("not ended")
			}
		}
		p.Conn.Close()
	})
}

// TestH2ABodyThatComesLate keeps the goroutine: net/http takes the request for open until then.
func TestH2ABodyThatComesLate(t *testing.T) {
	inLoom(t, stream.Bounds{}, func(t *testing.T, lo *loom) {
		lo.late()
		p := lo.dial()
		p.Hold() // nothing between a frame's head and its payload
		synctest.Wait()
		id := p.Ask("GET", "/", []byte{})
		p.WriteRaw([]byte{0, 0, 5, byte(http2.FrameData), byte(http2.FlagDataEndStream), 0, 0, 0, byte(id)})
		pass(20 * time.Millisecond)
		p.WriteRaw([]byte("hello"))
		pass(time.Second)
		lo.ring.Append(say("1"))
		synctest.Wait()
		if got := p.Got(id); got.Reset != 0 || got.Ended || !strings.Contains(got.Body.String(), "data: 1") {
			t.Errorf("reset: %v, ended: %v, got %q", got.Reset, got.Ended, got.Body.String())
		}
		p.Conn.Close()
	})
}

// TestH2GoAwayBehindARequest: a client that will ask for nothing more gets what it has asked for.
func TestH2GoAwayBehindARequest(t *testing.T) {
	inLoom(t, stream.Bounds{}, func(t *testing.T, lo *loom) {
		lo.late()
		p := lo.dial()
		id := p.Ask("GET", "/", nil)
		p.Write(func(f *http2.Framer) error { return f.WriteGoAway(0, 0, nil) })
		pass(time.Minute)
		lo.ring.Append(say("1"))
		synctest.Wait()
		if got := p.Got(id); !strings.Contains(got.Body.String(), "data: 1") {
			t.Errorf("got %q", got.Body.String())
		}
		p.Conn.Close()
	})
}
