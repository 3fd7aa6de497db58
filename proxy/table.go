package proxy

import (
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"sidestream/proxy/access"
)

// table is what of the settings may change while the sidecar runs, as requests look it up. It is replaced as a whole, and never written to
// once it is in use: a request that looks twice may find another one.
type table struct {
	settings    Settings
	routes      []*Route // in order of their names
	set         *Route   // for sets of them that pages choose
	mux         *http.ServeMux
	origins     map[string]bool
	tickets     *access.Tickets // nil: there are none
	credentials []string        // headers that a ticket takes the place of
	addresses   addresses
	made        time.Time
	compared    bool // a route has PARITY
}

// table is the one that counts now.
func (p *Proxy) table() *table { return p.now.Load() }

// Routes are the sidecar's routes as of now, in order of their names. They are not written to.
func (p *Proxy) Routes() []*Route { return p.table().routes }

// Served are the routes and, after them, what serves the sets of routes that pages choose.
func (p *Proxy) Served() []*Route { return p.table().served() }

func (t *table) served() []*Route { return append(slices.Clone(t.routes), t.set) }

// newTable returns what c comes to. What of it is the very thing that the table now was made of stays as it is: see [Proxy.Reload].
func (p *Proxy) newTable(c Settings) *table {
	t := &table{made: time.Now(), settings: c, mux: http.NewServeMux(), origins: map[string]bool{}, credentials: slices.Clone(credentials)}
	t.addresses = addresses{trusted: c.TrustedProxies, local: c.TrustLocal, most: c.MaxPerAddress, counted: &p.perAddress}
	for _, origin := range c.CORSOrigins {
		t.origins[origin] = true
	}
	was := p.table()
	switch {
	case c.Tickets == nil:
	case was != nil && was.settings.Tickets == c.Tickets:
		t.tickets = was.tickets
	default:
		t.tickets = access.NewTickets(*c.Tickets, p.log)
	}
	switch {
	case was == nil:
		t.set = p.newRoute(setRoute(c.Sets), nil)
	case was.settings.Sets == c.Sets:
		t.set = was.set
	default:
		t.set = p.newRoute(setRoute(c.Sets), was.set)
	}
	for _, rc := range c.Routes {
		rt := was.named(rc.Name)
		if rt == nil || rt.RouteSettings != rc {
			rt = p.newRoute(rc, rt)
		}
		if rt.guard != nil {
			t.credentials = union(t.credentials, rt.guard.Headers)
		}
		t.routes = append(t.routes, rt)
		t.compared = t.compared || rt.Parity
		t.mux.Handle(rt.Path, found{rt})
	}
	return t
}

// named is the route of this name, nil when there is none.
func (t *table) named(name string) *Route {
	if t == nil {
		return nil
	}
	for _, rt := range t.routes {
		if rt.Name == name {
			return rt
		}
	}
	return nil
}

// found is a route in ServeMux, which is asked for nothing but the route of a path and the values of its wildcards.
type found struct{ *Route }

// ServeHTTP does nothing.
func (found) ServeHTTP(http.ResponseWriter, *http.Request) {}

// route is the route that a request hits: only by a clean path, so that ServeMux is never asked about one that it would
// answer with a redirect of its own.
func (t *table) route(r *http.Request) *Route {
	target := r.URL.Path
	clean := path.Clean(target)
	if clean != "/" && strings.HasSuffix(target, "/") {
		clean += "/"
	}
	if !strings.HasPrefix(r.RequestURI, "/") || target != clean || r.Method == http.MethodConnect {
		return nil
	}
	h, _ := t.mux.Handler(r)
	hit, _ := h.(found) // its redirects and its 404 are no route
	return hit.Route
}

// enter is route, with the values of the path's wildcards in r.
func (t *table) enter(r *http.Request) *Route {
	rt := t.route(r)
	if rt != nil && strings.Contains(rt.Path, "{") {
		t.mux.ServeHTTP(nil, r) // which finds rt again, and asks it for nothing
	}
	return rt
}
