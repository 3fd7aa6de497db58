package stream

import (
	"math"
	"testing"
	"testing/synctest"
	"time"

	"sidestream/proxy/history"
	"sidestream/translate"
)

// What comes from the clocks of other machines has its own order nonetheless, and none of it is yet to come; ages last as long as they say.
func TestClocksOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, take := range map[string]func(*Ring, []history.Event){
			"Restore": func(r *Ring, events []history.Event) { r.Restore(history.Loaded{Epoch: 5, Events: events}) },
			"Follow":  func(r *Ring, events []history.Event) { r.Follow(events, nil, nil, false) },
		} {
			r := NewRing(9, Bounds{Age: 10 * time.Second}, new(Stats), false)
			events := theirs(5, 1, "a", "b", "c", "d")
			for i, ago := range []time.Duration{8 * time.Second, -time.Hour, 5 * time.Second, time.Second} { // the second by a clock that is ahead
				events[i].At = time.UnixMilli(time.Now().Add(-ago).UnixMilli())
			}
			take(r, events)
			r.Append(translate.Message{Data: []byte("e")})
			var before time.Time
			for i, e := range r.Backlog().Entries {
				if e.At.Before(before) || time.Since(e.At) < 0 {
					t.Errorf("%s: event %d came %v ago, after one that came %v ago", name, i, time.Since(e.At), time.Since(before))
				}
				before = e.At
			}
			if ago := time.Since(r.Backlog().Entries[0].At); ago != 8*time.Second {
				t.Errorf("%s: the first came %v ago", name, ago)
			}
			if newest := r.Contents().Newest; !newest.Equal(time.Now()) {
				t.Errorf("%s: the newest came at %v", name, newest)
			}
			for _, step := range []struct {
				wait time.Duration
				kept int
			}{{2 * time.Second, 5}, {time.Millisecond, 4}, {8*time.Second - time.Millisecond, 4}, {time.Millisecond, 1}} {
				time.Sleep(step.wait)
				if n := len(r.Backlog().Entries); n != step.kept {
					t.Errorf("%s: %d are kept, want %d", name, n, step.kept)
				}
			}
		}
	})
}

// Whatever time a store says, an event grows older: one that does not would keep all that follow it.
func TestTimesFarOff(t *testing.T) {
	for name, at := range map[string]time.Time{"none": {}, "1970": time.UnixMilli(0), "long before": time.UnixMilli(-9e15), "the least": time.UnixMilli(math.MinInt64),
		"long after": time.UnixMilli(9e15), "the most": time.UnixMilli(math.MaxInt64), "soon": time.Now().Add(time.Hour)} {
		m := momentOf(at)
		if age := time.Duration(now() - m); age < 0 {
			t.Errorf("%s: it is still to come in %v", name, -age)
		}
		l := eventLog{events: []event{{at: m}, {at: m}}}
		if !l.over(Bounds{Age: time.Minute}, now()+moment(time.Hour)) {
			t.Errorf("%s: an hour later it is not older than a minute", name)
		}
		if wall := time.Since(m.wall()); wall < 0 || wall > longAgo+time.Minute {
			t.Errorf("%s: it was %v ago", name, wall)
		}
	}
}
