//go:build linux && !portable

package deliver

import (
	"errors"
	"net/http"

	"golang.org/x/sys/unix"
)

// visit is what the handler sees of a client that has come past net/http. The only answer that it can get this way is an
// event stream; with everything else the handler stops where it is, and net/http has the request. It must not have
// counted or taken anything by then: see [Decline].
type visit struct {
	fd     int32
	size   int // of the request
	shard  *shard
	header http.Header
	taken  bool // it is a client
}

// errDeclined is what a handler that declines panics with, for want of another way out of any handler.
var errDeclined = errors.New("declined")

// Decline ends the handler if w belongs to a client that has come past net/http, which it will be asked for again with
// another w. A handler calls it before it counts, gives up or waits for something; writing does the same. undo gives back
// what the handler has taken until then.
func Decline(w http.ResponseWriter, undo ...func()) {
	if _, ok := w.(*visit); ok {
		for _, f := range undo {
			f()
		}
		panic(errDeclined)
	}
}

// ask has the handler answer, and returns whether the client was taken in.
func (v *visit) ask(handler http.Handler, r *http.Request) (taken bool) {
	defer func() {
		// A panic of the handler's own comes again in net/http, which logs it. One behind the hand-over is of this package.
		if p := recover(); p != nil && v.taken {
			panic(p)
		}
		taken = v.taken
	}()
	handler.ServeHTTP(v, r)
	return v.taken
}

// take takes the request out of the socket: it is answered now. The connection is gone if it fails.
func (v *visit) take() error {
	v.taken = true
	if n, errno := receive(v.fd, nil, v.size, unix.MSG_TRUNC); errno != 0 || n != v.size {
		unix.Close(int(v.fd))
		return unix.ECONNRESET
	}
	return nil
}

// Header returns what is set for the stream's head.
func (v *visit) Header() http.Header {
	if v.header == nil {
		v.header = http.Header{}
	}
	return v.header
}

// WriteHeader declines.
func (v *visit) WriteHeader(int) { panic(errDeclined) }

// Write declines.
func (v *visit) Write([]byte) (int, error) { panic(errDeclined) }
