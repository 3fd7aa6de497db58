package proxy

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/net/http/httpguts"

	"sidestream/proxy/migrate"
	"sidestream/proxy/outbound"
	"sidestream/proxy/upstream"
)

// Passthrough hands requests to the legacy service and its answers back as if the sidecar were not there. What arrives
// is what was sent: method, target bytes, Host and all end-to-end headers but three. X-Forwarded-For is appended to;
// X-Forwarded-Proto and X-Forwarded-Host are kept, or set when absent. Bodies and trailers stream both ways, 1xx
// answers and protocol switches such as WebSocket pass through. A service that does not answer is a 502.
//
// Set the fields before the first request. Any number of requests may be served at once, and Close may be called beside
// them. The server in front wants DisableGeneralOptionsHandler, or it answers `OPTIONS *` itself.
type Passthrough struct {
	// Upgraded is called when a connection has switched protocols, with the client's request; it returns what to call
	// when that connection is closed. Nil: nothing is called.
	Upgraded func(r *http.Request) (closed func())

	// Answer may add to the header of a final answer to r before it is sent, the switch of protocols included. Header fields set on the ResponseWriter
	// beforehand are lost when the service sends a 1xx answer first. Nil: nothing is added.
	Answer func(r *http.Request, h http.Header)

	// Watch looks at what passes through, and changes nothing of it. Nil: nobody does.
	Watch *migrate.Watch

	upstream  *url.URL
	transport *outbound.Transport
	log       *slog.Logger
	debug     *log.Logger // for what ReverseProxy has to say, which concerns single clients
	down      atomic.Bool // the service did not answer the last time it was asked
	open      atomic.Int64

	closing context.Context // ends upgraded connections
	close   context.CancelFunc

	mu       sync.Mutex     // guards closed, and upgrades.Add against upgrades.Wait
	closed   bool           // no further upgrades
	upgrades sync.WaitGroup // requests that asked for an upgrade
}

// NewPassthrough makes a Passthrough to the service at base, whose path, if any, is put in front of each target. Connections are made as
// network says.
func NewPassthrough(base *url.URL, network outbound.Settings, log *slog.Logger) *Passthrough {
	p := &Passthrough{upstream: base, transport: newTransport(network), log: log}
	network.Trust.LogTo(log.With("upstream", p.where()))
	p.debug = ErrorLog(log)
	p.closing, p.close = context.WithCancel(context.Background())
	return p
}

// where is the service, for logs.
func (p *Passthrough) where() string {
	if socket := p.transport.Socket; socket != "" {
		return "unix:" + socket
	}
	return p.upstream.Host
}

// Open counts the connections that have switched protocols and are not closed yet.
func (p *Passthrough) Open() int { return int(p.open.Load()) }

// Close cuts the upgraded connections, which http.Server.Shutdown knows nothing of, and returns when they are gone.
// Further upgrades are answered with 503; other requests are served as before.
func (p *Passthrough) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.close()
	p.upgrades.Wait()
	p.transport.CloseIdleConnections()
}

// ServeHTTP passes r through. CONNECT, which asks for a tunnel to anywhere, is a 501. A w that wraps another one needs
// Unwrap, as http.ResponseController has it.
func (p *Passthrough) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r = withoutH2C(r)
	switch {
	case r.Method == http.MethodConnect:
		http.Error(w, "CONNECT is not supported", http.StatusNotImplemented)
	case isUpgrade(r):
		p.serveUpgrade(w, r)
	default:
		p.serve(w, r)
	}
}

func isUpgrade(r *http.Request) bool {
	return httpguts.HeaderValuesContainsToken(r.Header["Connection"], "Upgrade") && r.Header.Get("Upgrade") != ""
}

// withoutH2C is r without an offer to go on with HTTP/2 in clear (RFC 7540, section 3.2; RFC 9113 has taken it back). It is for this hop, which does not take it up: what it needs is among the fields of
// the hop and would not arrive, and a service that took it up would speak with the client past all that is decided for each request. Java's HttpClient offers it with each request in clear, and services in
// Node that have a WebSocket answer whatever asks for an upgrade as one that is wrong. Other protocols, such as Docker's tcp, are passed on.
func withoutH2C(r *http.Request) *http.Request {
	const offer = "h2c"
	if !httpguts.HeaderValuesContainsToken(r.Header["Upgrade"], offer) {
		return r
	}
	var others []string
	for _, protocols := range r.Header["Upgrade"] {
		for protocol := range strings.SplitSeq(protocols, ",") {
			if protocol = strings.TrimSpace(protocol); protocol != "" && !strings.EqualFold(protocol, offer) {
				others = append(others, protocol)
			}
		}
	}
	r = r.WithContext(r.Context())
	r.Header = r.Header.Clone()
	r.Header.Del("Http2-Settings")
	r.Header.Del("Upgrade")
	if len(others) > 0 {
		r.Header.Set("Upgrade", strings.Join(others, ", "))
	}
	return r
}

