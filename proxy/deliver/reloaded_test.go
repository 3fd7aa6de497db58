package deliver

import (
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sidestream/proxy/stream"
)

// Clients of a route that a reload replaces leave over its window, and are told to come back as if nothing had to be waited for.
func TestReloadReleases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, stream.Bounds{})
		b.leaving = &stream.Release{Window: 4 * time.Second, Replaced: true}
		b.clients.Set(time.Hour, 0) // SSE_RESTART is not of reloads
		var all []*reader
		for range 200 {
			all = append(all, b.connect())
		}
		close(b.retiring)
		b.ring.Wake()
		late := 0
		for _, r := range all {
			<-r.done
			got := r.take()
			last := got[len(got)-1]
			if hint := retryOf(t, last); hint < time.Second || hint >= 4*time.Second {
				t.Errorf("told to come back after %v, want 1 s and a part of RETRY", hint)
			}
			if last.at > 4*time.Second {
				t.Errorf("left after %v", last.at)
			}
			if last.at > 2*time.Second {
				late++
			}
		}
		if n := b.route.Stats.Disconnected[Reloaded].Load(); n != 200 || late < 60 || late > 140 {
			t.Errorf("%d are counted, %d left in the second half", n, late)
		}
		b.close()
	})
}

// The same for every writer.
func TestReloadReleasesFromEveryWriter(t *testing.T) {
	const window = 300 * time.Millisecond
	h := newHarbour(t, stream.Bounds{}, 0)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			c, in := h.open("1.1", "")
			if c == nil {
				return
			}
			defer c.Close()
			var told strings.Builder
			for {
				line, err := in.ReadString('\n')
				if told.WriteString(line); err != nil {
					break
				}
			}
			if n := strings.Count(told.String(), "retry: "); n != 2 {
				t.Errorf("it was told %q", told.String())
			}
		})
	}
	eventually(t, "they are there", func() bool { return h.route.Stats.Clients.Load() == 20 })
	if by := h.clients.ByWriter(); by[ByGoroutine] == 0 && by[ByShard] == 0 {
		t.Errorf("written to by %v", by)
	}
	h.leaving = stream.Release{Window: window, Replaced: true}
	close(h.retire)
	h.ring.Wake()
	all.Wait()
	eventually(t, "they count as gone for the reload", func() bool { return h.route.Stats.Disconnected[Reloaded].Load() == 20 })
}

// A poll that waits is answered at once.
func TestReloadAnswersPolls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, stream.Bounds{})
		b.polls, b.leaving = true, &stream.Release{Window: time.Hour, Replaced: true}
		time.AfterFunc(time.Second, func() { close(b.retiring); b.ring.Wake() })
		got := b.poll(t, "x")
		if hint := retryOf(t, line{text: strings.TrimSpace(got.body)}); got.after != time.Second || hint > 4*time.Second || b.route.Stats.Disconnected[Reloaded].Load() != 1 {
			t.Errorf("after %v: %q, %v", got.after, got.body, &b.route.Stats.Disconnected)
		}
		b.close()
	})
}
