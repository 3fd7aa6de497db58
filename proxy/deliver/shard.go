//go:build linux && !portable

// This file serves clients without a goroutine each. A shard is one goroutine and one epoll instance; it owns its slots,
// and others reach it only through its inbox. The rules:
//
//   - A ring that grows wakes each shard once, which walks the ring's clients: one non-blocking write each, of bytes that
//     all share. Nothing is parsed, encoded, formatted or allocated for one client.
//   - A socket that is full leaves the walk until the poller says that it takes more (edge-triggered, so coming back
//     costs no call). Until then it is behind, and catches up from the ring as from a replay.
//   - Who has gone is learnt from the poller (EPOLLRDHUP), a peer that takes nothing from the kernel (TCP_USER_TIMEOUT).
//   - Heartbeats and releases are found by looking over the slots now and then; nobody has a timer of its own.
//   - A walk begins with another client each time, so that none is always last.

package deliver

import (
	"context"
	"encoding/binary"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"sidestream/proxy/stream"
)

// slot is one client. There are many: no pointers, for the collector to skip them.
type slot struct {
	cursor
	fd    int32  // 0: the slot is free
	gen   uint32 // of this use of the slot: late news of an earlier one is ignored
	group uint32
	pos   uint32 // in its group's members
}

// audience is what the clients of one ring have in common.
type audience struct {
	ring     *stream.Ring
	route    *Route
	retiring <-chan struct{}
	retired  bool
	leave    func()
	stop     func() // ends the watch
}

func audienceOf(c Client) audience {
	return audience{ring: c.Ring, route: c.Route, retiring: c.Retiring, leave: c.Leave}
}

// group is the clients of one ring in one shard.
type group struct {
	audience
	members []uint32
	first   int           // where the next walk begins
	walked  time.Duration // when it was walked last, since the shard's start
	dirty   atomic.Bool   // in the shard's list of those to walk
}

type shard struct {
	clients *Clients
	poller  *poller
	event   int // wakes the shard
	clock   clock
	kicked  atomic.Bool
	ticking tick // when the slots are looked over next

	mu      sync.Mutex // guards what follows: the inbox
	joins   []joining
	dirty   []*group
	closing bool
	drained bool
	window  time.Duration

	// The shard's goroutine's own.
	slots   []slot
	free    []uint32
	groups  []*group
	spare   []uint32
	byRing  map[*stream.Ring]uint32
	rests   map[uint32][]byte // of those whose sockets are full
	away    []parting
	dead    []uint32 // found during a walk
	now     tick     // as of a moment ago: reading the clock for each write would cost as much as finding the client
	events  int64    // written since the last tally, as are their bytes
	bytes   int64
	later   []*group // grown, but their clients were written to a moment ago
	batches [2]vectored
}

// parting is a client whose last bytes have been written.
type parting struct {
	index, gen uint32
	at         tick // when it is cut
	most       tick // with HTTP/1.0: when it is cut whatever the kernel still holds
}

func newShard(c *Clients) (*shard, error) {
	poller, err := newPoller(512)
	if err != nil {
		return nil, err
	}
	event, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		poller.close()
		return nil, err
	}
	s := &shard{clients: c, poller: poller, event: event, clock: clock{time.Now()}, byRing: map[*stream.Ring]uint32{}, rests: map[uint32][]byte{},
		slots: make([]slot, 1)} // slot 0 stands for the event descriptor
	if err := poller.add(event, unix.EPOLLIN, 0, 0); err != nil {
		poller.close()
		unix.Close(event)
		return nil, err
	}
	return s, nil
}

// kick wakes the shard. It does not block.
func (s *shard) kick() {
	if s.kicked.CompareAndSwap(false, true) {
		var one [8]byte
		binary.NativeEndian.PutUint64(one[:], 1)
		unix.Write(s.event, one[:]) // full only if it is awake already
	}
}

// join leaves a client in the inbox. tell wakes the shard for it; else that is up to the engine's kick.
func (s *shard) join(j joining, tell bool) {
	s.mu.Lock()
	closing := s.closing
	if !closing {
		s.joins = append(s.joins, j)
	}
	s.mu.Unlock()
	switch {
	case closing:
		unix.Close(int(j.slot.fd))
		s.clients.gone(ByShard, j.Route, j.Leave, Left, "")
	case tell:
		s.kick()
	}
}

// expects says whether somebody is in the inbox.
func (s *shard) expects() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.joins) > 0
}

