// This file is the time that programs may take over one message.

package upstream

import (
	"context"
	"sync"
	"time"
)

// moment is a context that is over when its parent is, or at a time. It is looked at far more often than it is waited for, thousands of times a second on a busy
// feed, and a timer costs more than what most programs do: so it has one only while somebody waits for it.
type moment struct {
	context.Context // the parent
	until           time.Time

	mu     sync.Mutex // guards what follows
	waited context.Context
	stop   context.CancelFunc
	over   bool  // released
	err    error // why it is over, once that was asked
}

// newMoment is over after d. It is to be released.
func newMoment(parent context.Context, d time.Duration) *moment {
	m := &moment{Context: parent, until: time.Now().Add(d)}
	if before, ok := parent.Deadline(); ok && before.Before(m.until) {
		m.until = before
	}
	return m
}

// Deadline is context.Context's.
func (m *moment) Deadline() (time.Time, bool) { return m.until, true }

// Err is context.Context's.
func (m *moment) Err() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.err != nil: // which it stays
	case m.waited != nil:
		m.err = m.waited.Err()
	case m.Context.Err() != nil:
		m.err = m.Context.Err()
	case !time.Now().Before(m.until):
		m.err = context.DeadlineExceeded
	case m.over:
		m.err = context.Canceled
	}
	return m.err
}

// Done is context.Context's. From the first call on there is a timer.
func (m *moment) Done() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.waited == nil {
		m.waited, m.stop = context.WithDeadline(m.Context, m.until)
		if m.over {
			m.stop()
		}
	}
	return m.waited.Done()
}

// release ends it. Of nil there is nothing to end.
func (m *moment) release() {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.over = true; m.stop != nil {
		m.stop()
	}
}
