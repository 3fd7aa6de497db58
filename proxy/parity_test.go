package proxy

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"sidestream/proxy/migrate"
)

// TestParityFindsFaults plants each kind of fault into what old clients are sent, and wants it counted, and none without.
func TestParityFindsFaults(t *testing.T) {
	t.Parallel()
	for want, fault := range map[string]func(n int) []string{
		migrate.Equal: func(n int) []string { return []string{number(n)} },
		migrate.Missing: func(n int) []string {
			if n%20 == 7 {
				return []string{number(n), number(-n)}
			}
			return []string{number(n)}
		},
		migrate.Extra: func(n int) []string {
			if n%20 == 7 {
				return nil
			}
			return []string{number(n)}
		},
		migrate.Changed: func(n int) []string {
			if n%20 == 7 {
				return []string{strings.Replace(number(n), "1.50", "1.51", 1)}
			}
			return []string{number(n)}
		},
		migrate.Reordered: func(n int) []string {
			if n%20 == 7 || n%20 == 8 {
				return []string{number(n - n%20 + 15 - n%20)}
			}
			return []string{number(n)}
		},
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			f := newFaulty(t, func(conn int64, n int) []string {
				if conn == 1 {
					return []string{number(n)}
				}
				return fault(n)
			})
			var log bytes.Buffer
			s := serveWith(t, configure(t, "SSE_UPSTREAM="+f.URL, "SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM=ws"+strings.TrimPrefix(f.URL, "http")+"/ws", "SSE_ROUTE_A_PARITY=true"), slog.New(slog.NewTextHandler(&log, nil)))
			s.parities.wait = 3 * time.Second
			s.get(t, "/a")
			eventually(t, "the stream's connection", func() bool { return f.conns.Load() == 1 })
			old := s.dialOld(t, "/ws", nil)
			go io.Copy(io.Discard, websocket.NetConn(t.Context(), old, websocket.MessageText)) // ends with the connection
			compared := s.Routes()[0].Compared
			eventually(t, "it is found", func() bool { return compared.Counts()[want] > 0 && compared.Counts()[migrate.Equal] > 30 })
			for result, n := range compared.Counts() {
				if n > 0 && result != want && result != migrate.Equal {
					t.Errorf("%d are %s", n, result)
				}
			}
			if n := compared.Clients(); n != 1 {
				t.Errorf("%d old clients are looked at", n)
			}
			old.Close(websocket.StatusNormalClosure, "")
			eventually(t, "nobody is looked at any more", func() bool { return compared.Clients() == 0 })
		})
	}
}

// TestParityIsForTheOwnStream checks that an old client is compared with the stream that it would share, and with no other's.
func TestParityIsForTheOwnStream(t *testing.T) {
	t.Parallel()
	f := newFeed(t)
	s := serve(t, "SSE_UPSTREAM="+f.URL, "SSE_ROUTE_A_PATH=/a/{u}", "SSE_ROUTE_A_FROM="+f.ws()+"/ws?u={path.u}", "SSE_ROUTE_A_PARITY=true")
	s.get(t, "/a/one")
	s.get(t, "/a/two")
	one := s.dialOld(t, "/ws?u=one", nil)
	go io.Copy(io.Discard, websocket.NetConn(t.Context(), one, websocket.MessageText)) // ends with the connection
	for range 3 {
		<-f.joined
	}
	compared := s.Routes()[0].Compared
	for i := range 40 {
		f.publish(t, "u=one", fmt.Sprint("one ", i))
		f.publish(t, "u=two", fmt.Sprint("two ", i))
		<-time.After(100 * time.Millisecond)
	}
	eventually(t, "those of the own stream", func() bool { return compared.Counts()[migrate.Equal] > 10 })
	for result, n := range compared.Counts() {
		if n > 0 && result != migrate.Equal {
			t.Errorf("%d are %s", n, result)
		}
	}
}

// TestParityOfPolls compares old clients that poll.
func TestParityOfPolls(t *testing.T) {
	t.Parallel()
	f := newFaulty(t, nil)
	s := serve(t, "SSE_UPSTREAM="+f.URL, "SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM="+f.URL+"/state", "SSE_ROUTE_A_EVERY=100ms", "SSE_ROUTE_A_PARITY=true")
	s.get(t, "/a")
	compared := s.Routes()[0].Compared
	eventually(t, "equal states", func() bool {
		r, err := http.Get("http://" + s.addr + "/state")
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, r.Body)
		r.Body.Close()
		<-time.After(50 * time.Millisecond)
		return compared.Counts()[migrate.Equal] > 8
	})
	for result, n := range compared.Counts() {
		if n > 0 && result != migrate.Equal {
			t.Errorf("%d are %s", n, result)
		}
	}
	if n := compared.Clients(); n != 1 {
		t.Errorf("%d old clients are looked at", n)
	}
}

// TestParityOutlivesTheStream checks that a stream that has ended with its last client, and started again with another one, is read as the one that it is,
// and what old clients get meanwhile is no difference.
func TestParityOutlivesTheStream(t *testing.T) {
	t.Parallel()
	f := newFaulty(t, func(_ int64, n int) []string { return []string{number(n)} })
	s := serve(t, "SSE_UPSTREAM="+f.URL, "SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM=ws"+strings.TrimPrefix(f.URL, "http")+"/ws", "SSE_ROUTE_A_PARITY=true", "SSE_ROUTE_A_LINGER=100ms", "SSE_ROUTE_A_RETRY=10ms")
	s.parities.wait = 5 * time.Second
	first := s.get(t, "/a")
	old := s.dialOld(t, "/ws", nil)
	go io.Copy(io.Discard, websocket.NetConn(t.Context(), old, websocket.MessageText)) // ends with the connection
	compared := s.Routes()[0].Compared
	eventually(t, "equal messages", func() bool { return compared.Counts()[migrate.Equal] > 50 })
	first.conn.Close()
	eventually(t, "the stream to end", func() bool { return s.Routes()[0].Streams.Health().Streams == 0 })
	<-time.After(10 * time.Second) // twice as long as a message waits for its equal
	before := compared.Counts()[migrate.Equal]
	f.late.Store(int64(2 * migrate.SettleTime)) // the stream is there before its upstream is
	s.get(t, "/a")
	eventually(t, "equal messages of the next stream", func() bool { return compared.Counts()[migrate.Equal] > before+100 })
	<-time.After(7 * time.Second)
	for result, n := range compared.Counts() {
		if n > 0 && result != migrate.Equal {
			t.Errorf("%d are %s", n, result)
		}
	}
}

