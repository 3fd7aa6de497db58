//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sidestream/e2e/redistest"
)

// takenOver has two replicas run the route at /events, kills the holder and later ends the other one, while publish has the service say
// numbers. A client of the replica that goes on gets each once and in order, and no gap. name is the events', data what a number is as one.
func takenOver(t *testing.T, env []string, name string, data func(n int) string, publish func(n int)) {
	t.Helper()
	store := redistest.Start(t)
	env = append([]string{"SSE_HISTORY=redis://" + store.Addr, "SSE_DRAIN=0"}, env...)
	holder := startSidecar(t, env...)
	first := ask(t, holder.addr, "HTTP/1.0", "/events", "retry: ")
	holder.explains(t, "upstream connected")
	other := startSidecar(t, env...)
	events := ask(t, other.addr, "HTTP/1.0", "/events", "retry: ")
	n := 0
	say := func(count int) {
		for range count {
			publish(n)
			n++
		}
	}
	say(10)
	first.event(t, name, data(9))
	events.event(t, name, data(9))
	kill(t, holder)
	say(20) // to nobody
	other.explains(t, "upstream connected")
	say(10)
	events.event(t, name, data(39))
	holder.start(t)
	back := ask(t, holder.addr, "HTTP/1.0", "/events", "retry: ")
	say(5)
	back.event(t, name, data(44))
	events.event(t, name, data(44))
	other.drain(t)
	say(20)
	holder.explains(t, "upstream connected")
	say(5)
	back.event(t, name, data(69))
	for from, s := range map[int]*stream{0: events, 40: back} {
		text, at := s.got.String(), -1
		if strings.Contains(text, "stream.gap") {
			t.Errorf("a gap: %s", text)
		}
		to := 45
		if s == back {
			to = 70
		}
		for i := from; i < to; i++ {
			line := "data: " + data(i) + "\n"
			where := strings.Index(text, line)
			if where < at || where < 0 || strings.Count(text, line) != 1 {
				t.Errorf("%d comes %d times, or out of order", i, strings.Count(text, line))
			}
			at = where
		}
	}
}

