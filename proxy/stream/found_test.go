package stream

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"sidestream/proxy/history"
	"sidestream/translate"
)

// This file is what was found wrong with rings whose history several processes share.

func message(text, key, state string) translate.Message {
	m := translate.Message{Data: []byte(text), Key: key}
	if state != "" {
		m.State = []byte(state)
	}
	return m
}

// What a process emitted alone no store has, nor is given.
func TestAloneIsNotSince(t *testing.T) {
	r := NewRing(NewEpoch(time.Now()), Bounds{Events: 100}, new(Stats), false)
	r.Restore(history.Loaded{Epoch: 5, Events: theirs(5, 1, "a")})
	r.BeginAlone(false)
	r.Append(message("own", "", ""))
	r.Begin(50, false)
	r.Append(message("b", "", ""))
	events, _ := r.Since(history.Position{})
	var got []string
	for _, e := range events {
		got = append(got, fmt.Sprint(e.Epoch, "-", e.Seq))
	}
	if want := []string{"5-1", "50-1"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if b := r.Batch(0, false); len(b.Events) != 1 || b.Events[0].Epoch != 50 {
		t.Errorf("%+v", b.Events)
	}
}

// What could not be kept when it came is kept with what all of it comes to, and with what stands in for what was let go of meanwhile.
func TestKeptLate(t *testing.T) {
	r := NewRing(1, Bounds{Events: 3}, new(Stats), false)
	r.Restore(history.Loaded{})
	r.Begin(5, false)
	r.Append(message("1", "a", "doc 1"), message("2", "b", "doc 2"), message("3", "c", "doc 3"), message("4", "", ""))
	b := r.Batch(0, false, r.Prepare(0, message("5", "", "")))
	if string(b.Past) != "doc 3" || len(b.Events) != 4 || len(b.Older) != 1 || b.Older[0].Key != "a" {
		t.Errorf("%q, %d events, older %+v", b.Past, len(b.Events), b.Older)
	}
	if b := r.Batch(4, false, r.Prepare(0, message("5", "", ""))); b.Past != nil || b.Older != nil {
		t.Errorf("%q, %+v, though nothing was late", b.Past, b.Older)
	}
	if b := r.Batch(4, true); string(b.Past) != "doc 3" || len(b.Older) != 1 {
		t.Errorf("%q, %+v", b.Past, b.Older)
	}
}

// A ring that has nothing begins with the number that an event has where it was appended.
func TestFollowsFromTheMiddle(t *testing.T) {
	r := NewRing(1, Bounds{Events: 100}, new(Stats), false)
	r.Follow(theirs(9, 49, "x", "y"), nil, nil, false)
	if r.LastID() != "9-50" {
		t.Errorf("the last is %s", r.LastID())
	}
	if cursor, ok := r.Find("9-49"); !ok || full(r, cursor) != "y=9-50" {
		t.Errorf("9-49 is at %d, %v", cursor, ok)
	}
	if got := full(r, 0); got != "missed some x=9-49 y=9-50" {
		t.Errorf("%s", got)
	}
	r.Follow(theirs(9, 60, "z"), nil, nil, false) // which nobody called a hole
	if cursor, ok := r.Find("9-60"); !ok || full(r, 50) != `{"reason":"history","missed":null}=9-59 z=9-60` {
		t.Errorf("9-60 is at %d, %v: %s", cursor, ok, full(r, 50))
	}
}

// Where another process has read a list, nobody waits for it, and each begins where START says.
func TestListOfAnotherProcess(t *testing.T) {
	for start, want := range map[int]string{0: "", 1: "c=5-3", StartAll: "a=5-1 b=5-2 c=5-3"} {
		r := NewRing(1, Bounds{Events: 100, Start: start}, new(Stats), true)
		r.Restore(history.Loaded{Epoch: 5, Events: theirs(5, 1, "a", "b", "c")})
		if got := full(r, Begin); got != want {
			t.Errorf("START %d, there already: %s, want %s", start, got, want)
		}
		r = NewRing(1, Bounds{Events: 100, Start: start}, new(Stats), true)
		_, cursor, _, _ := r.After(nil, Begin)
		if !Pending(cursor) {
			t.Fatal("it does not wait")
		}
		r.Follows()
		if _, cursor, _, _ = r.After(nil, cursor); Pending(cursor) {
			t.Errorf("START %d: it waits for what another process has", start)
		}
	}
}

// A follower keeps no list of keys that were let go of, and a holder names again those that the store could not let go of.
func TestKeysLetGo(t *testing.T) {
	r := NewRing(1, Bounds{Events: 10}, new(Stats), false)
	r.Restore(history.Loaded{})
	for n := range uint64(1000) {
		e := theirs(5, n+1, "x")
		e[0].Key = fmt.Sprint(n)
		r.Follow(e, nil, nil, false)
	}
	if n := len(r.snapshot.dropped); n > 0 {
		t.Errorf("%d keys", n)
	}
	r.Begin(6, false)
	r.Append(message("y", "new", ""))
	b := r.Batch(1000, false)
	r.Undrop(b.Gone)
	if again := r.Batch(1000, false); len(b.Gone) != 1 || !slices.Equal(again.Gone, b.Gone) {
		t.Errorf("%v, then %v", b.Gone, again.Gone)
	}
}

// However many epochs there are, a place means one event.
func TestManyEpochs(t *testing.T) {
	r := NewRing(1, Bounds{Events: 1000}, new(Stats), false)
	for epoch := range uint64(3 * maxLives) {
		r.Follow(append(marker(epoch+2), theirs(epoch+2, 1, "x")...), nil, nil, false)
	}
	events, _ := r.Since(history.Position{})
	seen := map[history.Position]bool{}
	for _, e := range events {
		if seen[e.Position] || e.Seq != 1 {
			t.Fatalf("%+v", e.Position)
		}
		seen[e.Position] = true
	}
	if len(events) != maxLives || !strings.HasPrefix(full(r, 0), fmt.Sprintf("missed %d ", 2*maxLives)) {
		t.Errorf("%d events", len(events))
	}
}

// What was prepared in a term that is over by then is shown to nobody.
func TestPublishedTooLate(t *testing.T) {
	r := NewRing(1, Bounds{Events: 100}, new(Stats), false)
	r.Begin(5, false)
	p := r.Prepare(0, message("mine", "", ""))
	r.Follow(append(marker(9), theirs(9, 1, "theirs")...), nil, nil, false)
	r.Publish(p)
	if got := full(r, 0); got != "theirs=9-1" {
		t.Errorf("%s", got)
	}
}
