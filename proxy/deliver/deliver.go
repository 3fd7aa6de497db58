package deliver

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"sidestream/proxy/access"
	"sidestream/proxy/deliver/h2"
	"sidestream/proxy/stream"
	"sidestream/translate/sse"
)

const (
	stallTime = h2.StallTime           // a peer that takes nothing for so long is cut
	firstBeat = time.Second            // a client that asked for heartbeats as events gets the first one within
	moment    = 100 * time.Millisecond // between the last bytes and the abort
	queueTime = time.Second            // how long a reset waits for the kernel to send what it holds
)

// Pacing is how the clients of one route are written to.
type Pacing struct {
	Heartbeat time.Duration // sent when nothing else was; 0 none
	Coalesce  time.Duration // a client is written to no more often than this; 0: at once
	Poll      time.Duration // that a long poll waits at most; 0: 25 s
	Retry     time.Duration // each client is told a random time of [Retry, 2×Retry)
	Gzip      bool          // clients that take gzip get it: the same bytes for all, compressed once
	Stats     *Stats
	Log       *slog.Logger

	// Refused appends what a terse client is told that is refused, by the HTTP status; nil: nothing. Then it is cut.
	Refused func(dst []byte, status int) []byte
}

// RetryHint is what one client is told: no browser adds jitter of its own.
func (rt *Pacing) RetryHint() time.Duration { return rt.Retry + rand.N(max(rt.Retry, 1)) }

// Why clients disconnected, as an index into Stats.Disconnected.
const (
	Left     = iota // closed by the client, or the network between
	Stalled         // took nothing for 30 s
	Finished        // the stream was complete
	Refused         // the upstream rejected the request
	Aged            // the stream had reached its age
	Drained         // the sidecar stops
	Expired         // its credentials had run out, or meant something else meanwhile
	Revoked         // it was refused after it had been admitted
	Polled          // a long poll was answered: it is expected to come again
	Reloaded        // the route is another one from now on, or none
	Missed          // something is missing, of which a terse client is told by the cut alone
	reasons
)

// Reasons names the entries of Stats.Disconnected.
var Reasons = [reasons]string{"left", "stalled", "finished", "refused", "aged", "drained", "expired", "revoked", "polled", "reloaded", "missed"}

// Stats counts the clients of a route. All but Clients are totals since the start.
type Stats struct {
	Clients      atomic.Int64          // connected now
	Direct       atomic.Int64          // came past net/http
	Events       atomic.Int64          // written
	Bytes        atomic.Int64          // of events
	Replayed     atomic.Int64          // events that were there before their client
	Disconnected [reasons]atomic.Int64 // by the reason
}

// Client is one client and where it begins.
type Client struct {
	Route    *Pacing
	Ring     *stream.Ring
	Retiring <-chan struct{} // closed when the stream's clients shall come back; then Ring wakes its watchers
	Leaving  *stream.Release // how, once Retiring is closed; nil: over 10 s, for the stream's age
	Cursor   uint64          // the last event it has, or stream.Begin
	Lost     bool            // its id is not known: it is told before anything else
	Before   []byte          // events that it is told before anything of the ring, with an id of its place; nil: none
	LastID   string          // what it sent as its last id; "" none
	Polls    bool            // its answer is to be whole: see poll.go
	Beats    bool            // heartbeats are to be events, the first one as soon as it has what the ring has
	Terse    bool            // it knows none of the sidecar's own events: where another client would be told by one, it is cut, or told by Route.Refused
	Gzip     bool            // its answer is compressed; only with Route.Gzip
	Pass     *access.Pass    // what it was admitted with; nil: it may stay for as long as it likes
	Gone     func()          // called once when this client in particular has disconnected; nil: nothing is
	Address  netip.Addr      // that a trusted proxy has given for it; the zero value where none has
	Leave    func()          // called once when it has disconnected; what it does is the same for all clients of a ring

	native bool // see looksNative
}

// leave gives back what a client has taken that does not come in after all.
func (cl *Client) leave() {
	if cl.Gone != nil {
		cl.Gone()
	}
	cl.Leave()
}