// TestTakeover: whatever can go on where it stopped does, in another replica.
func TestTakeover(t *testing.T) {
	t.Parallel()
	number := strconv.Itoa
	t.Run("Socket.IO", func(t *testing.T) {
		t.Parallel()
		h := startHub(t, "socketio", `{"recovery":true}`)
		takenOver(t, hubRoute("socket.io", "ws://"+h.addr, `CONNECT={"token":"t"}`), "n", number, func(n int) {
			h.do(t, map[string]any{"do": "emit", "topic": "/", "name": "n", "args": []int{n}}, nil)
		})
	})
	for name, connect := range map[string]string{"MQTT 5": `{"version":5}`, "MQTT 3.1.1": `{"clientId":"kept","cleanSession":false}`} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := startMosquitto(t, "allow_anonymous true", "max_queued_messages 10000")
			takenOver(t, hubRoute("mqtt", "ws://"+b.ws, "CONNECT="+connect, "SUBSCRIBE=news 1"), "", number, func(n int) { b.publish(t, "news", number(n), false) })
		})
		t.Run(name+", QoS 2", func(t *testing.T) {
			t.Parallel()
			b := startMosquitto(t, "allow_anonymous true", "max_queued_messages 10000")
			c := startPacketCutter(t, "ws://"+b.ws, midHandshake)
			takenOver(t, hubRoute("mqtt", "ws://"+c.addr, "CONNECT="+connect, "SUBSCRIBE=news 2"), "", number, func(n int) { b.exactly(t, "news", number(n)) })
			if c.cuts.Load() == 0 {
				t.Error("nothing was cut")
			}
		})
	}
	t.Run("AnyCable", func(t *testing.T) {
		t.Parallel()
		h := startHub(t, "anycable", `{"ping":200}`)
		takenOver(t, hubRoute("actioncable", "ws://"+h.addr+"/cable", `SUBSCRIBE={"channel":"ChatChannel","room":"a"}`), "",
			func(n int) string { return fmt.Sprintf(`{"n":%d}`, n) }, func(n int) {
				if n == 0 { // a history is asked for from a time, which is the server's: its first ping has it
					eventually(t, "a ping", func() bool { return h.anyCableSeen(t).Pings > 0 })
				}
				h.chats(t, 0, "a", map[string]any{"n": n})
			})
	})
	t.Run("SignalR", func(t *testing.T) {
		t.Parallel()
		h := startHub(t, "signalr", `{"stateful":true}`)
		takenOver(t, hubRoute("signalr", "ws://"+h.addr+"/hub", `SUBSCRIBE=Join ["red"]`), "Tick", number, func(n int) {
			h.do(t, map[string]any{"do": "send", "group": "red", "records": []any{invocation("Tick", n)}}, nil)
		})
	})
	t.Run("ASP.NET SignalR", func(t *testing.T) {
		t.Parallel()
		h := startHub(t, "signalrclassic", `{}`)
		takenOver(t, classicRoute(h.addr, `SUBSCRIBE=Chat.Join ["red"]`, "SELECT=select($event==\"tick\")"), "tick", number, func(n int) { h.invokes(t, "red", "tick", n) })
	})
	t.Run("Azure Web PubSub", func(t *testing.T) {
		t.Parallel()
		h := startHub(t, "webpubsub", `{}`)
		takenOver(t, pubSubRoute(h.addr, "SUBSCRIBE=chat"), "", number, func(n int) { h.delivers(t, "chat", n) })
	})
	t.Run("Centrifuge", func(t *testing.T) {
		t.Parallel()
		c := startCentrifugo(t)
		takenOver(t, c.route("SUBSCRIBE=news"), "", number, func(n int) { c.publish(t, "news", n) })
	})
	t.Run("JetStream", func(t *testing.T) {
		t.Parallel()
		n := startNATS(t)
		n.stream(t, "N", "memory", nil)
		takenOver(t, n.route(`SUBSCRIBE=n.> {"stream":"N"}`), "", number, func(i int) { n.keep(t, "n.x", number(i)) })
	})
	t.Run("Server-Sent Events", func(t *testing.T) {
		t.Parallel()
		s := &sayings{}
		takenOver(t, []string{"SSE_ROUTE_N_PATH=/events", "SSE_ROUTE_N_FROM=http://" + s.start(t) + "/", "SSE_ROUTE_N_MODE=stream", "SSE_ROUTE_N_CURSOR=id"}, "", number, s.say)
	})
	t.Run("a feed of changes", func(t *testing.T) {
		t.Parallel()
		s := &sayings{}
		takenOver(t, []string{"SSE_ROUTE_N_PATH=/events", "SSE_ROUTE_N_FROM=http://" + s.start(t) + "/changes?since={stream.cursor:0}", "SSE_ROUTE_N_EVERY=0",
			"SSE_ROUTE_N_CURSOR=.last_seq", "SSE_ROUTE_N_SELECT=.results[].id"}, "", number, s.say)
	})
}

// sayings is a service that keeps all that it has said, and tells it as Server-Sent Events with ids, or as CouchDB's _changes does.
type sayings struct {
	mu   sync.Mutex
	all  []int
	more chan struct{} // closed when there is more
}

func (s *sayings) say(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, n)
	close(s.more)
	s.more = make(chan struct{})
}

// after returns what was said after the first since, once there is something, or r is over.
func (s *sayings) after(r *http.Request, since int, most time.Duration) (rest []int) {
	timeout := time.After(most)
	for {
		s.mu.Lock()
		all, more := s.all, s.more
		s.mu.Unlock()
		if since < len(all) {
			return all[since:]
		}
		select {
		case <-more:
		case <-r.Context().Done():
			return nil
		case <-timeout:
			return nil
		}
	}
}

func (s *sayings) start(t *testing.T) (addr string) {
	t.Helper()
	s.more = make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/changes", func(w http.ResponseWriter, r *http.Request) {
		since, _ := strconv.Atoi(r.FormValue("since"))
		type result struct {
			ID int `json:"id"`
		}
		results := []result{}
		for _, n := range s.after(r, since, 10*time.Second) {
			results = append(results, result{n})
		}
		json.NewEncoder(w).Encode(map[string]any{"results": results, "last_seq": since + len(results)})
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		since := 0
		if id := r.Header.Get("Last-Event-ID"); id != "" {
			since, _ = strconv.Atoi(id)
		}
		w.Header().Set("Content-Type", "text/event-stream")
		w.WriteHeader(http.StatusOK)
		http.NewResponseController(w).Flush()
		for r.Context().Err() == nil {
			for _, n := range s.after(r, since, time.Hour) {
				since++
				fmt.Fprintf(w, "id: %d\ndata: %d\n\n", since, n)
			}
			http.NewResponseController(w).Flush()
		}
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: mux}
	go server.Serve(l) // ends with Close
	t.Cleanup(func() { server.Close() })
	return l.Addr().String()
}
