//go:build linux && !portable

// This file is how one batch serves many clients, which the shards and HTTP/2 do.

package deliver

import "sidestream/proxy/stream"

// fits reports whether b is what a client of ring that stands at cursor needs. It is only for clients that stand where it was
// read from: what a new client gets may be a piece that stands in for the past, which is not for clients that have that.
func (b *batch) fits(ring *stream.Ring, cursor uint64, as form) bool {
	return b.ring == ring && b.missed == 0 && b.asked == cursor && b.form == as && !stream.Pending(b.next)
}

// bytes is the size of the first so many events.
func (b *batch) bytes(events uint64) int {
	if events == uint64(len(b.events)) {
		return b.size
	}
	size := 0
	for _, e := range b.events[:events] {
		size += len(e)
	}
	return size
}

// leaps reports whether b does not go on at the place that it was read after. Its first event may be a piece that stands in
// for the past, which a client that is taken to stand at b.from would never get.
func (b *batch) leaps() bool { return b.asked != b.from && len(b.events) > 0 }

// following is p with e after it.
func following(p, e []byte) []byte {
	if len(p) == 0 {
		return e
	}
	return append(p[:len(p):len(p)], e...)
}
