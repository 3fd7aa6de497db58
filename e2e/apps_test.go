//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/evanw/esbuild/pkg/api"
)

// This file and apps_heavy_test.go hold the list of applications in proxy/web/README.md: each is driven as a person would, through an nginx
// that lets no WebSocket pass and puts the script's tag into the page, while all connections are cut again and again.

// startProxied starts a sidecar with a tunnel for prefixes in front of upstream, and an nginx in front of that which adds the tag to each
// page, as proxy/web/README.md says. It lets no WebSocket pass, as nginx does not by itself.
func startProxied(t *testing.T, upstream, prefixes string) (*recorder, *sidecar) {
	t.Helper()
	s := startSidecar(t, "SSE_UPSTREAM=http://"+upstream, "SSE_TUNNEL="+prefixes, "SSE_DRAIN=200ms")
	return startRecorder(t, runNginx(t, "", "proxy_pass http://"+s.addr+"; proxy_set_header Host $http_host; proxy_set_header Accept-Encoding ''; "+
		`sub_filter '<head>' '<head><script src="/_sidestream/websocket.js"></script>';`)), s
}

// anotherTab opens one in c's browser, in which a person could type: it believes that it has the focus.
func (c *chromium) anotherTab(t *testing.T) *chromium {
	t.Helper()
	ctx, stop := chromedp.NewContext(c.ctx)
	t.Cleanup(func() { chromedp.Cancel(ctx); stop() })
	if err := chromedp.Do(ctx); err != nil {
		t.Fatal(err)
	}
	other := &chromium{ctx}
	for _, tab := range []*chromium{c, other} {
		if _, err := chromedp.Call(tab.ctx, emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true}); err != nil {
			t.Fatal(err)
		}
	}
	return other
}

