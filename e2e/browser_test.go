//go:build e2e

package e2e

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"
)

// browser is what the tests ask of one, in whatever protocol it is asked.
type browser interface {
	open(t *testing.T, url string)
	eval(t *testing.T, js string) string // the value of an expression that is a string
	screenshot(t *testing.T, name string)
}

// chromium is driven over the DevTools protocol.
type chromium struct{ ctx context.Context }

func startChromium(t *testing.T, more ...chromedp.ExecAllocatorOption) *chromium {
	t.Helper()
	options := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath("/usr/bin/chromium"), chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck, chromedp.NoSandbox,
		chromedp.Headless, chromedp.DisableGPU, chromedp.WSURLReadTimeout(patience), chromedp.WindowSize(1240, 900),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("ignore-certificate-errors", true), chromedp.UserDataDir(t.TempDir()),
	}
	allocated, free := chromedp.NewExecAllocator(context.Background(), append(options, more...)...)
	ctx, stop := chromedp.NewContext(allocated)
	t.Cleanup(func() { chromedp.Cancel(ctx); stop(); free() })
	if err := chromedp.Do(ctx); err != nil {
		t.Fatal(err)
	}
	return &chromium{ctx}
}

// act runs one action in c's tab and returns its value.
func act[T any](t *testing.T, c *chromium, action chromedp.Action[T]) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(c.ctx, patience)
	defer cancel()
	value, err := chromedp.Run(ctx, action)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func (c *chromium) open(t *testing.T, url string) { t.Helper(); act(t, c, chromedp.Navigate(url)) }

func (c *chromium) eval(t *testing.T, js string) string {
	t.Helper()
	return act(t, c, chromedp.Evaluate[string](js))
}

func (c *chromium) screenshot(t *testing.T, name string) {
	t.Helper()
	keep(t, name, act(t, c, chromedp.FullScreenshot(100)))
}

// keys types text, "\r" for Enter.
func (c *chromium) keys(t *testing.T, text string) { t.Helper(); act(t, c, chromedp.KeyEvent(text)) }

// dark and narrow make the tab's device another one.
func (c *chromium) dark(t *testing.T) {
	t.Helper()
	want := emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "dark"}}}
	if _, err := chromedp.Call(c.ctx, emulation.SetEmulatedMedia, want); err != nil {
		t.Fatal(err)
	}
}

func (c *chromium) narrow(t *testing.T) { t.Helper(); act(t, c, chromedp.EmulateViewport(390, 844)) }

// firefox is driven over WebDriver BiDi, which it speaks itself: JSON commands {"id","method","params"} on a WebSocket,
// answered by {"type":"success","id","result"} or {"type":"error","id","error","message"}; events lie between and are
// passed over. https://w3c.github.io/webdriver-bidi/
type firefox struct {
	conn *websocket.Conn
	tab  string
	last int
}

// firefoxPrefs keep a new profile from asking its maker's servers.
const firefoxPrefs = `
user_pref("app.normandy.enabled", false);
user_pref("app.update.disabledForTesting", true);
user_pref("browser.safebrowsing.downloads.enabled", false);
user_pref("browser.safebrowsing.malware.enabled", false);
user_pref("browser.safebrowsing.phishing.enabled", false);
user_pref("browser.shell.checkDefaultBrowser", false);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("extensions.update.enabled", false);
user_pref("network.captive-portal-service.enabled", false);
user_pref("network.connectivity-service.enabled", false);
user_pref("services.settings.server", "data:,");
user_pref("toolkit.telemetry.enabled", false);
`

var listening = regexp.MustCompile(`WebDriver BiDi listening on (ws://\S+)`)

