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
	return startScript(t, "clients/client.mjs", kind, url)
}

// startScript starts a script that prints what it sees.
func startScript(t *testing.T, script string, args ...string) *client {
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
	c.process = launchTo(t, write, nil, "node", append([]string{script}, args...)...)
	return c
}

func (c *client) next(t *testing.T) seen {
	t.Helper()
	select {
	case s, ok := <-c.sees:
		if !ok {
			return seen{Saw: "exit"}
		}
		return s
	case <-time.After(patience):
		t.Fatal("the client saw nothing more")
		return seen{}
	}
}

// viewer is a library or a browser that shows what it sees, one thing at a time. The last is "exit": a while after the
// end, in which it did not ask again.
type viewer interface {
	next(t *testing.T) seen
}

// await returns what v sees next, which must be want. Errors are passed over where they are not wanted, as libraries
// differ in how many they tell.
func await(t *testing.T, v viewer, want string) seen {
	t.Helper()
	for {
		s := v.next(t)
		if s.Saw == "error" && want != "error" || s.Event == "stream.open" { // which the others do not listen for
			continue
		}
		if s.Saw != want {
			t.Fatalf("the client saw %+v, want %s", s, want)
		}
		return s
	}
}

// message expects an event with this name and data.
func message(t *testing.T, v viewer, event, data string) seen {
	t.Helper()
	s := await(t, v, "message")
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

// manner is what is particular to one client.
type manner struct {
	where    string // it brings the last id here: header or query
	requests int    // it makes after a finished stream
	last     string // status that it is answered last
}

var (
	native   = manner{"header", 1, "204"} // also npm's eventsource
	polyfill = manner{"query", 1, "410"}
	fetcher  = manner{"header", 0, "200"}
)

func TestClients(t *testing.T) {
	for kind, m := range map[string]manner{"eventsource": native, "polyfill": polyfill, "fetch": fetcher} {
		for _, via := range []string{"direct", "nginx"} {
			t.Run(kind+"/"+via, func(t *testing.T) {
				t.Parallel()
				life(t, m, via, nil, func(addr string) viewer { return startClient(t, kind, "http://"+addr+"/ticks") })
			})
		}
	}
}

// life takes a client of /ticks through everything: events one by one, heartbeats between them, a cut network, a legacy
// service that drops the connection, a sidecar that is restarted, and the end. start is given the address to ask. Through nginx all of it is compressed.
func life(t *testing.T, m manner, via string, pages map[string]string, start func(addr string) viewer) {
	f := startFeed(t, pages)
	env := feedEnv(f)
	if via == "nginx" {
		env = append(env, "SSE_COMPRESS=gzip")
	}
	s := startSidecar(t, env...)
	front := s.addr
	if via == "nginx" {
		front = startNginx(t, s.addr)
	}
	r := startRecorder(t, front)
	v := start(r.addr())
	await(t, v, "open")

	var last seen
	for i := range 4 {
		if i > 0 {
			r.quiet(t)
		}
		got := message(t, v, "tick", f.tick(t))
		if i > 0 && !sequel(last.ID, got.ID) {
			t.Errorf("id %s after %s", got.ID, last.ID)
		}
		last = got
	}

	// The network is cut; what came meanwhile is told after the return, without a gap.
	r.cut()
	await(t, v, "error")
	missed := f.tick(t)
	await(t, v, "open")
	if id, where := cursor(r.nth(t, "/ticks", 1)); id != last.ID || where != m.where {
		t.Errorf("came back with id %q in the %s, want %q in the %s", id, where, last.ID, m.where)
	}
	got := message(t, v, "tick", missed)
	if !sequel(last.ID, got.ID) {
		t.Errorf("id %s after %s", got.ID, last.ID)
	}

	// The legacy service drops the subscription: said at once, on the same connection.
	f.cut()
	message(t, v, "stream.gap", `{"reason":"upstream","missed":null}`)
	last = message(t, v, "tick", f.tick(t))
	if n := len(r.to("/ticks")); n != 2 {
		t.Errorf("%d requests by now, want 2", n)
	}

	// The sidecar is replaced: a new one does not know the id, and says so.
	s.drain(t)
	s.start(t)
	await(t, v, "open")
	if id, _ := cursor(r.nth(t, "/ticks", 2)); id != last.ID {
		t.Errorf("came back with id %q, want %q", id, last.ID)
	}
	message(t, v, "stream.gap", `{"reason":"restart","missed":null}`)
	message(t, v, "tick", f.tick(t))
	r.quiet(t)

	// The stream is finished: the client stops, and does not ask again while it lives on.
	f.say(t, `{"done":true}`)
	message(t, v, "done", `{"done":true}`)
	await(t, v, "end")
	if s := v.next(t); s.Saw != "exit" {
		t.Errorf("after the end the client saw %+v", s)
	}
	if n := len(r.to("/ticks")); n != 3+m.requests {
		t.Errorf("%d requests in all, want %d", n, 3+m.requests)
	}
	if got := r.lastStatus(); got != m.last {
		t.Errorf("the last answer had status %s, want %s", got, m.last)
	}
}
