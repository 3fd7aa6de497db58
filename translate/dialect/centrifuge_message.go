// This file is what Centrifugo says and is told once a client is connected: publications, and what HELLO and clients send.

package dialect

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"sidestream/translate"
)

// centReply is whatever a server says.
type centReply struct {
	ID        json.Number
	Error     *centError
	Push      *centPush
	Connect   *centConnected
	Subscribe *centSubscribed
	Result    json.RawMessage // of the protocol's version 1

	Publish       json.RawMessage
	RPC           json.RawMessage
	History       json.RawMessage
	Presence      json.RawMessage
	PresenceStats json.RawMessage `json:"presence_stats"`
}

var errCentOld = errors.New("the server speaks version 1 of its protocol, which is not spoken here; if it knows version 2 as well, write cf_protocol_version=v2 in FROM's query")

type centConnected struct {
	Data json.RawMessage
	Subs map[string]*centSubscribed
	Ping int64
	Pong bool
}

type centSubscribed struct {
	Recoverable  bool
	Recovered    bool
	Epoch        string
	Offset       uint64
	Publications []centPublication
	Data         json.RawMessage
}

type centPublication struct {
	Data    json.RawMessage
	Offset  uint64
	Tags    map[string]string
	Info    *centInfo
	Channel string // of a subscription to a pattern
}

// centInfo is who has published, joined or left.
type centInfo struct{ User, Client string }

type centPush struct {
	Channel     string
	Pub         *centPublication
	Join, Leave *struct{ Info json.RawMessage }
	Message     *struct{ Data json.RawMessage }
	Subscribe   *centSubscribed
	Unsubscribe *struct {
		Code   int
		Reason string
	}
	Disconnect *struct {
		Code   int
		Reason string
	}
}

// sortedSubs are the channels that a server has subscribed to, in order.
func sortedSubs(subs map[string]*centSubscribed) iter.Seq2[string, *centSubscribed] {
	return func(yield func(string, *centSubscribed) bool) {
		for _, channel := range slices.Sorted(maps.Keys(subs)) {
			if sub := subs[channel]; sub != nil && !yield(channel, sub) {
				return
			}
		}
	}
}

// ours reports whether a channel is one of SUBSCRIBE.
func (s *centrifuge) ours(channel string) bool {
	return slices.ContainsFunc(s.lines, func(l centLine) bool { return l.channel == channel })
}

// last is the id of the last command.
func (s *centrifuge) last() string { return strconv.Itoa(s.calls) }

func (s *centrifuge) pushed(p centPush, got *Received) error {
	switch known := s.server[p.Channel] || s.ours(p.Channel); {
	case p.Disconnect != nil:
		if err := s.Closed(p.Disconnect.Code, p.Disconnect.Reason); err != nil {
			return err
		}
		return fmt.Errorf("disconnected by the server with code %d", p.Disconnect.Code)
	case p.Message != nil:
		s.show(translate.Message{Event: "message", Data: orNull(p.Message.Data)}, got)
	case p.Subscribe != nil:
		if !s.ours(p.Channel) {
			s.taken(p.Channel, p.Subscribe, got)
		}
	case !known: // of a subscription that has ended
	case p.Pub != nil:
		s.jumped(p.Channel, *p.Pub, got)
		s.published(p.Channel, *p.Pub, got)
	case p.Join != nil:
		s.show(translate.Message{Event: "join", Topic: p.Channel, Data: orNull(p.Join.Info)}, got)
	case p.Leave != nil:
		s.show(translate.Message{Event: "leave", Topic: p.Channel, Data: orNull(p.Leave.Info)}, got)
	case p.Unsubscribe != nil && s.connected:
		return s.unsubscribed(p.Channel, p.Unsubscribe.Code, p.Unsubscribe.Reason, got)
	}
	return nil
}

// The codes of unsubscribe: below centTemporary it is the server's will.
const (
	centTemporary = 2500
	centExpired   = 2501
	centStale     = 2502 // what was known of the channel is not true any more
)

// unsubscribed takes it that the server has ended a subscription.
func (s *centrifuge) unsubscribed(channel string, code int, reason string, got *Received) error {
	text := fmt.Sprintf("the server ended the subscription to %s (%d)", printable(channel), code)
	if reason = s.shown(reason); reason != "" {
		text += ": " + reason
	}
	if s.server[channel] && !s.ours(channel) {
		delete(s.server, channel) // which it had begun itself
		delete(s.places, channel)
		return nil
	}
	switch {
	case s.asks(channel):
		return nil // it had been asked for again before
	case code < centTemporary:
		return refuse(http.StatusForbidden, text)
	case code == centStale:
		delete(s.places, channel)
		return errors.New(text)
	case code == centExpired || s.again >= maxCentAgain || s.server[channel]:
		return errors.New(text)
	}
	for _, l := range s.lines {
		if l.channel == channel {
			s.again++
			got.Replies = append(got.Replies, s.subscription(l, s.ready))
		}
	}
	return nil
}

