package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"sync"
	"time"

	"sidestream/e2e/authority"
)

// floor is what a tunnel could cost at best in a browser: net/http with an event stream, whose events are what is POSTed, and nothing else.
// It answers a POST once it is read; the stream's handler writes its event meanwhile.
type floor struct {
	mu      sync.Mutex
	streams map[string]chan []byte
}

// startFloor starts one that speaks HTTP/2 over TLS with the pair, or HTTP/1.1 where there is none.
func startFloor(pair *authority.Pair) *httptest.Server {
	s := httptest.NewUnstartedServer(&floor{streams: map[string]chan []byte{}})
	if pair == nil {
		s.Start()
		return s
	}
	s.EnableHTTP2 = true
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pair.TLS()}}
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // the browser drops connections that it has opened in advance
	s.StartTLS()
	return s
}

func (f *floor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Access-Control-Allow-Origin", "*") // the page is another server's
	w.Header().Set("Cache-Control", "no-store")
	events := f.stream(r.URL.Query().Get("id"))
	if r.Method == http.MethodOptions { // a body that goes on is asked for first
		return
	}
	if r.Method == http.MethodPost {
		buf := make([]byte, size)
		for {
			if _, err := io.ReadFull(r.Body, buf); err != nil {
				break
			}
			if r.URL.Path != "/answer" {
				events <- stamped(buf)
			}
		}
		w.WriteHeader(http.StatusNoContent)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.WriteHeader(http.StatusOK)
	for control := http.NewResponseController(w); control.Flush() == nil; {
		select {
		case body := <-events:
			fmt.Fprintf(w, "data: %s\n\n", body)
		case <-r.Context().Done():
			return
		}
	}
}

// stamped is what answers a message: when it came where that is asked for, in microseconds, and of its size.
func stamped(message []byte) []byte {
	if !bytes.HasPrefix(message, []byte("time")) {
		return message
	}
	return fmt.Appendf(nil, "%-*d", len(message), time.Now().UnixMicro())
}

func (f *floor) stream(id string) chan []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.streams[id] == nil {
		f.streams[id] = make(chan []byte, 16)
	}
	return f.streams[id]
}
