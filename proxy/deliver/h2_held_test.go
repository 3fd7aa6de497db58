//go:build linux && !portable

package deliver

import (
	"bytes"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"sidestream/proxy/stream"
)

// thirst has event streams use the connection's window, of so many bytes, whose client grants nothing by itself.
func (lo *loom) thirst(window int64) (p *peerH2, events uint32) {
	p = lo.dial(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 24})
	p.hold()
	if window > firstWindow {
		p.grant(0, window-firstWindow)
	}
	events = p.ask("GET", "/", nil)
	synctest.Wait()
	for p.left() > 0 {
		lo.ring.Append(say(strings.Repeat("x", 1000)))
		synctest.Wait()
	}
	return p, events
}

// left is what is left of the connection's window.
func (p *peerH2) left() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.window
}

func (p *peerH2) ping() {
	p.write(func(f *http2.Framer) error { return f.WritePing(false, [8]byte{1}) })
}

func (p *peerH2) pinged() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pings
}

// late has lo's handler answer 10 ms later.
func (lo *loom) late() {
	lo.s.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(10 * time.Millisecond)
		lo.ServeHTTP(w, r)
	})
}

// TestH2HeldDataIsPassedBy: what net/http has to say besides does not wait for a window, nor does anybody else.
func TestH2HeldDataIsPassedBy(t *testing.T) {
	inLoom(t, stream.Bounds{}, func(t *testing.T, lo *loom) {
		p, events := lo.thirst(firstWindow)
		big := p.ask("GET", "/bulk?1000", nil)
		cancelled := p.ask("GET", "/bulk?30000", nil)
		pass(time.Second)
		p.write(func(f *http2.Framer) error { return f.WriteRSTStream(cancelled, http2.ErrCodeCancel) })
		p.ping()
		head := p.ask("HEAD", "/bulk?1", nil)
		empty := p.ask("GET", "/head?10", nil)
		pass(time.Second)
		if got := p.got(head); p.pinged() != 1 || !got.ended || !p.got(empty).ended {
			t.Errorf("%d PINGs answered, a HEAD %v, an empty answer %v", p.pinged(), got.ended, p.got(empty).ended)
		}
		if got := p.got(big); got.status != "200" || got.body.Len() != 0 || got.ended {
			t.Errorf("got %s and %d bytes without a window", got.status, got.body.Len())
		}
		lo.ring.Append(say("last"))
		pass(3 * time.Minute) // and the connection is not idle
		if p.got(big).reset != 0 || p.goAways != 0 {
			t.Fatal("what waits was given up")
		}
		p.grant(0, 1<<20)
		pass(time.Second)
		if got := p.got(big); !got.ended || !bytes.Equal(got.body.Bytes(), bulk(1000)) {
			t.Errorf("got %d bytes, ended: %v", got.body.Len(), got.ended)
		}
		if got := p.got(events); got.reset == 0 { // it took nothing for 30 s
			t.Error("the event stream has not been cut")
		}
		p.conn.Close()
	})
}

// TestH2HeldIsBounded: what a client lets pile up is bounded, in bytes and in time.
func TestH2HeldIsBounded(t *testing.T) {
	for name, grants := range map[string]bool{"nothing": false, "everything, late": true} {
		t.Run(name, func(t *testing.T) {
			inLoom(t, stream.Bounds{}, func(t *testing.T, lo *loom) {
				p, _ := lo.thirst(10 * h2MaxHeld)
				big := p.ask("GET", "/bulk?1000000", nil)
				pass(20 * time.Second)
				for c := range lo.clients.engine.carriers {
					c.mu.Lock()
					if most := int64(h2MaxHeld + framePayload); c.waiting < h2MaxHeld || c.waiting > most || c.blocked == 0 {
						t.Errorf("%d bytes are held; at most %d should be", c.waiting, most)
					}
					c.mu.Unlock()
				}
				second := p.ask("GET", "/", nil) // whose head has to wait
				pass(9 * time.Second)
				if closed(p.done) {
					t.Fatal("cut early")
				}
				if grants {
					p.mu.Lock()
					p.grants = true
					p.mu.Unlock()
					p.grant(0, 1<<24)
					pass(time.Second)
					if got := p.got(big); !got.ended || !bytes.Equal(got.body.Bytes(), bulk(1_000_000)) || p.got(second).status != "200" {
						t.Errorf("got %d bytes, ended: %v", got.body.Len(), got.ended)
					}
					p.conn.Close()
					return
				}
				pass(2 * time.Second)
				if n := lo.route.Stats.Gone[Stalled].Load(); !closed(p.done) || n != 2 {
					t.Errorf("after 30 s: cut: %v; %d have stalled", closed(p.done), n)
				}
			})
		})
	}
}

