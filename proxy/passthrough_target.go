package proxy

import (
	"bytes"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"time"

	"sidestream/proxy/outbound"
)

// newTransport speaks HTTP/1.1 to the service and adds nothing of its own: no Accept-Encoding, no deadline for the answer. Nothing is sent
// anywhere but to the service, redirects are the client's to follow.
func newTransport(s outbound.Settings) *outbound.Transport {
	return &outbound.Transport{
		Settings: s,
		Tunnels:  true,
		Wrap:     func(c net.Conn) net.Conn { return &exactConn{Conn: c} },
		Tune: func(t *http.Transport) {
			t.DisableCompression = true
			t.MaxIdleConnsPerHost = 1024
			t.IdleConnTimeout = 4 * time.Second // Node closes idle connections after 5 s, and a POST that meets that is lost
			t.ExpectContinueTimeout = time.Second
		},
	}
}

// Direct returns what asks the legacy service on the sidecar's own behalf, by the connections that pass-through has.
func (c Settings) Direct() http.RoundTripper { return newTransport(c.Network) }

// target takes the client's request target apart, byte for byte. In absolute form it loses scheme and authority, as RFC
// 9112 (section 3.2.2) wants of a server; Host is that authority already.
func target(r *http.Request) (path, query string, hasQuery bool) {
	uri := r.RequestURI
	if uri == "" { // a request that came from no server
		uri = r.URL.RequestURI()
	}
	path, query, hasQuery = strings.Cut(uri, "?")
	if path == "*" || strings.HasPrefix(path, "/") {
		return path, query, hasQuery
	}
	_, path, _ = strings.Cut(path, "://")
	_, path, _ = strings.Cut(path, "/")
	return "/" + path, query, hasQuery
}

// exact points out at upstream with exactly these bytes as its target. URL.Path would not do: net/http writes it with an
// encoding of its own, so that /a|b becomes /a%7Cb.
func exact(out *http.Request, upstream *url.URL, path, query string, hasQuery bool) *http.Request {
	if path != "*" {
		path = strings.TrimSuffix(upstream.EscapedPath(), "/") + path
	}
	out.URL = &url.URL{Scheme: upstream.Scheme, Host: upstream.Host, Opaque: path, RawQuery: query, ForceQuery: hasQuery}
	if !strings.HasPrefix(path, "//") {
		return out
	}
	// An Opaque that begins with // is the one that is not written as it is: it gets the scheme in front, and //a would
	// be the root of host a. The connection takes it out again.
	cut := out.Method + " " + out.URL.Scheme + ":"
	return out.WithContext(httptrace.WithClientTrace(out.Context(), &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) { info.Conn.(*exactConn).expect(out.Method+" ", cut) },
	}))
}

// exactConn is a connection to the service that can correct the next request line. The transport tells it whose turn it
// is (GotConn) before it writes, and each request begins a Write of its own, as the buffer is flushed between two.
type exactConn struct {
	net.Conn
	keep, cut []byte // the next Write begins with cut, of which keep is to be sent; cut nil: leave it alone
}

func (c *exactConn) expect(keep, cut string) { c.keep, c.cut = []byte(keep), []byte(cut) }

// Write counts what it left out as written.
func (c *exactConn) Write(p []byte) (int, error) {
	keep, cut := c.keep, c.cut
	c.keep, c.cut = nil, nil
	rest, ok := bytes.CutPrefix(p, cut)
	if cut == nil || !ok {
		return c.Conn.Write(p)
	}
	n, err := c.Conn.Write(append(keep, rest...))
	return min(n+len(cut)-len(keep), len(p)), err
}

// CloseWrite lets one direction of an upgraded connection end before the other.
func (c *exactConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Conn.Close()
}
