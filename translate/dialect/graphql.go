// This file is the dialects graphql-transport-ws and graphql-ws: GraphQL subscriptions. Sources: "GraphQL over WebSocket
// Protocol" of graphql-ws 6.4 for the first; PROTOCOL.md and the server of subscriptions-transport-ws 0.11 for the
// second, which is older and, confusingly, the one whose subprotocol is called graphql-ws.
//
//	graphql-transport-ws             graphql-ws
//	-> connection_init {payload}     -> connection_init {payload}
//	<- connection_ack {payload}      <- connection_ack, or connection_error {payload}
//	-> subscribe id {payload}        -> start id {payload}          payload: query, variables, operationName, extensions
//	<- next id {payload}             <- data id {payload}           payload: data, errors
//	<- error id [payload]            <- error id {payload}          the end of the operation
//	<- complete id                   <- complete id                 likewise
//	-> complete id                   -> stop id, connection_terminate
//	<> ping, pong {payload}          <- ka                          from time to time
//
// The rules:
//
//   - CONNECT is the payload of connection_init. Operations go out with connection_ack; their ids are the numbers of their
//     lines in SUBSCRIBE.
//   - Nothing confirms a subscription. In graphql-transport-ws two pings, one after the other, follow the operations: whatever
//     the server refuses at once it has refused before the second pong, so that the first client gets a status. A server
//     that does not answer pings is not pinged again.
//   - An error that is an operation's first answer is a refusal: 401 or 403 where its extensions.code is UNAUTHENTICATED or
//     FORBIDDEN, else 400. So is a result with nothing but errors, if the operation is complete with it. An error after
//     results is a failure of whatever feeds the operation: reconnect.
//   - Close code 4500 right after the operations is a refusal: that is how graphql-ws reports a syntax error in a document. At
//     any other time it is the server's problem, and is retried.
//   - Once all operations of SUBSCRIBE are complete the stream is finished.
//   - An operation that a client has brought itself (Options.Operation) goes out as it is. Its errors are results, which are the client's to
//     read, and end it. Its end comes with what is said last, so that nobody gets the one without the other.
//   - What is sent (HELLO) is an operation, whose results are messages like all others, errors included; or a message
//     with a type, such as {"type":"ping"}.
//   - A connection that has seen a ka ends after 30 s of silence, or after what AppSync's connection_ack asks for.
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
	"strings"
	"time"
	"unicode/utf8"

	"sidestream/translate"
)

const (
	gqlTransport = "graphql-transport-ws"
	gqlLegacy    = "graphql-ws"

	gqlAckTime    = 10 * time.Second // connection_ack
	gqlPongTime   = 3 * time.Second  // both pongs: as long as the first client is kept waiting
	gqlSilence    = 30 * time.Second // once there was a ka
	gqlMinSilence = time.Second      // what a server may ask for instead
	gqlMaxSilence = time.Hour

	maxGraphQLSent = 64 // operations of HELLO and clients that are not complete
)

// graphql speaks both dialects.
type graphql struct {
	Base
	Options
	legacy bool
	mute   bool // the server does not answer pings

	// Of the present connection.
	acked   bool
	pongs   int // still to come before the session is ready; 2 when a connection ends means that the server is mute
	silence time.Duration
	running map[string]*gqlRunning // operations that are not complete, by id
	left    int                    // of SUBSCRIBE among them
	sent    int                    // ids given to other operations
}

// gqlRunning is an operation that is not complete.
type gqlRunning struct {
	topic    string
	sent     bool  // by HELLO or a client, not from SUBSCRIBE
	answered bool  // with a result that holds more than errors
	refused  error // otherwise: the refusal that its last result is, should none follow
}

func newGraphQLTransport(o Options) Session { return &graphql{Options: o} }
func newGraphQLLegacy(o Options) Session    { return &graphql{Options: o, legacy: true} }

func (s *graphql) Dial(*HTTPResponse) (Dial, error) { return s.Options.Dial() }

