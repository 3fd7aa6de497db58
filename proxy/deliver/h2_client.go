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
	"math/rand/v2"
	"net/http"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"sidestream/proxy/stream"
	"sidestream/translate"
)

// strand is one client: an event stream of a connection that carries others.
type strand struct {
	group  *h2Group
	id     uint32 // of its stream
	seat   int    // in its group
	live   bool   // the head of its answer is written
	waits  bool   // for held
	flags  uint8  // see isLost in shard.go
	why    uint8  // the reason it will have gone for
	cursor uint64 // the last event it has, or stream.Begin
	joined uint64 // the newest event when it came
	rest   []byte // of something that was begun
	first  *batch // what it begins with, until that is written
	wrote  time.Duration
	due    time.Duration // with isDue: when it is to come back. With isAway: when it is cut
	stuck  time.Duration // with rest: since when its window has taken nothing
}

// h2Group is the clients of one ring on one connection.
type h2Group struct {
	conn     *h2Conn
	ring     *stream.Ring
	route    *Route
	retiring <-chan struct{}
	retired  bool
	leave    func()
	stop     func() // ends the watch
	strands  []*strand
	first    int           // where the next walk begins
	next     time.Duration // when something is due
	dirty    atomic.Bool   // to be walked
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
	if c.closed || st == nil || !st.whole || st.strand != nil || c.strands >= h2MaxStrands {
		return false
	}
	s := &strand{id: id, cursor: cl.Cursor, wrote: -cl.Route.Coalesce}
	if cl.Lost {
		s.flags |= isLost
	}
	if cl.Beats {
		s.flags |= isBeating | isFresh
	}
	g := c.byRing[cl.Ring]
	if g == nil {
		g = &h2Group{conn: c, ring: cl.Ring, route: cl.Route, retiring: cl.Retiring, leave: cl.Leave}
		c.byRing[cl.Ring] = g
		c.groups = append(c.groups, g)
		g.stop = cl.Ring.Watch(g.touch)
	}
	s.group, s.seat = g, len(g.strands)
	g.strands = append(g.strands, s)
	s.joined, _ = cl.Ring.Last()
	// Read before its answer is: from that on it misses nothing.
	s.first = batches.Get().(*batch)
	s.first.load(g.ring, s.cursor, isOld)
	st.strand = s
	c.strands++
	c.shared = true
	return true
}

