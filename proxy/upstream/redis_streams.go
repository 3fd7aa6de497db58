// This file is the source of Redis' streams (XREAD). Its rules:
//
//   - It begins after the newest entry that there is, whose id is asked for once, and from then on goes by ids: over reconnects, and from one process
//     to the next. Nothing is deleted, acknowledged or written.
//   - Every entry that was ever added counts (entries-added of XINFO STREAM, Redis 7), and so do those that were read. Where the two do not agree, some
//     were trimmed or deleted before they were read: a gap. Older servers do not count: there, when a connection is made, a first entry after our place
//     is a gap, though perhaps nothing is missing.
//   - Nothing tells a stream that was deleted and begun anew unseen from the old one, if exactly as many of its entries are gone as had been added to the
//     old one up to our place.
//   - A key that is gone, or whose newest id is before our place, is another stream by the same name: a gap, and what it has from its beginning.
//   - That is looked at when a connection is made, within a second after entries were read, and every ten seconds otherwise.
//   - An entry is a JSON object of its fields. One of more than MAX_MESSAGE is skipped, and leaves a gap.

package upstream

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"time"

	"sidestream/proxy/redisconn"
	"sidestream/translate"
)

const (
	streamCount = "128"            // entries asked for at once
	streamCheck = 10 * time.Second // how often is looked whether something is missing
	streamSoon  = time.Second      // the same after entries were read
	saveTime    = 5 * time.Second  // how often a place is saved that no event stands for
	maxMoves    = 5                // from node to node of a cluster
	maxEntryID  = 64               // bytes; two numbers of 64 bits and a -
)

// redisStreams is the source of one or several streams.
type redisStreams struct {
	redisSource
	places map[string]streamPlace // by key
	broken bool                   // something is missing before them, which no connection has told yet
}

// History is false: it begins with what is added from now on.
func (s *redisStreams) History() bool { return false }

// redisStreamsConn is one connection that reads streams.
type redisStreamsConn struct {
	*redisStreams
	at      redisFrom
	conn    *redisconn.Conn
	resumed bool
	checks  map[string]streamPlace // by key: with the entry of this id so many were added
	checked time.Time
	saved   time.Time
	unsure  bool // entries were read since it was looked whether some are missing
}

func (s *redisStreams) Connect(ctx context.Context) (Conn, error) {
	at, err := s.from()
	if err != nil {
		return nil, err
	}
	maps.DeleteFunc(s.places, func(key string, _ streamPlace) bool { return !slices.Contains(at.streams, key) }) // FROM's file has changed
	c := &redisStreamsConn{redisStreams: s, at: at, checks: map[string]streamPlace{}}
	if err := c.open(ctx); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, redisVerdict(err, at.Cluster)
	}
	c.resumed, s.broken = !s.broken, false
	s.q.Route.Stats.Connects.Add(1)
	return c, nil
}

// open connects to the node that has the streams.
func (c *redisStreamsConn) open(ctx context.Context) (err error) {
	open := func(ctx context.Context) (*redisconn.Conn, error) { return c.at.Open(ctx, c.dialer()) }
	for range maxMoves {
		var asked string
		c.conn, err = c.opened(ctx, open, func(conn *redisconn.Conn) error {
			c.conn, asked = conn, conn.At()
			return c.locate()
		})
		refused, ok := errors.AsType[*redisconn.Error](err)
		if !ok || !c.at.Cluster || refused.Moved(asked) == "" {
			return err
		}
		open = func(ctx context.Context) (*redisconn.Conn, error) {
			return c.at.OpenAt(ctx, c.dialer(), refused.Moved(asked))
		}
	}
	return err
}

