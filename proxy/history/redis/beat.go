package redis

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"sidestream/proxy/history"
)

const (
	sweepTime   = 5 * time.Second  // how often followers are brought up to date though no hint says so
	compareTime = 3 * sweepTime    // how often holders compare, though they append nothing
	lookTime    = time.Second      // how often it is looked whether leases are missing
	looks       = 4                // that a lease has to be missing at: the store may have lost it, and its holder renews it
	peerTime    = 3 * peerRenew    // how long a replica's address is known
	peerRenew   = 10 * time.Second // how often it is told
	maxKeys     = 500              // of leases, in one command
	maxCompared = 100              // streams, in one command
)

// beat does what is due from time to time, until ctx is done.
func (s *Store) beat(ctx context.Context) {
	tick := time.NewTicker(retryTime)
	defer tick.Stop()
	var looked, swept, told time.Time
	var c scratch
	for {
		select {
		case <-ctx.Done():
			s.untell()
			return
		case now := <-tick.C:
			s.probe(ctx)
			if now.Sub(looked) >= lookTime {
				looked = now
				s.look(ctx)
				s.retry(ctx, func(l *log) bool {
					return !l.bucket.away.Load() && (l.isAlone() || l.unheard.Load() || l.owes.Swap(false))
				})
			}
			if now.Sub(swept) >= sweepTime {
				swept = now.Add(-rand.N(time.Second)) // not all replicas at once
				s.sweep(ctx, &c, s.buckets)
			}
			if s.Peer != "" && now.Sub(told) >= peerRenew && s.tell(ctx) == nil {
				told = now
			}
		}
	}
}

// lease renews leases, whatever else takes its time, until ctx is done.
func (s *Store) lease(ctx context.Context) {
	tick := time.NewTicker(renewTime)
	defer tick.Stop()
	var c scratch
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			c.logs = s.gather(c.logs, (*log).leads)
			s.renew(ctx, &c, func(l *log) { s.run.Go(l.replaced) }) // ends with what the log is asking
			clear(c.logs)
		}
	}
}

// some are the open logs that which holds for, which does nothing but look.
func (s *Store) some(which func(*log) bool) []*log { return s.gather(nil, which) }

// gather is some, in the room of logs.
func (s *Store) gather(logs []*log, which func(*log) bool) []*log {
	logs = logs[:0]
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.logs {
		for ; l != nil; l = l.next {
			if which(l) {
				if logs == nil {
					logs = make([]*log, 0, len(s.logs))
				}
				logs = append(logs, l)
			}
		}
	}
	return logs
}

// probe has streams go on whose bucket was away and takes writes again.
func (s *Store) probe(ctx context.Context) {
	var away []*bucket
	for _, b := range s.buckets {
		if b.away.Load() {
			away = append(away, b)
		}
	}
	if len(away) > 0 {
		s.knock(ctx, away)
	}
	back := map[*bucket]bool{}
	for _, b := range s.buckets {
		if b.back.Swap(false) {
			back[b] = true
		}
	}
	if len(back) > 0 {
		s.renew(ctx, &scratch{logs: s.some(func(l *log) bool { return back[l.bucket] && l.leads() })}, (*log).replaced)
		s.retry(ctx, func(l *log) bool { return back[l.bucket] })
	}
}

// knock finds out which of the buckets that were away take writes again.
func (s *Store) knock(ctx context.Context, away []*bucket) {
	ctx, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	c := *s.conn.Load()
	var all rueidis.Commands
	for _, b := range away {
		all = append(all, c.B().Set().Key(b.prefix+"probe").Value(s.replica).Px(leaseTime).Build())
	}
	for i, r := range c.DoMulti(ctx, all...) {
		if r.Error() == nil {
			s.note(away[i], nil)
		}
	}
}

// retry has streams keep what could not be kept, or begin to be.
func (s *Store) retry(ctx context.Context, which func(*log) bool) {
	var all sync.WaitGroup
	turn := make(chan struct{}, followers)
	for _, l := range s.some(which) {
		turn <- struct{}{}
		all.Go(func() { // ends with the command
			defer func() { <-turn }()
			l.retry(ctx)
		})
	}
	all.Wait()
}

func (l *log) retry(ctx context.Context) {
	l.mu.Lock()
	role, f, epoch := l.role, l.follower, l.epoch
	l.mu.Unlock()
	switch {
	case f == nil:
	case role == alone:
		l.found(ctx, f)
	case role == leading && l.unheard.Swap(false):
		f.Retry(epoch)
	case role == leading:
		f.Retry(0)
	case role == following:
		l.refresh(ctx)
	}
}

// found has a stream that was alone join the others.
func (l *log) found(ctx context.Context, f history.Follower) {
	t, err := l.acquire(ctx)
	switch {
	case err != nil:
	case t.Epoch == 0: // another replica runs the source
		l.work.Lock()
		l.step()
		l.work.Unlock()
	default:
		f.Retry(t.Epoch)
	}
}

