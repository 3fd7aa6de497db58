package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"sidestream/proxy/deliver"
	"sidestream/proxy/peer"
)

// serveReplicas serves n replicas as main has them. change, unless it is nil, has the last word on the settings of each.
func serveReplicas(t *testing.T, n int, change func(i int, c *Settings), env ...string) (all []*sidecar) {
	t.Helper()
	where := &places{all: map[string]string{}}
	log := slog.New(slog.DiscardHandler)
	for i := range n {
		l, err := deliver.Listen("127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		c := configure(t, env...)
		c.Peer = &peer.Settings{URL: "http://" + l.Addr().String(), Secrets: []string{peerSecret}}
		c.Directory = place{where, peer.NewID()}
		where.all[c.Directory.Replica()] = c.Peer.URL
		if change != nil {
			change(i, &c)
		}
		s := serveWith(t, c, log)
		served := make(chan struct{})
		go func() { defer close(served); s.server.ServePeers(l) }()
		t.Cleanup(func() { s.server.Close(); <-served })
		all = append(all, s)
	}
	return all
}

// Whatever a client speaks, it is given another replica's stream as it would be given its own, and its end is one that it comes back after.
func TestRelayOverTCP(t *testing.T) {
	t.Parallel()
	up := newPeers(t)
	webkit := []string{"Accept: text/event-stream", "Cache-Control: no-cache", "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.0 Safari/605.1.15"}
	for name, read := range map[string]func(t *testing.T, s *sidecar, path string, cut func()) error{
		"HTTP/1.1": func(t *testing.T, s *sidecar, path string, cut func()) error {
			r := s.get(t, path)
			r.wantData(t, `[0,"page",524288,30000,"`+path[strings.LastIndex(path, "--"):]+`",1]`)
			cut()
			_, err := r.rest()
			return err
		},
		"HTTP/1.0": func(t *testing.T, s *sidecar, path string, cut func()) error {
			r := s.ask(t, "GET "+path+" HTTP/1.0", webkit[:1]...)
			r.next(t)
			cut()
			_, err := r.rest()
			if !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("ended with %v, which a client would take for complete", err)
			}
			return io.ErrUnexpectedEOF
		},
		"HTTP/2": func(t *testing.T, s *sidecar, path string, cut func()) error { return overH2(t, s, path, cut) },
		"HTTP/2 WebKit": func(t *testing.T, s *sidecar, path string, cut func()) error {
			if err := overH2(t, s, path, cut, webkit...); err != io.EOF {
				t.Errorf("ended with %v, which WebKit does not notice", err)
			}
			return io.ErrUnexpectedEOF
		},
	} {
		t.Run(name, func(t *testing.T) {
			all := serveReplicas(t, 2, nil, tunnelEnv(up)...)
			path := "/_sidestream/tunnel?page=" + pageID + "--" + all[0].Peers.Replica()
			err := read(t, all[1], path, func() {
				eventually(t, "it to be counted", func() bool { return all[1].relayed.Load() == 1 })
				if n := all[0].ClientsByWriter(); n[usualWriter] != 1 {
					t.Errorf("written by %v", n)
				}
				go all[0].Drain(0)
			})
			if err == nil || errors.Is(err, io.EOF) {
				t.Errorf("ended with %v, which is complete", err)
			}
			if pages, _ := all[1].Tunnel.Pages.Count(); pages > 0 {
				t.Error("a page that is elsewhere was made here")
			}
			if n := all[0].Peers.Stats.Served[peer.Tunnel].Load(); n != 1 {
				t.Errorf("served %d", n)
			}
		})
	}
}

// overH2 reads one event, calls cut and returns how the stream ends.
func overH2(t *testing.T, s *sidecar, path string, cut func(), head ...string) error {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: protocols}
	defer tr.CloseIdleConnections()
	r, _ := http.NewRequestWithContext(t.Context(), "GET", "http://"+s.addr+path, nil)
	for _, line := range head {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Set(name, value)
	}
	resp, err := tr.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	buf := make([]byte, 1000)
	for text := ""; !strings.Contains(text, "\n\n"); {
		n, err := resp.Body.Read(buf)
		if text += string(buf[:n]); err != nil {
			t.Fatal(text, err)
		}
	}
	cut()
	if _, err = io.Copy(io.Discard, resp.Body); err == nil {
		err = io.EOF
	}
	return err
}

// A client that has left is let go of by both replicas, and holds up nothing.
func TestRelayToAClientThatLeaves(t *testing.T) {
	up := newPeers(t)
	all := serveReplicas(t, 2, nil, tunnelEnv(up)...)
	conn, err := net.Dial("tcp", all[1].addr)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "GET /_sidestream/tunnel?page=%s--%s HTTP/1.1\r\nHost: x\r\n\r\n", pageID, all[0].Peers.Replica())
	eventually(t, "it to be relayed", func() bool { return all[1].relayed.Load() == 1 })
	conn.Close()
	eventually(t, "both to notice", func() bool { return all[1].relayed.Load() == 0 && all[0].Tunnel.Clients.Clients.Load() == 0 })
	if n := all[1].all.Used(); n != 0 {
		t.Errorf("%d places are taken", n)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if all[1].Drain(0); ctx.Err() != nil {
		t.Error("drained too late")
	}
}

// With https:// replicas are asked over TLS: one whose certificate is not for it, or that does not speak it, is told nothing.
func TestRelayOverTLS(t *testing.T) {
	up := newPeers(t)
	cert, key := keyPair(t, "one")
	secure := func(_ int, c *Settings) {
		c.Peer.URL = strings.Replace(c.Peer.URL, "http:", "https:", 1)
		c.Directory.(place).all[c.Directory.Replica()] = c.Peer.URL
	}
	all := serveReplicas(t, 2, secure, tunnelEnv(up, "SSE_TLS_CERT="+cert, "SSE_TLS_KEY="+key)...)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	url := "https://" + all[1].addr + "/_sidestream/tunnel?page=" + pageID + "--" + all[0].Peers.Replica()
	resp, err := client.Get(url)
	if err != nil || resp.StatusCode != http.StatusBadGateway { // nobody has signed its certificate
		t.Fatalf("%v, %v", resp, err)
	}
	resp.Body.Close()
	if n, m := all[1].Peers.Stats.Failed[peer.Unreachable].Load(), all[0].Peers.Stats.Served[peer.Tunnel].Load(); n != 1 || m != 0 {
		t.Errorf("%d unreachable, %d served", n, m)
	}
	pem, _ := os.ReadFile(cert)
	all[1].Peers.Roots = x509.NewCertPool()
	all[1].Peers.Roots.AppendCertsFromPEM(pem)
	if resp, err = client.Get(url); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%v, %v", resp, err)
	}
	line, err := bufio.NewReader(resp.Body).ReadString('\n')
	if resp.Body.Close(); err != nil || !strings.HasPrefix(line, "retry: ") {
		t.Errorf("%q, %v", line, err)
	}
}
