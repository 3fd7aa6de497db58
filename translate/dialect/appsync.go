// This file is the dialect appsync: AWS AppSync, both its GraphQL subscriptions and AppSync Events. Sources: "Building a real-time WebSocket
// client" of the AppSync Developer Guide, "Understanding the Event API WebSocket protocol" of the AppSync Events Developer Guide; the client
// @aws-amplify/api-graphql 4.10.
//
//	GraphQL                                             Events
//	subprotocols graphql-ws, header-<base64url>         aws-appsync-event-ws, header-<base64url>
//	-> connection_init                                  -> connection_init
//	<- connection_ack {payload:{connectionTimeoutMs}}   <- connection_ack {connectionTimeoutMs}
//	<- connection_error {payload:{errors}}              <- connection_error {errors}
//	-> start id {payload:{data,extensions}}             -> subscribe id channel authorization
//	<- start_ack id, or error id {payload:{errors}}     <- subscribe_success id, or subscribe_error id {errors}
//	<- data id {payload:{data,errors}}                  <- data id event, or broadcast_error id {errors}
//	                                                    -> publish id channel [events] authorization
//	                                                    <- publish_success id, or publish_error id {errors}
//	-> stop id                                          -> unsubscribe id
//	<- complete id                                      <- unsubscribe_success id
//	<- ka                                               <- ka
//
// The rules:
//
//   - CONNECT is what the requests are authorized with, see appSyncLogin: the one for the connection stands in base64url in a subprotocol, that
//     for each subscription and each publish beside it. Each is signed anew where keys sign.
//   - Lines that begin with / are channels of AppSync Events; others are GraphQL. One route has either.
//   - FROM is the address of the API or of its real-time endpoint, see appSyncAt.
//   - Subscriptions go out with connection_ack; their ids are the numbers of their lines. The session is ready once all are confirmed.
//   - The payload of an event is a JSON text, of a list of them one message each.
//   - broadcast_error: an event could not be delivered. It is a gap.
//   - Once all GraphQL subscriptions are complete the stream is finished. One to a channel that the server ends is made anew, with a gap.
//   - Nothing for as long as connectionTimeoutMs, 5 minutes where it is not said, means that the connection is dead.
//   - Nothing bridges a reconnect.

package dialect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"sidestream/translate"
)

const (
	appSyncGraphQL = "graphql-ws" // the subprotocols
	appSyncEvents  = "aws-appsync-event-ws"
	appSyncHeader  = "header-" // what another one begins with, whose rest is the authorization

	appSyncStep       = 15 * time.Second // connection_ack, then the confirmations: as long as its client waits
	appSyncSilence    = 5 * time.Minute  // connectionTimeoutMs where it is not said
	appSyncMinSilence = time.Second
	appSyncMaxSilence = time.Hour
)

// appSync speaks with an API of AppSync's.
type appSync struct {
	Base
	Options

	// Of the present connection.
	at      appSyncAddress
	login   appSyncLogin
	acked   bool
	waiting int // subscriptions that are not confirmed
	ready   bool
	silence time.Duration
	running map[string]*appSyncRunning // by id
	sent    int                        // ids given to what was published
}

// appSyncRunning is a subscription that has not ended.
type appSyncRunning struct {
	topic     string
	confirmed bool
}

func newAppSync(o Options) Session { return &appSync{Options: o} }

// time is that of the one who runs the session.
func (s *appSync) time() time.Time {
	if s.Now == nil {
		return time.Time{}
	}
	return s.Now()
}

func (s *appSync) Dial(*HTTPResponse) (Dial, error) {
	s.at, s.login = appSyncAddress{}, appSyncLogin{}
	d, err := s.Options.Dial()
	if err != nil {
		return d, err
	}
	lines, err := s.Subscribe()
	if err != nil {
		return d, err
	}
	if s.at, err = appSyncAt(d.URL, appSyncSpeaksEvents(lines)); err != nil {
		return d, refuse(http.StatusBadRequest, "FROM: "+err.Error())
	}
	connect, err := s.Connect()
	if err != nil {
		return d, err
	}
	if s.login, err = appSyncReads(connect, s.at); err != nil {
		return d, refuse(http.StatusBadRequest, "CONNECT: "+err.Error())
	}
	d.URL = s.at.realtime
	if len(d.Subprotocols) == 0 {
		d.Subprotocols = []string{s.at.subprotocol()}
	}
	header := s.login.authorization(s.at.connectPath(), []byte("{}"), s.time())
	d.Subprotocols = append(slices.Clone(d.Subprotocols), appSyncHeader+header.encoded())
	return d, nil
}

func (s *appSync) Open(string) ([]Frame, error) {
	s.acked, s.waiting, s.ready, s.silence, s.running, s.sent = false, 0, false, appSyncSilence, map[string]*appSyncRunning{}, 0
	return []Frame{jsonFrame(map[string]any{"type": "connection_init"})}, nil
}