// TestH2DrainWithHeldData: who waits behind it leaves with the others, or is cut.
func TestH2DrainWithHeldData(t *testing.T) {
	inLoom(t, stream.Bounds{}, func(t *testing.T, lo *loom) {
		p, _ := lo.thirst(10 * h2MaxHeld)
		p.ask("GET", "/bulk?1000000", nil)
		synctest.Wait()
		p.ask("GET", "/", nil)
		synctest.Wait()
		drained := make(chan struct{})
		go func() { lo.clients.Drain(time.Second); close(drained) }()
		pass(stallTime + time.Second)
		if !closed(drained) {
			t.Errorf("%d clients are left", lo.route.Stats.Clients.Load())
		}
		p.conn.Close()
	})
}

// TestH2TrailersBehindHeldData: the frames of a stream stay in their order, as do all heads.
func TestH2TrailersBehindHeldData(t *testing.T) {
	inLoom(t, stream.Bounds{}, func(t *testing.T, lo *loom) {
		lo.s.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/trailers" {
				lo.ServeHTTP(w, r)
				return
			}
			w.Header().Set("Trailer", "X-Sum")
			w.Write(bulk(50_000))
			w.Header().Set("X-Sum", "1")
		})
		p, _ := lo.thirst(firstWindow)
		id := p.ask("GET", "/trailers", nil)
		pass(time.Second)
		other := p.ask("GET", "/head?20", nil)
		for range 12 {
			p.grant(0, 5000)
			pass(time.Second)
		}
		if got := p.got(id); !got.ended || !bytes.Equal(got.body.Bytes(), bulk(50_000)) || !p.got(other).ended {
			t.Errorf("got %d bytes, ended: %v; the other: %v", got.body.Len(), got.ended, p.got(other).ended)
		}
		p.conn.Close()
	})
}

// TestH2ResetBehindHeldData: an answer that is complete is not cut by the word that no more of its request is read.
func TestH2ResetBehindHeldData(t *testing.T) {
	inLoom(t, stream.Bounds{}, func(t *testing.T, lo *loom) {
		p, _ := lo.thirst(firstWindow)
		p.writing.Lock()
		id := p.next
		p.writing.Unlock()
		p.ask("POST", "/bulk?20000", make([]byte, 100_000)) // more than net/http reads for nobody
		pass(time.Second)
		p.grant(0, 1<<20)
		pass(time.Second)
		if got := p.got(id); !got.ended || !bytes.Equal(got.body.Bytes(), bulk(20_000)) {
			t.Errorf("got %d bytes, ended: %v, reset: %v", got.body.Len(), got.ended, got.reset)
		}
		p.conn.Close()
	})
}

