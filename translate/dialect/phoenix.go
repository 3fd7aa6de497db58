// This file is the dialect phoenix: Phoenix Channels. Sources: Phoenix.Socket.V1.JSONSerializer, Phoenix.Socket.V2.
// JSONSerializer, Phoenix.Socket and Phoenix.Channel.Server of Phoenix 1.8, and the client phoenix 1.8.16.
//
//	version 2  [join_ref, ref, topic, event, payload]              refs are strings or null
//	version 1  {"topic","event","payload","ref","join_ref"?}
//
//	-> phx_join   payload: the params; ref and join_ref are the same
//	<- phx_reply  {"status":"ok"|"error","response":{..}}, ref of what it answers
//	-> heartbeat  on the topic "phoenix", every 30 s; answered by phx_reply
//	<- phx_close  the channel has ended
//	<- phx_error  the channel has crashed
//	<- any other  an event: pushed (join_ref set) or broadcast (null)
//
//	version 2 in binary, lengths of one byte:
//	  0 push       len join_ref, len topic, len event | join_ref topic event data
//	  1 reply      len join_ref, len ref, len topic, len status | join_ref ref topic status data
//	  2 broadcast  len topic, len event | topic event data
//
// The rules:
//
//   - /websocket is appended to FROM's path, and vsn=2.0.0 to its query unless a vsn is there: 1.0.0 speaks version 1.
//   - A heartbeat that is not answered before the next one ends the connection; the server disconnects after 60 s without one.
//   - A channel that crashed or was closed is joined again on a new connection, after a pause, with a gap: what the channel
//     broadcast meanwhile is lost in any case.
//   - The reply to a join is an event, phx_reply, if it carries anything; so is any reply to what HELLO or a client
//     pushed. Presence (presence_state, presence_diff) is emitted like any other event.
//   - Nothing bridges a reconnect. What tokens Supabase's channels have is in phoenix_token.go.

package dialect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"sidestream/translate"
)

const (
	phxStep  = 10 * time.Second // joining
	phxEvery = 30 * time.Second // heartbeats

	phxControl = "phoenix" // topic of the heartbeats

	// Kinds of binary messages.
	phxPush      = 0
	phxReply     = 1
	phxBroadcast = 2
)

// phoenix speaks the dialect.
type phoenix struct {
	Base
	Options
	v1     bool
	tokens map[string]*phxToken // by topic, of lines whose params have one

	// Of the present connection.
	channels map[string]*phxChannel // by topic, those of SUBSCRIBE
	joining  int                    // channels whose join is not confirmed
	ready    bool
	ref      int    // last one given out
	beat     string // ref of the heartbeat that has no reply yet; "" none
}

// phxChannel is a channel that was asked for.
type phxChannel struct {
	ref    string // of its join
	joined bool
}

func newPhoenix(o Options) Session { return &phoenix{Options: o, tokens: map[string]*phxToken{}} }

const phxLineForm = "write topic or topic {params as JSON}"

func checkPhoenix(_ string, lines []string) error {
	var problems []error
	for i, line := range lines {
		topic, _, err := parseTopicLine(line, phxLineForm)
		if topic == phxControl {
			err = errors.New("joins the topic of the heartbeats, which are sent anyway; leave it out")
		}
		if err != nil {
			problems = append(problems, badLine(i+1, "%v", err))
		}
	}
	return errors.Join(problems...)
}

func (s *phoenix) Dial(*HTTPResponse) (Dial, error) {
	d, err := s.Options.Dial()
	if err != nil {
		return d, err
	}
	u, err := url.Parse(d.URL)
	if err != nil {
		return Dial{}, errors.New("FROM is not an address")
	}
	if !strings.HasSuffix(u.Path, "/websocket") {
		if u.RawPath != "" {
			u.RawPath = strings.TrimSuffix(u.RawPath, "/") + "/websocket"
		}
		u.Path = strings.TrimSuffix(u.Path, "/") + "/websocket"
	}
	switch version := u.Query().Get("vsn"); version {
	case "":
		if u.Query().Has("vsn") {
			return Dial{}, errPhxVersion
		}
		s.v1, u.RawQuery = false, withQuery(u.RawQuery, "vsn=2.0.0")
	case "1.0.0", "2.0.0":
		s.v1 = version == "1.0.0"
	default:
		return Dial{}, errPhxVersion
	}
	d.URL = u.String()
	return d, nil
}

var errPhxVersion = errors.New("the vsn in FROM's query is not supported here; write 2.0.0 or 1.0.0, or leave it out")

func (s *phoenix) Open(string) ([]Frame, error) {
	lines, err := s.Subscribe()
	if err != nil {
		return nil, err
	}
	s.channels, s.joining, s.ready, s.ref, s.beat = map[string]*phxChannel{}, 0, false, 0, ""
	var frames []Frame
	for i, line := range lines {
		topic, params, err := parseTopicLine(line, phxLineForm)
		if err == nil && s.channels[topic] != nil {
			err = errors.New("joins a topic that a line before joins; the server would close the first")
		}
		if err != nil {
			return nil, refuseLine(i+1, err)
		}
		ref := s.nextRef()
		s.channels[topic] = &phxChannel{ref: ref}
		s.joining++
		frames = append(frames, s.frame(ref, ref, topic, "phx_join", s.joins(topic, params)))
	}
	s.ready = s.joining == 0
	return frames, nil
}

