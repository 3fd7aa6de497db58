package dialect

import (
	"context"
	"errors"
)

// note notes what was done with a frame, if somebody looks on.
func (s *scripted) note(got *Received, what string) {
	if s.script.Notes {
		got.Notes = append(got.Notes, what)
	}
}

// cut notes a program that ran out of time, once for a message: those after it had none left.
func (r *Received) cut(err error) {
	if errors.Is(err, context.DeadlineExceeded) && len(r.Failed) == 0 {
		r.Failed = append(r.Failed, err)
	}
}

// fail notes a program that failed; of those that ran out of time only the first.
func (r *Received) fail(err error) {
	if errors.Is(err, context.DeadlineExceeded) {
		r.cut(err)
		return
	}
	r.Failed = append(r.Failed, err)
}
