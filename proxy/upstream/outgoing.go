// This file is the way up: what clients POST to a route (SEND). Its rules:
//
//   - The frames of one message are not parted by those of another, nor by the dialect's own.
//   - They leave in the order in which Send was called; a frame that the upstream does not take in 10 s ends the
//     connection, which ends the wait of all others.

package upstream

import (
	"context"
	"errors"

	"sidestream/translate"
	"sidestream/translate/dialect"
)

// ErrNoUplink means that a route polls, or reads a Redis, so that nothing can be sent.
var ErrNoUplink = errors.New("a route that polls, or reads a Redis, cannot send")

// errLeft is of what is sent when the upstream was told that nothing more comes.
var errLeft = errors.New("the connection to the upstream is being closed")

// BadMessage means that the dialect cannot send a message, whichever client asks. Its text is for the client.
type BadMessage struct{ Err error }

func (e *BadMessage) Error() string { return e.Err.Error() }

// Unwrap returns the reason.
func (e *BadMessage) Unwrap() error { return e.Err }

// MaxMessage is the largest message that the route takes, in bytes.
func (rt *Route) MaxMessage() int { return rt.settings.MaxMessage }

// Send fails always: a poll only asks.
func (c *pollConn) Send(context.Context, translate.Message) error { return ErrNoUplink }

// Send fails always: a stream of HTTP goes one way.
func (c *httpStreamConn) Send(context.Context, translate.Message) error { return ErrNoUplink }

// Send is Conn's.
func (c *wsConn) Send(ctx context.Context, m translate.Message) error {
	if next := c.next.Load(); next != nil {
		return next.Send(ctx, m)
	}
	if err := c.takeTurn(ctx); err != nil {
		return err
	}
	defer c.giveTurn()
	if c.left {
		return errLeft
	}
	c.mu.Lock()
	var frames []dialect.Frame
	err := c.session.Admit(m)
	if err == nil {
		frames, err = c.session.Send(m)
	}
	c.retime()
	c.mu.Unlock()
	if err != nil {
		return &BadMessage{err}
	}
	return c.write(context.WithoutCancel(ctx), frames)
}

// takeTurn waits until no other message is being written. Callers are served in order: a channel's senders queue.
func (c *wsConn) takeTurn(ctx context.Context) error {
	select {
	case c.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *wsConn) giveTurn() { <-c.turn }

// send writes frames that belong together.
func (c *wsConn) send(ctx context.Context, frames []dialect.Frame) error {
	if len(frames) == 0 {
		return nil
	}
	if err := c.takeTurn(ctx); err != nil {
		return err
	}
	defer c.giveTurn()
	if c.left {
		return nil
	}
	return c.write(ctx, frames)
}

// say sends the session's last words. What it would say after them, such as an answer to the upstream's, is not sent.
func (c *wsConn) say(last []dialect.Frame) error {
	if len(last) == 0 {
		return nil
	}
	c.takeTurn(context.Background())
	defer c.giveTurn()
	c.left = true
	return c.write(context.Background(), last)
}