// TestParityOfPollsFindsFaults compares old clients that poll a state that lasts, a list and a document, one of which is given something else.
func TestParityOfPollsFindsFaults(t *testing.T) {
	t.Parallel()
	for mode, paths := range map[string][2]string{"changes": {"/slow", "/slow?wrong"}, "items": {"/items", "/items?wrong"}, "patch": {"/slow", "/slow?wrong"}} {
		for i, path := range paths {
			t.Run(mode+map[int]string{0: " equal", 1: " wrong"}[i], func(t *testing.T) {
				t.Parallel()
				f := newFeed(t)
				state := lasting{least: 900 * time.Millisecond}
				f.answer = func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("Content-Type", "application/json")
					n := state.told(r)
					wrong := 0
					if strings.Contains(r.URL.RawQuery, "wrong") && n%3 == 2 {
						wrong = 1
					}
					if strings.HasPrefix(r.URL.Path, "/items") {
						var list []string
						for k := range n + 1 {
							list = append(list, fmt.Sprintf(`{"id":%d}`, k+1000*wrong))
						}
						fmt.Fprintf(w, "[%s]", strings.Join(list, ","))
						return
					}
					fmt.Fprintf(w, `{"n":%d,"text":%q}`, n+1000*wrong, strings.Repeat("x", 200))
				}
				base, _, _ := strings.Cut(path, "?")
				s := serve(t, "SSE_UPSTREAM="+f.URL, "SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM="+f.URL+base, "SSE_ROUTE_A_EVERY=100ms", "SSE_ROUTE_A_MODE="+mode, "SSE_ROUTE_A_PARITY=true")
				s.parities.wait = 3 * time.Second
				s.get(t, "/a")
				compared := s.Routes()[0].Compared
				ask := func() {
					r, err := http.Get("http://" + s.addr + path)
					if err != nil {
						t.Fatal(err)
					}
					io.Copy(io.Discard, r.Body)
					r.Body.Close()
					<-time.After(80 * time.Millisecond)
				}
				off := func() (n int64) {
					for result, m := range compared.Counts() {
						if result != migrate.Equal {
							n += m
						}
					}
					return n
				}
				eventually(t, "it to be compared", func() bool { ask(); return compared.Counts()[migrate.Equal] > 5 || i == 1 && off() > 2 })
				for range 40 {
					ask()
				}
				if n := off(); (n > 0) != (i == 1) {
					t.Errorf("%v", compared.Counts())
				}
			})
		}
	}
}

// TestParityHoldsLittle checks that an old client that nobody looks at any more costs nothing.
func TestParityHoldsLittle(t *testing.T) {
	t.Parallel()
	c := &oldClient{heard: make(chan heardOf, parityQueue), ended: make(chan struct{})}
	large := migrate.Message{At: time.Now(), Data: make([]byte, 1<<20)}
	for range 100 {
		c.Hear(large)
	}
	if held := c.held.Load(); held > parityBytes || len(c.heard) > 4 || !c.lost.Load() {
		t.Errorf("%d bytes in %d messages wait", held, len(c.heard))
	}
	c.Closed(0)
	n := len(c.heard)
	for range 100 {
		c.Hear(migrate.Message{At: time.Now(), Data: []byte("x")})
	}
	if len(c.heard) != n || !c.Enough(true) || !c.Enough(false) {
		t.Errorf("%d messages wait though it has ended", len(c.heard)-n)
	}
}

// growing has f answer with a list that begins with 300 elements and grows by one each 300 ms.
func growing(f *feed) {
	begun := time.Now()
	f.answer = func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		var list []string
		for k := range 300 + int(time.Since(begun)/(300*time.Millisecond)) {
			list = append(list, fmt.Sprintf(`{"id":%d}`, k))
		}
		fmt.Fprintf(w, "[%s]", strings.Join(list, ","))
	}
}

// TestLongLists compares a list that is long already, as a command and while old clients poll; one that has left is no difference.
func TestLongLists(t *testing.T) {
	t.Parallel()
	f := newFeed(t)
	growing(f)
	env := []string{"SSE_UPSTREAM=" + f.URL, "SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM=" + f.URL + "/items", "SSE_ROUTE_A_EVERY=200ms", "SSE_ROUTE_A_MODE=items", "SSE_ROUTE_A_PARITY=true"}
	s := serve(t, env...)
	s.parities.wait = 3 * time.Second
	s.get(t, "/a")
	out, err := proved(t, s.addr, env, 6*time.Second)
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	compared := s.Routes()[0].Compared
	eventually(t, "elements that both have", func() bool {
		s.ask(t, "GET /items HTTP/1.1").Body.Close()
		<-time.After(100 * time.Millisecond)
		return compared.Counts()[migrate.Equal] > 5
	})
	<-time.After(8 * time.Second) // the list grows, and nobody polls
	for result, n := range compared.Counts() {
		if n > 0 && result != migrate.Equal {
			t.Errorf("%d are %s", n, result)
		}
	}
}
