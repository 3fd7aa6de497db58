package admin

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sidestream/config"
	"sidestream/proxy"
	"sidestream/proxy/peer"
	"sidestream/proxy/upstream"
	"sidestream/translate"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const secret = "hunter2"

// front is a sidecar whose legacy service answers jobs and refuses everything else, with secrets wherever they may be.
func front(t *testing.T) (*proxy.Proxy, *httptest.Server) {
	t.Helper()
	legacy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/job":
			io.WriteString(w, `{"done":true}`)
		case "/down":
			http.Error(w, secret, http.StatusServiceUnavailable)
		default:
			http.Error(w, secret, http.StatusForbidden)
		}
	}))
	t.Cleanup(legacy.Close)
	at := strings.TrimPrefix(legacy.URL, "http://")
	c, err := config.Load([]string{
		"SSE_ROUTE_JOB_PATH=/job", "SSE_ROUTE_JOB_FROM=http://user:" + secret + "@" + at + "/job?token=" + secret, "SSE_ROUTE_JOB_DONE=.done",
		"SSE_ROUTE_JOB_HEADERS=Authorization: Bearer " + secret,
		"SSE_ROUTE_DOWN_PATH=/down", "SSE_ROUTE_DOWN_FROM=http://" + at + "/down?token={query.token}",
		"SSE_ROUTE_NO_PATH=/no", "SSE_ROUTE_NO_FROM=ws://" + at + "/no?token={query.token}",
	}, config.ReadFile)
	if err != nil {
		t.Fatal(err)
	}
	p := proxy.New(c.Settings, slog.New(slog.DiscardHandler))
	s := httptest.NewServer(p)
	t.Cleanup(func() { s.CloseClientConnections(); s.Close(); p.Close(); upstream.CloseIdle() })
	return p, s
}

func get(t *testing.T, h http.Handler, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequest("GET", path, nil)
	r.Host = "localhost:9091"
	h.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

// visit asks for a stream and reads its first bytes.
func visit(t *testing.T, address string) string {
	t.Helper()
	resp, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	buf := make([]byte, 512)
	if strings.HasSuffix(address, "/job") { // which ends; who leaves before that has left
		n, _ := io.ReadFull(resp.Body, buf)
		return string(buf[:n])
	}
	n, _ := io.ReadAtLeast(resp.Body, buf, 8)
	return string(buf[:n])
}

func TestStatusAndMetrics(t *testing.T) {
	p, s := front(t)
	h := Port{Proxy: p, Version: "1.2.3"}.Handler()
	for _, path := range []string{"/job", "/down?token=" + secret, "/no?token=" + secret, "/no"} {
		if body := visit(t, s.URL+path); strings.Contains(body, secret) {
			t.Errorf("%s answers with the secret: %q", path, body)
		}
	}
	// A client has its answer a moment before the stream is forgotten and the client counted out.
	settled := func() bool {
		return p.Routes()[2].Streams.Health().State == "idle" && p.Routes()[1].Clients.Disconnected[2].Load() == 1 &&
			p.Routes()[0].Streams.Health().State == "down" && p.Routes()[1].Streams.Health().State == "up"
	}
	if p.Routes()[2].Name != "no" || p.Routes()[1].Name != "job" {
		t.Fatal("the routes are in another order")
	}
	for end := time.Now().Add(time.Minute); !settled() && time.Now().Before(end); {
		<-time.After(time.Millisecond)
	}
	code, text := get(t, h, "/api/status")
	var got Status
	if err := json.Unmarshal([]byte(text), &got); code != 200 || err != nil {
		t.Fatal(code, err)
	}
	if strings.Contains(text, secret) {
		t.Errorf("the status holds the secret: %s", text)
	}
	byName := map[string]RouteStatus{}
	for _, rt := range got.Routes {
		byName[rt.Name] = rt
	}
	if job := byName["job"]; job.Upstream.State != "up" || job.Streams != 1 || job.Events != 1 || !job.Shared || !strings.HasSuffix(job.From, "/job?token=…") {
		t.Errorf("job is %+v", job)
	}
	if down := byName["down"]; down.Upstream.State != "down" || down.Upstream.LastError != "answered 503" || down.Upstream.LastFailed == nil || down.Shared {
		t.Errorf("down is %+v", down)
	}
	if no := byName["no"]; no.Upstream.State != "idle" || no.Upstream.Failures != 1 {
		t.Errorf("no is %+v", no)
	}
	_, text = get(t, h, "/metrics")
	if strings.Contains(text, secret) {
		t.Error("the metrics hold the secret")
	}
	for _, line := range []string{
		`sidestream_build_info{version="1.2.3"} 1`,
		`sidestream_clients{route="job",transport="sse"} 0`,
		`sidestream_clients{route="job",transport="websocket"} 0`,
		`sidestream_upstream_up{route="job"} 1`,
		`sidestream_upstream_up{route="down"} 0`,
		`sidestream_events_total{route="job"} 1`,
		`sidestream_polls_total{outcome="new",route="job"} 1`,
		`sidestream_rejected_total{reason="upstream"} 1`,
		`sidestream_rejected_total{reason="bad_request"} 1`,
		`sidestream_disconnects_total{reason="finished"} 1`,
		`sidestream_gaps_total{reason="upstream",route="job"} 0`,
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("no line %s", line)
		}
	}
	if _, again := get(t, h, "/metrics"); !strings.Contains(again, "go_goroutines") || !strings.Contains(again, "process_") {
		t.Error("the runtime's own metrics are missing")
	}
}

