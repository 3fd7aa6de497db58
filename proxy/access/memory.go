package access

import (
	"slices"
	"strings"
	"time"
)

// Memory is what was revoked, of all routes: a route that is there only later, for the first time or again, is to know of it. The zero value has
// nothing. It is not safe for concurrent use.
type Memory struct {
	list  []remembered // oldest first
	floor time.Time    // see revocations
}

// remembered is a revocation, with what it has found in use.
type remembered struct {
	Revocation
	proofs map[key]bool
}

// Revoke revokes r for guards, which are those of its Route that there are, and returns how many clients were cut.
func (m *Memory) Revoke(r Revocation, guards []*Guard) (cut int) {
	one := remembered{r, map[key]bool{}}
	for _, g := range guards {
		g.inUse(&r, one.proofs)
	}
	for _, g := range guards {
		cut += g.revokeKnown(&r, one.proofs)
	}
	m.list = slices.DeleteFunc(m.list, func(old remembered) bool { return r.At.Sub(old.At) > revokedTime })
	m.list = append(m.list, one)
	if over := len(m.list) - revokedMost; over > 0 {
		m.floor = m.list[over-1].At
		m.list = slices.Delete(m.list, 0, over)
	}
	return cut
}

// inUse adds to proofs what is in use of what r means.
func (g *Guard) inUse(r *Revocation, proofs map[key]bool) {
	one := newRevocation(r, nil)
	g.mu.Lock()
	defer g.mu.Unlock()
	for p := range g.passes {
		if p.proof != (key{}) && one.means(p) {
			proofs[p.proof] = true
		}
	}
}

// Teach has g, the guard of a route that takes the place of none, know what was revoked for that. It is called before g is used.
func (m *Memory) Teach(g *Guard, route string) {
	g.revoked.floor = m.floor
	for i := range m.list {
		if r := &m.list[i]; r.Route == "" || strings.EqualFold(r.Route, route) {
			one := newRevocation(&r.Revocation, r.proofs)
			one.order = g.orders.Add(1)
			g.revoked.add(one)
		}
	}
}
