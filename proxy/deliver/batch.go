package deliver

import (
	"sync"

	"sidestream/proxy/stream"
)

// mostEvents is how many events a batch has at most: what one write(2) takes in pieces, IOV_MAX, but for what goes before
// them.
const mostEvents = 1023

// batch is what a ring has after a cursor, ready to be written to any number of clients that stand there.
type batch struct {
	ring       *stream.Ring // nil: nothing is loaded
	asked      uint64       // the cursor that it was read after
	from, next uint64
	missed     uint64
	end        stream.End
	more       bool // the ring has more after next
	unchunked  bool
	events     [][]byte
	size       int // bytes of events
}

// batches are those of clients on their way: a burst of them comes back for the same events.
var batches = sync.Pool{New: func() any { return new(batch) }}

// load reads ring after cursor, as chunks or not.
func (b *batch) load(ring *stream.Ring, cursor uint64, unchunked bool) {
	b.ring, b.asked, b.unchunked = ring, cursor, unchunked
	read := ring.Chunks
	if unchunked {
		read = ring.After
	}
	clear(b.events) // what the ring lets go of is not to live on here
	b.events, b.next, b.missed, b.end = read(b.events[:0], cursor)
	b.more = false
	b.keep(min(len(b.events), mostEvents))
	b.from = b.next - uint64(len(b.events))
	if last, _ := ring.Last(); !stream.Pending(b.next) && b.next < last {
		b.more = true
	}
	b.size = 0
	for _, e := range b.events {
		b.size += len(e)
	}
}

// keep leaves out all but the first n events.
func (b *batch) keep(n int) {
	if left := len(b.events) - n; left > 0 {
		b.events, b.next, b.end, b.more = b.events[:n], b.next-uint64(left), stream.End{}, true
	}
}

// trim leaves out the events after the one with which there are so many bytes.
func (b *batch) trim(most int) {
	size := 0
	for i, e := range b.events {
		if size += len(e); size >= most {
			b.keep(i + 1)
			b.size = size
			return
		}
	}
}

// tell puts into f what was read.
func (b *batch) tell(f *facts) {
	f.ring, f.from, f.to, f.missed, f.more, f.end = ringRead, b.from, b.next, b.missed, b.more, b.end
}

// forget makes b hold nothing: the ring has grown.
func (b *batch) forget() {
	clear(b.events)
	*b = batch{events: b.events[:0]}
}
