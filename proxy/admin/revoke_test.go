package admin

import (
	"bufio"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"sidestream/config"
	"sidestream/proxy"
	"sidestream/proxy/upstream"
)

// guarded is a sidecar with a route that has AUTH, and one that has none.
func guarded(t *testing.T) (*proxy.Proxy, *httptest.Server) {
	t.Helper()
	legacy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-User", strings.TrimPrefix(r.Header.Get("Cookie"), "sid=secret-of-"))
		io.WriteString(w, `{"n":1}`)
	}))
	t.Cleanup(legacy.Close)
	c, err := config.Load([]string{"SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM=" + legacy.URL + "/{auth.X-User}", "SSE_ROUTE_A_AUTH=forward", "SSE_ROUTE_A_AUTH_URL=" + legacy.URL,
		"SSE_ROUTE_A_AUTH_CLAIMS=X-User", "SSE_ROUTE_B_PATH=/b", "SSE_ROUTE_B_FROM=" + legacy.URL}, config.ReadFile)
	if err != nil {
		t.Fatal(err)
	}
	p := proxy.New(c.Settings, slog.New(slog.DiscardHandler))
	s := httptest.NewServer(p)
	t.Cleanup(func() { s.CloseClientConnections(); s.Close(); p.Close(); upstream.CloseIdle() })
	return p, s
}

// revoke posts body to the port, with header fields, name and value in turns.
func revoke(h http.Handler, body string, header ...string) (int, string) {
	w := httptest.NewRecorder()
	r := httptest.NewRequest("POST", "/api/revoke", strings.NewReader(body))
	r.Host = "localhost:9091"
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	if r.Header.Get("Host") != "" {
		r.Host = r.Header.Get("Host")
	}
	h.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

func TestRevoke(t *testing.T) {
	p, s := guarded(t)
	h := Port{Proxy: p, Address: "127.0.0.1:9091"}.Handler()
	read := func(cookie string) *bufio.Reader {
		r, _ := http.NewRequest("GET", s.URL+"/a", nil)
		r.Header.Set("Cookie", "sid=secret-of-"+cookie)
		resp, err := http.DefaultClient.Do(r)
		if err != nil || resp.StatusCode != 200 {
			t.Fatal(resp, err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		in := bufio.NewReader(resp.Body)
		if line, err := in.ReadString('\n'); err != nil || !strings.HasPrefix(line, "retry: ") {
			t.Fatal(line, err)
		}
		return in
	}
	joe, twin, ann := read("joe"), read("joe"), read("ann")
	for name, test := range map[string]struct {
		body string
		head []string
		want int
	}{
		"nothing":           {"", nil, 400},
		"no condition":      {`{"route":"a"}`, nil, 400},
		"empty conditions":  {`{"route":"a","auth":{},"cookie":{}}`, nil, 400},
		"an empty value":    {`{"route":"a","auth":{"X-User":""}}`, nil, 400},
		"null":              {`{"route":"a","auth":{"X-User":null}}`, nil, 400},
		"a list":            {`{"route":"a","auth":{"X-User":["joe"]}}`, nil, 400},
		"an unknown route":  {`{"route":"x","auth":{"X-User":"joe"}}`, nil, 400},
		"without AUTH":      {`{"route":"b","cookie":{"sid":"secret-of-joe"}}`, nil, 400},
		"an unknown claim":  {`{"route":"a","auth":{"sub":"joe"}}`, nil, 400},
		"an unknown header": {`{"route":"a","header":{"X-Key":"secret-of-joe"}}`, nil, 400},
		"misspelt":          {`{"route":"a","cookies":{"sid":"secret-of-joe"}}`, nil, 400},
		"more":              {`{"route":"a","cookie":{"sid":"secret-of-joe"}} x`, nil, 400},
		"large":             {`{"route":"` + strings.Repeat("a", revokeMost) + `","cookie":{"sid":"secret-of-joe"}}`, nil, 400},
		"cross-site":        {`{"route":"a","cookie":{"sid":"secret-of-joe"}}`, []string{"Sec-Fetch-Site", "cross-site"}, 403},
		"same site":         {`{"route":"a","cookie":{"sid":"secret-of-joe"}}`, []string{"Sec-Fetch-Site", "same-site"}, 403},
		"another origin":    {`{"route":"a","cookie":{"sid":"secret-of-joe"}}`, []string{"Origin", "https://evil.example", "Content-Type", "text/plain"}, 403},
		"rebinding":         {`{"route":"a","cookie":{"sid":"secret-of-joe"}}`, []string{"Host", "evil.example", "Origin", "http://evil.example"}, 421},
		"nobody":            {`{"route":"a","cookie":{"sid":"secret-of-eve"}}`, nil, 200},
	} {
		status, body := revoke(h, test.body, test.head...)
		if status != test.want || strings.Contains(body, "secret-of") || status == 200 && body != "{\"cut\":0}\n" {
			t.Errorf("%s: %d %q, want %d", name, status, body, test.want)
		}
	}
	if status, _ := get(t, h, "/api/revoke"); status != 405 {
		t.Errorf("GET: %d", status)
	}
	if status, body := revoke(h, `{"route":"a","auth":{"X-User":"joe"}}`, "Sec-Fetch-Site", "same-origin", "Origin", "http://localhost:9091"); status != 200 || body != "{\"cut\":2}\n" {
		t.Errorf("%d %q", status, body)
	}
	for _, in := range []*bufio.Reader{joe, twin} {
		text, err := io.ReadAll(in)
		if !strings.Contains(string(text), "event: stream.refused\ndata: {\"status\":401}\n") || err == nil {
			t.Errorf("%q %v", text, err)
		}
	}
	if status, body := revoke(h, `{"header":{"cookie":"sid=secret-of-ann"}}`); status != 200 || body != "{\"cut\":1}\n" {
		t.Errorf("%d %q", status, body)
	}
	if text, err := io.ReadAll(ann); !strings.Contains(string(text), "stream.refused") || err == nil {
		t.Errorf("%q %v", text, err)
	}
	if _, metrics := get(t, h, "/metrics"); !strings.Contains(metrics, "sidestream_revoked_total{route=\"a\"} 3\n") || !strings.Contains(metrics, "sidestream_disconnects_total{reason=\"revoked\"} 3\n") {
		t.Error(metrics)
	}
}
