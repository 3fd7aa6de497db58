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
//     publication is no event id: publications are not in order.
//   - A GOODBYE of the router, whatever its reason, is answered and followed by a new connection, after a while: what
//     was subscribed to has not ended.
//   - Signs of life are WebSocket pings, which IDLE sends. Nothing bridges a reconnect.
//   - The ticket and the secret stand in no error, also when the router says them.

package dialect

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
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
	leaving    string            // why the router said goodbye
	request    int               // last one given out
	asked      map[string]string // topics not confirmed, by request
	topics     map[string]string // topics subscribed to, by subscription
}

func newWAMP(o Options) Session { return &wamp{Options: o} }

// wampLogin is CONNECT.
type wampLogin struct {
	Realm  string `json:"realm"`
	AuthID string `json:"authid"`
	Ticket string `json:"ticket"`
	Secret string `json:"secret"` // of WAMP-CRA
}

const (
	wampConnectForm = `write {"realm":"..."}, and for a login "authid" and "ticket" (or "secret" for WAMP-CRA) in it`
	wampLineForm    = "write topic or topic {options as JSON}"
)

func parseWampLogin(connect string) (l wampLogin, err error) {
	in := json.NewDecoder(strings.NewReader(connect))
	in.DisallowUnknownFields()
	if strings.TrimSpace(connect) == "" || in.Decode(&l) != nil || in.More() {
		return l, errors.New("is not what it takes; " + wampConnectForm)
	}
	switch {
	case l.Realm == "":
		return l, errors.New("has no realm; " + wampConnectForm)
	case l.AuthID == "" && l.Ticket+l.Secret != "":
		return l, errors.New(`has no authid beside the ticket or secret; write "authid" too`)
	}
	return l, nil
}

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
		return nil, fmt.Errorf("the router chose another subprotocol than %s, which is the one spoken here; unset SUBPROTOCOL", wampSubprotocol)
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

// methods are the ways to log in, the best first.
func (l *wampLogin) methods() (methods []string) {
	if l.Secret != "" {
		methods = append(methods, "wampcra")
	}
	if l.Ticket != "" {
		methods = append(methods, "ticket")
	}
	if methods == nil {
		methods = []string{"anonymous"}
	}
	return methods
}

// wampFrame is a message out of parts that are known to be JSON.
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
		t.Step, t.Waiting = 2, "the verdict on the login"
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

// text is a part that should be a string, "" when it is not there.
func (m wampMessage) text(i int) (text string) {
	if i < len(m) {
		_ = json.Unmarshal(m[i], &text) // what is none is ""
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

// nowReady says, once, that everything is confirmed.
func (s *wamp) nowReady() bool {
	if s.ready || len(s.asked) > 0 {
		return false
	}
	s.ready = true
	return true
}

// admitted takes what comes before the session stands.
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

// answer is the signature that a challenge asks for.
func (s *wamp) answer(m wampMessage) (string, error) {
	method := m.text(1)
	if s.challenged {
		return "", errors.New("a second challenge")
	}
	if !slices.Contains(s.login.methods(), method) || method == "anonymous" {
		return "", refuse(http.StatusUnauthorized, fmt.Sprintf("the router wants %q, for which CONNECT has nothing", serverText(method)))
	}
	if method == "ticket" {
		return s.login.Ticket, nil
	}
	if len(m) < 3 {
		return "", errors.New("a challenge without its details")
	}
	return s.login.sign(m[2])
}

// sign answers WAMP-CRA, whose key is the secret, or made of it when there is a salt.
func (l *wampLogin) sign(extra json.RawMessage) (string, error) {
	c := struct {
		Challenge, Salt    string
		KeyLen, Iterations int
	}{KeyLen: 32, Iterations: 1000} // what wampy takes when the router leaves them out
	if json.Unmarshal(extra, &c) != nil || c.Challenge == "" {
		return "", errors.New("a challenge of WAMP-CRA that has none")
	}
	key := []byte(l.Secret)
	if c.Salt != "" {
		if c.Iterations < 1 || c.Iterations > maxWampIterations || c.KeyLen < 1 || c.KeyLen > maxWampKey {
			return "", errors.New("a challenge of WAMP-CRA with iterations or a keylen out of bounds")
		}
		derived, err := pbkdf2.Key(sha256.New, l.Secret, []byte(c.Salt), c.Iterations, c.KeyLen)
		if err != nil {
			return "", errors.New("WAMP-CRA: the key cannot be made")
		}
		key = []byte(base64.StdEncoding.EncodeToString(derived))
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(c.Challenge))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil)), nil
}

