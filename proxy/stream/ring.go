package stream

import (
	"bytes"
	"cmp"
	"context"
	"sync"
	"time"

	"sidestream/translate"
	"sidestream/translate/sse"
)

// Begin is the cursor of a client that begins where the route's START says. [Ring.After] resolves it, once the history
// of a list is in.
const Begin = ^uint64(0)

// waiting is the cursor of a client that came before the history of a list was in: it begins where START meant then.
const waiting = Begin - 1

// Pending reports whether cursor is no place yet: Begin, or that of a client that waits for a list's history.
func Pending(cursor uint64) bool { return cursor >= waiting }

// As Bounds.Start.
const (
	StartAll  = -1 // begins at the oldest event kept
	StartKeys = -2 // begins with the newest event of each key, as 1 does, but with nothing where there is none
)

// Bounds say what a ring keeps. The newest event is kept whatever they are.
type Bounds struct {
	Events int           // at most so many; 0 no limit
	Bytes  int           // at most so many encoded bytes; 0 no limit
	Age    time.Duration // none older; 0 no limit
	Start  int           // how many of the newest events Begin means; 0 none; StartAll or StartKeys
}

// EndKind says how a ring ended.
type EndKind int

// The ends.
const (
	Open     EndKind = iota // it goes on
	Finished                // complete: a clean end, and no client has to come back
	Refused                 // the upstream will not go on
	Retired                 // it has reached its age, or the sidecar stops: come back
)

// End is what comes after the last event of a ring.
type End struct {
	Kind   EndKind
	Status int // with Refused: the HTTP status for clients that ask now
}

// Ring holds the newest events of one stream, encoded, and wakes the clients that wait for more. Sequence numbers begin at 1; a
// cursor is the number of the last event its client has. Safe for concurrent use; what it returns is never written
// again.
type Ring struct {
	own    Epoch // that it was made with
	bounds Bounds
	stats  *Stats

	mu       sync.Mutex // guards what follows
	lives    numbering
	begun    bool // an epoch but the one that it was made with is used
	log      eventLog
	history  bool   // the first append is still awaited, and is history
	began    uint64 // where START meant when the history was in
	hole     uint64 // number of the gap that stands for all that was kept before it; 0: none does
	end      End
	last     bool                  // its newest event is the last one
	turns    uint32                // lives that it has had
	refresh  func(context.Context) // brings it up to date; nil: it always is
	follows  bool                  // another process appends
	watchers map[*watcher]struct{} // nil: there was none
	carriers []*carrier            // never written to: whoever has let go of mu goes over them
	unsaid   unsaid
	woken    bool // the watchers are to be told by who lets go of mu, and then the carriers
	snapshot snapshot
	deflated *deflated // for clients that take gzip; nil: there are none
}

// NewRing returns an empty ring whose own ids are of epoch. history: what is appended first was there before.
func NewRing(epoch Epoch, bounds Bounds, stats *Stats, history bool) *Ring {
	return &Ring{own: epoch, lives: numbering{newLife(epoch, 0)}, bounds: bounds, stats: stats, history: history}
}

// Epoch is the first half of the ids that the ring gives now.
func (r *Ring) Epoch() Epoch {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lives[len(r.lives)-1].epoch
}

// Append gives each message its id, encodes it once, keeps it and wakes the clients that wait. Nothing is appended after the end.
func (r *Ring) Append(ms ...translate.Message) { r.append(false, ms) }

// AppendLast is Append by who has nothing else to do before it waits for something: where that is the shorter way, clients are written to before it returns.
func (r *Ring) AppendLast(ms ...translate.Message) { r.append(true, ms) }

func (r *Ring) append(near bool, ms []translate.Message) {
	r.mu.Lock()
	defer r.unlock(near)
	r.put(ms)
}

// put is what all appends do. mu is held.
func (r *Ring) put(ms []translate.Message) {
	now := now()
	for _, m := range ms {
		if r.end.Kind == Open {
			e := r.encode(m, r.log.last+1, now)
			r.unsaid.events++
			r.unsaid.bytes += len(e.chunk)
			r.add(m, e)
		}
	}
	r.grown(len(ms))
}

