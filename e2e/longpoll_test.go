//go:build e2e

package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
)

// startHoarder is a proxy that keeps every answer until it has all of it, head included: what antivirus programs and old proxies do.
func startHoarder(t *testing.T, target string) string {
	t.Helper()
	back := &url.URL{Scheme: "http", Host: target}
	p := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(back); r.Out.Host = r.In.Host }, ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(502) },
		ModifyResponse: func(resp *http.Response) error {
			if resp.StatusCode == http.StatusSwitchingProtocols {
				return nil
			}
			all, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			resp.Body = io.NopCloser(strings.NewReader(string(all)))
			return err
		}}
	s := httptest.NewServer(p)
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	return s.Listener.Addr().String()
}

// startBufferingLighttpd is lighttpd as it comes: it holds an answer until it is complete.
func startBufferingLighttpd(t *testing.T, target string) string {
	return front(t, target, `
server.document-root = "%[6]s"
server.bind = "127.0.0.1"
server.port = %[2]s
server.modules = ( "mod_proxy" )
proxy.server = ( "" => ( ( "host" => "%[4]s", "port" => "%[5]s" ) ) )
`, "lighttpd", "-D", "-f", "%[6]s/conf")
}

const pollPage = `<!doctype html><script src="/_sidestream/events.js"></script><script>
const seen = [], gaps = [];
const source = new SidestreamEventSource("/ticks", { gap: g => gaps.push(g) });
for (const type of ["tick", "message"]) source.addEventListener(type, e => seen.push(JSON.parse(e.data).n));
</script>`

// TestHeldBack: where something on the way holds events until the answer is complete, the script goes on with long polls, loses nothing, and has
// each event before the next one is sent. The sidecar tells the operator.
func TestHeldBack(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(*testing.T, string) string{"a proxy that keeps all": startHoarder, "lighttpd as it comes": startBufferingLighttpd} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := startFeed(t, map[string]string{"/poll.html": pollPage})
			s := startSidecar(t, feedEnv(f)...)
			addr := start(t, s.addr)
			for kind, b := range map[string]browser{"chromium": startChromium(t), "firefox": startFirefox(t)} { // each finds it out
				b.open(t, "http://"+addr+"/poll.html")
				eventually(t, "the first poll to be answered", func() bool { return b.eval(t, `String(source.readyState)`) == "1" })
				first := f.tick(t)
				shown(t, b, "the first event", `seen.length === 1`)
				for i := range 20 {
					f.tick(t)
					shown(t, b, fmt.Sprintf("event %d in %s", i+2, kind), fmt.Sprintf(`seen.length === %d`, i+2))
				}
				b.eval(t, `source.close(), ""`)
				if got := b.eval(t, `JSON.stringify([seen.every((n, i) => !i || n === seen[i - 1] + 1), gaps.length])`); got != "[true,0]" {
					t.Errorf("%s: %s after %s: %s", kind, got, first, b.eval(t, `JSON.stringify(seen)`))
				}
			}
			metrics := body(t, "http://"+s.admin+"/metrics")
			if !strings.Contains(metrics, `sidestream_held_back_total{route="ticks"} 2`) {
				t.Errorf("counted: %s", linesWith(metrics, "held_back"))
			}
			if live := firstEvents(t, "http://"+s.admin+"/api/live", 4); !strings.Contains(live, "events held back from 2 pages") {
				t.Errorf("the operator is not told: %s", live)
			}
			if polls := linesWith(metrics, `disconnects_total{reason="polled"}`); strings.HasSuffix(strings.TrimSpace(polls), " 0") {
				t.Errorf("%s", polls)
			}
		})
	}
}

// The tunnel, too: what conforms through a sidecar conforms through a proxy that keeps all, from the browser's WebSocket on.
func TestHeldBackTunnel(t *testing.T) {
	t.Parallel()
	addr := startTunnelServer(t, "")
	s := startSidecar(t, "SSE_UPSTREAM=http://"+addr, "SSE_TUNNEL=/echo/,/nothing", "SSE_DRAIN=200ms")
	through := startHoarder(t, s.addr)
	inBrowsers(t, func(t *testing.T, b browser) { conforms(t, b, through) })
	if metrics := body(t, "http://"+s.admin+"/metrics"); !strings.Contains(metrics, "sidestream_tunnel_held_back_total 2") {
		t.Errorf("counted: %s", linesWith(metrics, "held_back"))
	}
}