func TestTunnelsAndSendingAreCounted(t *testing.T) {
	c, err := config.Load([]string{"SSE_UPSTREAM=http://127.0.0.1:9", "SSE_TUNNEL=/socket", "SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM=ws://127.0.0.1:9/" + secret + "?" + secret,
		"SSE_ROUTE_A_SEND=true"}, config.ReadFile)
	if err != nil {
		t.Fatal(err)
	}
	p := proxy.New(c.Settings, slog.New(slog.DiscardHandler))
	s := httptest.NewServer(p)
	t.Cleanup(func() { s.CloseClientConnections(); s.Close(); p.Close() })
	resp, err := http.Get(s.URL + "/_sidestream/tunnel?page=" + secret + secret + secret)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	opened, err := http.Post(s.URL+"/_sidestream/tunnel/socket", "", strings.NewReader(`{"page":"`+secret+secret+secret+`","tunnel":1,"open":[]}`+"\n"))
	if err != nil || opened.StatusCode != 202 {
		t.Fatal(opened, err)
	}
	opened.Body.Close()
	for end := time.Now().Add(time.Minute); p.Tunnel.Pages.Stats.Failed.Load() == 0 && time.Now().Before(end); {
		<-time.After(time.Millisecond)
	}
	h := Port{Proxy: p, Version: "dev"}.Handler()
	_, text := get(t, h, "/metrics")
	for _, line := range []string{"sidestream_tunnel_pages 1", "sidestream_tunnel_clients 1", "sidestream_tunnels_opened_total 0", "sidestream_tunnel_failures_total 1",
		`sidestream_tunnel_messages_total{direction="up"} 0`, `sidestream_tunnel_gaps_total{reason="restart"} 0`, `sidestream_clients_by_writer{writer="goroutine"} 1`,
		`sidestream_clients_by_writer{writer="shard"} 0`, `sidestream_clients_by_writer{writer="h2"} 0`, `sidestream_sent_messages_total{route="a"} 0`} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("no line %s", line)
		}
	}
	var got Status
	_, status := get(t, h, "/api/status")
	if err := json.Unmarshal([]byte(status), &got); err != nil || got.Tunnel == nil || got.Tunnel.Pages != 1 || got.Tunnel.Clients != 1 || got.Tunnel.Failed != 1 ||
		!slices.Equal(got.Tunnel.Prefixes, []string{"/socket"}) {
		t.Errorf("%v %s", err, status)
	}
	if strings.Contains(text+status, secret+secret) {
		t.Error("the page's id is shown")
	}
}

