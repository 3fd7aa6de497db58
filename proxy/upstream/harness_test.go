package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"sidestream/e2e/pipes"
	"sidestream/proxy/outbound"
	"sidestream/translate"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bubble runs f with an HTTP server in memory, which answers whatever address is asked.
func bubble(t *testing.T, handler http.HandlerFunc, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := pipes.Listen()
		var handling sync.WaitGroup
		handle := func(w http.ResponseWriter, r *http.Request) {
			handling.Add(1)
			defer handling.Done()
			handler(w, r)
		}
		server := &http.Server{Handler: http.HandlerFunc(handle), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
		served := make(chan struct{})
		go func() { // ends with the server
			defer close(served)
			server.Serve(l)
		}()
		realSockets, realPolls := sockets, polls
		sockets = &http.Client{Transport: &outbound.Transport{Upgrades: true, Base: l.Dial}, CheckRedirect: sameOrigin}
		polls = &http.Client{Transport: &http.Transport{DialContext: l.Dial}, CheckRedirect: sameOrigin}
		f(t)
		CloseIdle()
		sockets, polls = realSockets, realPolls
		server.Close()
		<-served
		synctest.Wait()
		handling.Wait()
		time.Sleep(time.Hour) // the peers' own goroutines notice
	})
}

// compiled is a route whose durations and sizes have their defaults.
func compiled(t testing.TB, s SourceSettings) *Route {
	t.Helper()
	if s.MaxMessage == 0 {
		s.MaxMessage = 1 << 20
	}
	rt, err := Compile(s)
	if err != nil {
		t.Fatal(err)
	}
	return rt
}

// expanded is rt's request for a client that asks for target.
func expanded(t testing.TB, rt *Route, target string) Request {
	t.Helper()
	q, err := rt.Expand(httptest.NewRequest("GET", target, nil), func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// logged collects what is said.
type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// taking collects what a source emits, and when, in seconds since it was made.
type taking struct {
	t     *testing.T
	route *Route
	log   *logged

	mu    sync.Mutex
	begun time.Time
	lines []string
	err   error // of Connect or Run
	ended time.Duration
	done  chan struct{}
	stop  context.CancelFunc
}

func write(ms []translate.Message) string {
	var parts []string
	for _, m := range ms {
		text := string(m.Data)
		if m.Gap != "" {
			text = "gap " + m.Gap
		}
		if m.Event != "" {
			text = m.Event + ":" + text
		}
		if m.ID != "" {
			text += "#" + m.ID
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, " ")
}

// start runs one source of s for as long as it does not end the stream, dialling again at once, or when it says.
func start(t *testing.T, s SourceSettings) *taking {
	t.Helper()
	rt := compiled(t, s)
	log := new(logged)
	ctx, stop := context.WithCancel(t.Context())
	k := &taking{t: t, route: rt, log: log, begun: time.Now(), done: make(chan struct{}), stop: stop}
	source := expanded(t, rt, "/").Source(slog.New(slog.NewTextHandler(log, nil)))
	go func() { // ends with stop, or with the stream
		defer close(k.done)
		for {
			err := k.session(ctx, source)
			var refused *translate.Refused
			if ctx.Err() != nil || errors.Is(err, translate.ErrFinished) || errors.As(err, &refused) {
				return
			}
			k.note("lost: " + err.Error())
			var retry *Retry
			delay := time.Second
			if errors.As(err, &retry) {
				delay = max(retry.After, delayOf(source))
			}
			if sleep(ctx, delay) != nil {
				return
			}
		}
	}()
	return k
}

// delayOf keeps a subscription that fails at once from being made for ever at one instant.
func delayOf(s Source) time.Duration {
	if _, polls := s.(*poll); polls {
		return 0
	}
	return time.Second
}

func (k *taking) session(ctx context.Context, source Source) (err error) {
	defer func() {
		k.mu.Lock()
		k.err, k.ended = err, time.Since(k.begun)
		k.mu.Unlock()
	}()
	conn, err := source.Connect(ctx)
	if err != nil {
		return err
	}
	emit := func(ms []translate.Message) error {
		k.note(write(ms))
		return ctx.Err()
	}
	sleeper, ok := conn.(*pollConn)
	if !ok {
		return conn.Run(ctx, emit)
	}
	for woken := make(chan bool, 1); ; <-woken {
		asleep, err := sleeper.Turn(ctx, emit, func() { woken <- true }, true)
		if !asleep {
			return err
		}
	}
}

func (k *taking) note(s string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.lines = append(k.lines, fmt.Sprintf("%v %s", time.Since(k.begun), s))
}

// expect compares all that was emitted so far: "<when> <messages>".
func (k *taking) expect(want ...string) {
	k.t.Helper()
	synctest.Wait()
	k.mu.Lock()
	defer k.mu.Unlock()
	if strings.Join(k.lines, "\n") != strings.Join(want, "\n") {
		k.t.Errorf("emitted\n\t%s\nwant\n\t%s", strings.Join(k.lines, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// texts are the messages emitted so far, without their times.
func (k *taking) texts() []string {
	synctest.Wait()
	k.mu.Lock()
	defer k.mu.Unlock()
	var out []string
	for _, line := range k.lines {
		_, text, _ := strings.Cut(line, " ")
		out = append(out, text)
	}
	return out
}

// end stops the source and waits for it. It returns why the last session ended.
func (k *taking) end() error {
	k.stop()
	<-k.done
	return k.err
}

var quietLog = slog.New(slog.DiscardHandler)

func newGet(target string) *http.Request { return httptest.NewRequest("GET", target, nil) }

// wait is end for a source that ends by itself.
func (k *taking) wait() error {
	<-k.done
	return k.err
}
