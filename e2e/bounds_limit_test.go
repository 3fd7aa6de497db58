//go:build e2e

package e2e

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/coder/websocket"
)

// This file is what hostile peers cost where GOMEMLIMIT is set, and they would take more.

// boundsLimitEnv has the whole table made, with this GOMEMLIMIT in MiB, beside the same sidecar without one, and nginx.
const boundsLimitEnv = "SSE_E2E_BOUNDS_LIMIT"

// tickPace is how often the healthy client is told something.
const tickPace = 20 * time.Millisecond

// serveTicks adds a feed that counts up and tells the time, and a route for it.
func (b *bounds) serveTicks() (env []string) {
	b.service.HandleFunc("/ticks", func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer ws.CloseNow()
		ctx := ws.CloseRead(r.Context())
		pace := time.NewTicker(tickPace)
		defer pace.Stop()
		for n := 1; ; n++ {
			select {
			case <-pace.C:
			case <-ctx.Done():
				return
			}
			if ws.Write(ctx, websocket.MessageText, fmt.Appendf(nil, "%d %d", n, time.Now().UnixNano())) != nil {
				return
			}
		}
	})
	return []string{"SSE_ROUTE_TICKS_PATH=/ticks", "SSE_ROUTE_TICKS_FROM=ws://" + b.app + "/ticks"}
}

// healthy is a client that reads all along.
type healthy struct {
	leave  func() error // it goes, and returns why its stream has ended
	mu     sync.Mutex   // guards what follows
	last   int
	wrong  string        // what is missing, or was said to be; "": nothing
	latest time.Duration // the longest that an event took since that was asked for
}

// watch has a client read addr's ticks until the test's end.
func watch(t *testing.T, addr string) *healthy {
	h := &healthy{}
	ctx, cancel := context.WithCancel(context.Background())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/ticks", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "text/event-stream")
	resp, err := eager.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	read := make(chan error, 1)
	go func() { read <- new(eventReader).read(resp.Body, h.event) }() // ends with ctx
	h.leave = sync.OnceValue(func() error {
		cancel()
		defer resp.Body.Close()
		return <-read
	})
	t.Cleanup(func() { h.leave() })
	eventually(t, "a tick", func() bool { h.mu.Lock(); defer h.mu.Unlock(); return h.last > 0 })
	return h
}

func (h *healthy) event(e dispatched) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var n int
	var at int64
	if _, err := fmt.Sscan(e.data, &n, &at); err != nil || h.last > 0 && n != h.last+1 {
		h.wrong = fmt.Sprintf("%s %q after tick %d", e.name, e.data, h.last)
		return
	}
	h.last, h.latest = n, max(h.latest, time.Since(time.Unix(0, at)))
}

// end has the client go, which must have been there until now, and the sidecar stop. Where nothing goes on but its events, the collector rests.
func (l *limited) end(t *testing.T) {
	t.Helper()
	was, _ := l.collector()
	at := time.Now()
	eventually(t, "the collector to rest", func() bool {
		if time.Since(at) < time.Second {
			return false
		}
		now, _ := l.collector()
		rests := now-was <= 3
		was, at = now, time.Now()
		return rests
	})
	if err := l.leave(); !errors.Is(err, context.Canceled) {
		t.Errorf("the healthy client's stream had ended: %v", err)
	}
	l.drain(t)
}

// so returns what the client has got since it was asked for: how long an event took at most, and what was wrong.
func (h *healthy) so() (latest time.Duration, wrong string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	latest, wrong = h.latest, h.wrong
	h.latest, h.wrong = 0, ""
	return latest, wrong
}

// limited is a sidecar to which hostile peers come, and a healthy client of it.
type limited struct {
	*sidecar
	*victim
	*healthy
}

func (b *bounds) startLimited(t *testing.T, env ...string) *limited {
	s := startSidecar(t, append(env, "GODEBUG=gctrace=1")...)
	l := &limited{sidecar: s, victim: &victim{pid: s.Process.Pid, addr: map[string]string{"http1": s.addr, "http2": s.addr}}}
	if !b.whole {
		l.victim.heap = goTotal(t, s.admin)
	}
	l.settle(t, map[bool]int{false: 200, true: 1000}[b.whole])
	l.healthy = watch(t, s.addr)
	return l
}

