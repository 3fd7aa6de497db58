package stream

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"sidestream/proxy/upstream"
	"sidestream/translate"
)

func mayPass(status int) error {
	return upstream.Passing{Refused: &translate.Refused{Status: status, Reason: "answered it"}}
}

// replaced is an upstream that connects, is lost after a second, and then refuses with err until its time has come.
func replaced(l *legacy, until time.Duration, err error) {
	l.connect = func(ctx context.Context, n int) error {
		if n > 1 && time.Since(l.begun) < until {
			return err
		}
		return nil
	}
	l.run = func(ctx context.Context, n int, emit func(...string) error) error {
		if err := emit("1"); err != nil || n > 1 {
			return errors.Join(err, silent(ctx))
		}
		if err := wait(ctx, time.Second); err != nil {
			return err
		}
		return errLost
	}
}

// A container that is being replaced is a 404 for a while: who comes meanwhile is not turned away.
func TestRefusalThatPasses(t *testing.T) {
	l := new(legacy)
	replaced(l, 25*time.Second, mayPass(404))
	bubble(t, Policy{RefuseAfter: 30 * time.Second}, l, func(t *testing.T, s *Streams) {
		a := join(t, s, "a")
		time.Sleep(15 * time.Second)
		b := join(t, s, "a")
		expect(t, a.Ring, 0, "1 +", Open)
		time.Sleep(17 * time.Second)
		synctest.Wait()
		expect(t, a.Ring, 0, "1 + 1", Open)
		if b.Stream != a.Stream || s.Stats.Refused.Load() != 0 {
			t.Error("it was refused")
		}
	})
}

// It is the last word REFUSE_AFTER after the first, and at once where nothing was connected before, where REFUSE_AFTER is 0, and
// where it is more than a status.
func TestRefusalThatStays(t *testing.T) {
	plain := &translate.Refused{Status: 404, Reason: "! of HELLO"}
	for name, test := range map[string]struct {
		err      error
		patience time.Duration
		want     time.Duration // after the first refusal
	}{
		"404":                {mayPass(404), 30 * time.Second, 30 * time.Second},
		"REFUSE_AFTER=0":     {mayPass(404), 0, 0},
		"more than a status": {plain, 30 * time.Second, 0},
	} {
		l := new(legacy)
		replaced(l, time.Hour, test.err)
		bubble(t, Policy{RefuseAfter: test.patience}, l, func(t *testing.T, s *Streams) {
			a := join(t, s, "a")
			<-a.done.passed()
			first := l.Dials()[1]
			if took := time.Since(l.begun) - first; took != test.want {
				t.Errorf("%s: refused %v after the first time", name, took)
			}
			expect(t, a.Ring, 0, "1 +", Refused)
			if _, end := a.Ring.Last(); end.Status != 404 {
				t.Errorf("%s: status %d", name, end.Status)
			}
		})
	}
	l := &legacy{connect: func(context.Context, int) error { return mayPass(401) }}
	bubble(t, Policy{RefuseAfter: 30 * time.Second}, l, func(t *testing.T, s *Streams) {
		var refused *translate.Refused
		if _, err := s.Join(t.Context(), request(t, "a")); !errors.As(err, &refused) || len(l.Dials()) != 1 {
			t.Errorf("%v after %d dials", err, len(l.Dials()))
		}
	})
}

// Another failure in between starts the patience over: the upstream is still being changed.
func TestPatienceIsForRefusalsInARow(t *testing.T) {
	l := new(legacy)
	replaced(l, time.Hour, mayPass(404))
	refuse, last := l.connect, time.Duration(0)
	l.connect = func(ctx context.Context, n int) error {
		if n == 5 {
			last = time.Since(l.begun)
			return errLost
		}
		return refuse(ctx, n)
	}
	bubble(t, Policy{RefuseAfter: 10 * time.Second}, l, func(t *testing.T, s *Streams) {
		a := join(t, s, "a")
		<-a.done.passed()
		again := l.Dials()[slices.Index(l.Dials(), last)+1]
		if took := time.Since(l.begun); took != again+10*time.Second {
			t.Errorf("refused at %v, the last refusals began at %v", took, again)
		}
	})
}

