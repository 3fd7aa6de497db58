//go:build linux && !portable

package proxy

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"sidestream/proxy/deliver"
)

// byNetHTTP is the sidecar's server without the acceptor: everyone comes by net/http.
func (s *sidecar) byNetHTTP(t *testing.T) (address string) {
	l, err := deliver.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go s.server.first.Serve(l) // ends with the server
	return l.Addr().String()
}

// varying is what differs from one answer to the next.
var varying = regexp.MustCompile(`(?m)^Date: .*$|retry: [0-9]+`)

// say sends request and returns all that is answered until nothing comes for a while, and how it ended.
func say(t *testing.T, address, request string, quiet time.Duration) string {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, request)
	var all []byte
	for p := make([]byte, 64<<10); ; {
		c.SetReadDeadline(time.Now().Add(quiet))
		n, err := c.Read(p)
		all = append(all, p[:n]...)
		if err != nil {
			end := "end"
			if errors.Is(err, os.ErrDeadlineExceeded) {
				end = "open"
			}
			return varying.ReplaceAllString(string(all), "") + end
		}
	}
}

// counted is all that a request may have been counted as.
func (s *sidecar) counted() (text string) {
	for i := range s.Rejected {
		text += fmt.Sprint(Rejections[i], s.Rejected[i].Load(), " ")
	}
	for _, rt := range s.Routes() {
		text += fmt.Sprint(rt.Clients.Clients.Load(), rt.Clients.Replayed.Load(), rt.own.Used(), " ")
	}
	return text + fmt.Sprint(s.all.Used())
}

// settle waits until nobody but those who stay is there.
func (s *sidecar) settle(t *testing.T, stay int) {
	t.Helper()
	eventually(t, "the others have left", func() bool { return s.all.Used() == stay })
}

// bothWays says what differs between the answers to a request past net/http and by it, at slow, "" for nothing.
func (s *sidecar) bothWays(t *testing.T, slow, request string, direct int64, quiet time.Duration) (problems string) {
	t.Helper()
	s.settle(t, 2)
	before := s.counted()
	came := func() int64 { return s.Routes()[0].Clients.Direct.Load() + s.Routes()[1].Clients.Direct.Load() }
	n := came()
	past := say(t, s.addr, request, quiet)
	s.settle(t, 2)
	between := s.counted()
	if got := came() - n; got != direct {
		problems += fmt.Sprintf("%d came past net/http, want %d\n", got, direct)
	}
	by := say(t, slow, request, quiet)
	s.settle(t, 2)
	if past != by || past == "" {
		problems += fmt.Sprintf("past net/http\n%s\nby it\n%s\n", past, by)
	}
	if first, second := difference(before, between), difference(between, s.counted()); first != second {
		problems += fmt.Sprintf("past net/http it is counted as\n%s\nby it as\n%s\n", first, second)
	}
	if got := came() - n; got != direct {
		problems += fmt.Sprintf("%d came past net/http, want %d\n", got, direct)
	}
	return problems
}