// locate finds out where to begin, and whether anything is missing before that.
func (c *redisStreamsConn) locate() error {
	ids := make([]string, len(c.at.streams))
	for i := range ids {
		ids[i] = "$"
	}
	if err := c.conn.Send(c.xread("COUNT", "1", ids)...); err != nil { // it only asks whether they can be read here
		return err
	}
	if _, err := c.conn.Reply(0); err != nil {
		return err
	}
	for _, key := range c.at.streams {
		info, err := c.info(key)
		if err != nil {
			return err
		}
		if _, known := c.places[key]; !known {
			c.places[key] = streamPlace{info.last, info.added}
			c.broken = true
		} else if c.lost(key, info, true) {
			c.broken = true
		}
	}
	c.checked = time.Now()
	return nil
}

// xread is the command, with an option before the keys.
func (c *redisStreamsConn) xread(option, value string, ids []string, more ...string) []string {
	words := append([]string{"XREAD", option, value}, more...)
	words = append(words, "STREAMS")
	words = append(words, c.at.streams...)
	return append(words, ids...)
}

// Resumed is whether every stream goes on where it was, with nothing missing.
func (c *redisStreamsConn) Resumed() bool { return c.resumed }

// Send fails always: the route only reads.
func (c *redisStreamsConn) Send(context.Context, translate.Message) error { return ErrNoUplink }

func (c *redisStreamsConn) Run(ctx context.Context, emit func([]translate.Message) error) error {
	defer c.conn.Close()
	stop := context.AfterFunc(ctx, func() { c.conn.Close() })
	defer stop()
	c.conn.Patience = c.q.Route.settings.Idle
	err := c.pump(ctx, emit)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, translate.ErrFinished):
		return err
	}
	return &Retry{Resumes: true, Err: redisVerdict(err, c.at.Cluster)}
}

// pump reads until the connection ends.
func (c *redisStreamsConn) pump(ctx context.Context, emit func([]translate.Message) error) error {
	if err := c.keepPlace(emit, 0); err != nil {
		return err
	}
	for {
		ids := make([]string, len(c.at.streams))
		for i, key := range c.at.streams {
			ids[i] = c.places[key].id.String()
		}
		if err := c.conn.Send(c.xread("COUNT", streamCount, ids, "BLOCK", strconv.FormatInt(c.wait().Milliseconds(), 10))...); err != nil {
			return err
		}
		streams, err := c.conn.List()
		if err != nil {
			return err
		}
		for range streams {
			c.unsure = true
			if err := c.readStream(ctx, emit); err != nil {
				return err
			}
		}
		if streams < 0 || time.Since(c.checked) >= c.pace() {
			if err := c.check(ctx, emit); err != nil {
				return err
			}
		}
	}
}

// pace is how often is looked whether something is missing.
func (c *redisStreamsConn) pace() time.Duration {
	if c.unsure {
		return streamSoon
	}
	return streamCheck
}

// wait is how long XREAD may wait: at least a millisecond, as 0 would be for ever.
func (c *redisStreamsConn) wait() time.Duration {
	d := c.pace()
	if idle := c.q.Route.settings.Idle; idle > 0 {
		d = min(d, idle/2)
	}
	return max(d, time.Millisecond)
}

// check looks whether entries are missing that nothing else would tell of.
func (c *redisStreamsConn) check(ctx context.Context, emit func([]translate.Message) error) error {
	lost := false
	for _, key := range c.at.streams {
		info, err := c.info(key)
		if err != nil {
			return err
		}
		lost = c.lost(key, info, false) || lost
	}
	c.checked, c.unsure = time.Now(), false
	if lost {
		c.log.Warn("entries were deleted before they were read, or a stream was")
		if err := emit([]translate.Message{{Gap: translate.GapUpstream}}); err != nil {
			return err
		}
	}
	return c.moved(ctx, c.at, c.conn)
}

// keepPlace has the places saved though there is no event, unless that was done in the last so long.
func (c *redisStreamsConn) keepPlace(emit func([]translate.Message) error, pace time.Duration) error {
	if time.Since(c.saved) < pace {
		return nil
	}
	c.saved = time.Now()
	return emit([]translate.Message{})
}
