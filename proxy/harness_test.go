package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"sidestream/proxy/deliver"
	"sidestream/proxy/upstream"
)

// net/http waits half a second for who was answered before its body was read; nobody can wait for that.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}

// feed is a legacy service: a WebSocket at /ws that sends what publish is given, and JSON at any other path.
type feed struct {
	*httptest.Server
	dials atomic.Int64 // WebSockets accepted
	polls atomic.Int64

	mu     sync.Mutex
	conns  map[*websocket.Conn]string // by the query they were opened with
	joined chan struct{}              // one for each connection
	answer http.HandlerFunc           // for everything that is no WebSocket
	verify func(r *http.Request) int  // status that refuses an upgrade; 0 lets it in
}

func newFeed(t *testing.T) *feed {
	f := &feed{conns: map[*websocket.Conn]string{}, joined: make(chan struct{}, 100)}
	f.Server = httptest.NewServer(http.HandlerFunc(f.serve))
	t.Cleanup(func() { f.cut(); f.Server.Close() })
	return f
}

func (f *feed) serve(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") == "" {
		f.polls.Add(1)
		f.mu.Lock()
		answer := f.answer
		f.mu.Unlock()
		answer(w, r)
		return
	}
	if f.verify != nil {
		if status := f.verify(r); status != 0 {
			http.Error(w, "no", status)
			return
		}
	}
	f.mu.Lock() // before the client knows: what is published once it does reaches it
	c, err := websocket.Accept(w, r, nil)
	if err != nil {
		f.mu.Unlock()
		return
	}
	f.dials.Add(1)
	f.conns[c] = r.URL.RawQuery
	f.mu.Unlock()
	f.joined <- struct{}{}
	for {
		if _, _, err := c.Read(context.Background()); err != nil {
			break
		}
	}
	f.mu.Lock()
	delete(f.conns, c)
	f.mu.Unlock()
	c.CloseNow()
}

// publish sends text to every WebSocket whose query is query, once there is one.
func (f *feed) publish(t *testing.T, query, text string) {
	t.Helper()
	eventually(t, "a WebSocket", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return slices.Contains(slices.Collect(maps.Values(f.conns)), query)
	})
	f.mu.Lock()
	defer f.mu.Unlock()
	for c, q := range f.conns {
		if q != query {
			continue
		}
		if err := c.Write(context.Background(), websocket.MessageText, []byte(text)); err != nil {
			t.Errorf("publish: %v", err)
		}
	}
}

// cut loses all WebSockets.
func (f *feed) cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.conns {
		c.CloseNow()
		delete(f.conns, c)
	}
}

func (f *feed) ws() string { return "ws" + strings.TrimPrefix(f.URL, "http") }

// sidecar is a proxy that listens, as main has it.
type sidecar struct {
	*Proxy
	server  *Server
	addr    string
	network string
}

// Configure reads an environment as package config does, which imports this one: see configure_test.go.
var Configure func(env []string) (Settings, error)

