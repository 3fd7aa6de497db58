// This file is a run (SCOPE=run): one request that a client has started with its own POST, whose answer, a body that goes on for a while, is
// read once. Its rules:
//
//   - The request is made once, whatever becomes of it. What the service answers before there is a stream is the client's, as it is.
//   - The body goes upstream untouched, with its Content-Type and Content-Encoding and the client's Accept, unless HEADERS has these.
//   - Events keep their names and data. Their ids are the ring's own: an upstream's may repeat.
//   - The proper end of the answer is the run's. Any other, a record over MAX_MESSAGE or a silence of IDLE is a failure (502), and nothing
//     comes after it.

package upstream

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"sidestream/translate"
)

// Runs reports whether clients start the route's upstream requests themselves.
func (rt *Route) Runs() bool { return rt.settings.Run }

// runs is what such a route takes of its clients beside HEADERS and FORWARD.
func (c *compiler) runs() {
	s := c.s
	if !s.Run {
		return
	}
	if !c.rt.Follows() || s.Method != http.MethodPost {
		c.bad("SCOPE", "run is for what a client starts with a POST and reads as a stream; set METHOD=POST and MODE=stream, and begin FROM with http:// or https://")
	}
	for _, own := range [][2]string{{"BODY", s.Body}, {"CURSOR", s.Cursor}, {"FIRST", s.First}, {"RESET", s.Reset}, {"REFUSED", s.Refused}, {"STATUS", s.Status}, {"ID", s.ID}, {"KEY", s.Key}} {
		if own[1] != "" {
			c.bad(own[0], "has no place with SCOPE=run: the client's POST goes upstream once, as it is, and is answered with what the upstream says; unset it, or write SCOPE=request")
		}
	}
	c.add(entry{setting: "BODY", template: template{[]part{{kind: "body"}}}})
	for _, name := range []string{"Content-Type", "Content-Encoding", "Accept"} {
		if !c.rt.hasHeader(name) {
			c.add(entry{setting: "FORWARD", header: name, field: headerField, template: template{[]part{{kind: "forward", name: name}}}})
		}
	}
}

// Owner is who a client is, as far as the route's upstream is told: the hash of what of its request is a credential. named is false where
// nothing is.
func (rt *Route) Owner(r *http.Request, path, claim func(name string) string) (owner [sha256.Size]byte, named bool) {
	c := &clientRequest{r: r, path: path, claim: claim}
	h := sha256.New()
	for p := range rt.placeholders {
		if !p.identifies() {
			continue
		}
		values := c.header(p.name)
		if p.kind != "forward" {
			values = []string{c.lookup(p.kind, p.name)}
		}
		fmt.Fprintf(h, "%s %d:%s %d", p.kind, len(p.name), p.name, len(values))
		for _, v := range values {
			named = named || v != ""
			fmt.Fprintf(h, " %d:%s", len(v), v)
		}
	}
	h.Sum(owner[:0])
	return owner, named
}

// Credentials are what tells whose a run is, as placeholders or header names; none: nothing does.
func (rt *Route) Credentials() (names []string) {
	for p := range rt.placeholders {
		if p.identifies() {
			names = appendNew(names, p.text())
		}
	}
	return names
}

// identifies reports whether the placeholder stands for who a client is.
func (p part) identifies() bool {
	switch p.kind {
	case "cookie", "auth":
		return true
	case "forward", "header":
		return credential(p.name)
	case "query":
		return translate.NamesSecret(p.name)
	}
	return false
}

const (
	maxRefusal = 64 << 10 // bytes that are passed on of an answer that is no stream of events and no success
	maxHead    = 64 << 10 // bytes of an answer's headers, which are kept with the run
)

// headSize is how many bytes the headers of an answer have, about.
func headSize(h http.Header) (n int) {
	for name, values := range h {
		for _, v := range values {
			n += len(name) + len(v) + len(": \r\n")
		}
	}
	return n
}

// Answer is what has become of a run's request. At most one of Body, Text and Err is set; none: the answer is a stream, which is read.
type Answer struct {
	Status int
	Header http.Header
	Body   io.ReadCloser // of a success that is no stream, as it is sent: for one reader, who closes it, or calls Starting.Abandon
	Text   []byte        // the body of what is no success, as far as it is passed on
	Err    error         // there was none; fit to be shown
}

// Starting is a run, from before its request is made. Its source makes it, once.
type Starting struct {
	q        Request
	took     bool
	answered chan struct{}
	answer   Answer // once answered is closed

	mu        sync.Mutex // guards abandoned, and the closing of answered
	abandoned bool       // nobody is left who would read a body
}

// Start returns a run that is to be started by q's request.
func (q Request) Start() *Starting { return &Starting{q: q, answered: make(chan struct{})} }

// Request is the run for a stream, which only those find who know key.
func (s *Starting) Request(key [sha256.Size]byte) Request {
	q := s.q
	q.Key, q.values = key, nil
	q.source = func(log *slog.Logger) Source { return &run{Starting: s, log: log} }
	return q
}

// Answered is closed once Answer is there.
func (s *Starting) Answered() <-chan struct{} { return s.answered }

// Answer is what has become of the request, once Answered is closed.
func (s *Starting) Answer() *Answer { return &s.answer }

// Abandon ends what nobody is left to read: a Body that is there, or comes.
func (s *Starting) Abandon() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.abandoned = true
	select {
	case <-s.answered:
		s.endBody()
	default:
	}
}

