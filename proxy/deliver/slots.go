//go:build linux && !portable

// This file is how clients come into a shard, block, take again, and go.

package deliver

import (
	"container/heap"
	"context"
	"log/slog"
	"net/netip"

	"golang.org/x/sys/unix"

	"sidestream/proxy/access"
	"sidestream/proxy/deflate"
)

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
	c.gen, c.since = gen, s.seconds()
	c.group = s.group(j)
	g := s.groups[c.group]
	c.pos = uint32(len(g.members))
	g.members = append(g.members, index)
	if c.traits&isDeflated != 0 {
		s.sums = append(s.sums, make([]deflate.Sum, max(len(s.slots)-len(s.sums), 0))...)
		s.sums[index] = j.sum
		g.ring.Deflates(1)
	}
	if j.seal != nil {
		s.seals = append(s.seals, make([]*sealed, max(len(s.slots)-len(s.seals), 0))...)
		s.seals[index] = j.seal
	}
	if j.local {
		s.watch(index)
	}
	if own := j.hold(); !own.none() {
		s.hold(index, own)
	}
	if j.Address.IsValid() {
		if s.addresses == nil {
			s.addresses = map[uint32]netip.Addr{}
		}
		s.addresses[index] = j.Address
	}
	if len(s.slots) == len(s.free)+2 { // the first: the clock stood still
		s.ticking = s.clock.now()
	}
	switch {
	case j.err != nil && j.err != unix.EAGAIN:
		s.lose(index, why(j.err))
		return
	case s.poller.add(int(c.fd), c.events(), int32(index), int32(gen)) != nil, !s.hear(index): // what has come with the request's head is no event
		s.lose(index, Left)
		return
	case j.rest != nil || j.err != nil:
		s.block(index, j.rest)
		return
	case c.flags&isQueued != 0:
		heap.Push(&s.waits, waiting{c.turn, index, c.gen})
	}
	s.forget() // the ring may not have been watched until now
	s.serve(index, &facts{now: s.now, ring: ringGrown})
	s.tally(s.groups[c.group])
}

// events are what the poller tells of a client. In clear nothing is read of what it says.
func (c *slot) events() uint32 {
	events := uint32(unix.EPOLLRDHUP | unix.EPOLLOUT | unix.EPOLLET&0xffffffff)
	if c.traits&isSealed != 0 {
		events |= unix.EPOLLIN
	}
	return events
}

// outlet is where a client's bytes go.
func (s *shard) outlet(index uint32) outlet {
	to := outlet{fd: int(s.slots[index].fd)}
	if s.slots[index].traits&isSealed != 0 {
		to.seal = s.seals[index]
	}
	return to
}

// hear takes in what a client has said over TLS. It returns false when that is that it leaves.
func (s *shard) hear(index uint32) bool {
	seal := s.outlet(index).seal
	if seal == nil {
		return true
	}
	if seal.hear() != nil {
		s.bye(index, false)
		return false
	}
	if seal.waits() { // what it is answered with, to a change of keys, or something since before it came
		s.slots[index].flags |= isBlocked
	}
	return true
}

// bye ends what a client is told over TLS, unless it would take that for a complete answer that is none. It reports whether that is still to leave.
func (s *shard) bye(index uint32, complete bool) (waits bool) {
	seal := s.outlet(index).seal
	if seal == nil || s.slots[index].flags&isUnchunked != 0 && !complete {
		return false
	}
	if seal.bye(); seal.waits() {
		s.slots[index].flags |= isBlocked
	}
	return seal.waits()
}

// hold keeps what a client has of its own, and has it cut when its pass ends.
func (s *shard) hold(index uint32, own hold) {
	if s.holds == nil {
		s.holds = map[uint32]hold{}
	}
	s.holds[index] = own
	own.pass.Watch(s)
}

// PassEnded is [access.Watcher]'s.
func (s *shard) PassEnded() {
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	s.kick()
}

// dismiss cuts the clients whose passes have ended.
func (s *shard) dismiss() {
	for index, own := range s.holds {
		if own.pass.Standing() != access.Stays {
			s.forget()
			s.serve(index, &facts{now: s.now})
		}
	}
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
	g.stop = j.Ring.Carry(func(near bool) { s.touch(g, near) })
	return i
}