// abandon ends the stream id, whose head could not be written.
func (c *h2Conn) abandon(id uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.streams[id]; s != nil && s.strand != nil && !s.strand.live {
		c.forget(id, Left)
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
	over   bool    // the connection ends with it
	open   *strand // whose frame is the last, and may go on
	start  int     // of that frame
	events int64   // of one group, as are the bytes
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
	c.leave(gone)
	return more
}

// never is a moment that does not come.
const never = time.Duration(1<<63 - 1)

// look fills out with what is due, sets the alarm for what is not, and returns whether there is more.
func (c *h2Conn) look(out *h2Batch) (more bool) {
	clock := time.Now()
	now := clock.Sub(c.start)
	all := c.alarmed.Swap(false)
	if !c.drained && closed(c.clients.draining) {
		c.drained, all = true, true
	}
	next := c.idles(out, now)
	for i := len(c.groups) - 1; i >= 0; i-- { // one that ends gives its place to one that was looked at
		g := c.groups[i]
		retires := !g.retired && closed(g.retiring)
		g.retired = g.retired || retires
		if g.dirty.Swap(false) || all || retires {
			if full := c.walk(g, out, now); full {
				g.dirty.Store(true)
				more = true
			}
		}
		next = min(next, g.next)
	}
	if next != never && !more {
		c.clients.alarms.set(&c.alarm, c.start.Add(next), clock)
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
	g.first = (g.first + 1) % n
	var over []*strand
	for i := range n {
		s := g.strands[(g.first+i)%n]
		if len(out.frames) >= h2BatchSize {
			g.first = (g.first + i + n - 1) % n // it is the next one's turn
			full = true
			break
		}
		if c.serve(s, out, now) {
			over = append(over, s)
			continue
		}
		full = full || len(s.rest) > 0 && len(out.frames) >= h2BatchSize
		g.next = min(g.next, s.next())
	}
	g.route.Stats.Events.Add(out.events)
	g.route.Stats.Bytes.Add(out.bytes)
	out.events, out.bytes = 0, 0
	for _, s := range over {
		c.forget(s.id, int(s.why))
	}
	return full
}

// next is when something is due for s.
func (s *strand) next() (next time.Duration) {
	next = never
	if !s.live {
		return never
	}
	if s.flags&(isDue|isAway) != 0 {
		next = s.due
	}
	if len(s.rest) > 0 {
		return min(next, s.stuck+stallTime)
	}
	if hb := s.quiet(); hb > 0 && s.flags&isClosing == 0 {
		next = min(next, s.wrote+hb)
	}
	if s.waits {
		next = min(next, s.held())
	}
	return next
}

// quiet is how long nothing may be written before a heartbeat is; 0: for ever.
func (s *strand) quiet() time.Duration {
	if s.flags&isFresh != 0 {
		return min(s.group.route.Heartbeat, firstBeat)
	}
	return s.group.route.Heartbeat
}

// held is when events may be written again.
func (s *strand) held() time.Duration { return s.wrote + s.group.route.Coalesce }

// serve writes to one client what is due. It returns whether it is over for s.why, and nothing is to follow.
func (c *h2Conn) serve(s *strand, out *h2Batch, now time.Duration) (over bool) {
	switch {
	case !s.live:
		return false
	case s.flags&isAway != 0:
		return now >= s.due && c.reset(s, out)
	}
	c.release(s, now)
	due := s.flags&(isDue|isClosing) == isDue && now >= s.due
	if len(s.rest) > 0 {
		if before := s.rest; !c.say(s, out, before, now) {
			switch {
			case len(s.rest) < len(before) || len(out.frames) >= h2BatchSize:
				s.stuck = now
			case now >= s.stuck+stallTime:
				s.why = Stalled
				return c.reset(s, out)
			case due: // it is cut as it is: what it has is the beginning of something
				return c.reset(s, out)
			}
			return false
		}
	}
	if s.flags&isClosing != 0 {
		return c.depart(s, out, now)
	}
	if s.waits = now < s.held() && !due; !s.waits {
		if end := c.give(s, out, now); len(s.rest) > 0 {
			return false
		} else if end.Kind != stream.Open {
			return c.end(s, out, end, now)
		}
	}
	if due {
		return c.hint(s, out, int(s.why), now)
	}
	if hb := s.quiet(); hb > 0 && now >= s.wrote+hb {
		c.beat(s, out, now)
	}
	return false
}

// release sets when a client is to come back, if it is.
func (c *h2Conn) release(s *strand, now time.Duration) {
	why, window := Aged, ageWindow
	switch {
	case c.drained:
		why, window = Drained, c.clients.window
	case !s.group.retired:
		return
	}
	if s.flags&isClosing == 0 && (s.flags&isDue == 0 || int(s.why) != why) {
		s.flags |= isDue
		s.due, s.why = now+rand.N(max(window, 1)), uint8(why)
	}
}

// give writes what the ring has for a client. end is set once nothing is behind that.
func (c *h2Conn) give(s *strand, out *h2Batch, now time.Duration) (end stream.End) {
	g := s.group
	if first := s.first; first != nil {
		s.first = nil
		end, whole := c.offer(s, out, first, translate.AppendRetry(nil, g.route.RetryHint()), now)
		first.forget()
		batches.Put(first)
		if !whole || end.Kind != stream.Open {
			return end
		}
	}
	for b := &out.ring; ; b.forget() {
		if b.ring != g.ring || !b.fits(s.cursor, isOld) {
			b.load(g.ring, s.cursor, isOld) // events as they are, without chunks
		}
		if end, whole := c.offer(s, out, b, nil, now); !whole || !b.more {
			return end
		}
	}
}

// offer writes pre, the gap before b, and b. It returns whether the client's window took all, and then b's end.
func (c *h2Conn) offer(s *strand, out *h2Batch, b *batch, pre []byte, now time.Duration) (end stream.End, whole bool) {
	if gap := b.gap(s.group.ring, s.flags|isOld); gap != nil {
		s.flags &^= isLost
		pre = append(pre, gap...)
	}
	if stream.Pending(b.next) {
		s.cursor = b.next
		return stream.End{}, c.say(s, out, pre, now)
	}
	s.cursor = b.from
	if !c.say(s, out, pre, now) {
		return stream.End{}, false
	}
	for _, e := range b.events {
		s.cursor++
		out.events++
		out.bytes += int64(len(e))
		if !c.say(s, out, e, now) {
			break
		}
	}
	if b.from < s.joined {
		s.group.route.Stats.Replayed.Add(int64(min(s.cursor, s.joined) - b.from))
	}
	if whole = len(s.rest) == 0; whole {
		end = b.end
	}
	return end, whole
}

// say writes p. What the client's window does not take waits in rest; then it returns false.
func (c *h2Conn) say(s *strand, out *h2Batch, p []byte, now time.Duration) (whole bool) {
	if len(p) == 0 {
		return true
	}
	left := out.put(c, s, p)
	if len(left) < len(p) {
		s.wrote = now
	}
	if len(left) > 0 && len(s.rest) == 0 {
		s.stuck = now
	}
	s.rest = left
	return len(left) == 0
}

func (c *h2Conn) beat(s *strand, out *h2Batch, now time.Duration) {
	s.flags &^= isFresh
	text := []byte(translate.Heartbeat)
	if s.flags&isBeating != 0 {
		text = translate.AppendHeartbeat(nil, s.group.ring.IDAt(s.cursor), s.group.route.Heartbeat)
	}
	c.say(s, out, text, now)
}

// end is what a client is told behind the last event.
func (c *h2Conn) end(s *strand, out *h2Batch, end stream.End, now time.Duration) (over bool) {
	switch end.Kind {
	case stream.Finished:
		return c.last(s, out, nil, Finished, now)
	case stream.Refused:
		return c.last(s, out, translate.AppendRefused(nil, s.group.ring.LastID(), end.Status), Refused, now)
	}
	return c.hint(s, out, Aged, now)
}

// hint tells a client when to come back, as its last bytes.
func (c *h2Conn) hint(s *strand, out *h2Batch, why int, now time.Duration) (over bool) {
	return c.last(s, out, translate.AppendRetry(nil, s.group.route.RetryHint()), why, now)
}

// last writes a client's last bytes.
func (c *h2Conn) last(s *strand, out *h2Batch, p []byte, why int, now time.Duration) (over bool) {
	s.flags |= isClosing
	s.why = uint8(why)
	return c.say(s, out, p, now) && c.depart(s, out, now)
}

// depart lets a client go that has got its last bytes: at once when its stream is complete, else after a moment.
func (c *h2Conn) depart(s *strand, out *h2Batch, now time.Duration) (over bool) {
	if s.why == Finished {
		out.frames, out.open = h2Frame{0, frameData, flagEndStream, s.id}.append(out.frames), nil
		return true
	}
	s.flags |= isAway
	s.due = now + moment
	return false
}

// reset ends a stream so that no client takes it for complete.
func (c *h2Conn) reset(s *strand, out *h2Batch) (over bool) {
	out.frames, out.open = h2Frame{4, frameReset, 0, s.id}.append(out.frames), nil
	out.frames = binary.BigEndian.AppendUint32(out.frames, internalError)
	return true
}

// put appends of p what the client's windows take, and returns the rest.
func (o *h2Batch) put(c *h2Conn, s *strand, p []byte) (left []byte) {
	st := c.streams[s.id]
	for len(p) > 0 && len(o.frames) < h2BatchSize {
		n := min(int64(len(p)), st.window, c.avail)
		if n <= 0 {
			c.starved = c.starved || c.avail <= 0
			break
		}
		if o.open != s || len(o.frames)-o.start-frameHead >= framePayload {
			o.open, o.start = s, len(o.frames)
			o.frames = h2Frame{0, frameData, 0, s.id}.append(o.frames)
		}
		used := len(o.frames) - o.start - frameHead
		n = min(n, int64(framePayload-used))
		o.frames = append(o.frames, p[:n]...)
		p = p[n:]
		st.window -= n
		c.avail -= n
		used += int(n)
		o.frames[o.start], o.frames[o.start+1], o.frames[o.start+2] = byte(used>>16), byte(used>>8), byte(used)
	}
	return p
}
