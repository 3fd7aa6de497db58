package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"sidestream/e2e/page"
	"sidestream/e2e/pipes"
	"sidestream/proxy/peer"
)

// addressKept is for how long an address is used without asking for it again.
const addressKept = 6 * time.Second

const peerSecret = "a secret of the replicas"

// places is a directory in memory.
type places struct {
	mu    sync.Mutex
	all   map[string]string
	asked int
	err   error
}

// place is one replica's view of them.
type place struct {
	*places
	self string
}

func (p place) Replica() string { return p.self }

func (p place) Address(_ context.Context, replica string) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked++
	return p.all[replica], p.err
}

// replica is one proxy of a cluster, on a network in memory.
type replica struct {
	*Proxy
	id     string
	public *pipes.Listener
	peers  *pipes.Listener
	server *Server
	mu     sync.Mutex
	conns  []net.Conn // that others have made to it
	dead   bool
	deaf   bool // connections to it are not accepted
}

// cluster is several replicas before one legacy service, all in memory.
type cluster struct {
	t        *testing.T
	all      []*replica
	places   *places
	legacy   *pipes.Listener
	requests chan *http.Request // for WebSockets; the newest are kept
	turn     atomic.Int64
	only     atomic.Int64 // the number of the replica that gets all requests; 0: each in turn
}

// startCluster serves n replicas with env. It belongs to a bubble.
func startCluster(t *testing.T, n int, env ...string) *cluster {
	t.Helper()
	return startClusterWith(t, n, nil, env...)
}

// startClusterWith is startCluster whose replicas share store.
func startClusterWith(t *testing.T, n int, store *holders, env ...string) *cluster {
	t.Helper()
	c := &cluster{t: t, places: &places{all: map[string]string{}}, legacy: pipes.Listen(), requests: make(chan *http.Request, 100)}
	legacy := &http.Server{Handler: http.HandlerFunc(c.echo)}
	go legacy.Serve(c.legacy)
	t.Cleanup(func() { legacy.Close() })
	env = append([]string{"SSE_UPSTREAM=http://legacy", "SSE_TUNNEL=/socket", "SSE_CORS_ORIGINS=https://app.example"}, env...)
	for i := range n {
		s := configure(t, env...)
		r := &replica{id: peer.NewID(), public: pipes.Listen(), peers: pipes.Listen()}
		s.Peer = &peer.Settings{URL: fmt.Sprintf("http://replica-%d", i+1), Secrets: []string{peerSecret}}
		s.Directory = place{c.places, r.id}
		c.places.all[r.id] = s.Peer.URL
		if store != nil {
			s.History = store
		}
		c.start(r, s)
	}
	return c
}

func (c *cluster) start(r *replica, s Settings) {
	log := slog.New(slog.DiscardHandler)
	r.Proxy = New(s, log)
	r.passthrough.transport.Base = c.legacy.Dial
	r.Peers.Dial = c.dial
	r.server = NewServer(r.Proxy, nil, log)
	var running sync.WaitGroup
	running.Go(func() { r.server.Serve(r.public) })
	running.Go(func() { r.server.ServePeers(r.peers) })
	c.all = append(c.all, r)
	c.t.Cleanup(func() {
		r.server.Close()
		r.Proxy.Close()
		running.Wait()
	})
}

// echo is the legacy service.
func (c *cluster) echo(w http.ResponseWriter, r *http.Request) {
	if !upgrades(r) {
		http.Error(w, "the legacy service: "+r.Method+" "+r.RequestURI, http.StatusTeapot)
		return
	}
	c.requests <- r
	if strings.HasSuffix(r.URL.Path, "/login") {
		w.Header().Add("Set-Cookie", "session=1; Path=/")
	}
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true, Subprotocols: []string{"chat"}})
	if err != nil {
		return
	}
	defer ws.CloseNow()
	ws.SetReadLimit(-1)
	for {
		kind, data, err := ws.Read(context.Background())
		if err != nil || ws.Write(context.Background(), kind, data) != nil {
			return
		}
	}
}

