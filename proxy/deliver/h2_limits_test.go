//go:build linux && !portable

package deliver

import (
	"math"
	"testing"
	"testing/synctest"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"sidestream/proxy/stream"
)

// TestH2WindowsHaveAnEnd: a window over 2^31-1 is FLOW_CONTROL_ERROR, of the stream or of the connection (RFC 9113, 6.9.1 and
// 6.9.2), for event streams as for what net/http answers.
func TestH2WindowsHaveAnEnd(t *testing.T) {
	inLoom(t, stream.Bounds{}, func(t *testing.T, lo *loom) {
		p := lo.dial()
		events, other := p.ask("GET", "/", nil), p.ask("GET", "/", nil)
		synctest.Wait()
		p.write(func(f *http2.Framer) error { return f.WriteWindowUpdate(events, math.MaxInt32) })
		synctest.Wait()
		if got := p.got(events); got.reset != http2.ErrCodeFlowControl {
			t.Errorf("an event stream's window over its end: reset %v, ended %v", got.reset, got.ended)
		}
		lo.ring.Append(say("1"))
		synctest.Wait()
		if got := p.lines(other); len(got) < 2 || got[len(got)-2] != "data: 1" {
			t.Errorf("the stream beside it got %q", got)
		}
		p.write(func(f *http2.Framer) error { return f.WriteWindowUpdate(0, math.MaxInt32) })
		<-p.done
		if p.goAways != 1 || p.why != http2.ErrCodeFlowControl {
			t.Errorf("the connection's window over its end: %d GOAWAYs, %v", p.goAways, p.why)
		}
	})
	inLoom(t, stream.Bounds{}, func(t *testing.T, lo *loom) {
		p := lo.dial()
		id := p.ask("GET", "/", nil)
		synctest.Wait()
		p.write(func(f *http2.Framer) error { return f.WriteWindowUpdate(id, math.MaxInt32-firstWindow) })
		synctest.Wait()
		if got := p.got(id); got.reset != 0 || got.ended {
			t.Errorf("the largest window that there can be: reset %v, ended %v", got.reset, got.ended)
		}
		p.write(func(f *http2.Framer) error {
			return f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: firstWindow + 1})
		})
		<-p.done
		if p.goAways != 1 || p.why != http2.ErrCodeFlowControl {
			t.Errorf("settings that make a window too large: %d GOAWAYs, %v", p.goAways, p.why)
		}
	})
}

// TestH2NoMoreStreamsThanAdvertised: what is one too many is refused, with the others and the compression of heads unharmed.
func TestH2NoMoreStreamsThanAdvertised(t *testing.T) {
	for name, param := range map[string]http2.HeadersFrameParam{
		"plain": {}, "padded": {PadLength: 7}, "with a priority": {Priority: http2.PriorityParam{StreamDep: 1, Weight: 3}},
		"with both": {PadLength: 200, Priority: http2.PriorityParam{StreamDep: 1}},
	} {
		inLoom(t, stream.Bounds{}, func(t *testing.T, lo *loom) {
			p := lo.dial()
			for range h2MaxStreams {
				p.ask("GET", "/", nil)
			}
			synctest.Wait()
			if n := lo.strandsOf(); n != h2MaxStreams {
				t.Fatalf("%d clients", n)
			}
			excess := p.askWith(param, hpack.HeaderField{Name: "x-new", Value: "in the table of the compression"})
			synctest.Wait()
			if got := p.got(excess); got.reset != http2.ErrCodeProtocol || got.status != "" {
				t.Errorf("%s: one too many: reset %v, status %q", name, got.reset, got.status)
			}
			p.write(func(f *http2.Framer) error { return f.WriteRSTStream(1, http2.ErrCodeCancel) })
			synctest.Wait()
			again := p.askWith(http2.HeadersFrameParam{}, hpack.HeaderField{Name: "x-new", Value: "in the table of the compression"})
			lo.ring.Append(say("1"))
			synctest.Wait()
			for id := uint32(3); id <= again; id += 2 {
				if got := p.got(id); id != excess && (got.status != "200" || got.reset != 0) {
					t.Errorf("%s: stream %d: status %q, reset %v", name, id, got.status, got.reset)
				}
			}
			p.conn.Close()
		})
	}
}
