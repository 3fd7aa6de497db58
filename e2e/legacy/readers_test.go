package legacy

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// askReaders makes one request about readers, and returns what is answered.
func askReaders(t *testing.T, h http.Handler, method, body string) (c crowd, status int) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, "/demo/readers", strings.NewReader(body)))
	if err := json.Unmarshal(w.Body.Bytes(), &c); err != nil && w.Code == 200 {
		t.Fatal(err)
	}
	return c, w.Code
}

// TestReaders come as many as are asked for, count what they get, and go.
func TestReaders(t *testing.T) {
	here := make(chan int, 100)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/prices" || r.Header.Get("Accept") != "text/event-stream" {
			t.Errorf("asked for %s, %s", r.URL.Path, r.Header.Get("Accept"))
		}
		io.WriteString(w, "event: price\ndata: {}\nid: 1-1\n\n")
		w.(http.Flusher).Flush()
		here <- 1
		<-r.Context().Done()
		here <- -1
	}))
	defer front.Close()
	count := func(want int) {
		t.Helper()
		for n := 0; n != want; {
			select {
			case d := <-here:
				n += d
			case <-time.After(time.Minute):
				t.Fatalf("%d, want %d", n, want)
			}
		}
	}
	r := &Readers{Service: New()}
	h := r.Handler(http.NotFoundHandler())
	if c, _ := askReaders(t, h, "POST", `{"readers":2}`); c.Readers != 0 {
		t.Errorf("there is no sidecar yet, and %d readers", c.Readers)
	}
	r.Front(front.URL+"/prices", "http://status")
	if c, _ := askReaders(t, h, "POST", `{"readers":11}`); c.Readers != 11 || c.Status != "http://status" {
		t.Errorf("%+v", c)
	}
	count(11)
	for end := time.Now().Add(time.Minute); ; {
		if c, _ := askReaders(t, h, "GET", ""); c.Events == 11 {
			break
		} else if time.Now().After(end) {
			t.Fatalf("%+v", c)
		}
	}
	for _, bad := range []string{`{"readers":51}`, `{"readers":-1}`, `x`, ``} {
		if _, status := askReaders(t, h, "POST", bad); status != 400 {
			t.Errorf("%q: %d", bad, status)
		}
	}
	askReaders(t, h, "POST", `{"readers":1}`)
	count(-10)
	r.Close()
	count(-1)
	if c, _ := askReaders(t, h, "POST", `{"readers":3}`); c.Readers != 0 {
		t.Errorf("%d readers after the end", c.Readers)
	}
}

// TestConnectionsAreCountedByWhoseTheyAre: the sidecar's own, and old clients'.
func TestConnectionsAreCountedByWhoseTheyAre(t *testing.T) {
	s := New()
	s.feeds[&feed{sidecar: true}], s.feeds[&feed{}], s.feeds[&feed{}] = struct{}{}, struct{}{}, struct{}{}
	if sidecar, others := s.connections(); sidecar != 1 || others != 2 {
		t.Error(sidecar, others)
	}
}