// dial connects replicas with each other.
func (c *cluster) dial(ctx context.Context, network, address string) (net.Conn, error) {
	var n int
	fmt.Sscanf(address, "replica-%d:80", &n)
	if n < 1 || n > len(c.all) {
		return nil, syscall.ECONNREFUSED
	}
	r := c.all[n-1]
	r.mu.Lock()
	dead, deaf := r.dead, r.deaf
	r.mu.Unlock()
	if deaf {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if dead {
		return nil, syscall.ECONNREFUSED
	}
	conn, err := r.peers.Dial(ctx, network, address)
	if err != nil {
		return nil, errors.Join(syscall.ECONNREFUSED, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conns = append(r.conns, conn)
	return conn, nil
}

// die ends a replica as a kill does: its connections are cut, and nothing listens.
func (r *replica) die() {
	r.mu.Lock()
	r.dead = true
	conns := r.conns
	r.mu.Unlock()
	for _, c := range conns {
		c.Close()
	}
}

// client has each request go to the next replica, on a connection of its own.
func (c *cluster) client() *http.Client {
	tr := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		n := c.only.Load() - 1
		if n < 0 {
			n = c.turn.Add(1) % int64(len(c.all))
		}
		near, far := net.Pipe()
		if !c.all[n].public.Offer(addressed{far}) {
			return nil, syscall.ECONNREFUSED
		}
		return buffered{near}, nil
	}}
	return &http.Client{Transport: tr}
}

// buffered is the near end of a connection: like a kernel, it takes what the far end does not read any more, which may have answered before
// it had all.
type buffered struct{ net.Conn }

func (b buffered) Write(p []byte) (int, error) {
	n, err := b.Conn.Write(p)
	if errors.Is(err, io.ErrClosedPipe) {
		return len(p), nil
	}
	return n, err
}

const clientAddress = "192.0.2.7:50100"

// addressed is the far end of a client's connection.
type addressed struct{ net.Conn }

func (addressed) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(clientAddress))
}

func (c *cluster) begin(change func(*page.Page)) *page.Page {
	c.t.Helper()
	p := &page.Page{Base: "http://sidecar", ID: pageID, Client: c.client()}
	if change != nil {
		change(p)
	}
	if err := p.Begin(c.t.Context()); err != nil {
		c.t.Fatalf("the page does not begin: %v", err)
	}
	c.t.Cleanup(p.End)
	return p
}

// sum adds up a counter of all replicas.
func (c *cluster) sum(f func(*peer.Stats) int64) (n int64) {
	for _, r := range c.all {
		n += f(&r.Peers.Stats)
	}
	return n
}

// owner is the replica that a page's id tells.
func (c *cluster) owner(p *page.Page) *replica {
	for _, r := range c.all {
		if strings.HasSuffix(p.ID, "--"+r.id) {
			return r
		}
	}
	c.t.Fatalf("the page's id %q tells no replica", p.ID)
	return nil
}

