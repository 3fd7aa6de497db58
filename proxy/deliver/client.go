package deliver

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"syscall"
	"time"

	"sidestream/proxy/stream"
	"sidestream/translate"
	"sidestream/translate/sse"
)

// client is one connection being served. One goroutine each; it is the only one that writes.
type client struct {
	Client
	alarm   alarm
	clients *Clients
	out     *output
	ctx     context.Context // done when the client is gone
	address string
	wake    chan struct{}
	seat    int // in its crowd
	batch   [][]byte
	joined  uint64    // the newest event when the client came
	fresh   time.Time // when the first heartbeat as an event is due; zero: it is not awaited
	isNew   bool      // it came without an id, and has not been told one yet
	first   []byte    // to be written before anything else
	wrote   time.Time // when bytes were written last
	hold    time.Time // when it may be written to again, once something waits for that
	release time.Time // when it is to come back; zero: not yet
	why     int       // with release: the reason it will have gone for
	reason  int       // it goes for
}

// run serves the client until there is a reason to stop, and lets it go. Its stack is most of what a client costs: what
// is done but once is done elsewhere.
func (c *client) run() (cut bool) {
	c.begin()
	defer c.quit()
	draining, retiring := (<-chan struct{})(c.clients.draining), c.Retiring
	for !c.turn() {
		select {
		case <-c.wake:
		case <-c.ctx.Done():
			return c.out.abort()
		case <-draining:
			draining, retiring = nil, nil
			c.leaves(c.clients.window, Drained)
		case <-retiring:
			retiring = nil
			c.leaves(stream.RetireTime, Aged)
		}
	}
	return c.reason != Finished && c.out.abort()
}

// forget lets go of the request's header, which net/http keeps for as long as the handler runs: nobody reads it any more.
func forget(r *http.Request) { clear(r.Header) }

// begin has the client woken from now on, until quit.
func (c *client) begin() {
	c.wake = make(chan struct{}, 1)
	c.alarm.ring, c.alarm.cut = c.ring, c.out.cut
	// Watching begins before the ring is read, so nothing falls between; the cursor sees to it that nothing comes twice.
	c.clients.crowds.enter(c)
	c.joined, _ = c.Ring.Last()
	if c.Beats && c.Route.Heartbeat > 0 {
		c.fresh = time.Now().Add(min(c.Route.Heartbeat, firstBeat))
	}
	// The first bytes leave only once it is known where the client begins: from its answer on it misses nothing.
	c.first, c.LastID = c.opening(), "" // which may be long, and is not needed again
}

// quit lets the client go, for c.reason.
func (c *client) quit() {
	c.clients.alarms.stop(&c.alarm)
	c.clients.crowds.leave(c)
	c.clients.gone(c.Route, c.Leave, c.reason, c.address)
}

// leaves sends the client away at a moment within window.
func (c *client) leaves(window time.Duration, why int) {
	c.release, c.why = time.Now().Add(rand.N(max(window, 1))), why
}

// ring wakes the client: its ring has grown, or it wanted to be woken.
func (c *client) ring() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// turn does what is due, and sees to it that the client is woken when something else is. over says that nothing will
// follow, for c.reason.
func (c *client) turn() (over bool) {
	now := time.Now()
	released := !c.release.IsZero() && !now.Before(c.release)
	if c.hold.IsZero() {
		c.hold = c.wrote.Add(c.Route.Coalesce)
	}
	if released || !now.Before(c.hold) {
		c.hold = time.Time{}
		reason, over, err := c.catchUp()
		if err != nil {
			reason, over = c.gone(err), true
		}
		if c.reason = reason; over {
			return true
		}
	}
	if released {
		c.reason = c.comeBack(c.why)
		return true
	}
	if due := c.beats(); !due.IsZero() && !now.Before(due) {
		if err := c.beat(); err != nil {
			c.reason = c.gone(err)
			return true
		}
	}
	if next := c.next(); !next.IsZero() {
		c.clients.alarms.set(&c.alarm, next, now)
	}
	return false
}

// beats is when a heartbeat is due; zero: never. The first one that is an event does not wait for silence.
func (c *client) beats() time.Time {
	switch {
	case c.Route.Heartbeat == 0:
		return time.Time{}
	case !c.fresh.IsZero():
		return c.fresh
	}
	return c.wrote.Add(c.Route.Heartbeat)
}

func (c *client) beat() error {
	if !c.Beats {
		return c.write([]byte(sse.Heartbeat))
	}
	c.fresh = time.Time{}
	return c.write(sse.AppendHeartbeat(nil, c.Ring.IDAt(c.Cursor), c.Route.Heartbeat))
}

// next is when something is due; zero: only when something happens.
func (c *client) next() (next time.Time) {
	for _, t := range [...]time.Time{c.beats(), c.hold, c.release} {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	return next
}

// write writes data at once. Where the kernel does not watch over a peer that takes nothing, its alarm does.
func (c *client) write(data ...[]byte) error {
	c.wrote = time.Now()
	if !c.out.deadlines {
		return c.out.write(data...)
	}
	c.alarm.began.Store(c.wrote.UnixNano())
	c.clients.alarms.set(&c.alarm, c.wrote.Add(stallTime), time.Now()) // an alarm that comes from now on sees began
	err := c.out.write(data...)
	c.alarm.began.Store(0)
	return err
}

// gone tells a peer that took nothing from one that is gone.
func (c *client) gone(err error) (reason int) {
	if c.alarm.stalled.Load() || errors.Is(err, syscall.ETIMEDOUT) {
		return Stalled
	}
	return Left
}

// catchUp writes all that waits in the ring. over says that nothing will follow, for the reason given.
func (c *client) catchUp() (reason int, over bool, err error) {
	for {
		var missed uint64
		var end stream.End
		c.batch, c.Cursor, missed, end = c.Ring.After(c.batch[:0], c.Cursor)
		awaited := stream.Pending(c.Cursor) // the history of a list
		events := c.batch
		pre := c.gap(c.Cursor-uint64(len(events)), missed)
		if c.isNew && !awaited {
			if c.isNew = false; len(pre)+len(events) == 0 && stays(end) {
				pre = sse.AppendOpen(nil, c.Ring.Place(c.Cursor))
			}
		}
		if pre != nil {
			events = append([][]byte{pre}, events...)
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
	return sse.AppendGap(nil, c.Ring.Position(position), reason, n)
}

// end is what a client is told behind the last event.
func (c *client) end(end stream.End) (reason int, err error) {
	switch end.Kind {
	case stream.Finished:
		return Finished, nil
	case stream.Refused:
		if err := c.write(sse.AppendRefused(nil, c.Ring.LastID(), end.Status)); err != nil {
			return Left, nil
		}
		c.out.part(c.ctx)
		return Refused, nil
	}
	return c.comeBack(Aged), nil
}

// comeBack says when to, and gives it a moment to leave.
func (c *client) comeBack(why int) (reason int) {
	if c.write(sse.AppendRetry(nil, c.clients.Hint(c.Route))) != nil {
		return Left
	}
	c.out.part(c.ctx)
	return why
}
