//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// ticker is a WebSocket service that sends {"n":1,"at":ns,"x":"..."} by itself, so many a second.
func ticker(t *testing.T, every time.Duration) (addr string) {
	t.Helper()
	pad := strings.Repeat("x", 150)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer conn.CloseNow()
		ctx := conn.CloseRead(context.Background())
		tick := time.NewTicker(every)
		defer tick.Stop()
		for n := 1; ctx.Err() == nil; n++ {
			<-tick.C
			text := fmt.Sprintf(`{"n":%d,"at":%d,"x":"%s"}`, n, time.Now().UnixNano(), pad)
			if conn.Write(ctx, websocket.MessageText, []byte(text)) != nil {
				return
			}
		}
	}))
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	return server.Listener.Addr().String()
}

// readTicks reads a stream over a socket of its own, and calls f with each event, until f is done with it. It fails on a gap.
func readTicks(addr, id string, f func(n int, at int64, id string) (more bool)) error {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET /ticks HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\nLast-Event-ID: %s\r\n\r\n", id)
	in := bufio.NewReaderSize(conn, 4096)
	var e struct {
		N  int
		At int64
	}
	for last := 0; ; {
		line, err := in.ReadString('\n')
		if err != nil {
			return err
		}
		if data, ok := strings.CutPrefix(line, "data: "); ok {
			if data == "{}\n" { // stream.open
				continue
			}
			n, rest, _ := strings.Cut(strings.TrimPrefix(data, `{"n":`), `,"at":`)
			at, _, ok := strings.Cut(rest, ",")
			e.N, _ = strconv.Atoi(n)
			if e.At, _ = strconv.ParseInt(at, 10, 64); !ok || e.N == 0 {
				return fmt.Errorf("%s", data)
			}
			if last > 0 && e.N != last+1 {
				return fmt.Errorf("event %d after %d", e.N, last)
			}
			last = e.N
		} else if id, ok := strings.CutPrefix(line, "id: "); ok && last > 0 && !f(last, e.At, strings.TrimSpace(id)) {
			return nil
		}
	}
}

// latencies are those of live clients, in one run.
type latencies struct {
	mu  sync.Mutex
	all []time.Duration
}

func (l *latencies) add(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, d)
}

// p99 is that since the last call.
func (l *latencies) p99() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := l.all
	l.all = nil
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[len(all)*99/100]
}

// herdEnv has a process be the herd: ADDRESS ID CLIENTS. It is one of its own, which gives way to the sidecar and to the clients who are there:
// those of a real one have machines of their own.
const herdEnv = "SSE_E2E_HERD_OF"

// herdAt starts the herd, and returns once it has ended.
func herdAt(addr, id string, n int) error {
	cmd := exec.Command("chrt", "--idle", "0", os.Args[0], "-test.run=^TestHerdReturns$", "-test.timeout=15m") // of util-linux
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %d", herdEnv, addr, id, n))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %.2000s", err, out)
	}
	return nil
}

// beHerd is that process.
func beHerd(t *testing.T, words string) {
	var addr, id string
	var n int
	if _, err := fmt.Sscanf(words, "%s %s %d", &addr, &id, &n); err != nil {
		t.Fatal(err)
	}
	begun := time.Now().UnixNano()
	var back sync.WaitGroup
	for range n {
		back.Go(func() {
			if err := readTicks(addr, id, func(_ int, at int64, _ string) bool { return at < begun }); err != nil {
				t.Error(err)
			}
		})
	}
	back.Wait()
}

// TestHerdReturns: clients that return at once, each a thousand events behind, get everything, and those who are connected wait little longer for events. The bound
// is what a machine that is shared keeps to with the race detector. To measure, on a quiet one with 20,000 descriptors:
//
//	SSE_E2E_RACE=off SSE_E2E_HERD=10000 go test -tags e2e -run TestHerdReturns -v -timeout 10m ./e2e
//
// which had 10,000 clients back in 73 s, at SSE_MAX_REPLAY's default, and p99 of those who are there at 2.1 ms meanwhile, 1.2 ms before.
func TestHerdReturns(t *testing.T) {
	if words := os.Getenv(herdEnv); words != "" {
		beHerd(t, words)
		return
	}
	herd, rate := 200, "16MiB/s"
	if text := os.Getenv("SSE_E2E_HERD"); text != "" {
		var err error
		if herd, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
		rate = "64MiB/s"
	}
	s := startSidecar(t, "SSE_ROUTE_TICKS_PATH=/ticks", "SSE_ROUTE_TICKS_FROM=ws://"+ticker(t, 10*time.Millisecond)+"/", "SSE_REPLAY_EVENTS=60000", "SSE_REPLAY_BYTES=64MiB",
		"SSE_MAX_REPLAY="+rate, "SSE_LOG_LEVEL=info", "SSE_MAX_CLIENTS=0", "SSE_DRAIN=100ms")
	var l latencies
	ctx, stop := context.WithCancel(t.Context())
	var live sync.WaitGroup
	first := make(chan string, 1)
	for range 50 {
		live.Go(func() {
			if err := readTicks(s.addr, "", func(n int, at int64, id string) bool {
				l.add(time.Since(time.Unix(0, at)))
				select {
				case first <- id:
				default:
				}
				return ctx.Err() == nil
			}); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		})
	}
	var id string
	select {
	case id = <-first:
	case <-time.After(patience):
		t.Fatal("no event comes")
	}
	<-time.After(12 * time.Second) // a thousand events, and more
	l.p99()
	<-time.After(3 * time.Second)
	before := l.p99()
	begun := time.Now()
	if err := herdAt(s.addr, id, herd); err != nil {
		t.Error(err)
	}
	took, during := time.Since(begun), l.p99()
	stop()
	live.Wait()
	t.Logf("%d clients were given %d events each in %v; p99 of those who are there: %v before, %v meanwhile", herd, 1500, took.Round(time.Millisecond), before, during)
	if during > 2*before && during > 2*time.Second {
		t.Errorf("those who are there wait for %v, instead of %v", during, before)
	}
}
