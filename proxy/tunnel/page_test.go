package tunnel

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"sidestream/e2e/pipes"
	"sidestream/proxy/deliver"
	"sidestream/proxy/stream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is pages with an upstream in memory, whose connections talk answers.
type world struct {
	*Pages
	t     *testing.T
	mu    sync.Mutex
	begun time.Time
	heard []string // "<when> <what>"
}

func (w *world) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.heard = append(w.heard, fmt.Sprintf("%v ", time.Since(w.begun))+fmt.Sprintf(format, args...))
}

func (w *world) expect(want ...string) {
	w.t.Helper()
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if got := strings.Join(w.heard, "\n\t"); got != strings.Join(want, "\n\t") {
		w.t.Errorf("the upstream heard\n\t%s\nwant\n\t%s", got, strings.Join(want, "\n\t"))
	}
}

// listen notes what it hears, and how it ends.
func (w *world) listen(ws *websocket.Conn) {
	for {
		_, data, err := ws.Read(context.Background())
		if code := websocket.CloseStatus(err); code != -1 {
			w.note("closed %d", int(code))
			return
		}
		if err != nil {
			w.note("cut")
			return
		}
		w.note("%.20s", data)
	}
}

func bubble(t *testing.T, change func(*Settings), talk func(w *world, ws *websocket.Conn), do func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, begun: time.Now()}
		l := pipes.Listen()
		var handling sync.WaitGroup
		server := &http.Server{ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError), Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			handling.Add(1)
			defer handling.Done()
			if r.URL.Path == "/never" {
				<-r.Context().Done()
				w.note("given up")
				return
			}
			if r.URL.Path == "/cookie" {
				rw.Header().Set("Set-Cookie", "sticky=1; Path=/")
			}
			ws, err := websocket.Accept(rw, r, nil)
			if err != nil {
				return
			}
			defer ws.CloseNow()
			ws.SetReadLimit(-1)
			talk(w, ws)
		})}
		served := make(chan struct{})
		go func() { // ends with the server
			defer close(served)
			server.Serve(l)
		}()
		transport := &http.Transport{DialContext: l.Dial}
		s := Settings{Clients: deliver.Pacing{Stats: new(deliver.Stats)}, Linger: 30 * time.Second, Window: 1 << 20, MaxMessage: 1 << 20,
			Pages: stream.NewLimit(100), Tunnels: stream.NewLimit(100), Log: slog.New(slog.DiscardHandler)}
		s.Dial = func(ctx context.Context, in *http.Request, protocols []string, pong func(context.Context, []byte) bool) (*websocket.Conn, *Wire, Answer, error) {
			upgrade := &Upgrade{Base: transport}
			ws, resp, err := websocket.Dial(ctx, "ws://legacy"+in.URL.Path, &websocket.DialOptions{HTTPClient: &http.Client{Transport: upgrade}, OnPingReceived: pong})
			answer := Answer{}
			if resp != nil {
				answer.Cookies = resp.Header["Set-Cookie"]
			}
			return ws, upgrade.Wire, answer, err
		}
		if change != nil {
			change(&s)
		}
		w.Pages = New(s)
		do(w)
		w.Close()
		if pages, tunnels := w.Count(); pages+tunnels+s.Pages.Used()+s.Tunnels.Used() != 0 {
			t.Errorf("left behind: %d pages, %d tunnels, places %d and %d", pages, tunnels, s.Pages.Used(), s.Tunnels.Used())
		}
		transport.CloseIdleConnections()
		server.Close()
		<-served
		synctest.Wait()
		handling.Wait()
		time.Sleep(time.Hour) // the library's own goroutines notice
	})
}

const id = "0123456789abcdef"

