package redis

import (
	"context"
	"math/rand/v2"
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
)

// beat does what is due from time to time, until ctx is done.
func (s *Store) beat(ctx context.Context) {
	tick := time.NewTicker(retryTime)
	defer tick.Stop()
	var looked, swept, told time.Time
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
				s.sweep(ctx, s.buckets)
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
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.renew(ctx, s.some((*log).leads), func(l *log) { s.run.Go(l.replaced) }) // ends with what the log is asking
		}
	}
}

// some are the open logs that which holds for.
func (s *Store) some(which func(*log) bool) (some []*log) {
	for _, l := range s.open() {
		if which(l) {
			some = append(some, l)
		}
	}
	return some
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
		s.renew(ctx, s.some(func(l *log) bool { return back[l.bucket] && l.leads() }), (*log).replaced)
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
		all = append(all, c.B().Set().Key(b.prefix(s)+"probe").Value(s.replica).Px(leaseTime).Build())
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

// renew renews leases, and calls replaced for those that another replica has.
func (s *Store) renew(ctx context.Context, logs []*log, replaced func(*log)) {
	s.leases(logs, func(b *bucket, part []*log, keys []string) {
		args := []string{ms(leaseTime)}
		for _, l := range part {
			args = append(args, l.token)
		}
		asked := time.Now()
		m, err := s.exec(ctx, b, commandTime, renewing, keys, args)
		if err != nil {
			return
		}
		held, err := m.AsStrSlice()
		for i, l := range part {
			switch {
			case err != nil || i >= len(held):
			case held[i] == "":
				l.mu.Lock()
				l.renewed = asked
				l.mu.Unlock()
			default:
				replaced(l)
			}
		}
	})
}

// replaced ends the term of a holder whose lease another one has.
func (l *log) replaced() {
	l.work.Lock()
	defer l.work.Unlock()
	l.step()
}

// leases calls f for the logs of each bucket, some at a time.
func (s *Store) leases(logs []*log, f func(b *bucket, part []*log, keys []string)) {
	by := map[*bucket][]*log{}
	for _, l := range logs {
		if !l.bucket.away.Load() {
			by[l.bucket] = append(by[l.bucket], l)
		}
	}
	for b, all := range by {
		for len(all) > 0 {
			part := all[:min(maxKeys, len(all))]
			all = all[len(part):]
			keys := make([]string, len(part))
			for i, l := range part {
				keys[i] = l.key("l")
			}
			f(b, part, keys)
		}
	}
}

// look finds out which leases are missing that this replica would take.
func (s *Store) look(ctx context.Context) {
	due := s.some(func(l *log) bool { return l.wants.Load() })
	s.leases(due, func(b *bucket, part []*log, keys []string) {
		ctx, cancel := context.WithTimeout(ctx, commandTime)
		defer cancel()
		c := *s.conn.Load()
		held, err := c.Do(ctx, c.B().Mget().Key(keys...).Build()).ToArray()
		if s.note(b, err) != nil {
			return
		}
		for i, l := range part {
			l.missing++
			switch {
			case i >= len(held) || !held[i].IsNil():
				l.missing = 0
			case l.missing >= looks:
				l.missing = 0
				l.rouse()
			}
		}
	})
}

// sweep brings streams up to date whose hints may have been lost, and has holders compare.
func (s *Store) sweep(ctx context.Context, of []*bucket) {
	in := map[*bucket]bool{}
	for _, b := range of {
		in[b] = true
	}
	now := time.Now()
	s.read(ctx, s.some(func(l *log) bool {
		if !in[l.bucket] {
			return false
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.role == leading && now.Sub(l.compared) < compareTime {
			return false
		}
		l.compared = now
		return true
	}))
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
