//go:build e2e

package e2e

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"
)

// This file is what hostile clients and upstreams can cost at most. What they do is in bounds_clients_test.go and bounds_upstreams_test.go.

// boundsEnv has the whole table made: against a binary without the race detector, and beside nginx. Else each kind is there with a few peers.
const boundsEnv = "SSE_E2E_BOUNDS"

// peers are hostile ones, all of a kind.
type peers struct {
	name      string
	many, few int     // how many there are in the whole table, and in the tests
	bound     float64 // KiB that each may cost
	// come has as many peers as there are to be do what they do, and returns when they have.
	come   func(t *testing.T, c *visitors)
	thrown bool   // the sidecar ends them
	nginx  string // which face of nginx the same is done to; "": it has none like it
	heavy  bool   // all of them take more than 50 MB where nothing limits that
}

// visitors are peers that are there.
type visitors struct {
	*bounds
	addr string // of the server
	n    int

	did   atomic.Int64 // how often they did it, which CPU time is divided by; 0 where it is once each
	mu    sync.Mutex   // guards what follows
	conns []net.Conn
	reads sync.WaitGroup // those that read, until their end
}

// mega is a megabyte, and a quarter of it where only few peers are there.
func (b *bounds) mega() int {
	if b.whole {
		return 1 << 20
	}
	return 1 << 18
}

// each has f for every peer, a few of them at once.
func (c *visitors) each(f func(i int)) {
	next, all := make(chan int), sync.WaitGroup{}
	for range min(c.n, 16) {
		all.Go(func() { // ends with next
			for i := range next {
				f(i)
			}
		})
	}
	for i := range c.n {
		next <- i
	}
	close(next)
	all.Wait()
}

// dial connects. A peer that is deaf reads nothing, and the kernel keeps little for it.
func (c *visitors) dial(t *testing.T, deaf bool) net.Conn {
	d := net.Dialer{Timeout: patience}
	if deaf {
		d.Control = func(_, _ string, raw syscall.RawConn) error {
			return raw.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<10) })
		}
	}
	conn, err := d.Dial("tcp", c.addr)
	if err != nil {
		t.Error(err)
		return nil
	}
	c.mu.Lock()
	c.conns = append(c.conns, conn)
	c.mu.Unlock()
	if !deaf {
		c.reads.Go(func() { io.Copy(io.Discard, conn) }) // ends with conn
	}
	return conn
}

// leave lets go.
func (c *visitors) leave() {
	for _, conn := range c.conns {
		conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
	}
	c.reads.Wait()
}

// ended waits until the server has ended all who read.
func (c *visitors) ended(t *testing.T) {
	t.Helper()
	done := make(chan struct{})
	go func() { c.reads.Wait(); close(done) }() // ends at the latest with leave
	defer c.leave()
	select {
	case <-done:
	case <-time.After(patience):
		t.Error("some are still there")
	}
}

// bounds has a sidecar, an nginx, and the services that both pass requests to.
type bounds struct {
	whole   bool
	service *http.ServeMux
	app     string          // its address
	over    context.Context // the test's
	had     sync.Map        // *atomic.Int64 by path
	process *sidecar
	sidecar *victim
	nginx   *victim
}

// victim is a server that hostile peers come to.
type victim struct {
	pid    int
	addr   map[string]string // by face
	heap   func() float64    // bytes that Go has in use, where they are what counts
	polite float64           // nanoseconds of CPU for a request of one that is not
	base   float64           // bytes
	top    float64           // the most it ever was
}

// weight is what v's memory takes, in bytes. Built with the race detector it is heavy for other reasons: then what Go counts.
func (v *victim) weight(t *testing.T) float64 {
	if v.heap != nil {
		return v.heap()
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", v.pid))
	if err != nil {
		t.Error(err)
		return 0
	}
	_, rest, _ := strings.Cut(string(text), "RssAnon:") // what is not a page of the program itself
	n, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
	if err != nil {
		t.Error(err)
	}
	return n * 1024
}

// cpu is the time that v has used, in nanoseconds (clock_getcpuclockid(3)).
func (v *victim) cpu(t *testing.T) float64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^v.pid<<3|2), &ts); err != nil {
		t.Error(err)
	}
	return float64(ts.Nano())
}

