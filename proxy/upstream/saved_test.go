package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"sidestream/translate"
)

// heir is what one source leaves to the next.
type heir struct {
	saved, past []byte
	out         []string
	resumed     []bool // of each life
}

// live runs a source of rt for d, which goes on where the one before has stopped, and kills it.
func (h *heir) live(t *testing.T, rt *Route, d time.Duration) {
	t.Helper()
	source := expanded(t, rt, "/").Source(slog.New(slog.DiscardHandler))
	if h.saved != nil {
		if err := source.Restore(h.saved, h.past); err != nil {
			t.Fatal(err)
		}
	}
	ctx, kill := context.WithTimeout(t.Context(), d)
	defer kill()
	conn, err := source.Connect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	h.resumed = append(h.resumed, conn.Resumed())
	conn.Run(ctx, func(ms []translate.Message) error {
		if saved := source.Save(); saved != nil {
			h.saved = saved
		}
		for _, m := range ms {
			if m.State != nil {
				h.past = m.State
			}
			h.out = append(h.out, write([]translate.Message{m}))
		}
		return ctx.Err()
	})
	synctest.Wait()
}

// counter tells, in several ways, the numbers that grow by one each second.
func counter(begun func() time.Time) http.HandlerFunc {
	now := func() int { return int(time.Since(begun()) / time.Second) }
	list := func(after int) (all []int) {
		for n := max(after+1, 1); n <= now(); n++ {
			all = append(all, n)
		}
		return all
	}
	return func(w http.ResponseWriter, r *http.Request) {
		after, _ := strconv.Atoi(r.FormValue("after"))
		switch r.URL.Path {
		case "/after":
			json.NewEncoder(w).Encode(map[string]any{"numbers": list(after), "last": now()})
		case "/list":
			var items []map[string]int
			for _, n := range list(max(now()-10, 0)) {
				items = append(items, map[string]int{"id": n})
			}
			json.NewEncoder(w).Encode(items)
		case "/now":
			fmt.Fprint(w, now())
		case "/document":
			fmt.Fprintf(w, `{"n":%d,"constant":%q}`, now(), strings.Repeat("x", 100))
		case "/lines":
			for next := after + 1; r.Context().Err() == nil; {
				for ; next <= now(); next++ {
					fmt.Fprintln(w, next)
				}
				w.(http.Flusher).Flush()
				if sleep(r.Context(), 100*time.Millisecond) != nil {
					return
				}
			}
		case "/socket":
			ws, err := websocket.Accept(w, r, nil)
			if err != nil {
				return
			}
			defer ws.CloseNow()
			_, text, err := ws.Read(r.Context())
			if err != nil {
				return
			}
			next, err := strconv.Atoi(string(text))
			if err != nil { // a new session
				next = now()
			}
			gone := ws.CloseRead(r.Context()) // net/http does not tell, once it is hijacked
			ws.Write(gone, websocket.MessageText, fmt.Appendf(nil, `{"hello":true,"goes_on":%v}`, err == nil))
			for next++; ; {
				for ; next <= now(); next++ {
					ws.Write(gone, websocket.MessageText, fmt.Appendf(nil, `{"n":%d}`, next))
				}
				if sleep(gone, 100*time.Millisecond) != nil {
					return
				}
			}
		}
	}
}