// isAnswered makes the answer known.
func (s *Starting) isAnswered() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.answered)
	if s.abandoned {
		s.endBody()
	}
}

// endBody is called with mu held.
func (s *Starting) endBody() {
	if s.answer.Body != nil {
		s.answer.Body.Close()
	}
}

// run is the source, and its one connection.
type run struct {
	*Starting
	log  *slog.Logger
	conn *httpStreamConn
}

// History is false.
func (*run) History() bool { return false }

// Save is nil: nothing can go on with a run.
func (*run) Save() []byte { return nil }

// Restore takes nothing.
func (*run) Restore(_, _ []byte) error { return translate.ErrSaved }

// Resumed is false.
func (*run) Resumed() bool { return false }

// Send is none of a run's.
func (*run) Send(context.Context, translate.Message) error { return ErrNoUplink }

// Connect makes the request. Whatever fails is the end of the run.
func (r *run) Connect(ctx context.Context) (Conn, error) {
	if r.took {
		return nil, &translate.Refused{Status: http.StatusBadGateway, Reason: "a run's request is made once"}
	}
	r.took = true
	alive, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { cancel(ctx.Err()) })
	r.conn = &httpStreamConn{follow: &follow{q: r.q, log: r.log, jar: r.q.Route.jar()}, alive: alive, cancel: cancel}
	streams, err := r.start(alive)
	stop()
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		r.answer = Answer{Err: r.q.Shown(err)}
		err = &translate.Refused{Status: http.StatusBadGateway, Reason: r.answer.Err.Error()}
	} else if !streams {
		err = &translate.Refused{Status: http.StatusBadGateway, Reason: fmt.Sprintf("answered %d, and no stream", r.answer.Status)}
	}
	if err != nil && r.answer.Body == nil {
		r.conn.close()
	}
	r.q.values = nil
	r.isAnswered()
	if err != nil {
		return nil, err
	}
	return r, nil
}

// start makes the request, and looks at the head of its answer.
func (r *run) start(ctx context.Context) (streams bool, err error) {
	c, rt := r.conn, r.q.Route
	req, err := c.request(ctx)
	if err != nil {
		return false, err
	}
	client := *rt.client(rt.pools().polls, c.jar)
	req.GetBody = nil                                                                                    // so that net/http does not send it again, whatever its Idempotency-Key
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse } // it would be a request more
	if d := rt.settings.Timeout; d > 0 {
		t := time.AfterFunc(d, func() { c.cancel(fmt.Errorf("%w (%v)", errPatience, d)) })
		defer t.Stop()
	}
	asked := time.Now()
	resp, err := client.Do(req)
	if err != nil {
		return false, fmt.Errorf("connect: %w", because(ctx, err))
	}
	rt.Stats.Took(time.Since(asked))
	c.header, c.status, c.body = resp.Header, resp.StatusCode, resp.Body
	if headSize(resp.Header) > maxHead {
		return false, errors.New("the answer's headers are larger than 64 KiB")
	}
	c.framed = true // what ends with its connection has ended (RFC 9112, section 6.3), for who asked for it once
	r.answer = Answer{Status: resp.StatusCode, Header: resp.Header}
	switch success := resp.StatusCode >= 200 && resp.StatusCode <= 299; {
	case !success:
		r.answer.Text, err = io.ReadAll(io.LimitReader(resp.Body, maxRefusal))
		if err != nil {
			return false, fmt.Errorf("connection lost: %w", because(ctx, err))
		}
		return false, nil
	case !c.streams(resp):
		r.answer.Body = bodyOf{resp.Body, c}
		return false, nil
	}
	if c.decoded, err = decoded(resp, func() { c.heard() }); err != nil {
		return false, err
	}
	rt.Stats.Connects.Add(1)
	c.records = translate.NewVerbatimBody(resp.Header.Get("Content-Type"), rt.settings.Format, rt.settings.MaxMessage)
	return true, nil
}

// bodyOf is a body, which ends its request when it is closed.
type bodyOf struct {
	io.Reader
	c *httpStreamConn
}

func (b bodyOf) Close() error { b.c.close(); return nil }

// streams reports whether an answer is a stream: by its type, or by FORMAT, which says what any that is no page is.
func (c *httpStreamConn) streams(resp *http.Response) bool {
	kind := resp.Header.Get("Content-Type")
	if resp.StatusCode == http.StatusNoContent || translate.IsPage(kind) {
		return false
	}
	return c.q.Route.settings.Format != "" || translate.IsEvents(kind)
}

// Run reads the answer to its end.
func (r *run) Run(ctx context.Context, emit func([]translate.Message) error) error {
	c := r.conn
	defer c.close()
	stop := context.AfterFunc(ctx, func() { c.cancel(ctx.Err()) })
	defer stop()
	err := c.pump(func(ms []translate.Message) error { return verbatim(ms, emit) })
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, errEnded):
		return translate.ErrFinished
	case final(err):
		return err
	}
	return &translate.Refused{Status: http.StatusBadGateway, Reason: r.q.Shown(fmt.Errorf("the run was cut: %w", err)).Error()}
}

// verbatim emits messages as they came, up to a place where one is missing.
func verbatim(ms []translate.Message, emit func([]translate.Message) error) error {
	for i := range ms {
		if ms[i].Gap != "" {
			if err := emit(ms[:i]); err != nil {
				return err
			}
			return errMissing
		}
		ms[i].ID, ms[i].Verbatim = "", true
	}
	return emit(ms)
}