func (s *shard) drain(window time.Duration) {
	s.mu.Lock()
	s.drained, s.window = true, window
	s.mu.Unlock()
	s.kick()
}

func (s *shard) close() {
	s.mu.Lock()
	s.closing = true
	s.mu.Unlock()
	s.kick()
}

// touch is a ring's word that it has grown or ended.
func (s *shard) touch(g *group) {
	if g.dirty.CompareAndSwap(false, true) {
		s.mu.Lock()
		s.dirty = append(s.dirty, g)
		s.mu.Unlock()
		s.kick()
	}
}

// run serves until close.
func (s *shard) run() {
	defer s.poller.close()
	defer unix.Close(s.event)
	for {
		events := s.poller.wait(s.timeout())
		s.now = s.clock.now()
		for _, e := range events {
			s.ready(uint32(e.Fd), uint32(e.Pad), e.Events)
		}
		if s.inbox() {
			s.leaveAll()
			return
		}
		s.now = s.clock.now()
		s.part()
		if reached(s.now, s.ticking) {
			s.ticking = s.now + s.look()
		}
		s.bury()
	}
}

// timeout is how long there is nothing to do but wait, less than 0 for ever.
func (s *shard) timeout() time.Duration {
	if len(s.slots) == len(s.free)+1 && len(s.away) == 0 {
		return -1
	}
	wait := int32(s.ticking - s.clock.now())
	if len(s.away) > 0 {
		wait = min(wait, 5)
	}
	for _, g := range s.later {
		rest := g.again() - time.Since(s.clock.start) + time.Millisecond - 1 // rounded up
		wait = min(wait, int32(rest.Milliseconds()))
	}
	return time.Duration(max(wait, 0)) * time.Millisecond
}

// inbox takes what others have left. It returns whether the shard is to end.
func (s *shard) inbox() (closing bool) {
	s.mu.Lock()
	joins, dirty := s.joins, s.dirty
	s.joins, s.dirty = nil, nil
	closing = s.closing
	s.mu.Unlock()
	for i := range joins {
		s.enter(&joins[i])
	}
	s.grown(dirty)
	return closing
}

// grown walks the groups whose rings have grown, but for those that COALESCE holds back.
func (s *shard) grown(dirty []*group) {
	dirty = append(s.later, dirty...)
	s.later = nil
	now := time.Since(s.clock.start)
	for _, g := range dirty {
		if now < g.again() {
			s.later = append(s.later, g)
			continue
		}
		g.dirty.Store(false) // before the ring is read: what comes later wakes again
		g.walked = now
		s.walk(g)
	}
}

// again is when g may be walked.
func (g *group) again() time.Duration { return g.walked + g.route.Coalesce }

// enter gives a client its slot.
func (s *shard) enter(j *joining) {
	var index uint32
	if n := len(s.free); n > 0 {
		index, s.free = s.free[n-1], s.free[:n-1]
	} else {
		index = uint32(len(s.slots))
		s.slots = append(s.slots, slot{})
	}
	c := &s.slots[index]
	gen := c.gen + 1
	*c = j.slot
	c.gen = gen
	c.group = s.group(j)
	g := s.groups[c.group]
	c.pos = uint32(len(g.members))
	g.members = append(g.members, index)
	if len(s.slots) == len(s.free)+2 { // the first: the clock stood still
		s.ticking = s.clock.now()
	}
	switch {
	case j.err != nil && j.err != unix.EAGAIN:
		s.lose(index, why(j.err))
		return
	case s.poller.add(int(c.fd), unix.EPOLLRDHUP|unix.EPOLLOUT|unix.EPOLLET&0xffffffff, int32(index), int32(gen)) != nil:
		s.lose(index, Left)
		return
	case j.rest != nil || j.err != nil:
		s.block(index, j.rest)
		return
	}
	s.forget() // nobody may have watched the ring until now
	s.serve(index, &facts{now: s.now, ring: ringGrown})
	s.tally(s.groups[c.group])
}

// group returns the index of the group of j's ring, which is watched from then on.
func (s *shard) group(j *joining) uint32 {
	if i, ok := s.byRing[j.Ring]; ok {
		return i
	}
	g := &group{audience: audienceOf(j.Client)}
	g.walked = -j.Route.Coalesce
	var i uint32
	if n := len(s.spare); n > 0 {
		i, s.spare = s.spare[n-1], s.spare[:n-1]
		s.groups[i] = g
	} else {
		i = uint32(len(s.groups))
		s.groups = append(s.groups, g)
	}
	s.byRing[j.Ring] = i
	g.stop = j.Ring.Watch(func() { s.touch(g) })
	return i
}

