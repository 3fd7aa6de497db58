// This file is who may read a route, and send to it: AUTH, tickets and what an operator revokes. See package access. The rules:
//
//   - Before a client is admitted nothing is dialled, and nothing of its request is expanded.
//   - A ticket stands for the credentials that it was asked for with: they take the place of the request's own, all of them, so that
//     nothing goes upstream that mixes two users. Nothing after this file sees the ticket.
//   - What cannot be found out now ends no EventSource: it is told to come back.

package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"sidestream/proxy/access"
	"sidestream/proxy/deliver"
	"sidestream/proxy/history"
	"sidestream/proxy/upstream"
	"sidestream/translate/sse"
)

const (
	ticketParam = "ticket"         // in the query of a GET for events
	unsureTime  = 10 * time.Second // clients of which nothing can be found out are told to come back after this to twice this

	// placeID is what a client with a ticket is given as its last id that has no place in a stream yet: with it it may come back, and
	// begins as one without an id.
	placeID = "0-0"
)

// credentials are the headers that a ticket takes the place of, beside those of AUTH_HEADERS.
var credentials = []string{"Authorization", "Cookie"}

// guest is a client that may come in.
type guest struct {
	r       *http.Request  // its request, with what its ticket stands for
	pass    *access.Pass   // nil without AUTH
	id      string         // the last one that it has; "" none
	inQuery bool           // which stands in the query
	gone    func()         // gives back its place among those of its address; nil: it has none
	set     *set           // what its stream is made of, where it is several
	ticket  *access.Ticket // that it has come with; nil: none
	place   string         // what it is told as its last id while it has none; "" nothing
}

// welcome finds out whether a client may come in, for which it may wait. It fails with a *[access.Denied], [access.ErrUnavailable], or ctx's
// error; of the guest the ids are known then, too.
func (rt *Route) welcome(ctx context.Context, r *http.Request) (g guest, err error) {
	g = newGuest(r)
	t, err := rt.proxy.ticket(&g)
	g.ticket = t
	switch {
	case err != nil || rt.guard == nil:
	case t != nil:
		g.pass, err = rt.guard.AdmitTicket(ctx, rt.proxy.client(g.r), t, g.r.URL.EscapedPath())
	default:
		g.pass, err = rt.guard.Admit(ctx, rt.proxy.client(g.r))
	}
	return g, err
}

// known is welcome where nothing has to be waited for; false: something has, or the client may not come in.
func (rt *Route) known(r *http.Request) (g guest, ok bool) {
	g = newGuest(r)
	t, err := rt.proxy.ticket(&g)
	switch {
	case err != nil || rt.guard == nil:
		return g, err == nil
	case t != nil:
		g.pass = rt.guard.KnownTicket(rt.proxy.client(g.r), t, g.r.URL.EscapedPath())
	default:
		g.pass = rt.guard.Known(rt.proxy.client(g.r))
	}
	return g, g.pass != nil
}

func newGuest(r *http.Request) guest {
	g := guest{r: r}
	if g.id, g.inQuery = lastEventID(r); g.id == placeID {
		g.id, g.place = "", placeID
	}
	return g
}

// ticket opens the ticket that g has come with, if it has, and puts what that stands for in the place of what the request has. It fails with
// a *[access.Denied].
func (p *Proxy) ticket(g *guest) (*access.Ticket, error) {
	now := p.table()
	if now.tickets == nil || !strings.Contains(g.r.URL.RawQuery, ticketParam) {
		return nil, nil
	}
	text := g.r.URL.Query().Get(ticketParam)
	if text == "" {
		return nil, nil
	}
	t, err := now.tickets.Open(text, g.r.URL.EscapedPath(), origin(g.r), sse.ValidID(g.id) || g.place != "")
	if err != nil {
		return nil, err
	}
	g.place = placeID
	in := g.r.WithContext(g.r.Context())
	in.Header, in.URL = g.r.Header.Clone(), new(url.URL)
	for _, name := range now.credentials {
		in.Header.Del(name)
	}
	for name, values := range t.Header {
		in.Header[name] = slices.Clone(values)
	}
	*in.URL = *g.r.URL
	in.URL.RawQuery = upstream.Without(g.r.URL.RawQuery, func(name, _ string) bool { return name == ticketParam })
	in.RequestURI = in.URL.RequestURI()
	g.r = in
	return t, nil
}

