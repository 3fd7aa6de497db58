//go:build linux && !portable

package proxy

import (
	"fmt"
	"net"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// crowd is n clients of path, which read nothing in this process but the beginning of their answers.
func (s *sidecar) crowd(t testing.TB, path string, n int) (leave func()) {
	t.Helper()
	conns := make([]net.Conn, n)
	var buf [4096]byte
	for i := range conns {
		conn, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		conns[i] = conn
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\n\r\n", path, s.addr)
		conn.SetReadDeadline(time.Now().Add(time.Minute))
		for got := ""; !strings.Contains(got, "stream.open"); {
			n, err := conn.Read(buf[:])
			if err != nil {
				t.Fatalf("%s: %v after %q", path, err, got)
			}
			got += string(buf[:n])
		}
	}
	return func() {
		for _, conn := range conns {
			conn.Close()
		}
	}
}

func memory() int64 {
	var m runtime.MemStats
	for range 3 {
		runtime.GC()
		runtime.Gosched()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// work is the CPU time that this process has had.
func work(t *testing.T) time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// A client of a merged stream costs what any client costs, whatever the number of its parts: in memory, its own end of the connection in this process included,
// in goroutines, and in CPU time for each event.
func TestMergedClientCosts(t *testing.T) {
	f := newFeed(t)
	var env, paths []string
	for i := range 16 {
		env = append(env, f.route(fmt.Sprint("r", i), "")...)
		paths = append(paths, fmt.Sprint("/r", i))
	}
	names := strings.ReplaceAll(strings.Join(paths, ","), "/", "")
	s := serve(t, append(env, "SSE_ROUTE_ALL_PATH=/all", "SSE_ROUTE_ALL_FROM=routes:"+names)...)
	const n, events = 2000, 20
	cost, cpu := map[string]float64{}, map[string]float64{}
	routes := map[string]*Route{"plain": s.table().named("r0"), "route": s.table().named("all"), "set": s.table().set}
	for _, one := range []struct{ name, path string }{{"plain", "/r0"}, {"route", "/all"}, {"set", setOf(paths...)}} {
		first := s.crowd(t, one.path, 50) // the stream, and what is made once
		before, goroutines := memory(), runtime.NumGoroutine()
		leave := s.crowd(t, one.path, n)
		eventually(t, "all to be handed over", func() bool { return runtime.NumGoroutine() < goroutines+n/10 })
		cost[one.name] = float64(memory()-before) / n
		began, sent := work(t), routes[one.name].Clients.Events.Load()
		for i := range events {
			f.publish(t, "r0", strings.Repeat("x", 100))
			eventually(t, "the event to be written", func() bool { return routes[one.name].Clients.Events.Load() >= sent+int64((i+1)*(n+50)) })
		}
		cpu[one.name] = float64(work(t)-began) / n / events
		leave()
		first()
		eventually(t, "all to leave", func() bool { return s.Proxy.Clients() == 0 })
	}
	for _, name := range []string{"route", "set"} {
		ratio := cost[name] / cost["plain"]
		t.Logf("a client of a %s of 16 parts costs %.0f bytes, a plain one %.0f: %.2f×", name, cost[name], cost["plain"], ratio)
		if ratio > 4 { // what each of its parts cost would be sixteen
			t.Errorf("a client of a %s costs %.2f times a plain one", name, ratio)
		}
		t.Logf("an event costs %.0f ns for a client of a %s, %.0f for a plain one: %.2f×", cpu[name], name, cpu["plain"], cpu[name]/cpu["plain"]) // nearly all of it is the kernel's
	}
}
