//go:build linux && !portable

package deliver

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"sidestream/proxy/stream"
)

func TestH2Ends(t *testing.T) {
	for _, c := range endings {
		inLoom(t, stream.Bounds{}, func(t *testing.T, lo *loom) {
			p := lo.dial()
			id := p.Ask("GET", "/", nil)
			synctest.Wait()
			lo.ring.Append(say("1"))
			lo.ring.Close(c.end)
			synctest.Wait()
			if got := p.Got(id); got.Ended != c.clean || got.Reset != 0 {
				t.Errorf("%+v: ended: %v, reset: %v", c.end, got.Ended, got.Reset)
			}
			pass(moment)
			got := p.Got(id)
			lines := slices.DeleteFunc(p.Lines(id), func(l string) bool { return strings.HasPrefix(l, "id: ") })
			if got.Ended != c.clean || (got.Reset == http2.ErrCodeInternal) == c.clean || !strings.HasPrefix(lines[len(lines)-1], c.last) {
				t.Errorf("%+v: ended: %v, reset: %v, after %q", c.end, got.Ended, got.Reset, lines)
			}
			if lo.route.Stats.Disconnected[c.reason].Load() != 1 || lo.route.Stats.Clients.Load() != 0 {
				t.Errorf("%+v: not counted as %s", c.end, Reasons[c.reason])
			}
			big := p.Ask("GET", "/bulk?1000", nil)
			synctest.Wait()
			if p.Got(big).Body.Len() != 1000 {
				t.Error("the connection is of no use any more")
			}
			p.Conn.Close()
		})
	}
}

func TestH2DrainSpreadsTheClients(t *testing.T) {
	inLoom(t, stream.Bounds{}, func(t *testing.T, lo *loom) {
		p, other := lo.dial(), lo.dial()
		for range 200 {
			p.Ask("GET", "/", nil)
		}
		full := other.Ask("GET", "/", nil)
		synctest.Wait()
		other.Hold()
		lo.ring.Append(say(strings.Repeat("x", 70<<10)))
		begin, halves := time.Now(), 0
		drained := make(chan struct{})
		go func() { lo.clients.Drain(10 * time.Second); close(drained) }()
		pass(5 * time.Second)
		halves = int(lo.route.Stats.Disconnected[Drained].Load())
		<-drained
		if took := time.Since(begin); took < 9*time.Second || took > 10*time.Second+moment || halves < 60 || halves > 140 {
			t.Errorf("draining took %v, %d of 201 were gone after half of it", took, halves)
		}
		for _, id := range p.Streams() {
			got, lines := p.Got(id), p.Lines(id)
			if got.Reset != http2.ErrCodeInternal || !hint.MatchString(lines[len(lines)-1]) {
				t.Fatalf("reset: %v, after %q", got.Reset, lines[len(lines)-1])
			}
		}
		if got := other.Got(full); got.Reset != http2.ErrCodeInternal || got.Ended {
			t.Errorf("whose window was full: reset %v, ended %v", got.Reset, got.Ended)
		}
		if n := lo.route.Stats.Disconnected[Drained].Load(); n != 201 {
			t.Errorf("%d counted as drained", n)
		}
		late := p.Ask("GET", "/", nil)
		pass(moment)
		if got := p.Got(late); got.Reset == 0 || !strings.Contains(got.Body.String(), "stream.busy") {
			t.Errorf("a client that came late got %q", got.Body.String())
		}
		p.Conn.Close()
		other.Conn.Close()
	})
}

func TestH2ReloadReleases(t *testing.T) {
	inLoom(t, stream.Bounds{}, func(t *testing.T, lo *loom) {
		lo.leaving = &stream.Release{Window: 2 * time.Second, Replaced: true}
		lo.clients.Set(time.Hour, 0)
		p := lo.dial()
		id := p.Ask("GET", "/", nil)
		pass(time.Second)
		p.Lines(id)
		close(lo.retiring)
		lo.ring.Wake()
		pass(2*time.Second + moment)
		hint := line{text: p.Lines(id)[0]}
		if got := p.Got(id); got.Reset != http2.ErrCodeInternal || lo.route.Stats.Disconnected[Reloaded].Load() != 1 || retryOf(t, hint) > 4*time.Second {
			t.Errorf("reset: %v, told %q", got.Reset, hint.text)
		}
		p.Conn.Close()
	})
}

func TestH2AgeReleasesWithinTenSeconds(t *testing.T) {
	inLoom(t, stream.Bounds{}, func(t *testing.T, lo *loom) {
		p := lo.dial()
		id := p.Ask("GET", "/", nil)
		pass(61 * time.Second)
		p.Lines(id)
		close(lo.retiring)
		lo.ring.Wake()
		lo.ring.Append(say("still served"))
		synctest.Wait()
		if got := p.Lines(id); len(got) != 2 || got[0] != "data: still served" {
			t.Errorf("got %q", got)
		}
		pass(stream.RetireTime + moment)
		if got := p.Got(id); got.Reset != http2.ErrCodeInternal || lo.route.Stats.Disconnected[Aged].Load() != 1 {
			t.Errorf("reset: %v, %d counted", got.Reset, lo.route.Stats.Disconnected[Aged].Load())
		}
		p.Conn.Close()
	})
}
