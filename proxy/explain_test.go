package proxy

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// talker is a service that says these frames to whoever connects, once it has heard something, and then waits.
func talker(t *testing.T, frames ...string) (address string) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer conn.CloseNow()
		if _, _, err := conn.Read(r.Context()); err != nil {
			return
		}
		for _, f := range frames {
			conn.Write(r.Context(), websocket.MessageText, []byte(f))
		}
		for err == nil {
			_, _, err = conn.Read(context.Background())
		}
	}))
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	return "ws" + strings.TrimPrefix(s.URL, "http") + "/"
}

// What took each frame, and what came of it.
func TestTapExplains(t *testing.T) {
	at := talker(t, `{"hello":1}`, `{"ok":1}`, `{"type":"ping"}`, "{\"type\":\"price\",\n\"p\":1}", `{"type":"price","p":2}`)
	env := []string{"SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM=" + at, "SSE_ROUTE_A_HELLO=> hi\n< .ok", `SSE_ROUTE_A_REPLY=select(.type=="ping")|{type:"pong"}`, `SSE_ROUTE_A_SELECT=select(.type=="price" and .p>1)`}
	var out bytes.Buffer
	var lines lined
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := Tap(ctx, configure(t, env...).Routes[0], []string{"-n", "1", "-raw"}, &out, slog.New(slog.NewJSONHandler(&lines, nil))); err != nil {
		t.Fatal(err)
	}
	// What came before the opening was complete is looked at once it is.
	want := `: < 11 bytes, text: {"hello":1}
: < 8 bytes, text: {"ok":1}
:    line 2 of HELLO took it
:    dropped by SELECT
: < 15 bytes, text: {"type":"ping"}
:    REPLY answered it with 1 frames
:    dropped by SELECT
: < 23 bytes, text: {"type":"price",␣"p":1}
:    dropped by SELECT
: < 22 bytes, text: {"type":"price","p":2}
:    1 events
data: {"type":"price","p":2}
id: ID

`
	if got := regexp.MustCompile(`id: \d+-\d+`).ReplaceAllString(out.String(), "id: ID"); got != want {
		t.Errorf("%s", got)
	}
	if got := lines.with("5 messages arrived, 3 were dropped by SELECT, 1 event", "msg"); len(got) != 1 {
		t.Errorf("%s", lines.buf.String())
	}
}

// Without -raw only the events are written, and what arrived is counted; a first frame of another dialect is noticed. -for ends it.
func TestTapCounts(t *testing.T) {
	at := talker(t, `0{"sid":"x"}`, `2`)
	for _, d := range []time.Duration{time.Second, 5 * time.Second, 20 * time.Second} { // on a busy machine both may not have come within the first
		var out bytes.Buffer
		var lines lined
		begun := time.Now()
		err := Tap(t.Context(), configure(t, "SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM="+at, "SSE_ROUTE_A_HELLO=> hi", "SSE_ROUTE_A_SELECT=empty").Routes[0], []string{"-for", d.String()}, &out,
			slog.New(slog.NewJSONHandler(&lines, nil)))
		if err != nil || out.Len() != 0 || time.Since(begun) < d {
			t.Errorf("%v %q after %v", err, &out, time.Since(begun))
		}
		if len(lines.with("2 messages arrived", "msg")) == 0 && d < 20*time.Second {
			continue
		}
		if got := lines.with("another dialect", "hint"); len(got) != 1 || got[0] != "PROTOCOL=socket.io?" {
			t.Errorf("%q", got)
		}
		if got := lines.with("2 messages arrived, 2 were dropped by SELECT, 0 events", "msg"); len(got) != 1 {
			t.Errorf("%s", lines.buf.String())
		}
		return
	}
}

func TestTapOptions(t *testing.T) {
	o, rest, err := tapOptions([]string{"path.id=7", "-raw", "-n", "3", "query.a=-n", "-for", "2m"})
	if err != nil || !o.raw || o.most != 3 || o.time != 2*time.Minute || strings.Join(rest, " ") != "path.id=7 query.a=-n" {
		t.Errorf("%+v %q %v", o, rest, err)
	}
	for _, wrong := range []string{"-n", "-n x", "-n 0", "-for", "-for 3", "-for -1s"} {
		if _, _, err := tapOptions(strings.Fields(wrong)); err == nil {
			t.Errorf("%s is taken", wrong)
		}
	}
}

// untilSaid is what is written, until it has all of these.
type untilSaid struct {
	bytes.Buffer
	all  []string
	stop func()
}

func (u *untilSaid) Write(p []byte) (int, error) {
	n, err := u.Buffer.Write(p)
	if !slices.ContainsFunc(u.all, func(one string) bool { return !strings.Contains(u.String(), one) }) {
		u.stop()
	}
	return n, err
}

// tapUntil is what Tap has written, with -raw, once that has all of these, or after a minute.
func tapUntil(t *testing.T, rt *RouteSettings, log slog.Handler, all ...string) string {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	out := untilSaid{all: all, stop: stop}
	if err := Tap(ctx, rt, []string{"-raw"}, &out, slog.New(log)); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// A poll is explained, too.
func TestTapExplainsPolls(t *testing.T) {
	s := httptest.NewServer(jsonAnswer(`{"a":1}`))
	defer s.Close()
	const again = "nothing has changed since the last poll"
	got := tapUntil(t, configure(t, "SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM="+s.URL, "SSE_ROUTE_A_EVERY=100ms").Routes[0], slog.DiscardHandler, again)
	if !strings.HasPrefix(got, ": < 7 bytes, text: {\"a\":1}\n:    1 events\ndata: {\"a\":1}\n") || !strings.Contains(got, again) {
		t.Errorf("%s", got)
	}
}

// What is packed is shown as it came and as what it is, with the sizes of both, and so is what does not decode.
func TestTapExplainsDecoding(t *testing.T) {
	n := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n++; n == 1 {
			w.Write([]byte("\x81\xa1a\xcd\x01\x00"))
			return
		}
		w.Write([]byte("\x81\xa1a"))
	}))
	defer s.Close()
	var lines lined
	wants := []string{": < 6 bytes, binary: 81a161cd0100\n:    decoded to 9 bytes: {\"a\":256}\n:    1 events\ndata: {\"a\":256}\n",
		": < 3 bytes, binary: 81a161\n:    does not decode: msgpack: at byte 3: it is cut short\n:    dropped by DECODE\n"}
	rt := configure(t, "SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM="+s.URL, "SSE_ROUTE_A_EVERY=100ms", "SSE_ROUTE_A_DECODE=msgpack").Routes[0]
	got := tapUntil(t, rt, slog.NewJSONHandler(&lines, nil), wants...)
	for _, want := range wants {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
	if !strings.Contains(lines.buf.String(), "dropped by DECODE, 1 event") {
		t.Errorf("%s", lines.buf.String())
	}
}
