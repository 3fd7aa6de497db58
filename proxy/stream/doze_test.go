package stream

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sidestream/proxy/upstream"
	"sidestream/translate"
)

// dozingConn is a fakeConn that sleeps between what it emits.
type dozingConn struct {
	*fakeConn
	mu      sync.Mutex
	begun   bool
	wake    func()
	batches [][]translate.Message
	over    error
	turns   int
}

// Turn is upstream.Dozer's.
func (c *dozingConn) Turn(ctx context.Context, emit func([]translate.Message) error, wake func(), _ bool) (asleep bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.turns++
	if !c.begun {
		c.begun = true
		go func() { // ends with the connection
			err := c.fakeConn.Run(ctx, func(ms []translate.Message) error {
				c.happens(ms, nil)
				return ctx.Err()
			})
			c.happens(nil, err)
		}()
	}
	for len(c.batches) > 0 {
		batch := c.batches[0]
		c.batches = c.batches[1:]
		if err := emit(batch); err != nil {
			return false, err
		}
	}
	if c.over != nil {
		return false, c.over
	}
	c.wake = wake
	return true, nil
}

func (c *dozingConn) state() (turns int, asleep bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.turns, c.wake != nil
}

// happens wakes who sleeps.
func (c *dozingConn) happens(ms []translate.Message, over error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over = over; over == nil {
		c.batches = append(c.batches, ms)
	}
	if c.wake != nil {
		c.wake()
		c.wake = nil
	}
}

// dozingSource makes such connections.
type dozingSource struct {
	*fakeSource
	conns *[]*dozingConn
}

func (s dozingSource) Connect(ctx context.Context) (upstream.Conn, error) {
	conn, err := s.fakeSource.Connect(ctx)
	if err != nil {
		return nil, err
	}
	c := &dozingConn{fakeConn: conn.(*fakeConn)}
	*s.conns = append(*s.conns, c)
	return c, nil
}

// A stream whose connection sleeps is one as any other: it has all that comes, is lost and dialled again, and ends when nobody wants it, or its source does.
func TestDozing(t *testing.T) {
	l := &legacy{run: func(ctx context.Context, n int, emit func(...string) error) error {
		for _, text := range []string{"1", "2"} {
			if err := wait(ctx, time.Second); err != nil {
				return err
			}
			if err := emit(text); err != nil {
				return err
			}
		}
		if n == 1 {
			return errLost
		}
		return silent(ctx)
	}}
	var conns []*dozingConn
	dozing := func(s *Streams) {
		plain := s.source
		s.source = func(q *upstream.Request, log *slog.Logger) upstream.Source {
			return dozingSource{plain(q, log).(*fakeSource), &conns}
		}
	}
	bubble(t, Policy{Linger: time.Minute}, l, func(t *testing.T, s *Streams) {
		dozing(s)
		a := join(t, s, "a")
		synctest.Wait()
		if turns, asleep := conns[0].state(); turns != 1 || !asleep {
			t.Errorf("%d turns, asleep: %v", turns, asleep)
		}
		expectHealth(t, s, Up, 1, 1)
		time.Sleep(2500 * time.Millisecond)
		expect(t, a.Ring, 0, "1 2 +", Open)
		time.Sleep(20 * time.Second)
		expect(t, a.Ring, 0, "1 2 + 1 2", Open)
		if turns, asleep := conns[1].state(); len(l.Dials()) != 2 || turns != 3 || !asleep {
			t.Errorf("%d dials, %d turns, asleep: %v", len(l.Dials()), turns, asleep)
		}
		a.Leave()
		time.Sleep(59 * time.Second)
		expectHealth(t, s, Up, 1, 1)
		time.Sleep(2 * time.Second)
		expectHealth(t, s, Idle, 0, 0)
		if l.Open() != 0 {
			t.Error("nobody wants the stream, and its connection is open")
		}
		select {
		case <-a.Ended():
		default:
			t.Error("the stream is not through")
		}
	})
	l.run = func(ctx context.Context, n int, emit func(...string) error) error {
		if err := wait(ctx, time.Second); err != nil {
			return err
		}
		return errors.Join(emit("last"), translate.ErrFinished)
	}
	bubble(t, Policy{}, l, func(t *testing.T, s *Streams) {
		dozing(s)
		a := join(t, s, "a")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		expect(t, a.Ring, 0, "last", Finished)
	})
	l.run = func(ctx context.Context, n int, emit func(...string) error) error {
		if err := wait(ctx, time.Millisecond); err != nil {
			return err
		}
		return errLost
	}
	bubble(t, Policy{}, l, func(t *testing.T, s *Streams) { // and is not dialled over and over
		dozing(s)
		join(t, s, "a")
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if n := len(l.Dials()); n < 2 || n > 60 {
			t.Errorf("%d dials in two minutes", n)
		}
	})
}

// TestAwake: where a goroutine of each stream is asked for, one waits for its connection.
func TestAwake(t *testing.T) {
	l := &legacy{run: func(ctx context.Context, _ int, emit func(...string) error) error {
		if err := emit("1"); err != nil {
			return err
		}
		return silent(ctx)
	}}
	bubble(t, Policy{Linger: time.Minute, Awake: true}, l, func(t *testing.T, s *Streams) {
		var conns []*dozingConn
		plain := s.source
		s.source = func(q *upstream.Request, log *slog.Logger) upstream.Source {
			return dozingSource{plain(q, log).(*fakeSource), &conns}
		}
		a := join(t, s, "a")
		synctest.Wait()
		expect(t, a.Ring, 0, "1", Open)
		if turns, _ := conns[0].state(); turns != 0 {
			t.Errorf("%d turns", turns)
		}
		a.Leave()
	})
}
