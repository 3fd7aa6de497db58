package deliver

import (
	"context"
	"math/rand/v2"
	"time"

	"sidestream/proxy/stream"
	"sidestream/translate"
)

// client is one connection being served. One goroutine each; it is the only one that writes.
type client struct {
	Client
	clients *Clients
	out     *output
	ctx     context.Context // done when the client is gone
	batch   [][]byte
	joined  uint64    // the newest event when the client came
	first   []byte    // to be written before anything else
	wrote   time.Time // when bytes were written last
}

// serve writes events until there is a reason to stop.
func (c *client) serve() (reason int) {
	wake := make(chan struct{}, 1)
	// Watching begins before the ring is read, so nothing falls between; the cursor sees to it that nothing comes twice.
	stop := c.Ring.Watch(func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	})
	defer stop()
	c.joined, _ = c.Ring.Last()
	// The first bytes leave only once it is known where the client begins: from its answer on it misses nothing.
	c.first = translate.AppendRetry(nil, c.Route.RetryHint())
	beat, stopBeat := c.heartbeat()
	defer stopBeat()
	retiring, draining := c.Retiring, (<-chan struct{})(c.clients.draining)
	release, why := time.NewTimer(time.Hour), Left
	release.Stop()
	defer release.Stop()
	hold := time.NewTimer(time.Hour) // until the client may be written to again
	hold.Stop()
	defer hold.Stop()
	for held := false; ; {
		if !held {
			if reason, over, err := c.catchUp(); err != nil {
				return c.out.why(err)
			} else if over {
				return reason
			}
		}
		select {
		case <-wake:
			if rest := c.Route.Coalesce - time.Since(c.wrote); rest > 0 && !held {
				held = true
				hold.Reset(rest)
			}
		case <-hold.C:
			held = false
		case <-c.ctx.Done():
			return Left
		case <-beat.C:
			next, err := c.idle()
			if err != nil {
				return c.out.why(err)
			}
			beat.Reset(next)
		case <-draining:
			draining, retiring, why = nil, nil, Drained
			release.Reset(rand.N(max(c.clients.window, 1)))
		case <-retiring:
			retiring, why = nil, Aged
			release.Reset(rand.N(ageWindow))
		case <-release.C:
			if held {
				if reason, over, err := c.catchUp(); over || err != nil {
					return reason
				}
			}
			return c.comeBack(why)
		}
	}
}

// heartbeat is a timer that fires when the next one may be due; never without heartbeats.
func (c *client) heartbeat() (t *time.Timer, stop func() bool) {
	t = time.NewTimer(max(c.Route.Heartbeat, 1))
	if c.Route.Heartbeat == 0 {
		t.Stop()
	}
	return t, t.Stop
}

// idle writes a heartbeat if nothing else was written for so long, and returns when to look again.
func (c *client) idle() (time.Duration, error) {
	if rest := c.Route.Heartbeat - time.Since(c.wrote); rest > 0 {
		return rest, nil
	}
	return c.Route.Heartbeat, c.write([]byte(translate.Heartbeat))
}

func (c *client) write(data ...[]byte) error {
	c.wrote = time.Now()
	return c.out.write(data...)
}

// catchUp writes all that waits in the ring. over says that nothing will follow, for the reason given.
func (c *client) catchUp() (reason int, over bool, err error) {
	for {
		var missed uint64
		var end stream.End
		c.batch, c.Cursor, missed, end = c.Ring.After(c.batch[:0], c.Cursor)
		awaited := stream.Pending(c.Cursor) // the history of a list
		events := c.batch
		if gap := c.gap(c.Cursor-uint64(len(events)), missed); gap != nil {
			events = append([][]byte{gap}, events...)
		}
		if c.first != nil {
			events, c.first = append([][]byte{c.first}, events...), nil
		}
		if len(events) > 0 {
			if err := c.write(events...); err != nil {
				return 0, false, err
			}
			c.count()
		}
		if awaited {
			return 0, false, nil
		}
		clear(c.batch) // what the ring lets go of is not to live on here
		if end.Kind != stream.Open {
			reason, err = c.end(end)
			return reason, true, err
		}
		if last, _ := c.Ring.Last(); len(events) == 0 || c.Cursor >= last {
			return 0, false, nil
		}
	}
}

func (c *client) count() {
	if len(c.batch) == 0 {
		return
	}
	size := 0
	for _, e := range c.batch {
		size += len(e)
	}
	s := c.Route.Stats
	s.Events.Add(int64(len(c.batch)))
	s.Bytes.Add(int64(size))
	if from := c.Cursor - uint64(len(c.batch)); from < c.joined {
		s.Replayed.Add(int64(min(c.Cursor, c.joined) - from))
	}
}

// gap is the event that says what this client has missed before it goes on behind position, nil for nothing.
func (c *client) gap(position, missed uint64) []byte {
	reason, n := translate.GapEvicted, int64(missed)
	switch {
	case stream.Pending(c.Cursor):
		return nil
	case c.Lost:
		reason, n, c.Lost = translate.GapRestart, -1, false
	case missed == 0:
		return nil
	}
	c.Ring.CountGap(reason)
	return translate.AppendGap(nil, c.Ring.Position(position), reason, n)
}

// end is what a client is told behind the last event.
func (c *client) end(end stream.End) (reason int, err error) {
	switch end.Kind {
	case stream.Finished:
		return Finished, nil
	case stream.Refused:
		if err := c.write(translate.AppendRefused(nil, c.Ring.LastID(), end.Status)); err != nil {
			return Left, nil
		}
		c.out.part(c.ctx)
		return Refused, nil
	}
	return c.comeBack(Aged), nil
}

// comeBack says when to, and gives it a moment to leave.
func (c *client) comeBack(why int) (reason int) {
	if c.write(translate.AppendRetry(nil, c.Route.RetryHint())) != nil {
		return Left
	}
	c.out.part(c.ctx)
	return why
}