func (s *graphql) Open(subprotocol string) ([]Frame, error) {
	if subprotocol == s.other() {
		return nil, s.wrong()
	}
	s.mute = s.mute || s.pongs == 2
	s.acked, s.pongs, s.silence, s.running, s.left, s.sent = false, 0, 0, map[string]*gqlRunning{}, 0, 0
	connect, err := s.Connect()
	if err != nil {
		return nil, err
	}
	payload, err := gqlConnect(connect)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "CONNECT: "+err.Error())
	}
	if payload == nil && s.legacy {
		payload = json.RawMessage("{}") // as its client does: servers look into it
	}
	return []Frame{gqlMessage{Type: "connection_init", Payload: payload}.frame()}, nil
}

// other is the name of the other of the two dialects.
func (s *graphql) other() string {
	if s.legacy {
		return gqlTransport
	}
	return gqlLegacy
}

// wrong is the refusal of a server that speaks the other dialect.
func (s *graphql) wrong() error {
	return refuse(http.StatusBadRequest, "the server does not speak this dialect; write PROTOCOL="+s.other()+", and unset SUBPROTOCOL")
}

func (s *graphql) Timers() Timers {
	switch {
	case !s.acked:
		return Timers{Opening: gqlAckTime, Step: 1, Waiting: "connection_ack; FROM must be the address of GraphQL's WebSocket, and PROTOCOL what it speaks: " + gqlTransport + " or " + gqlLegacy}
	case s.pongs > 0:
		return Timers{Opening: gqlPongTime, Step: 2, Waiting: "the answers to two pings; the next connection does without", Silence: s.silence}
	}
	return Timers{Silence: s.silence}
}

func (s *graphql) Receive(_ context.Context, _ time.Time, f Frame) (Received, error) {
	var m gqlMessage
	if err := json.Unmarshal(f.Data, &m); err != nil || !utf8.Valid(f.Data) {
		return Received{}, errors.New("the server sent something that is not a GraphQL message; FROM must be the address of its WebSocket")
	}
	switch m.Type {
	case "connection_ack":
		return s.ack(m.Payload)
	case "connection_error":
		return Received{}, s.connectionError(m.Payload)
	case "ka":
		if !s.legacy {
			return Received{}, s.wrong()
		}
		s.silence = max(s.silence, gqlSilence)
	case "ping":
		return Received{Replies: []Frame{gqlMessage{Type: "pong", Payload: m.Payload}.frame()}}, nil
	case "pong":
		return s.pong(), nil
	case "next", "data":
		return s.result(m), nil
	case "error":
		return s.failed(m)
	case "complete":
		err := s.completed(string(m.ID))
		if s.Operation && err != nil {
			return Received{Messages: []translate.Message{{Last: true}}}, err
		}
		return Received{}, err
	}
	return Received{}, nil
}

// ack sends the operations.
func (s *graphql) ack(payload json.RawMessage) (Received, error) {
	if s.acked {
		return Received{}, nil
	}
	lines, err := s.Subscribe()
	if err != nil {
		return Received{}, err
	}
	var replies []Frame
	for i, line := range lines {
		id := strconv.Itoa(i + 1)
		operation, topic, err := json.RawMessage(line), "", error(nil)
		if !s.Operation {
			operation, topic, err = gqlOperation(line)
		}
		if err != nil {
			return Received{}, refuseLine(i+1, err)
		}
		if topic == "" {
			topic = id
		}
		s.running[id] = &gqlRunning{topic: topic}
		replies = append(replies, s.start(id, operation))
	}
	s.acked, s.left = true, len(lines)
	var app struct{ ConnectionTimeoutMs float64 }
	if s.legacy && json.Unmarshal(payload, &app) == nil && app.ConnectionTimeoutMs > 0 {
		millis := min(app.ConnectionTimeoutMs, float64(gqlMaxSilence/time.Millisecond))
		s.silence = max(time.Duration(millis)*time.Millisecond, gqlMinSilence)
	}
	if !s.legacy && !s.mute && s.left > 0 {
		s.pongs = 2
		replies = append(replies, gqlMessage{Type: "ping"}.frame())
	}
	return Received{Replies: replies, Ready: s.pongs == 0}, nil
}

