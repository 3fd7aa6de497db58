// This file is GraphQL over Server-Sent Events (FACE=graphql-sse): a client's operation comes by POST, or in the query of a GET, and is answered with
// the events next and complete. The rules, beside those of package upstream:
//
//   - It is admitted as any client of events. A POST is JSON, which no page of another origin can send without being asked about.
//   - What is no request of GraphQL gets a status. What may not be run gets a result with errors, as the protocol has it: at a status the clients
//     that there are repeat the request, and keep its reason to themselves.
//   - A client without an id is told nothing but next and complete: graphql-sse 2.6.1 gives up at any other event. One with an id is an EventSource that
//     comes back, or reads ids, and is told what any client is.
//   - Whoever comes without an id after the end of an operation has it run again: what it came to is not remembered for others.

package proxy

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"sidestream/proxy/deliver"
	"sidestream/proxy/stream"
	"sidestream/proxy/upstream"
	"sidestream/translate/graphql"
	"sidestream/translate/sse"
)

// wantsOperation reports whether r brings an operation to the route.
func (rt *Route) wantsOperation(r *http.Request) bool {
	return rt.Upstream.Operates() && (rt.wantsEvents(r) || r.Method == http.MethodPost && (rt.proxy.passthrough == nil || accepts(r, sse.ContentType)))
}

// answerOperation answers a client that brings an operation.
func (rt *Route) answerOperation(w http.ResponseWriter, r *http.Request) deliver.Rest {
	p := rt.proxy
	w.Header().Add("Vary", "Accept")
	if !p.admit(w.Header(), r) {
		return p.refuseOrigin(w, r)
	}
	g, err := rt.welcome(r.Context(), r)
	if err != nil {
		return rt.unwelcome(w, r, g, err)
	}
	operation, rest := rt.readOperation(w, r)
	if rest != nil {
		return rest
	}
	req, err := rt.Upstream.ExpandSent(g.r, g.r.PathValue, g.pass.Claim, &upstream.Sent{Operation: operation})
	if err != nil {
		return rt.unwelcome(w, r, g, err)
	}
	if p.clients.Draining() {
		p.Rejected[Draining].Add(1)
		return deliver.Busy(w, r, g.busyID(), p.clients.Hint(&rt.deliver))
	}
	if g.id == "" {
		rt.Streams.Renew(req.Key)
	}
	c, rest := rt.place(w, r, &g, req)
	if rest != nil {
		return rest
	}
	if c.Terse = g.id == ""; c.Terse {
		c.Cursor = whole(c.Ring, c.Cursor)
	}
	return p.clients.Join(w, r, c)
}

// whole is where a client begins that has no id: at all that there is of an operation that has ended meanwhile, rather than at its end.
func whole(ring *stream.Ring, cursor uint64) uint64 {
	if ring.Complete() {
		return 0
	}
	if cursor == stream.Begin {
		cursor, _ = ring.Enter()
	}
	return cursor
}

// readOperation is what the client wants to subscribe to, in its one form. Where rest is not nil it has been answered.
func (rt *Route) readOperation(w http.ResponseWriter, r *http.Request) (operation string, rest deliver.Rest) {
	request, problem := (*graphql.Request)(nil), (*graphql.Problem)(nil)
	if r.Method == http.MethodPost {
		body, status, text := rt.readJSON(w, r)
		if status != 0 {
			return "", rt.refuseOperation(w, status, &graphql.Problem{Code: "BAD_REQUEST", Message: text})
		}
		request, problem = graphql.FromBody(body)
	} else {
		request, problem = graphql.FromQuery(r.URL.Query())
	}
	if problem == nil {
		operation, problem = request.Subscription(rt.Upstream.Documents())
	}
	switch {
	case problem == nil:
		return operation, nil
	case problem.Malformed:
		return "", rt.refuseOperation(w, http.StatusBadRequest, problem)
	}
	rt.proxy.Rejected[BadRequest].Add(1)
	return "", answerWhole(w, appendResult(nil, problem.Result()))
}

// refuseOperation answers what is no request of GraphQL.
func (rt *Route) refuseOperation(w http.ResponseWriter, status int, problem *graphql.Problem) deliver.Rest {
	rt.proxy.Rejected[BadRequest].Add(1)
	h := w.Header()
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	w.Write(problem.Result()) // a client that has disconnected is no error
	return deliver.Answered
}

// answerWhole answers with a stream that is complete already.
func answerWhole(w http.ResponseWriter, text []byte) deliver.Rest {
	h := w.Header()
	h.Set("Content-Type", sse.ContentType)
	h.Set("Cache-Control", "no-cache, no-store, no-transform")
	w.Write(text) // a client that has disconnected is no error
	return deliver.Answered
}

// appendResult appends the last result of an operation, and its end.
func appendResult(dst, result []byte) []byte {
	return sse.AppendVerbatim(sse.AppendVerbatim(dst, "", "next", result), "", "complete", nil)
}

// operationRefused is what a client is told whose subscription does not go on.
func operationRefused(dst []byte, status int) []byte {
	return appendResult(dst, graphql.Refusal(status))
}

// readJSON reads the body of a POST, which is JSON of a bounded size. status is that of the answer when it is not.
func (rt *Route) readJSON(w http.ResponseWriter, r *http.Request) (body []byte, status int, problem string) {
	media, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	charset := strings.ToLower(params["charset"])
	if err != nil || media != "application/json" && media != "application/graphql+json" || charset != "" && charset != "utf-8" || r.Header.Get("Content-Encoding") != "" {
		return nil, http.StatusUnsupportedMediaType, "send the operation as application/json in UTF-8, not encoded"
	}
	return rt.readBody(w, r, graphql.MaxRequest, "the operation is longer than 64 KiB")
}

// maxBodies is how many bodies of a route's POSTs are read at once.
const maxBodies = 256

// readBody reads a body of at most so many bytes, within a time, which is shorter while half of those are read that may be. status is that of the answer
// when it cannot be read.
func (rt *Route) readBody(w http.ResponseWriter, r *http.Request, most int, larger string) (body []byte, status int, problem string) {
	if r.ContentLength > int64(most) {
		return nil, http.StatusRequestEntityTooLarge, larger
	}
	defer rt.bodies.Add(-1)
	within := bodyTime
	switch reading := rt.bodies.Add(1); {
	case reading > maxBodies:
		w.Header().Set("Retry-After", "1")
		return nil, http.StatusServiceUnavailable, "too many requests are being read; try again"
	case reading > maxBodies/2: // a slow client must not keep the others out
		within = crowdedTime
	}
	control := http.NewResponseController(w)
	control.SetReadDeadline(time.Now().Add(within))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, int64(most)))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, http.StatusRequestEntityTooLarge, larger
	case err != nil:
		return nil, http.StatusBadRequest, "the request's body cannot be read"
	}
	control.SetReadDeadline(time.Time{})
	return body, 0, ""
}