func startFirefox(t *testing.T) *firefox {
	t.Helper()
	profile := t.TempDir()
	if err := os.WriteFile(filepath.Join(profile, "user.js"), []byte(firefoxPrefs), 0o644); err != nil {
		t.Fatal(err)
	}
	p := launch(t, []string{"MOZ_HEADLESS=1", "MOZ_CRASHREPORTER_DISABLE=1"}, "firefox-esr", "--headless", "--no-remote",
		"--profile", profile, "--remote-debugging-port", "0")
	var url string
	eventually(t, "firefox to listen", func() bool {
		if m := listening.FindStringSubmatch(p.stderr.String() + p.stdout.String()); m != nil {
			url = m[1]
		}
		return url != ""
	})
	conn, _, err := websocket.Dial(t.Context(), url+"/session", nil)
	if err != nil {
		t.Fatal(err)
	}
	conn.SetReadLimit(64 << 20) // a screenshot is one message
	f := &firefox{conn: conn}
	t.Cleanup(func() { conn.CloseNow() })
	f.command(t, "session.new", map[string]any{"capabilities": map[string]any{"alwaysMatch": map[string]any{"acceptInsecureCerts": true}}}, nil)
	var tree struct{ Contexts []struct{ Context string } }
	f.command(t, "browsingContext.getTree", map[string]any{}, &tree)
	f.tab = tree.Contexts[0].Context
	f.command(t, "browsingContext.setViewport", map[string]any{"context": f.tab, "viewport": map[string]int{"width": 1240, "height": 900}}, nil)
	return f
}

// command asks and unpacks the result into out, if there is one.
func (f *firefox) command(t *testing.T, method string, params map[string]any, out any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	f.last++
	if err := wsjson.Write(ctx, f.conn, map[string]any{"id": f.last, "method": method, "params": params}); err != nil {
		t.Fatalf("%s: %v", method, err)
	}
	for {
		var answer struct {
			Type, Error, Message string
			ID                   int
			Result               json.RawMessage
		}
		if err := wsjson.Read(ctx, f.conn, &answer); err != nil {
			t.Fatalf("%s: %v", method, err)
		}
		if answer.ID != f.last {
			continue
		}
		if answer.Type != "success" {
			t.Fatalf("%s: %s: %s", method, answer.Error, answer.Message)
		}
		if out != nil {
			if err := json.Unmarshal(answer.Result, out); err != nil {
				t.Fatalf("%s: %v", method, err)
			}
		}
		return
	}
}

func (f *firefox) open(t *testing.T, url string) {
	t.Helper()
	f.command(t, "browsingContext.navigate", map[string]any{"context": f.tab, "url": url, "wait": "complete"}, nil)
}

func (f *firefox) eval(t *testing.T, js string) string {
	t.Helper()
	var answer struct {
		Type             string
		Result           struct{ Value string }
		ExceptionDetails struct{ Text string }
	}
	f.command(t, "script.evaluate", map[string]any{
		"expression": js, "target": map[string]string{"context": f.tab}, "awaitPromise": true,
	}, &answer)
	if answer.Type != "success" {
		t.Fatalf("%s: %s", js, answer.ExceptionDetails.Text)
	}
	return answer.Result.Value
}

func (f *firefox) screenshot(t *testing.T, name string) {
	t.Helper()
	var shot struct{ Data string }
	f.command(t, "browsingContext.captureScreenshot", map[string]any{"context": f.tab, "origin": "document"}, &shot)
	png, err := base64.StdEncoding.DecodeString(shot.Data)
	if err != nil {
		t.Fatal(err)
	}
	keep(t, name, png)
}

// keep writes a screenshot to $E2E_ARTIFACTS, else to a temporary directory, for a person to look at.
func keep(t *testing.T, name string, png []byte) {
	t.Helper()
	dir := os.Getenv("E2E_ARTIFACTS")
	if dir == "" {
		dir = t.TempDir()
	}
	if len(png) == 0 {
		t.Errorf("screenshot %s is empty", name)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644); err != nil {
		t.Fatal(err)
	}
}

// watchPage shows what a native EventSource on /ticks sees, in the terms of clients/client.mjs.
const watchPage = `<!doctype html><title>watch</title><script>
const seen = [];
const source = new EventSource("/ticks");
source.addEventListener("open", () => seen.push({ Saw: "open" }));
source.addEventListener("error", () => {
  seen.push({ Saw: source.readyState === EventSource.CLOSED ? "end" : "error" });
  if (source.readyState === EventSource.CLOSED) setTimeout(() => seen.push({ Saw: "exit" }), 7000);
});
for (const name of ["message", "tick", "done", "stream.gap", "stream.refused", "stream.busy"]) {
  source.addEventListener(name, e => seen.push({ Saw: "message", Event: name, ID: e.lastEventId, Data: e.data }));
}
</script>`

// tab is a page that collects what it sees in seen.
type tab struct {
	browser browser
	taken   int
}

func (v *tab) next(t *testing.T) (s seen) {
	t.Helper()
	eventually(t, "the page to see more", func() bool {
		text := v.browser.eval(t, fmt.Sprintf("JSON.stringify(seen[%d] || null)", v.taken))
		return text != "null" && json.Unmarshal([]byte(text), &s) == nil
	})
	v.taken++
	return s
}

