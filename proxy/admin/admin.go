package admin

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"sidestream/proxy"
	"sidestream/proxy/descriptors"
)

// Port is what the operator's port shows, and to whom.
type Port struct {
	Proxy   *proxy.Proxy
	Version string
	Lines   *Lines   // the log; nil: its losses are not shown
	Address string   // that it listens on, whose host it answers to
	Hosts   []string // further names that it answers to, lower case, without ports

	Token    string // for whoever is not on this machine; "": the dashboard is for nobody else
	Payloads bool   // the dashboard may show events

	Reload func(why string) proxy.Reloaded // reads the configuration again; nil: that cannot be done

	log      *slog.Logger
	started  time.Time
	samples  *samples
	watchers *atomic.Int64 // dashboards that are open
}

// Listen listens on the port's address, "" for none, which is nil. It goes on accepting when the process has no descriptor left but those of
// reserve. The error names the variable.
func Listen(address string, reserve *descriptors.Reserve) (net.Listener, error) {
	if address == "" {
		return nil, nil
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("SSE_ADMIN_LISTEN: %w; choose another address, or off", err)
	}
	return reserve.Listener(l), nil
}

// Server serves the port.
type Server struct {
	*http.Server
	port *Port
	done chan struct{} // closed by Close
	once sync.Once
}

// Server returns a server of the port that does not run yet.
func (a Port) Server(log *slog.Logger) *Server {
	a.log = log
	s := &Server{port: &a, done: make(chan struct{})}
	s.Server = &http.Server{Handler: a.handler(), ReadHeaderTimeout: 10 * time.Second, ErrorLog: proxy.ErrorLog(log)}
	return s
}

// Serve serves l until Close. Meanwhile it takes the samples that the dashboard looks back on.
func (s *Server) Serve(l net.Listener) error {
	var sampling sync.WaitGroup
	sampling.Go(func() { s.port.samples.run(s.port, s.done) }) // ends with Close
	defer sampling.Wait()
	defer s.end()
	return s.Server.Serve(l)
}

// Close ends everything.
func (s *Server) Close() error {
	s.end()
	return s.Server.Close()
}

func (s *Server) end() { s.once.Do(func() { close(s.done) }) }

// Handler returns the handler of the port, without what the dashboard looks back on.
func (a Port) Handler() http.Handler { return a.handler() }

func (a *Port) handler() http.Handler {
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	a.started, a.samples, a.watchers = time.Now(), new(samples), new(atomic.Int64)
	registry := prometheus.NewRegistry()
	registry.MustRegister(collector{a.Proxy, a.Version, a.Lines}, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { say(w, true) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { say(w, a.Proxy.Ready()) })
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /api/status", func(w http.ResponseWriter, _ *http.Request) {
		answerJSON(w, http.StatusOK, status(a.Proxy, a.Proxy.Ready(), a.Version))
	})
	mux.HandleFunc("POST /api/revoke", a.revoke)
	mux.HandleFunc("POST /api/reload", a.local(a.reload))
	mux.HandleFunc("POST /api/drain", a.local(a.drain))
	mux.HandleFunc("GET /api/live", a.local(a.serveLive))
	mux.HandleFunc("GET /api/streams", a.local(a.serveStreams))
	mux.HandleFunc("GET /api/clients", a.local(a.serveClients))
	mux.HandleFunc("GET /api/events", a.local(a.serveEvents))
	mux.HandleFunc("GET /api/migration", a.local(func(w http.ResponseWriter, _ *http.Request) { answerJSON(w, http.StatusOK, a.Proxy.Migration()) }))
	mux.HandleFunc("POST /api/log-level", a.local(a.setLevel))
	mux.HandleFunc("GET /api/learn", a.local(a.serveLearned))
	for path := range assets {
		mux.Handle("GET "+path, a.local(servePage))
	}
	return a.guard(a.authorize(http.NewCrossOriginProtection().Handler(mux)))
}