// grown sees to what follows when n events were added. mu is held.
func (r *Ring) grown(n int) {
	started := r.history
	r.history = false
	r.evict()
	if started {
		r.began = r.start()
	}
	if n > 0 || started {
		r.wake()
	}
}

// encode makes m the event numbered seq. mu is held.
func (r *Ring) encode(m translate.Message, seq uint64, now moment) event {
	e := event{at: now}
	id := r.lives.next(seq)
	if m.Gap == "" && m.Notice == "" && sse.ValidID(m.ID) && !r.lives.own(m.ID) {
		e.id, id = m.ID, m.ID
	}
	about := len(id) + len(m.Event) + len(m.Mark) + len(m.Data) + lineOverhead*(bytes.Count(m.Data, newline)+bytes.Count(m.Data, carriageReturn))
	e.chunk = r.log.encode(r.log.bytes, about, func(dst []byte) []byte {
		if m.Mark != "" {
			dst = sse.AppendMark(dst, m.Mark)
		}
		switch {
		case m.Notice != "":
			return sse.AppendNotice(dst, id, m.Notice, m.Data)
		case m.Gap != "":
			return sse.AppendGap(dst, id, m.Gap, -1)
		case m.Verbatim:
			return sse.AppendVerbatim(dst, id, m.Event, m.Data)
		}
		return sse.AppendEvent(dst, id, m.Event, m.Data)
	})
	return e
}

// add makes e, which m became, the newest event. mu is held.
func (r *Ring) add(m translate.Message, e event) {
	r.log.last++
	r.last = m.Last
	if m.Gap != "" {
		r.stats.gap(m.Gap)
	}
	r.snapshot.note(m, &e, r.log.last, cmp.Or(e.id, r.lives.id(r.log.last)), r.bounds)
	r.keep(e)
	r.stats.Events.Add(1)
	r.stats.Bytes.Add(int64(len(e.bytes())))
}

// keep makes e the newest of the events kept, which has been numbered.
func (r *Ring) keep(e event) {
	r.log.add(e)
	if r.deflated != nil {
		r.deflated.add(r.log.last, &e, time.Now())
	}
}

// evict lets go of what is over the bounds.
func (r *Ring) evict() {
	var at moment
	if r.bounds.Age > 0 {
		at = now()
	}
	for r.log.over(r.bounds, at) {
		r.snapshot.detach(r.log.drop(), r.bounds)
	}
	r.log.compact()
}

// Acknowledge lets go of the events up to cursor: the ring's reader has them. A client that asks for them again is told
// that they are missing.
func (r *Ring) Acknowledge(cursor uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.log.len() > 0 && r.log.before() < cursor {
		r.snapshot.detach(r.log.drop(), r.bounds)
	}
	r.log.compact()
}

// Held is how many encoded bytes the ring keeps.
func (r *Ring) Held() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.bytes
}

// Close ends the ring; a second end changes nothing.
func (r *Ring) Close(e End) {
	r.mu.Lock()
	defer r.unlock(false)
	r.ends(e)
}

func (r *Ring) ends(e End) {
	if r.end.Kind != Open {
		return
	}
	if r.history {
		r.began = r.start()
	}
	r.end, r.history = e, false
	r.wake()
}

// maxBatch bounds what one call of After returns, in bytes: what a slow client has asked for once stays in memory until
// it has taken it.
const maxBatch = 256 << 10

// After appends to dst the events after cursor, a batch at a time, and returns the cursor after them and how many were
// missed before them, [Unknown] where a gap is one of these. end is set once nothing comes after next any more. A cursor of Begin stays [Pending] while the
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
	return r.read(dst, cursor, bytes)
}

