//go:build e2e

package e2e

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sidestream/e2e/redistest"
)

// configured is a sidecar whose env file is in a folder as Kubernetes mounts it: a link to a link, of which the latter is swapped.
type configured struct {
	*sidecar
	dir     string
	version int
}

// configure writes text as the env file's new version.
func (c *configured) configure(t *testing.T, text string) {
	t.Helper()
	c.version++
	data := filepath.Join(c.dir, fmt.Sprintf("..%d", c.version))
	link := filepath.Join(c.dir, "..data.new")
	if err := errors.Join(os.Mkdir(data, 0o700), os.WriteFile(filepath.Join(data, "env"), []byte(text), 0o600), os.Symlink(data, link), os.Rename(link, filepath.Join(c.dir, "..data"))); err != nil {
		t.Fatal(err)
	}
}

func startConfigured(t *testing.T, text string) *configured {
	t.Helper()
	c := &configured{sidecar: &sidecar{addr: freeAddr(t), admin: freeAddr(t)}, dir: t.TempDir()}
	c.env = []string{"SSE_LISTEN=" + c.addr, "SSE_ADMIN_LISTEN=" + c.admin, "GORACE=exitcode=66", "SSE_ENV_FILE=" + filepath.Join(c.dir, "env")}
	c.configure(t, text)
	if err := os.Symlink("..data/env", filepath.Join(c.dir, "env")); err != nil {
		t.Fatal(err)
	}
	c.start(t)
	return c
}

// reloads waits until reloads have come to so many of each result.
func (c *configured) reloads(t *testing.T, ok, unchanged, failed int) {
	t.Helper()
	want := fmt.Sprintf("ok %d unchanged %d failed %d", ok, unchanged, failed)
	got := ""
	defer func() { t.Log("reloads:", got) }()
	eventually(t, "reloads to be "+want, func() bool {
		var n [3]int
		for i, result := range []string{"ok", "unchanged", "failed"} {
			_, after, _ := strings.Cut(body(t, "http://"+c.admin+"/metrics"), `sidestream_reloads_total{result="`+result+`"} `)
			fmt.Sscan(after, &n[i])
		}
		got = fmt.Sprintf("ok %d unchanged %d failed %d", n[0], n[1], n[2])
		return got == want
	})
}

// audience is clients of a ticker's route, each of which has to get every event over the one connection that it has.
type audience struct {
	done atomic.Bool
	run  sync.WaitGroup
	here atomic.Int64 // that have got an event
	sum  atomic.Int64 // events of all
	mu   sync.Mutex   // guards lost
	lost []error
}

func gather(addr string, n int) *audience {
	c := new(audience)
	for range n {
		c.run.Go(func() {
			came := false
			err := readTicks(addr, "", func(int, int64, string) bool {
				if !came {
					came = true
					c.here.Add(1)
				}
				c.sum.Add(1)
				return !c.done.Load()
			})
			if err != nil {
				c.mu.Lock()
				defer c.mu.Unlock()
				c.lost = append(c.lost, err)
			}
		})
	}
	return c
}

// dismiss ends the audience, which must have been served to the end.
func (c *audience) dismiss(t *testing.T) {
	t.Helper()
	c.done.Store(true)
	c.run.Wait()
	if len(c.lost) > 0 {
		t.Errorf("%d clients lost something, the first one: %v", len(c.lost), c.lost[0])
	}
}

