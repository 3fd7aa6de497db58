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
	"sync/atomic"
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

var listens = map[string]func(*testing.T) net.Listener{"tcp": listening, "unix": func(t *testing.T) net.Listener {
	l, err := ListenUnix(t.TempDir()+"/s", 0o600)
	if err != nil {
		t.Fatal(err)
	}
	return l
}}

// TestFirstClients: what a verdict waits for holds nobody up, a stream is answered past net/http, and anything else by it.
func TestFirstClients(t *testing.T) {
	for name, listen := range listens {
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
	case <-time.After(time.Minute):
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

// TestAFirstClientsStreamByNetHTTP: where its handler has one after all, a shard serves it as any other, and a drain waits for it once.
func TestAFirstClientsStreamByNetHTTP(t *testing.T) {
	for name, listen := range listens {
		t.Run(name, func(t *testing.T) {
			handlers := make(chan http.Handler, 1)
			v := newVerdicts(t, listen(t), func(w http.ResponseWriter, r *http.Request) { (<-handlers).ServeHTTP(w, r) })
			handlers <- v.harbour
			c, err := net.Dial(v.network, v.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(time.Minute))
			io.WriteString(c, plainRequest)
			<-v.asked
			v.says <- false
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil || resp.StatusCode != http.StatusOK {
				t.Fatal(resp, err)
			}
			if line, err := bufio.NewReader(resp.Body).ReadString('\n'); err != nil || !hint.MatchString(strings.TrimSuffix(line, "\n")) {
				t.Errorf("%q, %v", line, err)
			}
			v.wantDirect(0)
			if got := v.clients.ByWriter(); got[ByShard] != 1 {
				t.Errorf("by %v", got)
			}
			v.clients.Drain(time.Millisecond)
			if n := v.route.Stats.Clients.Load(); n != 0 {
				t.Errorf("%d are there after the drain", n)
			}
		})
	}
}

// late is an [Admission] whose verdicts are no streams, and come some time after they are not waited for any more.
type late struct{ asked chan struct{} }

func (l late) Beside(*http.Request) (Client, http.Header, First, bool) {
	return Client{}, nil, func(ctx context.Context) (Client, bool) {
		close(l.asked)
		<-ctx.Done()
		time.Sleep(50 * time.Millisecond)
		return Client{}, false
	}, false
}

// TestADrainWaitsForFirstClients: the server that is shut down after it has answered them.
func TestADrainWaitsForFirstClients(t *testing.T) {
	l := listening(t)
	var c Clients
	asked := make(chan struct{})
	server := &http.Server{Handler: http.HandlerFunc(answers), ConnContext: WithConn}
	var serves sync.WaitGroup
	a := c.acceptor(l, late{asked}, nil)
	serves.Go(func() { server.Serve(a) })
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	io.WriteString(conn, plainRequest)
	<-asked
	c.Drain(time.Millisecond)
	if err := server.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if resp, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || resp.StatusCode != http.StatusForbidden {
		t.Error(resp, err)
	}
	c.Close()
	serves.Wait()
}

// TestNobodyIsWatchedAfterStop: also where it comes while somebody looks.
func TestNobodyIsWatchedAfterStop(t *testing.T) {
	var looks atomic.Int32
	stops, stopped := make(chan func(), 1), make(chan struct{})
	stops <- watch(func() bool {
		if looks.Add(1) == 2 {
			go func() { defer close(stopped); (<-stops)() }() // ends when this has returned
			select {
			case <-stopped:
				t.Error("it did not wait for who looks")
			case <-time.After(20 * time.Millisecond):
			}
		}
		return false
	}, func() { t.Error("it is gone") })
	<-stopped
	time.Sleep(3 * goneTime)
	if n := looks.Load(); n != 2 {
		t.Errorf("looked %d times", n)
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
	c.Drain(time.Millisecond) // which does not wait for it
	conn.SetDeadline(time.Now().Add(time.Minute))
	if n, err := conn.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Error(n, err)
	} else if e, ok := err.(net.Error); ok && e.Timeout() {
		t.Error("it is still open")
	}
	c.Close()
}
