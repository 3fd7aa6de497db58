package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"sidestream/proxy/upstream"
	"sidestream/translate"
)

func TestJoinSharesByKey(t *testing.T) {
	l := new(legacy)
	bubble(t, Policy{}, l, func(t *testing.T, s *Streams) {
		a, b, other := join(t, s, "a"), join(t, s, "a"), join(t, s, "b")
		if a.Stream != b.Stream || a.Stream == other.Stream || !a.Opened || b.Opened || !other.Opened {
			t.Error("who shares with whom")
		}
		if len(l.Dials()) != 2 || l.sources != 2 {
			t.Errorf("%d dials by %d sources", len(l.Dials()), l.sources)
		}
		if a.Ring.Epoch() == other.Ring.Epoch() {
			t.Error("two streams of one epoch")
		}
		expectHealth(t, s, Up, 2, 2)
	})
}

func TestOpenerBeginsAtBirth(t *testing.T) {
	l := &legacy{run: func(ctx context.Context, n int, emit func(...string) error) error {
		if err := emit("1", "2", "3"); err != nil {
			return err
		}
		return silent(ctx)
	}}
	bubble(t, Policy{Bounds: Bounds{Start: 1}}, l, func(t *testing.T, s *Streams) {
		a := join(t, s, "a")
		synctest.Wait()
		b := join(t, s, "a")
		expect(t, a.Ring, a.Start(), "1 2 3", Open)
		expect(t, b.Ring, b.Start(), "3", Open)
	})
}

// What a list held before is no news, not even for the client that opened the stream.
func TestHistoryIsBeforeTheBirth(t *testing.T) {
	l := &legacy{run: func(ctx context.Context, n int, emit func(...string) error) error {
		if err := wait(ctx, time.Second); err != nil {
			return err
		}
		if err := emit("1", "2", "3"); err != nil {
			return err
		}
		if err := wait(ctx, time.Second); err != nil {
			return err
		}
		if err := emit("4"); err != nil {
			return err
		}
		return silent(ctx)
	}}
	for start, want := range map[int]string{0: "", 1: "3", 2: "2 3", StartAll: "1 2 3"} {
		bubble(t, Policy{Bounds: Bounds{Start: start}}, l, func(t *testing.T, s *Streams) {
			a, err := s.Join(t.Context(), requestOf(t, "a", upstream.ModeItems))
			if err != nil {
				t.Fatal(err)
			}
			if _, next, _, _ := a.Ring.After(nil, a.Start()); !Pending(next) {
				t.Errorf("the opener has a place before the history is in: %d", next)
			}
			time.Sleep(1500 * time.Millisecond)
			expect(t, a.Ring, a.Start(), want, Open)
			_, cursor, _, _ := a.Ring.After(nil, a.Start())
			time.Sleep(time.Second)
			expect(t, a.Ring, cursor, "4", Open)
		})
	}
}

func TestVerdictIsAwaited(t *testing.T) {
	for _, test := range []struct {
		name  string
		takes time.Duration
		err   error
		want  time.Duration
	}{
		{"connected", 700 * time.Millisecond, nil, 700 * time.Millisecond},
		{"failed: we keep trying, and the client waits with us", 700 * time.Millisecond, errLost, 700 * time.Millisecond},
		{"no answer", time.Minute, nil, 3 * time.Second},
	} {
		l := &legacy{connect: func(ctx context.Context, n int) error {
			if err := wait(ctx, test.takes); err != nil {
				return err
			}
			return test.err
		}}
		bubble(t, Policy{}, l, func(t *testing.T, s *Streams) {
			began := time.Now()
			join(t, s, "a")
			if took := time.Since(began); took != test.want {
				t.Errorf("%s: answered after %v", test.name, took)
			}
		})
	}
}

