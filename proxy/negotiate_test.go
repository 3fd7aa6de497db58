package proxy

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// echoLegacy answers every request with what it was asked for.
func echoLegacy(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Vary", "Cookie")
	io.WriteString(w, "legacy "+r.Method+" "+r.RequestURI+" "+r.Host)
}

func TestNegotiation(t *testing.T) {
	f := newFeed(t)
	f.answer = echoLegacy
	s := serve(t, routeEnv(f)...)
	const sse, passed = "text/event-stream", "legacy"
	for _, c := range []struct {
		line, accept, want string
	}{
		{"GET /a", "text/event-stream", sse},
		{"GET /a", "text/html, Text/Event-Stream;q=0.5", sse},
		{"GET /a?x=1", "text/event-stream", sse},
		{"GET /a", "text/event-stream;q=0", passed},
		{"GET /a", "*/*", passed},
		{"GET /a", "text/event-streams", passed},
		{"POST /a", "text/event-stream", passed},
		{"HEAD /a", "text/event-stream", ""},
		{"DELETE /a", "text/event-stream", passed},
		{"GET /a/", "text/event-stream", passed},
		{"GET //a", "text/event-stream", passed},
		{"GET /b/../a", "text/event-stream", passed},
		{"GET /./a", "text/event-stream", passed},
		{"GET /%2e/a", "text/event-stream", passed},
		{"GET /b", "text/event-stream", passed},
	} {
		r := s.ask(t, c.line+" HTTP/1.1", "Accept: "+c.accept)
		kind := r.Header.Get("Content-Type")
		if kind != sse {
			body, _ := r.rest()
			kind, _, _ = strings.Cut(body, " ")
			if method, target, _ := strings.Cut(c.line, " "); body != "" && body != "legacy "+method+" "+target+" "+s.addr {
				t.Errorf("%s: the service was asked for %q", c.line, body)
			}
			onRoute := strings.HasSuffix(c.line, " /a")
			if vary := strings.Join(r.Header.Values("Vary"), ", "); onRoute != strings.Contains(vary, "Accept") || !strings.Contains(vary, "Cookie") {
				t.Errorf("%s: Vary is %q", c.line, vary)
			}
		}
		r.conn.Close()
		if kind != c.want {
			t.Errorf("%s with %s: got %q, want %q", c.line, c.accept, kind, c.want)
		}
	}
}

func TestWithoutServiceBehind(t *testing.T) {
	f := newFeed(t)
	s := serve(t, "SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM="+f.ws()+"/ws")
	if r := s.ask(t, "GET /a HTTP/1.1"); r.Header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("curl without Accept got %s", r.Status)
	}
	for _, line := range []string{"GET /b", "GET //a", "POST /a", "GET /a/"} {
		if r := s.ask(t, line+" HTTP/1.1", "Content-Length: 0"); r.StatusCode != 404 {
			t.Errorf("%s: got %s", line, r.Status)
		}
	}
}

func TestOldWebSocketClientOnTheRoutesPath(t *testing.T) {
	f := newFeed(t)
	s := serve(t, "SSE_UPSTREAM="+f.URL, "SSE_ROUTE_A_PATH=/ws", "SSE_ROUTE_A_FROM="+f.ws()+"/ws")
	c, _, err := websocket.Dial(t.Context(), "ws://"+s.addr+"/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is counted", func() bool { return s.Routes()[0].WebSockets.Load() == 1 && s.WebSockets() == 1 })
	f.publish(t, "", "hello")
	if _, data, err := c.Read(t.Context()); err != nil || string(data) != "hello" {
		t.Errorf("got %q, %v", data, err)
	}
	c.Close(websocket.StatusNormalClosure, "")
	eventually(t, "it is gone", func() bool { return s.Routes()[0].WebSockets.Load() == 0 })
}

func TestOrigins(t *testing.T) {
	f := newFeed(t)
	s := serve(t, routeEnv(f, "SSE_CORS_ORIGINS=https://app.example.com,http://localhost:5173")...)
	for _, c := range []struct {
		origin, site string
		status       int
		allowed      bool
	}{
		{"", "", 200, false},
		{"", "same-origin", 200, false},
		{"", "none", 200, false},
		{"", "cross-site", 403, false},
		{"", "same-site", 403, false},
		{"http://" + s.addr, "", 200, false},
		{"https://" + s.addr, "", 200, false},
		{"https://other.example.com", "", 403, false},
		{"null", "", 403, false},
		{"https://other.example.com", "same-origin", 200, false},
		{"https://app.example.com", "cross-site", 200, true},
		{"https://app.example.com", "", 200, true},
		{"http://localhost:5173", "same-site", 200, true},
		{"https://app.example.com:444", "cross-site", 403, false},
		{"http://app.example.com", "cross-site", 403, false},
		{"https://app.example.com.evil.com", "", 403, false},
	} {
		var head []string
		if c.origin != "" {
			head = append(head, "Origin: "+c.origin)
		}
		if c.site != "" {
			head = append(head, "Sec-Fetch-Site: "+c.site)
		}
		r := s.get(t, "/a", head...)
		r.conn.Close()
		if r.StatusCode != c.status {
			t.Errorf("Origin %q, Sec-Fetch-Site %q: got %d, want %d", c.origin, c.site, r.StatusCode, c.status)
		}
		wantOrigin, wantCredentials := "", ""
		if c.allowed {
			wantOrigin, wantCredentials = c.origin, "true"
		}
		if o, cr := r.Header.Get("Access-Control-Allow-Origin"), r.Header.Get("Access-Control-Allow-Credentials"); o != wantOrigin || cr != wantCredentials {
			t.Errorf("Origin %q: allowed %q, credentials %q", c.origin, o, cr)
		}
		if vary := strings.Join(r.Header.Values("Vary"), ", "); !strings.Contains(vary, "Origin") {
			t.Errorf("Vary is %q", vary)
		}
	}
	if f.dials.Load() > 1 {
		t.Errorf("%d upstream connections", f.dials.Load())
	}
}

