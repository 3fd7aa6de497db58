package proxy

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2/hpack"
)

// TestHeadsAreBounded by SSE_MAX_HEADER, in both versions of HTTP and for whatever is asked.
func TestHeadsAreBounded(t *testing.T) {
	f := newFeed(t)
	f.answer = echoLegacy
	s := serve(t, routeEnv(f, "SSE_MAX_HEADER=16KiB")...)
	for size, want := range map[int]int{15 << 10: 200, 17 << 10: 431, 100 << 10: 431} {
		for _, line := range []string{"GET /a", "GET /elsewhere"} {
			r := s.ask(t, line+" HTTP/1.1", "Accept: text/event-stream", "Cookie: "+strings.Repeat("x", size))
			r.conn.Close()
			if r.StatusCode != want {
				t.Errorf("%s with %d bytes: answered %d, want %d", line, size, r.StatusCode, want)
			}
			path := strings.TrimPrefix(line, "GET ")
			if got := askH2(t, s.addr, append(h2Fields("GET", "h", path), hpack.HeaderField{Name: "cookie", Value: strings.Repeat("x", size)})...); got != fmt.Sprint(want) {
				t.Errorf("HTTP/2, %s with %d bytes: answered %q, want %d", path, size, got, want)
			}
		}
	}
}

// TestHeadsAreNotKept: what a client sent to be let in is gone once it is, but for what its stream is made of.
func TestHeadsAreNotKept(t *testing.T) {
	f := newFeed(t)
	cert, key := keyPair(t, "one")
	s := serve(t, "SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM="+f.ws()+"/ws", "SSE_ROUTE_U_PATH=/u", "SSE_ROUTE_U_FROM="+f.ws()+"/ws", "SSE_ROUTE_U_HEADERS=X-U: {cookie.u}", "SSE_TLS_CERT="+cert, "SSE_TLS_KEY="+key)
	const clients, size = 40, 60 << 10
	f.joined = make(chan struct{}, 12*clients)
	n := 0
	growth := func(path, field string, length int) int {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		for range clients {
			n++
			conn, err := tls.Dial("tcp", s.addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close() })
			conn.SetDeadline(time.Now().Add(time.Minute))
			fmt.Fprintf(conn, "GET %s?x=%s HTTP/1.1\r\nHost: h\r\nAccept: text/event-stream\r\nCookie: u=%d\r\n%s%s\r\n\r\n", path, strings.Repeat("q", 1000), n, field, strings.Repeat("x", length))
			in := bufio.NewReaderSize(net.Conn(conn), 1024)
			if resp, err := http.ReadResponse(in, nil); err != nil || resp.StatusCode != 200 {
				t.Fatal(resp, err)
			}
		}
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&after)
		return int(after.HeapAlloc) - int(before.HeapAlloc)
	}
	for _, path := range []string{"/a", "/u"} {
		for _, field := range []string{"Cookie: big=", "Last-Event-ID: "} {
			growth(path, field, 10) // what is there once
			small, large := growth(path, field, 10), growth(path, field, size)
			if more := (large - small) / clients; more > size/2 { // crypto/tls keeps a record of 16 KiB
				t.Errorf("%s: a client with a %s of %d bytes keeps %d bytes more than one without", path, field, size, more)
			}
		}
	}
}
