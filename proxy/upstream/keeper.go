package upstream

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/coder/websocket"

	"sidestream/translate"
)

// keeper does what time demands of a connection: pings, keepalives, giving up, and the farewell.
type keeper struct {
	*socket
	idle   time.Duration  // 0 never
	pinged time.Time      // when the last WebSocket ping went out
	pings  sync.WaitGroup // those without their pong
}

// keep works until alive is done. When ctx is, it closes the connection politely and ends alive.
func (c *socket) keep(ctx, alive context.Context, end context.CancelCauseFunc) {
	c.mu.Lock()
	timers := c.session.Timers()
	c.mu.Unlock()
	k := keeper{socket: c, idle: c.q.Route.settings.Idle, pinged: time.Now()}
	if s := timers.Silence; s > 0 && (k.idle == 0 || s < k.idle) {
		k.idle = s
	}
	defer k.pings.Wait()
	watch, stop := after(k.idle / 2)
	defer stop()
	app, stopApp := after(timers.Every)
	defer stopApp()
	for {
		var err error
		select {
		case <-alive.Done():
			return
		case <-ctx.Done():
			c.farewell(websocket.StatusGoingAway)
			err = ctx.Err()
		case <-app.C:
			app.Reset(timers.Every)
			err = k.keepalive(alive, timers.Ping)
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

// after is a timer that never fires when d is 0.
func after(d time.Duration) (t *time.Timer, stop func() bool) {
	t = time.NewTimer(max(d, 1))
	if d == 0 {
		t.Stop()
	}
	return t, t.Stop
}

// check pings a connection that was silent for half of idle and gives up one that was for all of it. It returns when to
// look again.
func (k *keeper) check(alive context.Context) (time.Duration, error) {
	last := k.received()
	if time.Since(last) >= k.idle {
		return 0, fmt.Errorf("%w (%v)", errIdle, k.idle)
	}
	next := later(last, k.pinged).Add(k.idle / 2)
	if !time.Now().Before(next) {
		k.pinged = time.Now()
		next = k.pinged.Add(k.idle / 2)
		k.pings.Go(func() { // ends with its pong, or when the connection would be idle
			ctx, cancel := context.WithTimeout(alive, k.idle/2)
			defer cancel()
			k.ws.Ping(ctx) // the pong counts where it is received
		})
	}
	if dead := last.Add(k.idle); dead.Before(next) {
		next = dead
	}
	return time.Until(next), nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// keepalive sends the application's own ping.
func (k *keeper) keepalive(ctx context.Context, ping func() (translate.Frame, error)) error {
	k.mu.Lock()
	f, err := ping()
	k.mu.Unlock()
	if err != nil {
		return err
	}
	return k.send(ctx, []translate.Frame{f})
}
