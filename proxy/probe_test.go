package proxy

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// The probe is the sidecar's own, whatever routes there are, as long as SSE_DOCTOR is on; a reload turns it off, with its page.
func TestProbe(t *testing.T) {
	f := newFeed(t)
	f.answer = func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusTeapot) }
	env := []string{"SSE_UPSTREAM=" + f.URL, "SSE_ROUTE_ALL_PATH=/{all...}", "SSE_ROUTE_ALL_FROM=" + f.ws() + "/ws", "SSE_TRUSTED_PROXIES=127.0.0.1"}
	c := configure(t, env...)
	s := serveWith(t, c, slog.New(slog.DiscardHandler))
	s.get(t, "/any").wantOpen(t) // which others join, whatever their path
	for path, want := range map[string]string{
		"/_sidestream/doctor/stream?events=2&every=10": "text/event-stream",
		"/_sidestream/doctor/request":                  "application/json",
		"/_sidestream/doctor/poll":                     "text/event-stream",
		"/_sidestream/doctor":                          "text/html; charset=utf-8",
	} {
		r := s.get(t, path)
		if body, err := r.rest(); r.StatusCode != 200 || r.Header.Get("Content-Type") != want || strings.Contains(path, "doctor/") != (r.Header.Get("Sidestream-Instance") != "") || err != io.EOF {
			t.Errorf("%s: %d %v %q %v", path, r.StatusCode, r.Header, body, err)
		}
	}
	if f.polls.Load() != 0 {
		t.Error("the service was asked")
	}
	ws, _, err := websocket.Dial(t.Context(), "ws://"+s.addr+"/_sidestream/doctor/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	ws.Write(t.Context(), websocket.MessageText, []byte("hello"))
	if _, said, err := ws.Read(t.Context()); err != nil || string(said) != "hello" {
		t.Errorf("%q %v", said, err)
	}
	ws.CloseNow()
	c.Doctor = false
	if err := s.Reload(c); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"", ".js", ".css", "/request", "/ws", "/nothing"} {
		if r := s.ask(t, "GET /_sidestream/doctor"+path+" HTTP/1.1"); r.StatusCode != http.StatusTeapot {
			t.Errorf("%s: it is off: %d", path, r.StatusCode)
		}
	}
}

// A cut of the probe looks like one, in HTTP/1.0 too, and a clean end like one.
func TestProbeEnds(t *testing.T) {
	s := serve(t, "SSE_UPSTREAM=http://127.0.0.1:9")
	for _, proto := range []string{"1.0", "1.1"} {
		for end, clean := range map[string]bool{"clean": true, "cut": false} {
			r := s.ask(t, "GET /_sidestream/doctor/stream?events=3&every=10&end="+end+" HTTP/"+proto)
			body, err := r.rest()
			if (err == io.EOF) != clean || strings.Count(body, "data: {") != 3 {
				t.Errorf("HTTP/%s, %s: %q %v", proto, end, body, err)
			}
		}
	}
}

// A sidecar that stops waits for no probe.
func TestProbeStops(t *testing.T) {
	s := serve(t, "SSE_UPSTREAM=http://127.0.0.1:9")
	r := s.get(t, "/_sidestream/doctor/stream?events=2&silence=300000")
	ended := make(chan error, 1)
	go func() { _, err := r.rest(); ended <- err }()
	released := make(chan struct{})
	go func() { defer close(released); s.server.Release(0, time.Hour) }()
	select {
	case err := <-ended:
		if err == io.EOF {
			t.Error("a clean end")
		}
	case <-time.After(time.Minute):
		t.Error("it waits for the probe's stream")
		s.server.Close()
	}
	<-released
}

// What is sent to be counted is not kept, and is bounded.
func TestProbePost(t *testing.T) {
	s := serve(t, "SSE_UPSTREAM=http://127.0.0.1:9")
	for n, want := range map[int]int{0: 200, 4 << 20: 200, 4<<20 + 1: 413} {
		resp, err := http.Post("http://"+s.addr+"/_sidestream/doctor/post", "application/octet-stream", strings.NewReader(strings.Repeat("x", n)))
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != want || want == 200 && !strings.Contains(string(body), fmt.Sprintf(`"bytes":%d`, n)) {
			t.Errorf("%d bytes: %d %s", n, resp.StatusCode, body)
		}
	}
	http.DefaultClient.CloseIdleConnections()
}
