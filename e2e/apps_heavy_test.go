//go:build e2e && apps

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// The applications that are too large for CI. apps.sh installs them, says where in SIDESTREAM_APPS, and runs this.

// application is one that is being driven.
type application struct {
	*chromium
	r *recorder
	s *sidecar
}

// startApplication opens path of the application at upstream, and the sidecar in front of it.
func startApplication(t *testing.T, upstream, prefixes, path string) *application {
	t.Helper()
	a := &application{}
	a.r, a.s = startProxied(t, upstream, prefixes)
	a.chromium = startChromium(t)
	t.Cleanup(func() {
		if t.Failed() {
			a.screenshot(t, "failed-"+t.Name())
		}
	})
	a.open(t, "http://"+a.r.addr()+path)
	return a
}

// opened is how many tunnels there have been.
func (a *application) opened() int { return strings.Count(a.s.stderr.String(), "tunnel opened") }

// is waits until an expression of the page is true.
func (a *application) is(t *testing.T, what, js string) {
	t.Helper()
	eventually(t, what, func() bool {
		return a.eval(t, "String(Boolean((() => { try { return "+js+" } catch { return false } })()))") == "true"
	})
}

// click clicks in the middle of the first element that selector finds.
func (a *application) click(t *testing.T, selector string) {
	t.Helper()
	a.is(t, selector+" to be there", fmt.Sprintf("document.querySelector(%q).getBoundingClientRect().width > 0", selector))
	var x, y float64
	if _, err := fmt.Sscan(a.eval(t, fmt.Sprintf("(() => { const box = document.querySelector(%q).getBoundingClientRect(); return `${box.x + box.width / 2} ${box.y + box.height / 2}` })()", selector)), &x, &y); err != nil {
		t.Fatal(err)
	}
	act(t, a.chromium, chromedp.MouseClickXY(x, y))
}

// cutThrough repeats step until the connections have been cut so many times, and fails if the application has opened a WebSocket meanwhile: it
// has noticed nothing.
func (a *application) cutThrough(t *testing.T, cuts int, step func(n int)) {
	t.Helper()
	eventually(t, "a tunnel", func() bool { return a.opened() > 0 })
	before, begun, n := a.opened(), len(a.r.to("/_sidestream/tunnel")), 0
	stop := cuttingPosts(a.r)
	for ; len(a.r.to("/_sidestream/tunnel")) < begun+cuts; n++ {
		step(n)
	}
	t.Logf("%d steps, %d cuts, %d tunnels", n, stop(), before)
	if opened := a.opened(); opened != before {
		t.Errorf("the application opened %d WebSockets more, want none", opened-before)
	}
	a.r.mu.Lock()
	defer a.r.mu.Unlock()
	for _, request := range a.r.requests {
		if request.Header.Get("Upgrade") != "" {
			t.Errorf("a real WebSocket: %s", request.URL.Path)
		}
	}
}

// installed is where apps.sh has put things.
func installed(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("SIDESTREAM_APPS")
	if dir == "" {
		t.Fatal("run e2e/apps.sh, which installs the applications and sets SIDESTREAM_APPS")
	}
	return dir
}

func portOf(addr string) string { _, port, _ := strings.Cut(addr, ":"); return port }

// startApps runs apps/server.mjs.
func startApps(t *testing.T, websockify string) string {
	t.Helper()
	addr := freeAddr(t)
	launch(t, nil, "node", filepath.Join(installed(t), "server.mjs"), portOf(addr), websockify)
	eventually(t, "the applications", func() bool { return status("http://"+addr+"/novnc.html") == 200 })
	return addr
}

func TestAppHocuspocus(t *testing.T) {
	a := startApplication(t, startApps(t, "1"), "/hocuspocus", "/hocuspocus.html")
	other := a.anotherTab(t)
	other.open(t, "http://"+a.r.addr()+"/hocuspocus.html")
	eventually(t, "both to be there", func() bool { return a.state(t).Open && other.state(t).Open })
	want := ""
	a.cutThrough(t, 10, func(n int) {
		tab, text := a.chromium, fmt.Sprintf("line %d ", n)
		if n%2 == 1 {
			tab, text = other, fmt.Sprintf("and %d from the other tab ", n)
		}
		want += text
		tab.eval(t, `getSelection().selectAllChildren(document.querySelector(".ql-editor")), getSelection().collapseToEnd(), ""`)
		tab.types(t, text)
		a.showsAll(t, want+"\n")
		other.showsAll(t, want+"\n")
	})
	a.screenshot(t, "app-hocuspocus")
}

