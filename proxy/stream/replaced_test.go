package stream

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// Streams of a route that has changed go on for those who are there, take nobody, and have ended a second after the window.
func TestReplace(t *testing.T) {
	l := &legacy{run: func(ctx context.Context, n int, emit func(...string) error) error {
		for i := 1; ; i++ {
			if err := errors.Join(wait(ctx, time.Second), emit(fmt.Sprint(i))); err != nil {
				return err
			}
		}
	}}
	bubble(t, Policy{MaxAge: 3 * time.Second, Own: NewLimit(3)}, l, func(t *testing.T, s *Streams) {
		stays, leaves, lingers := join(t, s, "stays"), join(t, s, "leaves"), join(t, s, "lingers")
		lingers.Leave()
		s.Replace(5 * time.Second)
		s.Replace(time.Hour) // twice is once
		synctest.Wait()      // what lingers has nobody to release, and the places are the new route's
		if l.Open() != 2 || s.Own.Used() != 0 || s.Gone() {
			t.Errorf("%d connections, %d places, gone: %v", l.Open(), s.Own.Used(), s.Gone())
		}
		for _, seat := range []*Seat{stays, leaves} {
			select {
			case <-seat.Retiring():
			default:
				t.Fatal("its clients are not told")
			}
			if how := *seat.Leaving(); how != (Release{5 * time.Second, true}) {
				t.Errorf("they leave %+v", how)
			}
		}
		if _, err := s.Join(t.Context(), request(t, "stays")); !errors.Is(err, ErrReplaced) {
			t.Errorf("a client that comes late: %v", err)
		}
		time.Sleep(2*time.Second + time.Millisecond)
		leaves.Leave()
		synctest.Wait()
		if l.Open() != 1 {
			t.Errorf("%d connections after the last client of one has left", l.Open())
		}
		time.Sleep(3 * time.Second)
		expect(t, stays.Ring, 0, "1 2 3 4 5", Open) // past its age, and to the end of the window
		time.Sleep(time.Second)
		synctest.Wait()
		if _, end := stays.Ring.Last(); end.Kind != Retired || !s.Gone() {
			t.Errorf("it ends with %+v, and all are gone: %v", end, s.Gone())
		}
		stays.Leave()
	})
}

// The streams that replace others continue their totals, know what was sent, and send on the old connection as long as there is no new one.
func TestSucceed(t *testing.T) {
	k := new(sink)
	bubble(t, Policy{Linger: time.Minute}, &legacy{send: k.send}, func(t *testing.T, s *Streams) {
		old := join(t, s, "a")
		if err := old.SendOnce(t.Context(), "1", text("x")); err != nil {
			t.Fatal(err)
		}
		next := NewStreams(s.Policy)
		next.source = s.source
		next.Succeed(s)
		defer next.Close()
		s.Replace(10 * time.Second)
		if next.Find(request(t, "a")) != old.Stream || next.Find(request(t, "b")) != nil {
			t.Error("what is sent before the client is back goes nowhere")
		}
		seat := join(t, next, "a")
		if seat.Stream == old.Stream || next.Find(request(t, "a")) != seat.Stream {
			t.Error("the new one has a stream of its own")
		}
		for key, data := range map[string]string{"1": "x", "2": "y"} {
			if err := seat.SendOnce(t.Context(), key, text(data)); err != nil {
				t.Error(err)
			}
		}
		k.expect(t, "1:x 1:y")
		if n := next.Stats.Sent.Load(); n != 2 {
			t.Errorf("%d are counted", n)
		}
		old.Leave()
	})
}

// A client that is alone in its stream has left the old one before it comes back: what it has sent is still known then.
func TestSucceedRemembers(t *testing.T) {
	k := new(sink)
	bubble(t, Policy{}, &legacy{send: k.send}, func(t *testing.T, s *Streams) {
		old := join(t, s, "a")
		if err := old.SendOnce(t.Context(), "1", text("x")); err != nil {
			t.Fatal(err)
		}
		next := NewStreams(s.Policy)
		next.source = s.source
		next.Succeed(s)
		defer next.Close()
		s.Replace(10 * time.Second)
		old.Leave()
		s.Close()
		time.Sleep(2 * time.Second)
		if err := join(t, next, "a").SendOnce(t.Context(), "1", text("x")); err != nil {
			t.Error(err)
		}
		k.expect(t, "1:x")
	})
}

// Two reloads one after the other: those who are there still are the third one's as well, also when the second, which nobody has come to, has ended.
func TestSucceedTwice(t *testing.T) {
	bubble(t, Policy{Linger: time.Minute}, &legacy{}, func(t *testing.T, s *Streams) {
		old := join(t, s, "a")
		last := s
		for range 3 {
			next := NewStreams(s.Policy)
			next.source = s.source
			next.Succeed(last)
			last.Replace(10 * time.Second)
			if last != s {
				last.Close()
			}
			last = next
		}
		defer last.Close()
		if last.Find(request(t, "a")) != old.Stream {
			t.Error("what is sent before the client is back goes nowhere")
		}
		old.Leave()
		s.Close()
		if last.Find(request(t, "a")) != nil || last.before != nil {
			t.Error("what has ended is held on to")
		}
	})
}
