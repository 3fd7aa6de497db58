package migrate

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"encoding/binary"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// MaxMessage bounds what is read of one message, or of one answer, in bytes. What is larger is told without its data.
const MaxMessage = 1 << 20

// Message is what one side of a WebSocket has sent.
type Message struct {
	At         time.Time
	FromClient bool
	Binary     bool
	Lost       bool   // nothing more of this side can be read: it is compressed as nobody here can, or malformed; told once
	Skipped    bool   // it was over [MaxMessage], or its compression could not be read
	Data       []byte // nil where it was skipped; valid during the call
}

// Hearer hears one WebSocket. It is called by one goroutine at a time, holds them up as long as it takes, and keeps no data.
type Hearer interface {
	Hear(m Message)
	// Closed is called once, at the end: with the code of the first close frame; 1005 where that has none, 1006 where there was no close frame.
	Closed(code int)
}

// Sated is a [Hearer] that may have heard enough of the client's messages, or of the service's: from when all hearers of a WebSocket have, they are told
// no more of them, which then cost next to nothing.
type Sated interface{ Enough(fromClient bool) bool }

// Listener is who wants to know what passes through. It is called by many goroutines at once.
type Listener interface {
	// Upgraded is told of a WebSocket that the service has agreed to; nil: nothing of it is wanted.
	Upgraded(r *http.Request, answer http.Header) Hearer
	// Answered is told of an answer to a GET that is no WebSocket; what it returns is called at the answer's end, and not at all where the
	// client does not wait for it. nil: that is not wanted.
	Answered(r *http.Request, status int, answer http.Header) func(body Body)
}

// Body is an answer's body as it was meant, without its Content-Encoding.
type Body struct {
	Data []byte // nil where it was over [MaxMessage], or in an encoding that is not read (all but gzip and deflate)
	Size int    // bytes that passed
}

// Watch tells its listeners of what passes through. The zero value tells nobody. Set it before the first request.
type Watch struct {
	Listeners []Listener
}

// Answered looks at the service's answer to r, and puts itself in the way of its body where a listener wants that.
func (w *Watch) Answered(r *http.Request, res *http.Response) {
	switch {
	case res.StatusCode == http.StatusSwitchingProtocols && strings.EqualFold(res.Header.Get("Upgrade"), "websocket"):
		w.upgraded(r, res)
	case res.StatusCode >= 200 && r.Method == http.MethodGet && res.Body != nil:
		w.answered(r, res)
	}
}

func (w *Watch) upgraded(r *http.Request, res *http.Response) {
	both, ok := res.Body.(io.ReadWriteCloser)
	if !ok {
		return
	}
	var hearers []Hearer
	for _, l := range w.Listeners {
		if h := l.Upgraded(r, res.Header); h != nil {
			hearers = append(hearers, h)
		}
	}
	if len(hearers) == 0 {
		return
	}
	c := &conversation{ReadWriteCloser: both, hearers: hearers, code: 1006}
	deflate, server, client := agreed(res.Header["Sec-Websocket-Extensions"])
	c.down = frames{most: MaxMessage, deaf: &c.deaf.down, deflate: deflate, keeps: server, tell: func(op byte, data []byte, skipped bool) { c.tell(false, op, data, skipped) }}
	c.up = frames{most: MaxMessage, deaf: &c.deaf.up, deflate: deflate, keeps: client, tell: func(op byte, data []byte, skipped bool) { c.tell(true, op, data, skipped) }}
	res.Body = c
}

// conversation is a WebSocket that passes through. Each direction is one goroutine's.
type conversation struct {
	io.ReadWriteCloser // to the service
	down, up           frames

	mu      sync.Mutex // guards what follows, and the calls of hearers
	hearers []Hearer
	code    int
	over    bool
	deaf    struct{ up, down atomic.Bool } // all hearers have heard enough
}

