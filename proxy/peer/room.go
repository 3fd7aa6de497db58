package peer

import (
	"bytes"
	"errors"
	"io"
	"sync/atomic"
)

const (
	maxAsked   = 4096     // requests that wait for the head of an answer at once
	leastRoom  = 64 << 20 // bytes of all bodies that are held at once, where no single one is larger
	spareRoom  = 4        // bodies of the largest size that there is room for
	maxPreface = 1 << 10  // bytes of a question before its head
)

// ErrFull means that there is no room for a request or its body now.
var ErrFull = errors.New("too many requests for other replicas at once")

// ErrLarge means that a body is over its bound.
var ErrLarge = errors.New("the body is too large")

// room is a bound on bytes that are held at once. Safe for concurrent use.
type room struct {
	max  int64
	used atomic.Int64
}

func (r *room) take(n int) bool {
	if r.used.Add(int64(n)) > r.max {
		r.used.Add(-int64(n))
		return false
	}
	return true
}

func (r *room) give(n int) { r.used.Add(-int64(n)) }

// held is bytes that have their room. It must be given back.
type held struct {
	bytes.Buffer
	room  *room
	taken int
}

// Write takes the room for b, or fails with ErrFull.
func (h *held) Write(b []byte) (int, error) {
	if !h.room.take(len(b)) {
		return 0, ErrFull
	}
	h.taken += len(b)
	return h.Buffer.Write(b)
}

func (h *held) give() {
	h.room.give(h.taken)
	h.taken = 0
}

// plainReader hides a reader's WriteTo, so that what is copied from it comes in pieces.
type plainReader struct{ io.Reader }

// Hold reads all of body, most bytes of it, and holds it until give is called. What is over most is not read, and cut is true then. The
// error is [ErrFull] or the reader's.
func (p *Peers) Hold(body io.Reader, most int64) (data []byte, cut bool, give func(), err error) {
	h := &held{room: &p.room}
	if _, err = io.Copy(plainWriter{h}, plainReader{io.LimitReader(body, most)}); err != nil {
		h.give()
		return nil, false, nil, err
	}
	if int64(h.Len()) == most {
		n, _ := io.ReadFull(body, make([]byte, 1))
		cut = n > 0
	}
	return h.Bytes(), cut, h.give, nil
}

// plainWriter hides a writer's ReadFrom.
type plainWriter struct{ io.Writer }
