package translate

import (
	"errors"
	"fmt"
	"time"
)

// Refused means that asking again would be pointless: wrong credentials, a wrong address, the legacy service's own decision.
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

// Ruled is a refusal by the route's own settings, which waiting cannot change: ! of HELLO, CLOSE, DIAL, STATUS.
type Ruled struct{ *Refused }

// Unwrap returns the refusal.
func (e Ruled) Unwrap() error { return e.Refused }

// ErrFinished means that the upstream has nothing more to send.
var ErrFinished = errors.New("upstream finished")

// Later means that connecting again makes no sense before some time has passed.
type Later struct {
	After time.Duration
	Err   error
}

func (e *Later) Error() string { return e.Err.Error() }

// Unwrap returns the reason.
func (e *Later) Unwrap() error { return e.Err }