func (s *appSync) Timers() Timers {
	switch {
	case !s.acked:
		return Timers{Opening: appSyncStep, Step: 1, Waiting: "connection_ack; FROM must be the address of AppSync's API"}
	case !s.ready:
		return Timers{Opening: appSyncStep, Step: 2, Waiting: "the confirmation of all lines of SUBSCRIBE", Silence: s.silence}
	}
	return Timers{Silence: s.silence}
}

var errAppSync = errors.New("the server sent something that is not a message of AppSync's; FROM must be the address of its API")

func (s *appSync) Receive(_ context.Context, now time.Time, f Frame) (got Received, err error) {
	var m appSyncMessage
	if f.Binary || json.Unmarshal(f.Data, &m) != nil || !utf8.Valid(f.Data) {
		return got, errAppSync
	}
	id := string(m.ID)
	r := s.running[id]
	switch m.Type {
	case "connection_ack":
		return s.ack(now, m)
	case "connection_error":
		return got, s.connectionError(m)
	case "start_ack", "subscribe_success":
		s.confirmed(r, &got)
	case "data":
		s.data(r, m, &got)
	case "error", "subscribe_error":
		return got, s.failed(r, m, &got)
	case "broadcast_error":
		if r != nil {
			got.Messages = append(got.Messages, translate.Message{Gap: translate.GapUpstream})
			got.Complaints = append(got.Complaints, "an event could not be delivered: "+m.fault().text(s.login.secrets()))
		}
	case "publish_error":
		got.Complaints = append(got.Complaints, "publish: "+m.fault().text(s.login.secrets()))
	case "complete", "unsubscribe_success":
		return got, s.ended(id, r)
	}
	return got, nil
}

// ack sends the subscriptions.
func (s *appSync) ack(now time.Time, m appSyncMessage) (got Received, err error) {
	if s.acked {
		return got, nil
	}
	lines, err := s.Subscribe()
	if err != nil {
		return got, err
	}
	s.silence = m.silence()
	for i, line := range lines {
		id := strconv.Itoa(i + 1)
		if appSyncIsChannel(line) != s.at.events {
			return got, refuseLine(i+1, errAppSyncMixed)
		}
		frame, topic, err := s.subscription(id, line, now)
		if err != nil {
			return got, refuseLine(i+1, err)
		}
		if topic == "" {
			topic = id
		}
		s.running[id] = &appSyncRunning{topic: topic}
		got.Replies = append(got.Replies, frame)
	}
	s.acked, s.waiting = true, len(lines)
	s.ready = s.waiting == 0
	got.Ready = s.ready
	return got, nil
}

// subscription asks for a line.
func (s *appSync) subscription(id, line string, now time.Time) (f Frame, topic string, err error) {
	if s.at.events {
		if err := appSyncChannel(line); err != nil {
			return f, "", err
		}
		body := jsonFrame(appSyncPublication{Channel: line}).Data
		return jsonFrame(appSyncRequest{ID: id, Type: "subscribe", Channel: line, Authorization: s.authorized(body, now)}), line, nil
	}
	data, topic, err := appSyncOperation(line)
	if err != nil {
		return f, "", err
	}
	payload := map[string]any{"data": string(data), "extensions": map[string]any{"authorization": s.authorized(data, now)}}
	return jsonFrame(map[string]any{"id": id, "type": "start", "payload": payload}), topic, nil
}

// authorized is the authorization of a request with this body.
func (s *appSync) authorized(body []byte, now time.Time) appSyncAuthorization {
	return s.login.authorization(s.at.path, body, now)
}

func (s *appSync) confirmed(r *appSyncRunning, got *Received) {
	if r == nil || r.confirmed {
		return
	}
	r.confirmed = true
	s.waiting--
	if s.waiting == 0 && !s.ready {
		s.ready, got.Ready = true, true
	}
}

func (s *appSync) data(r *appSyncRunning, m appSyncMessage, got *Received) {
	if r == nil {
		return
	}
	s.confirmed(r, got) // which nothing else can mean
	if !s.at.events {
		got.Messages = append(got.Messages, translate.Message{Topic: r.topic, Data: orNullJSON(m.Payload)})
		return
	}
	texts, more := m.events()
	for _, text := range texts {
		got.Messages = append(got.Messages, translate.Message{Topic: r.topic, Data: text})
	}
	if more {
		got.Messages = append(got.Messages, translate.Message{Gap: translate.GapUpstream})
	}
}

// ended takes the end of a subscription, which nobody here has asked for.
func (s *appSync) ended(id string, r *appSyncRunning) error {
	if r == nil {
		return nil
	}
	delete(s.running, id)
	if s.at.events || !r.confirmed {
		return fmt.Errorf("the server has ended the subscription of line %s", id)
	}
	if len(s.running) == 0 {
		return translate.ErrFinished
	}
	return nil
}

func (s *appSync) Leave() (frames []Frame) {
	kind := "stop"
	if s.at.events {
		kind = "unsubscribe"
	}
	for _, id := range slices.Sorted(maps.Keys(s.running)) {
		frames = append(frames, jsonFrame(map[string]any{"id": id, "type": kind}))
	}
	return frames
}
