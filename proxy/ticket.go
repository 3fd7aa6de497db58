package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"sidestream/proxy/access"
)

const (
	ticketPath     = "/_sidestream/ticket"
	ticketBodyMost = 64 << 10         // bytes of what a ticket is asked for with
	ticketPaths    = 32               // of one ticket at most
	ticketTime     = 10 * time.Second // for all its questions
)

// answerTicket answers a request for a ticket.
func (p *Proxy) answerTicket(w http.ResponseWriter, r *http.Request) {
	switch {
	case p.preflight(r, http.MethodPost):
		answerPreflight(w, r, "POST, OPTIONS", p.table().credentials)
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		refuseSend(w, http.StatusMethodNotAllowed, `POST {"paths":["/..."]} for a ticket`)
	case !p.admit(w.Header(), r):
		p.refuseOrigin(w, r)
	default:
		p.serveTicket(w, r)
	}
}

// serveTicket seals what r comes with, for the paths that it names.
func (p *Proxy) serveTicket(w http.ResponseWriter, r *http.Request) {
	now := p.table()
	if now.tickets == nil { // since a moment ago
		http.NotFound(w, r)
		return
	}
	t := access.Ticket{Origin: origin(r), Paths: map[string]access.Sealed{}, Header: http.Header{}}
	for _, name := range now.credentials {
		if values := r.Header[name]; len(values) > 0 {
			t.Header[name] = values
		}
	}
	if len(t.Header) == 0 {
		p.deny(w, http.StatusUnauthorized, "a ticket stands for cookies or Authorization, and there are none")
		return
	}
	paths, problem := ticketRequest(w, r)
	if problem != "" {
		refuseSend(w, http.StatusBadRequest, problem)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), ticketTime)
	defer cancel()
	for _, path := range paths {
		if !p.sealPath(ctx, w, r, path, &t) {
			return
		}
	}
	text, expires, err := now.tickets.Seal(t)
	if err != nil {
		refuseSend(w, http.StatusRequestEntityTooLarge, err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	json.NewEncoder(w).Encode(struct { // a client that has disconnected is no error
		Ticket  string `json:"ticket"`
		Expires int64  `json:"expires"` // Unix seconds
	}{text, expires.Unix()})
}

// ticketRequest reads the paths that a ticket is to be for, or says what is wrong.
func ticketRequest(w http.ResponseWriter, r *http.Request) (paths []string, problem string) {
	const want = `the body is to be {"paths":["/..."]}, with 1 to 32 paths of routes`
	http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTime))
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, ticketBodyMost))
	http.NewResponseController(w).SetReadDeadline(time.Time{})
	var body struct {
		Paths []string `json:"paths"`
	}
	if err != nil || json.Unmarshal(text, &body) != nil || len(body.Paths) == 0 || len(body.Paths) > ticketPaths {
		return nil, want
	}
	slices.Sort(body.Paths)
	return slices.Compact(body.Paths), ""
}

// sealPath finds out about one path, as if its events were asked for. It returns false when it has answered.
func (p *Proxy) sealPath(ctx context.Context, w http.ResponseWriter, r *http.Request, path string, t *access.Ticket) bool {
	u, err := url.Parse(path)
	if err != nil || u.Host != "" || !strings.HasPrefix(path, "/") || strings.ContainsAny(path, "?#") {
		refuseSend(w, http.StatusBadRequest, "each of paths is to be the path of a route, without host and query")
		return false
	}
	in := &http.Request{Method: http.MethodGet, URL: u, RequestURI: path, Host: r.Host, Header: r.Header, RemoteAddr: r.RemoteAddr, TLS: r.TLS}
	rt := p.table().enter(in.WithContext(ctx))
	if rt == nil {
		refuseSend(w, http.StatusBadRequest, fmt.Sprintf("%.100q is no route's path", path))
		return false
	}
	for _, name := range rt.Upstream.Merges() {
		p.sealPart(ctx, p.table().named(name), in, t)
	}
	if rt.guard == nil {
		t.Paths[u.EscapedPath()] = access.Sealed{}
		return true
	}
	pass, err := rt.guard.Admit(ctx, p.client(in))
	if err == nil {
		t.Paths[u.EscapedPath()] = pass.Seal(rt.guard)
		return true
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = access.ErrUnavailable
	}
	rt.unsent(w, r, guest{}, err)
	return false
}

// sealPart finds out about a part of a merged route. Where it does not admit, the route goes on without it, and whoever comes with the ticket is asked about again.
func (p *Proxy) sealPart(ctx context.Context, part *Route, r *http.Request, t *access.Ticket) {
	if part == nil || part.guard == nil {
		return
	}
	in := part.asked(r)
	if pass, err := part.guard.Admit(ctx, p.client(in)); err == nil {
		t.Paths[in.URL.EscapedPath()] = pass.Seal(part.guard)
	}
}
