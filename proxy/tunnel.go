package proxy

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"sidestream/proxy/deliver"
	"sidestream/proxy/stream"
	"sidestream/proxy/tunnel"
	"sidestream/proxy/upstream"
	"sidestream/proxy/web"
)

// tunnelPath is where tunnels are; what is after it is the path of the WebSocket. See package tunnel.
const tunnelPath = "/_sidestream/tunnel"

// tunnelRetry bounds RETRY for pages with tunnels: what is interrupted is a conversation.
const tunnelRetry = time.Second

// tunnelHeartbeat bounds HEARTBEAT for pages with tunnels, which take twice of it and a little for a loss: what a dead
// connection was is to be noticed, and bridged or given up, within 30 s.
const tunnelHeartbeat = 5 * time.Second

// Tunnel is the WebSockets that travel over events and POSTs.
type Tunnel struct {
	*TunnelSettings
	Pages    *tunnel.Pages
	Clients  deliver.Stats
	HeldBack atomic.Int64 // pages that have found out that something on the way holds their events back

	proxy *Proxy
}

func newTunnel(p *Proxy, c Settings, log *slog.Logger) *Tunnel {
	settings := *c.Tunnel
	t := &Tunnel{TunnelSettings: &settings, proxy: p}
	log = log.With("route", "tunnel")
	if t.Heartbeat == 0 || t.Heartbeat > tunnelHeartbeat {
		t.Heartbeat = tunnelHeartbeat
	}
	t.Pages = tunnel.New(tunnel.Settings{
		Clients: deliver.Pacing{Heartbeat: t.Heartbeat, Poll: t.Heartbeat, Coalesce: t.Coalesce, Retry: min(t.Retry, tunnelRetry), Gzip: t.Compress, Stats: &t.Clients, Log: log},
		Linger:  t.Linger, Window: t.ReplayBytes, MaxMessage: t.MaxMessage,
		Pages: stream.NewLimit(c.MaxStreams), Tunnels: p.Streams, Log: log, Dial: p.passthrough.dialWebSocket, Opened: p.tunnelOpened,
	})
	if p.Peers != nil {
		t.Pages.Replica, t.Pages.Forward = p.Peers.Replica(), t.forward
	}
	return t
}

// tunnelled returns the target of the tunnel that r is about, "" for the page's own stream. ok is false when r is about
// none.
func (p *Proxy) tunnelled(r *http.Request) (path, query string, hasQuery, ok bool) {
	if p.Tunnel == nil || !strings.HasPrefix(r.URL.Path, tunnelPath) {
		return "", "", false, false
	}
	path, query, hasQuery = target(r)
	path, ok = strings.CutPrefix(path, tunnelPath)
	return path, query, hasQuery, ok && (path == "" || path[0] == '/')
}

// answer answers what tunnelled has found.
func (t *Tunnel) answer(w http.ResponseWriter, r *http.Request, path, query string, hasQuery bool) deliver.Rest {
	method := http.MethodGet
	if path != "" {
		method = http.MethodPost
	}
	switch {
	case t.proxy.preflight(r, method):
		answerPreflight(w, r, method+", OPTIONS", nil)
	case r.Method != method:
		w.Header().Set("Allow", method)
		refuseSend(w, http.StatusMethodNotAllowed, "see SSE_TUNNEL: GET is for the page's events, POST below it for its tunnels")
	case !t.proxy.admit(w.Header(), r):
		return t.proxy.refuseOrigin(w, r)
	case path == "":
		c, rest := t.receive(w, r)
		if rest != nil {
			return rest
		}
		return t.proxy.clients.Join(w, r, c)
	case !slices.ContainsFunc(t.Prefixes, func(prefix string) bool { return tunnel.Under(path, prefix) }):
		refuseSend(w, http.StatusNotFound, "this path is not under SSE_TUNNEL")
	default:
		if hasQuery {
			path += "?" + query
		}
		if origin := w.Header().Get("Access-Control-Allow-Origin"); origin != "" {
			w.Header().Set("Timing-Allow-Origin", origin) // by HTTP/2 the script sends in another way
		}
		t.Pages.Post(w, r, path, func() *http.Request { return webSocketRequest(r, path) }, t.proxy.clients.Draining())
	}
	return deliver.Answered
}

// beside is part of Proxy.Beside. It makes a page where there is none: nothing of that is waited for.
func (t *Tunnel) beside(r *http.Request, path string) (c deliver.Client, header http.Header, ok bool) {
	p, header := t.proxy, http.Header{}
	id, replica := t.Pages.Owner(r.URL.Query().Get("page"))
	if path != "" || r.Method != http.MethodGet || !p.admit(header, r) || !upstream.ValidSession(id) || replica != "" || p.clients.Draining() || deliver.Polls(r) {
		return c, nil, false
	}
	last, _ := lastEventID(r)
	c, err := t.seat(r, id, last)
	return c, header, err == nil
}

