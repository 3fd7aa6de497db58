package proxy

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"sidestream/proxy/deliver"
	"sidestream/proxy/stream"
	"sidestream/proxy/upstream"
	"sidestream/translate"
	"sidestream/translate/sse"
)

// At capacity, clients are told to come back after this to twice this.
const busyTime = 30 * time.Second

// verdictTime is how long [stream.Streams.Join] waits: what took less has its verdict.
const verdictTime = 3 * time.Second

// Why requests were rejected, as an index into Rejected.
const (
	Forbidden   = iota // from another origin
	BadRequest         // did not fill a template
	FullClients        // SSE_MAX_CLIENTS, or the route's
	FullStreams        // SSE_MAX_STREAMS, or the route's
	Draining           // the sidecar stops
	RefusedUp          // by the upstream
	rejections
)

// Rejected counts requests for event streams that got none.
type Rejected [rejections]atomic.Int64

// Rejections names the entries of Rejected.
var Rejections = [rejections]string{"origin", "bad_request", "max_clients", "max_streams", "draining", "upstream"}

// ServeHTTP answers a request on the route's path.
func (rt *Route) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p := rt.proxy
	switch {
	case r.Method == http.MethodGet && !upgrades(r) && (p.passthrough == nil || accepts(r, sse.ContentType)):
		rt.subscribe(w, r)()
	case r.Method == http.MethodPost && rt.Send:
		rt.serveSend(w, r)
	case p.preflight(r, rt.Send):
		rt.answerPreflight(w, r)
	default:
		p.pass(w, r)
	}
}

// subscribe answers who wants the event stream, and returns what is to be called then: nothing of the admission is on the
// stack for as long as the client is there.
func (rt *Route) subscribe(w http.ResponseWriter, r *http.Request) (wait func()) {
	c, ok := rt.receive(w, r)
	if !ok {
		return func() {}
	}
	return rt.proxy.clients.Join(w, r, c)
}

// upgrades says whether r asks for a WebSocket (RFC 6455, section 4.1).
func upgrades(r *http.Request) bool {
	return hasToken(r.Header.Values("Connection"), "upgrade") && hasToken(r.Header.Values("Upgrade"), "websocket")
}

// receive admits a client of the route's event stream. false: it has been answered with something else.
func (rt *Route) receive(w http.ResponseWriter, r *http.Request) (c deliver.Client, ok bool) {
	p := rt.proxy
	w.Header().Add("Vary", "Accept")
	if !p.admit(w, r) {
		p.reject(w, Forbidden, http.StatusForbidden, otherOrigin)
		return c, false
	}
	req, err := rt.Upstream.Expand(r, r.PathValue)
	if err != nil {
		p.reject(w, BadRequest, http.StatusBadRequest, err.Error())
		return c, false
	}
	id, inQuery := lastEventID(r)
	if p.clients.Draining() {
		deliver.Decline(w)
		p.Rejected[Draining].Add(1)
		deliver.Busy(w, r, id, p.clients.Hint(&rt.deliver))
		return c, false
	}
	if !p.all.Take() {
		p.busy(w, r, FullClients, id)
		return c, false
	}
	if !rt.own.Take() {
		p.all.Give()
		p.busy(w, r, FullClients, id)
		return c, false
	}
	return rt.join(w, r, req, id, inQuery)
}

// give gives a client's place back.
func (rt *Route) give() {
	rt.own.Give()
	rt.proxy.all.Give()
}

// busy tells a client to come back later, as [deliver.Busy] does.
func (p *Proxy) busy(w http.ResponseWriter, r *http.Request, why int, id string) {
	deliver.Decline(w)
	p.Rejected[why].Add(1)
	deliver.Busy(w, r, id, busyTime+rand.N(busyTime))
}

// join finds out where a client begins.
func (rt *Route) join(w http.ResponseWriter, r *http.Request, req upstream.Request, id string, inQuery bool) (c deliver.Client, ok bool) {
	if c, ok = rt.seat(w, r, req, id); !ok {
		return c, false
	}
	leave := c.Leave
	c.LastID, c.Leave = id, func() {
		leave()
		rt.give()
	}
	c.Beats = wantsBeats(r)
	if id != "" {
		if cursor, ok := c.Ring.Find(id); ok {
			c.Cursor = cursor
		} else {
			c.Lost = true
		}
	}
	if over(c.Ring, c.Cursor) {
		c.Leave()
		answerOver(w, inQuery)
		return c, false
	}
	return c, true
}

