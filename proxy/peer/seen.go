package peer

import (
	"sync"
	"time"
)

// seen is the nonces of requests that were served: each is remembered for as long as its time is accepted, and at most twice that. Only
// who has the secret can add one. The zero value has none. Safe for concurrent use.
type seen struct {
	mu     sync.Mutex
	newer  map[string]struct{}
	older  map[string]struct{}
	turned time.Time // when newer was begun
}

// window is for how long the time of one request can be accepted.
const window = 2 * skew

// first reports whether nonce comes for the first time.
func (s *seen) first(nonce string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if age := now.Sub(s.turned); age > window {
		s.older = s.newer
		if age > 2*window {
			s.older = nil
		}
		s.newer, s.turned = map[string]struct{}{}, now
	}
	_, newer := s.newer[nonce]
	_, older := s.older[nonce]
	if newer || older {
		return false
	}
	s.newer[nonce] = struct{}{}
	return true
}
