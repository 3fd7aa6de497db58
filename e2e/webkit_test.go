//go:build e2e

package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"
)

// webkit is Debian's WebKitGTK, whose EventSource is Safari's too. It is driven over WebDriver
// (https://www.w3.org/TR/webdriver2/) by WebKitWebDriver, and has no headless mode: it shows its window to Xvfb.
type webkit struct{ session string }

func startWebKit(t *testing.T) *webkit {
	t.Helper()
	found, err := filepath.Glob("/usr/lib/*/webkit2gtk-4.1/MiniBrowser")
	if err != nil || len(found) == 0 {
		t.Fatal("WebKitGTK's MiniBrowser is missing: install webkit2gtk-driver")
	}
	read, write := io.Pipe()
	t.Cleanup(func() { read.Close() })
	launchTo(t, write, nil, "Xvfb", "-displayfd", "1", "-screen", "0", "1240x900x24", "-nolisten", "tcp")
	var display int
	if _, err := fmt.Fscanln(read, &display); err != nil {
		t.Fatalf("Xvfb tells no display: %v", err)
	}
	go io.Copy(io.Discard, read) // ends with Xvfb
	addr := freeAddr(t)
	_, port, _ := net.SplitHostPort(addr)
	launch(t, []string{fmt.Sprintf("DISPLAY=:%d", display), "LIBGL_ALWAYS_SOFTWARE=1", "WEBKIT_DISABLE_COMPOSITING_MODE=1"},
		"WebKitWebDriver", "--host=127.0.0.1", "--port="+port)
	w := &webkit{session: "http://" + addr + "/session"}
	eventually(t, "WebKit's driver", func() bool {
		conn, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	var made struct{ SessionID string }
	w.command(t, http.MethodPost, "", map[string]any{"capabilities": map[string]any{"alwaysMatch": map[string]any{
		"acceptInsecureCerts":      true,
		"webkitgtk:browserOptions": map[string]any{"binary": found[0], "args": []string{"--automation"}},
	}}}, &made)
	w.session += "/" + made.SessionID
	t.Cleanup(func() { w.command(t, http.MethodDelete, "", nil, nil) })
	return w
}

// command asks and unpacks the value into out, if there is one.
func (w *webkit) command(t *testing.T, method, path string, params, out any) {
	t.Helper()
	body, err := json.Marshal(params)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest(method, w.session+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Timeout: patience}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer := struct{ Value json.RawMessage }{}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %s %s %v", method, path, resp.Status, answer.Value, err)
	}
	if out != nil {
		if err := json.Unmarshal(answer.Value, out); err != nil {
			t.Fatalf("%s %s: %v", method, path, err)
		}
	}
}

func (w *webkit) open(t *testing.T, url string) {
	t.Helper()
	w.command(t, http.MethodPost, "/url", map[string]string{"url": url}, nil)
}

// eval, as the others have it, takes an expression; "" stands for what is no string.
func (w *webkit) eval(t *testing.T, js string) string {
	t.Helper()
	var value any
	w.command(t, http.MethodPost, "/execute/async", map[string]any{
		"script": "const done = arguments[0]; Promise.resolve((" + js + ")).then(done, e => done('failed: ' + e))", "args": []any{},
	}, &value)
	text, _ := value.(string)
	return text
}

func (w *webkit) screenshot(t *testing.T, name string) {
	t.Helper()
	var shot string
	w.command(t, http.MethodGet, "/screenshot", nil, &shot)
	png, err := base64.StdEncoding.DecodeString(shot)
	if err != nil {
		t.Fatal(err)
	}
	keep(t, name, png)
}