func (p *Passthrough) serveUpgrade(w http.ResponseWriter, r *http.Request) {
	if !p.beginUpgrade() {
		unavailable(w)
		return
	}
	defer p.upgrades.Done()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(p.closing, cancel)()
	p.serve(&spelling{ResponseWriter: w}, r.WithContext(ctx))
}

// spelling is a response whose head, once protocols are switched, is spelled as RFC 6455 has it: ReverseProxy copies the answer into Header
// after Hijack, and then writes what that returns.
type spelling struct {
	http.ResponseWriter
	switched bool
}

// Hijack is http.Hijacker's.
func (s *spelling) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	s.switched = true
	return http.NewResponseController(s.ResponseWriter).Hijack()
}

// Header is http.ResponseWriter's.
func (s *spelling) Header() http.Header {
	h := s.ResponseWriter.Header()
	if s.switched {
		upstream.SpellWebSocket(h)
	}
	return h
}

// Unwrap is for http.ResponseController.
func (s *spelling) Unwrap() http.ResponseWriter { return s.ResponseWriter }

func (p *Passthrough) beginUpgrade() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.upgrades.Add(1)
	return true
}

func unavailable(w http.ResponseWriter) {
	http.Error(w, "shutting down; try again", http.StatusServiceUnavailable)
}

// serve passes one request through. Its ReverseProxy is the request's own, since its hooks are told of either the
// client's request or the service's answer, never of both.
func (p *Passthrough) serve(w http.ResponseWriter, r *http.Request) {
	e := exchange{p: p, w: w, in: r}
	defer e.end()
	if r.ContentLength != 0 {
		// Without it the HTTP/1 server takes what is left of the request's body for itself once the answer begins.
		// HTTP/2 does not, and does not know the call.
		_ = http.NewResponseController(w).EnableFullDuplex()
		e.body = &body{ReadCloser: r.Body, in: r}
		r = r.WithContext(r.Context())
		r.Body = e.body
		w = noContinue{w}
	}
	proxy := httputil.ReverseProxy{
		Transport:      upstream.Spelled{Base: p.transport},
		FlushInterval:  -1,
		BufferPool:     &buffers,
		Rewrite:        e.rewrite,
		ModifyResponse: e.answer,
		ErrorHandler:   e.fail,
		ErrorLog:       p.debug,
	}
	proxy.ServeHTTP(w, r)
}

// exchange is one request on its way through.
type exchange struct {
	p      *Passthrough
	w      http.ResponseWriter
	in     *http.Request
	body   *body  // nil without one
	closed func() // ends the count of an upgraded connection; nil before it is one
}

// rewrite finishes the outgoing request. Not ReverseProxy.Director: with that a client could have X-Forwarded-For
// taken out again by naming it in Connection.
func (e *exchange) rewrite(pr *httputil.ProxyRequest) {
	path, query, hasQuery := target(e.in)
	pr.Out = exact(pr.Out, e.p.upstream, path, query, hasQuery)
	forward(pr.Out.Header, e.in)
	if e.body != nil {
		pr.Out.Trailer = announced(e.in) // their values are known at the end of the body; the transport looks again then
		e.body.out = pr.Out.Trailer
		if pr.Out.ContentLength < 0 {
			pr.Out.TransferEncoding = []string{"chunked"} // said at once; the transport would wait for the first byte with GET
		}
	}
}

// forward sets what proxies add, and brings back what ReverseProxy took out.
func forward(out http.Header, in *http.Request) {
	keep(out, in.Header, "Forwarded")
	keep(out, in.Header, "X-Forwarded-For")
	keep(out, in.Header, "X-Forwarded-Proto")
	keep(out, in.Header, "X-Forwarded-Host")
	if ip, _, err := net.SplitHostPort(in.RemoteAddr); err == nil {
		out.Set("X-Forwarded-For", strings.Join(append(out["X-Forwarded-For"], ip), ", "))
	}
	if out["X-Forwarded-Proto"] == nil {
		out.Set("X-Forwarded-Proto", scheme(in))
	}
	if out["X-Forwarded-Host"] == nil && in.Host != "" {
		out.Set("X-Forwarded-Host", in.Host)
	}
}