func configure(t *testing.T, env ...string) Settings {
	t.Helper()
	c, err := Configure(env)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func serve(t *testing.T, env ...string) *sidecar {
	t.Helper()
	return serveWith(t, configure(t, env...), slog.New(slog.DiscardHandler))
}

func serveWith(t *testing.T, c Settings, log *slog.Logger) *sidecar {
	t.Helper()
	l, err := deliver.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serveOn(t, l, c, log)
}

// serveOn is serveWith on l.
func serveOn(t *testing.T, l net.Listener, c Settings, log *slog.Logger) *sidecar {
	t.Helper()
	var cert *Certificate
	if c.TLSCert != "" {
		var err error
		if cert, err = NewCertificate(c.TLSCert, c.TLSKey, log); err != nil {
			t.Fatal(err)
		}
	}
	p := New(c, log)
	s := &sidecar{Proxy: p, server: NewServer(p, cert, log)}
	s.addr, s.network = l.Addr().String(), l.Addr().Network()
	served := make(chan struct{})
	go func() { defer close(served); s.server.Serve(l) }()
	t.Cleanup(func() {
		s.server.Close()
		p.Close()
		upstream.CloseIdle()
		<-served
	})
	return s
}

// stream is the answer to one request, read as it comes.
type response struct {
	*http.Response
	conn net.Conn
	raw  *bufio.Reader
	in   *bufio.Reader // the body
}

// get asks for path over a connection of its own. head is further header lines.
func (s *sidecar) get(t *testing.T, path string, head ...string) *response {
	t.Helper()
	return s.ask(t, "GET "+path+" HTTP/1.1", append([]string{"Accept: text/event-stream"}, head...)...)
}

// host is what clients call it.
func (s *sidecar) host() string {
	if s.network == "unix" {
		return "sidecar"
	}
	return s.addr
}

func (s *sidecar) ask(t *testing.T, line string, head ...string) *response {
	t.Helper()
	conn, err := net.Dial(s.network, s.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(time.Minute))
	fmt.Fprintf(conn, "%s\r\nHost: %s\r\n%s\r\n\r\n", line, s.host(), strings.Join(head, "\r\n"))
	method, _, _ := strings.Cut(line, " ")
	raw := bufio.NewReader(conn)
	resp, err := http.ReadResponse(raw, &http.Request{Method: method})
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return &response{resp, conn, raw, bufio.NewReader(resp.Body)}
}

// event is one block of a stream, by its fields.
type event struct{ id, name, data string }

var retryLine = regexp.MustCompile(`^retry: [0-9]+$`)

// next reads the next event, past heartbeats, retry hints and stream.open. It fails on anything that is none of these.
func (r *response) next(t *testing.T) event {
	t.Helper()
	for {
		e, err := r.tryNext(t)
		if err != nil {
			t.Fatalf("no event: %v", err)
		}
		if e.name != "stream.open" {
			return e
		}
	}
}

// wantOpen reads one stream.open and returns its id.
func (r *response) wantOpen(t *testing.T) string {
	t.Helper()
	e, err := r.tryNext(t)
	if err != nil || e.name != "stream.open" || e.data != "{}" || e.id == "" {
		t.Fatalf("got %+v, %v, want stream.open", e, err)
	}
	return e.id
}

func (r *response) tryNext(t *testing.T) (e event, err error) {
	t.Helper()
	seen := false
	for {
		line, err := r.in.ReadString('\n')
		if err != nil {
			return e, err
		}
		line = strings.TrimSuffix(line, "\n")
		field, value, _ := strings.Cut(line, ": ")
		switch {
		case line == "" && seen:
			return e, nil
		case line == "":
			t.Fatal("a blank line that ends no event: clients would deliver an empty message")
		case line == ":", retryLine.MatchString(line):
			continue
		case field == "id":
			e.id = value
		case field == "event":
			e.name = value
		case field == "data" && seen:
			e.data += "\n" + value
		case field == "data":
			e.data, seen = value, true
		default:
			t.Fatalf("unexpected line %q", line)
		}
	}
}

// wantData reads one event and checks its data.
func (r *response) wantData(t *testing.T, data string) event {
	t.Helper()
	e := r.next(t)
	if e.data != data {
		t.Fatalf("got %+v, want data %s", e, data)
	}
	return e
}

// wantGap reads one stream.gap.
func (r *response) wantGap(t *testing.T, reason, missed string) event {
	t.Helper()
	e := r.next(t)
	if want := `{"reason":"` + reason + `","missed":` + missed + `}`; e.name != "stream.gap" || e.data != want {
		t.Fatalf("got %+v, want a gap %s", e, want)
	}
	return e
}

// rest reads to the end, and returns how it ended: io.EOF is clean.
func (r *response) rest() (string, error) {
	var b strings.Builder
	_, err := io.Copy(&b, r.in)
	if err == nil {
		err = io.EOF
	}
	return b.String(), err
}

// eventually waits for something that other goroutines bring about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
		<-time.After(5 * time.Millisecond)
	}
}
