package stream

import (
	"crypto/sha256"
	"errors"
	"time"
)

// This file is the streams of a route whose settings have changed, or that is no more, while the sidecar runs. The rules:
//
//   - They take nobody any more, and send away those they have. Until these have left their sources go on, so that they miss nothing.
//   - An id of such a stream is none of its successor's, unless a history tells both what it means: then the successor takes the stream over
//     as soon as it has a client, as another replica would.
//   - What was sent to the upstream counts for the successor: a message is not sent twice because its key was used before.

// ErrReplaced means that these streams are others' from now on, who are to be asked.
var ErrReplaced = errors.New("the route has changed")

// lateTime is for those who have not left by the end of the window.
const lateTime = time.Second

// Replace takes all streams out of service: their clients are to come back over window, to whoever answers then. A little after that the
// streams have ended.
func (s *Streams) Replace(window time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.over {
		return
	}
	s.over = true
	for _, st := range s.byKey {
		if st.finished || st.clients == 0 { // no client has to be released
			s.remove(st)
			continue
		}
		s.release(st, Release{Window: window, Replaced: true}, window+lateTime)
	}
}

// Gone reports whether nothing is left of streams that were replaced.
func (s *Streams) Gone() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.over && len(s.byKey)+len(s.old) == 0
}

// Succeed makes s the streams that replace old, whose totals it continues. It is called before s is used.
func (s *Streams) Succeed(old *Streams) {
	old.mu.Lock()
	old.prior() // however often a route changes, what has ended is let go of
	old.mu.Unlock()
	s.before, s.Stats, s.sent = old, old.Stats, old.sent
	s.health.Failures = old.Health().Failures
}

// stopBefore stops the stream with this key of those that were replaced, where both keep a history: the new one goes on from there. mu is held.
func (s *Streams) stopBefore(key [sha256.Size]byte) {
	old := s.prior()
	if old == nil {
		return
	}
	old.mu.Lock()
	defer old.mu.Unlock()
	for st := range old.old {
		if st.req.Key == key && old.History != nil {
			st.stop()
		}
	}
	old.stopBefore(key)
}

// prior are the streams that s replaces and that have not ended; nil: there are none. Those between may have, where nobody has come to them. mu is
// held.
func (s *Streams) prior() *Streams {
	for s.before != nil {
		closed, before := s.before.replaces()
		if !closed {
			break
		}
		s.before = before
	}
	return s.before
}

// replaces reports whether s has ended, and what it has replaced.
func (s *Streams) replaces() (ended bool, before *Streams) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed, s.before
}
