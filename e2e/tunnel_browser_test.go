//go:build e2e

package e2e

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/heapprofiler"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
)

// startTunnelServer runs servers/tunnel/server.mjs and returns its address. stomp is the address of a broker's WebSockets, "" none.
func startTunnelServer(t *testing.T, stomp string) string {
	t.Helper()
	addr := freeAddr(t)
	_, port, _ := strings.Cut(addr, ":")
	args := []string{"servers/tunnel/server.mjs", port}
	if _, port, ok := strings.Cut(stomp, ":"); ok {
		args = append(args, port)
	}
	launch(t, nil, "node", args...)
	eventually(t, "the servers behind the tunnel", func() bool { return status("http://"+addr+"/conform.html") == 200 })
	return addr
}

// inBrowsers runs f in Chromium and in Firefox.
func inBrowsers(t *testing.T, f func(t *testing.T, b browser)) {
	t.Run("chromium", func(t *testing.T) { f(t, startChromium(t)) })
	t.Run("firefox", func(t *testing.T) { f(t, startFirefox(t)) })
}

// The interface is the browser's own: the same sequence of errors, events and states from both, in one page.
func TestTunnelConforms(t *testing.T) {
	t.Parallel()
	addr := startTunnelServer(t, "")
	s := startSidecar(t, "SSE_UPSTREAM=http://"+addr, "SSE_TUNNEL=/echo/,/nothing", "SSE_DRAIN=200ms")
	inBrowsers(t, func(t *testing.T, b browser) { conforms(t, b, s.addr) })
	t.Run("webkit", func(t *testing.T) { conforms(t, startWebKit(t), s.addr) })
}

// conforms runs the page that compares both in b, against the sidecar at addr.
func conforms(t *testing.T, b browser, addr string) {
	t.Helper()
	b.open(t, "http://"+addr+"/conform.html")
	var outcome struct {
		Differ  []string
		Lines   int
		Kept    bool
		Foreign string
	}
	eventually(t, "the page to be done", func() bool {
		text := b.eval(t, "JSON.stringify(window.outcome || null)")
		return text != "null" && json.Unmarshal([]byte(text), &outcome) == nil
	})
	for _, one := range outcome.Differ {
		t.Error(one)
	}
	if outcome.Lines < 220 || !outcome.Kept {
		t.Errorf("%d lines compared, nothing replaced: %v", outcome.Lines, outcome.Kept)
	}
	if !strings.HasSuffix(outcome.Foreign, "SyntaxError,true,true,false") {
		t.Errorf("outside of the prefixes: %s", outcome.Foreign)
	}
}

// heard waits until a talk of the page modes.js has heard all this, one after the other.
func heard(t *testing.T, b browser, name, want string) {
	t.Helper()
	got := ""
	eventually(t, name+" to hear "+want, func() bool {
		got = b.eval(t, fmt.Sprintf("(talks[%q] || { log: [] }).log.join()", name))
		return strings.HasPrefix(got, want)
	})
	if got != want {
		t.Errorf("%s: %s, want %s", name, got, want)
	}
}

// talk begins one.
func talk(t *testing.T, b browser, name, url, text string) {
	t.Helper()
	b.eval(t, fmt.Sprintf("talk(%q, %q, %q)", name, url, text))
}

// upgrades counts the requests for WebSockets on path.
func (r *recorder) upgrades(path string) (n int) {
	for _, req := range r.to(path) {
		if req.Header.Get("Upgrade") != "" {
			n++
		}
	}
	return n
}

