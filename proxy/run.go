// This file is runs (SCOPE=run): a client starts an upstream request with its own POST, and reads the answer as a stream with ids; it, or another tab of
// its user's, comes back to it with GET and ?run=, and stops it with DELETE. The rules:
//
//   - The service is asked once. A POST that is repeated with the same Idempotency-Key is the same run, from its beginning.
//   - A run belongs to who has started it: by AUTH, or else by the credentials that go upstream. For anybody else it is not there, as one
//     that has long ended is not: 404, which ends an EventSource too.
//   - What the service answers that is no stream is the client's, as it is: a refusal with its status, and the answer of a call that asks for none.
//   - Whoever has sent the POST reads what the service has sent, and nothing of the sidecar's own: libraries take any event for the service's. It knows
//     the run by Content-Location, and the end of it from a cut by how the connection ends.
//   - A run without clients goes on for LINGER. One that has ended is kept for KEEP.

package proxy

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"time"

	"sidestream/proxy/deliver"
	"sidestream/proxy/stream"
	"sidestream/proxy/upstream"
)

const (
	runParam = "run" // in the query: the id of a run
	runSize  = 26    // characters of one, see rand.Text

	relayStall = 30 * time.Second // a client is cut that takes nothing for so long
)

const noRun = "there is no such run of yours here: it ended a while ago, the sidecar was restarted, or it was started with other credentials; start one with POST"

// wantsRun reports whether r is about a run of the route.
func (rt *Route) wantsRun(r *http.Request) bool {
	if !rt.Upstream.Runs() || upgrades(r) {
		return false
	}
	return r.Method == http.MethodPost || (r.Method == http.MethodGet || r.Method == http.MethodDelete) && runOf(r) != ""
}

// runOf is the id of the run that r names, "" where it names none.
func runOf(r *http.Request) string {
	if !strings.Contains(r.URL.RawQuery, runParam) {
		return ""
	}
	id := r.URL.Query().Get(runParam)
	if len(id) != runSize || strings.Trim(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") != "" {
		return ""
	}
	return id
}

// answerRun answers a request about a run.
func (rt *Route) answerRun(w http.ResponseWriter, r *http.Request) deliver.Rest {
	p := rt.proxy
	w.Header().Add("Vary", "Accept")
	if !p.admit(w.Header(), r) {
		return p.refuseOrigin(w, r)
	}
	if r.Method != http.MethodGet && p.hasTicket(r) {
		return p.deny(w, http.StatusUnauthorized, "a ticket is good for reading a run, not for starting or stopping one; send the credentials themselves")
	}
	g, err := rt.welcome(r.Context(), r)
	if err != nil {
		return rt.unwelcome(w, r, g, err)
	}
	if r.Method != http.MethodDelete && p.clients.Draining() {
		p.Rejected[Draining].Add(1)
		return deliver.Busy(w, r, g.busyID(), p.clients.Hint(&rt.deliver))
	}
	switch r.Method {
	case http.MethodPost:
		return rt.startRun(w, r, &g)
	case http.MethodGet:
		return rt.resumeRun(w, r, &g)
	}
	return rt.stopRun(w, &g)
}

// ownerOf is whose a run is that g starts, or may come back to. named is false where nothing tells who g is.
func (rt *Route) ownerOf(g *guest) (whose owner, named bool) {
	if rt.guard != nil {
		return rt.guard.Owner(rt.proxy.client(g.r), g.pass), true
	}
	return rt.Upstream.Owner(g.r, g.r.PathValue, g.pass.Claim)
}

