package proxy

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"sidestream/proxy/deliver"
	"sidestream/proxy/merge"
	"sidestream/proxy/stream"
	"sidestream/proxy/upstream"
	"sidestream/proxy/web"
	"sidestream/translate"
	"sidestream/translate/sse"

	"golang.org/x/net/http/httpguts"
)

// At capacity, clients are told to come back after this to twice this.
const busyTime = 30 * time.Second

// Why requests were rejected, as an index into Rejected.
const (
	Forbidden    = iota // from another origin
	BadRequest          // did not fill a template
	FullClients         // SSE_MAX_CLIENTS, or the route's
	FullStreams         // SSE_MAX_STREAMS, or the route's
	Draining            // the sidecar stops
	RefusedUp           // by the upstream
	Unauthorized        // by AUTH, or its ticket does not hold
	Unsure              // AUTH cannot be asked now
	FullAddress         // SSE_MAX_CLIENTS_PER_IP
	Unread              // what is known of the stream from before is not read yet
	rejections
)

// Rejected counts requests for event streams that got none.
type Rejected [rejections]atomic.Int64

// Rejections names the entries of Rejected.
var Rejections = [rejections]string{"origin", "bad_request", "max_clients", "max_streams", "draining", "upstream", "auth", "auth_unavailable", "address", "history"}

// answer answers a request on the route's path.
func (rt *Route) answer(w http.ResponseWriter, r *http.Request) deliver.Rest {
	p := rt.proxy
	switch {
	case rt.wantsOperation(r):
		return rt.answerOperation(w, r)
	case rt.wantsRun(r):
		return rt.answerRun(w, r)
	case rt.wantsEvents(r):
		c, rest := rt.receive(w, r)
		if rest != nil {
			return rest
		}
		return p.clients.Join(w, r, c)
	case r.Method == http.MethodPost && rt.Send:
		rt.serveSend(w, r)
	case p.preflight(r, rt.methods()...):
		rt.answerPreflight(w, r)
	default:
		return p.pass(w, r)
	}
	return deliver.Answered
}

// wantsEvents reports whether r asks for the route's event stream.
func (rt *Route) wantsEvents(r *http.Request) bool {
	return r.Method == http.MethodGet && !upgrades(r) && (rt.proxy.passthrough == nil || accepts(r, sse.ContentType))
}

// upgrades reports whether r asks for a WebSocket (RFC 6455, section 4.1).
func upgrades(r *http.Request) bool {
	return httpguts.HeaderValuesContainsToken(r.Header.Values("Connection"), "upgrade") && httpguts.HeaderValuesContainsToken(r.Header.Values("Upgrade"), "websocket")
}

// beside is part of Proxy.Beside. What it takes it gives back where it does not succeed.
func (rt *Route) beside(r *http.Request) (c deliver.Client, header http.Header, first deliver.First, ok bool) {
	if rt.Upstream.Merges() != nil { // there is more to it than can be known without waiting
		return c, nil, nil, false
	}
	p := rt.proxy
	t := p.table()
	header = t.streamHead()
	if !t.admit(header, r) || p.clients.Draining() || deliver.Polls(r) {
		return c, nil, nil, false
	}
	g, ok := rt.known(r)
	if !ok {
		return c, nil, nil, false
	}
	req, err := rt.Upstream.ExpandFor(g.r, g.r.PathValue, g.pass.Claim)
	if err != nil {
		return c, nil, nil, false
	}
	if c, ok = rt.tables.Beside(req.Key); !ok {
		return c, header, func(ctx context.Context) (deliver.Client, bool) { return rt.first(ctx, g, req) }, false
	}
	if g.gone, ok = p.table().addresses.take(r); !ok {
		c.Leave()
		return c, nil, nil, false
	}
	if !rt.takeBoth(req.Key, &g) {
		g.leave()
		c.Leave()
		return c, nil, nil, false
	}
	rt.begins(&c, &g, (*stream.Ring).Find)
	if over(c.Ring, c.Cursor) || c.Lost && c.Ring.Shared() {
		g.leave()
		c.Leave()
		return c, nil, nil, false
	}
	return c, header, nil, true
}

