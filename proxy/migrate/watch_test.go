package migrate_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"

	"github.com/coder/websocket"

	"sidestream/proxy"
	"sidestream/proxy/migrate"
	"sidestream/proxy/outbound"
)

// heard is a listener that keeps what it hears.
type heard struct {
	mu     sync.Mutex
	up     []string
	down   []string
	bodies chan migrate.Body
	closed chan int
}

func newHeard() *heard { return &heard{closed: make(chan int, 8), bodies: make(chan migrate.Body, 8)} }

func (h *heard) Upgraded(*http.Request, http.Header) migrate.Hearer { return h }

func (h *heard) Answered(*http.Request, int, http.Header) func(migrate.Body) {
	return func(b migrate.Body) { h.bodies <- b }
}

func (h *heard) Hear(m migrate.Message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	text := fmt.Sprintf("%v %v %s", m.Binary, m.Skipped, m.Data)
	if m.FromClient {
		h.up = append(h.up, text)
	} else {
		h.down = append(h.down, text)
	}
}

func (h *heard) Closed(code int) { h.closed <- code }

// through starts a pass-through in front of service, watched by a listener.
func through(t *testing.T, service http.Handler, l migrate.Listener) string {
	t.Helper()
	legacy := httptest.NewServer(service)
	t.Cleanup(legacy.Close)
	base, err := url.Parse(legacy.URL)
	if err != nil {
		t.Fatal(err)
	}
	p := proxy.NewPassthrough(base, outbound.Settings{}, slog.New(slog.DiscardHandler))
	p.Watch = &migrate.Watch{Listeners: []migrate.Listener{l}}
	front := httptest.NewServer(p)
	t.Cleanup(front.Close)
	t.Cleanup(p.Close)
	return front.URL
}

// TestHearsWhatWasSaid has both sides say things of many sizes, with every way of compression that there is.
func TestHearsWhatWasSaid(t *testing.T) {
	for mode, name := range map[websocket.CompressionMode]string{websocket.CompressionDisabled: "plain", websocket.CompressionContextTakeover: "takeover", websocket.CompressionNoContextTakeover: "no takeover"} {
		t.Run(name, func(t *testing.T) {
			echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{CompressionMode: mode, CompressionThreshold: 1})
				if err != nil {
					return
				}
				defer ws.CloseNow()
				ws.SetReadLimit(-1)
				for {
					kind, data, err := ws.Read(r.Context())
					if err != nil {
						return
					}
					if err = ws.Write(r.Context(), kind, append([]byte("re: "), data...)); err != nil {
						return
					}
				}
			})
			h := newHeard()
			ws, _, err := websocket.Dial(context.Background(), through(t, echo, h)+"/ws", &websocket.DialOptions{CompressionMode: mode, CompressionThreshold: 1})
			if err != nil {
				t.Fatal(err)
			}
			defer ws.CloseNow()
			ws.SetReadLimit(-1)
			var up, down []string
			rnd := rand.New(rand.NewPCG(1, 2))
			for i, size := range []int{0, 1, 125, 126, 127, 4096, 65535, 65536, 200_000, 5, 300, 40_000, 7, migrate.MaxMessage - 4, 3} {
				data := text(rnd, size)
				kind := websocket.MessageText
				if i%3 == 2 {
					kind = websocket.MessageBinary
				}
				if err := ws.Write(t.Context(), kind, data); err != nil {
					t.Fatal(err)
				}
				if _, got, err := ws.Read(t.Context()); err != nil || string(got) != "re: "+string(data) {
					t.Fatalf("message %d passed through changed: %v", i, err)
				}
				binary := kind == websocket.MessageBinary
				up = append(up, fmt.Sprintf("%v false %s", binary, data))
				down = append(down, fmt.Sprintf("%v false re: %s", binary, data))
			}
			_ = ws.Close(4001, "enough")
			if code := <-h.closed; code != 4001 {
				t.Errorf("the close code was heard as %d, want 4001", code)
			}
			h.mu.Lock()
			defer h.mu.Unlock()
			same(t, "up", h.up, up)
			same(t, "down", h.down, down)
		})
	}
}

func same(t *testing.T, way string, got, want []string) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: heard %d messages, want %d", way, len(got), len(want))
		return
	}
	for i := range got {
		if got[i] != want[i] {
			t.Errorf("%s: message %d was heard as %.60q (%d bytes), want %.60q (%d)", way, i, got[i], len(got[i]), want[i], len(want[i]))
		}
	}
}

// text is size bytes that compress a little.
func text(rnd *rand.Rand, size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = "abcdefgh 0123456789"[rnd.IntN(19)]
	}
	return b
}

