package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"sidestream/translate"
)

// STATUS says what an answer means, whatever was asked for; without it a bare status may pass.
func TestStatus(t *testing.T) {
	for _, c := range []struct {
		rules  string
		status int
		want   string // class and text
	}{
		{"", 404, "passing upstream refused (404)"},
		{"", 503, "retry answered 503"},
		{"", 302, "passing upstream refused (401): redirected to http://other/, probably to a login"},
		{"404=retry", 404, "retry answered 404"},
		{"400-403=retry,404=refused", 404, "refused upstream refused (404): answered 404, which STATUS calls refused"},
		{"401=refused:403", 401, "refused upstream refused (403): answered 401, which STATUS calls refused"},
		{"5xx=refused", 503, "refused upstream refused (403): answered 503, which STATUS calls refused"},
		{"404=finished", 404, "other answered 404: upstream finished"},
		{"410=new", 410, "other answered with a status that STATUS calls new"},
		{"202=retry", 202, "retry answered 202"},
	} {
		for _, from := range []string{"http://legacy/", "http://legacy/stream", "ws://legacy/"} {
			if c.status == 202 && from == "ws://legacy/" {
				continue
			}
			a := &api{answer: func(n int, w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Location", "http://other/")
				w.WriteHeader(c.status)
			}}
			bubble(t, a.ServeHTTP, func(t *testing.T) {
				s := SourceSettings{From: from, Status: c.rules}
				if strings.HasSuffix(from, "stream") {
					s.Mode = ModeStream
				}
				_, err := expanded(t, compiled(t, s), "/").Source(quietLog).Connect(t.Context())
				if got := classOf(err) + " " + fmt.Sprint(err); got != c.want && !(c.status == 410 && got == "retry "+c.want[6:]) &&
					!(c.rules == "404=finished" && got == "retry "+c.want[6:]) {
					t.Errorf("%s %s: %s, want %s", from, c.rules, got, c.want)
				}
			})
		}
	}
}

func classOf(err error) string {
	var may Passing
	var refused *translate.Refused
	var retry *Retry
	switch {
	case errors.As(err, &may):
		return "passing"
	case errors.As(err, &refused):
		return "refused"
	case errors.As(err, &retry):
		return "retry"
	}
	return "other"
}

// new forgets the cursor, or what STATE remembers.
func TestStatusNew(t *testing.T) {
	a := &api{answer: func(n int, w http.ResponseWriter, r *http.Request) {
		if n == 2 {
			w.WriteHeader(http.StatusConflict)
			return
		}
		fmt.Fprintf(w, `{"n":%d}`, n)
	}}
	polled(t, SourceSettings{From: "http://legacy/?since={stream.cursor:0}", Cursor: ".n", Every: time.Second, Status: "409=new"}, a, func(k *taking) {
		time.Sleep(2500 * time.Millisecond)
		if got := strings.Join(k.texts(), ", "); got != `{"n":1}, gap upstream, {"n":3}` {
			t.Errorf("%s", got)
		}
		targets(t, a, "/?since=0", "/?since=1", "/?since=0")
	})
	rt := compiled(t, SourceSettings{From: "ws://legacy/?session={state.session:none}", State: "{session:.}", Status: "409=new"})
	bubble(t, a.ServeHTTP, func(t *testing.T) {
		s := expanded(t, rt, "/").Source(quietLog).(*subscription)
		a.answer = func(n int, w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusConflict) }
		for range 2 {
			s.Connect(t.Context())
		}
		if s.state.Len() > 0 {
			t.Error("the state is kept")
		}
	})
}