// heaviest looks at v until what it returns is called, which tells the most that v weighed.
func (v *victim) heaviest(t *testing.T) func() float64 {
	stop, most := make(chan struct{}), make(chan float64)
	go func() { // ends with stop
		top := v.weight(t)
		look := time.NewTicker(20 * time.Millisecond)
		defer look.Stop()
		for {
			select {
			case <-look.C:
				top = max(top, v.weight(t))
			case <-stop:
				most <- max(top, v.weight(t))
				return
			}
		}
	}()
	read := sync.OnceValue(func() float64 { close(stop); return <-most })
	t.Cleanup(func() { read() })
	return read
}

// lighten waits, so that what the next ones cost is not what those before have left.
func (v *victim) lighten(t *testing.T) {
	for end := time.Now().Add(25 * time.Second); v.weight(t) > v.base+(4<<20) && time.Now().Before(end); {
		time.Sleep(200 * time.Millisecond)
	}
}

// ask has n requests of a client that is not hostile, one after the other.
func (v *victim) ask(t *testing.T, face string, n int) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}, Timeout: patience}
	defer client.CloseIdleConnections()
	for range n {
		resp, err := client.Get("http://" + v.addr[face] + "/document")
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK || len(body) != len(boundsDocument) {
			t.Fatalf("a client that is not hostile got %s, %d bytes", resp.Status, len(body))
		}
	}
}

// settle measures what v is like without hostile peers.
func (v *victim) settle(t *testing.T, requests int) {
	t.Helper()
	v.ask(t, "http1", requests)
	was := v.cpu(t)
	v.ask(t, "http1", requests)
	v.polite = max(1, (v.cpu(t)-was)/float64(requests))
	v.base = v.weight(t)
}

var boundsDocument = strings.Repeat("d", 1<<10)

// goHeap has Go's memory in use of the process whose metrics these are.
func goHeap(t *testing.T, admin string) func() float64 {
	field := regexp.MustCompile(`(?m)^go_memstats_(?:heap_alloc|stack_inuse)_bytes (\S+)$`)
	return func() (n float64) {
		resp, err := plain.Get("http://" + admin + "/metrics")
		if err != nil {
			t.Error(err)
			return 0
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		all := field.FindAllSubmatch(text, -1)
		if len(all) != 2 {
			t.Errorf("%d of 2 metrics are there", len(all))
		}
		for _, m := range all {
			one, _ := strconv.ParseFloat(string(m[1]), 64)
			n += one
		}
		return n
	}
}

// streams is how many s has, lingering ones included.
func (s *sidecar) streams(t *testing.T) int {
	t.Helper()
	var list struct{ Total *int }
	if err := json.Unmarshal([]byte(body(t, "http://"+s.admin+"/api/streams")), &list); err != nil || list.Total == nil {
		t.Fatalf("the list of streams: %v", err)
	}
	return *list.Total
}

// startBounds starts the service, and returns what a sidecar in front of it is to know.
func startBounds(t *testing.T, whole bool) (b *bounds, env []string) {
	b = &bounds{whole: whole, service: http.NewServeMux(), over: t.Context()}
	server := httptest.NewServer(b.service)
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	b.app = strings.TrimPrefix(server.URL, "http://")
	b.service.HandleFunc("/document", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, boundsDocument) })
	env = []string{"SSE_LOG_LEVEL=error", "SSE_UPSTREAM=http://" + b.app, "SSE_TUNNEL=/", "SSE_RETRY=1s", "SSE_LINGER=3s"}
	return b, append(append(env, b.serveClients()...), b.serveUpstreams()...)
}