// Who comes while others wait gets the same verdict, and who comes later gets it at once.
func TestVerdictIsShared(t *testing.T) {
	l := &legacy{connect: func(ctx context.Context, n int) error { return wait(ctx, 2*time.Second) }}
	bubble(t, Policy{}, l, func(t *testing.T, s *Streams) {
		began := time.Now()
		done := make(chan time.Duration, 2)
		for i := range 2 {
			go func() { // ends with the verdict
				time.Sleep(time.Duration(i) * time.Second)
				if _, err := s.Join(t.Context(), request(t, "a")); err != nil {
					t.Error(err)
				}
				done <- time.Since(began)
			}()
		}
		if one, two := <-done, <-done; one != 2*time.Second || two != 2*time.Second {
			t.Errorf("answered after %v and %v", one, two)
		}
		join(t, s, "a")
		if took := time.Since(began); took != 2*time.Second {
			t.Errorf("a later client was answered after %v", took)
		}
	})
}

func TestJoinEndsWithItsClient(t *testing.T) {
	l := &legacy{connect: func(ctx context.Context, n int) error { return silent(ctx) }}
	bubble(t, Policy{Linger: 10 * time.Second}, l, func(t *testing.T, s *Streams) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		if _, err := s.Join(ctx, request(t, "a")); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		time.Sleep(10*time.Second - time.Millisecond)
		synctest.Wait()
		expectHealth(t, s, Down, 1, 0)
		time.Sleep(time.Millisecond)
		synctest.Wait()
		expectHealth(t, s, Idle, 0, 0)
	})
}

func TestRefusalIsRemembered(t *testing.T) {
	l := &legacy{connect: func(ctx context.Context, n int) error {
		if err := wait(ctx, time.Second); err != nil {
			return err
		}
		return fmt.Errorf("dial: %w", &translate.Refused{Status: 403, Reason: "no"})
	}}
	bubble(t, Policy{}, l, func(t *testing.T, s *Streams) {
		refused := func(key string) {
			t.Helper()
			_, err := s.Join(t.Context(), request(t, key))
			var r *translate.Refused
			if !errors.As(err, &r) || r.Status != 403 {
				t.Fatalf("%v", err)
			}
		}
		refused("a") // at 1 s
		synctest.Wait()
		if s.All.Used() != 0 {
			t.Error("a refused stream has kept its place")
		}
		time.Sleep(5*time.Second - time.Nanosecond)
		refused("a")
		if dials := l.Dials(); len(dials) != 1 {
			t.Errorf("dialled at %v", dials)
		}
		refused("b") // dialled at 6 s: another request
		refused("a") // dialled at 7 s
		if dials := l.Dials(); !slices.Equal(dials, []time.Duration{0, 6*time.Second - 1, 7*time.Second - 1}) {
			t.Errorf("dialled at %v", dials)
		}
		synctest.Wait()
		if n := s.Stats.Refused.Load(); n != 3 {
			t.Errorf("%d refusals counted", n)
		}
		expectHealth(t, s, Idle, 0, 0)
	})
}

func TestRefusalsRememberedAreBounded(t *testing.T) {
	bubble(t, Policy{}, new(legacy), func(t *testing.T, s *Streams) {
		err := &translate.Refused{Status: 403}
		remember := func(n int) {
			s.mu.Lock()
			defer s.mu.Unlock()
			for i := range n {
				s.remember([32]byte{byte(i), byte(i >> 8), byte(i >> 16), byte(time.Now().Unix())}, err)
			}
		}
		if remember(maxRefusals + 10); len(s.refuse) != maxRefusals {
			t.Errorf("%d are remembered", len(s.refuse))
		}
		time.Sleep(refusalTime + time.Second)
		if remember(1); len(s.refuse) != 1 {
			t.Errorf("%d are remembered after the old ones ran out", len(s.refuse))
		}
	})
}

func TestRefusedWhileRunning(t *testing.T) {
	l := &legacy{run: func(ctx context.Context, n int, emit func(...string) error) error {
		if err := emit("1"); err != nil {
			return err
		}
		if err := wait(ctx, time.Second); err != nil {
			return err
		}
		return &translate.Refused{Status: 410, Reason: "gone"}
	}}
	bubble(t, Policy{}, l, func(t *testing.T, s *Streams) {
		a := join(t, s, "a")
		time.Sleep(time.Second)
		synctest.Wait()
		expect(t, a.Ring, 0, "1", Refused) // no gap: nothing will follow
		if _, end := a.Ring.Last(); end.Status != 410 {
			t.Errorf("status %d", end.Status)
		}
		if _, err := s.Join(t.Context(), request(t, "a")); err == nil || len(l.Dials()) != 1 {
			t.Errorf("%v, %d dials", err, len(l.Dials()))
		}
		a.Leave()
		expectHealth(t, s, Idle, 0, 0)
		if h := s.Health(); h.Error != "upstream refused (410): gone" || h.Failures != 1 {
			t.Errorf("%+v", h)
		}
	})
}

