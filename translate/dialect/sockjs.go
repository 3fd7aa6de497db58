// This file is SockJS around another dialect: frames of the WebSocket transport (sockjs-protocol 0.3.3, "websocket"; servers
// sockjs 0.3.24 and Spring).
//
//	GET <FROM>/<000-999>/<session>/websocket    both random for each dial: a session cannot be resumed
//	S-> o                                       open
//	S-> a["text","text"]                        messages of the inner dialect
//	S-> m"text"                                 one of them, from old servers
//	S-> h                                       heartbeat; sockjs-node sends WebSocket pings instead and closes with 3000 without pongs
//	S-> c[3000,"Go away!"]                      closed: the inner dialect decides what code and reason mean
//	C-> ["text"]                                to send
//
// The rules:
//
//   - The inner dialect opens with o. Its own subprotocols are not offered: SockJS has none.
//   - SockJS carries only text. A dialect that opens with bytes is refused (400).
//   - An empty message means nothing.

package dialect

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"time"

	"sidestream/translate"
)

// sockJSPrefix stands before the name of the inner dialect in PROTOCOL.
const sockJSPrefix = "sockjs+"

// maxSockJSTexts bounds the messages in one frame; those after them are skipped. Servers send one or a few.
const maxSockJSTexts = 10000

// overSockJS is the dialect inner with SockJS around it.
func overSockJS(inner Dialect) Dialect {
	d := inner
	d.Name, d.Subprotocols, d.Stream, d.Decodes = sockJSPrefix+inner.Name, nil, false, false // it carries text alone
	d.Posts = false
	d.New = func(o Options) Session {
		o.Carried = true
		return &sockjs{Session: inner.New(o), address: sockJSAddress}
	}
	return d
}

func newSockJS(o Options) Session { return overSockJS(Dialect{New: newRaw}).New(o) }

type sockjs struct {
	Session // the inner one
	address func() string
	open    bool // o has come on this connection
}

// sockJSAddress is the part of the address that differs for each dial.
func sockJSAddress() string {
	server, err := rand.Int(rand.Reader, big.NewInt(1000))
	if err != nil {
		panic(err) // crypto/rand never fails
	}
	return fmt.Sprintf("/%03d/%s/websocket", server, strings.ToLower(rand.Text()))
}

func (s *sockjs) Dial(last *HTTPResponse) (Dial, error) {
	d, err := s.Session.Dial(last)
	if err != nil || d.Request != nil {
		return d, err
	}
	u, err := url.Parse(d.URL)
	if err != nil {
		return d, errors.New("the address is not valid")
	}
	// As it is written, so that escapes stay as they are.
	path := strings.TrimRight(u.EscapedPath(), "/") + s.address()
	if u.Path, err = url.PathUnescape(path); err != nil {
		return d, errors.New("the address is not valid")
	}
	u.RawPath = path
	d.URL = u.String()
	return d, nil
}

func (s *sockjs) Open(string) ([]Frame, error) {
	s.open = false
	return nil, nil
}

var errSockJS = errors.New("the server sent something that is not a SockJS frame; if it speaks WebSockets as they are, leave out sockjs in PROTOCOL")

func (s *sockjs) Receive(ctx context.Context, now time.Time, f Frame) (got Received, err error) {
	if len(f.Data) == 0 {
		return got, nil
	}
	kind, data := f.Data[0], f.Data[1:]
	switch {
	case f.Binary:
		return got, errSockJS
	case kind == 'c':
		return got, s.closing(data)
	case kind == 'o' && len(data) == 0 && !s.open:
		return s.opened()
	case kind == 'h' && len(data) == 0:
		return got, nil
	case kind == 'a' && s.open:
		var texts []string
		if json.Unmarshal(data, &texts) != nil {
			return got, errSockJS
		}
		return s.inner(ctx, now, texts)
	case kind == 'm' && s.open:
		var text string
		if json.Unmarshal(data, &text) != nil {
			return got, errSockJS
		}
		return s.inner(ctx, now, []string{text})
	}
	return got, errSockJS
}

