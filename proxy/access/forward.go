// This file asks the application who a client is (AUTH=forward). The rules:
//
//   - A question is a GET with the client's headers of AUTH_HEADERS and nothing else of its request, and with X-Forwarded-Method, -Uri,
//     -Host, -Proto and -For, as nginx, Traefik and oauth2-proxy have it.
//   - Questions that are the same are one while they are under way: the same route, URI and values of the headers. The answer is for
//     those alone who came with them.
//   - 2xx admits; 401 and 403 are the client's status; a redirect, which leads to a login, is a 401. Everything else is no answer.
//   - The body of an answer is not looked at.

package access

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sidestream/proxy/outbound"
)

const (
	questionTime  = 10 * time.Second // for one question: whoever comes later can still wait for its answer
	questionsMost = 1024             // under way at once, of one route
	connsMost     = 64               // to the application, of one route
	bodyMost      = 64 << 10         // bytes of an answer's body that are read, so that its connection can be used again
)

// forward asks the application.
type forward struct {
	guard   *Guard
	client  *http.Client
	failing atomic.Bool // the last question was not answered

	mu      sync.Mutex // guards what follows
	flights map[key]*flight
	open    int // questions under way, those that were given up included
}

// question is what the application is asked about a client.
type question struct {
	key    key // of all but the addresses
	header http.Header
}

// answer is that a client is admitted.
type answer struct {
	claims Claims
	asked  time.Time
	order  uint64 // see Pass.order
}

// flight is a question under way.
type flight struct {
	done   chan struct{} // closed when what follows is set
	answer answer
	err    error
}

func newTransport(s outbound.Settings) *outbound.Transport {
	return &outbound.Transport{Settings: s, HTTP2: true, Tune: func(t *http.Transport) {
		t.DisableCompression, t.TLSHandshakeTimeout = true, questionTime
		t.MaxConnsPerHost, t.MaxIdleConnsPerHost, t.MaxResponseHeaderBytes = connsMost, connsMost, bodyMost
		t.IdleConnTimeout = 4 * time.Second // Node closes idle connections after 5 s
	}}
}

func newClient(transport http.RoundTripper) *http.Client {
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// question is the one about c, whose headers that go along are given.
func (f *forward) question(c *Client, given http.Header) *question {
	q := &question{header: given.Clone()}
	parts := []string{}
	for _, one := range [][2]string{{"X-Forwarded-Method", c.Method}, {"X-Forwarded-Uri", c.URI}, {"X-Forwarded-Host", c.Host}, {"X-Forwarded-Proto", c.Proto}} {
		q.header[one[0]] = []string{strings.Clone(one[1])}
		parts = append(parts, one[1])
	}
	for _, name := range f.guard.Headers {
		parts = append(append(parts, name), given[name]...)
	}
	q.key = digest(parts...)
	if c.Addresses != "" {
		q.header["X-Forwarded-For"] = []string{strings.Clone(c.Addresses)}
	}
	return q
}

// ask returns the answer to q. It fails with a *[Denied], [ErrUnavailable], or ctx's error.
func (f *forward) ask(ctx context.Context, q *question) (answer, error) {
	fl := f.fly(q)
	if fl == nil {
		return answer{}, ErrUnavailable
	}
	select {
	case <-fl.done:
		return fl.answer, fl.err
	case <-ctx.Done():
		return answer{}, ctx.Err()
	}
}

// fly returns the flight of q, which it starts unless it is under way; nil: too many are.
func (f *forward) fly(q *question) *flight {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fl := f.flights[q.key]; fl != nil {
		return fl
	}
	if f.open >= questionsMost {
		return nil
	}
	fl := &flight{done: make(chan struct{})}
	if !f.guard.start(func() { f.land(fl, q) }) { // ends with the question, or the guard
		return nil
	}
	f.open++
	f.flights[q.key] = fl
	return fl
}

// land brings a flight to its end.
func (f *forward) land(fl *flight, q *question) {
	asked, order := time.Now(), f.guard.orders.Load()
	claims, err := f.put(q)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open--
	if f.flights[q.key] == fl {
		delete(f.flights, q.key)
	}
	fl.answer, fl.err = answer{claims, asked, order}, err
	close(fl.done)
}

// forget has what is under way count for those alone who wait for it already.
func (f *forward) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.flights)
}

// put puts q to the application.
func (f *forward) put(q *question) (Claims, error) {
	f.guard.Stats.Questions.Add(1)
	ctx, cancel := context.WithTimeout(f.guard.alive, questionTime)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, f.guard.URL, nil)
	if err != nil {
		return nil, ErrUnavailable // config has seen to it that it is an address
	}
	r.Header = q.header.Clone()
	if r.Header["User-Agent"] == nil {
		r.Header.Set("User-Agent", "sidestream")
	}
	resp, err := f.client.Do(r)
	if err != nil {
		f.failed(0, err)
		return nil, ErrUnavailable
	}
	defer resp.Body.Close()
	io.CopyN(io.Discard, resp.Body, bodyMost)
	return f.judge(resp)
}

// judge says what an answer means.
func (f *forward) judge(resp *http.Response) (Claims, error) {
	status := resp.StatusCode
	if status >= 300 && status < 400 {
		status = http.StatusUnauthorized
	}
	admits := status >= 200 && status < 300
	if !admits && status != http.StatusUnauthorized && status != http.StatusForbidden {
		f.failed(status, nil)
		return nil, ErrUnavailable
	}
	if f.failing.CompareAndSwap(true, false) {
		f.guard.log.Info("AUTH_URL answers again")
	}
	if !admits {
		return nil, &Denied{status, "AUTH_URL does not admit it"}
	}
	var claims Claims
	for _, name := range f.guard.Claims {
		if text := strings.Join(resp.Header.Values(name), ","); text != "" {
			claims = append(claims, Claim{name, strings.Clone(text)})
		}
	}
	return claims, nil
}

// failed notes that a question was not answered, and says so once.
func (f *forward) failed(status int, err error) {
	if f.guard.alive.Err() != nil || !f.failing.CompareAndSwap(false, true) {
		return
	}
	const what = "AUTH_URL does not say who clients are: those that are here stay, others are told to come back"
	switch {
	case err == nil:
		f.guard.log.Warn(what, "status", status)
	case f.guard.Kind != nil:
		f.guard.log.Warn(what, "err", f.guard.Kind(err))
	default:
		f.guard.log.Warn(what)
	}
}
