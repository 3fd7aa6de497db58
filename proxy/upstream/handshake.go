// This file makes the head of an upgrade, and of any request, what servers that know nothing but browsers expect:
//
//   - Names of header fields are spelled as RFC 6455 does, and as HEADERS does. net/http has one spelling, Sec-Websocket-Key, which
//     is another name to servers that compare bytes.
//   - Compression is offered as browsers offer it, and what they take is taken: a server that keeps its window, and a window of
//     the client's, which is never asked for much since what is sent is not compressed.
//   - A host whose compressed messages cannot be inflated, or that answers with what was not offered, is dialled without compression from
//     then on.

package upstream

import (
	"compress/flate"
	"errors"
	"maps"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/coder/websocket"
)

// Spelled sends requests whose header names are spelled as RFC 6455 has them, and as Names does.
type Spelled struct {
	Base  http.RoundTripper
	Names map[string]string // spelling by canonical name; may be nil
}

// webSocketNames are the fields whose RFC has another spelling than net/http, by net/http's.
var webSocketNames = map[string]string{
	"Sec-Websocket-Key": "Sec-WebSocket-Key", "Sec-Websocket-Version": "Sec-WebSocket-Version", "Sec-Websocket-Protocol": "Sec-WebSocket-Protocol",
	"Sec-Websocket-Extensions": "Sec-WebSocket-Extensions", "Sec-Websocket-Accept": "Sec-WebSocket-Accept",
}

// unspelled are the names that net/http looks for itself before it writes a head: another spelling would send them twice.
var unspelled = []string{"Host", "User-Agent", "Accept-Encoding", "Expect", "Content-Length", "Transfer-Encoding", "Trailer", "Connection", "Upgrade"}

// RoundTrip is http.RoundTripper's.
func (s Spelled) RoundTrip(req *http.Request) (*http.Response, error) {
	spelled := req
	for _, names := range []map[string]string{webSocketNames, s.Names} {
		for name, written := range names {
			values, ok := spelled.Header[name]
			if !ok {
				continue
			}
			if spelled == req {
				spelled = req.WithContext(req.Context())
				spelled.Header = maps.Clone(req.Header)
			}
			delete(spelled.Header, name)
			spelled.Header[written] = values
		}
	}
	return s.Base.RoundTrip(spelled)
}

// SpellWebSocket gives the fields of a WebSocket's handshake in h the names of their RFC.
func SpellWebSocket(h http.Header) {
	for name, written := range webSocketNames {
		if values, ok := h[name]; ok {
			delete(h, name)
			h[written] = values
		}
	}
}

// spell notes how a name of HEADERS is written.
func (rt *Route) spell(canonical, written string) {
	if canonical == written || slices.Contains(unspelled, canonical) {
		return
	}
	if rt.spelling == nil {
		rt.spelling = map[string]string{}
	}
	rt.spelling[canonical] = written
}

// deflating offers compression as browsers do, and hides from the library what it need not know of the answer.
type deflating struct{ base http.RoundTripper }

const (
	extensions = "Sec-Websocket-Extensions"
	ownWindow  = "client_max_window_bits"
)

// RoundTrip is http.RoundTripper's.
func (d deflating) RoundTrip(req *http.Request) (*http.Response, error) {
	offering := req.WithContext(req.Context())
	offering.Header = maps.Clone(req.Header)
	offering.Header[extensions] = []string{"permessage-deflate; " + ownWindow}
	resp, err := d.base.RoundTrip(offering)
	if err != nil {
		return nil, err
	}
	for i, value := range resp.Header[extensions] {
		resp.Header[extensions][i] = withoutWindow(value)
	}
	return resp, nil
}

// withoutWindow is an answer to the offer without the size of the client's window, which bounds what it compresses, and that is
// nothing.
func withoutWindow(value string) string {
	var kept []string
	for param := range strings.SplitSeq(value, ";") {
		name, _, _ := strings.Cut(param, "=")
		if strings.TrimSpace(name) != ownWindow {
			kept = append(kept, strings.TrimSpace(param))
		}
	}
	return strings.Join(kept, "; ")
}

// compress sets what is offered to host.
func (rt *Route) compress(host string, o *websocket.DialOptions) {
	if rt.plain.has(host) {
		return
	}
	client := *o.HTTPClient
	client.Transport = deflating{client.Transport}
	o.HTTPClient, o.CompressionMode, o.CompressionThreshold = &client, websocket.CompressionContextTakeover, math.MaxInt
}

// doubt remembers host if err says that its compression is not what it should be, and reports whether it does.
func (rt *Route) doubt(host string, err error) bool {
	var corrupt flate.CorruptInputError
	var internal flate.InternalError
	if errors.As(err, &corrupt) || errors.As(err, &internal) || strings.Contains(err.Error(), "extensions from server") ||
		strings.Contains(err.Error(), "unsupported permessage-deflate parameter") {
		return rt.plain.add(host)
	}
	return false
}

// hosts is a bounded set. The zero value is empty.
type hosts struct {
	mu    sync.Mutex
	names map[string]bool
}

const maxHosts = 1024

func (h *hosts) has(name string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.names[name]
}

// add reports whether name is new.
func (h *hosts) add(name string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.names[name] {
		return false
	}
	if h.names == nil || len(h.names) >= maxHosts {
		h.names = map[string]bool{}
	}
	h.names[name] = true
	return true
}
