package upstream

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxRetryAfter caps what an upstream can ask us to wait.
const maxRetryAfter = time.Hour

var (
	sockets = &http.Client{Transport: transport(false), CheckRedirect: sameOrigin} // for upgrades, which HTTP/2 has not
	polls   = &http.Client{Transport: transport(true), CheckRedirect: sameOrigin}
)

// transport dials what the configuration says and nothing else: no proxy of the environment.
func transport(http2 bool) *http.Transport {
	t := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: dialTime}).DialContext,
		TLSHandshakeTimeout: dialTime,
		MaxIdleConnsPerHost: 64,
		IdleConnTimeout:     90 * time.Second,
		ForceAttemptHTTP2:   http2,
	}
	t.Protocols = new(http.Protocols)
	t.Protocols.SetHTTP1(true)
	t.Protocols.SetHTTP2(http2)
	return t
}

// CloseIdle lets go of the connections that polls keep open between requests.
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
	req, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(body))
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
