//go:build linux && !portable

package deliver

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"sidestream/proxy/deliver/h2/h2test"
	"sidestream/proxy/stream"
	"sidestream/translate"
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

// TestH2DrainWithHeldData: a client that waits for it leaves with the others, or is cut.
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

// TestH2GoAwayAfterARequest: a client that will ask for nothing more gets what it has asked for.
func TestH2GoAwayAfterARequest(t *testing.T) {
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

// TestH2LargeReplayComesWhole, and so does what follows it.
func TestH2LargeReplayComesWhole(t *testing.T) {
	inLoom(t, stream.Bounds{}, func(t *testing.T, lo *loom) {
		big := strings.Repeat("x", 100<<10)
		for range 20 {
			lo.ring.Append(say(big))
		}
		p := lo.dial(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 25})
		p.Grant(0, 1<<25)
		id := p.Ask("GET", "/", nil)
		synctest.Wait()
		lo.ring.Append(say(big))
		synctest.Wait()
		got := p.Got(id)
		if n := strings.Count(got.Body.String(), "data: "+big+"\n"); n != 21 {
			t.Errorf("got %d of 21", n)
		}
		if n := lo.route.Stats.Replayed.Load(); n != 20 {
			t.Errorf("%d counted as replayed", n)
		}
		if n := lo.route.Stats.Events.Load(); n != 21 {
			t.Errorf("%d counted as sent", n)
		}
		p.Conn.Close()
	})
}

// TestH2ManySmallEvents: more than one reading of the ring brings.
func TestH2ManySmallEvents(t *testing.T) {
	inLoom(t, stream.Bounds{Events: 5000}, func(t *testing.T, lo *loom) {
		for range 3 * mostEvents {
			lo.ring.Append(say("x"))
		}
		p := lo.dial()
		id := p.Ask("GET", "/", nil)
		synctest.Wait()
		if got := p.Got(id); strings.Count(got.Body.String(), "data: x\n") != 3*mostEvents {
			t.Errorf("got %d of %d", strings.Count(got.Body.String(), "data: x\n"), 3*mostEvents)
		}
		p.Conn.Close()
	})
}

// TestH2AQuarterOfTheWindowIsForEvents: a download that takes all it gets does not keep them.
func TestH2AQuarterOfTheWindowIsForEvents(t *testing.T) {
	inLoom(t, stream.Bounds{}, func(t *testing.T, lo *loom) {
		p := lo.dial(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 25})
		p.Hold()
		id := p.Ask("GET", "/", nil)
		synctest.Wait()
		p.Lines(id)
		big := p.Ask("GET", "/bulk?1000000", nil)
		synctest.Wait()
		lo.ring.Append(say("1"))
		for turn := range 10 {
			p.Grant(0, h2test.FirstWindow/2)
			synctest.Wait()
			lo.ring.Append(say(strings.Repeat("x", 1000)))
			synctest.Wait()
			if got := p.Got(id); strings.Count(got.Body.String(), "data: ") != turn+2 {
				t.Fatalf("after %d grants: %q", turn+1, got.Body.String())
			}
		}
		if got := p.Got(big).Body.Len(); got < 200_000 {
			t.Errorf("the download has got %d bytes", got)
		}
		p.Conn.Close()
	})
}

// TestH2SnapshotIsNotLost: what stands in for the past comes, whatever the client's window.
func TestH2SnapshotIsNotLost(t *testing.T) {
	for _, window := range []uint32{h2test.FirstWindow, 0, 5, 50} {
		inLoom(t, stream.Bounds{Start: 1}, func(t *testing.T, lo *loom) {
			for i := range 5 {
				lo.ring.Append(translate.Message{Key: fmt.Sprint(i), Data: fmt.Append(nil, "key", i)})
			}
			lo.cursor = stream.Begin
			p := lo.dial(http2.Setting{ID: http2.SettingInitialWindowSize, Val: window})
			id := p.Ask("GET", "/", nil)
			synctest.Wait()
			p.Grant(id, 10000)
			synctest.Wait()
			text := p.Got(id).Body.String()
			if n := strings.Count(text, "data: key"); n != 5 || strings.Contains(text, "gap") {
				t.Errorf("window %d: %d of 5 keys: %q", window, n, text)
			}
			p.Conn.Close()
		})
	}
}

// TestH2SnapshotAfterAGap: the same for a client that was slow, however it takes the gap.
func TestH2SnapshotAfterAGap(t *testing.T) {
	for _, piece := range []int64{10_000, 7} {
		inLoom(t, stream.Bounds{Events: 4}, func(t *testing.T, lo *loom) {
			p := lo.dial(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 100})
			id := p.Ask("GET", "/", nil)
			synctest.Wait()
			p.Hold()
			latest := map[string]int{}
			for i := range 50 {
				key := fmt.Sprint("key", i%4)
				latest[key] = i
				lo.ring.Append(translate.Message{Key: key, Data: fmt.Append(nil, key, "=", i)})
				synctest.Wait()
			}
			for range max(1, 3000/piece) {
				p.Grant(id, piece)
				synctest.Wait()
			}
			text := p.Got(id).Body.String()
			for key, i := range latest {
				if !strings.Contains(text, fmt.Sprintf("data: %s=%d\n", key, i)) {
					t.Fatalf("granted by %d: the newest of %s is missing: %q", piece, key, text)
				}
			}
			p.Conn.Close()
		})
	}
}

