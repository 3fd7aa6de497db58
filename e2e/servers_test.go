//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"sidestream/e2e/legacy"
)

// startLegacy runs the demo's service until the test ends and returns its address.
func startLegacy(t *testing.T, s *legacy.Service) string {
	t.Helper()
	server := httptest.NewServer(s.Handler())
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); s.Run(ctx) }() // ends with stop
	t.Cleanup(func() { stop(); <-done; server.CloseClientConnections(); server.Close() })
	return server.Listener.Addr().String()
}

// feed is a WebSocket service that says what the test says, when the test says it. The next message goes out once
// the client has shown the last one: whatever is buffered on the way keeps the test waiting for ever, so that no time
// needs to be measured.
type feed struct {
	server *httptest.Server
	mu     sync.Mutex
	conns  map[*websocket.Conn]bool
	said   int
}

// startFeed serves the feed at /ws and pages, by path, beside it.
func startFeed(t *testing.T, pages map[string]string) *feed {
	t.Helper()
	f := &feed{conns: map[*websocket.Conn]bool{}}
	f.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if page, ok := pages[r.URL.Path]; ok {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			if strings.HasSuffix(r.URL.Path, ".js") {
				w.Header().Set("Content-Type", "text/javascript; charset=utf-8")
			}
			io.WriteString(w, page)
			return
		}
		if r.URL.Path != "/ws" {
			http.NotFound(w, r)
			return
		}
		f.serve(w, r)
	}))
	t.Cleanup(func() { f.cut(); f.server.CloseClientConnections(); f.server.Close() })
	return f
}

func (f *feed) addr() string { return f.server.Listener.Addr().String() }

func (f *feed) serve(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	f.mu.Lock()
	f.conns[conn] = true
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		delete(f.conns, conn)
		f.mu.Unlock()
		conn.CloseNow()
	}()
	for err == nil {
		_, _, err = conn.Read(context.Background())
	}
}

// cut drops the connections without a word.
func (f *feed) cut() {
	for end := time.Now().Add(3 * time.Second); !f.subscribed() && time.Now().Before(end); { // whoever has been answered may not be among them yet
		time.Sleep(5 * time.Millisecond)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for conn := range f.conns {
		delete(f.conns, conn)
		go conn.CloseNow() // ends at once: it only closes the socket
	}
}

// subscribed reports whether there is a connection.
func (f *feed) subscribed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.conns) > 0
}

// say sends text once somebody has subscribed.
func (f *feed) say(t *testing.T, text string) {
	t.Helper()
	eventually(t, "a subscription", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		for conn := range f.conns {
			if conn.Write(context.Background(), websocket.MessageText, []byte(text)) != nil {
				return false
			}
		}
		return len(f.conns) > 0
	})
}

// tick says the next number and returns the data that an event of it has.
func (f *feed) tick(t *testing.T) string {
	t.Helper()
	f.said++
	data := fmt.Sprintf(`{"n":%d}`, f.said)
	f.say(t, data)
	return data
}

// feedEnv routes /ticks to f: events named tick, and one named done that ends the stream. Heartbeats come so often
// that a client which takes them for messages is found out.
func feedEnv(f *feed) []string {
	return []string{
		"SSE_UPSTREAM=http://" + f.addr(),
		"SSE_ROUTE_TICKS_PATH=/ticks",
		"SSE_ROUTE_TICKS_FROM=ws://" + f.addr() + "/ws",
		`SSE_ROUTE_TICKS_EVENT=if .done then "done" else "tick" end`,
		"SSE_ROUTE_TICKS_DONE=.done",
		"SSE_ROUTE_TICKS_HEARTBEAT=200ms",
		"SSE_ROUTE_TICKS_RETRY=3s", // time enough to restart: nginx answers 502 meanwhile, at which an EventSource gives up
		"SSE_DRAIN=200ms",
	}
}

// startNginx starts nginx with proxy_pass and nothing else said, so HTTP/1.0 and buffering, in front of addr.
func startNginx(t *testing.T, addr string) string {
	return runNginx(t, "", "proxy_pass http://"+addr+";")
}

// startRoundRobin starts nginx in front of addrs, which get one request after the other, WebSockets too.
func startRoundRobin(t *testing.T, addrs ...string) string {
	all := "  upstream sidecars {\n    server " + strings.Join(addrs, ";\n    server ") + ";\n  }\n  map $http_upgrade $connection_upgrade {\n    default upgrade;\n    '' '';\n  }\n"
	return runNginx(t, all, "proxy_pass http://sidecars; proxy_http_version 1.1; proxy_set_header Host $http_host; "+
		"proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade;")
}

// runNginx starts nginx with this in its http block, and in the location of all paths.
func runNginx(t *testing.T, all, location string) string {
	t.Helper()
	_, front := nginxOf(t, "master_process off;", "", all, location)
	return front
}

// startMaster starts nginx with a worker, which a SIGHUP has another one take the place of; the connections of the old one are cut a second later.
func startMaster(t *testing.T, addr string) (*process, string) {
	t.Helper()
	main := "worker_processes 1;\nworker_shutdown_timeout 1s;"
	if os.Geteuid() == 0 {
		main += "\nuser root;" // the directory is closed to others
	}
	return nginxOf(t, main, "", "", "proxy_pass http://"+addr+"; proxy_http_version 1.1; proxy_set_header Connection \"\";")
}

