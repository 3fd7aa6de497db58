package proxy

import (
	"hash/maphash"
	"testing"
	"testing/synctest"
	"time"

	"sidestream/proxy/migrate"
	"sidestream/proxy/stream"
	"sidestream/proxy/upstream"
	"sidestream/translate/sse"
)

// TestParityAfterAStop checks that what had no equal yet when the process stopped running waits for it as long again, and no longer.
func TestParityAfterAStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &pairing{oldClient: &oldClient{over: &upstream.Overheard{}}}
		k.c.Wait = 10 * time.Second
		look := func(times int) {
			for range times {
				<-time.After(parityLook)
				k.settle()
			}
		}
		missing := func() int64 { return k.c.Counts()[migrate.Missing] }
		k.c.There(false, time.Now())
		k.c.There(true, time.Now())
		look(3)
		k.c.Add(false, migrate.Item{Hash: 1, At: time.Now()})
		<-time.After(time.Minute) // nothing runs
		k.settle()
		if n := missing(); n != 0 {
			t.Fatalf("%d are missing as the process goes on", n)
		}
		look(8)
		if n := missing(); n != 0 {
			t.Fatalf("%d are missing before they could be read", n)
		}
		look(3)
		if n := missing(); n != 1 {
			t.Fatalf("%d are missing when there was time to read them", n)
		}
	})
}

// TestParityAsAStreamEnds checks that events that were read of a stream count, too, where the stream has ended before they were compared.
func TestParityAsAStreamEnds(t *testing.T) {
	for _, gap := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) { endsForParity(t, gap) })
	}
}

// endsForParity has the first of what was read be a gap, or not.
func endsForParity(t *testing.T, gap bool) {
	c := configure(t, "SSE_UPSTREAM=http://a", "SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM=ws://a/ws")
	k := &pairing{
		oldClient: &oldClient{route: &Route{RouteSettings: c.Routes[0], Streams: &stream.Streams{}}, over: &upstream.Overheard{}},
		seed:      maphash.MakeSeed(), events: make(chan sse.Event, 4), ring: new(stream.Ring), stop: func() {},
	}
	k.c.Wait = 10 * time.Second
	k.c.There(false, time.Now())
	k.c.There(true, time.Now())
	<-time.After(2 * migrate.SettleTime)
	if gap {
		k.add(false, "", []byte("0"), time.Now()) // which the stream has lost
		<-time.After(2 * migrate.SettleTime)
		k.events <- sse.Event{Name: "stream.gap"}
	}
	for _, n := range []string{"1", "2", "3"} {
		k.add(false, "", []byte(n), time.Now())
		k.events <- sse.Event{Data: []byte(n)}
		<-time.After(2 * migrate.SettleTime)
	}
	k.attend(t.Context())
	if n := k.c.Counts()[migrate.Equal]; n != 3 || k.ring != nil {
		t.Errorf("%d are equal", n)
	}
	<-time.After(time.Minute)
	k.settle()
	if n := k.c.Counts()[migrate.Missing]; n != 0 {
		t.Errorf("%d are missing", n)
	}
}
