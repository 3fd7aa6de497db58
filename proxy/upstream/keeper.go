package upstream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/coder/websocket"

	"sidestream/translate/dialect"
)

// keeper does what time demands of a connection: pings, keepalives, giving up, and the farewell.
type keeper struct {
	*wsConn
	timers dialect.Timers
	idle   time.Duration  // 0 never
	pinged time.Time      // when the last WebSocket ping went out
	pings  sync.WaitGroup // those without their pong, and acknowledgements on their way
}

var errSilence = errors.New("no message came for as long as the dialect allows")

// keep works until alive is done. When ctx is, it closes the connection politely and ends alive.
func (c *wsConn) keep(ctx, alive context.Context, end context.CancelCauseFunc) {
	k := keeper{wsConn: c, timers: c.now(), idle: c.q.Route.settings.Idle, pinged: time.Now()}
	if c.q.Route.posts() {
		k.idle = 0 // there is nothing to ping, and the dialect knows how long the server may hold a request
	}
	defer k.pings.Wait()
	watch, stop := timer(k.idle / 2)
	defer stop()
	app, stopApp := timer(k.timers.Every)
	defer stopApp()
	silence, stopSilence := timer(k.timers.Silence)
	defer stopSilence()
	for {
		var err error
		select {
		case <-alive.Done():
			return
		case <-ctx.Done():
			c.farewell(websocket.StatusGoingAway)
			err = ctx.Err()
		case <-c.retimed:
			was := k.timers
			k.timers = c.now()
			rearm(app, was.Every, k.timers.Every)
			rearm(silence, was.Silence, k.timers.Silence)
		case <-app.C:
			app.Reset(k.timers.Every)
			if err = k.keepalive(alive); err == nil {
				k.acknowledge(alive, end)
			}
		case <-silence.C:
			left := time.Until(c.heard().Add(k.timers.Silence))
			if left <= 0 {
				err = fmt.Errorf("%w (%v)", errSilence, k.timers.Silence)
			}
			silence.Reset(left)
		case <-watch.C:
			var next time.Duration
			next, err = k.check(alive)
			watch.Reset(next)
		}
		if err != nil {
			end(err)
			return
		}
	}
}

// now is the session's timers.
func (c *wsConn) now() dialect.Timers {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timers = c.session.Timers()
	return c.timers
}

// timer is one that never fires when d is 0.
func timer(d time.Duration) (t *time.Timer, stop func() bool) {
	t = time.NewTimer(max(d, 1))
	if d == 0 {
		t.Stop()
	}
	return t, t.Stop
}

// rearm sets t to its new span if that is another.
func rearm(t *time.Timer, was, now time.Duration) {
	switch {
	case now == was:
	case now == 0:
		t.Stop()
	default:
		t.Reset(now)
	}
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
		k.pings.Go(func() { // ends once it is written, or when the connection would be idle
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
	k.mu.Lock()
	frames, err := k.session.Ping()
	k.mu.Unlock()
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
	k.mu.Lock()
	acks := k.session.Acks()
	k.retime()
	k.mu.Unlock()
	if len(acks) == 0 {
		k.taking.Unlock()
		return
	}
	k.pings.Go(func() { // ends once all is kept and the frames are sent, at the latest with the stream's term
		defer k.taking.Unlock()
		err := k.keeps()
		if err == nil {
			err = k.send(ctx, acks)
		}
		if err != nil {
			end(err)
		}
	})
}
