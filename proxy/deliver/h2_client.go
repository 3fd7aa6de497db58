//go:build linux && !portable

// This file writes event streams to the clients of an HTTP/2 connection. The rules:
//
//   - Rings that have grown wake a connection once, which then writes to all of its clients in one write. It has a
//     goroutine only while there is something to do.
//   - What a client's window does not take of an event waits in rest; behind that it is served from the ring, as a replay.
//   - One clock for all clients of a connection: the earliest of what is due sets it.

package deliver

import (
	"encoding/binary"
	"net/http"
	"reflect"
	"sync"
	"sync/atomic"
	"time"
)

// strand is one client: an event stream of a connection that carries others.
type strand struct {
	group   *h2Group
	id      uint32 // of its stream
	seat    int    // in its group
	live    bool   // net/http has written the head of its answer, and is done with it
	code    uint8  // of the reset that it is to end with at once; 0: none
	state   cursor
	fresh   tick          // see facts.first
	joined  uint64        // the newest event when it came
	rest    []byte        // of something that was begun, with isBlocked
	prelude *prelude      // what it begins with, until that is written
	stuck   time.Duration // with rest: since when its window has taken nothing
}

// prelude is what an answer begins with. It is read before the head of the answer is, which from then on misses nothing.
type prelude struct {
	opening []byte
	batch   *batch
}

// h2Group is the clients of one ring on one connection.
type h2Group struct {
	audience
	conn    *h2Conn
	strands []*strand
	first   int           // where the next walk begins
	next    time.Duration // when something is due
	dirty   atomic.Bool   // to be walked
}

// departed is a client to be counted out.
type departed struct {
	route  *Route
	leave  func()
	reason int
}

// handOverStream takes a client over from net/http that came by HTTP/2, or returns false and has done nothing.
func (c *Clients) handOverStream(w http.ResponseWriter, r *http.Request, cl Client) bool {
	carrier, ok := r.Context().Value(connKey{}).(interface{ multiplexed() *h2Conn })
	if !ok || r.Method != http.MethodGet {
		return false
	}
	conn, id := carrier.multiplexed(), streamID(w)
	if id == 0 || !conn.adopt(id, cl) {
		return false
	}
	setHeader(w.Header())
	w.WriteHeader(http.StatusOK)
	if http.NewResponseController(w).Flush() != nil {
		conn.abandon(id)
	}
	return true
}

func (c *h2Conn) multiplexed() *h2Conn { return c }

// streamID is the number of the stream that w answers. net/http does not tell it, so it is read where it is; 0 if that is
// elsewhere, and then the client keeps its goroutine.
func streamID(w http.ResponseWriter) uint32 {
	v := reflect.ValueOf(w)
	for _, name := range []string{"rws", "stream", "id"} {
		if v.Kind() == reflect.Pointer {
			v = v.Elem()
		}
		if v.Kind() != reflect.Struct {
			return 0
		}
		v = v.FieldByName(name)
	}
	if v.Kind() != reflect.Uint32 {
		return 0
	}
	return uint32(v.Uint())
}

// adopt has cl written to in the stream id, once net/http has written the head of the answer. false: it cannot be, and
// nothing was done.
func (c *h2Conn) adopt(id uint32, cl Client) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	st := c.streams[id]
	if c.closed || c.farewell || st == nil || !st.whole || st.strand != nil || c.strands >= h2MaxStrands {
		return false
	}
	now := c.clock.now()
	s := &strand{id: id, state: newCursor(&cl, now), fresh: now + ticks(min(cl.Route.Heartbeat, firstBeat))}
	if cl.native {
		s.state.flags |= isClean
	}
	g := c.byRing[cl.Ring]
	if g == nil {
		g = &h2Group{conn: c, audience: audienceOf(cl)}
		c.byRing[cl.Ring] = g
		c.groups = append(c.groups, g)
		g.stop = cl.Ring.Watch(g.touch)
	}
	s.group, s.seat = g, len(g.strands)
	g.strands = append(g.strands, s)
	s.joined, _ = cl.Ring.Last()
	s.prelude = &prelude{cl.opening(), batches.Get().(*batch)}
	s.prelude.batch.load(g.ring, s.state.at, true)
	st.strand = s
	c.strands++
	return true
}