// ready is the poller's word on a client.
func (s *shard) ready(index, gen uint32, events uint32) {
	if index == 0 {
		// In this order: a kick between the two finds the flag still set and writes nothing, but what it is about is
		// taken from the inbox below. The other way round the flag would stay set over an empty descriptor, for ever.
		var n [8]byte
		unix.Read(s.event, n[:])
		s.kicked.Store(false)
		return
	}
	c := &s.slots[index]
	if c.fd == 0 || c.gen != gen {
		return
	}
	if events&(unix.EPOLLHUP|unix.EPOLLERR|unix.EPOLLRDHUP) != 0 {
		reason := uint8(Left)
		if events&(unix.EPOLLHUP|unix.EPOLLERR) != 0 {
			if code, err := unix.GetsockoptInt(int(c.fd), unix.SOL_SOCKET, unix.SO_ERROR); err == nil && code != 0 {
				reason = why(unix.Errno(code))
			}
		}
		s.lose(index, reason)
		return
	}
	if events&unix.EPOLLOUT != 0 && c.flags&(isBlocked|isParting) == isBlocked {
		s.resume(index)
	}
}

// why tells a peer that took nothing for 30 s from one that is gone.
func why(err error) uint8 {
	if err == unix.ETIMEDOUT {
		return Stalled
	}
	return Left
}

// block takes a client out of the walks. rest is of what was begun.
func (s *shard) block(index uint32, rest []byte) {
	s.slots[index].flags |= isBlocked
	if len(rest) > 0 {
		s.rests[index] = rest
	}
}

// resume goes on with a client whose socket takes more.
func (s *shard) resume(index uint32) {
	c := &s.slots[index]
	if rest := s.rests[index]; len(rest) > 0 {
		n, err := writeBytes(int(c.fd), rest)
		switch {
		case err == unix.EAGAIN:
			return
		case err != nil:
			s.lose(index, why(err))
			return
		case n < len(rest):
			s.rests[index] = rest[n:]
			return
		}
		delete(s.rests, index)
	}
	c.freed(s.now)
	s.forget()
	s.serve(index, &facts{now: s.now, ring: ringGrown})
	s.tally(s.groups[c.group])
}

// lose notes that a client is gone, for why unless that is known already. Its slot is freed after the walk.
func (s *shard) lose(index uint32, why uint8) {
	c := &s.slots[index]
	if c.flags&isOver == 0 {
		c.gone(why)
	}
	s.dead = append(s.dead, index)
}

// bury frees the slots of those who are gone.
func (s *shard) bury() {
	for _, index := range s.dead {
		c := &s.slots[index]
		if c.fd == 0 {
			continue // found twice
		}
		g := s.groups[c.group]
		address := ""
		if g.route.Log.Enabled(context.Background(), slog.LevelDebug) {
			address = peer(int(c.fd))
		}
		hangUp(c.fd) // and out of epoll with it
		moved := g.members[len(g.members)-1]
		g.members[c.pos] = moved
		s.slots[moved].pos = c.pos
		g.members = g.members[:len(g.members)-1]
		if len(g.members) == 0 {
			g.stop()
			delete(s.byRing, g.ring)
			s.groups[c.group] = nil
			s.spare = append(s.spare, c.group)
		}
		delete(s.rests, index)
		why := int(c.why)
		*c = slot{gen: c.gen}
		s.free = append(s.free, index)
		s.clients.gone(ByShard, g.route, g.leave, why, address)
	}
	s.dead = s.dead[:0]
}

// leaveAll cuts everyone, when the shard ends.
func (s *shard) leaveAll() {
	for i := range s.slots {
		if s.slots[i].fd != 0 {
			s.lose(uint32(i), Left)
		}
	}
	s.bury()
	s.inbox() // who came meanwhile
	for i := range s.slots {
		if s.slots[i].fd != 0 {
			s.lose(uint32(i), Left)
		}
	}
	s.bury()
}

// peer is the address of fd's other end, "" when that is gone already.
func peer(fd int) string {
	switch a, _ := unix.Getpeername(fd); a := a.(type) {
	case *unix.SockaddrInet4:
		return (&net.TCPAddr{IP: a.Addr[:], Port: a.Port}).String()
	case *unix.SockaddrInet6:
		return (&net.TCPAddr{IP: a.Addr[:], Port: a.Port}).String()
	}
	return ""
}
