//go:build e2e

package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// natsServer is a NATS server of the test's own, with JetStream and users: all may do everything, some little, still not answer flow control, none without JetStream.
type natsServer struct {
	*process
	program, config, addr, ws string

	conn net.Conn // of the publisher
	in   *bufio.Reader
}

const natsConfig = `listen: %q
websocket { listen: %q, no_tls: true }
jetstream { store_dir: %q }
accounts {
  A { jetstream: enabled, users: [
    { user: all, password: "s3cret-word" },
    { user: some, password: x, permissions: { subscribe: ["open.>", "_INBOX_some.>"], publish: ["open.>", "$JS.API.STREAM.INFO.>"] } },
    { user: still, password: x, permissions: { publish: ["$JS.API.>"] } },
    { nkey: UAT6BWCSCWLUKJT6K6MBJJOEOTXZ5AJDOYKNEVRFC7VNO6OA43N4TRNO } ] }
  B { users: [ { user: none, password: x } ] }
}
`

func startNATS(t *testing.T) *natsServer {
	t.Helper()
	n := &natsServer{program: goServer(t, "nats"), addr: freeAddr(t), ws: freeAddr(t)}
	dir := t.TempDir()
	n.config = filepath.Join(dir, "nats.conf")
	if err := os.WriteFile(n.config, fmt.Appendf(nil, natsConfig, n.addr, n.ws, dir), 0o600); err != nil {
		t.Fatal(err)
	}
	n.start(t)
	return n
}

