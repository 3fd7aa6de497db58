// This file is the templates of the environment table. The rules:
//
//   - Placeholders are {path.NAME} {query.NAME} {header.NAME} {cookie.NAME} {auth.NAME} {query} {stream.n} {stream.cursor}
//     {state.NAME}, each with an optional default after a colon, {secret.NAME}, and {= program }, see computed.go. Every other brace is literal.
//   - An inserted value is never expanded again, is at most SSE_MAX_VALUE, and never leaves its field: each place has an
//     escape of its own, found when the template is compiled.
//   - A missing or empty value without default is the client's mistake and names the placeholder. Only {query}, a whole
//     query, may be empty. A claim that is missing is no mistake of the request but of who makes it: [Unclaimed].

package upstream

import (
	"errors"
	"fmt"
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

var placeholder = regexp.MustCompile(`\{(?:(path|query|header|cookie|auth|stream|state|secret)\.([^{}:"\s]+)|(query))(:[^{}]*)?\}`)

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
	kind     string        // path, query, header, cookie, auth, stream, state, secret, program; forward, session; "" for a literal
	name     string        // "" with kind query: the whole query
	fallback *string
	escape   escape
	program  *translate.Computed // of kind program
	secrets  *translate.Secrets  // of kind secret
}

// text is the placeholder as it was written, for messages.
func (p part) text() string {
	switch {
	case p.kind == "forward":
		return p.name + " header"
	case p.kind == "session":
		return "?session="
	case p.kind == "operation":
		return "operation"
	case p.kind == "body":
		return "body"
	case p.kind == "program":
		return "{=" + p.name + "}"
	case p.name == "":
		return "{" + p.kind + "}"
	}
	return "{" + p.kind + "." + p.name + "}"
}

// required reports whether a request without it is a bad one.
func (p part) required() bool {
	return p.fallback == nil && !p.whole() && !slices.Contains([]string{"forward", "session", "operation", "body"}, p.kind)
}

// ours reports whether the stream fills the placeholder in, or the sidecar, not the client.
func (p part) ours() bool {
	return slices.Contains([]string{"stream", "state", "secret", "program"}, p.kind)
}

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

// found is a placeholder of a text: where it is, and what it says.
type found struct {
	from, to int
	part     part
	src      string // of a program
}

// placeholders are those of text, from first to last. An error is about a {= that is no program.
func placeholders(text string) (all []found, err error) {
	for pos := 0; pos < len(text); {
		m := placeholder.FindStringSubmatchIndex(text[pos:])
		at := strings.Index(text[pos:], programBegins)
		if at >= 0 && (m == nil || at < m[0]) {
			end, src, err := cutProgram(text[pos+at:])
			if err != nil {
				return all, err
			}
			all = append(all, found{pos + at, pos + at + end, part{kind: "program", name: src}, src})
			pos += at + end
			continue
		}
		if m == nil {
			break
		}
		if p := parsePart(text[pos:], m); p.kind != "stream" || p.name == "n" || p.name == "cursor" { // else a literal brace
			all = append(all, found{from: pos + m[0], to: pos + m[1], part: p})
		}
		pos += m[1]
	}
	return all, nil
}

// replaced is text with each placeholder replaced by the same.
func replaced(text, by string) string {
	all, _ := placeholders(text) // what is wrong is said where it is compiled
	var b strings.Builder
	pos := 0
	for _, f := range all {
		b.WriteString(text[pos:f.from])
		b.WriteString(by)
		pos = f.to
	}
	return b.String() + text[pos:]
}

// compile parses text. names are the wildcards of the route's PATH.
func compile(text string, names []string, secrets *translate.Secrets, at place) (template, error) {
	var t template
	all, err := placeholders(text)
	problems := []error{err}
	pos := 0
	for _, f := range all {
		p, literal := f.part, text[pos:f.from]
		pos = f.to
		if literal != "" {
			t.parts = append(t.parts, part{literal: literal})
		}
		p.escape = at(literal, p.whole())
		problems = append(problems, p.resolve(f.src, secrets), p.check(names))
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
	for _, use := range p.uses() {
		if use.Kind == "path" && !slices.Contains(names, use.Name) {
			return fmt.Errorf("%s uses $path.%s, which is not a wildcard of PATH; write {%[2]s} there", p.text(), use.Name)
		}
	}
	if p.escape == nil {
		return fmt.Errorf("%s is not allowed here; a placeholder may be used in the path and in the query of an address, not in its scheme, host or port", p.text())
	}
	switch {
	case p.kind == "secret" && p.fallback != nil:
		return fmt.Errorf("%s has a default, which would be no secret; leave it out", p.text())
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

// fixed is what expand makes of t where it is made of literals alone, and those do not change; else it is empty.
func (t template) fixed() (text translate.Text) {
	for _, p := range t.parts {
		if p.kind != "" || p.live != nil {
			return translate.Text{}
		}
		text = text.Append(p.literal)
	}
	return text
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
		case "secret":
			text = text.AppendComputed(p.text(), p.secret)
		case "program":
			var err error
			if text, err = p.appendProgram(text, c); err != nil {
				return translate.Text{}, err
			}
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
	switch p.kind {
	case "session":
		return c.session()
	case "operation", "body":
		return c.brought(p.kind)
	}
	value := c.take(p.kind, p.name)
	if value == "" && p.fallback != nil {
		value = *p.fallback
	} else if value == "" && p.kind == "auth" {
		return "", &Unclaimed{p.text()}
	} else if value == "" && !p.whole() {
		return "", &BadRequest{fmt.Sprintf("%s is missing or empty in the request", p.text())}
	}
	if err := c.bounds(p, value); err != nil {
		return "", err
	}
	escaped, err := p.escape(value)
	if err != nil {
		return "", &BadRequest{fmt.Sprintf("%s %v", p.text(), err)}
	}
	return escaped, nil
}