func TestPreflight(t *testing.T) {
	f := newFeed(t)
	f.answer = echoLegacy
	s := serve(t, routeEnv(f, "SSE_CORS_ORIGINS=https://app.example.com", "SSE_ROUTE_A_FORWARD=X-Team", "SSE_ROUTE_A_HEADERS=X-U: {header.X-User:}")...)
	r := s.ask(t, "OPTIONS /a HTTP/1.1", "Origin: https://app.example.com", "Access-Control-Request-Method: GET", "Access-Control-Request-Headers: last-event-id")
	if r.StatusCode != 204 || r.Header.Get("Access-Control-Allow-Origin") != "https://app.example.com" || r.Header.Get("Access-Control-Allow-Credentials") != "true" {
		t.Errorf("got %s %v", r.Status, r.Header)
	}
	for _, name := range []string{"Last-Event-ID", "Authorization", "X-Team", "X-User"} {
		if !strings.Contains(r.Header.Get("Access-Control-Allow-Headers"), name) {
			t.Errorf("%s is not allowed: %s", name, r.Header.Get("Access-Control-Allow-Headers"))
		}
	}
	for _, head := range []string{"Origin: https://evil.example.com\r\nAccess-Control-Request-Method: GET", "Origin: https://app.example.com\r\nAccess-Control-Request-Method: PUT", "X: y"} {
		r := s.ask(t, "OPTIONS /a HTTP/1.1", head)
		if body, _ := r.rest(); !strings.HasPrefix(body, "legacy OPTIONS") {
			t.Errorf("%s: got %s %q, want the service's answer", head, r.Status, body)
		}
	}
}

// h2 asks for events over HTTP/2.
func (s *sidecar) h2(t *testing.T, tr *http.Transport, scheme string) *response {
	t.Helper()
	tr.Protocols = new(http.Protocols)
	tr.Protocols.SetHTTP2(scheme == "https")
	tr.Protocols.SetUnencryptedHTTP2(scheme == "http")
	t.Cleanup(tr.CloseIdleConnections)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	req, _ := http.NewRequestWithContext(ctx, "GET", scheme+"://"+s.addr+"/a", nil)
	req.Header.Set("Accept", "text/event-stream")
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if resp.ProtoMajor != 2 {
		t.Fatalf("got %s", resp.Proto)
	}
	return &response{Response: resp, in: bufio.NewReader(resp.Body)}
}

func TestHTTP2(t *testing.T) {
	f := newFeed(t)
	cert, key := keyPair(t, "one")
	for scheme, s := range map[string]*sidecar{
		"http":  serve(t, routeEnv(f)...),
		"https": serve(t, routeEnv(f, "SSE_TLS_CERT="+cert, "SSE_TLS_KEY="+key)...),
	} {
		tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
		r := s.h2(t, tr, scheme)
		<-f.joined
		f.publish(t, "", "1")
		r.wantData(t, "1")
		drained := make(chan struct{})
		go func() { defer close(drained); s.Drain(0) }()
		rest, err := r.rest()
		if err == io.EOF || !strings.Contains(err.Error(), "stream error") || !retryLine.MatchString(strings.TrimSpace(rest)) {
			t.Errorf("%s: got %q and %v, want a retry hint and a stream reset", scheme, rest, err)
		}
		<-drained
		s.Proxy.Close()
	}
}

func TestCertificateIsReloaded(t *testing.T) {
	t.Parallel()
	f := newFeed(t)
	cert, key := keyPair(t, "one")
	s := serve(t, routeEnv(f, "SSE_TLS_CERT="+cert, "SSE_TLS_KEY="+key)...)
	name := func() string {
		c, err := tls.Dial("tcp", s.addr, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	if got := name(); got != "one" {
		t.Fatalf("got %q", got)
	}
	os.WriteFile(key, []byte("half a file"), 0o600)
	future := time.Now().Add(time.Second)
	os.Chtimes(key, future, future)
	<-time.After(certificateAge + 50*time.Millisecond)
	if got := name(); got != "one" {
		t.Errorf("a broken pair is served as %q", got)
	}
	cert2, key2 := keyPair(t, "two")
	for from, to := range map[string]string{cert2: cert, key2: key} {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the new certificate", func() bool { return name() == "two" })
}

// keyPair writes a self-signed certificate and its key.
func keyPair(t *testing.T, name string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	template.Subject.CommonName = name
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600)
	os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600)
	return cert, key
}
