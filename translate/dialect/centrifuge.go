// This file is the dialect centrifuge: the JSON protocol, version 2, of Centrifugo and of services made with its library, such as Grafana Live, as a
// subscriber. Sources: client.proto of github.com/centrifugal/protocol 0.23, Centrifugo's Client protocol and Client SDK API, Centrifugo 6.9.1 and the client
// centrifuge 5.7.4. A frame, both ways, is one or several of these, one after the other:
//
//	-> {"id","connect":{"token"?,"data"?,"name"?,"headers"?,"subs"?}}
//	<- {"id","connect":{"client","data"?,"subs"?,"ping"?,"pong"?}}          subs: what the server has subscribed the client to
//	-> {"id","subscribe":{"channel","token"?,"data"?,"recoverable","positioned","recover"?,"epoch"?,"offset"?}}
//	<- {"id","subscribe":{"recoverable"?,"epoch"?,"offset"?,"recovered"?,"publications"?,"data"?}}
//	<- {"id","error":{"code","message","temporary"?}}
//	<- {"push":{"channel","pub":{"data","offset"?,"tags"?,"info"?}}}          an event
//	<- {"push":{"channel","join"|"leave":{"info"}}}   {"push":{"message":{"data"}}}
//	<- {"push":{"channel","subscribe":{..}}}          the server subscribes the client
//	<- {"push":{"channel","unsubscribe":{"code","reason"}}}
//	<- {}                                             a ping; -> {} where "pong" was set
//	-> {"id","publish":{"channel","data"}}   {"id","rpc":{"method","data"}}   and the like
//
// The rules:
//
//   - The place in a channel is its epoch and the offset of its last publication. The next connection asks for what came after. That an answer is
//     "recovered" says that nothing is missing; it is left out when it is false, and there is a gap. A recovered answer has the old offset: the last
//     publication's is the place.
//   - A server that remembers only the last value of a channel (recovery mode "cache") says recovered too: its publications leave out some, which their
//     offsets show. Where there is a filter (tf) they do not: its only publication, unless it is the next one, may be such a value.
//   - Offsets of publications that are pushed have no holes, but where there is a filter.
//   - Nothing is emitted before everything is confirmed, so that what came on a connection that failed in the middle is asked for again.
//   - Unsubscribed with a code from 2500 on, a client subscribes again; with a lower one it was put out. Expired tokens (2501, 2502, close 3005) come anew
//     with a new connection, whose CONNECT and SUBSCRIBE are read anew.
//   - Closed with 3500 to 3999, or 4500 to 4999, a client shall not come back. Anything else is a reconnect.
//   - Pings are the server's, and the first one comes early. A connection is dead 10 s after one is due.

package dialect

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"sidestream/translate"
)

const (
	centPath        = "/connection/websocket"
	centMargin      = 10 * time.Second // for a ping to arrive, as the official client has it
	maxCentPing     = time.Hour        // of what a server says
	maxCentChannels = 512              // that the server subscribes to, beside SUBSCRIBE
	maxCentName     = 256              // bytes of a channel's name or epoch that is remembered
	maxCentHeld     = 10_000           // publications that wait for the opening to be complete, of all channels
	maxCentCalls    = 256              // commands whose answer is awaited
	maxCentAgain    = 16               // subscriptions that are asked for again on one connection, before it is given up
)

// centrifuge speaks the dialect.
type centrifuge struct {
	Base
	Options

	// Of the present connection.
	lines     []centLine
	connected bool
	ready     bool
	calls     int                 // id of the last command
	asked     map[string]centAsk  // subscriptions that are not answered, by id
	own       map[string]string   // other commands that are not answered, what they are, by id
	server    map[string]bool     // channels that the server has subscribed to
	held      []translate.Message // until ready
	size      int                 // bytes of them
	over      bool                // some did not fit
	whole     bool                // nothing was lost in any channel so far
	again     int                 // subscriptions that were asked for again
	due       int                 // id of the last command when they were looked after
	skipped   int                 // messages that were larger than MAX_MESSAGE, where offsets do not show it yet
	ping      time.Duration       // between the server's; 0: it sends none
	pong      bool                // they are answered

	// Over all connections.
	places map[string]centPlace // by channel
	before map[string]centPlace // what they were when the present connection began
	theirs map[string]bool      // channels of SUBSCRIBE that the server has subscribed to by itself
}

// centPlace is how far a channel was read.
type centPlace struct {
	epoch  string
	offset uint64
}