func (s *graphql) start(id string, operation json.RawMessage) Frame {
	kind := "subscribe"
	if s.legacy {
		kind = "start"
	}
	return gqlMessage{ID: gqlID(id), Type: kind, Payload: operation}.frame()
}

func (s *graphql) pong() (got Received) {
	if s.pongs == 0 {
		return got
	}
	if s.pongs--; s.pongs > 0 {
		got.Replies = []Frame{gqlMessage{Type: "ping"}.frame()}
	}
	got.Ready = s.pongs == 0
	return got
}

func (s *graphql) result(m gqlMessage) Received {
	r := s.running[string(m.ID)]
	if r == nil {
		return Received{}
	}
	if !r.answered {
		var result struct {
			Data   json.RawMessage
			Errors json.RawMessage
		}
		json.Unmarshal(m.Payload, &result)
		if r.answered = isNull(result.Errors) || !isNull(result.Data); !r.answered {
			r.refused = gqlRefusal(string(m.ID), result.Errors)
		}
	}
	return Received{Messages: []translate.Message{{Topic: r.topic, Data: orNullJSON(m.Payload)}}}
}

// failed ends an operation with its error.
func (s *graphql) failed(m gqlMessage) (Received, error) {
	r := s.running[string(m.ID)]
	switch {
	case r == nil:
		return Received{}, nil
	case r.sent:
		delete(s.running, string(m.ID))
		return Received{Messages: []translate.Message{r.errors(m.Payload)}}, nil
	case s.Operation:
		s.pongs = 0
		return Received{Messages: []translate.Message{r.errors(m.Payload), {Last: true}}}, translate.ErrFinished
	case r.answered:
		_, why := gqlError(m.Payload)
		return Received{}, fmt.Errorf("the operation of line %s failed: %s", m.ID, why)
	}
	s.pongs = 0 // this server is not mute
	return Received{}, gqlRefusal(string(m.ID), m.Payload)
}

// errors are those of an error as the operation's result.
func (r *gqlRunning) errors(payload json.RawMessage) translate.Message {
	var errs any = payload
	if !strings.HasPrefix(string(payload), "[") {
		errs = []json.RawMessage{orNullJSON(payload)}
	}
	return translate.Message{Topic: r.topic, Data: jsonFrame(map[string]any{"errors": errs}).Data}
}

func (s *graphql) completed(id string) error {
	r := s.running[id]
	if r == nil {
		return nil
	}
	delete(s.running, id)
	if r.sent {
		return nil
	}
	if !r.answered && r.refused != nil && !s.Operation {
		s.pongs = 0
		return r.refused
	}
	if s.left--; s.left == 0 {
		return translate.ErrFinished
	}
	return nil
}

func (s *graphql) Send(m translate.Message) ([]Frame, error) {
	if !s.acked {
		return nil, errors.New("not connected")
	}
	var whole struct{ ID, Type string }
	text := strings.TrimSpace(string(m.Data))
	if isJSONObject(text) && utf8.Valid(m.Data) && json.Unmarshal([]byte(text), &whole) == nil && whole.Type != "" {
		if whole.ID != "" {
			return nil, errors.New("has an id, which is the sidecar's to give; " + gqlLineForm)
		}
		return []Frame{{Data: []byte(text)}}, nil
	}
	operation, topic, err := gqlOperation(text)
	if err != nil {
		return nil, err
	}
	if len(s.running)-s.left >= maxGraphQLSent {
		return nil, fmt.Errorf("%d operations that were sent before are not complete", maxGraphQLSent)
	}
	s.sent++
	id := "s" + strconv.Itoa(s.sent)
	s.running[id] = &gqlRunning{topic: topic, sent: true}
	return []Frame{s.start(id, operation)}, nil
}

func (s *graphql) Leave() []Frame {
	if !s.acked {
		return nil
	}
	if s.legacy {
		return []Frame{gqlMessage{Type: "connection_terminate"}.frame()}
	}
	var frames []Frame
	for _, id := range slices.Sorted(maps.Keys(s.running)) {
		frames = append(frames, gqlMessage{ID: gqlID(id), Type: "complete"}.frame())
	}
	return frames
}
