package peer

import (
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

// room is a bound on bytes that are held at once. Safe for concurrent use.
type room struct {
	max  atomic.Int64
	used atomic.Int64
}

func (r *room) take(n int) bool {
	if r.used.Add(int64(n)) > r.max.Load() {
		r.used.Add(-int64(n))
		return false
	}
	return true
}

func (r *room) give(n int) { r.used.Add(-int64(n)) }

// counted is a body whose bytes take their room as they are read.
type counted struct {
	io.ReadCloser
	room  *room
	taken int
}

// Read fails with ErrFull when there is no room for what it has read.
func (c *counted) Read(b []byte) (int, error) {
	n, err := c.ReadCloser.Read(b)
	if !c.room.take(n) {
		return 0, ErrFull
	}
	c.taken += n
	return n, err
}

// Counted returns a body that takes room as it is read, until give is called. Reading fails with [ErrFull] when there is none.
func (p *Peers) Counted(body io.ReadCloser) (b io.ReadCloser, give func()) {
	c := &counted{ReadCloser: body, room: &p.room}
	return c, func() { p.room.give(c.taken) }
}

// Hold reads body, most bytes of it, and holds it until give is called. cut reports whether there is more. The error is [ErrFull] or the
// reader's.
func (p *Peers) Hold(body io.Reader, most int64) (data []byte, cut bool, give func(), err error) {
	c, give := p.Counted(io.NopCloser(body))
	if data, err = io.ReadAll(io.LimitReader(c, most+1)); err != nil {
		give()
		return nil, false, nil, err
	}
	if int64(len(data)) > most {
		return data[:most], true, give, nil
	}
	return data, false, give, nil
}
