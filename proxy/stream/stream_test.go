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

// A gap is said when the connection is lost, not when the next one comes.
func TestGapAtLoss(t *testing.T) {
	l := &legacy{
		connect: func(ctx context.Context, n int) error {
			if n > 1 {
				return wait(ctx, 10*time.Second)
			}
			return nil
		},
		run: func(ctx context.Context, n int, emit func(...string) error) error {
			if err := emit(fmt.Sprint(n)); err != nil {
				return err
			}
			if err := wait(ctx, time.Second); err != nil {
				return err
			}
			return errLost
		},
	}
	bubble(t, Policy{}, l, func(t *testing.T, s *Streams) {
		a := join(t, s, "a")
		time.Sleep(time.Second)
		synctest.Wait()
		expect(t, a.Ring, 0, "1 +", Open)
		time.Sleep(9 * time.Second)
		expect(t, a.Ring, 0, "1 +", Open)
		time.Sleep(time.Second + backoffFirst)
		synctest.Wait()
		expect(t, a.Ring, 0, "1 + 2", Open)
		if n := s.Stats.Gaps[0].Load(); n != 1 {
			t.Errorf("%d gaps counted", n)
		}
	})
}

func TestWhatLosesNothingLeavesNoGap(t *testing.T) {
	for name, test := range map[string]struct {
		err  error
		want string
	}{
		"any error":                {errLost, "1 + 1"},
		"a retry":                  {&upstream.Retry{Err: errLost}, "1 + 1"},
		"a lossless retry":         {&upstream.Retry{Err: errLost, Lossless: true}, "1 1"},
		"a wrapped lossless retry": {fmt.Errorf("poll: %w", &upstream.Retry{Err: errLost, Lossless: true}), "1 1"},
	} {
		l := &legacy{run: func(ctx context.Context, n int, emit func(...string) error) error {
			if err := emit("1"); err != nil || n > 1 {
				return errors.Join(err, silent(ctx))
			}
			return test.err
		}}
		bubble(t, Policy{}, l, func(t *testing.T, s *Streams) {
			a := join(t, s, "a")
			time.Sleep(time.Second)
			synctest.Wait()
			if got, _ := told(t, a.Ring, 0); got != test.want {
				t.Errorf("%s: %q, want %q", name, got, test.want)
			}
		})
	}
}

// Whether anything was lost is said by the next connection, and only then.
func TestResumption(t *testing.T) {
	l := &legacy{
		connect: func(ctx context.Context, n int) error {
			if n == 3 {
				return errLost // says nothing either way
			}
			return nil
		},
		run: func(ctx context.Context, n int, emit func(...string) error) error {
			if err := emit(fmt.Sprint(n)); err != nil {
				return err
			}
			switch n {
			case 1, 2, 4:
				return &upstream.Retry{Resumes: true, Err: errLost}
			case 5:
				return errLost
			}
			return silent(ctx)
		},
		resumed: func(n int) bool { return n != 4 },
	}
	bubble(t, Policy{}, l, func(t *testing.T, s *Streams) {
		a := join(t, s, "a")
		time.Sleep(time.Minute)
		synctest.Wait()
		// 2 goes on from 1, 4 could not from 2, 5 does from 4; and what 5 may have lost was said before 6.
		expect(t, a.Ring, 0, "1 2 + 4 5 + 6", Open)
	})
}

func TestFinishedBeforeItCouldResume(t *testing.T) {
	l := &legacy{
		connect: func(ctx context.Context, n int) error {
			if n > 1 {
				return translate.ErrFinished
			}
			return nil
		},
		run: func(ctx context.Context, n int, emit func(...string) error) error {
			return errors.Join(emit("1"), &upstream.Retry{Resumes: true, Err: errLost})
		},
	}
	bubble(t, Policy{}, l, func(t *testing.T, s *Streams) {
		a := join(t, s, "a")
		time.Sleep(time.Minute)
		synctest.Wait()
		expect(t, a.Ring, 0, "1 +", Finished)
	})
}

// No connection, no events, no gap: whatever is missing was said when the last one was lost.
func TestFailedDialsLeaveNoGap(t *testing.T) {
	l := &legacy{connect: func(ctx context.Context, n int) error { return errLost }}
	bubble(t, Policy{}, l, func(t *testing.T, s *Streams) {
		a := join(t, s, "a")
		time.Sleep(10 * time.Minute)
		expect(t, a.Ring, 0, "", Open)
		if n := len(l.Dials()); n < 20 {
			t.Errorf("%d dials in ten minutes", n)
		}
	})
}

// bounds of the delays after 1, 2, … failures in a row.
var backoff = []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second, 30 * time.Second, 30 * time.Second, 30 * time.Second}

