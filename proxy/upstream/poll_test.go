package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sidestream/translate"
)

// api is a legacy endpoint that answers its nth request, from 1, and notes when each came and what it asked.
type api struct {
	mu       sync.Mutex
	begun    time.Time
	times    []time.Duration
	requests []*http.Request
	bodies   []string
	inFlight map[*http.Request]bool
	most     int // requests at once that their client waits for
	answer   func(n int, w http.ResponseWriter, r *http.Request)
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	a.mu.Lock()
	if a.begun.IsZero() {
		a.begun, a.inFlight = time.Now(), map[*http.Request]bool{}
	}
	a.times, a.requests, a.bodies = append(a.times, time.Since(a.begun)), append(a.requests, r), append(a.bodies, string(body))
	n := len(a.times)
	a.inFlight[r] = true
	a.mu.Unlock()
	go a.count() // ends at once
	defer func() {
		a.mu.Lock()
		delete(a.inFlight, r)
		a.mu.Unlock()
	}()
	a.answer(n, w, r)
}

// count notes how many requests are in flight. That one was given up is known here, as its connection is closed, only once
// everything that runs has come to rest.
func (a *api) count() {
	time.Sleep(time.Nanosecond)
	a.mu.Lock()
	defer a.mu.Unlock()
	n := 0
	for r := range a.inFlight {
		if r.Context().Err() == nil {
			n++
		}
	}
	a.most = max(a.most, n)
}

func (a *api) at() []time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.times)
}

// bodies answers with one after the other, and then with the last.
func bodies(all ...string) func(int, http.ResponseWriter, *http.Request) {
	return func(n int, w http.ResponseWriter, _ *http.Request) { io.WriteString(w, all[min(n, len(all))-1]) }
}

// polled runs a poll route against a until f has returned.
func polled(t *testing.T, s SourceSettings, a *api, f func(k *taking)) {
	t.Helper()
	bubble(t, a.ServeHTTP, func(t *testing.T) {
		if s.From == "" {
			s.From = "http://legacy/feed"
		}
		k := start(t, s)
		f(k)
		k.end()
	})
	if a.most > 1 {
		t.Errorf("%d requests in flight", a.most)
	}
}

func TestPollPace(t *testing.T) {
	const every = 2 * time.Second
	a := &api{answer: func(n int, w http.ResponseWriter, _ *http.Request) {
		time.Sleep(time.Duration(n%3) * 300 * time.Millisecond) // start to start, whatever the answer takes
		fmt.Fprint(w, n)
	}}
	polled(t, SourceSettings{Every: every}, a, func(k *taking) { time.Sleep(10 * time.Minute) })
	least, most := time.Hour, time.Duration(0)
	for i := range len(a.times) - 1 {
		d := a.times[i+1] - a.times[i]
		least, most = min(least, d), max(most, d)
	}
	if least < every || most > every+every/10 || most-least < every/20 {
		t.Errorf("from start to start %v to %v", least, most)
	}
}

func TestPollSlowerThanEvery(t *testing.T) {
	a := &api{answer: func(n int, w http.ResponseWriter, _ *http.Request) {
		time.Sleep(5 * time.Second)
		fmt.Fprint(w, n)
	}}
	polled(t, SourceSettings{Every: time.Second}, a, func(k *taking) {
		time.Sleep(16 * time.Second)
		k.expect("5s 1", "10s 2", "15s 3")
	})
}

func TestPollAtOnce(t *testing.T) {
	a := &api{answer: func(n int, w http.ResponseWriter, _ *http.Request) {
		time.Sleep(200 * time.Millisecond)
		if n == 3 {
			w.WriteHeader(http.StatusNoContent)
		} else if n == 4 {
			fmt.Fprint(w, " \n\n") // what kept the connection alive
		} else if n != 5 { // 5 is empty: how a long poll says that nothing came
			fmt.Fprint(w, min(n, 7))
		}
	}}
	polled(t, SourceSettings{}, a, func(k *taking) {
		time.Sleep(3 * time.Second)
		k.expect("200ms 1", "400ms 2", "2.1s 6", "2.3s 7")
	})
	ms := time.Millisecond
	if want := []time.Duration{0, 200 * ms, 400 * ms, 900 * ms, 1400 * ms, 1900 * ms, 2100 * ms, 2300 * ms, 2800 * ms}; !slices.Equal(a.at(), want) {
		t.Errorf("asked at %v, want %v", a.at(), want)
	}
}

