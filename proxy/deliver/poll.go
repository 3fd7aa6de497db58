// This file answers long polls: clients for which something on the way holds events back until the answer is complete. The rules:
//
//   - What a poll is told is what any client is told, in the same order, by the same cursor: only its answer ends once it has been told
//     something, or after pollTime. It has the same form, and the same ids.
//   - It has no retry hint, unless it is to stay away for a while: whoever polls comes back at once.
//   - Its answer is whole and its length is known, so that nothing on the way can wait for more. It is bounded: what does not fit is for the
//     next one.

package deliver

import (
	"cmp"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"time"

	"sidestream/translate/sse"
)

const (
	pollTime = 25 * time.Second // that a poll waits for events: less than the idle timeouts of proxies, 30 s and more
	pollMost = 256 << 10        // bytes of an answer, but for the last event
)

// pollParam in the query asks for a long poll. Its value is 1, or held for the first poll of a page that has found out that something on the way
// holds events back.
const pollParam = "poll"

// Polls reports whether r asks for a long poll, as only a GET can.
func Polls(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.Contains(r.URL.RawQuery, pollParam) && (r.URL.Query().Get(pollParam) == "1" || HeldBack(r))
}

// HeldBack reports whether r is the first poll of a page that has to poll.
func HeldBack(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.Contains(r.URL.RawQuery, pollParam) && r.URL.Query().Get(pollParam) == "held"
}

// newPoll is the writer of cl, whose answer is held until it is whole.
func (c *Clients) newPoll(w http.ResponseWriter, r *http.Request, cl Client) *client {
	cl.native, cl.Gzip = false, false // half an event is never left over; an answer that is whole is small
	return c.clientOf(holding(w, r), r, cl)
}

// holding is an output that holds the answer back until it is whole.
func holding(w http.ResponseWriter, r *http.Request) *output {
	return &output{w: w, flusher: http.NewResponseController(w), deadlines: r.ProtoMajor > 1 || runtime.GOOS != "linux", holds: true}
}

// poll answers a client whose answer is to be whole.
func (c *client) poll() (cut bool) {
	c.begin()
	defer c.quit()
	wait := time.NewTimer(cmp.Or(c.Route.Poll, pollTime))
	defer wait.Stop()
	draining, retiring := (<-chan struct{})(c.clients.draining), c.Retiring
	for !c.turn() && !c.out.told() {
		select {
		case <-c.wake:
		case <-c.ctx.Done():
			c.state.left()
			return false
		case <-draining:
			draining, retiring = nil, nil
			c.leaves(0, Drained)
		case <-retiring:
			retiring = nil
			_, why := release(c.Leaving)
			c.leaves(0, why)
		case <-wait.C:
			c.out.write([]byte(sse.Heartbeat)) // an answer without a byte looks like a fault
		}
	}
	if err := c.watched(c.out.answer); err != nil {
		c.state.disconnected(c.why(err))
		return true
	}
	if c.state.why == Left {
		c.state.disconnected(Polled)
	}
	return false
}

// told reports whether an answer that is held has something for its client.
func (o *output) told() bool { return len(o.held) > 0 }

// full reports whether an answer that is held takes no more.
func (o *output) full() bool { return o.holds && len(o.held) >= pollMost }

// answer writes what was held, as a whole.
func (o *output) answer() error {
	o.limit(stallTime)
	h := o.w.Header()
	setHeader(h)
	h.Set("Content-Length", strconv.Itoa(len(o.held)))
	o.w.WriteHeader(http.StatusOK)
	_, err := o.w.Write(o.held)
	return err
}
