package outbound

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/url"
	"sync"
)

// Transport sends requests over connections made as its settings say. Through a forward proxy they go by a tunnel (CONNECT), but for plain requests to
// http:// addresses, which the proxy is asked for itself: many allow no tunnels to other ports than 443. Set the fields before the first request; then
// it is safe for concurrent use.
type Transport struct {
	Settings
	HTTP2     bool                                                                 // is offered to servers, and spoken with those that take it
	Tunnels   bool                                                                 // through forward proxies, for plain requests too: whatever is sent arrives as it is
	Upgrades  bool                                                                 // each request for an upgrade has a connection of its own, without net/http's goroutines
	Protocols []string                                                             // offered to servers (ALPN) without HTTP2
	Tune      func(*http.Transport)                                                // sets the bounds of the pool, and what else is not about dialling; nil: Go's own
	Wrap      func(net.Conn) net.Conn                                              // makes each connection what it returns; needs Tunnels; nil: nothing
	Base      func(ctx context.Context, network, address string) (net.Conn, error) // opens a connection; nil: the system does

	once sync.Once
	via  func(*url.URL) *url.URL // Proxies, read; set by once

	mu      sync.Mutex // guards what follows
	keys    *Keys      // that direct's connections are made with
	direct  *http.Transport
	proxied *http.Transport // to proxies that are asked themselves
}

// RoundTrip is http.RoundTripper's. Where a forward proxy is in the way of a request the error is, or wraps, a *[ProxyError].
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if t.upgrades(r) {
		return t.upgrade(r)
	}
	via := t.proxy(r.URL)
	if via == nil || t.tunnels(r, via) {
		return t.current().RoundTrip(r)
	}
	resp, err := t.asked().RoundTrip(r)
	if err == nil && resp.StatusCode == http.StatusProxyAuthRequired {
		resp.Body.Close()
		return nil, &ProxyError{Proxy: Shown(via), Status: resp.StatusCode}
	}
	return resp, err
}

// proxy is the one for an address, nil for none.
func (t *Transport) proxy(to *url.URL) *url.URL {
	t.once.Do(func() { t.via = t.Proxies.read() })
	return t.via(to)
}

// tunnels reports whether r goes by a tunnel through a proxy. A proxy that is asked itself makes of Host what is in the address (RFC 9112, section
// 3.2.2), and knows no upgrades.
func (t *Transport) tunnels(r *http.Request, via *url.URL) bool {
	asks := r.URL.Scheme == "http" && (via.Scheme == "http" || via.Scheme == "https")
	return t.Tunnels || !asks || r.Header.Get("Upgrade") != "" || r.Host != "" && r.Host != r.URL.Host
}

// current is what sends with the keys in use now. Connections that were made with others are not used any more.
func (t *Transport) current() *http.Transport {
	keys := t.Trust.current()
	t.mu.Lock()
	old := t.direct
	if old == nil || t.keys != keys {
		t.direct, t.keys = t.new(keys), keys
	} else {
		old = nil
	}
	current := t.direct
	t.mu.Unlock()
	if old != nil {
		old.CloseIdleConnections() // and those that become idle later, as nobody asks it for one
	}
	return current
}

// new is a pool of connections made with keys.
func (t *Transport) new(keys *Keys) *http.Transport {
	tr := &http.Transport{Protocols: new(http.Protocols), TLSHandshakeTimeout: dialTime, MaxResponseHeaderBytes: maxHead}
	tr.Protocols.SetHTTP1(true)
	tr.Protocols.SetHTTP2(t.HTTP2)
	tr.ForceAttemptHTTP2 = t.HTTP2
	tr.HTTP2 = &http.HTTP2Config{SendPingTimeout: silentTime, PingTimeout: silentTime}
	tr.DialContext = func(ctx context.Context, _, address string) (net.Conn, error) {
		return t.wrap(t.dial(ctx, "http", address))
	}
	protocols := t.Protocols
	if t.HTTP2 {
		protocols = []string{"h2", "http/1.1"}
	}
	tr.DialTLSContext = func(ctx context.Context, _, address string) (net.Conn, error) {
		return t.secured(ctx, address, keys, protocols)
	}
	if t.Tune != nil {
		t.Tune(tr)
	}
	return tr
}

// secured opens a connection over TLS.
func (t *Transport) secured(ctx context.Context, address string, keys *Keys, protocols []string) (net.Conn, error) {
	hostname, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	c, err := t.dial(ctx, "https", address)
	if err != nil {
		return nil, err
	}
	return t.wrap(secure(ctx, c, t.Trust.config(keys, hostname, protocols)))
}

// dial opens a connection for the scheme.
func (t *Transport) dial(ctx context.Context, scheme, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	if t.Socket != "" && scheme == "http" && address == host+":80" {
		return t.base(ctx, "unix", t.Socket)
	}
	if via := t.proxy(&url.URL{Scheme: scheme, Host: address}); via != nil {
		return dialer(t.base).through(ctx, via, address)
	}
	return t.base(ctx, "tcp", address)
}

func (t *Transport) base(ctx context.Context, network, address string) (net.Conn, error) {
	if t.Base != nil {
		return t.Base(ctx, network, address)
	}
	return new(net.Dialer).DialContext(ctx, network, address)
}

// secure does the handshake of TLS.
func secure(ctx context.Context, c net.Conn, config *tls.Config) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	conn := tls.Client(c, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return conn, nil
}

// Secure does the handshake of TLS with a server that is no HTTP's, on the host of that name, with the keys in use now. It closes c when it fails.
func (s Settings) Secure(ctx context.Context, c net.Conn, host string) (net.Conn, error) {
	config := s.Trust.config(s.Trust.current(), host, nil)
	if s.Trust != nil && s.Trust.name != "" {
		config.ServerName = s.Trust.name // of whichever of several servers
	}
	return secure(ctx, c, config)
}

func (t *Transport) wrap(c net.Conn, err error) (net.Conn, error) {
	if err != nil || t.Wrap == nil {
		return c, err
	}
	return t.Wrap(c), nil
}

// asked is what sends to proxies that are asked themselves. It has no keys of the upstream's.
func (t *Transport) asked() *http.Transport {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.proxied == nil {
		t.proxied = &http.Transport{DialContext: t.base, TLSHandshakeTimeout: dialTime, MaxResponseHeaderBytes: maxHead,
			Proxy: func(r *http.Request) (*url.URL, error) { return t.proxy(r.URL), nil }}
		t.proxied.Protocols = new(http.Protocols)
		t.proxied.Protocols.SetHTTP1(true)
		if t.Tune != nil {
			t.Tune(t.proxied)
		}
	}
	return t.proxied
}

// CloseIdleConnections closes the connections that no request uses.
func (t *Transport) CloseIdleConnections() {
	t.mu.Lock()
	direct, proxied := t.direct, t.proxied
	t.mu.Unlock()
	for _, tr := range []*http.Transport{direct, proxied} {
		if tr != nil {
			tr.CloseIdleConnections()
		}
	}
}
