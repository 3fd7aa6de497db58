//go:build linux && !portable

package deliver

import (
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/sys/unix"

	"sidestream/proxy/stream"
)

// quayside is clients of h over raw sockets, which cost this process next to nothing.
type quayside struct {
	h   *harbour
	fds []int
	buf []byte
}

// openRaw connects n clients, each of which sends request, and waits until so many more are counted.
func openRaw(b *testing.B, h *harbour, n, clients int, request string) *quayside {
	b.Helper()
	q := &quayside{h: h, buf: make([]byte, 1<<20)}
	_, port, _ := net.SplitHostPort(h.addr)
	p, _ := strconv.Atoi(port)
	want := h.route.Stats.Clients.Load() + int64(clients)
	for range n {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			b.Fatal(err)
		}
		if err := unix.Connect(fd, &unix.SockaddrInet4{Port: p, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
			b.Fatal(err)
		}
		if _, err := unix.Write(fd, []byte(request)); err != nil {
			b.Fatal(err)
		}
		unix.SetNonblock(fd, true)
		q.fds = append(q.fds, fd)
	}
	for h.route.Stats.Clients.Load() < want {
		runtime.Gosched()
	}
	<-time.After(50 * time.Millisecond)
	q.drain()
	return q
}

// drain reads all that has come.
func (q *quayside) drain() {
	for _, fd := range q.fds {
		for {
			if n, err := unix.Read(fd, q.buf); err != nil || n < len(q.buf) {
				break
			}
		}
	}
}

func (q *quayside) close() {
	for _, fd := range q.fds {
		unix.Close(fd)
	}
	for q.h.route.Stats.Clients.Load() > 0 {
		runtime.Gosched()
	}
}

// newBerth is a harbour for a benchmark. Without an engine each client has a goroutine.
func newBerth(b *testing.B, goroutines bool) (h *harbour, stop func()) {
	h = &harbour{retire: make(chan struct{}), ring: stream.NewRing(stream.NewEpoch(time.Now()), stream.Bounds{Events: 1000}, new(stream.Stats), false)}
	h.route = Pacing{Heartbeat: time.Hour, Retry: time.Second, Stats: new(Stats), Log: slog.New(slog.DiscardHandler)}
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	h.addr = l.Addr().String()
	if !goroutines {
		return h, serving(&h.clients, l, h, h, nil)
	}
	s := &http.Server{Handler: h, ErrorLog: log.New(io.Discard, "", 0)}
	served := make(chan struct{})
	go func() { defer close(served); s.Serve(l) }() // ends with stop
	return h, func() { s.Close(); h.clients.Close(); <-served }
}

// fanOut appends events one after the other, each when all clients have the one before.
func fanOut(b *testing.B, h *harbour, q *quayside, clients int) {
	text := say(strings.Repeat("x", 100))
	written := h.route.Stats.Events.Load()
	b.ReportAllocs()
	b.ResetTimer()
	used, drains := -cpuTime(), time.Duration(0)
	for n := 0; b.Loop(); n++ {
		h.ring.Append(text)
		written += int64(clients)
		for h.route.Stats.Events.Load() < written {
			<-time.After(100 * time.Microsecond)
		}
		if n%10 == 9 {
			began := cpuTime()
			q.drain()
			drains += cpuTime() - began
		}
	}
	used += cpuTime() - drains
	b.ReportMetric(float64(used.Nanoseconds())/float64(b.N)/float64(clients), "cpu-ns/client")
}

