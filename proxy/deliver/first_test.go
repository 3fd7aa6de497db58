//go:build linux && !portable

package deliver

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"sidestream/proxy/stream"
)

// verdicts is an [Admission] whose streams are decided by the test.
type verdicts struct {
	*harbour
	asked chan context.Context
	says  chan bool
}

func (v verdicts) Beside(r *http.Request) (Client, http.Header, First, bool) {
	return Client{}, http.Header{"X-Of": {"the route"}}, func(ctx context.Context) (Client, bool) {
		v.asked <- ctx
		select {
		case ok := <-v.says:
			return v.client(r), ok
		case <-ctx.Done():
			return Client{}, false
		}
	}, false
}

// newVerdicts is a harbour whose clients wait for a verdict. handler is net/http's.
func newVerdicts(t *testing.T, l net.Listener, handler http.HandlerFunc) verdicts {
	t.Helper()
	v := verdicts{newHarbour(t, stream.Bounds{}, time.Hour), make(chan context.Context, 8), make(chan bool)}
	v.addr, v.network = l.Addr().String(), l.Addr().Network()
	stop := serving(&v.clients, l, handler, v, nil)
	t.Cleanup(stop)
	return v
}

// answers is a handler that tells of what it was asked.
func answers(w http.ResponseWriter, r *http.Request) {
	w.WriteHeader(http.StatusForbidden)
	io.WriteString(w, r.Method+" "+r.URL.Path+" "+r.Header.Get("Accept"))
}

func listening(t *testing.T) net.Listener {
	t.Helper()
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestFirstClients: what a verdict waits for holds nobody up, a stream is answered past net/http, and anything else by it.
func TestFirstClients(t *testing.T) {
	for name, listen := range map[string]func(*testing.T) net.Listener{"tcp": listening, "unix": func(t *testing.T) net.Listener {
		l, err := ListenUnix(t.TempDir()+"/s", 0o600)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}} {
		t.Run(name, func(t *testing.T) {
			v := newVerdicts(t, listen(t), answers)
			var conns []net.Conn
			for range 2 {
				c, err := net.Dial(v.network, v.addr)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { c.Close() })
				c.SetDeadline(time.Now().Add(time.Minute))
				io.WriteString(c, plainRequest)
				<-v.asked // while the one before waits
				conns = append(conns, c)
			}
			v.says <- true
			v.says <- false
			var streams, refused int
			for _, c := range conns {
				resp, err := http.ReadResponse(bufio.NewReader(c), nil)
				switch {
				case err != nil:
					t.Fatal(err)
				case resp.StatusCode == http.StatusOK:
					streams++
					line, err := bufio.NewReader(resp.Body).ReadString('\n')
					if err != nil || !hint.MatchString(strings.TrimSuffix(line, "\n")) || resp.Header.Get("X-Of") != "the route" {
						t.Errorf("%q %v %v", line, resp.Header, err)
					}
				default:
					refused++
					if text, err := io.ReadAll(resp.Body); string(text) != "GET / text/event-stream" || err != nil {
						t.Errorf("net/http was asked for %q, %v", text, err)
					}
				}
			}
			if streams != 1 || refused != 1 {
				t.Errorf("%d streams, %d refused", streams, refused)
			}
			v.wantDirect(1)
			if got := v.clients.ByWriter(); got[ByShard] != 1 {
				t.Errorf("by %v", got)
			}
		})
	}
}

// TestAFirstClientThatLeaves: its verdict is not waited for any more.
func TestAFirstClientThatLeaves(t *testing.T) {
	v := newVerdicts(t, listening(t), answers)
	c := v.dial()
	io.WriteString(c, plainRequest)
	ctx := <-v.asked
	select {
	case <-ctx.Done():
		t.Fatal("given up while it is there")
	case <-time.After(3 * goneTime):
	}
	c.Close()
	select {
	case <-ctx.Done():
	case <-time.After(30 * time.Second):
		t.Error("still waited for")
	}
}

// TestFirstClientsWhileDraining: those that wait are answered by net/http at once, and those that come when the listener is closed are cut.
func TestFirstClientsWhileDraining(t *testing.T) {
	v := newVerdicts(t, listening(t), answers)
	c := v.dial()
	io.WriteString(c, plainRequest)
	<-v.asked
	v.clients.StartDrain(time.Millisecond)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || resp.StatusCode != http.StatusForbidden {
		t.Fatal(resp, err)
	}
}

// TestTheListenerOfFirstClientsIsClosed: a verdict that comes then, whatever it is, leaves no connection open.
func TestTheListenerOfFirstClientsIsClosed(t *testing.T) {
	l := listening(t)
	var c Clients
	slow := verdicts{newHarbour(t, stream.Bounds{}, time.Hour), make(chan context.Context, 1), make(chan bool)}
	a := c.acceptor(l, slow, nil)
	var accepting sync.WaitGroup
	accepting.Go(func() { a.Accept() })
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, plainRequest)
	<-slow.asked
	a.Close()
	accepting.Wait()
	slow.says <- false
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	if n, err := conn.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Error(n, err)
	} else if e, ok := err.(net.Error); ok && e.Timeout() {
		t.Error("it is still open")
	}
	c.Close()
}