// first is what beside returns. Whatever is wrong is said by receive, which finds it again.
func (rt *Route) first(ctx context.Context, g guest, req upstream.Request) (c deliver.Client, ok bool) {
	if g.gone, ok = rt.proxy.table().addresses.take(g.r); !ok {
		return c, false
	}
	if !rt.takeBoth(req.Key, &g) {
		g.leave()
		return c, false
	}
	seat, err := rt.Streams.Join(ctx, req)
	if err != nil {
		rt.give()
		g.leave()
		return c, false
	}
	c = rt.tables.First(req.Key, rt.seated(seat), seat.Decided)
	unseat := c.Leave
	rt.begins(&c, &g, func(ring *stream.Ring, id string) (uint64, bool) { return ring.FindAnywhere(ctx, id) })
	if over(c.Ring, c.Cursor) {
		rt.give()
		g.leave()
		time.AfterFunc(overTime, unseat) // the stream is still known to be over when receive asks
		return c, false
	}
	return c, true
}

// overTime is for how long what is to be said of a stream that is over is kept at least.
const overTime = time.Second

// acceptVaries is what the head of every event stream has. It is not written to.
var acceptVaries = http.Header{"Vary": {"Accept"}}

// streamHead is what the head of an event stream has beside what every one has. It may be written to by whatever admits a
// page of another origin.
func (t *table) streamHead() http.Header {
	if len(t.origins) == 0 {
		return acceptVaries
	}
	return http.Header{"Vary": {"Accept"}}
}

// receive admits a client of the route's event stream. Where rest is not nil it has been answered with something else.
func (rt *Route) receive(w http.ResponseWriter, r *http.Request) (c deliver.Client, rest deliver.Rest) {
	p := rt.proxy
	w.Header().Add("Vary", "Accept")
	if !p.admit(w.Header(), r) {
		return c, p.refuseOrigin(w, r)
	}
	g, err := rt.welcome(r.Context(), r)
	if err != nil {
		return c, rt.unwelcome(w, r, g, err)
	}
	if rt.Upstream.Merges() != nil && p.clients.Draining() { // for whom nothing is dialled any more
		p.Rejected[Draining].Add(1)
		return c, deliver.Busy(w, r, g.busyID(), p.clients.Hint(&rt.deliver))
	}
	req, err := rt.expand(r.Context(), &g)
	if err != nil {
		g.leave()
		return c, rt.unwelcome(w, r, g, err)
	}
	if p.clients.Draining() {
		g.leave()
		p.Rejected[Draining].Add(1)
		return c, deliver.Busy(w, r, g.busyID(), p.clients.Hint(&rt.deliver))
	}
	return rt.place(w, r, &g, req)
}

// place gives a client that may come in what it wants, where there is room. Where rest is not nil it has been answered with something else, and what
// g has taken is given back.
func (rt *Route) place(w http.ResponseWriter, r *http.Request, g *guest, req upstream.Request) (c deliver.Client, rest deliver.Rest) {
	p := rt.proxy
	var room bool
	if g.gone, room = p.table().addresses.take(r); !room {
		g.leave()
		return c, p.busy(w, r, FullAddress, g.busyID())
	}
	if !rt.takeBoth(req.Key, g) {
		g.leave()
		return c, p.busy(w, r, FullClients, g.busyID())
	}
	if c, rest = rt.seat(w, r, req, g); rest != nil {
		g.leave()
		return c, rest
	}
	rt.begins(&c, g, func(ring *stream.Ring, id string) (uint64, bool) { return ring.FindAnywhere(r.Context(), id) })
	switch {
	case over(c.Ring, c.Cursor):
		g.leave()
		c.Leave()
		return c, answerOver(w, g.inQuery)
	case g.set != nil && !g.set.settle(r.Context(), g, &c):
		g.leave()
		c.Leave()
		return c, rt.unread(w, r, g)
	}
	return c, nil
}

// takeBoth takes a client's place in its stream, which g gives back, in the route and in the sidecar; false: there is none.
func (rt *Route) takeBoth(key deliver.Key, g *guest) bool { return rt.takeOf(key, g) && rt.take() }

// takeOf takes a client's place in its stream, which g gives back; false: there is none.
func (rt *Route) takeOf(key deliver.Key, g *guest) bool {
	if rt.MaxPerStream > 0 {
		if !rt.perStream.take(key, rt.MaxPerStream) {
			return false
		}
		gone := g.gone
		g.gone = func() {
			rt.perStream.give(key)
			if gone != nil {
				gone()
			}
		}
	}
	return true
}

// take takes a client's place in the route and in the sidecar; false: there is none.
func (rt *Route) take() bool {
	all := rt.proxy.all
	if !all.Take() {
		return false
	}
	if !rt.own.Take() {
		all.Give()
		return false
	}
	return true
}

// give gives a client's place back.
func (rt *Route) give() {
	rt.own.Give()
	rt.proxy.all.Give()
}

