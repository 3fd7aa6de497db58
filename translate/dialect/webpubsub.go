// This file is the dialect webpubsub: Azure Web PubSub, its reliable subprotocol in JSON, as a subscriber. Sources: the service's reference of
// json.reliable.webpubsub.azure.v1, its guide to reliable clients, and the client @azure/web-pubsub-client 1.0.4.
//
//	<from>?awps_connection_id&awps_reconnection_token                    goes on with a session
//	<- {"type":"system","event":"connected","connectionId","reconnectionToken","userId"?}
//	-> {"type":"joinGroup","group","ackId"}
//	<- {"type":"ack","ackId","success","error"?:{"name","message"}}
//	<- {"type":"message","from":"group"|"server","group"?,"dataType","data","sequenceId","fromUserId"?}
//	-> {"type":"sequenceAck","sequenceId"}
//	-> {"type":"sendToGroup","group","dataType","data","ackId","noEcho"?}   {"type":"event","event","dataType","data","ackId"}
//	<> {"type":"ping"}, {"type":"pong"}
//	<- {"type":"system","event":"disconnected","message"}
//
// The rules:
//
//   - A session outlives its WebSockets: the service keeps what was not acknowledged, and the groups, for about a minute. The next WebSocket names the
//     session and its last token, is told "connected" with the same id and a new token, and gets what was not acknowledged: nothing is lost.
//   - Numbers grow within a session. What is not above the last one has come before. They need not be without holes.
//   - What came is acknowledged a second after it, or after 300 numbers, and never before it is in the ring, or kept where there is a history.
//   - A close with 1008, another id, or a refused upgrade means that the session is gone: a new one, with a gap.
//   - The service takes a message with an ackId of one before for the same, and drops it: so another process goes on only where nobody sends.
//   - A ping every 20 s is answered. Two minutes of silence are a dead connection.

package dialect

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"sidestream/translate"
)

const (
	pubSubName        = "webpubsub"
	pubSubSubprotocol = "json.reliable.webpubsub.azure.v1"
	pubSubAck         = "sequenceAck" // type of what acknowledges

	pubSubEvery    = 20 * time.Second
	pubSubAckEvery = time.Second
	pubSubAckAfter = 300 // numbers
	pubSubSilence  = 2 * time.Minute
	maxPubSubID    = 512
	maxPubSubSent  = 256 // messages whose acknowledgement is awaited
)

// webPubSub speaks the dialect.
type webPubSub struct {
	Base
	Options

	// Of the present connection.
	going   bool // it goes on with a session
	begun   bool // "connected" has come
	ready   bool
	waiting map[string]string // groups that are joined, by ackId
	sent    map[string]bool   // messages whose acknowledgement is awaited, likewise

	pubSubPlace
	opened pubSubPlace // as it was when the present WebSocket was opened
	used   bool        // there was a session that could be gone on with
	handed bool        // another process goes on with it
}

// pubSubPlace is what is known of a session. The zero value is none.
type pubSubPlace struct {
	id, token string
	stands    bool   // it was ready
	tries     int    // WebSockets since it was ready
	calls     uint64 // the last ackId
	last      uint64 // the highest number that has come
	acked     uint64 // that was acknowledged
	due       bool   // something came since, if only again
}

func newWebPubSub(o Options) Session { return &webPubSub{Options: o} }

// Dial names the session that goes on.
func (s *webPubSub) Dial(*HTTPResponse) (Dial, error) {
	d, err := s.Options.Dial()
	if err != nil || !s.stands {
		return d, err
	}
	u, err := url.Parse(d.URL)
	if err != nil {
		return d, errors.New("FROM is not an address")
	}
	u.RawQuery = withQuery(u.RawQuery, "awps_connection_id="+url.QueryEscape(s.id)+"&awps_reconnection_token="+url.QueryEscape(s.token))
	d.URL = u.String()
	return d, nil
}