// A source that is killed, and another one that takes what it has saved, emit what one would have.
func TestSourcesAreHandedOn(t *testing.T) {
	const s = time.Second
	for name, c := range map[string]struct {
		settings SourceSettings
		resumed  string
		want     string
	}{
		"a cursor":             {SourceSettings{From: "http://legacy/after?after={stream.cursor:0}", Cursor: ".last", Select: ".numbers[]?", Every: s / 4}, "[true true true]", "1 2 3 4 5 6 7 8 9 10 11"},
		"a list with ids":      {SourceSettings{From: "http://legacy/list", Mode: ModeItems, ID: ".id", Data: ".id", Every: s / 4}, "[true true true]", "1#1 2#2 3#3 4#4 5#5 6#6 7#7 8#8 9#9 10#10 11#11"},
		"a list without":       {SourceSettings{From: "http://legacy/list", Mode: ModeItems, Data: ".id", Every: s / 4}, "[true true true]", "1 2 3 4 5 6 7 8 9 10 11"},
		"changes":              {SourceSettings{From: "http://legacy/now", Every: s / 4}, "[true true true]", "0 1 2 3 4 5 6 7 8 9 10 11"},
		"a document":           {SourceSettings{From: "http://legacy/document", Mode: ModePatch, Every: s / 4}, "[true true true]", `snapshot:{"n":0,"constant":"X"} 1 2 3 4 5 6 7 8 9 10 11`},
		"a stream":             {SourceSettings{From: "http://legacy/lines?after={stream.cursor:0}", Mode: ModeStream, Format: "lines", Cursor: "."}, "[false true true]", "1 2 3 4 5 6 7 8 9 10 11"},
		"STATE and RESUMED":    {SourceSettings{From: "ws://legacy/socket", State: "select(.n)|{last:.n}", Hello: "{state.last:none}\n< .hello", Resumed: ".goes_on", Select: "select(.n)|.n"}, "[false true true]", "1 2 3 4 5 6 7 8 9 10 11"},
		"a socket of no state": {SourceSettings{From: "ws://legacy/socket", Hello: "none\n< .hello", Select: "select(.n)|.n"}, "[false false false]", "1 2 3 5 6 7 8 10 11"},
	} {
		var begun time.Time
		bubble(t, counter(func() time.Time { return begun }), func(t *testing.T) {
			begun = time.Now()
			rt, h := compiled(t, c.settings), new(heir)
			h.live(t, rt, 3500*time.Millisecond)
			time.Sleep(1200 * time.Millisecond) // 4
			h.live(t, rt, 4*s)                  // from 4.7
			time.Sleep(1000 * time.Millisecond) // 9, unless it can be asked for
			h.live(t, rt, 2*s)                  // from 9.7
			got := strings.NewReplacer(strings.Repeat("x", 100), "X", `patch:[{"op":"replace","path":"/n","value":`, "", `}]`, "").Replace(strings.Join(h.out, " "))
			if name == "changes" || name == "a document" || name == "a socket of no state" { // where the first number of a life is what it is
				got = strings.Join(strings.Fields(got), " ")
			}
			if got != c.want || fmt.Sprint(h.resumed) != c.resumed {
				t.Errorf("%s: %v\n\t%s, want %v\n\t%s", name, h.resumed, got, c.resumed, c.want)
			}
		})
	}
}

// What cannot be read is refused, whatever it is.
func TestHostileSavings(t *testing.T) {
	for _, s := range []SourceSettings{{From: "http://h/?c={stream.cursor:0}", Cursor: ".c"}, {From: "http://h/", Mode: ModePatch}, {From: "http://h/", Mode: ModeStream},
		{From: "ws://h/", State: ".s"}, {From: "ws://h/", Protocol: "socket.io"}, {From: "ws://h/"}} {
		rt := compiled(t, s)
		for _, saved := range [][]byte{nil, []byte("x"), save(), save("a"), save("", "", "", ""), save(strings.Repeat("c", maxCursor+1), "", ""), save("", "short", ""),
			save("", "", "short"), translate.AppendField(nil, "2")} {
			source := expanded(t, rt, "/").Source(slog.New(slog.NewTextHandler(io.Discard, nil)))
			if err := source.Restore(saved, []byte("{")); !errors.Is(err, translate.ErrSaved) && err != nil {
				t.Errorf("%+v: %q: %v", s, saved, err)
			} else if err == nil && len(saved) < 8 {
				t.Errorf("%+v: %q is restored", s, saved)
			}
		}
	}
}