// opened begins the inner dialect.
func (s *sockjs) opened() (got Received, err error) {
	s.open = true
	frames, err := s.Session.Open("")
	if err != nil {
		return got, err
	}
	got.Ready = s.Session.Timers().Opening == 0
	if got.Replies, err = wrapped(frames); err != nil {
		return got, refuse(http.StatusBadRequest, "PROTOCOL: "+err.Error())
	}
	return got, nil
}

// inner gives messages to the inner dialect.
func (s *sockjs) inner(ctx context.Context, now time.Time, texts []string) (got Received, err error) {
	for i, text := range texts {
		if i == maxSockJSTexts {
			got.Messages = append(got.Messages, translate.Message{Gap: translate.GapUpstream})
			return got, s.Session.Skipped()
		}
		one, err := s.Session.Receive(ctx, now, Frame{Data: []byte(text)})
		got.Messages = append(got.Messages, one.Messages...)
		got.Failed, got.Complaints = append(got.Failed, one.Failed...), append(got.Complaints, one.Complaints...)
		if one.Ready {
			got.Ready, got.Resumed = true, one.Resumed
		}
		replies, wrong := wrapped(one.Replies)
		acks, wrongAcks := wrapped(one.Acks)
		got.Replies, got.Acks = append(got.Replies, replies...), append(got.Acks, acks...)
		if err == nil {
			err = cmp.Or(wrong, wrongAcks)
		}
		if err != nil {
			return got, err
		}
	}
	return got, nil
}

// closing takes the frame that announces a close and its reason.
func (s *sockjs) closing(data []byte) error {
	var why []json.RawMessage
	var code int
	var reason string
	if json.Unmarshal(data, &why) != nil || len(why) != 2 || json.Unmarshal(why[0], &code) != nil || json.Unmarshal(why[1], &reason) != nil {
		return errSockJS
	}
	if s.open {
		if err := s.Session.Closed(code, reason); err != nil {
			return err
		}
	}
	return fmt.Errorf("closed by the upstream with SockJS code %d: %s", code, serverText(reason))
}

// wrapped puts frames of the inner dialect into SockJS's.
func wrapped(frames []Frame) ([]Frame, error) {
	var out []Frame
	for _, f := range frames {
		if f.Binary {
			return nil, errors.New("SockJS carries text alone, but the dialect in it sends bytes")
		}
		text := append([]byte{'['}, jsonString(string(f.Data))...)
		out = append(out, Frame{Data: append(bytes.TrimSpace(text), ']')})
	}
	return out, nil
}

func (s *sockjs) Send(m translate.Message) ([]Frame, error) {
	frames, err := s.Session.Send(m)
	if err != nil {
		return nil, err
	}
	return wrapped(frames)
}

func (s *sockjs) Timers() Timers {
	if !s.open {
		return Timers{Opening: openingTime, Waiting: "the SockJS open frame; check that FROM is the prefix of a SockJS server"}
	}
	t := s.Session.Timers()
	t.Step++
	return t
}

func (s *sockjs) Ping() ([]Frame, error) {
	frames, err := s.Session.Ping()
	if err != nil {
		return nil, err
	}
	return wrapped(frames)
}

// Acks has the same form as whatever else is sent.
func (s *sockjs) Acks() []Frame {
	frames, _ := wrapped(s.Session.Acks()) // those of a dialect in SockJS are text
	return frames
}

// Closed before o is not for the inner dialect to decide.
func (s *sockjs) Closed(code int, reason string) error {
	if !s.open {
		return errors.New("the connection ended before the SockJS open frame; check that FROM is the prefix of a SockJS server")
	}
	return s.Session.Closed(code, reason)
}

func (s *sockjs) Leave() []Frame {
	if !s.open {
		return nil
	}
	frames, _ := wrapped(s.Session.Leave()) // what cannot be sent as text is left out
	return frames
}
