//go:build linux && !portable

package deliver

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sidestream/proxy/deliver/h2"
	"sidestream/proxy/stream"
	"sidestream/translate"
)

// dial connects and says nothing.
func (h *harbour) dial() net.Conn {
	h.t.Helper()
	c, err := net.Dial("tcp", h.addr)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(time.Minute))
	return c
}

const plainRequest = "GET / HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n"

// wantStream reads a head and the hint after it.
func wantStream(t *testing.T, c net.Conn) {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(resp.Body).ReadString('\n')
	if resp.StatusCode != http.StatusOK || err != nil || !hint.MatchString(strings.TrimSuffix(line, "\n")) {
		t.Fatalf("%s, %q, %v", resp.Status, line, err)
	}
}

func (h *harbour) wantDirect(want int64) {
	h.t.Helper()
	if n := h.route.Stats.Direct.Load(); n != want {
		h.t.Errorf("%d clients came past net/http, want %d", n, want)
	}
}

func TestPlainRequestsComePastNetHTTP(t *testing.T) {
	h := newHarbour(t, stream.Bounds{}, time.Hour)
	for i, pause := range []time.Duration{0, 50 * time.Millisecond} { // with and without waiting in the poller
		c := h.dial()
		<-time.After(pause)
		io.WriteString(c, plainRequest)
		wantStream(t, c)
		h.wantDirect(int64(i + 1))
	}
}

func TestOthersComeByNetHTTP(t *testing.T) {
	h := newHarbour(t, stream.Bounds{}, time.Hour)
	for name, parts := range map[string][]string{
		"in two parts":  {plainRequest[:20], plainRequest[20:]},
		"byte by byte":  strings.Split(plainRequest, ""),
		"after silence": {"", plainRequest},
		"pipelined":     {plainRequest + plainRequest},
		"unusual":       {"GET / HTTP/1.1\r\nHost: x\r\nTe: trailers\r\n\r\n"},
		"large":         {"GET / HTTP/1.1\r\nHost: x\r\nCookie: " + strings.Repeat("a", peekSize) + "\r\n\r\n"},
		"with a body":   {"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab"},
	} {
		t.Run(name, func(t *testing.T) {
			met := h.met.Load()
			c := h.dial()
			for i, part := range parts {
				if io.WriteString(c, part); i == 0 && len(parts) > 1 {
					eventually(t, "it has been seen", func() bool { return h.met.Load() > met })
				}
			}
			wantStream(t, c)
			h.wantDirect(0)
		})
	}
}

// TestRefusedByNetHTTP: what is wrong with a request is said by net/http, as ever.
func TestRefusedByNetHTTP(t *testing.T) {
	h := newHarbour(t, stream.Bounds{}, time.Hour)
	for request, want := range map[string]string{
		"GET / HTTP/1.1\r\n\r\n":                                           "HTTP/1.1 400 Bad Request: missing required Host header",
		"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n":                     "HTTP/1.1 400 Bad Request",
		"GET / HTTP/1.1\r\nHost: x y\r\n\r\n":                              "HTTP/1.1 400 Bad Request: malformed Host header",
		"GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n":                             "HTTP/1.1 400 Bad Request",
		"GET / HTTP/1.1\r\nHost: x\r\nA : b\r\n\r\n":                       "HTTP/1.1 400 Bad Request: invalid header name",
		"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: nonsense\r\n\r\n": "HTTP/1.1 501 Not Implemented",
		"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 2\r\n\r\n":        "HTTP/1.1 400 Bad Request",
		"GET / HTTP/3.1\r\nHost: x\r\n\r\n":                                "HTTP/1.1 505 HTTP Version Not Supported: unsupported protocol version",
		"nonsense\r\n\r\n":                                                 "HTTP/1.1 400 Bad Request",
	} {
		c := h.dial()
		io.WriteString(c, request)
		line, err := bufio.NewReader(c).ReadString('\n')
		if strings.TrimSpace(line) != want {
			t.Errorf("%q: got %q, %v; want %q", request, line, err, want)
		}
	}
	h.wantDirect(0)
}

// TestBothWaysAnswerTheSame holds the bytes of both ways against each other.
func TestBothWaysAnswerTheSame(t *testing.T) {
	h := newHarbour(t, stream.Bounds{Start: stream.StartAll}, time.Hour)
	for i := range 20 {
		h.append(translate.Message{Data: []byte(payload(i))})
	}
	last := "\nid: " + h.ring.LastID() + "\n\n"
	for _, proto := range []string{"1.0", "1.1"} {
		var answers [2]string
		for i, more := range []string{"", "Te: trailers\r\n"} {
			c := h.dial()
			fmt.Fprintf(c, "GET / HTTP/%s\r\nHost: x\r\nLast-Event-ID: unknown\r\n%s\r\n", proto, more)
			answers[i] = masked(quiet(t, c, last))
		}
		if answers[0] != answers[1] || !strings.Contains(answers[0], payload(19)) {
			t.Errorf("HTTP/%s: past net/http\n%s\nby it\n%s", proto, answers[0], answers[1])
		}
	}
	h.wantDirect(2)
}

