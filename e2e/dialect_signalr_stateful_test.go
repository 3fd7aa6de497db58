//go:build e2e

package e2e

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// unsteady is a proxy to a server, of which the first connections are cut in mid-frame: each after some bytes of what the server sends, in the
// order of after. Later ones, and requests over HTTP, are let through.
type unsteady struct {
	addr string
	open sync.WaitGroup

	mu    sync.Mutex // guards what follows
	after []int
	cuts  int
}

func startUnsteady(t *testing.T, server string, after ...int) *unsteady {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u := &unsteady{addr: l.Addr().String(), after: after}
	u.open.Go(func() { // ends with l
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			u.open.Go(func() { u.relay(client, server) }) // ends when either side does
		}
	})
	t.Cleanup(func() { l.Close() }) // the sidecar and the server end what is open
	return u
}

func (u *unsteady) relay(client net.Conn, addr string) {
	defer client.Close()
	server, err := net.Dial("tcp", addr)
	if err != nil {
		return
	}
	defer server.Close()
	head := make([]byte, 1<<14)
	n, err := client.Read(head)
	if err != nil {
		return
	}
	server.Write(head[:n])
	u.open.Go(func() { // ends with client or server
		defer server.Close()
		io.Copy(server, client)
	})
	if most := u.budget(string(head[:n])); most > 0 {
		io.CopyN(client, server, int64(most))
		client.(*net.TCPConn).SetLinger(0)
		return
	}
	io.Copy(client, server)
}

// budget is how many bytes a connection that begins with head may bring; 0 any number.
func (u *unsteady) budget(head string) (most int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !strings.Contains(strings.ToLower(head), "upgrade: websocket") || u.cuts == len(u.after) {
		return 0
	}
	u.cuts++
	return u.after[u.cuts-1]
}

func (u *unsteady) done() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.cuts == len(u.after)
}

// TestDialectSignalRStateful cuts connections at random under load, both ways: each event comes once and in order, each result arrives once, what
// clients have sent arrives, and no gap is said. A hub that is restarted knows nothing, which is a gap.
func TestDialectSignalRStateful(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{"signalr", "signalr+msgpack"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			h := startHub(t, "signalr", `{"stateful":true,"ackAfter":200}`)
			// The second is within the opening of the connection that goes on.
			u := startUnsteady(t, h.addr, 2000+rand.IntN(9000), 140, 2000+rand.IntN(9000))
			s := startSidecar(t, hubRoute(protocol, "ws://"+u.addr+"/hub", `SUBSCRIBE=Join ["red"]`, `HELLO=Join ["blue"]`, "SEND=true")...)
			events := ask(t, s.addr, "HTTP/1.0", "/events", "retry: ")
			page := official(t, "signalr", "http://"+h.addr+"/hub", `{"stateful":true,"packed":`+fmt.Sprint(protocol != "signalr")+`,"on":["Tick","Ask"],"invoke":[["Join","page"]]}`)
			page.shows(t, `{"ready":true}`)
			n, asked, sent := 0, 0, 0
			for round := 0; !u.done() || round < 10; round++ {
				time.Sleep(5 * time.Millisecond)
				var batch []map[string]any
				for range 1 + rand.IntN(40) {
					batch = append(batch, invocation("Tick", n))
					n++
				}
				question := invocation("Ask", asked)
				question["invocationId"] = fmt.Sprint("s", asked)
				asked++
				h.do(t, map[string]any{"do": "send", "group": "blue", "records": append(batch, question)}, nil)
				h.do(t, map[string]any{"do": "send", "group": "page", "records": append(batch, question)}, nil)
				if round%3 == 0 {
					h.do(t, map[string]any{"do": "cutting", "group": "page"}, nil)
				}
				if sent < 300 && s.posts(fmt.Sprintf(`Echo [%d]`, sent)) {
					sent++
				}
			}
			last := invocation("Last")
			h.do(t, map[string]any{"do": "send", "records": []map[string]any{last}}, nil)
			events.event(t, "Last", "[]")
			text, at := events.got.String(), 0
			if strings.Contains(text, "stream.gap") {
				t.Errorf("a gap: %q", text[max(0, strings.Index(text, "stream.gap")-300):])
			}
			for i := range n {
				line := fmt.Sprintf("event: Tick\ndata: %d\n", i)
				where := strings.Index(text[at:], line)
				if where < 0 || strings.Count(text, line) != 1 {
					t.Fatalf("%d comes %d times, or out of order", i, strings.Count(text, line))
				}
				at += where
			}
			page.shows(t, fmt.Sprintf(`{"event":"Tick","args":[%d]}`, n-1))
			if got := strings.Count(page.stdout.String(), `"event":"Tick"`); got != n {
				t.Errorf("the official client saw %d of %d", got, n)
			}
			var seen hubSeen
			eventually(t, "all results", func() bool { seen = h.signalrSeen(t); return len(seen.Results) >= 2*asked })
			results, echoes, joins := map[string]int{}, map[string]int{}, 0
			for _, r := range seen.Results {
				results[r.InvocationID+" of "+r.Who]++
			}
			for _, r := range seen.Received {
				if r.Target == "Echo" {
					echoes[fmt.Sprint(r.Arguments)]++
				}
				if r.Target == "Join" {
					joins++
				}
			}
			for i := range asked {
				for _, who := range []string{"page", "red,blue"} {
					if n := results[fmt.Sprintf("s%d of %s", i, who)]; n != 1 {
						t.Errorf("result %d of %s arrived %d times", i, who, n)
					}
				}
			}
			for i := range sent { // one that the client was told has failed, it has sent again
				if echoes[fmt.Sprintf("[%d]", i)] == 0 {
					t.Errorf("message %d of %d has not arrived", i, sent)
				}
			}
			if joins != 3 || len(seen.Negotiations) != 2 || seen.Resumed < 3 {
				t.Errorf("%d joins, %d negotiations, %d times resumed", joins, len(seen.Negotiations), seen.Resumed)
			}
			eventually(t, "all to be acknowledged", func() bool {
				var kept []int
				h.do(t, map[string]any{"do": "kept"}, &kept)
				return len(kept) == 2 && kept[0]+kept[1] == 0
			})

			events.got.Reset()
			h.kill()
			h.start(t)
			events.event(t, "stream.gap", gapEvent)
			h.invoke(t, 1, "blue", invocation("Tick", "anew"))
			events.event(t, "Tick", `"anew"`)
		})
	}
}

