// This file is what an operator revokes: "now", which no answer and no token knows of. The rules:
//
//   - Clients whose pass matches are refused with 401 and cut. Answers that are cached or under way count no more.
//   - What was issued before stays revoked: a token or a ticket is good for whoever has it, and comes back. A token is known by itself,
//     where it was in use, or by its iat. The application is asked: a session that it knows is good.
//   - What was revoked for several routes counts for each of them, also for one that is there only later: see Memory.
//   - What is remembered is bounded. What is forgotten for lack of room revokes all tickets and tokens that are older.

package access

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"
)

const (
	revokedTime = 24 * time.Hour // how long a revocation is remembered
	revokedMost = 4096           // how many are, of one route
)

// Revocation says which clients are to go: those of a route that match all of it.
type Revocation struct {
	Route  string            `json:"route,omitempty"` // "" all with AUTH
	Auth   map[string]string `json:"auth,omitempty"`
	Cookie map[string]string `json:"cookie,omitempty"`
	Header map[string]string `json:"header,omitempty"`
	At     time.Time         `json:"at,omitzero"` // zero: now
}

// Empty reports whether r has no condition.
func (r *Revocation) Empty() bool { return len(r.Auth)+len(r.Cookie)+len(r.Header) == 0 }

// Understands reports what of r the guard cannot match by, since it does not keep it of its clients; nil: it matches.
func (g *Guard) Understands(r *Revocation) error {
	for name := range r.Auth {
		if !slices.Contains(g.Claims, name) && !(g.tokens != nil && slices.Contains(kept, name)) {
			return fmt.Errorf("%q is not in AUTH_CLAIMS", name)
		}
	}
	for name := range r.Header {
		if !slices.Contains(g.Headers, http.CanonicalHeaderKey(name)) {
			return fmt.Errorf("the header %q is not in AUTH_HEADERS", name)
		}
	}
	if len(r.Cookie) > 0 && !slices.Contains(g.Headers, "Cookie") {
		return errors.New("the header \"Cookie\" is not in AUTH_HEADERS")
	}
	return nil
}

// Revoke cuts the clients that r means, whatever its Route, and returns their number.
func (g *Guard) Revoke(r *Revocation) (cut int) { return g.revokeKnown(r, nil) }

// newRevocation is what is remembered of r: proofs are of what was in use elsewhere.
func newRevocation(r *Revocation, proofs map[key]bool) revocation {
	one := revocation{at: r.At, auth: maps.Clone(r.Auth), proofs: map[key]bool{}}
	maps.Copy(one.proofs, proofs)
	for name, value := range r.Cookie {
		one.marks = append(one.marks, mark("cookie", name, value))
	}
	for name, value := range r.Header {
		one.marks = append(one.marks, mark("header", http.CanonicalHeaderKey(name), value))
	}
	return one
}

// revokeKnown is Revoke where some tokens and tickets are known already that are meant.
func (g *Guard) revokeKnown(r *Revocation, proofs map[key]bool) (cut int) {
	one := newRevocation(r, proofs)
	one.order = g.orders.Add(1)
	if g.forward != nil {
		g.forward.forget()
	}
	g.mu.Lock()
	var ended []*Pass
	for p := range g.passes {
		if one.means(p) {
			one.proofs[p.proof] = true
			g.forget(p)
			ended = append(ended, p)
		}
	}
	delete(one.proofs, key{})
	g.revoked.add(one)
	g.mu.Unlock()
	for _, p := range ended {
		cut += p.End(http.StatusUnauthorized)
	}
	g.Stats.Revoked.Add(int64(cut))
	return cut
}

// Succeed has g remember what old was told to revoke, and continue its totals. It is called before g is used; old is told everything that
// g is from then on, as long as it has clients.
func (g *Guard) Succeed(old *Guard) {
	old.mu.Lock()
	defer old.mu.Unlock()
	g.Stats = old.Stats
	g.revoked = revocations{list: slices.Clone(old.revoked.list), floor: old.revoked.floor}
	g.orders.Store(old.orders.Load())
}

// revocation is one that is remembered.
type revocation struct {
	order  uint64
	at     time.Time
	auth   map[string]string
	marks  []uint64
	proofs map[key]bool // of tokens and tickets that were in use
}

// matches reports whether p is one of those that are meant.
func (r *revocation) matches(p *Pass) bool {
	for name, text := range r.auth {
		if p.token.text(name) != text && p.forward.text(name) != text {
			return false
		}
	}
	for _, m := range r.marks {
		if !slices.Contains(p.marks, m) {
			return false
		}
	}
	return true
}

// means reports whether p, which is in use, is one that goes: what is younger came after a revocation that came late.
func (r *revocation) means(p *Pass) bool { return r.matches(p) && !p.begun.After(r.at.Add(skew)) }

// revocations are what is remembered, oldest first.
type revocations struct {
	list  []revocation
	floor time.Time // what was issued before is revoked, as far as it is matched by nothing else
}

func (rs *revocations) add(r revocation) {
	rs.list = slices.DeleteFunc(rs.list, func(old revocation) bool { return r.at.Sub(old.at) > revokedTime })
	rs.list = append(rs.list, r)
	if over := len(rs.list) - revokedMost; over > 0 {
		rs.floor = rs.list[over-1].at
		rs.list = slices.Delete(rs.list, 0, over)
	}
}

// covers reports whether p, which is new, is revoked already.
func (rs *revocations) covers(p *Pass) bool {
	if p.proof != (key{}) && !p.begun.IsZero() && p.begun.Before(rs.floor.Truncate(time.Second)) {
		return true
	}
	for i := range rs.list {
		if r := &rs.list[i]; r.proofs[p.proof] || r.matches(p) && r.precedes(p) {
			return true
		}
	}
	return false
}

// precedes reports whether what p was made of is older than r: the answer, or the token or ticket. One that was in use is known by itself,
// whatever of it is kept by now.
func (r *revocation) precedes(p *Pass) bool {
	switch {
	case p.order < r.order:
		return true
	case p.proof == (key{}):
		return false
	case p.generation == sealed:
		return !p.begun.After(r.at)
	}
	return !p.begun.IsZero() && p.begun.Before(r.at.Truncate(time.Second)) // iat has whole seconds
}