// startRun starts a run, or comes back to the one that was started with the same Idempotency-Key.
func (rt *Route) startRun(w http.ResponseWriter, r *http.Request, g *guest) deliver.Rest {
	p := rt.proxy
	key := r.Header.Get("Idempotency-Key")
	if len(key) > maxKey {
		return p.reject(w, BadRequest, http.StatusBadRequest, "the Idempotency-Key is longer than 255 bytes")
	}
	body, status, problem := rt.readBody(w, r, rt.Upstream.MaxMessage(), "the body is larger than MAX_MESSAGE")
	if status != 0 {
		return p.reject(w, BadRequest, status, problem)
	}
	req, err := rt.Upstream.ExpandSent(g.r, g.r.PathValue, g.pass.Claim, &upstream.Sent{Body: string(body)})
	if err != nil {
		return rt.unwelcome(w, r, *g, err)
	}
	if rest := rt.takeRun(w, r, g); rest != nil {
		return rest
	}
	joined := false
	defer func() {
		if !joined {
			g.leave()
			rt.give()
		}
	}()
	whose, named := rt.ownerOf(g)
	mine := newRun(req, whose, named, g.r.URL.EscapedPath(), key)
	one, seat, err := rt.runs.enter(mine, rt.MaxRuns)
	switch {
	case errors.Is(err, errRuns):
		w.Header().Set("Retry-After", "5")
		return p.reject(w, FullStreams, http.StatusTooManyRequests, err.Error())
	case err != nil:
		return p.busy(w, r, FullStreams, "")
	case one.digest != mine.digest:
		seat.Leave()
		return p.reject(w, BadRequest, http.StatusUnprocessableEntity, stream.ErrReused.Error())
	}
	if !one.await(r.Context(), seat.Ended()) {
		seat.Leave()
		return rt.neverAnswered(w, r, one, one == mine)
	}
	if a := one.Answer(); a.Err != nil || a.Text != nil || a.Status < 200 || a.Status > 299 || a.Body != nil {
		seat.Leave()
		rt.runs.end(one)
		return rt.passAnswer(w, r, one, a, one == mine)
	}
	g.id, g.place = "", ""
	if !rt.takeOf(one.stream, g) {
		seat.Leave()
		return p.busy(w, r, FullClients, "")
	}
	joined = true
	c := rt.placeRun(g, one, seat)
	c.Terse = true
	passHeader(w.Header(), one.Answer().Header)
	w.Header().Set("Content-Location", runLocation(g.r.URL, one.id))
	w.Header().Add("Access-Control-Expose-Headers", "Content-Location")
	return p.clients.Join(w, r, c)
}

// neverAnswered ends a run whose request was not answered while its client was there. first: it is the one who started it.
func (rt *Route) neverAnswered(w http.ResponseWriter, r *http.Request, one *oneRun, first bool) deliver.Rest {
	if first {
		one.Abandon()
	}
	if one.key == "" { // nobody else can know of it
		rt.runs.end(one)
	}
	if r.Context().Err() == nil {
		return rt.proxy.busy(w, r, FullStreams, "")
	}
	return deliver.Answered
}

// runLocation is where a run is come back to.
func runLocation(at *url.URL, id string) string {
	query := upstream.Without(at.RawQuery, func(name, _ string) bool { return name == runParam })
	if query != "" {
		query += "&"
	}
	return at.EscapedPath() + "?" + query + runParam + "=" + id
}

// takeRun takes a client's place, before anything is done for it. Where rest is not nil it has been answered.
func (rt *Route) takeRun(w http.ResponseWriter, r *http.Request, g *guest) (rest deliver.Rest) {
	p := rt.proxy
	var room bool
	if g.gone, room = p.table().addresses.take(r); !room {
		return p.busy(w, r, FullAddress, g.busyID())
	}
	if !rt.take() {
		g.leave()
		return p.busy(w, r, FullClients, g.busyID())
	}
	return nil
}

// placeRun seats a client that has its place at a run, at its beginning or where it was.
func (rt *Route) placeRun(g *guest, one *oneRun, seat *stream.Seat) deliver.Client {
	c := rt.tables.First(one.stream, deliver.Client{Route: &rt.deliver, Ring: seat.Ring, Retiring: seat.Retiring(), Leaving: seat.Leaving(), Leave: seat.Leave}, false)
	c.Cursor = 0
	rt.begins(&c, g, (*stream.Ring).Find)
	return c
}

