package stream

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sidestream/proxy/history"
	"sidestream/translate"
)

// An event of another process has the time of a clock that may be wrong: runs go by when it came.
func TestRunsGoByTheirOwnClock(t *testing.T) {
	for _, skew := range []time.Duration{-time.Hour, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			r := NewRing(1, Bounds{}, new(Stats), false)
			r.Deflates(1)
			defer r.Deflates(-1)
			for i := range 3 {
				at := time.Now().Add(time.Duration(i) * skew)
				r.Follow([]history.Event{{Position: history.Position{Epoch: 1, Seq: uint64(i) + 1}, At: at, Data: []byte("data: x\n\n")}}, nil, nil, false)
				if n := len(r.deflated.pieces); n != i+1 || r.deflated.pieces[i].begins != (i == 0) {
					t.Fatalf("with a clock off by %v: %d pieces, the last of which begins a run: %v", skew, n, r.deflated.pieces[n-1].begins)
				}
			}
			if lost := time.Since(r.deflated.at); lost != 0 {
				t.Errorf("its newest event is of %v ago", lost)
			}
		})
	}
}

// Whoever has had all of a run gets its pieces alone, whoever has not gets them from where a run begins, and without clients nothing is kept.
func TestDeflatesIsCounted(t *testing.T) {
	r := NewRing(1, Bounds{}, new(Stats), false)
	add := func() { r.Append(translate.Message{Data: []byte(strings.Repeat("x", 100))}) }
	var d Deflated
	add()
	if r.Deflated(&d, 0, false, false); d.Alone != 1 || r.deflated != nil {
		t.Errorf("%d alone", d.Alone)
	}
	r.Deflates(1)
	add()
	if r.Deflated(&d, 0, false, false); d.Alone != 1 || len(d.Events) != 2 || len(d.Sums) != 1 {
		t.Errorf("%d alone of %d", d.Alone, len(d.Events))
	}
	r.Deflates(1)
	r.Deflates(-1)
	add()
	if r.Deflated(&d, 2, true, false); d.Alone != 0 || len(d.Sums) != 1 {
		t.Errorf("%d alone for who is in the run", d.Alone)
	}
	if r.Deflated(&d, 2, false, false); d.Alone != 1 || len(d.Sums) != 0 || !r.deflated.waits {
		t.Errorf("%d alone for who is not", d.Alone)
	}
	if r.Deflates(-1); r.deflated != nil {
		t.Error("what nobody reads is kept")
	}
	add()
	r.Deflates(1)
	defer r.Deflates(-1)
	add()
	if r.Deflated(&d, 3, true, false); d.Alone != 1 || len(d.Sums) != 1 {
		t.Errorf("%d alone after a time without a run", d.Alone)
	}
}

// TestLargeEventsAreInNoRun: an event that would keep the ring's readers waiting is not compressed with its lock, and a run begins after it.
func TestLargeEventsAreInNoRun(t *testing.T) {
	r := NewRing(NewEpoch(time.Now()), Bounds{}, new(Stats), false)
	r.Deflates(1)
	defer r.Deflates(-1)
	var d Deflated
	for i, size := range []int{100, 100, runEvent, 100, 100} {
		r.Append(translate.Message{Data: bytes.Repeat([]byte("x"), size)})
		if r.Deflated(&d, uint64(i), true, false); (d.Alone == 1) != (size >= runEvent) {
			t.Errorf("event %d of %d bytes: %d alone", i, size, d.Alone)
		}
	}
	if r.Deflated(&d, 0, true, false); len(d.Events) != 5 || d.Alone != 3 {
		t.Errorf("%d of %d are to be compressed alone", d.Alone, len(d.Events))
	}
}
