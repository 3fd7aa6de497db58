package access

import (
	"errors"
	"sync/atomic"
)

// Stats count what a guard has found out, since the start.
type Stats struct {
	Admitted    atomic.Int64 // not counting those that were known
	Denied      atomic.Int64
	Unavailable atomic.Int64
	Questions   atomic.Int64 // asked of the application
	Fetches     atomic.Int64 // of keys
	Revoked     atomic.Int64 // clients that were cut: by an operator, or as the application has said
}

// count counts what a client was answered with. One that has gone is nobody.
func (s *Stats) count(err error) {
	var denied *Denied
	switch {
	case err == nil:
		s.Admitted.Add(1)
	case errors.As(err, &denied):
		s.Denied.Add(1)
	case errors.Is(err, ErrUnavailable):
		s.Unavailable.Add(1)
	}
}