// goTotal has the memory that GOMEMLIMIT is about of the process whose metrics these are: what the race detector has comes on top.
func goTotal(t *testing.T, admin string) func() float64 {
	field := regexp.MustCompile(`(?m)^go_memstats_(sys|heap_released)_bytes (\S+)$`)
	return func() float64 {
		resp, err := plain.Get("http://" + admin + "/metrics")
		if err != nil {
			t.Error(err)
			return 0
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		all := map[string]float64{}
		for _, m := range field.FindAllSubmatch(text, -1) {
			all[string(m[1])], _ = strconv.ParseFloat(string(m[2]), 64)
		}
		if len(all) != 2 {
			t.Errorf("%d of 2 metrics are there", len(all))
		}
		return all["sys"] - all["heap_released"]
	}
}

// collections are how often the collector was there, and the milliseconds of CPU that it took.
var collections = regexp.MustCompile(`(?m)^gc \d+ .* ms clock, ([0-9.+/]+) ms cpu, `)

func (l *limited) collector() (times int, ms float64) {
	for _, m := range collections.FindAllStringSubmatch(l.stderr.String(), -1) {
		times++
		for part := range strings.FieldsFuncSeq(m[1], func(c rune) bool { return c == '+' || c == '/' }) {
			took, _ := strconv.ParseFloat(part, 64)
			ms += took
		}
	}
	return times, ms
}

// strained is what a sidecar was like while hostile peers were there.
type strained struct {
	top       float64 // bytes, the most
	cpu       float64 // seconds
	collector float64 // of them
	latest    time.Duration
}

// strain has peers come to l and go again.
func (b *bounds) strain(t *testing.T, l *limited, p peers) (s strained) {
	t.Helper()
	b.process, b.sidecar = l.sidecar, l.victim
	_, was := l.collector()
	cpu := l.cpu(t)
	l.so()
	cost, there := b.suffer(t, l.victim, p, cmp.Or(p.nginx, "http1"))
	there.leave()
	s.top = cost.top
	s.cpu = (l.cpu(t) - cpu) / 1e9
	_, now := l.collector()
	s.collector = (now - was) / 1e3
	eventually(t, "what it had to be let go of", func() bool { return l.streams(t) <= 1 })
	var wrong string
	if s.latest, wrong = l.so(); wrong != "" {
		t.Errorf("the healthy client got %s", wrong)
	}
	return s
}

// TestBoundsUnderLimit: where hostile peers would have the sidecar take more than GOMEMLIMIT, and that is not what they hold but garbage, it stays within that; a healthy client gets
// each of its events meanwhile, and others are served. Each of the few here makes it take up to 75 MiB without.
func TestBoundsUnderLimit(t *testing.T) {
	b, env := startBounds(t, os.Getenv(boundsLimitEnv) != "")
	env = append(env, b.serveTicks()...)
	limit := 32
	if b.whole {
		var err error
		if limit, err = strconv.Atoi(os.Getenv(boundsLimitEnv)); err != nil {
			t.Fatalf("%s is not a number of MiB: %v", boundsLimitEnv, err)
		}
	} else {
		t.Parallel()
		env = append(env, "SSE_RETRY=200ms", "SSE_LINGER=500ms")
	}
	within := append(slices.Clone(env), fmt.Sprint("GOMEMLIMIT=", limit, "MiB"))
	if b.whole {
		b.limitTable(t, env, within, limit)
		return
	}
	l := b.startLimited(t, within...)
	for _, p := range append(hostileClients, hostileUpstreams...) {
		if !p.heavy {
			continue
		}
		t.Run(p.name, func(t *testing.T) {
			s := b.strain(t, l, p)
			holds := p.bound * float64(p.few) / 1024 // MiB, which nothing can free while they are there
			if most := float64(limit+2) * (1 << 20); s.top > most && holds < float64(limit)*2/3 {
				t.Errorf("it takes %.1f MiB, with a GOMEMLIMIT of %d", s.top/(1<<20), limit)
			}
			if s.latest > patience/4 {
				t.Errorf("an event of the healthy client's took %v", s.latest)
			}
			t.Logf("%.1f MiB, %.2f s of CPU, %.2f of them the collector's, events late by %v", s.top/(1<<20), s.cpu, s.collector, s.latest)
		})
	}
	l.end(t)
}

// limitTable prints what is in proxy/README.md, each line of it of sidecars that have borne nothing else.
func (b *bounds) limitTable(t *testing.T, free, within []string, limit int) {
	nginx := startBoundsNginx(t, b.app)
	nginx.settle(t, 3000)
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "\tpeers\tMiB\tCPU s\tcollector\tlatest\t%d MiB: MiB\tCPU s\tcollector\tlatest\tnginx: MiB\tCPU s\n", limit)
	for _, p := range append(hostileClients, hostileUpstreams...) {
		if !p.heavy {
			continue
		}
		t.Run(p.name, func(t *testing.T) {
			fmt.Fprintf(table, "%s\t%d\t", p.name, p.many)
			for _, env := range [][]string{free, within} {
				l := b.startLimited(t, env...)
				s := b.strain(t, l, p)
				fmt.Fprintf(table, "%.0f\t%.1f\t%.0f %%\t%d ms\t", s.top/(1<<20), s.cpu, 100*s.collector/s.cpu, s.latest.Milliseconds())
				l.end(t)
			}
			if p.nginx != "" {
				cpu := nginx.cpu(t)
				cost, there := b.suffer(t, nginx, p, p.nginx)
				there.leave()
				fmt.Fprintf(table, "%.0f\t%.1f", cost.top/(1<<20), (nginx.cpu(t)-cpu)/1e9)
			}
			fmt.Fprintln(table, "\t")
		})
	}
	table.Flush()
}
