// This file is the templates of the environment table. The rules:
//
//   - Placeholders are {path.NAME} {query.NAME} {header.NAME} {cookie.NAME} {auth.NAME} {query} {stream.n} {stream.cursor}
//     {state.NAME}, each with an optional default after a colon. Every other brace is literal.
//   - An inserted value is never expanded again, is at most SSE_MAX_VALUE, and never leaves its field: each place has an
//     escape of its own, found when the template is compiled.
//   - A missing or empty value without default is the client's mistake and names the placeholder. Only {query}, a whole
//     query, may be empty. A claim that is missing is no mistake of the request but of who makes it: [Unclaimed].

package upstream

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"sidestream/translate"
)

const (
	// defaultValue bounds one inserted value, in bytes, unless SSE_MAX_VALUE does: access tokens have up to 9 KiB.
	defaultValue = 16 << 10
	maxShown     = 128 // bytes of a value in logs
)

var placeholder = regexp.MustCompile(`\{(?:(path|query|header|cookie|auth|stream|state)\.([^{}:"\s]+)|(query))(:[^{}]*)?\}`)

// BadRequest means that a client's request does not fill a template. Its text is for the client: it names the
// placeholder, never a value.
type BadRequest struct{ Problem string }

func (e *BadRequest) Error() string { return e.Problem }

// Unclaimed means that a client was admitted without a claim that a template needs. Its text is for the client: it names the
// placeholder, never a value.
type Unclaimed struct{ Placeholder string }

func (e *Unclaimed) Error() string {
	return e.Placeholder + " is missing or empty in what you are authenticated by"
}

// escape makes a value fit for its place, or says why it cannot be.
type escape func(string) (string, error)

type part struct {
	literal  string
	live     func() string // what is in literal's place now, where it comes from a file; nil: literal
	place    string        // tells live from all others
	kind     string        // path, query, header, cookie, auth, stream, state; forward, session; "" for a literal
	name     string        // "" with kind query: the whole query
	fallback *string
	escape   escape
}

// text is the placeholder as it was written, for messages.
func (p part) text() string {
	switch {
	case p.kind == "forward":
		return p.name + " header"
	case p.kind == "session":
		return "?session="
	case p.name == "":
		return "{" + p.kind + "}"
	}
	return "{" + p.kind + "." + p.name + "}"
}

// required reports whether a request without it is a bad one.
func (p part) required() bool {
	return p.fallback == nil && !p.whole() && p.kind != "forward" && p.kind != "session"
}

// ours reports whether the stream fills the placeholder in, not the client.
func (p part) ours() bool { return p.kind == "stream" || p.kind == "state" }

// streamName is what the stream calls it.
func (p part) streamName() string {
	if p.kind == "state" {
		return translate.StatePrefix + p.name
	}
	return p.name
}

func (p part) fallbackText() string {
	if p.fallback == nil {
		return ""
	}
	return *p.fallback
}

// whole reports whether the placeholder is {query}, the client's whole query.
func (p part) whole() bool { return p.kind == "query" && p.name == "" }

type template struct{ parts []part }

// place decides the escape of a placeholder from what is literal between the one before and it. whole: it stands for a
// whole query. nil: no placeholder may stand here.
type place func(literal string, whole bool) escape

// compile parses text. names are the wildcards of the route's PATH.
func compile(text string, names []string, at place) (template, error) {
	var t template
	var problems []error
	pos := 0
	for _, m := range placeholder.FindAllStringSubmatchIndex(text, -1) {
		p := parsePart(text, m)
		if p.kind == "stream" && p.name != "n" && p.name != "cursor" {
			continue // a literal brace
		}
		literal := text[pos:m[0]]
		pos = m[1]
		if literal != "" {
			t.parts = append(t.parts, part{literal: literal})
		}
		p.escape = at(literal, p.whole())
		if err := p.check(names); err != nil {
			problems = append(problems, err)
		}
		t.parts = append(t.parts, p)
	}
	if rest := text[pos:]; rest != "" {
		t.parts = append(t.parts, part{literal: rest})
	}
	return t, errors.Join(problems...)
}

func parsePart(text string, m []int) part {
	group := func(i int) string {
		if m[2*i] < 0 {
			return ""
		}
		return text[m[2*i]:m[2*i+1]]
	}
	p := part{kind: group(1) + group(3), name: group(2)}
	if m[8] >= 0 {
		fallback := group(4)[1:]
		p.fallback = &fallback
	}
	return p
}

func (p part) check(names []string) error {
	if p.kind == "path" && !slices.Contains(names, p.name) {
		return fmt.Errorf("%s is not a wildcard of PATH; write {%s} there", p.text(), p.name)
	}
	if p.escape == nil {
		return fmt.Errorf("%s is not allowed here; a placeholder may be used in the path and in the query of an address, not in its scheme, host or port", p.text())
	}
	switch {
	case p.fallback != nil:
		if _, err := p.escape(*p.fallback); err != nil {
			return fmt.Errorf("the default of %s %w", p.text(), err)
		}
	case p.kind == "stream" && p.name == "cursor" || p.kind == "state":
		if _, err := p.escape(""); err != nil {
			return fmt.Errorf("%s is empty at first, which is not allowed here; give it a default, such as {%s.%s:0}", p.text(), p.kind, p.name)
		}
	}
	return nil
}