func TestPollValidators(t *testing.T) {
	a := &api{answer: func(n int, w http.ResponseWriter, r *http.Request) {
		switch n {
		case 1:
			w.Header().Set("ETag", `W/"a,b \"x"`)
			w.Header().Set("Last-Modified", "Sun, 22 Nov 2026 10:00:00 GMT")
			io.WriteString(w, "1")
		case 2:
			w.Header().Set("ETag", `"of the 304"`)
			w.WriteHeader(http.StatusNotModified)
		case 3: // not understood, so its validators are not kept
			w.Header().Set("ETag", `"broken"`)
			io.WriteString(w, "<html>")
		case 4:
			w.Header().Set("ETag", `"lies"`) // changes though nothing else does
			io.WriteString(w, " 1\n")
		case 5:
			io.WriteString(w, "2")
		default:
			w.WriteHeader(http.StatusNotModified)
		}
	}}
	polled(t, SourceSettings{Every: time.Second}, a, func(k *taking) {
		time.Sleep(8 * time.Second)
		if got := k.texts(); !slices.Equal(got, []string{"1", "lost: payload is not JSON", "2"}) {
			t.Errorf("%q", got)
		}
		p := &k.route.Stats.Polls
		if p[PollNew].Load() != 2 || p[PollUnchanged].Load() != 1 || p[PollFailed].Load() != 1 || p[PollNotModified].Load() < 2 || k.route.Stats.Connects.Load() != 2 {
			t.Errorf("new %d, unchanged %d, failed %d, not modified %d", p[PollNew].Load(), p[PollUnchanged].Load(), p[PollFailed].Load(), p[PollNotModified].Load())
		}
	})
	const first, modified = `W/"a,b \"x"`, "Sun, 22 Nov 2026 10:00:00 GMT"
	for i, want := range [][2]string{{}, {first, modified}, {first, modified}, {first, modified}, {`"lies"`}, {}} {
		h := a.requests[i].Header
		if h.Get("If-None-Match") != want[0] || h.Get("If-Modified-Since") != want[1] {
			t.Errorf("request %d: %v", i+1, h)
		}
	}
}

func TestPollWithoutValidators(t *testing.T) {
	for name, s := range map[string]SourceSettings{"POST": {Body: "{}"}, "every": {Mode: ModeEvery}} {
		a := &api{answer: func(n int, w http.ResponseWriter, r *http.Request) {
			w.Header().Set("ETag", `"a"`)
			io.WriteString(w, "1")
		}}
		s.Every = time.Second
		polled(t, s, a, func(k *taking) {
			time.Sleep(2500 * time.Millisecond)
			if got := k.texts(); name == "every" && !slices.Equal(got, []string{"1", "1", "1"}) || name == "POST" && !slices.Equal(got, []string{"1"}) {
				t.Errorf("%s: %q", name, got)
			}
		})
		if h := a.requests[1].Header.Get("If-None-Match"); h != "" {
			t.Errorf("%s: If-None-Match %s", name, h)
		}
	}
}

// What counts is the result of the programs, not the body.
func TestPollChanges(t *testing.T) {
	a := &api{answer: bodies(`{"p":1,"t":1}`, `{"p":1,"t":2}`, `{"p":2,"t":3}`, `{"t":4}`, `{"p":2,"t":5}`)}
	polled(t, SourceSettings{Every: time.Second, Select: "select(.p)", Data: "{p}", Event: `"e\(.p)"`}, a, func(k *taking) {
		time.Sleep(7 * time.Second)
		if got := k.texts(); !slices.Equal(got, []string{`e1:{"p":1}`, `e2:{"p":2}`, `e2:{"p":2}`}) {
			t.Errorf("%q", got)
		}
	})
}

func TestPollRetryAfter(t *testing.T) {
	for name, test := range map[string]struct {
		status int
		after  func() string
		want   time.Duration
	}{
		"seconds":         {429, func() string { return "90" }, 90 * time.Second},
		"a date":          {503, func() string { return time.Now().Add(80 * time.Second).UTC().Format(http.TimeFormat) }, 80 * time.Second},
		"white space":     {503, func() string { return " 7 " }, 7 * time.Second},
		"at most an hour": {503, func() string { return "86400" }, time.Hour},
		"out of range":    {503, func() string { return "99999999999999999999" }, time.Hour},
		"in the past":     {503, func() string { return "Sun, 06 Nov 1994 08:49:37 GMT" }, 2 * time.Second},
		"nonsense":        {500, func() string { return "soon" }, 2 * time.Second},
		"negative":        {500, func() string { return "-5" }, 2 * time.Second},
		"shorter":         {429, func() string { return "1" }, 2 * time.Second}, // EVERY is a lower bound too
		"none":            {408, func() string { return "" }, 2 * time.Second},
	} {
		a := &api{answer: func(n int, w http.ResponseWriter, r *http.Request) {
			if n == 1 {
				w.Header().Set("Retry-After", test.after())
				w.WriteHeader(test.status)
			}
			io.WriteString(w, "1")
		}}
		polled(t, SourceSettings{Every: 2 * time.Second}, a, func(k *taking) { time.Sleep(2 * time.Hour) })
		if second := a.at()[1]; second < test.want || second > test.want+200*time.Millisecond {
			t.Errorf("%s: asked again after %v, want %v", name, second, test.want)
		}
	}
}

