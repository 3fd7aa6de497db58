//go:build e2e

package e2e

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// stream is an SSE answer read as bytes.
type stream struct {
	conn net.Conn
	got  bytes.Buffer
}

// ask sends a request for path, head lines separated by \r\n, and reads the answer up to text.
func ask(t *testing.T, addr, proto, path, text string) *stream {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	s := &stream{conn: conn}
	io.WriteString(conn, "GET "+path+" "+proto+"\r\nHost: "+addr+"\r\nAccept: text/event-stream\r\n\r\n")
	s.until(t, text)
	return s
}

// until reads until text has come.
func (s *stream) until(t *testing.T, text string) {
	t.Helper()
	buf := make([]byte, 4096)
	for !strings.Contains(s.got.String(), text) {
		n, err := s.conn.Read(buf)
		s.got.Write(buf[:n])
		if err != nil {
			t.Fatalf("%v before %q; got %q", err, text, s.got.String())
		}
	}
}

// rest reads to the end and returns how it ended, nil for a FIN.
func (s *stream) rest() error {
	_, err := io.Copy(&s.got, s.conn)
	return err
}

const finalChunk = "0\r\n\r\n"

func TestWireHead(t *testing.T) {
	t.Parallel()
	f := startFeed(t, nil)
	s := startSidecar(t, feedEnv(f)...)
	got := ask(t, s.addr, "HTTP/1.1", "/ticks", "retry: ").got.String()
	for _, want := range []string{
		"HTTP/1.1 200 OK\r\n", "\r\nContent-Type: text/event-stream\r\n", "\r\nTransfer-Encoding: chunked\r\n",
		"\r\nCache-Control: no-cache, no-store, no-transform\r\n", "\r\nX-Accel-Buffering: no\r\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %q", want, got)
		}
	}
	first := regexp.MustCompile(`\r\n\r\n[0-9a-f]+\r\nretry: (\d+)\n`).FindStringSubmatch(got)
	if first == nil {
		t.Fatalf("the body does not begin with a retry line: %q", got)
	}
	if ms, _ := strconv.Atoi(first[1]); ms < 3000 || ms >= 6000 {
		t.Errorf("retry: %d, want a value in [3000, 6000)", ms)
	}
}

// TestWireEvent takes one event to the byte.
func TestWireEvent(t *testing.T) {
	t.Parallel()
	f := startFeed(t, nil)
	s := startSidecar(t, feedEnv(f)...)
	got := ask(t, s.addr, "HTTP/1.0", "/ticks", "retry: ")
	f.tick(t)
	got.until(t, `data: {"n":1}`)
	got.until(t, "-1\n\n")
	_, body, _ := strings.Cut(got.got.String(), "\r\n\r\n")
	want := regexp.MustCompile(`^retry: \d+\n(:\n)*event: stream\.open\ndata: \{\}\nid: \d+-0\n\n(:\n)*event: tick\ndata: \{"n":1\}\nid: \d+-1\n\n(:\n)*$`)
	if !want.MatchString(body) {
		t.Errorf("body %q", body)
	}
}

// TestWireComeBack: a cut must not look like an end to anybody on the way.
func TestWireComeBack(t *testing.T) {
	t.Parallel()
	f := startFeed(t, nil)
	s := startSidecar(t, feedEnv(f)...)
	old := ask(t, s.addr, "HTTP/1.0", "/ticks", "retry: ")
	chunked := ask(t, s.addr, "HTTP/1.1", "/ticks", "retry: ")
	f.tick(t)
	for _, one := range []*stream{old, chunked} {
		one.until(t, `data: {"n":1}`)
		one.got.Reset()
	}
	s.Process.Signal(syscall.SIGTERM)
	if err := old.rest(); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("HTTP/1.0 ended with %v, want a reset", err)
	}
	chunked.rest()
	if got := chunked.got.String(); strings.HasSuffix(got, finalChunk) {
		t.Errorf("HTTP/1.1 ended with a final chunk: %q", got)
	}
	for name, one := range map[string]*stream{"HTTP/1.0": old, "HTTP/1.1": chunked} {
		if !strings.Contains(one.got.String(), "retry: ") {
			t.Errorf("%s: released without a retry hint: %q", name, one.got.String())
		}
	}
	if code := s.wait(t); code != 0 {
		t.Errorf("drained with exit status %d, want 0", code)
	}
}

