package learn

import (
	"testing"
	"time"
)

// TestRhythm: what a page asks for every 200 ms is learned as that, whatever a busy machine makes of the single gap.
func TestRhythm(t *testing.T) {
	ms := func(all ...int) (gaps []time.Duration) {
		for _, n := range all {
			gaps = append(gaps, time.Duration(n)*time.Millisecond)
		}
		return gaps
	}
	for _, c := range []struct {
		gaps    []time.Duration
		every   time.Duration
		regular bool
	}{
		{ms(200, 200, 200), 200 * time.Millisecond, true},
		{ms(186, 188, 190, 187, 185, 240, 190, 186, 252, 186, 190), 200 * time.Millisecond, true},
		{ms(210, 212, 190, 210, 170, 213, 214, 185, 209, 189, 200), 200 * time.Millisecond, true},
		{ms(200, 200, 8000, 200, 200), 200 * time.Millisecond, true},
		{ms(100, 1000, 5000, 300), time.Second, false},
		{ms(25000, 25010, 24990), 25 * time.Second, true},
		{ms(12040, 12100), 12 * time.Second, true},
		{ms(1234, 1235), 1200 * time.Millisecond, true},
		{ms(70, 71, 69), 70 * time.Millisecond, true},
		{ms(0, 0, 0), 10 * time.Millisecond, false},
	} {
		if every, regular := rhythm(c.gaps); every != c.every && c.regular || regular != c.regular {
			t.Errorf("%v: %v, %v", c.gaps, every, regular)
		}
	}
}
