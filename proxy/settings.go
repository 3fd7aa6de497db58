package proxy

import (
	"net/netip"
	"net/url"
	"time"

	"sidestream/proxy/access"
	"sidestream/proxy/history"
	"sidestream/proxy/migrate"
	"sidestream/proxy/migrate/learn"
	"sidestream/proxy/outbound"
	"sidestream/proxy/peer"
	"sidestream/proxy/upstream"
)

// Settings are what a sidecar is served by. Package config makes them of the environment, and they are taken as they are.
type Settings struct {
	Upstream       *url.URL               // legacy base URL for pass-through; nil: 404 for whatever no route answers
	Network        outbound.Settings      // how connections to Upstream are made
	TLSCert        string                 // path of the PEM certificate chain; "" without TLS
	TLSKey         string                 // path of the PEM key; set exactly when TLSCert is
	CORSOrigins    []string               // origins allowed cross-origin with credentials, as browsers send them: scheme://host[:port], lower case
	MaxClients     int                    // SSE clients at once; 0 no limit
	MaxStreams     int                    // upstream connections at once; 0 no limit
	MaxPerAddress  int                    // SSE clients at once of one address, or one /64 of IPv6; 0 no limit
	MaxReplay      int64                  // bytes a second of what was there before its client, for all SSE clients together; 0 no limit
	TrustedProxies []netip.Prefix         // whose X-Forwarded-For is believed
	TrustLocal     bool                   // and of whoever comes over a Unix socket
	MaxHeader      int                    // bytes of a client's request without its body
	Drain          time.Duration          // over which clients are released, all when the sidecar stops or those of a route that a reload changes; 0 at once
	Restart        time.Duration          // how long the sidecar is away after it has drained; 0 not at all
	Doctor         bool                   // the probe answers, and its page
	Goroutines     bool                   // each SSE client is written to by a goroutine of its own, and each stream has one
	Tunnel         *TunnelSettings        // WebSockets over events and POSTs; nil: off
	Tickets        *access.TicketSettings // credentials in URLs; nil: there are none
	MigrationDays  int                    // without an old client, after which a path is safe to switch off; at least 1
	Sunsets        []Sunset               // old paths that go
	Sets           SetSettings            // of streams of several routes that pages choose
	Routes         []*RouteSettings
	Peer           *peer.Settings  // of several replicas that share History; nil: there is one, or none that others can reach
	Directory      peer.Directory  // of those; needed with Peer
	Learner        *learn.Learner  // learns from what is passed through; nil: nothing does
	Legible        bool            // clients are answered in encodings that Learner reads; else in those that they accept
	History        history.Running // where events are kept, over restarts or for several replicas; nil: the rings are all there is
}

// Sunset is an old path with the time from which it is gone.
type Sunset struct {
	Path migrate.Pattern
	At   time.Time
}

// RouteSettings are one configured path and where its events come from.
type RouteSettings struct {
	Name         string            // lower case
	Path         string            // net/http pattern without method or host, e.g. /jobs/{id}/progress
	Upstream     *upstream.Route   // compiled source: templates, script, jq
	Access       *access.Settings  // AUTH; nil: whoever asks is admitted, and the upstream decides
	Start        int               // events of the ring a client without Last-Event-ID begins with: 0 live, 1 latest, [stream.StartAll]
	Heartbeat    time.Duration     // sent when nothing else was; 0 none
	Coalesce     time.Duration     // upper bound on how often one client is written to; 0 none
	Compress     bool              // events are compressed for clients that take gzip
	Retry        time.Duration     // lower bound of the retry hint, the upper bound being twice it
	ReplayEvents int               // bound of the ring in events; at least 1
	ReplayBytes  int               // bound of the ring in encoded bytes; the newest event stays whatever its size
	ReplayAge    time.Duration     // bound of the ring in age; 0 none
	Linger       time.Duration     // how long a stream outlives its last client
	Eager        bool              // start at boot, never linger out
	MaxAge       time.Duration     // a stream whose upstream connected so long ago is replaced; 0 never
	RefuseAfter  time.Duration     // how long a refusal that may pass is retried where the stream was connected; 0 not at all
	MaxPerStream int               // SSE clients of one of its streams at once; 0 no limit
	MaxClients   int               // SSE clients of this route at once; 0 no limit of its own
	MaxStreams   int               // upstream connections of this route at once; 0 no limit of its own
	Send         bool              // POST to Path sends the body upstream
	Replaces     []migrate.Pattern // old paths whose clients it is to replace
	Parity       bool              // what those clients receive is compared with what its streams emit
	Forgets      bool              // its events are not kept over restarts
	Keep         time.Duration     // with runs: how long one that has ended is kept
	MaxRuns      int               // with runs: of one client, running and kept; 0 no limit
}

// TunnelSettings say which WebSockets may travel over events and POSTs. They have the global values of what routes have too.
type TunnelSettings struct {
	Prefixes    []string // paths, each with all below it; "/" all
	Heartbeat   time.Duration
	Coalesce    time.Duration
	Compress    bool
	Retry       time.Duration
	Linger      time.Duration
	ReplayBytes int // what may wait for a page's acknowledgement
	MaxMessage  int // bytes, either way
}
