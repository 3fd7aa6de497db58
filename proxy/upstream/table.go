// This file is a route's table: one line for each template of each setting. All that a client's request can change of what the legacy
// service sees comes out of a line of it, since a [Request] holds nothing else, and expanding a line is what hashes it. The table also
// says what a route needs of its clients (Needs, Missing, ClientHeaders), what may follow a file that changes (reread.go), and what is
// confidential (shown.go). A new setting with a template is one call of compiler.entry, and one of Request.text where it is used.

package upstream

import (
	"crypto/sha256"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"sidestream/translate"
)

// field is what the legacy service reads a template's text as.
type field int

const (
	payloadField field = iota // a frame or a body
	addressField              // a URL, whose path must not climb
	headerField               // a header's value
	redisField                // the address of a Redis, with what to read there
	noField                   // nothing: it only tells streams apart
)

// entry is one line of a route's table.
type entry struct {
	setting  string // what it was compiled from: FROM, HEADERS, ...
	header   string // the header field that it is the value of; "" for all others
	template template
	field    field
	fixed    translate.Text // what the template is for every client; empty: that depends
}

// value is what an entry has become with one client's request.
type value struct {
	*entry
	text translate.Text
}

// entry compiles text, which is setting's or a part of it, and puts it into the table. An empty text is left out.
func (c *compiler) entry(e entry, text string, at place) {
	if text != "" {
		e.template = c.template(e.setting, text, at)
		c.add(e)
	}
}

func (c *compiler) add(e entry) { c.rt.table = append(c.rt.table, &e) }

// literal returns a template without placeholders.
func literal(text string) template { return template{[]part{{literal: text}}} }

// expand fills the whole table and hashes what comes of it.
func (rt *Route) expand(c *clientRequest) (Request, error) {
	q := Request{Route: rt, shown: rt.shown(c), values: make([]value, 0, len(rt.table))}
	h := sha256.New()
	var id []byte
	for _, e := range rt.table {
		texts, err := e.expand(c)
		if err != nil {
			return q, err
		}
		for _, text := range texts {
			q.values = append(q.values, value{e, text})
			id = e.appendIdentity(id[:0], text)
			h.Write(id)
		}
	}
	h.Sum(q.Key[:0])
	if !rt.Polls() && !rt.Redis() {
		script := rt.script(&q)
		q.script = &script
	}
	q.private = append([]string(nil), c.private...)
	q.named = append([]Named(nil), c.named...)
	return q, nil
}

// expand returns what e makes of c's request: one text, or one for each value of a header that is forwarded. The error is
// a *[BadRequest] or *[Unclaimed].
func (e *entry) expand(c *clientRequest) ([]translate.Text, error) {
	if e.setting == "FORWARD" {
		var texts []translate.Text
		for _, v := range c.header(e.header) {
			texts = append(texts, translate.Literal(v))
		}
		return texts, nil
	}
	text, err := e.fixed, error(nil)
	if text.Empty() {
		text, err = e.template.expand(c)
	}
	switch {
	case err != nil:
	case e.field == addressField:
		err = checkSegments(text)
	case e.field == redisField:
		err = checkRedisFrom(text)
	}
	return []translate.Text{text}, err
}

// appendIdentity appends what tells a value from every other of the table: each part has its length in front.
func (e *entry) appendIdentity(id []byte, text translate.Text) []byte {
	for _, name := range []string{e.setting, e.header} {
		id = append(strconv.AppendInt(id, int64(len(name)), 10), ':')
		id = append(id, name...)
	}
	return text.Identity(id)
}

// checkSegments refuses a path that values next to each other, or next to a literal dot, have made climb.
func checkSegments(address translate.Text) error {
	text, err := address.Sketch("0")
	if err != nil {
		return &BadRequest{"the request does not form an upstream address"}
	}
	u, err := url.Parse(text)
	if err != nil {
		return &BadRequest{"the request does not form an upstream address"}
	}
	if translate.Climbs(u.EscapedPath()) {
		return &BadRequest{"the request forms a path segment . or .. in the upstream address"}
	}
	return nil
}

// texts are setting's values, in order.
func (q *Request) texts(setting string) (texts []translate.Text) {
	for _, v := range q.values {
		if v.setting == setting {
			texts = append(texts, v.text)
		}
	}
	return texts
}

// text is setting's only value, the zero Text where it is not set.
func (q *Request) text(setting string) translate.Text {
	for _, v := range q.values {
		if v.setting == setting {
			return v.text
		}
	}
	return translate.Text{}
}

// placeholders yields what the table takes of a client, in order.
func (rt *Route) placeholders(yield func(part) bool) {
	for _, e := range rt.table {
		for _, p := range e.template.parts {
			for _, use := range p.uses() {
				if !yield(part{kind: use.Kind, name: use.Name, fallback: new(string)}) {
					return
				}
			}
			if p.kind != "" && !p.ours() && !yield(p) {
				return
			}
		}
	}
}

// Shared reports whether nothing of a client's request goes upstream, so that all clients share one stream.
func (rt *Route) Shared() bool { return len(rt.Needs()) == 0 }

// Needs are the parts of a client's request that go upstream, as placeholders or header names, in order of use: what
// clients must have in common to share a stream. None: all do.
func (rt *Route) Needs() (needs []string) {
	for p := range rt.placeholders {
		needs = appendNew(needs, p.text())
	}
	return needs
}

// Divides is a shared subscription of SUBSCRIBE's where clients have streams of their own, of which a broker gives each a part of the messages; "" none.
func (rt *Route) Divides() string {
	if rt.settings.Protocol != "mqtt" || rt.Shared() && !rt.settings.Session {
		return ""
	}
	for line := range strings.Lines(rt.settings.Subscribe) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "$share/") || strings.HasPrefix(line, "$queue/") {
			return line
		}
	}
	return ""
}

// ClientHeaders are the names of the client's headers that go upstream or into a template.
func (rt *Route) ClientHeaders() (names []string) {
	for p := range rt.placeholders {
		if p.kind == "forward" || p.kind == "header" {
			names = appendNew(names, p.name)
		}
	}
	return names
}

// Missing are the placeholders that r leaves empty, in order of use, as they are written; path returns r's path wildcards, claim
// what the client is authenticated by. One of them is what [Route.ExpandFor] fails with.
func (rt *Route) Missing(r *http.Request, path, claim func(name string) string) (missing []string) {
	c := &clientRequest{r: r, path: path, claim: claim, scoped: rt.settings.Session}
	for p := range rt.placeholders {
		if p.required() && c.lookup(p.kind, p.name) == "" {
			missing = appendNew(missing, p.text())
		}
	}
	return missing
}

// usesCursor holds that CURSOR and {stream.cursor} come together.
func (c *compiler) usesCursor() {
	used := false
	for _, e := range c.rt.table {
		for _, p := range e.template.parts {
			used = used || p.kind == "stream" && p.name == "cursor"
		}
	}
	switch {
	case used && c.s.Cursor == "":
		c.bad("CURSOR", "is not set, but {stream.cursor} is used; set it to the jq program that finds the cursor in an answer")
	case !used && c.s.Cursor != "" && !c.rt.Follows():
		c.bad("CURSOR", "is set, but nothing uses it; write {stream.cursor} in FROM, BODY or HEADERS")
	}
}
