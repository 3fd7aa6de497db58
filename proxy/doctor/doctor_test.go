package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sidestream/proxy/probe"
)

// Where nothing is wrong, nothing is to be mended, and all is looked at.
func TestHealthy(t *testing.T) {
	examining(t, "http://app.example/sse/events/prices", http.StripPrefix("/sse", handler(probe.New(false))), func(t *testing.T, r *Report) {
		if r.Probe != "http://app.example/sse/_sidestream/doctor" {
			t.Errorf("the probe is at %q", r.Probe)
		}
		for _, check := range []string{"events", "compression", "cut", "silence", "headers", "host", "replicas", "websocket", "post", "clock"} {
			want(t, r, check, OK, "")
		}
		want(t, r, "silence", OK, "nothing is sent for 45 s lives on; -idle tries more")
		want(t, r, "http", Note, "HTTP/1.1")
		want(t, r, "route", Fix, "the route answers 404")
		if len(r.Products) != 0 {
			t.Errorf("%q", r.Products)
		}
	})
}

func TestEvents(t *testing.T) {
	for name, c := range map[string]struct {
		held  held
		parts []string
	}{
		"until the end": {held{most: 1 << 20}, []string{"no event arrived before the stream's end", "the end is waited for, or more than 64 KiB"}},
		"8 KiB":         {held{most: 8 << 10}, []string{"no event arrived before the stream's end", "some 9 KiB are held back"}},
		"200 bytes":     {held{most: 200}, []string{"in lumps", "some 1 KiB"}},
		"the last one":  {held{behind: true}, []string{"each event arrived when the next one was sent"}},
		"late":          {held{late: 200 * time.Millisecond}, []string{"each event arrived 200 ms late"}},
	} {
		t.Run(name, func(t *testing.T) {
			examining(t, "http://app.example", holding(c.held), func(t *testing.T, r *Report) {
				for _, part := range c.parts {
					want(t, r, "events", Fix, part)
				}
			}, func(d *doctor) { d.idle = time.Second })
		})
	}
	examining(t, "http://app.example", holding(held{late: 50 * time.Millisecond}), func(t *testing.T, r *Report) { want(t, r, "events", OK, "50 ms") })
}

// pausing does something to an answer in which nothing was written for so long.
type pausing struct {
	http.ResponseWriter
	timer   *time.Timer
	idle    time.Duration
	forgets bool
	lost    atomic.Bool
}

func (p *pausing) Write(b []byte) (int, error) {
	if p.lost.Load() && p.forgets {
		return len(b), nil
	}
	p.timer.Reset(p.idle)
	return p.ResponseWriter.Write(b)
}

func (p *pausing) Flush() {
	if !p.lost.Load() {
		p.ResponseWriter.(http.Flusher).Flush()
	}
}

// impatience is a sidecar behind something that cuts silent streams after idle or, with forgets, passes nothing on any more.
func impatience(idle time.Duration, forgets bool) http.Handler {
	inner := handler(probe.New(false))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/stream") {
			inner.ServeHTTP(w, r)
			return
		}
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		p := &pausing{ResponseWriter: w, idle: idle, forgets: forgets}
		p.timer = time.AfterFunc(idle, func() {
			p.lost.Store(true)
			if !forgets {
				cancel()
			}
		})
		defer p.timer.Stop()
		inner.ServeHTTP(p, r.WithContext(ctx))
		if p.lost.Load() {
			<-r.Context().Done() // its client is told of no end
		}
	})
}