// do asks replica n, from 1, for path, over a connection of its own; head is lines of the header.
func (c *cluster) do(n int, method, path, body string, head ...string) (*http.Response, error) {
	c.t.Helper()
	r, err := http.NewRequestWithContext(c.t.Context(), method, "http://sidecar"+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	for _, line := range head {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Add(name, value)
	}
	c.only.Store(int64(n))
	defer c.only.Store(0)
	return c.client().Do(r)
}

// say sends a POST for tunnel 1 of a page and returns the status.
func (c *cluster) say(n int, id, header, frames string) int {
	c.t.Helper()
	resp, err := c.do(n, "POST", "/_sidestream/tunnel/socket", `{"page":"`+id+`","tunnel":1,`+header+"}\n"+frames)
	if err != nil {
		c.t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// other is the number of a replica that is not r.
func (c *cluster) other(r *replica) int {
	if c.all[0] == r {
		return 2
	}
	return 1
}

func tunnelsForwarded(s *peer.Stats) int64 { return s.Forwarded[peer.Tunnel].Load() }

// Requests go to any of three replicas, each to the next one, and a page with tunnels does not notice.
func TestTunnelAcrossReplicas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startCluster(t, 3)
		p := c.begin(func(p *page.Page) {
			p.Header = http.Header{"Cookie": {"a=1"}, "User-Agent": {"me"}, "X-Odd": {"caf\xe9", "two"}, "Origin": {"https://app.example"}}
		})
		owner := c.owner(p)
		var seen []http.Header
		for n := range 6 { // two at each
			ws := openTunnel(t, p, n+1, "/socket/x?a=%2F|b&n="+fmt.Sprint(n), "chat")
			got := <-c.requests
			if want := "/socket/x?a=%2F|b&n=" + fmt.Sprint(n); got.RequestURI != want || got.Host != "sidecar" || ws.Protocol != "chat" {
				t.Errorf("the service was asked for %q of %q, protocol %q", got.RequestURI, got.Host, ws.Protocol)
			}
			got.Header.Del("Sec-Websocket-Key")
			seen = append(seen, got.Header)
			for i := range 10 {
				ws.Send(page.Message{Data: fmt.Sprint(n, i)})
				if i%3 == 0 {
					p.Cut()
				}
				if m := receive(t, ws); m.Data != fmt.Sprint(n, i) {
					t.Fatalf("got %q, want %d %d", m.Data, n, i)
				}
			}
			big := page.Message{Binary: true, Data: strings.Repeat("\x00\xff", 1<<19)}
			ws.Send(big)
			if m := receive(t, ws); m != big {
				t.Errorf("%d bytes came back of %d", len(m.Data), len(big.Data))
			}
			ws.Close("4001 bye")
			if how := ws.Closed(); how.Code != 4001 || !how.Clean {
				t.Errorf("closed with %+v", how)
			}
		}
		for _, h := range seen[1:] {
			if fmt.Sprint(h) != fmt.Sprint(seen[0]) {
				t.Errorf("the service saw\n%v\nand\n%v", seen[0], h)
			}
		}
		if h := seen[0]; h.Get("X-Forwarded-For") != "192.0.2.7" || h.Get("X-Forwarded-Proto") != "http" || h["X-Odd"][0] != "caf\xe9" || len(h["X-Odd"]) != 2 {
			t.Errorf("the service saw %v", h)
		}
		if pages, _ := owner.Tunnel.Pages.Count(); pages != 1 {
			t.Errorf("%d pages", pages)
		}
		for _, r := range c.all {
			if pages, _ := r.Tunnel.Pages.Count(); r != owner && pages > 0 {
				t.Error("a page that is elsewhere was made here")
			}
		}
		if n := c.sum(tunnelsForwarded); n < 20 || n > owner.Peers.Stats.Served[peer.Tunnel].Load() { // a client may leave before its answer
			t.Errorf("%d forwarded, %d served", n, owner.Peers.Stats.Served[peer.Tunnel].Load())
		}
	})
}

