//go:build e2e

package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// acted is a sidecar that says what a test wants: its scripts are a real one's.
type acted struct {
	addr string

	mu    sync.Mutex
	asked []string // queries, in the order in which they came
}

// startActed starts one, whose page runs js; answer is the answer to the n-th request for path, counted from 1.
func startActed(t *testing.T, js, path string, answer func(n int, w http.ResponseWriter, r *http.Request)) *acted {
	t.Helper()
	real := startSidecar(t, "SSE_UPSTREAM=http://"+freeAddr(t), "SSE_TUNNEL=/ws", ticketKeyOf("ab"))
	a := new(acted)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/":
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprintf(w, "<!doctype html><script>%s</script>", js)
		case r.URL.Path == path:
			a.mu.Lock()
			a.asked = append(a.asked, r.Method+" "+r.URL.RawQuery)
			n := len(a.asked)
			a.mu.Unlock()
			answer(n, w, r)
		case strings.HasSuffix(r.URL.Path, "js"):
			resp, err := http.Get("http://" + real.addr + r.URL.Path)
			if err != nil {
				w.WriteHeader(502)
				return
			}
			defer resp.Body.Close()
			w.Header().Set("Content-Type", resp.Header.Get("Content-Type"))
			io.Copy(w, resp.Body)
		default:
			answer(0, w, r)
		}
	}))
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	a.addr = server.Listener.Addr().String()
	return a
}

func ticketKeyOf(digits string) string { return "SSE_TICKET_KEY=" + strings.Repeat(digits, 32) }

// queries are what was asked so far.
func (a *acted) queries() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]string(nil), a.asked...)
}

// whole answers with text as an event stream, complete.
func whole(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "text/event-stream")
	io.WriteString(w, text)
}

// piece sends more of an answer that goes on.
func piece(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "text/event-stream")
	io.WriteString(w, text)
	w.(http.Flusher).Flush()
}

// listener is a page's script that listens to /feed, and polls from the beginning if held.
func listener(held bool, options string) string {
	return fmt.Sprintf(`if (%v) sessionStorage.setItem("sidestream polls", Date.now() + 300000);
const seen = [];
const s = document.createElement("script");
s.src = "/_sidestream/events.js";
s.onload = () => { globalThis.source = new SidestreamEventSource("/feed", { shared: false, %s }); source.onmessage = e => seen.push(e.data); };
document.head.append(s);`, held, options)
}

// A poll that is refused may be so for its ticket, which is minutes old: with a fresh one it goes on. Only where that does not help is it the end;
// and where no fresh one is to be had now, it is tried again.
func TestPollsRenewTickets(t *testing.T) {
	t.Parallel()
	var tickets, away atomic.Int64
	a := startActed(t, listener(true, `auth: "ticket"`), "/feed", func(n int, w http.ResponseWriter, r *http.Request) {
		ticket := r.URL.Query().Get("ticket")
		switch {
		case n == 0 && r.URL.Path != "/_sidestream/ticket":
			http.NotFound(w, r)
		case n == 0 && tickets.Load() == 1 && away.Load() < 2: // the service is away for a moment
			away.Add(1)
			w.WriteHeader(503)
		case n == 0:
			fmt.Fprintf(w, `{"ticket":"t%d","expires":0}`, tickets.Add(1))
		case n == 1:
			whole(w, "data: 1\nid: 1-1\n\n")
		case ticket == "t1":
			w.WriteHeader(401)
		case ticket == "t2" && !strings.Contains(r.URL.RawQuery, "1-2"):
			whole(w, "data: 2\nid: 1-2\n\n")
		default:
			w.WriteHeader(401)
		}
	})
	c := startChromium(t)
	c.open(t, "http://"+a.addr+"/")
	shown(t, c, "what comes with the second ticket", `seen.join() === "1,2"`)
	shown(t, c, "the end, as no ticket helps any more", `source.readyState === 2`)
	if q := a.queries(); len(q) > 8 || tickets.Load() != 3 {
		t.Errorf("%d tickets, asked %q", tickets.Load(), q)
	}
}