func (n *natsServer) start(t *testing.T) {
	t.Helper()
	n.process = launch(t, nil, n.program, "-c", n.config)
	eventually(t, "NATS to listen", func() bool { return open(n.addr) && open(n.ws) })
	conn, err := net.Dial("tcp", n.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	n.conn, n.in = conn, bufio.NewReader(conn)
	n.say(t, `CONNECT {"verbose":false,"headers":true,"user":"all","pass":"s3cret-word"}`+"\r\nSUB _INBOX.test 1\r\n", "")
}

// kill ends it: gracefully, or without a word.
func (n *natsServer) kill(gracefully bool) {
	if gracefully {
		n.Process.Signal(syscall.SIGTERM)
	} else {
		n.Process.Kill()
	}
	<-n.ended
}

// say sends protocol lines and waits until the server has taken them, or with until, for a line that begins with it; it returns that line's payload.
func (n *natsServer) say(t *testing.T, lines, until string) (payload string) {
	t.Helper()
	n.conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(n.conn, lines+"PING\r\n"); err != nil {
		t.Fatal(err)
	}
	ponged := false
	for found := until == ""; !ponged || !found; {
		line, err := n.in.ReadString('\n')
		if err != nil || strings.HasPrefix(line, "-ERR") {
			t.Fatalf("%q: %q %v", lines, line, err)
		}
		switch {
		case line == "PONG\r\n":
			ponged = true
		case line == "PING\r\n":
			io.WriteString(n.conn, "PONG\r\n")
		case strings.HasPrefix(line, "MSG "):
			fields := strings.Fields(line)
			size, _ := strconv.Atoi(fields[len(fields)-1])
			data := make([]byte, size+2)
			if _, err := io.ReadFull(n.in, data); err != nil {
				t.Fatal(err)
			}
			payload, found = string(data[:size]), true
		}
	}
	return payload
}

func (n *natsServer) publish(t *testing.T, subject, data string) {
	t.Helper()
	n.say(t, fmt.Sprintf("PUB %s %d\r\n%s\r\n", subject, len(data), data), "")
}

// keep publishes to a stream, and waits until that has it.
func (n *natsServer) keep(t *testing.T, subject, data string) {
	t.Helper()
	if got := n.say(t, fmt.Sprintf("PUB %s _INBOX.test %d\r\n%s\r\n", subject, len(data), data), "MSG"); !strings.Contains(got, `"seq":`) {
		t.Fatal(got)
	}
}

// api asks JetStream for something.
func (n *natsServer) api(t *testing.T, what string, params map[string]any) {
	t.Helper()
	var text []byte
	if params != nil {
		var err error
		if text, err = json.Marshal(params); err != nil {
			t.Fatal(err)
		}
	}
	if got := n.say(t, fmt.Sprintf("PUB $JS.API.%s _INBOX.test %d\r\n%s\r\n", what, len(text), text), "MSG"); strings.Contains(got, `"error"`) {
		t.Fatalf("%s: %s", what, got)
	}
}

// stream makes a stream for subjects under its name in small letters.
func (n *natsServer) stream(t *testing.T, name, storage string, more map[string]any) {
	t.Helper()
	params := map[string]any{"name": name, "subjects": []string{strings.ToLower(name) + ".>"}, "storage": storage}
	for name, value := range more {
		params[name] = value
	}
	n.api(t, "STREAM.CREATE."+name, params)
}

const natsLogin = `CONNECT={"user":"all","pass":"s3cret-word"}`

func (n *natsServer) route(settings ...string) []string {
	return hubRoute("nats", "ws://"+n.ws, append([]string{natsLogin}, settings...)...)
}

func TestDialectNATS(t *testing.T) {
	t.Parallel()
	n := startNATS(t)
	s := startSidecar(t, n.route("SUBSCRIBE=news.*\njobs.>", `EVENT=$headers.kind // $topic`, "MAX_MESSAGE=512KiB", "SEND=true", `HELLO=> {"subject":"news.hello","payload":{"n":1.10}}`)...)
	events := ask(t, s.addr, "HTTP/1.1", "/events", "")
	events.until(t, "retry:")
	s.explains(t, "upstream connected")
	events.event(t, "news.hello", `{"n":1.10}`)
	page := official(t, "nats", "ws://"+n.ws, `{"connect":{"user":"all","pass":"s3cret-word"},"subscribe":["jobs.>"]}`)
	page.shows(t, `{"subscribed":["jobs.>"]}`)
	n.publish(t, "news.a", "zwei\nß")
	events.until(t, "event: news.a\ndata: zwei\ndata: ß\n")
	n.publish(t, "news.a.b", "not for us")
	n.publish(t, "jobs.a.b", "\x00\xff\x01")
	events.event(t, "jobs.a.b", "AP8B")
	head := "NATS/1.0\r\nKind: x:y\r\n\r\n"
	n.say(t, fmt.Sprintf("HPUB jobs.a %d %d\r\n%s7\r\n", len(head), len(head)+1, head), "")
	events.event(t, "x:y", "7")
	n.say(t, "HPUB jobs.a 4 5\r\nHTTP8\r\nPUB jobs.\u3000 1\r\n9\r\n", "") // which a server passes on
	events.event(t, "jobs.a", "8")
	events.event(t, "jobs.\u3000", "9")
	if !s.posts(`{"subject":"jobs.page","payload":{"from":"page"},"headers":{"Kind":"posted"}}`) || s.posts("jobs.page 1") {
		t.Error("a message is refused, or what is none is taken")
	}
	events.event(t, "posted", `{"from":"page"}`)
	page.shows(t, `{"subject":"jobs.page","text":"{\"from\":\"page\"}"}`)
	page.Process.Kill()
	<-page.ended
	big := strings.Repeat("x", 300_000)
	n.publish(t, "news.big", big)
	events.event(t, "news.big", big)
	n.publish(t, "news.big", strings.Repeat("y", 512<<10+1))
	events.event(t, "stream.gap", gapEvent)
	time.Sleep(3 * time.Second) // PING, which is answered
	n.publish(t, "news.a", "on")
	events.event(t, "news.a", "on")
	if c := s.connects(); c != 1 {
		t.Errorf("%d connections", c)
	}
	for _, gracefully := range []bool{true, false} {
		events.got.Reset()
		before := s.connects()
		n.kill(gracefully)
		events.event(t, "stream.gap", gapEvent)
		n.start(t)
		eventually(t, "another connection", func() bool { return s.connects() > before })
		n.publish(t, "news.a", "again")
		events.event(t, "news.a", "again")
	}
}

func TestDialectNATSRefusals(t *testing.T) {
	t.Parallel()
	n := startNATS(t)
	n.stream(t, "ORDERS", "memory", nil)
	n.stream(t, "WORK", "memory", map[string]any{"retention": "workqueue"})
	n.stream(t, "BIG", "memory", nil)
	n.stream(t, "FULL", "memory", map[string]any{"max_consumers": 1})
	n.api(t, "CONSUMER.CREATE.FULL", map[string]any{"stream_name": "FULL", "config": map[string]any{"name": "other", "ack_policy": "none", "inactive_threshold": int64(time.Hour)}})
	n.say(t, strings.Repeat("PUB big.x 1000\r\n"+strings.Repeat("x", 1000)+"\r\n", 2000), "")
	for name, r := range map[string]struct {
		connect, subscribe string
		status             int
		says               string
	}{
		"password":   {`{"user":"all","pass":"wrong"}`, "a", 401, "the server says Authorization Violation"},
		"anonymous":  {"", "a", 401, "Authorization Violation"},
		"subject":    {`{"user":"some","pass":"x"}`, "open.a\nclosed.a", 403, "Permissions Violation for Subscription to"},
		"inbox":      {`{"user":"some","pass":"x"}`, `orders.> {"stream":"ORDERS"}`, 403, "Permissions Violation for Subscription"},
		"consumer":   {`{"user":"some","pass":"x","inbox":"_INBOX_some"}`, `orders.> {"stream":"ORDERS"}`, 403, "Permissions Violation for Publish"},
		"stream":     {`{"user":"all","pass":"s3cret-word"}`, `a {"stream":"NONE"}`, 404, "line 1 of SUBSCRIBE: JetStream says stream not found (404, 10059)"},
		"work queue": {`{"user":"all","pass":"s3cret-word"}`, `work.> {"stream":"WORK"}`, 400, "JetStream says"},
		"no control": {`{"user":"still","pass":"x"}`, `big.> {"stream":"BIG","deliver":"all"}`, 200, "without it a consumer stands still"},
		"full":       {`{"user":"all","pass":"s3cret-word"}`, `full.> {"stream":"FULL"}`, 200, "maximum consumers limit reached (400, 10026)"},
		"JetStream":  {`{"user":"none","pass":"x"}`, `a {"stream":"ORDERS"}`, 200, "JetStream says"},
		"key":        {`{"seed":"SUAMK2FG4MI6UE3ACF3FK3OIQBCEIEZV7NSWFFEW63UXMRLFM2XLAXK4GY"}`, "a", 200, "upstream connected"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startSidecar(t, hubRoute("nats", "ws://"+n.ws, "CONNECT="+r.connect, "SUBSCRIBE="+r.subscribe)...)
			if got := s.firstStatus(t); got != r.status {
				t.Errorf("status %d, want %d", got, r.status)
			}
			s.explains(t, r.says)
		})
	}
}

