package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// faulty is a service that sends numbers to each WebSocket, a hundred a second, and does fault to what one of its connections is sent.
type faulty struct {
	*httptest.Server
	late  atomic.Int64 // nanoseconds until it lets in who comes
	conns atomic.Int64
	fault func(conn int64, n int) []string // what connection number conn is sent for n
}

// lasting is the number of a service's state, for two who poll it: it lasts until both were told it, however rarely a busy machine lets them, and for least.
type lasting struct {
	least time.Duration

	mu    sync.Mutex
	n     int
	since time.Time
	knows map[string]bool
}

// told is the number now, which r is answered with. Who asks is told by the query, and by having come through the sidecar.
func (l *lasting) told(r *http.Request) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); l.knows == nil || len(l.knows) > 1 && now.Sub(l.since) >= l.least {
		l.n, l.since, l.knows = l.n+1, now, map[string]bool{}
	}
	l.knows[r.URL.RawQuery+r.Header.Get("X-Forwarded-For")] = true
	return l.n
}

func newFaulty(t *testing.T, fault func(conn int64, n int) []string) *faulty {
	f := &faulty{fault: fault}
	ctx, stop := context.WithCancel(context.Background())
	begun := time.Now()
	state := lasting{least: 300 * time.Millisecond}
	var running sync.WaitGroup
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/state" {
			w.Header().Set("Content-Type", "application/json")
			n := state.told(r)
			fmt.Fprintf(w, `{"n":%d,"list":[{"id":1,"v":%d},{"id":2,"v":7}],"text":"%s"}`, n, n/2, strings.Repeat("x", 300))
			return
		}
		time.Sleep(time.Duration(f.late.Load()))
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer c.CloseNow()
		running.Add(1)
		defer running.Done()
		conn := f.conns.Add(1)
		go func() { _, _, _ = c.Read(ctx) }() // ends with the connection
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		sent := int(time.Since(begun) / (10 * time.Millisecond))
		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			for now := int(time.Since(begun) / (10 * time.Millisecond)); sent < now; sent++ {
				for _, text := range f.fault(conn, sent) {
					if c.Write(ctx, websocket.MessageText, []byte(text)) != nil {
						return
					}
				}
			}
		}
	}))
	t.Cleanup(func() { stop(); running.Wait(); f.Server.Close() })
	return f
}

func number(n int) string { return fmt.Sprintf(`{"n": %d, "price": {"bid": 1.50}}`, n) }

// compare is what Compare writes, and its error.
func compare(t *testing.T, listen string, env, words []string) (string, error) {
	t.Helper()
	c := configure(t, env...)
	var out bytes.Buffer
	err := Compared{Routes: c.Routes, Sidecar: Sidecar{Listen: listen}, Wait: 3 * time.Second, Log: slog.New(slog.DiscardHandler)}.Compare(t.Context(), words, &out)
	return out.String(), err
}

// proved is compare for d, or for longer where nothing has come on both sides by then, as on a busy machine.
func proved(t *testing.T, listen string, env []string, d time.Duration) (string, error) {
	t.Helper()
	for ; ; d *= 3 {
		out, err := compare(t, listen, env, []string{"A", "-for", d.String()})
		if err == nil || !strings.Contains(err.Error(), "nothing is proved") || d > 30*time.Second {
			return out, err
		}
	}
}

// TestCompareFindsFaults plants each kind of fault into what every second connection is sent, and wants it found, and none without.
func TestCompareFindsFaults(t *testing.T) {
	t.Parallel()
	hit := func(n int) bool { return n%50 == 17 }
	for name, c := range map[string]struct {
		fault func(n int) []string
		want  string // a line of the report; "" parity
	}{
		"none":    {func(n int) []string { return []string{number(n)} }, ""},
		"spelled": {func(n int) []string { return []string{fmt.Sprintf(`{"price":{"bid":1.50},"n":%d}`, n)} }, ""},
		"missing": {func(n int) []string {
			if hit(n) {
				return nil
			}
			return []string{number(n)}
		}, "missing"},
		"doubled": {func(n int) []string {
			if hit(n) {
				return []string{number(n), number(n)}
			}
			return []string{number(n)}
		}, "extra"},
		"reordered": {func(n int) []string {
			if n%50 == 17 {
				return []string{number(n + 1)}
			}
			if n%50 == 18 {
				return []string{number(n - 1)}
			}
			return []string{number(n)}
		}, "reordered"},
		"changed": {func(n int) []string {
			if hit(n) {
				return []string{strings.Replace(number(n), "1.50", "1.51", 1)}
			}
			return []string{number(n)}
		}, "changed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var stream atomic.Int64 // the connection that the faults are for
			f := newFaulty(t, func(conn int64, n int) []string {
				if conn == stream.Load() {
					return c.fault(n)
				}
				return []string{number(n)}
			})
			env := []string{"SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM=ws" + strings.TrimPrefix(f.URL, "http") + "/ws"}
			stream.Store(1)
			s := serve(t, env...)
			s.get(t, "/a") // so that the stream's connection is the first
			eventually(t, "the stream's connection", func() bool { return f.conns.Load() == 1 })
			out, err := proved(t, s.addr, env, 3*time.Second)
			if (err == nil) != (c.want == "") || err != nil && !errors.Is(err, ErrDifferent) {
				t.Errorf("%v\n%s", err, out)
			}
			for _, result := range []string{"missing", "extra", "changed", "reordered"} {
				none := strings.Contains(out, fmt.Sprintf("  %-10s %8d  ", result, 0))
				if none == (result == c.want) {
					t.Errorf("%s: none is %v\n%s", result, none, out)
				}
			}
			if !strings.Contains(out, "delay      p50 ") || strings.Contains(out, "parity") != (c.want == "") || !strings.Contains(out, "the stream http://"+s.addr+"/a\n") {
				t.Errorf("the report: %s", out)
			}
			if c.want == "changed" && !strings.Contains(out, ".price.bid: 1.50, on the stream 1.51") {
				t.Errorf("where it has changed is not told: %s", out)
			}
		})
	}
}