// A page that nobody sees lets go after a while, and goes on from where it was when it is shown; one that asks to keep its connection does.
func TestHiddenPageLetsGo(t *testing.T) {
	t.Parallel()
	f := startFeed(t, map[string]string{"/hidden.html": `<!doctype html><script>
const native = setTimeout; window.setTimeout = (f, ms, ...more) => native(f, ms === 300000 ? 200 : ms, ...more);
let hidden = false; Object.defineProperty(document, "hidden", { get: () => hidden });
const turn = to => { hidden = to; document.dispatchEvent(new Event("visibilitychange")); };
</script><script src="/_sidestream/events.js"></script><script>
const seen = [], kept = [], gaps = [];
const source = new SidestreamEventSource("/ticks", { gap: g => gaps.push(g) }), keeper = new SidestreamEventSource("/ticks", { hidden: "keep", shared: false });
source.addEventListener("tick", e => seen.push(JSON.parse(e.data).n)); keeper.addEventListener("tick", e => kept.push(JSON.parse(e.data).n));
</script>`})
	s := startSidecar(t, feedEnv(f)...)
	inBrowsers(t, func(t *testing.T, b browser) {
		b.open(t, "http://"+s.addr+"/hidden.html")
		shown(t, b, "both open", `source.readyState === 1 && keeper.readyState === 1`)
		f.tick(t)
		shown(t, b, "the first event", `seen.length === 1 && kept.length === 1`)
		b.eval(t, `turn(true), ""`)
		shown(t, b, "that it has let go", `source.readyState === 0`)
		f.tick(t)
		f.tick(t)
		shown(t, b, "that the other has not", `kept.length === 3 && seen.length === 1`)
		b.eval(t, `turn(false), ""`)
		shown(t, b, "what it has missed", `seen.length === 3 && source.readyState === 1`)
		b.eval(t, `turn(true), turn(false), ""`)
		f.tick(t)
		shown(t, b, "that a moment is no reason", `seen.length === 4 && kept.length === 4 && seen.join() === kept.join() && gaps.length === 0`)
		b.eval(t, `source.close(), keeper.close(), ""`)
	})
}

// An answer that is no event stream is told to the console, once, and is given up after three more.
func TestEventsScriptIsAnsweredOtherwise(t *testing.T) {
	t.Parallel()
	f := startFeed(t, map[string]string{"/odd.html": `<!doctype html><script>const said = []; console.warn = text => said.push(text);</script>
<script src="/_sidestream/events.js"></script><script>const source = new SidestreamEventSource("/other.html");</script>`, "/other.html": "<p>please log in"})
	s := startSidecar(t, feedEnv(f)...)
	inBrowsers(t, func(t *testing.T, b browser) {
		b.open(t, "http://"+s.addr+"/odd.html")
		shown(t, b, "that it has given up", `source.readyState === 2`)
		const asked = `performance.getEntriesByType("resource").filter(e => e.name.includes("/other.html")).length`
		shown(t, b, "all its requests", asked+" > 3") // a browser notes one a little after it is over
		if got := b.eval(t, `JSON.stringify([said.length, said[0].includes("/other.html is answered with text/html"), `+asked+`])`); got != "[1,true,4]" {
			t.Error(got)
		}
	})
}

// linesWith are the lines of text that contain a part.
func linesWith(text, part string) string {
	var all []string
	for line := range strings.Lines(text) {
		if strings.Contains(line, part) && !strings.HasPrefix(line, "#") {
			all = append(all, line)
		}
	}
	return strings.Join(all, "")
}

// firstEvents is the data of the first so many events.
func firstEvents(t *testing.T, url string, n int) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var all strings.Builder
	buf := make([]byte, 64<<10)
	for strings.Count(all.String(), "\n\n") < n {
		k, err := resp.Body.Read(buf)
		all.Write(buf[:k])
		if err != nil {
			t.Fatal(err)
		}
	}
	return all.String()
}
