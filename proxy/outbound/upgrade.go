// This file sends requests for an upgrade (RFC 9110, section 7.8). net/http keeps two goroutines and three buffers for each connection, so that one may serve
// the next request; a connection that is upgraded serves none. The rules:
//
//   - What is sent is byte for byte what net/http sends, and what it refuses to send is refused.
//   - The answer is read by net/http's own parser, its head up to maxHead.
//   - A connection is asked once. It is the body of an answer that has agreed; after any other it is closed with the body.
//   - The request's context ends whatever is waited for, but for a connection that is upgraded: that is the caller's.

package outbound

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"time"
	"unicode"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/idna"
)

const upgradeBuffer = 1 << 10 // bytes of an answer read at once

// upgrades reports whether r is for a connection of its own.
func (t *Transport) upgrades(r *http.Request) bool {
	return t.Upgrades && r.Header.Get("Upgrade") != "" && (r.Body == nil || r.Body == http.NoBody)
}

// upgrade sends r over a connection of its own.
func (t *Transport) upgrade(r *http.Request) (*http.Response, error) {
	address, err := target(r)
	if err != nil {
		return nil, err
	}
	ctx := r.Context()
	conn, err := t.connect(ctx, r.URL.Scheme, address)
	if err != nil {
		if ctx.Err() != nil { // which is why, most likely, whatever it was that it ended
			err = context.Cause(ctx)
		}
		return nil, err
	}
	trace := httptrace.ContextClientTrace(ctx)
	if trace != nil && trace.GotConn != nil {
		trace.GotConn(httptrace.GotConnInfo{Conn: conn})
	}
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	e := &exchange{conn: conn, stop: stop, limit: io.LimitedReader{R: conn, N: maxHead}, in: heads.Get().(*bufio.Reader)}
	e.in.Reset(&e.limit)
	sent, err := e.ask(r)
	if trace != nil && trace.WroteRequest != nil {
		trace.WroteRequest(httptrace.WroteRequestInfo{Err: err})
	}
	if !sent {
		e.Close()
		return nil, err
	}
	resp, failed := e.answer(r)
	if failed == nil {
		return resp, nil
	}
	e.Close()
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, err
	}
	return nil, failed
}

// target is the address that r goes to. It fails where net/http would not send r.
func target(r *http.Request) (string, error) {
	if r.Method != "" && !httpguts.ValidHeaderFieldName(r.Method) { // both are tokens
		return "", fmt.Errorf("net/http: invalid method %q", r.Method)
	}
	for name, values := range r.Header {
		if !httpguts.ValidHeaderFieldName(name) {
			return "", fmt.Errorf("net/http: invalid header field name %q", name)
		}
		for _, value := range values {
			if !httpguts.ValidHeaderFieldValue(value) { // which is not shown, it may be a secret
				return "", fmt.Errorf("net/http: invalid header field value for %q", name)
			}
		}
	}
	port := r.URL.Port()
	switch scheme := r.URL.Scheme; {
	case scheme != "http" && scheme != "https":
		return "", fmt.Errorf("unsupported protocol scheme %q", scheme)
	case r.URL.Host == "":
		return "", errors.New("http: no Host in request URL")
	case port == "" && scheme == "https":
		port = "443"
	case port == "":
		port = "80"
	}
	name := r.URL.Hostname()
	if strings.ContainsFunc(name, func(c rune) bool { return c > unicode.MaxASCII }) {
		if ascii, err := idna.Lookup.ToASCII(name); err == nil { // else whoever resolves it says what is wrong, as with net/http
			name = ascii
		}
	}
	return net.JoinHostPort(name, port), nil
}

// connect opens a connection for an upgrade.
func (t *Transport) connect(ctx context.Context, scheme, address string) (net.Conn, error) {
	if scheme == "https" {
		return t.secured(ctx, address, t.Trust.current(), t.Protocols)
	}
	return t.wrap(t.dial(ctx, scheme, address))
}