// TestBothWaysAreOne asks for the same past net/http and by it: every byte and every counter must be the same.
func TestBothWaysAreOne(t *testing.T) {
	t.Parallel()
	f := newFeed(t)
	legacyAddr := legacy(t, echoLegacy)
	s := serve(t, "SSE_UPSTREAM="+legacyAddr, "SSE_CORS_ORIGINS=https://app.example", "SSE_MAX_CLIENTS=3", "SSE_RETRY=1s",
		"SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM="+f.ws()+"/ws", "SSE_ROUTE_A_START=all", "SSE_ROUTE_A_HEARTBEAT=1h",
		"SSE_ROUTE_B_PATH=/b/{id}", "SSE_ROUTE_B_FROM="+f.ws()+"/ws?id={path.id}&q={query.q}", "SSE_ROUTE_B_HEARTBEAT=1h")
	slow := s.byNetHTTP(t)
	warm := s.get(t, "/a") // so that the stream is there
	f.publish(t, "", "one")
	id := warm.wantData(t, "one").id
	f.publish(t, "", "two")
	warm.wantData(t, "two")
	other := s.get(t, "/b/7?q=x")
	const accept = "Accept: text/event-stream\r\n"
	for _, test := range []struct {
		name, line, head string
		direct           int64
	}{
		{"a stream", "GET /a HTTP/1.1", accept, 1},
		{"HTTP/1.0", "GET /a HTTP/1.0", accept, 1},
		{"a query", "GET /a?x=1;y=2 HTTP/1.1", accept, 1},
		{"resumed", "GET /a HTTP/1.1", accept + "Last-Event-ID: " + id + "\r\n", 1},
		{"resumed by query", "GET /a?lastEventId=" + id + " HTTP/1.1", accept, 1},
		{"an unknown id", "GET /a HTTP/1.1", accept + "Last-Event-ID: nonsense\r\n", 1},
		{"an allowed origin", "GET /a HTTP/1.1", accept + "Origin: https://app.example\r\nSec-Fetch-Site: cross-site\r\n", 1},
		{"a wildcard", "GET /b/7?q=x HTTP/1.1", accept, 1},
		{"a list of types", "GET /a HTTP/1.1", "Accept: text/html, text/event-stream;q=0.5\r\n", 1},
		{"another origin", "GET /a HTTP/1.1", accept + "Origin: https://evil.example\r\n", 0},
		{"another site", "GET /a HTTP/1.1", accept + "Sec-Fetch-Site: cross-site\r\n", 0},
		{"a missing value", "GET /b/7 HTTP/1.1", accept, 0},
		{"another type", "GET /a HTTP/1.1", "Accept: text/html\r\n", 0},
		{"no type", "GET /a HTTP/1.1", "", 0},
		{"weight 0", "GET /a HTTP/1.1", "Accept: text/event-stream;q=0\r\n", 0},
		{"another path", "GET /c HTTP/1.1", accept, 0},
		{"an unclean path", "GET //a HTTP/1.1", accept, 0},
		{"a slash more", "GET /a/ HTTP/1.1", accept, 0},
		{"an escaped path", "GET /%61 HTTP/1.1", accept, 1},
		{"preflight", "OPTIONS /a HTTP/1.1", "Origin: https://app.example\r\nAccess-Control-Request-Method: GET\r\n", 0},
		{"another method", "HEAD /a HTTP/1.1", accept, 0},
		{"a body", "GET /a HTTP/1.1", accept + "Content-Length: 0\r\n", 0},
		{"two hosts", "GET /a HTTP/1.1", accept + "Host: x\r\n", 0},
		{"a line that goes on", "GET /a HTTP/1.1", accept + "A: b\r\n c\r\n", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			request := test.line + "\r\nHost: sidecar\r\nConnection: close\r\n" + test.head + "\r\n"
			problems := ""
			for quiet := 150 * time.Millisecond; quiet < 10*time.Second; quiet *= 4 { // a busy machine may say the rest later
				if problems = s.bothWays(t, slow, request, test.direct, quiet); problems == "" {
					return
				}
			}
			t.Error(problems)
		})
	}
	t.Run("at capacity", func(t *testing.T) {
		third := s.get(t, "/a")
		defer third.conn.Close()
		n := s.Rejected[FullClients].Load()
		for i, address := range []string{s.addr, slow} {
			answer := say(t, address, "GET /a HTTP/1.1\r\nHost: x\r\n"+accept+"\r\n", time.Minute) // it is cut
			if !strings.Contains(answer, "stream.busy") || s.Rejected[FullClients].Load() != n+int64(i)+1 {
				t.Errorf("%s, rejected %d", answer, s.Rejected[FullClients].Load()-n)
			}
		}
	})
	s.settle(t, 2)
	warm.conn.Close()
	other.conn.Close()
	s.settle(t, 0)
}

// difference is what counters have grown by.
func difference(before, after string) (text string) {
	was, is := strings.Fields(before), strings.Fields(after)
	for i := range is {
		if was[i] != is[i] {
			var a, b int
			fmt.Sscan(strings.TrimLeft(was[i], "abcdefghijklmnopqrstuvwxyz_"), &a)
			fmt.Sscan(strings.TrimLeft(is[i], "abcdefghijklmnopqrstuvwxyz_"), &b)
			text += fmt.Sprint(i, ":", b-a, " ")
		}
	}
	return text
}

