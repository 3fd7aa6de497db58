package stream

import (
	"crypto/sha256"
	"net/http"
	"time"
)

// This file is what is done with one stream by its key, for callers whose clients name it, or want one of their own.

// Attach returns a seat in the stream of key, also one that has ended and is remembered; nil: there is none.
func (s *Streams) Attach(key [sha256.Size]byte) *Seat {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.byKey[key]
	if st == nil {
		return nil
	}
	st.clients++
	if !st.finished {
		st.linger.stop()
	}
	return &Seat{Stream: st, Decided: true}
}

// Stop ends the stream of key from here: its clients are refused with 410, and its upstream connection is closed.
func (s *Streams) Stop(key [sha256.Size]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.byKey[key]; st != nil && !st.finished {
		st.Ring.Close(End{Kind: Refused, Status: http.StatusGone})
		st.stop()
	}
}

// Drop forgets the stream of key; what it has upstream ends.
func (s *Streams) Drop(key [sha256.Size]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.byKey[key]; st != nil {
		s.remove(st)
	}
}

// Renew forgets the stream of key if it has ended, so that whoever comes next gets another one.
func (s *Streams) Renew(key [sha256.Size]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.byKey[key]; st != nil && st.Ring.Complete() {
		s.remove(st)
	}
}

// Over reports whether the stream of key has ended, and when it was opened; ok is false where there is none.
func (s *Streams) Over(key [sha256.Size]byte) (over bool, opened time.Time, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.byKey[key]
	if st == nil {
		return false, opened, false
	}
	_, end := st.Ring.Last()
	return end.Kind != Open, st.opened, true
}

// Held is how many encoded bytes the stream of key keeps; 0 where there is none.
func (s *Streams) Held(key [sha256.Size]byte) int {
	if ring := s.Ring(key); ring != nil {
		return ring.Held()
	}
	return 0
}