// What the tag's data-mode says: tunnels always, or only where WebSockets do not work, which is remembered.
func TestTunnelModes(t *testing.T) {
	t.Parallel()
	addr := startTunnelServer(t, "")
	s := startSidecar(t, "SSE_UPSTREAM=http://"+addr, "SSE_TUNNEL=/echo,/hang,/farewell", "SSE_DRAIN=200ms")
	inBrowsers(t, func(t *testing.T, b browser) {
		direct, blocked := startRecorder(t, s.addr), startRecorder(t, startNginx(t, s.addr))

		b.open(t, "http://"+direct.addr()+"/fallback.html")
		talk(t, b, "works", "/echo", "x")
		heard(t, b, "works", "open,x")
		talk(t, b, "other", "/echoes", "")
		heard(t, b, "other", "error,close 1006")
		if direct.upgrades("/echo") != 1 || len(direct.to("/_sidestream/tunnel")) != 0 {
			t.Error("the real WebSocket works, but was not used")
		}
		b.eval(t, `talks.works.ws.binaryType = "arraybuffer", talks.works.ws.send("close:4003:bye"), ""`)
		heard(t, b, "works", "open,x,close 4003")
		// The first one is never answered: after 3 s the tunnel takes its place.
		talk(t, b, "hangs", "/hang?"+rand.Text(), "x")
		heard(t, b, "hangs", "open,x")
		talk(t, b, "next", "/echo?next", "x")
		heard(t, b, "next", "open,x")
		if n := direct.upgrades("/echo"); n != 1 {
			t.Errorf("%d upgrades: what did not work once is tried again", n)
		}

		b.open(t, "http://"+blocked.addr()+"/fallback.html")
		talk(t, b, "blocked", "/echo", "x")
		heard(t, b, "blocked", "open,x")
		b.open(t, "http://"+blocked.addr()+"/fallback.html") // in the same session
		talk(t, b, "again", "/echo", "x")
		heard(t, b, "again", "open,x")
		if n := blocked.upgrades("/echo"); n != 1 {
			t.Errorf("%d upgrades, want the first one only", n)
		}

		// It opens, and dies before the first message: that is shown, and the next one is a tunnel. Its like is not.
		other := startRecorder(t, s.addr)
		b.open(t, "http://"+other.addr()+"/fallback.html")
		talk(t, b, "dies", "/echo?die", "")
		eventually(t, "it to die", func() bool { return strings.Contains(b.eval(t, "talks.dies.log.join()"), "close 1006") })
		talk(t, b, "after", "/echo", "x")
		heard(t, b, "after", "open,x")
		if n := other.upgrades("/echo"); n != 1 {
			t.Errorf("%d upgrades, want the one that died", n)
		}

		b.open(t, "http://"+blocked.addr()+"/always.html")
		talk(t, b, "tunnel", "/echo", "x")
		heard(t, b, "tunnel", "open,x")
		talk(t, b, "native", "/echoes", "")
		heard(t, b, "native", "error,close 1006")
		b.eval(t, `work("/echo", "from a worker")`)
		heard(t, b, "worker", "from a worker,3000 enough")
		if problems := b.eval(t, "problems.join()"); problems != "" {
			t.Error(problems)
		}
		if n := blocked.upgrades("/echo"); n != 1 {
			t.Errorf("%d upgrades: data-mode=always tries none", n)
		}
	})
}

