package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// What is no stream is the client's as the service has sent it.
func TestRunRefusals(t *testing.T) {
	m := newModel(t)
	s := serve(t, runEnv(m, "SSE_CORS_ORIGINS=https://app.example")...)
	status, kind, text := 0, "", ""
	m.answer = func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Content-Type", kind)
		w.Header().Set("Retry-After", "7")
		w.Header().Set("X-Should-Retry", "false")
		w.Header().Set("Access-Control-Allow-Origin", "*")
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(status)
		io.WriteString(w, text)
		return true
	}
	for _, c := range []struct {
		status     int
		kind, text string
	}{
		{401, "application/json", `{"error":{"message":"bad key"}}`}, {429, "application/json", `{"error":"slow down"}`}, {400, "text/plain", "no"}, {500, "text/html", "<html>"},
		{302, "text/html", ""}, {200, "application/json", `{"id":"whole"}`}, {204, "text/event-stream", ""}, {200, "text/html", "<html>login"}, {403, "text/plain", strings.Repeat("x", 100_000)},
	} {
		status, kind, text = c.status, c.kind, c.text
		if status == 204 {
			text = ""
		}
		r, at := s.starts(t, "{}", "Origin: https://app.example")
		got, _ := io.ReadAll(r.in)
		r.conn.Close()
		want := c.text[:min(len(c.text), 64<<10)]
		if r.StatusCode != c.status || string(got) != want || at != "" || r.Header.Get("Retry-After") != "7" || r.Header.Get("X-Should-Retry") != "false" ||
			r.Header.Get("Content-Type") != c.kind || r.Header.Get("Access-Control-Allow-Origin") != "https://app.example" {
			t.Errorf("%d: got %d %.80q %v", c.status, r.StatusCode, got, r.Header)
		}
	}
	if h := s.Routes()[0].Streams.Health(); h.Streams != 0 {
		t.Errorf("%d streams are left", h.Streams)
	}
	m.Server.CloseClientConnections()
	m.Server.Config.SetKeepAlivesEnabled(false)
	m.Server.Close()
	if r, _ := s.starts(t, "{}"); r.StatusCode != 502 {
		t.Errorf("nobody there: %d", r.StatusCode)
	}
}

// What is kept of a run is bounded: the head of its answer as well.
func TestRunLargeHead(t *testing.T) {
	m := newModel(t)
	s := serve(t, runEnv(m)...)
	size := 0
	m.answer = func(w http.ResponseWriter, r *http.Request) bool {
		for range size {
			w.Header().Add("X-Large", strings.Repeat("x", 1<<10))
		}
		return false
	}
	for n, want := range map[int]int{32: 200, 64: 502} {
		m.mu.Lock()
		size = n
		m.mu.Unlock()
		r, _ := s.starts(t, "{}")
		a := <-m.asks
		if r.StatusCode != want || want == 200 && len(r.Header["X-Large"]) != n {
			t.Errorf("%d KiB: %d", n, r.StatusCode)
		}
		if want == 200 {
			close(a.say)
			continue
		}
		<-a.gone
		if text, _ := io.ReadAll(io.LimitReader(r.in, 1<<16)); !strings.Contains(string(text), "64 KiB") {
			t.Errorf("%s", text)
		}
	}
}

func TestRunBounds(t *testing.T) {
	m := newModel(t)
	s := serve(t, runEnv(m, "SSE_ROUTE_A_MAX_RUNS=2", "SSE_ROUTE_A_MAX_STREAMS=3", "SSE_ROUTE_A_MAX_MESSAGE=1KiB")...)
	if r, _ := s.starts(t, strings.Repeat("x", 1025)); r.StatusCode != 413 || m.count() != 0 {
		t.Errorf("a large body: %d", r.StatusCode)
	}
	var runs []*prompt
	var locations []string
	start := func(who string) int {
		r, at := s.starts(t, "{}", "Authorization: "+who)
		if r.StatusCode == 200 {
			runs, locations = append(runs, <-m.asks), append(locations, at)
		}
		return r.StatusCode
	}
	if a, b, c := start("one"), start("one"), start("one"); a != 200 || b != 200 || c != 429 {
		t.Errorf("of one client: %d %d %d", a, b, c)
	}
	if a, b := start("two"), start("two"); a != 200 || b != 503 {
		t.Errorf("of all: %d %d", a, b)
	}
	// One that has ended makes room: its place at once, and what is kept of it when its owner needs that.
	close(runs[0].say)
	eventually(t, "room", func() bool { return start("one") == 200 })
	if status, _ := s.status(t, "GET "+locations[0], "Authorization: one"); status != 404 {
		t.Errorf("the oldest that had ended: %d", status)
	}
	if status, _ := s.status(t, "GET /v1/chat", "Accept: text/event-stream"); status != 400 {
		t.Errorf("no run is named: %d", status)
	}
}