// centAsk is a subscription that is asked for.
type centAsk struct {
	centLine
	from    centPlace // where it is to go on
	resumes bool      // from counts
	later   bool      // it is asked for again on a connection that was ready
}

func newCentrifuge(o Options) Session { return &centrifuge{Options: o} }

// Dial completes an address that has no path.
func (s *centrifuge) Dial(*HTTPResponse) (Dial, error) {
	d, err := s.Options.Dial()
	if err != nil {
		return d, err
	}
	u, err := url.Parse(d.URL)
	if err != nil {
		return d, errors.New("FROM is not a URL") // which Check has seen
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = centPath
		d.URL = u.String()
	}
	return d, nil
}

func (s *centrifuge) Open(string) ([]Frame, error) {
	connect, err := s.Connect()
	if err != nil {
		return nil, err
	}
	fields, err := centConnect(connect)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "CONNECT "+err.Error())
	}
	lines, err := s.Subscribe()
	if err != nil {
		return nil, err
	}
	s.lines = s.lines[:0]
	seen := map[string]bool{}
	for i, line := range lines {
		l, err := centSubscription(line)
		if err == nil && seen[l.channel] {
			err = errors.New("has the channel of a line before")
		}
		if err != nil {
			return nil, refuseLine(i+1, err)
		}
		seen[l.channel], s.lines = true, append(s.lines, l)
	}
	s.begin()
	if subs := s.serverSide(seen); len(subs) > 0 {
		fields["subs"] = subs
	}
	return []Frame{s.command("connect", fields)}, nil
}

// begin forgets what was of the connection before.
func (s *centrifuge) begin() {
	s.keep()
	s.connected, s.ready, s.calls, s.asked, s.own, s.server = false, false, 0, map[string]centAsk{}, map[string]string{}, map[string]bool{}
	s.held, s.size, s.over, s.whole, s.again, s.due, s.skipped, s.ping, s.pong = nil, 0, false, true, 0, 0, 0, 0, false
}

// command is a frame with a command, whose id is that of the last call.
func (s *centrifuge) command(kind string, params any) Frame {
	s.calls++
	return jsonFrame(map[string]any{"id": s.calls, kind: params})
}

func (s *centrifuge) Timers() Timers {
	switch {
	case !s.connected:
		return Timers{Opening: openingTime, Step: 1, Waiting: "the answer to connect; FROM must be a WebSocket of Centrifugo, such as " + centPath}
	case !s.ready:
		return Timers{Opening: openingTime, Step: 2 + s.calls - len(s.asked), Waiting: "the answers to SUBSCRIBE"}
	}
	var t Timers
	if s.ping > 0 {
		t.Silence = s.ping + centMargin
	}
	if len(s.asked) > 0 {
		t.Every = openingTime
	}
	return t
}

// Ping has none to send: it looks after subscriptions that were asked for again.
func (s *centrifuge) Ping() ([]Frame, error) {
	for id := range s.asked {
		if n, err := strconv.Atoi(id); err == nil && n <= s.due {
			return nil, errors.New("no answer to a subscription of SUBSCRIBE that was asked for again")
		}
	}
	s.due = s.calls
	return nil, nil
}

// Skipped ends an opening: what was skipped held an answer, and would come again in full.
func (s *centrifuge) Skipped() error {
	if s.ready && len(s.asked) == 0 {
		s.skipped++
		return nil
	}
	s.places, s.before = nil, nil
	return &translate.Later{After: time.Second, Err: errors.New("what came meanwhile is larger than MAX_MESSAGE, and is not asked for again")}
}

var errCent = errors.New("a message that is not of Centrifugo's JSON protocol; with format=protobuf or cf_protocol=protobuf in FROM it is in the other one")

func (s *centrifuge) Receive(_ context.Context, _ time.Time, f Frame) (got Received, err error) {
	if f.Binary {
		return got, errCent
	}
	pinged := false
	for in := json.NewDecoder(bytes.NewReader(f.Data)); ; {
		var r centReply
		if err := in.Decode(&r); err == io.EOF {
			break
		} else if err != nil {
			return got, errCent
		}
		switch {
		case r.Push != nil:
			err = s.pushed(*r.Push, &got)
		case r.ID != "" && r.ID != "0":
			err = s.answered(r, &got)
		case r.Error != nil:
			err = r.Error.meaning("a command", s.secrets())
		case r.Result != nil:
			err = errCentOld
		default:
			pinged = true
		}
		if err != nil {
			return got, err
		}
	}
	if pinged && s.pong {
		got.Replies = append(got.Replies, Frame{Data: []byte("{}")}) // one for all of a frame
	}
	return got, nil
}

