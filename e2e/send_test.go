//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// reader reads a route's events over connections that may be cut at any moment, and goes on where it was.
type reader struct {
	url  string
	last string
	next int // the number awaited
}

// run reads until count events have come, which must be 0, 1, 2 ...
func (r *reader) run(ctx context.Context, client *http.Client, count int) error {
	for r.next < count && ctx.Err() == nil {
		if err := r.connection(ctx, client); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// connection reads one connection's events; that it is lost is no error.
func (r *reader) connection(ctx context.Context, client *http.Client) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "text/event-stream")
	if r.last != "" {
		req.Header.Set("Last-Event-ID", r.last)
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	var id, name, data string
	for in := bufio.NewScanner(resp.Body); in.Scan(); {
		switch field, value, _ := strings.Cut(in.Text(), ": "); field {
		case "id":
			id = value
		case "event":
			name = value
		case "data":
			data = value
		case "":
			if want := fmt.Sprint("message ", r.next); name == "" && data != want || name != "" && name != "stream.open" {
				return fmt.Errorf("%q %q instead of %q", name, data, want)
			}
			if r.last = id; name == "" {
				r.next++
			}
			name = ""
		}
	}
	return nil
}

// TestSend: what is POSTed comes back as events, once and in order in both directions, while all connections are cut.
func TestSend(t *testing.T) {
	t.Parallel()
	for name, front := range map[string]func(*testing.T, string) string{
		"direct": func(_ *testing.T, addr string) string { return addr },
		"nginx":  startNginx,
	} {
		t.Run(name, func(t *testing.T) {
			e := startEcho(t)
			s := startSidecar(t, "SSE_ROUTE_CHAT_PATH=/chat", "SSE_ROUTE_CHAT_FROM=ws"+strings.TrimPrefix(e.URL, "http"),
				"SSE_ROUTE_CHAT_SEND=true", "SSE_ROUTE_CHAT_SCOPE=session", "SSE_DRAIN=100ms")
			wire := startRecorder(t, front(t, s.addr))
			address := "http://" + wire.addr() + "/chat?session=" + secretID
			if code := post(t, address, "0", "x"); code != http.StatusNotFound {
				t.Errorf("without a stream: %d", code)
			}
			const count = 2000
			transport := &http.Transport{DisableKeepAlives: true}
			read := make(chan error, 1)
			r := &reader{url: address}
			go func() { read <- r.run(patient(t), &http.Client{Transport: transport}, count) }() // ends with the last event
			cutting, stop := context.WithCancel(t.Context())
			cut := make(chan struct{})
			go func() { // ends with stop
				defer close(cut)
				for every := time.NewTicker(150 * time.Millisecond); ; {
					select {
					case <-every.C:
						wire.cut()
					case <-cutting.Done():
						every.Stop()
						return
					}
				}
			}()
			eventually(t, "the stream", func() bool { return e.dials.Load() == 1 })
			for i := range count {
				for code := 0; code != http.StatusAccepted; {
					code = post(t, address, fmt.Sprint("key-", i), fmt.Sprint("message ", i))
					if code != 0 && code != http.StatusAccepted && code < 500 {
						t.Fatalf("message %d: %d", i, code)
					}
				}
			}
			if err := <-read; err != nil {
				t.Fatalf("after event %d: %v", r.next, err)
			}
			stop()
			<-cut
			if e.heard.Load() != count || e.dials.Load() != 1 {
				t.Errorf("%d connections heard %d messages, want one and %d", e.dials.Load(), e.heard.Load(), count)
			}
			s.drain(t)
			if strings.Contains(s.stderr.String(), secretID) {
				t.Error("the session is logged")
			}
		})
	}
}

// post returns the answer's status, 0 when it is not known what became of it.
func post(t *testing.T, address, key, body string) int {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "text/plain")
	r.Header.Set("Idempotency-Key", key)
	resp, err := plain.Do(r)
	if err != nil {
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}
