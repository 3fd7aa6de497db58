// Tunnel measures a page's WebSocket through the tunnel beside the browser's own, passed through the same sidecar, and beside the floor: what
// a POST and an event cost that browser without any tunnel. They take turns in one run of Chromium, over HTTP/1.1 and then over HTTP/2 with
// TLS, and the table has the medians of the rounds. It is run in the repository:
//
//	go run ./e2e/bench/tunnel
package main

import (
	"bytes"
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
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/coder/websocket"

	"sidestream/e2e/authority"
	"sidestream/e2e/ports"
)

//go:embed bench.js
var script string

// size is that of a message in bytes.
const size = 100

// figures are one round of one kind: milliseconds, There until the service has the message, and messages per second.
type figures struct{ Median, P99, There, Down, Up float64 }

// outcome is what the page has measured. Answer is a POST of the floor alone, Streamed one POST of the floor for all messages.
type outcome struct {
	WebSocket, Answer, Floor, Streamed, Tunnel []figures
	Problem                                    string
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

func run(ctx context.Context, w io.Writer, sizes string) error {
	dir, err := os.MkdirTemp("", "sidestream-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(dir, "sidestream"), "sidestream").CombinedOutput(); err != nil {
		return fmt.Errorf("build the sidecar: %w\n%s", err, out)
	}
	upstream := httptest.NewServer(http.HandlerFunc(serve))
	defer upstream.Close()
	defer upstream.CloseClientConnections()
	pair := authority.New("bench").Issue("bench", "127.0.0.1")
	plain, version, err := measure(ctx, dir, upstream.URL, sizes, nil)
	if err != nil {
		return fmt.Errorf("over HTTP/1.1: %w", err)
	}
	secure, _, err := measure(ctx, dir, upstream.URL, sizes, &pair)
	if err != nil {
		return fmt.Errorf("over HTTP/2 with TLS: %w", err)
	}
	table(w, plain, secure, version)
	return nil
}

// measure has the page measured with a sidecar of its own: with the pair over TLS, where browsers speak HTTP/2.
func measure(ctx context.Context, dir, upstream, sizes string, pair *authority.Pair) (got outcome, version string, err error) {
	floor := startFloor(pair)
	defer floor.Close()
	defer floor.CloseClientConnections()
	addr, stop, err := startSidecar(ctx, dir, upstream, pair)
	if err != nil {
		return got, "", err
	}
	defer stop()
	scheme, _, _ := strings.Cut(floor.URL, "://")
	got, version, err = browse(ctx, scheme+"://"+addr+"/?size="+sizes+"&floor="+url.QueryEscape(floor.URL))
	if err == nil && got.Problem != "" {
		err = errors.New(got.Problem)
	}
	return got, version, err
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
			data, answers = bytes.Repeat([]byte("x"), size), n
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
			if conn.Write(ctx, websocket.MessageText, stamped(data)) != nil {
				return
			}
		}
	}
}

// startSidecar starts the sidecar that dir has in front of upstream.
func startSidecar(ctx context.Context, dir, upstream string, pair *authority.Pair) (addr string, stop func(), err error) {
	if addr, err = ports.Address(); err != nil {
		return "", nil, err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(dir, "sidestream"))
	cmd.Env = []string{"SSE_LISTEN=" + addr, "SSE_ADMIN_LISTEN=off", "SSE_UPSTREAM=" + upstream, "SSE_TUNNEL=/", "SSE_DRAIN=0"}
	if pair != nil {
		cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
		if err := errors.Join(os.WriteFile(cert, pair.Cert, 0o600), os.WriteFile(key, pair.Key, 0o600)); err != nil {
			return "", nil, err
		}
		cmd.Env = append(cmd.Env, "SSE_TLS_CERT="+cert, "SSE_TLS_KEY="+key)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	stop = func() {
		cmd.Process.Kill()
		cmd.Wait()
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
func browse(ctx context.Context, address string) (got outcome, version string, err error) {
	ctx, free := chromedp.NewExecAllocator(ctx, chromedp.ExecPath("/usr/bin/chromium"), chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck,
		chromedp.NoSandbox, chromedp.Headless, chromedp.DisableGPU, chromedp.WSURLReadTimeout(time.Minute),
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("ignore-certificate-errors", true), chromedp.Flag("disable-sync", true), chromedp.Flag("disable-dev-shm-usage", true))
	defer free()
	ctx, stop := chromedp.NewContext(ctx)
	defer stop()
	defer chromedp.Cancel(ctx)
	if _, err := chromedp.Run(ctx, chromedp.Navigate(address)); err != nil {
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
func table(w io.Writer, plain, secure outcome, browser string) {
	fmt.Fprintf(w, "%s, %d CPUs, %s, headless %s, loopback, messages of %d bytes, median of %d rounds:\n", processor(), runtime.NumCPU(),
		runtime.Version(), browser, size, len(plain.Tunnel))
	for _, over := range []struct {
		name string
		got  outcome
	}{{"HTTP/1.1", plain}, {"HTTP/2 over TLS", secure}} {
		fmt.Fprintf(w, "\n| %s | the browser's WebSocket, passed through | floor: a POST and its answer | floor: a POST each, and its event | floor: one POST for all, "+
			"and its events | tunnel |\n|---|---|---|---|---|---|\n", over.name)
		row := func(name, format string, value func(figures) float64) {
			fmt.Fprintf(w, "| %s |", name)
			for _, kind := range [][]figures{over.got.WebSocket, over.got.Answer, over.got.Floor, over.got.Streamed, over.got.Tunnel} {
				if figure := median(kind, value); figure > 0 {
					fmt.Fprintf(w, " "+format+" |", figure)
				} else {
					fmt.Fprint(w, " |")
				}
			}
			fmt.Fprintln(w)
		}
		row("round trip, median", "%.2f ms", func(f figures) float64 { return f.Median })
		row("of that, until the service has it", "%.2f ms", func(f figures) float64 { return f.There })
		row("round trip, 99 %", "%.2f ms", func(f figures) float64 { return f.P99 })
		row("messages down, a second", "%.0f", func(f figures) float64 { return f.Down })
		row("messages up, a second", "%.0f", func(f figures) float64 { return f.Up })
	}
}

func median(all []figures, value func(figures) float64) float64 {
	if len(all) == 0 {
		return 0
	}
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