// renew renews the leases of c's logs, and calls replaced for those that another replica has.
func (s *Store) renew(ctx context.Context, c *scratch, replaced func(*log)) {
	s.parts(c.logs, maxKeys, func(b *bucket, part []*log) {
		c.begin(ms(leaseTime))
		for _, l := range part {
			c.key(l, "l")
			at := len(c.text)
			c.text = l.appendToken(c.text)
			c.args = append(c.args, c.from(at))
		}
		asked := s.since()
		others, err := c.exec(ctx, s, b, renewing)
		if err != nil {
			return
		}
		for i, l := range part {
			if slices.Contains(others, int64(i)) {
				replaced(l)
				continue
			}
			l.mu.Lock()
			l.renewed = asked
			l.mu.Unlock()
		}
	})
}

// exec runs the command. It answers with numbers.
func (c *scratch) exec(ctx context.Context, s *Store, b *bucket, script *rueidis.Lua) ([]int64, error) {
	m, err := s.exec(ctx, b, commandTime, script, c.keys, c.args)
	if err != nil {
		c.failed()
		return nil, err
	}
	return m.AsIntSlice()
}

// replaced ends the term of a holder whose lease another one has.
func (l *log) replaced() {
	l.work.Lock()
	defer l.work.Unlock()
	l.step()
}

// parts calls f for the logs of each bucket that is not away, at most so many at a time. It puts logs in another order.
func (s *Store) parts(logs []*log, most int, f func(b *bucket, part []*log)) {
	slices.SortFunc(logs, func(a, b *log) int { return a.bucket.number - b.bucket.number })
	for len(logs) > 0 {
		b, n := logs[0].bucket, 1
		for n < min(most, len(logs)) && logs[n].bucket == b {
			n++
		}
		if !b.away.Load() {
			f(b, logs[:n])
		}
		logs = logs[n:]
	}
}

// look finds out which leases are missing that this replica would take.
func (s *Store) look(ctx context.Context) {
	due := s.some(func(l *log) bool { return l.wants.Load() })
	s.parts(due, maxKeys, func(b *bucket, part []*log) {
		keys := make([]string, 0, len(part))
		for _, l := range part {
			keys = append(keys, l.key("l"))
		}
		ctx, cancel := context.WithTimeout(ctx, commandTime)
		defer cancel()
		c := *s.conn.Load()
		held, err := c.Do(ctx, c.B().Mget().Key(keys...).Build()).ToArray()
		if s.note(b, err) != nil {
			return
		}
		// After a failover a lease may be lost, and its holder be slower to find the new master.
		patient := b.since.Load() != 0 && s.since()-time.Duration(b.since.Load()) < leaseTime
		for i, l := range part {
			l.missing++
			switch {
			case i >= len(held) || !held[i].IsNil():
				l.missing = 0
			case l.missing >= looks && !patient:
				l.missing = 0
				l.rouse()
			}
		}
	})
}

// sweep brings streams up to date whose hints may have been lost, and has holders compare.
func (s *Store) sweep(ctx context.Context, c *scratch, of []*bucket) {
	now := s.since()
	var rest []*log
	c.logs = s.gather(c.logs, func(l *log) bool { return slices.Contains(of, l.bucket) })
	idle := c.logs[:0]
	for _, l := range c.logs {
		switch due, isIdle := l.due(now); {
		case !due:
		case isIdle:
			idle = append(idle, l)
		default:
			rest = append(rest, l)
		}
	}
	s.read(ctx, append(rest, s.differing(ctx, c, idle)...))
	clear(c.logs)
}

// due reports whether a stream is to be brought up to date now, and whether it is one that runs here and appends nothing: it has its own
// events to compare alone, which is done for many at once.
func (l *log) due(now time.Duration) (due, idle bool) {
	free := l.work.TryLock() // else it is appending, or being brought up to date
	l.mu.Lock()
	defer l.mu.Unlock()
	due = l.role != leading || now-l.compared >= compareTime
	idle = free && l.role == leading && len(l.trims) == 0
	if due {
		l.compared = now
	}
	if free {
		l.work.Unlock()
	}
	return due, idle
}

// differing are those of the streams that run here of which the store has another last entry than they know. What of the others it has is
// kept for another TTL.
func (s *Store) differing(ctx context.Context, c *scratch, idle []*log) (differ []*log) {
	s.parts(idle, maxCompared, func(b *bucket, part []*log) {
		c.begin(part[0].ttl())
		for _, l := range part {
			l.mu.Lock()
			last := l.last
			l.mu.Unlock()
			for _, kind := range [...]string{"s", "m", "k"} {
				c.key(l, kind)
			}
			at := len(c.text)
			c.text = appendPlace(c.text, last)
			c.args = append(c.args, c.from(at))
		}
		others, err := c.exec(ctx, s, b, keeping)
		if err != nil {
			return
		}
		for i, l := range part {
			if slices.Contains(others, int64(i)) {
				differ = append(differ, l)
			}
		}
	})
	return differ
}

// tell has the other replicas know where this one is.
func (s *Store) tell(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	c := *s.conn.Load()
	return c.Do(ctx, c.B().Set().Key(s.peerKey(s.replica)).Value(s.Peer).Px(peerTime).Build()).Error()
}

// untell has them know that it is no more.
func (s *Store) untell() {
	if s.Peer == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), commandTime)
	defer cancel()
	c := *s.conn.Load()
	c.Do(ctx, c.B().Del().Key(s.peerKey(s.replica)).Build())
}
