//go:build linux && !portable

// This file is the clients of an HTTP/2 connection, below which is package h2. The rules:
//
//   - Rings that have grown wake a connection once, which then writes to all of its clients in one write. It has a
//     goroutine only while there is something to do.
//   - What a client's window does not take of an event waits in rest; after that it is served from the ring, as a replay.
//   - One timer for all clients of a connection: the earliest of what is due sets it.

package deliver

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"sidestream/proxy/deflate"
	"sidestream/proxy/deliver/h2"
	"sidestream/proxy/stream"
)

// carrier is a connection that carries clients: its [h2.Filler]. Its fields are guarded by the connection's lock, but for
// those that say otherwise.
type carrier struct {
	conn     *h2.Conn
	secure   *tls.Conn // nil: in clear
	socket   *parkable // nil: the connection is not parked
	two      *arrivals // of net/http's, where it is
	clients  *Clients
	deadline deadline
	batch    *batch // of the group that is walked; see h2.Writer.Scratch

	drained   bool // its clients are to come back
	groups    []*h2Group
	first     int // where the next look at them begins
	byRing    map[*stream.Ring]*h2Group
	holds     map[*subscriber]hold         // of those that have one
	addresses map[*subscriber]netip.Addr   // of those for which a trusted proxy has given one
	sums      map[*subscriber]*deflate.Sum // of those that take gzip
	ended     atomic.Bool                  // a pass has; not guarded

	leaves   atomic.Bool // departed has some
	mu       sync.Mutex  // guards what follows
	departed []departed  // to be counted out
}

// h2Group is the clients of one ring on one connection.
type h2Group struct {
	audience
	conn     *h2.Conn
	silence  tick // see facts, as for the next
	coalesce tick
	members  []*subscriber
	first    int           // where the next walk begins
	next     time.Duration // when something is due
	dirty    atomic.Bool   // to be walked
}

// departed is a client to be counted out.
type departed struct {
	route *Pacing
	own   hold
	leave func()
	why   uint8
}

// newCarrier returns conn for a server of net/http that speaks nothing but HTTP/2 on it, and has no idle timeout. The
// preface has not been read yet. two is that server's, which gets the connection again where it was parked; nil: it is not.
func newCarrier(conn net.Conn, c *Clients, two *arrivals) net.Conn {
	c.init()
	m := &carrier{clients: c, two: two, byRing: map[*stream.Ring]*h2Group{}}
	m.secure, _ = conn.(*tls.Conn)
	if two != nil && checkParking() == nil {
		if m.secure == nil {
			if m.socket = newParkable(conn); m.socket != nil {
				conn = m.socket
			}
		} else if below, ok := m.secure.NetConn().(*sealed); ok {
			if m.socket = newParkable(below.Conn); m.socket != nil {
				below.Conn = m.socket
			}
		}
	}
	v := h2.Wrap(conn, m, m.socket != nil)
	m.conn = v.Conn
	c.engine.hold(m)
	return m.visited(v)
}

// handOverStream takes a client over from net/http that came by HTTP/2, or returns false and has done nothing.
func (c *Clients) handOverStream(w http.ResponseWriter, r *http.Request, cl Client) bool {
	conn := multiplexed(r)
	if conn == nil || r.Method != http.MethodGet {
		return false
	}
	m, id := conn.Filler().(*carrier), h2.StreamID(w)
	sub := new(subscriber)
	if id == 0 || !conn.Adopt(id, &sub.stream, func() { m.join(sub, cl) }) {
		return false
	}
	setHeader(w.Header())
	cl.encoding(w.Header())
	w.WriteHeader(http.StatusOK)
	if http.NewResponseController(w).Flush() != nil {
		conn.Abandon(id)
	}
	return true
}

// multiplexed is the connection that r came over, nil where it is none of ours.
func multiplexed(r *http.Request) *h2.Conn {
	switch c := r.Context().Value(connKey{}).(type) {
	case *h2.Visit:
		return c.Conn
	case h2Secured:
		return c.Conn
	}
	return nil
}

// join makes sub cl, with the connection's lock.
func (m *carrier) join(sub *subscriber, cl Client) {
	m.clients.byWriter[ByH2].Add(1)
	now := clock{m.conn.Start()}.now()
	sub.state, sub.fresh = newCursor(&cl, now), now+ticks(min(cl.Route.Heartbeat, firstBeat))
	if cl.native {
		sub.state.flags |= isClean
	}
	sub.stream.Client = sub
	if own := cl.hold(); !own.none() {
		if m.holds == nil {
			m.holds = map[*subscriber]hold{}
		}
		m.holds[sub] = own
		own.pass.Watch(m)
	}
	if cl.Address.IsValid() {
		if m.addresses == nil {
			m.addresses = map[*subscriber]netip.Addr{}
		}
		m.addresses[sub] = cl.Address
	}
	g := m.byRing[cl.Ring]
	if g == nil {
		g = &h2Group{conn: m.conn, audience: audienceOf(cl), silence: ticks(cl.Route.Heartbeat), coalesce: ticks(cl.Route.Coalesce), next: h2.Never}
		m.byRing[cl.Ring] = g
		m.groups = append(m.groups, g)
		g.stop = cl.Ring.Watch(g.touch)
	}
	sub.group, sub.seat = g, int32(len(g.members))
	g.members = append(g.members, sub)
	sub.joined, _ = cl.Ring.Last()
	sub.prelude = &prelude{cl.opening(), batches.Get().(*batch)}
	if cl.Gzip {
		if m.sums == nil {
			m.sums = map[*subscriber]*deflate.Sum{}
		}
		m.sums[sub] = new(deflate.Sum)
		cl.Ring.Deflates(1)
	}
	sub.prelude.batch.load(g.ring, sub.state.at, formPlain|sub.state.form())
}

