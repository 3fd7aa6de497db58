//go:build e2e

package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
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
		w.Header().Add("Set-Cookie", r.PathValue("name")+`={"x":1}; Path=/`)
		w.Header().Add("Set-Cookie", "hidden=1; Path=/ws/; HttpOnly")
		ws, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer ws.CloseNow()
		if r.PathValue("name") == "greets" {
			ws.Write(r.Context(), websocket.MessageText, []byte("one"))
			ws.Write(r.Context(), websocket.MessageText, []byte("two"))
		}
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
	sidecar, err := url.Parse("http://" + s.addr)
	if err != nil {
		t.Fatal(err)
	}
	slow := &httputil.ReverseProxy{FlushInterval: -1, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(sidecar); r.Out.Host = r.In.Host }}
	slow.ModifyResponse = func(r *http.Response) error {
		if r.Request.Method == "POST" {
			<-time.After(300 * time.Millisecond) // the event that says that it is open, on another connection, is there first
		}
		return nil
	}
	front := httptest.NewServer(slow)
	t.Cleanup(front.Close)
	inBrowsers(t, func(t *testing.T, b browser) {
		mu.Lock()
		cookies = nil
		mu.Unlock()
		b.open(t, front.URL+"/")
		b.eval(t, `talk("a", "/ws/a", "one"), talk("b", "/ws/b", "one")`)
		heard(t, b, "a", "open,one")
		heard(t, b, "b", "open,one")
		b.eval(t, `for (const name of ["a", "b"]) talks[name].ws.send("two"); ""`)
		heard(t, b, "a", "open,one,two")
		heard(t, b, "b", "open,one,two")
		// What is there before the page has the cookies comes as from a real WebSocket, each in a task of its own: the promises that
		// one event settles have run when the next one comes.
		b.eval(t, `talks.greeted = { log: [] }, talks.greeted.ws = Object.assign(new WebSocket("/ws/greets"), { async onopen() {
			for (let n = 0; n < 9; n++) await null;
			for (;;) {
				const { data } = await new Promise(done => this.onmessage = done);
				for (let n = 0; n < 9; n++) await null;
				talks.greeted.log.push(data, document.cookie.includes("greets=") ? "with its cookie" : "without");
			}
		} }), ""`)
		heard(t, b, "greeted", "one,with its cookie,two,with its cookie")
		mu.Lock()
		defer mu.Unlock()
		// The page itself has them, as early as it would have with a real WebSocket: when it hears that one is open.
		for _, name := range []string{"a", "b"} {
			if has := b.eval(t, fmt.Sprintf("talks.%s.cookie", name)); !strings.Contains(has, name+`={"x":1}`) {
				t.Errorf("the page had %q when %s was open, want its cookie", has, name)
			}
		}
		if has := b.eval(t, "document.cookie"); !strings.Contains(has, `a={"x":1}`) || !strings.Contains(has, `b={"x":1}`) || strings.Contains(has, "hidden") {
			t.Errorf("the page has %q, want what the answers have set but what is HttpOnly", has)
		}
		if len(cookies) != 3 || cookies[0] != "" || cookies[1] != `a={"x":1}; hidden=1` && cookies[1] != `b={"x":1}; hidden=1` { // whichever was first
			t.Errorf("came with %q, want the second with the first one's", cookies)
		}
	})
}
