//go:build e2e

package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// TestTunnelOpensOneAfterTheOther, as browsers do with one host (RFC 6455, section 4.1): the second of two WebSockets that are opened
// at once reaches the service with the cookies that the answer to the first has set, and neither is lost for those that came meanwhile.
func TestTunnelOpensOneAfterTheOther(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var cookies []string
	mux := http.NewServeMux()
	mux.Handle("/modes.js", http.FileServer(http.Dir("servers/tunnel")))
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, `<!doctype html><link rel="icon" href="data:,"><script src="/_sidestream/websocket.js"></script><script src="/modes.js"></script>`)
	})
	mux.HandleFunc("/ws/{name}", func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		cookies = append(cookies, r.Header.Get("Cookie"))
		mu.Unlock()
		<-time.After(300 * time.Millisecond)
		w.Header().Set("Set-Cookie", r.PathValue("name")+`={"x":1}; Path=/`)
		ws, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer ws.CloseNow()
		for {
			kind, data, err := ws.Read(r.Context())
			if err != nil || ws.Write(r.Context(), kind, data) != nil {
				return
			}
		}
	})
	legacy := httptest.NewServer(mux)
	t.Cleanup(legacy.Close)
	s := startSidecar(t, "SSE_UPSTREAM="+legacy.URL, "SSE_TUNNEL=/ws/", "SSE_DRAIN=200ms")
	inBrowsers(t, func(t *testing.T, b browser) {
		mu.Lock()
		cookies = nil
		mu.Unlock()
		b.open(t, "http://"+s.addr+"/")
		b.eval(t, `talk("a", "/ws/a", "one"), talk("b", "/ws/b", "one")`)
		heard(t, b, "a", "open,one")
		heard(t, b, "b", "open,one")
		b.eval(t, `for (const name of ["a", "b"]) talks[name].ws.send("two"); ""`)
		heard(t, b, "a", "open,one,two")
		heard(t, b, "b", "open,one,two")
		mu.Lock()
		defer mu.Unlock()
		if len(cookies) != 2 || cookies[0] != "" || cookies[1] != `a={"x":1}` && cookies[1] != `b={"x":1}` { // whichever was first
			t.Errorf("came with %q, want the second with the first one's", cookies)
		}
	})
}