func TestAppGraphiQL(t *testing.T) {
	a := startApplication(t, startApps(t, "1"), "/graphql", "/graphiql.html")
	a.is(t, "the editor to have the query", `document.querySelector(".graphiql-query-editor").textContent.includes("subscription")`)
	a.click(t, ".graphiql-execute-button")
	shown := `document.querySelector(".graphiql-response .view-lines").textContent.replace(/\s/g, "")`
	a.is(t, "the first of the subscription's results", shown+`.includes('"count"')`)
	last := -1
	a.cutThrough(t, 3, func(int) {
		var now int
		if _, err := fmt.Sscanf(a.eval(t, shown), `{"data":{"count":%d}}`, &now); err == nil {
			if now < last {
				t.Errorf("%d after %d", now, last)
			}
			last = now
		}
	})
	a.is(t, "the last result", shown+`.includes('"count":100')`)
	a.screenshot(t, "app-graphiql")
}

func TestAppSocketIOAdmin(t *testing.T) {
	upstream := startApps(t, "1")
	a := startApplication(t, upstream, "/socket.io", "/admin/index.html")
	a.is(t, "the form", `document.querySelector(".v-dialog input").offsetWidth > 0`)
	a.screenshot(t, "app-socketio-admin-form")
	a.click(t, ".v-dialog input")
	a.types(t, "http://"+a.r.addr())
	a.click(t, ".v-dialog button.primary")
	eventually(t, "its tunnel", func() bool { return a.opened() > 0 })
	visitors := func(n int) {
		a.is(t, "the visitors", fmt.Sprintf(`[...document.querySelectorAll("tr")].find(row => row.firstChild.textContent.trim() === "/").children[1].textContent.trim() === "%d"`, n))
	}
	visitors(0)
	a.cutThrough(t, 6, func(n int) {
		if code := status("http://" + upstream + "/visit"); code != 200 {
			t.Fatalf("no visitor: %d", code)
		}
		visitors(n + 1)
	})
	a.screenshot(t, "app-socketio-admin")
}

func TestAppNoVNC(t *testing.T) {
	vnc, ws, dir := freeAddr(t), freeAddr(t), t.TempDir()
	display := ":" + portOf(vnc)
	launch(t, nil, "Xtigervnc", display, "-rfbport", portOf(vnc), "-SecurityTypes", "None", "-localhost", "-geometry", "800x600", "-depth", "24", "-r") // keys do not repeat: one whose release comes late would
	eventually(t, "Xvnc to listen", func() bool { return open(vnc) })
	typed := filepath.Join(dir, "typed")
	launch(t, []string{"DISPLAY=" + display}, "xterm", "-geometry", "100x40+0+0", "-e", "sh", "-c", "cat > "+typed)
	launch(t, nil, "websockify", "127.0.0.1:"+portOf(ws), vnc)
	eventually(t, "websockify to listen", func() bool { return open(ws) })
	a := startApplication(t, startApps(t, portOf(ws)), "/websockify", "/novnc.html")
	// The first picture says too how keys are to be told: one that was pressed before and released after it stays pressed.
	a.is(t, "the desktop", "window.state().open")
	a.is(t, "the terminal's window", `(() => {
		const canvas = document.querySelector("canvas"), data = canvas.getContext("2d").getImageData(0, 0, 300, 60).data;
		return new Set(new Uint32Array(data.buffer)).size > 1;
	})()`)
	want := ""
	a.cutThrough(t, 4, func(n int) {
		text := fmt.Sprintf("line %d\r", n)
		want += strings.ReplaceAll(text, "\r", "\n")
		a.types(t, text)
		got := []byte{}
		for deadline := time.Now().Add(patience / 3); string(got) != want && time.Now().Before(deadline); {
			got, _ = os.ReadFile(typed)
		}
		if string(got) != want {
			t.Fatalf("%q arrived, want %q", got, want)
		}
	})
	a.screenshot(t, "app-novnc")
}

