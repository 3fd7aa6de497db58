package h2

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"sidestream/proxy/deliver/h2/h2test"
)

// thirst has an adopted stream use the connection's window, of so many bytes, whose client grants nothing by itself.
func (wo *works) thirst(window int64) (p *h2test.Peer, f *fountain, events uint32) {
	p, f = wo.dial(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 24})
	p.Hold()
	if window > firstWindow {
		p.Grant(0, window-firstWindow)
	}
	events = p.Ask("GET", "/", nil)
	synctest.Wait()
	for p.Left() > 0 {
		f.pour(strings.Repeat("x", 1000))
		synctest.Wait()
	}
	return p, f, events
}

// TestHeldDataIsPassedBy: what net/http has to say besides does not wait for a window, nor does anybody else.
func TestHeldDataIsPassedBy(t *testing.T) {
	inWorks(t, func(t *testing.T, wo *works) {
		p, f, events := wo.thirst(firstWindow)
		big := p.Ask("GET", "/bulk?1000", nil)
		cancelled := p.Ask("GET", "/bulk?30000", nil)
		pass(time.Second)
		p.Cancel(cancelled)
		p.Ping()
		head := p.Ask("HEAD", "/bulk?1", nil)
		empty := p.Ask("GET", "/head?10", nil)
		pass(time.Second)
		if got := p.Got(head); p.Pings() != 1 || !got.Ended || !p.Got(empty).Ended {
			t.Errorf("%d PINGs answered, a HEAD %v, an empty answer %v", p.Pings(), got.Ended, p.Got(empty).Ended)
		}
		if got := p.Got(big); got.Status != "200" || got.Body.Len() != 0 || got.Ended {
			t.Errorf("got %s and %d bytes without a window", got.Status, got.Body.Len())
		}
		f.pour("last")
		pass(3 * time.Minute) // and the connection is not idle
		if n, _ := p.GoAways(); p.Got(big).Reset != 0 || n != 0 {
			t.Fatal("what waits was given up")
		}
		p.Grant(0, 1<<20)
		pass(time.Second)
		if got := p.Got(big); !got.Ended || !bytes.Equal(got.Body.Bytes(), h2test.Bulk(1000)) {
			t.Errorf("got %d bytes, ended: %v", got.Body.Len(), got.Ended)
		}
		if got := p.Got(events); got.Reset == 0 { // it took nothing for 30 s
			t.Error("the event stream has not been cut")
		}
		p.Conn.Close()
	})
}

// TestHeldIsBounded: what a client lets pile up is bounded, in bytes and in time.
func TestHeldIsBounded(t *testing.T) {
	for name, grants := range map[string]bool{"nothing": false, "everything, late": true} {
		t.Run(name, func(t *testing.T) {
			inWorks(t, func(t *testing.T, wo *works) {
				p, f, _ := wo.thirst(10 * maxHeld)
				big := p.Ask("GET", "/bulk?1000000", nil)
				pass(20 * time.Second)
				c := f.conn
				c.mu.Lock()
				if most := int64(maxHeld + framePayload); c.waiting < maxHeld || c.waiting > most || c.blocked == 0 {
					t.Errorf("%d bytes are held; at most %d should be", c.waiting, most)
				}
				c.mu.Unlock()
				second := p.Ask("GET", "/", nil) // whose head has to wait
				pass(9 * time.Second)
				if closed(p.Done) {
					t.Fatal("cut early")
				}
				if grants {
					p.Flow()
					p.Grant(0, 1<<24)
					pass(time.Second)
					if got := p.Got(big); !got.Ended || !bytes.Equal(got.Body.Bytes(), h2test.Bulk(1_000_000)) || p.Got(second).Status != "200" {
						t.Errorf("got %d bytes, ended: %v", got.Body.Len(), got.Ended)
					}
					p.Conn.Close()
					return
				}
				pass(2 * time.Second)
				if !closed(p.Done) || f.stall != 2 {
					t.Errorf("after 30 s: cut: %v; %d have stalled", closed(p.Done), f.stall)
				}
			})
		})
	}
}

