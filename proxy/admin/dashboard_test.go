package admin

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sidestream/proxy/deliver"
	"sidestream/proxy/stream"
)

const token = "0123456789abcdef"

// asks sends one request from an address, with headers such as "Via: x".
func asks(h http.Handler, method, path, from, body string, headers ...string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Host, r.RemoteAddr = "localhost:9091", from
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Set(name, value)
	}
	h.ServeHTTP(w, r)
	return w
}

const here, elsewhere = "127.0.0.1:4711", "192.0.2.7:4711"

// Who is not on this machine needs the token, and so does who comes by a proxy on it.
func TestToken(t *testing.T) {
	p, _ := front(t)
	without, with := Port{Proxy: p}.Handler(), Port{Proxy: p, Token: token}.Handler()
	basic := func(password string) string {
		r := httptest.NewRequest("GET", "/", nil)
		r.SetBasicAuth("x", password)
		return "Authorization: " + r.Header.Get("Authorization")
	}
	for _, c := range []struct {
		name, path, from string
		headers          []string
		without, with    int
	}{
		{"probe", "/livez", elsewhere, nil, 200, 200},
		{"readiness", "/readyz", elsewhere, nil, 200, 200},
		{"as ever", "/metrics", elsewhere, nil, 200, 401},
		{"status", "/api/status", elsewhere, nil, 200, 401},
		{"dashboard here", "/", here, nil, 200, 200},
		{"dashboard here, IPv6", "/", "[::1]:4711", nil, 200, 200},
		{"dashboard elsewhere", "/", elsewhere, nil, 403, 401},
		{"its script", "/dashboard.js", elsewhere, nil, 403, 401},
		{"lists", "/api/streams", elsewhere, nil, 403, 401},
		{"clients", "/api/clients", elsewhere, nil, 403, 401},
		{"by a proxy here", "/", here, []string{"X-Forwarded-For: 192.0.2.7"}, 403, 401},
		{"by another proxy here", "/", here, []string{"Via: 1.1 x"}, 403, 401},
		{"by nginx", "/api/streams", here, []string{"X-Real-Ip: 192.0.2.7"}, 403, 401},
		{"an address that is none", "/", "@", nil, 403, 401},
		{"bearer", "/", elsewhere, []string{"Authorization: Bearer " + token}, 403, 200},
		{"password", "/", elsewhere, []string{basic(token)}, 403, 200},
		{"wrong bearer", "/", elsewhere, []string{"Authorization: Bearer " + token[1:]}, 403, 401},
		{"wrong password", "/", elsewhere, []string{basic("")}, 403, 401},
		{"no scheme", "/", elsewhere, []string{"Authorization: " + token}, 403, 401},
	} {
		if got := asks(without, "GET", c.path, c.from, "", c.headers...); got.Code != c.without {
			t.Errorf("%s: %d without a token", c.name, got.Code)
		}
		got := asks(with, "GET", c.path, c.from, "", c.headers...)
		if got.Code != c.with || (c.with == 401) != strings.HasPrefix(got.Header().Get("WWW-Authenticate"), "Basic ") || strings.Contains(got.Body.String(), token) {
			t.Errorf("%s: %d with one, %v", c.name, got.Code, got.Header())
		}
	}
	for path, want := range map[string][2]int{"/api/reload": {403, 404}, "/api/drain": {403, 200}, "/api/log-level": {403, 400}, "/api/revoke": {400, 400}} {
		if got := asks(without, "POST", path, elsewhere, ""); got.Code != want[0] {
			t.Errorf("%s: %d from elsewhere without a token", path, got.Code)
		}
		if path == "/api/drain" { // which is for good
			continue
		}
		if got := asks(with, "POST", path, elsewhere, "", "Authorization: Bearer "+token); got.Code != want[1] {
			t.Errorf("%s: %d from elsewhere with one", path, got.Code)
		}
	}
	if p.Draining() {
		t.Error("whoever reaches the port has it drain")
	}
	if got := asks(with, "POST", "/api/log-level", here, `{"level":"debug"}`, "Origin: http://evil.example", "Sec-Fetch-Site: cross-site"); got.Code != 403 {
		t.Errorf("another site's page sets the level: %d", got.Code)
	}
}