// expand fills in what is known of the client, leaving {stream.*}. The error is a *[BadRequest] or *[Unclaimed].
func (t template) expand(c *clientRequest) (translate.Text, error) {
	var text translate.Text
	for _, p := range t.parts {
		switch p.kind {
		case "":
			if p.live != nil {
				text = text.AppendLive(p.place, p.live)
				continue
			}
			text = text.Append(p.literal)
		case "stream", "state":
			text = text.AppendStream(p.streamName(), p.fallbackText(), p.escape)
		default:
			value, err := p.value(c)
			if err != nil {
				return translate.Text{}, err
			}
			text = text.Append(value)
		}
	}
	return text, nil
}

// shown is FROM for one client's request, with the path's values only: they name things, the others may be secrets.
func (rt *Route) shown(c *clientRequest) string {
	var b strings.Builder
	for _, p := range rt.display.parts {
		b.WriteString(p.shown(c))
	}
	return b.String()
}

func (p part) shown(c *clientRequest) string {
	switch p.kind {
	case "":
		return p.literal
	case "path":
	default:
		return p.text()
	}
	text := p.text()
	if value, err := p.value(c); err == nil {
		text = value
	}
	return fitToShow(text)
}

// fitToShow is a value of the path, which names something.
func fitToShow(text string) string {
	if translate.LooksSecret(text) {
		return "…"
	}
	if len(text) > maxShown {
		text = strings.ToValidUTF8(text[:maxShown], "") + "…"
	}
	return text
}

func (p part) value(c *clientRequest) (string, error) {
	if p.kind == "session" {
		return c.session()
	}
	value := c.lookup(p.kind, p.name)
	if p.kind != "path" {
		c.private = append(c.private, value)
	} else if one := (Named{p.name, fitToShow(value)}); !slices.Contains(c.named, one) {
		c.named = append(c.named, one)
	}
	if value == "" && p.fallback != nil {
		value = *p.fallback
	} else if value == "" && p.kind == "auth" {
		return "", &Unclaimed{p.text()}
	} else if value == "" && !p.whole() {
		return "", &BadRequest{fmt.Sprintf("%s is missing or empty in the request", p.text())}
	}
	if len(value) > c.most {
		return "", &BadRequest{fmt.Sprintf("%s is longer than %d bytes (SSE_MAX_VALUE)", p.text(), c.most)}
	}
	escaped, err := p.escape(value)
	if err != nil {
		return "", &BadRequest{fmt.Sprintf("%s %v", p.text(), err)}
	}
	return escaped, nil
}

// clientRequest answers for one client's request what templates ask.
type clientRequest struct {
	r     *http.Request
	path  func(name string) string
	claim func(name string) string // nil: nothing is known of who the client is
	query url.Values               // parsed when first asked for

	most    int      // bytes of one value
	scoped  bool     // ?session= is the sidecar's own
	private []string // values that are for the upstream only
	named   []Named  // values of the path
	asked   bool     // something of the request was looked at
}

// header is all values of one.
func (c *clientRequest) header(name string) []string {
	c.asked = true
	return c.r.Header.Values(name)
}

// lookup returns a value of the request, which does not keep what it was a part of in memory: a header may be long, and a
// stream lasts.
func (c *clientRequest) lookup(kind, name string) string { return strings.Clone(c.find(kind, name)) }

func (c *clientRequest) find(kind, name string) string {
	c.asked = true
	switch kind {
	case "path":
		return c.path(name)
	case "auth":
		if c.claim == nil {
			return ""
		}
		return c.claim(name)
	case "header":
		if http.CanonicalHeaderKey(name) == "Host" {
			return c.r.Host
		}
		return c.r.Header.Get(name)
	case "cookie":
		cookie, err := c.r.Cookie(name)
		if err != nil {
			return ""
		}
		return cookie.Value
	}
	if name == "" {
		return wholeQuery(c.r.URL.RawQuery, c.scoped)
	}
	if c.query == nil {
		c.query = c.r.URL.Query()
	}
	return c.query.Get(name)
}

// appendNew appends s unless list has it.
func appendNew(list []string, s string) []string {
	if slices.Contains(list, s) {
		return list
	}
	return append(list, s)
}

// wholeQuery is the client's query without the pairs that are the sidecar's own.
func wholeQuery(raw string, scoped bool) string {
	return Without(raw, func(name, value string) bool { return Own(name, value) || scoped && name == "session" })
}

// Own reports whether a pair of a client's query is for the sidecar alone, whatever its route.
func Own(name, value string) bool {
	return name == "lastEventId" || name == "last_event_id" || name == "heartbeat" && value == "event" || name == "poll" && (value == "1" || value == "held")
}

// Without is a query without the pairs for which drop is true. What is left stays as it was written.
func Without(raw string, drop func(name, value string) bool) string {
	var kept []string
	for pair := range strings.SplitSeq(raw, "&") {
		name, value, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(name)
		if pair != "" && (err != nil || !drop(name, value)) {
			kept = append(kept, pair)
		}
	}
	return strings.Join(kept, "&")
}
