package proxy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/coder/websocket"

	"sidestream/proxy/outbound"
)

// front serves p on a loopback address and gives its host:port.
func front(t *testing.T, p *Passthrough) string {
	t.Helper()
	server := httptest.NewUnstartedServer(p)
	server.Config.DisableGeneralOptionsHandler = true
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetHTTP1(true)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	t.Cleanup(server.Close)
	t.Cleanup(p.Close)
	return server.Listener.Addr().String()
}

func passTo(t *testing.T, upstream string) *Passthrough {
	t.Helper()
	u, err := url.Parse(upstream)
	if err != nil {
		t.Fatal(err)
	}
	return NewPassthrough(u, outbound.Settings{}, slog.New(slog.DiscardHandler))
}

// legacy serves h as the service behind.
func legacy(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server.URL
}

// recorder is a service that knows nothing of HTTP: it keeps each request's head as it came and answers with the same
// bytes. Connections stay open, so that they are used again.
type recorder struct {
	net.Listener
	answer string
	heads  chan string
}

const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

func record(t *testing.T, answer string) *recorder {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{listener, answer, make(chan string, 100)}
	r.start(t)
	return r
}

func (r *recorder) start(t *testing.T) {
	var connections sync.WaitGroup
	connections.Go(func() { // until the listener closes
		for {
			c, err := r.Accept()
			if err != nil {
				return
			}
			context.AfterFunc(t.Context(), func() { c.Close() })
			connections.Go(func() { r.serve(c) }) // until the connection closes
		}
	})
	t.Cleanup(func() { r.Close(); connections.Wait() })
}

func (r *recorder) serve(c net.Conn) {
	defer c.Close()
	in := bufio.NewReader(c)
	for {
		head, err := readHead(in)
		if err != nil {
			return
		}
		r.heads <- head
		if _, err := io.WriteString(c, r.answer); err != nil {
			return
		}
	}
}

func readHead(in *bufio.Reader) (string, error) {
	var head strings.Builder
	for {
		line, err := in.ReadString('\n')
		head.WriteString(line)
		if err != nil || line == "\r\n" {
			return head.String(), err
		}
	}
}

