package upstream

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"sidestream/translate"
)

// TestPollRoundAllocates: what thousands of polls allocate each time that they ask is garbage for all of them.
func TestPollRoundAllocates(t *testing.T) {
	body := `{"a":[1,2,{"b":"` + strings.Repeat("x", 200) + `"}]}`
	m := translate.Message{Event: "e", ID: "1", Data: []byte(body)}
	text := strings.NewReader(body)
	digest(m)
	for what, c := range map[string]struct {
		most float64 // those of pools included, which the race detector has forget
		f    func()
	}{
		"digest":      {1, func() { digest(m) }},
		"check":       {2, func() { m.Check() }},
		"body":        {1, func() { text.Reset(body); whole(text, 1<<20, int64(len(body))) }},
		"retry after": {0, func() { retryAfter(http.Header{}, "Retry-After") }},
	} {
		if got := testing.AllocsPerRun(100, c.f); got > c.most {
			t.Errorf("%s: %v allocations, want %v at most", what, got, c.most)
		}
	}
	if read, _ := whole(strings.NewReader(body), 1<<20, int64(len(body))); cap(read) > len(body)*5/4 {
		t.Errorf("%d bytes take %d", len(body), cap(read))
	}
}

func TestWhole(t *testing.T) {
	for _, c := range []struct {
		text        string
		limit, said int64
		want        string
	}{
		{"", 10, 0, ""}, {"", 10, -1, ""}, {"12345", 10, 5, "12345"}, {"12345", 10, -1, "12345"}, {"12345", 10, 3, "12345"}, {"12345", 10, 0, "12345"},
		{"12345", 10, 1 << 62, "12345"}, {"12345", 4, 5, "1234"}, {"12345", 4, 2, "1234"}, {"12345", 4, -1, "1234"}, {"12345", 5, 5, "12345"}, {"12345", 1, 0, "1"},
		{strings.Repeat("x", 2*mostTrusted), mostTrusted + 2, 2 * mostTrusted, strings.Repeat("x", mostTrusted+2)},
	} {
		for _, r := range []io.Reader{strings.NewReader(c.text), iotest.OneByteReader(strings.NewReader(c.text)), iotest.DataErrReader(strings.NewReader(c.text))} {
			if got, err := whole(r, c.limit, c.said); string(got) != c.want || err != nil {
				t.Errorf("%.10q of %d up to %d: %.10q, %v", c.text, c.said, c.limit, got, err)
			}
		}
		if _, err := whole(io.MultiReader(strings.NewReader("1"), iotest.ErrReader(io.ErrUnexpectedEOF)), 10, c.said); err != io.ErrUnexpectedEOF {
			t.Errorf("cut, of %d: %v", c.said, err)
		}
	}
}

// TestPollCut: an answer that ends before all of it has come is none, also where what has come would be one.
func TestPollCut(t *testing.T) {
	a := &api{answer: func(n int, w http.ResponseWriter, r *http.Request) {
		if n == 2 {
			w.Header().Set("Content-Length", "5")
		}
		io.WriteString(w, "12")
	}}
	polled(t, SourceSettings{Every: time.Second, Mode: ModeEvery}, a, func(k *taking) {
		time.Sleep(2500 * time.Millisecond)
		if got := k.texts(); len(got) != 3 || got[0] != "12" || !strings.HasPrefix(got[1], "lost: read the answer") || got[2] != "12" {
			t.Errorf("%q", got)
		}
	})
}

// TestRouse: whoever sleeps is roused once a time, by the clock or as its context ends, also where that was while nobody slept.
func TestRouse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var r rouse
		var roused atomic.Int32
		wake := func() { roused.Add(1) }
		check := func(what string, want int) {
			t.Helper()
			synctest.Wait()
			if n := int(roused.Load()); n != want {
				t.Errorf("%s: roused %d times, want %d", what, n, want)
			}
		}
		for i := range 3 {
			r.begin(ctx, time.Second, wake)
			time.Sleep(999 * time.Millisecond)
			check("before it is time", i)
			time.Sleep(time.Millisecond)
			check("in time", i+1)
			r.end()
		}
		r.begin(ctx, time.Second, wake)
		r.end()
		time.Sleep(2 * time.Second)
		check("ended", 3)
		r.begin(ctx, time.Second, wake)
		cancel()
		check("as the context ends", 4)
		time.Sleep(2 * time.Second)
		check("and not in time too", 4)
		r.end()
		r.begin(ctx, time.Hour, wake)
		check("after its end", 5)
		time.Sleep(2 * time.Hour)
		check("once", 5)
		r.release()

		ctx, cancel = context.WithCancel(t.Context())
		defer cancel()
		var other rouse
		other.begin(ctx, time.Second, wake)
		stop := other.stop
		other.release()
		if stop() {
			t.Error("the end of the context was still waited for")
		}
		cancel()
		time.Sleep(2 * time.Second)
		check("released", 5)
		ctx, cancel = context.WithCancel(t.Context())
		defer cancel()
		other.begin(ctx, time.Hour, wake)
		cancel()
		check("as another context ends", 6)
	})
}

// TestNothingIsSent: a request without a body has none, rather than an empty one, which would be copied.
func TestNothingIsSent(t *testing.T) {
	for body, want := range map[string]bool{"": false, "x": true} {
		req, err := newRequest(t.Context(), http.MethodPost, "http://h/", http.Header{}, body)
		if err != nil || (req.Body != nil) != want || req.ContentLength != int64(len(body)) {
			t.Errorf("%q: %v, %v", body, req, err)
		}
	}
}

// lasting is a context that has something done at its end by itself, as that of a stream.
type lasting struct {
	context.Context
	after map[*func()]bool
	asked bool // for what those wait for who wait
}

func (l *lasting) AfterFunc(f func()) (stop func() bool) {
	l.after[&f] = true
	return func() bool { waited := l.after[&f]; delete(l.after, &f); return waited }
}

func (l *lasting) Done() <-chan struct{} {
	l.asked = true
	return l.Context.Done()
}

// A request has nothing stay with the stream's context, which is there for as long as the stream is, and ends with it.
func TestPatienceLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := compiled(t, SourceSettings{From: "http://legacy/", Every: time.Second, Timeout: time.Minute, MaxMessage: 1 << 20})
		q := expanded(t, rt, "/")
		p := q.poll(quietLog)
		whole, end := context.WithCancel(context.Background())
		l := &lasting{Context: whole, after: map[*func()]bool{}}
		for range 3 {
			ctx, _, stop := p.patience(l)
			if len(l.after) != 1 || l.asked {
				t.Errorf("%d wait for the stream's end", len(l.after))
			}
			stop()
			if <-ctx.Done(); len(l.after) != 0 || context.Cause(ctx) != context.Canceled {
				t.Errorf("%d wait for the stream's end after it, which was %v", len(l.after), context.Cause(ctx))
			}
		}
		ctx, _, stop := p.patience(l)
		end()
		for f := range l.after {
			(*f)()
		}
		if <-ctx.Done(); context.Cause(ctx) != context.Canceled {
			t.Errorf("a request that the stream's end has ended: %v", context.Cause(ctx))
		}
		stop()
		ctx, _, stop = p.patience(t.Context())
		if <-ctx.Done(); !errors.Is(context.Cause(ctx), errPatience) {
			t.Errorf("one that takes too long: %v", context.Cause(ctx))
		}
		stop()
	})
}
