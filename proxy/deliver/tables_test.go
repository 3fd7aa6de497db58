package deliver

import (
	"testing"
	"time"

	"sidestream/proxy/stream"
	"sidestream/translate"
)

// TestTables: one seat for all, left with the last of them; no client is seated where a stream ends.
func TestTables(t *testing.T) {
	var tables Tables
	seats := 0
	sit := func(ring *stream.Ring, retiring chan struct{}) Client {
		seats++
		return Client{Ring: ring, Retiring: retiring, Cursor: 7, Leave: func() { seats-- }}
	}
	ring := func() *stream.Ring {
		return stream.NewRing(stream.NewEpoch(time.Now()), stream.Bounds{}, new(stream.Stats), false)
	}
	wantNobody := func(what string) {
		t.Helper()
		if _, ok := tables.Beside(Key{1}); ok {
			t.Fatalf("%s, and a client sits beside", what)
		}
	}
	wantSeats := func(want int) {
		t.Helper()
		if seats != want {
			t.Fatalf("%d seats, want %d", seats, want)
		}
	}
	wantNobody("there is no stream")
	r, retiring := ring(), make(chan struct{})
	late := tables.First(Key{1}, sit(r, retiring), false)
	wantNobody("the verdict is not known")
	a := tables.First(Key{1}, sit(r, retiring), true)
	wantSeats(1)
	b, ok := tables.Beside(Key{1})
	if !ok || b.Ring != r || b.Cursor != stream.Begin || a.Cursor != 7 {
		t.Fatalf("%v: %+v beside %+v", ok, b, a)
	}
	if _, ok := tables.Beside(Key{2}); ok {
		t.Fatal("beside another stream")
	}
	close(retiring)
	wantNobody("the stream retires")
	next := ring()
	c := tables.First(Key{1}, sit(next, nil), true)
	a.Leave()
	b.Leave()
	wantSeats(2)
	late.Leave()
	wantSeats(1)
	d, ok := tables.Beside(Key{1})
	if !ok || d.Ring != next {
		t.Fatal("the stream that replaced it is not known")
	}
	c.Leave()
	next.Append(translate.Message{Event: "complete", Last: true})
	wantNobody("nothing more comes")
	next.Close(stream.End{Kind: stream.Finished})
	wantNobody("the stream is over")
	d.Leave()
	wantSeats(0)
	if len(tables.byKey)+len(tables.byRing) > 0 {
		t.Error("a table is left")
	}
}
