//go:build linux && !portable

// This file is the clients on Unix sockets: the kernel does not cut one whose peer takes nothing (TCP_USER_TIMEOUT is of TCP), so the shard does,
// when of what it has written nothing was read for 30 s.

package deliver

import "golang.org/x/sys/unix"

// queued is what a client's peer has not read.
type queued struct {
	bytes int
	since tick // it is so many
}

// watch has the client looked at by stalls.
func (s *shard) watch(index uint32) {
	if s.locals == nil {
		s.locals = map[uint32]queued{}
	}
	s.locals[index] = queued{}
}

// stalls cuts those whose peers take nothing.
func (s *shard) stalls() {
	for index, was := range s.locals {
		c := &s.slots[index]
		if c.flags&isBlocked == 0 {
			s.locals[index] = queued{since: s.now}
			continue
		}
		now, err := unix.IoctlGetInt(int(c.fd), unix.SIOCOUTQ)
		switch {
		case err != nil, now != was.bytes:
			s.locals[index] = queued{now, s.now}
		case reached(s.now, was.since+ticks(stallTime)):
			s.lose(index, Stalled)
		}
	}
}