func TestChromium(t *testing.T) {
	t.Parallel()
	b := startChromium(t)
	testBrowser(t, b, "chromium")
	t.Run("dark", func(t *testing.T) {
		_, url := startDemo(t)
		b.dark(t)
		b.open(t, url)
		shown(t, b, "prices", `count("sse-count") >= 60`)
		b.screenshot(t, "demo-chromium-dark")
		b.eval(t, `document.getElementById("env-box").open = true, ""`)
		b.screenshot(t, "demo-chromium-environment")
		b.narrow(t)
		if wide := b.eval(t, `String(document.documentElement.scrollWidth)`); wide != "390" {
			t.Errorf("a telephone has to scroll sideways: the page is %s px wide", wide)
		}
		b.screenshot(t, "demo-chromium-narrow")
	})
}

func TestFirefox(t *testing.T) {
	t.Parallel()
	testBrowser(t, startFirefox(t), "firefox")
}

func testBrowser(t *testing.T, b browser, name string) {
	for _, via := range []string{"direct", "nginx"} {
		t.Run(via, func(t *testing.T) {
			life(t, native, via, map[string]string{"/watch.html": watchPage}, func(addr string) viewer {
				b.open(t, "http://"+addr+"/watch.html")
				return &tab{browser: b}
			})
		})
	}
	t.Run("demo", func(t *testing.T) { testDemo(t, b, name) })
}

// startDemo runs the demo command and returns its page's address.
func startDemo(t *testing.T) (*sidecar, string) {
	t.Helper()
	s := &sidecar{addr: freeAddr(t), admin: freeAddr(t)}
	s.env = []string{"SSE_LISTEN=" + s.addr, "SSE_ADMIN_LISTEN=" + s.admin, "GORACE=atexit_sleep_ms=0"} // else it waits a second as it ends
	s.start(t, "demo")
	url := "http://" + s.addr + "/"
	eventually(t, "the page's address on stdout", func() bool { return strings.Contains(s.stdout.String(), url) })
	return s, url
}

// shown waits until an expression is true in the demo page. text(id) is an element's text, count(id) the number in it.
func shown(t *testing.T, b browser, what, js string) {
	t.Helper()
	const terms = `(() => { const text = id => document.getElementById(id).textContent, count = id => Number(text(id)); return String(`
	eventually(t, "the page to show "+what, func() bool { return b.eval(t, terms+js+"); })()") == "true" })
}

func testDemo(t *testing.T, b browser, name string) {
	s, url := startDemo(t)
	b.open(t, url)
	shown(t, b, "prices both ways", `count("sse-count") >= 20 && count("ws-count") >= 20 &&
		text("sse-state") === "open" && text("ws-state") === "open" &&
		document.querySelectorAll("#sse-rows tr").length === 6 && document.querySelectorAll("#ws-rows tr").length === 6`)
	shown(t, b, "nothing of replicas", `document.getElementById("replicas-box").offsetHeight === 0`)
	shown(t, b, "an event id", `/^\d+-\d+$/.test(text("sse-id"))`)
	shown(t, b, "the weather, and its change", `text("weather-state") === "open" && count("weather-count") >= 2 &&
		document.querySelectorAll("#stations li").length === 3`)
	shown(t, b, "the environment", `text("env").includes("SSE_ROUTE_PRICES_HELLO=")`)

	b.eval(t, `document.getElementById("job-start").click(), ""`)
	shown(t, b, "an export under way", `text("job-state") === "open" && document.getElementById("job-progress").value > 20`)
	b.screenshot(t, "demo-"+name)
	shown(t, b, "the export complete", `text("job-percent").startsWith("100 %")`)
	shown(t, b, "its stream closed for good", `text("job-state") === "closed" && job.source.readyState === EventSource.CLOSED`)
	shown(t, b, "one connection each, without a gap, and a ping answered", `count("sse-opens") === 1 && count("sse-gaps") === 0 && count("sse-lost") === 0 &&
		count("ws-opens") === 1 && count("ws-pings") >= 1 && count("job-opens") === 1 && count("job-gaps") === 0`)

	testDemoGains(t, b, name)
	b.eval(t, `document.getElementById("ws-tunnel").click(), ""`)
	shown(t, b, "the old client on the tunnel", `count("ws-opens") === 3 && text("ws-state") === "open" && oldSocket.constructor !== ownWebSocket &&
		oldSocket.readyState === 1 && text("ws-way") === "tunnelled" && performance.getEntriesByType("resource").some(e => e.name.endsWith("/_sidestream/tunnel/ws"))`)
	messages := b.eval(t, `document.getElementById("ws-count").textContent`)
	shown(t, b, "more prices through it", `count("ws-count") > 10 + `+messages)
	b.screenshot(t, "demo-"+name+"-tunnel")

	s.drain(t)
	s.start(t, "demo")
	// A page that returns before the drain is over is sent away once more, so it may open more than twice.
	shown(t, b, "everything again after a restart", `count("sse-opens") >= 3 && count("sse-gaps") === 1 && count("ws-opens") >= 4 &&
		text("sse-state") === "open" && text("ws-state") === "open" && text("weather-state") === "open"`)
	b.screenshot(t, "demo-"+name+"-restarted")
	b.eval(t, `document.getElementById("ws-tunnel").click(), ""`)
	shown(t, b, "a real WebSocket again", `oldSocket.constructor === ownWebSocket && oldSocket.readyState === 1 && text("ws-way") === "passed through"`)
	if foreign := b.eval(t, `performance.getEntriesByType("resource").filter(e => !e.name.startsWith(location.origin) && !e.name.startsWith("data:")).map(e => e.name).join()`); foreign != "" {
		t.Errorf("the page fetched from elsewhere: %s", foreign)
	}
	if log := b.eval(t, `document.getElementById("log").textContent`); strings.Contains(log, "1005") || strings.Contains(log, "lost;") {
		t.Errorf("the page alarms of what it did itself: %s", log)
	}
}