// cpuTime is what this process has used.
func cpuTime() time.Duration {
	var u unix.Rusage
	unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkFanOut(b *testing.B) {
	for _, goroutines := range []bool{false, true} {
		b.Run(map[bool]string{false: "shard", true: "goroutine"}[goroutines], func(b *testing.B) {
			h, stop := newBerth(b, goroutines)
			const clients = 200
			q := openRaw(b, h, clients, clients, plainRequest)
			fanOut(b, h, q, clients)
			q.close()
			stop()
		})
	}
	b.Run("h2", func(b *testing.B) {
		h, stop := newBerth(b, false)
		const conns, streams = 4, 50
		q := openRaw(b, h, conns, conns*streams, requestsH2(streams))
		fanOut(b, h, q, conns*streams)
		q.close()
		stop()
	})
}

// BenchmarkZipped is what an event costs the clients of a stream that take gzip, beside as many that do not, in turn in one run: 1,000 clients, each event sent when all have the one before.
func BenchmarkZipped(b *testing.B) {
	const clients, window = 1000, 50
	type side struct {
		h     *harbour
		q     *quayside
		used  time.Duration
		bytes int64
	}
	var sides [2]*side
	for i, request := range []string{plainRequest, strings.Replace(plainRequest, "\r\n\r\n", "\r\nAccept-Encoding: gzip\r\n\r\n", 1)} {
		h, stop := newBerth(b, false)
		defer stop()
		s := &side{h: h, q: openRaw(b, h, clients, clients, request)}
		defer s.q.close()
		sides[i] = s
	}
	n := 0
	for b.Loop() {
		for _, s := range sides {
			written, bytes := s.h.route.Stats.Events.Load(), s.h.route.Stats.Bytes.Load()
			s.used -= cpuTime()
			for i := range window {
				s.h.ring.Append(ticker(n*window + i))
				written += clients
				for s.h.route.Stats.Events.Load() < written {
					<-time.After(100 * time.Microsecond)
				}
			}
			s.used += cpuTime()
			s.bytes += s.h.route.Stats.Bytes.Load() - bytes
			s.q.drain()
		}
		n++
	}
	events := float64(n * window * clients)
	b.ReportMetric(float64(sides[0].used)/events, "plain-ns/client")
	b.ReportMetric(float64(sides[1].used)/events, "gzip-ns/client")
	b.ReportMetric(float64(sides[1].used)/float64(sides[0].used), "cpu-ratio")
	b.ReportMetric(float64(sides[1].bytes)/float64(sides[0].bytes), "bytes-ratio")
	b.ReportMetric(float64(sides[1].bytes)/events, "gzip-B/event")
}

// requestsH2 is what a client of HTTP/2 sends that asks for so many event streams, and grants all there can be.
func requestsH2(streams int) string {
	var out strings.Builder
	out.WriteString(http2.ClientPreface)
	f := http2.NewFramer(&out, nil)
	f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1})
	f.WriteWindowUpdate(0, 1<<31-1-65535)
	for i := range streams {
		// :method GET, :scheme http, :path /, :authority x, by the static table (RFC 7541, appendix A)
		f.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*i + 1), EndHeaders: true, EndStream: true,
			BlockFragment: []byte{0x82, 0x86, 0x84, 0x41, 1, 'x'}})
	}
	return out.String()
}

// BenchmarkJoin is a client that comes, gets the first bytes and goes.
func BenchmarkJoin(b *testing.B) {
	h, stop := newBerth(b, false)
	_, port, _ := net.SplitHostPort(h.addr)
	p, _ := strconv.Atoi(port)
	buf := make([]byte, 4096)
	b.ReportAllocs()
	b.ResetTimer()
	used := -cpuTime()
	for b.Loop() {
		fd, _ := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err := unix.Connect(fd, &unix.SockaddrInet4{Port: p, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
			b.Fatal(err)
		}
		unix.Write(fd, []byte(plainRequest))
		if n, err := unix.Read(fd, buf); n <= 0 {
			b.Fatal(err)
		}
		unix.Close(fd)
	}
	b.ReportMetric(float64((used+cpuTime()).Nanoseconds())/float64(b.N), "cpu-ns/op")
	stop()
}

// BenchmarkIdle is what a client costs that is there: heap and stacks, in the second figure.
func BenchmarkIdle(b *testing.B) {
	for _, c := range []struct {
		name           string
		goroutines     bool
		conns, streams int
		request        string
	}{
		{"shard", false, 2000, 1, plainRequest},
		{"goroutine", true, 1000, 1, plainRequest},
		{"h2", false, 40, 100, requestsH2(100)},
	} {
		b.Run(c.name, func(b *testing.B) {
			h, stop := newBerth(b, c.goroutines)
			openRaw(b, h, 1, c.streams, c.request).close()
			for b.Loop() {
				before := resident()
				q := openRaw(b, h, c.conns, c.conns*c.streams, c.request)
				b.ReportMetric(float64(resident()-before)/float64(c.conns*c.streams), "B/client")
				q.close()
			}
			stop()
		})
	}
}

func resident() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}
