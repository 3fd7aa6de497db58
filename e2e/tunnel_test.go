//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"sidestream/e2e/page"
)

// echo is a WebSocket service that sends back what it hears, in the order it hears it.
type echo struct {
	*httptest.Server
	dials, heard atomic.Int64
	mu           sync.Mutex
	codes        []websocket.StatusCode // with which its connections were closed
}

func startEcho(t *testing.T) *echo {
	t.Helper()
	e := new(echo)
	e.Server = httptest.NewServer(e)
	t.Cleanup(func() { e.CloseClientConnections(); e.Server.Close() })
	return e
}

func (e *echo) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		return
	}
	defer ws.CloseNow()
	ws.SetReadLimit(-1)
	e.dials.Add(1)
	for {
		kind, data, err := ws.Read(context.Background())
		if err == nil {
			e.heard.Add(1)
			err = ws.Write(context.Background(), kind, data)
		}
		if err != nil {
			e.mu.Lock()
			e.codes = append(e.codes, websocket.CloseStatus(err))
			e.mu.Unlock()
			return
		}
	}
}

func (e *echo) closed() []websocket.StatusCode {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]websocket.StatusCode(nil), e.codes...)
}

// beginPage opens a page whose connections are its own.
func beginPage(t *testing.T, addr, id string) *page.Page {
	t.Helper()
	transport := &http.Transport{}
	p := &page.Page{Base: "http://" + addr, ID: id, Client: &http.Client{Transport: transport}}
	if err := p.Begin(patient(t)); err != nil {
		t.Fatalf("the page does not begin: %v", err)
	}
	t.Cleanup(func() { p.End(); transport.CloseIdleConnections() })
	return p
}

func patient(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// secretID stands in for the random id of a page or session; it must not show up in logs.
const secretID = "e2e-secret-0123456789"

// TestTunnel: 10,000 messages each way, once and in order, while all connections are cut again and again: those of the
// events, and those of POSTs under way.
func TestTunnel(t *testing.T) {
	t.Parallel()
	for name, front := range map[string]func(*testing.T, string) string{
		"direct": func(_ *testing.T, addr string) string { return addr },
		"nginx":  startNginx,
	} {
		t.Run(name, func(t *testing.T) {
			e := startEcho(t)
			s := startSidecar(t, "SSE_UPSTREAM="+e.URL, "SSE_TUNNEL=/socket", "SSE_DRAIN=100ms")
			wire := startRecorder(t, front(t, s.addr))
			p := beginPage(t, wire.addr(), secretID)
			ws, err := p.Dial(patient(t), 1, "/socket?token="+secretID)
			if err != nil {
				t.Fatal(err)
			}
			exchange(t, wire, p, ws)
			if e.dials.Load() != 1 || e.heard.Load() != messages {
				t.Errorf("%d connections heard %d messages, want one and %d", e.dials.Load(), e.heard.Load(), messages)
			}
			ws.Close("4001 done")
			if how := ws.Closed(); how.Code != 4001 || !how.Clean {
				t.Errorf("closed with %+v", how)
			}
			s.drain(t)
			if strings.Contains(s.stderr.String(), secretID) {
				t.Errorf("the page's id, or the query of its WebSocket, is logged")
			}
		})
	}
}

const messages = 10000

func tunnelled(i int) page.Message {
	return page.Message{Binary: i%5 == 0, Data: fmt.Sprintf("%d\r\n\x00%s", i, strings.Repeat("é", i%100))}
}

// exchange sends all messages and receives them back while wire is cut twice a second, and oftener the stream alone.
func exchange(t *testing.T, wire *recorder, p *page.Page, ws *page.Socket) {
	t.Helper()
	cutting, stop := context.WithCancel(t.Context())
	var cutter, sender sync.WaitGroup
	cuts := 0
	cutter.Go(func() {
		every := time.NewTicker(100 * time.Millisecond)
		defer every.Stop()
		for n := 1; ; n++ {
			select {
			case <-cutting.Done():
				return
			case <-every.C:
			}
			if n%5 == 0 {
				wire.cut()
			}
			cuts = p.Cut()
		}
	})
	defer cutter.Wait()
	defer stop()
	sender.Go(func() {
		for i := range messages {
			ws.Send(tunnelled(i))
			for ws.Waiting() > 100 { // many POSTs rather than few
				<-time.After(time.Millisecond)
			}
		}
	})
	defer sender.Wait()
	for i := range messages {
		got, ok := ws.Receive(patient(t))
		if want := tunnelled(i); !ok || got != want {
			t.Fatalf("message %d: %v %.30q, want %.30q; the tunnel: %d wait", i, ok, got.Data, want.Data, ws.Waiting())
		}
	}
	stop()
	cutter.Wait()
	if cuts < 4 { // a fast machine is through soon
		t.Errorf("cut %d times only", cuts)
	}
	t.Logf("%d connections", cuts)
}

// TestTunnelAcrossRestart: what is lost with the sidecar is not hidden.
func TestTunnelAcrossRestart(t *testing.T) {
	t.Parallel()
	e := startEcho(t)
	s := startSidecar(t, "SSE_UPSTREAM="+e.URL, "SSE_TUNNEL=/", "SSE_DRAIN=100ms", "SSE_LINGER=3s")
	ws, err := beginPage(t, s.addr, secretID).Dial(patient(t), 1, "/")
	if err != nil {
		t.Fatal(err)
	}
	s.Process.Signal(syscall.SIGKILL)
	s.wait(t)
	eventually(t, "the upstream connection to be gone", func() bool { return len(e.closed()) == 1 })
	s.start(t)
	if how := ws.Closed(); how.Code != 1006 {
		t.Errorf("closed with %+v", how)
	}
	again, err := beginPage(t, s.addr, secretID).Dial(patient(t), 1, "/")
	if err != nil {
		t.Fatal(err)
	}
	s.drain(t)
	if how := again.Closed(); how.Code != 1006 {
		t.Errorf("closed with %+v", how)
	}
	if codes := e.closed(); len(codes) != 2 || codes[1] != websocket.StatusGoingAway {
		t.Errorf("the upstream was closed with %v", codes)
	}
}

func TestCheckShowsTunnel(t *testing.T) {
	t.Parallel()
	code, stdout, stderr := run(t, []string{"SSE_UPSTREAM=http://127.0.0.1:9", "SSE_TUNNEL=/socket,/cable"}, "check")
	if code != 0 || !strings.Contains(stdout, "/socket, /cable") {
		t.Errorf("status %d: %s%s", code, stdout, stderr)
	}
}