// A run without clients is stopped after LINGER; one that nobody can know of at once.
func TestRunWithoutClients(t *testing.T) {
	t.Parallel()
	m := newModel(t)
	s := serve(t, runEnv(m, "SSE_ROUTE_A_LINGER=300ms", "SSE_ROUTE_A_KEEP=5s")...)
	r, at := s.starts(t, "{}")
	a := <-m.asks
	r.conn.Close()
	<-a.gone
	eventually(t, "it is forgotten", func() bool { status, _ := s.status(t, "GET "+at, "Accept: text/event-stream"); return status == 404 })

	r, at = s.starts(t, "{}")
	a = <-m.asks
	r.conn.Close()
	<-a.gone
	eventually(t, "nothing is left to stop", func() bool { status, _ := s.status(t, "DELETE "+at); return status == 404 })

	r, at = s.starts(t, "{}")
	a = <-m.asks
	a.say <- "data: 1\n\n"
	close(a.say)
	r.rest()
	if status, text := s.status(t, "GET "+at); status != 200 || !strings.Contains(text, "data: 1") {
		t.Errorf("%d %q", status, text)
	}
	eventually(t, "it is not kept for ever", func() bool { status, _ := s.status(t, "GET "+at); return status == 404 })

	started, ended := make(chan struct{}), make(chan struct{})
	m.mu.Lock()
	m.answer = func(_ http.ResponseWriter, r *http.Request) bool {
		close(started)
		<-r.Context().Done()
		close(ended)
		return true
	}
	m.mu.Unlock()
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "POST /v1/chat HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
	<-started
	conn.Close()
	<-ended
}

// Over HTTP/2 a run and an operation are what they are over HTTP/1.1.
func TestRunOverHTTP2(t *testing.T) {
	m := newModel(t)
	s := serve(t, runEnv(m)...)
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	post := func() (*http.Response, *bufio.Reader) {
		resp, err := client.Post("http://"+s.addr+"/v1/chat", "application/json", strings.NewReader(`{}`))
		if err != nil {
			t.Fatal(err)
		}
		return resp, bufio.NewReader(resp.Body)
	}
	line := func(in *bufio.Reader, want string) {
		t.Helper()
		for {
			text, err := in.ReadString('\n')
			if err != nil {
				t.Fatalf("no %q: %v", want, err)
			}
			if text == want+"\n" {
				return
			}
			if strings.HasPrefix(text, "event: ") {
				t.Errorf("unexpected %q", text)
			}
		}
	}
	resp, in := post()
	defer resp.Body.Close()
	if resp.ProtoMajor != 2 || resp.Header.Get("Content-Location") == "" {
		t.Errorf("%v %v", resp.Proto, resp.Header)
	}
	a := <-m.asks
	for _, piece := range []string{"1", "2"} {
		a.say <- "data: " + piece + "\n\n"
		line(in, "data: "+piece)
	}
	close(a.say)
	if _, err := io.ReadAll(in); err != nil {
		t.Errorf("the end: %v", err)
	}
	resp, in = post()
	defer resp.Body.Close()
	b := <-m.asks
	b.say <- "data: 1\n\n"
	line(in, "data: 1")
	close(b.cut)
	if text, err := io.ReadAll(in); err == nil || strings.Contains(string(text), "event:") {
		t.Errorf("a cut: %q %v", text, err)
	}
}

// Bodies that do not arrive take a bounded room, and not for long when it is short.
func TestRunSlowBodies(t *testing.T) {
	t.Parallel()
	m := newModel(t)
	s := serve(t, runEnv(m)...)
	rt := s.Routes()[0]
	const most = 8 // that come; the others are but counted, as a busy machine would give up the first before the last are there
	rt.bodies.Add(maxBodies - most)
	eventually(t, "a refusal for want of room", func() bool {
		for range maxBodies - rt.bodies.Load() { // those that came first may have been given up
			conn, err := net.Dial("tcp", s.addr)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close() })
			fmt.Fprintf(conn, "POST /v1/chat HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{")
		}
		if rt.bodies.Load() < maxBodies {
			return false
		}
		r, _ := s.starts(t, "{}")
		return r.StatusCode == 503 && r.Header.Get("Retry-After") == "1"
	})
	full := time.Now()
	eventually(t, "room", func() bool { return rt.bodies.Load() <= maxBodies-most })
	if took := time.Since(full); took >= bodyTime/2 {
		t.Errorf("there is room after %v only", took)
	}
	if r, _ := s.starts(t, "{}"); r.StatusCode != 200 {
		t.Errorf("%d", r.StatusCode)
	}
}
