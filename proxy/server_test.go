package proxy

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestPanicsAreLoggedAndComplaintsAreNot(t *testing.T) {
	var out bytes.Buffer
	d := &debugLog{log: slog.New(slog.NewTextHandler(&out, nil))}
	d.Write([]byte("http: TLS handshake error from x: EOF"))
	if out.Len() > 0 {
		t.Errorf("logged %q", out.String())
	}
	d.Write([]byte("http: panic serving x: boom"))
	if !strings.Contains(out.String(), "boom") {
		t.Error("a panic is not logged")
	}
	out.Reset()
	d.Write([]byte("http: panic serving x: http: invalid concurrent Body.Read call\ngoroutine 1 [running]:"))
	if out.Len() > 0 {
		t.Errorf("what a client can bring about at will is logged: %q", out.String())
	}
	for range 3 { // net/http tries again up to once a second
		d.Write([]byte("http: Accept error: accept4: too many open files; retrying in 1s"))
	}
	if got := out.String(); strings.Count(got, "too many open files") != 1 || !strings.Contains(got, "level=WARN") {
		t.Errorf("a port that accepts nobody: %q", got)
	}
}

// secured serves f's route, and a service that says what it was asked, over TLS.
func secured(t *testing.T) *sidecar {
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s", r.Method, r.Header.Get("X-Forwarded-Proto"))
	}))
	t.Cleanup(service.Close)
	f := newFeed(t)
	cert, key := keyPair(t, "one")
	return serve(t, "SSE_UPSTREAM="+service.URL, "SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM="+f.ws()+"/ws", "SSE_TLS_CERT="+cert, "SSE_TLS_KEY="+key)
}

// TestTLS: whatever a client chooses in the handshake it gets, and what is passed through is said to have come by https.
func TestTLS(t *testing.T) {
	s := secured(t)
	for _, c := range []struct {
		chosen string
		major  int
		offers []string
	}{{"h2", 2, []string{"h2", "http/1.1"}}, {"http/1.1", 1, []string{"http/1.1"}}, {"", 1, nil}} {
		tr := &http.Transport{Protocols: new(http.Protocols), TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
		tr.Protocols.SetHTTP1(c.major == 1)
		tr.Protocols.SetHTTP2(c.major == 2)
		client := &http.Client{Transport: tr, Timeout: time.Minute}
		resp, err := client.Post("https://"+s.addr+"/other", "", nil)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		if resp.Body.Close(); string(body) != "POST https" || resp.ProtoMajor != c.major {
			t.Errorf("%q: got %q over %s", c.chosen, body, resp.Proto)
		}
		tr.CloseIdleConnections()

		conn, err := tls.Dial("tcp", s.addr, &tls.Config{InsecureSkipVerify: true, NextProtos: c.offers})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if got := conn.ConnectionState().NegotiatedProtocol; got != c.chosen {
			t.Errorf("%q is chosen of %q", got, c.offers)
		}
		if c.major == 2 {
			continue
		}
		conn.SetDeadline(time.Now().Add(time.Minute))
		io.WriteString(conn, "GET /a HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n")
		head := make([]byte, 15)
		if _, err := io.ReadFull(conn, head); string(head) != "HTTP/1.1 200 OK" {
			t.Errorf("%q: an event stream begins with %q, %v", c.chosen, head, err)
		}
	}
}

// TestTLSRefused: who speaks something else is told so, or cut, and who says nothing does not hold up the end.
func TestTLSRefused(t *testing.T) {
	s := secured(t)
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		conn.SetDeadline(time.Now().Add(time.Minute))
		return conn
	}
	for sent, want := range map[string]string{
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n": "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n",
		"\x16\x03\x01\x00\x05nonsense":      "\x15\x03\x01", // an alert
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n":  "",
	} {
		conn := dial()
		io.WriteString(conn, sent)
		if got, _ := io.ReadAll(conn); !strings.HasPrefix(string(got), want) {
			t.Errorf("%q is answered with %q, want %q", sent, got, want)
		}
	}
	silent := dial()
	s.get2(t)
	s.server.Close()
	if n, err := silent.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Errorf("who said nothing got %d bytes, %v", n, err)
	} else if netErr, ok := err.(net.Error); ok && netErr.Timeout() {
		t.Error("who said nothing is not cut")
	}
}

// get2 has a request answered over HTTP/2, so that others who came before have been accepted.
func (s *sidecar) get2(t *testing.T) {
	t.Helper()
	tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	r := s.h2(t, tr, "https")
	r.Body.Close()
}
