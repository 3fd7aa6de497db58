package h2

import (
	"math"
	"testing"
	"testing/synctest"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// TestWindowsHaveAnEnd: a window over 2^31-1 is FLOW_CONTROL_ERROR, of the stream or of the connection (RFC 9113, 6.9.1 and
// 6.9.2), for event streams as for what net/http answers.
func TestWindowsHaveAnEnd(t *testing.T) {
	inWorks(t, func(t *testing.T, wo *works) {
		p, f := wo.dial()
		events, other := p.Ask("GET", "/", nil), p.Ask("GET", "/", nil)
		synctest.Wait()
		p.Write(func(f *http2.Framer) error { return f.WriteWindowUpdate(events, math.MaxInt32) })
		synctest.Wait()
		if got := p.Got(events); got.Reset != http2.ErrCodeFlowControl {
			t.Errorf("an event stream's window over its end: reset %v, ended %v", got.Reset, got.Ended)
		}
		f.pour("1")
		synctest.Wait()
		if got := p.Got(other).Body.String(); got != "1" {
			t.Errorf("the stream beside it got %q", got)
		}
		p.Write(func(f *http2.Framer) error { return f.WriteWindowUpdate(0, math.MaxInt32) })
		<-p.Done
		if n, why := p.GoAways(); n != 1 || why != http2.ErrCodeFlowControl {
			t.Errorf("the connection's window over its end: %d GOAWAYs, %v", n, why)
		}
	})
	inWorks(t, func(t *testing.T, wo *works) {
		p, _ := wo.dial()
		id := p.Ask("GET", "/", nil)
		synctest.Wait()
		p.Write(func(f *http2.Framer) error { return f.WriteWindowUpdate(id, math.MaxInt32-firstWindow) })
		synctest.Wait()
		if got := p.Got(id); got.Reset != 0 || got.Ended {
			t.Errorf("the largest window that there can be: reset %v, ended %v", got.Reset, got.Ended)
		}
		p.Write(func(f *http2.Framer) error {
			return f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: firstWindow + 1})
		})
		<-p.Done
		if n, why := p.GoAways(); n != 1 || why != http2.ErrCodeFlowControl {
			t.Errorf("settings that make a window too large: %d GOAWAYs, %v", n, why)
		}
	})
}

// TestNoMoreStreamsThanAdvertised: what is one too many is refused, with the others and the compression of heads unharmed.
func TestNoMoreStreamsThanAdvertised(t *testing.T) {
	for name, param := range map[string]http2.HeadersFrameParam{
		"plain": {}, "padded": {PadLength: 7}, "with a priority": {Priority: http2.PriorityParam{StreamDep: 1, Weight: 3}},
		"with both": {PadLength: 200, Priority: http2.PriorityParam{StreamDep: 1}},
	} {
		inWorks(t, func(t *testing.T, wo *works) {
			p, f := wo.dial()
			for range maxStreams {
				p.Ask("GET", "/", nil)
			}
			synctest.Wait()
			if n := f.conn.Adopted(); n != maxStreams {
				t.Fatalf("%d clients", n)
			}
			excess := p.AskWith(param, hpack.HeaderField{Name: "x-new", Value: "in the table of the compression"})
			synctest.Wait()
			if got := p.Got(excess); got.Reset != http2.ErrCodeProtocol || got.Status != "" {
				t.Errorf("%s: one too many: reset %v, status %q", name, got.Reset, got.Status)
			}
			p.Cancel(1)
			synctest.Wait()
			again := p.AskWith(http2.HeadersFrameParam{}, hpack.HeaderField{Name: "x-new", Value: "in the table of the compression"})
			f.pour("1")
			synctest.Wait()
			for id := uint32(3); id <= again; id += 2 {
				if got := p.Got(id); id != excess && (got.Status != "200" || got.Reset != 0) {
					t.Errorf("%s: stream %d: status %q, reset %v", name, id, got.Status, got.Reset)
				}
			}
			p.Conn.Close()
		})
	}
}