// TestDialectNATSCuts cuts the connection again and again while messages come: those that JetStream keeps arrive once and in order, and no gap is said;
// of those that it does not keep, gaps are.
func TestDialectNATSCuts(t *testing.T) {
	t.Parallel()
	n := startNATS(t)
	n.stream(t, "A", "file", nil)
	n.stream(t, "B", "memory", nil)
	cut := &severer{target: n.ws}
	front := cut.listen(t)
	s := startSidecar(t, hubRoute("nats", "ws://"+front, natsLogin, "SUBSCRIBE=a.> {\"stream\":\"A\"}\nb.x {\"stream\":\"B\"}", "EVENT=topic")...)
	events := ask(t, s.addr, "HTTP/1.0", "/events", "retry: ")
	s.explains(t, "upstream connected")
	other := startSidecar(t, hubRoute("nats", "ws://"+front, natsLogin, "SUBSCRIBE=a.> {\"stream\":\"A\"}\nplain", "EVENT=topic")...)
	plain := ask(t, other.addr, "HTTP/1.0", "/events", "retry: ")
	other.explains(t, "upstream connected")
	const each = 2000
	done := make(chan struct{})
	var cutting sync.WaitGroup
	cutting.Go(func() { // ends with done
		for {
			select {
			case <-done:
				return
			case <-time.After(time.Duration(rand.IntN(500)) * time.Millisecond):
				cut.sever(rand.IntN(3) == 0)
			}
		}
	})
	for i := range each {
		n.publish(t, "a.x", fmt.Sprint("a", i))
		n.publish(t, "b.x", fmt.Sprint("b", i))
		n.publish(t, "b.y", "not asked for")
		if i%10 == 0 { // bursts
			time.Sleep(50 * time.Millisecond)
		}
	}
	close(done)
	cutting.Wait()
	events.event(t, "a.x", fmt.Sprint("a", each-1))
	events.event(t, "b.x", fmt.Sprint("b", each-1))
	text := events.got.String()
	for _, name := range []string{"a", "b"} {
		var got, want []string
		for line := range strings.Lines(text) {
			if line = strings.TrimSpace(line); strings.HasPrefix(line, "data: "+name) {
				got = append(got, line)
			}
		}
		for i := range each {
			want = append(want, fmt.Sprint("data: ", name, i))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %d of %d, or out of order: %v", name, len(got), each, got)
		}
	}
	if c := s.connects(); c < 5 || strings.Contains(text, "stream.gap") {
		t.Errorf("%d connections; a gap: %v", c, strings.Contains(text, "stream.gap"))
	}
	plain.until(t, "stream.gap")
}

