// This file finds the stream that an old client would share if it came over events. The rules:
//
//   - The client's request is taken for the one that a client of the route would have made: FROM and HEADERS are read backwards. What they
//     come to again has the identity of the stream that this client would share.
//   - What the route takes of a path or a query for anything else must have been found there, since nobody knows what the old client says in
//     its frames. A default would be another client's stream.
//   - Old clients come as often as they like: what is read backwards is made ready once.

package upstream

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// Instead is the upstream request of the client of the route that would take the place of the old client that has sent r; false: there is
// none, or it cannot be told. base is the path in front of what passes through.
func (rt *Route) Instead(r *http.Request, base string) (Request, bool) {
	b := backwards{r: r, paths: map[string]string{}, query: url.Values{}, header: r.Header.Clone()}
	rev := rt.reversed()
	if !rev.possible || rev.from != nil && !b.address(rev.from, strings.TrimSuffix(base, "/"), rt.settings.Protocol) {
		return Request{}, false
	}
	for _, h := range rev.headers {
		if !b.text(h.value, r.Header.Get(h.name), func(s string) (string, error) { return s, nil }) {
			return Request{}, false
		}
	}
	if slices.ContainsFunc(rev.elsewhere, func(p part) bool { return !b.found(p) }) {
		return Request{}, false // its default need not be what the client has said there
	}
	instead := &http.Request{Method: http.MethodGet, URL: &url.URL{Path: "/", RawQuery: b.query.Encode()}, Host: r.Host, Header: b.header}
	if b.whole != "" {
		instead.URL.RawQuery = b.whole
	}
	q, err := rt.ExpandFor(instead, func(name string) string { return b.paths[name] }, nil)
	return q, err == nil
}

// reverse is a route's table, made ready to be read backwards.
type reverse struct {
	possible  bool            // false: it takes what no old client's request shows
	from      *addressPattern // nil: there is no FROM to read
	headers   []headerPattern
	elsewhere []part // of a path or a query, in what is not read
}

// headerPattern is a line of HEADERS with something of a path or a query in it.
type headerPattern struct {
	name  string
	value *pattern
}

// addressPattern is FROM, without scheme and authority.
type addressPattern struct {
	path  *pattern
	query []pairPattern
}

// pairPattern is a name of a query with its value; value nil: a whole query.
type pairPattern struct {
	name  string
	value *pattern
}

// pattern finds in a text what a template's placeholders have become.
type pattern struct {
	template
	text *regexp.Regexp
}

func (t template) pattern() *pattern {
	var text strings.Builder
	for _, p := range t.parts {
		if p.kind == "" {
			text.WriteString(regexp.QuoteMeta(p.literal))
		} else {
			text.WriteString(`([^/?&]*)`)
		}
	}
	return &pattern{t, regexp.MustCompile(`^` + text.String() + `$`)}
}

// reversed is made once, when the first old client comes.
func (rt *Route) reversed() *reverse {
	rt.backwards.Do(func() { rt.reverse = rt.makeReverse() })
	return &rt.reverse
}

func (rt *Route) makeReverse() reverse {
	rev := reverse{possible: true}
	for _, e := range rt.table {
		for _, p := range e.template.parts {
			for _, use := range p.uses() { // nothing of it is read backwards
				rev.possible = rev.possible && use.Kind != "auth"
				if use.Kind == "path" || use.Kind == "query" {
					rev.elsewhere = append(rev.elsewhere, part{kind: use.Kind, name: use.Name})
				}
			}
		}
		switch {
		case e.template.asks("auth"): // with a default too
			rev.possible = false
		case e.setting == "FROM":
			rev.from = e.template.address()
			rev.possible = rev.possible && rev.from != nil
		case e.setting != "HEADERS":
			for _, p := range e.template.parts {
				if p.kind == "path" || p.kind == "query" {
					rev.elsewhere = append(rev.elsewhere, p)
				}
			}
		case e.template.asks("path", "query"): // headers and cookies are there
			rev.headers = append(rev.headers, headerPattern{e.header, e.template.pattern()})
		}
	}
	return rev
}

// asks reports whether the template takes one of these kinds of a client.
func (t template) asks(kinds ...string) bool {
	return slices.ContainsFunc(t.parts, func(p part) bool { return slices.Contains(kinds, p.kind) })
}

// backwards is what a client's request would have been, as far as it is known.
type backwards struct {
	r      *http.Request
	paths  map[string]string
	query  url.Values
	whole  string // a whole query; "": none is asked for, or it is empty
	header http.Header
}

// found reports whether what the placeholder stands for was read. Where it was empty, it may be a default that stands for it.
func (b *backwards) found(p part) bool {
	switch {
	case p.kind == "path":
		return b.paths[p.name] != ""
	case p.whole():
		return b.whole != ""
	case b.whole != "":
		return b.r.URL.Query().Get(p.name) != ""
	}
	return b.query.Get(p.name) != ""
}

