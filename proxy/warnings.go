// This file tells an operator what a page's developer would otherwise look for in vain. Each line comes once in ten seconds at most.

package proxy

import (
	"cmp"
	"net/http"
	"slices"
	"strings"

	"sidestream/proxy/deliver"
	"sidestream/proxy/upstream"
	"sidestream/translate/sse"
)

// maxHops is how many proxies a request has come by that is taken for one that goes round in circles.
const maxHops = 32

// warnings are those of requests.
type warnings struct{ origin, unrouted, circles upstream.Quiet }

// refuseOrigin refuses a page of another origin, and says which variable would admit it.
func (p *Proxy) refuseOrigin(w http.ResponseWriter, r *http.Request) deliver.Rest {
	if more, ok := p.warnings.origin.Allow(); ok {
		p.log.Warn("a page of another origin was refused; if it is yours, add its origin to SSE_CORS_ORIGINS", "origin", bounded(r.Header.Get("Origin")), "path", shownPath(r), "suppressed", more)
	}
	return p.reject(w, Forbidden, http.StatusForbidden, otherOrigin)
}

// unrouted warns of a request for events that no route answers.
func (p *Proxy) unrouted(r *http.Request) {
	if r.Method != http.MethodGet || upgrades(r) || !accepts(r, sse.ContentType) {
		return
	}
	if more, ok := p.warnings.unrouted.Allow(); ok {
		p.log.Warn("a request for events has no route; it is passed through", "path", shownPath(r), "nearest", p.nearest(r.URL.Path), "suppressed", more)
	}
}

// circles refuses a request that has come by more proxies than there can be, and reports whether it has.
func (p *Proxy) circles(w http.ResponseWriter, r *http.Request) bool {
	hops := 0
	for _, line := range r.Header["X-Forwarded-For"] {
		hops += 1 + strings.Count(line, ",")
	}
	if hops < maxHops {
		return false
	}
	if more, ok := p.warnings.circles.Allow(); ok {
		p.log.Warn("a request goes round in circles: does SSE_UPSTREAM lead back to the sidecar?", "hops", hops, "path", shownPath(r), "suppressed", more)
	}
	http.Error(w, "this request has come by too many proxies (X-Forwarded-For): SSE_UPSTREAM seems to lead back here", http.StatusLoopDetected)
	return true
}

// shownPath is the path of r, fit for logs.
func shownPath(r *http.Request) string {
	shown := upstream.Redact("http://x" + r.URL.EscapedPath())
	return bounded(strings.TrimPrefix(shown, "http://x"))
}

func bounded(text string) string {
	const most = 200
	if len(text) > most {
		return strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}

// nearest is the PATH of the route that is most like path.
func (p *Proxy) nearest(path string) string {
	routes := p.Routes()
	if len(routes) == 0 {
		return ""
	}
	return slices.MinFunc(routes, func(a, b *Route) int { return cmp.Compare(distance(a.Path, path), distance(b.Path, path)) }).Path
}

// distance is Levenshtein's, of bounded texts.
func distance(a, b string) int {
	a, b = strings.ToLower(bounded(a)), strings.ToLower(bounded(b))
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := before
			if a[i] != b[j] {
				cost++
			}
			before = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
