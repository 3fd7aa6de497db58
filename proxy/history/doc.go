// Package history keeps the newest events of streams so that they outlive the process. It knows nothing of rings, clients and upstreams:
// a stream gives it events that are encoded, and what its source needs to go on, and gets both back after a restart.
//
// [Folder] is the one for a single replica: a folder that one process has at a time.
package history

import (
	"errors"
	"time"
)

// Position is the number of an event in its stream, its seq, which begins at 1 in each epoch.
type Position struct{ Epoch, Seq uint64 }

// Before reports whether p comes before q in their stream.
func (p Position) Before(q Position) bool {
	return p.Epoch < q.Epoch || p.Epoch == q.Epoch && p.Seq < q.Seq
}

// Event is one event of a stream.
type Event struct {
	Position
	At   time.Time // when it was appended, to the millisecond
	ID   string    // the upstream's own; "" none
	Key  string    // what a newer event replaces it by; "" none
	Data []byte    // as text/event-stream
}

// Batch is what a stream appends at once: all of it is kept, or none.
type Batch struct {
	Epoch  uint64
	Events []Event
	State  []byte // what the source needs to go on after the events; nil: as before
	Past   []byte // what all events so far come to, for streams that say so; nil: as before
	Kept   int    // how many of the newest events the stream holds once these are appended
}

// Holder tells which events a stream still holds. It is asked while a folder is tidied up.
type Holder interface {
	Holds(p Position, key string) bool
}

// Loaded is what is known of a stream that was there before. The zero value is a stream that nothing is known of.
type Loaded struct {
	Epoch  uint64 // the newest that was used; 0: none
	Events []Event
	Older  int // so many of Events, the first, are only there as the newest of their key; the others are all that came, one after the other
	State  []byte
	Past   []byte
	// Damaged: events that clients may have been given are missing, and it is not known where.
	Damaged bool
}

// ErrClosed is returned by what is used after its end.
var ErrClosed = errors.New("the history is closed")