// What answers at once and says nothing is not asked again at once.
func TestPollsDoNotSpin(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{"nothing": "", "half an event": "data: 1\nid: 1-1\n"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := startActed(t, listener(true, ""), "/feed", func(n int, w http.ResponseWriter, r *http.Request) { whole(w, answer) })
			c := startChromium(t)
			c.open(t, "http://"+a.addr+"/")
			eventually(t, "it asks again", func() bool { return len(a.queries()) > 1 })
			time.Sleep(3 * time.Second)
			if q := a.queries(); len(q) > 6 {
				t.Errorf("asked %d times", len(q))
			}
		})
	}
}

// The tunnel's: a page that something on the way answers with, such as a portal's login, is no poll's answer.
func TestTunnelPollsDoNotSpin(t *testing.T) {
	t.Parallel()
	const script = `sessionStorage.setItem("sidestream.websocket", Date.now() + 300000);
const s = document.createElement("script");
s.src = "/_sidestream/websocket.js";
s.onload = () => { globalThis.ws = new WebSocket("ws://" + location.host + "/ws/x"); ws.onclose = () => globalThis.gone = true; };
document.head.append(s);`
	a := startActed(t, script, "/_sidestream/tunnel", func(n int, w http.ResponseWriter, r *http.Request) {
		switch {
		case n == 0:
			w.WriteHeader(202) // the POST that opens
		case !strings.Contains(r.URL.RawQuery, "poll="):
			<-r.Context().Done()
		case strings.Contains(r.URL.RawQuery, "lastEventId=0-2"):
			w.Header().Set("Content-Type", "text/html")
			io.WriteString(w, "<!doctype html>Please log in")
		default:
			whole(w, "data: [0,\"page\",65536,\"x\"]\nid: 0-1\n\ndata: [1,\"open\",\"\"]\nid: 0-2\n\n")
		}
	})
	c := startChromium(t)
	c.open(t, "http://"+a.addr+"/")
	eventually(t, "it asks after the first events", func() bool { return strings.Contains(fmt.Sprint(a.queries()), "lastEventId=0-2") })
	time.Sleep(3 * time.Second)
	if q := a.queries(); len(q) > 12 {
		t.Errorf("asked %d times", len(q))
	}
}

// A stream that is only late, and one whose heartbeats were held up twice in a long time, are not given up for polls.
func TestLateStreamIsNotHeldBack(t *testing.T) {
	t.Parallel()
	beat := "event: stream.heartbeat\ndata: {\"every\":600}\nid: 1-1\n\n"
	for name, stream := range map[string]func(w http.ResponseWriter){
		"late": func(w http.ResponseWriter) {
			time.Sleep(3500 * time.Millisecond)
			piece(w, "retry: 3000\n\n")
			time.Sleep(2500 * time.Millisecond)
			piece(w, "data: 1\nid: 1-1\n\n")
		},
		"held up twice": func(w http.ResponseWriter) {
			for range 2 {
				piece(w, beat)
				time.Sleep(1200 * time.Millisecond)
				piece(w, beat+beat)
				for range 3 {
					time.Sleep(600 * time.Millisecond)
					piece(w, beat)
				}
			}
			time.Sleep(600 * time.Millisecond)
			piece(w, "data: 1\nid: 1-2\n\n")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := startActed(t, listener(false, ""), "/feed", func(n int, w http.ResponseWriter, r *http.Request) {
				if strings.Contains(r.URL.RawQuery, "poll=1") {
					time.Sleep(time.Second) // for the first heartbeat
					whole(w, strings.ReplaceAll(beat, "1-1", "0-0"))
					return
				}
				stream(w)
				<-r.Context().Done()
			})
			c := startChromium(t)
			c.open(t, "http://"+a.addr+"/")
			shown(t, c, "the event of the stream", `seen.join() === "1"`)
			if q := fmt.Sprint(a.queries()); strings.Contains(q, "poll=held") || strings.Count(q, "heartbeat=event ")+strings.Count(q, "heartbeat=event]") != 1 {
				t.Errorf("asked %s", q)
			}
		})
	}
}
