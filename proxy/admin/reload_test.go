package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"sidestream/config"
	"sidestream/proxy"
	"sidestream/proxy/upstream"
)

// post posts nothing to the port, with header fields, name and value in turns.
func post(h http.Handler, path string, header ...string) *httptest.ResponseRecorder {
	w, r := httptest.NewRecorder(), httptest.NewRequest("POST", path, nil)
	r.Host, r.RemoteAddr = "localhost:9091", here
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	if r.Header.Get("Host") != "" {
		r.Host = r.Header.Get("Host")
	}
	h.ServeHTTP(w, r)
	return w
}

// What has come of a reload is the answer, and is shown from then on.
func TestReload(t *testing.T) {
	p, _ := guarded(t)
	report, asked := proxy.Reloaded{}, 0
	h := Port{Proxy: p, Address: "127.0.0.1:9091", Reload: func(why string) proxy.Reloaded { asked++; return report }}.Handler()
	for _, test := range []struct {
		report proxy.Reloaded
		failed error
		status int
		body   string
		metric string
	}{
		{proxy.Reloaded{Result: "ok", Changed: []string{"a"}, Settings: []string{"SSE_MAX_CLIENTS"}}, nil, 200, `{"result":"ok","changed":["a"],"settings":["SSE_MAX_CLIENTS"]}`, `reloads_total{result="ok"} 1`},
		{proxy.Reloaded{Result: "failed", Problems: []string{"SSE_X: <unknown>"}}, errors.New("SSE_X: <unknown>"), 422, `{"result":"failed","problems":["SSE_X: <unknown>"]}`, "config_last_reload_successful 0"},
		{proxy.Reloaded{Result: "unchanged"}, nil, 200, `{"result":"unchanged"}`, "config_last_reload_successful 1"},
	} {
		report = test.report
		p.Reloads.Note(report.Result == "ok", test.failed)
		w := post(h, "/api/reload")
		if w.Code != test.status || strings.TrimSpace(w.Body.String()) != test.body || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%d %s, want %d %s", w.Code, w.Body, test.status, test.body)
		}
		_, shown := get(t, h, "/metrics")
		if !strings.Contains(shown, "sidestream_"+test.metric+"\n") {
			t.Errorf("no %s in %s", test.metric, shown)
		}
		dashboard := Port{Proxy: p, samples: new(samples)}
		if said := fmt.Sprint(dashboard.problems()); strings.Contains(said, "the configuration was not reloaded: SSE_X: <unknown>") != (test.failed != nil) {
			t.Errorf("the dashboard says %s", said)
		}
		var s Status
		_, text := get(t, h, "/api/status")
		if err := json.Unmarshal([]byte(text), &s); err != nil || (s.Config.Error != "") != (test.failed != nil) || s.Config.Tried.Before(s.Config.Loaded) || s.Config.Loaded.IsZero() {
			t.Errorf("%+v, %v", s.Config, err)
		}
	}
	for _, path := range []string{"/api/reload", "/api/drain"} {
		for name, head := range map[string][]string{"another site's page": {"Sec-Fetch-Site", "cross-site"}, "another origin": {"Origin", "https://evil.example"}, "another name": {"Host", "evil.example"}} {
			if w := post(h, path, head...); w.Code != 403 && w.Code != 421 {
				t.Errorf("%s: %s gets %d", path, name, w.Code)
			}
		}
		r := httptest.NewRequest("GET", path, nil)
		r.Host = "localhost"
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, r); w.Code != http.StatusMethodNotAllowed {
			t.Errorf("GET %s: %d", path, w.Code)
		}
	}
	if asked != 3 || p.Draining() {
		t.Errorf("asked %d times, draining: %v", asked, p.Draining())
	}
}

// Drain returns when the clients have left, and twice is once; the process stays.
func TestDrain(t *testing.T) {
	legacy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "1") }))
	defer legacy.Close()
	c, err := config.Load([]string{"SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM=" + legacy.URL, "SSE_DRAIN=3s"}, config.ReadFile)
	if err != nil {
		t.Fatal(err)
	}
	p := proxy.New(c.Settings, slog.New(slog.DiscardHandler))
	public := httptest.NewServer(p)
	operator := httptest.NewServer(Port{Proxy: p, Address: "127.0.0.1:9091"}.Handler())
	t.Cleanup(func() {
		public.CloseClientConnections()
		public.Close()
		operator.Close()
		p.Close()
		upstream.CloseIdle()
	})
	resp, err := http.Get(public.URL + "/a")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	in := bufio.NewReader(resp.Body)
	in.ReadString('\n')
	at := func() (string, string, error) { return "", strings.TrimPrefix(operator.URL, "http://"), nil }
	token := func() string { return "" }
	twice := make(chan error)
	for range 2 {
		go func() { twice <- Drain(t.Context(), nil, at, token) }()
	}
	for range 2 {
		if err := <-twice; err != nil {
			t.Error(err)
		}
	}
	if n := p.Clients(); n != 0 || p.Ready() {
		t.Errorf("%d clients are there still, ready: %v", n, p.Ready())
	}
	if told, err := io.ReadAll(in); err == nil || !strings.Contains(string(told), "retry: ") {
		t.Errorf("the client was told %q, %v", told, err)
	}
	began := time.Now()
	if err := Drain(t.Context(), nil, at, token); err != nil || time.Since(began) > 2*time.Second {
		t.Errorf("once more: %v after %v", err, time.Since(began))
	}
	if get := post(Port{Proxy: p}.Handler(), "/api/drain").Body.String(); get != "{\"clients\":0}\n" {
		t.Errorf("the answer is %q", get)
	}
}

// Whatever keeps it from asking is one line, and no success.
func TestDrainThatCannotAsk(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := l.Addr().String()
	l.Close()
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	for _, test := range []struct{ words, operator, want string }{
		{"", nobody, "no sidecar answers at its admin port"}, {"", "", "SSE_ADMIN_LISTEN is off"}, {"now", nobody, "drain takes no arguments"},
		{"", strings.TrimPrefix(other.URL, "http://"), "answered 404"},
	} {
		err := Drain(context.Background(), strings.Fields(test.words), func() (string, string, error) { return "", test.operator, nil }, func() string { return "" })
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") || errors.Is(err, ErrDrainWords) != (test.words != "") {
			t.Errorf("%+v: %v", test, err)
		}
	}
}

// Where the port wants a token, the command tells it.
func TestDrainTellsTheToken(t *testing.T) {
	var told string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { told = r.Header.Get("Authorization") }))
	defer s.Close()
	err := Drain(t.Context(), nil, func() (string, string, error) { return "", strings.TrimPrefix(s.URL, "http://"), nil }, func() string { return "0123456789abcdef" })
	if err != nil || told != "Bearer 0123456789abcdef" {
		t.Errorf("%q, %v", told, err)
	}
}