// TestH2AFullRingDoesNotKeepTheOthers: a client that takes all that a connection carries is not written to before all others.
func TestH2AFullRingDoesNotKeepTheOthers(t *testing.T) {
	inLoom(t, stream.Bounds{}, func(t *testing.T, lo *loom) {
		p := lo.dial(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
		p.Grant(0, 1<<30)
		first := p.Ask("GET", "/", nil)
		synctest.Wait()
		p.Ask("GET", "/other", nil)
		synctest.Wait()
		frames, quiet := 0, 0
		p.Came = func(id uint32) {
			if id == first {
				quiet++
			} else if frames++; frames < 500 {
				lo.other.Append(say(strings.Repeat("x", 20_000)))
			} else if frames == 500 && quiet == 0 {
				t.Error("nothing has come in the other stream")
			}
			if frames == 50 {
				lo.ring.Append(say("1"))
			}
		}
		for range 10 {
			lo.other.Append(say(strings.Repeat("x", 20_000)))
		}
		synctest.Wait()
		if frames < 500 || quiet != 1 {
			t.Errorf("%d frames, and %d of the other stream", frames, quiet)
		}
		p.Conn.Close()
	})
}

// TestH2IdleConnections end with a GOAWAY, those with event streams do not, however long nothing else happens.
func TestH2IdleConnections(t *testing.T) {
	inLoom(t, stream.Bounds{}, func(t *testing.T, lo *loom) {
		idle, used := lo.dial(), lo.dial()
		id := used.Ask("GET", "/", nil)
		pass(time.Minute)
		big := idle.Ask("GET", "/bulk?1000", nil)
		synctest.Wait()
		pass((2 * time.Minute) - time.Second)
		if n, _ := idle.GoAways(); n > 0 || idle.Got(big).Body.Len() != 1000 {
			t.Fatal("closed before its time")
		}
		pass(time.Second)
		if n, _ := idle.GoAways(); n != 1 {
			t.Fatal("no GOAWAY")
		}
		late := idle.Ask("GET", "/bulk?1000", nil)
		pass(time.Second)
		<-idle.Done
		if idle.Got(late).Status != "" {
			t.Error("a request after GOAWAY was answered, which its client asks again elsewhere")
		}
		pass(time.Hour)
		used.Write(func(f *http2.Framer) error { return f.WriteGoAway(0, 0, nil) }) // it will not push; we do not either
		pass(time.Hour)
		lo.ring.Append(say("there"))
		synctest.Wait()
		n, _ := used.GoAways()
		if got := used.Lines(id); n > 0 || got[len(got)-2] != "data: there" {
			t.Errorf("%d GOAWAYs, and %q", n, got[len(got)-2])
		}
		used.Write(func(f *http2.Framer) error { return f.WriteRSTStream(id, http2.ErrCodeCancel) })
		synctest.Wait()
		if n := lo.route.Stats.Disconnected[Left].Load(); n != 1 {
			t.Errorf("%d have left", n)
		}
		pass((2 * time.Minute) + time.Second)
		<-used.Done
	})
}

// TestH2TheWindowOfTheConnection: event streams may use all of it; what net/http would send meanwhile comes after that,
// whole, and then they share.
func TestH2TheWindowOfTheConnection(t *testing.T) {
	inLoom(t, stream.Bounds{}, func(t *testing.T, lo *loom) {
		p := lo.dial(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
		p.Hold()
		id := p.Ask("GET", "/", nil)
		synctest.Wait()
		text := strings.Repeat("x", 1000)
		for range 100 {
			lo.ring.Append(say(text))
		}
		synctest.Wait()
		if got := p.Got(id); got.Body.Len() != h2test.FirstWindow {
			t.Fatalf("got %d bytes of a window of %d", got.Body.Len(), h2test.FirstWindow)
		}
		bulks := []uint32{p.Ask("GET", "/bulk?100000", nil), p.Ask("GET", "/bulk?100000", nil)}
		pass(time.Second)
		// A client that grants once it has got half of the window, as many do.
		total := func() (n int64) {
			for _, id := range p.Streams() {
				got := p.Got(id)
				n += int64(got.Body.Len())
			}
			return n
		}
		granted, turns := int64(h2test.FirstWindow), 0
		for ; turns < 100; turns++ {
			if due := h2test.FirstWindow - (granted - total()); due >= h2test.FirstWindow/2 {
				granted += due
				p.Grant(0, due)
				pass(time.Second)
				continue
			}
			break
		}
		got := p.Got(id)
		if n := strings.Count(got.Body.String(), "data: "); n != 100 {
			t.Errorf("%d of 100 events, after %d grants", n, turns)
		}
		for _, id := range bulks {
			if got := p.Got(id); !bytes.Equal(got.Body.Bytes(), h2test.Bulk(100_000)) || !got.Ended {
				t.Errorf("%d of 100000 bytes, ended: %v, after %d grants", got.Body.Len(), got.Ended, turns)
			}
		}
		p.Conn.Close()
	})
}
