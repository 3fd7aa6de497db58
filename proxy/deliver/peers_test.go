//go:build linux

package deliver

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sidestream/proxy/stream"
	"sidestream/translate"
)

func TestKernelWatchesOverEveryConnection(t *testing.T) {
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	raw, err := accepted.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []struct{ level, option, want int }{
		{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 30000},
		{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 15},
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
	} {
		var got int
		raw.Control(func(fd uintptr) { got, err = unix.GetsockoptInt(int(fd), o.level, o.option) })
		if err != nil || got != o.want {
			t.Errorf("option %d is %d, %v; want %d", o.option, got, err, o.want)
		}
	}
}

func TestDisconnectedClientsAreNoticedWithoutAnEvent(t *testing.T) {
	overEach(t, disconnectedClientsAreNoticed)
}

func disconnectedClientsAreNoticed(t *testing.T, newHarbour wire) {
	for name, leave := range map[string]func(*net.TCPConn){
		"close":      func(c *net.TCPConn) { c.Close() },
		"half-close": func(c *net.TCPConn) { c.CloseWrite() },
		"reset":      func(c *net.TCPConn) { c.SetLinger(0); c.Close() },
	} {
		for _, proto := range []string{"1.1", "1.0"} {
			h := newHarbour(t, stream.Bounds{}, 0)
			c, in := h.open(proto, "")
			in.ReadString('\n')
			eventually(t, "it is there", func() bool { return h.route.Stats.Clients.Load() == 1 })
			leave(tcp(c))
			eventually(t, name+" is noticed", func() bool { return h.route.Stats.Clients.Load() == 0 && h.left.Load() == 1 })
			c.Close()
			if n := h.route.Stats.Disconnected[Left].Load(); n != 1 {
				t.Errorf("%s: counted %d times as left", name, n)
			}
		}
	}
}

// TestReplayIsLargerThanASocket lets a client come back for more than its socket and several batches hold.
func TestReplayIsLargerThanASocket(t *testing.T) { overEach(t, replayIsLargerThanASocket) }

func replayIsLargerThanASocket(t *testing.T, newHarbour wire) {
	h := newHarbour(t, stream.Bounds{}, time.Hour)
	const events = 5000
	for i := 1; i <= events; i++ {
		h.append(translate.Message{Data: []byte(payload(i))})
	}
	for _, proto := range []string{"1.1", "1.0"} {
		c, in := h.open(proto, h.ring.Position(0))
		r := reference{in: in, next: 1}
		for r.next <= events {
			if _, err := r.event(); err != nil {
				t.Fatal(err)
			}
		}
		c.Close()
		if r.gaps > 0 {
			t.Errorf("HTTP/%s: missed %d", proto, r.gaps)
		}
	}
	eventually(t, "all is counted as replayed", func() bool { return h.route.Stats.Replayed.Load() >= 2*1000 })
}

// TestHeadIsNetHTTPs holds the head that is written without net/http against its own.
func TestHeadIsNetHTTPs(t *testing.T) {
	h := newHarbour(t, stream.Bounds{}, time.Hour)
	for proto, want := range map[string]string{
		"1.1": "Cache-Control: no-cache, no-store, no-transform|Content-Type: text/event-stream|HTTP/1.1 200 OK|Transfer-Encoding: chunked|X-Accel-Buffering: no",
		"1.0": "Cache-Control: no-cache, no-store, no-transform|Content-Type: text/event-stream|HTTP/1.0 200 OK|X-Accel-Buffering: no",
	} {
		c, err := net.Dial("tcp", h.addr)
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(time.Minute))
		fmt.Fprintf(c, "GET / HTTP/%s\r\nHost: x\r\n\r\n", proto)
		buf := make([]byte, 4096)
		n, err := io.ReadAtLeast(c, buf, 100)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		head, _, ok := strings.Cut(string(buf[:n]), "\r\n\r\n")
		var lines []string
		for line := range strings.SplitSeq(head, "\r\n") {
			if date, isDate := strings.CutPrefix(line, "Date: "); !isDate {
				lines = append(lines, line)
			} else if _, err := http.ParseTime(date); err != nil {
				t.Error(err)
			}
		}
		slices.Sort(lines)
		if got := strings.Join(lines, "|"); !ok || got != want {
			t.Errorf("HTTP/%s: got %s\nwant %s", proto, got, want)
		}
	}
}
