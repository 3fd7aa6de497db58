//go:build linux && !portable

package deliver

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"sidestream/proxy/access"
	"sidestream/proxy/stream"
)

func TestH2RevokedClientsAreCut(t *testing.T) {
	inLoom(t, stream.Bounds{}, func(t *testing.T, lo *loom) {
		p := lo.dial()
		joe, ann := access.NewPass(time.Time{}), access.NewPass(time.Time{})
		ask := func(of *access.Pass) uint32 {
			lo.pass = of
			id := p.Ask("GET", "/", nil)
			synctest.Wait()
			p.Lines(id)
			return id
		}
		one, two, other, free := ask(joe), ask(joe), ask(ann), ask(nil)
		if n := joe.End(401); n != 2 {
			t.Errorf("%d were cut", n)
		}
		lo.ring.Append(say("2"))
		synctest.Wait()
		for _, id := range []uint32{one, two} {
			if got := strings.Join(p.Lines(id), " "); !strings.Contains(got, `event: stream.refused data: {"status":401}`) || strings.Contains(got, "data: 2") {
				t.Errorf("%q", got)
			}
		}
		pass(moment)
		for _, id := range []uint32{one, two} {
			if p.Got(id).Reset != http2.ErrCodeInternal {
				t.Error("it goes on")
			}
		}
		for _, id := range []uint32{other, free} {
			if got := strings.Join(p.Lines(id), " "); !strings.HasPrefix(got, "data: 2") || p.Got(id).Reset != 0 {
				t.Errorf("%q", got)
			}
		}
		lo.pass = joe
		late := p.Ask("GET", "/", nil)
		pass(moment)
		if got := p.Got(late); !strings.HasPrefix(got.Body.String(), "retry: ") || !strings.Contains(got.Body.String(), "stream.refused") || strings.Contains(got.Body.String(), "data: 2\n") {
			t.Errorf("%q", got.Body.String())
		}
		if n := lo.route.Stats.Disconnected[Revoked].Load(); n != 3 {
			t.Errorf("%d counted as revoked", n)
		}
		p.Conn.Close()
		synctest.Wait()
		if n := ann.End(401) + joe.End(401); n != 0 {
			t.Errorf("%d are there that have left", n)
		}
	})
}

func TestH2ExpiredClientsComeBack(t *testing.T) {
	inLoom(t, stream.Bounds{}, func(t *testing.T, lo *loom) {
		p := lo.dial()
		lo.pass = access.NewPass(time.Now().Add(time.Minute))
		for range 50 {
			p.Ask("GET", "/", nil)
		}
		held := lo.dial()
		full := held.Ask("GET", "/", nil)
		synctest.Wait()
		held.Hold()
		gone := func() int64 { return lo.route.Stats.Disconnected[Expired].Load() }
		pass(time.Minute - time.Second)
		if gone() != 0 {
			t.Errorf("%d were told before", gone())
		}
		lo.ring.Append(say(strings.Repeat("x", 70<<10)))
		pass(10 * time.Second)
		if n := gone(); n < 10 || n > 40 {
			t.Errorf("%d of 51 after a third of the time", n)
		}
		pass(21 * time.Second)
		if gone() != 51 || held.Got(full).Reset == 0 {
			t.Errorf("%d were told", gone())
		}
		for _, id := range p.Streams() {
			if lines := p.Lines(id); !hint.MatchString(lines[len(lines)-1]) {
				t.Fatalf("after %q", lines[len(lines)-1])
			}
		}
		p.Conn.Close()
		held.Conn.Close()
	})
}

func TestH2HerdWaitsItsTurn(t *testing.T) {
	inLoom(t, stream.Bounds{}, func(t *testing.T, lo *loom) {
		lo.clients.Set(0, 100_000)
		for range 50 {
			lo.ring.Append(say(strings.Repeat("x", 1000)))
		}
		lo.cursor = 0
		p := lo.dial()
		for range 100 {
			p.Ask("GET", "/", nil)
		}
		synctest.Wait()
		lo.cursor, _ = lo.ring.Last()
		live := p.Ask("GET", "/", nil)
		synctest.Wait()
		pass(20 * time.Second)
		p.Lines(live)
		lo.ring.Append(say("new"))
		synctest.Wait()
		if got := p.Lines(live); len(got) == 0 || got[0] != "data: new" {
			t.Errorf("who is there: %q", got)
		}
		if n := lo.route.Stats.Events.Load(); n < 30*50 || n > 60*50 {
			t.Errorf("%d events after 20 s, of 5000", n)
		}
		pass(50 * time.Second)
		for _, id := range p.Streams() {
			if got := strings.Join(p.Lines(id), " "); id != live && (strings.Count(got, "data: xxx") != 50 || strings.Count(got, "data: new") != 1) {
				t.Errorf("%d of 50 events", strings.Count(got, "data: xxx"))
			}
		}
		p.Conn.Close()
	})
}