// Open sends nothing: the service speaks first.
func (s *webPubSub) Open(string) ([]Frame, error) {
	if !s.stands {
		s.forget()
	}
	s.going, s.begun, s.ready = s.stands, false, false
	s.waiting, s.sent = map[string]string{}, map[string]bool{}
	if s.going {
		s.tries++
	}
	s.opened = s.pubSubPlace
	return nil, nil
}

func (s *webPubSub) Timers() Timers {
	switch {
	case s.ready && s.due:
		return Timers{Every: pubSubAckEvery, Silence: pubSubSilence}
	case s.ready:
		return Timers{Every: pubSubEvery, Silence: pubSubSilence}
	case s.begun:
		return Timers{Opening: openingTime, Step: 2, Waiting: "the acknowledgement of the groups of SUBSCRIBE"}
	}
	return Timers{Opening: openingTime, Step: 1, Waiting: "connected; FROM must be the address of a hub of Azure Web PubSub, /client/hubs/NAME"}
}

// Ping has none where an acknowledgement follows, which is a sign of life too.
func (s *webPubSub) Ping() ([]Frame, error) {
	if s.due {
		return nil, nil
	}
	return []Frame{jsonFrame(map[string]any{"type": "ping"})}, nil
}

// pubSubMessage is whatever the service says.
type pubSubMessage struct {
	Type, Event       string
	ConnectionID      string
	ReconnectionToken string
	Message           string // of "disconnected"

	AckID   json.Number
	Success bool
	Error   *struct{ Name, Message string }

	Group      string
	DataType   string
	Data       json.RawMessage
	SequenceID *uint64
	FromUserID string
}

func (s *webPubSub) Receive(_ context.Context, _ time.Time, f Frame) (got Received, err error) {
	var m pubSubMessage
	if f.Binary || json.Unmarshal(f.Data, &m) != nil {
		s.forget() // it would come again
		return got, errors.New("a message that is not of " + pubSubSubprotocol)
	}
	switch m.Type {
	case "system":
		err = s.system(m, &got)
	case "ack":
		err = s.acknowledged(m, &got)
	case "message":
		s.news(m, &got)
	case "invokeResponse":
		got.Messages = append(got.Messages, translate.Message{Data: bytes.Clone(f.Data)})
	}
	if err != nil {
		return got, err
	}
	if s.begun && !s.ready && len(s.waiting) == 0 {
		s.ready, got.Ready = true, true
		s.stands = s.token != ""
		s.used = s.used || s.stands
	}
	return got, nil
}

// system takes the beginning of a connection, or its end.
func (s *webPubSub) system(m pubSubMessage, got *Received) error {
	switch {
	case m.Event == "disconnected":
		return errors.New("the service ends the connection: " + serverText(m.Message))
	case m.Event != "connected":
		return nil
	case m.ConnectionID == "" || len(m.ConnectionID) > maxPubSubID || len(m.ReconnectionToken) > maxHubToken:
		return errors.New("connected without an id, or with one, or a token, that is too long")
	case s.begun && m.ConnectionID == s.id:
		s.token = m.ReconnectionToken
		s.stands = s.ready && s.token != ""
		return nil
	case s.begun, s.going && m.ConnectionID != s.id:
		s.forget()
		return errors.New("the service does not know the session any more")
	case s.going:
		s.begun, s.ready, s.tries, s.token = true, true, 0, m.ReconnectionToken
		s.stands = s.token != ""
		got.Ready, got.Resumed, got.Continued = true, true, true
		return nil
	}
	s.begun, s.id, s.token = true, m.ConnectionID, m.ReconnectionToken
	groups, err := s.Subscribe()
	if err != nil {
		return err
	}
	for i, group := range groups {
		if err := pubSubGroup(group); err != nil {
			return refuseLine(i+1, err)
		}
		id := s.call()
		s.waiting[id] = group
		got.Replies = append(got.Replies, jsonFrame(map[string]any{"type": "joinGroup", "group": group, "ackId": s.calls}))
	}
	return nil
}