func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// send writes text as it is and reads an answer to method.
func send(t *testing.T, address, method, text string) (*http.Response, string) {
	t.Helper()
	c := dial(t, address)
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

func TestRequestLineIsExact(t *testing.T) {
	service := record(t, ok)
	address := front(t, passTo(t, "http://"+service.Addr().String()))
	based := front(t, passTo(t, "http://"+service.Addr().String()+"/base%2F/"))
	cases := []struct{ line, want, based string }{
		{"GET / ", "GET / ", "GET /base%2F/ "},
		{"GET //a ", "GET //a ", "GET /base%2F//a "},
		{"PROPFIND //a|b?// ", "PROPFIND //a|b?// ", "PROPFIND /base%2F//a|b?// "},
		{"GET // ", "GET // ", "GET /base%2F// "},
		{"GET /a/../b ", "GET /a/../b ", "GET /base%2F/a/../b "},
		{"GET /a|b\"<>^`{}\\ü ", "GET /a|b\"<>^`{}\\ü ", "GET /base%2F/a|b\"<>^`{}\\ü "},
		{"GET /a%2Fb%2fc%41 ", "GET /a%2Fb%2fc%41 ", "GET /base%2F/a%2Fb%2fc%41 "},
		{"GET /?x=1;y=2&%zz ", "GET /?x=1;y=2&%zz ", "GET /base%2F/?x=1;y=2&%zz "},
		{"GET /a? ", "GET /a? ", "GET /base%2F/a? "},
		{"GET /a??b#c ", "GET /a??b#c ", "GET /base%2F/a??b#c "},
		{"OPTIONS * ", "OPTIONS * ", "OPTIONS * "},
		{"GET http://example.com//p|q?x ", "GET //p|q?x ", "GET /base%2F//p|q?x "},
		{"GET http://example.com ", "GET / ", "GET /base%2F/ "},
		{"GET http://example.com?x=/y ", "GET /?x=/y ", "GET /base%2F/?x=/y "},
		{"DELETE /" + strings.Repeat("long|", 2000) + " ", "DELETE /" + strings.Repeat("long|", 2000) + " ", "DELETE /base%2F/" + strings.Repeat("long|", 2000) + " "},
		{"GET //" + strings.Repeat("long|", 2000) + " ", "GET //" + strings.Repeat("long|", 2000) + " ", "GET /base%2F//" + strings.Repeat("long|", 2000) + " "},
	}
	for _, c := range cases {
		for front, want := range map[string]string{address: c.want, based: c.based} {
			res, body := send(t, front, "GET", c.line+"HTTP/1.1\r\nHost: example.com\r\n\r\n")
			if res.StatusCode != 200 || body != "ok" {
				t.Errorf("%s: %d %q", c.line, res.StatusCode, body)
				continue
			}
			if line, _, _ := strings.Cut(<-service.heads, "\r\n"); line != want+"HTTP/1.1" {
				t.Errorf("%s\ngot  %s\nwant %s", c.line, line, want)
			}
		}
	}
}

func TestHeaderIsExact(t *testing.T) {
	service := record(t, "HTTP/1.1 200 OK\r\nConnection: X-Hop\r\nX-Hop: 1\r\nX-Two: a\r\nX-Two: b\r\nContent-Length: 7\r\nKeep-Alive: timeout=5\r\n\r\n<html/>")
	address := front(t, passTo(t, "http://"+service.Addr().String()))
	res, _ := send(t, address, "GET", "GET /x HTTP/1.1\r\nHost: Client.Example:81\r\nOrigin: http://Client.Example:81\r\nX-Two: a\r\nX-Two: b\r\n"+
		"Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nTE: trailers, gzip\r\nProxy-Connection: x\r\nForwarded: for=a\r\nCookie: a=1; b=2\r\nX-Empty:\r\n\r\n")
	want := "GET /x HTTP/1.1\r\nHost: Client.Example:81\r\nCookie: a=1; b=2\r\nForwarded: for=a\r\nOrigin: http://Client.Example:81\r\nTe: trailers\r\n" +
		"X-Empty: \r\nX-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Host: Client.Example:81\r\nX-Forwarded-Proto: http\r\nX-Two: a\r\nX-Two: b\r\n\r\n"
	if got := <-service.heads; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	res.Header.Del("Date")
	if got := fmt.Sprint(res.Header); got != "map[Content-Length:[7] X-Two:[a b]]" {
		t.Errorf("answer %s", got)
	}
}

// Servers that compare bytes know the names of RFC 6455 only.
func TestUpgradeIsSpelledAsItsRFC(t *testing.T) {
	service := record(t, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
	address := front(t, passTo(t, "http://"+service.Addr().String()))
	send(t, address, "GET", "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: a2V5\r\n"+
		"sec-websocket-version: 13\r\nSEC-WEBSOCKET-PROTOCOL: x\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n")
	got := <-service.heads
	for _, want := range []string{"Sec-WebSocket-Key: a2V5", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Protocol: x", "Sec-WebSocket-Extensions: permessage-deflate"} {
		if strings.Count(got, "\r\n"+want+"\r\n") != 1 {
			t.Errorf("%s is not there: %s", want, got)
		}
	}
}

// HTTP/2 in clear is offered to this hop alone, with whatever else; the request arrives as one that asks for nothing, or for the rest.
func TestHTTP2IsNotOfferedOnwards(t *testing.T) {
	for name, c := range map[string]struct{ sent, want string }{
		"Java's HttpClient":  {"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAA\r\n", ""},
		"not named":          {"Connection: upgrade\r\nUpgrade: H2C\r\nHTTP2-Settings: AAEAAEAA\r\n", ""},
		"among others":       {"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c ,tcp\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAA\r\n", "tcp"},
		"another":            {"Connection: Upgrade\r\nUpgrade: tcp\r\n", "tcp"},
		"with a body":        {"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAA\r\nContent-Length: 1\r\n", ""},
		"no upgrade at all":  {"Upgrade: h2c\r\n", ""},
		"a WebSocket before": {"Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n", "websocket"},
	} {
		service := record(t, ok)
		text := "GET /x HTTP/1.1\r\nHost: a\r\n" + c.sent + "\r\n"
		if strings.Contains(c.sent, "Content-Length") {
			text = strings.Replace(text, "GET", "POST", 1) + "y"
		}
		res, _ := send(t, front(t, passTo(t, "http://"+service.Addr().String())), "GET", text)
		head := <-service.heads
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(head)))
		if err != nil {
			t.Fatal(name, err)
		}
		if got := r.Header.Get("Upgrade"); got != c.want || (r.Header.Get("Connection") != "") != (c.want != "") || r.Header.Get("Http2-Settings") != "" || res.StatusCode != 200 {
			t.Errorf("%s: %d to %q", name, res.StatusCode, head)
		}
	}
}