// TestCompareLeavesOut checks that the route's programs remove what may differ, and that compare runs the stream itself where no sidecar answers.
func TestCompareLeavesOut(t *testing.T) {
	t.Parallel()
	var apart atomic.Bool // else a second's are alike: where they come in bursts, any may stand for another one
	f := newFaulty(t, func(conn int64, n int) []string {
		if !apart.Load() {
			n /= 100
		}
		return []string{fmt.Sprintf(`{"n":%d,"you":%d}`, n, conn)}
	})
	from := "SSE_ROUTE_A_FROM=ws" + strings.TrimPrefix(f.URL, "http") + "/ws"
	out, err := proved(t, "127.0.0.1:1", []string{"SSE_ROUTE_A_PATH=/a", from}, 2500*time.Millisecond)
	if !errors.Is(err, ErrDifferent) || !strings.Contains(out, ".you: ") {
		t.Errorf("%v\n%s", err, out)
	}
	apart.Store(true)
	out, err = proved(t, "127.0.0.1:1", []string{"SSE_ROUTE_A_PATH=/a", from, "SSE_ROUTE_A_DATA=del(.you)"}, 2500*time.Millisecond)
	if err != nil || !strings.Contains(out, "run here") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestComparePolls checks that two pollers that ask at different times still compare as equal, in every mode.
func TestComparePolls(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"changes", "patch"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			f := newFaulty(t, nil)
			env := []string{"SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_EVERY=100ms", "SSE_ROUTE_A_MODE=" + mode, "SSE_ROUTE_A_KEY=.id"}
			s := serve(t, append(env, "SSE_ROUTE_A_FROM="+f.URL+"/state")...)
			out, err := proved(t, s.addr, append(env, "SSE_ROUTE_A_FROM="+f.URL+"/state?old"), 4*time.Second)
			if err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

func TestCompareWords(t *testing.T) {
	t.Parallel()
	env := []string{"SSE_ROUTE_A_PATH=/a/{id}", "SSE_ROUTE_A_FROM=ws://127.0.0.1:1/{path.id}"}
	for words, want := range map[string]string{"": "there are: a", "b": "there are: a", "a": "the route needs path.id=…", "a path.id=1 -for x": "-for is followed by a time", "a -raw": "-for T alone", "a nonsense": "is not of the form"} {
		if _, err := compare(t, "127.0.0.1:1", env, strings.Fields(words)); !errors.Is(err, ErrCompareWords) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", words, err, want)
		}
	}
}

// TestCompareNoStream checks why there is nothing to compare.
func TestCompareNoStream(t *testing.T) {
	t.Parallel()
	f := newFaulty(t, func(_ int64, n int) []string { return []string{number(n)} })
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<h1>something else</h1>") }))
	defer other.Close()
	env := []string{"SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM=ws" + strings.TrimPrefix(f.URL, "http") + "/ws"}
	if out, err := compare(t, strings.TrimPrefix(other.URL, "http://"), env, []string{"a", "-for", "3s"}); err == nil || !strings.Contains(err.Error(), "and no events: <h1>something else") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := compare(t, "127.0.0.1:1", []string{"SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM=ws" + strings.TrimPrefix(f.URL, "http") + "/ws", "SSE_ROUTE_A_SELECT=empty"}, []string{"a", "-for", "1500ms"}); !errors.Is(err, ErrDifferent) || !strings.Contains(err.Error(), "nothing is proved") {
		t.Errorf("%v\n%s", err, out)
	}
}
