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

// Of what is appended with more to come nobody is told before the next append, whoever that is, but a reader that looks has it.
func TestAppendMore(t *testing.T) {
	r := NewRing(NewEpoch(time.Now()), Bounds{}, &Stats{}, false)
	var carried []bool
	watched := 0
	defer r.Carry(func(near bool) { carried = append(carried, near) })()
	defer r.Watch(func() { watched++ })()
	say := translate.Message{Data: []byte("x")}
	for i, follows := range []func(){
		func() { r.AppendLast(say) }, func() { r.Append(say) }, func() { r.Append() }, func() { r.AppendLast() }, r.Wake, func() { r.Close(End{Kind: Finished}) },
	} {
		before, _ := r.Last()
		r.AppendMore(say)
		r.AppendMore(say, say)
		if events, _, _, _ := r.After(nil, before); len(events) != 3 || len(carried) != i || watched != i {
			t.Errorf("%d: %d events, %d and %d were told", i, len(events), len(carried), watched)
		}
		if follows(); len(carried) != i+1 || watched != i+1 || carried[i] != (i == 0 || i == 3) {
			t.Errorf("%d: %v and %d were told", i, carried, watched)
		}
		if r.Append(); len(carried) != i+1 || watched != i+1 {
			t.Errorf("%d: %v and %d were told twice", i, carried, watched)
		}
	}
}

// Whoever reads as soon as it is told misses nothing of a burst, whatever the ring keeps.
func TestAppendMoreEvictsNothingUnread(t *testing.T) {
	for name, b := range map[string]Bounds{"few events": {Events: 64}, "one": {Events: 1}, "the usual": {Events: 1024}, "bytes": {Bytes: 16 << 10}} {
		r := NewRing(NewEpoch(time.Now()), b, &Stats{}, false)
		cursor, told, lost := uint64(0), 0, uint64(0)
		defer r.Carry(func(bool) {
			_, next, missed, _ := r.After(nil, cursor)
			cursor, lost = next, lost+missed
			told++
		})()
		const burst = 2000
		for range burst {
			r.AppendMore(translate.Message{Data: []byte("some text")})
		}
		r.Append()
		if cursor != burst || lost > 0 || name == "the usual" && told > burst/50 {
			t.Errorf("%s: at %d, %d lost, told %d times", name, cursor, lost, told)
		}
	}
}