// A proxy on this machine that adds no header of its own, as nginx and HAProxy do by themselves, is known by the name that it was asked by.
func TestTokenByName(t *testing.T) {
	p, _ := front(t)
	h := Port{Proxy: p, Token: token, Address: "box:9091", Hosts: []string{"ops.example"}}.Handler()
	for host, want := range map[string]int{"localhost:9091": 200, "LOCALHOST": 200, "127.0.0.1:9091": 200, "[::1]:9091": 200, "box:9091": 200, "": 200,
		"ops.example": 401, "ops.example:443": 401, "192.0.2.1": 401, "evil.example": 421} {
		w, r := httptest.NewRecorder(), httptest.NewRequest("GET", "/api/streams", nil)
		r.Host, r.RemoteAddr = host, here
		if h.ServeHTTP(w, r); w.Code != want {
			t.Errorf("%q: %d, want %d", host, w.Code, want)
		}
	}
}

// Streams, clients and events are listed, without a secret.
func TestLists(t *testing.T) {
	p, s := front(t)
	h := Port{Proxy: p, Payloads: true}.Handler()
	resp, err := http.Get(s.URL + "/down?token=" + secret)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	ask := func(path string, into any) {
		t.Helper()
		got := asks(h, "GET", path, here, "")
		if got.Code != 200 || strings.Contains(got.Body.String(), secret) || json.Unmarshal(got.Body.Bytes(), into) != nil {
			t.Fatalf("%s: %d %s", path, got.Code, got.Body)
		}
	}
	var streams struct {
		Streams []StreamShown
		Total   int
	}
	for end := time.Now().Add(time.Minute); time.Now().Before(end); <-time.After(time.Millisecond) {
		if ask("/api/streams", &streams); len(streams.Streams) == 1 && streams.Streams[0].State == stream.Retrying {
			break
		}
	}
	if one := streams.Streams[0]; streams.Total != 1 || one.Route != "down" || one.Clients != 1 || one.State != stream.Retrying || one.Error == "" || one.Fix == "" || one.ErrorAt == nil {
		t.Errorf("%+v", streams)
	}
	for search, want := range map[string]int{"DOWN": 1, "retrying": 1, "connected": 0, secret: 0} {
		if ask("/api/streams?q="+search, &streams); len(streams.Streams) != want || streams.Total != want {
			t.Errorf("%d for %q", len(streams.Streams), search)
		}
	}
	if ask("/api/streams?route=job", &streams); len(streams.Streams) != 0 {
		t.Errorf("%+v", streams)
	}
	var clients Clients
	for search, want := range map[string]int{"": 1, "127.": 1, "10.": 0} {
		if ask("/api/clients?q="+search, &clients); clients.Total != want || len(clients.Clients) != want || clients.Behind != 0 {
			t.Errorf("%q: %+v", search, clients)
		}
	}
	ask("/api/clients", &clients)
	if one := clients.Clients[0]; one.Route != "down" || one.Address != "127.0.0.1" || clients.Addresses[0] != (AddressShown{"127.0.0.1", 1}) || clients.Ages[0] != 1 {
		t.Errorf("%+v", clients)
	}
	visit(t, s.URL+"/job")
	var events struct{ Events []string }
	ask("/api/streams?route=job", &streams)
	ask("/api/events?route=job&stream="+streams.Streams[0].Epoch, &events)
	if len(events.Events) != 1 || !strings.HasPrefix(events.Events[0], "data: {\"done\":true}\nid: ") {
		t.Errorf("%q", events.Events)
	}
	if got := asks(Port{Proxy: p}.Handler(), "GET", "/api/events?route=job&stream="+streams.Streams[0].Epoch, here, ""); got.Code != 403 || !strings.Contains(got.Body.String(), "SSE_ADMIN_PAYLOADS") {
		t.Errorf("events without leave: %d %s", got.Code, got.Body)
	}
	for _, wrong := range []string{"/api/streams?route=none", "/api/streams?limit=0", "/api/clients?limit=501", "/api/events?stream=x", "/api/streams?q=" + strings.Repeat("x", 257)} {
		if got := asks(h, "GET", wrong, here, ""); got.Code != 400 {
			t.Errorf("%s: %d", wrong, got.Code)
		}
	}
	if got := asks(h, "GET", "/api/events?stream=1", here, ""); got.Code != 404 {
		t.Errorf("%d", got.Code)
	}
}

