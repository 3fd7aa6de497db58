// This file is how a subscription moves: a server that is about to go away names another address, a ~ line of HELLO sees that, and DIAL
// yields the address. The rules:
//
//   - The new connection is opened while the old one goes on, with a session of its own, and a STATE that begins as the old one's; what only the
//     old one has learned since is added at the end. Once it is ready, what the
//     old one has still sent is read, up to the pong of a ping, and emitted before anything of the new one; then the old one is closed.
//   - Nothing is lost then, as the server sends each message to one of them. Where the old one has ended before the new one was ready, something
//     may be: that is a gap, unless the new one resumes.
//   - A move that fails ends the old connection, as ~ does otherwise. Of what STATE has learned on the new one nothing is kept then, and what it had
//     taken in is lost: a gap.
//   - What ends the stream ends it whatever moves (!, DONE): the new connection is given up. A close code of the old one says nothing any more.

package upstream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/coder/websocket"

	"sidestream/translate"
)

const (
	moveTime = 30 * time.Second // for the opening of the new connection: servers give half a minute or so
	pongTime = 10 * time.Second // for what the old one has still sent
)

// move is one to another address.
type move struct {
	to    *subscription      // that has the new session
	begun translate.State    // of both, at first
	stop  context.CancelFunc // gives it up
	done  chan struct{}      // closed when it has succeeded or failed
	conn  *wsConn            // ready; nil: it has failed
	cut   bool               // the old connection was closed while what it had sent was not read yet
	err   error
}

// Run is Conn's.
func (c *wsConn) Run(ctx context.Context, emit func([]translate.Message) error) error {
	_, err := c.Turn(ctx, emit, nil, false)
	return err
}

// Turn is Dozer's. Once the connection has moved it stays awake.
func (c *wsConn) Turn(ctx context.Context, emit func([]translate.Message) error, wake func(), brief bool) (asleep bool, err error) {
	source := c.subscription
	for ; ; wake = nil {
		if c.term == nil {
			c.enter(ctx, emit)
		}
		c.term.brief = brief && c.q.Route.brief()
		asleep, err := c.run(ctx, wake)
		if asleep {
			return true, nil
		}
		if c.moving == nil {
			return false, err
		}
		if ctx.Err() != nil || c.term.stopped.Load() || final(err) { // nobody runs it
			c.moving.giveUp()
			return false, err
		}
		next, failed := c.moved()
		if failed != nil {
			source.dropped = source.dropped || c.moving.to.dropped
			var retry *Retry
			resumes := errors.As(err, &retry) && retry.Resumes
			return false, &Retry{Resumes: resumes, Err: failed}
		}
		source.mu.Lock()
		source.session, source.state = next.session, next.state
		source.mu.Unlock()
		c = next
	}
}

// move begins to open the connection that is to take c's place.
func (c *wsConn) move() {
	if c.moving != nil {
		return
	}
	life, stop := context.WithCancel(c.life)
	c.mu.Lock()
	m := &move{begun: *c.state, stop: stop, done: make(chan struct{})}
	c.mu.Unlock()
	state := m.begun
	m.to = &subscription{q: c.q, log: c.log, jar: c.jar, mu: c.mu, state: &state, dials: c.dials}
	m.to.converse()
	c.moving = m
	go func() { // ends with the stream, or when the new connection is ready or has failed; moved and giveUp wait for it
		defer close(m.done)
		c.follow(life, m)
	}()
}

// follow opens the new connection, and closes the old one once what it has sent is read.
func (c *wsConn) follow(life context.Context, m *move) {
	ctx, cancel := context.WithTimeout(life, moveTime)
	defer cancel()
	conn, err := m.to.Connect(ctx)
	if err != nil {
		m.err = fmt.Errorf("the move to another address failed: %s", err.Error()) // whatever it is, it is no verdict on the stream
		c.conn.Close()
		return
	}
	m.conn, _ = conn.(*wsConn)
	c.next.Store(m.conn)
	c.q.Route.Stats.Moves.Add(1)
	c.log.Info("the upstream has announced a move: the connection to the new address is ready")
	last, stop := context.WithTimeout(life, pongTime)
	defer stop()
	err = c.ws.Ping(last) // whose pong comes after all that it has sent until then
	m.cut = err != nil && c.busy.Load() > 0
	c.farewell(websocket.StatusNormalClosure)
}

// giveUp ends a move of which nobody wants the connection any more.
func (m *move) giveUp() {
	m.stop()
	<-m.done
	if m.conn != nil {
		m.conn.farewell(websocket.StatusGoingAway)
		m.conn.ws.CloseNow()
	}
}

// moved returns the connection that takes the place of c, which has ended, or why there is none.
func (c *wsConn) moved() (next *wsConn, err error) {
	m := c.moving
	early := c.next.Load() == nil
	<-m.done
	m.stop()
	if m.conn == nil {
		c.dials = m.to.dials
		return nil, m.err
	}
	c.mu.Lock()
	m.to.state.CatchUp(m.begun, *c.state)
	c.mu.Unlock()
	m.conn.gap = m.conn.gap || (early || m.cut) && !m.conn.resumed
	return m.conn, nil
}
