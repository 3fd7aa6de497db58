//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// cutter is a proxy that cuts the first answer to each request target /...?cut=N after N bytes of its body, and lets later
// ones through. It listens at several addresses of the loopback network with one port: to a browser these are so many hosts.
type cutter struct {
	port  string
	hosts []string
	open  sync.WaitGroup

	mu     sync.Mutex // guards what follows
	target string
	seen   map[string]bool
	all    map[net.Conn]bool
}

// cutterHosts times the six connections that a browser has for a host are enough for one round of cutsAtOnce.
const (
	cutterHosts = 25
	cutsAtOnce  = 120
)

func startCutter(t *testing.T) *cutter {
	t.Helper()
	c := &cutter{seen: map[string]bool{}, all: map[net.Conn]bool{}}
	var listeners []net.Listener
	for i := range cutterHosts {
		host := fmt.Sprintf("127.0.0.%d", 1+i)
		l, err := net.Listen("tcp", net.JoinHostPort(host, c.port))
		if c.port == "" && err == nil {
			_, c.port, _ = net.SplitHostPort(l.Addr().String())
		}
		if err != nil {
			t.Fatal(err)
		}
		c.hosts = append(c.hosts, host)
		listeners = append(listeners, l)
		c.open.Go(func() { c.accept(l) }) // ends with l
	}
	t.Cleanup(func() {
		for _, l := range listeners {
			l.Close()
		}
		c.mu.Lock()
		for conn := range c.all {
			conn.Close()
		}
		c.mu.Unlock()
		c.open.Wait()
	})
	return c
}

func (c *cutter) addr() string { return net.JoinHostPort("127.0.0.1", c.port) }

func (c *cutter) accept(l net.Listener) {
	for {
		client, err := l.Accept()
		if err != nil {
			return
		}
		c.open.Go(func() { c.relay(client) }) // ends when either side does
	}
}

func (c *cutter) relay(client net.Conn) {
	c.mu.Lock()
	target := c.target
	c.mu.Unlock()
	server, err := net.Dial("tcp", target)
	if err != nil {
		client.Close()
		return
	}
	c.mu.Lock()
	c.all[client], c.all[server] = true, true
	c.mu.Unlock()
	var both sync.WaitGroup
	first := make(chan string, 1)
	both.Go(func() { // ends with client
		defer server.Close()
		line := firstLine{found: first}
		io.Copy(server, io.TeeReader(client, &line))
	})
	c.answer(client, server, first)
	client.Close()
	server.Close()
	both.Wait()
}

// firstLine sends the first line of what is written to it.
type firstLine struct {
	found chan string
	line  []byte
	done  bool
}

func (f *firstLine) Write(p []byte) (int, error) {
	if !f.done {
		f.line = append(f.line, p...)
		if line, _, ok := bytes.Cut(f.line, []byte("\r\n")); ok {
			f.found <- string(line)
			f.done = true
		}
	}
	return len(p), nil
}

// answer passes the server's answers on; the first one is cut if the request says so and it is the first of its kind.
func (c *cutter) answer(client, server net.Conn, first chan string) {
	buf := make([]byte, 64<<10)
	var head []byte
	for {
		n, err := server.Read(buf)
		head = append(head, buf[:n]...)
		if at := bytes.Index(head, []byte("\r\n\r\n")); at >= 0 {
			at += 4
			left := c.bound(<-first)
			body := head[at:]
			client.Write(head[:at])
			if left >= 0 {
				n := min(left, len(body))
				client.Write(body[:n])
				io.CopyN(client, server, int64(left-n))
				return
			}
			client.Write(body)
			io.Copy(client, server)
			return
		}
		if err != nil {
			return
		}
	}
}

// bound is after how many bytes of its body the answer to the request with this first line is cut; less than 0: never.
func (c *cutter) bound(line string) int {
	var cut int
	_, query, ok := strings.Cut(line, "?cut=")
	if _, err := fmt.Sscanf(query, "%d", &cut); !ok || err != nil {
		return -1
	}
	query, _, _ = strings.Cut(query, " ")
	query, _, _ = strings.Cut(query, "&")
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen[query] {
		return -1
	}
	c.seen[query] = true
	return cut
}

// again has the cutter cut each once more.
func (c *cutter) again() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.seen)
}

// cutOutcome is what one source saw.
type cutOutcome struct {
	Cut int
	Saw [][2]string // event's name and data
}

// cutPage opens an EventSource for each of the cuts from..to, over many hosts, and tells what they saw.
const cutPage = `<!doctype html><link rel="icon" href="data:,"><title>cuts</title><script>
const names = ["message", "tick", "last", "stream.cut", "stream.gap", "stream.open", "stream.busy", "stream.refused"];
function cuts(hosts, from, to) {
  const all = [];
  for (let cut = from; cut <= to; cut++) all.push(new Promise(done => {
    const saw = [], source = new EventSource("http://" + hosts[cut % hosts.length] + ":" + location.port + "/ticks?cut=" + cut);
    const end = () => { source.close(); done({ Cut: cut, Saw: saw }); };
    const limit = setTimeout(end, 40000);
    for (const name of names) source.addEventListener(name, e => {
      saw.push([name, e.data]);
      if (name === "last") { clearTimeout(limit); setTimeout(end, 1000); }
    });
    source.addEventListener("error", () => source.readyState === 2 && saw.push(["closed", ""]));
  }));
  return Promise.all(all).then(outcomes => JSON.stringify(outcomes));
}
</script>`

// cutEvents are the events that are cut. Their characters have one to four bytes.
var cutEvents = []string{`{"n":1,"t":"é€😀"}`, `{"n":2,"t":"lines\nof two"}`, `{"done":true}`}