func TestHealth(t *testing.T) {
	c, err := config.Load([]string{"SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM=ws://127.0.0.1:9/", "SSE_ROUTE_A_EAGER=true"}, config.ReadFile)
	if err != nil {
		t.Fatal(err)
	}
	p := proxy.New(c.Settings, slog.New(slog.DiscardHandler))
	h := Port{Proxy: p, Version: "dev"}.Handler()
	if code, _ := get(t, h, "/livez"); code != 200 {
		t.Errorf("/livez is %d", code)
	}
	if code, _ := get(t, h, "/readyz"); code != 503 {
		t.Errorf("/readyz is %d before its eager route has been tried", code)
	}
	ctx, stop := context.WithCancel(t.Context())
	var eager sync.WaitGroup
	eager.Go(func() { p.Eager(ctx) }) // ends with stop
	ready := func() bool { code, _ := get(t, h, "/readyz"); return code == 200 }
	for end := time.Now().Add(time.Minute); !ready() && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if !ready() {
		t.Error("not ready although its eager route has failed once")
	}
	if code, _ := get(t, h, "/nothing"); code != 404 {
		t.Errorf("/nothing is %d", code)
	}
	p.Drain(0)
	if code, _ := get(t, h, "/readyz"); code != 503 {
		t.Errorf("/readyz is %d while it drains", code)
	}
	stop()
	eager.Wait()
	p.Close()
}

// TestHosts: a page whose name was made to point here gets nothing, whatever it asks for.
func TestHosts(t *testing.T) {
	p, _ := front(t)
	h := Port{Proxy: p, Address: "Sidecar.Internal:9091", Hosts: []string{"metrics.example.com"}}.Handler()
	for host, want := range map[string]int{
		"localhost": 200, "LOCALHOST:9091": 200, "127.0.0.1:9091": 200, "10.1.2.3": 200, "[::1]:9091": 200, "[fe80::1]": 200, "::1": 200,
		"sidecar.internal:9091": 200, "metrics.example.com": 200, "Metrics.Example.com:80": 200, "": 200, // HTTP/1.0 without one
		"evil.example.com": 421, "evil.example.com:9091": 421, "localhost.evil.example.com": 421, "127.0.0.1.evil.example.com": 421, "metrics.example.com.": 421,
	} {
		for _, path := range []string{"/livez", "/readyz", "/metrics", "/api/status"} {
			r := httptest.NewRequest("GET", path, nil)
			r.Host = host
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != want {
				t.Errorf("%q, %s: %d, want %d", host, path, w.Code, want)
			}
			if w.Header().Get("Content-Security-Policy") == "" || w.Header().Get("Cross-Origin-Resource-Policy") != "same-origin" {
				t.Errorf("%q, %s: %v", host, path, w.Header())
			}
		}
	}
}

func TestLostLinesAreCounted(t *testing.T) {
	p, _ := front(t)
	lines := &Lines{}
	lines.lost.Add(3)
	if _, text := get(t, Port{Proxy: p, Lines: lines}.Handler(), "/metrics"); !strings.Contains(text, "sidestream_log_lines_lost_total 3\n") {
		t.Error("no sidestream_log_lines_lost_total")
	}
}

func TestPeerStatus(t *testing.T) {
	p := proxy.New(proxy.Settings{MaxHeader: 64 << 10, Peer: &peer.Settings{URL: "http://10.1.2.3:9092", Secrets: []string{secret + "-of-replicas"}}, Directory: alone{}}, slog.New(slog.DiscardHandler))
	defer p.Close()
	p.Peers.Stats.Failed[peer.Late].Add(2)
	p.Peers.Stats.Refused[peer.NoSecret].Add(3)
	h := Port{Proxy: p}.Handler()
	_, text := get(t, h, "/api/status")
	if want := `"peer":{"replica":"aaaaaaaaaa","address":"http://10.1.2.3:9092","streams":0,"forwarded":0,"served":0,"failed":2,"refused":3}`; !strings.Contains(text, want) || strings.Contains(text, secret) {
		t.Errorf("%s lacks %s", text, want)
	}
	_, text = get(t, h, "/metrics")
	for _, want := range []string{`sidestream_peer_failures_total{reason="late"} 2`, `sidestream_peer_refused_total{reason="secret"} 3`, `sidestream_peer_served_total{kind="send"} 0`} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("metrics lack %s", want)
		}
	}
}

// proxyOf is a sidecar that nobody asks.
func proxyOf(t *testing.T, env ...string) *proxy.Proxy {
	t.Helper()
	c, err := config.Load(env, config.ReadFile)
	if err != nil {
		t.Fatal(err)
	}
	return proxy.New(c.Settings, slog.New(slog.DiscardHandler))
}

func message(data string) translate.Message { return translate.Message{Data: []byte(data)} }