// How long a silence may be is found, whether the end of it is seen or not.
func TestSilence(t *testing.T) {
	for _, c := range []struct {
		idle, limit time.Duration
		forgets     bool
		level, seen string
	}{
		{45 * time.Second, 7 * time.Second, false, Fix, "cut after 7.0 s"},
		{45 * time.Second, 30 * time.Second, false, Note, "cut after 30 s"},
		{5 * time.Minute, 100 * time.Second, false, Note, "cut after 100 s"},
		{45 * time.Second, 50 * time.Second, false, OK, "lives on"},
		{10 * time.Second, 50 * time.Second, false, Note, "10 s lives on; which is less"},
		{45 * time.Second, 7 * time.Second, true, Fix, "forgotten without a word after 6.9 s to 7.1 s"},
		{5 * time.Minute, 103 * time.Second, true, Note, "forgotten without a word after 100 s to 108 s"},
	} {
		examining(t, "http://app.example", impatience(c.limit, c.forgets), func(t *testing.T, r *Report) {
			want(t, r, "silence", c.level, c.seen)
			if f := r.of("length"); f.Level != "" {
				t.Errorf("%v: a stream with heartbeats: %+v", c, f)
			}
		}, func(d *doctor) { d.idle = c.idle })
	}
}

// For any limit, the time that is told holds it.
func TestSilenceIsNeverFarOff(t *testing.T) {
	for range 20 {
		limit := time.Second + rand.N(290*time.Second)
		examining(t, "http://app.example", impatience(limit, true), func(t *testing.T, r *Report) {
			f := r.of("silence")
			if !strings.Contains(f.Seen, "without a word") && limit < 250*time.Second {
				t.Errorf("%v: %+v", limit, f)
			}
			low, high, exact := (&doctor{}).bracket(f.Seen)
			if exact && (limit < low-time.Second || limit > high+time.Second || high-low > max(2*time.Second, high/8)) {
				t.Errorf("%v: %s", limit, f.Seen)
			}
		}, func(d *doctor) { d.idle = 5 * time.Minute })
	}
}

// bracket reads the times of a finding.
func (*doctor) bracket(seen string) (low, high time.Duration, ok bool) {
	_, times, ok := strings.Cut(seen, " after ")
	a, b, both := strings.Cut(times, " to ")
	low, _ = time.ParseDuration(strings.ReplaceAll(a, " ", ""))
	high, _ = time.ParseDuration(strings.ReplaceAll(b, " ", ""))
	return low, high, ok && both
}

func TestReplicas(t *testing.T) {
	for _, shared := range []bool{false, true} {
		one, two, n := handler(probe.New(shared)), handler(probe.New(shared)), new(atomic.Int64)
		turns := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { []http.Handler{one, two}[n.Add(1)%2].ServeHTTP(w, r) })
		examining(t, "http://app.example", turns, func(t *testing.T, r *Report) {
			want(t, r, "replicas", map[bool]string{false: Fix, true: OK}[shared], "2 sidecars answer")
		}, func(d *doctor) { d.idle = time.Second })
	}
}

// changed has the words of a request be others before they reach who asked.
func changed(change func(*probe.Words)) http.Handler {
	p := probe.New(false)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/request") {
			handler(p).ServeHTTP(w, r)
			return
		}
		said := probe.Words{Sidestream: true, Instance: "x", Time: time.Now().UnixMicro(), Proto: "HTTP/1.1", Host: r.Host, Header: map[string][]string{}, Authorization: r.Header.Get("Authorization") != ""}
		for _, name := range []string{"Accept", "Cache-Control", "Last-Event-Id", "X-Forwarded-For"} {
			if r.Header[name] != nil {
				said.Header[name] = r.Header[name]
			}
		}
		for _, c := range r.Cookies() {
			said.Cookies = append(said.Cookies, probe.Cookie{Name: c.Name, Length: len(c.Value)})
		}
		change(&said)
		json.NewEncoder(w).Encode(said)
	})
}