// types types as a person does: each key is one event that bears its text. With keys a text is an event beside its key's, which terminals
// in pages take for a second one.
func (c *chromium) types(t *testing.T, text string) {
	t.Helper()
	for _, r := range text {
		var down *input.DispatchKeyEventParams
		for _, event := range kb.Encode(r) {
			switch event.Type {
			case kb.KeyDown:
				down = event
				continue
			case kb.KeyChar:
				down.Text, down.UnmodifiedText = event.Text, event.UnmodifiedText
				continue
			}
			for _, one := range []*input.DispatchKeyEventParams{down, event} {
				if _, err := chromedp.Call(c.ctx, input.DispatchKeyEvent, *one); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// cuttingPosts cuts all of r's connections like cutting, but where it can while a POST of the page is under way: what becomes of that, the page cannot
// know. One that sends nothing for a while is cut all the same.
func cuttingPosts(r *recorder) (stop func() (cuts int)) {
	posts := func() (n int) {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, request := range r.requests {
			if request.Method == "POST" && strings.HasPrefix(request.URL.Path, "/_sidestream/tunnel/") {
				n++
			}
		}
		return n
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	cuts := 0
	running.Go(func() { // ends with stop
		look := time.NewTicker(time.Millisecond)
		defer look.Stop()
		seen, since, cut, sent := 0, time.Now(), 0, 0
		for {
			select {
			case now := <-look.C:
				n := len(r.to("/_sidestream/tunnel"))
				if n > seen {
					seen, since = n, now
				}
				if n == cut || now.Sub(since) < time.Second {
					sent = posts()
				} else if posts() > sent || now.Sub(since) > 2*time.Second {
					cut = n
					r.cut()
					cuts++
				}
			case <-ctx.Done():
				return
			}
		}
	})
	return func() int { cancel(); running.Wait(); return cuts }
}

// appState is what a page of servers/apps shows: lost counts the WebSockets that it has seen end.
type appState struct {
	Open  bool
	Lost  int
	Shown string
}

func (c *chromium) state(t *testing.T) (s appState) {
	t.Helper()
	if err := json.Unmarshal([]byte(c.eval(t, "JSON.stringify(window.state())")), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// showsAll waits until the page shows this, and nothing else.
func (c *chromium) showsAll(t *testing.T, want string) {
	t.Helper()
	var s appState
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if s = c.state(t); s.Shown == want {
			return
		}
	}
	t.Fatalf("the page shows %q, want %q", s.Shown, want)
}

// whileCutting repeats step until the connections have been cut so many times, and fails if the page has noticed.
func (c *chromium) whileCutting(t *testing.T, r *recorder, cuts int, step func(n int)) {
	t.Helper()
	eventually(t, "the page to be connected", func() bool { return c.state(t).Open })
	stop := cuttingPosts(r)
	begun := len(r.to("/_sidestream/tunnel"))
	n := 0
	for ; len(r.to("/_sidestream/tunnel")) < begun+cuts; n++ {
		step(n)
	}
	t.Logf("%d steps, %d cuts", n, stop())
	if s := c.state(t); s.Lost != 0 {
		t.Errorf("the page has seen %d WebSockets end, want none", s.Lost)
	}
	for _, path := range []string{"/terminal", "/mqtt", "/connection/websocket", "/yjs/room"} {
		if n := r.upgrades(path); n != 0 {
			t.Errorf("%d real WebSockets on %s", n, path)
		}
	}
}

func TestTunnelApplications(t *testing.T) {
	t.Parallel()
	bundles := t.TempDir()
	made := api.Build(api.BuildOptions{EntryPoints: []string{"servers/apps/yjs.js"}, Bundle: true, Outdir: bundles, Write: true, Format: api.FormatIIFE})
	if len(made.Errors) > 0 {
		t.Fatal(made.Errors[0].Text)
	}
	centrifugo := startCentrifugoWith(t, strings.Replace(centrifugoConfig, `"ping_interval":"1s","pong_timeout":"700ms",`, "", 1))
	port := func(addr string) string { _, p, _ := strings.Cut(addr, ":"); return p }
	addr := freeAddr(t)
	launch(t, nil, "node", "servers/apps/server.mjs", port(addr), port(startMosquitto(t, "allow_anonymous true").ws), port(centrifugo.addr), bundles)
	eventually(t, "the applications", func() bool { return status("http://"+addr+"/yjs.html") == 200 })
	r, _ := startProxied(t, addr, "/yjs,/terminal,/mqtt,/connection/websocket")
	c := startChromium(t)

	t.Run("yjs", func(t *testing.T) {
		other := c.anotherTab(t)
		for _, tab := range []*chromium{c, other} {
			tab.open(t, "http://"+r.addr()+"/yjs.html")
		}
		eventually(t, "both to be there", func() bool { return c.state(t).Open && other.state(t).Open })
		want := ""
		c.whileCutting(t, r, 6, func(n int) { // both are cut: three times each
			tab, text := c, fmt.Sprintf("line %d ", n)
			if n%2 == 1 {
				tab, text = other, fmt.Sprintf("and %d from the other tab ", n)
			}
			want += text
			tab.eval(t, `getSelection().selectAllChildren(document.querySelector(".ql-editor")), getSelection().collapseToEnd(), ""`)
			tab.types(t, text)
			c.showsAll(t, want+"\n")
			other.showsAll(t, want+"\n")
		})
		if s := other.state(t); s.Lost != 0 {
			t.Errorf("the other tab has seen %d WebSockets end", s.Lost)
		}
		c.screenshot(t, "app-yjs")
		other.open(t, "about:blank")
	})
	t.Run("terminal", func(t *testing.T) {
		c.open(t, "http://"+r.addr()+"/terminal.html")
		c.showsAll(t, "$")
		want := "$ "
		c.whileCutting(t, r, 3, func(n int) {
			c.types(t, fmt.Sprintf("echo %d $((%d * 7))\r", n, n))
			want += fmt.Sprintf("echo %d $((%d * 7))\n%d %d\n$ ", n, n, n, n*7)
			c.showsAll(t, strings.TrimRight(want, " "))
		})
		c.screenshot(t, "app-terminal")
		stop := cuttingPosts(r)
		c.types(t, "seq 5000\r")
		want += "seq 5000\n"
		for n := range 5000 {
			want += fmt.Sprintln(n + 1)
		}
		c.showsAll(t, want+"$")
		c.types(t, "exit\r") // not before: node-pty waits 200 ms for what a shell that has ended has written
		eventually(t, "the shell to end", func() bool { return c.state(t).Lost == 1 })
		stop()
	})
	for _, name := range []string{"mqtt", "centrifuge"} {
		t.Run(name, func(t *testing.T) {
			c.open(t, "http://"+r.addr()+"/"+name+".html")
			var want []string
			c.whileCutting(t, r, 3, func(n int) {
				for i := range 3 { // without waiting for the one before
					text := fmt.Sprintf("message %d.%d", n, i)
					want = append(want, text)
					c.types(t, text+"\r")
				}
				c.showsAll(t, strings.Join(want, "\n"))
			})
			c.screenshot(t, "app-"+name)
		})
	}
}
