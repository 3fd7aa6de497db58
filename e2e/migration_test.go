//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// oldPage is a page that still uses the WebSocket.
const oldPage = `<!doctype html><title>old</title><script>
const socket = new WebSocket("ws://" + location.host + "/ws"), seen = [];
socket.onmessage = e => seen.push(e.data);
</script>`

// ticking has f tick until the end of the test.
func ticking(t *testing.T, f *feed) {
	ctx, cancel := context.WithCancel(t.Context())
	var run sync.WaitGroup
	run.Go(func() { // ends with ctx
		for tick := time.NewTicker(20 * time.Millisecond); ctx.Err() == nil; {
			select {
			case <-tick.C:
				f.murmur()
			case <-ctx.Done():
			}
		}
	})
	t.Cleanup(func() { cancel(); run.Wait() })
}

// murmur says the next number to whoever has subscribed.
func (f *feed) murmur() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.said++
	for conn := range f.conns {
		_ = conn.Write(context.Background(), websocket.MessageText, fmt.Appendf(nil, `{"n":%d}`, f.said))
	}
}

// A team moves off WebSockets: the page shows who is still there, from which page and with which browser, that both carry the same, that
// it is not safe yet, and after the days have passed that it is; over a restart; in the light, in the dark and on a phone.
func TestMigrationPage(t *testing.T) {
	t.Parallel()
	f := startFeed(t, map[string]string{"/app": oldPage})
	ticking(t, f)
	dir := t.TempDir()
	s := startSidecar(t, append(feedEnv(f), "SSE_HISTORY=file:"+dir, "SSE_ROUTE_TICKS_PARITY=true", "SSE_SUNSET=/ws=2999-03-01", "SSE_TUNNEL=/", "SSE_LEARN=true")...)
	readEvents(t, s.addr, "/ticks")
	old := startChromium(t)
	old.open(t, "http://"+s.addr+"/app")
	other, _, err := websocket.Dial(t.Context(), "ws://"+s.addr+"/else/4711/ws", nil)
	if err == nil {
		other.CloseNow()
	}
	c := startChromium(t)
	c.open(t, "http://"+s.admin+"/")
	shown(t, c, "an old client", `text("migration-rows").includes("/wsreplaced by ticks") && text("migration-rows").includes("in use") && text("migration-rows").includes("1 old, 1 new")`)
	shown(t, c, "where it comes from", `text("migration-rows").includes("websocket, Chrome on `+s.addr+`")`)
	shown(t, c, "that both carry the same", `/ticks: [\d,]+ equal$/.test(document.querySelector("#migration-rows td:last-child").textContent)`)
	shown(t, c, "the end that is announced", `text("migration-rows").includes("gone from 2999-03-01 on")`)
	shown(t, c, "what could be a route", `(document.querySelector("#learned summary") || document.body).textContent.includes("/ws raw, 1 WebSockets")`)
	c.eval(t, `document.querySelector("#learned summary").focus(), ""`)
	c.keys(t, "\r")
	shown(t, c, "its settings", `document.querySelector("#learned details").open && /SSE_ROUTE_\w+_FROM=ws:/.test(document.querySelector("#learned pre").textContent)`)
	c.screenshot(t, "migration-light")
	c.dark(t)
	c.screenshot(t, "migration-dark")
	c.narrow(t)
	shown(t, c, "no more than a phone is wide", `document.documentElement.scrollWidth <= innerWidth`)
	c.screenshot(t, "migration-phone")
	if r := get(t, "http://"+s.admin+"/metrics"); !strings.Contains(r, `sidestream_migration_clients{path="/ws",transport="websocket"} 1`) || !strings.Contains(r, `sidestream_clients{route="ticks",transport="websocket"} 1`) ||
		strings.Contains(r, `sidestream_parity_total{result="missing",route="ticks"} 1`) {
		t.Errorf("the metrics: %s", r)
	}

	old.eval(t, `socket.close(), ""`)
	shown(t, c, "that it has left", `text("migration-rows").includes("waiting") && /safe in (6 d 23|7 d 0) h if no old client comes/.test(text("migration-rows"))`)
	s.drain(t)
	later(t, filepath.Join(dir, "notes"), 8*24*time.Hour)
	s.start(t)
	shown(t, c, "that it is safe", `text("migration-rows").includes("safe to switch off") && text("migration-rows").includes("8 d 0 h ago") && text("migration-note").includes("kept over restarts in SSE_HISTORY")`)
	c.screenshot(t, "migration-safe")
}

// later makes what is noted so much older, but for that somebody has looked all the time.
func later(t *testing.T, file string, by time.Duration) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var notes map[string]int64
	if err := json.Unmarshal(text, &notes); err != nil {
		t.Fatal(err)
	}
	for note := range notes {
		if note != "watched" {
			notes[note] -= int64(by.Seconds())
		}
	}
	if text, err = json.Marshal(notes); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// readEvents reads a stream until the end of the test.
func readEvents(t *testing.T, addr, path string) {
	t.Helper()
	req, _ := http.NewRequest(http.MethodGet, "http://"+addr+path, nil)
	req.Header.Set("Accept", "text/event-stream")
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	go io.Copy(io.Discard, resp.Body) // ends with the answer
}

func get(t *testing.T, url string) string {
	t.Helper()
	resp, err := plain.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The command compare: parity is exit status 0, with a sidecar that runs and without one; what a route makes otherwise is 1; words that are off are 2.
func TestCompareCommand(t *testing.T) {
	t.Parallel()
	f := startFeed(t, nil)
	ticking(t, f)
	s := startSidecar(t, feedEnv(f)...)
	readEvents(t, s.addr, "/ticks")
	env := append([]string{"SSE_LOG_LEVEL=error"}, feedEnv(f)...)
	for name, c := range map[string]struct {
		env    []string
		args   []string
		status int
		want   string
	}{
		"with the sidecar":          {nil, []string{"ticks", "-for", "4s"}, 0, "the stream http://" + s.addr + "/ticks\n"},
		"without one":               {[]string{"SSE_LISTEN=127.0.0.1:1"}, []string{"ticks", "-for", "4s"}, 0, "the stream run here\n"},
		"what it makes is changed":  {[]string{"SSE_ROUTE_TICKS_DATA={n:1,more:.}"}, []string{"ticks", "-for", "4s"}, 1, "changed"},
		"no such route":             {nil, []string{"tocks"}, 2, ""},
		"an option that is unknown": {nil, []string{"ticks", "-raw"}, 2, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.env == nil || !strings.HasPrefix(c.env[0], "SSE_LISTEN=") {
				c.env = append(c.env, "SSE_LISTEN="+s.addr)
			}
			status, stdout, stderr := run(t, append(env[:len(env):len(env)], c.env...), append([]string{"compare"}, c.args...)...)
			if status != c.status || !strings.Contains(stdout, c.want) || (status == 0) != strings.HasSuffix(stdout, "parity\n") {
				t.Errorf("exit status %d, want %d\n%s\n%s", status, c.status, stdout, stderr)
			}
			if status != 0 && stderr == "" {
				t.Error("why is not said")
			}
		})
	}
}