func TestBackoff(t *testing.T) {
	most := make([]time.Duration, len(backoff))
	least := slices.Repeat([]time.Duration{time.Hour}, len(backoff))
	for range 60 {
		l := &legacy{connect: func(ctx context.Context, n int) error { return errLost }}
		bubble(t, Policy{}, l, func(t *testing.T, s *Streams) {
			join(t, s, "a")
			time.Sleep(10 * time.Minute)
		})
		for i := range backoff {
			delay := l.dials[i+1] - l.dials[i]
			most[i], least[i] = max(most[i], delay), min(least[i], delay)
		}
	}
	for i, bound := range backoff {
		// Full jitter: anything up to the bound, so that 60 of them fill most of it.
		if most[i] > bound || most[i] < bound*3/4 || least[i] > bound/4 {
			t.Errorf("delay %d is %v to %v, want up to %v", i+1, least[i], most[i], bound)
		}
	}
}

// holding is a legacy service whose nth connection holds for so long.
func holding(times ...time.Duration) *legacy {
	return &legacy{run: func(ctx context.Context, n int, emit func(...string) error) error {
		d := times[min(n, len(times))-1]
		if err := wait(ctx, d); err != nil {
			return err
		}
		return errLost
	}}
}

func TestBackoffStartsOverAfterHealth(t *testing.T) {
	for held, over := range map[time.Duration]bool{healthyAfter: true, healthyAfter - time.Nanosecond: false} {
		var most time.Duration
		for range 30 {
			// Eight connections that fail at once, one that holds, and one more.
			times := append(slices.Repeat([]time.Duration{0}, 8), held, time.Hour)
			l := holding(times...)
			bubble(t, Policy{}, l, func(t *testing.T, s *Streams) {
				join(t, s, "a")
				time.Sleep(10 * time.Minute)
			})
			most = max(most, l.dials[9]-l.dials[8]-held)
		}
		if over != (most <= backoffFirst) {
			t.Errorf("after a connection that held for %v the next delay is up to %v", held, most)
		}
	}
}

func TestRetryAfterIsALowerBound(t *testing.T) {
	for _, after := range []time.Duration{0, 90 * time.Second} {
		l := &legacy{connect: func(ctx context.Context, n int) error {
			return fmt.Errorf("dial: %w", &upstream.Retry{After: after, Err: errLost})
		}}
		bubble(t, Policy{}, l, func(t *testing.T, s *Streams) {
			join(t, s, "a")
			time.Sleep(10 * time.Minute)
		})
		for i := range len(l.dials) - 1 {
			if delay := l.dials[i+1] - l.dials[i]; delay < after || after > 0 && delay != after {
				t.Errorf("retried %v after being told to wait %v", delay, after)
			}
		}
	}
}

// A client that leaves during the back-off, and with it the stream, ends the waiting.
func TestBackoffEndsWithTheStream(t *testing.T) {
	l := &legacy{connect: func(ctx context.Context, n int) error { return &upstream.Retry{After: time.Hour, Err: errLost} }}
	bubble(t, Policy{Linger: time.Second}, l, func(t *testing.T, s *Streams) {
		join(t, s, "a").Leave()
		time.Sleep(time.Second)
		synctest.Wait()
		expectHealth(t, s, Idle, 0, 0)
		began := time.Now()
		s.Close()
		if took := time.Since(began); took != 0 {
			t.Errorf("closing took %v", took)
		}
	})
}

func TestNoEmitAfterTheEnd(t *testing.T) {
	var emitted error
	l := &legacy{run: func(ctx context.Context, n int, emit func(...string) error) error {
		<-ctx.Done()
		emitted = emit("late")
		return ctx.Err()
	}}
	bubble(t, Policy{}, l, func(t *testing.T, s *Streams) {
		join(t, s, "a")
		s.Close()
		if !errors.Is(emitted, context.Canceled) {
			t.Errorf("emit on a closed stream returns %v", emitted)
		}
	})
}

func TestHealth(t *testing.T) {
	var fail chan error // of the bubble
	l := &legacy{
		connect: func(ctx context.Context, n int) error { return wait(ctx, time.Second) },
		run: func(ctx context.Context, n int, emit func(...string) error) error {
			select {
			case err := <-fail:
				return err
			case <-ctx.Done():
				return ctx.Err()
			}
		},
	}
	bubble(t, Policy{}, l, func(t *testing.T, s *Streams) {
		fail = make(chan error)
		begun := time.Now()
		at := func(want time.Duration) {
			t.Helper()
			if since := s.Health().Since.Sub(begun); since != want {
				t.Errorf("%s since %v, want %v", s.Health().State, since, want)
			}
		}
		expectHealth(t, s, Idle, 0, 0)
		at(0)
		time.Sleep(time.Second)
		go s.Join(t.Context(), request(t, "a")) // ends with the verdict
		synctest.Wait()
		expectHealth(t, s, Down, 1, 0)
		at(time.Second)
		time.Sleep(time.Second)
		synctest.Wait()
		expectHealth(t, s, Up, 1, 1)
		at(2 * time.Second)
		go s.Join(t.Context(), request(t, "b")) // ends with the verdict
		synctest.Wait()
		expectHealth(t, s, Partial, 2, 1)
		time.Sleep(time.Second)
		synctest.Wait()
		expectHealth(t, s, Up, 2, 2)
		at(3 * time.Second)
		fail <- errLost
		synctest.Wait()
		expectHealth(t, s, Partial, 2, 1)
		if h := s.Health(); h.Error != "lost" || h.Failures != 1 || h.ErrorAt.Sub(begun) != 3*time.Second {
			t.Errorf("%+v", h)
		}
		fail <- errLost
		synctest.Wait()
		expectHealth(t, s, Down, 2, 0)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		expectHealth(t, s, Up, 2, 2)
		fail <- translate.ErrFinished
		synctest.Wait()
		expectHealth(t, s, Up, 2, 2)
		if h := s.Health(); h.Failures != 2 || h.Error != "lost" {
			t.Errorf("%+v", h)
		}
	})
}

