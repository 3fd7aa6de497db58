//go:build e2e && linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// quickly is what the bench measures with args, on a small scale.
func quickly(t *testing.T, args ...string) (got figures) {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "bench")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("build the bench: %v\n%s", err, out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, binary, append(args, "-quick", "-json")...)
	c.Stderr = os.Stderr
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGQUIT) } // which says where it waits
	c.WaitDelay = 10 * time.Second
	out, err := c.Output()
	if err != nil {
		t.Fatal(args, err)
	}
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	return got
}

// Whoever connects to the bench's own service and says nothing is not waited for, and keeps nobody else away: a sidecar that is ended while it dials does so.
func TestServiceGoesOn(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, says := range []string{"", "GET / HT", "nothing of HTTP\r\n\r\n"} {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, says)
		conn.Close()
	}
	subscriber, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer subscriber.Close()
	io.WriteString(subscriber, "GET /feed HTTP/1.1\r\nHost: bench\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	conn, err := acceptWebSocket(l)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	subscriber.SetDeadline(time.Now().Add(time.Minute))
	resp, err := http.ReadResponse(bufio.NewReader(subscriber), nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Errorf("%+v, %v", resp, err)
	}
}

// The same for what histories cost.
func TestQuickHistory(t *testing.T) {
	t.Parallel()
	got := quickly(t, "-history")
	some := map[string][]string{userRSS: {"ours", "file", "redis"}, restart: {"file", "redis"}, handover: {"redis"}, storeCPU: {"redis"}}
	for _, r := range historyRows {
		servers := some[r.figure]
		if servers == nil {
			servers = keepers
		}
		for _, server := range servers {
			if v, ok := got[r.figure][server]; !ok || v <= 0 && r.figure != handover && r.figure != userRSS {
				t.Errorf("%s of %s: %v, measured %v", r.figure, server, v, ok)
			}
		}
	}
}

// The same for what jq costs a message.
func TestQuickMessages(t *testing.T) {
	t.Parallel()
	got := quickly(t, "-messages")
	for _, p := range programs {
		if got[ownCPU][p.name] <= 0 {
			t.Errorf("%s was not measured", p.title)
		}
	}
}

// The same for what TLS costs.
func TestQuickTLS(t *testing.T) {
	t.Parallel()
	got := quickly(t, "-tls")
	for _, r := range tlsRows {
		for _, server := range terminators {
			if v, ok := got[r.figure][server]; !ok || v < 0 || v == 0 && r.figure != idleRSS && r.figure != fannedRSS {
				t.Errorf("%s of %s: %v, measured %v", r.figure, server, v, ok)
			}
		}
	}
}

// The same for what private streams cost.
func TestQuickPrivate(t *testing.T) {
	t.Parallel()
	got := quickly(t, "-private")
	for _, r := range privateRows {
		servers := privates
		if r.figure == pollRSS {
			servers = []string{"ours"}
		}
		for _, server := range servers {
			if v, ok := got[r.figure][server]; !ok || v <= 0 {
				t.Errorf("%s of %s: %v, measured %v", r.figure, server, v, ok)
			}
		}
	}
}

// The bench works: it ends by itself, and each figure of each server comes out. How large they are is the machine's.
func TestQuick(t *testing.T) {
	t.Parallel()
	got := quickly(t)
	// Memory of a few hundred clients may be within what is there anyway.
	memory := map[string]bool{idleRSS: true, fannedRSS: true, backRSS: true, h2RSS: true, tabRSS: true}
	only := map[string][]string{connectCPU: {"ours"}, behindCPU: {"ours"}, h2RSS: {"ours", "plain"}, h2CPU: {"ours", "plain"}, tabRSS: {"ours", "plain"}, tabCPU: {"ours", "plain"}}
	for _, r := range rows {
		servers := only[r.figure]
		if servers == nil {
			servers = []string{"ours", "floor", "coalesced", "plain"}
		}
		for _, server := range servers {
			if v, ok := got[r.figure][server]; !ok || v < 0 || v == 0 && !memory[r.figure] {
				t.Errorf("%s of %s: %v, measured %v", r.figure, server, v, ok)
			}
		}
	}
}
