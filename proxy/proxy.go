package proxy

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sidestream/proxy/access"
	"sidestream/proxy/deliver"
	"sidestream/proxy/history"
	"sidestream/proxy/migrate"
	"sidestream/proxy/migrate/learn"
	"sidestream/proxy/peer"
	"sidestream/proxy/probe"
	"sidestream/proxy/stream"
	"sidestream/proxy/upstream"
	"sidestream/proxy/web"
)

// Proxy is the sidecar's public handler. It starts nothing until it is asked.
type Proxy struct {
	Rejected Rejected
	Reloads  Reloads
	Streams  *stream.Limit
	Tunnel   *Tunnel         // nil when off
	History  history.Running // nil: none is kept
	Peers    *peer.Peers     // other replicas; nil: none
	Learner  *learn.Learner  // of what is passed through; nil: nothing is learned

	log         *slog.Logger
	now         atomic.Pointer[table] // what a reload replaces
	passthrough *Passthrough          // nil: 404
	all         *stream.Limit         // SSE clients of all routes
	scripts     *web.Scripts
	probe       *probe.Probe
	clients     deliver.Clients
	legible     bool         // what is passed through is in encodings that are read
	maxHeader   int          // bytes of a request without its body
	relayed     atomic.Int64 // clients whose stream another replica gives
	warnings    warnings
	untried     atomic.Int64          // eager routes whose upstream has neither connected nor failed yet, of those that were there at the start
	perAddress  counted[netip.Prefix] // clients of each address
	reload      reloading
	migration   *migrate.Kept
	parities    parities
}

// WebSockets is how many connections are passed through as WebSockets now, on any path.
func (p *Proxy) WebSockets() int {
	if p.passthrough == nil {
		return 0
	}
	return p.passthrough.Open()
}

// Route is one configured path, with what serves it.
type Route struct {
	*RouteSettings
	Streams    *stream.Streams
	Clients    *deliver.Stats
	HeldBack   *atomic.Int64 // pages that have found out that something on the way holds their events back
	WebSockets *atomic.Int64 // clients that still use the old protocol through this path, now
	Compared   *Parity       // with old clients

	proxy     *Proxy
	guard     *access.Guard // nil without AUTH
	own       *stream.Limit
	deliver   deliver.Pacing
	tables    deliver.Tables
	perStream *counted[deliver.Key] // clients of one stream
	runs      runs                  // of SCOPE=run
	bodies    atomic.Int64          // of POSTs that are being read
	tried     func()                // it has connected or failed for the first time, or need not any more; may be called again
	rest      context.CancelFunc    // ends what EAGER has begun; nil: nothing has. Guarded by reloading.mu
}

// New returns the proxy that c describes.
func New(c Settings, log *slog.Logger) *Proxy {
	p := &Proxy{log: log, all: stream.NewLimit(c.MaxClients), Streams: stream.NewLimit(c.MaxStreams)}
	p.Reloads.begin()
	p.clients.Goroutines, p.clients.Log = c.Goroutines, log
	p.clients.Set(c.Restart, c.MaxReplay)
	p.reload.closing, p.reload.close = context.WithCancel(context.Background())
	p.maxHeader, p.History = c.MaxHeader, c.History
	store, _ := p.History.(history.Notes)
	p.migration = migrate.NewKept(store)
	p.migration.Before = p.presence
	p.migration.Ledger.Known = func(path string, over migrate.Transport) string { return p.table().known(path, over) }
	p.parities.Proxy, p.parities.wait = p, compareWait
	if c.Upstream != nil {
		p.passthrough = NewPassthrough(c.Upstream, c.Network, log)
		p.passthrough.Upgraded = p.upgraded
		p.passthrough.Answer = p.answered
		p.passthrough.Watch = &migrate.Watch{Listeners: []migrate.Listener{polls{p}, &p.parities}}
		if c.Learner != nil {
			p.Learner, p.legible = c.Learner, c.Legible
			p.passthrough.Watch.Listeners = append(p.passthrough.Watch.Listeners, c.Learner)
		}
	}
	p.Peers = replicas(c, log)
	var prefixes []string
	if c.Tunnel != nil {
		prefixes = c.Tunnel.Prefixes
		p.Tunnel = newTunnel(p, c, log)
	}
	p.scripts = web.New(prefixes)
	_, shared := p.History.(history.Words)
	p.probe = probe.New(shared)
	p.now.Store(p.newTable(c))
	for _, rt := range p.Routes() {
		if rt.Eager {
			p.untried.Add(1)
			rt.tried = sync.OnceFunc(func() { p.untried.Add(-1) })
		}
	}
	if others, shared := p.History.(history.Words); shared {
		others.Hear(p.heard)
	}
	return p
}