// The furthest behind are first, and what a client waits for is no event that it lacks.
func TestSummary(t *testing.T) {
	ring := stream.NewRing(1, stream.Bounds{}, new(stream.Stats), false)
	stats := new(deliver.Stats)
	for range 3 {
		ring.Append(message("x"))
	}
	c := summary([]deliver.Shown{
		{Stats: stats, Ring: ring, At: 3, Age: 2 * time.Minute}, {Stats: stats, Ring: ring, At: 1, Blocked: true, Age: time.Second}, {Stats: stats, Ring: ring, At: stream.Begin, Age: 30 * time.Hour},
	}, map[*deliver.Stats]string{stats: "a"}, 2)
	if c.Total != 3 || c.Behind != 1 || c.Blocked != 1 || len(c.Clients) != 2 || c.Clients[0].Behind != 2 || c.Clients[1].Age != 108000 || fmt.Sprint(c.Ages) != "[1 1 0 0 1]" {
		t.Errorf("%+v", c)
	}
}

// What is wrong is known from the moment that it is, with what to do about it, and forgotten ten minutes after.
func TestProblems(t *testing.T) {
	p, s := front(t)
	a := &Port{Proxy: p, samples: new(samples)}
	a.samples.add(a.sample())
	if all := a.problems(); len(all) != 0 {
		t.Errorf("%+v", all)
	}
	resp, err := http.Get(s.URL + "/down?token=" + secret)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for end := time.Now().Add(time.Minute); p.Routes()[0].Streams.Health().Error == "" && time.Now().Before(end); <-time.After(time.Millisecond) {
	}
	visit(t, s.URL+"/no?token="+secret)
	for end := time.Now().Add(time.Minute); p.Routes()[2].Streams.Stats.Refused.Load() == 0 && time.Now().Before(end); <-time.After(time.Millisecond) {
	}
	p.Routes()[1].Upstream.Stats.Oversize.Add(2)
	p.Routes()[1].Upstream.Stats.Undecoded.Add(4)
	p.Routes()[1].Streams.Stats.Gaps[1].Add(3)
	p.Rejected[2].Add(1)
	a.samples.add(a.sample())
	text := func() (lines []string) {
		for _, one := range a.problems() {
			if one.Fix == "" || strings.Contains(one.What+one.Fix, secret) {
				t.Errorf("%+v", one)
			}
			lines = append(lines, one.Level+" "+one.Route+" "+one.What)
		}
		return lines
	}
	all := strings.Join(text(), "\n")
	for _, want := range []string{"bad down upstream down for 0s: ", "bad job 3 gaps (evicted)", "bad job 2 messages over", "bad job 4 messages not decoded", "bad  1 request turned away (max_clients)", "warn no 1 stream refused"} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is not in\n%s", want, all)
		}
	}
	if strings.LastIndex(all, "bad ") > strings.Index(all, "warn ") {
		t.Errorf("in another order:\n%s", all)
	}
	for i := range p.Rejected {
		p.Rejected[i].Add(1)
	}
	a.samples.add(a.sample())
	first := text()
	for range 20 { // what an operator reads stays where it is
		if next := text(); !slices.Equal(next, first) {
			t.Fatalf("in another order again:\n%s", strings.Join(next, "\n"))
		}
	}
	for range samplesKept {
		a.samples.add(a.sample())
	}
	if all := text(); len(all) != 1 || !strings.HasPrefix(all[0], "bad down upstream down") {
		t.Errorf("ten minutes later: %q", all)
	}
}

