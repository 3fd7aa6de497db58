// This file is what an operator is shown of single clients.

package deliver

import (
	"context"
	"net/netip"
	"time"

	"sidestream/proxy/stream"
)

// Shown is one client.
type Shown struct {
	Stats   *Stats // its route's
	Ring    *stream.Ring
	Writer  int            // what writes to it, as an index into [Writers]
	Socket  netip.AddrPort // that its connection comes from; zero where that is not known
	Address netip.Addr     // that a trusted proxy has given for it; zero: none has, or nobody asked
	Age     time.Duration  // since it came; with HTTP/2, since its connection did
	At      uint64         // the event that it has last, as far as its writer has come; not yet a place where stream.Pending says so
	Blocked bool           // its connection takes nothing at the moment
}

// Census calls see for each client, of one writer after the other, until it returns false or ctx is done. A writer stands still while
// its clients are seen: see does not wait, and asks nothing of rings, which may be waiting for the writer.
func (c *Clients) Census(ctx context.Context, see func(Shown) bool) {
	c.init()
	if c.wakeGroups.census(see) {
		c.engine.census(ctx, see)
	}
}

// Count counts the clients of each ring, which costs a writer next to nothing, until ctx is done.
func (c *Clients) Count(ctx context.Context) map[*stream.Ring]int {
	c.init()
	by := map[*stream.Ring]int{}
	c.wakeGroups.count(by)
	c.engine.count(ctx, by)
	return by
}

// count is Count of clients with goroutines of their own.
func (ws *wakeGroups) count(by map[*stream.Ring]int) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for at, g := range ws.byPlace {
		g.mu.Lock()
		by[at.ring] += len(g.clients)
		g.mu.Unlock()
	}
}

// census is Census of clients with goroutines of their own. It returns whether to go on.
func (ws *wakeGroups) census(see func(Shown) bool) bool {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for _, g := range ws.byPlace {
		if !g.census(see) {
			return false
		}
	}
	return true
}

func (g *wakeGroup) census(see func(Shown) bool) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range g.clients {
		socket, _ := netip.ParseAddrPort(c.address)
		if !see(Shown{Stats: c.Route.Stats, Ring: c.Ring, Writer: c.writer(), Socket: socket, Address: c.Address, Age: time.Since(c.clock.start),
			At: c.shown.Load(), Blocked: c.deadline.began.Load() != 0}) {
			return false
		}
	}
	return true
}
