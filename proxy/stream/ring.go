package stream

import (
	"crypto/rand"
	"encoding/binary"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sidestream/translate"
	"sidestream/translate/sse"
)

// Begin is the cursor of a client that begins where the route's START says. [Ring.After] resolves it, once the history
// of a list is in.
const Begin = ^uint64(0)

// waiting is the cursor of a client that came before the history of a list was in: it begins where START meant then.
const waiting = Begin - 1

// Pending says that cursor is no place yet: Begin, or that of a client that waits for a list's history.
func Pending(cursor uint64) bool { return cursor >= waiting }

// StartAll as Bounds.Start begins at the oldest event kept.
const StartAll = -1

// Bounds say what a ring keeps. The newest event is kept whatever they are.
type Bounds struct {
	Events int           // at most so many; 0 no limit
	Bytes  int           // at most so many encoded bytes; 0 no limit
	Age    time.Duration // none older; 0 no limit
	Start  int           // how many of the newest events Begin means; 0 none, StartAll all
}

// EndKind says how a ring ended.
type EndKind int

// The ends.
const (
	Open     EndKind = iota // it goes on
	Finished                // complete: a clean end, and nobody has to come back
	Refused                 // the upstream will not go on
	Retired                 // it has reached its age, or the sidecar stops: come back
)

// End is what is behind the last event of a ring.
type End struct {
	Kind   EndKind
	Status int // with Refused: the HTTP status for those who ask now
}

// Ring holds the newest events of one stream, encoded, and wakes who waits for more. Sequence numbers begin at 1; a
// cursor is the number of the last event its client has. Safe for concurrent use; what it returns is never written
// again.
type Ring struct {
	birth  string
	bounds Bounds
	stats  *Stats

	mu       sync.Mutex // guards what follows
	events   []event    // oldest first, from head on
	head     int
	last     uint64 // number of the newest event
	bytes    int
	block    []byte // where the next events are encoded; shared by several, and kept as long as one of them
	history  bool   // the first append is still awaited, and is history
	began    uint64 // where START meant when the history was in
	end      End
	watchers map[*watcher]struct{}
	state    state
}

type event struct {
	chunk []byte // as one chunk of a body (RFC 9112, section 7.1)
	front int    // bytes of chunk before the event itself
	id    string // "" for the ring's own
	at    time.Time
	keyed *keyed // as the newest of its key; nil: it has none
}

// bytes is the event without its chunk.
func (e *event) bytes() []byte { return e.chunk[e.front : len(e.chunk)-len(sse.ChunkEnd)] }

type watcher struct{ wake func() }

// NewRing returns an empty ring with a birth of its own. history: what is appended first was there before.
func NewRing(bounds Bounds, stats *Stats, history bool) *Ring {
	return &Ring{birth: newBirth(time.Now()), bounds: bounds, stats: stats, history: history, watchers: map[*watcher]struct{}{}}
}

// newBirth is unix ms × 2^20 and 20 random bits: replicas that boot in the same millisecond must not share one.
func newBirth(now time.Time) string {
	var random [4]byte
	rand.Read(random[:])
	low := uint64(binary.BigEndian.Uint32(random[:]) & (1<<20 - 1))
	return strconv.FormatUint(uint64(now.UnixMilli())<<20|low, 10)
}

// Birth is the first half of the ring's own ids.
func (r *Ring) Birth() string { return r.birth }

func (r *Ring) own(seq uint64) string { return r.birth + "-" + strconv.FormatUint(seq, 10) }

// Append gives each message its id, encodes it once, keeps it and wakes who waits. Nothing is appended behind the end.
func (r *Ring) Append(ms ...translate.Message) {
	r.mu.Lock()
	now := time.Now()
	for _, m := range ms {
		if r.end.Kind == Open {
			r.append(m, now)
		}
	}
	started := r.history
	r.history = false
	r.evict(now)
	if started {
		r.began = r.start()
	}
	if len(ms) > 0 || started {
		r.wake()
	}
	r.mu.Unlock()
}

func (r *Ring) append(m translate.Message, now time.Time) {
	r.last++
	e := event{at: now}
	id := r.own(r.last)
	if m.Gap == "" && sse.ValidID(m.ID) && !strings.HasPrefix(m.ID, r.birth+"-") {
		e.id, id = m.ID, m.ID
	}
	e.chunk, e.front = r.encode(len(id)+len(m.Event)+len(m.Data), func(dst []byte) []byte {
		if m.Gap != "" {
			return sse.AppendGap(dst, id, m.Gap, -1)
		}
		return sse.AppendEvent(dst, id, m.Event, m.Data)
	})
	if m.Gap != "" {
		r.stats.gap(m.Gap)
	}
	r.note(m, &e)
	r.events = append(r.events, e)
	r.bytes += len(e.chunk)
	r.stats.Events.Add(1)
	r.stats.Bytes.Add(int64(len(e.bytes())))
}

