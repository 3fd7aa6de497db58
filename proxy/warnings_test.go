package proxy

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// lined are lines of a log.
type lined struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lined) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

// with are the values of a key in lines with this message.
func (l *lined) with(message, key string) (all []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.buf.String()) {
		var one map[string]any
		if json.Unmarshal([]byte(line), &one) == nil && strings.Contains(one["msg"].(string), message) {
			text, _ := one[key].(string)
			all = append(all, text)
		}
	}
	return all
}

// A request that comes back to the sidecar is refused before it has used up what there is.
func TestCircles(t *testing.T) {
	requests := 0
	var mu sync.Mutex
	var p *Proxy
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		requests++
		mu.Unlock()
		p.ServeHTTP(w, r)
	}))
	defer s.Close()
	var lines lined
	to, _ := url.Parse(s.URL)
	c := configure(t, "SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM=ws://127.0.0.1:1/")
	c.Upstream = to
	p = New(c, slog.New(slog.NewJSONHandler(&lines, nil)))
	defer p.Close()
	for _, head := range []http.Header{{}, {"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"AAAAAAAAAAAAAAAAAAAAAA=="}}} {
		r, _ := http.NewRequest("GET", s.URL+"/x", nil)
		r.Header = head
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusLoopDetected || !strings.Contains(string(text), "SSE_UPSTREAM") {
			t.Errorf("%d %s", resp.StatusCode, text)
		}
	}
	if requests > 2*(maxHops+1) || requests < 2*maxHops {
		t.Errorf("%d requests", requests)
	}
	if got := lines.with("goes round in circles", "path"); len(got) != 1 || got[0] != "/x" {
		t.Errorf("%q", got)
	}
}

// What a page's developer looks for in vain is in the log, without what is secret, and once.
func TestWarnings(t *testing.T) {
	f := newFeed(t)
	f.answer = jsonAnswer("the service's")
	var lines lined
	s := serveWith(t, configure(t, routeEnv(f, "SSE_ROUTE_PRICES_PATH=/events/prices", "SSE_ROUTE_PRICES_FROM="+f.ws()+"/ws")...), slog.New(slog.NewJSONHandler(&lines, nil)))
	token := "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N"
	for range 3 {
		s.get(t, "/event/price?token=hunter2")
		if got := s.get(t, "/a", "Origin: https://app.example", "Sec-Fetch-Site: cross-site"); got.StatusCode != 403 {
			t.Errorf("%d", got.StatusCode)
		}
	}
	if got := lines.with("has no route", "path"); len(got) != 1 || got[0] != "/event/price" {
		t.Errorf("%q", got)
	}
	if got := lines.with("has no route", "nearest"); len(got) != 1 || got[0] != "/events/prices" {
		t.Errorf("%q", got)
	}
	if got := lines.with("SSE_CORS_ORIGINS", "origin"); len(got) != 1 || got[0] != "https://app.example" {
		t.Errorf("%q", got)
	}
	other := serveWith(t, configure(t, routeEnv(f)...), slog.New(slog.NewJSONHandler(&lines, nil)))
	other.get(t, "/x/"+token+strings.Repeat("/y", 300))
	other.ask(t, "GET /plain HTTP/1.1")
	if got := lines.with("has no route", "path"); len(got) != 2 || strings.Contains(got[1], "eyJ") || len(got[1]) > 210 {
		t.Errorf("%q", got)
	}
}

// What is under the sidecar's own path is never the service's.
func TestOwnPath(t *testing.T) {
	f := newFeed(t)
	f.answer = jsonAnswer("the service's")
	s := serve(t, routeEnv(f)...)
	for _, path := range []string{"/_sidestream/", "/_sidestream/none", "/_sidestream/ticket", "/_sidestream/tunnel"} {
		for _, method := range []string{"GET", "POST"} {
			if got := s.ask(t, method+" "+path+" HTTP/1.1", "Content-Length: 0"); got.StatusCode != 404 {
				t.Errorf("%s %s: %d", method, path, got.StatusCode)
			}
		}
	}
	if got := s.ask(t, "GET /_sidestream/events.js HTTP/1.1"); got.StatusCode != 200 {
		t.Errorf("%d", got.StatusCode)
	}
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"/a", "/a", 0}, {"/A", "/a", 0}, {"/events/price", "/events/prices", 1}, {"abc", "", 3}, {"kitten", "sitting", 3}} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("%s, %s: %d", c.a, c.b, got)
		}
	}
}