// hasTicket reports whether r comes with a ticket, good or not.
func (p *Proxy) hasTicket(r *http.Request) bool {
	return p.table().tickets != nil && strings.Contains(r.URL.RawQuery, ticketParam) && r.URL.Query().Get(ticketParam) != ""
}

// origin is that of the page that has sent r; "" for the sidecar's own.
func origin(r *http.Request) string {
	site, from := r.Header.Get("Sec-Fetch-Site"), r.Header.Get("Origin")
	if from == "" || site == "same-origin" || site == "none" || sameHost(from, r) {
		return ""
	}
	return strings.ToLower(from)
}

// client is who r is from, as a guard has to know it. What proxies say of it counts if they are trusted, or none is named.
func (p *Proxy) client(r *http.Request) *access.Client {
	forwarded, from := http.Header{}, r
	if a := &p.table().addresses; a.names() && !a.trustsPeer(r) {
		from = &http.Request{Host: r.Host, RemoteAddr: r.RemoteAddr, TLS: r.TLS}
	}
	forward(forwarded, from)
	return &access.Client{Method: r.Method, URI: uriOf(r), Host: forwarded.Get("X-Forwarded-Host"), Proto: forwarded.Get("X-Forwarded-Proto"),
		Addresses: forwarded.Get("X-Forwarded-For"), Header: r.Header, Query: r.URL.Query().Get}
}

// uriOf is what r asks for, without what is the sidecar's own of it: it is the same when the client comes back.
func uriOf(r *http.Request) string {
	path := r.URL.EscapedPath()
	if query := upstream.Without(r.URL.RawQuery, upstream.Own); query != "" {
		path += "?" + query
	}
	return path
}

// unwelcome answers a client of an event stream that welcome has failed for.
func (rt *Route) unwelcome(w http.ResponseWriter, r *http.Request, g guest, err error) deliver.Rest {
	p := rt.proxy
	var denied *access.Denied
	var unclaimed *upstream.Unclaimed
	var none *errNoPart
	switch {
	case errors.As(err, &none) && none.soon:
		return rt.unread(w, r, &g)
	case errors.As(err, &none) && none.status == http.StatusServiceUnavailable:
		return p.busy(w, r, FullStreams, g.busyID())
	case errors.As(err, &none):
		return p.reject(w, RefusedUp, none.status, err.Error())
	case errors.As(err, &denied):
		rt.deliver.Log.Debug("client not admitted", "client", r.RemoteAddr, "err", denied)
		return p.deny(w, denied.Status, fmt.Sprintf("not admitted (%d)", denied.Status))
	case errors.As(err, &unclaimed):
		return p.deny(w, http.StatusForbidden, err.Error())
	case errors.Is(err, access.ErrUnavailable):
		p.Rejected[Unsure].Add(1)
		retry := unsureTime + rand.N(unsureTime)
		if p.clients.Draining() { // what is asked may be stopping as well
			retry = max(retry, p.clients.Hint(&rt.deliver))
		}
		return deliver.Busy(w, r, g.busyID(), retry)
	case r.Context().Err() != nil:
		return deliver.Answered // the client has gone
	}
	return p.reject(w, BadRequest, http.StatusBadRequest, err.Error())
}

// unread tells a client to come back soon: what is known of its stream from before is still being read, which takes a moment, and no other client's leaving.
func (rt *Route) unread(w http.ResponseWriter, r *http.Request, g *guest) deliver.Rest {
	rt.proxy.Rejected[Unread].Add(1)
	return deliver.Busy(w, r, g.busyID(), rt.deliver.RetryHint())
}

