package proxy

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sidestream/proxy/history"
	"sidestream/proxy/peer"
)

// holders is a store of which only who holds what is asked, or one that keeps events besides.
type holders struct {
	history.Running
	mu    sync.Mutex
	all   []string // the answers, one after the other; the last one stays
	err   error
	asked int
}

func (*holders) Stop() {}

// Holder is part of [history.Store].
func (h *holders) Holder(_ context.Context, route string, identity [sha256.Size]byte) (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked++
	if route == "" || identity == [sha256.Size]byte{} {
		return "", errors.New("asked about no stream")
	}
	holder := ""
	if len(h.all) > 0 {
		holder = h.all[0]
	}
	if len(h.all) > 1 {
		h.all = h.all[1:]
	}
	return holder, h.err
}

// is has it answer so from now on.
func (h *holders) is(all ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all, h.asked = all, 0
}

func (h *holders) times() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.asked
}

// shareStreams serves two replicas, the first of which holds all streams.
func shareStreams(t *testing.T, env ...string) (all []*sidecar, stores []*holders) {
	t.Helper()
	all = serveReplicas(t, 2, func(i int, c *Settings) {
		kept, err := history.Settings{Dir: t.TempDir(), Sync: -1, TTL: time.Hour}.Start(slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(kept.Stop) // after the proxy, which is served later
		stores = append(stores, &holders{Running: kept})
		c.History = stores[i]
	}, env...)
	stores[1].is(all[0].Peers.Replica())
	return all, stores
}

// A message goes to the replica that holds the stream, whichever gets it, and its answer is that replica's.
func TestSendAcrossReplicas(t *testing.T) {
	h := newHearing(t)
	all, stores := shareStreams(t, sendEnv(h, "SSE_ROUTE_A_FORWARD=Cookie,X-Forwarded-For,X-Odd", "SSE_ROUTE_A_MAX_MESSAGE=1KiB", "SSE_CORS_ORIGINS=https://app.example",
		"SSE_ROUTE_B_PATH=/b/{id}", "SSE_ROUTE_B_SEND=true", "SSE_ROUTE_B_FROM=ws"+strings.TrimPrefix(h.URL, "http")+"/ws?b={path.id}{query.x}")...)
	all[0].get(t, "/a?q=%7C1", "Cookie: a=1", "X-Forwarded-For: 192.0.2.1", "X-Odd: caf\xe9").wantData(t, "hello")
	all[0].get(t, "/b/7%2F8?x=1").wantData(t, "hello")
	for _, c := range []struct {
		path, body string
		head       []string
		status     int
		heard      string
	}{
		{"/a?q=%7C1", "text", []string{"Cookie: a=1", "Content-Type: text/plain"}, 202, "q=%7C1: MessageText text"},
		{"/a?q=%7C1", "\x00\xff", []string{"Cookie: a=1"}, 202, "q=%7C1: MessageBinary \x00\xff"},
		{"/a?q=%7C1", "", []string{"Cookie: a=1", "Content-Type: text/plain"}, 202, "q=%7C1: MessageText "},
		{"/a?q=%7C1", strings.Repeat("x", 1024), []string{"Cookie: a=1", "Content-Type: text/plain", "Origin: https://app.example"}, 202, "q=%7C1: MessageText " + strings.Repeat("x", 1024)},
		{"/b/7%2F8?x=1", "{}", []string{"Content-Type: application/json"}, 202, "b=7%2F81: MessageText {}"},
		{"/a?q=%7C1", "other user", []string{"Cookie: a=2", "Content-Type: text/plain"}, 404, ""},
		{"/a?q=2", "other query", []string{"Cookie: a=1", "Content-Type: text/plain"}, 404, ""},
		{"/b/7%2F8", "no x", []string{"Content-Type: text/plain"}, 400, ""},
		{"/a?q=%7C1", strings.Repeat("x", 1025), []string{"Cookie: a=1", "Content-Type: text/plain"}, 413, ""},
		{"/a?q=%7C1", "\xff", []string{"Cookie: a=1", "Content-Type: text/plain"}, 400, ""},
		{"/a?q=%7C1", "x=1", []string{"Cookie: a=1", "Content-Type: application/x-www-form-urlencoded"}, 415, ""},
		{"/a?q=%7C1", "foreign", []string{"Cookie: a=1", "Content-Type: text/plain", "Origin: https://evil.example"}, 403, ""},
		{"/a?q=%7C1", "long", []string{"Cookie: a=1", "Content-Type: text/plain", "Idempotency-Key: " + strings.Repeat("k", 256)}, 400, ""},
	} {
		var answers []string
		for _, s := range all {
			r := s.ask(t, "POST "+c.path+" HTTP/1.1", append(c.head, fmt.Sprintf("X-Forwarded-For: 192.0.2.1\r\nX-Odd: caf\xe9\r\nContent-Length: %d\r\n\r\n%s", len(c.body), c.body))...)
			text, err := io.ReadAll(r.Body)
			if r.StatusCode != c.status || err != nil {
				t.Errorf("%s %.20q: %d %s %v, want %d", c.path, c.body, r.StatusCode, text, err, c.status)
			}
			if c.heard != "" {
				h.expect(t, c.heard)
			}
			r.Header.Del("Date")
			answers = append(answers, fmt.Sprint(r.Header, string(text)))
		}
		if answers[0] != answers[1] {
			t.Errorf("%s %.20q: the holder answers\n%s\nthe other\n%s", c.path, c.body, answers[0], answers[1])
		}
	}
	h.expect(t)
	if stores[0].times() > 5 { // for those that nobody has
		t.Errorf("the holder has asked %d times who holds its streams", stores[0].times())
	}
	if n, m := all[1].Peers.Stats.Forwarded[peer.Send].Load(), all[0].Peers.Stats.Served[peer.Send].Load(); n != m || n < 5 {
		t.Errorf("%d forwarded, %d served", n, m)
	}
}

// A key means the same wherever it is sent.
func TestSendKeysAcrossReplicas(t *testing.T) {
	h := newHearing(t)
	all, _ := shareStreams(t, sendEnv(h)...)
	all[0].get(t, "/a").wantData(t, "hello")
	key := []string{"Idempotency-Key: k", "Content-Type: text/plain"}
	for i, s := range []*sidecar{all[1], all[0], all[1]} {
		if status, text := s.post(t, "/a", "once", key...); status != 202 {
			t.Errorf("%d: %d %s", i, status, text)
		}
	}
	for _, s := range all {
		if status, _ := s.post(t, "/a", "another", key...); status != 422 {
			t.Errorf("a key that is used for another message: %d", status)
		}
	}
	h.expect(t, ": MessageText once")
}

// Where Origin is forwarded, a page of the same origin is the one that its GET without an Origin was.
func TestSendOriginAcrossReplicas(t *testing.T) {
	h := newHearing(t)
	all, stores := shareStreams(t, sendEnv(h, "SSE_ROUTE_A_FORWARD=Origin")...)
	all[0].get(t, "/a").wantData(t, "hello")
	stores[1].is("", all[0].Peers.Replica()) // of the stream with it, and of the one without
	if status, text := all[1].post(t, "/a", "x", "Content-Type: text/plain", "Origin: http://"+all[1].addr); status != 202 {
		t.Errorf("%d %s", status, text)
	}
	h.expect(t, ": MessageText x")
}

// Each replica has its own streams of a route that keeps none: nobody is asked about them.
func TestSendWithoutHistory(t *testing.T) {
	h := newHearing(t)
	all, stores := shareStreams(t, sendEnv(h, "SSE_ROUTE_A_HISTORY=memory")...)
	all[0].get(t, "/a").wantData(t, "hello")
	stores[1].is(all[0].Peers.Replica())
	if status, _ := all[1].post(t, "/a", "x", "Content-Type: text/plain"); status != 404 || stores[1].times() > 0 {
		t.Errorf("%d, asked %d times", status, stores[1].times())
	}
	if status, _ := all[0].post(t, "/a", "x", "Content-Type: text/plain"); status != 202 {
		t.Errorf("where it is: %d", status)
	}
}

// sendable is a cluster whose streams nobody has, in memory.
func sendable(t *testing.T, n int) (*cluster, *holders) {
	store := new(holders)
	c := startClusterWith(t, n, store, "SSE_ROUTE_A_PATH=/a/{id}", "SSE_ROUTE_A_SEND=true", "SSE_ROUTE_A_FROM=ws://legacy/{path.id}", "SSE_ROUTE_A_FORWARD=Cookie")
	return c, store
}

func (c *cluster) message(n int, head ...string) (int, string) {
	c.t.Helper()
	resp, err := c.do(n, "POST", "/a/7?x", "text", append(head, "Content-Type: text/plain", "Cookie: a=1")...)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, strings.TrimSpace(string(text))
}

// What may have been sent is not sent again; what was not, is where another replica holds the stream by then.
func TestSendHolderAway(t *testing.T) {
	const unknown, unreached, none = "the replica that holds this stream did not answer; it is not known whether the message was sent",
		"the replica that holds this stream cannot be reached; nothing was sent",
		"this request has no live stream; open one with the same address and credentials first"
	for _, c := range []struct {
		name   string
		status int
		text   string
		after  time.Duration
		asked  int                                          // how often the good one is
		who    func(c *cluster, good, slow string) []string // hold it, one after the other
	}{
		{"nobody", 404, none, 0, 0, func(*cluster, string, string) []string { return nil }},
		{"itself", 404, none, 0, 0, func(c *cluster, _, _ string) []string { return []string{c.all[0].id} }},
		{"another", 202, "sent", 0, 1, func(_ *cluster, good, _ string) []string { return []string{good} }},
		{"one that is gone", 502, unreached, 0, 0, func(*cluster, string, string) []string { return []string{peer.NewID()} }},
		{"one that is gone, then another", 202, "sent", 0, 1, func(_ *cluster, good, _ string) []string { return []string{peer.NewID(), good} }},
		{"one that is gone, then nobody", 502, unreached, 0, 0, func(*cluster, string, string) []string { return []string{peer.NewID(), ""} }},
		{"two that are gone", 502, unreached, 0, 0, func(_ *cluster, good, _ string) []string { return []string{peer.NewID(), peer.NewID(), good} }},
		{"one that has died, then another", 202, "sent", 0, 1, func(c *cluster, good, _ string) []string { c.all[1].die(); return []string{c.all[1].id, good} }},
		{"one that cannot be reached, then another", 202, "sent", time.Second, 1, func(c *cluster, good, _ string) []string {
			c.all[1].deaf = true
			return []string{c.all[1].id, good}
		}},
		{"one without the secret", 502, unreached, 0, 0, func(c *cluster, _, _ string) []string {
			c.all[1].Peers.Secrets = []string{"another secret, as long"}
			return []string{c.all[1].id}
		}},
		{"one that does not hold it any more", 404, none, 0, 0, func(c *cluster, _, _ string) []string { return []string{c.all[1].id} }},
		{"the same, then another", 202, "sent", 0, 1, func(c *cluster, good, _ string) []string { return []string{c.all[1].id, good} }},
		{"one that breaks off, then another", 502, unknown, 0, 0, func(w *cluster, good, _ string) []string {
			return []string{w.raw(func(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body); panic(http.ErrAbortHandler) }), good}
		}},
		{"one that does not answer, then another", 502, unknown, 5 * time.Second, 0, func(_ *cluster, good, slow string) []string { return []string{slow, good} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, store := sendable(t, 2)
				asked := 0
				good := w.replying(func(rw http.ResponseWriter, r *http.Request, kind peer.Kind) {
					asked++
					if body, _ := io.ReadAll(r.Body); string(body) != "text" || kind != peer.Send || r.RequestURI != "/a/7?x" || r.RemoteAddr != clientAddress || r.Header.Get("Cookie") != "a=1" {
						t.Errorf("asked for %+v with %q", r, body)
					}
					rw.WriteHeader(http.StatusAccepted)
					io.WriteString(rw, "sent")
				})
				slow := w.raw(func(_ http.ResponseWriter, r *http.Request) {
					io.Copy(io.Discard, r.Body)
					<-r.Context().Done()
				})
				who := c.who(w, good, slow)
				store.is(who...)
				began := time.Now()
				status, text := w.message(1)
				if n := failures(w.all[0]); len(who) == 1 && n > 1 || n > 2 {
					t.Errorf("%d attempts failed", n)
				}
				if took := time.Since(began); status != c.status || text != c.text || took != c.after || asked != c.asked {
					t.Errorf("%d %q after %v, asked %d times", status, text, took, asked)
				}
			})
		})
	}
}