func (s *phoenix) nextRef() string {
	s.ref++
	return strconv.Itoa(s.ref)
}

// frame is a message in the version's form; joinRef "" is null.
func (s *phoenix) frame(joinRef, ref, topic, event string, payload json.RawMessage) Frame {
	var join any
	if joinRef != "" {
		join = joinRef
	}
	var message any = []any{join, ref, topic, event, payload}
	if s.v1 {
		message = struct {
			Topic   string          `json:"topic"`
			Event   string          `json:"event"`
			Payload json.RawMessage `json:"payload"`
			Ref     string          `json:"ref"`
			JoinRef any             `json:"join_ref,omitempty"`
		}{topic, event, payload, ref, join}
	}
	return jsonFrame(message)
}

func (s *phoenix) Timers() Timers {
	if s.ready {
		return Timers{Every: phxEvery}
	}
	return Timers{Opening: phxStep, Step: 1, Waiting: "the answers to phx_join; FROM must be the address of a Phoenix socket, and vsn a version that it speaks"}
}

func (s *phoenix) Ping() ([]Frame, error) {
	if s.beat != "" {
		return nil, fmt.Errorf("a heartbeat was not answered within %v", phxEvery)
	}
	s.beat = s.nextRef()
	return append(s.renew(), s.frame("", s.beat, phxControl, "heartbeat", json.RawMessage("{}"))), nil
}

func (s *phoenix) Receive(_ context.Context, _ time.Time, f Frame) (got Received, err error) {
	m, err := s.parse(f)
	if err != nil {
		return got, err
	}
	if m.topic == phxControl {
		if m.event == "phx_reply" && m.ref == s.beat {
			s.beat = ""
		}
		return got, nil
	}
	c := s.channels[m.topic]
	if c == nil || m.joinRef != "" && m.joinRef != c.ref {
		return got, nil // of no channel that was joined
	}
	switch m.event {
	case "phx_reply":
		err = s.replied(m, c, &got)
	case "phx_error":
		err = fmt.Errorf("the channel %s crashed", serverText(m.topic))
	case "phx_close":
		err = fmt.Errorf("the channel %s was closed by the server", serverText(m.topic))
	default:
		s.add(m, &got)
	}
	return got, err
}

// add makes an event of m.
func (s *phoenix) add(m phxMessage, got *Received) {
	made := translate.Message{Event: m.event, Topic: m.topic, Data: m.payload}
	if m.binary {
		s.binary(made, got)
		return
	}
	got.Messages = append(got.Messages, made)
}

// replied takes the reply to a join, or to a push.
func (s *phoenix) replied(m phxMessage, c *phxChannel, got *Received) error {
	if m.ref != c.ref {
		s.add(m, got)
		return nil
	}
	response := json.RawMessage(nil)
	if !m.binary {
		var reply struct {
			Status   string
			Response json.RawMessage
		}
		if err := json.Unmarshal(m.payload, &reply); err != nil {
			return errors.New("a reply that is not an object")
		}
		m.status, response = reply.Status, reply.Response
	}
	if m.status != "ok" {
		return s.denied(m.topic, phxRefusal(m.topic, response))
	}
	if m.binary && len(m.payload) > 0 || len(response) > 0 && string(response) != "{}" && string(response) != "null" {
		s.add(m, got)
	}
	if !c.joined {
		c.joined = true
		s.joining--
	}
	if s.joining == 0 && !s.ready {
		s.ready, got.Ready = true, true
	}
	return nil
}

// phxRefusal decides by the reason in a reply to a join whether asking again may help.
func phxRefusal(topic string, response json.RawMessage) error {
	var r struct{ Reason string }
	_ = json.Unmarshal(response, &r) // applications may reply with anything
	text := fmt.Sprintf("joining %s: %s", serverText(topic), serverText(r.Reason))
	if r.Reason == "" {
		text = fmt.Sprintf("joining %s was answered with an error without a reason", serverText(topic))
	}
	switch r.Reason {
	case "join crashed":
		return errors.New(text)
	case "unmatched topic":
		return refuse(http.StatusNotFound, text)
	}
	return refuse(http.StatusForbidden, text)
}

const phxSendForm = "a message to a channel is topic event {payload as JSON}"

// Send pushes to a channel.
func (s *phoenix) Send(m translate.Message) ([]Frame, error) {
	topic, rest := cutWord(string(m.Data))
	event, payload := cutWord(rest)
	if payload == "" {
		payload = "{}"
	}
	if topic == "" || event == "" || strings.IndexByte("{[", topic[0]) >= 0 || strings.IndexByte("{[", event[0]) >= 0 ||
		!json.Valid([]byte(payload)) || !utf8.Valid(m.Data) {
		return nil, errors.New(phxSendForm)
	}
	s.noted(topic, event, json.RawMessage(payload))
	joinRef := ""
	if c := s.channels[topic]; c != nil {
		joinRef = c.ref
	}
	return []Frame{s.frame(joinRef, s.nextRef(), topic, event, json.RawMessage(payload))}, nil
}
