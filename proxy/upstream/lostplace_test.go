package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"testing"
	"time"

	"sidestream/translate"
)

// numbered is a server whose numbers begin again when it restarts, and which waits for numbers to come (Syncthing, etcd 2).
func numbered(fails func(n int) bool) *api {
	return &api{answer: func(n int, w http.ResponseWriter, r *http.Request) {
		since, _ := strconv.Atoi(r.FormValue("since"))
		switch {
		case fails(n):
			time.Sleep(time.Second)
			panic(http.ErrAbortHandler)
		case n == 1:
			fmt.Fprint(w, `{"id":7}`)
		case since >= 1:
			<-r.Context().Done() // the number is still to come
		default:
			fmt.Fprint(w, `{"id":1}`)
		}
	}}
}

// The place is forgotten when the answer to a long poll breaks off, or never begins.
func TestLongPollForgetsItsPlace(t *testing.T) {
	s := SourceSettings{From: "http://legacy/events?since={stream.cursor:0}", Cursor: ".id", Data: ".id", Reset: "status==null"}
	a := numbered(func(n int) bool { return n == 2 || n == 3 })
	polled(t, s, a, func(k *taking) {
		time.Sleep(time.Minute)
		// net/http repeats the request, which is number 3; its answer does not count either.
		k.expect("0s 7", "2s lost: poll: EOF", "2s 1")
	})
	for name, broken := range map[string]func(w http.ResponseWriter){
		"cut in its body": func(w http.ResponseWriter) {
			w.Write([]byte(`{"id"`))
			http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		},
		"repeated by net/http": func(w http.ResponseWriter) { panic(http.ErrAbortHandler) },
		"silent":               func(w http.ResponseWriter) { time.Sleep(30 * time.Second) },
	} {
		a := &api{answer: func(n int, w http.ResponseWriter, r *http.Request) {
			if n == 2 {
				broken(w)
			}
			fmt.Fprintf(w, `{"id":%d}`, n)
		}}
		s.Timeout, s.Every = 10*time.Second, time.Second
		bubble(t, a.ServeHTTP, func(t *testing.T) {
			s.From = "http://legacy/events?since={stream.cursor:0}"
			conn, err := expanded(t, compiled(t, s), "/").Source(quietLog).Connect(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			err = conn.Run(ctx, func([]translate.Message) error { return nil })
			var retry *Retry
			if !errors.As(err, &retry) || retry.Lossless || retry.Resumes {
				t.Errorf("%s: %#v", name, err)
			}
			time.Sleep(time.Minute)
		})
	}
}

// What is found out while it is connected to nothing is said by the next connection; and nothing is when RESET is not true.
func TestPollSaysLaterThatItForgot(t *testing.T) {
	for reset, lost := range map[string]bool{"status==null": true, "status==410": false} {
		a := &api{answer: func(n int, w http.ResponseWriter, r *http.Request) {
			switch n {
			case 2:
				w.WriteHeader(http.StatusServiceUnavailable)
			case 3:
				panic(http.ErrAbortHandler)
			default:
				fmt.Fprintf(w, `{"id":%d}`, n)
			}
		}}
		bubble(t, a.ServeHTTP, func(t *testing.T) {
			s := SourceSettings{From: "http://legacy/?since={stream.cursor:0}", Cursor: ".id", Every: time.Second, Reset: reset}
			source := expanded(t, compiled(t, s), "/").Source(quietLog)
			conn, err := source.Connect(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			err = conn.Run(t.Context(), func([]translate.Message) error { return nil })
			var retry *Retry
			if !errors.As(err, &retry) || retry.Lossless == lost || retry.Resumes != lost {
				t.Errorf("%s: 503 is %#v", reset, err)
			}
			if _, err = source.Connect(t.Context()); lost != (err != nil) { // net/http repeats it where nobody minds
				t.Fatalf("%s: cut, and %v", reset, err)
			}
			again, err := source.Connect(t.Context())
			if err != nil || again.Resumed() == lost {
				t.Errorf("%s: %v, resumed", reset, err)
			}
			want := "/?since=1"
			if lost {
				want = "/?since=0"
			}
			if all := a.asked(); all[len(all)-1] != want {
				t.Errorf("%s: asked for %q", reset, all)
			}
		})
	}
}

// MODE=stream likewise; but the proper end of what FIRST asked for is no loss.
func TestFollowForgetsItsPlace(t *testing.T) {
	for name, end := range map[string]func(){"cut": func() { panic(http.ErrAbortHandler) }, "ended": func() {}} {
		a := &api{answer: func(n int, w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/x-ndjson")
			fmt.Fprintf(w, "{\"id\":%d}\n", n)
			http.NewResponseController(w).Flush()
			switch n {
			case 2:
				end()
			case 4:
				<-r.Context().Done()
			}
		}}
		s := SourceSettings{Mode: ModeStream, From: "http://legacy/events?since={stream.cursor}", First: "http://legacy/all", Cursor: ".id", Reset: "status==null"}
		polled(t, s, a, func(k *taking) {
			time.Sleep(time.Minute)
			targets(t, a, "/all", "/events?since=1", "/all", "/events?since=3")
		})
		if t.Failed() {
			t.Log(name)
		}
	}
}