// quiet reads until last has come, and then nothing for a while.
func quiet(t *testing.T, c net.Conn, last string) string {
	var all []byte
	for p := make([]byte, 64<<10); ; {
		if strings.Contains(string(all), last) {
			c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		}
		n, err := c.Read(p)
		all = append(all, p[:n]...)
		if errors.Is(err, os.ErrDeadlineExceeded) || err == io.EOF {
			return string(all)
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// masked is an answer without what differs from one to the next.
func masked(answer string) string {
	var lines []string
	for line := range strings.SplitSeq(answer, "\n") {
		for _, name := range []string{"Date: ", "retry: "} {
			if strings.HasPrefix(line, name) {
				line = fmt.Sprint(name, len(line))
			}
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

func TestTheKernelWatchesOverThosePastNetHTTP(t *testing.T) {
	h := newHarbour(t, stream.Bounds{}, time.Hour)
	c := h.dial()
	io.WriteString(c, plainRequest)
	wantStream(t, c)
	fd := descriptorOf(t, c.LocalAddr().String())
	for _, o := range []struct{ level, option, want int }{{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 30000}, {unix.IPPROTO_TCP, unix.TCP_NODELAY, 1}} {
		if got, err := unix.GetsockoptInt(fd, o.level, o.option); err != nil || got != o.want {
			t.Errorf("option %d is %d, %v; want %d", o.option, got, err, o.want)
		}
	}
}

// descriptorOf is this process's descriptor whose other end is address.
func descriptorOf(t *testing.T, address string) int {
	for fd := 3; fd < 1024; fd++ {
		if peer(fd) == address {
			return fd
		}
	}
	t.Fatal("no descriptor leads to " + address)
	return 0
}

// TestSilentPeers: a connection that is closed without a word is forgotten, a silent one is net/http's, and Close cuts the rest.
func TestSilentPeers(t *testing.T) {
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var c Clients
	a := c.acceptor(l, elsewhere{}, newArrivals(l.Addr()))
	type accepted struct {
		net.Conn
		error
	}
	in := make(chan accepted)
	go func() { // ends with a
		defer close(in)
		for {
			c, err := a.Accept()
			in <- accepted{c, err}
			if err != nil {
				return
			}
		}
	}()
	dial := func() net.Conn {
		c, err := net.Dial("tcp", a.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	dial().Close()
	began, silent := time.Now(), dial()
	defer silent.Close()
	if a := <-in; a.error != nil || a.RemoteAddr().String() != silent.LocalAddr().String() || time.Since(began) < silence {
		t.Errorf("after %v: %v, %v", time.Since(began), a.Conn, a.error)
	} else if _, ok := a.Conn.(*net.TCPConn); !ok {
		t.Errorf("%T", a.Conn)
	} else {
		a.Close()
	}
	waits := dial()
	defer waits.Close()
	<-time.After(50 * time.Millisecond)
	a.Close()
	if a := <-in; !errors.Is(a.error, net.ErrClosed) {
		t.Error(a)
	}
	if _, err := waits.Read(make([]byte, 1)); err == nil {
		t.Error("a connection that waited was not cut")
	}
	if _, err := net.Dial("tcp", a.Addr().String()); err == nil {
		t.Error("it listens still")
	}
	if _, err := a.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if err := a.Close(); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

// TestConnectsWhileEventsFlow has 1,000 clients a second come and go while others are written to: each gets every
// byte, and the live clients get theirs in time.
func TestConnectsWhileEventsFlow(t *testing.T) {
	h := newHarbour(t, stream.Bounds{Events: 2000}, time.Hour)
	const events, visits = 200, 2000
	var readers sync.WaitGroup
	for range 20 {
		c, in := h.open("1.1", "")
		readers.Go(func() {
			defer c.Close()
			r := reference{in: in, next: 1}
			for r.next <= events {
				if _, err := r.event(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	eventually(t, "they are there", func() bool { return h.route.Stats.Clients.Load() == 20 })
	readers.Go(func() {
		for i := 1; i <= events; i++ {
			h.append(translate.Message{Data: []byte(payload(i))})
			<-time.After(10 * time.Millisecond)
		}
	})
	for w := range 8 {
		readers.Go(func() {
			for i := range visits / 8 {
				c, in := h.open("1.1", h.ring.Position(0))
				if c == nil {
					return
				}
				if i%4 == w%4 {
					r := reference{in: in, next: 1}
					for range min(int(h.route.Stats.Events.Load()/20), 3) {
						if _, err := r.event(); err != nil {
							t.Error(err)
							break
						}
					}
				}
				c.Close()
				<-time.After(7 * time.Millisecond)
			}
		})
	}
	readers.Wait()
	if n := h.route.Stats.Direct.Load(); n < visits/2-20 {
		t.Errorf("%d of %d came past net/http", n, visits)
	}
}

// elsewhere is an [Admission] that knows no request at once.
type elsewhere struct{ asked func(r *http.Request) }

func (e elsewhere) Beside(r *http.Request) (c Client, header http.Header, first First, ok bool) {
	if e.asked != nil {
		e.asked(r)
	}
	return c, nil, nil, false
}

// TestAPanicOfTheHandlerIsNetHTTPs: it must not end the listener.
func TestAPanicOfTheHandlerIsNetHTTPs(t *testing.T) {
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var c Clients
	asked := make(chan struct{}, 4)
	handler := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked <- struct{}{}; panic(http.ErrAbortHandler) })
	admits := elsewhere{func(*http.Request) { asked <- struct{}{}; panic("a fault") }}
	s := &http.Server{Handler: handler}
	served := make(chan struct{})
	go func() { defer close(served); s.Serve(c.acceptor(l, admits, newArrivals(l.Addr()))) }()
	for range 2 {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, plainRequest)
		if n, err := conn.Read(make([]byte, 1)); n > 0 || err == nil {
			t.Error(n, err)
		}
		conn.Close()
	}
	s.Close()
	c.Close()
	<-served
	if len(asked) != 4 {
		t.Errorf("asked %d times, want twice for each", len(asked))
	}
}

// TestAcceptWaitsForNoOtherServer: connections of HTTP/2 that their server has not taken yet keep no other from being accepted,
// and are cut with the listener.
func TestAcceptWaitsForNoOtherServer(t *testing.T) {
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var c Clients
	two := newArrivals(l.Addr())
	a := c.acceptor(l, elsewhere{}, two)
	defer c.Close()
	in := make(chan net.Conn)
	go func() { // ends with a
		defer close(in)
		for {
			conn, err := a.Accept()
			if err != nil {
				return
			}
			in <- conn
		}
	}()
	var conns []net.Conn
	for _, says := range []string{h2.Preface, h2.Preface, h2.Preface, "POST / HTTP/1.1\r\n"} {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		io.WriteString(conn, says)
		conns = append(conns, conn)
		<-time.After(20 * time.Millisecond)
	}
	select {
	case conn := <-in:
		if conn.RemoteAddr().String() != conns[3].LocalAddr().String() {
			t.Errorf("%v was accepted", conn.RemoteAddr())
		}
		conn.Close()
	case <-time.After(time.Minute):
		t.Fatal("no connection is accepted")
	}
	if conn, err := two.Accept(); err != nil || conn.RemoteAddr().String() != conns[0].LocalAddr().String() {
		t.Error(conn, err)
	} else {
		conn.Close()
	}
	a.Close()
	for _, conn := range conns[1:3] {
		conn.SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a connection that was not taken is left open: %v", err)
		}
	}
	if _, err := two.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	<-in
}

// hasIPv6 reports whether the machine has the address ::1.
func hasIPv6(t *testing.T) bool {
	t.Helper()
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(all, func(a net.Addr) bool { n, ok := a.(*net.IPNet); return ok && n.IP.Equal(net.IPv6loopback) })
}

// TestTheHandlerSeesTheSame: what is not known at once net/http's handler is asked about, with the same request.
func TestTheHandlerSeesTheSame(t *testing.T) {
	for listen, dial := range map[string]string{"127.0.0.1:0": "127.0.0.1", "[::1]:0": "::1", ":0": "127.0.0.1"} {
		if dial == "::1" && !hasIPv6(t) {
			t.Log("this machine has no IPv6, over which the rest is not tried")
			continue
		}
		l, err := Listen(listen)
		if err != nil {
			t.Fatal(err)
		}
		var c Clients
		seen := make(chan string, 2)
		see := func(r *http.Request) { seen <- dump(r) + r.RemoteAddr }
		handler := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { see(r) })
		s := &http.Server{Handler: handler}
		served := make(chan struct{})
		go func() { defer close(served); s.Serve(c.acceptor(l, elsewhere{see}, newArrivals(l.Addr()))) }()
		_, port, _ := net.SplitHostPort(l.Addr().String())
		for _, pause := range []time.Duration{0, 50 * time.Millisecond} {
			conn, err := net.Dial("tcp", net.JoinHostPort(dial, port))
			if err != nil {
				t.Fatal(err)
			}
			<-time.After(pause)
			io.WriteString(conn, "GET /a%20b?c HTTP/1.1\r\nHost: x:80\r\nPragma: no-cache\r\nA: 1\r\na: 2\r\n\r\n")
			first, second := <-seen, <-seen
			if first != second || !strings.HasSuffix(first, conn.LocalAddr().String()) {
				t.Errorf("%s: first\n%s\nthen\n%s\nfrom %s", listen, first, second, conn.LocalAddr())
			}
			conn.Close()
		}
		s.Close()
		c.Close()
		<-served
	}
}