// TestReloadDropsNobody: a thousand clients keep their connections and get every event, while other routes change, come and go, a secret
// rotates and files are wrong.
func TestReloadDropsNobody(t *testing.T) {
	t.Parallel()
	const many = 1000
	ticks := ticker(t, 200*time.Millisecond)
	var token atomic.Pointer[string] // that the service was last asked with
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		said := r.Header.Get("X-Token")
		token.Store(&said)
		fmt.Fprintf(w, `{"path":%q,"at":%d}`, r.URL.Path, time.Now().UnixNano())
	}))
	t.Cleanup(func() { service.CloseClientConnections(); service.Close() })
	secret := filepath.Join(t.TempDir(), "secret")
	rotate := func(text string) {
		if err := errors.Join(os.WriteFile(secret+".new", []byte(text), 0o600), os.Rename(secret+".new", secret)); err != nil {
			t.Fatal(err)
		}
	}
	rotate("X-Token: one")
	base := "SSE_UPSTREAM=" + service.URL + "\nSSE_DRAIN=1s\nSSE_RETRY=50ms\nSSE_EVERY=100ms\nSSE_ROUTE_A_PATH=/ticks\nSSE_ROUTE_A_FROM=ws://" + ticks + "/\nSSE_ROUTE_A_HEADERS_FILE=" + secret + "\n"
	route := func(name, more string) string {
		text := ""
		for _, line := range strings.Fields("PATH=/" + name + " FROM=" + service.URL + "/" + name + " HEADERS_FILE=" + secret + " " + more) {
			text += "SSE_ROUTE_" + strings.ToUpper(name) + "_" + line + "\n"
		}
		return text
	}
	s := startConfigured(t, base+route("b", "")+route("d", ""))
	all := gather(s.addr, many)
	eventually(t, "a thousand clients to be there", func() bool { return all.here.Load() == many })
	b, d := follow(t, s.addr, "/b"), follow(t, s.addr, "/d")

	s.configure(t, base+route("b", "EVENT=\"new\"")+route("c", ""))
	s.reloads(t, 1, 0, 0)
	if rest := d.rest(); !strings.Contains(rest, "retry: ") {
		t.Errorf("a client of the route that is gone was told %q", rest)
	}
	if text := body(t, "http://"+s.addr+"/d"); !strings.HasPrefix(text, `{"path":"/d"`) {
		t.Errorf("its path is not the service's: %q", text)
	}
	if rest := b.rest(); !strings.Contains(rest, "retry: ") {
		t.Errorf("a client of the route that has changed was told %q", rest)
	}
	back := follow(t, s.addr, "/b", "Last-Event-ID", b.id)
	back.want(t, `"reason":"restart"`)
	back.want(t, "event: new")
	follow(t, s.addr, "/c")

	s.configure(t, base+route("b", "EVENT=\"new\"")+"SSE_ROUTE_B_RETRY=often\nSSE_LISTENS=1\n") // and c is gone, which is not to happen
	s.reloads(t, 1, 0, 1)
	for _, problem := range []string{"SSE_ROUTE_B_RETRY", "SSE_LISTENS"} {
		if !strings.Contains(s.stderr.String(), problem) || !strings.Contains(body(t, "http://"+s.admin+"/api/status"), problem) {
			t.Errorf("%s is not told", problem)
		}
	}
	follow(t, s.addr, "/c")
	if status, report := s.post(t, "/api/reload"); status != 422 || len(report["problems"].([]any)) != 2 {
		t.Errorf("%d %v", status, report)
	}

	rotate("X-Token: two")
	eventually(t, "the service to be asked with the new secret", func() bool { return *token.Load() == "two" })
	s.configure(t, base+route("b", "EVENT=\"newer\"")+route("c", ""))
	s.Process.Signal(syscall.SIGHUP)
	eventually(t, "the newest b", func() bool { return strings.Contains(s.stderr.String(), `"trigger":"SIGHUP"`) })
	follow(t, s.addr, "/b").want(t, "event: newer")
	if status, report := s.post(t, "/api/reload"); status != 200 || report["result"] != "unchanged" {
		t.Errorf("%d %v", status, report)
	}
	s.configure(t, base+route("b", "")+route("c", "")+"SSE_MAX_HEADER=9KiB\n")
	if status, report := s.post(t, "/api/reload"); status != 422 || !strings.Contains(fmt.Sprint(report), "SSE_MAX_HEADER: needs a restart; nothing was changed") {
		t.Errorf("%d %v", status, report)
	}
	s.configure(t, base+route("b", "")+route("c", "")+"SSE_MAX_CLIENTS=5\n")
	if status, report := s.post(t, "/api/reload"); status != 200 || report["result"] != "ok" && report["result"] != "unchanged" || !strings.Contains(fmt.Sprint(report)+s.stderr.String(), "SSE_MAX_CLIENTS") { // it may have looked itself by then
		t.Errorf("%d %v", status, report)
	}
	more := all.sum.Load() + 3*many
	eventually(t, "the audience to be served still", func() bool { return all.sum.Load() >= more })
	all.dismiss(t)
	s.drain(t)
}

func (c *configured) post(t *testing.T, path string) (status int, report map[string]any) {
	t.Helper()
	resp, err := plain.Post("http://"+c.admin+path, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&report); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, report
}

// spectator is a client that reads a stream.
type spectator struct {
	in *bufio.Reader
	id string // of the last event
}

// follow connects, and returns with the first event.
func follow(t *testing.T, addr, path string, head ...string) *spectator {
	t.Helper()
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+path, nil)
	r.Header.Set("Accept", "text/event-stream")
	for i := 0; i < len(head); i += 2 {
		r.Header.Set(head[i], head[i+1])
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 2 * patience}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%s answers %s as %s", path, resp.Status, resp.Header.Get("Content-Type"))
	}
	f := &spectator{in: bufio.NewReader(resp.Body)}
	if len(head) == 0 {
		f.want(t, "id: ")
	}
	return f
}

// want reads on until a line has text.
func (f *spectator) want(t *testing.T, text string) {
	t.Helper()
	var told strings.Builder
	for {
		line, err := f.in.ReadString('\n')
		told.WriteString(line)
		if id, ok := strings.CutPrefix(line, "id: "); ok {
			f.id = strings.TrimSpace(id)
		}
		if err != nil {
			t.Fatalf("no %q in %q: %v", text, told.String(), err)
		}
		if strings.Contains(line, text) {
			return
		}
	}
}