// busy tells a client to come back later, as [deliver.Busy] does.
func (p *Proxy) busy(w http.ResponseWriter, r *http.Request, why int, id string) deliver.Rest {
	p.Rejected[why].Add(1)
	return deliver.Busy(w, r, id, busyTime+rand.N(busyTime))
}

// begins finds out where a client begins that has its place and its seat.
func (rt *Route) begins(c *deliver.Client, g *guest, find func(*stream.Ring, string) (uint64, bool)) {
	leave := c.Leave
	c.LastID, c.Pass, c.Gone, c.Leave = g.id, g.pass, g.gone, func() {
		leave()
		rt.give()
	}
	c.Polls = deliver.Polls(g.r)
	if deliver.HeldBack(g.r) {
		rt.HeldBack.Add(1)
	}
	c.Gzip = rt.Compress && web.TakesGzip(g.r.Header) && !c.Polls
	c.Beats, c.Address = wantsBeats(g.r), rt.proxy.table().addresses.forwarded(g.r)
	if g.id == "" {
		return
	}
	if cursor, ok := find(c.Ring, g.id); ok {
		c.Cursor = cursor
	} else {
		c.Lost = true
	}
}

// seat finds a client its seat: beside the clients of the same stream, or one of its own once the upstream's verdict is
// known. Where rest is not nil it has been answered, and its place given back.
func (rt *Route) seat(w http.ResponseWriter, r *http.Request, req upstream.Request, g *guest) (c deliver.Client, rest deliver.Rest) {
	p, id := rt.proxy, g.busyID()
	if g.set == nil { // else it is to be known where it begins
		if c, ok := rt.tables.Beside(req.Key); ok {
			return c, nil
		}
	}
	seat, err := rt.Streams.Join(r.Context(), req)
	if err != nil {
		rt.give()
	}
	var refused *translate.Refused
	switch {
	case errors.As(err, &refused):
		return c, p.reject(w, RefusedUp, refused.Status, fmt.Sprintf("the upstream refused this request (%d)", refused.Status))
	case errors.Is(err, stream.ErrBusy):
		return c, p.busy(w, r, FullStreams, id)
	case errors.Is(err, stream.ErrUnread):
		return c, rt.unread(w, r, g)
	case errors.Is(err, stream.ErrReplaced): // while the client was on its way; whoever replaces it is there
		p.Rejected[Draining].Add(1)
		return c, deliver.Busy(w, r, id, rt.deliver.RetryHint())
	case err != nil:
		return c, deliver.Answered // the client has gone
	}
	if g.set != nil {
		if g.set.left = seat.Request().Leave(); rt.Name == setName {
			g.set.source, _ = seat.Source().(*merge.Source)
		}
	}
	return rt.tables.First(req.Key, rt.seated(seat), seat.Decided), nil
}

// seated is the client of a seat of its own.
func (rt *Route) seated(s *stream.Seat) deliver.Client {
	return deliver.Client{Route: &rt.deliver, Ring: s.Ring, Retiring: s.Retiring(), Leaving: s.Leaving(), Cursor: s.Start(), Leave: s.Leave}
}

// over reports whether a stream is finished and its client has all of it.
func over(r *stream.Ring, cursor uint64) bool {
	last, end := r.Last()
	return end.Kind == stream.Finished && (cursor == last || last == 0)
}

// answerOver keeps a client from coming again. EventSource stops at 204; event-source-polyfill, the one that has its id
// in the query, fails on an answer without a body.
func answerOver(w http.ResponseWriter, inQuery bool) deliver.Rest {
	w.Header().Set("Cache-Control", "no-store")
	if inQuery {
		http.Error(w, "this stream is complete", http.StatusGone)
	} else {
		w.WriteHeader(http.StatusNoContent)
	}
	return deliver.Answered
}

func (p *Proxy) reject(w http.ResponseWriter, why, status int, text string) deliver.Rest {
	p.Rejected[why].Add(1)
	w.Header().Set("Cache-Control", "no-store")
	http.Error(w, text, status)
	return deliver.Answered
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
	return r.Method == http.MethodGet && strings.Contains(r.URL.RawQuery, beatsParam) && r.URL.Query().Get(beatsParam) == "event"
}

// accepts reports whether r asks for media by name.
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

// refusedByWeight reports whether the weight is 0: not acceptable (RFC 9110, section 12.4.2).
func refusedByWeight(params string) bool {
	for param := range strings.SplitSeq(params, ";") {
		name, weight, _ := strings.Cut(strings.TrimSpace(param), "=")
		if strings.EqualFold(name, "q") && strings.Trim(weight, "0.") == "" {
			return true
		}
	}
	return false
}
