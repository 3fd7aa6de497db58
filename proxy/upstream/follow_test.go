package upstream

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"sidestream/translate"
)

// streaming answers with a body of this type that the test writes.
func streaming(media string, talk func(n int, say func(string), r *http.Request)) *api {
	return &api{answer: func(n int, w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", media)
		flush := http.NewResponseController(w).Flush
		flush()
		talk(n, func(text string) { io.WriteString(w, text); flush() }, r)
	}}
}

func TestFollowEvents(t *testing.T) {
	a := streaming("text/event-stream; charset=utf-8", func(n int, say func(string), r *http.Request) {
		say("retry: 7000\n: hello\n\nid: 5\nevent: price\nda")
		time.Sleep(time.Second)
		say("ta: 1\n\ndata: 2\n\n")
		time.Sleep(30 * time.Second)
		say(":\n")
		time.Sleep(45 * time.Second)
		say("id: 6\ndata: 3\n\nid: 7\ndata: incomplete\n")
	})
	polled(t, SourceSettings{Mode: ModeStream, Idle: time.Minute}, a, func(k *taking) {
		time.Sleep(80 * time.Second)
		k.expect("1s price:1#5 2", "1m16s 3#6", "1m16s lost: the upstream ended its answer")
		time.Sleep(5 * time.Second)
		ids := a.told(func(r *http.Request) string {
			return fmt.Sprint(r.Header.Get("Last-Event-ID"), " ", r.Header.Get("Accept"), " ", r.Header.Get("Accept-Encoding"))
		})
		if !slices.Equal(ids, []string{" text/event-stream, application/x-ndjson, application/json;q=0.9 identity", "6 text/event-stream, application/x-ndjson, application/json;q=0.9 identity"}) ||
			a.at()[1] != 83*time.Second {
			t.Errorf("%q at %v", ids, a.at())
		}
	})
}

func TestFollowLines(t *testing.T) {
	a := streaming("application/json", func(n int, say func(string), r *http.Request) {
		say(`{"type":"ADDED","object":{"rv":1}}` + "\n" + `{"type":"ADD`)
		time.Sleep(time.Second)
		say(`ED","object":{"rv":2}}` + "\r\n\n")
		<-r.Context().Done()
	})
	polled(t, SourceSettings{Mode: ModeStream, Event: ".type", Data: ".object"}, a, func(k *taking) {
		time.Sleep(2 * time.Second)
		k.expect(`0s ADDED:{"rv":1}`, `1s ADDED:{"rv":2}`)
	})
}

// resumption runs a stream that is cut once, and returns what the second connection says and asked for.
func resumption(t *testing.T, s SourceSettings, answer func(n int, w http.ResponseWriter)) (resumed bool, asked, id string, err error) {
	t.Helper()
	a := &api{answer: func(n int, w http.ResponseWriter, r *http.Request) { answer(n, w) }}
	bubble(t, a.ServeHTTP, func(t *testing.T) {
		s.Mode, s.From = ModeStream, "http://legacy/watch?since={stream.cursor:0}"
		if s.Cursor == "" {
			s.From = "http://legacy/watch"
		}
		source := expanded(t, compiled(t, s), "/").Source(quietLog)
		for range 2 {
			var conn Conn
			if conn, err = source.Connect(t.Context()); err != nil {
				continue
			}
			resumed = conn.Resumed()
			err = conn.Run(t.Context(), func([]translate.Message) error { return nil })
		}
		all := a.asked()
		ids := a.told(func(r *http.Request) string { return r.Header.Get("Last-Event-ID") })
		asked, id = all[len(all)-1], ids[len(ids)-1]
	})
	return resumed, asked, id, err
}

// Only CURSOR promises that nothing is lost.
func TestFollowResumes(t *testing.T) {
	events := func(n int, w http.ResponseWriter) {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprintf(w, "id: %d\ndata: {\"rv\":%d}\n\n", n, n+10)
	}
	var retry *Retry
	resumed, asked, id, err := resumption(t, SourceSettings{}, events)
	if resumed || errors.As(err, &retry) || asked != "/watch" || id != "1" {
		t.Errorf("without CURSOR: %v, %v, %s, %s", resumed, err, asked, id)
	}
	resumed, asked, id, err = resumption(t, SourceSettings{Cursor: ".rv"}, events)
	if !resumed || !errors.As(err, &retry) || !retry.Resumes || asked != "/watch?since=11" || id != "1" {
		t.Errorf("with CURSOR: %v, %v, %s, %s", resumed, err, asked, id)
	}
	resumed, _, id, err = resumption(t, SourceSettings{Cursor: "id"}, events)
	if !resumed || !errors.As(err, &retry) || !retry.Resumes || id != "1" {
		t.Errorf("with the id as CURSOR: %v, %v, %s", resumed, err, id)
	}
	// A cursor that is too old is forgotten.
	resumed, asked, _, err = resumption(t, SourceSettings{Cursor: ".rv"}, func(n int, w http.ResponseWriter) {
		if n == 2 {
			w.WriteHeader(http.StatusGone)
			return
		}
		events(n, w)
	})
	if !errors.Is(err, errReset) || asked != "/watch?since=11" {
		t.Errorf("gone: %v, %v, %s", resumed, err, asked)
	}
}

