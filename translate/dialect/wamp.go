// This file is the dialect wamp: WAMP version 2 in JSON over WebSockets, as a subscriber. Sources: The Web Application
// Messaging Protocol (draft-oberstet-hybi-tavendo-wamp, Basic Profile; Advanced Profile for ticket, WAMP-CRA and
// pattern-based subscriptions), and the client wampy 8.0.2. A WebSocket message is one of:
//
//	-> [1, realm, {"roles","authmethods","authid"}]          HELLO
//	<- [2, session, {..}]                                    WELCOME
//	<- [3, {"message"}, reason]                              ABORT
//	<- [4, "ticket"|"wampcra", {"challenge",..}]             CHALLENGE
//	-> [5, signature, {}]                                    AUTHENTICATE
//	<> [6, {..}, reason]                                     GOODBYE
//	<- [8, request type, request, {..}, error, args?]        ERROR
//	-> [16, request, options, topic, args?, kwargs?]         PUBLISH
//	-> [32, request, options, topic]                         SUBSCRIBE
//	<- [33, request, subscription]                           SUBSCRIBED
//	<- [35, 0, {"subscription","reason"}]                    UNSUBSCRIBED by the router itself
//	<- [36, subscription, publication, details, args?, kwargs?]  EVENT
//
// The rules:
//
//   - Requests count from 1 on each connection.
//   - An event's topic is that of its details, where a pattern was subscribed to, else the one subscribed to. The
//     publication does not become the event's id: publications are not in order.
//   - A GOODBYE from the router, whatever its reason, is answered and followed by a new connection, after a pause: what
//     was subscribed to has not ended.
//   - Signs of life are WebSocket pings, which IDLE sends. Nothing bridges a reconnect.
//   - No error holds the ticket or the secret, not even when the router repeats them.

package dialect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"sidestream/translate"
)

const (
	wampSubprotocol = "wamp.2.json"

	wampHello        = 1
	wampWelcome      = 2
	wampAbort        = 3
	wampChallenge    = 4
	wampAuthenticate = 5
	wampGoodbye      = 6
	wampError        = 8
	wampPublish      = 16
	wampSubscribe    = 32
	wampSubscribed   = 33
	wampUnsubscribed = 35
	wampEvent        = 36

	wampStep     = 10 * time.Second // one step of the opening
	wampFarewell = 5 * time.Second  // from GOODBYE to the close

	maxWampIterations = 200_000 // of PBKDF2, a fraction of a second
	maxWampKey        = 128     // bytes of the key that it makes
)

// wamp speaks the dialect.
type wamp struct {
	Base
	Options

	// Of the present connection.
	login      wampLogin
	challenged bool
	welcome    bool
	ready      bool
	leaving    string            // the reason of the router's GOODBYE; "" none came
	request    int               // id of the last one
	asked      map[string]string // topics whose subscription is not confirmed, by request
	topics     map[string]string // topics subscribed to, by subscription
}

func newWAMP(o Options) Session { return &wamp{Options: o} }

func checkWAMP(connect string, lines []string) error {
	var problems []error
	if _, err := parseWampLogin(connect); err != nil {
		problems = append(problems, badConnect("%v", err))
	}
	for i, line := range lines {
		if _, _, err := parseTopicLine(line, wampLineForm); err != nil {
			problems = append(problems, badLine(i+1, "%v", err))
		}
	}
	return errors.Join(problems...)
}

func (s *wamp) Dial(*HTTPResponse) (Dial, error) { return s.Options.Dial() }

func (s *wamp) Open(subprotocol string) ([]Frame, error) {
	if subprotocol != "" && subprotocol != wampSubprotocol {
		return nil, fmt.Errorf("the router chose another subprotocol than %s, the only one supported here; unset SUBPROTOCOL", wampSubprotocol)
	}
	connect, err := s.Connect()
	if err != nil {
		return nil, err
	}
	login, err := parseWampLogin(connect)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "CONNECT "+err.Error())
	}
	s.login, s.challenged, s.welcome, s.ready, s.leaving, s.request = login, false, false, false, "", 0
	s.asked, s.topics = map[string]string{}, map[string]string{}
	details := map[string]any{
		"agent":       "sidestream",
		"roles":       json.RawMessage(`{"publisher":{},"subscriber":{"features":{"pattern_based_subscription":true}}}`),
		"authmethods": login.methods(),
	}
	if login.AuthID != "" {
		details["authid"] = login.AuthID
	}
	return []Frame{wampFrame(wampHello, login.Realm, details)}, nil
}

// wampFrame is a message of these parts, in JSON.
func wampFrame(parts ...any) Frame { return jsonFrame(parts) }

func (s *wamp) Timers() Timers {
	t := Timers{Opening: wampStep}
	switch {
	case s.leaving != "":
		return Timers{Silence: wampFarewell}
	case s.ready:
		return Timers{}
	case s.welcome:
		t.Step, t.Waiting = 3, "the answers to SUBSCRIBE"
	case s.challenged:
		t.Step, t.Waiting = 2, "the answer to the login"
	default:
		t.Step, t.Waiting = 1, "WELCOME; FROM must be the address of a WAMP router's WebSocket transport"
	}
	return t
}

func (s *wamp) Leave() []Frame {
	if !s.welcome || s.leaving != "" {
		return nil
	}
	return []Frame{wampFrame(wampGoodbye, struct{}{}, "wamp.close.normal")}
}

func (s *wamp) Closed(int, string) error {
	if s.leaving == "" {
		return nil
	}
	return fmt.Errorf("the router said goodbye: %s", s.leaving)
}

// wampMessage is a message in its parts.
type wampMessage []json.RawMessage

