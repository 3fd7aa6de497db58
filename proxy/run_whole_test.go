package proxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"sidestream/proxy/upstream"
)

// whole has a model answer with the beginning of something that is no stream, and of which nothing more comes. asked has the requests, gone those
// that are over.
func (m *model) whole() (asked, answer, gone chan struct{}) {
	asked, answer, gone = make(chan struct{}, 10), make(chan struct{}, 10), make(chan struct{}, 10)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.answer = func(w http.ResponseWriter, r *http.Request) bool {
		asked <- struct{}{}
		select {
		case <-answer:
		case <-r.Context().Done():
		}
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, "{")
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
		gone <- struct{}{}
		return true
	}
	return asked, answer, gone
}

// seen waits for something that the model has seen.
func seen(t *testing.T, what string, c <-chan struct{}) {
	t.Helper()
	eventually(t, what, func() bool {
		select {
		case <-c:
			return true
		default:
			return false
		}
	})
}

// An answer that is no stream ends upstream with the client that reads it.
func TestRunWholeEndsWithItsClient(t *testing.T) {
	m := newModel(t)
	s := serve(t, runEnv(m)...)
	asked, answer, gone := m.whole()
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "POST /v1/chat HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
	seen(t, "the request", asked)
	answer <- struct{}{}
	buf := make([]byte, 4096)
	if n, err := conn.Read(buf); err != nil || n == 0 {
		t.Fatal(err)
	}
	conn.Close()
	seen(t, "the end of the request upstream", gone)
}

// An answer that is no stream, and which nobody is there for who could read it, is not kept open.
func TestRunWholeWithoutItsClient(t *testing.T) {
	m := newModel(t)
	s := serve(t, runEnv(m, "SSE_ROUTE_A_LINGER=30s")...)
	asked, answer, gone := m.whole()
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan struct{})
	go func() {
		r := httptest.NewRequestWithContext(ctx, "POST", "/v1/chat", strings.NewReader("{}"))
		r.Header.Set("Idempotency-Key", "k") // so that the run goes on
		s.Routes()[0].answer(httptest.NewRecorder(), r)
		close(left)
	}()
	seen(t, "the request", asked)
	leave()
	<-left
	answer <- struct{}{}
	seen(t, "the end of the request upstream", gone)
}

// Whoever waits for a run whose stream ended before it was asked for does not wait for ever.
func TestRunNeverAsked(t *testing.T) {
	one := &oneRun{Starting: upstream.Request{}.Start()}
	ended := make(chan struct{})
	waited := make(chan bool)
	go func() { waited <- one.await(t.Context(), ended) }() // ends with ended
	select {
	case <-waited:
		t.Fatal("it is not waited for")
	case <-time.After(10 * time.Millisecond):
	}
	close(ended)
	if <-waited {
		t.Error("it is answered")
	}
}
