package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"strings"
	"time"

	"sidestream/proxy/deliver"
	"sidestream/proxy/history"
	"sidestream/proxy/peer"
	"sidestream/translate/sse"
)

// This file is what other replicas are asked, and what they ask. The rules:
//
//   - What is asked of this replica it answers itself, or not at all: see asked.
//   - A replica that is gone is none: what it had is answered as what nobody ever had. One that cannot be reached for the moment is not
//     gone: its clients come back, or repeat what they have sent.
//   - An answer is handed on as it is: its status, its header but for what concerns the connection, its body as it comes.

const (
	streamTime = 5 * time.Second  // for the head of a page's stream
	pollTime   = 30 * time.Second // for the answer to a page's long poll
	postTime   = time.Minute      // for the answer to a POST of a tunnel, which may wait for its upstream
	againTime  = time.Second      // after this to twice this a client comes back whose replica was not reached
	maxAnswer  = 1 << 20          // bytes of an answer that is no event stream
	tunnelBody = 512 << 10        // bytes of a POST of a tunnel beside one message of the largest size
	silentMany = 3                // heartbeats that are missed until another replica's stream is lost
)

// replicas returns the other replicas, nil when there are none.
func replicas(c Settings, log *slog.Logger) *peer.Peers {
	if c.Peer == nil {
		return nil
	}
	return peer.New(*c.Peer, peer.Terms{MaxHead: c.MaxHeader, MaxBody: largestBody(c), Log: log}, c.Directory)
}

// largestBody is how many bytes of a body other replicas are sent at most.
func largestBody(c Settings) (most int) {
	if c.Tunnel != nil {
		most = c.Tunnel.MaxMessage + tunnelBody
	}
	for _, rt := range c.Routes {
		if rt.Send {
			most = max(most, rt.Upstream.MaxMessage())
		}
	}
	return most
}

// Relayed is how many clients are connected here now whose stream another replica gives.
func (p *Proxy) Relayed() int64 { return p.relayed.Load() }

// peerServer returns the server that other replicas ask, which does not run yet; nil without any.
func (p *Proxy) peerServer(log *slog.Logger) *http.Server {
	if p.Peers == nil {
		return nil
	}
	s := p.Peers.Server(p.Peers.Handler(p.answerPeer), ErrorLog(log))
	s.ConnContext = deliver.WithConn
	return s
}

type askedKey struct{}

// asked reports whether another replica has got r, and asks this one for the answer. Nothing that r says decides that.
func asked(r *http.Request) bool { return r.Context().Value(askedKey{}) != nil }

// answerPeer answers what another replica has got.
func (p *Proxy) answerPeer(w http.ResponseWriter, r *http.Request, kind peer.Kind) {
	r = r.WithContext(context.WithValue(r.Context(), askedKey{}, true))
	if headSize(r) > p.maxHeader {
		http.Error(w, "the request's headers are larger than SSE_MAX_HEADER", http.StatusRequestHeaderFieldsTooLarge)
		return
	}
	if path, query, hasQuery, ok := p.tunnelled(r); ok && kind == peer.Tunnel {
		end(p.Tunnel.answer(w, r, path, query, hasQuery))
		return
	}
	if rt := p.table().enter(r); rt != nil && rt.Send && r.Method == http.MethodPost && kind == peer.Send {
		rt.serveSend(w, r)
		return
	}
	http.NotFound(w, r)
}

// ownHeaders are those that each connection has of its own.
var ownHeaders = []string{"Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Date"}

// copyHead has w say what resp says, and nothing else.
func copyHead(w http.ResponseWriter, resp *http.Response) {
	h := w.Header()
	clear(h)
	maps.Copy(h, resp.Header)
	for _, name := range ownHeaders {
		delete(h, name)
	}
}

// copyAnswer hands on an answer that is no event stream.
func copyAnswer(w http.ResponseWriter, resp *http.Response, most int64) {
	copyHead(w, resp)
	w.WriteHeader(resp.StatusCode)
	io.Copy(w, io.LimitReader(resp.Body, most)) // whoever reads it sees that it ends early
}