// What does not arrive as it was sent is told.
func TestArrivals(t *testing.T) {
	for name, c := range map[string]struct {
		change             func(*probe.Words)
		check, level, part string
	}{
		"nothing":       {func(*probe.Words) {}, "headers", OK, "arrive as they were sent"},
		"Last-Event-ID": {func(w *probe.Words) { delete(w.Header, "Last-Event-Id") }, "headers", Fix, "Last-Event-ID does not arrive"},
		"Accept":        {func(w *probe.Words) { w.Header["Accept"] = []string{"*/*"} }, "headers", Fix, `Accept arrives as "*/*"`},
		"Cache-Control": {func(w *probe.Words) { delete(w.Header, "Cache-Control") }, "headers", Note, "Cache-Control does not arrive"},
		"Cookie":        {func(w *probe.Words) { w.Cookies = nil }, "headers", Fix, "Cookie does not arrive"},
		"Authorization": {func(w *probe.Words) { w.Authorization = false }, "headers", Fix, "Authorization does not arrive"},
		"Host":          {func(w *probe.Words) { w.Host = "(private address)" }, "host", Fix, "Host arrives as (private address)"},
		"ahead":         {func(w *probe.Words) { w.Time += 40e6 }, "clock", Fix, "40 s ahead of"},
		"behind":        {func(w *probe.Words) { w.Time -= 5e6 }, "clock", Note, "5.0 s behind"},
		"HTTP/1.0":      {func(w *probe.Words) { w.Proto = "HTTP/1.0" }, "http", Note, "HTTP/1.0 to the sidecar"},
		"no address":    {func(w *probe.Words) { delete(w.Header, "X-Forwarded-For") }, "address", Note, "no X-Forwarded-For"},
	} {
		t.Run(name, func(t *testing.T) {
			examining(t, "http://app.example", changed(c.change), func(t *testing.T, r *Report) { want(t, r, c.check, c.level, c.part) }, func(d *doctor) { d.idle = time.Second })
		})
	}
}

// How large a body may be is found.
func TestPost(t *testing.T) {
	for limit, c := range map[int]struct{ level, seen string }{
		5 << 20: {OK, "4 MiB pass"}, 1 << 20: {Note, "up to some 1.0 MiB"}, 2500 << 10: {Note, "up to some 2.4 MiB"}, 300 << 10: {Fix, "up to some 2"}, 10 << 10: {Fix, "up to some 10 KiB"}, 0: {Fix, "no POST arrives"},
	} {
		inner := handler(probe.New(false))
		examining(t, "http://app.example", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.ContentLength > int64(limit) {
				io.Copy(io.Discard, r.Body)
				http.Error(w, "too large", http.StatusRequestEntityTooLarge)
				return
			}
			inner.ServeHTTP(w, r)
		}), func(t *testing.T, r *Report) { want(t, r, "post", c.level, c.seen) }, func(d *doctor) { d.idle = time.Second })
	}
}

// What is behind the sidecar is not between: a request that finds no probe is passed through, and its answer has the service's marks.
func TestServicesAreNotBetween(t *testing.T) {
	inner := handler(probe.New(false))
	examining(t, "http://app.example/events/prices", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !probe.Has(r.URL.Path) {
			w.Header().Set("Server", "Apache/2.4")
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Server", "nginx")
		inner.ServeHTTP(w, r)
	}), func(t *testing.T, r *Report) {
		if !slices.Equal(r.Products, []string{probe.Nginx}) {
			t.Errorf("%q", r.Products)
		}
	})
}

// A probe that is busy says nothing of what is between.
func TestBusy(t *testing.T) {
	for path, check := range map[string]string{"/stream": "events", "/post": "post", "/ws": "websocket"} {
		inner := handler(probe.New(false)) // of one bubble
		examining(t, "http://app.example/", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, path) {
				w.Header().Set(probe.InstanceHeader, "x")
				http.Error(w, "busy", http.StatusTooManyRequests)
				return
			}
			inner.ServeHTTP(w, r)
		}), func(t *testing.T, r *Report) {
			want(t, r, check, Note, "")
			for _, f := range r.Findings {
				if f.Level == Fix && f.Check != "replicas" || f.Check == check && len(f.Fix) > 0 {
					t.Errorf("%s: %+v", path, f)
				}
			}
		}, func(d *doctor) { d.idle = time.Second })
	}
}

// A probe that is not there, or busy, is told of, and so is a way that does not exist.
func TestNoProbe(t *testing.T) {
	examining(t, "http://app.example/a/b", http.NotFoundHandler(), func(t *testing.T, r *Report) {
		want(t, r, "probe", Fix, "no sidecar's probe was found (/a/b/_sidestream/doctor: 404, /a/_sidestream/doctor: 404, /_sidestream/doctor: 404)")
	})
	examining(t, "http://app.example/", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "<h1>Log in</h1>") }), func(t *testing.T, r *Report) {
		want(t, r, "probe", Fix, "/_sidestream/doctor: 200")
	})
	examining(t, "http://app.example/", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(probe.InstanceHeader, "x")
		w.WriteHeader(http.StatusTooManyRequests)
	}), func(t *testing.T, r *Report) { want(t, r, "probe", Fix, "busy") })
}

