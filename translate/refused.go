package translate

import (
	"errors"
	"fmt"
	"time"
)

// Refused says that asking again would be pointless: wrong credentials, a wrong address, the legacy service's own decision.
type Refused struct {
	Status int    // the HTTP status for the client, 400 to 499
	Reason string // for logs; holds no secret
}

func (e *Refused) Error() string {
	if e.Reason == fmt.Sprintf("answered %d", e.Status) { // which adds nothing
		return fmt.Sprintf("upstream refused (%d)", e.Status)
	}
	return fmt.Sprintf("upstream refused (%d): %s", e.Status, e.Reason)
}

// Ruled is a refusal that the route's own settings call one, so that no time can change it: ! of HELLO, CLOSE, DIAL, STATUS.
type Ruled struct{ *Refused }

// Unwrap returns the refusal.
func (e Ruled) Unwrap() error { return e.Refused }

// ErrFinished says that the upstream has said all it will say.
var ErrFinished = errors.New("upstream finished")

// Later says that connecting again makes no sense before a time.
type Later struct {
	After time.Duration
	Err   error
}

func (e *Later) Error() string { return e.Err.Error() }

// Unwrap returns the reason.
func (e *Later) Unwrap() error { return e.Err }