// The answer is the owner's, whatever it is.
func TestTunnelAnswersAcrossReplicas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startCluster(t, 2, "SSE_MAX_MESSAGE=1KiB")
		p := c.begin(nil)
		owner := c.owner(p)
		here := 3 - c.other(owner)
		for _, n := range []int{here, c.other(owner)} {
			id := p.ID
			if got := c.say(n, id, `"seq":1`, "t1\nx"); got != http.StatusNotFound {
				t.Errorf("replica %d: no such tunnel: %d", n, got)
			}
			if got := c.say(n, "another-"+id, `"open":[]`, ""); got != http.StatusNotFound {
				t.Errorf("replica %d: no such page: %d", n, got)
			}
			if got := c.say(n, id, `"open":["a","a"]`, ""); got != http.StatusBadRequest {
				t.Errorf("replica %d: a malformed one: %d", n, got)
			}
			resp, err := c.do(n, "GET", "/_sidestream/tunnel?page="+id, "", "Origin: https://evil.example")
			if err != nil || resp.StatusCode != http.StatusForbidden {
				t.Errorf("replica %d: another origin: %v, %v", n, resp, err)
			}
			resp, err = c.do(n, "POST", "/_sidestream/tunnel/elsewhere", `{"page":"`+id+`","tunnel":1,"open":[]}`+"\n", "Origin: https://app.example")
			if err != nil || resp.StatusCode != http.StatusNotFound || len(resp.Header["Access-Control-Allow-Origin"]) != 1 || len(resp.Header["Vary"]) != 1 {
				t.Errorf("replica %d: a path that is none: %v, %v", n, resp, err)
			}
		}
		ws := openTunnel(t, p, 1, "/socket")
		if got := c.say(c.other(owner), p.ID, `"seq":1,"stream":1`, ""); got != http.StatusServiceUnavailable {
			t.Errorf("a body that goes on: %d", got)
		}
		if got := c.say(here, p.ID, `"seq":1,"stream":1`, ""); got != http.StatusNoContent {
			t.Errorf("a body that goes on, where the page is: %d", got)
		}
		if got := c.say(c.other(owner), p.ID, `"seq":3`, "t1\nx"); got != http.StatusConflict {
			t.Errorf("a number left out: %d", got)
		}
		if got := c.say(c.other(owner), p.ID, `"seq":1`, "t716800\n"+strings.Repeat("x", 700<<10)); got != http.StatusRequestEntityTooLarge {
			t.Errorf("a message over the bound: %d", got)
		}
		if how := ws.Closed(); how.Code != 1009 {
			t.Errorf("closed with %+v", how)
		}
		// The cookies that an upstream sets come with the answer, and the page is known by them.
		resp, err := c.do(c.other(owner), "POST", "/_sidestream/tunnel/socket/login", `{"page":"`+p.ID+`","tunnel":2,"open":[]}`+"\n")
		if err != nil || resp.StatusCode != http.StatusAccepted || resp.Header.Get("Set-Cookie") != "session=1; Path=/" || resp.Header.Get("Sidestream-Peer") != "" {
			t.Errorf("%v, %v", resp, err)
		}
		synctest.Wait() // it is open a moment later
		resp, err = c.do(c.other(owner), "POST", "/_sidestream/tunnel/socket/login", `{"page":"`+p.ID+`","tunnel":2,"seq":1}`+"\nt1\nx", "Cookie: session=1")
		if err != nil || resp.StatusCode != http.StatusNoContent {
			t.Errorf("with its cookie: %v, %v", resp, err)
		}
	})
}

// A page whose replica is gone is one that is not known.
func TestTunnelOwnerGone(t *testing.T) {
	for name, gone := range map[string]func(c *cluster, owner *replica){
		"no address": func(c *cluster, owner *replica) { c.places.all[owner.id], owner.deaf = "", true },
		"killed":     func(c *cluster, owner *replica) { owner.die() },
		"secret":     func(c *cluster, owner *replica) { owner.Peers.Secrets = []string{"another secret, as long"} },
		"another":    func(c *cluster, owner *replica) { owner.Peers.Directory = place{c.places, peer.NewID()} },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := startCluster(t, 2)
				p := c.begin(nil)
				ws, owner := openTunnel(t, p, 1, "/socket"), c.owner(p)
				c.only.Store(int64(c.other(owner)))
				p.Cut()
				ws.Send(page.Message{Data: "x"})
				receive(t, ws) // by the other replica
				began := time.Now()
				c.places.mu.Lock()
				gone(c, owner)
				c.places.mu.Unlock()
				if name == "no address" {
					for _, r := range c.all {
						r.Peers.Close() // idle connections
					}
					time.Sleep(addressKept) // the directory is not asked before
					began = time.Now()
				}
				if p.Cut(); ws.Closed().Code != 1006 || time.Since(began) > 6*time.Second {
					t.Errorf("closed with %+v after %v", ws.Closed(), time.Since(began))
				}
				if got := c.say(c.other(owner), p.ID, `"open":[]`, ""); got != http.StatusNotFound {
					t.Errorf("a POST: %d", got)
				}
			})
		})
	}
}

