// This file is the source of Redis' channels and patterns (SUBSCRIBE, PSUBSCRIBE). What was published while the connection was down nobody has, so
// each new one is a gap. A message is larger than MAX_MESSAGE: it is skipped, and leaves a gap.

package upstream

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"sidestream/proxy/redisconn"
	"sidestream/translate"
)

type redisPubSub struct{ redisSource }

// History is false, as a subscription's is.
func (s *redisPubSub) History() bool { return false }

// Save is nothing: no place can be gone back to.
func (s *redisPubSub) Save() []byte { return nil }

// Restore fails: nothing is saved.
func (s *redisPubSub) Restore([]byte, []byte) error { return translate.ErrSaved }

// redisPubSubConn is one connection that has subscribed.
type redisPubSubConn struct {
	*redisPubSub
	at    redisFrom
	conn  *redisconn.Conn
	early []translate.Message // came before all was confirmed
}

func (s *redisPubSub) Connect(ctx context.Context) (Conn, error) {
	at, err := s.from()
	if err != nil {
		return nil, err
	}
	c := &redisPubSubConn{redisPubSub: s, at: at}
	open := func(ctx context.Context) (*redisconn.Conn, error) { return at.Open(ctx, s.dialer()) }
	if c.conn, err = s.opened(ctx, open, c.subscribe); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, redisVerdict(err, at.Cluster)
	}
	s.q.Route.Stats.Connects.Add(1)
	return c, nil
}

// Resumed is false: what was published meanwhile is nowhere.
func (c *redisPubSubConn) Resumed() bool { return false }

// Send fails always: the route only listens.
func (c *redisPubSubConn) Send(context.Context, translate.Message) error { return ErrNoUplink }

// subscribe returns once every subscription is confirmed.
func (c *redisPubSubConn) subscribe(conn *redisconn.Conn) error {
	c.conn = conn
	var commands [][]string
	if len(c.at.channels) > 0 {
		commands = append(commands, append([]string{"SUBSCRIBE"}, c.at.channels...))
	}
	if len(c.at.patterns) > 0 {
		commands = append(commands, append([]string{"PSUBSCRIBE"}, c.at.patterns...))
	}
	if err := conn.SendAll(commands...); err != nil {
		return err
	}
	size := 0
	for missing := len(c.at.channels) + len(c.at.patterns); missing > 0; {
		what, m, err := c.next()
		switch {
		case err != nil:
			return err
		case what == "subscribe", what == "psubscribe":
			missing--
		case m != nil:
			c.early = append(c.early, *m)
			if size += m.Size(); len(c.early) > maxEarly || size > maxEarlyBytes {
				return fmt.Errorf("more than %d messages or %d bytes arrived before all subscriptions were confirmed", maxEarly, maxEarlyBytes)
			}
		}
	}
	return nil
}

// next reads what the server has pushed: what it is, and the message if it is one that counts.
func (c *redisPubSubConn) next() (what string, m *translate.Message, err error) {
	parts, err := c.conn.List()
	if err != nil {
		return "", nil, err
	}
	kind, _, err := c.conn.Text(maxKindOfPush)
	if err != nil || parts < 1 {
		return "", nil, errors.Join(err, missingParts(parts, 1))
	}
	want := map[string]int64{"message": 3, "pmessage": 4}[string(kind)]
	if want == 0 {
		for range parts - 1 {
			if err := c.conn.Skip(); err != nil {
				return "", nil, err
			}
		}
		return string(kind), nil, nil
	}
	if err := missingParts(parts, want); err != nil {
		return "", nil, err
	}
	m, err = c.message(string(kind))
	return string(kind), m, err
}

// maxKindOfPush is the length of the longest: punsubscribe.
const maxKindOfPush = 16

func missingParts(got, want int64) error {
	if got != want && (want > 1 || got < want) {
		return redisconn.ErrProtocol
	}
	return nil
}

// message reads the rest of one; nil: it is dropped.
func (c *redisPubSubConn) message(kind string) (*translate.Message, error) {
	if kind == "pmessage" { // the pattern
		if err := c.conn.Skip(); err != nil {
			return nil, err
		}
	}
	channel, _, err := c.conn.Text(maxNamedSize)
	if err != nil {
		return nil, err
	}
	data, cut, err := c.conn.Text(c.q.Route.settings.MaxMessage)
	if err != nil {
		return nil, err
	}
	if cut {
		m := c.oversize()
		return &m, nil
	}
	m, kept := c.arrived(string(channel), data)
	if !kept {
		return nil, nil
	}
	return &m, nil
}

func (c *redisPubSubConn) Run(ctx context.Context, emit func([]translate.Message) error) error {
	defer c.conn.Close()
	stop := context.AfterFunc(ctx, func() { c.conn.Close() })
	defer stop()
	err := c.pump(ctx, emit)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return redisVerdict(err, c.at.Cluster)
}

func (c *redisPubSubConn) pump(ctx context.Context, emit func([]translate.Message) error) error {
	batch := c.early
	c.early = nil
	for size := 0; ; {
		if len(batch) > 0 && (len(batch) >= batchSize || size >= batchBytes || !c.conn.Waiting()) {
			if err := c.emit(ctx, batch, emit); err != nil {
				return err
			}
			batch, size = nil, 0
		}
		if err := c.await(ctx); err != nil {
			return err
		}
		_, m, err := c.next()
		if refused, ok := errors.AsType[*redisconn.Error](err); ok {
			c.log.Debug("a PING was refused, which is an answer too", "err", refused) // not every user of the ACL may
			continue
		}
		if err != nil {
			return err
		}
		if m != nil {
			batch, size = append(batch, *m), size+len(m.Data)
		}
	}
}

// await waits for the beginning of a push. It sends a PING when half of IDLE has passed without, and fails when all has.
func (c *redisPubSubConn) await(ctx context.Context) error {
	idle := c.q.Route.settings.Idle
	defer func() { c.conn.Patience = idle }() // for each part of what has begun
	c.conn.Patience = idle / 2
	var pinged time.Time
	for {
		err := c.conn.Await()
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		if !pinged.IsZero() {
			return fmt.Errorf("%w (%v)", errIdle, idle)
		}
		pinged = time.Now()
		if err := c.conn.Send("PING"); err != nil {
			return err
		}
		if err := c.moved(ctx, c.at, c.conn); err != nil {
			return err
		}
		c.conn.Patience = max(time.Millisecond, idle/2-time.Since(pinged))
	}
}

func (s *redisPubSub) emit(ctx context.Context, ms []translate.Message, emit func([]translate.Message) error) error {
	out, done, err := s.q.Route.apply(ctx, s.log, ms)
	if err != nil {
		return err
	}
	if len(out) > 0 {
		if err := emit(out); err != nil {
			return err
		}
	}
	if done {
		return translate.ErrFinished
	}
	return nil
}