// A page that goes away says so, with what it has not sent yet. One that returns from the browser's cache, or whose
// sidecar has been started anew, finds its tunnels lost, and can open others.
func TestTunnelLeaves(t *testing.T) {
	t.Parallel()
	addr := startTunnelServer(t, "")
	farewell := func(t *testing.T, want string) {
		t.Helper()
		eventually(t, "the upstream to hear "+want, func() bool {
			resp, err := plain.Get("http://" + addr + "/farewells")
			if err != nil {
				return false
			}
			defer resp.Body.Close()
			body, _ := io.ReadAll(resp.Body)
			return strings.Contains(string(body), want)
		})
	}
	inBrowsers(t, func(t *testing.T, b browser) {
		s := startSidecar(t, "SSE_UPSTREAM=http://"+addr, "SSE_TUNNEL=/", "SSE_DRAIN=200ms", "SSE_LINGER=10m")
		front := startNginx(t, s.addr)
		b.open(t, "http://"+front+"/always.html")
		talk(t, b, "page", "/farewell", "x")
		heard(t, b, "page", "open,x")
		last := rand.Text()
		b.eval(t, fmt.Sprintf(`for (let n = 0; n < 100; n++) talks.page.ws.send("say " + n); talks.page.ws.send(%q); location = "/elsewhere.html?%s"; ""`, last, last))
		farewell(t, last+" 1001")
		farewell(t, "arrived "+last)

		// More than browsers take along from a page that goes away: it says at least that it does.
		b.open(t, "http://"+front+"/always.html")
		last = rand.Text()
		talk(t, b, "much", "/farewell", last)
		heard(t, b, "much", "open,"+last)
		b.eval(t, fmt.Sprintf(`talks.much.ws.send(%q.repeat(4000)); dispatchEvent(new PageTransitionEvent("pagehide")); ""`, last))
		farewell(t, last+" 1001")

		b.open(t, "http://"+front+"/always.html")
		talk(t, b, "cached", "/farewell", "")
		heard(t, b, "cached", "open")
		last = rand.Text()
		b.eval(t, fmt.Sprintf(`talks.cached.ws.send(%q); dispatchEvent(new PageTransitionEvent("pagehide", { persisted: true })); ""`, last))
		farewell(t, last+" 1001")
		b.eval(t, `dispatchEvent(new PageTransitionEvent("pageshow", { persisted: true })); ""`)
		eventually(t, "it to be lost", func() bool { return strings.HasSuffix(b.eval(t, "talks.cached.log.join()"), "open,close 1006") })
		talk(t, b, "anew", "/echo", "x")
		heard(t, b, "anew", "open,x")

		s.drain(t)
		heard(t, b, "anew", "open,x,close 1006")
		s.start(t)
		talk(t, b, "restarted", "/echo", "x")
		heard(t, b, "restarted", "open,x")
	})
}

