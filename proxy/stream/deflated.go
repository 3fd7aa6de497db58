package stream

import (
	"time"

	"sidestream/proxy/deflate"
)

// This file is what clients get of a ring that take gzip. The rules:
//
//   - While there are any, each new event is compressed once, in a run that refers back to the events before it ([deflate.Run]). Who has had all of the run gets
//     that piece of it.
//   - Whoever has not - a newcomer, one that is behind, or that was told something of its own, such as a heartbeat - gets events as they are, for its writer to
//     compress alone, until a run begins. A run begins when someone waits for it and the one before has come so far that little is lost by that.
//   - A large event is in no run: writers compress it alone, while others read the ring.
//   - Pieces are kept for the newest events only, without a gap: whoever is further behind gets events as they are.

// runs bounds what all rings' runs take: 64 × 0.8 MiB.
var runs = deflate.Encoders{Most: 64, Idle: runSilence}

const (
	runSize     = 32 << 10        // bytes of a run until a next one may begin
	runSilence  = 5 * time.Second // without an event, after which a next one begins: most clients will have had a heartbeat
	runEvent    = 128 << 10       // bytes of an event that is no part of a run: whoever reads the ring waits while it is compressed
	piecesBytes = maxBatch        // that are kept
)

// deflated is the newest events of a ring as pieces of runs. Its ring's mu guards it.
type deflated struct {
	readers int
	waits   bool // one of them is not in the run
	run     deflate.Run
	pieces  []piece // oldest first, from head on: of the events up to last
	head    int
	last    uint64
	bytes   int
	at      time.Time // when the newest came
	blocks
}

// piece is one event in its run.
type piece struct {
	chunk  []byte
	begins bool // the run begins with it
	part   deflate.Part
}

// body is the piece without its chunk.
func (p *piece) body() []byte { return inChunk(p.chunk) }

// Deflates counts n more clients that take gzip, or fewer.
func (r *Ring) Deflates(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.deflated == nil {
		r.deflated = &deflated{run: deflate.Run{Encoders: &runs}}
	}
	if r.deflated.readers += n; r.deflated.readers == 0 {
		r.deflated.run.End()
		r.deflated = nil
	}
}

// add compresses the event numbered number, as of now: its own time may be of another machine's clock.
func (d *deflated) add(number uint64, e *event, now time.Time) {
	if number != d.last+1 || len(d.pieces) == 0 {
		d.forget()
	}
	due := d.waits && d.run.Size >= runSize || now.Sub(d.at) >= runSilence
	begins := len(d.pieces) == 0 || due
	d.last, d.at = number, now
	if len(e.chunk) > runEvent || begins && !d.begin(now) {
		d.forget()
		return
	}
	ok := true
	chunk := d.encode(d.bytes, len(e.chunk), func(dst []byte) []byte {
		dst, ok = d.run.Append(dst, e.bytes(), d.readers, now)
		return dst
	})
	if !ok {
		d.forget()
		return
	}
	d.pieces = append(d.pieces, piece{chunk, begins, deflate.SumOf(e.bytes())})
	d.bytes += len(chunk)
	for d.bytes > piecesBytes && len(d.pieces)-d.head > 1 {
		d.bytes -= len(d.pieces[d.head].chunk)
		d.pieces[d.head] = piece{}
		d.head++
	}
	if d.head > len(d.pieces)/2 {
		n := copy(d.pieces, d.pieces[d.head:])
		clear(d.pieces[n:])
		d.pieces, d.head = d.pieces[:n], 0
	}
}

// begin begins a run, or returns false: no encoder is to be had.
func (d *deflated) begin(now time.Time) bool {
	d.waits = false
	return d.run.Begin(d.readers, now)
}

// forget lets go of the pieces: what comes next does not go on where they end.
func (d *deflated) forget() {
	clear(d.pieces)
	d.pieces, d.head, d.bytes = d.pieces[:0], 0, 0
}

// Deflated is what [Ring.Deflated] reads.
type Deflated struct {
	Events [][]byte       // the first Alone of them as they are, the others as pieces of runs
	Alone  int            // how many are to be compressed alone
	Sums   []deflate.Part // of the others
	Next   uint64         // as of After, as are those that follow
	Missed uint64
	End    End
}

// Deflated is After for clients that take gzip. Where in is set they have had all of the run that the event at cursor is of. chunks: pieces come as chunks. What is
// in d is used again.
func (r *Ring) Deflated(d *Deflated, cursor uint64, in, chunks bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	d.Events, d.Next, d.Missed, d.End = r.read(d.Events[:0], cursor, (*event).bytes)
	d.Sums, d.Alone = d.Sums[:0], len(d.Events)
	if r.deflated == nil {
		return
	}
	if from := d.Next - uint64(len(d.Events)); from == cursor || len(d.Events) > 1 { // else it may be one event that stands in for more
		r.deflated.join(d, from, in && from == cursor, chunks)
	}
	if d.Alone == len(d.Events) && (d.Alone > 0 || !in) {
		r.deflated.waits = true
	}
}

// join puts the pieces in the place of those events after from that a client can be given them of.
func (d *deflated) join(to *Deflated, from uint64, in, chunks bool) {
	before := d.last - uint64(len(d.pieces)-d.head) // the number of the event before the first piece
	for i := range to.Events {
		number := from + uint64(i) + 1
		if number <= before || number > d.last {
			in = false
			continue
		}
		p := &d.pieces[d.head+int(number-before-1)]
		if in = in || p.begins; !in {
			continue
		}
		to.Alone = min(to.Alone, i)
		to.Sums = append(to.Sums, p.part)
		if to.Events[i] = p.chunk; !chunks {
			to.Events[i] = p.body()
		}
	}
}