// asks reports whether a subscription to a channel is not answered yet.
func (s *centrifuge) asks(channel string) bool {
	for _, ask := range s.asked {
		if ask.channel == channel {
			return true
		}
	}
	return false
}

// jumped says a gap where a publication is not the one after the last.
func (s *centrifuge) jumped(channel string, p centPublication, got *Received) {
	at, known := s.places[channel]
	if !known || p.Offset <= at.offset+1 || p.Channel != "" || slices.ContainsFunc(s.lines, func(l centLine) bool { return l.channel == channel && l.filtered }) {
		return
	}
	if s.skipped > 0 {
		s.skipped-- // this one, which has been said
		return
	}
	s.show(translate.Message{Gap: translate.GapUpstream}, got)
	s.whole = false
}

// published takes a publication, and notes its place.
func (s *centrifuge) published(channel string, p centPublication, got *Received) {
	if at, known := s.places[channel]; known && p.Offset > at.offset && p.Channel == "" {
		s.places[channel] = centPlace{at.epoch, p.Offset}
	}
	m := translate.Message{Topic: channel, Data: orNull(p.Data), Header: http.Header{}}
	if p.Channel != "" {
		m.Topic = p.Channel
	}
	for name, value := range p.Tags {
		m.Header[strings.ToLower(name)] = []string{value}
	}
	if p.Info != nil {
		m.Header["user"], m.Header["client"] = []string{p.Info.User}, []string{p.Info.Client}
	}
	if p.Offset > 0 {
		m.Header["offset"] = []string{strconv.FormatUint(p.Offset, 10)}
	}
	s.show(m, got)
}

// emit adds what an answer holds for the application, as an event of its name.
func (s *centrifuge) emit(event, channel string, data json.RawMessage, got *Received) {
	if len(data) > 0 && string(data) != "null" {
		s.show(translate.Message{Event: event, Topic: channel, Data: data}, got)
	}
}

// show adds a message, once the session is ready.
func (s *centrifuge) show(m translate.Message, got *Received) {
	if s.ready {
		got.Messages = append(got.Messages, m)
		return
	}
	if s.size += m.Size(); s.over || len(s.held) >= maxCentHeld || s.size > 2*cmp.Or(s.MaxMessage, defaultBounds) {
		s.held, s.over = nil, true
		return
	}
	s.held = append(s.held, m)
}

func orNull(data json.RawMessage) json.RawMessage {
	if len(data) == 0 {
		return json.RawMessage("null")
	}
	return data
}

const centSendForm = `a message to Centrifugo is a channel and its data in JSON, news {"id":1}, or a command: {"rpc":{"method":"..","data":..}}`

// centCommands are what may be sent, and whether the answer is an event.
var centCommands = map[string]bool{"publish": false, "send": false, "rpc": true, "history": true, "presence": true, "presence_stats": true}

// Send publishes, or sends a command.
func (s *centrifuge) Send(m translate.Message) ([]Frame, error) {
	if !utf8.Valid(m.Data) {
		return nil, errors.New(centSendForm)
	}
	text := strings.TrimSpace(string(m.Data))
	if strings.HasPrefix(text, "{") {
		var command map[string]json.RawMessage
		if json.Unmarshal([]byte(text), &command) != nil || len(command) != 1 {
			return nil, errors.New(centSendForm)
		}
		for kind, params := range command {
			if _, known := centCommands[kind]; known && isObject(params) {
				return []Frame{s.call(kind, params)}, nil
			}
		}
		return nil, errors.New(centSendForm)
	}
	channel, data := cutWord(text)
	if channel == "" || !json.Valid([]byte(data)) {
		return nil, errors.New(centSendForm)
	}
	return []Frame{s.call("publish", map[string]any{"channel": channel, "data": json.RawMessage(data)})}, nil
}

// call is a frame with a command, whose answer is awaited unless it has none. The answers to those over the bound are not looked at.
func (s *centrifuge) call(kind string, params any) Frame {
	if kind == "send" {
		return jsonFrame(map[string]any{kind: params})
	}
	f := s.command(kind, params)
	if len(s.own) < maxCentCalls {
		s.own[s.last()] = kind
	}
	return f
}

// outcome takes the answer to a command of HELLO or a client's.
func (s *centrifuge) outcome(kind string, r centReply, got *Received) {
	if r.Error != nil {
		got.Complaints = append(got.Complaints, kind+": "+r.Error.text(s.secrets()))
		return
	}
	results := map[string]json.RawMessage{"rpc": r.RPC, "history": r.History, "presence": r.Presence, "presence_stats": r.PresenceStats}
	if centCommands[kind] {
		s.show(translate.Message{Event: kind, Data: orNull(results[kind])}, got)
	}
}