// ready takes in what the poller reports of a client.
func (s *shard) ready(index, gen uint32, events uint32) {
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
	if events&unix.EPOLLIN != 0 && !s.hear(index) {
		s.lose(index, Left)
		return
	}
	if events&unix.EPOLLOUT != 0 && c.flags&(isBlocked|isParting) == isBlocked {
		s.resume(index)
	}
}

// why tells a peer that took nothing for 30 s from one that has disconnected.
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
	if err := s.empty(index); err == unix.EAGAIN {
		return
	} else if err != nil {
		s.lose(index, why(err))
		return
	}
	if c.flags&isOver != 0 { // its goodbye was what waited
		s.lose(index, c.why)
		return
	}
	c.freed(s.now)
	s.forget()
	s.serve(index, &facts{now: s.now, ring: ringGrown})
	s.tally(s.groups[c.group])
}

// empty writes what waits for a client. err is EAGAIN while not all of it has left.
func (s *shard) empty(index uint32) error {
	to := s.outlet(index)
	if to.waits() {
		if err := to.seal.flush(); err != nil {
			return err
		}
	}
	rest := s.rests[index]
	if len(rest) == 0 {
		return nil
	}
	n, err := to.bytes(rest)
	if err != nil {
		return err
	}
	if n < len(rest) {
		s.rests[index] = rest[n:]
		return unix.EAGAIN
	}
	delete(s.rests, index)
	if to.waits() {
		return unix.EAGAIN
	}
	return nil
}

// lose notes that a client is disconnected, for why unless that is known already. Its slot is freed after the walk.
func (s *shard) lose(index uint32, why uint8) {
	c := &s.slots[index]
	if c.flags&isOver == 0 {
		c.disconnected(why)
	}
	s.dead = append(s.dead, index)
}

// bury frees the slots of disconnected clients.
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
		if c.flags&isUnchunked != 0 && !s.complete(index) { // the end of the connection is that of the body
			reset(c.fd)
		}
		hangUp(c.fd) // and out of epoll with it
		moved := g.members[len(g.members)-1]
		g.members[c.pos] = moved
		s.slots[moved].pos = c.pos
		g.members = g.members[:len(g.members)-1]
		if c.traits&isDeflated != 0 {
			g.ring.Deflates(-1)
		}
		if len(g.members) == 0 {
			g.stop()
			delete(s.byRing, g.ring)
			s.groups[c.group] = nil
			s.spare = append(s.spare, c.group)
		}
		delete(s.rests, index)
		delete(s.locals, index)
		if c.traits&isSealed != 0 {
			s.seals[index] = nil
		}
		delete(s.addresses, index)
		why := int(c.why)
		own := s.holds[index]
		if !own.none() {
			delete(s.holds, index)
			own.pass.Unwatch(s)
		}
		*c = slot{gen: c.gen}
		s.free = append(s.free, index)
		s.clients.disconnected(ByShard, g.route, own, g.leave, why, address)
	}
	s.dead = s.dead[:0]
}

// complete reports whether a client that is over has been given all of a complete answer.
func (s *shard) complete(index uint32) bool {
	return s.slots[index].why == Finished && !s.outlet(index).waits()
}

// leaveAll cuts every client, when the shard ends.
func (s *shard) leaveAll() {
	for i := range s.slots {
		if s.slots[i].fd != 0 {
			s.lose(uint32(i), Left)
		}
	}
	s.bury()
	s.inbox() // clients that came meanwhile
	for i := range s.slots {
		if s.slots[i].fd != 0 {
			s.lose(uint32(i), Left)
		}
	}
	s.bury()
}

// peer is the address of fd's other end, "" when that is not connected any more.
func peer(fd int) string {
	at, local := peerOf(fd)
	switch {
	case local:
		return LocalAddress
	case at.IsValid():
		return at.String()
	}
	return ""
}

// peerOf is the address of fd's other end, zero when that is not connected any more, or local: then it has none.
func peerOf(fd int) (at netip.AddrPort, local bool) {
	switch a, _ := unix.Getpeername(fd); a := a.(type) {
	case *unix.SockaddrInet4:
		at = netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		at = netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), uint16(a.Port))
	case *unix.SockaddrUnix:
		local = true
	}
	return at, local
}

// none reports whether it is nothing.
func (h hold) none() bool { return h.pass == nil && h.gone == nil }