// TestTrailersAfterHeldData: the frames of a stream stay in their order, as do all heads.
func TestTrailersAfterHeldData(t *testing.T) {
	inWorks(t, func(t *testing.T, wo *works) {
		p, _, _ := wo.thirst(firstWindow)
		id := p.Ask("GET", "/trailers?50000", nil)
		pass(time.Second)
		other := p.Ask("GET", "/head?20", nil)
		for range 12 {
			p.Grant(0, 5000)
			pass(time.Second)
		}
		if got := p.Got(id); !got.Ended || !bytes.Equal(got.Body.Bytes(), h2test.Bulk(50_000)) || !p.Got(other).Ended {
			t.Errorf("got %d bytes, ended: %v; the other: %v", got.Body.Len(), got.Ended, p.Got(other).Ended)
		}
		p.Conn.Close()
	})
}

// TestResetAfterHeldData: an answer that is complete is not cut by the word that no more of its request is read.
func TestResetAfterHeldData(t *testing.T) {
	inWorks(t, func(t *testing.T, wo *works) {
		p, _, _ := wo.thirst(firstWindow)
		id := p.Next()
		p.Ask("POST", "/bulk?20000", make([]byte, 100_000)) // more than net/http reads of a body that its handler does not
		pass(time.Second)
		p.Grant(0, 1<<20)
		pass(time.Second)
		if got := p.Got(id); !got.Ended || !bytes.Equal(got.Body.Bytes(), h2test.Bulk(20_000)) {
			t.Errorf("got %d bytes, ended: %v, reset: %v", got.Body.Len(), got.Ended, got.Reset)
		}
		p.Conn.Close()
	})
}

// TestUnreadEventsDoNotEndADownload: net/http gets all that the client grants, which for many is something only once half
// of the window is read.
func TestUnreadEventsDoNotEndADownload(t *testing.T) {
	for _, unread := range []int{1000, 20_000, 30_000} {
		inWorks(t, func(t *testing.T, wo *works) {
			p, f := wo.dial(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
			p.Hold()
			p.Ask("GET", "/", nil)
			synctest.Wait()
			f.pour(strings.Repeat("x", unread))
			synctest.Wait()
			big := p.Ask("GET", "/bulk?1000000", nil)
			granted := 0
			for {
				pass(time.Second)
				due := p.Got(big).Body.Len() - granted
				if due < firstWindow/2 {
					break
				}
				granted += due
				p.Grant(0, int64(due))
			}
			if got := p.Got(big); !got.Ended {
				t.Errorf("unread %d: the download has got %d bytes; %d of the window are left", unread, got.Body.Len(), p.Left())
			}
			p.Conn.Close()
		})
	}
}

// TestSlowHead: a request's head does not last for ever, also where there is something else on the connection.
func TestSlowHead(t *testing.T) {
	for _, beside := range []bool{false, true} {
		inWorks(t, func(t *testing.T, wo *works) {
			p, _ := wo.dial()
			if beside {
				p.Ask("GET", "/", nil)
				pass(time.Hour)
				p.Ask("GET", "/head?10", nil)
				pass(time.Hour)
			}
			synctest.Wait()
			p.Hold() // nothing within the head
			var block bytes.Buffer
			hpack.NewEncoder(&block).WriteField(hpack.HeaderField{Name: ":method", Value: "GET"})
			p.Write(func(f *http2.Framer) error {
				return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 9, BlockFragment: block.Bytes()})
			})
			pass(headTime - time.Second)
			if closed(p.Done) {
				t.Errorf("%v: closed early", beside)
			}
			pass(2 * time.Second)
			if !closed(p.Done) {
				t.Error("still open")
			}
			p.Conn.Close()
		})
	}
}

// TestHeadsLeaveFirst: where an answer's data has to wait, its head has left before.
func TestHeadsLeaveFirst(t *testing.T) {
	inWorks(t, func(t *testing.T, wo *works) {
		p, f := wo.dial()
		defer p.Conn.Close()
		p.Hold()
		p.Ask("GET", "/", nil)
		synctest.Wait()
		f.pour(strings.Repeat("x", int(p.Left())-100))
		synctest.Wait()
		p.Flow()
		for range 300 {
			pass(2 * reserveTime)
			id := p.Ask("GET", "/bulk?3000", nil) // the peer says where it hears of data first
			f.pour("y")
			for !p.Got(id).Ended && !t.Failed() {
				pass(reserveTime)
			}
		}
	})
}
