package upstream

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"sidestream/proxy/outbound"
	"sidestream/translate/dialect"
)

// maxRetryAfter caps what an upstream can ask us to wait.
const maxRetryAfter = time.Hour

// The connections of all routes that are dialled as any other.
var (
	sockets = newClient(outbound.Settings{}, false) // for upgrades, which HTTP/2 has not
	polls   = newClient(outbound.Settings{}, true)
)

// newClient returns one with a pool of connections of its own.
func newClient(s outbound.Settings, http2 bool) *http.Client {
	return &http.Client{CheckRedirect: sameOrigin, Transport: &outbound.Transport{Settings: s, HTTP2: http2, Upgrades: !http2, Protocols: []string{"http/1.1"},
		Tune: func(t *http.Transport) {
			t.MaxIdleConnsPerHost, t.IdleConnTimeout = 64, 90*time.Second
		}}}
}

// pools are the connections of a route.
type pools struct{ sockets, polls *http.Client }

// pools are its own where it is dialled in a way of its own: nothing goes over a connection that was made with another route's certificate.
func (rt *Route) pools() pools {
	if rt.own != nil {
		return *rt.own
	}
	return pools{sockets, polls}
}

// Network is how connections of the route are made.
func (rt *Route) Network() outbound.Settings { return rt.settings.Network }

// Secure reports whether anything of the route may be dialled with TLS.
func (rt *Route) Secure() bool {
	s := &rt.settings
	if rt.Redis() {
		return strings.HasPrefix(s.From, "rediss")
	}
	return strings.HasPrefix(s.From, "wss://") || strings.Contains(s.From+s.First+s.Ticket, "https://") || s.Dial != "" || s.Protocol != "raw" || AsksSecurely(s.Hello)
}

// AsksSecurely reports whether a line of HELLO makes a request over TLS.
func AsksSecurely(hello string) bool {
	marks, lines := dialect.SplitHello(hello)
	for i, mark := range marks {
		if mark == '@' && strings.Contains(lines[i], "https://") {
			return true
		}
	}
	return false
}

// CloseIdle lets go of the connections that the route keeps open between requests.
func (rt *Route) CloseIdle() {
	if rt.own != nil {
		rt.own.sockets.CloseIdleConnections()
		rt.own.polls.CloseIdleConnections()
	}
}

// LogTo has log told of keys that change, or cannot be used.
func (rt *Route) LogTo(log *slog.Logger) { rt.settings.Network.Trust.LogTo(log) }

// CloseIdle lets go of the connections that polls keep open between requests, but for those of routes that have their own.
func CloseIdle() {
	polls.CloseIdleConnections()
	sockets.CloseIdleConnections()
}

var errRedirects = errors.New("more than 10 redirects")

// sameOrigin follows redirects only where our credentials were meant to go.
func sameOrigin(req *http.Request, via []*http.Request) error {
	from := via[0].URL
	if req.URL.Scheme != from.Scheme || address(req.URL.Scheme, req.URL.Host) != address(from.Scheme, from.Host) {
		return http.ErrUseLastResponse
	}
	if len(via) >= 10 {
		return errRedirects
	}
	return nil
}

// address is host with the port that scheme implies.
func address(scheme, host string) string {
	host = strings.ToLower(host)
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	if scheme == "https" {
		return host + ":443"
	}
	return host + ":80"
}

// newRequest makes a request of which Host may be one of the headers.
func newRequest(ctx context.Context, method, address string, h http.Header, body string) (*http.Request, error) {
	var r io.Reader // nil where there is nothing: net/http copies even that with a buffer of 32 KiB
	if body != "" {
		r = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, address, r)
	if err != nil {
		return nil, Kind(err)
	}
	req.Header = h
	if host := h.Get("Host"); host != "" {
		req.Host = host
		h.Del("Host")
	}
	return req, nil
}

// retryAfter reads Retry-After, or another header of its form (RFC 9110, section 10.2.3): seconds or a date; 0 when it says
// nothing. A date is one of the answer's own clock.
func retryAfter(h http.Header, name string) time.Duration {
	value := h.Get(name)
	if value == "" {
		return 0
	}
	now, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		now = time.Now()
	}
	var d time.Duration
	if seconds, err := strconv.ParseUint(strings.TrimSpace(value), 10, 31); err == nil || errors.Is(err, strconv.ErrRange) {
		d = time.Duration(seconds) * time.Second // ErrRange comes with the largest
	} else if date, err := http.ParseTime(value); err == nil {
		d = date.Sub(now)
	}
	return max(0, min(d, maxRetryAfter))
}
