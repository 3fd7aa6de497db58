// This file bounds what all clients together are sent of what was there before they came (SSE_MAX_REPLAY): when many return at once,
// those who are there are not to wait. The rules:
//
//   - A client that has not caught up yet asks for its turn before each batch. While the balance is positive it has it, whatever the size
//     of its batch, and the balance pays for what it took. Else it asks again later: nobody is queued, so that those who leave take
//     nobody's turn.
//   - How far those who ask again are spread follows how many have asked in vain a moment ago: there are a few hundred asking in a second,
//     whether a hundred wait or a hundred thousand.
//   - While it waits a client has its opening, its heartbeats and its release. Whoever has caught up is never held back.

package deliver

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

const (
	replayWindow = 100 * time.Millisecond // after which the spread is looked at
	replayBurst  = 20 * time.Millisecond  // is saved up at most: what is given at once those who are there wait for
	spreadLeast  = 10 * time.Millisecond
	spreadMost   = 8 * time.Second
	askingLeast  = 50  // in vain in a window: with fewer the spread is halved
	askingMost   = 200 // with more it is doubled
)

// replays is the balance. The zero value has no limit. Safe for concurrent use.
type replays struct {
	rate atomic.Int64 // bytes a second; 0: no limit

	mu      sync.Mutex // guards what follows
	balance int64      // bytes; less than 0 after a batch that was larger
	at      time.Time  // as of when
	window  time.Time  // when the one began in which...
	vain    int        // ...so many have asked in vain
	spread  time.Duration
}

// take takes a turn for so many bytes, or returns after how long to ask again.
func (r *replays) take(size int, now time.Time) (wait time.Duration) {
	rate := r.rate.Load()
	if rate == 0 {
		return 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refill(rate, now)
	if r.balance > 0 {
		r.balance -= int64(size)
		return 0
	}
	if r.vain++; r.vain > askingMost {
		r.spread, r.window, r.vain = min(2*r.spread, spreadMost), now, 0
	}
	owed := time.Duration(float64(1-r.balance) / float64(rate) * float64(time.Second))
	return owed + time.Millisecond + rand.N(r.spread)
}

// back gives back what was not used of a turn.
func (r *replays) back(size int) {
	if r.rate.Load() == 0 || size <= 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.balance += int64(size)
}

// refill brings the balance up to date: at most what replayBurst brings. mu is held.
func (r *replays) refill(rate int64, now time.Time) {
	most := max(rate*int64(replayBurst)/int64(time.Second), 1)
	if r.at.IsZero() {
		r.balance, r.window, r.spread = most, now, spreadLeast
	} else {
		r.balance = min(most, r.balance+int64(now.Sub(r.at).Seconds()*float64(rate)))
	}
	r.at = now
	if now.Sub(r.window) < replayWindow {
		return
	}
	if r.vain < askingLeast {
		r.spread = max(r.spread/2, spreadLeast)
	}
	r.window, r.vain = now, 0
}