func TestPollRefusals(t *testing.T) {
	for status, want := range map[int]int{400: 400, 401: 401, 403: 403, 404: 404, 410: 410, 451: 451, 408: 0, 425: 0, 429: 0, 500: 0, 502: 0, 503: 0, 504: 0, 100: 0} {
		a := &api{answer: func(n int, w http.ResponseWriter, r *http.Request) {
			if status == 100 {
				panic(http.ErrAbortHandler)
			}
			w.WriteHeader(status)
		}}
		polled(t, SourceSettings{Every: time.Second}, a, func(k *taking) {
			time.Sleep(10 * time.Second)
			synctest.Wait()
			var refused *translate.Refused
			if errors.As(k.err, &refused) != (want != 0) || want != 0 && (refused.Status != want || len(a.at()) != 1 || k.route.Stats.Polls[PollRefused].Load() != 1) {
				k.t.Errorf("%d: %v, %d requests", status, k.err, len(a.at()))
			}
			var retry *Retry
			if want == 0 && (!errors.As(k.err, &retry) || !retry.Lossless || len(a.at()) < 9) {
				k.t.Errorf("%d: %v, %d requests", status, k.err, len(a.at()))
			}
		})
	}
}

func TestPollRedirects(t *testing.T) {
	for location, followed := range map[string]bool{
		"/moved": true, "http://legacy/moved": true, "http://LEGACY:80/moved": true, "//legacy/moved": true,
		"http://elsewhere/moved": false, "https://legacy/moved": false, "http://legacy:8080/moved": false, "//user@elsewhere/": false,
	} {
		a := &api{answer: func(n int, w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/moved" {
				io.WriteString(w, `"moved"`)
				return
			}
			http.Redirect(w, r, location, http.StatusFound)
		}}
		polled(t, SourceSettings{Every: time.Second, Headers: "Authorization: secret"}, a, func(k *taking) {
			synctest.Wait()
			var refused *translate.Refused
			if followed && (k.err != nil || len(k.texts()) != 1) || !followed && (!errors.As(k.err, &refused) || refused.Status != 401 || len(a.at()) != 1) {
				k.t.Errorf("%s: %v, %d requests", location, k.err, len(a.at()))
			}
		})
	}
	a := &api{answer: func(n int, w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/again", http.StatusFound) }}
	polled(t, SourceSettings{Every: time.Minute}, a, func(k *taking) {
		if synctest.Wait(); k.err == nil || len(a.at()) > 11 {
			t.Errorf("a circle: %v, %d requests", k.err, len(a.at()))
		}
	})
}

// Between two requests a poll needs no goroutine: somebody is called once when it is time for the next, or the poll is not wanted any more.
func TestPollSleeps(t *testing.T) {
	a := &api{answer: func(n int, w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, n) }}
	bubble(t, a.ServeHTTP, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		rt := compiled(t, SourceSettings{From: "http://legacy/feed", Every: 10 * time.Second})
		conn, err := expanded(t, rt, "/").Source(quietLog).Connect(ctx)
		if err != nil {
			t.Fatal(err)
		}
		woken, got := make(chan bool, 10), ""
		turn := func() (bool, error) {
			return conn.(Dozer).Turn(ctx, func(ms []translate.Message) error {
				got += write(ms) + ";"
				return nil
			}, func() { woken <- true }, true)
		}
		for range 3 {
			if asleep, err := turn(); !asleep || err != nil {
				t.Fatal(asleep, err)
			}
			began := time.Now()
			if <-woken; time.Since(began) < 9*time.Second {
				t.Errorf("woken after %v", time.Since(began))
			}
		}
		if asleep, err := turn(); !asleep || err != nil || got != "1;2;3;4;" {
			t.Fatal(asleep, err, got)
		}
		cancel()
		synctest.Wait()
		if len(woken) != 1 {
			t.Fatalf("woken %d times", len(woken))
		}
		<-woken
		if asleep, err := turn(); asleep || !errors.Is(err, context.Canceled) {
			t.Error(asleep, err)
		}
		time.Sleep(time.Minute)
		if len(woken) != 0 {
			t.Error("woken again")
		}
	})
}