// newRoute returns the route that rc describes. old is the one that it takes the place of; nil: there is none. reload.mu is held, or p is
// not used yet.
func (p *Proxy) newRoute(rc *RouteSettings, old *Route) *Route {
	log := p.log.With("route", rc.Name)
	rt := &Route{RouteSettings: rc, proxy: p, tried: func() {}}
	rc.Upstream.LogTo(log)
	if old == nil {
		rt.Clients, rt.HeldBack, rt.WebSockets, rt.own = new(deliver.Stats), new(atomic.Int64), new(atomic.Int64), stream.NewLimit(rc.MaxClients)
		rt.perStream, rt.Compared = new(counted[deliver.Key]), newParity()
	} else {
		rt.Clients, rt.HeldBack, rt.WebSockets, rt.own = old.Clients, old.HeldBack, old.WebSockets, old.own
		rt.own.Set(rc.MaxClients)
		rt.perStream, rt.Compared = old.perStream, old.Compared
	}
	rt.deliver = deliver.Pacing{Heartbeat: rc.Heartbeat, Coalesce: rc.Coalesce, Retry: rc.Retry, Gzip: rc.Compress, Stats: rt.Clients, Log: log}
	if rc.Access != nil {
		rt.guard = access.New(*rc.Access, log)
	}
	shared := settings(rc, log)
	shared.Awake = p.clients.Goroutines
	if shared.All, shared.Route = p.Streams, rc.Name; p.History != nil && !rc.Forgets {
		shared.History = p.History
	}
	if rc.Upstream.Runs() {
		shared.Ended = rc.Keep
	}
	if rc.Upstream.Operates() {
		rt.deliver.Refused = operationRefused
	}
	rt.Streams = stream.NewStreams(shared)
	rt.runs.streams = rt.Streams
	if old != nil {
		rt.succeed(old)
	}
	if rt.guard != nil && (old == nil || old.guard == nil) {
		p.reload.revoked.Teach(rt.guard, rc.Name)
	}
	return rt
}

// succeed has rt go on where old stops, whose clients are still there.
func (rt *Route) succeed(old *Route) {
	rt.Streams.Succeed(old.Streams)
	rt.Upstream.Succeed(old.Upstream)
	if rt.guard != nil && old.guard != nil {
		rt.guard.Succeed(old.guard)
	}
}

// union is a with what of b it lacks.
func union(a, b []string) []string {
	for _, s := range b {
		if !slices.Contains(a, s) {
			a = append(a, s)
		}
	}
	return a
}

// AuthStats are what AUTH has found out about clients of the route; nil without it.
func (rt *Route) AuthStats() *access.Stats {
	if rt.guard == nil {
		return nil
	}
	return rt.guard.Stats
}

// settings are what the streams of rc have in common, but for what all routes share.
func settings(rc *RouteSettings, log *slog.Logger) stream.Policy {
	return stream.Policy{
		Bounds: stream.Bounds{Events: rc.ReplayEvents, Bytes: rc.ReplayBytes, Age: rc.ReplayAge, Start: rc.Start},
		Linger: rc.Linger, MaxAge: rc.MaxAge, Retry: rc.Retry, RefuseAfter: rc.RefuseAfter, Log: log, Own: stream.NewLimit(rc.MaxStreams),
	}
}

// ServeHTTP answers a request of a route, and passes every other one through. It panics with [http.ErrAbortHandler], which
// net/http handles, to cut a client that is to come back: in end, and nowhere else.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) { end(p.answer(w, r)) }

// end waits for the rest of an answer.
func end(rest deliver.Rest) {
	if rest() {
		panic(http.ErrAbortHandler)
	}
}

// answer answers r but for what is to be waited for.
func (p *Proxy) answer(w http.ResponseWriter, r *http.Request) deliver.Rest {
	if !wellFormed(r) {
		http.Error(w, "the request's method, target, Host, Upgrade or Trailer is malformed", http.StatusBadRequest)
		return deliver.Answered
	}
	if headSize(r) > p.maxHeader {
		http.Error(w, "the request's headers are larger than SSE_MAX_HEADER", http.StatusRequestHeaderFieldsTooLarge)
		return deliver.Answered
	}
	switch own := p.owns(r.URL.Path); {
	case own && probe.Has(r.URL.Path):
		return p.probe.Answer(w, r, networkOf(p.table().addresses.of(r)))
	case own:
		p.serveScript(w, r)
		return deliver.Answered
	}
	if r.URL.Path == ticketPath && p.table().tickets != nil {
		p.answerTicket(w, r)
		return deliver.Answered
	}
	if r.URL.Path == setPath {
		return p.answerSet(w, r)
	}
	if path, query, hasQuery, ok := p.tunnelled(r); ok {
		return p.Tunnel.answer(w, r, path, query, hasQuery)
	}
	if rt := p.table().enter(r); rt != nil {
		return rt.answer(w, r)
	}
	if strings.HasPrefix(r.URL.Path, web.Path) {
		http.Error(w, "the sidecar has nothing at this path", http.StatusNotFound) // rather than the service's own page
		return deliver.Answered
	}
	p.unrouted(r)
	return p.pass(w, r)
}

