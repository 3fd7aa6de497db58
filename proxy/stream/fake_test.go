package stream

import (
	"context"
	"errors"
	"log/slog"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sidestream/proxy/upstream"
	"sidestream/translate"
)

var errLost = errors.New("lost")

// legacy is the upstream of all streams of a test. Its fields are set before the first Join, or under mu.
type legacy struct {
	mu      sync.Mutex
	begun   time.Time
	dials   []time.Duration // when each was made
	open    int             // connections that are
	sources int
	// connect answers the nth dial of a source, from 1; nil: at once.
	connect func(ctx context.Context, n int) error
	// run is the nth connection; nil: it says nothing until ctx is done.
	run func(ctx context.Context, n int, emit func(...string) error) error
	// send takes what is sent on the nth connection.
	send func(ctx context.Context, n int, data string) error
	// resumed is what the nth connection says of the one before; nil: that something may be lost.
	resumed func(n int) bool
}

type fakeSource struct {
	*legacy
	n       int
	history bool
}

func (s *fakeSource) History() bool { return s.history }

type fakeConn struct {
	*legacy
	n int
}

func (l *legacy) Dials() []time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]time.Duration(nil), l.dials...)
}

func (l *legacy) Open() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open
}

func (s *fakeSource) Connect(ctx context.Context) (upstream.Conn, error) {
	s.mu.Lock()
	s.n++
	s.dials = append(s.dials, time.Since(s.begun))
	n, connect := s.n, s.connect
	s.mu.Unlock()
	if connect != nil {
		if err := connect(ctx, n); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	s.open++
	s.mu.Unlock()
	return &fakeConn{s.legacy, n}, nil
}

func (c *fakeConn) Resumed() bool { return c.resumed != nil && c.resumed(c.n) }

// Send is answered by send.
func (c *fakeConn) Send(ctx context.Context, m translate.Message) error {
	return c.send(ctx, c.n, string(m.Data))
}

func (c *fakeConn) Run(ctx context.Context, emit func([]translate.Message) error) error {
	defer func() {
		c.mu.Lock()
		c.open--
		c.mu.Unlock()
	}()
	if c.run == nil {
		<-ctx.Done()
		return ctx.Err()
	}
	return c.run(ctx, c.n, func(data ...string) error {
		var ms []translate.Message
		for _, d := range data {
			ms = append(ms, translate.Message{Data: []byte(d)})
		}
		return emit(ms)
	})
}

// wait is until d has passed, or ctx's error.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func silent(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// bubble runs f with streams of l, and checks that nothing is left of them.
func bubble(t *testing.T, settings Policy, l *legacy, f func(t *testing.T, s *Streams)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l.begun, l.dials = time.Now(), nil
		if settings.Linger == 0 {
			settings.Linger = 30 * time.Second
		}
		settings.Log = slog.New(slog.DiscardHandler)
		settings.All, settings.Own = NewLimit(limitOf(settings.All)), NewLimit(limitOf(settings.Own))
		s := NewStreams(settings)
		s.source = func(q *upstream.Request, log *slog.Logger) upstream.Source {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.sources++
			return &fakeSource{legacy: l, history: q.Source(log).History()}
		}
		f(t, s)
		s.Close()
		if l.Open() != 0 || s.All.Used() != 0 || s.Own.Used() != 0 || len(s.byKey)+len(s.old)+s.ups != 0 {
			t.Errorf("left behind: %d connections, limits %d and %d, %d streams and %d old ones, %d up", l.Open(), s.All.Used(), s.Own.Used(), len(s.byKey), len(s.old), s.ups)
		}
		closed := time.Now()
		synctest.Wait()
		if _, err := s.Join(t.Context(), request(t, "after")); !errors.Is(err, ErrBusy) && !errors.Is(err, ErrReplaced) || time.Since(closed) != 0 {
			t.Errorf("joined after the end: %v", err)
		}
	})
}

func limitOf(l *Limit) int {
	if l == nil {
		return 0
	}
	return int(l.most.Load())
}

// request is one that is shared by those with the same key.
func request(t *testing.T, key string) upstream.Request { return requestOf(t, key, "") }

func requestOf(t *testing.T, key, mode string) upstream.Request {
	t.Helper()
	scheme := "ws"
	if mode != "" {
		scheme = "http"
	}
	rt, err := upstream.Compile(upstream.SourceSettings{From: scheme + "://legacy/{query.key}", Mode: mode})
	if err != nil {
		t.Fatal(err)
	}
	q, err := rt.Expand(httptest.NewRequest("GET", "/?key="+key, nil), func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func join(t *testing.T, s *Streams, key string) *Seat {
	t.Helper()
	seat, err := s.Join(t.Context(), request(t, key))
	if err != nil {
		t.Fatalf("join %s at once: %v", key, err)
	}
	return seat
}

// told is what a ring holds after cursor, "+" for a gap of the upstream's, and how it ended.
func told(t *testing.T, r *Ring, cursor uint64) (string, EndKind) {
	t.Helper()
	events, _, missed, end := r.After(nil, cursor)
	if missed > 0 {
		t.Errorf("%d missed", missed)
	}
	var out []string
	for _, e := range events {
		_, data, _ := strings.Cut(string(e), "data: ")
		data, _, _ = strings.Cut(data, "\nid: ")
		if strings.Contains(string(e), "event: stream.gap\n") && data == `{"reason":"upstream","missed":null}` {
			data = "+"
		}
		out = append(out, data)
	}
	return strings.Join(out, " "), end.Kind
}

func expect(t *testing.T, r *Ring, cursor uint64, want string, end EndKind) {
	t.Helper()
	if got, kind := told(t, r, cursor); got != want || kind != end {
		t.Errorf("the ring holds %q and ends with %d, want %q and %d", got, kind, want, end)
	}
}

// expectHealth compares all that does not depend on time.
func expectHealth(t *testing.T, s *Streams, state string, streams, connected int) {
	t.Helper()
	if h := s.Health(); h.State != state || h.Streams != streams || h.Connected != connected {
		t.Errorf("health is %+v, want %s with %d of %d", h, state, connected, streams)
	}
}

func (s *fakeSource) Save() []byte { return nil }

func (s *fakeSource) Restore(saved, past []byte) error { return translate.ErrSaved }