// exchange is one request and its answer, whose body it is where that has one.
type exchange struct {
	conn   net.Conn
	stop   func() bool // ends the watch over the request's context
	limit  io.LimitedReader
	in     *bufio.Reader // nil: it is given back
	packed bool          // the answer may come compressed by gzip, as its reader need not know
	body   io.ReadCloser // of an answer that is no upgrade
}

var (
	heads    = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, upgradeBuffer) }}
	requests = sync.Pool{New: func() any { return new(bytes.Buffer) }}
)

// ask writes r. sent is false where there is nothing to be written, and so no answer to be waited for; otherwise an answer may be there even if it fails.
func (e *exchange) ask(r *http.Request) (sent bool, err error) {
	out := requests.Get().(*bytes.Buffer)
	defer requests.Put(out)
	out.Reset()
	if err := r.Write(out); err != nil {
		return false, err
	}
	if e.packed = r.Header.Get("Accept-Encoding") == "" && r.Header.Get("Range") == "" && r.Method != http.MethodHead; e.packed {
		out.Truncate(out.Len() - len("\r\n"))
		out.WriteString("Accept-Encoding: gzip\r\n\r\n")
	}
	_, err = e.conn.Write(out.Bytes())
	return true, err
}

// answer reads the head of the answer, past those that come before it: all together are bounded.
func (e *exchange) answer(r *http.Request) (*http.Response, error) {
	for {
		resp, err := http.ReadResponse(e.in, r)
		switch {
		case err != nil && e.limit.N <= 0:
			return nil, fmt.Errorf("net/http: server response headers exceeded %d bytes; aborted", maxHead)
		case err != nil:
			return nil, err
		case resp.StatusCode == http.StatusSwitchingProtocols:
			return e.switched(resp)
		case resp.StatusCode < 100 || resp.StatusCode >= 200:
			e.refused(resp)
			return resp, nil
		}
	}
}

// switched gives the connection away.
func (e *exchange) switched(resp *http.Response) (*http.Response, error) {
	if !httpguts.HeaderValuesContainsToken(resp.Header["Connection"], "Upgrade") || resp.Header.Get("Upgrade") == "" {
		resp.Body = e // it has agreed to nothing: there is no body, and the connection is closed with it
		e.body = http.NoBody
		return resp, nil
	}
	if !e.stop() {
		return nil, net.ErrClosed // ctx has ended
	}
	e.limit.N = math.MaxInt64
	if e.in.Buffered() > 0 {
		resp.Body = ahead{e.conn, e.in}
		return resp, nil
	}
	e.release()
	resp.Body = e.conn
	return resp, nil
}

// ahead is a connection of which something was read ahead.
type ahead struct {
	net.Conn
	in *bufio.Reader
}

func (a ahead) Read(p []byte) (int, error) { return a.in.Read(p) }

// refused has the connection closed with the answer's body.
func (e *exchange) refused(resp *http.Response) {
	e.limit.N = math.MaxInt64
	e.body = resp.Body
	if e.packed && resp.ContentLength != 0 && strings.EqualFold(resp.Header.Get("Content-Encoding"), "gzip") {
		resp.Header.Del("Content-Encoding")
		resp.Header.Del("Content-Length")
		resp.ContentLength, resp.Uncompressed = -1, true
		e.body = &unpacked{ReadCloser: e.body}
	}
	resp.Body = e
}

// unpacked is a body that was compressed by gzip, which is found out when it is first read.
type unpacked struct {
	io.ReadCloser
	plain *gzip.Reader
}

func (u *unpacked) Read(p []byte) (n int, err error) {
	if u.plain == nil {
		if u.plain, err = gzip.NewReader(u.ReadCloser); err != nil {
			return 0, err
		}
	}
	return u.plain.Read(p)
}

// Read reads the body of an answer that is no upgrade.
func (e *exchange) Read(p []byte) (int, error) { return e.body.Read(p) }

// Close closes the connection.
func (e *exchange) Close() error {
	e.stop()
	return e.conn.Close()
}

// release gives the buffer back, of which nothing is needed any more.
func (e *exchange) release() {
	e.in.Reset(nil)
	heads.Put(e.in)
	e.in = nil
}
