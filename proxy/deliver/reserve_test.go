package deliver

import (
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"syscall"
	"testing"
)

// missing is a reserve that somebody has taken from.
type missing struct{ short, filled atomic.Int32 }

func (m *missing) Short() bool { return m.short.Load() > 0 }
func (m *missing) Fill()       { m.short.Store(0); m.filled.Add(1) }

// nobody is admitted: every request is the handler's.
type nobody struct{}

func (nobody) Beside(*http.Request) (c Client, header http.Header, first First, ok bool) {
	return c, nil, nil, false
}

// noting keeps the errors of a listener.
type noting struct {
	net.Listener
	errs chan error
}

func (n noting) Accept() (net.Conn, error) {
	c, err := n.Listener.Accept()
	if err != nil {
		n.errs <- err
	}
	return c, err
}

// TestYielding: a connection that got a descriptor that was kept back for others is given up, once, and the next is served.
func TestYielding(t *testing.T) {
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := &missing{}
	m.short.Store(1)
	var c Clients
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "served") })
	first, second := c.Listeners(Yielding(l, m), nobody{}, nil)
	errs := make(chan error, 4)
	served := make(chan struct{})
	s := &http.Server{Handler: handler}
	go func() { defer close(served); s.Serve(noting{first, errs}) }()
	if second != nil {
		defer second.Close()
	}
	ask := func() (string, error) {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n")
		text, err := io.ReadAll(conn)
		return string(text), err
	}
	if text, _ := ask(); text != "" {
		t.Errorf("it was served: %q", text)
	}
	if err := <-errs; !errors.Is(err, syscall.EMFILE) {
		t.Error(err)
	}
	if text, err := ask(); err != nil || text == "" {
		t.Errorf("the next was not served: %q, %v", text, err)
	}
	if n := m.filled.Load(); n != 1 {
		t.Errorf("filled %d times", n)
	}
	s.Close()
	c.Close()
	<-served
}