// TestDialectNATSStreams: over a restart a stream in a file goes on without a gap; one in memory is another one then. What is trimmed is a gap, and a consumer that
// the server has ended is replaced.
func TestDialectNATSStreams(t *testing.T) {
	t.Parallel()
	n := startNATS(t)
	n.stream(t, "F", "file", nil)
	n.stream(t, "M", "memory", nil)
	n.stream(t, "T", "file", map[string]any{"max_msgs": 5})
	n.keep(t, "f.x", "before")
	routes := map[string]*stream{}
	sidecars := map[string]*sidecar{}
	for _, line := range []string{`f.> {"stream":"F"}`, `m.> {"stream":"M"}`, `t.> {"stream":"T"}`, `f.> {"stream":"F","deliver":"all"}`} {
		s := startSidecar(t, n.route("SUBSCRIBE="+line, "REFUSE_AFTER=60s")...)
		routes[line], sidecars[line] = ask(t, s.addr, "HTTP/1.0", "/events", "retry: "), s
		s.explains(t, "upstream connected")
	}
	file, memory, trimmed, all := routes[`f.> {"stream":"F"}`], routes[`m.> {"stream":"M"}`], routes[`t.> {"stream":"T"}`], routes[`f.> {"stream":"F","deliver":"all"}`]
	all.event(t, "", "before")
	for _, subject := range []string{"f.x", "m.x", "t.x"} {
		n.keep(t, subject, "1")
	}
	for _, s := range []*stream{file, memory, trimmed, all} {
		s.event(t, "", "1")
	}
	n.kill(true)
	n.start(t)
	n.keep(t, "f.x", "2")
	for i := range 9 {
		n.keep(t, "t.x", strconv.Itoa(i))
	}
	n.stream(t, "M", "memory", nil)
	n.keep(t, "m.x", "anew")
	file.event(t, "", "2")
	all.event(t, "", "2")
	memory.event(t, "", "anew")
	for _, s := range []*stream{file, all} {
		if text := s.got.String(); strings.Contains(text, "stream.gap") || strings.Count(text, "data: 1\n") != 1 || strings.Count(text, "data: 2\n") != 1 {
			t.Error(text)
		}
	}
	if text := memory.got.String(); !strings.Contains(text, "stream.gap") {
		t.Error(text)
	}
	trimmed.event(t, "", "8")
	// What is delivered depends on when the sidecar was back: of all nine, or with a gap the last five.
	if text := trimmed.got.String(); strings.Contains(text, "stream.gap") == (strings.Count(text, "data: ") == 11) {
		t.Error(text)
	}
	for _, head := range []string{"NATS/1.0 100 Idle Heartbeat\r\n\r\n", "NATS/1.0 409 Consumer Deleted\r\n\r\n", "HTTP"} { // a publisher's, which are no word of the server's
		n.say(t, fmt.Sprintf("HPUB f.x _INBOX.test %d %d\r\n%sheaders\r\n", len(head), len(head)+7, head), "MSG")
		file.event(t, "", "headers")
	}
	n.api(t, "STREAM.PURGE.F", nil)
	n.keep(t, "f.x", "3")
	file.event(t, "", "3")
	n.api(t, "STREAM.DELETE.F", nil)
	n.stream(t, "F", "file", nil)
	n.keep(t, "f.x", "of another")
	file.event(t, "stream.gap", gapEvent)
	file.event(t, "", "of another")
	if strings.Contains(file.got.String(), "before") {
		t.Error("a line without deliver began with what was there")
	}
}