// posts sends text upstream, and reports whether it was taken.
func (s *sidecar) posts(text string) bool {
	resp, err := plain.Post("http://"+s.addr+"/events", "text/plain", strings.NewReader(text))
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode/100 == 2
}

// What a hub has let go of is a gap at once, and a message over MAX_MESSAGE costs the connection once.
func TestDialectSignalRForgotten(t *testing.T) {
	t.Parallel()
	h := startHub(t, "signalr", `{"stateful":true,"disconnectTimeout":1}`)
	s := startSidecar(t, hubRoute("signalr", "ws://"+h.addr+"/hub", "MAX_MESSAGE=4KiB")...)
	events := ask(t, s.addr, "HTTP/1.0", "/events", "retry: ")
	h.invoke(t, 1, "", invocation("Tick", 1))
	events.event(t, "Tick", "1")
	h.do(t, map[string]any{"do": "cutting"}, nil)
	events.event(t, "stream.gap", gapEvent)
	h.invoke(t, 1, "", invocation("Tick", 2))
	events.event(t, "Tick", "2")
	if lost := strings.Count(s.stderr.String(), "upstream lost"); lost != 1 {
		t.Errorf("a status is an error: lost %d times", lost)
	}
	big := strings.Repeat("x", 4<<10)
	h.invoke(t, 1, "", invocation("Tick", big))
	s.explains(t, "connecting without stateful reconnect")
	eventually(t, "the third connection", func() bool { return s.connects() == 3 })
	h.invoke(t, 1, "", invocation("Tick", 3))
	events.event(t, "Tick", "3")
	h.invoke(t, 1, "", invocation("Tick", big), invocation("Tick", 4))
	h.invoke(t, 1, "", invocation("Tick", 5))
	events.event(t, "Tick", "5")
	if got := s.connects(); got != 3 {
		t.Errorf("%d connections", got)
	}
	if n := h.signalrSeen(t).Negotiations; strings.Contains(n[len(n)-1].URL, "Stateful") {
		t.Errorf("%+v", n)
	}
}
