//go:build e2e

package e2e

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// proxies are those that the documentation has settings for, each with these and otherwise its defaults. start returns the
// address at which it passes on to target.
var proxies = map[string]func(t *testing.T, target string) (front string){
	"nginx":    startNginx,
	"haproxy":  startHAProxy,
	"caddy":    startCaddy,
	"apache":   startApache,
	"varnish":  varnishWith(`sub vcl_recv { if (req.http.Accept ~ "text/event-stream") { return (pass); } }`), // as it comes it asks for gzip whoever asks
	"lighttpd": startLighttpd,
	"squid":    squidWith("", ""),
}

// front runs a proxy whose configuration, a file of its own directory, is text with %[1]s for where it listens, %[2]s for
// that address's port, %[3]s for target, %[4]s and %[5]s for its host and port, and %[6]s for the directory.
func front(t *testing.T, target, text, program string, args ...string) string {
	t.Helper()
	addr := freeAddr(t)
	dir, err := os.MkdirTemp("", "front") // not t.TempDir, whose parent is closed: some go on as a user of their own
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	os.Chmod(dir, 0o755)
	_, port, _ := net.SplitHostPort(addr)
	host, targetPort, _ := net.SplitHostPort(target)
	fill := func(s string) string {
		return strings.NewReplacer("%[1]s", addr, "%[2]s", port, "%[3]s", target, "%[4]s", host, "%[5]s", targetPort, "%[6]s", dir).Replace(s)
	}
	if err := os.WriteFile(filepath.Join(dir, "conf"), []byte(fill(text)), 0o644); err != nil {
		t.Fatal(err)
	}
	for i := range args {
		args[i] = fill(args[i])
	}
	if path := "/usr/sbin/" + program; !strings.Contains(program, "/") {
		if _, err := os.Stat(path); err == nil {
			program = path
		}
	}
	p := launch(t, nil, program, args...)
	eventually(t, program+" to listen", func() bool {
		select {
		case <-p.ended:
			t.Fatalf("%s ended: %s %s", program, &p.stdout, &p.stderr)
		default:
		}
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return addr
}

func startHAProxy(t *testing.T, target string) string {
	return front(t, target, `
defaults
  mode http
  option http-no-delay
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend front
  bind %[1]s
  default_backend sidecar
backend sidecar
  server sidecar %[3]s
`, "haproxy", "-db", "-f", "%[6]s/conf")
}

func startCaddy(t *testing.T, target string) string {
	return front(t, target, `
{
  admin off
  auto_https off
}
http://:%[2]s {
  bind 127.0.0.1
  reverse_proxy %[3]s
}
`, "caddy", "run", "--adapter", "caddyfile", "--config", "%[6]s/conf")
}

func startApache(t *testing.T, target string) string { return apacheWith("", "")(t, target) }

func startVarnish(t *testing.T, target string) string {
	return front(t, target, `
vcl 4.1;
backend default { .host = "%[4]s"; .port = "%[5]s"; }
`, "varnishd", "-F", "-n", "%[6]s/n", "-a", "%[1]s", "-f", "%[6]s/conf", "-s", "malloc,32m")
}

func startLighttpd(t *testing.T, target string) string {
	return front(t, target, `
server.document-root = "%[6]s"
server.bind = "127.0.0.1"
server.port = %[2]s
server.modules = ( "mod_proxy" )
server.stream-response-body = 1
proxy.server = ( "" => ( ( "host" => "%[4]s", "port" => "%[5]s" ) ) )
`, "lighttpd", "-D", "-f", "%[6]s/conf")
}

// TestProxiesPassEventsOneByOne: behind each of them a client has each event before the next one is sent, and the stream
// outlives a silence that only heartbeats break, compressed or not.
func TestProxiesPassEventsOneByOne(t *testing.T) {
	t.Parallel()
	for name, start := range proxies {
		t.Run(name, func(t *testing.T) {
			f := startFeed(t, nil)
			s := startSidecar(t, append(feedEnv(f), "SSE_COMPRESS=gzip")...)
			addr := start(t, s.addr)
			plain, zipped := readLines(t, addr, "identity"), readLines(t, addr, "gzip")
			for range 5 {
				said := f.tick(t)
				for encoding, lines := range map[string]chan string{"identity": plain, "gzip": zipped} {
					until(t, lines, encoding+": an event", "data: "+said)
					until(t, lines, encoding+": a heartbeat", ":")
				}
			}
		})
	}
}

// readLines asks for /ticks in an encoding, and returns the lines that come.
func readLines(t *testing.T, addr, encoding string) chan string {
	t.Helper()
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+"/ticks", nil)
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Accept-Encoding", encoding)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	kind, coding := resp.Header.Get("Content-Type"), resp.Header.Get("Content-Encoding")
	if resp.StatusCode != 200 || kind != "text/event-stream" || (coding == "gzip") != (encoding == "gzip") {
		t.Fatalf("%s, %s, %s", resp.Status, kind, coding)
	}
	var body io.Reader = resp.Body
	if coding == "gzip" {
		if body, err = gzip.NewReader(body); err != nil {
			t.Fatal(err)
		}
	}
	lines := make(chan string, 1000)
	go func() { // ends with the body
		defer close(lines)
		for in := bufio.NewScanner(body); in.Scan(); {
			lines <- in.Text()
		}
	}()
	return lines
}

// until waits for a line.
func until(t *testing.T, lines chan string, what, want string) {
	t.Helper()
	for deadline := time.After(patience); ; {
		select {
		case line, open := <-lines:
			if !open {
				t.Fatalf("it ended before %s", what)
			}
			if line == want {
				return
			}
		case <-deadline:
			t.Fatalf("%s is held back", what)
		}
	}
}

// herd is many EventSources in one process, see clients/herd.mjs.
type herd struct {
	*process
	counts chan herdCount
}

type herdCount struct{ Open, Dead int }

func startHerd(t *testing.T, url string, n int) *herd {
	t.Helper()
	read, write := io.Pipe()
	h := &herd{counts: make(chan herdCount, 10000)}
	go func() { // ends with the pipe, which ends with the process
		defer close(h.counts)
		for lines := bufio.NewScanner(read); lines.Scan(); {
			var c herdCount
			if json.Unmarshal(lines.Bytes(), &c) == nil {
				h.counts <- c
			}
		}
		io.Copy(io.Discard, read)
	}()
	h.process = launchTo(t, write, nil, "node", "clients/herd.mjs", url, fmt.Sprint(n))
	return h
}

// until waits for all to be open or, with away, none. It fails at the first that is dead.
func (h *herd) until(t *testing.T, name string, open int) {
	t.Helper()
	for deadline := time.After(patience); ; {
		select {
		case c, ok := <-h.counts:
			switch {
			case !ok:
				t.Fatalf("%s: the herd ended", name)
			case c.Dead > 0:
				t.Fatalf("%s: %d EventSources gave up", name, c.Dead)
			case c.Open == open:
				return
			}
		case <-deadline:
			t.Fatalf("%s: not %d open", name, open)
		}
	}
}

// TestRestartKillsNoEventSource: a native EventSource that meets a proxy's 502 gives up for good. None does, however long the
// sidecar is away, as long as that is not longer than SSE_RESTART.
func TestRestartKillsNoEventSource(t *testing.T) {
	t.Parallel()
	const each, window = 200, 2 * time.Second
	f := startFeed(t, nil)
	s := startSidecar(t, "SSE_UPSTREAM=http://"+f.addr(), "SSE_ROUTE_TICKS_PATH=/ticks", "SSE_ROUTE_TICKS_FROM=ws://"+f.addr()+"/ws",
		"SSE_RETRY=1s", "SSE_DRAIN="+window.String())
	herds, fronts := map[string]*herd{}, map[string]string{}
	for _, name := range []string{"nginx", "caddy", "apache"} {
		fronts[name] = proxies[name](t, s.addr)
		herds[name] = startHerd(t, "http://"+fronts[name]+"/ticks", each)
	}
	for name, h := range herds {
		h.until(t, name, each)
	}
	for _, away := range []time.Duration{300 * time.Millisecond, 1500 * time.Millisecond, 4500 * time.Millisecond} {
		begun := time.Now()
		s.drain(t)
		for name, h := range herds {
			h.until(t, name, 0)
			status("http://" + fronts[name] + "/elsewhere") // another request meets the 502, and the proxy remembers it or not
		}
		<-time.After(time.Until(begun.Add(window + away)))
		s.start(t)
		for name, h := range herds {
			h.until(t, fmt.Sprintf("%s, away for %v", name, away), each)
		}
	}
}
