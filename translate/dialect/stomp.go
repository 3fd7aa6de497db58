// This file is STOMP 1.2, 1.1 and 1.0 over WebSockets, as a subscriber (STOMP Protocol Specification 1.2 and 1.1,
// stomp.github.io).
//
//	C-> CONNECT accept-version, host, heart-beat, and the headers of CONNECT    never escaped
//	S-> CONNECTED version, heart-beat, server                              decides escaping and the form of ACK
//	C-> SUBSCRIBE id, destination, ack, receipt                            one a line of SUBSCRIBE
//	S-> RECEIPT receipt-id                                                 where the broker is known to confirm
//	S-> MESSAGE subscription, message-id, destination, ack, content-length
//	C-> ACK                                                                with ack other than auto, once the event is in the ring
//	S-> ERROR message                                                      and the broker closes
//	both "\n"                                                              heart-beat
//
// The rules:
//
//   - Messages are pieces of one byte stream: a WebSocket message may hold several frames, half a frame, or only line ends.
//   - The session is ready once the broker has confirmed everything: CONNECTED, and a RECEIPT for each subscription from brokers whose
//     server header shows that they send one. Spring's simple broker sends none (SimpleBrokerMessageHandler), and is ready at CONNECTED.
//   - Heart-beats are negotiated as specified (1.2, "Heart-beating"); we send ours early and allow the broker twice its
//     interval.
//   - Of a header that is repeated the first counts. An undefined escape, which the specification makes fatal, is kept as it
//     is: brokers differ here (stomp-broker-js escapes nothing).
//   - Nothing bridges a reconnect: a message-id belongs to one session.

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

	"sidestream/translate"
)

const (
	stompBeat    = 10 * time.Second // what we offer, and ask for
	maxStompHead = 64 << 10         // bytes of a frame's headers
	maxStompSubs = 1000             // lines of SUBSCRIBE
)

// stompConfirms are the beginnings of the server header of brokers that answer receipts.
var stompConfirms = []string{"RabbitMQ", "ActiveMQ", "apache-apollo"}

func newStomp(o Options) Session {
	s := &stomp{Options: o}
	if s.MaxMessage == 0 {
		s.MaxMessage = defaultBounds
	}
	return s
}

// The steps of an opening.
const (
	stompConnecting = iota
	stompSubscribing
	stompReady
)

type stomp struct {
	Base
	Options

	secrets []string // values of CONNECT, which no error may hold
	subs    []stompSub

	// Of the present connection.
	parser  stompParser
	step    int
	version string
	unheard map[string]bool // receipts not yet come
	sent    bool            // something of a client's
	offered [2]time.Duration
	every   time.Duration
	silence time.Duration
}

func (s *stomp) Dial(*HTTPResponse) (Dial, error) { return s.Options.Dial() }

func (s *stomp) Open(string) ([]Frame, error) {
	s.parser = stompParser{max: s.MaxMessage}
	s.step, s.version, s.unheard, s.every, s.silence, s.sent = stompConnecting, "1.2", nil, 0, 0, false
	connect, err := s.Options.Connect()
	if err != nil {
		return nil, err
	}
	lines, err := s.Options.Subscribe()
	if err != nil {
		return nil, err
	}
	s.subs = s.subs[:0]
	for _, line := range lines {
		sub, err := parseStompSub(line)
		if err != nil {
			return nil, err
		}
		s.subs = append(s.subs, sub)
	}
	headers, err := stompHeaders(connect)
	if err != nil {
		return nil, err
	}
	s.secrets = s.secrets[:0]
	for _, h := range headers {
		s.secrets = append(s.secrets, h.value)
	}
	headers = withDefault(headers, "accept-version", "1.2,1.1")
	headers = withDefault(headers, "host", "/")
	headers = withDefault(headers, "heart-beat", fmt.Sprintf("%d,%d", stompBeat.Milliseconds(), stompBeat.Milliseconds()))
	s.offered = beats(valueOf(headers, "heart-beat"))
	frame := []byte("CONNECT\n")
	for _, h := range headers {
		frame = append(append(append(append(frame, h.name...), ':'), h.value...), '\n')
	}
	return []Frame{stompOut(append(frame, '\n', 0))}, nil
}

// beats reads a heart-beat header: what its sender can do and what it wants, in ms.
func beats(value string) (spans [2]time.Duration) {
	for i, text := range strings.SplitN(value, ",", 2) {
		ms, err := strconv.ParseUint(strings.TrimSpace(text), 10, 31)
		if err == nil {
			spans[i] = time.Duration(ms) * time.Millisecond
		}
	}
	return spans
}

func (s *stomp) Timers() Timers {
	if s.step < stompReady {
		waiting := "CONNECTED; FROM must be the address where the broker speaks STOMP over WebSockets"
		if s.step == stompSubscribing {
			waiting = "the receipts for SUBSCRIBE"
		}
		return Timers{Opening: openingTime, Step: s.step, Waiting: waiting}
	}
	return Timers{Every: s.every, Silence: s.silence}
}

func (s *stomp) Ping() ([]Frame, error) { return []Frame{{Data: []byte("\n")}}, nil }

func (s *stomp) Skipped() error {
	return errors.New("a WebSocket message over MAX_MESSAGE was skipped, and with it the STOMP framing")
}

func (s *stomp) Leave() []Frame { return []Frame{{Data: []byte("DISCONNECT\n\n\x00")}} }

