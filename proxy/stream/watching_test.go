package stream

import (
	"testing"
	"time"

	"sidestream/translate"
)

// Carriers are told once the ring can be read, each time that it has grown or ended, and that they may work at once only by who has nothing else to do, and only
// where they are few.
func TestCarry(t *testing.T) {
	r := NewRing(NewEpoch(time.Now()), Bounds{}, &Stats{}, false)
	var told []bool
	var last uint64
	stop := r.Carry(func(near bool) {
		told = append(told, near)
		last, _ = r.Last()
	})
	say := translate.Message{Data: []byte("x")}
	r.Append(say)
	r.AppendLast(say)
	expect := func(n int, at uint64, near bool) {
		t.Helper()
		if len(told) != n || told[n-1] != near || last != at {
			t.Errorf("told %v, at %d", told, last)
		}
	}
	expect(2, 2, true)
	if told[0] {
		t.Error("whoever appends may have something else to do")
	}
	r.Wake()
	expect(3, 2, false)
	r.AppendLast()
	expect(3, 2, false)
	var stops []func()
	for range mostNear {
		stops = append(stops, r.Carry(func(bool) {}))
	}
	r.AppendLast(say)
	expect(4, 3, false)
	for _, stop := range stops {
		stop()
	}
	r.AppendLast(say)
	expect(5, 4, true)
	r.Close(End{Kind: Finished})
	expect(6, 4, false)
	r.Close(End{Kind: Finished})
	expect(6, 4, false)
	stop()
	r.Wake()
	expect(6, 4, false)
}