// keep runs Keep until the returned function is called. It reports when tried was called.
func keep(t *testing.T, s *Streams, key string) (tried *[]time.Duration, stop func()) {
	t.Helper()
	tried = new([]time.Duration)
	began := time.Now()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { // ends with stop
		defer close(done)
		s.Keep(ctx, request(t, key), func() { *tried = append(*tried, time.Since(began)) })
	}()
	return tried, func() {
		cancel()
		<-done
	}
}

func TestKeepNeverLingersOut(t *testing.T) {
	l := &legacy{connect: func(ctx context.Context, n int) error { return wait(ctx, 5*time.Second) }, run: func(ctx context.Context, n int, emit func(...string) error) error {
		if err := emit("1"); err != nil {
			return err
		}
		return silent(ctx)
	}}
	bubble(t, Policy{}, l, func(t *testing.T, s *Streams) {
		tried, stop := keep(t, s, "a")
		time.Sleep(time.Hour)
		synctest.Wait()
		if !slices.Equal(*tried, []time.Duration{5 * time.Second}) {
			t.Errorf("tried at %v, want once it has connected", *tried)
		}
		a := join(t, s, "a")
		if a.Opened || len(l.Dials()) != 1 {
			t.Error("the stream was not kept")
		}
		a.Leave()
		time.Sleep(time.Hour)
		expectHealth(t, s, Up, 1, 1)
		stop()
		time.Sleep(30 * time.Second)
		synctest.Wait()
		expectHealth(t, s, Idle, 0, 0)
	})
}

func TestKeepReplacesAtAge(t *testing.T) {
	l := new(legacy)
	bubble(t, Policy{MaxAge: time.Minute}, l, func(t *testing.T, s *Streams) {
		tried, stop := keep(t, s, "a")
		time.Sleep(time.Minute)
		synctest.Wait()
		expectHealth(t, s, Up, 1, 1) // the old one has no other clients
		if dials := l.Dials(); !slices.Equal(dials, []time.Duration{0, time.Minute}) || len(*tried) != 1 {
			t.Errorf("dialled at %v, tried at %v", dials, *tried)
		}
		stop()
	})
}

func TestKeepTriesAgainAfterRefusal(t *testing.T) {
	l := &legacy{connect: func(ctx context.Context, n int) error { return &translate.Refused{Status: 401} }}
	bubble(t, Policy{}, l, func(t *testing.T, s *Streams) {
		tried, stop := keep(t, s, "a")
		time.Sleep(time.Minute)
		synctest.Wait()
		if dials := l.Dials(); len(dials) < 6 || len(dials) > 13 || !slices.Equal(*tried, []time.Duration{0}) {
			t.Errorf("dialled at %v, tried at %v", dials, *tried)
		}
		stop()
	})
}

func TestKeepOpensAnewWhatIsFinished(t *testing.T) {
	l := &legacy{run: func(ctx context.Context, n int, emit func(...string) error) error { return translate.ErrFinished }}
	bubble(t, Policy{Linger: 30 * time.Second}, l, func(t *testing.T, s *Streams) {
		_, stop := keep(t, s, "a")
		time.Sleep(29 * time.Second)
		synctest.Wait()
		if n := len(l.Dials()); n != 1 {
			t.Errorf("%d dials while the end is remembered", n)
		}
		time.Sleep(7 * time.Second)
		synctest.Wait()
		if n := len(l.Dials()); n != 2 {
			t.Errorf("%d dials after it is forgotten", n)
		}
		stop()
	})
}

func TestKeepWaitsForRoom(t *testing.T) {
	bubble(t, Policy{Own: NewLimit(1), Linger: time.Second}, new(legacy), func(t *testing.T, s *Streams) {
		other := join(t, s, "other")
		tried, stop := keep(t, s, "a")
		synctest.Wait()
		if len(*tried) != 1 {
			t.Error("having no room is no try")
		}
		other.Leave()
		time.Sleep(time.Second + refusalTime)
		synctest.Wait()
		if s.byKey[request(t, "a").Key] == nil {
			t.Error("not opened when there was room")
		}
		stop()
	})
}

func TestKeepEndsWhileConnecting(t *testing.T) {
	l := &legacy{connect: func(ctx context.Context, n int) error { return silent(ctx) }}
	bubble(t, Policy{}, l, func(t *testing.T, s *Streams) {
		_, stop := keep(t, s, "a")
		time.Sleep(time.Minute)
		began := time.Now()
		stop()
		if took := time.Since(began); took != 0 {
			t.Errorf("Keep went on for %v", took)
		}
	})
}