// abandon ends the stream id, whose head could not be written.
func (c *h2Conn) abandon(id uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.streams[id]; s != nil && s.strand != nil && !s.strand.live {
		c.forget(id, c.lost())
	}
}

// drop takes a client out of its group, to be counted out. mu is held.
func (c *h2Conn) drop(s *strand, reason int) {
	g := s.group
	c.departed = append(c.departed, departed{g.route, g.leave, reason})
	c.strands--
	last := len(g.strands) - 1
	moved := g.strands[last]
	g.strands[s.seat], moved.seat = moved, s.seat
	g.strands[last] = nil
	g.strands = g.strands[:last]
	if last > 0 {
		return
	}
	g.stop()
	delete(c.byRing, g.ring)
	for i, other := range c.groups {
		if other == g {
			c.groups[i] = c.groups[len(c.groups)-1]
			c.groups[len(c.groups)-1] = nil
			c.groups = c.groups[:len(c.groups)-1]
			return
		}
	}
}

// leave counts clients out.
func (c *h2Conn) leave(gone []departed) {
	for _, d := range gone {
		c.clients.gone(d.route, d.leave, d.reason, c.RemoteAddr().String())
	}
}

// touch has the group walked. It is also the ring's word that it has grown: it does not block.
func (g *h2Group) touch() {
	g.dirty.Store(true)
	g.conn.schedule()
}

// touch has all groups walked. mu is held.
func (c *h2Conn) touch() {
	for _, g := range c.groups {
		g.touch()
	}
}

// awaken has everything looked at.
func (c *h2Conn) awaken() {
	c.alarmed.Store(true)
	c.schedule()
}

// What h2Conn.state says of run.
const (
	h2Asleep = iota
	h2Awake
	h2Again // it has to look once more
)

// schedule sees to it that run looks at what has changed. It does not block.
func (c *h2Conn) schedule() {
	if c.state.Swap(h2Again) == h2Asleep {
		go c.run() // ends when there is nothing to do
	}
}

func (c *h2Conn) run() {
	for {
		c.state.Store(h2Awake)
		for c.turn() {
		}
		if c.state.CompareAndSwap(h2Awake, h2Asleep) {
			return
		}
	}
}

// h2Batch is what a connection writes at once.
type h2Batch struct {
	frames []byte
	over   bool      // the connection ends with it
	gone   []*strand // for whom it is over
	flown  []h2Held  // frames that were held, and leave with it
	open   *strand   // whose frame is the last, and may go on
	start  int       // of that frame
	events int64     // of one group, as are the bytes
	bytes  int64
	ring   batch
}

// h2BatchSize is how much of that there may be.
const h2BatchSize = 64 << 10

var h2Batches = sync.Pool{New: func() any { return new(h2Batch) }}

// turn writes one batch, and returns whether there is more.
func (c *h2Conn) turn() (more bool) {
	out := h2Batches.Get().(*h2Batch)
	defer h2Batches.Put(out)
	out.frames, out.open, out.over = out.frames[:0], nil, false
	c.mu.Lock()
	if !c.closed {
		more = c.look(out)
	}
	gone := c.departed
	c.departed = nil
	c.mu.Unlock()
	if c.send(out.frames) != nil || out.over {
		c.Conn.Close() // net/http's reader hears of it, and closes the rest
		more = false
	}
	if len(out.flown) > 0 {
		c.flown(out.flown)
		out.flown = out.flown[:0]
	}
	c.leave(gone)
	return more
}

// never is a moment that does not come.
const never = time.Duration(1<<63 - 1)

