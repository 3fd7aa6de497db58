package upstream

import (
	"cmp"
	"crypto/sha256"
	"net/http"

	"sidestream/translate/dialect"
)

// Request is a route's templates expanded with one client's request: everything the legacy service will see. Requests
// with equal keys are byte-identical, and only they may share a stream.
type Request struct {
	Route *Route
	Key   [sha256.Size]byte // identity: address, headers, opening frames, body; {stream.*} by name only

	shown   string  // see String
	values  []value // what the route's table has become; nothing else of the client's request goes upstream
	script  dialect.Script
	private []string // values of the client's query, headers and cookies; see Shown
	named   []Named  // see Path
}

// Named is a value of the client's path, by its wildcard's name.
type Named struct{ Name, Value string }

// Path is what the wildcards of the client's path stood for, where templates have used them, fit to be shown: they name things.
func (q *Request) Path() []Named { return q.named }

// Expand is [Route.ExpandFor] where nothing is known of who the client is.
func (rt *Route) Expand(r *http.Request, path func(name string) string) (Request, error) {
	return rt.ExpandFor(r, path, nil)
}

// ExpandFor fills rt's templates from a client's request, whose path wildcards path returns, and from what the client is authenticated
// by, which claim returns. The error is a *[BadRequest], or *[Unclaimed] where a claim is missing.
func (rt *Route) ExpandFor(r *http.Request, path, claim func(name string) string) (Request, error) {
	if q := rt.only.Load(); q != nil {
		return *q, nil
	}
	c := &clientRequest{r: r, path: path, claim: claim, scoped: rt.settings.Session, most: cmp.Or(rt.settings.MaxValue, defaultValue)}
	q, err := rt.expand(c)
	if err == nil && !c.asked { // it would come out the same for every other client
		rt.only.Store(&q)
	}
	return q, err
}

// script is what q adds to the dialect.
func (rt *Route) script(q *Request) dialect.Script {
	s := dialect.Script{
		Reply: rt.reply, ReplyMax: rt.settings.ReplyMax, Notes: rt.trace != nil, Capture: rt.state, Resumed: rt.resumed, Ping: q.text("PING"), Every: rt.settings.PingEvery, Interval: rt.pingEvery,
		Pong: rt.pong, Close: rt.closing, Dial: rt.toDial,
	}
	sends := q.texts("HELLO")
	for _, st := range rt.steps {
		switch st.mark {
		case '<':
			s.Steps = append(s.Steps, dialect.Step{Wait: st.code})
		case '!':
			s.Steps = append(s.Steps, dialect.Step{Refuse: st.code})
		case '~':
			s.Steps = append(s.Steps, dialect.Step{Reconnect: st.code})
		case '=':
			s.Steps = append(s.Steps, dialect.Step{Compute: st.code})
		default:
			s.Steps = append(s.Steps, dialect.Step{Send: sends[0]})
			sends = sends[1:]
		}
	}
	return s
}

// String is the address, fit for logs: see [Redact]. What comes of the client's query, headers and cookies is not shown.
func (q *Request) String() string { return q.shown }

// fill returns address and header, with {stream.*} filled in by value. first: there is no cursor yet.
func (q *Request) fill(value func(string) string, first bool) (address string, h http.Header, err error) {
	at := q.text("FROM")
	if first && q.Route.begins {
		at = q.text("FIRST")
	}
	if address, err = at.Fill(value); err != nil {
		return "", nil, err
	}
	h = http.Header{}
	for _, v := range q.values {
		if v.field != headerField {
			continue
		}
		text, err := v.text.Fill(value)
		if err != nil {
			return "", nil, err
		}
		h.Add(v.header, text)
	}
	if h.Get("User-Agent") == "" {
		h.Set("User-Agent", "sidestream")
	}
	return address, h, nil
}