// TestH2UnreadEventsDoNotEndADownload: net/http gets all that the client grants, which for many is something only once half
// of the window is read.
func TestH2UnreadEventsDoNotEndADownload(t *testing.T) {
	for _, unread := range []int{1000, 20_000, 30_000} {
		inLoom(t, stream.Bounds{}, func(t *testing.T, lo *loom) {
			p := lo.dial(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
			p.hold()
			p.ask("GET", "/", nil)
			synctest.Wait()
			lo.ring.Append(say(strings.Repeat("x", unread)))
			synctest.Wait()
			big := p.ask("GET", "/bulk?1000000", nil)
			granted := 0
			for {
				pass(time.Second)
				due := p.got(big).body.Len() - granted
				if due < firstWindow/2 {
					break
				}
				granted += due
				p.grant(0, int64(due))
			}
			if got := p.got(big); !got.ended {
				t.Errorf("unread %d: the download has got %d bytes; %d of the window are left", unread, got.body.Len(), p.left())
			}
			p.conn.Close()
		})
	}
}

// TestH2ABusyRingLeavesOthersTheWindow: nor is anybody cut for what others have taken.
func TestH2ABusyRingLeavesOthersTheWindow(t *testing.T) {
	for _, busy := range []string{"/", "/other"} {
		inLoom(t, stream.Bounds{}, func(t *testing.T, lo *loom) {
			p := lo.dial(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
			p.hold()
			ids := map[string]uint32{"/": p.ask("GET", "/", nil)}
			synctest.Wait()
			ids["/other"] = p.ask("GET", "/other", nil)
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
				p.grant(0, 60_000)
				synctest.Wait()
				if want := (i + 80) / 100; strings.Count(p.got(quiet).body.String(), "small") < want {
					t.Fatalf("%s, after %d ms: %d of %d", busy, i*200, strings.Count(p.got(quiet).body.String(), "small"), want)
				}
			}
			for _, id := range ids {
				if got := p.got(id); got.reset != 0 {
					t.Errorf("reset: %v", got.reset)
				}
			}
			p.conn.Close()
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
			id := p.ask("GET", "/", nil)
			synctest.Wait()
			if got := p.got(id); !got.ended {
				t.Fatal("not ended")
			}
		}
		p.conn.Close()
	})
}

// TestH2ABodyThatComesLate keeps the goroutine: net/http takes the request for open until then.
func TestH2ABodyThatComesLate(t *testing.T) {
	inLoom(t, stream.Bounds{}, func(t *testing.T, lo *loom) {
		lo.late()
		p := lo.dial()
		p.hold() // nothing between a frame's head and its payload
		synctest.Wait()
		id := p.ask("GET", "/", []byte{})
		p.writing.Lock()
		p.conn.Write(h2Frame{5, frameData, flagEndStream, id}.append(nil))
		p.writing.Unlock()
		pass(20 * time.Millisecond)
		p.writing.Lock()
		p.conn.Write([]byte("hello"))
		p.writing.Unlock()
		pass(time.Second)
		lo.ring.Append(say("1"))
		synctest.Wait()
		if got := p.got(id); got.reset != 0 || got.ended || !strings.Contains(got.body.String(), "data: 1") {
			t.Errorf("reset: %v, ended: %v, got %q", got.reset, got.ended, got.body.String())
		}
		p.conn.Close()
	})
}

// TestH2SlowHead: a request's head does not last for ever, also where there is something else on the connection.
func TestH2SlowHead(t *testing.T) {
	for _, beside := range []bool{false, true} {
		inLoom(t, stream.Bounds{}, func(t *testing.T, lo *loom) {
			p := lo.dial()
			if beside {
				p.ask("GET", "/", nil)
				pass(time.Hour)
				p.ask("GET", "/head?10", nil)
				pass(time.Hour)
			}
			synctest.Wait()
			p.hold() // nothing within the head
			var block bytes.Buffer
			hpack.NewEncoder(&block).WriteField(hpack.HeaderField{Name: ":method", Value: "GET"})
			p.write(func(f *http2.Framer) error {
				return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 9, BlockFragment: block.Bytes()})
			})
			pass(h2HeadTime - time.Second)
			if closed(p.done) {
				t.Errorf("%v: closed early", beside)
			}
			pass(2 * time.Second)
			if !closed(p.done) {
				t.Error("still open")
			}
			p.conn.Close()
		})
	}
}

// TestH2GoAwayBehindARequest: a client that will ask for nothing more gets what it has asked for.
func TestH2GoAwayBehindARequest(t *testing.T) {
	inLoom(t, stream.Bounds{}, func(t *testing.T, lo *loom) {
		lo.late()
		p := lo.dial()
		id := p.ask("GET", "/", nil)
		p.write(func(f *http2.Framer) error { return f.WriteGoAway(0, 0, nil) })
		pass(time.Minute)
		lo.ring.Append(say("1"))
		synctest.Wait()
		if got := p.got(id); !strings.Contains(got.body.String(), "data: 1") {
			t.Errorf("got %q", got.body.String())
		}
		p.conn.Close()
	})
}