func TestAppWetty(t *testing.T) {
	addr := freeAddr(t)
	launch(t, []string{"PS1=$ "}, "node", filepath.Join(installed(t), "node_modules/wetty/build/main.js"), "--host", "127.0.0.1", "--port", portOf(addr), "--command", "/bin/sh")
	eventually(t, "WeTTY", func() bool { return status("http://"+addr+"/") == 200 })
	a := startApplication(t, addr, "/socket.io", "/")
	eventually(t, "its tunnel", func() bool { return a.opened() > 0 })
	shown := `(() => { const lines = [], buffer = (window.wetty_term || {}).buffer.active; for (let n = 0; n < buffer.length; n++) lines.push(buffer.getLine(n).translateToString(true)); return lines.join("\n") })()`
	a.is(t, "a prompt", shown+`.includes("$")`)
	a.click(t, ".xterm-screen")
	a.cutThrough(t, 4, func(n int) {
		a.types(t, fmt.Sprintf("echo %d $((%d * 7))\r", n, n))
		a.is(t, "the answer", fmt.Sprintf(`%s.includes("$ echo %d $((%d * 7))\n%d %d\n")`, shown, n, n, n, n*7))
	})
	a.screenshot(t, "app-wetty")
}

// run presses Shift and Enter, which runs a notebook's cell and goes to the next one.
func (a *application) run(t *testing.T) {
	t.Helper()
	for _, event := range kb.Encode('\r') {
		event.Modifiers |= int64(kb.ModifierShift)
		if event.Type == kb.KeyChar {
			continue
		}
		if _, err := chromedp.Call(a.ctx, input.DispatchKeyEvent, *event); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAppJupyter(t *testing.T) {
	addr, dir := freeAddr(t), t.TempDir()
	notebook := `{"cells":[{"cell_type":"code","execution_count":null,"metadata":{},"outputs":[],"source":[]}],"metadata":{"kernelspec":{"display_name":"Python 3","language":"python","name":"python3"}},"nbformat":4,"nbformat_minor":2}`
	if err := os.WriteFile(filepath.Join(dir, "a.ipynb"), []byte(notebook), 0o600); err != nil {
		t.Fatal(err)
	}
	launch(t, nil, "/usr/bin/jupyter-notebook", "--no-browser", "--ip=127.0.0.1", "--port="+portOf(addr), "--NotebookApp.token=", "--NotebookApp.password=", "--allow-root", "--notebook-dir="+dir)
	eventually(t, "Jupyter", func() bool { return status("http://"+addr+"/api") == 200 })
	a := startApplication(t, addr, "/api/kernels", "/notebooks/a.ipynb")
	a.is(t, "the kernel", `Jupyter.notebook.kernel.is_connected() && Jupyter.notebook.kernel.info_reply.status === "ok"`)
	a.click(t, ".cell .CodeMirror-lines")
	a.cutThrough(t, 6, func(n int) {
		a.types(t, fmt.Sprintf("print(%d, %d * 7)", n, n))
		a.run(t)
		a.is(t, "the cell's output", fmt.Sprintf(`[...document.querySelectorAll(".output_stdout pre")].map(e => e.textContent)[%d] === "%d %d\n"`, n, n, n*7))
	})
	begun := len(a.r.to("/_sidestream/tunnel"))
	stop := cuttingPosts(a.r)
	a.types(t, "import time\rfor n in range(200): print(n); time.sleep(0.02)\r")
	a.run(t)
	a.is(t, "200 lines, each once and in order", `[...document.querySelectorAll(".output_stdout pre")].at(-1).textContent === [...Array(200).keys()].join("\n") + "\n"`)
	stop()
	if len(a.r.to("/_sidestream/tunnel")) < begun+2 {
		t.Error("not cut while the cell ran")
	}
	a.screenshot(t, "app-jupyter")
}

func TestAppNodeRED(t *testing.T) {
	addr, dir := freeAddr(t), t.TempDir()
	for name, text := range map[string]string{
		"settings.js": `module.exports = { uiHost: "127.0.0.1", uiPort: ` + portOf(addr) + `, userDir: ` + fmt.Sprintf("%q", dir) + `, flowFile: "flows.json", credentialSecret: false,
			editorTheme: { tours: false, projects: { enabled: false } }, telemetry: { enabled: false, updateNotification: false }, externalModules: { palette: { allowInstall: false } } };`,
		"flows.json": `[{"id":"tab","type":"tab","label":"Counter"},
			{"id":"inject","type":"inject","z":"tab","name":"tick","props":[],"repeat":"0.1","once":true,"onceDelay":0.1,"x":120,"y":80,"wires":[["count"]]},
			{"id":"count","type":"function","z":"tab","name":"count","func":"const n = context.get('n') || 0; context.set('n', n + 1); return { payload: 'tick ' + n };","outputs":1,"x":280,"y":80,"wires":[["debug"]]},
			{"id":"debug","type":"debug","z":"tab","name":"ticks","active":true,"tosidebar":true,"complete":"payload","targetType":"msg","x":440,"y":80,"wires":[]}]`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	launch(t, nil, "node", filepath.Join(installed(t), "node_modules/node-red/red.js"), "--settings", filepath.Join(dir, "settings.js"))
	eventually(t, "Node-RED", func() bool { return status("http://"+addr+"/") == 200 })
	a := startApplication(t, addr, "/comms", "/")
	a.is(t, "the flow", `document.querySelectorAll(".red-ui-flow-node-group").length === 3`)
	a.eval(t, `RED.actions.invoke("core:show-debug-tab"), ""`)
	ticks := `[...document.querySelectorAll(".red-ui-debug-msg-payload")].map(e => Number(/tick (\d+)/.exec(e.textContent)[1]))`
	a.is(t, "ticks", ticks+`.length > 3`)
	a.cutThrough(t, 5, func(int) {
		if wrong := a.eval(t, `(() => { const all = `+ticks+`; return all.every((n, i) => !i || n === all[i - 1] + 1) ? "" : all.join() })()`); wrong != "" {
			t.Fatalf("ticks lost or doubled: %s", wrong)
		}
	})
	// A deployment is told to the editor over the WebSocket, as is the state that all nodes begin with again.
	a.eval(t, `RED.nodes.eachNode(n => { if (n.id === "count") { n.func = "return { payload: 'tick ' + (1000 + (context.count = (context.count ?? -1) + 1)) }"; n.dirty = n.changed = true } }), RED.nodes.dirty(true), ""`)
	a.click(t, "#red-ui-header-button-deploy")
	a.is(t, "ticks of the new flow", ticks+`.at(-1) > 1010`)
	a.screenshot(t, "app-nodered")
}

func TestAppShiny(t *testing.T) {
	addr, dir := freeAddr(t), t.TempDir()
	app := `library(shiny)
shinyApp(fluidPage(titlePanel("Reversed"), textInput("text", "Text"), textOutput("reversed"), textOutput("clock")), function(input, output, session) {
  begun <- Sys.time()
  output$reversed <- renderText(paste(rev(strsplit(input$text, "")[[1]]), collapse = ""))
  output$clock <- renderText({ invalidateLater(200); paste("for", round(as.numeric(Sys.time() - begun, units = "secs"), 1), "s") })
})`
	if err := os.WriteFile(filepath.Join(dir, "app.R"), []byte(app), 0o600); err != nil {
		t.Fatal(err)
	}
	launch(t, nil, "Rscript", "-e", fmt.Sprintf("shiny::runApp(%q, port = %s, host = '127.0.0.1', launch.browser = FALSE)", dir, portOf(addr)))
	eventually(t, "Shiny", func() bool { return status("http://"+addr+"/") == 200 })
	a := startApplication(t, addr, "/websocket", "/")
	a.is(t, "the clock", `document.getElementById("clock").textContent.startsWith("for")`)
	a.click(t, "#text")
	want := ""
	a.cutThrough(t, 4, func(n int) {
		text := fmt.Sprintf("word%d ", n)
		a.types(t, text)
		for _, r := range text {
			want = string(r) + want
		}
		a.is(t, "the text reversed", fmt.Sprintf(`document.getElementById("reversed").textContent.trim() === %q`, strings.TrimSpace(want)))
	})
	a.screenshot(t, "app-shiny")
}