// TestBounds: what hostile clients and upstreams cost at most, each. When they have gone, what they had cost is given back, and all along others are served.
func TestBounds(t *testing.T) {
	b, env := startBounds(t, os.Getenv(boundsEnv) != "")
	if !b.whole {
		t.Parallel()
	}
	if !b.whole {
		env = append(env, "GOGC=20", "SSE_RETRY=200ms", "SSE_LINGER=500ms") // so that what is in use can be told from what was
	}
	s := startSidecar(t, env...)
	b.process = s
	b.sidecar = &victim{pid: s.Process.Pid, addr: map[string]string{"http1": s.addr, "http2": s.addr}}
	polite := 3000
	if !b.whole {
		polite, b.sidecar.heap = 200, goHeap(t, s.admin)
	}
	b.sidecar.settle(t, polite)
	if b.whole {
		b.nginx = startBoundsNginx(t, b.app)
		b.nginx.settle(t, polite)
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	if b.whole {
		fmt.Fprintf(table, "at rest\t%.1f MiB, a request passed through is 1.0 of CPU\t\t\tnginx %.1f MiB, its own is 1.0\t\n", b.sidecar.base/(1<<20), b.nginx.base/(1<<20))
		fmt.Fprintln(table, "\tpeers\tKiB each\tCPU of one\tnginx: KiB each\tCPU of one")
	}
	var thrown []*visitors
	for _, p := range append(hostileClients, hostileUpstreams...) {
		t.Run(p.name, func(t *testing.T) {
			ours, there := b.suffer(t, b.sidecar, p, cmp.Or(p.nginx, "http1"))
			bound := p.bound
			if !b.whole { // garbage, and what the race detector has objects be larger by
				bound = 2*bound + 4<<10/float64(p.few)
			}
			if ours.each > bound {
				t.Errorf("each costs %.1f KiB, more than the %.0f that it may", ours.each, bound)
			}
			if p.thrown {
				thrown = append(thrown, there)
			} else {
				there.leave()
			}
			if !b.whole {
				t.Logf("each costs %.1f KiB, and %.1f requests", ours.each, ours.cpu)
				if !p.thrown { // a stream that is wanted goes to its upstream again, at what the next ones cost
					eventually(t, "what it had to be let go of", func() bool { return s.streams(t) == 0 })
				}
				return
			}
			for _, c := range thrown {
				c.ended(t)
			}
			thrown = nil
			b.sidecar.lighten(t)
			theirs := "\t"
			if p.nginx != "" {
				n, there := b.suffer(t, b.nginx, p, p.nginx)
				there.leave()
				theirs = fmt.Sprintf("%.1f\t%.1f", n.each, n.cpu)
			}
			fmt.Fprintf(table, "%s\t%d\t%.1f, at most %.0f\t%.1f\t%s\t\n", p.name, p.many, ours.each, p.bound, ours.cpu, theirs)
		})
	}
	if b.whole {
		table.Flush()
	}
	b.recover(t, thrown)
	s.drain(t)
}

// suffered is what peers cost a server, each.
type suffered struct {
	each float64 // KiB
	top  float64 // bytes, of all that the server has
	cpu  float64 // requests of others
}

// suffer has peers come to v.
func (b *bounds) suffer(t *testing.T, v *victim, p peers, face string) (cost suffered, c *visitors) {
	t.Helper()
	c = &visitors{bounds: b, addr: v.addr[face], n: p.few}
	if b.whole {
		c.n = p.many
	}
	was, cpu := v.weight(t), v.cpu(t)
	heaviest := v.heaviest(t)
	p.come(t, c)
	cost.cpu = (v.cpu(t) - cpu) / float64(cmp.Or(int(c.did.Load()), c.n)) / v.polite
	v.ask(t, "http1", 3) // others are served
	cost.top = heaviest()
	v.top = max(v.top, cost.top)
	cost.each = max(0, cost.top-was) / float64(c.n) / 1024
	return cost, c
}

// recover waits until the sidecar weighs what it did at first, but for a tenth of the most that it ever did: Go never frees what it needs to keep account of memory and
// goroutines.
func (b *bounds) recover(t *testing.T, thrown []*visitors) {
	t.Helper()
	for _, c := range thrown {
		c.ended(t)
	}
	v, least := b.sidecar, math.Inf(1)
	pace := 200 * time.Millisecond
	if v.heap != nil {
		pace = 4 * time.Second // asking for metrics is something that goes on, and memory is given back where nothing does
	}
	for end := time.Now().Add(2 * patience); ; time.Sleep(pace) {
		now := v.weight(t)
		if least = min(least, now); now <= v.base+(4<<20)+v.top/10 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("from %.1f MiB it is not back to less than %.1f", v.base/(1<<20), least/(1<<20))
		}
	}
}

// startBoundsNginx starts nginx with HTTP/2 on a port of its own, which it has in clear only for those who know.
func startBoundsNginx(t *testing.T, app string) *victim {
	second := freeAddr(t)
	p, first := nginxOf(t, "master_process off;", "worker_connections 16384;", "  server {\n    listen "+second+" http2;\n    location / { proxy_pass http://"+app+"; }\n  }\n", "proxy_pass http://"+app+";")
	return &victim{pid: p.Process.Pid, addr: map[string]string{"http1": first, "http2": second}}
}