// nginxOf is runNginx with what stands at the beginning of its configuration, and in its events block.
func nginxOf(t *testing.T, main, events, all, location string) (*process, string) {
	t.Helper()
	dir, front := t.TempDir(), freeAddr(t)
	conf := filepath.Join(dir, "nginx.conf")
	var temp strings.Builder
	for _, name := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		fmt.Fprintf(&temp, "  %s_temp_path %s;\n", name, filepath.Join(dir, name))
	}
	text := fmt.Sprintf("daemon off;\n%s\npid %s;\nerror_log stderr;\nevents {%s}\nhttp {\n  access_log off;\n%s%s"+
		"  server {\n    listen %s;\n    location / {\n      %s\n    }\n  }\n}\n",
		main, filepath.Join(dir, "pid"), events, temp.String(), all, front, location)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	p := launch(t, nil, nginx(), "-p", dir, "-c", conf, "-e", "stderr")
	eventually(t, "nginx to listen", func() bool {
		select {
		case <-p.ended:
			t.Fatalf("nginx ended: %s", &p.stderr)
		default:
		}
		conn, err := net.Dial("tcp", front)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return p, front
}

// nginx is where Debian puts it, which is not in everybody's PATH.
func nginx() string {
	if _, err := os.Stat("/usr/sbin/nginx"); err == nil {
		return "/usr/sbin/nginx"
	}
	return "nginx"
}

// recorder is a TCP relay that writes down the requests and the answers' statuses, counts heartbeats, and can cut
// every connection. Bytes and resets pass unchanged.
type recorder struct {
	listener net.Listener
	target   string
	open     sync.WaitGroup

	mu       sync.Mutex // guards what follows
	requests []*http.Request
	statuses []string
	beats    int
	pairs    map[*net.TCPConn]*net.TCPConn // client to server
}

func startRecorder(t *testing.T, target string) *recorder {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{listener: l, target: target, pairs: map[*net.TCPConn]*net.TCPConn{}}
	r.open.Add(1)
	go r.accept() // ends with the listener; the cleanup waits for it and for the connections
	t.Cleanup(func() { l.Close(); r.cut(); r.open.Wait() })
	return r
}

func (r *recorder) addr() string { return r.listener.Addr().String() }

func (r *recorder) accept() {
	defer r.open.Done()
	for {
		conn, err := r.listener.Accept()
		if err != nil {
			return
		}
		r.open.Add(1)
		go func() { defer r.open.Done(); r.relay(conn.(*net.TCPConn)) }() // ends when either side does
	}
}

func (r *recorder) relay(client *net.TCPConn) {
	conn, err := net.Dial("tcp", r.target)
	if err != nil {
		reset(client)
		return
	}
	server := conn.(*net.TCPConn)
	r.mu.Lock()
	r.pairs[client] = server
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		delete(r.pairs, client)
		r.mu.Unlock()
	}()
	heard, tap := io.Pipe()
	var both sync.WaitGroup
	both.Go(func() { r.read(heard) })
	both.Go(func() { defer tap.Close(); pass(server, io.TeeReader(client, tap), client) })
	pass(client, io.TeeReader(server, writer(r.answered)), server)
	client.Close()
	server.Close()
	both.Wait()
}

// pass copies until from ends, and ends to in the same way: a reset with a reset, an end with an end.
func pass(to *net.TCPConn, from io.Reader, source *net.TCPConn) {
	if _, err := io.Copy(to, from); err != nil && !errors.Is(err, net.ErrClosed) {
		reset(to)
		reset(source)
		return
	}
	to.CloseWrite()
}

func reset(conn *net.TCPConn) {
	conn.SetLinger(0)
	conn.Close()
}

// read writes down the requests of one connection.
func (r *recorder) read(heard *io.PipeReader) {
	defer io.Copy(io.Discard, heard)
	in := bufio.NewReader(heard)
	for {
		req, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		r.mu.Lock()
		r.requests = append(r.requests, req)
		r.mu.Unlock()
		io.Copy(io.Discard, req.Body)
	}
}

type writer func(p []byte)

func (w writer) Write(p []byte) (int, error) { w(p); return len(p), nil }

var statusLine = regexp.MustCompile(`HTTP/1\.[01] (\d{3}) `)

// answered takes note of bytes towards the client. A heartbeat and a status line leave the server in one piece.
func (r *recorder) answered(p []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.beats += bytes.Count(p, []byte("\n:\n"))
	r.beats += bytes.Count(p, []byte("\x00\x02\x00\xfd\xff:\n")) // compressed: a stored block of its own
	if bytes.HasPrefix(p, []byte(":\n")) {
		r.beats++
	}
	for _, m := range statusLine.FindAllSubmatch(p, -1) {
		r.statuses = append(r.statuses, string(m[1]))
	}
}

// cut resets every connection, both ways.
func (r *recorder) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for client, server := range r.pairs {
		reset(client)
		reset(server)
	}
}

// to returns the requests for path in order.
func (r *recorder) to(path string) []*http.Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []*http.Request
	for _, req := range r.requests {
		if req.URL.Path == path {
			found = append(found, req)
		}
	}
	return found
}

// nth returns the request for path with this index, which is written down a moment after it was passed on.
func (r *recorder) nth(t *testing.T, path string, i int) *http.Request {
	t.Helper()
	eventually(t, "the request to be written down", func() bool { return len(r.to(path)) > i })
	return r.to(path)[i]
}

func (r *recorder) lastStatus() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.statuses) == 0 {
		return ""
	}
	return r.statuses[len(r.statuses)-1]
}

// quiet waits until heartbeats have passed.
func (r *recorder) quiet(t *testing.T) {
	t.Helper()
	count := func() int { r.mu.Lock(); defer r.mu.Unlock(); return r.beats }
	before := count()
	eventually(t, "heartbeats", func() bool { return count() >= before+2 })
}
