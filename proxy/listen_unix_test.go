package proxy

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"sidestream/proxy/deliver"
)

// serveUnix serves on a Unix socket, as SSE_LISTEN=unix:PATH has it.
func serveUnix(t *testing.T, env ...string) *sidecar {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sse.sock")
	l, err := deliver.ListenUnix(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	return serveOn(t, l, configure(t, append(env, "SSE_LISTEN=unix:"+path)...), slog.New(slog.DiscardHandler))
}

// Events, messages, what is passed through, and HTTP/2 over a Unix socket.
func TestListenOnAUnixSocket(t *testing.T) {
	f := newFeed(t)
	f.answer = func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.RequestURI+" for "+r.Header.Get("X-Forwarded-For")+" at "+r.Host)
	}
	s := serveUnix(t, "SSE_UPSTREAM="+f.URL, "SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM="+f.ws()+"/ws", "SSE_ROUTE_A_SEND=true")
	first := s.get(t, "/a")
	others := []*response{s.get(t, "/a"), s.get(t, "/a", "Origin: http://sidecar")}
	f.publish(t, "", "one")
	for _, r := range append(others, first) {
		r.wantData(t, "one")
	}
	if n := s.Routes()[0].Clients.Clients.Load(); n != 3 {
		t.Errorf("%d clients", n)
	}
	if resp := s.ask(t, "POST /a HTTP/1.1", "Origin: http://sidecar", "Content-Length: 2\r\n\r\nhi"); resp.StatusCode != http.StatusAccepted {
		t.Errorf("a message: %s", resp.Status)
	}
	if body, _ := io.ReadAll(s.ask(t, "GET /x HTTP/1.1", "X-Forwarded-For: 192.0.2.1").Body); string(body) != "/x for 192.0.2.1 at sidecar" {
		t.Errorf("passed through: %q", body)
	}
	dial := func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", s.addr) }
	tr := &http.Transport{DialContext: dial}
	defer tr.CloseIdleConnections()
	ws, _, err := websocket.Dial(within(t), "ws://sidecar/ws", &websocket.DialOptions{HTTPClient: &http.Client{Transport: tr}})
	if err != nil {
		t.Fatal(err)
	}
	f.publish(t, "", "two")
	if _, data, err := ws.Read(within(t)); string(data) != "two" {
		t.Errorf("a WebSocket: %q, %v", data, err)
	}
	ws.CloseNow()
	h2 := &http.Transport{DialContext: dial, Protocols: new(http.Protocols)}
	h2.Protocols.SetUnencryptedHTTP2(true)
	defer h2.CloseIdleConnections()
	req, _ := http.NewRequestWithContext(within(t), "GET", "http://sidecar/a", nil)
	req.Header.Set("Accept", "text/event-stream")
	resp, err := h2.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	f.publish(t, "", "three")
	got := make([]byte, 0, 4096)
	for buf := make([]byte, 512); !strings.Contains(string(got), "data: three\n"); {
		n, err := resp.Body.Read(buf)
		if got = append(got, buf[:n]...); err != nil {
			t.Fatalf("HTTP/2: %q, %v", got, err)
		}
	}
}

// Clients over a Unix socket are told from each other by what the proxy in front says, where it is trusted.
func TestAddressesOverAUnixSocket(t *testing.T) {
	f := newFeed(t)
	s := serveUnix(t, "SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM="+f.ws()+"/ws", "SSE_MAX_CLIENTS_PER_IP=1", "SSE_TRUSTED_PROXIES=unix,10.0.0.0/8")
	busy := func(forwarded string) bool {
		t.Helper()
		r := s.get(t, "/a", "X-Forwarded-For: "+forwarded)
		e, err := r.tryNext(t)
		if err != nil {
			t.Fatal(err)
		}
		return e.name == "stream.busy"
	}
	for i, c := range []struct {
		forwarded string
		busy      bool
	}{{"192.0.2.1", false}, {"192.0.2.1", true}, {"192.0.2.2", false}, {"192.0.2.9, 192.0.2.2, 10.1.1.1", true}, {"192.0.2.2, 192.0.2.3", false}, {"nonsense", false}, {"nonsense", false}} {
		if got := busy(c.forwarded); got != c.busy {
			t.Errorf("client %d, %s: busy is %v", i, c.forwarded, got)
		}
	}
}
