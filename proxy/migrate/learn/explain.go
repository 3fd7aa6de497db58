// This file finds out where a value in a client's messages comes from. The rules:
//
//   - A value is explained by what the client's request had under a name - a part of the path, a query value, a cookie - when the two are equal in
//     every request there is.
//   - What is the same in all of them, and no secret, needs no explanation: it is written as it is.
//   - What is a secret, or differs, and is not explained, becomes {query.NAME}: the page knows it, so the page gives it.

package learn

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// leastEqual is how long a value has to be for being equal to another one to say anything, where it was seen only once.
const leastEqual = 4

// asks are requests for one route.
type asks struct {
	all   []*Request
	names []string   // wildcards of its path
	parts [][]string // what they stood for in each request
	given []string   // query names that the page has to give, which it did not before
}

// distinct counts different texts.
func distinct(texts []string) int {
	all := slices.Clone(texts)
	slices.Sort(all)
	return len(slices.Compact(all))
}

// source is the placeholder that stands for texts, one for each request; "" when nothing explains them.
func (a *asks) source(texts []string) string {
	if slices.Contains(texts, "") || distinct(texts) < 2 && len(texts[0]) < leastEqual {
		return ""
	}
	for i, name := range a.names {
		if a.equal(texts, func(n int) string { return a.parts[n][i] }) {
			return "{path." + name + "}"
		}
	}
	for _, p := range a.all[0].Query {
		if inTemplate(p.Name) && a.equal(texts, func(n int) string { v, _ := value(a.all[n].Query, p.Name); return v }) {
			return "{query." + p.Name + "}"
		}
	}
	for _, p := range a.all[0].Cookies {
		if inTemplate(p.Name) && a.equal(texts, func(n int) string { v, _ := value(a.all[n].Cookies, p.Name); return v }) {
			return "{cookie." + p.Name + "}"
		}
	}
	for name := range a.all[0].Header {
		if strings.HasPrefix(name, "X-") && a.equal(texts, func(n int) string { return a.all[n].Header.Get(name) }) {
			return "{header." + name + "}"
		}
	}
	return ""
}

func (a *asks) equal(texts []string, of func(n int) string) bool {
	for n, text := range texts {
		if of(n) != text {
			return false
		}
	}
	return true
}

var templateName = lazily(`^[^{}:"'\s]{1,64}$`)

// inTemplate reports whether name may stand in a placeholder.
func inTemplate(name string) bool { return templateName.MatchString(name) }

// from is the placeholder for what differs or is secret: its source, or a query value that the page is to give from now on.
func (a *asks) from(key string, texts []string) string {
	if p := a.source(texts); p != "" {
		return p
	}
	return a.give(key)
}

// give is the placeholder for a query value of this name.
func (a *asks) give(key string) string {
	if key = lettersOrUnderscores(key); key == "" {
		key = "value"
	}
	if !slices.Contains(a.given, key) {
		a.given = append(a.given, key)
	}
	return "{query." + key + "}"
}

func lettersOrUnderscores(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 128 && (r == '_' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9') {
			return r
		}
		return -1
	}, s[:min(len(s), 32)])
}

// address is the URL of the requests, as a template: scheme, host, path and query, but for what is to be left out of the query.
func (a *asks) address(base, pattern string, leave func(name string) bool) string {
	path := pattern
	for _, name := range a.names {
		path = strings.Replace(path, "{"+name+"}", "{path."+name+"}", 1)
	}
	var query []string
	for _, name := range a.queryNames() {
		if leave != nil && leave(name) {
			continue
		}
		query = append(query, escapeQuery(name)+"="+a.queryValue(name))
	}
	if len(query) > 0 {
		return base + path + "?" + strings.Join(query, "&")
	}
	return base + path
}

// queryNames are the names in the queries of all requests, in the order of the first.
func (a *asks) queryNames() (names []string) {
	for _, q := range a.all {
		for _, p := range q.Query {
			if !slices.Contains(names, p.Name) {
				names = append(names, p.Name)
			}
		}
	}
	return names
}

// queryValue is what stands for the value of name: itself, where it is the same in all requests and no secret.
func (a *asks) queryValue(name string) string {
	var texts []string
	missing := false
	for _, q := range a.all {
		v, ok := value(q.Query, name)
		missing = missing || !ok
		texts = append(texts, v)
	}
	switch {
	case !missing && distinct(texts) == 1 && !secret(name, texts[0]) && !strings.ContainsAny(texts[0], "{}"):
		return escapeQuery(texts[0])
	case !missing && distinct(texts) > 1 && a.pathSource(texts) != "":
		return a.pathSource(texts)
	case !inTemplate(name):
		return a.give(name)
	case missing:
		return "{query." + name + ":}"
	}
	return "{query." + name + "}"
}

