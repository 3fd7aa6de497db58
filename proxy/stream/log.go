package stream

import (
	"slices"
	"time"

	"sidestream/translate/sse"
)

// eventLog is where a ring keeps its events: numbered from 1, encoded, the oldest let go of first. It has no lock, its ring's mu
// guards it.
type eventLog struct {
	events []event // oldest first, from head on
	head   int
	last   uint64 // number of the newest event
	bytes  int
	gap    uint64 // number of the newest gap, or of what may have been one; 0: there was none
	lapsed uint64 // of the newest that was let go of
	blocks
}

// blocks are where chunks are put.
type blocks struct {
	block []byte // of the next ones; shared by several, and kept as long as one of them
}

type event struct {
	chunk []byte // as one chunk of a body (RFC 9112, section 7.1)
	id    string // "" for the ring's own
	at    moment // none is before that of an older event, nor was to come when it was added
	keyed *keyed // as the newest of its key; nil: it has none
}

// bytes is the event without its chunk.
func (e *event) bytes() []byte { return inChunk(e.chunk) }

// len is how many events are kept.
func (l *eventLog) len() int { return len(l.events) - l.head }

// before is the number of the event before the oldest kept.
func (l *eventLog) before() uint64 { return l.last - uint64(l.len()) }

// at is the event after cursor, which is kept.
func (l *eventLog) at(cursor uint64) *event { return &l.events[l.head+int(cursor-l.before())] }

// newest is the last event, nil when none is kept.
func (l *eventLog) newest() *event {
	if l.len() == 0 {
		return nil
	}
	return &l.events[len(l.events)-1]
}

// find returns the cursor at the oldest of the events with an id of the upstream's: to say something twice is better than to leave
// it out.
func (l *eventLog) find(id string) (cursor uint64, ok bool) {
	for i := l.head; i < len(l.events); i++ {
		if l.events[i].id == id && id != "" {
			return l.before() + uint64(i-l.head) + 1, true
		}
	}
	return 0, false
}

// Blocks begin small, for the many streams of one user each, and grow with what is kept: what is not filled yet, or kept for its newest event alone, is
// a fraction of that.
const (
	firstBlock = 512
	fraction   = 4
	lastBlock  = 64 << 10
	overhead   = 36 // bytes of an event beside its fields, where its data is one line: see AppendChunk and sse.AppendEvent

	lineOverhead = len("data: ") // of each further line
)

var newline, carriageReturn = []byte("\n"), []byte("\r")

// encode puts an event into the present block, as a chunk. kept is how many bytes are, of all blocks, and about the size of its fields.
func (l *blocks) encode(kept, about int, event func([]byte) []byte) (chunk []byte) {
	if size := about + overhead; cap(l.block)-len(l.block) < size {
		room := min(lastBlock, max(firstBlock, kept/fraction))
		l.block = slices.Grow([]byte(nil), max(1, room/size)*size) // for so many of its size, and what the allocator has for them besides
	}
	used := len(l.block)
	all := AppendChunk(l.block[used:used:cap(l.block)], event)
	if cap(all) == cap(l.block)-used {
		l.block = l.block[:used+len(all)]
	} else { // it was longer than it seemed, and has an array of its own; so would those like it that follow
		l.block = nil
	}
	return all[:len(all):len(all)]
}

// begin has what is appended next come after event number last. A gap may have been among what was before: nobody knows.
func (l *eventLog) begin(last uint64) {
	l.last, l.gap, l.lapsed = last, last, last
}

// add appends an event that has been given the number last. By another machine's clock it may have come before the event that it follows.
func (l *eventLog) add(e event) {
	if newest := l.newest(); newest != nil {
		e.at = max(e.at, newest.at)
	}
	if sse.IsGap(e.bytes()) {
		l.gap = l.last
	}
	if n := len(l.events); n == cap(l.events) { // append would double it
		l.events = append(make([]event, 0, n+max(4, n/fraction)), l.events...)
	}
	l.events = append(l.events, e)
	l.bytes += len(e.chunk)
}

// over reports whether the oldest event is over b's bounds.
func (l *eventLog) over(b Bounds, now moment) bool {
	return l.len() > 1 && (b.Events > 0 && l.len() > b.Events || b.Bytes > 0 && l.bytes > b.Bytes || b.Age > 0 && time.Duration(now-l.events[l.head].at) > b.Age)
}

// drop lets go of the oldest event and returns what it stood for.
func (l *eventLog) drop() *keyed {
	e := &l.events[l.head]
	k := e.keyed
	if l.gap > l.before() && sse.IsGap(e.bytes()) { // only then there is one
		l.lapsed = l.before() + 1
	}
	l.bytes -= len(e.chunk)
	*e = event{}
	l.head++
	return k
}

// compact moves the events to the front of their slice, when half of it is empty: rings are read more often than they turn.
func (l *eventLog) compact() {
	if l.head > len(l.events)/2 {
		n := copy(l.events, l.events[l.head:])
		clear(l.events[n:])
		l.events, l.head = l.events[:n], 0
	}
}
