package tunnel

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
)

// A service may be slow to answer the page's close frame, as it may with a browser's WebSocket: be it that it reads late, or answers late.
func TestACloseIsAnsweredLate(t *testing.T) {
	for _, c := range []struct {
		name  string
		reads time.Duration // when the service reads
		way   time.Duration // how long its answers take
		want  string
		after time.Duration
	}{
		{"at once", 0, 0, `[1,"close",4001,"done",true,0]`, 0},
		{"read late", 19 * time.Second, 0, `[1,"close",4001,"done",true,0]`, 19 * time.Second},
		{"answered late", 0, 19 * time.Second, `[1,"close",4001,"done",true,0]`, 19 * time.Second},
		{"answered as the time is over", 0, longBye + 500*time.Millisecond, `[1,"close",4001,"done",true,0]`, longBye + 500*time.Millisecond}, // as a process finds it that did not run
		{"read never", time.Hour, 0, `[1,"close",1006,"",false,0]`, longBye + lastBye},
		{"answered never", 0, time.Hour, `[1,"close",1006,"",false,0]`, longBye + lastBye},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(s *Settings) { s.Dial = slowly(s.Dial, c.way) }, func(w *world, ws *websocket.Conn) {
				time.Sleep(c.reads)
				w.listen(ws)
			}, func(w *world) {
				client := w.enter()
				w.post("/a", `"tunnel":1,"open":[]`)
				synctest.Wait()
				if status := w.post("/a", `"tunnel":1,"seq":1`, "c4001 done"); status != 204 {
					t.Error(status)
				}
				if c.after > 0 {
					time.Sleep(c.after - time.Nanosecond)
					if got := told(client); strings.Contains(got, "close") {
						t.Errorf("the page is told %s before %v", got, c.after)
					}
					time.Sleep(time.Nanosecond)
				}
				synctest.Wait()
				if got := told(client); !strings.HasSuffix(got, c.want) {
					t.Errorf("after %v the page is told %s, want %s", c.after, got, c.want)
				}
			})
		})
	}
}

// slowly has what an upstream sends, but its answer to the upgrade, arrive so much later. What is written to it is taken at once.
func slowly(dial dialer, way time.Duration) dialer {
	return func(ctx context.Context, in *http.Request, protocols []string, pong func(context.Context, []byte) bool) (*websocket.Conn, *Wire, Answer, error) {
		ws, wire, answer, err := dial(ctx, in, protocols, pong)
		if err == nil {
			wire.ReadWriteCloser = &slow{ReadWriteCloser: wire.ReadWriteCloser, way: way, closed: make(chan struct{})}
		}
		return ws, wire, answer, err
	}
}

// Nobody waits that long for a page that has gone, or when the sidecar stops.
func TestACloseThatNobodyWaitsFor(t *testing.T) {
	bubble(t, nil, func(w *world, ws *websocket.Conn) { time.Sleep(time.Hour) }, func(w *world) {
		for n, closes := range []bool{true, false} {
			w.enter()
			w.post("/a", `"tunnel":1,"open":[]`)
			synctest.Wait()
			if closes {
				w.post("/a", `"tunnel":1,"seq":1`, "c4001 done")
			}
			began := time.Now()
			if w.Close(); time.Since(began) != shortBye+lastBye {
				t.Errorf("%d: it has waited for %v", n, time.Since(began))
			}
			w.Pages = New(w.Settings)
		}
	})
}

// What stands within a frame is no close frame: it comes after what is being written.
func TestACloseStandsBetweenFrames(t *testing.T) {
	bubble(t, nil, func(w *world, ws *websocket.Conn) {
		time.Sleep(3 * time.Second)
		w.listen(ws)
	}, func(w *world) {
		client := w.enter()
		w.post("/a", `"tunnel":1,"open":[]`)
		synctest.Wait()
		done := make(chan int)
		go func() { done <- w.post("/a", `"tunnel":1,"seq":1`, "t"+strings.Repeat("a", 100000)) }()
		synctest.Wait()
		if status := w.post("/a", `"tunnel":1,"seq":2`, "c4001 "); status != 204 {
			t.Error(status)
		}
		if status := <-done; status != 204 {
			t.Error(status)
		}
		w.expect("3s aaaaaaaaaaaaaaaaaaaa", "3s closed 4001")
		if got := told(client); !strings.HasSuffix(got, `[1,"close",4001,"",true,0]`) {
			t.Errorf("the page is told %s", got)
		}
	})
}

