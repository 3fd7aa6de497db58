package proxy

import (
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// admit reports whether the page that asks may: one of the same origin, or one that is allowed, which h, the head of the
// answer, then says. A missing Origin is same-origin: EventSource sends none. Without allowed origins h is left alone.
func (t *table) admit(h http.Header, r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if len(t.origins) > 0 {
		h.Add("Vary", "Origin")
	}
	if t.allowed(origin) {
		h.Set("Access-Control-Allow-Origin", origin)
		h.Set("Access-Control-Allow-Credentials", "true")
		return true
	}
	switch r.Header.Get("Sec-Fetch-Site") {
	case "same-origin", "none":
		return true
	case "":
		return origin == "" || sameHost(origin, r)
	}
	return false
}

// admit is [table.admit] of the table that counts now.
func (p *Proxy) admit(h http.Header, r *http.Request) bool { return p.table().admit(h, r) }

func (t *table) allowed(origin string) bool {
	return origin != "" && t.origins[strings.ToLower(origin)]
}

// sameHost reports whether origin is of the host that r was sent to. The scheme is not known behind a proxy that ends TLS,
// so the port that the origin's scheme implies may be left out on either side.
func sameHost(origin string, r *http.Request) bool {
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" {
		return false
	}
	port := map[string]string{"http": ":80", "https": ":443"}[u.Scheme]
	bare := func(host string) string { return strings.ToLower(strings.TrimSuffix(host, port)) }
	if _, _, err := net.SplitHostPort(r.Host); err != nil && u.Port() == "" {
		return strings.EqualFold(u.Host, r.Host)
	}
	return bare(u.Host) == bare(r.Host)
}

// preflight reports whether r asks, for an allowed origin, if it may send what is answered here (Fetch Standard, CORS
// protocol): with GET, or one of methods.
func (p *Proxy) preflight(r *http.Request, methods ...string) bool {
	if r.Method != http.MethodOptions || !p.table().allowed(r.Header.Get("Origin")) {
		return false
	}
	method := r.Header.Get("Access-Control-Request-Method")
	return method == http.MethodGet || slices.Contains(methods, method)
}

// methods are those besides GET that the route answers itself.
func (rt *Route) methods() []string {
	switch {
	case rt.Upstream.Runs():
		return []string{http.MethodPost, http.MethodDelete}
	case rt.Send, rt.Upstream.Operates():
		return []string{http.MethodPost}
	}
	return nil
}

func (rt *Route) answerPreflight(w http.ResponseWriter, r *http.Request) {
	methods, headers := "GET, OPTIONS", rt.Upstream.ClientHeaders()
	if rt.guard != nil {
		headers = union(headers, rt.guard.Headers)
	}
	for _, name := range rt.Upstream.Merges() {
		if part := rt.proxy.table().named(name); part != nil {
			headers = union(headers, part.Upstream.ClientHeaders())
		}
		if part := rt.proxy.table().named(name); part != nil && part.guard != nil {
			headers = union(headers, part.guard.Headers)
		}
	}
	if more := rt.methods(); more != nil {
		methods = "GET, " + strings.Join(more, ", ") + ", OPTIONS"
	}
	if rt.Send || rt.Upstream.Runs() {
		headers = append(headers, "Idempotency-Key")
	}
	answerPreflight(w, r, methods, headers)
}

func answerPreflight(w http.ResponseWriter, r *http.Request, methods string, more []string) {
	h := w.Header()
	h.Add("Vary", "Origin")
	h.Add("Vary", "Access-Control-Request-Method")
	h.Set("Access-Control-Allow-Origin", r.Header.Get("Origin"))
	h.Set("Access-Control-Allow-Credentials", "true")
	h.Set("Access-Control-Allow-Methods", methods)
	headers := []string{"Accept", "Authorization", "Cache-Control", "Content-Type", "Last-Event-ID"}
	h.Set("Access-Control-Allow-Headers", strings.Join(append(headers, more...), ", "))
	h.Set("Access-Control-Max-Age", "600")
	w.WriteHeader(http.StatusNoContent)
}