// A replica that cannot be reached for a while keeps its pages.
func TestTunnelOwnerAway(t *testing.T) {
	for name, away := range map[string]func(c *cluster, owner *replica, away bool){
		"no address": func(c *cluster, owner *replica, away bool) { // the store has lost it
			c.places.mu.Lock()
			if c.places.all[owner.id] = owner.Peers.URL; away {
				c.places.all[owner.id] = ""
			}
			c.places.mu.Unlock()
			time.Sleep(addressKept)
		},
		"no connection": func(c *cluster, owner *replica, away bool) { owner.mu.Lock(); owner.deaf = away; owner.mu.Unlock() },
		"no directory": func(c *cluster, owner *replica, away bool) {
			c.places.mu.Lock()
			if c.places.err = nil; away {
				c.places.err = errors.New("away")
			}
			c.places.mu.Unlock()
			time.Sleep(addressKept) // what is known is used until then
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := startCluster(t, 2)
				p := c.begin(nil)
				ws, owner := openTunnel(t, p, 1, "/socket"), c.owner(p)
				away(c, owner, true)
				owner.Peers.Close()
				c.all[c.other(owner)-1].Peers.Close() // idle connections
				c.only.Store(int64(c.other(owner)))
				p.Cut()
				ws.Send(page.Message{Data: "kept"})
				time.Sleep(5 * time.Second)
				want := http.StatusConflict // where it was is where it is asked
				if name == "no connection" {
					want = http.StatusBadGateway
				}
				if got := c.say(c.other(owner), p.ID, `"seq":9`, "t1\nx"); got != want {
					t.Errorf("a POST meanwhile: %d", got)
				}
				c.only.Store(int64(c.other(owner)))
				away(c, owner, false)
				if m := receive(t, ws); m.Data != "kept" {
					t.Errorf("got %q", m.Data)
				}
			})
		})
	}
}

// raw is a replica that does what f does with each request.
func (c *cluster) raw(f http.HandlerFunc) (id string) {
	l := pipes.Listen()
	s := &http.Server{Handler: f}
	go s.Serve(l)
	c.t.Cleanup(func() { s.Close() })
	id = peer.NewID()
	c.places.all[id] = fmt.Sprintf("http://replica-%d", len(c.all)+1)
	c.all = append(c.all, &replica{id: id, peers: l})
	return id
}

// A replica that does not answer is waited for as long as its answer may take, and what was asked is not asked again.
func TestTunnelOwnerSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startCluster(t, 1)
		var asked atomic.Int64
		slow := c.raw(func(w http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		})
		began := time.Now()
		resp, err := c.do(1, "GET", "/_sidestream/tunnel?page="+pageID+"--"+slow, "", "Last-Event-ID: x")
		if err != nil || resp.StatusCode != http.StatusBadGateway || time.Since(began) != 5*time.Second {
			t.Errorf("after %v: %v, %v", time.Since(began), resp, err)
		}
		began = time.Now()
		if got := c.say(1, pageID+"--"+slow, `"open":[]`, ""); got != http.StatusBadGateway || time.Since(began) != time.Minute {
			t.Errorf("a POST: %d after %v", got, time.Since(began))
		}
		if n := asked.Load(); n != 2 {
			t.Errorf("asked %d times", n)
		}
		if n := c.all[0].Peers.Stats.Failed[peer.Late].Load(); n != 2 {
			t.Errorf("%d late", n)
		}
	})
}

