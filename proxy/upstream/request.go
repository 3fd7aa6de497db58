package upstream

import (
	"cmp"
	"crypto/sha256"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"sidestream/translate"
)

// Request is a route's templates expanded with one client's request: everything the legacy service will see. Requests
// with equal keys are byte-identical, and only they may share a stream.
type Request struct {
	Route *Route
	Key   [sha256.Size]byte // identity: address, headers, opening frames, body; {stream.*} by name only

	shown     string // see String
	url       translate.Text
	first     *translate.Text // instead of url while there is no cursor; nil: none
	headers   []field
	body      translate.Text
	connect   translate.Text
	subscribe []translate.Text
	ticket    translate.Text
	script    translate.Script
	session   string   // the client's own part of the identity, with SCOPE=session
	private   []string // values of the client's query, headers and cookies; see Shown
}

type field struct {
	name  string
	value translate.Text
}

// Expand fills rt's templates from a client's request, whose path wildcards path returns. The error is a *[BadRequest].
func (rt *Route) Expand(r *http.Request, path func(name string) string) (Request, error) {
	if q := rt.only.Load(); q != nil {
		return *q, nil
	}
	c := &clientRequest{r: r, path: path, scoped: rt.settings.Session, most: cmp.Or(rt.settings.MaxValue, defaultValue)}
	q, err := rt.expand(c)
	if err == nil && !c.asked { // it would come out the same for every other client
		rt.only.Store(&q)
	}
	return q, err
}

func (rt *Route) expand(c *clientRequest) (Request, error) {
	q := Request{Route: rt}
	var err error
	if q.session, err = rt.session(c); err != nil {
		return q, err
	}
	if q.url, err = rt.from.expand(c); err != nil {
		return q, err
	}
	if err := checkSegments(q.url); err != nil {
		return q, err
	}
	if rt.first != nil {
		first, err := rt.first.expand(c)
		if err != nil {
			return q, err
		}
		if err := checkSegments(first); err != nil {
			return q, err
		}
		q.first = &first
	}
	q.shown = rt.shown(c)
	for _, h := range rt.headers {
		value, err := h.value.expand(c)
		if err != nil {
			return q, err
		}
		q.headers = append(q.headers, field{h.name, value})
	}
	for _, name := range rt.forward {
		for _, value := range c.header(name) {
			q.headers = append(q.headers, field{name, translate.Literal(value)})
		}
	}
	if q.body, err = rt.body.expand(c); err != nil {
		return q, err
	}
	if q.connect, err = rt.connect.expand(c); err != nil {
		return q, err
	}
	for _, line := range rt.subscribe {
		text, err := line.expand(c)
		if err != nil {
			return q, err
		}
		q.subscribe = append(q.subscribe, text)
	}
	if q.ticket, err = rt.ticket.expand(c); err != nil {
		return q, err
	}
	if err := checkSegments(q.ticket); err != nil {
		return q, err
	}
	if q.script, err = rt.expandScript(c); err != nil {
		return q, err
	}
	q.private = slices.Clip(c.private)
	q.headers, q.subscribe = slices.Clip(q.headers), slices.Clip(q.subscribe)
	q.Key = sha256.Sum256(q.identity())
	return q, nil
}

func (rt *Route) expandScript(c *clientRequest) (translate.Script, error) {
	s := translate.Script{
		Reply: rt.reply, State: rt.state, Resumed: rt.resumed, Every: rt.settings.PingEvery, Interval: rt.pingEvery, Pong: rt.pong,
		Close: rt.closing, Dial: rt.toDial,
	}
	for _, st := range rt.steps {
		switch st.mark {
		case '<':
			s.Steps = append(s.Steps, translate.Step{Wait: st.code})
		case '!':
			s.Steps = append(s.Steps, translate.Step{Refuse: st.code})
		case '~':
			s.Steps = append(s.Steps, translate.Step{Anew: st.code})
		case '=':
			s.Steps = append(s.Steps, translate.Step{Make: st.code})
		default:
			send, err := st.send.expand(c)
			if err != nil {
				return s, err
			}
			s.Steps = append(s.Steps, translate.Step{Send: send})
		}
	}
	var err error
	s.Ping, err = rt.ping.expand(c)
	return s, err
}

// checkSegments refuses a path that values next to each other, or next to a literal dot, have made climb.
func checkSegments(address translate.Text) error {
	if address.Empty() {
		return nil
	}
	text, err := address.Fill(func(string) string { return "0" })
	if err != nil {
		return &BadRequest{"the request does not make an upstream address"}
	}
	u, err := url.Parse(text)
	if err != nil {
		return &BadRequest{"the request does not make an upstream address"}
	}
	if translate.Climbs(u.EscapedPath()) {
		return &BadRequest{"the request makes a path segment . or .. in the upstream address"}
	}
	return nil
}

// identity is everything the legacy service will see, each part with its length in front, so that no two requests that
// differ look the same.
func (q *Request) identity() []byte {
	id := q.url.Identity(nil)
	if q.first != nil {
		id = q.first.Identity(id)
	}
	id = strconv.AppendInt(id, int64(len(q.headers)), 10)
	for _, h := range q.headers {
		id = translate.Literal(h.name).Identity(id)
		id = h.value.Identity(id)
	}
	id = q.body.Identity(id)
	id = q.connect.Identity(id)
	id = strconv.AppendInt(id, int64(len(q.subscribe)), 10)
	for _, line := range q.subscribe {
		id = line.Identity(id)
	}
	id = q.ticket.Identity(id)
	id = q.script.Ping.Identity(id)
	for _, s := range q.script.Steps {
		id = s.Send.Identity(id)
	}
	return translate.Literal(q.session).Identity(id)
}

// String is the address, fit for logs: see [Redact]. What comes of the client's query, headers and cookies is not shown.
func (q *Request) String() string { return q.shown }

// fill returns address and header, with {stream.*} filled in by value. first: there is no cursor yet.
func (q *Request) fill(value func(string) string, first bool) (address string, h http.Header, err error) {
	at := q.url
	if first && q.first != nil {
		at = *q.first
	}
	if address, err = at.Fill(value); err != nil {
		return "", nil, err
	}
	h = http.Header{}
	for _, f := range q.headers {
		text, err := f.value.Fill(value)
		if err != nil {
			return "", nil, err
		}
		h.Add(f.name, text)
	}
	if h.Get("User-Agent") == "" {
		h.Set("User-Agent", "sidestream")
	}
	return address, h, nil
}