func (s *stomp) Receive(_ context.Context, _ time.Time, f Frame) (got Received, err error) {
	s.parser.feed(f.Data)
	for {
		frame, ok, err := s.parser.next(s.version)
		if err != nil || !ok {
			return got, err
		}
		if err := s.frame(frame, &got); err != nil {
			return got, err
		}
	}
}

func (s *stomp) frame(f stompFrame, got *Received) error {
	switch f.command {
	case "CONNECTED":
		return s.connected(f, got)
	case "RECEIPT":
		delete(s.unheard, f.headers["receipt-id"])
		s.confirm(got)
	case "MESSAGE":
		return s.message(f, got)
	case "ERROR":
		if s.aboutSend(f) {
			got.Complaints = append(got.Complaints, "the broker said: "+s.hidden(f.headers["message"]))
			return nil
		}
		return s.failure(f)
	}
	return nil
}

func (s *stomp) connected(f stompFrame, got *Received) error {
	if s.step != stompConnecting {
		return errors.New("the broker sent a second CONNECTED")
	}
	if s.version = f.headers["version"]; s.version == "" {
		s.version = "1.0"
	}
	if s.version != "1.0" && s.version != "1.1" && s.version != "1.2" {
		return refuse(http.StatusBadRequest, fmt.Sprintf("the broker speaks STOMP %s; this sidecar 1.0 to 1.2", serverText(s.version)))
	}
	theirs := beats(f.headers["heart-beat"])
	if s.offered[0] > 0 && theirs[1] > 0 {
		s.every = max(time.Millisecond, (max(s.offered[0], theirs[1]) * 2 / 3).Truncate(time.Millisecond))
	}
	if s.offered[1] > 0 && theirs[0] > 0 {
		s.silence = 2 * max(s.offered[1], theirs[0])
	}
	confirms := slices.ContainsFunc(stompConfirms, func(name string) bool { return strings.HasPrefix(f.headers["server"], name) })
	s.step, s.unheard = stompSubscribing, map[string]bool{}
	for i, sub := range s.subs {
		headers := map[string]string{"ack": "auto"}
		maps.Copy(headers, sub.headers)
		headers["id"], headers["destination"] = "sub-"+strconv.Itoa(i), sub.destination
		if confirms {
			headers["receipt"] = "r-" + strconv.Itoa(i)
			s.unheard[headers["receipt"]] = true
		}
		frame, err := s.encode("SUBSCRIBE", headers, nil)
		if err != nil {
			return refuse(http.StatusBadRequest, "SUBSCRIBE: "+err.Error())
		}
		got.Replies = append(got.Replies, frame)
	}
	s.confirm(got)
	return nil
}

// confirm makes the session ready once nothing is awaited any more.
func (s *stomp) confirm(got *Received) {
	if s.step == stompSubscribing && len(s.unheard) == 0 {
		s.step, got.Ready = stompReady, true
	}
}

func (s *stomp) message(f stompFrame, got *Received) error {
	m := translate.Message{Topic: f.headers["destination"], Data: f.body, Header: http.Header{}}
	index, err := strconv.Atoi(strings.TrimPrefix(f.headers["subscription"], "sub-"))
	known := err == nil && index >= 0 && index < len(s.subs)
	if known && m.Topic == "" {
		m.Topic = s.subs[index].destination
	}
	for name, value := range f.headers {
		m.Header[name] = []string{value}
	}
	if f.over {
		got.Messages = append(got.Messages, translate.Message{Gap: translate.GapUpstream})
	} else {
		s.bytes(m, got)
	}
	if !known {
		return nil
	}
	if ack := s.subs[index].headers["ack"]; ack == "" || ack == "auto" {
		return nil
	}
	headers := map[string]string{"id": f.headers["ack"]}
	if s.version != "1.2" {
		headers = map[string]string{"message-id": f.headers["message-id"]}
		if s.version == "1.1" {
			headers["subscription"] = f.headers["subscription"]
		}
	}
	frame, err := s.encode("ACK", headers, nil)
	if err != nil {
		return err
	}
	got.Acks = append(got.Acks, frame)
	return nil
}

// Send puts {"destination","headers","body"} into a SEND frame. A body that is a string is sent as it is, any other as
// JSON.
func (s *stomp) Send(m translate.Message) ([]Frame, error) {
	var send struct {
		Destination string
		Headers     json.RawMessage
		Body        json.RawMessage
	}
	const form = `write {"destination":"/topic/x","headers":{"name":"value"},"body":"text or JSON"}`
	if err := json.Unmarshal(m.Data, &send); err != nil || send.Destination == "" {
		return nil, errors.New("is not a STOMP message; " + form)
	}
	headers := map[string]string{}
	if len(send.Headers) > 0 {
		var err error
		if headers, err = scalars(string(send.Headers)); err != nil {
			return nil, errors.New("has headers that are no object of plain values; " + form)
		}
	}
	body, kind := []byte(send.Body), "application/json"
	if len(body) > 0 && body[0] == '"' {
		var text string
		if err := json.Unmarshal(body, &text); err != nil {
			return nil, errors.New("has a body that is not JSON; " + form)
		}
		body, kind = []byte(text), "text/plain"
	}
	if headers["content-type"] == "" && len(body) > 0 {
		headers["content-type"] = kind
	}
	headers["destination"], headers["content-length"] = send.Destination, strconv.Itoa(len(body))
	frame, err := s.encode("SEND", headers, body)
	s.sent = s.sent || err == nil
	return []Frame{frame}, err
}
