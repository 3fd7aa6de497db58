//go:build e2e

package e2e

import (
	"bufio"
	"compress/gzip"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"sidestream/e2e/page"
)

// The clients here read event streams over TLS with HTTP/1.1, and 1.0, of a sidecar that has no goroutine for them.

// dataOf returns the data of the events that are in, but for the sidecar's own; it is closed when in ends.
func dataOf(in io.Reader) chan string {
	data := make(chan string, 1000)
	go func() { // ends with in
		defer close(data)
		lines := bufio.NewScanner(in)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			if text, ok := strings.CutPrefix(strings.TrimSuffix(lines.Text(), "\r"), "data: "); ok && text != "{}" {
				data <- text
			}
		}
		io.Copy(io.Discard, in)
	}()
	return data
}

// expect waits for the next event, which must have this data.
func expect(t *testing.T, data chan string, want string) {
	t.Helper()
	select {
	case got, ok := <-data:
		if got != want {
			t.Fatalf("got %.100q (of a client that goes on: %v), want %.100q", got, ok, want)
		}
	case <-time.After(patience):
		t.Fatalf("waited in vain for %.100q", want)
	}
}

// secureSidecar runs a sidecar with TLS in front of f. It returns the path of its certificate, too.
func secureSidecar(t *testing.T, f *feed, env ...string) (s *sidecar, cert string) {
	t.Helper()
	pair := keyPair(t)
	for _, setting := range pair {
		if path, ok := strings.CutPrefix(setting, "SSE_TLS_CERT="); ok {
			cert = path
		}
	}
	return startSidecar(t, append(append(feedEnv(f), pair...), env...)...), cert
}

// writers are how many clients what writes.
func (s *sidecar) writers(t *testing.T, name string) float64 {
	t.Helper()
	return metric(t, s, `sidestream_clients_by_writer{writer="`+name+`"}`)
}

// program starts one that reads /ticks, and returns its events.
func program(t *testing.T, env []string, name string, args ...string) (*process, chan string) {
	t.Helper()
	read, write := io.Pipe()
	data := dataOf(read)
	return launchTo(t, write, env, name, args...), data
}

func curl(t *testing.T, s *sidecar, cert string, args ...string) (*process, chan string) {
	t.Helper()
	return program(t, nil, "curl", append([]string{"-sSN", "--cacert", cert, "-H", "Accept: text/event-stream", "https://" + s.addr + "/ticks"}, args...)...)
}

// sClient starts openssl s_client with these options, which asks for /ticks. What is written to its standard input goes to the sidecar, but for lines that begin
// with a command of its own.
func sClient(t *testing.T, s *sidecar, args ...string) (io.Writer, *process, chan string) {
	t.Helper()
	read, write := io.Pipe()
	data := dataOf(read)
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); out.Close() })
	p := launchInto(t, in, write, nil, "openssl", append([]string{"s_client", "-connect", s.addr}, args...)...)
	fmt.Fprint(out, "GET /ticks HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n")
	return out, p, data
}

func goClient(t *testing.T, s *sidecar, version uint16, encoding string) chan string {
	t.Helper()
	transport := &http.Transport{DisableCompression: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version}}
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+s.addr+"/ticks", nil)
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Accept-Encoding", encoding)
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if resp.ProtoMajor != 1 || resp.TLS.Version != version || (resp.Header.Get("Content-Encoding") == "gzip") != (encoding == "gzip") {
		t.Fatalf("%s, TLS %x, %v", resp.Proto, resp.TLS.Version, resp.Header)
	}
	if encoding == "gzip" {
		body, err := gzip.NewReader(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return dataOf(body)
	}
	return dataOf(resp.Body)
}

// node starts one of clients/client.mjs.
func node(t *testing.T, s *sidecar, cert, kind string) chan string {
	t.Helper()
	read, write := io.Pipe()
	data := make(chan string, 1000)
	go func() { // ends with the process
		defer close(data)
		for lines := bufio.NewScanner(read); lines.Scan(); {
			var one seen
			if json.Unmarshal(lines.Bytes(), &one) == nil && one.Saw == "message" && one.Event != "stream.open" {
				data <- one.Data
			}
		}
	}()
	launchTo(t, write, []string{"NODE_EXTRA_CA_CERTS=" + cert}, "node", "clients/client.mjs", kind, "https://"+s.addr+"/ticks")
	return data
}

// through is what a proxy passes on that asks the sidecar over TLS.
func through(t *testing.T, front, encoding string) chan string {
	t.Helper()
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+front+"/ticks", nil)
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Accept-Encoding", encoding)
	resp, err := (&http.Transport{DisableCompression: true}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return dataOf(resp.Body)
}