// said is a text of the router without our credentials.
func (s *wamp) said(text string) string {
	for _, secret := range []string{s.login.Ticket, s.login.Secret} {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "…")
		}
	}
	return serverText(text)
}

// aborted is what the end of a session, or of the try to begin one, means.
func (s *wamp) aborted(m wampMessage) error {
	reason := m.text(2)
	var details struct{ Message string }
	_ = json.Unmarshal(m[1], &details) // it may say nothing
	text := "aborted by the router: " + s.said(reason)
	if details.Message != "" {
		text += ": " + s.said(details.Message)
	}
	switch status := s.abortStatus(reason); {
	case s.welcome, status == 0:
		return errors.New(text)
	default:
		return refuse(status, text)
	}
}

// abortStatus is what the reason of an ABORT is over HTTP, 0 when asking again may help.
func (s *wamp) abortStatus(reason string) int {
	switch reason {
	case "wamp.error.no_such_realm":
		return http.StatusNotFound
	case "wamp.error.not_authorized", "wamp.error.authorization_failed", "wamp.error.authorization_denied", "wamp.error.no_such_role":
		return http.StatusForbidden
	case "wamp.error.authentication_failed", "wamp.error.authentication_denied", "wamp.error.authentication_required", "wamp.error.not_authenticated",
		"wamp.error.no_auth_method", "wamp.error.no_matching_auth_method", "wamp.error.no_such_principal", "wamp.error.invalid_authid":
		return http.StatusUnauthorized
	}
	switch own := reason != "" && !strings.HasPrefix(reason, "wamp."); { // an authenticator's own word
	case own && s.challenged:
		return http.StatusUnauthorized
	case own:
		return http.StatusForbidden
	}
	return 0
}

// goodbye answers the router's, which then closes.
func (s *wamp) goodbye(m wampMessage, got *Received) error {
	s.leaving = s.said(m.text(2))
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

// refused is the answer to a subscription that the router does not want.
func (s *wamp) refused(m wampMessage) error {
	topic, ok := s.asked[m.id(2)]
	if m.id(1) != fmt.Sprint(wampSubscribe) || !ok {
		return nil // to a publication, of which nobody asked for an answer
	}
	reason := m.text(4)
	text := fmt.Sprintf("subscribing to %s: %s", serverText(topic), s.said(reason))
	status := http.StatusForbidden
	switch {
	case strings.HasPrefix(reason, "wamp.error.invalid_"), reason == "wamp.error.option_not_allowed", strings.HasPrefix(reason, "wamp.error.option_disallowed"):
		status = http.StatusBadRequest
	case strings.HasPrefix(reason, "wamp.error.no_such_"):
		status = http.StatusNotFound
	}
	return refuse(status, text)
}

func (s *wamp) event(m wampMessage, got *Received) error {
	topic, ok := s.topics[m.id(1)]
	if !ok || len(m) < 4 {
		return nil // of nothing that was asked for
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

// wampPart is a part, or empty when it is not there or null.
func wampPart(m wampMessage, i int, empty string) []byte {
	if i >= len(m) || string(m[i]) == "null" {
		return []byte(empty)
	}
	return m[i]
}

const wampSendForm = `a message to a router is topic {"args":[..],"kwargs":{..},"options":{..}}`

// Send publishes. No answer is asked for, unless by options, whose answer is not waited for.
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
	in := json.NewDecoder(bytes.NewReader([]byte(rest)))
	in.DisallowUnknownFields()
	if topic == "" || strings.IndexByte(`{["`, topic[0]) >= 0 || strings.Contains(topic, "#") || !utf8.Valid(m.Data) || rest[0] != '{' || in.Decode(&p) != nil || in.More() {
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