// look fills out with what is due, sets the alarm for what is not, and returns whether there is more.
func (c *h2Conn) look(out *h2Batch) (more bool) {
	clock := time.Now()
	now := clock.Sub(c.clock.start)
	all := c.alarmed.Swap(false)
	if !c.drained && closed(c.clients.draining) {
		c.drained, all = true, true
	}
	next := min(c.idles(out, now), c.patience())
	if now >= c.patience() {
		c.stalled, out.over = true, true
		return false
	}
	if c.starved && c.avail > 0 {
		c.starved, all = false, true
	}
	waiting := c.waiting
	if c.heldFirst {
		c.flush(out, framePayload, now)
	}
	first, n, short := c.first, len(c.groups), c.starved
	for i := range n {
		g := c.groups[(first+i)%n]
		retires := !g.retired && closed(g.retiring)
		g.retired = g.retired || retires
		if g.dirty.Swap(false) || all || retires {
			full := c.walk(g, out, now)
			if full {
				g.dirty.Store(true)
				more = true
			}
			if (full || c.starved) && !short {
				short, c.first = true, (first+i+1)%n // it is the next one's turn
			}
		}
		next = min(next, g.next)
	}
	again := c.flush(out, h2BatchSize, now)
	c.heldFirst = len(c.held) > 0 && c.waiting == waiting
	next, more = min(next, again), more || again <= now
	for i, s := range out.gone {
		c.forget(s.id, int(s.state.why))
		out.gone[i] = nil
	}
	out.gone = out.gone[:0]
	if next != never && !more {
		c.clients.alarms.set(&c.alarm, c.clock.start.Add(next), clock)
	}
	return more
}

// idles ends a connection that has had no stream for long. It returns when to look again.
func (c *h2Conn) idles(out *h2Batch, now time.Duration) (next time.Duration) {
	switch {
	case c.leaving:
		if out.over = now >= c.idle; out.over {
			return never
		}
	case len(c.streams) > 0:
		return never
	case c.idle == 0:
		c.idle = now + h2IdleTime
	case now >= c.idle:
		c.leaving = true
		c.idle = now + h2Farewell
		frame := h2Frame{8, frameGoAway, 0, 0}.append(out.frames)
		frame = binary.BigEndian.AppendUint32(frame, c.newest)
		out.frames = binary.BigEndian.AppendUint32(frame, 0) // NO_ERROR
	}
	return c.idle
}

// walk brings every client of g up to date. It returns whether out is full.
func (c *h2Conn) walk(g *h2Group, out *h2Batch, now time.Duration) (full bool) {
	out.ring.forget()
	defer out.ring.forget()
	g.next = never
	n := len(g.strands)
	first, short := (g.first+1)%n, c.starved
	g.first = first
	for i := range n {
		at := (first + i) % n
		s := g.strands[at]
		if len(out.frames) >= h2BatchSize {
			g.first = (at + n - 1) % n // it is the next one's turn
			full = true
			break
		}
		next, over := c.serve(s, out, now)
		if c.starved && !short {
			short, g.first = true, at
		}
		if over {
			out.gone = append(out.gone, s)
			continue
		}
		full = full || len(s.rest) > 0 && len(out.frames) >= h2BatchSize
		g.next = min(g.next, next)
	}
	g.route.Stats.Events.Add(out.events)
	g.route.Stats.Bytes.Add(out.bytes)
	out.events, out.bytes = 0, 0
	return full
}

// stalls is when s has taken nothing for too long. Where it is the connection's window that is too small, others may have
// taken that. mu is held.
func (c *h2Conn) stalls(s *strand) time.Duration {
	if c.streams[s.id].window > 0 {
		return max(s.stuck, c.moved) + stallTime
	}
	return s.stuck + stallTime
}

// cut ends s at once, with a reset that has this code. The connection's mu is held.
func (s *strand) cut(code uint8) {
	s.state, s.code = s.state.gone(Left), code
	s.group.touch()
}