// answered takes the answer to a command.
func (s *centrifuge) answered(r centReply, got *Received) error {
	id := string(r.ID)
	if r.Result != nil {
		return errCentOld
	}
	if ask, ours := s.asked[id]; ours {
		delete(s.asked, id)
		return s.subscribed(ask, r, got)
	}
	if id == "1" && !s.connected {
		return s.admitted(r, got)
	}
	if kind, ours := s.own[id]; ours {
		delete(s.own, id)
		s.outcome(kind, r, got)
	}
	return nil
}

// admitted takes the answer to connect.
func (s *centrifuge) admitted(r centReply, got *Received) error {
	if r.Error != nil {
		return r.Error.meaning("the connection", s.secrets())
	}
	if r.Connect == nil {
		return errCent
	}
	s.connected, s.pong = true, r.Connect.Pong
	s.ping = time.Duration(min(max(r.Connect.Ping, 0), int64(maxCentPing/time.Second))) * time.Second
	s.emit("connect", "", r.Connect.Data, got)
	for channel, sub := range sortedSubs(r.Connect.Subs) {
		s.taken(channel, sub, got)
	}
	s.theirs = map[string]bool{}
	for _, l := range s.lines {
		if s.theirs[l.channel] = s.server[l.channel]; !s.server[l.channel] {
			got.Replies = append(got.Replies, s.subscription(l, false))
		}
	}
	for channel := range s.places {
		if !s.server[channel] && !s.ours(channel) {
			delete(s.places, channel) // the server subscribes to it no longer, nobody knows since when
			s.whole = false
		}
	}
	s.settle(got)
	return nil
}

// subscription asks for a line, from where it was left.
func (s *centrifuge) subscription(l centLine, later bool) Frame {
	from, resumes := s.places[l.channel]
	params := map[string]any{"positioned": true, "recoverable": true}
	for name, value := range l.fields {
		params[name] = value
	}
	params["channel"] = l.channel
	if resumes {
		params["recover"], params["epoch"], params["offset"] = true, from.epoch, from.offset
	}
	f := s.command("subscribe", params)
	s.asked[s.last()] = centAsk{l, from, resumes, later}
	return f
}

// subscribed takes the answer to a line.
func (s *centrifuge) subscribed(ask centAsk, r centReply, got *Received) error {
	switch {
	case r.Error != nil && ask.resumes && r.Error.lost():
		delete(s.places, ask.channel)
		got.Replies = append(got.Replies, s.subscription(ask.centLine, ask.later))
		return nil
	case r.Error != nil:
		err := r.Error.meaning("the channel "+printable(ask.channel), s.secrets())
		if ask.later && r.Error.status() == http.StatusUnauthorized {
			err = errors.New(err.Error()) // the next connection has SUBSCRIBE as it is then
		}
		return err
	case r.Subscribe == nil:
		return errCent
	}
	whole := s.goesOn(ask, r.Subscribe)
	s.whole = s.whole && whole
	if ask.later && !whole {
		got.Messages = append(got.Messages, translate.Message{Gap: translate.GapUpstream})
	}
	s.emit("subscribe", ask.channel, r.Subscribe.Data, got)
	for _, p := range r.Subscribe.Publications {
		s.published(ask.channel, p, got)
	}
	s.settle(got)
	return nil
}

// settle makes the session ready once everything is confirmed.
func (s *centrifuge) settle(got *Received) {
	if s.ready || len(s.asked) > 0 {
		return
	}
	s.ready = true
	got.Ready, got.Resumed = true, s.whole && len(s.lines)+len(s.server) > 0 && !s.over
	if s.over {
		got.Messages = append(got.Messages, translate.Message{Gap: translate.GapUpstream})
	}
	got.Messages = append(got.Messages, s.held...)
	s.held, s.size, s.over = nil, 0, false
}

// Closed is a refusal where a client shall not come back.
func (s *centrifuge) Closed(code int, reason string) error {
	if code == centInvalidated {
		s.places, s.before = nil, nil
	}
	if code >= 3500 && code <= 3999 || code >= 4500 && code <= 4999 {
		return centClosed(code, reason, s.secrets())
	}
	if !s.connected && code == 0 {
		return errors.New("the connection was lost before the answer to connect")
	}
	return nil
}