// Beside is part of [deliver.Admission]: it admits a client that joins others, by the same rules as ServeHTTP.
func (p *Proxy) Beside(r *http.Request) (c deliver.Client, header http.Header, first deliver.First, ok bool) {
	if !wellFormed(r) || headSize(r) > p.maxHeader || p.owns(r.URL.Path) || r.URL.Path == ticketPath || r.URL.Path == setPath {
		return c, nil, nil, false
	}
	if path, _, _, ok := p.tunnelled(r); ok {
		c, header, ok = p.Tunnel.beside(r, path)
		return c, header, nil, ok
	}
	if rt := p.table().enter(r); rt != nil && rt.wantsEvents(r) {
		return rt.beside(r)
	}
	return c, nil, nil, false
}

// owns reports whether a path is of a script, a page or the probe, which are the sidecar's own.
func (p *Proxy) owns(path string) bool {
	if strings.HasPrefix(path, probe.Path) && !p.table().settings.Doctor {
		return false
	}
	return p.scripts.Has(path) || probe.Has(path)
}

// serveScript answers with a script of the sidecar's own. Any page may load one by its tag; to be imported as a module by
// another origin, or read, takes its leave.
func (p *Proxy) serveScript(w http.ResponseWriter, r *http.Request) {
	t := p.table()
	if len(t.origins) > 0 {
		w.Header().Add("Vary", "Origin")
	}
	if origin := r.Header.Get("Origin"); t.allowed(origin) {
		w.Header().Set("Access-Control-Allow-Origin", origin)
		w.Header().Set("Access-Control-Allow-Credentials", "true")
	}
	p.scripts.ServeHTTP(w, r)
}

func (p *Proxy) pass(w http.ResponseWriter, r *http.Request) deliver.Rest {
	if p.passthrough == nil {
		http.Error(w, "no route matches this path, and SSE_UPSTREAM is not set", http.StatusNotFound)
		return deliver.Answered
	}
	if p.legible {
		migrate.Legible(r.Header)
	}
	if !p.circles(w, r) && !p.gone(w, r) {
		p.passthrough.ServeHTTP(w, r)
	}
	return deliver.Answered
}

// answered adds to what the service has answered: that a route's path has another answer for clients that accept event streams, which
// caches need to know, and that an old path ends.
func (p *Proxy) answered(r *http.Request, h http.Header) {
	t := p.table()
	if t.route(r) != nil && !upgrades(r) {
		h.Add("Vary", "Accept")
	}
	t.announce(r, h)
}

// Count counts the clients of each ring: see [deliver.Clients.Count].
func (p *Proxy) Count(ctx context.Context) map[*stream.Ring]int { return p.clients.Count(ctx) }

// Census shows SSE clients one by one, pages with tunnels included: see [deliver.Clients.Census].
func (p *Proxy) Census(ctx context.Context, see func(deliver.Shown) bool) { p.clients.Census(ctx, see) }

// Window is over which clients are released when the sidecar drains: Settings.Drain, as of now.
func (p *Proxy) Window() time.Duration { return p.table().settings.Drain }

// Clients is how many SSE clients are connected now, of routes and of pages with tunnels.
func (p *Proxy) Clients() (n int64) {
	for _, some := range p.ClientsByWriter() {
		n += some
	}
	return n + p.Relayed()
}

// ClientsByWriter is how many SSE clients are connected now, by what writes to them: see [deliver.Writers].
func (p *Proxy) ClientsByWriter() [len(deliver.Writers)]int64 { return p.clients.ByWriter() }

// HTTP2Connections is how many connections of HTTP/2 there are without a goroutine for each client, and how many of these have none at all.
func (p *Proxy) HTTP2Connections() (open, parked int) { return p.clients.Connections() }

// Draining reports whether clients are being released.
func (p *Proxy) Draining() bool { return p.clients.Draining() }

// Close ends all streams, the history after them, and what is still passed through as a WebSocket, and returns when their upstream
// connections are closed.
func (p *Proxy) Close() {
	if p.passthrough != nil {
		p.passthrough.Close()
	}
	p.probe.Stop()
	p.clients.Close()
	p.reload.end()
	p.parities.close()
	var closing sync.WaitGroup
	for _, rt := range p.Served() {
		closing.Go(rt.close)
	}
	if p.Tunnel != nil {
		closing.Go(p.Tunnel.Pages.Close)
	}
	closing.Wait()
	if p.Peers != nil {
		p.Peers.Close()
	}
	if p.History != nil {
		p.History.Stop()
	}
	upstream.CloseIdle()
}

// Ready reports whether the sidecar wants requests: each eager route's upstream has connected or failed for the first time, and clients
// are not being released.
func (p *Proxy) Ready() bool { return p.untried.Load() <= 0 && !p.Draining() }

// close ends the route's streams, and whatever it runs.
func (rt *Route) close() {
	rt.Streams.Close()
	rt.Upstream.CloseIdle()
	if rt.guard != nil {
		rt.guard.Close()
	}
}

// keep keeps the stream of an eager route open until ctx is done.
func (rt *Route) keep(ctx context.Context) {
	defer rt.tried()
	r, _ := http.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
	req, err := rt.Upstream.Expand(r, func(string) string { return "" })
	if err != nil { // config has seen to it that nothing of a client is needed
		rt.deliver.Log.Error("eager route needs a client", "err", err)
		return
	}
	rt.Streams.Keep(ctx, req, rt.tried)
}
