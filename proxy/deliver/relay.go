package deliver

import (
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"
)

// Relay is an event stream that another replica gives to a client of this one, as it gives it to its own.
type Relay struct {
	Body    io.Reader     // the stream as it comes; io.EOF means that it is complete
	Stop    func()        // has Body fail; it may be called at any time, and more than once
	Silence time.Duration // Body is lost when nothing has come for so long
}

// Relay answers with an event stream of another replica's, whose other headers w has already. Its rest is over when either side has
// ended, and cuts the client unless the stream is complete, so that it comes back. While the sidecar drains the client is cut too: it is to
// come back to another one.
func (c *Clients) Relay(w http.ResponseWriter, r *http.Request, one Relay) Rest {
	if !c.enter() {
		one.Stop()
		return func() (cut bool) { return true } // before the head: it looks as if the connection had failed
	}
	out, end := newOutput(w, r), cursor{flags: ending(looksNative(r), r)}
	return func() (cut bool) {
		defer c.present.Done()
		defer one.Stop()
		over, watched := make(chan struct{}), make(chan struct{})
		go func() { defer close(watched); c.release(one.Stop, over) }() // ends with over
		complete := one.copy(out)
		close(over)
		<-watched
		return !complete && end.end() == doCut && out.abort()
	}
}

// release calls stop at a moment of the drain's window, unless it is over before.
func (c *Clients) release(stop func(), over <-chan struct{}) {
	select {
	case <-c.draining:
	case <-over:
		return
	}
	leave := time.NewTimer(rand.N(max(c.window, 1)))
	defer leave.Stop()
	select {
	case <-leave.C:
		stop()
	case <-over:
	}
}

// relayed are the buffers of relays: their size bounds what is written at once, not what an event may have.
var relayed = sync.Pool{New: func() any { return new([4 << 10]byte) }}

// copy moves what comes, as it comes. It reports whether the stream is complete.
func (one Relay) copy(out *output) (complete bool) {
	buf := relayed.Get().(*[4 << 10]byte)
	defer relayed.Put(buf)
	silent := time.AfterFunc(one.Silence, one.Stop)
	defer silent.Stop()
	for {
		n, err := one.Body.Read(buf[:])
		silent.Stop() // a client that takes nothing is no silence of the other replica
		if n > 0 {
			out.limit(stallTime)
			if out.write(buf[:n]) != nil {
				return false
			}
		}
		if err != nil {
			return err == io.EOF
		}
		silent.Reset(one.Silence)
	}
}
