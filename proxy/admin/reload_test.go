package admin

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"sidestream/proxy"
)

// post posts nothing to the port, with header fields, name and value in turns.
func post(h http.Handler, path string, header ...string) *httptest.ResponseRecorder {
	w, r := httptest.NewRecorder(), httptest.NewRequest("POST", path, nil)
	r.Host = "localhost:9091"
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
		var s Status
		_, text := get(t, h, "/api/status")
		if err := json.Unmarshal([]byte(text), &s); err != nil || (s.Config.Error != "") != (test.failed != nil) || s.Config.Tried.Before(s.Config.Loaded) || s.Config.Loaded.IsZero() {
			t.Errorf("%+v, %v", s.Config, err)
		}
	}
	for _, path := range []string{"/api/reload"} {
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