func TestFix(t *testing.T) {
	for err, want := range map[string]string{
		"upstream refused (401): answered with status 401":             "The service wants credentials",
		"connect: dial tcp 10.0.0.1:4013: connection refused":          "Nothing listens",
		"connect: dial tcp 10.0.0.1:401: i/o timeout":                  "The service does not answer in time",
		"poll: dial tcp 127.0.0.404:80: no such host":                  "The name in FROM",
		"closed by the upstream with code 1008":                        "The service closes with 1008",
		"closed with code 4001":                                        "The service closes the connection",
		"the upstream's certificate is signed by an unknown authority": "The service's certificate is signed by a private",
		"poll: remote error: the upstream refuses the client's certificate, or that there is none (tls: certificate required); check UPSTREAM_CERT": "The service wants a client certificate",
		"connect: the forward proxy http://proxy:3128 cannot be used: dial tcp 10.0.0.1:3128: connection refused":                                   "HTTP_PROXY or HTTPS_PROXY names",
		"connect: the forward proxy http://proxy:3128 refused the connection (403); name the host in NO_PROXY":                                      "HTTP_PROXY or HTTPS_PROXY names",
		"connect: dial unix /run/app.sock: connection refused":                                                                                      "The service does not take connections on the Unix socket",
		"connect: dial unix @app: connection refused":                                                                                               "The service does not take connections on the abstract",
		"something new": "Try the route by itself",
	} {
		if got := fix(err); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s", err, got)
		}
	}
	if fix("") != "" {
		t.Error("a fix for nothing")
	}
}

// The dashboard's events come at once, and then every two seconds; the samples are taken while the port serves, and no longer.
func TestLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := proxyOf(t, "SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM=ws://127.0.0.1:1/")
		defer p.Close()
		lines := &Lines{To: io.Discard, Tail: newTail(slog.LevelInfo)}
		log := slog.New(lines.Tail.handler(slog.DiscardHandler))
		s := Port{Proxy: p, Version: "1.2.3", Lines: lines}.Server(log)
		l := &memory{conns: make(chan net.Conn), done: make(chan struct{})}
		served := make(chan error)
		go func() { served <- s.Serve(l) }() // ends with Close
		log.Info("first", "secret", "none")
		time.Sleep(2*sampleEvery + time.Millisecond)
		p.Routes()[0].Streams.Stats.Events.Add(40)
		time.Sleep(sampleEvery)
		conn := l.dial()
		fmt.Fprint(conn, "GET /api/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
		events := newTold(t, conn)
		var past map[string][]float64
		events.next("past", &past)
		if got := fmt.Sprint(past["a"]); got != "[0 0 20]" {
			t.Errorf("the last minutes: %s", got)
		}
		var first, second Live
		events.next("live", &first)
		if r := first.Rates["a"]; r.Events < 6 || r.Events > 7 || first.Status.Version != "1.2.3" || len(first.Log) != 1 || !strings.Contains(string(first.Log[0].Line), `"msg":"first"`) || first.Level != "INFO" {
			t.Errorf("%+v", first)
		}
		log.Debug("not this")
		if got := asks(s.Handler, "POST", "/api/log-level", here, `{"level":"debug"}`); got.Code != 200 {
			t.Errorf("%d", got.Code)
		}
		log.Debug("second")
		begun := time.Now()
		events.next("live", &second)
		if d := time.Since(begun); d > sampleEvery || len(second.Log) != 2 || !strings.Contains(string(second.Log[1].Line), `"second"`) || second.Level != "DEBUG" {
			t.Errorf("after %v: %s %+v", d, second.Level, second.Log)
		}
		for _, wrong := range []string{`{"level":"loud"}`, `{`, `{"level":""}`} {
			if got := asks(s.Handler, "POST", "/api/log-level", here, wrong); got.Code != 400 {
				t.Errorf("%s: %d", wrong, got.Code)
			}
		}
		s.Close()
		if err := <-served; err != http.ErrServerClosed {
			t.Error(err)
		}
		conn.Close()
		synctest.Wait()
	})
}

// A page that is one too many is told to come back, since a status would end it.
func TestWatchers(t *testing.T) {
	p, _ := front(t)
	a := Port{Proxy: p}
	h := a.handler()
	a.watchers.Add(maxWatchers)
	got := asks(h, "GET", "/api/live", here, "")
	if got.Code != 200 || got.Body.String() != "retry: 60000\n" || a.watchers.Load() != maxWatchers {
		t.Errorf("%d %q", got.Code, got.Body)
	}
}