func TestLimits(t *testing.T) {
	for name, settings := range map[string]Policy{"all": {All: NewLimit(2)}, "own": {Own: NewLimit(2)}} {
		bubble(t, settings, new(legacy), func(t *testing.T, s *Streams) {
			a, _ := join(t, s, "a"), join(t, s, "b")
			if _, err := s.Join(t.Context(), request(t, "c")); !errors.Is(err, ErrBusy) {
				t.Errorf("%s: a third stream: %v", name, err)
			}
			if s.All.Used() != 2 || s.Own.Used() != 2 {
				t.Errorf("%s: %d and %d are taken", name, s.All.Used(), s.Own.Used())
			}
			join(t, s, "a") // sharing takes no place
			a.Leave()
			a.Leave()
			time.Sleep(time.Minute)
			if _, err := s.Join(t.Context(), request(t, "c")); !errors.Is(err, ErrBusy) {
				t.Errorf("%s: leaving twice counted twice: %v", name, err)
			}
		})
	}
	var none *Limit
	if !none.Take() {
		t.Error("no limit refuses")
	}
	none.Give()
}

// A stream that is not wanted any more has its place until it has ended: what it still does goes on.
func TestPlaceIsHeldToTheEnd(t *testing.T) {
	l := &legacy{run: func(ctx context.Context, n int, emit func(...string) error) error {
		<-ctx.Done()
		time.Sleep(5 * time.Second) // a farewell, or a program
		return ctx.Err()
	}}
	bubble(t, Policy{Own: NewLimit(1), Linger: 10 * time.Second}, l, func(t *testing.T, s *Streams) {
		join(t, s, "a").Leave()
		time.Sleep(14 * time.Second)
		if _, err := s.Join(t.Context(), request(t, "b")); !errors.Is(err, ErrBusy) || s.All.Used() != 1 {
			t.Errorf("while it ends: %v, %d places taken", err, s.All.Used())
		}
		time.Sleep(2 * time.Second)
		join(t, s, "b").Leave()
	})
}

func TestLinger(t *testing.T) {
	l := &legacy{run: func(ctx context.Context, n int, emit func(...string) error) error {
		for i := 0; ; i++ {
			if err := emit(fmt.Sprint(i)); err != nil {
				return err
			}
			if err := wait(ctx, 10*time.Second); err != nil {
				return err
			}
		}
	}}
	bubble(t, Policy{Linger: 30 * time.Second}, l, func(t *testing.T, s *Streams) {
		a, b := join(t, s, "a"), join(t, s, "a")
		synctest.Wait()
		a.Leave()
		time.Sleep(time.Minute)
		expectHealth(t, s, Up, 1, 1) // b is there
		b.Leave()
		time.Sleep(30*time.Second - time.Nanosecond)
		back := join(t, s, "a")
		if back.Opened || back.Stream != a.Stream {
			t.Error("the ring was not kept for the linger time")
		}
		expect(t, back.Ring, 0, "0 1 2 3 4 5 6 7 8", Open)
		time.Sleep(time.Minute)
		expectHealth(t, s, Up, 1, 1) // coming back has ended the linger time
		back.Leave()
		time.Sleep(30*time.Second - time.Nanosecond)
		synctest.Wait()
		if l.Open() != 1 {
			t.Error("closed before the linger time")
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if l.Open() != 0 || s.All.Used() != 0 {
			t.Error("open after the linger time")
		}
		expectHealth(t, s, Idle, 0, 0)
		if fresh := join(t, s, "a"); !fresh.Opened || fresh.Ring == back.Ring {
			t.Error("a stream that is gone was joined")
		}
	})
}
