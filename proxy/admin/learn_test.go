package admin

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"sidestream/proxy"
	"sidestream/proxy/migrate"
	"sidestream/proxy/migrate/learn"
)

// TestLearned asks what was learned, which is for whoever may see the dashboard.
func TestLearned(t *testing.T) {
	base := &url.URL{Scheme: "http", Host: "legacy:3000"}
	l := learn.New(base, "")
	p := proxy.New(proxy.Settings{Upstream: base, Learner: l}, slog.New(slog.DiscardHandler))
	defer p.Close()
	h := l.Upgraded(httptest.NewRequest(http.MethodGet, "/ws", nil), nil)
	h.Hear(migrate.Message{At: time.Now(), Data: []byte(`{"n":1}`)})
	admin := Port{Proxy: p}.Handler()
	got := asks(admin, "GET", "/api/learn", here, "")
	var r learn.Report
	if err := json.Unmarshal(got.Body.Bytes(), &r); err != nil || got.Code != 200 {
		t.Fatalf("%d %v %s", got.Code, err, got.Body)
	}
	if len(r.Routes) != 1 || r.Routes[0].Get("FROM") != "ws://legacy:3000/ws" || r.Seen.Messages != 1 || !strings.Contains(r.Env, "SSE_UPSTREAM=http://legacy:3000\n") {
		t.Errorf("%+v", r)
	}
	if got := asks(admin, "GET", "/api/learn", elsewhere, ""); got.Code != 403 {
		t.Errorf("from elsewhere without a token: %d", got.Code)
	}
	without := proxy.New(proxy.Settings{Upstream: base}, slog.New(slog.DiscardHandler))
	defer without.Close()
	if got := asks(Port{Proxy: without}.Handler(), "GET", "/api/learn", here, ""); got.Code != 404 || !strings.Contains(got.Body.String(), "SSE_LEARN") {
		t.Errorf("without SSE_LEARN: %d %s", got.Code, got.Body)
	}
}