// pathSource is the part of the path that texts are; "" for none.
func (a *asks) pathSource(texts []string) string {
	for i, name := range a.names {
		if a.equal(texts, func(n int) string { return a.parts[n][i] }) {
			return "{path." + name + "}"
		}
	}
	return ""
}

// cookie is the value of the header Cookie that names the cookies that matter, "" for none; others are those that were left out. httpOnly are
// those that the service has hidden from scripts; asked are those that the service was asked about, and whether they matter to it.
func (a *asks) cookie(httpOnly map[string]bool, asked map[string]bool) (header string, others []string) {
	var names []string
	for _, q := range a.all {
		for _, c := range q.Cookies {
			if !slices.Contains(names, c.Name) {
				names = append(names, c.Name)
			}
		}
	}
	var matter []string
	for _, name := range names {
		always := !slices.ContainsFunc(a.all, func(q *Request) bool { _, ok := value(q.Cookies, name); return !ok })
		if mattering(name, a.all, httpOnly, asked) && always && inTemplate(name) {
			matter = append(matter, name+"={cookie."+name+"}")
		} else {
			others = append(others, name)
		}
	}
	return strings.Join(matter, "; "), others
}

// mattering reports whether a service is likely to decide by a cookie what a client may see.
func mattering(name string, all []*Request, httpOnly, asked map[string]bool) bool {
	if matters, ok := asked[name]; ok {
		return matters
	}
	if analytics.MatchString(name) || csrf.MatchString(name) {
		return false
	}
	if httpOnly[name] || sessions.MatchString(name) {
		return true
	}
	v, _ := value(all[0].Cookies, name)
	return random(v)
}

// credentials sets HEADERS and FORWARD for what says who a client is.
func (d *draft) credentials(a *asks) {
	cookie, others := a.cookie(d.httpOnly, d.asked)
	var headers []string
	if cookie != "" {
		headers = append(headers, "Cookie: "+cookie)
		d.note("each user has an upstream connection of their own, by the cookie %s, without which a client is refused; if the service sends the same to all, remove it from HEADERS, and all share one", cookieNames(cookie))
	}
	if len(others) > 0 {
		d.note("not sent upstream, as they do not look as if they said who a client is (-probe asks the service): cookies %s", shownNames(others))
	}
	var forward []string
	for _, name := range a.headerNames() {
		switch v := a.all[0].Header.Get(name); {
		case name == "Authorization":
			forward = append(forward, name)
			d.note("an EventSource sends no Authorization header: see tickets, or HEADERS=Authorization: Bearer {query.token}")
		case name == "X-Requested-With" && shows(v):
			headers = append(headers, name+": "+v)
		case !csrf.MatchString(name):
			forward = append(forward, name)
		}
	}
	d.set("HEADERS", strings.Join(headers, "\n"))
	d.set("FORWARD", strings.Join(forward, ","))
}

// headerNames are the headers of all requests that a route may need.
func (a *asks) headerNames() (names []string) {
	for _, q := range a.all {
		for name := range q.Header {
			if (name == "Authorization" || strings.HasPrefix(name, "X-")) && name == http.CanonicalHeaderKey(name) && !slices.Contains(names, name) && tokenName.MatchString(name) {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return names
}

var tokenName = lazily(`^[A-Za-z0-9-]{1,64}$`)

// cookieNames are the names in a header made of placeholders.
func cookieNames(header string) string {
	var names []string
	for part := range strings.SplitSeq(header, "; ") {
		name, _, _ := strings.Cut(part, "=")
		names = append(names, name)
	}
	return shownNames(names)
}

// shownNames lists names, a few of them, as far as they are names.
func shownNames(names []string) string {
	var shown []string
	for _, name := range names {
		if len(shown) == 8 {
			shown = append(shown, "...")
			break
		}
		if shownWord.MatchString(name) && !random(name) {
			shown = append(shown, name)
		}
	}
	return strings.Join(shown, ", ")
}

// escapeQuery escapes a text for a URL's query, as browsers do.
func escapeQuery(s string) string { return url.QueryEscape(s) }
