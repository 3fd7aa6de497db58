package config

import (
	"net"
	"net/url"
	"slices"
	"strings"
)

// checkItself reports addresses of upstreams at which the sidecar listens itself: each request would make another one, until nothing is left.
func (l *loader) checkItself(c *Config, global values, routes map[string]values) {
	const problem = "is where the sidecar listens itself (SSE_LISTEN), so that a request would go round in circles; write the service's own address"
	if c.Upstream != nil && isItself(c.Listen, c.Upstream) {
		l.problems.add(global.variable(name{setting: "UPSTREAM"}), problem)
	}
	for route, vs := range routes {
		at, _, _ := strings.Cut(strings.TrimSpace(vs["FROM"].text), "{")
		if u, err := url.Parse(at); err == nil && isItself(c.Listen, u) {
			l.problems.add(vs.variable(name{route, "FROM"}), problem)
		}
	}
}

// ownNames are what leads to a sidecar that listens at an address, besides this. To dial an unspecified address is to dial loopback.
var ownNames = map[string][]string{
	"":          {"localhost", "127.0.0.1", "0.0.0.0", "::1", "::"},
	"::":        {"localhost", "127.0.0.1", "0.0.0.0", "::1"},
	"0.0.0.0":   {"localhost", "127.0.0.1"},
	"127.0.0.1": {"localhost", "0.0.0.0"},
	"localhost": {"127.0.0.1", "0.0.0.0"},
	"::1":       {"localhost", "::"},
}

// isItself reports whether who listens at the first address gets what is sent to the second. Names are not looked up.
func isItself(listen string, to *url.URL) bool {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return false
	}
	usual := map[string]string{"http": "80", "ws": "80", "https": "443", "wss": "443"}
	if given := to.Port(); given != "" && given != port || given == "" && usual[to.Scheme] != port || to.Host == "" || port == "0" {
		return false
	}
	at := strings.ToLower(to.Hostname())
	return at == strings.ToLower(host) || slices.Contains(ownNames[host], at)
}
