// This file is where clients come from. The rules:
//
//   - X-Forwarded-For is believed only from SSE_TRUSTED_PROXIES, from the right: the first address that is not a trusted proxy's is the
//     client's. What stands to the left of it may be of the client's own making.
//   - An IPv6 address is counted by its /64, which one client has.
//   - Over SSE_MAX_CLIENTS_PER_IP a client is told to come back: it ends no EventSource.

package proxy

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
)

// addresses counts the clients of each address. Safe for concurrent use.
type addresses struct {
	trusted []netip.Prefix
	most    int // of one address; 0 any number

	mu   sync.Mutex // guards what follows
	used map[netip.Prefix]int
}

// of is the address that r's client has; the zero value where that is not known.
func (a *addresses) of(r *http.Request) netip.Addr {
	at := parseAddress(r.RemoteAddr)
	if !a.trusts(at) {
		return at
	}
	hops := strings.Split(strings.Join(r.Header["X-Forwarded-For"], ","), ",")
	for _, hop := range slices.Backward(hops) {
		next := parseAddress(hop)
		if !next.IsValid() {
			return at // what is to the left was said by whoever said this
		}
		if at = next; !a.trusts(at) {
			break
		}
	}
	return at
}

// forwarded is the address that a trusted proxy has given for r's client, the zero value where none has.
func (a *addresses) forwarded(r *http.Request) netip.Addr {
	if len(a.trusted) == 0 {
		return netip.Addr{}
	}
	at := parseAddress(r.RemoteAddr)
	if from := a.of(r); from != at {
		return from
	}
	return netip.Addr{}
}

// trusts reports whether at is a proxy's that tells the truth.
func (a *addresses) trusts(at netip.Addr) bool {
	return at.IsValid() && slices.ContainsFunc(a.trusted, func(p netip.Prefix) bool { return p.Contains(at) })
}

// parseAddress reads an address, with a port or without.
func parseAddress(text string) netip.Addr {
	text = strings.TrimSpace(text)
	at, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(text, "["), "]"))
	if err != nil {
		withPort, err := netip.ParseAddrPort(text)
		if err != nil {
			return netip.Addr{}
		}
		at = withPort.Addr()
	}
	return at.Unmap().WithZone("")
}

// take takes a client's place among those of its address. give gives it back; it is nil where nothing is counted. ok is false when there is
// none left.
func (a *addresses) take(r *http.Request) (give func(), ok bool) {
	if a.most == 0 {
		return nil, true
	}
	at := a.of(r)
	if !at.IsValid() {
		return nil, true
	}
	bits := at.BitLen()
	if at.Is6() {
		bits = 64
	}
	network, _ := at.Prefix(bits) // the length is one
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.used[network] >= a.most {
		return nil, false
	}
	a.used[network]++
	return func() { a.give(network) }, true
}

func (a *addresses) give(network netip.Prefix) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.used[network]--; a.used[network] <= 0 {
		delete(a.used, network)
	}
}
