//go:build !unix

package history

import "errors"

// take fails: what is locked by flock on Unix would not be locked here.
func (f *Folder) take() error {
	return errors.New("a folder cannot be locked on this system; set SSE_HISTORY=memory")
}