// Blocks begin small, for the many streams of one user each, and grow with what goes through.
const (
	firstBlock = 512
	lastBlock  = 64 << 10
	overhead   = 64 // bytes of an event beside its fields, in most cases
)

// encode puts an event into the present block, as a chunk. about is the size of its fields.
func (r *Ring) encode(about int, event func([]byte) []byte) (chunk []byte, front int) {
	if cap(r.block)-len(r.block) < about+overhead {
		r.block = make([]byte, 0, max(about+overhead, min(lastBlock, max(firstBlock, 2*cap(r.block)))))
	}
	used := len(r.block)
	all, front := sse.AppendChunk(r.block[used:used:cap(r.block)], event)
	if cap(all) == cap(r.block)-used { // else it was longer than it seemed, and has an array of its own
		r.block = r.block[:used+len(all)]
	}
	return all[:len(all):len(all)], front
}

// evict lets go of what is over the bounds. Rings are read more often than they turn, so the slice is moved only when
// half of it is empty.
func (r *Ring) evict(now time.Time) {
	b := r.bounds
	for r.len() > 1 {
		e := &r.events[r.head]
		over := b.Events > 0 && r.len() > b.Events || b.Bytes > 0 && r.bytes > b.Bytes || b.Age > 0 && now.Sub(e.at) > b.Age
		if !over {
			break
		}
		r.bytes -= len(e.chunk)
		r.detach(e.keyed)
		*e = event{}
		r.head++
	}
	r.compact()
}

func (r *Ring) compact() {
	if r.head > len(r.events)/2 {
		n := copy(r.events, r.events[r.head:])
		clear(r.events[n:])
		r.events, r.head = r.events[:n], 0
	}
}

// Acknowledge lets go of the events up to cursor: whoever reads the ring has them. Those who ask for them again are told
// that they are missing.
func (r *Ring) Acknowledge(cursor uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.len() > 0 && r.before() < cursor {
		e := &r.events[r.head]
		r.bytes -= len(e.chunk)
		r.detach(e.keyed)
		*e = event{}
		r.head++
	}
	r.compact()
}

// Held is how many encoded bytes the ring keeps.
func (r *Ring) Held() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bytes
}

func (r *Ring) len() int { return len(r.events) - r.head }

// before is the number of the event before the oldest kept.
func (r *Ring) before() uint64 { return r.last - uint64(r.len()) }

func (r *Ring) idOf(i int) string {
	if id := r.events[i].id; id != "" {
		return id
	}
	return r.own(r.last - uint64(len(r.events)-1-i))
}

// Close ends the ring; a second end changes nothing.
func (r *Ring) Close(e End) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.end.Kind == Open {
		if r.history {
			r.began = r.start()
		}
		r.end, r.history = e, false
		r.wake()
	}
}

// Wake has the watchers woken as if the ring had grown: something else about its stream has changed.
func (r *Ring) Wake() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wake()
}

func (r *Ring) wake() {
	for w := range r.watchers {
		w.wake()
	}
}

// Watch has wake called after each append and at the end, until stop. wake must not block, nor call the ring.
func (r *Ring) Watch(wake func()) (stop func()) {
	w := &watcher{wake}
	r.mu.Lock()
	r.watchers[w] = struct{}{}
	r.mu.Unlock()
	return func() {
		r.mu.Lock()
		delete(r.watchers, w)
		r.mu.Unlock()
	}
}

// maxBatch bounds what one call of After returns, in bytes: what a slow client has asked for once stays in memory until
// it has taken it.
const maxBatch = 256 << 10

// After appends to dst the events behind cursor, a batch at a time, and returns the cursor behind them and how many were
// missed before them. end is set once nothing is behind next any more. A cursor of Begin stays [Pending] while the
// history is awaited.
func (r *Ring) After(dst [][]byte, cursor uint64) (events [][]byte, next, missed uint64, end End) {
	return r.after(dst, cursor, (*event).bytes)
}

// Chunks is After with each event as one chunk of a body, so that all clients of HTTP/1.1 share the framing too.
func (r *Ring) Chunks(dst [][]byte, cursor uint64) (chunks [][]byte, next, missed uint64, end End) {
	return r.after(dst, cursor, func(e *event) []byte { return e.chunk })
}

