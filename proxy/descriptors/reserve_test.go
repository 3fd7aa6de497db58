//go:build unix

package descriptors

import (
	"io"
	"log/slog"
	"net"
	"os"
	"syscall"
	"testing"
)

// exhaust opens files until no descriptor is left, of few.
func exhaust(t *testing.T) {
	t.Helper()
	var was syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	few := was
	few.Cur = 64
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Setrlimit(syscall.RLIMIT_NOFILE, &was) })
	for {
		f, err := os.Open(os.DevNull)
		if err != nil {
			return
		}
		t.Cleanup(func() { f.Close() })
	}
}

// TestReserve: connections are accepted that only the reserve has descriptors for.
func TestReserve(t *testing.T) {
	r, err := New(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	public, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := r.Listener(public)
	var dialled []net.Conn
	for range Size {
		c, err := net.Dial("tcp", public.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		dialled = append(dialled, c)
	}
	warm, err := l.Accept() // the poller's own descriptors are open
	if err != nil {
		t.Fatal(err)
	}
	warm.Close()
	exhaust(t)
	for n := range Size - 1 {
		c, err := l.Accept()
		if err != nil {
			t.Fatal(n, err)
		}
		defer c.Close()
		io.WriteString(c, "x")
		if _, err := dialled[n+1].Read(make([]byte, 1)); err != nil {
			t.Error(n, err)
		}
		if r.Short() {
			t.Error("short of one of the operator's own connections")
		}
		c.Close()
		c.Close() // as net/http may
		if r.mu.Lock(); len(r.spare) != Size || r.lent != 0 {
			t.Errorf("%d are kept back, %d lent", len(r.spare), r.lent)
		}
		r.mu.Unlock()
	}
	l.Close()
	if r.Short() {
		t.Error("short of what is closed")
	}
}

// TestReserveIsRobbed: what somebody else took of it is missed, and comes back.
func TestReserveIsRobbed(t *testing.T) {
	r, err := New(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	public, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", public.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	exhaust(t)
	// The thief has what was spent first.
	var stolen *os.File
	hand := &handing{Listener: public, before: func(n int) {
		if n == 2 {
			if stolen, err = os.Open(os.DevNull); err != nil {
				t.Error("nothing was spent:", err)
			}
		}
	}}
	l := r.Listener(hand)
	got, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if !r.Short() {
		t.Error("it is not missed")
	}
	stolen.Close()
	if r.Fill(); r.Short() {
		t.Error("it is missed still")
	}
	got.Close()
	if r.mu.Lock(); len(r.spare) != Size || r.lent != 0 {
		t.Errorf("%d are kept back, %d lent", len(r.spare), r.lent)
	}
	r.mu.Unlock()
	l.Close()
}

// handing calls before as the n-th Accept begins.
type handing struct {
	net.Listener
	before func(n int)
	n      int
}

func (h *handing) Accept() (net.Conn, error) {
	h.n++
	h.before(h.n)
	return h.Listener.Accept()
}
