// This file is the opening of a WebSocket: the handshake, then what the dialect and HELLO say until the session is ready.

package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"

	"github.com/coder/websocket"

	"sidestream/proxy/upstream/wsconn"
	"sidestream/translate"
	"sidestream/translate/dialect"
)

func (c *wsConn) handshake(ctx context.Context, d dialect.Dial) error {
	if c.q.Route.posts() {
		p := newPosts(c, d)
		c.ws, c.write1, c.conn = p, p.post, closer(p.CloseNow)
		c.touchMessage()
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(got httptrace.GotConnInfo) { c.conn = got.Conn }})
	host := d.Header.Get("Host")
	d.Header.Del("Host")
	options := &websocket.DialOptions{
		HTTPClient:   c.q.Route.client(c.q.Route.pools().sockets, c.jar),
		HTTPHeader:   d.Header,
		Host:         host,
		Subprotocols: d.Subprotocols,
	}
	if at, err := url.Parse(d.URL); err == nil {
		c.host = at.Host
	}
	c.q.Route.compress(c.host, options)
	ws, resp, err := c.upgrade(ctx, d.URL, options)
	if err != nil {
		c.doubted(err)
		return c.refusal(resp, err)
	}
	if len(d.Subprotocols) > 0 && ws.Subprotocol() == "" {
		ws.CloseNow()
		return errors.New("the upstream chose none of the subprotocols offered; " + c.unchosen())
	}
	c.ws, c.write1 = ws, func(ctx context.Context, f dialect.Frame) error {
		kind := websocket.MessageText
		if f.Binary {
			kind = websocket.MessageBinary
		}
		return ws.Write(ctx, kind, f.Data)
	}
	c.touchMessage() // the handshake may have taken longer than IDLE
	return nil
}

// upgrade opens a WebSocket: the handshake is the library's, and what it would read and write then, with two buffers of 4 KiB for as long as the
// connection lives, is taken from it.
func (c *wsConn) upgrade(ctx context.Context, address string, o *websocket.DialOptions) (*wsconn.Conn, *http.Response, error) {
	t := &upgrading{base: o.HTTPClient.Transport}
	client := *o.HTTPClient
	client.Transport, o.HTTPClient = t, &client
	ws, resp, err := websocket.Dial(ctx, address, o)
	if err != nil {
		return nil, resp, err
	}
	body := t.opened.ReadWriteCloser
	t.opened.taken = true
	agreed := strings.Join(resp.Header.Values(extensions), ",")
	defer ws.CloseNow()
	conn, _ := c.conn.(net.Conn)
	return wsconn.New(body, conn, wsconn.Options{Subprotocol: ws.Subprotocol(), Deflate: agreed != "",
		Takeover: !strings.Contains(agreed, "server_no_context_takeover"),
		Bytes:    textOfAnyKind(c.q.Route.dialect),
		Heard:    c.touch,
		Brisk:    c.q.Route.brisk()}), resp, nil
}

// textOfAnyKind reports whether text may be anything: brokers of STOMP put binary bodies into it, and old services their own encoding. Who speaks another
// protocol speaks that of WebSockets, too.
func textOfAnyKind(d dialect.Dialect) bool { return d.Stream || d.Name == "raw" }

// upgrading lends the connection of an upgrade to the one who asks for it.
type upgrading struct {
	base   http.RoundTripper
	opened *lent
}

// RoundTrip is http.RoundTripper's.
func (u *upgrading) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := u.base.RoundTrip(req)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		return resp, err
	}
	if body, ok := resp.Body.(io.ReadWriteCloser); ok {
		u.opened = &lent{ReadWriteCloser: body}
		resp.Body = u.opened
	}
	return resp, nil
}

// lent is a connection that its borrower closes only until it is taken back.
type lent struct {
	io.ReadWriteCloser
	taken bool
}

func (l *lent) Close() error {
	if l.taken {
		return nil
	}
	return l.ReadWriteCloser.Close()
}

// closer closes what a connection is made of.
type closer func() error

func (f closer) Close() error { return f() }

// unchosen is what to change then.
func (c *wsConn) unchosen() string {
	if hint := c.q.Route.dialect.Unchosen; hint != "" && len(c.q.Route.settings.Subprotocol) == 0 {
		return hint
	}
	return "check SUBPROTOCOL"
}

