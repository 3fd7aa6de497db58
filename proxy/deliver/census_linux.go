//go:build linux && !portable

package deliver

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"time"

	"sidestream/proxy/stream"
)

// census is Census of clients without goroutines.
func (e *engine) census(ctx context.Context, see func(Shown) bool) {
	e.each(ctx, func(s *shard) bool { return s.census(see) }, func(m *carrier) bool { return m.census(see) })
}

// count is Count of clients without goroutines.
func (e *engine) count(ctx context.Context, by map[*stream.Ring]int) {
	e.each(ctx, func(s *shard) bool {
		for _, g := range s.groups {
			if g != nil {
				by[g.ring] += len(g.members)
			}
		}
		return true
	}, func(m *carrier) bool {
		for _, g := range m.groups {
			by[g.ring] += len(g.members)
		}
		return true
	})
}

// each calls one of the two functions for each writer, which stands still meanwhile, until one returns false or ctx is done.
func (e *engine) each(ctx context.Context, ofShard func(*shard) bool, ofCarrier func(*carrier) bool) {
	e.mu.Lock()
	shards, carriers := slices.Clone(e.shards), slices.Collect(maps.Keys(e.carriers))
	e.mu.Unlock()
	more := true
	for _, s := range shards {
		if more = more && ctx.Err() == nil; more {
			s.ask(func() { more = ofShard(s) })
		}
	}
	for _, m := range carriers {
		if more = more && ctx.Err() == nil; more {
			m.conn.Still(func() { more = ofCarrier(m) })
		}
	}
}

// ask has the shard's goroutine call f, and waits for that. A shard that ends does not.
func (s *shard) ask(f func()) {
	q := question{f, make(chan struct{})}
	s.mu.Lock()
	closing := s.closing
	if !closing {
		s.questions = append(s.questions, q)
	}
	s.mu.Unlock()
	if closing {
		return
	}
	s.kick()
	<-q.answered // soon: a shard does not block, and answers also when it ends
}

// question is asked of a shard.
type question struct {
	f        func()
	answered chan struct{}
}

func (q question) answer() {
	defer close(q.answered)
	q.f()
}

func (s *shard) census(see func(Shown) bool) bool {
	now := s.seconds()
	for _, g := range s.groups {
		if g == nil {
			continue
		}
		for _, index := range g.members {
			c := &s.slots[index]
			at, _ := peerOf(int(c.fd))
			if !see(Shown{Stats: g.route.Stats, Ring: g.ring, Writer: ByShard, Socket: at, Address: s.addresses[index],
				Age: time.Duration(now-c.since) * time.Second, At: c.at, Blocked: c.flags&isBlocked != 0}) {
				return false
			}
		}
	}
	return true
}

// seconds is how long the shard has been there.
func (s *shard) seconds() uint32 { return uint32(time.Since(s.clock.start) / time.Second) }

func (m *carrier) census(see func(Shown) bool) bool {
	socket, _ := netip.ParseAddrPort(m.conn.RemoteAddr().String())
	age := time.Since(m.conn.Start())
	for _, g := range m.groups {
		for _, sub := range g.members {
			if !see(Shown{Stats: g.route.Stats, Ring: g.ring, Writer: ByH2, Socket: socket, Address: m.addresses[sub], Age: age, At: sub.state.at,
				Blocked: len(sub.rest) > 0}) {
				return false
			}
		}
	}
	return true
}