// release is over how long, and why, the clients of a stream leave that is retiring.
func release(how *stream.Release) (window time.Duration, why uint8) {
	switch {
	case how == nil:
		return stream.RetireTime, Aged
	case how.Replaced:
		return how.Window, Reloaded
	}
	return how.Window, Aged
}

// Clients are all clients of the sidecar. The zero value has none. What is exported is set before the first client comes.
type Clients struct {
	Goroutines bool         // each client has a goroutine of its own, also where it need not
	Log        *slog.Logger // for what concerns all of them; nil: nothing is logged

	once       sync.Once
	mu         sync.Mutex    // guards what follows, up to present
	restart    time.Duration // how long the sidecar will be away once it has drained
	draining   chan struct{} // closed when Drain is called
	window     time.Duration
	drained    time.Time // when the window ends
	present    sync.WaitGroup
	stopped    bool
	byWriter   [writers]atomic.Int64
	engine     engine // for the clients that need no goroutine
	replays    replays
	deadlines  deadlines  // for those that do
	wakeGroups wakeGroups // the same
}

// What writes to a client, as an index into Clients.ByWriter.
const (
	ByGoroutine = iota // one of its own
	ByShard
	ByH2   // its connection of HTTP/2
	ByPoll // nothing yet: its long poll waits
	writers
)

// Writers names the entries of Clients.ByWriter.
var Writers = [writers]string{"goroutine", "shard", "h2", "poll"}

// ByWriter is how many clients are connected now, by what writes to them.
func (c *Clients) ByWriter() (n [writers]int64) {
	for i := range n {
		n[i] = c.byWriter[i].Load()
	}
	return n
}

// Connections is how many connections of HTTP/2 there are whose clients have no goroutines, and how many of these are parked.
func (c *Clients) Connections() (open, parked int) { return c.engine.connections() }

func (c *Clients) init() {
	c.once.Do(func() { c.draining = make(chan struct{}) })
}

// Set sets how long the sidecar will be away once it has drained, and how many bytes a second all clients together are sent of what was
// there before them; 0 any number. It may be called at any time.
func (c *Clients) Set(restart time.Duration, replay int64) {
	c.mu.Lock()
	c.restart = restart
	c.mu.Unlock()
	c.replays.rate.Store(replay)
}

// enter counts a client in; false when the sidecar stops.
func (c *Clients) enter() bool {
	c.init()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.stopped {
		c.present.Add(1)
	}
	return !c.stopped
}

// Drain tells every client to come back, each at a random moment of window, and returns when all have disconnected.
// Clients that come later are told that it is busy. Where it was called before, it only waits.
func (c *Clients) Drain(window time.Duration) {
	c.StartDrain(window)
	c.present.Wait()
}

// StartDrain is Drain, but does not wait.
func (c *Clients) StartDrain(window time.Duration) {
	c.init()
	c.mu.Lock()
	first := !c.stopped
	if first {
		c.stopped, c.window, c.drained = true, window, time.Now().Add(window)
		close(c.draining)
	}
	c.mu.Unlock()
	if first {
		c.engine.drain(window)
	}
}

// Close cuts the clients without a goroutine that are left, and returns when what served them has ended. The others end
// with their server.
func (c *Clients) Close() { c.engine.close() }

// Hint is after how long a client of rt is to come back that is sent away now. While the sidecar drains that is after
// its restart: a browser that comes sooner gets a proxy's 502, at which its EventSource gives up for good.
func (c *Clients) Hint(rt *Pacing) time.Duration {
	c.mu.Lock()
	stopped, drained, restart := c.stopped, c.drained, c.restart
	c.mu.Unlock()
	if !stopped {
		return rt.RetryHint()
	}
	return max(time.Until(drained), 0) + restart + time.Second + rand.N(max(rt.Retry, 1))
}

// hint is Hint for a client that leaves for why. Whoever takes the place of a route that is replaced is there: nothing is waited for.
func (c *Clients) hint(rt *Pacing, why uint8) time.Duration {
	if why == Reloaded && !c.Draining() {
		return time.Second + rand.N(max(rt.Retry, 1))
	}
	return c.Hint(rt)
}

// Draining reports whether Drain was called.
func (c *Clients) Draining() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stopped
}

