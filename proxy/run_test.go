package proxy

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// prompt is a POST at a model.
type prompt struct {
	head http.Header
	body string
	say  chan string   // what it answers with, piece by piece; closed: the end
	cut  chan struct{} // closed: it breaks off
	gone chan struct{} // closed when it is over
}

// model is a service whose answers are streams, as the test says.
type model struct {
	*httptest.Server
	asks   chan *prompt
	mu     sync.Mutex
	total  int
	answer func(w http.ResponseWriter, r *http.Request) bool // before there is a stream; true: that is the answer
}

func newModel(t *testing.T) *model {
	m := &model{asks: make(chan *prompt, 100)}
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		m.mu.Lock()
		m.total++
		answer := m.answer
		m.mu.Unlock()
		if answer != nil && answer(w, r) {
			return
		}
		a := &prompt{head: r.Header, body: string(body), say: make(chan string), cut: make(chan struct{}), gone: make(chan struct{})}
		defer close(a.gone)
		w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		w.Header().Set("X-Request-Id", "req_1")
		w.Header().Set("Set-Cookie", "secret=1")
		http.NewResponseController(w).Flush()
		m.asks <- a
		for {
			select {
			case text, more := <-a.say:
				if !more {
					return
				}
				io.WriteString(w, text)
				http.NewResponseController(w).Flush()
			case <-a.cut:
				panic(http.ErrAbortHandler)
			case <-r.Context().Done():
				return
			}
		}
	}))
	t.Cleanup(func() { m.CloseClientConnections(); m.Server.Close() })
	return m
}

func (m *model) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.total
}

func runEnv(m *model, more ...string) []string {
	return append([]string{"SSE_ROUTE_A_PATH=/v1/chat", "SSE_ROUTE_A_FROM=" + m.URL + "/up", "SSE_ROUTE_A_METHOD=POST", "SSE_ROUTE_A_MODE=stream",
		"SSE_ROUTE_A_FORWARD=Authorization, X-Version", "SSE_ROUTE_A_RETRY=50ms"}, more...)
}

// starts sends a POST that starts a run, and returns its answer and where to come back to it.
func (s *sidecar) starts(t *testing.T, body string, head ...string) (*response, string) {
	t.Helper()
	head = append([]string{"Content-Type: application/json", "Accept: application/json"}, head...)
	r := s.ask(t, "POST /v1/chat HTTP/1.1", append(head, fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body))...)
	return r, r.Header.Get("Content-Location")
}

// status is that of a request, whose answer is read.
func (s *sidecar) status(t *testing.T, line string, head ...string) (int, string) {
	t.Helper()
	r := s.ask(t, line+" HTTP/1.1", head...)
	defer r.conn.Close()
	text, _ := io.ReadAll(io.LimitReader(r.in, 1<<16))
	return r.StatusCode, string(text)
}

func TestRun(t *testing.T) {
	m := newModel(t)
	s := serve(t, runEnv(m)...)
	const body, who = `{"stream": true,  "x":"é"}`, "Authorization: Bearer one"
	started := make(chan *prompt, 1)
	go func() { started <- <-m.asks }()
	r, at := s.starts(t, body, who, "X-Version: 7", "Content-Encoding: x")
	a := <-started
	if a.body != body || a.head.Get("Content-Type") != "application/json" || a.head.Get("Authorization") != "Bearer one" || a.head.Get("X-Version") != "7" ||
		a.head.Get("Accept") != "application/json" || a.head.Get("Content-Encoding") != "x" {
		t.Errorf("upstream got %q %v", a.body, a.head)
	}
	if r.StatusCode != 200 || r.Header.Get("Content-Type") != "text/event-stream" || r.Header.Get("X-Request-Id") != "req_1" || r.Header.Get("Set-Cookie") != "" || !strings.HasPrefix(at, "/v1/chat?run=") {
		t.Fatalf("%d %v", r.StatusCode, r.Header)
	}
	a.say <- "event: message_start\ndata: {\"a\":1}\nid: up-1\n\n: comment\n\nevent: error\ndata:  two\ndata: lines\n\nevent: stream.gap\ndata: x\n\nevent: message\ndata: m\n\n"
	one := r.wantNext(t, "message_start", `{"a":1}`)
	if strings.Contains(one.id, "up") || one.id == "" {
		t.Errorf("id %q", one.id)
	}
	r.wantNext(t, "error", " twolines")
	r.wantNext(t, "_stream.gap", "x")
	r.wantNext(t, "message", "m")

	// From another tab, from the beginning; and from where it was.
	other := s.get(t, at, who)
	other.wantNext(t, "message_start", `{"a":1}`)
	r.conn.Close()
	other.wantNext(t, "error", " twolines")
	a.say <- "data: [DONE]" // of which the blank line is missing
	close(a.say)
	back := s.get(t, at, who, "Last-Event-ID: "+one.id)
	for _, next := range []*response{back, other} {
		if next == back {
			next.wantNext(t, "error", " twolines")
		}
		next.wantNext(t, "_stream.gap", "x")
		next.wantNext(t, "message", "m")
		last := next.wantNext(t, "", "[DONE]")
		if text, err := next.rest(); text != "" || err != io.EOF {
			t.Errorf("at the end: %q %v", text, err)
		}
		if over := s.get(t, at, who, "Last-Event-ID: "+last.id); over.StatusCode != 204 {
			t.Errorf("with all of it: %d", over.StatusCode)
		}
	}
	late := s.get(t, at, who)
	late.wantNext(t, "message_start", `{"a":1}`)
	if text, err := late.rest(); !strings.Contains(text, "[DONE]") || err != io.EOF {
		t.Errorf("late: %q %v", text, err)
	}
	if m.count() != 1 {
		t.Errorf("%d requests upstream", m.count())
	}
}