// TestTLSClients: each gets each event before the next one is sent, a burst whole and in order, and a clean end, from a shard.
func TestTLSClients(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(t *testing.T, s *sidecar, cert string) chan string{
		"curl 1.2": func(t *testing.T, s *sidecar, cert string) chan string {
			_, data := curl(t, s, cert, "--http1.1", "--tls-max", "1.2")
			return data
		},
		"curl 1.3": func(t *testing.T, s *sidecar, cert string) chan string {
			_, data := curl(t, s, cert, "--http1.1", "--tlsv1.3")
			return data
		},
		"curl 1.3, gzip": func(t *testing.T, s *sidecar, cert string) chan string {
			_, data := curl(t, s, cert, "--http1.1", "--tlsv1.3", "--compressed")
			return data
		},
		"curl, HTTP/1.0": func(t *testing.T, s *sidecar, cert string) chan string {
			_, data := curl(t, s, cert, "--http1.0", "--no-alpn")
			return data
		},
		"s_client 1.2": func(t *testing.T, s *sidecar, _ string) chan string {
			_, _, data := sClient(t, s, "-tls1_2")
			return data
		},
		"s_client 1.2, CBC": func(t *testing.T, s *sidecar, _ string) chan string {
			_, _, data := sClient(t, s, "-tls1_2", "-cipher", "ECDHE-RSA-AES128-SHA")
			return data
		},
		"s_client 1.3": func(t *testing.T, s *sidecar, _ string) chan string {
			_, _, data := sClient(t, s, "-tls1_3")
			return data
		},
		"Go 1.2": func(t *testing.T, s *sidecar, _ string) chan string {
			return goClient(t, s, tls.VersionTLS12, "identity")
		},
		"Go 1.3, gzip":      func(t *testing.T, s *sidecar, _ string) chan string { return goClient(t, s, tls.VersionTLS13, "gzip") },
		"Node, EventSource": func(t *testing.T, s *sidecar, cert string) chan string { return node(t, s, cert, "eventsource") },
		"Node, polyfill":    func(t *testing.T, s *sidecar, cert string) chan string { return node(t, s, cert, "polyfill") },
		"Node, fetch":       func(t *testing.T, s *sidecar, cert string) chan string { return node(t, s, cert, "fetch") },
		"nginx": func(t *testing.T, s *sidecar, _ string) chan string {
			return through(t, runNginx(t, "", "proxy_pass https://"+s.addr+"; proxy_buffering off; proxy_http_version 1.1; proxy_set_header Connection '';"), "identity")
		},
		"nginx, HTTP/1.0": func(t *testing.T, s *sidecar, _ string) chan string {
			return through(t, runNginx(t, "", "proxy_pass https://"+s.addr+";"), "identity")
		},
		"HAProxy": func(t *testing.T, s *sidecar, _ string) chan string {
			return through(t, startHAProxy(t, s.addr+" ssl verify none"), "identity")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := startFeed(t, nil)
			s, cert := secureSidecar(t, f, "SSE_COMPRESS=gzip")
			data := start(t, s, cert)
			eventually(t, "it is a shard's", func() bool { return s.writers(t, "shard") == 1 && s.writers(t, "goroutine") == 0 })
			for range 5 {
				expect(t, data, f.tick(t))
			}
			var said []string
			for range 100 {
				f.tickLarge(t)
				said = append(said, fmt.Sprintf(`{"n":%d,"pad":%q}`, f.said, strings.Repeat("p", f.said*7919%9000)))
			}
			for _, one := range said {
				expect(t, data, one)
			}
			f.say(t, `{"done":true}`)
			expect(t, data, `{"done":true}`)
			select {
			case more, open := <-data:
				if open {
					t.Errorf("got %q after the end", more)
				}
			case <-time.After(patience):
				t.Error("it does not end")
			}
			eventually(t, "it is gone", func() bool { return s.writers(t, "shard") == 0 })
		})
	}
}

// TestTLSEnds: curl, which tells how TLS ended from how the answer did, sees both end as they should.
func TestTLSEnds(t *testing.T) {
	t.Parallel()
	f := startFeed(t, nil)
	s, cert := secureSidecar(t, f)
	done, data := curl(t, s, cert, "--http1.1")
	expect(t, data, f.tick(t))
	f.say(t, `{"done":true}`)
	if code := done.wait(t); code != 0 {
		t.Errorf("a complete stream ends with %d: %s", code, &done.stderr)
	}
	g := startFeed(t, nil)
	s, cert = secureSidecar(t, g)
	cut, data := curl(t, s, cert, "--http1.1")
	old, ancient := curl(t, s, cert, "--http1.0", "--no-alpn")
	eventually(t, "both are there", func() bool { return s.writers(t, "shard") == 2 })
	said := g.tick(t)
	expect(t, data, said)
	expect(t, ancient, said)
	s.drain(t)
	const partial, failed = 18, 56 // of its manual page: a partial file, a failure in receiving data
	if code := cut.wait(t); code != partial {
		t.Errorf("one that is cut ends with %d: %s", code, &cut.stderr)
	}
	if code := old.wait(t); code != failed {
		t.Errorf("one of HTTP/1.0 that is cut ends with %d: %s", code, &old.stderr)
	}
}