// rest reads to the end, which is a cut.
func (f *spectator) rest() string {
	var told strings.Builder
	for {
		line, err := f.in.ReadString('\n')
		told.WriteString(line)
		if id, ok := strings.CutPrefix(line, "id: "); ok {
			f.id = strings.TrimSpace(id)
		}
		if err == io.EOF {
			return "a clean end"
		}
		if err != nil {
			return told.String()
		}
	}
}

// TestDrainCommand: it returns when the clients have left, twice is once, and SIGTERM ends the sidecar at once afterwards.
func TestDrainCommand(t *testing.T) {
	t.Parallel()
	ticks := ticker(t, 50*time.Millisecond)
	s := startConfigured(t, "SSE_DRAIN=12s\nSSE_ROUTE_A_PATH=/ticks\nSSE_ROUTE_A_FROM=ws://"+ticks+"/\n")
	file := filepath.Join(s.dir, "env")
	asked := []string{"SSE_ADMIN_LISTEN=" + s.admin}
	for _, args := range [][]string{{"-env-file", file, "healthcheck", "-ready"}, {"healthcheck", "-env-file", file}} {
		if code, _, stderr := run(t, asked, args...); code != 0 {
			t.Errorf("%q: %d %s", args, code, stderr)
		}
	}
	clients := []*spectator{follow(t, s.addr, "/ticks"), follow(t, s.addr, "/ticks")}
	both := []*process{launch(t, append(asked, "SSE_ENV_FILE="+file), binary, "drain"), launch(t, asked, binary, "drain", "-env-file", file)}
	for _, p := range both {
		if code := p.wait(t); code != 0 {
			t.Errorf("status %d: %s", code, &p.stderr)
		}
	}
	for _, c := range clients {
		if rest := c.rest(); !strings.Contains(rest, "retry: ") {
			t.Errorf("a client was told %q", rest)
		}
	}
	if got := status("http://" + s.admin + "/readyz"); got != 503 || status("http://"+s.admin+"/livez") != 200 {
		t.Errorf("readyz is %d", got)
	}
	began := time.Now()
	s.sidecar.drain(t)
	if took := time.Since(began); took > 10*time.Second { // less than the window, with the second that a process of the race detector takes to end
		t.Errorf("SIGTERM took %v", took)
	}
	if code, _, stderr := run(t, asked, "drain"); code != 1 || strings.Count(stderr, "\n") != 1 {
		t.Errorf("with nothing running: %d %q", code, stderr)
	}
}

// countsUp is a service that counts up, 50 a second, and gives what came after a cursor.
func countsUp(t *testing.T) (address string) {
	begun := time.Now()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var after int
		fmt.Sscan(r.URL.Query().Get("after"), &after)
		items, now := []int{}, int(time.Since(begun)/(20*time.Millisecond))
		for n := after + 1; n <= now; n++ {
			items = append(items, n)
		}
		json.NewEncoder(w).Encode(map[string]any{"items": items, "next": now})
	}))
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	return server.URL
}

// TestReloadWithAHistory: where a history is kept, and the source can go on, a client of a route that changes misses nothing and is told
// nothing: the new route goes on where the old one stopped.
func TestReloadWithAHistory(t *testing.T) {
	t.Parallel()
	for name, history := range map[string]string{"file": "file:" + t.TempDir(), "redis": "redis://" + redistest.Start(t).Addr} {
		t.Run(name, func(t *testing.T) {
			service := countsUp(t)
			base := "SSE_DRAIN=500ms\nSSE_HISTORY=" + history + "\nSSE_ROUTE_B_PATH=/b\nSSE_ROUTE_B_FROM=" + service + "/?after={stream.cursor}\nSSE_ROUTE_B_FIRST=" + service +
				"/\nSSE_ROUTE_B_CURSOR=.next\nSSE_ROUTE_B_SELECT=.items[]\nSSE_ROUTE_B_EVERY=50ms\nSSE_ROUTE_B_RETRY=50ms\n"
			s := startConfigured(t, base)
			reader := follow(t, s.addr, "/b")
			var got strings.Builder
			for i := range 3 {
				s.configure(t, base+fmt.Sprintf("SSE_ROUTE_B_HEARTBEAT=%ds\n", i+7))
				if status, report := s.post(t, "/api/reload"); status != 200 || fmt.Sprint(report["changed"]) != "[b]" && report["result"] != "unchanged" { // it may have looked itself by then, and else the reader would stay
					t.Fatalf("%d %v", status, report)
				}
				got.WriteString(reader.rest())
				reader = follow(t, s.addr, "/b", "Last-Event-ID", reader.id)
			}
			reader.want(t, "data: ")
			last := 0
			for line := range strings.Lines(got.String()) {
				var n int
				if text, ok := strings.CutPrefix(line, "data: "); !ok {
					continue
				} else if _, err := fmt.Sscan(text, &n); err != nil || last > 0 && n != last+1 {
					t.Fatalf("%s after %d", text, last)
				}
				last = n
			}
			if last < 20 || strings.Contains(got.String(), "stream.gap") {
				t.Errorf("the last one is %d: %s", last, got.String())
			}
			s.drain(t)
		})
	}
}
