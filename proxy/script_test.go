package proxy

import (
	"net/http"
	"testing"

	"golang.org/x/net/http/httpguts"
)

// Scripts are the sidecar's own, whatever the service has at their paths; any page may load them, those that are allowed
// may import them.
func TestScripts(t *testing.T) {
	f := newFeed(t)
	f.answer = func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusTeapot) }
	s := serve(t, "SSE_UPSTREAM="+f.URL, "SSE_TUNNEL=/ws", "SSE_CORS_ORIGINS=https://app.example")
	for _, c := range []struct {
		path, origin, site string
		status             int
		allowed            string
	}{
		{"/_sidestream/websocket.js", "", "same-origin", 200, ""},
		{"/_sidestream/websocket.js", "", "cross-site", 200, ""},
		{"/_sidestream/websocket.mjs", "https://app.example", "cross-site", 200, "https://app.example"},
		{"/_sidestream/events.mjs", "https://other.example", "cross-site", 200, ""},
		{"/_sidestream/hub.mjs", "https://app.example", "cross-site", 200, "https://app.example"},
		{"/_sidestream/events.src.js", "", "", 200, ""},
		{"/_sidestream/nothing.js", "", "", 404, ""},
	} {
		r, _ := http.NewRequest(http.MethodGet, "http://"+s.addr+c.path, nil)
		for name, value := range map[string]string{"Origin": c.origin, "Sec-Fetch-Site": c.site} {
			if value != "" {
				r.Header.Set(name, value)
			}
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got := resp.Header.Get("Access-Control-Allow-Origin"); resp.StatusCode != c.status || got != c.allowed {
			t.Errorf("%+v: status %d, allowed %q", c, resp.StatusCode, got)
		}
		if vary := resp.Header.Values("Vary"); c.status == 200 && !httpguts.HeaderValuesContainsToken(vary, "Origin") {
			t.Errorf("%s: Vary: %q", c.path, vary)
		}
	}
	http.DefaultClient.CloseIdleConnections()
}