// failures is how often r has asked in vain.
func failures(r *replica) (n int64) {
	for i := range r.Peers.Stats.Failed {
		n += r.Peers.Stats.Failed[i].Load()
	}
	return n
}

// replying is a replica that answers by f.
func (c *cluster) replying(f func(http.ResponseWriter, *http.Request, peer.Kind)) (id string) {
	var others *peer.Peers
	id = c.raw(func(w http.ResponseWriter, r *http.Request) { others.Handler(f).ServeHTTP(w, r) })
	others = peer.New(peer.Settings{Secrets: []string{peerSecret}}, peer.Terms{MaxHead: 64 << 10, MaxBody: 1 << 20, Log: slog.New(slog.DiscardHandler)}, place{c.places, id})
	return id
}

// A store that is away is no reason to say that nobody has a stream.
func TestSendStoreAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, store := sendable(t, 1)
		store.err = errors.New("away")
		if status, text := c.message(1); status != 502 || !strings.Contains(text, "try again") {
			t.Errorf("%d %s", status, text)
		}
	})
	h := newHearing(t)
	all, stores := shareStreams(t, sendEnv(h)...)
	all[0].get(t, "/a").wantData(t, "hello")
	stores[0].err = errors.New("away")
	if status, text := all[0].post(t, "/a", "x", "Content-Type: text/plain"); status != 202 {
		t.Errorf("where the stream is: %d %s", status, text)
	}
}