// address is the template, which is FROM's, ready to be read backwards; nil: that cannot be.
func (t template) address() *addressPattern {
	path, query := t.split()
	a := &addressPattern{path: path.pattern()}
	for _, pair := range query.pairs() {
		name, value := pair[0], pair[1]
		if len(name.parts) == 1 && name.parts[0].whole() {
			a.query = append(a.query, pairPattern{})
			continue
		}
		if len(name.parts) != 1 || name.parts[0].kind != "" {
			return nil
		}
		plain, err := url.QueryUnescape(name.parts[0].literal)
		if err != nil {
			return nil
		}
		a.query = append(a.query, pairPattern{plain, value.pattern()})
	}
	return a
}

// address reads FROM backwards: of its path each placeholder is within a segment, of its query it is within a value. Further
// values in the query do not count.
func (b *backwards) address(a *addressPattern, base, protocol string) bool {
	if !b.text(a.path, asConfigured(base+b.r.URL.EscapedPath(), protocol, a.path.template), url.PathUnescape) {
		return false
	}
	have := b.r.URL.Query()
	for _, pair := range a.query {
		if pair.value == nil {
			b.whole = b.r.URL.RawQuery
			continue
		}
		if !have.Has(pair.name) && !pair.value.optional() || !b.text(pair.value, url.QueryEscape(have.Get(pair.name)), url.QueryUnescape) {
			return false
		}
	}
	return true
}

// sockJSEnd is what clients of SockJS add to a path.
var sockJSEnd = regexp.MustCompile(`/[^/]+/[^/]+/websocket$`)

// asConfigured is the path that a client uses as FROM has it, where the dialect adds to that.
func asConfigured(used, protocol string, from template) string {
	plain := ""
	if len(from.parts) > 0 {
		plain = from.parts[len(from.parts)-1].literal
	}
	switch {
	case strings.HasPrefix(protocol, "socket.io") && plain == "/" && len(from.parts) == 1 && used == "/socket.io/":
		return "/"
	case strings.HasPrefix(protocol, "sockjs") && !strings.HasSuffix(plain, "/websocket"):
		return sockJSEnd.ReplaceAllString(used, "")
	}
	return used
}

// optional reports whether the template is one placeholder that need not be there, or that the stream fills in.
func (t template) optional() bool {
	return len(t.parts) == 1 && (t.parts[0].ours() || t.parts[0].fallback != nil)
}

// split is an address without scheme and authority: its path, and its query.
func (t template) split() (path, query template) {
	begun, inQuery := false, false
	for _, p := range t.parts {
		if p.kind != "" {
			if inQuery {
				query.parts = append(query.parts, p)
			} else {
				path.parts = append(path.parts, p)
			}
			continue
		}
		text := p.literal
		if !begun {
			begun, text = true, afterAuthority(text)
		}
		if !inQuery {
			var before string
			before, text, inQuery = strings.Cut(text, "?")
			path.parts = append(path.parts, part{literal: before})
		}
		if inQuery {
			query.parts = append(query.parts, part{literal: text})
		}
	}
	return path, query
}

func afterAuthority(text string) string {
	scheme, rest, _ := strings.Cut(text, "://")
	if strings.HasSuffix(scheme, "+unix") {
		_, rest, _ = strings.Cut(rest, ":")
	}
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		if rest[i] == '?' {
			return "/" + rest[i:]
		}
		return rest[i:]
	}
	return "/"
}

// pairs are the names and values of a query.
func (t template) pairs() (all [][2]template) {
	var now [2]template
	at := 0
	end := func() {
		if len(now[0].parts) > 0 {
			all = append(all, now)
		}
		now, at = [2]template{}, 0
	}
	for _, p := range t.parts {
		if p.kind != "" {
			now[at].parts = append(now[at].parts, p)
			continue
		}
		for i, pair := range strings.Split(p.literal, "&") {
			if i > 0 {
				end()
			}
			name, value, cut := strings.Cut(pair, "=")
			if at == 1 {
				name, value, cut = "", pair, false
			}
			if name != "" {
				now[at].parts = append(now[at].parts, part{literal: name})
			}
			if cut {
				at = 1
			}
			if value != "" {
				now[1].parts = append(now[1].parts, part{literal: value})
			}
		}
	}
	end()
	return all
}

// text reads a template backwards that has become text, whose values are escaped as plain undoes it. What was found before has to be the same.
func (b *backwards) text(t *pattern, text string, plain func(string) (string, error)) bool {
	found := t.text.FindStringSubmatch(text)
	if found == nil {
		return false
	}
	n := 0
	for _, p := range t.parts {
		if p.kind == "" {
			continue
		}
		n++
		value, err := plain(found[n])
		if err != nil || !p.ours() && !b.set(p, value) {
			return false
		}
	}
	return true
}

// set notes what a placeholder stood for.
func (b *backwards) set(p part, value string) bool {
	switch p.kind {
	case "path":
		if was, had := b.paths[p.name]; had && was != value {
			return false
		}
		b.paths[p.name] = value
	case "query":
		if b.query.Has(p.name) && b.query.Get(p.name) != value {
			return false
		}
		b.query.Set(p.name, value)
	case "header":
		b.header.Set(p.name, value)
	case "cookie":
		if c, err := b.r.Cookie(p.name); err == nil {
			return c.Value == value
		}
		b.header.Add("Cookie", (&http.Cookie{Name: p.name, Value: value}).String())
	default:
		return false
	}
	return true
}