// An answer that is cut before its first event, or is none of events, does not take back the last id.
func TestFollowKeepsTheLastID(t *testing.T) {
	for text, media := range map[string]string{
		":\n\n":                         "text/event-stream",
		"id: 2\ndata: {\"rv\":2}\n":     "text/event-stream",
		": welcome\ndata: {\"rv\":2}\n": "",
		`{"rv":`:                        "application/json",
	} {
		a := &api{answer: func(n int, w http.ResponseWriter, r *http.Request) {
			if n == 1 {
				w.Header().Set("Content-Type", "text/event-stream")
				io.WriteString(w, "id: 1\ndata: {\"rv\":11}\n\n")
				return
			}
			w.Header()["Content-Type"] = []string{media}
			io.WriteString(w, text)
			http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}}
		bubble(t, a.ServeHTTP, func(t *testing.T) {
			source := expanded(t, compiled(t, SourceSettings{Mode: ModeStream, From: "http://legacy/watch", Cursor: "id"}), "/").Source(quietLog)
			for range 3 {
				conn, err := source.Connect(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				conn.Run(t.Context(), func([]translate.Message) error { return nil })
			}
			if ids := a.told(func(r *http.Request) string { return r.Header.Get("Last-Event-ID") }); !slices.Equal(ids, []string{"", "1", "1"}) {
				t.Errorf("%q: asked for what follows %q", text, ids)
			}
		})
	}
}

func TestFollowVerdicts(t *testing.T) {
	for name, test := range map[string]struct {
		answer func(w http.ResponseWriter)
		want   string
	}{
		"401":       {func(w http.ResponseWriter) { w.WriteHeader(401) }, "upstream refused (401)"},
		"204":       {func(w http.ResponseWriter) { w.WriteHeader(204) }, "upstream finished"},
		"a login":   {func(w http.ResponseWriter) { w.Header().Set("Content-Type", "text/html"); io.WriteString(w, "<html>") }, "upstream refused (401): answered with a page of HTML, probably a login"},
		"503":       {func(w http.ResponseWriter) { w.WriteHeader(503) }, "answered 503"},
		"DONE":      {func(w http.ResponseWriter) { io.WriteString(w, "1\n\"end\"\n2\n") }, "upstream finished"},
		"a page":    {func(w http.ResponseWriter) { io.WriteString(w, "<!doctype html>\n") }, "upstream refused (401): answered with a page of HTML, probably a login"},
		"DONE last": {func(w http.ResponseWriter) { io.WriteString(w, "\uFEFF1\n\"end\"") }, "upstream finished"},
		"no header": {func(w http.ResponseWriter) { time.Sleep(20 * time.Second) }, "connect: no answer within TIMEOUT (10s)"},
	} {
		a := &api{answer: func(n int, w http.ResponseWriter, r *http.Request) { test.answer(w) }}
		bubble(t, a.ServeHTTP, func(t *testing.T) {
			s := SourceSettings{From: "http://legacy/", Mode: ModeStream, Done: `. == "end"`, Timeout: 10 * time.Second}
			source := expanded(t, compiled(t, s), "/").Source(quietLog)
			conn, err := source.Connect(t.Context())
			got := ""
			if err == nil {
				err = conn.Run(t.Context(), func(ms []translate.Message) error { got += write(ms); return nil })
			}
			if err == nil || err.Error() != test.want || strings.HasPrefix(name, "DONE") && strings.ReplaceAll(got, " ", "") != `1"end"` {
				t.Errorf("%s: %v, %q", name, err, got)
			}
			time.Sleep(30 * time.Second)
		})
	}
}

// Silence ends a connection, and so does who waits for it.
func TestFollowEnds(t *testing.T) {
	a := streaming("text/event-stream", func(n int, say func(string), r *http.Request) {
		say("data: 1\n\n")
		<-r.Context().Done()
	})
	polled(t, SourceSettings{Mode: ModeStream, Idle: 20 * time.Second}, a, func(k *taking) {
		time.Sleep(20500 * time.Millisecond)
		k.expect("0s 1", "20s lost: connection lost: nothing was received within IDLE (20s)")
	})
	polled(t, SourceSettings{Mode: ModeStream}, a, func(k *taking) { // without IDLE
		time.Sleep(10 * time.Hour)
		if got := k.texts(); len(got) != 1 {
			t.Errorf("%q", got)
		}
	})
}

func TestFollowOversize(t *testing.T) {
	a := streaming("text/event-stream", func(n int, say func(string), r *http.Request) {
		say("data: 1\n\ndata: " + strings.Repeat("x", 101) + "\n\ndata: " + strings.Repeat("y", 100) + "\n\n")
		<-r.Context().Done()
	})
	polled(t, SourceSettings{Mode: ModeStream, MaxMessage: 100}, a, func(k *taking) {
		time.Sleep(time.Second)
		if got := strings.Join(k.texts(), " "); got != "1 gap upstream "+strings.Repeat("y", 100) {
			t.Errorf("%q", got)
		}
		if n := k.route.Stats.Oversize.Load(); n != 1 {
			t.Errorf("%d counted", n)
		}
	})
}

// Where only the connection's end ends a body, a line without its end counts if it is whole.
func TestFollowUntilClose(t *testing.T) {
	for body, want := range map[string]string{"{\"n\":1}\n{\"n\":2}": `{"n":1} {"n":2}`, "{\"n\":1}\n{\"n\":2": `{"n":1}`, "one\ntwo": "one"} {
		a := &api{answer: func(n int, w http.ResponseWriter, r *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			fmt.Fprintf(conn, "HTTP/1.0 200 OK\r\nContent-Type: application/x-ndjson\r\n\r\n%s", body)
			conn.Close()
		}}
		bubble(t, a.ServeHTTP, func(t *testing.T) {
			conn, err := expanded(t, compiled(t, SourceSettings{From: "http://legacy/", Mode: ModeStream}), "/").Source(quietLog).Connect(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			conn.Run(t.Context(), func(ms []translate.Message) error { got = append(got, write(ms)); return nil })
			if strings.Join(got, " ") != want {
				t.Errorf("%q: %q, want %q", body, got, want)
			}
		})
	}
}