// The bytes of a close frame (RFC 6455, section 5.5.1), and that nothing follows it.
func TestBye(t *testing.T) {
	for _, c := range []struct {
		code    int
		reason  string
		payload string
	}{{4001, "done", "\x0f\xa1done"}, {1000, "", "\x03\xe8"}, {noCode, "", ""}, {3000, strings.Repeat("é", 61) + "x", "\x0b\xb8" + strings.Repeat("é", 61) + "x"}} {
		var out written
		w := &Wire{ReadWriteCloser: &out}
		w.Write([]byte("before"))
		w.bye(websocket.StatusCode(c.code), c.reason)
		if n, err := w.Write([]byte("after")); n != 5 || err != nil {
			t.Errorf("%d: what follows: %d, %v", c.code, n, err)
		}
		got, ok := bytes.CutPrefix(out.Bytes(), []byte("before"))
		if !ok || len(got) != 6+len(c.payload) || got[0] != 0x88 || int(got[1]) != 0x80|len(c.payload) {
			t.Errorf("%d: % x", c.code, out.Bytes())
			continue
		}
		for i := range got[6:] {
			got[6+i] ^= got[2+i%4]
		}
		if string(got[6:]) != c.payload {
			t.Errorf("%d: the payload is %q", c.code, got[6:])
		}
	}
}

type written struct{ bytes.Buffer }

func (*written) Close() error { return nil }

// What the upstream may not send is answered with a close frame that reaches it, however much more it sends.
func TestARefusalReachesTheUpstream(t *testing.T) {
	for _, c := range []struct {
		kind websocket.MessageType
		data string
		code string
		told string
	}{
		{websocket.MessageText, strings.Repeat("x", 3000), "0s closed 1009", `[1,"close",1009,"message over MAX_MESSAGE",true,0]`},
		{websocket.MessageText, "\xff", "0s closed 1007", `[1,"close",1006,"",false,0]`},
	} {
		bubble(t, func(s *Settings) { s.MaxMessage = 1000 }, func(w *world, ws *websocket.Conn) {
			for range 3 {
				ws.Write(context.Background(), c.kind, []byte(c.data))
			}
			w.listen(ws)
		}, func(w *world) {
			client := w.enter()
			w.post("/a", `"tunnel":1,"open":[]`)
			w.expect(c.code)
			if got := told(client); !strings.HasSuffix(got, c.told) {
				t.Errorf("the page is told %s, want %s", got, c.told)
			}
		})
	}
}

type dialer = func(ctx context.Context, in *http.Request, protocols []string, pong func(context.Context, []byte) bool) (*websocket.Conn, *Wire, Answer, error)

// slow is a connection on a long way.
type slow struct {
	io.ReadWriteCloser
	way    time.Duration
	closed chan struct{}
	once   sync.Once
}

func (s *slow) Read(p []byte) (int, error) {
	n, err := s.ReadWriteCloser.Read(p)
	select {
	case <-time.After(s.way):
	case <-s.closed:
		return 0, io.ErrClosedPipe
	}
	return n, err
}

func (s *slow) Close() error {
	s.once.Do(func() { close(s.closed) })
	return s.ReadWriteCloser.Close()
}

// A POST whose answer was lost comes again: what it says has been done, also while the service's answer to its close frame is awaited. To the script a refusal is an end
// that it waits for no longer than 10 s.
func TestACloseIsSaidAgain(t *testing.T) {
	bubble(t, func(s *Settings) { s.Dial = slowly(s.Dial, 15*time.Second) }, (*world).listen, func(w *world) {
		client := w.enter()
		w.post("/a", `"tunnel":1,"open":[]`)
		synctest.Wait()
		for range 2 {
			if status := w.post("/a", `"tunnel":1,"seq":1`, "tone", "ttwo", "c4001 done"); status != 204 {
				t.Error(status)
			}
			time.Sleep(5 * time.Second)
		}
		if status := w.post("/a", `"tunnel":1,"seq":3`, "tthree"); status != 410 {
			t.Errorf("a message after the close frame: %d", status)
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		w.expect("0s one", "0s two", "0s closed 4001")
		if got := told(client); !strings.HasSuffix(got, `[1,"close",4001,"done",true,0]`) {
			t.Errorf("the page is told %s", got)
		}
	})
}
