//go:build linux && !portable

package deliver

import (
	"bytes"
	"testing"
	"unsafe"

	"sidestream/proxy/stream"
)

// TestBatchIsFewVectors: events that stand one behind the other in the ring's blocks go out as one piece.
func TestBatchIsFewVectors(t *testing.T) {
	ring := stream.NewRing(stream.Bounds{}, new(stream.Stats), false)
	const events = 100
	for i := range events {
		ring.Append(say(payload(i % 10)))
	}
	var b batch
	b.load(ring, 0, 0)
	var pieces, whole []byte
	for _, v := range b.vectors[1:] {
		pieces = append(pieces, unsafe.Slice(v.Base, v.Len)...)
	}
	for _, e := range b.events {
		whole = append(whole, e...)
	}
	if len(b.events) != events || b.more || len(whole) != b.size || !bytes.Equal(pieces, whole) {
		t.Errorf("%d events of %d bytes: %d bytes in vectors", len(b.events), b.size, len(pieces))
	}
	if n := len(b.vectors) - 1; n > 10 {
		t.Errorf("%d vectors for %d bytes", n, len(whole))
	}
}
