// This file is streams of a set of routes that a page chooses: GET /_sidestream/events?from=PATH&from=PATH. See web/README.md.

package proxy

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"sidestream/proxy/deliver"
	"sidestream/proxy/merge"
	"sidestream/proxy/stream"
	"sidestream/proxy/upstream"
	"sidestream/translate/sse"
)

const (
	setPath  = "/_sidestream/events"
	setName  = "_events" // as a route's; no route can have it
	setMost  = 32        // parts
	setParam = "from"    // in the query: the path of a part, with a query of its own
	setMarks = "places"  // in the query, with the value 1: see merge.Plan.Marks
)

// SetSettings are those of streams that pages choose: the global values of what routes have too.
type SetSettings struct {
	Heartbeat    time.Duration
	Coalesce     time.Duration
	Compress     bool
	Retry        time.Duration
	Linger       time.Duration
	ReplayEvents int
	ReplayBytes  int
	ReplayAge    time.Duration
}

// setRoute is the route that sets are served by, which is at no path of its own.
func setRoute(s SetSettings) *RouteSettings {
	merges, err := upstream.Compile(upstream.SourceSettings{From: "routes:"})
	if err != nil {
		panic(err) // it has no settings that could be wrong
	}
	return &RouteSettings{Name: setName, Path: setPath, Upstream: merges, Start: stream.StartKeys, Heartbeat: s.Heartbeat, Coalesce: s.Coalesce, Compress: s.Compress, Retry: s.Retry,
		Linger: s.Linger, ReplayEvents: s.ReplayEvents, ReplayBytes: s.ReplayBytes, ReplayAge: s.ReplayAge, Forgets: true}
}

// answerSet answers a request at setPath.
func (p *Proxy) answerSet(w http.ResponseWriter, r *http.Request) deliver.Rest {
	switch {
	case p.preflight(r):
		answerPreflight(w, r, "GET, OPTIONS", p.table().headers())
	case r.Method != http.MethodGet:
		w.Header().Set("Allow", http.MethodGet)
		refuseSend(w, http.StatusMethodNotAllowed, "GET ?from=/path&from=/path for the events of several routes")
	default:
		c, rest := p.receiveSet(w, r)
		if rest != nil {
			return rest
		}
		return p.clients.Join(w, r, c)
	}
	return deliver.Answered
}

// headers are those of clients that any route looks at.
func (t *table) headers() (names []string) {
	names = union(nil, t.credentials)
	for _, rt := range t.routes {
		names = union(names, rt.Upstream.ClientHeaders())
	}
	return names
}

// receiveSet admits a client of several routes. Where rest is not nil it has been answered with something else.
func (p *Proxy) receiveSet(w http.ResponseWriter, r *http.Request) (c deliver.Client, rest deliver.Rest) {
	t := p.table()
	query := r.URL.Query()
	froms := query[setParam]
	if len(froms) == 0 || len(froms) > setMost {
		return c, p.reject(w, BadRequest, http.StatusBadRequest, "give 1 to "+strconv.Itoa(setMost)+" paths of routes, as ?from=/path&from=/path")
	}
	if !p.admit(w.Header(), r) {
		return c, p.refuseOrigin(w, r)
	}
	g, rt := newGuest(r), t.set
	if query.Get(ticketParam) != "" && t.tickets != nil {
		g.place = placeID
	}
	if p.clients.Draining() {
		p.Rejected[Draining].Add(1)
		return c, deliver.Busy(w, r, g.busyID(), p.clients.Hint(&rt.deliver))
	}
	members, ids := p.members(r, froms, query.Get(ticketParam))
	marks := query.Get(setMarks) == "1"
	g.set = rt.gather(members, merge.Plan{Indexed: true, Marks: marks, Keys: true, Events: rt.ReplayEvents})
	for i, m := range members {
		if m.status == 0 && marks {
			g.set.ids = append(g.set.ids, ids[i])
		}
	}
	if r.Context().Err() != nil {
		g.leave()
		return c, deliver.Answered // the client has gone
	}
	if g.set.request.Route == nil {
		return c, p.answerNone(w, r, &g)
	}
	return rt.place(w, r, &g, g.set.request)
}

// members admits a client to each part of a set. ids are what it has received last of each.
func (p *Proxy) members(r *http.Request, froms []string, ticket string) (members []member, ids []string) {
	members, ids = make([]member, len(froms)), make([]string, len(froms))
	var asking sync.WaitGroup
	for i, from := range froms {
		m := &members[i]
		m.label = strconv.Itoa(i)
		var in *http.Request
		in, ids[i], from = partRequest(r, from, ticket)
		about, _ := json.Marshal(from)
		m.about = `"from":` + string(about)
		if in == nil {
			m.status = http.StatusNotFound
			continue
		}
		rt := p.table().enter(in)
		if rt == nil {
			m.status = http.StatusNotFound
			p.Rejected[BadRequest].Add(1)
			continue
		}
		asking.Go(func() { // ends within the time that a part is waited for
			g, err := rt.welcome(r.Context(), in)
			rt.join(r.Context(), &g, err, m)
		})
	}
	asking.Wait()
	return members, ids
}

// partRequest is the request that a client would have made for one part alone, nil when there can be none, with the id that it has received last of it. shown is
// from without that.
func partRequest(r *http.Request, from, ticket string) (in *http.Request, id, shown string) {
	u, err := url.ParseRequestURI(from)
	if err != nil || u.Host != "" || u.Scheme != "" || !strings.HasPrefix(from, "/") || strings.HasPrefix(from, "//") || strings.Contains(from, "#") {
		return nil, "", from
	}
	shown = from
	in = &http.Request{Method: http.MethodGet, URL: u, RequestURI: from, Host: r.Host, Header: r.Header, RemoteAddr: r.RemoteAddr, TLS: r.TLS,
		Proto: r.Proto, ProtoMajor: r.ProtoMajor, ProtoMinor: r.ProtoMinor}
	in = in.WithContext(r.Context())
	query := u.Query()
	for _, name := range []string{"lastEventId", "last_event_id"} {
		if query.Has(name) {
			if id == "" {
				id = strings.Clone(query.Get(name))
			}
			path, raw, _ := strings.Cut(shown, "?")
			if raw = upstream.Without(raw, func(one, _ string) bool { return one == name }); raw != "" {
				path += "?" + raw
			}
			shown = path
		}
	}
	if ticket != "" {
		if u.RawQuery != "" {
			u.RawQuery += "&"
		}
		u.RawQuery += ticketParam + "=" + url.QueryEscape(ticket)
	}
	return in, id, shown
}

// answerNone tells a client that none of the routes is there for it. That is all there is, so the answer is complete.
func (p *Proxy) answerNone(w http.ResponseWriter, r *http.Request, g *guest) deliver.Rest {
	g.leave()
	h := w.Header()
	h.Add("Vary", "Accept")
	h.Set("Content-Type", sse.ContentType)
	h.Set("Cache-Control", "no-cache, no-store, no-transform")
	text := append(sse.AppendRetry(nil, g.set.again(&p.table().set.deliver)), g.set.words...)
	w.Write(text) // a client that has disconnected is no error
	return deliver.Answered
}
