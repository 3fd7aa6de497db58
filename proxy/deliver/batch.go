package deliver

import (
	"sync"

	"sidestream/proxy/deflate"
	"sidestream/proxy/stream"
)

// mostEvents is how many events a batch has at most: what one write(2) takes in pieces, IOV_MAX, but for what goes before
// them.
const mostEvents = 1023

// aloneMost is of how many bytes a batch is that is compressed for those who stand at one place, but for the last event: whoever does not take it has it waiting, and
// that is shared with no one.
const aloneMost = 32 << 10

// batch is what a ring has after a cursor, ready to be written to any number of clients that stand there.
type batch struct {
	ring       *stream.Ring // nil: nothing is loaded
	asked      uint64       // the cursor that it was read after
	from, next uint64
	missed     uint64
	end        stream.End
	more       bool // the ring has more after next
	form       form
	events     [][]byte
	size       int // bytes of events
	alone      int // so many of them are still to be compressed: see zip
	saved      int // bytes that that has saved
	deflated   stream.Deflated
	sums       []deflate.Part // of events, where they are deflated
	sum        deflate.Part   // of all of them
	joins      uint64         // who has had so many of the events, and nothing after them, is in a run
}

// form is how events are written: as chunks, unless it says otherwise.
type form uint8

const (
	formPlain    form = 1 << iota // as they are: without chunks
	formDeflated                  // compressed
	formInRun                     // the same, for those who are in a run
	forms
)

// form is how the client at c is written to.
func (c *cursor) form() (f form) {
	if c.flags&isUnchunked != 0 {
		f |= formPlain
	}
	if c.traits&isDeflated != 0 {
		f |= formDeflated
		if c.traits&isInRun != 0 {
			f |= formInRun
		}
	}
	return f
}

// batches are those of clients on their way: a burst of them comes back for the same events.
var batches = sync.Pool{New: func() any { return new(batch) }}

// load reads ring after cursor, in a form.
func (b *batch) load(ring *stream.Ring, cursor uint64, as form) {
	b.ring, b.asked, b.form = ring, cursor, as
	clear(b.events) // what the ring lets go of is not to live on here
	switch {
	case as&formDeflated != 0:
		b.deflated.Events = b.events
		ring.Deflated(&b.deflated, cursor, as&formInRun != 0, as&formPlain == 0)
		b.events, b.next, b.missed, b.end = b.deflated.Events, b.deflated.Next, b.deflated.Missed, b.deflated.End
	case as&formPlain != 0:
		b.events, b.next, b.missed, b.end = ring.After(b.events[:0], cursor)
	default:
		b.events, b.next, b.missed, b.end = ring.Chunks(b.events[:0], cursor)
	}
	b.more, b.alone, b.saved = false, 0, 0
	b.keep(min(len(b.events), mostEvents))
	b.from = b.next - uint64(len(b.events))
	if last, _ := ring.Last(); !stream.Pending(b.next) && b.next < last {
		b.more = true
	}
	if as&formDeflated != 0 {
		b.sort()
	}
	b.sums = b.sums[:0]
	b.measure()
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

// sort finds what is no piece of a run. Where b leaps, only what it leaps by is left: that is taken as a whole.
func (b *batch) sort() {
	if b.asked != b.from && len(b.events) > 1 {
		b.keep(1)
	}
	b.alone = min(b.deflated.Alone, len(b.events))
	size := 0
	for i, e := range b.events[:b.alone] {
		if size += len(e); size >= aloneMost {
			b.keep(i + 1)
			b.alone = i + 1
			break
		}
	}
	b.joins = uint64(b.alone) + 1
}

// zip compresses what is no piece of a run, before b is written: whoever has to wait for its turn has it read in vain. It becomes one block, in the place of the last
// of those events; the others are empty: whoever has a part of it waiting is taken to have them all.
func (b *batch) zip() (changed bool) {
	alone := b.alone
	if b.form&formDeflated == 0 || alone == 0 && len(b.sums) == len(b.events) {
		return false
	}
	b.alone, b.sums = 0, b.sums[:0]
	for _, e := range b.events[:alone] {
		b.sums = append(b.sums, deflate.SumOf(e))
	}
	b.sums = append(b.sums, b.deflated.Sums[:len(b.events)-alone]...)
	b.sum = deflate.Part{}
	for _, s := range b.sums {
		b.sum = b.sum.Then(s)
	}
	if alone == 0 {
		return false
	}
	block := deflate.AppendAlone(nil, b.events[:alone]...)
	if b.form&formPlain == 0 {
		block = chunked(nil, block)
	}
	clear(b.events[:alone])
	b.events[alone-1] = block
	plain := b.size
	b.measure()
	b.saved = max(plain-b.size, 0)
	return true
}

// measure counts the bytes of the events.
func (b *batch) measure() {
	b.size = 0
	for _, e := range b.events {
		b.size += len(e)
	}
}

// gave notes with the client at c that it has got n of the events. s is what its answer has had.
func (b *batch) gave(c *cursor, n uint64, s *deflate.Sum) {
	if b.form&formDeflated == 0 || n == 0 {
		return
	}
	if c.traits &^= isInRun; n >= b.joins {
		c.traits |= isInRun
	}
	if n == uint64(len(b.events)) {
		s.Add(b.sum)
		return
	}
	for _, part := range b.sums[:n] {
		s.Add(part)
	}
}

// tell puts into f what was read.
func (b *batch) tell(f *facts) {
	f.ring, f.from, f.to, f.missed, f.more, f.end = ringRead, b.from, b.next, b.missed, b.more, b.end
}

// forget makes b hold nothing: the ring has grown.
func (b *batch) forget() {
	if b.ring == nil {
		return
	}
	clear(b.events)
	*b = batch{events: b.events[:0], sums: b.sums[:0], deflated: stream.Deflated{Sums: b.deflated.Sums[:0]}}
}