// cutting cuts all of r's connections, each time that the page's event stream was asked for a second ago, until stop.
func cutting(r *recorder) (stop func() (cuts int)) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	cuts := 0
	running.Go(func() { // ends with stop
		look := time.NewTicker(50 * time.Millisecond)
		defer look.Stop()
		seen, since, cut := 0, time.Now(), 0
		for {
			select {
			case now := <-look.C:
				n := len(r.to("/_sidestream/tunnel"))
				if n > seen {
					seen, since = n, now
				}
				if n > cut && now.Sub(since) >= time.Second {
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

// Unmodified clients send and receive thousands of messages in order while all connections are cut every second,
// through nginx as it is installed, which lets no WebSocket pass.
func TestTunnelClients(t *testing.T) { // not beside others: it takes all that the machine has
	const count = 10000
	addr := startTunnelServer(t, startRabbit(t).stomp)
	s := startSidecar(t, "SSE_UPSTREAM=http://"+addr, "SSE_TUNNEL=/socket.io,/graphql,/live,/ws,/count", "SSE_DRAIN=200ms")
	inBrowsers(t, func(t *testing.T, b browser) {
		r := startRecorder(t, startNginx(t, s.addr))
		b.open(t, fmt.Sprintf("http://%s/clients.html?count=%d", r.addr(), count))
		stop := cutting(r)
		for done, more := "0", true; more; { // each gets its time
			eventually(t, "another client to be through, after "+done, func() bool {
				now := b.eval(t, "errors.length + closes.length > 0 ? '5' : String(done)")
				more = now != "5"
				return now != done || !more
			})
			done = b.eval(t, "String(done)")
		}
		cuts := stop()
		if problems := b.eval(t, "[...errors, ...closes].join()"); problems != "" {
			t.Errorf("errors and closes: %s", problems)
		}
		var result map[string]struct{ Up, Down int }
		if err := json.Unmarshal([]byte(b.eval(t, "JSON.stringify(result)")), &result); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"socket.io", "graphql-ws", "phoenix", "stompjs", "reconnecting-websocket"} {
			if got := result[name]; got.Up != count || got.Down != count {
				t.Errorf("%s: %+v, want %d each way in order", name, got, count)
			}
		}
		streams := len(r.to("/_sidestream/tunnel"))
		if cuts < 3 || streams < cuts || streams > 2*cuts+1 { // one that is cut early is asked for twice
			t.Errorf("%d cuts, %d event streams: want one for all tunnels, opened again after each cut", cuts, streams)
		}
		t.Logf("%d messages each way, five clients, %d cuts, %d event streams", count, cuts, streams)
	})
}

// Tabs share one connection; whoever holds it may die, and it may be cut, at any moment: the others see every event once
// and in order.
func TestEventsShared(t *testing.T) {
	t.Parallel()
	addr := startTunnelServer(t, "")
	inBrowsers(t, func(t *testing.T, b browser) {
		f := startFeed(t, nil)
		env := append(feedEnv(f), "SSE_UPSTREAM=http://"+addr, "SSE_ROUTE_TICKS_HEARTBEAT=1s", "SSE_ROUTE_TICKS_RETRY=200ms")
		s := startSidecar(t, env...)
		r := startRecorder(t, s.addr)
		b.open(t, "http://"+r.addr()+"/shared.html")
		tick := func(n int) {
			for range n {
				f.tick(t)
			}
		}
		all := func(names ...string) {
			t.Helper()
			for _, name := range names {
				eventually(t, name+" to see the last tick", func() bool {
					return b.eval(t, fmt.Sprintf("String(tabs.%s.seen.at(-1))", name)) == fmt.Sprint(f.said)
				})
			}
			if wrong := b.eval(t, "Object.keys(tabs).map(whole).join('')"); wrong != "" {
				t.Errorf("not each event once and in order: %s", wrong)
			}
		}
		shared := func(what string) {
			t.Helper()
			eventually(t, "one connection, "+what, func() bool { return metric(t, s, `sidestream_clients{route="ticks",transport="sse"}`) == 1 })
		}
		b.eval(t, `add("a")`)
		eventually(t, "the first tab to be open", func() bool { return b.eval(t, "tabs.a.states.join()") == "open" })
		tick(20)
		all("a")
		b.eval(t, `add("b")`)
		b.eval(t, `add("c")`)
		b.eval(t, `add("d")`)
		eventually(t, "all tabs to be open", func() bool {
			return b.eval(t, "Object.values(tabs).map(t => t.states.join()).join()") == "open,open,open,open"
		})
		shared("when nothing happens")
		tick(50)
		all("a", "b", "c", "d")
		asked := len(r.to("/ticks"))
		r.cut()
		tick(50)
		all("a", "b", "c", "d")
		shared("after a cut")
		if n := len(r.to("/ticks")) - asked; n != 1 {
			t.Errorf("%d requests after a cut, want the leader's one", n)
		}
		for _, leader := range []string{"a", "b", "c"} { // in the order in which they asked for the lock
			tick(20)
			b.eval(t, fmt.Sprintf("remove(%q)", leader))
			tick(20)
			b.eval(t, `add("late")`)
			eventually(t, "the late tab to be open", func() bool { return b.eval(t, "tabs.late.states.join()") == "open" })
			tick(20)
			all("d", "late")
			shared("after the leader's death")
			b.eval(t, `remove("late")`)
		}
		// What is missing is said, to all, once.
		b.eval(t, `add("e")`)
		eventually(t, "another tab to be open", func() bool { return b.eval(t, "tabs.e.states.join()") == "open" })
		shared("with another tab")
		s.drain(t)
		s.start(t)
		gaps := func() string { return b.eval(t, "[tabs.d.gaps, tabs.e.gaps].join(' ')") }
		eventually(t, "both tabs to hear of the gap", func() bool { return len(gaps()) >= len("restart restart") })
		tick(5)
		all("d", "e")
		if gaps() != "restart restart" {
			t.Errorf("gaps: %s", gaps())
		}
		// The end is one for all.
		f.say(t, `{"done":true}`)
		eventually(t, "the end", func() bool { return b.eval(t, "[tabs.d.source.readyState, tabs.e.source.readyState].join()") == "2,2" })
		if problems := b.eval(t, "Object.values(tabs).flatMap(t => t.problems).join()"); problems != "" {
			t.Error(problems)
		}
	})
}

// metric is the value of one of s's.
func metric(t *testing.T, s *sidecar, name string) (value float64) {
	t.Helper()
	resp, err := plain.Get("http://" + s.admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "\n"+name+" ")
	if _, err := fmt.Sscan(rest, &value); !ok || err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return value
}

// No POST of a tunnel looks cancelled to developer tools and to what monitors a page: each answer is read to its end.
func TestTunnelCancelsNothing(t *testing.T) {
	t.Parallel()
	addr := startTunnelServer(t, "")
	s := startSidecar(t, "SSE_UPSTREAM=http://"+addr, "SSE_TUNNEL=/echo", "SSE_DRAIN=200ms")
	c := startChromium(t)
	var mu sync.Mutex
	posts, done := map[network.RequestID]bool{}, 0
	if err := chromedp.Listen(c.ctx, func(event any) {
		mu.Lock()
		defer mu.Unlock()
		switch e := event.(type) {
		case *network.EventRequestWillBeSent:
			if e.Request.Method == "POST" {
				posts[e.RequestID] = true
			}
		case *network.EventLoadingFinished:
			if posts[e.RequestID] {
				done++
			}
		case *network.EventLoadingFailed:
			if posts[e.RequestID] {
				t.Errorf("a POST failed: %s, cancelled: %v", e.ErrorText, e.Canceled)
			}
		}
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := chromedp.Call(c.ctx, network.Enable, network.EnableParams{}); err != nil {
		t.Fatal(err)
	}
	c.open(t, "http://"+s.addr+"/always.html")
	talk(t, c, "talk", "/echo", "first")
	heard(t, c, "talk", "open,first")
	want := "open,first"
	for i := range 20 {
		text := fmt.Sprint("message ", i)
		c.eval(t, fmt.Sprintf("talks.talk.ws.send(%q), ''", text))
		want += "," + text
		heard(t, c, "talk", want)
		if _, err := chromedp.Call(c.ctx, heapprofiler.CollectGarbage, cdp.Empty{}); err != nil { // at which answers that nobody reads are dropped
			t.Fatal(err)
		}
	}
	eventually(t, "each POST to be read to its end", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(posts) > 20 && done == len(posts)
	})
}

// What is sent is given to the browser as bytes, and as a Blob only where the application has sent one, as Chromium takes longer for those.
// Neither has a type, for which other origins would be asked first.
func TestTunnelPostsBytes(t *testing.T) {
	t.Parallel()
	addr := startTunnelServer(t, "")
	s := startSidecar(t, "SSE_UPSTREAM=http://"+addr, "SSE_TUNNEL=/echo", "SSE_DRAIN=200ms")
	inBrowsers(t, func(t *testing.T, b browser) {
		r := startRecorder(t, s.addr)
		b.open(t, "http://"+r.addr()+"/always.html")
		b.eval(t, `(kinds => {
			const send = window.fetch;
			window.kinds = kinds;
			window.fetch = (url, options) => (kinds.push(options.body.constructor.name), send(url, options));
			return "";
		})([])`)
		talk(t, b, "talk", "/echo", "text")
		want := "open,text"
		heard(t, b, "talk", want)
		for _, one := range []struct{ data, answer string }{
			{`new Uint8Array([0, 255])`, "[object Blob]"}, {`new Blob(["blob"])`, "[object Blob]"}, {`new File([], "f")`, "[object Blob]"}, {`"\u{1F41F}"`, "\U0001F41F"},
		} {
			b.eval(t, "talks.talk.ws.send("+one.data+"), ''")
			want += "," + one.answer
			heard(t, b, "talk", want)
		}
		if kinds := b.eval(t, "kinds.join()"); kinds != "Uint8Array,Uint8Array,Uint8Array,Blob,Blob,Uint8Array" {
			t.Errorf("bodies: %s", kinds)
		}
		var posts []*http.Request
		eventually(t, "the last POST to be written down", func() bool {
			posts = r.to("/_sidestream/tunnel/echo")
			return len(posts) >= 6
		})
		for _, post := range posts {
			if kind := post.Header.Values("Content-Type"); len(kind) > 0 {
				t.Errorf("a POST has a type: %q", kind)
			}
		}
		if len(posts) != 6 {
			t.Errorf("%d POSTs, want 6", len(posts))
		}
	})
}
