package upstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sidestream/translate"
	"sidestream/translate/dialect"
)

// connected runs one connection of s until do has returned.
func connected(t *testing.T, s SourceSettings, f *feed, do func(t *testing.T, c Conn)) {
	t.Helper()
	bubble(t, f.ServeHTTP, func(t *testing.T) {
		f.begun = time.Now()
		s.From = "ws://legacy/feed"
		c, err := expanded(t, compiled(t, s), "/").Source(slog.New(slog.DiscardHandler)).Connect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { // ends with stop
			defer close(ended)
			c.Run(ctx, func([]translate.Message) error { return nil })
		}()
		do(t, c)
		stop()
		<-ended
		if err := c.Send(t.Context(), translate.Message{Data: []byte("late")}); err == nil {
			t.Error("sent on a connection that has ended")
		}
	})
}

func TestSend(t *testing.T) {
	f := new(feed)
	f.talk = f.listen
	connected(t, SourceSettings{}, f, func(t *testing.T, c Conn) {
		for i := range 3 {
			if err := c.Send(t.Context(), translate.Message{Data: fmt.Append(nil, i), Binary: i == 1}); err != nil {
				t.Error(err)
			}
		}
		f.expect(t, "0s 0", "0s 1", "0s 2")
	})
}

// Frames of one message stay together and messages leave in the order of the calls, whoever else writes.
func TestSendKeepsFramesTogether(t *testing.T) {
	f := new(feed)
	f.talk = f.listen
	restore := dialect.Table
	defer func() { dialect.Table = restore }()
	dialect.Table = append(slices.Clip(restore), dialect.Dialect{Name: "pairs", New: func(o dialect.Options) dialect.Session {
		return &pairs{spoken: spoken{o: o, timers: dialect.Timers{Every: time.Millisecond}}}
	}})
	connected(t, SourceSettings{Protocol: "pairs"}, f, func(t *testing.T, c Conn) {
		var sending sync.WaitGroup
		for i := range 20 {
			sending.Go(func() {
				time.Sleep(time.Duration(i) * 100 * time.Microsecond)
				if err := c.Send(t.Context(), translate.Message{Data: fmt.Append(nil, i)}); err != nil {
					t.Error(err)
				}
			})
		}
		sending.Wait()
		synctest.Wait()
		f.mu.Lock()
		defer f.mu.Unlock()
		var got []string
		for _, line := range f.heard {
			if _, what, _ := strings.Cut(line, " "); what != "ping" {
				got = append(got, what)
			}
		}
		var want []string
		for i := range 20 {
			want = append(want, fmt.Sprint("first of ", i), fmt.Sprint("second of ", i))
		}
		if !slices.Equal(got, want) || len(f.heard) == len(got) {
			t.Errorf("the upstream heard %q", f.heard)
		}
		for i, line := range f.heard {
			if _, what, _ := strings.Cut(line, " "); strings.HasPrefix(what, "first") && strings.HasSuffix(f.heard[i+1], "ping") {
				t.Errorf("a ping between the frames of one message: %q", f.heard[i:i+2])
			}
		}
		if err := c.Send(t.Context(), translate.Message{Data: []byte("bad")}); !errors.As(err, new(*BadMessage)) || err.Error() != "no pair" {
			t.Errorf("a message that the dialect has no words for: %v", err)
		}
	})
}

type pairs struct{ spoken }

func (p *pairs) Send(m translate.Message) ([]dialect.Frame, error) {
	if string(m.Data) == "bad" {
		return nil, errors.New("no pair")
	}
	return []dialect.Frame{{Data: []byte("first of " + string(m.Data))}, {Data: []byte("second of " + string(m.Data))}}, nil
}

func (p *pairs) Ping() ([]dialect.Frame, error) {
	return []dialect.Frame{{Data: []byte("ping")}}, nil
}

// An upstream that takes nothing loses its connection after 10 s, and nobody waits longer than that.
func TestSendToTheDeaf(t *testing.T) {
	f := &feed{talk: func(p *peer) { time.Sleep(time.Minute) }}
	connected(t, SourceSettings{}, f, func(t *testing.T, c Conn) {
		begun := time.Now()
		large := make([]byte, 1<<20)
		gone, leave := context.WithTimeout(t.Context(), time.Second)
		defer leave()
		var sending sync.WaitGroup
		for i := range 3 {
			sending.Go(func() {
				time.Sleep(time.Duration(i) * time.Millisecond)
				ctx, want := t.Context(), 10*time.Second
				if i == 2 {
					ctx, want = gone, time.Second
				}
				if err := c.Send(ctx, translate.Message{Data: large, Binary: true}); err == nil || time.Since(begun) != want {
					t.Errorf("message %d after %v: %v", i, time.Since(begun), err)
				}
			})
		}
		sending.Wait()
	})
}

func TestPollsHaveNoWayUp(t *testing.T) {
	if err := new(pollConn).Send(t.Context(), translate.Message{}); !errors.Is(err, ErrNoUplink) {
		t.Error(err)
	}
}

func TestSessions(t *testing.T) {
	rt := compiled(t, SourceSettings{From: "ws://legacy/feed?{query}", Forward: []string{"Cookie"}, Session: true})
	expand := func(query, cookie string) (Request, error) {
		r := httptest.NewRequest(http.MethodGet, "/?"+query, nil)
		r.Header.Set("Cookie", cookie)
		return rt.Expand(r, func(string) string { return "" })
	}
	const id, other = "0123456789abcde_", "0123456789abcde-"
	a, err := expand("x=1&session="+id+"&y=2&lastEventId=3", "u=1")
	if err != nil {
		t.Fatal(err)
	}
	if address, _, _ := a.fill(nil, false); address != "ws://legacy/feed?x=1&y=2" || strings.Contains(a.String(), id) {
		t.Errorf("the upstream is asked for %s, logs show %s", address, a.String())
	}
	for _, c := range []struct {
		query, cookie string
		same          bool
	}{
		{"x=1&session=" + id + "&y=2", "u=1", true},
		{"session=" + id + "&x=1&y=2", "u=1", true},
		{"x=1&session=" + other + "&y=2", "u=1", false},
		{"x=1&session=" + id + "&y=2", "u=2", false},
		{"x=1&session=" + id + "&y=3", "u=1", false},
	} {
		if b, err := expand(c.query, c.cookie); err != nil || (b.Key == a.Key) != c.same {
			t.Errorf("%s with %s: same is %v, %v", c.query, c.cookie, b.Key == a.Key, err)
		}
	}
	for _, wrong := range []string{"", id[1:], id[1:] + ".", id[1:] + "%20", id[1:] + "é", strings.Repeat("a", 129)} {
		var bad *BadRequest
		if _, err := expand("x=1&y=2&session="+wrong, "u=1"); !errors.As(err, &bad) || wrong != "" && strings.Contains(err.Error(), wrong) {
			t.Errorf("session %q: %v", wrong, err)
		}
	}
	if _, err := expand("session="+strings.Repeat("a", 128), ""); err != nil {
		t.Error(err)
	}
	if rt.Shared() {
		t.Error("a route with sessions is shared")
	}
	plain := compiled(t, SourceSettings{From: "ws://legacy/feed?{query}"})
	q, err := plain.Expand(httptest.NewRequest(http.MethodGet, "/?session=1", nil), func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	if address, _, _ := q.fill(nil, false); address != "ws://legacy/feed?session=1" {
		t.Errorf("without SCOPE=session the upstream is asked for %s", address)
	}
}
