// This file is how a connection waits for messages: without a goroutine, by one that is woken, or, where they come one soon after the other, by one that stays. Where a message takes no time to
// speak of, the lookout, who looks after all that sleep, emits it itself. Whether a message takes long may turn out only once it has been begun; it is then left to a goroutine that is woken.

package upstream

import (
	"context"
	"time"

	"sidestream/proxy/upstream/wsconn"
	"sidestream/translate"
)

// dozes reports whether wake will be called. A connection that moves to another address stays awake.
func (c *wsConn) dozes(wake func()) bool {
	if wake == nil || c.moving != nil || c.rest != nil {
		return false
	}
	c.letGo()
	ws, ok := c.ws.(*wsconn.Conn)
	if !ok {
		return false
	}
	if c.soon >= busyRun && ws.Linger(lingerTime) {
		return false
	}
	c.soon = 0
	return ws.Doze(wake, c.glances(ws, wake))
}

// pace notes that a message was read.
func (c *wsConn) pace() {
	before := c.previous
	c.previous = c.message.Load()
	if c.soon++; time.Duration(c.previous-before) >= busyGap {
		c.soon = 0
	}
}

// glances is what the connection does in wake's place where that takes no time; nil: nothing.
func (c *wsConn) glances(ws *wsconn.Conn, wake func()) func() bool {
	if !c.term.brief {
		return nil
	}
	if c.term.glance == nil {
		c.term.glance = func() bool {
			ctx := c.shortly(c.term.alive)
			for c.soon < busyRun && ws.Whole() { // the rest of many is for the one who is woken
				err := c.one(ctx, c.term.emit)
				if c.undone == nil {
					c.term.failed = err
				}
				if err != nil {
					break
				}
			}
			c.followed(c.term.emit)
			if c.undone != nil || c.term.failed != nil {
				return false
			}
			c.letGo()
			return c.soon < busyRun && ws.Doze(wake, c.term.glance)
		}
	}
	return c.term.glance
}

// shortly returns a context with which messages take no time to speak of, and what takes some is left undone, where that is what most of them are: a clock costs more than these.
func (c *wsConn) shortly(ctx context.Context) context.Context {
	if !c.term.brief {
		return ctx
	}
	if c.term.briefly == nil {
		c.term.briefly = translate.Briefly(c.term.alive)
	}
	c.term.briefly.Renew()
	return c.term.briefly
}

// finish does what was left undone.
func (c *wsConn) finish(ctx context.Context, emit func([]translate.Message) error) error {
	ms := c.undone
	if ms == nil {
		return nil
	}
	c.undone = nil
	c.taking.Lock()
	defer c.taking.Unlock()
	return c.emit(ctx, ms, emit)
}

// Where messages come within busyGap of one another, so many in a row, the next one is waited for, for lingerTime.
const busyGap, busyRun, lingerTime = 50 * time.Millisecond, 8, 200 * time.Millisecond

// Comes is [Foreseer]'s.
func (c *wsConn) Comes() Coming {
	ws, ok := c.ws.(*wsconn.Conn)
	if !ok || c.rest != nil || c.undone != nil {
		return ComesLater
	}
	if c.reads {
		c.held = c.term.brief && ws.Whole()
		if c.held {
			return ComesMore
		}
	}
	if ws.Drained() {
		return ComesNothing
	}
	return ComesLater
}

// more reports whether a message has arrived whole.
func (c *wsConn) more() bool {
	ws, ok := c.ws.(*wsconn.Conn)
	return ok && ws.Whole()
}

// followed keeps the promise of [ComesMore] where no other message is read at once.
func (c *wsConn) followed(emit func([]translate.Message) error) {
	if c.held {
		c.held = false
		emit([]translate.Message{}) // whose error comes again
	}
}