// testDemoGains: a cut that loses nothing, and a crowd over one connection of the service.
func testDemoGains(t *testing.T, b browser, name string) {
	shown(t, b, "lines in the colour of their slope", `[...document.querySelectorAll("polyline")].every(line => {
		const y = line.getAttribute("points").split(" ").map(p => Number(p.split(",")[1]));
		return line.parentNode.classList.contains(y[0] >= y[y.length - 1] ? "up" : "down");
	})`)
	shown(t, b, "its pills on one line, beside their titles", `[...document.querySelectorAll(".head")].every(head => {
		const pill = head.querySelector(".badge"), before = pill.textContent;
		pill.textContent = "reconnecting";
		const fits = pill.getClientRects().length === 1 && pill.offsetHeight < 32 && pill.offsetTop - head.offsetTop < 8;
		pill.textContent = before;
		return fits;
	})`)
	b.eval(t, `document.getElementById("crowd").click(), ""`)
	shown(t, b, "a crowd", `text("crowd-figure") === "12 tabs, 1 upstream connection" && /have received \d/.test(text("crowd-says"))`)
	b.eval(t, `document.getElementById("cut").click(), ""`)
	shown(t, b, "the cut", `text("sse-state") === "cut" && text("ws-state") === "reconnecting"`)
	b.screenshot(t, "demo-"+name+"-cut")
	shown(t, b, "what it has cost", `text("cut-says").startsWith("Events: 0 lost.") && /WebSocket: [1-9]\d* lost/.test(text("cut-says"))`)
	shown(t, b, "the way to the status", `!document.getElementById("status-box").hidden && /^http:\/\/127\.0\.0\.1:\d+\/api\/status$/.test(document.getElementById("status-link").href)`)
	b.eval(t, `document.getElementById("crowd").click(), ""`)
	shown(t, b, "one reader again", `text("crowd-figure") === "1 tab, 1 upstream connection"`)
}

// TestDemoStops at once when nobody but its own pages is there.
func TestDemoStops(t *testing.T) {
	t.Parallel()
	b := startChromium(t)
	s, url := startDemo(t)
	b.open(t, url)
	b.eval(t, `document.getElementById("ws-tunnel").click(), document.getElementById("crowd").click(), document.getElementById("job-start").click(), ""`)
	shown(t, b, "all of it", `count("sse-count") >= 5 && text("ws-way") === "tunnelled" && text("ws-state") === "open" && text("job-state") === "open" &&
		text("crowd-figure").startsWith("12 tabs")`)
	begun := time.Now()
	s.Process.Signal(os.Interrupt)
	if code := s.wait(t); code != 0 || time.Since(begun) > 2*time.Second {
		t.Errorf("status %d after %v", code, time.Since(begun))
	}
}
