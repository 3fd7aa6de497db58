package proxy

import (
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"sidestream/proxy/deliver"
)

// With COMPRESS=gzip who names gzip gets it, from streams, merged ones, sets and pages of tunnels; nobody else does, and a cache is told.
func TestCompress(t *testing.T) {
	f := newFeed(t)
	s := serve(t, routeEnv(f, "SSE_COMPRESS=gzip", "SSE_TUNNEL=/", "SSE_ROUTE_ALL_PATH=/all", "SSE_ROUTE_ALL_FROM=routes:a", "SSE_ROUTE_B_PATH=/b", "SSE_ROUTE_B_FROM="+f.ws()+"/ws",
		"SSE_ROUTE_B_COMPRESS=off")...)
	page := "/_sidestream/tunnel?page=" + strings.Repeat("p", 22)
	for _, c := range []struct {
		path, asks string
		zipped     bool
	}{
		{"/a", "gzip", true}, {"/a", "deflate, GZIP;q=0.5", true}, {"/a", "gzip;q=0, br", false}, {"/a", "br", false}, {"/a", "", false}, {"/a", "*", false},
		{"/b", "gzip", false}, {"/all", "gzip", true}, {setOf("/a"), "gzip", true}, {page, "gzip", true}, {page, "", false}, {"/a?poll=1", "gzip", false},
	} {
		for _, more := range []string{"", "Te: trailers"} { // past net/http where it can be, and not
			open := make(chan *http.Response, 1)
			go func() { // ends with the answer
				r, _ := http.NewRequestWithContext(t.Context(), "GET", "http://"+s.addr+c.path, nil)
				r.Header.Set("Accept", "text/event-stream")
				if c.asks != "" {
					r.Header.Set("Accept-Encoding", c.asks)
				}
				if name, value, ok := strings.Cut(more, ": "); ok {
					r.Header.Set(name, value)
				}
				resp, err := (&http.Transport{DisableCompression: true, DisableKeepAlives: true}).RoundTrip(r)
				if err != nil {
					t.Error(err)
				}
				open <- resp
			}()
			if strings.Contains(c.path, "poll") {
				f.publish(t, "", "waited for")
			}
			resp := <-open
			if resp == nil {
				t.FailNow()
			}
			polls := deliver.Polls(resp.Request)
			if got := resp.Header.Get("Content-Encoding") == "gzip"; got != c.zipped {
				t.Errorf("%s for %q: compressed is %v", c.path, c.asks, got)
			}
			if vary := strings.Join(resp.Header.Values("Vary"), ", "); strings.Contains(vary, "Accept-Encoding") != (c.path != "/b" && !polls) {
				t.Errorf("%s for %q varies by %q", c.path, c.asks, vary)
			}
			if resp.Header.Get("Cache-Control") != "no-cache, no-store, no-transform" {
				t.Error("a proxy may transform it")
			}
			var in io.Reader = resp.Body
			if c.zipped {
				zipped, err := gzip.NewReader(in)
				if err != nil {
					t.Fatal(err)
				}
				in = zipped
			}
			var ms int
			if n, err := fmt.Fscanf(in, "retry: %d\n", &ms); !polls && (n != 1 || err != nil) {
				t.Errorf("%s for %q begins with no hint: %v", c.path, c.asks, err)
			}
			resp.Body.Close()
		}
	}
}