func TestTail(t *testing.T) {
	tail := newTail(slog.LevelInfo)
	log := slog.New(tail.handler(slog.DiscardHandler))
	for i := range tailLines + 5 {
		log.Info("line", "i", i, "long", strings.Repeat("é", 5000))
	}
	all := tail.after(0)
	if len(all) != tailLines || all[0].Number != 6 || len(tail.after(tail.last)) != 0 || len(tail.after(tail.last-2)) != 2 || len(tail.after(tail.last+9)) != 0 {
		t.Errorf("%d lines from %d", len(all), all[0].Number)
	}
	for _, l := range all {
		if len(l.Line) > tailLineSize || !json.Valid(l.Line) || strings.Contains(string(l.Line), "\\ufffd") {
			t.Fatalf("%d bytes: %s", len(l.Line), l.Line)
		}
	}
	many := make([]any, 0, 40)
	for i := range 20 {
		many = append(many, fmt.Sprint("k", i), strings.Repeat("x", 1000))
	}
	log.Info("line", many...)
	if l := tail.after(tail.last - 1)[0]; !json.Valid(l.Line) || len(l.Line) > tailLineSize {
		t.Errorf("%s", l.Line)
	}
	log.Debug("no")
	if n := len(tail.after(tail.last)); n != 0 {
		t.Errorf("%d lines below the level", n)
	}
}

// The page has all that it names, nothing that its policy forbids, and its script finds what it looks for.
func TestPage(t *testing.T) {
	p, _ := front(t)
	h := Port{Proxy: p}.Handler()
	page := asks(h, "GET", "/", here, "")
	html, script := page.Body.String(), asks(h, "GET", "/dashboard.js", here, "").Body.String()
	if policy := page.Header().Get("Content-Security-Policy"); strings.Contains(policy, "unsafe") || !strings.Contains(policy, "default-src 'none'") {
		t.Error(policy)
	}
	for _, named := range regexp.MustCompile(`(?:href|src)="([^#"]+)"`).FindAllStringSubmatch(html, -1) {
		if got := asks(h, "GET", "/"+named[1], here, ""); got.Code != 200 {
			t.Errorf("%s: %d", named[1], got.Code)
		}
	}
	if regexp.MustCompile(`<style|style="|<script[^>]*>[^<]|\son\w+="`).MatchString(html) || strings.Contains(script, "innerHTML =") || strings.Contains(script, "insertAdjacentHTML") {
		t.Error("something inline, or text taken for markup")
	}
	for _, id := range regexp.MustCompile(`\$\('([\w-]+)'\)`).FindAllStringSubmatch(script, -1) {
		if !strings.Contains(html, `id="`+id[1]+`"`) {
			t.Errorf("the script looks for %s", id[1])
		}
	}
	again := asks(h, "GET", "/", here, "", "If-None-Match: "+page.Header().Get("ETag"))
	if again.Code != http.StatusNotModified || asks(h, "GET", "/none", here, "").Code != 404 {
		t.Errorf("%d", again.Code)
	}
}

// memory is a listener of connections in memory, from this machine.
type memory struct {
	conns chan net.Conn
	done  chan struct{}
}

func (m *memory) Accept() (net.Conn, error) {
	select {
	case c := <-m.conns:
		return local{c}, nil
	case <-m.done:
		return nil, net.ErrClosed
	}
}

func (m *memory) Close() error   { close(m.done); return nil }
func (m *memory) Addr() net.Addr { return &net.TCPAddr{} }

func (m *memory) dial() net.Conn {
	a, b := net.Pipe()
	m.conns <- a
	return b
}

type local struct{ net.Conn }

func (local) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 4711} }

// told reads an answer that is an event stream.
type told struct {
	t *testing.T
	r *bufio.Reader
}

func newTold(t *testing.T, conn net.Conn) *told {
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatal(resp, err)
	}
	return &told{t, bufio.NewReader(resp.Body)}
}

func (e *told) next(name string, into any) {
	e.t.Helper()
	for {
		line, err := e.r.ReadString('\n')
		if err != nil {
			e.t.Fatal(err)
		}
		if got, ok := strings.CutPrefix(line, "event: "); ok && strings.TrimSpace(got) != name {
			e.t.Fatalf("%q in place of %s", got, name)
		}
		if data, ok := strings.CutPrefix(line, "data: "); ok {
			if err := json.Unmarshal([]byte(data), into); err != nil {
				e.t.Fatal(err)
			}
			return
		}
	}
}