// receive admits a client of a page's stream. Where rest is not nil it has been answered with something else.
func (t *Tunnel) receive(w http.ResponseWriter, r *http.Request) (c deliver.Client, rest deliver.Rest) {
	p := t.proxy
	id, replica := t.Pages.Owner(r.URL.Query().Get("page"))
	if !upstream.ValidSession(id) {
		return c, p.reject(w, BadRequest, http.StatusBadRequest, "?page= must be 16 to 128 characters of A-Z a-z 0-9 _ -, chosen at random by the page")
	}
	last, _ := lastEventID(r)
	if replica != "" {
		if rest = t.relay(w, r, replica, last); rest != nil {
			return c, rest
		}
	}
	if p.clients.Draining() {
		p.Rejected[Draining].Add(1)
		return c, deliver.Busy(w, r, last, p.clients.Hint(&t.Pages.Settings.Clients))
	}
	c, err := t.seat(r, id, last)
	switch {
	case errors.Is(err, errFull):
		return c, p.busy(w, r, FullClients, last)
	case errors.Is(err, errAddress):
		return c, p.busy(w, r, FullAddress, last)
	case errors.Is(err, tunnel.ErrBusy):
		return c, p.busy(w, r, FullStreams, last)
	case err != nil:
		return c, p.reject(w, BadRequest, http.StatusNotFound, err.Error())
	}
	return c, nil
}

// errFull means that there is no place for another client.
var errFull = errors.New("SSE_MAX_CLIENTS is reached")

// errAddress means that there is none for another client of the same address.
var errAddress = errors.New("SSE_MAX_CLIENTS_PER_IP is reached")

// seat takes a client's place and its page. It fails with errFull, errAddress or an error of [tunnel.Pages.Client].
func (t *Tunnel) seat(r *http.Request, id, last string) (c deliver.Client, err error) {
	all := t.proxy.all
	gone, room := t.proxy.table().addresses.take(r)
	if !room {
		return c, errAddress
	}
	g := guest{gone: gone}
	if !all.Take() {
		g.leave()
		return c, errFull
	}
	if c, err = t.Pages.Client(r, id, last); err != nil {
		all.Give()
		g.leave()
		return c, err
	}
	c.Gone = gone
	c.Gzip = t.Compress && web.TakesGzip(r.Header) && !deliver.Polls(r)
	leave := c.Leave
	c.Leave = func() { leave(); all.Give() }
	c.Beats, c.Polls = wantsBeats(r), deliver.Polls(r)
	if deliver.HeldBack(r) {
		t.HeldBack.Add(1)
	}
	return c, nil
}

// webSocketRequest is the request that a page would have made for the WebSocket that a POST for target opens: the same
// header without what is the POST's own.
func webSocketRequest(r *http.Request, target string) *http.Request {
	h := r.Header.Clone()
	for _, name := range h["Connection"] {
		for one := range strings.SplitSeq(name, ",") {
			h.Del(strings.TrimSpace(one))
		}
	}
	for name := range h {
		if strings.HasPrefix(name, "Sec-") {
			delete(h, name) // Sec-Fetch-*, of the POST; Sec-WebSocket-* is the handshake's own
		}
	}
	for _, name := range []string{"Accept", "Connection", "Content-Encoding", "Content-Length", "Content-Type", "Expect", "Keep-Alive",
		"Priority", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection", "Referer", "Te", "Trailer", "Transfer-Encoding", "Upgrade"} {
		h.Del(name)
	}
	return &http.Request{Method: http.MethodGet, RequestURI: target, URL: r.URL, Host: r.Host, Header: h, RemoteAddr: r.RemoteAddr, TLS: r.TLS}
}

// dialWebSocket opens the WebSocket that in asks for as if it passed through. See tunnel.Settings.
func (p *Passthrough) dialWebSocket(ctx context.Context, in *http.Request, protocols []string,
	pong func(context.Context, []byte) bool) (ws *websocket.Conn, wire *tunnel.Wire, answer tunnel.Answer, err error) {
	upgrade := &tunnel.Upgrade{Base: upgrader{p, in, protocols}}
	client := &http.Client{Transport: upgrade, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	ws, resp, err := websocket.Dial(ctx, "ws://"+p.upstream.Host, &websocket.DialOptions{HTTPClient: client, HTTPHeader: in.Header, Host: in.Host,
		Subprotocols: protocols, CompressionMode: websocket.CompressionDisabled, OnPingReceived: pong})
	if resp != nil {
		answer.Cookies = resp.Header["Set-Cookie"]
		if err != nil && resp.StatusCode != http.StatusSwitchingProtocols {
			answer.Status = resp.StatusCode
		}
	}
	return ws, upgrade.Wire, answer, upstream.Kind(err)
}

// upgrader makes the library's handshake the one that would have passed through.
type upgrader struct {
	p         *Passthrough
	in        *http.Request
	protocols []string
}

// RoundTrip is http.RoundTripper's.
func (u upgrader) RoundTrip(r *http.Request) (*http.Response, error) {
	path, query, hasQuery := target(u.in)
	out := exact(r.Clone(r.Context()), u.p.upstream, path, query, hasQuery)
	forward(out.Header, u.in)
	if len(u.protocols) > 0 {
		out.Header.Set("Sec-WebSocket-Protocol", strings.Join(u.protocols, ", ")) // as browsers write it
	}
	if out.Header["User-Agent"] == nil {
		out.Header.Set("User-Agent", "") // the transport has one of its own otherwise
	}
	return upstream.Spelled{Base: u.p.transport}.RoundTrip(out)
}