// text is a part that should be a string; "" when it is missing.
func (m wampMessage) text(i int) (text string) {
	if i < len(m) {
		_ = json.Unmarshal(m[i], &text) // anything else is ""
	}
	return text
}

// id is a part that is a number, as it is written.
func (m wampMessage) id(i int) string {
	if i < len(m) {
		return string(m[i])
	}
	return ""
}

func (s *wamp) Receive(_ context.Context, _ time.Time, f Frame) (got Received, err error) {
	var m wampMessage
	var kind int
	if f.Binary || json.Unmarshal(f.Data, &m) != nil || len(m) < 2 || json.Unmarshal(m[0], &kind) != nil {
		return got, errors.New("a message that is not of " + wampSubprotocol)
	}
	switch {
	case kind == wampAbort:
		return got, s.aborted(m)
	case s.leaving != "":
		return got, nil
	case kind == wampGoodbye:
		return got, s.goodbye(m, &got)
	case !s.welcome:
		return got, s.admitted(kind, m, &got)
	case kind == wampSubscribed:
		s.subscribed(m)
	case kind == wampUnsubscribed && m.id(1) == "0":
		return got, errors.New("the router has taken a subscription back")
	case kind == wampError:
		err = s.refused(m)
	case kind == wampEvent:
		err = s.event(m, &got)
	}
	got.Ready = s.nowReady()
	return got, err
}

// nowReady reports, once, that everything is confirmed.
func (s *wamp) nowReady() bool {
	if s.ready || len(s.asked) > 0 {
		return false
	}
	s.ready = true
	return true
}

// admitted takes what comes before the session is established.
func (s *wamp) admitted(kind int, m wampMessage, got *Received) error {
	switch kind {
	case wampWelcome:
		s.welcome = true
		return s.begin(got)
	case wampChallenge:
		answer, err := s.answer(m)
		if err == nil {
			s.challenged = true
			got.Replies = append(got.Replies, wampFrame(wampAuthenticate, answer, struct{}{}))
		}
		return err
	}
	return errors.New("a message before WELCOME")
}

// begin subscribes.
func (s *wamp) begin(got *Received) error {
	lines, err := s.Subscribe()
	if err != nil {
		return err
	}
	for i, line := range lines {
		topic, options, err := parseTopicLine(line, wampLineForm)
		if err != nil {
			return refuseLine(i+1, err)
		}
		s.request++
		s.asked[fmt.Sprint(s.request)] = topic
		got.Replies = append(got.Replies, wampFrame(wampSubscribe, s.request, options, topic))
	}
	got.Ready = s.nowReady()
	return nil
}

// goodbye answers the router's, which then closes.
func (s *wamp) goodbye(m wampMessage, got *Received) error {
	s.leaving = s.shown(m.text(2))
	if s.leaving == "" {
		s.leaving = "without a reason"
	}
	if !s.ready {
		return s.Closed(0, "")
	}
	got.Replies = append(got.Replies, wampFrame(wampGoodbye, struct{}{}, "wamp.close.goodbye_and_out"))
	return nil
}

func (s *wamp) subscribed(m wampMessage) {
	topic, ok := s.asked[m.id(1)]
	if !ok || len(m) < 3 {
		return
	}
	delete(s.asked, m.id(1))
	s.topics[m.id(2)] = topic
}

func (s *wamp) event(m wampMessage, got *Received) error {
	topic, ok := s.topics[m.id(1)]
	if !ok || len(m) < 4 {
		return nil // of no subscription of this connection
	}
	var details struct{ Topic string }
	if json.Unmarshal(m[3], &details) != nil {
		return errors.New("an event whose details are no object")
	}
	if details.Topic != "" {
		topic = details.Topic
	}
	args, kwargs := wampPart(m, 4, "[]"), wampPart(m, 5, "{}")
	if args[0] != '[' || kwargs[0] != '{' {
		return errors.New("an event whose arguments are no list and object")
	}
	data := append(append([]byte(`{"args":`), args...), `,"kwargs":`...)
	got.Messages = append(got.Messages, translate.Message{Topic: topic, Data: append(append(data, kwargs...), '}')})
	return nil
}

// wampPart is a part; empty when it is missing or null.
func wampPart(m wampMessage, i int, empty string) []byte {
	if i >= len(m) || string(m[i]) == "null" {
		return []byte(empty)
	}
	return m[i]
}

const wampSendForm = `a message to a router is topic {"args":[..],"kwargs":{..},"options":{..}}`

// Send publishes. The router acknowledges only what asks for it in its options, and that is not awaited.
func (s *wamp) Send(m translate.Message) ([]Frame, error) {
	topic, rest := cutWord(string(m.Data))
	var p struct {
		Args    []json.RawMessage          `json:"args"`
		Kwargs  map[string]json.RawMessage `json:"kwargs"`
		Options map[string]json.RawMessage `json:"options"`
	}
	if rest == "" {
		rest = "{}"
	}
	if topic == "" || strings.IndexByte(`{["`, topic[0]) >= 0 || strings.Contains(topic, "#") || !utf8.Valid(m.Data) || rest[0] != '{' || readOnly(rest, &p) != nil {
		return nil, errors.New(wampSendForm)
	}
	if p.Args == nil {
		p.Args = []json.RawMessage{}
	}
	if p.Kwargs == nil {
		p.Kwargs = map[string]json.RawMessage{}
	}
	if p.Options == nil {
		p.Options = map[string]json.RawMessage{}
	}
	s.request++
	return []Frame{wampFrame(wampPublish, s.request, p.Options, topic, p.Args, p.Kwargs)}, nil
}