// A replica that is asked asks no other one, and answers nothing but what it is asked for.
func TestAskedAsksNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, store := sendable(t, 3)
		store.is(c.all[2].id)
		request := func(method, target, body string) *http.Request {
			r := httptest.NewRequest(method, target, strings.NewReader(body))
			r.Header.Set("Content-Type", "text/plain")
			r.Header.Set("Cookie", "a=1")
			r.Header.Set("Sidestream-Peer", "x")
			return r
		}
		for _, one := range []struct {
			kind   peer.Kind
			r      *http.Request
			status int
		}{
			{peer.Send, request("POST", "/a/7", "x"), 404},
			{peer.Send, request("GET", "/a/7", ""), 404},
			{peer.Send, request("POST", "/elsewhere", "x"), 404}, // what the legacy service would answer with 418
			{peer.Tunnel, request("POST", "/a/7", "x"), 404},
			{peer.Tunnel, request("GET", "/elsewhere", ""), 404},
			{peer.Send, request("GET", "/_sidestream/tunnel?page="+pageID, ""), 404},
			{peer.Send, request("POST", "/_sidestream/tunnel/socket", "x"), 404},
			{peer.Tunnel, request("PUT", "/_sidestream/tunnel/socket", "x"), 405},
		} {
			body, _ := io.ReadAll(one.r.Body)
			resp, err := c.all[0].Peers.Ask(t.Context(), c.all[1].id, peer.Question{Kind: one.kind, Request: one.r, Body: body, Within: time.Second})
			if err != nil {
				t.Fatal(err)
			}
			if resp.Body.Close(); resp.StatusCode != one.status {
				t.Errorf("%s %s as %s: %d, want %d", one.r.Method, one.r.RequestURI, peer.Kinds[one.kind], resp.StatusCode, one.status)
			}
		}
		if store.times() > 0 || c.all[1].Peers.Stats.Forwarded[peer.Send].Load() > 0 {
			t.Error("it asked another one")
		}
		long := request("POST", "/a/7", "")
		long.Header.Set("X-Long", strings.Repeat("x", 65<<10))
		resp, err := c.all[0].Peers.Ask(t.Context(), c.all[1].id, peer.Question{Kind: peer.Send, Request: long, Within: time.Second})
		if err != nil || resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("a long head: %v, %v", resp, err)
		}
	})
}

// A message that its client is slow to send takes no more than its room, and gives that back.
func TestSendBodiesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, store := sendable(t, 1)
		store.is(peer.NewID())
		broken, err := http.NewRequestWithContext(t.Context(), "POST", "http://sidecar/a/7", io.MultiReader(strings.NewReader("half"), failingReader{}))
		if err != nil {
			t.Fatal(err)
		}
		broken.Header.Set("Content-Type", "text/plain")
		if _, err := c.client().Do(broken); err == nil {
			t.Error("a body that breaks off is a message")
		}
		for range 3 {
			c.message(1)
		}
		synctest.Wait()
		for range 200 { // all of the room can still be taken
			data, _, give, err := c.all[0].Peers.Hold(strings.NewReader(strings.Repeat("x", 1<<20)), 1<<20)
			if err != nil || len(data) != 1<<20 {
				t.Fatal(err)
			}
			give()
		}
		time.Sleep(time.Second) // net/http lingers on a connection whose request broke off
	})
}

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, errors.New("broken off") }
