//go:build e2e

package e2e

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestStalledPeerIsCut has a peer that takes nothing: the kernel cuts it after 30 s, over HTTP/1.1 and 1.0. It is the one
// thing that only real time and a real TCP stack can show.
func TestStalledPeerIsCut(t *testing.T) {
	t.Parallel()
	f := startFeed(t, nil)
	s := startSidecar(t, feedEnv(f)...)
	for _, proto := range []string{"HTTP/1.1", "HTTP/1.0"} {
		conn, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.(*net.TCPConn).SetReadBuffer(4 << 10)
		io.WriteString(conn, "GET /ticks "+proto+"\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n")
	}
	healthy := ask(t, s.addr, "HTTP/1.1", "/ticks", "retry: ")
	healthy.conn.SetDeadline(time.Now().Add(2 * time.Minute))
	heard := make(chan struct{})
	go func() { // ends with the connection
		defer close(heard)
		lines := bufio.NewReader(healthy.conn)
		for {
			text, err := lines.ReadString('\n')
			if err != nil {
				t.Errorf("the healthy client: %v", err)
			}
			if err != nil || strings.Contains(text, `"last":"word"`) {
				return
			}
		}
	}()
	for range 16 { // more than the sockets of both ends hold
		f.say(t, `{"filling":"`+strings.Repeat("x", 500<<10)+`"}`)
	}
	began := time.Now()
	stalled := func() int {
		resp, err := http.Get("http://" + s.admin + "/metrics")
		if err != nil {
			return 0
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return strings.Count(string(body), `sidestream_disconnects_total{reason="stalled"} 2`)
	}
	for stalled() == 0 {
		if time.Since(began) > 90*time.Second {
			t.Fatal("two peers that take nothing are still there")
		}
		time.Sleep(200 * time.Millisecond)
	}
	if took := time.Since(began); took < 25*time.Second {
		t.Errorf("they were cut after %v, before the 30 s", took)
	}
	f.say(t, `{"last":"word"}`)
	<-heard
}