// Read reads what the service sends.
func (c *conversation) Read(p []byte) (int, error) {
	n, err := c.ReadWriteCloser.Read(p)
	c.down.write(p[:n])
	return n, err
}

// Write writes what the client sends.
func (c *conversation) Write(p []byte) (int, error) {
	c.up.write(p) // before the answer to it can come
	return c.ReadWriteCloser.Write(p)
}

// CloseWrite lets one direction end before the other.
func (c *conversation) CloseWrite() error {
	if half, ok := c.ReadWriteCloser.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.ReadWriteCloser.Close()
}

// Close closes the connection to the service.
func (c *conversation) Close() error {
	err := c.ReadWriteCloser.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.over {
		c.over = true
		for _, h := range c.hearers {
			h.Closed(c.code)
		}
	}
	return err
}

func (c *conversation) tell(fromClient bool, op byte, data []byte, skipped bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return
	}
	if op == opClose {
		if c.code == 1006 {
			c.code = 1005
			if len(data) >= 2 {
				c.code = int(binary.BigEndian.Uint16(data))
			}
		}
		return
	}
	m := Message{At: time.Now(), FromClient: fromClient, Binary: op == opBinary, Data: data, Skipped: skipped, Lost: op == opLost}
	up, down := true, true
	for _, h := range c.hearers {
		h.Hear(m)
		s, ok := h.(Sated)
		up, down = up && ok && s.Enough(true), down && ok && s.Enough(false)
	}
	if up {
		c.deaf.up.Store(true)
	}
	if down {
		c.deaf.down.Store(true)
	}
}

func (w *Watch) answered(r *http.Request, res *http.Response) {
	var heard []func(Body)
	for _, l := range w.Listeners {
		if f := l.Answered(r, res.StatusCode, res.Header); f != nil {
			heard = append(heard, f)
		}
	}
	if len(heard) > 0 {
		res.Body = &copied{ReadCloser: res.Body, coding: res.Header.Get("Content-Encoding"), heard: heard}
	}
}

// copied is a body that is looked at as it passes.
type copied struct {
	io.ReadCloser
	coding string
	heard  []func(Body)
	data   []byte
	size   int
	over   bool // there is more than is read
}

// Read reads on, and tells the listeners at the end.
func (c *copied) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.size += n
	if c.over = c.over || c.size > MaxMessage; c.over {
		c.data = nil
	} else {
		c.data = append(c.data, p[:n]...)
	}
	if err == io.EOF && c.heard != nil {
		b := Body{Size: c.size}
		if !c.over {
			b.Data = plain(c.data, c.coding)
		}
		for _, f := range c.heard {
			f(b)
		}
		c.heard, c.data = nil, nil
	}
	return n, err
}

// plain is data without its coding; nil where that is not read, or comes to more than [MaxMessage].
func plain(data []byte, coding string) []byte {
	var r io.Reader
	var err error
	switch strings.ToLower(strings.TrimSpace(coding)) {
	case "", "identity":
		return append([]byte{}, data...) // not nil
	case "gzip", "x-gzip":
		r, err = gzip.NewReader(bytes.NewReader(data))
	case "deflate":
		r, err = zlib.NewReader(bytes.NewReader(data))
	default:
		return nil
	}
	if err != nil {
		return nil
	}
	out, err := io.ReadAll(io.LimitReader(r, MaxMessage+1))
	if err != nil || len(out) > MaxMessage {
		return nil
	}
	return out
}

// Legible leaves of what a request accepts the encodings of bodies that are read here.
func Legible(h http.Header) {
	var kept []string
	for _, part := range strings.Split(strings.Join(h["Accept-Encoding"], ","), ",") {
		switch name, _, _ := strings.Cut(strings.TrimSpace(part), ";"); strings.ToLower(name) {
		case "gzip", "deflate", "identity":
			kept = append(kept, strings.TrimSpace(part))
		}
	}
	if h["Accept-Encoding"] != nil {
		h["Accept-Encoding"] = []string{strings.Join(kept, ", ")}
	}
}
