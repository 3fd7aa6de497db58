package proxy

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sidestream/proxy/access"
	"sidestream/proxy/deliver"
)

// This file is how a sidecar that runs goes by other settings. The rules:
//
//   - Only what has changed is touched. A route that is as it was stays the same *Route, with its streams, rings and clients.
//   - A route that has changed is there at once, for those who come from then on. The one that it takes the place of, like one that is no
//     more, sends its clients away over the drain window, and ends.
//   - What was revoked stays revoked, and what clients are counted by goes on.

// ErrStopping means that a sidecar is stopping, which goes by no other settings any more.
var ErrStopping = errors.New("the sidecar is draining: nothing is changed any more")

// reloading is what a reload needs.
type reloading struct {
	mu      sync.Mutex      // guards what follows, and against reloads what has to see all routes; one reload at a time
	eager   context.Context // until eager routes end; nil: they have not begun, or end
	leaving []*Route        // whose clients are being sent away
	left    Left            // clients that had left routes which are no more
	revoked access.Memory   // for routes that there are later

	closing context.Context // until Proxy.Close
	close   context.CancelFunc
	keeping sync.WaitGroup // eager routes
	ending  sync.WaitGroup // routes that end
}

// Reload has the proxy go by c from now on. Of c may differ: its routes, CORSOrigins, MaxClients, MaxStreams, MaxPerAddress, MaxReplay,
// TrustedProxies, Drain, Restart, Doctor, Tickets, MigrationDays and Sunsets; the rest is as it was. A route whose *RouteSettings is the one that it had, and Tickets that are,
// have not changed. It fails with [ErrStopping], and has changed nothing then.
func (p *Proxy) Reload(c Settings) error {
	l := &p.reload
	l.mu.Lock()
	defer l.mu.Unlock()
	if p.Draining() || l.closing.Err() != nil {
		return ErrStopping
	}
	was, next := p.table(), p.newTable(c)
	p.all.Set(c.MaxClients)
	p.Streams.Set(c.MaxStreams)
	p.clients.Set(c.Restart, c.MaxReplay)
	if p.Tunnel != nil {
		p.Tunnel.Pages.Settings.Pages.Set(c.MaxStreams)
	}
	if p.Peers != nil {
		p.Peers.Allow(largestBody(c))
	}
	p.now.Store(next)
	for _, rt := range was.served() {
		if !slices.Contains(next.served(), rt) {
			p.leave(rt, c.Drain)
		}
	}
	for _, rt := range next.routes {
		p.keep(rt)
	}
	return nil
}

// leave has the clients of a route come back, which is none any more, and ends it. reload.mu is held.
func (p *Proxy) leave(rt *Route, window time.Duration) {
	l := &p.reload
	if rt.rest != nil {
		rt.rest()
	}
	rt.tried()
	rt.Streams.Replace(releaseWindow(window, rt.Retry))
	l.leaving = append(l.leaving, rt)
	l.ending.Go(func() { // ends when its streams have, or with Close
		await(l.closing, rt.Streams.Gone)
		rt.close()
		l.mu.Lock()
		defer l.mu.Unlock()
		l.leaving = slices.DeleteFunc(l.leaving, func(other *Route) bool { return other == rt })
		if !slices.ContainsFunc(p.every(), func(other *Route) bool { return other.Clients == rt.Clients }) {
			l.left.add(rt.Clients)
		}
	})
}

// Left is how many clients have disconnected, by the reason: see [deliver.Reasons].
type Left [len(deliver.Reasons)]int64

func (n *Left) add(of *deliver.Stats) {
	for i := range n {
		n[i] += of.Disconnected[i].Load()
	}
}

// Left is how many clients have disconnected since the start, of all routes that there were and of pages with tunnels.
func (p *Proxy) Left() Left {
	p.reload.mu.Lock()
	defer p.reload.mu.Unlock()
	n, seen := p.reload.left, map[*deliver.Stats]bool{}
	for _, rt := range p.every() {
		if !seen[rt.Clients] { // which a route has from the one that it has replaced
			n.add(rt.Clients)
		}
		seen[rt.Clients] = true
	}
	if p.Tunnel != nil {
		n.add(&p.Tunnel.Clients)
	}
	return n
}

// releaseWindow is over which clients are released that are to be back within window: they come back after 1 s and up to retry.
func releaseWindow(window, retry time.Duration) time.Duration {
	return max(window-time.Second-retry, window/2)
}

// await returns when done is true, or ctx is.
func await(ctx context.Context, done func() bool) {
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	for !done() {
		select {
		case <-look.C:
		case <-ctx.Done():
			return
		}
	}
}

// end ends what reloads have left, and returns when it has ended.
func (l *reloading) end() {
	l.close()
	l.mu.Lock() // a reload under way may add to what is waited for
	l.eager = nil
	l.mu.Unlock()
	l.ending.Wait()
}

// every are the routes that have clients: those of now, and those whose clients are being sent away. reload.mu is held.
func (p *Proxy) every() []*Route { return slices.Concat(p.Served(), p.reload.leaving) }

// Eager keeps the streams of eager routes open until ctx is done. It returns when all are closed.
func (p *Proxy) Eager(ctx context.Context) {
	l := &p.reload
	l.mu.Lock()
	l.eager = ctx
	for _, rt := range p.Routes() {
		p.keep(rt)
	}
	l.mu.Unlock()
	<-ctx.Done()
	l.mu.Lock()
	l.eager = nil
	l.mu.Unlock()
	l.keeping.Wait()
}

// keep keeps an eager route's stream open, if nothing does yet. reload.mu is held.
func (p *Proxy) keep(rt *Route) {
	l := &p.reload
	if !rt.Eager || rt.rest != nil || l.eager == nil {
		return
	}
	ctx, rest := context.WithCancel(l.eager)
	rt.rest = rest
	l.keeping.Go(func() { defer rest(); rt.keep(ctx) }) // ends with ctx
}

// Reloaded is what has come of a reload. It holds no secret.
type Reloaded struct {
	Result   string   `json:"result"`             // ok, unchanged or failed
	Changed  []string `json:"changed,omitempty"`  // names of routes
	Added    []string `json:"added,omitempty"`    // the same
	Removed  []string `json:"removed,omitempty"`  // the same
	Settings []string `json:"settings,omitempty"` // global variables that have changed
	Problems []string `json:"problems,omitempty"` // why it failed, and nothing has changed
}

// Reloads counts what has come of reloads of the configuration, since the start. Safe for concurrent use.
type Reloads struct {
	OK        atomic.Int64 // something has changed
	Failed    atomic.Int64 // nothing has, since something was wrong
	Unchanged atomic.Int64

	mu   sync.Mutex // guards last
	last LastReload
}

// LastReload is how the configuration is.
type LastReload struct {
	At     time.Time // of the last reload that did not fail, or of the start
	Tried  time.Time // of the last one, or of the start
	Failed error     // why the last one failed; nil: it did not. Holds no secret
}

func (rs *Reloads) begin() { rs.last.At, rs.last.Tried = time.Now(), time.Now() }

// Last returns how the configuration is.
func (rs *Reloads) Last() LastReload {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	return rs.last
}

// Note counts a reload: changed reports whether anything has, err why it failed.
func (rs *Reloads) Note(changed bool, err error) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	rs.last.Tried, rs.last.Failed = time.Now(), err
	switch {
	case err != nil:
		rs.Failed.Add(1)
		return
	case changed:
		rs.OK.Add(1)
	default:
		rs.Unchanged.Add(1)
	}
	rs.last.At = rs.last.Tried
}