// Admission is what [Clients.Listeners] asks about the clients that need not come by net/http.
type Admission interface {
	// Beside returns the client that r is, to be served beside others that read the same stream, and what the head of its
	// answer has beside an event stream's own, which stays as it is. ok is false where that, or anything else about r, is
	// not known without waiting; until it is true nothing is taken or counted. Where all that has to be waited for is a stream, first does so.
	Beside(r *http.Request) (c Client, header http.Header, first First, ok bool)
}

// First opens the stream of its first client, and returns that. It waits until the stream is decided, ctx is done, or some seconds have passed. ok is false
// where anything but an event stream is the answer, which net/http's handler gives: nothing is taken or counted then.
type First func(ctx context.Context) (c Client, ok bool)

// Rest is the rest of an answer, which the handler calls last: it returns when that is over. Where cut is true the handler
// must panic with [http.ErrAbortHandler] then, so that no client takes the answer for complete. It is apart for the sake of
// what the handler has on its stack for as long as a client is there.
type Rest func() (cut bool)

// Answered is the rest of an answer that is complete.
func Answered() (cut bool) { return false }

// Join answers with an event stream. Its rest is over when the client has disconnected or the stream is complete, or at once if the
// client was handed over to where it needs no goroutine.
func (c *Clients) Join(w http.ResponseWriter, r *http.Request, cl Client) Rest {
	if !c.enter() {
		cl.leave()
		return Busy(w, r, cl.LastID, c.Hint(cl.Route))
	}
	c.joined(&cl, r)
	if cl.Polls {
		c.byWriter[ByPoll].Add(1)
		return c.newPoll(w, r, cl).poll
	}
	if c.handOver(w, r, cl) {
		return Answered
	}
	c.byWriter[ByGoroutine].Add(1)
	return c.newClient(w, r, cl).run
}

// joined counts a client in, but for its writer.
func (c *Clients) joined(cl *Client, r *http.Request) {
	cl.native = looksNative(r)
	cl.Pass.Enter()
	cl.Route.Stats.Clients.Add(1)
	cl.Route.Log.Debug("client joined", "client", r.RemoteAddr, "stream", cl.Ring.Epoch())
}

// hold is what one client has of its own, which most have not: writers that keep nothing for a client keep it beside.
type hold struct {
	pass *access.Pass
	gone func()
}

// hold is what cl has of its own.
func (cl *Client) hold() hold { return hold{cl.Pass, cl.Gone} }

// end counts its client out.
func (h hold) end() {
	h.pass.Leave()
	if h.gone != nil {
		h.gone()
	}
}

// disconnected counts a client out, of writer.
func (c *Clients) disconnected(writer int, rt *Pacing, own hold, leave func(), reason int, address string) {
	own.end()
	c.byWriter[writer].Add(-1)
	rt.Stats.Clients.Add(-1)
	rt.Stats.Disconnected[reason].Add(1)
	rt.Log.Debug("client disconnected", "client", address, "reason", Reasons[reason])
	leave()
	c.present.Done()
}

// Busy answers a client for which there is no room now: it is told when to come back, keeps its last id, and is cut. One that has sent a POST, as no
// EventSource does, is told by a status.
func Busy(w http.ResponseWriter, r *http.Request, id string, retry time.Duration) Rest {
	if r.Method == http.MethodPost {
		h := w.Header()
		h.Set("Retry-After", strconv.Itoa(int((retry+time.Second-1)/time.Second)))
		h.Set("Cache-Control", "no-store")
		http.Error(w, "there is no room for this now; try again after a while", http.StatusServiceUnavailable)
		return Answered
	}
	if Polls(r) {
		out := holding(w, r)
		out.write(sse.AppendBusy(sse.AppendRetry(nil, retry), id))
		out.answer()
		return Answered
	}
	out, native := newOutput(w, r), looksNative(r)
	out.limit(stallTime)
	out.write(sse.AppendBusy(opening(native, id, retry), id))
	c := cursor{flags: ending(native, r)}
	return func() (cut bool) {
		out.part(r.Context())
		return c.end() == doCut && out.abort()
	}
}