// What a page is given while its replica's end is not noticed by the connection ends too.
func TestTunnelOwnerSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startCluster(t, 2)
		p := c.begin(nil)
		owner := c.owner(p)
		c.all[c.other(owner)-1].Peers.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := c.dial(ctx, network, address)
			return &lost{Conn: conn, after: time.Now().Add(7 * time.Second)}, err
		}
		resp, err := c.do(c.other(owner), "GET", "/_sidestream/tunnel?page="+p.ID, "")
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		text, err := io.ReadAll(resp.Body)
		if took := time.Since(began); took < 15*time.Second || took > 25*time.Second || err == nil || !strings.Contains(string(text), `[0,"page"`) {
			t.Errorf("after %v: %q, %v", took, text, err)
		}
		if resp, err = c.do(c.other(owner), "GET", "/_sidestream/tunnel?page="+p.ID, ""); err == nil {
			resp.Body.Close()
		}
	})
}

// lost is a connection over which nothing comes any more after a while.
type lost struct {
	net.Conn
	after time.Time
}

func (l *lost) Read(b []byte) (int, error) {
	for {
		n, err := l.Conn.Read(b)
		if err != nil || time.Now().Before(l.after) {
			return n, err
		}
	}
}

// What a client has left is not read any further.
func TestTunnelClientGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startCluster(t, 2)
		p := c.begin(nil)
		owner := c.owner(p)
		entry := c.all[c.other(owner)-1]
		resp, err := c.do(c.other(owner), "GET", "/_sidestream/tunnel?page="+p.ID, "")
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if n, m := owner.Tunnel.Clients.Clients.Load(), entry.relayed.Load(); n < 2 || m < 1 {
			t.Errorf("%d clients, %d of them elsewhere", n, m)
		}
		before := entry.relayed.Load()
		resp.Body.Close()
		time.Sleep(6 * time.Second) // the next heartbeat
		synctest.Wait()
		if n, m := owner.Tunnel.Clients.Clients.Load(), entry.relayed.Load(); n != 1 || m != before-1 || entry.all.Used() != int(m) {
			t.Errorf("%d clients, %d elsewhere (%d), %d places taken", n, m, before, entry.all.Used())
		}
	})
}

// What drains tells the clients that it has elsewhere what it tells its own, and lets go of those whose page is elsewhere, which do not
// notice.
func TestTunnelDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startCluster(t, 2)
		p := c.begin(nil)
		ws, owner := openTunnel(t, p, 1, "/socket"), c.owner(p)
		entry := c.all[c.other(owner)-1]
		c.only.Store(int64(c.other(owner)))
		p.Cut()
		ws.Send(page.Message{Data: "1"})
		receive(t, ws)
		began := time.Now()
		drained := make(chan struct{})
		go func() { defer close(drained); entry.Drain(4 * time.Second) }()
		synctest.Wait()
		resp, err := c.do(c.other(owner), "GET", "/_sidestream/tunnel?page="+p.ID, "")
		if err != nil || resp.StatusCode != http.StatusServiceUnavailable { // not stream.busy: the page lives on
			t.Errorf("meanwhile: %v, %v", resp, err)
		}
		c.only.Store(0)
		<-drained
		took := time.Since(began)
		synctest.Wait()
		if took > 4*time.Second || entry.relayed.Load() != 0 {
			t.Errorf("drained after %v, %d left", took, entry.relayed.Load())
		}
		ws.Send(page.Message{Data: "2"})
		if m := receive(t, ws); m.Data != "2" {
			t.Errorf("got %q", m.Data)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		c := startCluster(t, 2)
		p := c.begin(nil)
		owner := c.owner(p)
		var own, elsewhere string
		var reading sync.WaitGroup
		for n, to := range map[int]*string{c.other(owner): &elsewhere, 3 - c.other(owner): &own} {
			resp, err := c.do(n, "GET", "/_sidestream/tunnel?page="+p.ID, "")
			if err != nil {
				t.Fatal(err)
			}
			reading.Go(func() {
				text, err := io.ReadAll(resp.Body)
				*to = fmt.Sprint(retryHints.ReplaceAllString(string(text), "retry: N\n"), err)
			})
		}
		synctest.Wait()
		go owner.Drain(time.Second)
		reading.Wait()
		if own != elsewhere || strings.Count(own, "retry") != 2 {
			t.Errorf("its own got\n%s\nthe other\n%s", own, elsewhere)
		}
	})
}