// TestLargeMessagesPass checks that a message over the bound passes, and is told of without its data.
func TestLargeMessagesPass(t *testing.T) {
	h := newHeard()
	large := bytes.Repeat([]byte("x"), migrate.MaxMessage+1)
	front := through(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		_ = ws.Write(r.Context(), websocket.MessageText, large)
		_ = ws.Write(r.Context(), websocket.MessageText, []byte("small"))
		_ = ws.Close(websocket.StatusNormalClosure, "")
	}), h)
	ws, _, err := websocket.Dial(t.Context(), front, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.CloseNow()
	ws.SetReadLimit(-1)
	if _, got, err := ws.Read(t.Context()); err != nil || !bytes.Equal(got, large) {
		t.Fatalf("the large message did not pass: %v", err)
	}
	if _, got, err := ws.Read(t.Context()); err != nil || string(got) != "small" {
		t.Fatalf("the small one: %q, %v", got, err)
	}
	_, _, _ = ws.Read(t.Context())
	<-h.closed
	same(t, "down", h.down, []string{"false true ", "false false small"})
}

// TestHearsAnswers checks what is heard of the answers to GETs, and that they pass as they are.
func TestHearsAnswers(t *testing.T) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	fmt.Fprint(z, `{"a":1}`)
	z.Close()
	h := newHeard()
	front := through(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/gzip":
			w.Header().Set("Content-Encoding", "gzip")
			w.Write(packed.Bytes())
		case "/br":
			w.Header().Set("Content-Encoding", "br")
			fmt.Fprint(w, "whatever")
		case "/large":
			w.Write(make([]byte, migrate.MaxMessage+1))
		default:
			fmt.Fprint(w, `{"a":1}`)
		}
	}), h)
	for path, want := range map[string]string{"/": `{"a":1}`, "/gzip": `{"a":1}`, "/br": "", "/large": ""} {
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, front+path, nil)
		r.Header.Set("Accept-Encoding", "gzip, br") // so that the client decodes nothing
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		passed, _ := io.ReadAll(res.Body)
		res.Body.Close()
		body := <-h.bodies
		if string(body.Data) != want || (want == "") != (body.Data == nil) {
			t.Errorf("%s was heard as %q, want %q", path, body.Data, want)
		}
		if body.Size != len(passed) {
			t.Errorf("%s: %d bytes were heard of, %d passed", path, body.Size, len(passed))
		}
	}
}

// sated has heard enough after two messages.
type sated struct {
	*heard
	n int
}

func (s *sated) Upgraded(r *http.Request, answer http.Header) migrate.Hearer {
	s.heard.Upgraded(r, answer)
	return s
}

func (s *sated) Hear(m migrate.Message) {
	s.n++
	s.heard.Hear(m)
}

func (s *sated) Enough(bool) bool { return s.n >= 2 }

// TestEnough checks that who has heard enough is told of the end alone, and that everything passes all the same.
func TestEnough(t *testing.T) {
	h := &sated{heard: newHeard()}
	front := through(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionContextTakeover})
		if err != nil {
			return
		}
		for i := range 9 {
			_ = ws.Write(r.Context(), websocket.MessageText, bytes.Repeat([]byte{byte('a' + i)}, 1000))
		}
		_ = ws.Close(4001, "")
	}), h)
	ws, _, err := websocket.Dial(t.Context(), front, &websocket.DialOptions{CompressionMode: websocket.CompressionContextTakeover})
	if err != nil {
		t.Fatal(err)
	}
	defer ws.CloseNow()
	for i := range 9 {
		if _, got, err := ws.Read(t.Context()); err != nil || !bytes.Equal(got, bytes.Repeat([]byte{byte('a' + i)}, 1000)) {
			t.Fatalf("message %d: %q, %v", i, got, err)
		}
	}
	_, _, _ = ws.Read(t.Context())
	if code := <-h.closed; code != 4001 {
		t.Errorf("the code was heard as %d", code)
	}
	if h.n != 2 {
		t.Errorf("%d messages were heard, 2 are enough", h.n)
	}
}

// TestLegible checks what is left of what a browser accepts.
func TestLegible(t *testing.T) {
	for in, want := range map[string]string{"gzip, deflate, br, zstd": "gzip, deflate", "br;q=1.0, gzip;q=0.8, *;q=0.1": "gzip;q=0.8", "br": ""} {
		h := http.Header{"Accept-Encoding": {in}}
		if migrate.Legible(h); h.Get("Accept-Encoding") != want {
			t.Errorf("%q became %q", in, h.Get("Accept-Encoding"))
		}
	}
	none := http.Header{}
	if migrate.Legible(none); len(none) != 0 {
		t.Error(none)
	}
}
