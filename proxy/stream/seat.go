package stream

import (
	"context"
	"sync"
)

// Seat is one client's place in a stream.
type Seat struct {
	*Stream
	Opened  bool // this client's request opened it
	Decided bool // the upstream has connected, failed or refused; false: it had not in the time that a client waits
	leave   sync.Once
}

// Start is the cursor of a client without an id: its beginning for the one that opened it, START for all others.
// What was in a list before the stream began is no exception for anyone.
func (s *Seat) Start() uint64 {
	switch {
	case !s.Opened || s.lists:
		return Begin
	case s.kept != nil && s.streams.Bounds.Start == 0: // what was there before is no news
		return s.restored.Load()
	case s.kept != nil && s.restored.Load() > 0:
		return Begin
	}
	return 0
}

// Leave gives the seat up; further calls do nothing.
func (s *Seat) Leave() { s.leave.Do(s.Stream.Leave) }

// Ended is closed when the stream's goroutine is through, and its upstream connection with it.
func (s *Seat) Ended() <-chan struct{} { return s.done.passed() }

// Loaded returns once what is known of the stream from before is in its ring, or with ctx's error.
func (s *Seat) Loaded(ctx context.Context) error {
	select {
	case <-s.loaded.passed():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// hold returns when the stream needs to be opened again, which for one that has reached its age is at once.
func (s *Seat) hold(ctx context.Context) (aged bool) {
	select {
	case <-ctx.Done():
	case <-s.done.passed():
	case <-s.retiring:
		return true
	}
	return false
}
