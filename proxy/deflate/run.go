package deflate

import (
	"bytes"
	"compress/flate"
	"sync"
	"time"
)

// level is that of runs: what a run comes to is compressed once for all who read it. Below 7 compress/flate of Go 1.27 forgets what it has had at each flush of less than
// 128 bytes (findings/go-flate-small-flush.sh).
const level = 7

// Encoders bounds how many runs go on at once: what each remembers of its past takes 0.8 MiB. The runs with the most readers have them. Safe
// for concurrent use.
type Encoders struct {
	Most int           // at once
	Idle time.Duration // whoever has not used one for so long may lose it to anyone

	mu   sync.Mutex // guards what follows, and who owns an encoder
	lent []*encoder
	free []*encoder
}

// freeMost is how many encoders are kept that nobody has: streams come and go.
const freeMost = 2

// encoder is one that a run has, or nobody.
type encoder struct {
	mu      sync.Mutex // held while it is used, and while its owner changes
	owner   *Run
	readers int
	used    time.Time
	w       *flate.Writer
	out     bytes.Buffer
}

// Run is a compression that refers back to what it has had before. The zero value has begun nothing. One goroutine at a time uses it.
type Run struct {
	Encoders *Encoders
	Size     int // bytes that it has had

	own *encoder
}

// Append appends the blocks that p comes to, for so many readers. ok is false where the run has lost its encoder, or has never begun: dst is as it was.
func (r *Run) Append(dst, p []byte, readers int, now time.Time) (all []byte, ok bool) {
	e := r.own
	if e == nil {
		return dst, false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.owner != r {
		r.own = nil
		return dst, false
	}
	e.used, e.readers = now, readers
	e.out.Reset()
	e.w.Write(p) // to memory, which does not fail
	e.w.Flush()
	r.Size += len(p)
	dst = append(dst, e.out.Bytes()...)
	letGo(&e.out)
	return dst, true
}

// Begin begins anew, for so many readers; false where no encoder is to be had.
func (r *Run) Begin(readers int, now time.Time) bool {
	r.Size = 0
	if r.own == nil {
		r.own = r.Encoders.take(r, readers, now)
	}
	if r.own == nil {
		return false
	}
	e := r.own
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.owner != r {
		r.own = nil
		return false
	}
	e.w.Reset(&e.out)
	return true
}

// End gives the encoder back.
func (r *Run) End() {
	if r.own != nil {
		r.Encoders.back(r, r.own)
		r.own = nil
	}
}

// take finds r an encoder; nil: there is none.
func (s *Encoders) take(r *Run, readers int, now time.Time) *encoder {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.free); n > 0 {
		e := s.free[n-1]
		s.free = s.free[:n-1]
		e.mu.Lock() // whoever has lost it may still look
		e.owner, e.readers, e.used = r, readers, now
		e.mu.Unlock()
		s.lent = append(s.lent, e)
		return e
	}
	if len(s.lent) < s.Most {
		e := &encoder{owner: r, readers: readers, used: now}
		e.w, _ = flate.NewWriter(&e.out, level) // which is one that there is
		s.lent = append(s.lent, e)
		return e
	}
	for _, e := range s.lent {
		if e.pass(r, readers, s.Idle, now) {
			return e
		}
	}
	return nil
}

// pass gives e to r, where its owner needs it less: it has not used it for a while, or has not half as many readers. One that is being used stays where it is.
func (e *encoder) pass(r *Run, readers int, idle time.Duration, now time.Time) bool {
	if !e.mu.TryLock() {
		return false
	}
	defer e.mu.Unlock()
	if now.Sub(e.used) < idle && readers < 2*e.readers+1 {
		return false
	}
	e.owner, e.readers, e.used = r, readers, now
	return true
}

// back takes e back, if it is r's still.
func (s *Encoders) back(r *Run, e *encoder) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.owner != r {
		return
	}
	e.owner = nil
	for i, other := range s.lent {
		if other == e {
			last := len(s.lent) - 1
			s.lent[i], s.lent[last] = s.lent[last], nil
			s.lent = s.lent[:last]
			break
		}
	}
	if len(s.free) < freeMost {
		s.free = append(s.free, e)
	}
}