func (r *Ring) after(dst [][]byte, cursor uint64, bytes func(*event) []byte) (events [][]byte, next, missed uint64, end End) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.evict(time.Now())
	switch {
	case Pending(cursor) && r.history:
		return dst, waiting, 0, End{}
	case Pending(cursor) && r.standsIn(), cursor < r.before() && r.state.any():
		if past, ok := r.past(); ok {
			if !Pending(cursor) {
				missed = r.unseen(cursor)
			}
			return append(dst, bytes(&past)), r.last, missed, r.end
		}
	}
	switch {
	case cursor == waiting && r.end.Kind == Finished:
		cursor = min(r.began, r.start())
	case cursor == waiting:
		cursor = r.began
	case cursor == Begin:
		cursor = r.start()
	}
	if before := r.before(); cursor < before {
		missed, cursor = before-cursor, before
	}
	size := 0
	for ; cursor < r.last && size < maxBatch; cursor++ {
		e := &r.events[r.head+int(cursor-r.before())]
		size += len(e.chunk)
		dst = append(dst, bytes(e))
	}
	if cursor == r.last {
		end = r.end
	}
	return dst, cursor, missed, end
}

// start is where START says that a client begins. What is finished is told by its last event, whatever START says.
func (r *Ring) start() uint64 {
	n := r.bounds.Start
	if r.end.Kind == Finished && r.len() > 0 {
		n = 1
	} else if n == StartAll || n > r.len() {
		n = r.len()
	}
	return r.last - uint64(n)
}

// Find looks up the id of a client's last event. ok is false when the ring does not know it: it is of another birth, or
// the upstream's own and evicted. An id of this birth that was evicted is known; After tells how much was missed.
func (r *Ring) Find(id string) (cursor uint64, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.evict(time.Now())
	if rest, own := strings.CutPrefix(id, r.birth+"-"); own {
		seq, err := strconv.ParseUint(rest, 10, 64)
		return seq, err == nil && seq <= r.last && strconv.FormatUint(seq, 10) == rest
	}
	// The oldest of equal ids: to say something twice is better than to leave it out.
	for i := r.head; i < len(r.events); i++ {
		if r.events[i].id == id && id != "" {
			return r.before() + uint64(i-r.head) + 1, true
		}
	}
	return 0, false
}

// Position is an id for the place behind the event at cursor, whether or not that event is kept or has an id of its
// own: [Ring.Find] knows it as long as the ring lives. Where one piece stands in for the past, which a client may have
// got the beginning of, it is the place before everything.
func (r *Ring) Position(cursor uint64) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.standsIn() || r.state.any() && r.before() > 0 {
		cursor = 0
	}
	return r.own(cursor)
}

// Place is the ring's own id for a client that has everything up to cursor and that nothing is on its way to: [Ring.Find]
// takes it back there, also where the event at cursor has an id of the upstream's.
func (r *Ring) Place(cursor uint64) string { return r.own(cursor) }

// LastID is the id of the newest event, or the position before the first one.
func (r *Ring) LastID() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.len() == 0 {
		return r.own(r.last)
	}
	return r.idOf(len(r.events) - 1)
}

// IDAt is the id that a client at cursor has received last, "" when that is not the newest event's.
func (r *Ring) IDAt(cursor uint64) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case cursor != r.last || r.history:
		return ""
	case r.len() == 0:
		return r.own(r.last)
	}
	return r.idOf(len(r.events) - 1)
}

// Last returns the cursor of the newest event and how the ring ended.
func (r *Ring) Last() (cursor uint64, end End) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last, r.end
}

// Stats counts what the rings of a route do. Each is a total since the start.
type Stats struct {
	Events  atomic.Int64
	Bytes   atomic.Int64 // encoded
	Gaps    [3]atomic.Int64
	Refused atomic.Int64 // streams that the upstream refused, at first or later

	Sent       atomic.Int64 // clients' messages that were written to the upstream
	SendFailed atomic.Int64 // those that could not be
}

// GapReasons names the entries of Stats.Gaps.
var GapReasons = [3]string{translate.GapUpstream, translate.GapEvicted, translate.GapRestart}

// CountGap counts a gap that was made for one client.
func (r *Ring) CountGap(reason string) { r.stats.gap(reason) }

func (s *Stats) gap(reason string) {
	for i, known := range GapReasons {
		if known == reason {
			s.Gaps[i].Add(1)
		}
	}
}
