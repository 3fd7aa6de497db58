package stream

import (
	"testing"
	"time"

	"sidestream/translate"
)

// TestWhoWaitsForTheHistoryBeginsBehindIt reads late: what was appended after the history is not skipped.
func TestWhoWaitsForTheHistoryBeginsBehindIt(t *testing.T) {
	say := func(text string) translate.Message { return translate.Message{Data: []byte(text)} }
	for start, want := range map[int]int{0: 2, 1: 3, StartAll: 4} {
		r := NewRing(NewEpoch(time.Now()), Bounds{Start: start}, new(Stats), true)
		_, cursor, _, _ := r.After(nil, Begin)
		if !Pending(cursor) {
			t.Fatalf("a place before the history: %d", cursor)
		}
		r.Append(say("old 1"), say("old 2"))
		r.Append(say("new 3"))
		r.Append(say("new 4"))
		if events, _, missed, _ := r.After(nil, cursor); len(events) != want || missed != 0 {
			t.Errorf("START %d: %d events and %d missed, want %d", start, len(events), missed, want)
		}
		if events, _, _, _ := r.After(nil, Begin); start == 0 && len(events) != 0 {
			t.Errorf("who comes now and begins live gets %d events", len(events))
		}
	}
	// A list that is complete at once is told by its last element, whatever START says.
	r := NewRing(NewEpoch(time.Now()), Bounds{}, new(Stats), true)
	_, cursor, _, _ := r.After(nil, Begin)
	r.Append(say("only"))
	r.Close(End{Kind: Finished})
	if events, _, _, end := r.After(nil, cursor); len(events) != 1 || end.Kind != Finished {
		t.Errorf("%d events, %+v", len(events), end)
	}
}
