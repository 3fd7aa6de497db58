//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// numbers is a service that has counted, 500 a second, since it was begun, and tells what came after the number that it is given.
func numbers(t *testing.T) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		after, err := strconv.Atoi(r.FormValue("after"))
		if err != nil {
			http.Error(w, "after what?", http.StatusBadRequest)
			return
		}
		last := func() int { return int(time.Since(begun) / (2 * time.Millisecond)) }
		for last() <= after && r.Context().Err() == nil {
			<-time.After(time.Millisecond)
		}
		var list []string
		for n := after + 1; n <= last() && len(list) < 100; n++ {
			list = append(list, strconv.Itoa(n))
		}
		fmt.Fprintf(w, `{"numbers":[%s],"last":%d}`, strings.Join(list, ","), after+len(list))
	})}
	go server.Serve(l) // ends with Close
	t.Cleanup(func() { server.Close() })
	return l.Addr().String()
}

// follower is a client that comes back whenever it is cut, with its last id.
type follower struct {
	addr    string
	gateway bool // what it asks may answer 502 or 504 for one that is away
	reader  eventReader
	last    int
	all     atomic.Int64 // numbers received
	mayGap  atomic.Bool  // it may be told of a gap, after which any number may follow

	mu    sync.Mutex
	wrong []string // what it should not have got
}

func (f *follower) complain(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wrong = append(f.wrong, fmt.Sprintf(format, args...))
}

func (f *follower) run(ctx context.Context) {
	for ctx.Err() == nil {
		f.connect(ctx)
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(20+rand.IntN(60)) * time.Millisecond):
		}
	}
}

func (f *follower) connect(ctx context.Context) {
	r, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+f.addr+"/numbers", nil)
	r.Header.Set("Accept", "text/event-stream")
	if f.reader.id != "" {
		r.Header.Set("Last-Event-ID", f.reader.id)
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return
	}
	defer resp.Body.Close()
	if f.gateway && resp.StatusCode >= http.StatusBadGateway {
		return
	}
	if resp.StatusCode != http.StatusOK {
		f.complain("answered %d to %s", resp.StatusCode, f.reader.id)
		return
	}
	f.reader.read(resp.Body, func(m dispatched) { f.take(m.name, m.data) })
}

func (f *follower) take(name, data string) {
	switch name {
	case "":
	case "stream.open", "stream.busy":
		return
	case "stream.gap":
		if f.mayGap.Load() {
			f.last = 0
			return
		}
		fallthrough
	default:
		f.complain("%s %s after %d", name, data, f.last)
		return
	}
	n, err := strconv.Atoi(data)
	if err != nil || n != f.last+1 && f.last != 0 {
		f.complain("%s after %d", data, f.last)
	}
	f.last = n
	f.all.Add(1)
}

// TestKilledAgainAndAgain kills the sidecar at random moments under load: clients that come back get each number once and in order, and
// are told of no gap, as nothing is lost. KILLS is how often, 15 unless it is set.
func TestKilledAgainAndAgain(t *testing.T) {
	t.Parallel()
	kills := 15
	if text := os.Getenv("KILLS"); text != "" {
		var err error
		if kills, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	dir := filepath.Join(t.TempDir(), "history")
	s := startSidecar(t, "SSE_HISTORY=file:"+dir, "SSE_LOG_LEVEL=warn", "SSE_ROUTE_N_PATH=/numbers", "SSE_ROUTE_N_FROM=http://"+numbers(t)+"/?after={stream.cursor:0}",
		"SSE_ROUTE_N_EVERY=0", "SSE_ROUTE_N_CURSOR=.last", "SSE_ROUTE_N_SELECT=.numbers[]", "SSE_REPLAY_EVENTS=100000", "SSE_DRAIN=0")
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	clients := make([]*follower, 8)
	for i := range clients {
		clients[i] = &follower{addr: s.addr}
		running.Go(func() { clients[i].run(ctx) })
	}
	t.Cleanup(func() { stop(); running.Wait() })
	for kill := range kills {
		before := clients[0].all.Load()
		eventually(t, "events after a start", func() bool { return clients[0].all.Load() > before })
		<-time.After(time.Duration(rand.IntN(300)) * time.Millisecond)
		if kill%5 == 4 { // a planned restart now and then
			s.drain(t)
		} else {
			s.Process.Signal(syscall.SIGKILL)
			s.wait(t)
		}
		s.start(t)
		if text := s.stderr.String(); strings.Contains(text, "damaged") {
			t.Fatal(text)
		}
	}
	for _, c := range clients {
		before := c.all.Load()
		eventually(t, "every client to go on", func() bool { return c.all.Load() > before })
	}
	stop()
	running.Wait()
	for i, c := range clients {
		for _, wrong := range c.wrong {
			t.Errorf("client %d: %s", i, wrong)
		}
	}
	t.Logf("%d kills, up to number %d", kills, clients[0].last)
}

// TestHistoryBelongsToOneProcess: a second sidecar on a folder ends, and says which.
func TestHistoryBelongsToOneProcess(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "history")
	env := []string{"SSE_HISTORY=file:" + dir, "SSE_UPSTREAM=http://127.0.0.1:9"}
	startSidecar(t, env...)
	code, _, stderr := run(t, append(env, "SSE_LISTEN="+freeAddr(t), "SSE_ADMIN_LISTEN=off"))
	if code != 1 || !strings.Contains(stderr, dir) || !strings.Contains(stderr, "another process") {
		t.Errorf("exit status %d, %s", code, stderr)
	}
}
