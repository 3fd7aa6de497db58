package proxy

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/coder/websocket"
)

// hearing is a legacy WebSocket service that keeps what it hears, and says "hello" first.
type hearing struct {
	*httptest.Server
	mu    sync.Mutex
	heard []string // "<query>: <kind> <data>"
	dials int
}

func newHearing(t *testing.T) *hearing {
	h := new(hearing)
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !upgrades(r) {
			io.WriteString(w, "legacy "+r.Method)
			return
		}
		ws, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer ws.CloseNow()
		ws.SetReadLimit(-1)
		h.mu.Lock()
		h.dials++
		h.mu.Unlock()
		ws.Write(context.Background(), websocket.MessageText, []byte("hello"))
		for {
			kind, data, err := ws.Read(context.Background())
			if err != nil {
				return
			}
			h.mu.Lock()
			h.heard = append(h.heard, fmt.Sprintf("%s: %v %s", r.URL.RawQuery, kind, data))
			h.mu.Unlock()
			ws.Write(context.Background(), kind, append([]byte("re "), data...))
		}
	}))
	t.Cleanup(func() { h.CloseClientConnections(); h.Server.Close() })
	return h
}

func (h *hearing) expect(t *testing.T, want ...string) {
	t.Helper()
	eventually(t, fmt.Sprintf("the service to hear %q", want), func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return len(h.heard) >= len(want)
	})
	h.mu.Lock()
	defer h.mu.Unlock()
	if !slices.Equal(h.heard, want) {
		t.Errorf("the service heard %q, want %q", h.heard, want)
	}
	h.heard = nil
}

func sendEnv(h *hearing, more ...string) []string {
	return append([]string{"SSE_UPSTREAM=" + h.URL, "SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_SEND=true",
		"SSE_ROUTE_A_FROM=ws" + strings.TrimPrefix(h.URL, "http") + "/ws?{query}"}, more...)
}

// post sends body and returns the answer's status and text.
func (s *sidecar) post(t *testing.T, path, body string, head ...string) (int, string) {
	t.Helper()
	r := s.ask(t, "POST "+path+" HTTP/1.1", append(head, fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body))...)
	defer r.conn.Close()
	text, _ := io.ReadAll(r.Body)
	return r.StatusCode, strings.TrimSpace(string(text))
}

func TestSend(t *testing.T) {
	h := newHearing(t)
	s := serve(t, sendEnv(h, "SSE_ROUTE_A_MAX_MESSAGE=10")...)
	const text, bin = "Content-Type: text/plain; charset=UTF-8", "Content-Type: application/octet-stream"
	if status, _ := s.post(t, "/a?x=1", "hi", text); status != 404 {
		t.Errorf("without a stream: %d", status)
	}
	events := s.get(t, "/a?x=1")
	events.wantData(t, "hello")
	for _, c := range []struct {
		path, body string
		head       []string
		status     int
	}{
		{"/a?x=1", `{"a":1}`, []string{"Content-Type: application/json"}, 202},
		{"/a?x=1&lastEventId=7", "héé", []string{text}, 202},
		{"/a?x=1", "p", []string{"Content-Type: application/vnd.x+json"}, 202},
		{"/a?x=1", "\x00\xff", []string{bin}, 202},
		{"/a?x=1", "\x01\xff", nil, 202}, // no type at all
		{"/a?x=1", "", []string{text}, 202},
		{"/a?x=1", "0123456789", []string{text}, 202},
		{"/a?x=1", "0123456789a", []string{text}, 413},
		{"/a?x=2", "other", []string{text}, 404},
		{"/a?x=1", "a=b", []string{"Content-Type: application/x-www-form-urlencoded"}, 415},
		{"/a?x=1", "x", []string{"Content-Type: text/plain; charset=latin1"}, 415},
		{"/a?x=1", "x", []string{"Content-Type: ;"}, 415},
		{"/a?x=1", "x", []string{text, "Content-Encoding: gzip"}, 415},
		{"/a?x=1", "\xff", []string{text}, 400},
		{"/a?x=1", "x", []string{text, "Idempotency-Key: " + strings.Repeat("k", 256)}, 400},
		{"/a?x=1", "cross", []string{text, "Origin: https://evil.example"}, 403},
		{"/a?x=1", "cross", []string{text, "Sec-Fetch-Site: cross-site"}, 403},
		{"/a?x=1", "cross", []string{text, "Sec-Fetch-Site: same-site", "Origin: http://" + s.addr}, 403},
		{"/a?x=1", "same", []string{text, "Origin: http://" + s.addr}, 202},
	} {
		if status, answer := s.post(t, c.path, c.body, c.head...); status != c.status {
			t.Errorf("%s %q with %q: %d %s, want %d", c.path, c.body, c.head, status, answer, c.status)
		}
	}
	chunked := s.ask(t, "POST /a?x=1 HTTP/1.1", text, "Transfer-Encoding: chunked\r\n\r\nb\r\n0123456789a\r\n0")
	if chunked.StatusCode != 413 {
		t.Errorf("a body over MAX_MESSAGE of unknown length: %d", chunked.StatusCode)
	}
	h.expect(t, `x=1: MessageText {"a":1}`, "x=1: MessageText héé", "x=1: MessageText p", "x=1: MessageBinary \x00\xff",
		"x=1: MessageBinary \x01\xff", "x=1: MessageText ", "x=1: MessageText 0123456789", "x=1: MessageText same")
	events.wantData(t, `re {"a":1}`)
	if r := s.ask(t, "PUT /a?x=1 HTTP/1.1", "Content-Length: 0"); r.StatusCode != 200 {
		t.Errorf("other methods pass through, got %d", r.StatusCode)
	}
}