// startCutFeed serves cutEvents to everyone who comes, whole, and returns the body that an EventSource without an id gets.
func startCutFeed(t *testing.T) (c *cutter, body string) {
	t.Helper()
	f := startFeed(t, map[string]string{"/cuts.html": cutPage})
	c = startCutter(t)
	s := startSidecar(t, "SSE_UPSTREAM=http://"+f.addr(), "SSE_ROUTE_TICKS_PATH=/ticks", "SSE_ROUTE_TICKS_FROM=ws://"+f.addr()+"/ws",
		`SSE_ROUTE_TICKS_EVENT=if .done then "last" else "tick" end`, "SSE_ROUTE_TICKS_DATA=.t // .", "SSE_START=all", "SSE_ROUTE_TICKS_EAGER=true",
		"SSE_RETRY=500ms", "SSE_HEARTBEAT=1s", "SSE_CORS_ORIGINS=http://"+c.addr(), "SSE_DRAIN=200ms")
	c.mu.Lock()
	c.target = s.addr
	c.mu.Unlock()
	for _, e := range cutEvents {
		f.say(t, e)
	}
	eventually(t, "the events", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.addr+"/ticks", nil)
		req.Header = http.Header{"Accept": {"text/event-stream"}, "Cache-Control": {"no-cache"}}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		got := make([]byte, 4096)
		n, _ := io.ReadAtLeast(resp.Body, got, 1)
		body = string(got[:n])
		return strings.Contains(body, cutEvents[2])
	})
	return c, body
}

// checkCut fails unless each source saw each event once and in order, nothing half, and no gap: nothing was lost. excused
// tells of a cut that no encoding mends for a client.
func checkCut(t *testing.T, who string, one cutOutcome, excused func(cut int) bool) {
	t.Helper()
	var saw []string
	for _, e := range one.Saw {
		switch e[0] {
		case "stream.cut", "stream.open": // nobody listens for the one; who has no event yet is told the other
		default:
			saw = append(saw, e[0]+" "+e[1])
		}
	}
	want := []string{"tick é€😀", "tick lines\nof two", "last " + cutEvents[2]}
	if got := strings.Join(saw, "|"); got != strings.Join(want, "|") && !excused(one.Cut) {
		t.Errorf("%s, cut after %d bytes, saw %q", who, one.Cut, got)
	}
}

// framedSize is how many bytes a body has at the most with chunks around its pieces: a size and two line ends each.
func framedSize(body string) int { return len(body) + (2+len(cutEvents))*len("2a\r\n\r\n") }

// TestCutAtEveryByteInBrowsers: wherever an answer is cut, a native EventSource has seen everything once.
func TestCutAtEveryByteInBrowsers(t *testing.T) {
	t.Parallel()
	c, body := startCutFeed(t)
	last := framedSize(body)
	run := func(t *testing.T, b browser, excused func(cut int) bool) {
		b.open(t, "http://"+c.addr()+"/cuts.html")
		hosts, _ := json.Marshal(c.hosts)
		n := 0
		for from := 0; from <= last; from += cutsAtOnce {
			b.eval(t, fmt.Sprintf(`window.outcome = undefined, cuts(%s, %d, %d).then(o => window.outcome = o), ""`, hosts, from, min(from+cutsAtOnce-1, last)))
			var outcomes []cutOutcome
			eventually(t, "the sources to be done", func() bool {
				text := b.eval(t, `window.outcome || ""`)
				return text != "" && json.Unmarshal([]byte(text), &outcomes) == nil
			})
			for _, one := range outcomes {
				n++
				checkCut(t, t.Name(), one, excused)
			}
		}
		if n != last+1 {
			t.Errorf("%d cuts were tried, want %d", n, last+1)
		}
		c.again()
	}
	none := func(int) bool { return false }
	t.Run("chromium", func(t *testing.T) { run(t, startChromium(t), none) })
	// Firefox gives up for good when an answer of another origin is cut before its body's first byte; see findings/.
	t.Run("firefox", func(t *testing.T) { run(t, startFirefox(t), func(cut int) bool { return cut <= len("2a\r\n") }) })
	t.Run("webkit", func(t *testing.T) { run(t, startWebKit(t), none) })
}

// TestCutAtEveryByteInLibraries is the same for the libraries of Node.
func TestCutAtEveryByteInLibraries(t *testing.T) {
	t.Parallel()
	c, body := startCutFeed(t)
	last := framedSize(body)
	for _, kind := range []string{"eventsource", "eventsource2", "undici", "polyfill", "fetch", "fetch-no-store"} {
		t.Run(kind, func(t *testing.T) {
			p := launch(t, nil, "node", "clients/cuts.mjs", kind, "http://"+c.addr()+"/ticks", "0", fmt.Sprint(last))
			<-p.ended
			lines := strings.Split(strings.TrimSpace(p.stdout.String()), "\n")
			if len(lines) != last+1 {
				t.Errorf("%d cuts were tried, want %d", len(lines), last+1)
			}
			lost := 0
			for _, line := range lines {
				var one cutOutcome
				if err := json.Unmarshal([]byte(line), &one); err != nil {
					t.Fatalf("%q: %v", line, err)
				}
				checkCut(t, kind, one, func(cut int) bool {
					// These take an id at its line, so the cut between that and the blank line loses an event.
					lost++
					return (kind == "fetch" || kind == "fetch-no-store" || kind == "eventsource2") && lost <= 2*len(cutEvents)
				})
			}
		})
		c.again()
	}
}