// keep copies the values of key, unless the client calls the field its own hop's.
func keep(out, in http.Header, key string) {
	if v := in[key]; len(v) > 0 && !httpguts.HeaderValuesContainsToken(in["Connection"], key) {
		out[key] = append([]string(nil), v...)
	}
}

func scheme(r *http.Request) string {
	if r.TLS != nil {
		return "https"
	}
	return "http"
}

// answer is called with every answer but 1xx other than 101.
func (e *exchange) answer(res *http.Response) error {
	if e.p.down.CompareAndSwap(true, false) {
		e.p.log.Info("pass-through works again", "upstream", e.p.where())
	}
	if e.p.Watch != nil {
		e.p.Watch.Answered(e.in, res)
	}
	if res.StatusCode == http.StatusSwitchingProtocols {
		e.p.open.Add(1)
		e.closed = func() {}
		if e.p.Upgraded != nil {
			e.closed = e.p.Upgraded(e.in)
		}
		if e.p.Answer != nil {
			e.p.Answer(e.in, res.Header)
		}
		return nil
	}
	if res.Header["Content-Type"] == nil {
		e.w.Header()["Content-Type"] = nil // the server guesses one otherwise
	}
	if e.p.Answer != nil {
		e.p.Answer(e.in, res.Header)
	}
	return nil
}

func (e *exchange) end() {
	if e.closed != nil {
		e.closed()
		e.p.open.Add(-1)
	}
}

// fail answers a request that the service gave no answer to. The error goes to the log alone, once for each time the
// service goes away: it names addresses.
func (e *exchange) fail(w http.ResponseWriter, _ *http.Request, err error) {
	if e.body != nil && e.in.ProtoMajor == 1 {
		// What is left of the body the server reads after it has stopped to watch the connection, which with full duplex it begins to
		// again at the body's end, and panics at the next request.
		w.Header().Set("Connection", "close")
	}
	if e.p.Answer != nil {
		e.p.Answer(e.in, w.Header())
	}
	switch {
	case e.p.closing.Err() != nil && errors.Is(err, context.Canceled):
		unavailable(w)
		return
	case e.in.Context().Err() != nil: // the client has disconnected, there is nothing to answer
		w.WriteHeader(http.StatusBadGateway)
		return
	case e.body.failed():
		http.Error(w, "the request's body cannot be read", http.StatusBadRequest)
		return
	}
	level := slog.LevelDebug
	if e.p.down.CompareAndSwap(false, true) {
		level = slog.LevelWarn
	}
	e.p.log.Log(context.WithoutCancel(e.in.Context()), level, "pass-through fails", "upstream", e.p.where(), "err", upstream.Kind(err))
	http.Error(w, "the service behind this address does not answer", http.StatusBadGateway)
}

// body is a request's body on its way to the service. Its end brings the trailers, which ReverseProxy forgets: it
// clones the request before they are known.
type body struct {
	io.ReadCloser
	in     *http.Request
	out    http.Header // trailers of the outgoing request
	broken atomic.Bool // the client's part failed
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	switch {
	case err == io.EOF:
		for name := range b.out {
			b.out[name] = b.in.Trailer[name]
		}
	case err != nil:
		b.broken.Store(true)
	}
	return n, err
}

func (b *body) failed() bool { return b != nil && b.broken.Load() }

// noContinue leaves 100 to the server, which says it with the first read of the body, and that comes when
// the service has said it; ReverseProxy would say it a second time.
type noContinue struct{ http.ResponseWriter }

// WriteHeader sends any code but 100.
func (w noContinue) WriteHeader(code int) {
	if code != http.StatusContinue {
		w.ResponseWriter.WriteHeader(code)
	}
}

// Unwrap is for http.ResponseController.
func (w noContinue) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// bufferPool spares each answer the allocation of its copy buffer.
type bufferPool struct{ sync.Pool }

var buffers = bufferPool{sync.Pool{New: func() any { return new([32 << 10]byte) }}}

// Get gives a buffer to copy with.
func (p *bufferPool) Get() []byte { return p.Pool.Get().(*[32 << 10]byte)[:] }

// Put takes it back.
func (p *bufferPool) Put(b []byte) { p.Pool.Put((*[32 << 10]byte)(b)) }
