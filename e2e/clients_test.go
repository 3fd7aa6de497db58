//go:build e2e

package e2e

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

// seen is one thing that a client library told its page.
type seen struct {
	Saw   string // open, message, error, end, status
	Event string
	ID    string
	Data  string
}

// client is a library at work in clients/client.mjs.
type client struct {
	*process
	sees chan seen // closed when the client has ended
}

func startClient(t *testing.T, kind, url string) *client {
	t.Helper()
	read, write := io.Pipe()
	c := &client{sees: make(chan seen, 1000)}
	go func() { // ends with the pipe, which ends with the process
		defer close(c.sees)
		lines := bufio.NewScanner(read)
		for lines.Scan() {
			var s seen
			if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
				s = seen{Saw: "nonsense", Data: lines.Text()}
			}
			c.sees <- s
		}
		io.Copy(io.Discard, read)
	}()
	c.process = launchTo(t, write, nil, "node", "clients/client.mjs", kind, url)
	return c
}

// next returns what the client sees next; "error" is passed over where it is not wanted, as libraries differ in how
// many they tell.
func (c *client) next(t *testing.T, want string) seen {
	t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case s, ok := <-c.sees:
			if !ok {
				t.Fatalf("the client ended, want %s", want)
			}
			if s.Saw == "error" && want != "error" {
				continue
			}
			if s.Saw != want {
				t.Fatalf("the client saw %+v, want %s", s, want)
			}
			return s
		case <-deadline:
			t.Fatalf("the client saw nothing, want %s", want)
		}
	}
}

// message expects an event with this name and data.
func (c *client) message(t *testing.T, event, data string) seen {
	t.Helper()
	s := c.next(t, "message")
	if s.Event != event || s.Data != data || s.ID == "" {
		t.Fatalf("the client saw %+v, want event %s with data %s and an id", s, event, data)
	}
	return s
}

// cursor is the id that a request brings, and where.
func cursor(r *http.Request) (id, where string) {
	if id := r.Header.Get("Last-Event-ID"); id != "" {
		return id, "header"
	}
	return r.URL.Query().Get("lastEventId"), "query"
}

// sequel tells whether the sidecar gave the id next, <birth>-<seq>, to the event right after last.
func sequel(last, next string) bool {
	birth, seq, _ := strings.Cut(last, "-")
	n, err := strconv.Atoi(seq)
	return err == nil && next == birth+"-"+strconv.Itoa(n+1)
}

// TestClients takes each library through a whole life: events one by one, heartbeats between them, a cut network, a
// legacy service that drops the connection, a sidecar that is restarted, and the end.
func TestClients(t *testing.T) {
	for _, c := range []struct {
		kind, where string
		requests    int    // that follow the end
		last        string // the last answer's status
	}{
		{"eventsource", "header", 1, "204"},
		{"polyfill", "query", 1, "410"},
		{"fetch", "header", 0, "200"},
	} {
		for _, via := range []string{"direct", "nginx"} {
			t.Run(c.kind+"/"+via, func(t *testing.T) {
				t.Parallel()
				f := startFeed(t, nil)
				s := startSidecar(t, feedEnv(f)...)
				front := s.addr
				if via == "nginx" {
					front = startNginx(t, s.addr)
				}
				r := startRecorder(t, front)
				client := startClient(t, c.kind, "http://"+r.addr()+"/ticks")
				client.next(t, "open")

				var last seen
				for i := range 4 {
					if i > 0 {
						r.quiet(t)
					}
					data := f.tick(t)
					got := client.message(t, "tick", data)
					if i > 0 && !sequel(last.ID, got.ID) {
						t.Errorf("id %s after %s", got.ID, last.ID)
					}
					last = got
				}

				// The network is cut; what came meanwhile is told after the return, without a gap.
				r.cut()
				client.next(t, "error")
				missed := f.tick(t)
				client.next(t, "open")
				if id, where := cursor(r.to("/ticks")[1]); id != last.ID || where != c.where {
					t.Errorf("came back with id %q in the %s, want %q in the %s", id, where, last.ID, c.where)
				}
				got := client.message(t, "tick", missed)
				if !sequel(last.ID, got.ID) {
					t.Errorf("id %s after %s", got.ID, last.ID)
				}

				// The legacy service drops the subscription: said at once, on the same connection.
				f.cut()
				client.message(t, "stream.gap", `{"reason":"upstream","missed":null}`)
				last = client.message(t, "tick", f.tick(t))
				if n := len(r.to("/ticks")); n != 2 {
					t.Errorf("%d requests by now, want 2", n)
				}

				// The sidecar is replaced: a new one does not know the id, and says so.
				s.drain(t)
				s.start(t)
				client.next(t, "open")
				if id, _ := cursor(r.to("/ticks")[2]); id != last.ID {
					t.Errorf("came back with id %q, want %q", id, last.ID)
				}
				client.message(t, "stream.gap", `{"reason":"restart","missed":null}`)
				client.message(t, "tick", f.tick(t))
				r.quiet(t)

				// The stream is finished: the client stops, and does not ask again while its process lives on.
				f.say(t, `{"done":true}`)
				client.message(t, "done", `{"done":true}`)
				client.next(t, "end")
				if code := client.wait(t); code != 0 {
					t.Errorf("the client ended with status %d", code)
				}
				for s := range client.sees {
					t.Errorf("after the end the client saw %+v", s)
				}
				if n := len(r.to("/ticks")); n != 3+c.requests {
					t.Errorf("%d requests in all, want %d", n, 3+c.requests)
				}
				if got := r.lastStatus(); got != c.last {
					t.Errorf("the last answer had status %s, want %s", got, c.last)
				}
			})
		}
	}
}