// seat finds a client its place: beside those who read the same stream, or in a stream of its own once its upstream's
// verdict is known. false: it has been answered.
func (rt *Route) seat(w http.ResponseWriter, r *http.Request, req upstream.Request, id string) (c deliver.Client, ok bool) {
	if c, ok = rt.tables.Beside(req.Key); ok {
		return c, true
	}
	deliver.Decline(w, rt.give) // the verdict may take a while
	p, asked := rt.proxy, time.Now()
	seat, err := rt.Streams.Join(r.Context(), req)
	if err != nil {
		rt.give()
	}
	var refused *translate.Refused
	switch {
	case errors.As(err, &refused):
		p.reject(w, RefusedUp, refused.Status, fmt.Sprintf("the upstream refused this request (%d)", refused.Status))
		return c, false
	case errors.Is(err, stream.ErrBusy):
		p.busy(w, r, FullStreams, id)
		return c, false
	case err != nil:
		return c, false // the client has gone
	}
	c = deliver.Client{Route: &rt.deliver, Ring: seat.Ring, Retiring: seat.Retiring(), Cursor: seat.Start(), Leave: seat.Leave}
	return rt.tables.First(req.Key, c, time.Since(asked) < verdictTime), true
}

// over says that a stream is finished and its client has all of it.
func over(r *stream.Ring, cursor uint64) bool {
	last, end := r.Last()
	return end.Kind == stream.Finished && (cursor == last || last == 0)
}

// answerOver keeps a client from coming again. EventSource stops at 204; event-source-polyfill, the one that has its id
// in the query, fails on an answer without a body.
func answerOver(w http.ResponseWriter, inQuery bool) {
	w.Header().Set("Cache-Control", "no-store")
	if inQuery {
		http.Error(w, "this stream is complete", http.StatusGone)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (p *Proxy) reject(w http.ResponseWriter, why, status int, text string) {
	deliver.Decline(w)
	p.Rejected[why].Add(1)
	w.Header().Set("Cache-Control", "no-store")
	http.Error(w, text, status)
}

// lastEventID is what a client has received last. The header wins: a browser that comes back sends it together with the
// query of the page's own address, which is older.
func lastEventID(r *http.Request) (id string, inQuery bool) {
	if id := r.Header.Get("Last-Event-ID"); id != "" {
		return id, false
	}
	query := r.URL.Query()
	for _, name := range []string{"lastEventId", "last_event_id"} {
		if id := query.Get(name); id != "" {
			return strings.Clone(id), true // without the rest of the target
		}
	}
	return "", false
}

// beatsParam in the query, with the value event, asks for heartbeats that scripts can see.
const beatsParam = "heartbeat"

func wantsBeats(r *http.Request) bool {
	return strings.Contains(r.URL.RawQuery, beatsParam) && r.URL.Query().Get(beatsParam) == "event"
}

// accepts says whether r asks for media by name.
func accepts(r *http.Request, media string) bool {
	for _, line := range r.Header.Values("Accept") {
		for one := range strings.SplitSeq(line, ",") {
			name, params, _ := strings.Cut(one, ";")
			if strings.EqualFold(strings.TrimSpace(name), media) && !refusedByWeight(params) {
				return true
			}
		}
	}
	return false
}

// refusedByWeight says that the weight is 0: not acceptable (RFC 9110, section 12.4.2).
func refusedByWeight(params string) bool {
	for param := range strings.SplitSeq(params, ";") {
		name, weight, _ := strings.Cut(strings.TrimSpace(param), "=")
		if strings.EqualFold(name, "q") && strings.Trim(weight, "0.") == "" {
			return true
		}
	}
	return false
}

// hasToken says whether a comma-separated header holds token.
func hasToken(lines []string, token string) bool {
	for _, line := range lines {
		for one := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(one), token) {
				return true
			}
		}
	}
	return false
}