func TestWords(t *testing.T) {
	for _, words := range [][]string{{}, {"a", "b"}, {"ftp://x"}, {"-idle", "6m", "http://x"}, {"-idle", "10ms", "http://x"}, {"-unknown", "x"}, {"http://user:pass@x"}, {"http://"}, {"http://%zz"}} {
		if err := Command(t.Context(), words, io.Discard); !errors.Is(err, ErrWords) || strings.Contains(err.Error(), "pass@") {
			t.Errorf("%q: %v", words, err)
		}
	}
	var out strings.Builder
	if err := Command(t.Context(), []string{"-h"}, &out); err != nil || !strings.HasPrefix(out.String(), "usage: sidestream doctor") {
		t.Errorf("%v %q", err, &out)
	}
	out.Reset()
	if err := Command(t.Context(), []string{"http://127.0.0.1:1/"}, &out); !errors.Is(err, ErrFindings) || !strings.Contains(out.String(), "FIX   reach") {
		t.Errorf("%v %q", err, &out)
	}
	out.Reset()
	var r Report
	Command(t.Context(), []string{"-json", "http://127.0.0.1:1/"}, &out)
	if err := json.Unmarshal([]byte(out.String()), &r); err != nil || len(r.Findings) == 0 || r.Findings[0].Level != Fix {
		t.Errorf("%v %q", err, &out)
	}
}

func TestPrefixes(t *testing.T) {
	for target, want := range map[string][]string{
		"": {""}, "/": {""}, "/a/b/": {"/a/b", "/a", ""}, "/a/_sidestream/doctor": {"/a", ""}, "/_sidestream/doctor": {""},
	} {
		if got := prefixes(target); !slices.Equal(got, want) {
			t.Errorf("%s: %q", target, got)
		}
	}
	if n := len(prefixes(strings.Repeat("/a", 100))); n != mostPaths {
		t.Errorf("%d paths", n)
	}
}

// Every ill has a cure for whatever there is.
func TestCures(t *testing.T) {
	for i := noProbe; i <= scattered; i++ {
		if all := cures(i, nil); len(all) != 1 || all[0].Product != Any || len(all[0].Lines) == 0 {
			t.Errorf("ill %d: %v", i, all)
		}
	}
	if all := cures(holds, []string{probe.Nginx, "another"}); len(all) != 1 || all[0].Product != probe.Nginx {
		t.Errorf("%v", all)
	}
}

// shifted is an answer of a sidecar whose clock is ahead.
type shifted struct {
	http.ResponseWriter
	by time.Duration
}

func (s *shifted) Unwrap() http.ResponseWriter { return s.ResponseWriter }

var stamp = regexp.MustCompile(`"(at|time)":([0-9]+)`)

func (s *shifted) Write(p []byte) (int, error) {
	s.ResponseWriter.Write(stamp.ReplaceAllFunc(p, func(found []byte) []byte {
		name, digits, _ := strings.Cut(string(found), ":")
		micros, _ := strconv.ParseInt(digits, 10, 64)
		return fmt.Appendf(nil, "%s:%d", name, micros+s.by.Microseconds())
	}))
	return len(p), nil
}

// Whatever the sidecar's clock shows, how late events are is by this machine's.
func TestClocksDiffer(t *testing.T) {
	for _, by := range []time.Duration{-time.Hour, 40 * time.Second} {
		inner := handler(probe.New(false))
		examining(t, "http://app.example/", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			inner.ServeHTTP(&shifted{w, by}, r)
		}), func(t *testing.T, r *Report) {
			want(t, r, "clock", Fix, short(by.Abs()))
			want(t, r, "events", OK, "less than 1 ms after")
		}, func(d *doctor) { d.idle = time.Second })
	}
}