// read is after. mu is held.
func (r *Ring) read(dst [][]byte, cursor uint64, bytes func(*event) []byte) (events [][]byte, next, missed uint64, end End) {
	r.evict()
	cursor, lost := r.land(cursor)
	switch {
	case lost:
		gap := r.gapAt(r.lives.id(cursor))
		return append(dst, bytes(&gap)), cursor, 0, End{}
	case Pending(cursor) && r.history:
		return dst, waiting, 0, End{}
	case Pending(cursor) && r.snapshot.standsIn(r.bounds), cursor < r.log.before() && r.snapshot.any():
		if past, ok := r.snapshot.piece(r.lives, r.log.last); ok {
			if !Pending(cursor) {
				missed = unsure(r.snapshot.unseen(cursor, r.log.last), cursor, r.log.gap)
			}
			return append(dst, bytes(&past)), r.log.last, missed, r.end
		}
	}
	cursor = r.resolve(cursor)
	if before := r.log.before(); cursor < before {
		if r.hole != before+1 { // else the next event tells
			missed = unsure(before-cursor, cursor, r.log.lapsed)
		}
		cursor = before
	}
	for size := 0; cursor < r.log.last && size < maxBatch; cursor++ {
		e := r.log.at(cursor)
		size += len(e.chunk)
		dst = append(dst, bytes(e))
	}
	if cursor >= r.log.last { // past it: what comes from another replica has more
		end = r.end
	}
	return dst, cursor, missed, end
}

// Unknown is how many events a client has missed where a gap was among them.
const Unknown = ^uint64(0)

// unsure is missed, of which nobody knows how many they were where gap came after cursor.
func unsure(missed, cursor, gap uint64) uint64 {
	if missed > 0 && gap > cursor {
		return Unknown
	}
	return missed
}

// resolve makes a place of a cursor that is [Pending].
func (r *Ring) resolve(cursor uint64) uint64 {
	switch {
	case cursor == waiting && r.end.Kind == Finished:
		return min(r.began, r.start())
	case cursor == waiting:
		return r.began
	case cursor == Begin:
		return r.start()
	}
	return cursor
}

// start is where START says that a client begins. What is finished is told by its last event, whatever START says.
func (r *Ring) start() uint64 {
	n := r.bounds.Start
	if r.end.Kind == Finished && r.log.len() > 0 {
		n = 1
	} else if n == StartAll || n > r.log.len() {
		n = r.log.len()
	} else if n == StartKeys {
		n = 0
	}
	return r.log.last - uint64(n)
}

// Find looks up the id of a client's last event. ok is false when the ring does not know it: it is of another epoch, or
// the upstream's own and evicted. An id of this epoch that was evicted is known; After tells how much was missed.
func (r *Ring) Find(id string) (cursor uint64, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.evict()
	if r.lives.own(id) {
		return r.lives.cursor(id, r.log.last)
	}
	return r.log.find(id)
}

// Position is an id for the place after the event at cursor, whether or not that event is kept or has an id of its
// own: [Ring.Find] knows it as long as the ring lives. Where one piece stands in for the past, which a client may have
// got the beginning of, it is the place before everything.
func (r *Ring) Position(cursor uint64) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.snapshot.standsIn(r.bounds) || r.snapshot.any() && r.log.before() > 0 {
		cursor = 0
	}
	return r.lives.id(cursor)
}

// Place is the ring's own id for a client that has everything up to cursor and that nothing is on its way to: [Ring.Find]
// takes it back there, also where the event at cursor has an id of the upstream's.
func (r *Ring) Place(cursor uint64) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lives.id(cursor)
}

// LastID is the id of the newest event, or the position before the first one.
func (r *Ring) LastID() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lastID()
}

func (r *Ring) lastID() string {
	if e := r.log.newest(); e != nil && e.id != "" {
		return e.id
	}
	return r.lives.id(r.log.last)
}

// IDAt is the id that a client at cursor has received last, "" when that is not the newest event's.
func (r *Ring) IDAt(cursor uint64) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if cursor != r.log.last || r.history {
		return ""
	}
	return r.lastID()
}

// Last returns the cursor of the newest event and how the ring ended.
func (r *Ring) Last() (cursor uint64, end End) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.last, r.end
}

// Complete reports whether nothing more comes: it has ended, or is about to.
func (r *Ring) Complete() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last || r.end.Kind != Open
}