// touch has the group walked. The ring calls it when it has grown: it does not block.
func (g *h2Group) touch() {
	g.dirty.Store(true)
	g.conn.Wake()
}

// PassEnded is [access.Watcher]'s.
func (m *carrier) PassEnded() {
	m.ended.Store(true)
	m.conn.Wake()
}

// Ready is [h2.Filler]'s: s takes bytes, for which something may wait.
func (m *carrier) Ready(s *h2.Stream) bool {
	sub := s.Client.(*subscriber)
	if sub.prelude == nil && len(sub.rest) == 0 {
		return false
	}
	sub.group.dirty.Store(true)
	return true
}

// Ended is [h2.Filler]'s: the client of s is disconnected.
func (m *carrier) Ended(s *h2.Stream, stalled bool) {
	sub := s.Client.(*subscriber)
	switch {
	case sub.state.flags&isOver != 0:
	case stalled:
		sub.state.disconnected(Stalled)
	default:
		sub.state.disconnected(Left)
	}
	g, own := sub.group, m.holds[sub]
	delete(m.addresses, sub)
	if sub.state.traits&isDeflated != 0 {
		delete(m.sums, sub)
		g.ring.Deflates(-1)
	}
	if !own.none() {
		delete(m.holds, sub)
		own.pass.Unwatch(m)
	}
	m.mu.Lock()
	m.departed = append(m.departed, departed{g.route, own, g.leave, sub.state.why})
	m.mu.Unlock()
	m.leaves.Store(true)
	last := len(g.members) - 1
	moved := g.members[last]
	g.members[sub.seat], moved.seat = moved, sub.seat
	g.members[last] = nil
	if g.members = g.members[:last]; last == 0 {
		m.dissolve(g)
	}
}

// dissolve forgets a group without clients.
func (m *carrier) dissolve(g *h2Group) {
	g.stop()
	delete(m.byRing, g.ring)
	for i, other := range m.groups {
		if other == g {
			last := len(m.groups) - 1
			m.groups[i], m.groups[last] = m.groups[last], nil
			m.groups = m.groups[:last]
			return
		}
	}
}

// Settle is [h2.Filler]'s: it counts clients out.
func (m *carrier) Settle() {
	if !m.leaves.Swap(false) {
		return
	}
	m.mu.Lock()
	departed := m.departed
	m.departed = nil
	m.mu.Unlock()
	for _, d := range departed {
		m.clients.disconnected(ByH2, d.route, d.own, d.leave, int(d.why), m.conn.RemoteAddr().String())
	}
}

// WakeAt is [h2.Filler]'s.
func (m *carrier) WakeAt(c *h2.Conn, at, now time.Time) {
	if m.deadline.wake == nil {
		m.deadline.wake = c.Wake
	}
	m.clients.deadlines.set(&m.deadline, at, now)
}

// Go is [h2.Filler]'s.
func (m *carrier) Go(f func()) bool { return m.clients.engine.runners.start(f) }

// Closed is [h2.Filler]'s.
func (m *carrier) Closed() {
	m.clients.engine.lobby.leave(m)
	m.clients.deadlines.stop(&m.deadline)
	m.clients.engine.release(m)
}

// Fill is [h2.Filler]'s: it writes to the clients what is due.
func (m *carrier) Fill(w *h2.Writer, now time.Duration) (next time.Duration) {
	all := w.Refilled() || m.ended.Load() && m.ended.Swap(false)
	if !m.drained && closed(m.clients.draining) {
		m.drained, all = true, true
	}
	if m.drained {
		w.Depart()
	}
	next = h2.Never
	first, n, short := m.first, len(m.groups), w.Starved()
	for i := range n {
		g := m.groups[(first+i)%n]
		retires := !g.retired && closed(g.retiring)
		g.retired = g.retired || retires
		if g.dirty.Swap(false) || all || retires || now >= g.next {
			full := m.walk(g, w, now)
			if full {
				g.dirty.Store(true)
			}
			if (full || w.Starved()) && !short {
				short, m.first = true, (first+i+1)%n // it is the next one's turn
			}
		}
		next = min(next, g.next)
	}
	return next
}

// walk brings every client of g up to date. It returns whether w is full.
func (m *carrier) walk(g *h2Group, w *h2.Writer, now time.Duration) (full bool) {
	if m.batch, _ = w.Scratch.(*batch); m.batch == nil {
		m.batch = new(batch)
		w.Scratch = m.batch
	}
	m.batch.forget()
	defer m.forget()
	g.next = h2.Never
	n := len(g.members)
	first, short := (g.first+1)%n, w.Starved()
	g.first = first
	var t tally
	for i := range n {
		at := (first + i) % n
		if w.Full() {
			g.first = (at + n - 1) % n // it is the next one's turn
			full = true
			break
		}
		sub := g.members[at]
		next := m.serve(sub, w, &t, now)
		if w.Starved() && !short {
			short, g.first = true, at
		}
		full = full || len(sub.rest) > 0 && w.Full()
		g.next = min(g.next, next)
	}
	g.route.Stats.Events.Add(t.events)
	g.route.Stats.Bytes.Add(t.bytes)
	return full
}

// forget lets go of what was read.
func (m *carrier) forget() {
	m.batch.forget()
	m.batch = nil
}

// tally is what was written to the clients of a group.
type tally struct{ events, bytes int64 }
