package proxy

import (
	"io"
	"strings"
	"testing"
	"time"

	"sidestream/proxy/access"
)

// Whatever it is for which the sidecar sends a client away, whoever has sent a POST cannot take it for the end of the answer.
func TestRunIsNotWholeWhenSentAway(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(t *testing.T, s *sidecar){
		"drained": func(t *testing.T, s *sidecar) { s.Drain(0) },
		"removed": func(t *testing.T, s *sidecar) {
			s.reload(t, "", "SSE_ROUTE_B_PATH=/b", "SSE_ROUTE_B_FROM=ws://127.0.0.1:1/")
		},
		"revoked": func(t *testing.T, s *sidecar) {
			if n, err := s.Revoke(access.Revocation{Route: "a", Cookie: map[string]string{"s": "1"}, At: time.Now()}); err != nil || n != 1 {
				t.Errorf("%d %v", n, err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			m, app := newModel(t), newApp(t, map[string]string{"s=1": "joe"})
			s := serve(t, runEnv(m, "SSE_ROUTE_A_AUTH=forward", "SSE_ROUTE_A_AUTH_URL="+app.URL, "SSE_DRAIN=100ms")...)
			r, at := s.starts(t, "{}", "Cookie: s=1")
			a := <-m.asks
			a.say <- "data: 1\n\n"
			r.wantNext(t, "", "1")
			go end(t, s)
			if text, err := r.rest(); err == io.EOF || strings.Contains(text, "event:") {
				t.Errorf("%q, ended with %v", text, err)
			}
			if name == "removed" {
				eventually(t, "the end upstream", func() bool {
					select {
					case <-a.gone:
						return true
					default:
						return false
					}
				})
				if status, _ := s.status(t, "GET "+at, "Cookie: s=1"); status != 404 {
					t.Errorf("the run of a route that is not there: %d", status)
				}
			}
		})
	}
}
