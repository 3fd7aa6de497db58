//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// snippet is the code in a document after a mark.
func snippet(t *testing.T, file, mark string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, after, found := strings.Cut(string(text), "<!-- "+mark+" -->\n```js\n")
	code, _, closed := strings.Cut(after, "```\n")
	if !found || !closed {
		t.Fatalf("%s has no code for %s", file, mark)
	}
	return code
}

// bundle is page, a file of clients, with hook beside it, as one script.
func bundle(t *testing.T, page, hook string) string {
	t.Helper()
	dir := t.TempDir()
	text, err := os.ReadFile(filepath.Join("clients", page))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{page: string(text), "hook.js": hook} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	modules, err := filepath.Abs("clients/node_modules")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(modules, ".bin", "esbuild"), page, "--bundle", "--log-level=warning", "--define:process.env.NODE_ENV=\"development\"")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "NODE_PATH="+modules)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// The hooks for React and Vue, as the documentation has them: they show the newest event, count gaps, follow another address, and let go of
// the connection with their component.
func TestHooks(t *testing.T) {
	t.Parallel()
	for name, page := range map[string]string{"react": "react.jsx", "vue": "vue.js"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			script := bundle(t, page, snippet(t, "../proxy/web/README.md", name))
			inBrowsers(t, func(t *testing.T, b browser) {
				f := startFeed(t, map[string]string{"/app": `<!doctype html><meta charset="utf-8"><div id="app"></div><script src="/app.js"></script>`, "/app.js": script})
				s := startSidecar(t, append(feedEnv(f), "SSE_ROUTE_TICKS_START=latest", "SSE_ROUTE_OTHER_PATH=/other", "SSE_ROUTE_OTHER_FROM=ws://"+f.addr()+"/ws?other", `SSE_ROUTE_OTHER_EVENT="tick"`, "SSE_ROUTE_OTHER_RETRY=3s")...)
				clients := func(route string, n string) {
					t.Helper()
					eventually(t, n+" clients of "+route, func() bool {
						return strings.Contains(get(t, "http://"+s.admin+"/metrics"), `sidestream_clients{route="`+route+`",transport="sse"} `+n+"\n")
					})
				}
				b.open(t, "http://"+s.addr+"/app")
				clients("ticks", "1") // also where React's StrictMode mounts it twice
				f.tick(t)
				shown(t, b, "the newest event", `/^n=\d+ gaps=0$/.test(text("tick"))`)
				f.cut()
				shown(t, b, "a gap", `/^n=\d+ gaps=1$/.test(text("tick"))`)
				b.eval(t, `go("/other")`)
				clients("other", "1")
				clients("ticks", "0")
				f.tick(t)
				b.eval(t, `go("")`)
				shown(t, b, "that it has gone", `text("tick") === "gone"`)
				clients("other", "0")
			})
		})
	}
}