// So do old clients.
func TestSwitchIsSpelledAsItsRFC(t *testing.T) {
	service := record(t, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\nsec-websocket-protocol: y\r\n\r\n")
	c := dial(t, front(t, passTo(t, "http://"+service.Addr().String())))
	io.WriteString(c, "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: a2V5\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: y\r\n\r\n")
	got, err := readHead(bufio.NewReader(c))
	if err != nil || !strings.Contains(got, "101 Switching Protocols\r\n") || strings.Count(got, "\r\nSec-WebSocket-Accept: x\r\n") != 1 || strings.Count(got, "\r\nSec-WebSocket-Protocol: y\r\n") != 1 || strings.Contains(got, "Websocket") {
		t.Errorf("%q, %v", got, err)
	}
}

func TestForwardedHeaders(t *testing.T) {
	service := record(t, ok)
	address := front(t, passTo(t, "http://"+service.Addr().String()))
	cases := []struct {
		sent string
		want []string
	}{
		{"X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 2.2.2.2, 3.3.3.3\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: public\r\n",
			[]string{"X-Forwarded-For: 1.1.1.1, 2.2.2.2, 3.3.3.3, 127.0.0.1", "X-Forwarded-Host: public", "X-Forwarded-Proto: https"}},
		{"", []string{"X-Forwarded-For: 127.0.0.1", "X-Forwarded-Host: h", "X-Forwarded-Proto: http"}},
		// A client cannot have them taken out by calling them its hop's.
		{"Connection: X-Forwarded-For, X-Forwarded-Proto\r\nX-Forwarded-For: 1.1.1.1\r\nX-Forwarded-Proto: https\r\n",
			[]string{"X-Forwarded-For: 127.0.0.1", "X-Forwarded-Host: h", "X-Forwarded-Proto: http"}},
	}
	for _, c := range cases {
		send(t, address, "GET", "GET / HTTP/1.1\r\nHost: h\r\n"+c.sent+"\r\n")
		lines := strings.Split(strings.TrimSpace(<-service.heads), "\r\n")
		if got := lines[2:]; !slices.Equal(got, c.want) {
			t.Errorf("sent %q\ngot  %q\nwant %q", c.sent, got, c.want)
		}
	}
}

func TestForwardedProtoOverTLS(t *testing.T) {
	service := record(t, ok)
	p := passTo(t, "http://"+service.Addr().String())
	defer p.Close()
	server := httptest.NewTLSServer(p)
	defer server.Close()
	res, err := server.Client().Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if head := <-service.heads; !strings.Contains(head, "X-Forwarded-Proto: https\r\n") {
		t.Errorf("got\n%s", head)
	}
}

func TestHTTP10ClientWithoutHost(t *testing.T) {
	service := record(t, ok)
	address := front(t, passTo(t, "http://"+service.Addr().String()))
	res, body := send(t, address, "GET", "GET / HTTP/1.0\r\n\r\n")
	if head := <-service.heads; strings.Contains(head, "X-Forwarded-Host") || res.StatusCode != 200 || body != "ok" {
		t.Errorf("%s %d %q", head, res.StatusCode, body)
	}
}

func TestConnectIsRefused(t *testing.T) {
	address := front(t, passTo(t, "http://127.0.0.1:1"))
	for _, target := range []string{"example.com:443", "/path"} {
		res, _ := send(t, address, "GET", "CONNECT "+target+" HTTP/1.1\r\nHost: example.com\r\n\r\n")
		if res.StatusCode != http.StatusNotImplemented {
			t.Errorf("%s: %d", target, res.StatusCode)
		}
	}
}

func TestRedirectsAndCompressionAreTheClients(t *testing.T) {
	service := legacy(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/zip" && r.Header.Get("Accept-Encoding") == "gzip" {
			w.Header().Set("Content-Encoding", "gzip")
			io.WriteString(w, "not unzipped")
			return
		}
		http.Redirect(w, r, "/zip", http.StatusFound)
	})
	address := front(t, passTo(t, service))
	res, _ := send(t, address, "GET", "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	if res.StatusCode != http.StatusFound || res.Header.Get("Location") != "/zip" {
		t.Errorf("%d to %q", res.StatusCode, res.Header.Get("Location"))
	}
	res, body := send(t, address, "GET", "GET /zip HTTP/1.1\r\nHost: h\r\nAccept-Encoding: gzip\r\n\r\n")
	if res.Header.Get("Content-Encoding") != "gzip" || body != "not unzipped" {
		t.Errorf("%v %q", res.Header, body)
	}
}

