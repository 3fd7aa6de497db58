package deliver

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"syscall"
	"time"

	"sidestream/proxy/access"
	"sidestream/proxy/deflate"
)

// client is one connection being served. One goroutine each; it is the only one that writes.
type client struct {
	Client
	state    cursor
	clock    clock
	deadline deadline
	clients  *Clients
	out      *output
	ctx      context.Context // done when the client has disconnected
	address  string
	sum      deflate.Sum // of its answer, where that is compressed
	wake     chan struct{}
	seat     int           // in its wakeGroup
	joined   uint64        // the newest event when the client came
	first    tick          // see facts
	shown    atomic.Uint64 // state.at, for Census
}

// newClient is the writer of cl, to r by w, whose header it writes.
func (c *Clients) newClient(w http.ResponseWriter, r *http.Request, cl Client) *client {
	cl.encoding(w.Header())
	own := c.clientOf(newOutput(w, r), r, cl)
	own.state.flags |= ending(cl.native, r)
	forget(r)
	return own
}

func (c *Clients) clientOf(out *output, r *http.Request, cl Client) *client {
	return &client{Client: cl, state: newCursor(&cl, 0), clock: clock{time.Now()}, clients: c, out: out, ctx: r.Context(), address: r.RemoteAddr}
}

// forget lets go of the request's header, which net/http keeps for as long as the handler runs: it is not read any more.
func forget(r *http.Request) { clear(r.Header) }

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
			c.state.left()
		case <-draining:
			draining, retiring = nil, nil
			c.leaves(c.clients.window, Drained)
		case <-retiring:
			retiring = nil
			c.leaves(release(c.Leaving))
		}
	}
	return c.state.why != Finished && c.state.end() == doCut && c.out.abort()
}

// begin has the client woken from now on, until quit.
func (c *client) begin() {
	c.wake = make(chan struct{}, 1)
	c.deadline.wake, c.deadline.cut = c.wakeUp, c.out.cut
	// Watching begins before the ring is read, so nothing falls between; the cursor sees to it that nothing comes twice.
	c.clients.wakeGroups.enter(c)
	c.Pass.Watch(c)
	c.joined, _ = c.Ring.Last()
	if c.Gzip {
		c.Ring.Deflates(1)
	}
	c.first = ticks(min(c.Route.Heartbeat, firstBeat))
}

// quit lets the client go.
func (c *client) quit() {
	c.clients.deadlines.stop(&c.deadline)
	c.clients.wakeGroups.leave(c)
	c.Pass.Unwatch(c)
	if c.Gzip {
		c.Ring.Deflates(-1)
	}
	c.clients.disconnected(c.writer(), c.Route, c.hold(), c.Leave, int(c.state.why), c.address)
}

// writer is what writes to the client, as an index into [Writers].
func (c *client) writer() int {
	if c.out.holds {
		return ByPoll
	}
	return ByGoroutine
}

// leaves sends the client away at a moment within window.
func (c *client) leaves(window time.Duration, why uint8) {
	if c.state.mayLeave(why) {
		c.state.leaves(why, c.clock.now()+ticks(rand.N(max(window, 1))))
	}
}

// wakeUp wakes the client: its ring has grown, or it wanted to be woken.
func (c *client) wakeUp() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// PassEnded is [access.Watcher]'s. What is being written is not to go on.
func (c *client) PassEnded() {
	c.wakeUp()
	c.clients.deadlines.hurry(&c.deadline, time.Now())
}

// turn does what is due, and sees to it that the client is woken when something else is. It returns whether the answer is
// over.
func (c *client) turn() (over bool) {
	b := batches.Get().(*batch)
	defer batches.Put(b)
	defer b.forget()
	now := time.Now()
	f := facts{silence: ticks(c.Route.Heartbeat), first: c.first, coalesce: ticks(c.Route.Coalesce), ring: ringGrown}
	if c.out.holds && !c.Beats {
		f.silence = 0
	}
	for !c.out.full() { // what a batch has cost that is not taken whole is not given back: then the client is gone
		var a action
		var err error
		f.now, f.stands = c.clock.at(now), c.Pass.Standing()
		switch a = c.state.next(&f); a.do {
		case doRead:
			b.load(c.Ring, c.state.at, formPlain|c.state.form())
			if c.out.holds {
				b.trim(pollMost - len(c.out.held))
			}
			b.tell(&f)
			continue
		case doTurn:
			c.state.queue(f.now, c.clients.replays.take(b.size, now))
			continue
		case doWrite:
			err = c.give(a, b, &f)
		case doSay, doLast:
			err = c.write(c.words(a, &f))
			if f.ring == ringRead && b.form != formPlain|c.state.form() { // it has left its run, which what was read goes on with, and its turn may come next
				f.ring = ringGrown
			}
		default:
			c.shown.Store(c.state.at)
			if a.timed {
				c.clients.deadlines.set(&c.deadline, c.clock.after(now, a.after), now)
			}
			return c.state.flags&isOver != 0
		}
		if err != nil {
			c.state.disconnected(c.why(err))
		}
		now = time.Now() // a write may take a while
	}
	return false
}

// words are what a says, nil for nothing.
func (c *client) words(a action, f *facts) []byte {
	var b []byte
	say, opens := a.say, a.say&sayOpening != 0
	switch {
	case say&sayOpening == 0:
	case c.out.holds:
		b, c.Before = c.Before, nil
	default:
		b, c.LastID, c.Before = c.opening(), "", nil // which may be long, and are not needed again
	}
	b = speech{c.Ring, c.Route, c.clients}.append(b, say, c.state, f)
	return c.state.tell(b, &c.sum, opens, a.do == doLast && c.state.completes(say))
}

// give writes b, and say before it.
func (c *client) give(a action, b *batch, f *facts) error {
	b.zip()
	if err := c.write(c.words(a, f), b.events...); err != nil {
		return err
	}
	b.gave(&c.state, uint64(len(b.events)), &c.sum)
	n := uint64(len(b.events))
	c.state.took(f, n)
	if n > 0 {
		s := c.Route.Stats
		s.Events.Add(int64(n))
		s.Bytes.Add(int64(b.size))
		if b.from < c.joined {
			s.Replayed.Add(int64(min(b.next, c.joined) - b.from))
		}
	}
	f.written()
	return nil
}

// write writes words and then events at once.
func (c *client) write(words []byte, events ...[]byte) error {
	if len(words)+len(events) == 0 {
		return nil
	}
	return c.watched(func() error { return c.out.write(words, events...) })
}

// watched calls write, and sees to it that it ends: where the kernel does not watch over a peer that takes nothing its deadline does, as it does
// over a client that may see no more of it.
func (c *client) watched(write func() error) error {
	now := time.Now()
	c.deadline.began.Store(now.UnixNano())
	if c.out.deadlines {
		c.clients.deadlines.set(&c.deadline, now.Add(stallTime), now) // a deadline that comes from now on sees began
	}
	err := write()
	c.deadline.began.Store(0)
	return err
}

// why tells a peer that took nothing from one that has disconnected.
func (c *client) why(err error) uint8 {
	if c.Pass.Standing() > access.ComeBack {
		return Revoked
	}
	if c.deadline.stalled.Load() || errors.Is(err, syscall.ETIMEDOUT) {
		return Stalled
	}
	return Left
}
