package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"sidestream/e2e/page"
)

// goesOn sends a POST for tunnel 1 whose body is what is written to in. The status comes when it is answered, 0 for no answer.
func goesOn(t *testing.T, p *page.Page, header string) (in *io.PipeWriter, status chan int) {
	t.Helper()
	body, in := io.Pipe()
	r, err := http.NewRequestWithContext(within(t), "POST", p.Base+"/_sidestream/tunnel/socket", body)
	if err != nil {
		t.Fatal(err)
	}
	status = make(chan int, 1)
	go func() { // ends with the test's context
		resp, err := p.Client.Do(r)
		if err != nil {
			status <- 0
			return
		}
		resp.Body.Close()
		status <- resp.StatusCode
	}()
	t.Cleanup(func() { in.Close() })
	fmt.Fprintf(in, `{"page":%q,"tunnel":1,%s}`+"\n", p.ID, header)
	return in, status
}

func answered(t *testing.T, status chan int, want int) {
	t.Helper()
	select {
	case got := <-status:
		if got != want {
			t.Errorf("answered with %d, want %d", got, want)
		}
	case <-time.After(time.Minute):
		t.Fatalf("not answered, want %d", want)
	}
}

// A POST whose body goes on, by whatever it comes: what is in it arrives at once, the sidecar ends it when it drains, and nothing of it keeps the
// server from ending.
func TestTunnelStreams(t *testing.T) {
	for name, protocols := range map[string]func(*http.Protocols){
		"HTTP/1.1":          func(p *http.Protocols) { p.SetHTTP1(true) },
		"HTTP/2 in clear":   func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) },
		"HTTP/2 over TLS":   func(p *http.Protocols) { p.SetHTTP2(true) },
		"HTTP/1.1 over TLS": func(p *http.Protocols) { p.SetHTTP1(true) },
	} {
		t.Run(name, func(t *testing.T) {
			up := newPeers(t)
			env, scheme := tunnelEnv(up, "SSE_DRAIN=1s"), "http"
			if strings.HasSuffix(name, "TLS") {
				cert, key := keyPair(t, "sidecar")
				env, scheme = append(env, "SSE_TLS_CERT="+cert, "SSE_TLS_KEY="+key), "https"
			}
			s := serve(t, env...)
			p := s.begin(t, func(p *page.Page) {
				p.Base = scheme + "://" + s.addr
				tr := p.Client.Transport.(*http.Transport)
				tr.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
				tr.Protocols = new(http.Protocols)
				protocols(tr.Protocols)
			})
			ws := openTunnel(t, p, 1, "/socket")
			in, status := goesOn(t, p, `"seq":1,"stream":1`)
			for n, one := range []string{"t5\nhello", "b1\nx", "t0\n"} {
				io.WriteString(in, one)
				if got := receive(t, ws); fmt.Sprint(got) != []string{"{false hello}", "{true x}", "{false }"}[n] {
					t.Errorf("%+v", got)
				}
			}
			next, replaces := goesOn(t, p, `"seq":4,"stream":2`)
			answered(t, status, http.StatusConflict)
			io.WriteString(next, "t5\nagain")
			if got := receive(t, ws); got.Data != "again" {
				t.Errorf("%+v", got)
			}
			io.WriteString(next, "t5\nha")
			go s.Drain(time.Minute) // ends with the page's client
			answered(t, replaces, http.StatusServiceUnavailable)
			_, refused := goesOn(t, p, `"seq":5,"stream":3`)
			answered(t, refused, http.StatusServiceUnavailable)
			ws.Send(page.Message{Data: "again"}) // the first four, by another POST; the last is new
			for range 4 {
				ws.Send(page.Message{Data: "later"})
			}
			if got := receive(t, ws); got.Data != "later" {
				t.Errorf("%+v", got)
			}
			p.End()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			p.Client.CloseIdleConnections()
			if err := s.server.Shutdown(ctx); err != nil {
				t.Errorf("the server does not end: %v", err)
			}
		})
	}
}

// What is left of one that is answered is not waited for.
func TestTunnelStreamIsLeft(t *testing.T) {
	up := newPeers(t)
	s := serve(t, tunnelEnv(up)...)
	openTunnel(t, s.begin(t, nil), 1, "/socket")
	for _, c := range []struct {
		frame  string
		status int
	}{{"x", 400}, {"", 409}} {
		text := frames(`{"page":"`+pageID+`","tunnel":1,"seq":1,"stream":1}`) + c.frame
		r := s.ask(t, "POST /_sidestream/tunnel/socket HTTP/1.1", fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s", len(text)+4, text)) // ask ends with two lines
		if r.StatusCode != c.status {
			t.Errorf("%q: %d, want %d", c.frame, r.StatusCode, c.status)
		}
		io.Copy(io.Discard, r.Body)
		if _, err := r.raw.ReadByte(); err != io.EOF && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%q: the connection stays: %v", c.frame, err)
		}
	}
}

// It is admitted as other POSTs are.
func TestTunnelStreamsOfOthers(t *testing.T) {
	up := newPeers(t)
	s := serve(t, tunnelEnv(up, "SSE_CORS_ORIGINS=https://app.example")...)
	openTunnel(t, s.begin(t, func(p *page.Page) { p.Header = http.Header{"Cookie": {"u=1"}} }), 1, "/socket")
	body := frames(`{"page":"`+pageID+`","tunnel":1,"seq":1,"stream":1}`, "ta")
	for _, c := range []struct {
		head   []string
		status int
	}{
		{nil, 404}, {[]string{"Cookie: u=2"}, 404}, {[]string{"Cookie: u=1", "Origin: https://evil.example"}, 403},
		{[]string{"Cookie: u=1", "Origin: https://app.example"}, 204}, {[]string{"Cookie: u=1"}, 409},
	} {
		r := s.ask(t, "POST /_sidestream/tunnel/socket HTTP/1.1", append(c.head, fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body))...)
		if r.StatusCode != c.status {
			t.Errorf("%q: %d, want %d", c.head, r.StatusCode, c.status)
		}
		// A page of another origin hears which version of HTTP it has come by.
		if got, want := r.Header.Get("Timing-Allow-Origin"), r.Header.Get("Access-Control-Allow-Origin"); got != want {
			t.Errorf("%q: %q, want %q", c.head, got, want)
		}
	}
}
