//go:build e2e

package e2e

import (
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

// cutsFirst passes connections on to an address, and cuts the first that has brought so many bytes, once.
func cutsFirst(t *testing.T, to string, after int64) (addr string, cut *atomic.Bool) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	cut = new(atomic.Bool)
	go func() { // ends with l
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", to)
			if err != nil {
				client.Close()
				continue
			}
			go func() { // ends with either
				defer server.Close()
				_, _ = io.Copy(server, client)
			}()
			go func() { // ends with either, or at the cut
				defer client.Close()
				n, _ := io.CopyN(client, server, after)
				if n == after && cut.CompareAndSwap(false, true) {
					return
				}
				_, _ = io.Copy(client, server)
			}()
		}
	}()
	return l.Addr().String(), cut
}

// TestEtcdCatchesUpInPieces: etcd 3 gives a watch that begins in the past a thousand revisions at a time, each with a header that has the newest
// revision of all; only the last event tells how far it has come. A cut in between loses nothing.
func TestEtcdCatchesUpInPieces(t *testing.T) {
	t.Parallel()
	dir, peer := t.TempDir(), freeAddr(t)
	etcd := &server{addr: freeAddr(t)}
	etcd.start = func() *process {
		return launch(t, []string{"ETCD_UNSUPPORTED_ARCH=arm64"}, "/usr/bin/etcd", "--data-dir", dir, "--log-level", "error", "--unsafe-no-fsync",
			"--listen-client-urls", "http://"+etcd.addr, "--advertise-client-urls", "http://"+etcd.addr, "--listen-peer-urls", "http://"+peer,
			"--initial-advertise-peer-urls", "http://"+peer, "--initial-cluster", "default=http://"+peer)
	}
	etcd.up(t, "/health")
	const revisions = 3000
	body := fmt.Sprintf(`{"key":"Zm9v","value":%q}`, base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", 200))))
	for range revisions {
		resp, err := plain.Post("http://"+etcd.addr+"/v3/kv/put", "application/json", strings.NewReader(body))
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatal(resp, err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	reached, cut := cutsFirst(t, etcd.addr, 600_000) // in the second thousand
	s := startSidecar(t, "SSE_ROUTE_WATCH_PATH=/watch", "SSE_ROUTE_WATCH_FROM=http://"+reached+"/v3/watch", "SSE_ROUTE_WATCH_MODE=stream",
		`SSE_ROUTE_WATCH_BODY={"create_request":{"key":"AA==","range_end":"AA==","start_revision":{stream.cursor:2}}}`,
		"SSE_ROUTE_WATCH_SELECT=.result.events[]?", "SSE_ROUTE_WATCH_DATA=.kv.mod_revision|tonumber", "SSE_ROUTE_WATCH_REPLAY_EVENTS=10000",
		"SSE_ROUTE_WATCH_CURSOR=.result|select(.events).events|last.kv.mod_revision|tonumber+1", "SSE_ROUTE_WATCH_RESET=.result.canceled")
	page := ask(t, s.addr, "HTTP/1.0", "/watch", "")
	page.until(t, fmt.Sprintf("data: %d\n", revisions+1))
	next := 2
	for line := range strings.Lines(page.got.String()) {
		if data, ok := strings.CutPrefix(line, "data: "); ok && data != "{}\n" {
			if data != fmt.Sprintf("%d\n", next) {
				t.Fatalf("after %d came %s", next-1, data)
			}
			next++
		}
	}
	if !cut.Load() || strings.Contains(page.got.String(), "stream.gap") {
		t.Errorf("cut %v, or a gap was said", cut.Load())
	}
}