// call is the next ackId.
func (s *webPubSub) call() string {
	s.calls++
	return strconv.FormatUint(s.calls, 10)
}

// acknowledged takes what became of a group, or of a message.
func (s *webPubSub) acknowledged(m pubSubMessage, got *Received) error {
	id := string(m.AckID)
	group, joins := s.waiting[id]
	name, text := "", ""
	if m.Error != nil {
		name, text = m.Error.Name, serverText(m.Error.Message)
	}
	fine := m.Success || name == "Duplicate"
	switch {
	case joins && fine:
		delete(s.waiting, id)
	case joins && name == "InternalServerError":
		return fmt.Errorf("the group %s: %s", serverText(group), text)
	case joins:
		return refuse(http.StatusForbidden, fmt.Sprintf("the group %s: %s (%s)", serverText(group), text, serverText(name)))
	case s.sent[id]:
		delete(s.sent, id)
		if !fine {
			got.Complaints = append(got.Complaints, fmt.Sprintf("what was sent is not taken: %s (%s)", text, serverText(name)))
		}
	}
	return nil
}

// news takes a message of a group, or of the service.
func (s *webPubSub) news(m pubSubMessage, got *Received) {
	if m.SequenceID != nil {
		s.due = true
		if *m.SequenceID <= s.last {
			return // it has come before
		}
		s.last = *m.SequenceID
		if s.last-s.acked > pubSubAckAfter {
			got.Acks = append(got.Acks, s.acknowledgement())
		}
	}
	out := translate.Message{Topic: m.Group, Data: orNull(m.Data)}
	if m.FromUserID != "" {
		out.Header = http.Header{"user": {m.FromUserID}}
	}
	switch m.DataType {
	case "text":
		out.Data, out.Text = []byte(jsonText(m.Data)), true
	case "binary", "protobuf":
		data, err := base64.StdEncoding.DecodeString(jsonText(m.Data))
		if err != nil {
			got.Complaints = append(got.Complaints, "a binary message that is not in base64 is left out")
			got.Messages = append(got.Messages, translate.Message{Gap: translate.GapUpstream})
			return
		}
		out.Data = data
		s.binary(out, got)
		return
	}
	got.Messages = append(got.Messages, out)
}

// acknowledgement is of all that came.
func (s *webPubSub) acknowledgement() Frame {
	s.due, s.acked = false, s.last
	return jsonFrame(map[string]any{"type": pubSubAck, "sequenceId": s.last})
}

func (s *webPubSub) Acks() []Frame {
	if !s.due || !s.begun {
		return nil
	}
	return []Frame{s.acknowledgement()}
}

// forget lets go of the session.
func (s *webPubSub) forget() { s.pubSubPlace = pubSubPlace{} }

// Closed lets go of a session that the service has let go of.
func (s *webPubSub) Closed(code int, _ string) error {
	if code == 1008 {
		s.forget()
	}
	return nil
}

func (s *webPubSub) Resumable() bool { return s.stands }

// Denied is true where the service does not let us go on with the session.
func (s *webPubSub) Denied(status int) bool {
	passing := status == http.StatusRequestTimeout || status == http.StatusTooEarly || status == http.StatusTooManyRequests
	if !s.stands || passing || status < 300 || status > 499 {
		return false
	}
	s.forget()
	return true
}

// Failed is true while the session may still stand: the service has not gone on with it on the WebSocket. What came on that is lost, and not acknowledged.
func (s *webPubSub) Failed() bool {
	if s.stands && !s.begun && s.tries < maxHubTries {
		s.pubSubPlace = s.opened
		return true
	}
	s.forget()
	return false
}

// HandOn keeps the session at the service.
func (s *webPubSub) HandOn() { s.handed = true }

// Cuts is true where another process may go on: an orderly close ends a session.
func (s *webPubSub) Cuts() bool { return s.handed && s.stands && !s.Speaks }
