package stream

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"sidestream/translate"
)

func TestFinishedIsRememberedForLinger(t *testing.T) {
	l := &legacy{run: func(ctx context.Context, n int, emit func(...string) error) error {
		if err := emit("1", "2"); err != nil {
			return err
		}
		return fmt.Errorf("said: %w", translate.ErrFinished)
	}}
	bubble(t, Policy{Linger: 30 * time.Second}, l, func(t *testing.T, s *Streams) {
		a := join(t, s, "a")
		synctest.Wait()
		expect(t, a.Ring, 0, "1 2", Finished)
		expectHealth(t, s, Up, 1, 1)
		time.Sleep(20 * time.Second)
		b := join(t, s, "a")
		expect(t, b.Ring, b.Start(), "2", Finished) // its last event, whatever START says
		b.Leave()
		a.Leave()
		time.Sleep(10*time.Second - time.Nanosecond)
		if c := join(t, s, "a"); c.Stream != a.Stream {
			t.Error("forgotten before LINGER")
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		expectHealth(t, s, Idle, 0, 0) // though a client still reads it, and others have come since
		if d := join(t, s, "a"); d.Stream == a.Stream || len(l.Dials()) != 2 {
			t.Error("remembered after LINGER")
		}
		synctest.Wait()
		if h := s.Health(); h.Error != "" || h.Failures != 0 {
			t.Errorf("the end is a failure: %+v", h)
		}
	})
}

func TestMaxAge(t *testing.T) {
	l := &legacy{
		connect: func(ctx context.Context, n int) error { return wait(ctx, time.Second) },
		run: func(ctx context.Context, n int, emit func(...string) error) error {
			if err := emit("1"); err != nil {
				return err
			}
			return silent(ctx)
		},
	}
	bubble(t, Policy{MaxAge: time.Hour}, l, func(t *testing.T, s *Streams) {
		a := join(t, s, "a")
		time.Sleep(time.Hour - time.Nanosecond)
		synctest.Wait()
		select {
		case <-a.Retiring():
			t.Error("retired too soon")
		default:
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		select {
		case <-a.Retiring():
		default:
			t.Fatal("not retired when MAX_AGE had passed since it connected")
		}
		b := join(t, s, "a") // takes a second
		if b.Stream == a.Stream || !b.Opened {
			t.Error("a stream that retires takes a client")
		}
		expectHealth(t, s, Up, 2, 2)
		expect(t, a.Ring, 0, "1", Open)
		time.Sleep(9*time.Second - time.Nanosecond)
		expect(t, a.Ring, 0, "1", Open)
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		expect(t, a.Ring, 0, "1", Retired)
		expectHealth(t, s, Up, 1, 1)
		a.Leave()
		expectHealth(t, s, Up, 1, 1)
		if l.Open() != 1 {
			t.Errorf("%d connections", l.Open())
		}
	})
}

// TestMaxAgeMakesRoomForItsSuccessor: who was told to come back is not turned away because some have not left yet.
func TestMaxAgeMakesRoomForItsSuccessor(t *testing.T) {
	limits := Policy{MaxAge: 20 * time.Second, Linger: time.Minute, Own: NewLimit(1)}
	bubble(t, limits, new(legacy), func(t *testing.T, s *Streams) {
		first := join(t, s, "a")
		time.Sleep(20 * time.Second)
		synctest.Wait()
		second := join(t, s, "a")
		if second.Stream == first.Stream {
			t.Error("it was given its old stream")
		}
		first.Leave()
		if n := s.Own.Used(); n != 1 {
			t.Errorf("%d places are taken, want 1", n)
		}
		second.Leave()
	})
}

func TestMaxAgeWithoutClients(t *testing.T) {
	bubble(t, Policy{MaxAge: 20 * time.Second, Linger: time.Minute}, new(legacy), func(t *testing.T, s *Streams) {
		gone, stays, leaves := join(t, s, "gone"), join(t, s, "stays"), join(t, s, "leaves")
		gone.Leave()
		time.Sleep(20 * time.Second)
		synctest.Wait()
		expectHealth(t, s, Up, 2, 2) // nobody has to be released from the first
		leaves.Leave()
		expectHealth(t, s, Up, 1, 1)
		stays.Leave()
		expectHealth(t, s, Idle, 0, 0)
	})
}

// Age counts from the first time the upstream connected, whatever happened since.
func TestMaxAgeCountsOnce(t *testing.T) {
	l := &legacy{run: func(ctx context.Context, n int, emit func(...string) error) error {
		if err := wait(ctx, 10*time.Minute); err != nil {
			return err
		}
		return errLost
	}}
	bubble(t, Policy{MaxAge: time.Hour}, l, func(t *testing.T, s *Streams) {
		a := join(t, s, "a")
		began := time.Now()
		<-a.Retiring()
		if age := time.Since(began); age != time.Hour {
			t.Errorf("retired after %v", age)
		}
	})
}

func TestCloseEndsEverything(t *testing.T) {
	l := &legacy{run: func(ctx context.Context, n int, emit func(...string) error) error {
		<-ctx.Done()
		time.Sleep(2 * time.Second) // the farewell
		return ctx.Err()
	}}
	var rings []*Ring
	bubble(t, Policy{MaxAge: 10 * time.Second}, l, func(t *testing.T, s *Streams) {
		old := join(t, s, "a")
		time.Sleep(15 * time.Second) // it is retiring
		rings = append(rings, old.Ring, join(t, s, "a").Ring, join(t, s, "b").Ring)
		expectHealth(t, s, Up, 3, 3)
		began := time.Now()
		s.Close()
		if took := time.Since(began); took != 2*time.Second {
			t.Errorf("closed after %v: not waited for the connections", took)
		}
		for i, r := range rings {
			if _, end := r.Last(); end.Kind != Retired {
				t.Errorf("ring %d ends with %d", i, end.Kind)
			}
			expect(t, r, 0, "", Retired) // no gap: nobody lost anything, all shall come back
		}
	})
}

func TestCloseWhileJoining(t *testing.T) {
	l := &legacy{connect: func(ctx context.Context, n int) error { return silent(ctx) }}
	bubble(t, Policy{}, l, func(t *testing.T, s *Streams) {
		time.AfterFunc(time.Second, s.Close)
		began := time.Now()
		seat, err := s.Join(t.Context(), request(t, "a"))
		if err != nil || time.Since(began) != time.Second {
			t.Fatalf("%v after %v", err, time.Since(began))
		}
		synctest.Wait() // Close has told those who wait before it ends the rings
		expect(t, seat.Ring, 0, "", Retired)
		seat.Leave()
	})
}

// TestNothingHoldsAStreamThatIsGone: neither do the goroutines that stay for the next one.
func TestNothingHoldsAStreamThatIsGone(t *testing.T) {
	bubble(t, Policy{Linger: time.Second}, &legacy{}, func(t *testing.T, s *Streams) {
		gone := make([]weak.Pointer[Stream], spareDrivers)
		for i := range gone {
			a := join(t, s, fmt.Sprint(i))
			gone[i] = weak.Make(a.Stream)
			a.Leave()
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		runtime.GC()
		for i, st := range gone {
			if st.Value() != nil {
				t.Errorf("stream %d is still held", i)
			}
		}
	})
}