func (w *world) enter() deliver.Client {
	w.t.Helper()
	c, err := w.Client(httptest.NewRequest("GET", "/", nil), id, "")
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// post returns the answer's status.
func (w *world) post(target, head string, frames ...string) int {
	var body strings.Builder
	fmt.Fprintf(&body, `{"page":%q,%s}`+"\n", id, head)
	for _, f := range frames {
		fmt.Fprintf(&body, "%c%d\n%s", f[0], len(f)-1, f[1:])
	}
	return w.postBody(target, strings.NewReader(body.String()))
}

func (w *world) postBody(target string, body io.Reader) int {
	r := httptest.NewRequest("POST", target, body)
	rec := httptest.NewRecorder()
	w.Post(rec, r, target, func() *http.Request { return httptest.NewRequest("GET", target, nil) }, false)
	return rec.Code
}

// told is what c's ring holds.
func told(c deliver.Client) string {
	events, _, _, _ := c.Ring.After(nil, stream.Begin)
	var all []string
	for _, e := range events {
		_, data, _ := strings.Cut(string(e), "data: ")
		data, _, _ = strings.Cut(data, "\n")
		all = append(all, data)
	}
	return strings.Join(all, " ")
}

func TestLinger(t *testing.T) {
	bubble(t, nil, (*world).listen, func(w *world) {
		c := w.enter()
		if status := w.post("/a", `"tunnel":1,"open":[]`); status != 202 {
			t.Fatal(status)
		}
		synctest.Wait()
		if status := w.post("/a", `"tunnel":1,"seq":1`, "tone"); status != 204 {
			t.Error(status)
		}
		time.Sleep(time.Minute) // a page with a client does not end
		c.Leave()
		time.Sleep(29 * time.Second)
		again := w.enter()
		if again.Ring != c.Ring {
			t.Error("the page is another one")
		}
		again.Leave()
		time.Sleep(30*time.Second - time.Nanosecond)
		w.expect("0s one")
		time.Sleep(time.Nanosecond)
		w.expect("0s one", "1m59s closed 1001")
		if status := w.post("/a", `"tunnel":1,"seq":2`, "ttwo"); status != 404 {
			t.Errorf("a page that has gone: %d", status)
		}
		if last := w.enter(); last.Ring == c.Ring {
			t.Error("the page lives again")
		} else {
			last.Leave()
		}
		if w.Stats.Expired.Load() != 1 {
			t.Errorf("%d expired", w.Stats.Expired.Load())
		}
		time.Sleep(5*time.Second - time.Nanosecond) // without tunnels
		if pages, _ := w.Count(); pages != 1 {
			t.Errorf("%d pages", pages)
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if pages, _ := w.Count(); pages != 0 {
			t.Errorf("%d pages", pages)
		}
	})
}

// Whoever goes away while the upstream is dialled leaves nothing.
func TestDialIsGivenUp(t *testing.T) {
	bubble(t, nil, (*world).listen, func(w *world) {
		c := w.enter()
		go w.post("/never", `"tunnel":1,"open":[]`) // answered after openTime
		synctest.Wait()
		go w.post("/never", `"tunnel":2,"open":[]`)
		time.Sleep(time.Second)
		if status := w.post("/never", `"tunnel":1,"seq":1`, "tx"); status != 409 {
			t.Errorf("a frame before it is open: %d", status)
		}
		if status := w.post("/never", `"tunnel":1,"seq":1`, "c1001 "); status != 204 {
			t.Errorf("closed before it is open: %d", status)
		}
		w.expect("1s given up")
		time.Sleep(30 * time.Second)            // the second one was dialled when the first was given up
		w.expect("1s given up", "31s given up") // dialTime
		if got, want := told(c), `[0,"page",131072,30000,"",1] [1,"close",1006,"",false,0] [2,"close",1006,"",false,0]`; got != want {
			t.Errorf("told %s, want %s", got, want)
		}
		go w.post("/never", `"tunnel":3,"open":[]`)
		time.Sleep(time.Second)
		w.Close()
		w.expect("1s given up", "31s given up", "32s given up")
	})
}

// A POST is answered after 20 s, and repeated; what was taken is not sent again, and the ring of answers is right.
func TestAnUpstreamThatTakesNothing(t *testing.T) {
	bubble(t, nil, func(w *world, ws *websocket.Conn) {
		time.Sleep(50 * time.Second)
		w.listen(ws)
	}, func(w *world) {
		w.enter()
		w.post("/a", `"tunnel":1,"open":[]`)
		synctest.Wait()
		large := "t" + strings.Repeat("a", 100000)
		for i, want := range []struct {
			frames []string
			status int
			at     time.Duration
		}{{[]string{large, "tb"}, 503, 20 * time.Second}, {[]string{large}, 503, 40 * time.Second}, // it is taken, but not written
			{[]string{large, "tb"}, 204, 50 * time.Second}, {[]string{large, "tb"}, 204, 50 * time.Second}} {
			if status := w.post("/a", `"tunnel":1,"seq":1`, want.frames...); status != want.status || time.Since(w.begun) != want.at {
				t.Errorf("POST %d: %d after %v, want %d after %v", i, status, time.Since(w.begun), want.status, want.at)
			}
		}
		w.expect("50s aaaaaaaaaaaaaaaaaaaa", "50s b")
		if w.Stats.Up.Load() != 2 {
			t.Errorf("%d messages", w.Stats.Up.Load())
		}
	})
}

// It may ping meanwhile: what is not answered, as it would not be read either, does not end the connection.
func TestAnUpstreamThatTakesNothingButPings(t *testing.T) {
	bubble(t, nil, func(w *world, ws *websocket.Conn) {
		time.Sleep(5 * time.Second)
		for range 3 {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			ws.Ping(ctx)
			cancel()
		}
		w.listen(ws)
	}, func(w *world) {
		w.enter()
		w.post("/a", `"tunnel":1,"open":[]`)
		synctest.Wait()
		large := "t" + strings.Repeat("a", 100000)
		for _, want := range []int{503, 204} {
			if status := w.post("/a", `"tunnel":1,"seq":1`, large); status != want {
				t.Errorf("%v: %d, want %d", time.Since(w.begun), status, want)
			}
		}
		w.expect("35s aaaaaaaaaaaaaaaaaaaa")
	})
}

// Several POSTs of one tunnel at once, as after a network failure, do neither double nor disorder anything.
func TestPostsAtOnce(t *testing.T) {
	bubble(t, nil, func(w *world, ws *websocket.Conn) { time.Sleep(time.Second); w.listen(ws) }, func(w *world) {
		w.enter()
		w.post("/a", `"tunnel":1,"open":[]`)
		synctest.Wait()
		var all []string
		for i := range 50 {
			all = append(all, fmt.Sprintf("t%d", i))
		}
		var posting sync.WaitGroup
		for i := range maxPosts {
			posting.Go(func() {
				if status := w.post("/a", `"tunnel":1,"seq":1`, all[:50-10*i]...); status != 204 {
					t.Errorf("POST %d: %d", i, status)
				}
			})
		}
		synctest.Wait()
		if status := w.post("/a", `"tunnel":1,"seq":1`, all...); status != 429 {
			t.Errorf("one POST too many: %d", status)
		}
		posting.Wait()
		var want []string
		for i := range 50 {
			want = append(want, fmt.Sprintf("1s %d", i))
		}
		w.expect(want...)
	})
}

// What is not acknowledged holds the upstream back, by bytes; a message of any size goes through.
func TestWindow(t *testing.T) {
	bubble(t, func(s *Settings) { s.Window = 2000 }, func(w *world, ws *websocket.Conn) {
		for i := range 6 {
			ws.Write(context.Background(), websocket.MessageText, []byte(strings.Repeat("x", 600)+fmt.Sprint(i)))
			w.note("wrote %d", i)
		}
		ws.Write(context.Background(), websocket.MessageText, []byte(strings.Repeat("y", 100000)))
		w.note("wrote all")
		w.listen(ws)
	}, func(w *world) {
		c := w.enter()
		w.post("/a", `"tunnel":1,"open":[]`)
		time.Sleep(time.Second)
		held := c.Ring.Held()
		if held < 1000 || held > 2500 {
			t.Errorf("%d bytes are held", held)
		}
		for range 10 {
			time.Sleep(time.Second)
			if status := w.post("/a", fmt.Sprintf(`"tunnel":1,"seq":1,"ack":%q`, c.Ring.LastID())); status != 204 {
				t.Error(status)
			}
			synctest.Wait()
		}
		if c.Ring.Held() != 0 {
			t.Errorf("%d bytes are held", c.Ring.Held())
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if last := w.heard[len(w.heard)-1]; !strings.HasSuffix(last, "wrote all") || w.Stats.Down.Load() != 7 {
			t.Errorf("%q, %d messages", w.heard, w.Stats.Down.Load())
		}
	})
}

// A page that opens tunnels for ever keeps no more than it must, and no number is used twice.
func TestNumbersAreNotKeptForEver(t *testing.T) {
	bubble(t, nil, func(w *world, ws *websocket.Conn) { ws.Close(websocket.StatusNormalClosure, "") }, func(w *world) {
		c := w.enter()
		const count = 2*memory + 500
		for n := 1; n <= count; n++ {
			if status := w.post("/a", fmt.Sprintf(`"tunnel":%d,"open":[],"ack":%q`, n, c.Ring.LastID())); status != 202 {
				t.Fatalf("tunnel %d: %d", n, status)
			}
			synctest.Wait()
		}
		w.mu.Lock()
		kept := 0
		for _, p := range w.byKey {
			kept = len(p.tunnels)
		}
		w.mu.Unlock()
		if kept > 2*memory+1 {
			t.Errorf("%d tunnels are kept", kept)
		}
		for _, n := range []int{1, count - memory, count - 1, count} {
			want := 202
			if n <= count-memory {
				want = 410
			}
			if status := w.post("/a", fmt.Sprintf(`"tunnel":%d,"open":[]`, n)); status != want {
				t.Errorf("tunnel %d again: %d, want %d", n, status, want)
			}
		}
		if n := w.Stats.Opened.Load(); n != count {
			t.Errorf("%d opened", n)
		}
	})
}
