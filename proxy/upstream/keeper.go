package upstream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"sidestream/translate/dialect"
)

// keeper does what time demands of a connection: pings, keepalives and giving up. It is one timer, and a goroutine only while something is due.
type keeper struct {
	*wsConn
	idle  time.Duration // 0 never
	alive context.Context
	end   context.CancelCauseFunc
	work  sync.WaitGroup // ticks, pings and acknowledgements on their way

	// The tick's.
	pinged time.Time // when the last WebSocket ping went out

	mu                  sync.Mutex // guards what follows; may be taken within wsConn.mu
	timer               *time.Timer
	timers              dialect.Timers
	watch, app, silence time.Time // when they are due; zero never
	busy                bool      // a tick is running, which sets the timer then
	over                bool
}

var errSilence = errors.New("no message came for as long as the dialect allows")

// newKeeper begins to keep c, until stop.
func newKeeper(c *wsConn, alive context.Context, end context.CancelCauseFunc) *keeper {
	now := time.Now()
	k := &keeper{wsConn: c, idle: c.q.Route.settings.Idle, pinged: now, alive: alive, end: end}
	if c.q.Route.posts() {
		k.idle = 0 // there is nothing to ping, and the dialect knows how long the server may hold a request
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	k.mu.Lock()
	defer k.mu.Unlock()
	c.timers = c.session.Timers()
	k.timers = c.timers
	k.watch, k.app, k.silence = in(now, k.idle/2), in(now, k.timers.Every), in(now, k.timers.Silence)
	k.timer = time.AfterFunc(time.Hour, k.tick)
	k.arm()
	c.keeper = k
	return k
}

// in is when d will have passed; never where it is 0.
func in(now time.Time, d time.Duration) time.Time {
	if d == 0 {
		return time.Time{}
	}
	return now.Add(d)
}

// arm sets the timer. mu is held.
func (k *keeper) arm() {
	var next time.Time
	for _, at := range []time.Time{k.watch, k.app, k.silence} {
		if !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	if next.IsZero() || k.over {
		k.timer.Stop()
		return
	}
	k.timer.Reset(time.Until(next))
}

// retime takes the session's timers, which have changed.
func (k *keeper) retime(t dialect.Timers) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	if t.Every != k.timers.Every {
		k.app = in(now, t.Every)
	}
	if t.Silence != k.timers.Silence {
		k.silence = in(now, t.Silence)
	}
	k.timers = t
	if !k.busy {
		k.arm()
	}
}

// stop returns once nothing of the keeper's is on its way any more.
func (k *keeper) stop() {
	k.mu.Lock()
	k.over = true
	k.timer.Stop()
	k.mu.Unlock()
	k.work.Wait()
}

// tick does what is due.
func (k *keeper) tick() {
	k.mu.Lock()
	if k.over || k.busy {
		k.mu.Unlock()
		return
	}
	k.busy = true
	k.work.Add(1)
	defer k.work.Done()
	now := time.Now()
	due := func(at time.Time) bool { return !at.IsZero() && !now.Before(at) }
	watch, app, silence := due(k.watch), due(k.app), due(k.silence)
	if app {
		k.app = in(now, k.timers.Every)
	}
	limit := k.timers.Silence
	k.mu.Unlock()
	var err error
	var next time.Duration
	left := time.Until(k.heard().Add(limit))
	switch {
	case silence && left <= 0:
		err = fmt.Errorf("%w (%v)", errSilence, limit)
	case watch:
		next, err = k.check(k.alive)
	}
	if err == nil && app {
		if err = k.keepalive(k.alive); err == nil {
			k.acknowledge(k.alive, k.end)
		}
	}
	if err != nil {
		k.end(err)
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if watch {
		k.watch = now.Add(next)
	}
	if silence && due(k.silence) { // else it has changed meanwhile
		k.silence = now.Add(left)
	}
	k.busy = false
	k.arm()
}

// check pings a connection that was silent for half of idle and gives up one that was for all of it. It returns when to
// look again.
func (k *keeper) check(alive context.Context) (time.Duration, error) {
	last := k.received()
	if time.Since(last) >= k.idle {
		return 0, fmt.Errorf("%w (%v)", errIdle, k.idle)
	}
	next := latest(last, k.pinged).Add(k.idle / 2)
	if !time.Now().Before(next) {
		k.pinged = time.Now()
		next = k.pinged.Add(k.idle / 2)
		k.work.Go(func() { // ends once it is written, or when the connection would be idle
			ctx, cancel := context.WithTimeout(alive, k.idle/2)
			defer cancel()
			k.ws.SendPing(ctx) // its pong counts where it is received
		})
	}
	if dead := last.Add(k.idle); dead.Before(next) {
		next = dead
	}
	return time.Until(next), nil
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// keepalive sends what the session wants to be sent from time to time.
func (k *keeper) keepalive(ctx context.Context) error {
	k.wsConn.mu.Lock()
	frames, err := k.session.Ping()
	k.wsConn.mu.Unlock()
	if err != nil {
		return err
	}
	return k.send(ctx, frames)
}

// acknowledge sends what the session wants to have acknowledged, once that is kept.
func (k *keeper) acknowledge(ctx context.Context, end context.CancelCauseFunc) {
	if !k.taking.TryLock() {
		return // not all that the session has taken is emitted; the next time will do
	}
	k.wsConn.mu.Lock()
	acks := k.session.Acks()
	k.wsConn.retime()
	k.wsConn.mu.Unlock()
	if len(acks) == 0 {
		k.taking.Unlock()
		return
	}
	k.work.Go(func() { // ends once all is kept and the frames are sent, at the latest with the stream's term
		defer k.taking.Unlock()
		err := k.term.emit(nil)
		if err == nil {
			err = k.send(ctx, acks)
		}
		if err != nil {
			end(err)
		}
	})
}