// A poll that is refused for a while has lost nothing.
func TestRefusedPollLosesNothing(t *testing.T) {
	l := &legacy{run: func(ctx context.Context, n int, emit func(...string) error) error {
		if err := emit("1"); err != nil || n > 1 {
			return errors.Join(err, silent(ctx))
		}
		return &upstream.Retry{After: 2 * time.Second, Lossless: true, Err: mayPass(401)}
	}}
	bubble(t, Policy{RefuseAfter: 30 * time.Second}, l, func(t *testing.T, s *Streams) {
		a := join(t, s, "a")
		time.Sleep(5 * time.Second)
		expect(t, a.Ring, 0, "1 1", Open)
		if d := l.Dials(); len(d) != 2 || d[1] < 2*time.Second {
			t.Errorf("asked at %v", d)
		}
	})
}

// A client that comes back after its hint finds a refusal forgotten.
func TestRefusalIsForgottenBeforeRetry(t *testing.T) {
	l := &legacy{connect: func(context.Context, int) error { return mayPass(404) }}
	bubble(t, Policy{Retry: 3 * time.Second}, l, func(t *testing.T, s *Streams) {
		for range 2 {
			if _, err := s.Join(t.Context(), request(t, "a")); err == nil {
				t.Fatal("not refused")
			}
		}
		time.Sleep(3*time.Second - 1)
		s.Join(t.Context(), request(t, "a"))
		if d := l.Dials(); !slices.Equal(d, []time.Duration{0, 3*time.Second - 1}) {
			t.Errorf("dialled at %v", d)
		}
	})
}

// A connection that was ready and brought something starts the back-off over, with a second from dial to dial at least.
func TestBackoffStartsOverAfterMessages(t *testing.T) {
	for held, most := range map[time.Duration]time.Duration{4 * time.Second: 4*time.Second + backoffFirst, time.Millisecond: time.Second} {
		l := &legacy{run: func(ctx context.Context, n int, emit func(...string) error) error {
			if err := errors.Join(emit("1"), wait(ctx, held)); err != nil {
				return err
			}
			return errLost
		}}
		bubble(t, Policy{}, l, func(t *testing.T, s *Streams) {
			join(t, s, "a")
			time.Sleep(2 * time.Minute)
		})
		for i, at := range l.dials[1:] {
			if d := at - l.dials[i]; d > most || d < time.Second {
				t.Errorf("dial %d came %v after the one before", i+2, d)
			}
		}
	}
}

// One that brought nothing does not.
func TestBackoffGrowsWithoutMessages(t *testing.T) {
	l := &legacy{run: func(ctx context.Context, n int, emit func(...string) error) error { return errLost }}
	bubble(t, Policy{}, l, func(t *testing.T, s *Streams) {
		join(t, s, "a")
		time.Sleep(time.Hour)
		if n := len(l.Dials()); n > 400 {
			t.Errorf("dialled %d times in an hour", n)
		}
	})
}

// A good answer starts a poll's back-off over, whether it brought something or not.
func TestBackoffOfPollsStartsOver(t *testing.T) {
	l := &legacy{
		connect: func(ctx context.Context, n int) error {
			if n%2 == 0 {
				return &upstream.Retry{After: 100 * time.Millisecond, Lossless: true, Err: errLost}
			}
			return nil
		},
		run: func(ctx context.Context, n int, emit func(...string) error) error {
			if err := wait(ctx, time.Second); err != nil {
				return err
			}
			return &upstream.Retry{After: 100 * time.Millisecond, Lossless: true, Err: errLost}
		},
	}
	bubble(t, Policy{}, l, func(t *testing.T, s *Streams) {
		if _, err := s.Join(t.Context(), requestOf(t, "a", upstream.ModeChanges)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		d := l.Dials()
		for i := range len(d) - 1 {
			if d[i+1]-d[i] > 2*backoffFirst+time.Second {
				t.Errorf("asked %v after the last time", d[i+1]-d[i])
			}
		}
	})
}