// guard keeps other sites' pages out. A page whose name was made to point at this address (DNS rebinding) sends its own
// name as Host; no other page may show or embed what is answered.
func (a Port) guard(next http.Handler) http.Handler {
	own, _, _ := net.SplitHostPort(a.Address)
	names := append([]string{"localhost", strings.ToLower(own)}, a.Hosts...)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("X-Content-Type-Options", "nosniff")
		if host := hostname(r.Host); host != "" && net.ParseIP(host) == nil && !slices.Contains(names, host) {
			http.Error(w, "the admin port does not answer to this Host; add it to SSE_ADMIN_HOSTS, or ask by its own address, localhost or an IP address", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// hostname is a Host without its port, lower case; an IPv6 address is without its brackets.
func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"))
}

func say(w http.ResponseWriter, ok bool) {
	w.Header().Set("Cache-Control", "no-store")
	if !ok {
		http.Error(w, "not ready", http.StatusServiceUnavailable)
		return
	}
	w.Write([]byte("ok\n"))
}

// Status is the answer of /api/status.
type Status struct {
	Version  string         `json:"version"`
	Ready    bool           `json:"ready"`
	Draining bool           `json:"draining"`
	Config   ConfigStatus   `json:"config"`
	Routes   []RouteStatus  `json:"routes"`
	Tunnel   *TunnelStatus  `json:"tunnel,omitempty"`  // absent when off
	History  *HistoryStatus `json:"history,omitempty"` // absent when none is kept
	Peer     *PeerStatus    `json:"peer,omitempty"`    // absent without SSE_PEER
}

// HistoryStatus is what keeps events, over restarts or for several replicas.
type HistoryStatus struct {
	Kind    string `json:"kind"`              // file or redis
	Up      bool   `json:"up"`                // the last batch was written
	Replica string `json:"replica,omitempty"` // what this process is called among the replicas; in Redis only
	Streams int    `json:"streams"`           // in a folder: kept, open or not; in Redis: open here
	Leading int    `json:"leading"`           // whose source runs here
	Follows int    `json:"following"`         // whose source runs in another replica
	Size    int64  `json:"size"`              // bytes of a folder's files
	Needed  int64  `json:"needed"`            // bytes of them that are needed
	Failed  int64  `json:"failed"`            // batches that could not be written, since the start
	Damaged int64  `json:"damaged"`           // files and streams that were found damaged, or had lost events, since the start
}

// PeerStatus is what goes between replicas. All but Streams are totals since the start.
type PeerStatus struct {
	Replica   string `json:"replica"` // this one's id
	Address   string `json:"address"` // for others
	Streams   int64  `json:"streams"` // of clients here whose page another replica has, now
	Forwarded int64  `json:"forwarded"`
	Served    int64  `json:"served"`
	Failed    int64  `json:"failed"`  // not answered by the one that should
	Refused   int64  `json:"refused"` // asked of this one without the secret, or otherwise wrongly
}

// TunnelStatus is the WebSockets that travel over events and POSTs.
type TunnelStatus struct {
	Prefixes []string `json:"prefixes"`
	Pages    int      `json:"pages"`   // now, lingering ones included
	Clients  int64    `json:"clients"` // event streams of pages, now
	Tunnels  int      `json:"tunnels"` // now
	Opened   int64    `json:"opened"`  // since the start
	Failed   int64    `json:"failed"`  // since the start: refused by the upstream, or not answered
}

// RouteStatus is one route's part of it. It holds no secret: addresses are without userinfo and query values.
type RouteStatus struct {
	Name       string   `json:"name"`
	Path       string   `json:"path"`
	From       string   `json:"from"`
	Shared     bool     `json:"shared"`     // nothing of a client's request goes upstream
	Clients    int64    `json:"clients"`    // SSE, now
	WebSockets int64    `json:"websockets"` // passed through on the path, now
	Streams    int      `json:"streams"`    // now, lingering ones included
	Events     int64    `json:"events"`     // appended since the start
	Upstream   Upstream `json:"upstream"`
}

// Upstream is how a route's legacy service is.
type Upstream struct {
	State      string     `json:"state"` // idle, up, partial or down
	Since      time.Time  `json:"since"`
	Connected  int        `json:"connected"` // of the streams
	Failures   int64      `json:"failures"`  // connections lost or failed since the start
	LastError  string     `json:"last_error,omitempty"`
	LastFailed *time.Time `json:"last_failed,omitempty"`
}

func status(p *proxy.Proxy, ready bool, version string) Status {
	s := Status{Version: version, Ready: ready, Draining: p.Draining(), Config: configStatus(p), Routes: []RouteStatus{}}
	for _, rt := range p.Routes() {
		h := rt.Streams.Health()
		one := RouteStatus{
			Name: rt.Name, Path: rt.Path, From: rt.Upstream.From(), Shared: rt.Upstream.Shared(),
			Clients: rt.Clients.Clients.Load(), WebSockets: rt.WebSockets.Load(), Streams: h.Streams,
			Events:   rt.Streams.Stats.Events.Load(),
			Upstream: Upstream{State: h.State, Since: h.Since, Connected: h.Connected, Failures: h.Failures, LastError: h.Error},
		}
		if h.Error != "" {
			one.Upstream.LastFailed = &h.ErrorAt
		}
		s.Routes = append(s.Routes, one)
	}
	if f := p.History; f != nil {
		r := f.Report()
		s.History = &HistoryStatus{Kind: "file", Up: r.Up, Streams: r.Streams, Leading: r.Leading, Size: r.Size, Needed: r.Needed, Failed: r.Failures, Damaged: r.Damaged}
		if r.Shared {
			s.History.Kind, s.History.Replica, s.History.Follows = "redis", r.Replica, r.Streams-r.Leading
		}
	}
	if p.Peers != nil {
		st := &p.Peers.Stats
		s.Peer = &PeerStatus{p.Peers.Replica(), p.Peers.URL, p.Relayed(), sum(st.Forwarded[:]), sum(st.Served[:]), sum(st.Failed[:]), sum(st.Refused[:])}
	}
	if t := p.Tunnel; t != nil {
		s.Tunnel = &TunnelStatus{Prefixes: t.Prefixes, Clients: t.Clients.Clients.Load(), Opened: t.Pages.Stats.Opened.Load(), Failed: t.Pages.Stats.Failed.Load()}
		s.Tunnel.Pages, s.Tunnel.Tunnels = t.Pages.Count()
	}
	return s
}

func sum(counters []atomic.Int64) (n int64) {
	for i := range counters {
		n += counters[i].Load()
	}
	return n
}
