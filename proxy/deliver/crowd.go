package deliver

import (
	"net"
	"sync"

	"sidestream/proxy/stream"
)

// crowds wake the clients of a ring by their connections: the streams of an HTTP/2 connection that are written to one
// after the other leave it in fewer packets than if others came between. The zero value has none. Safe for concurrent use.
type crowds struct {
	mu      sync.Mutex // guards what follows
	byPlace map[place]*crowd
}

// place is what the clients of a crowd have in common.
type place struct {
	ring *stream.Ring
	conn net.Conn // nil where it is not known
}

type crowd struct {
	stop func() // ends the watch

	mu      sync.Mutex // guards what follows, and their seats
	clients []*client
}

// enter has c woken when its ring has grown, until leave.
func (cs *crowds) enter(c *client) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	at := place{c.Ring, c.out.conn}
	cr := cs.byPlace[at]
	if cr == nil {
		if cs.byPlace == nil {
			cs.byPlace = map[place]*crowd{}
		}
		cr = &crowd{}
		cs.byPlace[at] = cr
		cr.stop = c.Ring.Watch(cr.wake)
	}
	cr.mu.Lock()
	defer cr.mu.Unlock()
	c.seat = len(cr.clients)
	cr.clients = append(cr.clients, c)
}

func (cs *crowds) leave(c *client) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	at := place{c.Ring, c.out.conn}
	cr := cs.byPlace[at]
	cr.mu.Lock()
	last := len(cr.clients) - 1
	moved := cr.clients[last]
	cr.clients[c.seat], moved.seat = moved, c.seat
	cr.clients[last] = nil
	cr.clients = cr.clients[:last]
	cr.mu.Unlock()
	if last == 0 {
		cr.stop()
		delete(cs.byPlace, at)
	}
}

// wake is the ring's word that it has grown. It does not block.
func (cr *crowd) wake() {
	cr.mu.Lock()
	defer cr.mu.Unlock()
	for _, c := range cr.clients {
		c.ring()
	}
}