var retryHints = regexp.MustCompile(`retry: [0-9]+\n`)

// What is asked of a replica it does not ask of others, whatever the page's id tells.
func TestTunnelNoLoops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startCluster(t, 3)
		third := c.all[2].id
		for _, r := range []*http.Request{
			httptest.NewRequest("GET", "/_sidestream/tunnel?page="+pageID+"--"+third, nil),
			httptest.NewRequest("POST", "/_sidestream/tunnel/socket", strings.NewReader(`{"page":"`+pageID+"--"+third+`","tunnel":1,"open":[]}`+"\n")),
		} {
			body, _ := io.ReadAll(r.Body)
			ctx, cancel := context.WithCancel(t.Context())
			resp, err := c.all[0].Peers.Ask(ctx, c.all[1].id, peer.Question{Kind: peer.Tunnel, Request: r, Body: body, Within: time.Second})
			if err != nil {
				t.Fatal(err)
			}
			cancel()
			resp.Body.Close()
		}
		synctest.Wait()
		if n := c.all[1].Peers.Stats.Forwarded[peer.Tunnel].Load(); n != 0 || c.all[2].Peers.Stats.Served[peer.Tunnel].Load() != 0 {
			t.Errorf("%d were forwarded a second time", n)
		}
	})
}

// Nothing that comes to the public port is taken for another replica's, and what is for replicas is not there.
func TestTunnelForgedOnThePublicPort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startCluster(t, 2)
		p := c.begin(nil)
		owner := c.owner(p)
		n := c.other(owner)
		if resp, err := c.do(n, "POST", "/_sidestream/peer/1", "x", "Sidestream-Peer: to="+c.all[n-1].id); err != nil || resp.StatusCode != http.StatusNotFound {
			t.Errorf("the public port: %v, %v", resp, err) // there is nothing of the kind
		}
		before := c.sum(tunnelsForwarded)
		resp, err := c.do(n, "POST", "/_sidestream/tunnel/socket", `{"page":"`+p.ID+`","tunnel":1,"open":[]}`+"\n", "Sidestream-Peer: served - 00", "Sidestream-Peer: to=x")
		if err != nil || resp.StatusCode != http.StatusAccepted || c.sum(tunnelsForwarded) != before+1 {
			t.Errorf("with a mark: %v, %v, %d forwarded", resp, err, c.sum(tunnelsForwarded)-before)
		}
	})
}

// Without peers a page's id is the page's own, whatever it looks like.
func TestTunnelWithoutPeers(t *testing.T) {
	up := newPeers(t)
	s := serve(t, tunnelEnv(up)...)
	id := pageID + "--" + peer.NewID()
	r := s.get(t, "/_sidestream/tunnel?page="+id)
	if e := r.next(t); e.data != `[0,"page",524288,30000,"",1]` {
		t.Errorf("%+v", e)
	}
	if status, text := s.post(t, "/_sidestream/tunnel/socket", `{"page":"`+id+`","tunnel":1,"open":[]}`+"\n"); status != http.StatusAccepted {
		t.Errorf("%d %s", status, text)
	}
	if s.server.others != nil {
		t.Error("there is a server for peers")
	}
}