// An echo, line by line: each line arrives before the next is sent, in both directions.
func TestBodiesStreamBothWays(t *testing.T) {
	service := legacy(t, func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		if r.ProtoMajor != 1 || rc.EnableFullDuplex() != nil {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		rc.Flush()
		for in := bufio.NewScanner(r.Body); in.Scan(); {
			fmt.Fprintf(w, "%s!\n", in.Text())
			rc.Flush()
		}
	})
	address := front(t, passTo(t, service))
	for name, client := range map[string]*http.Client{"HTTP/1.1": {Transport: &http.Transport{}}, "h2c": {Transport: h2cTransport()}} {
		t.Run(name, func(t *testing.T) {
			defer client.CloseIdleConnections()
			body, lines := io.Pipe()
			defer lines.Close()
			res, err := client.Post("http://"+address+"/echo", "text/plain", body)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			in := bufio.NewReader(res.Body)
			for i := range 100 {
				fmt.Fprintf(lines, "line %d\n", i)
				if got, err := in.ReadString('\n'); err != nil || got != fmt.Sprintf("line %d!\n", i) {
					t.Fatalf("%d: %q, %v", i, got, err)
				}
			}
			lines.Close()
			if rest, err := io.ReadAll(in); err != nil || len(rest) > 0 {
				t.Errorf("%q, %v after the end", rest, err)
			}
		})
	}
}

func h2cTransport() *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Transport{Protocols: protocols}
}

func TestDownloadHeadComesBeforeTheBody(t *testing.T) {
	goOn := make(chan struct{})
	service := legacy(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "4")
		w.(http.Flusher).Flush()
		<-goOn
		io.WriteString(w, "late")
	})
	res, err := http.Get("http://" + front(t, passTo(t, service)))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	close(goOn)
	if body, err := io.ReadAll(res.Body); err != nil || string(body) != "late" || res.ContentLength != 4 {
		t.Errorf("%q, %v", body, err)
	}
}

func TestTrailers(t *testing.T) {
	service := legacy(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		w.Header().Set("Trailer", "X-Sum")
		fmt.Fprintf(w, "%s %v %s %s", body, err, r.Trailer.Get("X-Told"), r.Trailer.Get("X-Untold"))
		w.Header().Set("X-Sum", "1")
		w.Header().Set(http.TrailerPrefix+"X-Late", "2")
	})
	address := front(t, passTo(t, service))
	for _, method := range []string{"POST", "GET"} {
		res, body := send(t, address, "GET", method+" / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: X-Told\r\n\r\n3\r\nabc\r\n0\r\nX-Told: a\r\nX-Untold: b\r\n\r\n")
		if body != "abc <nil> a " { // what was not announced is dropped
			t.Errorf("%s: the service saw %q", method, body)
		}
		if res.Trailer.Get("X-Sum") != "1" || res.Trailer.Get("X-Late") != "2" {
			t.Errorf("%s: the client saw %v", method, res.Trailer)
		}
	}
}

