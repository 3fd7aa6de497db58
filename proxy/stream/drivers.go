package stream

import "sync/atomic"

// spareDrivers is how many goroutines of a route stay for the next stream that wakes: their stacks are as deep as that needs, which a new one's become only
// by being copied several times.
const spareDrivers = 4

// drivers are the goroutines that run streams, each one stream at a time.
type drivers struct {
	ready chan *Stream // to one that stays
	spare atomic.Int32
}

// drive runs st on a goroutine, until it is asleep or through: that ends with st.stop, which remove calls, or with s.end.
func (s *Streams) drive(st *Stream) {
	select {
	case s.ready <- st:
	default:
		s.run.Go(func() { // ends with what it runs, or is one of a few that stay until s.end
			for st != nil {
				s.turn(st)
				st = nil // who stays holds nothing of a stream that may be through
				st = s.stay()
			}
		})
	}
}

// stay waits for a stream to be run; nil: none will be.
func (s *Streams) stay() *Stream {
	defer s.spare.Add(-1)
	if s.spare.Add(1) > spareDrivers {
		return nil
	}
	select {
	case st := <-s.ready:
		return st
	case <-s.alive.Done():
		return nil
	}
}

// turn runs st.
func (s *Streams) turn(st *Stream) {
	if st.run() {
		return
	}
	defer s.run.Done()
	s.mu.Lock()
	defer s.mu.Unlock()
	st.through = true
	s.ended(st)
}
