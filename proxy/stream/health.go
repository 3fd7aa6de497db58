package stream

import (
	"errors"
	"time"

	"sidestream/proxy/upstream"
	"sidestream/translate"
)

// States of a route's upstream.
const (
	Idle    = "idle"    // no stream
	Up      = "up"      // every stream is connected, or complete
	Partial = "partial" // some are
	Down    = "down"    // none is
)

// health is what is known of a route's upstream as a whole.
type health struct {
	State    string
	Since    time.Time
	Error    string // the last one; holds no secret
	ErrorAt  time.Time
	Failures int64
}

// Health is a snapshot of a route's streams.
type Health struct {
	State     string    // Idle, Up, Partial or Down
	Since     time.Time // when that began
	Error     string    // of the last failure; "" when there was none
	ErrorAt   time.Time
	Streams   int
	Connected int
	Failures  int64 // connections lost or failed so far
}

// Health returns how the route's upstream is.
func (s *Streams) Health() Health {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.health
	return Health{h.State, h.Since, h.Error, h.ErrorAt, len(s.byKey) + len(s.old), s.ups, h.Failures}
}

// mark notes whether st counts as up. mu is held.
func (s *Streams) mark(st *Stream, up bool) {
	switch {
	case up && !st.up:
		s.ups++
	case !up && st.up:
		s.ups--
	}
	st.up = up
	s.tell()
}

// report notes that the upstream of st has connected, or why it is not connected.
func (s *Streams) report(st *Stream, up bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, replaced := s.old[st]; !replaced && s.byKey[st.req.Key] != st {
		return // already removed
	}
	if up && s.MaxAge > 0 && !st.aging {
		st.aging = true
		st.age.set(s.MaxAge, func() { s.retire(st) })
	}
	if err != nil && !errors.Is(err, translate.ErrFinished) && !errors.Is(err, upstream.ErrRetired) {
		s.health.Error, s.health.ErrorAt = err.Error(), time.Now()
		s.health.Failures++
		st.failure, st.failed = s.health.Error, s.health.ErrorAt
	}
	s.mark(st, up)
}

// tell brings the state up to date. mu is held.
func (s *Streams) tell() {
	all, up := len(s.byKey)+len(s.old), s.ups
	state := Partial
	switch {
	case all == 0:
		state = Idle
	case up == all:
		state = Up
	case up == 0:
		state = Down
	}
	if state != s.health.State {
		s.health.State, s.health.Since = state, time.Now()
	}
}