// TestTrailersDoNotFrameOrAuthenticate: what a head alone may say goes nowhere as a trailer, announced or not.
func TestTrailersDoNotFrameOrAuthenticate(t *testing.T) {
	service := legacy(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, r.Trailer)
	})
	address := front(t, passTo(t, service))
	for _, name := range []string{"Authorization", "Cookie", "Host", "X-Forwarded-For", "Content-Type", "X-Real-IP", "Forwarded", "Proxy-Authorization", "If-Match", "Via"} {
		for _, told := range []string{"X-Sum, " + name, "X-Sum"} {
			_, body := send(t, address, "POST", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: "+told+"\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n"+name+": evil\r\n\r\n")
			if body != "map[X-Sum:[1]]" {
				t.Errorf("%s, announced %s: the service saw %s", name, told, body)
			}
		}
	}
}

func TestExpectContinue(t *testing.T) {
	service := legacy(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/no" {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
			return
		}
		io.Copy(w, r.Body) // this is what says 100
	})
	address := front(t, passTo(t, service))
	for path, want := range map[string]string{"/yes": "HTTP/1.1 100 Continue\r\n\r\n", "/no": "HTTP/1.1 413 Request Entity Too Large\r\n"} {
		c := dial(t, address)
		fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n", path)
		got := make([]byte, len(want))
		if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
			t.Fatalf("%s: %q, %v", path, got, err)
		}
		if path == "/no" {
			continue
		}
		io.WriteString(c, "body")
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(res.Body); string(body) != "body" || err != nil {
			t.Errorf("%q, %v", body, err)
		}
	}
}

func TestEarlyHints(t *testing.T) {
	service := legacy(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</style.css>")
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusNoContent)
	})
	p := passTo(t, service)
	p.Answer = func(r *http.Request, h http.Header) { h.Add("Vary", "Accept "+r.URL.Path) }
	var hints []string
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		hints = append(hints, fmt.Sprint(code, h.Get("Link")))
		return nil
	}})
	req, _ := http.NewRequestWithContext(ctx, "GET", "http://"+front(t, p)+"/x", nil)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if !slices.Equal(hints, []string{"103</style.css>"}) || res.StatusCode != 204 || res.Header.Get("Vary") != "Accept /x" {
		t.Errorf("%v, then %d %v", hints, res.StatusCode, res.Header)
	}
}

// lockedBuffer takes log lines of several goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// A service that is down is a 502 that says nothing about it, and one line in the log until it is back.
func TestServiceDown(t *testing.T) {
	var refuse atomic.Bool
	refuse.Store(true)
	service := legacy(t, func(w http.ResponseWriter, r *http.Request) {
		if refuse.Load() {
			panic(http.ErrAbortHandler)
		}
	})
	var lines lockedBuffer
	p := passTo(t, service)
	p.log = slog.New(slog.NewTextHandler(&lines, nil))
	p.Answer = func(_ *http.Request, h http.Header) { h.Add("Vary", "Accept") }
	address := front(t, p)
	for range 3 {
		res, body := send(t, address, "GET", "GET /secret?secret HTTP/1.1\r\nHost: h\r\nAuthorization: secret\r\n\r\n")
		if res.StatusCode != http.StatusBadGateway || res.Header.Get("Vary") != "Accept" || body != "the service behind this address does not answer\n" {
			t.Errorf("%d %q", res.StatusCode, body)
		}
	}
	refuse.Store(false)
	for range 3 {
		if res, _ := send(t, address, "GET", "GET / HTTP/1.1\r\nHost: h\r\n\r\n"); res.StatusCode != 200 {
			t.Errorf("%d", res.StatusCode)
		}
	}
	got := lines.String()
	if strings.Count(got, "\n") != 2 || strings.Count(got, "level=WARN") != 1 || !strings.Contains(got, "works again") || strings.Contains(got, "secret") {
		t.Errorf("log\n%s", got)
	}
}

func TestNothingListens(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	res, body := send(t, front(t, passTo(t, "http://"+listener.Addr().String())), "GET", "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	if res.StatusCode != http.StatusBadGateway || strings.Contains(body, "127.0.0.1") {
		t.Errorf("%d %q", res.StatusCode, body)
	}
}

// A service that breaks off is passed on as that, not as an end.
func TestBrokenAnswer(t *testing.T) {
	service := legacy(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "half")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	res, err := http.Get("http://" + front(t, passTo(t, service)))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, err := io.ReadAll(res.Body); string(body) != "half" || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%q, %v", body, err)
	}
}

