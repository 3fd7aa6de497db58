package upstream

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"net/http"
	"net/url"

	"sidestream/translate"
	"sidestream/translate/dialect"
)

// Request is a route's templates expanded with one client's request: everything the legacy service will see. Requests
// with equal keys are byte-identical, and only they may share a stream.
type Request struct {
	Route *Route
	Key   [sha256.Size]byte // identity: address, headers, opening frames, body; {stream.*} by name only

	shown   string                    // see String
	values  []value                   // what the route's table has become; nothing else of the client's request goes upstream
	script  *dialect.Script           // never written to; nil of a poll, and of what follows one request, which have none
	private []string                  // values of the client's query, headers and cookies; see Shown
	named   []Named                   // see Path
	source  func(*slog.Logger) Source // of what is merged; nil: rt's own
	leave   func()                    // see Leave
}

// Merged is a request for what several others bring together, by the route rt that merges them. key is made of their identities; shown is for logs;
// source returns what reads them; leave gives back what a client has taken in them.
func (rt *Route) Merged(key [sha256.Size]byte, shown string, source func(*slog.Logger) Source, leave func()) Request {
	return Request{Route: rt, Key: key, shown: shown, source: source, leave: leave}
}

// Leave gives back what one client has taken in the streams that are merged: the same for all clients of the request, which keep nothing for each of them.
func (q Request) Leave() func() { return q.leave }

// Apply runs the route's programs over messages. What a program fails for is left out, counted and logged at a bounded rate. done: the stream is complete
// after out. It fails when ctx is done.
func (rt *Route) Apply(ctx context.Context, log *slog.Logger, ms []translate.Message) (out []translate.Message, done bool, err error) {
	return rt.apply(ctx, log, ms)
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
	return rt.ExpandSent(r, path, claim, nil)
}

// ExpandSent is ExpandFor with what the client has sent besides the head of its request.
func (rt *Route) ExpandSent(r *http.Request, path, claim func(name string) string, sent *Sent) (Request, error) {
	if q := rt.only.Load(); q != nil {
		return *q, nil
	}
	c := &clientRequest{r: r, path: path, claim: claim, sent: sent, scoped: rt.settings.Session, runs: rt.settings.Run, most: cmp.Or(rt.settings.MaxValue, defaultValue)}
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
	all := texts{q.texts("HELLO")}
	var headers []namedText
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
		case '@':
			if st.headers() {
				headers = append(headers, namedText{st.asks.header, all.next()})
				continue
			}
			s.Steps = append(s.Steps, q.ask(st.asks, headers, &all))
			headers = nil
		default:
			s.Steps = append(s.Steps, dialect.Step{Send: all.next()})
		}
	}
	return s
}

// String is the address, fit for logs: see [Redact]. What comes of the client's query, headers and cookies is not shown.
func (q *Request) String() string { return q.shown }

var errClimbs = errors.New("what was filled into the address makes a path of it that climbs (. or ..), or no address at all")

// fillAddress is Fill of an address, which still is one then.
func fillAddress(t translate.Text, value func(string) string) (string, error) {
	address, err := t.Fill(value)
	if err != nil || t.Fixed() {
		return address, err
	}
	if u, err := parseAddress(address); err != nil || translate.Climbs(u.EscapedPath()) {
		return "", errClimbs
	}
	return address, nil
}

// parseAddress is url.Parse, whose errors show the address.
func parseAddress(address string) (*url.URL, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, errClimbs
	}
	return u, nil
}

// fill returns address and header, with {stream.*} filled in by value. first: there is no cursor yet.
func (q *Request) fill(value func(string) string, first bool) (address string, h http.Header, err error) {
	at := q.text("FROM")
	if first && q.Route.begins {
		at = q.text("FIRST")
	}
	if address, err = fillAddress(at, value); err != nil {
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
