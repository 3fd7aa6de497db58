// This file is the source of a WebSocket route: what it dials, and the requests that come before.

package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"sidestream/translate"
	"sidestream/translate/dialect"
)

// subscription is the source of a WebSocket route.
type subscription struct {
	q       Request
	log     *slog.Logger
	mu      *sync.Mutex // guards session, and state
	session dialect.Session
	jar     *jar
	state   *translate.State  // {state.*}: what STATE has captured
	dials   translate.Counter // {stream.n} of the address: counts dials
	count   translate.Counter // {stream.n} of CONNECT and SUBSCRIBE: counts from 1 on each connection
	dropped bool              // a connection never was ready, so nothing is sure to go on from the last one that was

	// What came before the connection was ready waits here for the ring.
	early []translate.Message
	acks  []dialect.Frame // for them
	size  int             // bytes of early
	gap   bool            // and some of them were skipped
}

// value fills in {stream.n}, by counting with c, {state.*}, and the state as a whole.
func (s *subscription) value(c *translate.Counter) func(string) string {
	return func(name string) string {
		if name == translate.StateName {
			return s.state.JSON()
		}
		if name, ok := strings.CutPrefix(name, translate.StatePrefix); ok {
			return s.state.Text(name)
		}
		return c.Value(name)
	}
}

// ticket is the request that TICKET makes before each dial.
func (s *subscription) ticket() (*dialect.HTTPRequest, error) {
	value := s.value(&s.dials)
	own, h, err := s.q.fill(value, false)
	if err != nil {
		return nil, err
	}
	target, err := fillAddress(s.q.text("TICKET"), value)
	if err != nil {
		return nil, err
	}
	if h.Get("Accept") == "" {
		h.Set("Accept", "application/json")
	}
	if !sameHost(own, target) {
		h.Del("Host") // which is the name of FROM's
	}
	return &dialect.HTTPRequest{Method: s.q.Route.ticketMethod, URL: target, Header: h}, nil
}

// sameHost reports whether two addresses have the same host, whatever their ports.
func sameHost(a, b string) bool {
	one, err := url.Parse(a)
	two, err2 := url.Parse(b)
	return err == nil && err2 == nil && strings.EqualFold(one.Hostname(), two.Hostname())
}

// dial is the route's own address and header, for the dialect to build on.
func (s *subscription) dial() (dialect.Dial, error) {
	address, h, err := s.q.fill(s.value(&s.dials), false)
	if err != nil {
		return dialect.Dial{}, err
	}
	if h.Get("Origin") == "" {
		h.Set("Origin", origin(address))
	}
	offered := s.q.Route.settings.Subprotocol
	if len(offered) == 0 {
		offered = s.q.Route.dialect.Subprotocols
	}
	return dialect.Dial{URL: address, Header: h, Subprotocols: offered}, nil
}

func (s *subscription) connect() (string, error) { return s.q.text("CONNECT").Fill(s.value(&s.count)) }

func (s *subscription) subscribe() (lines []string, err error) {
	for _, t := range s.q.texts("SUBSCRIBE") {
		line, err := t.Fill(s.value(&s.count))
		if err != nil {
			return nil, err
		}
		lines = append(lines, line)
	}
	return lines, nil
}

// origin is the upstream's own, which is what a page served by it would send.
func origin(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "null"
	}
	scheme := "http"
	if u.Scheme == "wss" || u.Scheme == "https" {
		scheme = "https"
	}
	return scheme + "://" + u.Host
}

func (s *subscription) Connect(ctx context.Context) (Conn, error) {
	c, err := s.dialled(ctx)
	if errors.Is(err, errDenied) {
		s.log.Debug("connecting anew", "err", err)
		c, err = s.dialled(ctx)
	}
	if err != nil {
		return nil, err
	}
	if err := c.begin(ctx); err != nil {
		c.ws.CloseNow()
		// What it may have taken in is not in the ring, and what the next connection goes on from may be this one.
		if intact := s.session.Failed(); !intact || len(s.early) > 0 || s.gap {
			s.dropped = true
		}
		s.early, s.acks, s.gap, s.size = nil, nil, false, 0
		return nil, later(mayPass(err))
	}
	c.resumed = c.resumed && !s.dropped
	s.dropped = false
	s.q.Route.Stats.Connects.Add(1)
	return c, nil
}

// dialled is a connection that is open.
func (s *subscription) dialled(ctx context.Context) (*wsConn, error) {
	s.count = translate.Counter{}
	dial, err := s.prepare(ctx)
	if err != nil {
		return nil, later(mayPass(err))
	}
	c := &wsConn{subscription: s, start: time.Now(), turn: make(chan struct{}, 1)}
	return c, c.handshake(ctx, dial)
}

// prepare asks the session where to dial, and makes the requests that it needs to know.
func (s *subscription) prepare(ctx context.Context) (dialect.Dial, error) {
	s.q.Route.reread(s.log)
	var last *dialect.HTTPResponse
	for range maxRequests {
		dial, err := s.session.Dial(last)
		if err != nil || dial.Request == nil {
			return dial, err
		}
		if last, err = s.request(ctx, dial.Request, "request before the dial"); err != nil {
			return dial, err
		}
	}
	return dialect.Dial{}, fmt.Errorf("more than %d requests before the dial", maxRequests)
}

// request makes one, which errors call what.
func (s *subscription) request(ctx context.Context, r *dialect.HTTPRequest, what string) (*dialect.HTTPResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	req, err := newRequest(ctx, r.Method, r.URL, r.Header, string(r.Body))
	if err != nil {
		return nil, err
	}
	resp, err := s.q.Route.client(s.q.Route.pools().polls, s.jar).Do(req)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, Kind(err))
	}
	defer resp.Body.Close()
	if !s.q.Route.welcome(resp) {
		return nil, fmt.Errorf("%s: %w", what, s.verdict(resp))
	}
	plain, err := decoded(resp, func() {})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	body, err := io.ReadAll(io.LimitReader(plain, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, Kind(err))
	}
	if page := login(resp, true, json.Valid(body)); page != nil {
		return nil, fmt.Errorf("%s: %w", what, page)
	}
	if len(body) > maxAnswer {
		return nil, fmt.Errorf("%s: the answer is larger than %d bytes", what, maxAnswer)
	}
	return &dialect.HTTPResponse{Status: resp.StatusCode, Header: resp.Header, Body: body}, nil
}

// verdict is the route's, which may be to forget what was to be gone on from.
func (s *subscription) verdict(resp *http.Response) error {
	err := s.q.Route.verdict(resp)
	if err == errAnew {
		s.state.Forget()
	}
	if final(err) {
		s.jar.forget()
	}
	return err
}

// verdictOf is verdict of an answer to a POST of a connection that is open.
func (c *wsConn) verdictOf(resp *http.Response) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.subscription.verdict(resp)
}

// later puts what the session knows of the next attempt into this package's terms.
func later(err error) error {
	if d := after(err); d > 0 {
		return &Retry{After: d, Err: err}
	}
	return err
}

// final reports whether err is the last word on a stream.
func final(err error) bool {
	var refused *translate.Refused
	return errors.Is(err, translate.ErrFinished) || errors.As(err, &refused)
}

// after is how long the session wants to wait, 0 when it does not say.
func after(err error) time.Duration {
	var l *translate.Later
	if errors.As(err, &l) {
		return min(l.After, maxRetryAfter)
	}
	return 0
}