// TestWhoWaitsHoldsUpNobody: a verdict that does not come is waited for, and no other client waits for it.
func TestWhoWaitsHoldsUpNobody(t *testing.T) {
	t.Parallel()
	f := newFeed(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	s := serve(t, "SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM="+f.ws()+"/ws", "SSE_ROUTE_B_PATH=/b/{n}", "SSE_ROUTE_B_FROM=ws://"+silent.Addr().String()+"/{path.n}")
	s.get(t, "/a")
	a, b := s.Routes()[0], s.Routes()[1]
	for tries := int64(1); ; tries++ { // a busy machine may take its time with any one
		waits := make(chan time.Duration, 2)
		for range 2 {
			go func() { // ends with its answer, after 3 s
				began := time.Now()
				c, err := net.Dial("tcp", s.addr)
				if err == nil {
					fmt.Fprintf(c, "GET /b/%d HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n", tries)
					io.ReadFull(c, make([]byte, 20))
					c.Close()
				}
				waits <- time.Since(began)
			}()
		}
		eventually(t, "they wait", func() bool { return b.own.Used() == 2 })
		s.get(t, "/a")
		held := b.Clients.Direct.Load() > 2*(tries-1) // they have been answered
		if n := a.Clients.Direct.Load(); n != 1+tries {
			t.Errorf("%d came past net/http, want %d", n, 1+tries)
		}
		for range 2 {
			if d := <-waits; d < 2*time.Second {
				t.Errorf("a verdict was not waited for: %v", d)
			}
		}
		if n := b.Clients.Direct.Load(); n != 2*tries {
			t.Errorf("%d came past net/http, want %d", n, 2*tries)
		}
		if !held {
			return
		}
		if tries == 5 {
			t.Fatal("held up each time")
		}
		eventually(t, "they have left", func() bool { return b.own.Used() == 0 })
	}
}

// TestWhoLeavesWhileItWaits: the place of a client that does not wait for the verdict is given back before that is there.
func TestWhoLeavesWhileItWaits(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	s := serve(t, "SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM=ws://"+silent.Addr().String())
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(c, "GET /a HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n")
	eventually(t, "it waits", func() bool { return s.Routes()[0].own.Used() == 1 })
	c.Close()
	eventually(t, "its place is given back", func() bool { return s.Routes()[0].own.Used() == 0 })
	if n := s.Routes()[0].Clients.Direct.Load(); n != 0 {
		t.Errorf("%d were answered", n)
	}
}

// TestBesideTakesNothingUntilItSucceeds: whatever else a request is, being asked about it leaves no trace, and what is
// taken goes with the client.
func TestBesideTakesNothingUntilItSucceeds(t *testing.T) {
	f := newFeed(t)
	s := serve(t, "SSE_UPSTREAM="+legacy(t, echoLegacy), "SSE_TUNNEL=/ws", "SSE_CORS_ORIGINS=https://app.example", "SSE_MAX_CLIENTS=2", "SSE_MAX_HEADER=8KiB",
		"SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM="+f.ws()+"/ws", "SSE_ROUTE_B_PATH=/b/{id}", "SSE_ROUTE_B_FROM="+f.ws()+"/ws?id={path.id}&q={query.q}")
	there := s.get(t, "/a")
	page := "/_sidestream/tunnel?page=" + strings.Repeat("x", 20)
	trace := func() string {
		pages, tunnels := s.Tunnel.Pages.Count()
		return fmt.Sprint(s.counted(), pages, tunnels, s.Tunnel.Clients.Clients.Load())
	}
	ask := func(method, target string, head ...string) (deliver.Client, http.Header, bool) {
		r := httptest.NewRequest(method, target, nil)
		r.Header.Set("Accept", "text/event-stream")
		for i := 0; i < len(head); i += 2 {
			r.Header.Set(head[i], head[i+1])
		}
		c, h, _, ok := s.Beside(r)
		return c, h, ok
	}
	idle := trace()
	for _, c := range [][]string{
		{"GET", "/a", "Accept", "text/html"}, {"GET", "/a", "Origin", "https://evil.example"}, {"GET", "/a", "Cookie", strings.Repeat("x", 9000)},
		{"GET", "/b/7?q=x"}, {"GET", "/b/7"}, {"POST", "/a"}, {"GET", "/c"}, {"GET", "/_sidestream/events.js"},
		{"GET", page, "Origin", "https://evil.example"}, {"GET", "/_sidestream/tunnel?page=short"}, {"GET", "/_sidestream/tunnel/ws"}, {"POST", page},
	} {
		if _, _, ok := ask(c[0], c[1], c[2:]...); ok || trace() != idle {
			t.Errorf("%q: %v, and %s became %s", c, ok, idle, trace())
		}
	}
	for _, target := range []string{"/a", page} {
		c, h, ok := ask("GET", target, "Origin", "https://app.example")
		if !ok || c.Ring == nil || h.Get("Access-Control-Allow-Origin") != "https://app.example" || s.all.Used() != 2 {
			t.Fatalf("%s: %v %v, %d places taken", target, ok, h, s.all.Used())
		}
		full := trace()
		if _, _, ok := ask("GET", target); ok || trace() != full {
			t.Errorf("%s, beyond SSE_MAX_CLIENTS: %v, and %s became %s", target, ok, full, trace())
		}
		c.Leave()
		if s.all.Used() != 1 {
			t.Errorf("%s: %d places are left taken", target, s.all.Used())
		}
	}
	s.Drain(0)
	if _, _, ok := ask("GET", "/a"); ok {
		t.Error("a client joined while the sidecar drains")
	}
	there.rest()
}

// TestWritersSetting: with SSE_WRITERS=goroutine nothing of net/http's is done without it, and clients see no difference.
func TestWritersSetting(t *testing.T) {
	for writers, want := range map[string][len(deliver.Writers)]int64{"auto": {deliver.ByShard: 2}, "goroutine": {deliver.ByGoroutine: 2}} {
		f := newFeed(t)
		s := serve(t, "SSE_WRITERS="+writers, "SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM="+f.ws()+"/ws", "SSE_RETRY=1s")
		clients := []*response{s.get(t, "/a"), s.get(t, "/a")}
		f.publish(t, "", "one")
		for _, c := range clients {
			c.wantData(t, "one")
		}
		if got := s.ClientsByWriter(); got != want {
			t.Errorf("SSE_WRITERS=%s: %v are written to by %v", writers, got, deliver.Writers)
		}
		s.Drain(20 * time.Millisecond)
		for _, c := range clients {
			if text, err := c.rest(); !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(text, "retry: ") {
				t.Errorf("SSE_WRITERS=%s: got %q, %v", writers, text, err)
			}
		}
	}
}

// TestDrainOfThosePastNetHTTP: who is there is told to come back, and who comes then is busy.
func TestDrainOfThosePastNetHTTP(t *testing.T) {
	f := newFeed(t)
	s := serve(t, "SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM="+f.ws()+"/ws", "SSE_RETRY=1s")
	clients := []*response{s.get(t, "/a"), s.get(t, "/a"), s.get(t, "/a")}
	if n := s.Routes()[0].Clients.Direct.Load(); n != 3 {
		t.Fatalf("%d came past net/http, want 3", n)
	}
	s.Drain(20 * time.Millisecond)
	for i, c := range clients {
		if text, err := c.rest(); !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(text, "retry: ") {
			t.Errorf("client %d got %q, %v", i, text, err)
		}
	}
	if text, err := s.get(t, "/a").rest(); !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(text, "stream.busy") {
		t.Errorf("who came then got %q, %v", text, err)
	}
	if n := s.Rejected[Draining].Load(); n != 1 {
		t.Errorf("%d rejected, want 1", n)
	}
}

// Without REVALIDATE each client is asked for; with it those whose answer is known come past net/http.
func TestKnownClientsComeDirectly(t *testing.T) {
	a := newApp(t, map[string]string{"s=1": "joe", "s=2": "joe"})
	for every, want := range map[string][2]int64{"off": {0, 4}, "1m": {2, 2}} {
		f, asked := newFeed(t), a.asked.Load() // of its own: it publishes to whom it knows by then
		s := serve(t, guarded(f, a, "SSE_ROUTE_A_REVALIDATE="+every)...)
		for _, cookie := range []string{"s=1", "s=2", "s=1", "s=2"} {
			r := s.get(t, "/a", "Cookie: "+cookie)
			f.publish(t, "u=joe", cookie)
			r.wantData(t, cookie)
		}
		if direct, n := s.Routes()[0].Clients.Direct.Load(), a.asked.Load()-asked; direct != want[0] || n != want[1] {
			t.Errorf("REVALIDATE=%s: %d came directly, %d questions, want %v", every, direct, n, want)
		}
	}
}