// finishes is the end of a stream whose last event it is.
var finishes = regexp.MustCompile(`data: \{"done":true\}\nid: \S+\n\n$`)

func TestWireFinished(t *testing.T) {
	t.Parallel()
	f := startFeed(t, nil)
	s := startSidecar(t, feedEnv(f)...)
	old := ask(t, s.addr, "HTTP/1.0", "/ticks", "retry: ")
	chunked := ask(t, s.addr, "HTTP/1.1", "/ticks", "retry: ")
	f.say(t, `{"done":true}`)
	if err := old.rest(); err != nil {
		t.Errorf("HTTP/1.0 ended with %v, want a clean end", err)
	}
	if got := old.got.String(); !finishes.MatchString(got) {
		t.Errorf("HTTP/1.0 ended with %q", got)
	}
	chunked.until(t, finalChunk)
	id := regexp.MustCompile(`\{"done":true\}\nid: (\S+)\n`).FindStringSubmatch(old.got.String())
	if id == nil {
		t.Fatal("the last event has no id")
	}
	for _, c := range []struct {
		name, header, query string
		want                int
	}{
		{"by header", id[1], "", http.StatusNoContent},
		{"by query", "", "?lastEventId=" + id[1], http.StatusGone},
		{"without", "", "", http.StatusOK},
	} {
		req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://"+s.addr+"/ticks"+c.query, nil)
		req.Header.Set("Accept", "text/event-stream")
		if c.header != "" {
			req.Header.Set("Last-Event-ID", c.header)
		}
		resp, err := plain.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != c.want {
			t.Errorf("last id %s: status %d (%v), want %d", c.name, resp.StatusCode, err, c.want)
		}
		if has := strings.Contains(string(body), `data: {"done":true}`); has != (c.want == http.StatusOK) {
			t.Errorf("last id %s: body %q", c.name, body)
		}
		if c.want == http.StatusGone && len(body) == 0 {
			t.Error("410 without a body, on which the polyfill fails")
		}
	}
}

// TestWireHTTP2 is the same over h2c: a reset of the stream against its end.
func TestWireHTTP2(t *testing.T) {
	t.Parallel()
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols}
	defer transport.CloseIdleConnections()
	read := func(t *testing.T, s *sidecar, then func()) (string, error) {
		req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://"+s.addr+"/ticks", nil)
		req.Header.Set("Accept", "text/event-stream")
		resp, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.ProtoMajor != 2 || resp.StatusCode != http.StatusOK {
			t.Fatalf("answered %s over %s", resp.Status, resp.Proto)
		}
		then()
		body, err := io.ReadAll(resp.Body)
		return string(body), err
	}
	t.Run("come back", func(t *testing.T) {
		f := startFeed(t, nil)
		s := startSidecar(t, feedEnv(f)...)
		body, err := read(t, s, func() { f.tick(t); s.Process.Signal(syscall.SIGTERM) })
		if err == nil {
			t.Errorf("ended cleanly after %q, want a reset", body)
		}
		if code := s.wait(t); code != 0 {
			t.Errorf("drained with exit status %d, want 0", code)
		}
	})
	t.Run("finished", func(t *testing.T) {
		f := startFeed(t, nil)
		s := startSidecar(t, feedEnv(f)...)
		body, err := read(t, s, func() { f.say(t, `{"done":true}`) })
		if err != nil || !finishes.MatchString(body) {
			t.Errorf("ended with %v after %q", err, body)
		}
	})
}

// TestWireOpenMeansListening: a client that has been answered gets whatever is said from then on, also one that joined
// a stream others had opened.
func TestWireOpenMeansListening(t *testing.T) {
	t.Parallel()
	f := startFeed(t, nil)
	s := startSidecar(t, feedEnv(f)...)
	ask(t, s.addr, "HTTP/1.1", "/ticks", "retry: ")
	for range 60 {
		joined := ask(t, s.addr, "HTTP/1.1", "/ticks", "retry: ")
		joined.until(t, "data: "+f.tick(t)+"\n")
		joined.conn.Close()
	}
}