// A run is another's business for nobody: neither to read nor to stop, nor by its Idempotency-Key.
func TestRunIsItsOwners(t *testing.T) {
	m := newModel(t)
	s := serve(t, runEnv(m)...)
	r, at := s.starts(t, `{"q":"mine"}`, "Authorization: Bearer one", "Idempotency-Key: k")
	a := <-m.asks
	a.say <- "data: secret\n\n"
	r.wantNext(t, "", "secret")
	for _, head := range [][]string{nil, {"Authorization: Bearer two"}, {"Authorization: Bearer one", "Authorization: Bearer two"}} {
		for _, method := range []string{"GET", "DELETE"} {
			if status, text := s.status(t, method+" "+at, head...); status != 404 || !strings.Contains(text, "no such run") || strings.Contains(text, "secret") {
				t.Errorf("%s with %v: %d %s", method, head, status, text)
			}
		}
	}
	unknown := at[:len(at)-1] + "A"
	if unknown == at {
		unknown = at[:len(at)-1] + "B"
	}
	for name, path := range map[string]string{"unknown": unknown, "short": at[:len(at)-1], "other path": "/v2" + at[3:], "lower case": strings.ToLower(at)} {
		if status, text := s.status(t, "GET "+path, "Authorization: Bearer one"); status != 404 && status != 400 || strings.Contains(text, "secret") {
			t.Errorf("%s: %d %s", name, status, text)
		}
	}
	theirs, other := s.starts(t, `{"q":"mine"}`, "Authorization: Bearer two", "Idempotency-Key: k")
	b := <-m.asks
	b.say <- "data: theirs\n\n"
	theirs.wantNext(t, "", "theirs")
	if other == at || m.count() != 2 {
		t.Errorf("another's key is the same run: %s", other)
	}
	select {
	case <-a.gone:
		t.Error("the run was stopped by another")
	default:
	}
}