// resumeRun has a client go on with a run.
func (rt *Route) resumeRun(w http.ResponseWriter, r *http.Request, g *guest) deliver.Rest {
	p := rt.proxy
	whose, _ := rt.ownerOf(g)
	one := rt.runs.find(runOf(r), whose, g.r.URL.EscapedPath())
	var seat *stream.Seat
	if one != nil {
		seat = rt.Streams.Attach(one.stream)
	}
	if seat == nil {
		return p.reject(w, BadRequest, http.StatusNotFound, noRun)
	}
	if _, end := seat.Ring.Last(); end.Kind == stream.Refused && end.Status == http.StatusGone {
		seat.Leave()
		return p.reject(w, BadRequest, http.StatusGone, "this run was stopped")
	}
	if rest := rt.takeRun(w, r, g); rest != nil {
		seat.Leave()
		return rest
	}
	if !rt.takeOf(one.stream, g) {
		seat.Leave()
		g.leave()
		rt.give()
		return p.busy(w, r, FullClients, g.busyID())
	}
	c := rt.placeRun(g, one, seat)
	if over(c.Ring, c.Cursor) {
		g.leave()
		c.Leave()
		return answerOver(w, g.inQuery)
	}
	return p.clients.Join(w, r, c)
}

// stopRun stops a run upstream.
func (rt *Route) stopRun(w http.ResponseWriter, g *guest) deliver.Rest {
	whose, _ := rt.ownerOf(g)
	one := rt.runs.find(runOf(g.r), whose, g.r.URL.EscapedPath())
	if one == nil {
		return rt.proxy.reject(w, BadRequest, http.StatusNotFound, noRun)
	}
	rt.Streams.Stop(one.stream)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusNoContent)
	return deliver.Answered
}

// passAnswer gives a client what the service has answered that is no stream. A body goes to the client whose POST has asked for it.
func (rt *Route) passAnswer(w http.ResponseWriter, r *http.Request, one *oneRun, a *upstream.Answer, first bool) deliver.Rest {
	p := rt.proxy
	if a.Err != nil {
		p.Rejected[RefusedUp].Add(1)
		refuseSend(w, http.StatusBadGateway, "the service could not be asked: "+a.Err.Error())
		return deliver.Answered
	}
	if a.Body != nil && !first {
		w.Header().Set("Retry-After", "1")
		return p.reject(w, BadRequest, http.StatusConflict, "a request with this Idempotency-Key was answered with something that is no stream; use another key")
	}
	h := w.Header()
	passHeader(h, a.Header)
	for _, name := range []string{"Content-Type", "Content-Encoding", "Content-Length", "Content-Disposition", "Cache-Control", "Location"} {
		if values := a.Header[name]; values != nil && (name != "Content-Length" || a.Body != nil) {
			h[name] = values
		}
	}
	w.WriteHeader(a.Status)
	if a.Body == nil {
		p.Rejected[RefusedUp].Add(1)
		w.Write(a.Text) // a client that has disconnected is no error
		return deliver.Answered
	}
	defer a.Body.Close()
	defer context.AfterFunc(r.Context(), func() { a.Body.Close() })() // which may say nothing for long
	return relayed(w, r, a.Body)
}

// relayed copies a body to its client as it comes. One that breaks off is cut.
func relayed(w http.ResponseWriter, r *http.Request, body io.Reader) deliver.Rest {
	control := http.NewResponseController(w)
	defer control.SetWriteDeadline(time.Time{})
	buf := make([]byte, 32<<10)
	for {
		n, err := body.Read(buf)
		if n > 0 {
			control.SetWriteDeadline(time.Now().Add(relayStall))
			if _, err := w.Write(buf[:n]); err != nil {
				return deliver.Answered // the client has gone
			}
			control.Flush()
		}
		switch {
		case errors.Is(err, io.EOF):
			return deliver.Answered
		case err != nil || r.Context().Err() != nil:
			return func() (cut bool) { return true }
		}
	}
}

// kept are headers of an answer that are not passed on with a run: the connection's, what describes a body that is written again, and what is said here
// for pages of other origins.
var kept = []string{"Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Vary", "Date", "Server",
	"Content-Type", "Content-Encoding", "Content-Length", "Content-Location", "Content-Disposition", "Content-Range", "Accept-Ranges", "Cache-Control", "Expires", "Age", "Etag", "Last-Modified",
	"Location", "Set-Cookie", "Alt-Svc", "X-Accel-Buffering"}

// passHeader adds the headers of a service's answer that are for its client, such as the request's id and what is left of a rate limit.
func passHeader(h, from http.Header) {
	for name, values := range from {
		name = textproto.CanonicalMIMEHeaderKey(name)
		if !slices.Contains(kept, name) && !strings.HasPrefix(name, "Access-Control-") && h[name] == nil {
			h[name] = values
		}
	}
}
