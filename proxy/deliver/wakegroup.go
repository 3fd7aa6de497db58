package deliver

import (
	"net"
	"sync"

	"sidestream/proxy/stream"
)

// wakeGroups wake the clients of a ring by their connections: the streams of an HTTP/2 connection that are written to one
// after the other leave it in fewer packets than if others came between. The zero value has none. Safe for concurrent use.
type wakeGroups struct {
	mu      sync.Mutex // guards what follows
	byPlace map[place]*wakeGroup
}

// place is what the clients of a wakeGroup have in common.
type place struct {
	ring *stream.Ring
	conn net.Conn // nil where it is not known
}

type wakeGroup struct {
	stop func() // ends the watch

	mu      sync.Mutex // guards what follows, and the clients' seats
	clients []*client
}

// enter has c woken when its ring has grown, until leave.
func (ws *wakeGroups) enter(c *client) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	at := place{c.Ring, c.out.conn}
	g := ws.byPlace[at]
	if g == nil {
		if ws.byPlace == nil {
			ws.byPlace = map[place]*wakeGroup{}
		}
		g = &wakeGroup{}
		ws.byPlace[at] = g
		g.stop = c.Ring.Watch(g.wake)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	c.seat = len(g.clients)
	g.clients = append(g.clients, c)
}

func (ws *wakeGroups) leave(c *client) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	at := place{c.Ring, c.out.conn}
	g := ws.byPlace[at]
	g.mu.Lock()
	last := len(g.clients) - 1
	moved := g.clients[last]
	g.clients[c.seat], moved.seat = moved, c.seat
	g.clients[last] = nil
	g.clients = g.clients[:last]
	g.mu.Unlock()
	if last == 0 {
		g.stop()
		delete(ws.byPlace, at)
	}
}

// wake is called by the ring when it has grown. It does not block.
func (g *wakeGroup) wake() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range g.clients {
		c.wakeUp()
	}
}