// TestTLSKeyUpdates: openssl has its keys changed, and asks for the sidecar's, while events come; with 1.2 it asks for another handshake, which is refused.
func TestTLSKeyUpdates(t *testing.T) {
	t.Parallel()
	f := startFeed(t, nil)
	s, _ := secureSidecar(t, f)
	in, p, data := sClient(t, s, "-tls1_3")
	expect(t, data, f.tick(t))
	for i := range 16 { // with one more crypto/tls takes it for an attack, unless the client says something meanwhile
		fmt.Fprintln(in, []string{"K", "k"}[i%2]) // asks for the other side's, or not
		eventually(t, "a change of keys", func() bool { return strings.Count(p.stderr.String(), "KEYUPDATE") == i+1 })
		for range 3 {
			expect(t, data, f.tick(t))
		}
	}
	again, refused, others := sClient(t, s, "-tls1_2")
	eventually(t, "both are there", func() bool { return s.writers(t, "shard") == 2 })
	said := f.tick(t)
	expect(t, data, said)
	expect(t, others, said)
	fmt.Fprintln(again, "R")
	if code := refused.wait(t); code == 0 {
		t.Error("another handshake was not refused")
	}
	eventually(t, "it is gone", func() bool { return s.writers(t, "shard") == 1 })
	expect(t, data, f.tick(t))
}

// TestTLSChromium: a page over TLS without HTTP/2, over a restart.
func TestTLSChromium(t *testing.T) {
	t.Parallel()
	b := startChromium(t, chromedp.Flag("disable-http2", true))
	for _, compress := range []string{"off", "gzip"} {
		t.Run(compress, func(t *testing.T) {
			f := startFeed(t, map[string]string{"/watch.html": watchPage})
			s, _ := secureSidecar(t, f, "SSE_RESTART=1s", "SSE_COMPRESS="+compress)
			b.open(t, "https://"+s.addr+"/watch.html")
			v := &tab{browser: b}
			await(t, v, "open")
			for range 20 {
				message(t, v, "tick", f.tick(t))
			}
			if got := b.eval(t, `performance.getEntriesByType("navigation")[0].nextHopProtocol`); got != "http/1.1" {
				t.Errorf("the browser speaks %s", got)
			}
			if n := s.writers(t, "shard"); n != 1 {
				t.Errorf("%v are written to by shards", n)
			}
			s.drain(t)
			await(t, v, "error")
			s.start(t)
			await(t, v, "open")
			message(t, v, "stream.gap", `{"reason":"restart","missed":null}`)
			message(t, v, "tick", f.tick(t))
			f.say(t, `{"done":true}`)
			message(t, v, "done", `{"done":true}`)
			await(t, v, "end")
		})
	}
}

// TestTLSTunnel: a page's event stream over TLS, which is cut again and again.
func TestTLSTunnel(t *testing.T) {
	t.Parallel()
	e := startEcho(t)
	s := startSidecar(t, append(keyPair(t), "SSE_UPSTREAM="+e.URL, "SSE_TUNNEL=/socket", "SSE_DRAIN=100ms")...)
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	t.Cleanup(transport.CloseIdleConnections)
	p := &page.Page{Base: "https://" + s.addr, ID: secretID, Client: &http.Client{Transport: transport}}
	if err := p.Begin(patient(t)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.End)
	ws, err := p.Dial(patient(t), 1, "/socket")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "its stream is a shard's", func() bool { return s.writers(t, "shard") == 1 && s.writers(t, "goroutine") == 0 })
	for i := range 500 {
		ws.Send(page.Message{Data: tunnelled(i).Data})
		if i%100 == 50 {
			p.Cut()
		}
		if got, ok := ws.Receive(patient(t)); !ok || got.Data != tunnelled(i).Data {
			t.Fatalf("message %d: got %.50q, %v", i, got.Data, ok)
		}
	}
}

// TestTLSGoroutines: with SSE_WRITERS=goroutine each client over TLS has one, and gets the same.
func TestTLSGoroutines(t *testing.T) {
	t.Parallel()
	f := startFeed(t, nil)
	s, cert := secureSidecar(t, f, "SSE_WRITERS=goroutine")
	p, data := curl(t, s, cert, "--http1.1")
	eventually(t, "it has a goroutine", func() bool { return s.writers(t, "goroutine") == 1 && s.writers(t, "shard") == 0 })
	for range 5 {
		expect(t, data, f.tick(t))
	}
	f.say(t, `{"done":true}`)
	expect(t, data, `{"done":true}`)
	if code := p.wait(t); code != 0 {
		t.Errorf("ended with %d", code)
	}
}
