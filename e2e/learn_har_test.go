//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"
)

// exports is what Chromium's own developer tools export, with "Save all as HAR with content": they are a page themselves, which the browser serves beside its protocol.
const exports = `(async () => {
	const [har, logs, common] = await Promise.all(["models/har/har.js", "models/logs/logs.js", "core/common/common.js"].map((m) => import(new URL(m, location.origin + "/devtools/").href)));
	return har.Writer.Writer.harStringForRequests(logs.NetworkLog.NetworkLog.instance().requests(), { sanitize: SANITIZE }, new common.Progress.CompositeProgress(new common.Progress.Progress()));
})()`

// debugTab is a tab of a Chromium that listens: it is spoken to in the DevTools protocol itself, since another client, the developer tools, is to be there too.
// https://chromedevtools.github.io/devtools-protocol/
type debugTab struct {
	conn *websocket.Conn
	id   string
	last int
}

// debugged starts a Chromium that developer tools may be connected to at addr.
func debugged(t *testing.T) (addr string) {
	t.Helper()
	addr = freeAddr(t)
	_, port, _ := strings.Cut(addr, ":")
	launch(t, nil, "/usr/bin/chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
		"--remote-debugging-port="+port, "--remote-allow-origins=*", "--user-data-dir="+t.TempDir(), "about:blank")
	eventually(t, "Chromium to listen", func() bool { return open(addr) })
	return addr
}

// newTab opens url in a tab of its own.
func newTab(t *testing.T, addr, url string) *debugTab {
	t.Helper()
	r, err := http.NewRequest(http.MethodPut, "http://"+addr+"/json/new?"+url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := plain.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var made struct{ ID, WebSocketDebuggerURL string }
	if err := json.NewDecoder(resp.Body).Decode(&made); err != nil {
		t.Fatal(resp.Status, err)
	}
	conn, _, err := websocket.Dial(t.Context(), made.WebSocketDebuggerURL, nil)
	if err != nil {
		t.Fatal(err)
	}
	conn.SetReadLimit(64 << 20)
	t.Cleanup(func() { conn.CloseNow() })
	return &debugTab{conn: conn, id: made.ID}
}

// eval is the value of an expression that is a string, or the promise of one; "" when it fails, as it does while a page loads.
func (b *debugTab) eval(t *testing.T, js string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	b.last++
	params := map[string]any{"expression": js, "awaitPromise": true, "returnByValue": true}
	if err := wsjson.Write(ctx, b.conn, map[string]any{"id": b.last, "method": "Runtime.evaluate", "params": params}); err != nil {
		t.Fatal(err)
	}
	for {
		var answer struct {
			ID     int
			Result struct {
				Result           struct{ Value any }
				ExceptionDetails any
			}
		}
		if err := wsjson.Read(ctx, b.conn, &answer); err != nil {
			t.Fatal(err)
		}
		if answer.ID == b.last {
			if answer.Result.ExceptionDetails != nil {
				t.Logf("%.80s: %v", js, answer.Result.ExceptionDetails)
			}
			text, _ := answer.Result.Result.Value.(string)
			return text
		}
	}
}

// TestLearnHAR learns what Chromium has exported, with and without what is secret: a socket.io session, and a poll.
func TestLearnHAR(t *testing.T) {
	t.Parallel()
	h := startHub(t, "orders", "{}")
	addr := debugged(t)
	c := newTab(t, addr, "about:blank")
	tools := newTab(t, addr, "http://"+addr+"/devtools/inspector.html?ws="+addr+"/devtools/page/"+c.id)
	eventually(t, "the tools to record", func() bool {
		c.eval(t, `location.href = "http://`+h.addr+`/"; "on"`)
		time.Sleep(time.Second) // a page that is loaded again and again is never loaded
		return strings.Contains(tools.eval(t, strings.Replace(exports, "SANITIZE", "false", 1)), `"http://`+h.addr+`/"`)
	})
	news := startHub(t, "socketio", "{}")
	c.eval(t, `window.heard = []; { const ws = new WebSocket("ws://`+news.addr+`/socket.io/?EIO=4&transport=websocket");
		ws.onmessage = (e) => { heard.push(e.data); if (e.data[0] === "0") ws.send('40{"token":"PLANTED"}') } } "on"`)
	news.emits(t, "/", "news", `[{"n":1}]`)
	eventually(t, "the news", func() bool { return c.eval(t, "String(heard.length)") == "3" })
	eventually(t, "the poll", func() bool { n, _ := strconv.Atoi(c.eval(t, "String(saw.length)")); return n >= 8 })
	for sanitize, cookie := range map[string]bool{"false": true, "true": false} {
		file := filepath.Join(t.TempDir(), "recorded.har")
		if err := os.WriteFile(file, []byte(tools.eval(t, strings.Replace(exports, "SANITIZE", sanitize, 1))), 0o600); err != nil {
			t.Fatal(err)
		}
		out := filepath.Join(t.TempDir(), "learned.env")
		status, stdout, stderr := run(t, nil, "learn", "-o", out, file)
		if status != 0 {
			t.Fatal(stdout, stderr)
		}
		data, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		if status, _, stderr := run(t, nil, "-env-file", out, "check"); status != 0 {
			t.Fatal(stderr, string(data))
		}
		text := string(data)
		holds(t, text, "SSE_ROUTE_ORDERS_FROM=http://"+h.addr+"/api/orders", "SSE_ROUTE_ORDERS_EVERY=1s", "SSE_ROUTE_ORDERS_SELECT=del(.serverTime)", // in a background tab, timers run once a second
			"SSE_ROUTE_SOCKETIO_FROM=ws://"+news.addr+"/socket.io/", "SSE_ROUTE_SOCKETIO_PROTOCOL=socket.io", `SSE_ROUTE_SOCKETIO_CONNECT={"token":"{query.token}"}`)
		if has := strings.Contains(text, "SSE_ROUTE_ORDERS_HEADERS=Cookie: sid={cookie.sid}\n"); has != cookie {
			t.Errorf("sanitized: %s\n%s", sanitize, text)
		}
	}
}