// refusal tells a verdict from a failure by the answer to the upgrade.
func (c *wsConn) refusal(resp *http.Response, err error) error {
	if resp == nil || resp.StatusCode == http.StatusSwitchingProtocols {
		kind := Kind(err)
		if strings.Contains(err.Error(), "Sec-WebSocket-Protocol") {
			return fmt.Errorf("connect: %w; check SUBPROTOCOL, and whether the upstream speaks PROTOCOL", kind)
		}
		return fmt.Errorf("connect: %w", kind)
	}
	c.mu.Lock()
	anew := c.session.Denied(resp.StatusCode)
	c.mu.Unlock()
	if anew {
		return fmt.Errorf("answered %d: %w", resp.StatusCode, errDenied)
	}
	return c.subscription.verdict(resp)
}

// errDenied means that the upstream does not know what the session wanted to go on with.
var errDenied = errors.New("the upstream does not know the connection any more")

// begin speaks until the session is ready.
func (c *wsConn) begin(ctx context.Context) error {
	frames, err := c.session.Open(c.ws.Subprotocol())
	if err != nil {
		return err
	}
	if err := c.send(ctx, frames); err != nil {
		return err
	}
	ready, err := c.ask(ctx)
	if err != nil {
		return err
	}
	for t := c.session.Timers(); t.Opening > 0 && !ready; {
		step, stop := context.WithTimeoutCause(ctx, t.Opening, unanswered(t))
		for now := t; now.Step == t.Step && now.Opening > 0 && !ready; now = c.session.Timers() {
			if ready, err = c.step(step); err == nil && !ready {
				ready, err = c.ask(ctx) // which has a time of its own
			}
			if err != nil {
				stop()
				return err
			}
		}
		stop()
		t = c.session.Timers()
	}
	return nil
}

// unanswered is the error of an opening that took too long.
func unanswered(t dialect.Timers) error {
	if t.Waiting == "" {
		return fmt.Errorf("no answer within %v (step %d of the opening)", t.Opening, t.Step)
	}
	return fmt.Errorf("no answer within %v, waiting for %s", t.Opening, t.Waiting)
}

// step takes one frame before the connection is ready.
func (c *wsConn) step(ctx context.Context) (ready bool, err error) {
	frame, skipped, err := c.read(ctx)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return false, cause
	}
	if err != nil || skipped {
		c.gap = c.gap || skipped
		return false, err
	}
	frame.Data = bytes.Clone(frame.Data)
	got, err := c.receive(ctx, frame)
	c.due = c.due || got.Moving                // the rest of a frame that has completed the opening
	if errors.Is(err, translate.ErrFinished) { // what it said before is for the ring
		c.ended = err
	} else if err != nil {
		return false, err
	}
	c.early, c.acks = append(c.early, got.Messages...), append(c.acks, got.Acks...)
	for _, m := range got.Messages {
		c.size += m.Size()
	}
	if max(len(c.early), len(c.acks)) > maxEarly || c.size > maxEarlyBytes {
		c.early, c.acks, c.gap, c.size = nil, nil, true, 0
		return false, fmt.Errorf("more than %d messages or %d bytes arrived before HELLO was complete", maxEarly, maxEarlyBytes)
	}
	if c.ended != nil {
		return true, nil
	}
	c.resumed = got.Resumed
	return got.Ready, c.send(ctx, got.Replies)
}

// ask makes the requests that the opening waits for.
func (c *wsConn) ask(ctx context.Context) (ready bool, err error) {
	s, ok := c.session.(dialect.Asking)
	if !ok {
		return false, nil
	}
	for r := s.Request(); r != nil && !ready; r = s.Request() {
		answer, err := c.request(ctx, r, "request of HELLO")
		if err != nil {
			return false, err
		}
		c.q.Route.trace.step("%s %s of HELLO: answered %d", r.Method, RedactAll(r.URL), answer.Status) // a secret may stand in its path
		c.mu.Lock()
		got, err := s.Answered(answer)
		c.mu.Unlock()
		if err != nil {
			return false, err
		}
		ready, c.resumed = got.Ready, got.Resumed
		if err := c.send(ctx, got.Replies); err != nil {
			return false, err
		}
	}
	return ready, nil
}