// relay answers a GET for a page's stream as replica, which has the page, answers it; nil: that is gone.
func (t *Tunnel) relay(w http.ResponseWriter, r *http.Request, replica, last string) deliver.Rest {
	p := t.proxy
	switch {
	case asked(r):
		return nil
	case p.clients.Draining(): // the page is elsewhere and lives on
		return unreached(w, http.StatusServiceUnavailable)
	case !p.all.Take():
		return p.busy(w, r, FullClients, last)
	}
	ctx, cancel := context.WithCancel(r.Context())
	within, whole := streamTime, deliver.Polls(r)
	if whole {
		within = pollTime
	}
	resp, err := p.Peers.Ask(ctx, replica, peer.Question{Kind: peer.Tunnel, Request: r, Within: within})
	leave := func() { cancel(); p.all.Give() }
	var failed *peer.Error
	switch {
	case errors.As(err, &failed) && failed.Gone():
		leave()
		return nil
	case err != nil:
		leave()
		return unreached(w, http.StatusBadGateway)
	}
	leave = func() { resp.Body.Close(); cancel(); p.all.Give() }
	if media, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";"); resp.StatusCode != http.StatusOK || media != sse.ContentType || whole {
		defer leave()
		copyAnswer(w, resp, maxAnswer+2*int64(t.MaxMessage))
		return deliver.Answered
	}
	copyHead(w, resp)
	rest := p.clients.Relay(w, r, deliver.Relay{Body: resp.Body, Stop: cancel, Silence: silentMany * t.Heartbeat})
	return func() (cut bool) {
		defer leave()
		p.relayed.Add(1)
		defer p.relayed.Add(-1)
		return rest()
	}
}

// unreached answers a GET for a page's stream that its replica cannot answer at present. It is no event stream: a page that could not get
// its stream back for long enough gives up by itself.
func unreached(w http.ResponseWriter, status int) deliver.Rest {
	refuseSend(w, status, "the replica that has this page cannot be reached from here at present; try again")
	return deliver.Answered
}

// forward is for tunnel.Settings.
func (t *Tunnel) forward(w http.ResponseWriter, r *http.Request, replica string, body io.Reader) bool {
	if asked(r) {
		return false
	}
	peers := t.proxy.Peers
	// What is over the bound is left out: where that is a message over MAX_MESSAGE, the page's replica has not to read it to say so.
	data, _, give, err := peers.Hold(body, int64(t.MaxMessage+tunnelBody))
	switch {
	case errors.Is(err, peer.ErrFull):
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return true
	case err != nil:
		http.Error(w, "the request's body cannot be read", http.StatusBadRequest)
		return true
	}
	defer give()
	resp, err := peers.Ask(r.Context(), replica, peer.Question{Kind: peer.Tunnel, Request: r, Body: data, Within: postTime})
	var failed *peer.Error
	switch {
	case errors.As(err, &failed) && failed.Gone():
		return false
	case errors.Is(err, peer.ErrFull):
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	case err != nil:
		http.Error(w, "the replica that has this page does not answer", http.StatusBadGateway)
	default:
		defer resp.Body.Close()
		copyAnswer(w, resp, maxAnswer)
	}
	return true
}

// Open opens the history that store is, nil for none, which ends with [Proxy.Close], and listens for the other replicas; nil: there are none. Called
// before [New].
func (c *Settings) Open(store history.Opener, log *slog.Logger) (others net.Listener, err error) {
	if store == nil {
		return nil, nil
	}
	if c.History, err = store.Start(log); err != nil || c.Peer == nil {
		return nil, err
	}
	var ok bool
	if c.Directory, ok = c.History.(peer.Directory); !ok {
		err = errors.New("SSE_PEER: SSE_HISTORY is shared with no other replicas; set it to a Redis, or unset SSE_PEER")
	} else if others, err = deliver.Listen(c.Peer.Listen); err != nil {
		err = fmt.Errorf("SSE_PEER_LISTEN: %w; choose another address", err)
	}
	if err != nil {
		c.History.Stop()
	}
	return others, err
}