func TestBrokenRequestIsNotTheServicesFault(t *testing.T) {
	service := legacy(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) })
	p := passTo(t, service)
	res, _ := send(t, front(t, p), "GET", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nnot a chunk\r\n")
	if res.StatusCode != http.StatusBadRequest || p.down.Load() {
		t.Errorf("%d, down %v", res.StatusCode, p.down.Load())
	}
}

func TestGoneClientEndsTheRequestSilently(t *testing.T) {
	arrived, ended := make(chan struct{}), make(chan struct{})
	service := legacy(t, func(w http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
		close(ended)
	})
	var lines lockedBuffer
	p := passTo(t, service)
	p.log = slog.New(slog.NewTextHandler(&lines, &slog.HandlerOptions{Level: slog.LevelDebug}))
	c := dial(t, front(t, p))
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	<-arrived
	c.Close()
	<-ended
	if got := lines.String(); got != "" || p.down.Load() {
		t.Errorf("down %v, log\n%s", p.down.Load(), got)
	}
}

// socket is a WebSocket service that tells the Host and Origin it saw, then sends back what it is told.
func socket(t *testing.T) string {
	return legacy(t, func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil) // checks Origin against Host
		if err != nil {
			return
		}
		defer c.CloseNow()
		c.Write(r.Context(), websocket.MessageText, []byte(r.Host+" "+r.Header.Get("Origin")))
		for {
			kind, data, err := c.Read(r.Context())
			if err != nil || c.Write(r.Context(), kind, data) != nil {
				return
			}
		}
	})
}

