package redis

import (
	"testing"
	"testing/synctest"
	"time"
)

// Who asks takes nothing away from others who ask; what is older than two minutes is forgotten.
func TestPeak(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p peak
		expect := func(want time.Duration) {
			t.Helper()
			for range 2 {
				if got := p.longest(); got != want {
					t.Errorf("%v, want %v", got, want)
				}
			}
		}
		expect(0)
		p.note(3 * time.Second)
		p.note(time.Second)
		p.note(-time.Second)
		expect(3 * time.Second)
		time.Sleep(61 * time.Second)
		expect(3 * time.Second)
		p.note(2 * time.Second)
		expect(3 * time.Second)
		time.Sleep(61 * time.Second)
		expect(2 * time.Second)
		time.Sleep(10 * time.Minute)
		expect(0)
	})
}
