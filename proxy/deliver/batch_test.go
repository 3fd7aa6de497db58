//go:build linux && !portable

package deliver

import (
	"bytes"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"sidestream/proxy/stream"
	"sidestream/translate"
)

// TestBatchIsFewVectors: events that stand one after the other in the ring's blocks go out as one piece.
func TestBatchIsFewVectors(t *testing.T) {
	ring := stream.NewRing(stream.NewEpoch(time.Now()), stream.Bounds{}, new(stream.Stats), false)
	const events = 100
	for i := range events {
		ring.Append(say(payload(i % 10)))
	}
	var b vectored
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
	if n := len(b.vectors) - 1; n > 24 { // a block is a quarter of what was kept before it
		t.Errorf("%d vectors for %d bytes", n, len(whole))
	}
}

// TestBatchSnapshotIsNotLost: what stands in for the past is there once only, also for a socket that is full.
func TestBatchSnapshotIsNotLost(t *testing.T) {
	ring := stream.NewRing(stream.NewEpoch(time.Now()), stream.Bounds{Start: 1}, new(stream.Stats), false)
	for i := range 5 {
		ring.Append(translate.Message{Key: payload(i), Data: []byte(payload(i))})
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	for err == nil {
		_, err = unix.Write(pair[0], make([]byte, 100))
	}
	for _, pre := range []string{"", "pre"} {
		var b vectored
		b.load(ring, stream.Begin, formPlain)
		if len(b.events) != 1 {
			t.Fatalf("%d events", len(b.events))
		}
		b.prepend([]byte(pre))
		took, rest, err := b.write(outlet{fd: pair[0]})
		if took != 1 || err != nil || string(rest) != pre+string(b.events[0]) {
			t.Errorf("took %d, left %q, %v", took, rest, err)
		}
		ring.Append(say("next"))
		b.load(ring, b.from, formPlain) // what was there is said again
		b.prepend([]byte(pre))
		if took, rest, _ := b.write(outlet{fd: pair[0]}); took != 0 || string(rest) != pre {
			t.Errorf("of what goes on where it was: took %d, left %q", took, rest)
		}
	}
}
