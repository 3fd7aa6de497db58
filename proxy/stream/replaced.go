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
	s.before, s.Stats = old, old.Stats
	s.health.Failures = old.Health().Failures
}

// sentFor is what is remembered of messages to the upstream of the stream that one with this key replaces. mu is held.
func (s *Streams) sentFor(key [sha256.Size]byte) *keys {
	for old := range s.old {
		if old.req.Key == key {
			return old.keys
		}
	}
	if s.before != nil {
		return s.before.handOver(key)
	}
	return new(keys)
}

// handOver is sentFor, of streams that were replaced. Where a history is kept the one with this key stops: the new one goes on from there.
func (s *Streams) handOver(key [sha256.Size]byte) *keys {
	s.mu.Lock()
	defer s.mu.Unlock()
	for st := range s.old {
		if st.req.Key == key && s.History != nil {
			st.cancel()
		}
	}
	return s.sentFor(key)
}
