// Tunnel measures a page's WebSocket through the tunnel beside the browser's own, passed through the same sidecar, in
// one run of Chromium. The two take turns, and the table has the medians of the rounds. It is run in the repository:
//
//	go run ./e2e/bench/tunnel
package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/coder/websocket"

	"sidestream/e2e/ports"
)

//go:embed bench.js
var script string

// figures are one round of one kind: milliseconds, and messages per second.
type figures struct{ Median, P99, Down, Up float64 }

// outcome is what the page has measured.
type outcome struct {
	WebSocket, Tunnel []figures
	Problem           string
}

func main() {
	rounds := flag.Int("rounds", 5, "how often each is measured")
	trips := flag.Int("trips", 500, "round trips, one after the other, a round")
	count := flag.Int("count", 20000, "messages each way a round")
	flag.Parse()
	ctx, stop := context.WithTimeout(context.Background(), 5*time.Minute)
	defer stop()
	if err := run(ctx, os.Stdout, fmt.Sprintf("%d,%d,%d", *rounds, *trips, *count)); err != nil {
		fmt.Fprintln(os.Stderr, "tunnel:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, w io.Writer, size string) error {
	upstream := httptest.NewServer(http.HandlerFunc(serve))
	defer upstream.Close()
	defer upstream.CloseClientConnections()
	addr, stop, err := startSidecar(ctx, upstream.URL)
	if err != nil {
		return err
	}
	defer stop()
	got, version, err := browse(ctx, "http://"+addr+"/?size="+size)
	if err != nil {
		return err
	}
	if got.Problem != "" {
		return errors.New(got.Problem)
	}
	table(w, got, version)
	return nil
}

// serve is the page, and a WebSocket that echoes, sends as many messages as it is told, and counts.
func serve(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/":
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		io.WriteString(w, `<!doctype html><link rel="icon" href="data:,"><script type="module" src="/bench.js"></script>`)
	case "/bench.js":
		w.Header().Set("Content-Type", "text/javascript")
		io.WriteString(w, script)
	default:
		if conn, err := websocket.Accept(w, r, nil); err == nil {
			defer conn.CloseNow()
			echo(r.Context(), conn)
		}
	}
}

func echo(ctx context.Context, conn *websocket.Conn) {
	waits := 0 // for so many messages, which are only counted
	for {
		_, data, err := conn.Read(ctx)
		if err != nil {
			return
		}
		answers, n := 1, 0
		switch _, err := fmt.Sscanf(string(data), "burst %d", &n); {
		case err == nil:
			data, answers = make100(), n
		case waits > 0:
			if waits--; waits > 0 {
				answers = 0
			}
		default:
			if _, err := fmt.Sscanf(string(data), "count %d", &n); err == nil {
				waits, answers = n, 0
			}
		}
		for range answers {
			if conn.Write(ctx, websocket.MessageText, data) != nil {
				return
			}
		}
	}
}

func make100() []byte { return []byte(strings.Repeat("x", 100)) }

// startSidecar builds the sidecar and starts it in front of upstream.
func startSidecar(ctx context.Context, upstream string) (addr string, stop func(), err error) {
	dir, err := os.MkdirTemp("", "sidestream-bench-")
	if err != nil {
		return "", nil, err
	}
	binary := filepath.Join(dir, "sidestream")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", binary, "sidestream").CombinedOutput(); err != nil {
		os.RemoveAll(dir)
		return "", nil, fmt.Errorf("build the sidecar: %w\n%s", err, out)
	}
	if addr, err = ports.Address(); err != nil {
		os.RemoveAll(dir)
		return "", nil, err
	}
	cmd := exec.CommandContext(ctx, binary)
	cmd.Env = []string{"SSE_LISTEN=" + addr, "SSE_ADMIN_LISTEN=off", "SSE_UPSTREAM=" + upstream, "SSE_TUNNEL=/", "SSE_DRAIN=0"}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		os.RemoveAll(dir)
		return "", nil, err
	}
	stop = func() {
		cmd.Process.Kill()
		cmd.Wait()
		os.RemoveAll(dir)
	}
	for ctx.Err() == nil {
		if conn, err := net.Dial("tcp", addr); err == nil {
			conn.Close()
			return addr, stop, nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	stop()
	return "", nil, ctx.Err()
}

// browse opens the page and returns what it measures, and the browser's version.
func browse(ctx context.Context, url string) (got outcome, version string, err error) {
	ctx, free := chromedp.NewExecAllocator(ctx, chromedp.ExecPath("/usr/bin/chromium"), chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck,
		chromedp.NoSandbox, chromedp.Headless, chromedp.DisableGPU, chromedp.WSURLReadTimeout(time.Minute),
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true), chromedp.Flag("disable-dev-shm-usage", true))
	defer free()
	ctx, stop := chromedp.NewContext(ctx)
	defer stop()
	defer chromedp.Cancel(ctx)
	if _, err := chromedp.Run(ctx, chromedp.Navigate(url)); err != nil {
		return got, "", err
	}
	for ctx.Err() == nil {
		text, err := chromedp.Run(ctx, chromedp.Evaluate[string]("JSON.stringify(window.figures || null)"))
		if err != nil {
			return got, "", err
		}
		if text != "null" {
			version, err = chromedp.Run(ctx, chromedp.Evaluate[string]("navigator.userAgent.replace(/.*(Chrome\\/\\d+).*/, '$1')"))
			return got, version, errors.Join(err, json.Unmarshal([]byte(text), &got))
		}
		time.Sleep(100 * time.Millisecond)
	}
	return got, "", ctx.Err()
}

// table prints the figures as Markdown.
func table(w io.Writer, got outcome, browser string) {
	fmt.Fprintf(w, "%s, %d CPUs, %s, headless %s, loopback, HTTP/1.1, messages of 100 bytes, median of %d rounds:\n\n", processor(), runtime.NumCPU(),
		runtime.Version(), browser, len(got.Tunnel))
	fmt.Fprintln(w, "| | the browser's WebSocket, passed through | tunnel |\n|---|---|---|")
	row := func(name, format string, value func(figures) float64) {
		fmt.Fprintf(w, "| %s | "+format+" | "+format+" |\n", name, median(got.WebSocket, value), median(got.Tunnel, value))
	}
	row("round trip, median", "%.2f ms", func(f figures) float64 { return f.Median })
	row("round trip, 99 %", "%.2f ms", func(f figures) float64 { return f.P99 })
	row("messages down, a second", "%.0f", func(f figures) float64 { return f.Down })
	row("messages up, a second", "%.0f", func(f figures) float64 { return f.Up })
}

func median(all []figures, value func(figures) float64) float64 {
	var some []float64
	for _, f := range all {
		some = append(some, value(f))
	}
	slices.Sort(some)
	return some[len(some)/2]
}

// processor is its name, as Linux tells it.
func processor() string {
	text, _ := os.ReadFile("/proc/cpuinfo")
	_, rest, _ := strings.Cut(string(text), "model name")
	line, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSpace(strings.TrimLeft(line, "\t: "))
}