func TestSendOnceOverHTTP(t *testing.T) {
	h := newHearing(t)
	s := serve(t, sendEnv(h)...)
	s.get(t, "/a").wantData(t, "hello")
	for i, c := range []struct {
		key, body string
		status    int
	}{{"1", "a", 202}, {"1", "a", 202}, {"2", "a", 202}, {"1", "b", 422}, {"3", "b", 202}} {
		if status, _ := s.post(t, "/a", c.body, "Content-Type: text/plain", "Idempotency-Key: "+c.key); status != c.status {
			t.Errorf("%d: %d, want %d", i, status, c.status)
		}
	}
	h.expect(t, ": MessageText a", ": MessageText a", ": MessageText b")
}

// The identity of a POST is that of its GET, but browsers send no Origin with the GETs of a page's own host.
func TestSendWhereOriginIsForwarded(t *testing.T) {
	h := newHearing(t)
	s := serve(t, sendEnv(h, "SSE_ROUTE_A_FORWARD=Origin,Cookie", "SSE_CORS_ORIGINS=https://app.example")...)
	s.get(t, "/a", "Cookie: u=1").wantData(t, "hello")
	same, other := "Origin: http://"+s.addr, "Origin: https://app.example"
	for _, c := range []struct {
		head   []string
		status int
	}{{[]string{"Cookie: u=1"}, 202}, {[]string{"Cookie: u=1", same}, 202}, {[]string{"Cookie: u=2", same}, 404}, {[]string{"Cookie: u=1; v=2"}, 404}, {nil, 404}} {
		if status, _ := s.post(t, "/a", "x", append(c.head, "Content-Type: text/plain")...); status != c.status {
			t.Errorf("%q: %d, want %d", c.head, status, c.status)
		}
	}
	if h.dials != 1 {
		t.Errorf("a POST dialled: %d", h.dials)
	}
	r := s.ask(t, "OPTIONS /a HTTP/1.1", other, "Access-Control-Request-Method: POST")
	if r.StatusCode != 204 || r.Header.Get("Access-Control-Allow-Methods") != "GET, POST, OPTIONS" ||
		!strings.Contains(r.Header.Get("Access-Control-Allow-Headers"), "Idempotency-Key") || r.Header.Get("Access-Control-Allow-Origin") != "https://app.example" {
		t.Errorf("preflight: %d %v", r.StatusCode, r.Header)
	}
	if r := s.ask(t, "OPTIONS /a HTTP/1.1", "Origin: https://evil.example", "Access-Control-Request-Method: POST"); r.StatusCode != 200 {
		t.Errorf("preflight of others: %d", r.StatusCode)
	}
}

