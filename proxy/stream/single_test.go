package stream

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"sidestream/translate"
)

// A stream that has ended, whatever way, is kept for Ended, and takes no place of its own then.
func TestEndedIsKept(t *testing.T) {
	for name, end := range map[string]error{"finished": translate.ErrFinished, "refused": &translate.Refused{Status: 502}} {
		t.Run(name, func(t *testing.T) {
			l := &legacy{run: func(ctx context.Context, n int, emit func(...string) error) error {
				if err := emit("1"); err != nil {
					return err
				}
				return end
			}}
			bubble(t, Policy{Ended: time.Minute, Own: NewLimit(1)}, l, func(t *testing.T, s *Streams) {
				seat, err := s.Sit(request(t, "a"))
				if err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				key := request(t, "a").Key
				if over, _, there := s.Over(key); !over || !there {
					t.Error("it has not ended")
				}
				other, err := s.Sit(request(t, "b"))
				if err != nil {
					t.Fatalf("there is no room beside what has ended: %v", err)
				}
				other.Leave()
				seat.Leave()
				time.Sleep(59 * time.Second)
				late := s.Attach(key)
				if late == nil {
					t.Fatal("it is not kept")
				}
				kind := Finished
				if name == "refused" {
					kind = Refused
				}
				expect(t, late.Ring, 0, "1", kind)
				late.Leave()
				time.Sleep(2 * time.Second)
				if s.Attach(key) != nil || s.Held(key) != 0 {
					t.Error("it is kept for longer")
				}
			})
		})
	}
}

// One that is stopped ends for those who read it, and upstream; it is no stream of anybody's who has dropped it.
func TestStopAndDrop(t *testing.T) {
	l := &legacy{run: func(ctx context.Context, n int, emit func(...string) error) error {
		if err := emit("1"); err != nil {
			return err
		}
		return silent(ctx)
	}}
	bubble(t, Policy{Ended: time.Minute}, l, func(t *testing.T, s *Streams) {
		a, b := join(t, s, "a"), join(t, s, "b")
		s.Stop(request(t, "a").Key)
		s.Drop(request(t, "b").Key)
		s.Stop(request(t, "none").Key)
		synctest.Wait()
		if _, end := a.Ring.Last(); end != (End{Kind: Refused, Status: 410}) || l.Open() != 0 {
			t.Errorf("ended with %+v, %d connections are open", end, l.Open())
		}
		if s.Attach(request(t, "b").Key) != nil {
			t.Error("what is dropped is there")
		}
		a.Leave()
		b.Leave()
		again := s.Attach(request(t, "a").Key)
		if again == nil {
			t.Fatal("what is stopped is gone at once")
		}
		again.Leave()
	})
}

// Who comes after the end gets another stream, and not before it.
func TestRenew(t *testing.T) {
	last := make(chan struct{})
	l := &legacy{run: func(ctx context.Context, n int, emit func(...string) error) error {
		select {
		case <-last:
			return translate.ErrFinished
		case <-ctx.Done():
			return ctx.Err()
		}
	}}
	bubble(t, Policy{}, l, func(t *testing.T, s *Streams) {
		key := request(t, "a").Key
		s.Renew(key)
		a := join(t, s, "a")
		s.Renew(key)
		b := join(t, s, "a")
		if a.Stream != b.Stream {
			t.Error("it was renewed before its end")
		}
		a.Ring.Append(translate.Message{Data: []byte("end"), Last: true})
		s.Renew(key)
		c := join(t, s, "a")
		if c.Stream == a.Stream {
			t.Error("who comes after its last event is given it")
		}
		close(last)
		synctest.Wait()
		s.Renew(key)
		for _, seat := range []*Seat{a, b, c} {
			seat.Leave()
		}
	})
}
