package access

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// service is the application, or an issuer, reached without a network.
type service struct {
	mu     sync.Mutex
	answer http.HandlerFunc
	asked  []*http.Request
	open   atomic.Int64
	most   atomic.Int64 // questions at once
}

// RoundTrip is http.RoundTripper's.
func (s *service) RoundTrip(r *http.Request) (*http.Response, error) {
	n := s.open.Add(1)
	defer s.open.Add(-1)
	for most := s.most.Load(); n > most && !s.most.CompareAndSwap(most, n); most = s.most.Load() {
	}
	s.mu.Lock()
	s.asked = append(s.asked, r)
	answer := s.answer
	s.mu.Unlock()
	w := &recorder{header: http.Header{}, status: 200}
	done := make(chan struct{})
	go func() { defer close(done); answer(w, r) }()
	select {
	case <-done:
	case <-r.Context().Done():
		<-done
		return nil, r.Context().Err()
	}
	if w.status == 0 {
		return nil, errors.New("connection refused")
	}
	return &http.Response{StatusCode: w.status, Header: w.header, Body: io.NopCloser(&w.body), Request: r, ProtoMajor: 1, ProtoMinor: 1}, nil
}

type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *recorder) Header() http.Header         { return w.header }
func (w *recorder) WriteHeader(status int)      { w.status = status }
func (w *recorder) Write(p []byte) (int, error) { return w.body.Write(p) }

// asks is how many questions there were.
func (s *service) asks() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asked)
}

func (s *service) answers(f http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = f
}

// status answers with one, and nothing else.
func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// slow answers after d, or not at all when the question is given up.
func slow(d time.Duration, f http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(d):
			f(w, r)
		case <-r.Context().Done():
		}
	}
}

// bubble runs f with a guard by s, in time that passes at once.
func bubble(t *testing.T, s Settings, app *service, f func(t *testing.T, g *Guard, log *logged)) {
	synctest.Test(t, func(t *testing.T) {
		log := &logged{}
		s.Transport = app
		if s.Headers == nil {
			s.Headers = []string{"Cookie", "Authorization"}
		}
		g := New(s, slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})))
		defer g.Close()
		f(t, g, log)
	})
}

// logged is a log that is looked at.
type logged struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// from is a client with headers, given as name and value in turns.
func from(uri string, header ...string) *Client {
	h := http.Header{}
	for i := 0; i < len(header); i += 2 {
		h.Add(header[i], header[i+1])
	}
	r, err := http.NewRequest("GET", uri, nil)
	if err != nil {
		panic(err)
	}
	return &Client{Method: "GET", URI: uri, Host: "app.example", Proto: "https", Addresses: "192.0.2.7", Header: h, Query: r.URL.Query().Get}
}

// outcome is what came of an admission, in a word.
func outcome(p *Pass, err error) string {
	var denied *Denied
	switch {
	case err == nil && p != nil:
		return "in"
	case errors.As(err, &denied):
		return fmt.Sprint(denied.Status)
	case errors.Is(err, ErrUnavailable):
		return "later"
	}
	return fmt.Sprintf("%v %v", p, err)
}

func (g *Guard) try(c *Client) string { return outcome(g.Admit(context.Background(), c)) }

// reader is a client that is there.
type reader struct {
	pass  *Pass
	ended atomic.Int64
}

func (r *reader) PassEnded() { r.ended.Add(1) }

func (g *Guard) seat(t *testing.T, c *Client) *reader {
	t.Helper()
	p, err := g.Admit(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	return sit(p)
}

func sit(p *Pass) *reader {
	r := &reader{pass: p}
	p.Enter()
	p.Watch(r)
	return r
}

func (r *reader) leave() {
	r.pass.Unwatch(r)
	r.pass.Leave()
}
