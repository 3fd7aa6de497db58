// This file is where clients come from. The rules:
//
//   - X-Forwarded-For is believed only from SSE_TRUSTED_PROXIES, from the right: the first address that is not a trusted proxy's is the
//     client's. What stands to the left of it may be of the client's own making. Whoever comes over a Unix socket has no address: it is trusted
//     where SSE_TRUSTED_PROXIES says unix.
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
	local   bool // whoever comes over a Unix socket is trusted as well
	most    int  // of one address; 0 any number
	counted *counted[netip.Prefix]
}

// counted is how many clients there are of each address, or stream. It outlives the bound, which a reload may change.
type counted[Of comparable] struct {
	mu   sync.Mutex // guards what follows
	used map[Of]int
}

// of is the address that r's client has; the zero value where that is not known.
func (a *addresses) of(r *http.Request) netip.Addr {
	at := parseAddress(r.RemoteAddr)
	if !a.trustsPeer(r) {
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
	if !a.names() {
		return netip.Addr{}
	}
	at := parseAddress(r.RemoteAddr)
	if from := a.of(r); from != at {
		return from
	}
	return netip.Addr{}
}

// trustsPeer reports whether r comes from a proxy that tells the truth.
func (a *addresses) trustsPeer(r *http.Request) bool {
	at := parseAddress(r.RemoteAddr)
	return !at.IsValid() && a.local || a.trusts(at)
}

// names reports whether any proxy is trusted rather than any other.
func (a *addresses) names() bool { return a.local || len(a.trusted) > 0 }

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

// networkOf is what one asker has of addresses like at: a single one, or of IPv6 a /64. It is zero for no address.
func networkOf(at netip.Addr) netip.Prefix {
	bits := at.BitLen()
	if at.Is6() {
		bits = 64
	}
	network, _ := at.Prefix(bits)
	return network
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
	network := networkOf(at)
	if c := a.counted; c.take(network, a.most) {
		return func() { c.give(network) }, true
	}
	return nil, false
}

func (c *counted[Of]) take(one Of, most int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.used[one] >= most {
		return false
	}
	if c.used == nil {
		c.used = map[Of]int{}
	}
	c.used[one]++
	return true
}

func (c *counted[Of]) give(one Of) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.used[one]--; c.used[one] <= 0 {
		delete(c.used, one)
	}
}
