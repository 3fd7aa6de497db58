// This file is a dialect over HTTP (Bayeux's long polls): each frame is the body of a POST to FROM, and each answer a frame. It takes the place of
// a WebSocket below [wsConn]. The rules:
//
//   - Frames are sent one after the other, and an answer is read before the next goes out; but one that the server may hold goes out by itself, and
//     is read when it is answered.
//   - An answer other than 2xx is what one to an upgrade would be. One that does not come ends the connection.

package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"

	"github.com/coder/websocket"

	"sidestream/translate/dialect"
)

// socket is what a connection needs of a WebSocket, or of what stands in for one. See [wsconn.Conn].
type socket interface {
	Reader(ctx context.Context) (websocket.MessageType, io.Reader, error)
	Ping(ctx context.Context) error     // returns with its pong
	SendPing(ctx context.Context) error // returns once it is sent
	Close(code websocket.StatusCode, reason string) error
	CloseNow() error
	Subprotocol() string
}

// posts is one connection that is made of POSTs.
type posts struct {
	c       *wsConn
	dial    dialect.Dial
	alive   context.Context // of the requests
	end     context.CancelCauseFunc
	pending sync.WaitGroup

	mu      sync.Mutex // guards answers, and what becomes pending
	answers []posted
	more    chan struct{} // has one element when there are answers, or none are left to come
}

// posted is what a POST has come to.
type posted struct {
	body []byte
	resp *http.Response // other than 2xx
	err  error
}

// newPosts connects to nothing yet. It ends with alive, at the latest.
func newPosts(c *wsConn, d dialect.Dial) *posts {
	p := &posts{c: c, dial: d, more: make(chan struct{}, 1)}
	p.alive, p.end = context.WithCancelCause(context.Background())
	return p
}

// post sends a frame. What the server may hold is sent by itself; its answer, or error, comes by Reader.
func (p *posts) post(ctx context.Context, f dialect.Frame) error {
	body := bytes.Clone(f.Data)
	if f.Held {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.alive.Err() != nil {
			return context.Cause(p.alive) // CloseNow waits for what is pending, to which nothing is added then
		}
		p.pending.Go(func() { p.put(p.ask(p.alive, body)) }) // ends with its answer, or with the connection
		return nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(p.alive, func() { cancel(context.Cause(p.alive)) })
	defer stop()
	p.put(p.ask(ctx, body))
	return nil
}

func (p *posts) ask(ctx context.Context, body []byte) posted {
	req, err := newRequest(ctx, http.MethodPost, p.dial.URL, p.dial.Header.Clone(), string(body))
	if err != nil {
		return posted{err: err}
	}
	if req.Header.Get("Content-Type") == "" {
		req.Header.Set("Content-Type", "application/json")
	}
	rt := p.c.q.Route
	resp, err := rt.client(rt.pools().polls, p.c.jar).Do(req)
	if err != nil {
		return posted{err: fmt.Errorf("request: %w", Kind(because(ctx, err)))}
	}
	defer resp.Body.Close()
	if !rt.welcome(resp) {
		return posted{resp: resp}
	}
	plain, err := decoded(resp, func() {})
	if err != nil {
		return posted{err: err}
	}
	limit := int64(max(rt.settings.MaxMessage, maxAnswer))
	text, err := io.ReadAll(io.LimitReader(plain, limit+1))
	switch {
	case err != nil:
		return posted{err: fmt.Errorf("request: %w", Kind(because(ctx, err)))}
	case int64(len(text)) > limit:
		return posted{err: fmt.Errorf("an answer of more than %d bytes (MAX_MESSAGE), in which there may be several messages", limit)}
	}
	if page := login(resp, true, len(text) == 0 || text[0] == '[' || text[0] == '{'); page != nil {
		return posted{err: page}
	}
	return posted{body: text}
}

func (p *posts) put(one posted) {
	p.mu.Lock()
	p.answers = append(p.answers, one)
	p.mu.Unlock()
	select {
	case p.more <- struct{}{}:
	default:
	}
}

// Reader returns the next answer.
func (p *posts) Reader(ctx context.Context) (websocket.MessageType, io.Reader, error) {
	for {
		if one, ok := p.take(); ok {
			switch {
			case one.resp != nil:
				return 0, nil, p.c.verdictOf(one.resp)
			case one.err != nil:
				return 0, nil, one.err
			}
			return websocket.MessageText, bytes.NewReader(one.body), nil
		}
		select {
		case <-p.more:
		case <-ctx.Done():
			return 0, nil, ctx.Err()
		case <-p.alive.Done():
			return 0, nil, context.Cause(p.alive)
		}
	}
}

func (p *posts) take() (one posted, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.answers) == 0 {
		return one, false
	}
	one, p.answers = p.answers[0], p.answers[1:]
	return one, true
}

// Ping does nothing: a server that holds a request is silent, and how long it may be the dialect knows.
func (p *posts) Ping(context.Context) error { return nil }

// SendPing does nothing.
func (p *posts) SendPing(context.Context) error { return nil }

// Close ends the requests that are held.
func (p *posts) Close(websocket.StatusCode, string) error { return p.CloseNow() }

// CloseNow is Close.
func (p *posts) CloseNow() error {
	p.mu.Lock()
	p.end(errPostsEnded)
	p.mu.Unlock()
	p.pending.Wait()
	return nil
}

var errPostsEnded = errors.New("the connection is closed")

// Subprotocol is none.
func (p *posts) Subprotocol() string { return "" }
