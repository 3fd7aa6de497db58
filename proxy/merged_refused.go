// This file is why a client does not have a part of what it merges.

package proxy

import (
	"errors"
	"fmt"
	"net/http"

	"sidestream/proxy/access"
	"sidestream/proxy/stream"
	"sidestream/proxy/upstream"
	"sidestream/translate"
)

// errNoPart means that none of a merged route's parts is there for a client.
type errNoPart struct {
	status int  // of one; 503 where there was only no room for any of them
	soon   bool // see set
}

func (e *errNoPart) Error() string {
	return fmt.Sprintf("each route that this one merges has refused this request (%d)", e.status)
}

// partStatus is the status that a client would have got from a part by itself; 0: its events.
func partStatus(err error) int {
	var denied *access.Denied
	var unclaimed *upstream.Unclaimed
	var bad *upstream.BadRequest
	var refused *translate.Refused
	var none *errNoPart
	switch {
	case err == nil:
		return 0
	case errors.As(err, &denied):
		return denied.Status
	case errors.As(err, &unclaimed):
		return http.StatusForbidden
	case errors.As(err, &bad):
		return http.StatusBadRequest
	case errors.As(err, &refused):
		return refused.Status
	case errors.As(err, &none):
		return none.status
	}
	return http.StatusServiceUnavailable // which alone would be stream.busy
}

// rejectionOf is for what a part is counted as rejected.
func rejectionOf(status int, err error) int {
	var refused *translate.Refused
	switch {
	case errors.As(err, &refused):
		return RefusedUp
	case errors.Is(err, stream.ErrBusy):
		return FullStreams
	case errors.Is(err, stream.ErrUnread):
		return Unread
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return Unauthorized
	case status == http.StatusServiceUnavailable:
		return Unsure
	}
	return BadRequest
}