func openSocket(t *testing.T, address string) *websocket.Conn {
	t.Helper()
	c, _, err := websocket.Dial(t.Context(), "ws://"+address+"/feed?x=1;y=2", &websocket.DialOptions{
		Host: "public.example:8443", HTTPHeader: http.Header{"Origin": {"https://public.example:8443"}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.CloseNow() })
	if _, first, err := c.Read(t.Context()); err != nil || string(first) != "public.example:8443 https://public.example:8443" {
		t.Fatalf("%q, %v", first, err)
	}
	return c
}

func TestWebSocket(t *testing.T) {
	closed := make(chan string, 1)
	p := passTo(t, socket(t))
	p.Upgraded = func(r *http.Request) func() { return func() { closed <- r.URL.Path } }
	c := openSocket(t, front(t, p))
	if p.Open() != 1 {
		t.Errorf("%d open", p.Open())
	}
	for kind, data := range map[websocket.MessageType][]byte{
		websocket.MessageText: []byte("text"), websocket.MessageBinary: bytes.Repeat([]byte{0, 0xff, '\r', '\n'}, 5000)} {
		if err := c.Write(t.Context(), kind, data); err != nil {
			t.Fatal(err)
		}
		gotKind, got, err := c.Read(t.Context())
		if err != nil || gotKind != kind || !bytes.Equal(got, data) {
			t.Errorf("%v: %v, %d bytes, %v", kind, gotKind, len(got), err)
		}
	}
	if err := c.Close(websocket.StatusNormalClosure, "bye"); err != nil {
		t.Errorf("the close handshake did not pass: %v", err)
	}
	if path := <-closed; path != "/feed" {
		t.Errorf("closed %q", path)
	}
}

func TestRefusedUpgradeIsAnOrdinaryAnswer(t *testing.T) {
	p := passTo(t, legacy(t, func(w http.ResponseWriter, r *http.Request) { http.Error(w, "no", http.StatusForbidden) }))
	p.Upgraded = func(*http.Request) func() { t.Error("counted"); return func() {} }
	res, body := send(t, front(t, p), "GET", "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	if res.StatusCode != http.StatusForbidden || body != "no\n" || p.Open() != 0 {
		t.Errorf("%d %q, %d open", res.StatusCode, body, p.Open())
	}
}

// Close cuts upgraded connections and waits for them; ordinary requests go on.
func TestClose(t *testing.T) {
	p := passTo(t, socket(t))
	var closed atomic.Int64
	p.Upgraded = func(*http.Request) func() { return func() { closed.Add(1) } }
	address := front(t, p)
	first, second := openSocket(t, address), openSocket(t, address)
	p.Close()
	if p.Open() != 0 || closed.Load() != 2 {
		t.Errorf("%d open, %d closed", p.Open(), closed.Load())
	}
	for _, c := range []*websocket.Conn{first, second} {
		if _, _, err := c.Read(t.Context()); err == nil {
			t.Error("still open")
		}
	}
	res, _ := send(t, address, "GET", "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	if res.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("upgrade after Close: %d", res.StatusCode)
	}
	if res, _ := send(t, address, "GET", "GET / HTTP/1.1\r\nHost: h\r\n\r\n"); res.StatusCode != http.StatusUpgradeRequired {
		t.Errorf("request after Close: %d", res.StatusCode)
	}
}

func TestCloseLetsRequestsFinish(t *testing.T) {
	arrived, goOn := make(chan struct{}), make(chan struct{})
	p := passTo(t, legacy(t, func(w http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-goOn
		io.WriteString(w, "done")
	}))
	c := dial(t, front(t, p))
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	<-arrived
	p.Close()
	close(goOn)
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(res.Body); string(body) != "done" || err != nil {
		t.Errorf("%q, %v", body, err)
	}
}

// Half a connection may end before the other.
func TestUpgradeHalfClose(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	var service sync.WaitGroup
	defer service.Wait()
	service.Go(func() { // until the client's half has ended
		c, err := listener.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		in := bufio.NewReader(c)
		if _, err := readHead(in); err != nil {
			return
		}
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
		all, _ := io.ReadAll(in)
		c.Write(bytes.ToUpper(all))
	})
	c := dial(t, front(t, passTo(t, "http://"+listener.Addr().String())))
	io.WriteString(c, "GET //a|b HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
	in := bufio.NewReader(c)
	if head, err := readHead(in); err != nil || !strings.HasPrefix(head, "HTTP/1.1 101 ") {
		t.Fatalf("%q, %v", head, err)
	}
	io.WriteString(c, "some and more")
	c.(*net.TCPConn).CloseWrite()
	if rest, err := io.ReadAll(in); string(rest) != "SOME AND MORE" || err != nil {
		t.Errorf("%q, %v", rest, err)
	}
}

func TestTLSService(t *testing.T) {
	service := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Proto, " ", r.RequestURI)
	}))
	defer service.Close()
	p := passTo(t, service.URL)
	p.transport.Trust = outbound.NewTrust(outbound.Keys{Roots: []*x509.Certificate{service.Certificate()}}, "", "", nil)
	address := front(t, p)
	for _, target := range []string{"//a|b", "/a|b", "//c"} {
		res, body := send(t, address, "GET", "GET "+target+" HTTP/1.1\r\nHost: h\r\n\r\n")
		if res.StatusCode != 200 || body != "HTTP/1.1 "+target {
			t.Errorf("%s: %d %q", target, res.StatusCode, body)
		}
	}
}

// TestABodyThatNobodyReads is no panic of net/http's, which looks for its end once the connection is not watched any more: the answer is
// whole, and the connection ends with it.
func TestABodyThatNobodyReads(t *testing.T) {
	var log lockedBuffer
	c := configure(t, "SSE_UPSTREAM=http://127.0.0.1:9")
	s := serveWith(t, c, slog.New(slog.NewTextHandler(&log, nil)))
	for _, body := range []string{"Content-Length: 3\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"} {
		for range 5 {
			conn := dial(t, s.addr)
			io.WriteString(conn, "POST / HTTP/1.1\r\nHost: h\r\n"+body+"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
			in := bufio.NewReader(conn)
			res, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatal(err)
			}
			said, err := io.ReadAll(res.Body)
			if err != nil || res.StatusCode != http.StatusBadGateway || len(said) == 0 {
				t.Errorf("answered %s, %q, %v", res.Status, said, err)
			}
			if !res.Close {
				t.Error("the connection is to go on")
			}
			if _, err := in.ReadByte(); err != io.EOF {
				t.Errorf("after the answer: %v", err)
			}
		}
	}
	s.server.Close()
	if strings.Contains(log.String(), "level=ERROR") {
		t.Errorf("it was logged: %s", log.String())
	}
}