func TestSendWithoutConnection(t *testing.T) {
	f := newFeed(t)
	s := serve(t, routeEnv(f, "SSE_ROUTE_A_SEND=true")...)
	events := s.get(t, "/a")
	f.publish(t, "", "1")
	events.wantData(t, "1")
	f.cut()
	f.verify = func(*http.Request) int { return 503 }
	events.wantGap(t, "upstream", "null")
	if status, text := s.post(t, "/a", "x", "Content-Type: text/plain"); status != 502 || strings.Contains(text, f.Listener.Addr().String()) {
		t.Errorf("%d %s", status, text)
	}
}

func TestSessionsHaveUpstreamsOfTheirOwn(t *testing.T) {
	h := newHearing(t)
	s := serve(t, sendEnv(h, "SSE_ROUTE_A_SCOPE=session", "SSE_ROUTE_A_FORWARD=Cookie", "SSE_ROUTE_A_RETRY=100ms")...)
	const one, two = "/a?session=aaaaaaaaaaaaaaaa&x=1", "/a?session=bbbbbbbbbbbbbbbb&x=1"
	for _, wrong := range []string{"/a", "/a?session=short", "/a?session=aaaaaaaaaaaaaaa."} {
		if r := s.get(t, wrong); r.StatusCode != 400 {
			t.Errorf("%s: %d", wrong, r.StatusCode)
		}
		if status, _ := s.post(t, wrong, "x", "Content-Type: text/plain"); status != 400 {
			t.Errorf("POST %s: %d", wrong, status)
		}
	}
	first, second := s.get(t, one, "Cookie: u=1"), s.get(t, two, "Cookie: u=1")
	last := first.wantData(t, "hello")
	second.wantData(t, "hello")
	if h.dials != 2 {
		t.Errorf("%d upstream connections for two sessions", h.dials)
	}
	if status, _ := s.post(t, one, "x", "Content-Type: text/plain", "Cookie: u=2"); status != 404 {
		t.Errorf("another user's POST: %d", status)
	}
	// The session outlives its client: nothing is lost in either direction.
	first.conn.Close()
	eventually(t, "the client to be gone", func() bool { return s.Routes()[0].Clients.Clients.Load() == 1 })
	for i := range 3 {
		if status, _ := s.post(t, one, fmt.Sprint(i), "Content-Type: text/plain", "Cookie: u=1"); status != 202 {
			t.Errorf("POST while away: %d", status)
		}
	}
	h.expect(t, "x=1: MessageText 0", "x=1: MessageText 1", "x=1: MessageText 2")
	again, anew := s.get(t, one, "Cookie: u=1", "Last-Event-ID: "+last.id), s.get(t, one, "Cookie: u=1")
	anew.wantData(t, "hello") // who was cut before the first event has no id
	for i := range 3 {
		again.wantData(t, fmt.Sprint("re ", i))
		anew.wantData(t, fmt.Sprint("re ", i))
	}
	if h.dials != 2 {
		t.Errorf("%d upstream connections", h.dials)
	}
}

// A POST is let in exactly when net/http's CrossOriginProtection lets it in, but for the ports that an origin's scheme
// implies, which proxies add to Host.
func TestAdmitsAsNetHTTPDoes(t *testing.T) {
	s := serve(t, "SSE_UPSTREAM=http://localhost:1", "SSE_CORS_ORIGINS=https://app.example")
	var protection http.CrossOriginProtection
	if err := protection.AddTrustedOrigin("https://app.example"); err != nil {
		t.Fatal(err)
	}
	for _, site := range []string{"", "none", "same-origin", "same-site", "cross-site", "odd"} {
		for _, origin := range []string{"", "null", "https://app.example", "http://app.example", "https://host", "http://host", "http://host:8080", "https://evil", "::"} {
			for _, host := range []string{"host", "host:8080", "app.example"} {
				r := httptest.NewRequest(http.MethodPost, "/a", nil)
				r.Host = host
				if site != "" {
					r.Header.Set("Sec-Fetch-Site", site)
				}
				if origin != "" {
					r.Header.Set("Origin", origin)
				}
				want := protection.Check(r) == nil
				if got := s.admit(http.Header{}, r); got != want {
					t.Errorf("Sec-Fetch-Site %q, Origin %q, Host %q: %v, net/http says %v", site, origin, host, got, want)
				}
			}
		}
	}
}
