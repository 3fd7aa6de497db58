package upstream

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"sidestream/translate"
)

func TestPollPayloadErrors(t *testing.T) {
	for _, body := range []string{"", "<?xml version=\"1.0\"?>", "{", `{"a":1}{"b":2}`, "\"a\xff\"", "undefined"} {
		a := &api{answer: bodies("1", body, "2")}
		for _, s := range []SourceSettings{{}, {Data: "."}, {Mode: ModeEvery}} {
			s.Every = time.Second
			a.times = nil
			polled(t, s, a, func(k *taking) {
				time.Sleep(2500 * time.Millisecond)
				if got := k.texts(); len(got) != 3 || got[0] != "1" || !strings.HasPrefix(got[1], "lost: payload is not ") || got[2] != "2" {
					t.Errorf("%q: %q", body, got)
				}
			})
		}
	}
}

func TestPollByteOrderMark(t *testing.T) {
	polled(t, SourceSettings{Every: time.Second}, &api{answer: bodies("\uFEFF{\"a\":1}", `{"a":1}`)}, func(k *taking) {
		time.Sleep(2500 * time.Millisecond)
		if got := k.texts(); len(got) != 1 || got[0] != `{"a":1}` {
			t.Errorf("%q", got)
		}
	})
}

func TestPollLimits(t *testing.T) {
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	fmt.Fprintf(z, `"%s"`, strings.Repeat("x", 8<<20))
	z.Close()
	a := &api{answer: func(n int, w http.ResponseWriter, r *http.Request) {
		switch n {
		case 1:
			io.WriteString(w, `"`+strings.Repeat("x", 98)+`"`) // just 100 bytes
		case 2:
			io.WriteString(w, `"`+strings.Repeat("y", 99)+`"`)
		case 3:
			if r.Header.Get("Accept-Encoding") != "gzip" {
				t.Error("gzip is not asked for")
			}
			w.Header().Set("Content-Encoding", "gzip")
			w.Write(bomb.Bytes())
		default:
			io.WriteString(w, "1")
		}
	}}
	polled(t, SourceSettings{Every: time.Second, MaxMessage: 100}, a, func(k *taking) {
		time.Sleep(3500 * time.Millisecond)
		const over = "lost: the answer is larger than MAX_MESSAGE (100 bytes)"
		if got := k.texts(); len(got) != 4 || len(got[0]) != 100 || got[1] != over || got[2] != over || got[3] != "1" {
			t.Errorf("%.60q", got)
		}
		if n := k.route.Stats.Oversize.Load(); n != 2 {
			t.Errorf("%d counted", n)
		}
	})
}

func TestPollTimeout(t *testing.T) {
	a := &api{answer: func(n int, w http.ResponseWriter, r *http.Request) {
		switch n {
		case 1: // no answer
			<-r.Context().Done()
		case 2: // half of one
			io.WriteString(w, "[1,")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		default:
			io.WriteString(w, "1")
		}
	}}
	polled(t, SourceSettings{Every: time.Second, Timeout: 3 * time.Second}, a, func(k *taking) {
		time.Sleep(7 * time.Second)
		k.expect("3s lost: poll: no answer within TIMEOUT (3s)", "6s lost: no answer within TIMEOUT (3s)", "6s 1")
	})
}

func TestPollEndsWithTheStream(t *testing.T) {
	a := &api{answer: func(n int, w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }}
	polled(t, SourceSettings{Every: time.Second}, a, func(k *taking) {
		time.Sleep(time.Minute)
		began := time.Now()
		if err := k.end(); !errors.Is(err, context.Canceled) || time.Since(began) != 0 {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

func TestPollPrograms(t *testing.T) {
	a := &api{answer: func(n int, w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Total", fmt.Sprint(n))
		if n > 2 {
			n++ // 3 fails
		}
		fmt.Fprintf(w, `{"n":%d}`, n)
	}}
	polled(t, SourceSettings{Every: time.Second, Data: `if .n==2 then error("secret") else [.n, status, headers["x-total"]] end`, Done: ".n==4"}, a, func(k *taking) {
		time.Sleep(time.Minute)
		if got := k.texts(); !slices.Equal(got, []string{`[1,200,"1"]`, `[4,200,"3"]`}) || !errors.Is(k.err, translate.ErrFinished) {
			t.Errorf("%q, %v", got, k.err)
		}
		if k.route.Stats.JQFailed.Load() != 1 || strings.Contains(k.log.String(), "secret") || !strings.Contains(k.log.String(), "jq program failed") {
			t.Errorf("%d failures: %s", k.route.Stats.JQFailed.Load(), k.log)
		}
	})
}

// A program has a second of real time for one answer, TIMEOUT or not, and then the answer is dropped.
func TestPollProgramIsCut(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", "x")
		io.WriteString(w, "1")
	}))
	defer server.Close()
	defer polls.CloseIdleConnections()
	rt := compiled(t, SourceSettings{From: server.URL, Data: "last(repeat(1))"})
	q := expanded(t, rt, "/")
	p := &poll{q: &q, log: slog.New(slog.DiscardHandler)}
	began := time.Now()
	a, outcome, err := p.exchange(context.Background())
	if took := time.Since(began); took < programTime || took > time.Minute {
		t.Errorf("cut after %v", took)
	}
	if err != nil || outcome != PollUnchanged || len(a.messages) != 0 || !a.dropped || p.etag != "" || rt.Stats.JQTimeouts.Load() != 1 || rt.Stats.JQFailed.Load() != 0 {
		t.Errorf("%+v, %d, %v", a, outcome, err)
	}
}

func TestPollRequest(t *testing.T) {
	a := &api{answer: bodies("1")}
	s := SourceSettings{From: "http://legacy/a?n={stream.n}", Every: time.Second, Body: `{"n":{stream.n}}`, Headers: "Host: other\nX-N: {stream.n}\nUser-Agent: me"}
	polled(t, s, a, func(k *taking) { time.Sleep(1500 * time.Millisecond) })
	for i, want := range []string{"POST other /a?n=1 2 application/json application/json me", "POST other /a?n=4 5 application/json application/json me"} {
		r := a.requests[i]
		got := strings.Join([]string{r.Method, r.Host, r.RequestURI, r.Header.Get("X-N"), r.Header.Get("Content-Type"), r.Header.Get("Accept"), r.Header.Get("User-Agent")}, " ")
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if a.bodies[0] != `{"n":3}` || a.bodies[1] != `{"n":6}` {
		t.Errorf("%q", a.bodies)
	}
}