func TestStatusProblems(t *testing.T) {
	for text, want := range map[string]string{
		"404":             `STATUS: "404" has no =; write status=what, such as 404=retry`,
		"nope=retry":      `STATUS: "nope=retry" has no HTTP status before the =; write 200 to 599, a range such as 401-403, or 5xx`,
		"9xx=retry":       `STATUS: "9xx=retry" has no HTTP status before the =; write 200 to 599, a range such as 401-403, or 5xx`,
		"404-401=retry":   `STATUS: "404-401=retry" has no HTTP status before the =; write 200 to 599, a range such as 401-403, or 5xx`,
		"404=gone":        `STATUS: "404=gone" is none of retry, refused, finished, new; write one of them after the = `,
		"404=retry:401":   `STATUS: "404=retry:401" has a status, which only refused can have`,
		"404=refused:500": `STATUS: "404=refused:500" refuses with a status that is not a refusal; write 400 to 499, such as refused:401`,
	} {
		if _, err := Compile(SourceSettings{From: "http://legacy/", Status: text}); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// REFUSED is asked of any answer, and of each record.
func TestRefusedByProgram(t *testing.T) {
	for _, c := range []struct {
		program, body string
		status        int
		want          string
	}{
		{".code==401", `{"code":401}`, 200, "refused upstream refused (403): an answer that REFUSED calls refused"},
		{".code", `{"code":401}`, 200, "refused upstream refused (401): an answer that REFUSED calls refused"},
		{".code", `{"code":401.0}`, 500, "refused upstream refused (401): an answer that REFUSED calls refused"},
		{".code", `{"code":500}`, 500, "retry answered 500"},
		{"if status==500 then 404 else empty end", `oops`, 500, "refused upstream refused (404): an answer that REFUSED calls refused"},
	} {
		for _, mode := range []string{ModeChanges, ModeStream} {
			a := &api{answer: func(n int, w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(c.status)
				io.WriteString(w, c.body+"\n")
			}}
			bubble(t, a.ServeHTTP, func(t *testing.T) {
				source := expanded(t, compiled(t, SourceSettings{From: "http://legacy/", Mode: mode, Refused: c.program}), "/").Source(quietLog)
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				conn, err := source.Connect(ctx)
				if err == nil {
					err = conn.Run(ctx, func(ms []translate.Message) error { t.Errorf("%s: %s", c.program, write(ms)); return nil })
				}
				if got := classOf(err) + " " + fmt.Sprint(err); got != c.want {
					t.Errorf("%s %s: %s, want %s", mode, c.program, got, c.want)
				}
			})
		}
	}
}

// What a dialect says to a connection that is being opened may pass, as the status of an answer may; what the route's own settings
// call refused does not.
func TestDialectRefusalMayPass(t *testing.T) {
	for name, c := range map[string]struct {
		s    SourceSettings
		talk func(ctx context.Context, ws *websocket.Conn)
		want string
	}{
		"a dialect's": {SourceSettings{Protocol: "actioncable", Subscribe: `{"channel":"X"}`}, func(ctx context.Context, ws *websocket.Conn) {
			ws.Write(ctx, websocket.MessageText, []byte(`{"type":"disconnect","reason":"unauthorized","reconnect":false}`))
		}, "passing"},
		"! of HELLO": {SourceSettings{Hello: "! true\n< false"}, func(ctx context.Context, ws *websocket.Conn) {
			ws.Write(ctx, websocket.MessageText, []byte("1"))
		}, "refused"},
		"CLOSE": {SourceSettings{Hello: "< false", Close: "4001=refused"}, func(ctx context.Context, ws *websocket.Conn) { ws.Close(4001, "") }, "refused"},
	} {
		a := &api{answer: func(n int, w http.ResponseWriter, r *http.Request) {
			ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"actioncable-v1-json"}})
			if err != nil {
				t.Error(err)
				return
			}
			c.talk(r.Context(), ws)
			<-ws.CloseRead(r.Context()).Done()
		}}
		bubble(t, a.ServeHTTP, func(t *testing.T) {
			c.s.From = "ws://legacy/"
			_, err := expanded(t, compiled(t, c.s), "/").Source(quietLog).Connect(t.Context())
			if got := classOf(err); got != c.want {
				t.Errorf("%s: %s, %v", name, got, err)
			}
		})
	}
}