func TestRunIdempotency(t *testing.T) {
	m := newModel(t)
	s := serve(t, runEnv(m)...)
	const who, key = "Authorization: Bearer one", "Idempotency-Key: k1"
	r, at := s.starts(t, `{"q":1}`, who, key)
	a := <-m.asks
	a.say <- "data: 1\n\n"
	r.wantNext(t, "", "1")
	r.conn.Close()
	again, same := s.starts(t, `{"q":1}`, who, key)
	again.wantNext(t, "", "1")
	if same != at || m.count() != 1 {
		t.Errorf("%s then %s, %d requests", at, same, m.count())
	}
	if r, _ := s.starts(t, `{"q":2}`, who, key); r.StatusCode != 422 {
		t.Errorf("another body: %d", r.StatusCode)
	}
	if r, _ := s.starts(t, `{"q":2}`, who, "Idempotency-Key: "+strings.Repeat("k", 256)); r.StatusCode != 400 {
		t.Errorf("a long key: %d", r.StatusCode)
	}
	close(a.say)
	if text, err := again.rest(); err != io.EOF {
		t.Errorf("%q %v", text, err)
	}
	last, _ := s.starts(t, `{"q":1}`, who, key)
	last.wantNext(t, "", "1")
	if m.count() != 1 {
		t.Errorf("%d requests", m.count())
	}
	// Two at once, while the service has not answered yet.
	hold := make(chan struct{})
	m.mu.Lock()
	m.answer = func(http.ResponseWriter, *http.Request) bool { <-hold; return false }
	m.mu.Unlock()
	var all sync.WaitGroup
	var locations sync.Map
	for range 5 {
		all.Go(func() {
			req, _ := http.NewRequest("POST", "http://"+s.addr+"/v1/chat", strings.NewReader("x"))
			req.Header, req.Close = http.Header{"Idempotency-Key": {"k2"}}, true
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			locations.Store(resp.Header.Get("Content-Location"), true)
			if text, err := io.ReadAll(resp.Body); err != nil || !strings.Contains(string(text), "data: both\n") {
				t.Errorf("%q %v", text, err)
			}
		})
	}
	eventually(t, "the request", func() bool { return m.count() == 2 })
	close(hold)
	b := <-m.asks
	b.say <- "data: both\n\n"
	close(b.say)
	all.Wait()
	n := 0
	locations.Range(func(any, any) bool { n++; return true })
	if n != 1 || m.count() != 2 {
		t.Errorf("%d runs of one key, %d requests", n, m.count())
	}
}

// The end of an upstream that was cut is told from the end of an answer, by whoever reads it, and whoever comes later.
func TestRunCut(t *testing.T) {
	t.Parallel()
	for name, env := range map[string][]string{"cut": nil, "too large": {"SSE_ROUTE_A_MAX_MESSAGE=1KiB"}, "silent": {"SSE_ROUTE_A_IDLE=5s"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newModel(t)
			s := serve(t, runEnv(m, env...)...)
			r, at := s.starts(t, `{}`)
			a := <-m.asks
			a.say <- "data: 1\n\n"
			r.wantNext(t, "", "1")
			other := s.get(t, at)
			other.wantNext(t, "", "1")
			switch name {
			case "cut":
				close(a.cut)
			case "too large":
				a.say <- "data: " + strings.Repeat("x", 2000) + "\n\n"
			}
			if text, err := r.rest(); err == io.EOF || strings.Contains(text, "data:") || strings.Contains(text, "event:") {
				t.Errorf("who has sent the POST got %q, %v", text, err)
			}
			if e := other.nextAny(t); e.name != "stream.refused" || e.data != `{"status":502}` {
				t.Errorf("got %+v", e)
			}
			late := s.get(t, at)
			late.wantNext(t, "", "1")
			if e := late.nextAny(t); e.name != "stream.refused" || e.data != `{"status":502}` {
				t.Errorf("late: %+v", e)
			}
			if m.count() != 1 {
				t.Errorf("%d requests", m.count())
			}
		})
	}
}

func TestRunIsStopped(t *testing.T) {
	m := newModel(t)
	s := serve(t, runEnv(m)...)
	const who = "Authorization: Bearer one"
	r, at := s.starts(t, `{}`, who)
	a := <-m.asks
	a.say <- "data: 1\n\n"
	r.wantNext(t, "", "1")
	other := s.get(t, at, who)
	other.wantNext(t, "", "1")
	if status, _ := s.status(t, "DELETE "+at, who, "Origin: https://evil.example"); status != 403 {
		t.Errorf("another origin's DELETE: %d", status)
	}
	if status, _ := s.status(t, "DELETE "+at, who); status != 204 {
		t.Errorf("DELETE: %d", status)
	}
	<-a.gone
	if e := other.nextAny(t); e.name != "stream.refused" || e.data != `{"status":410}` {
		t.Errorf("%+v", e)
	}
	if _, err := r.rest(); err == io.EOF {
		t.Error("a run that was stopped looks complete")
	}
	if status, text := s.status(t, "GET "+at, who, "Accept: text/event-stream"); status != 410 || !strings.Contains(text, "stopped") {
		t.Errorf("%d %s", status, text)
	}
	if status, _ := s.status(t, "DELETE "+at, who); status != 204 {
		t.Errorf("again: %d", status)
	}
}