// leave gives back what was taken for g alone.
func (g *guest) leave() {
	if g.gone != nil {
		g.gone()
	}
	if g.set != nil {
		g.set.leave()
	}
}

// busyID is the last id of a client that is told to come back.
func (g *guest) busyID() string {
	if g.id == "" {
		return g.place
	}
	return g.id
}

// deny refuses a client for who it is.
func (p *Proxy) deny(w http.ResponseWriter, status int, text string) deliver.Rest {
	if status == http.StatusUnauthorized { // RFC 9110, section 15.5.2
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	return p.reject(w, Unauthorized, status, text)
}

// unsent answers a POST that welcome has failed for.
func (rt *Route) unsent(w http.ResponseWriter, r *http.Request, g guest, err error) {
	if errors.Is(err, access.ErrUnavailable) {
		rt.proxy.Rejected[Unsure].Add(1)
		w.Header().Set("Retry-After", "5")
		refuseSend(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	rt.unwelcome(w, r, g, err)
}

// ErrRevocation is wrapped by the errors of [Proxy.Revoke].
var ErrRevocation = errors.New("nothing was revoked")

// ErrReplicas is wrapped by the error of [Proxy.RevokeEverywhere] where the other replicas do not know.
var ErrReplicas = errors.New("the other replicas could not be told; repeat it")

// words is what replicas tell each other.
type words struct {
	Revoke *access.Revocation `json:"revoke,omitempty"`
}

// RevokeEverywhere is Revoke in all replicas that share the history. cut is of this one alone.
func (p *Proxy) RevokeEverywhere(ctx context.Context, r access.Revocation) (cut int, err error) {
	if r.At.IsZero() {
		r.At = time.Now()
	}
	if cut, err = p.Revoke(r); err != nil {
		return cut, err
	}
	if others, shared := p.History.(history.Words); shared {
		text, err := json.Marshal(words{Revoke: &r})
		if err == nil {
			err = others.Tell(ctx, text)
		}
		if err != nil {
			return cut, fmt.Errorf("%d were cut here; %w (%w)", cut, ErrReplicas, err)
		}
	}
	return cut, nil
}

// heard is what another replica tells.
func (p *Proxy) heard(text []byte) {
	var said words
	if err := json.Unmarshal(text, &said); err == nil && said.Revoke != nil {
		p.revoke(*said.Revoke, true) // a route that is not here has no clients here
	}
}

// Revoke cuts the clients that a revocation means, here, and returns their number. It fails when there is no such route, or no condition that
// its AUTH knows of.
func (p *Proxy) Revoke(r access.Revocation) (cut int, err error) { return p.revoke(r, false) }

// revoke is Revoke. told: by another replica, which has such a route; one that is here only later knows of it.
func (p *Proxy) revoke(r access.Revocation, told bool) (cut int, err error) {
	if r.Empty() {
		return 0, fmt.Errorf("%w: give what its clients have in common, in auth, cookie or header", ErrRevocation)
	}
	if r.At.IsZero() {
		r.At = time.Now()
	}
	p.reload.mu.Lock()
	defer p.reload.mu.Unlock()
	var guards []*access.Guard
	problem := errors.New("there is no such route with AUTH")
	for _, rt := range p.every() {
		if rt.guard == nil || r.Route != "" && !strings.EqualFold(rt.Name, r.Route) {
			continue
		}
		if unknown := rt.guard.Understands(&r); unknown != nil {
			problem = fmt.Errorf("%w of route %s, so that its clients are not known by it", unknown, rt.Name)
			continue
		}
		guards = append(guards, rt.guard)
	}
	if len(guards) == 0 && !told {
		return 0, fmt.Errorf("%w: %w", ErrRevocation, problem)
	}
	cut = p.reload.revoked.Revoke(r, guards)
	p.log.Info("clients revoked", "route", r.Route, "cut", cut)
	return cut, nil
}
