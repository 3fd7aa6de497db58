// This file is the dialect signalr: ASP.NET Core SignalR, versions 1 and 2 of the hub protocol in JSON. Sources: HubProtocol.md
// and TransportProtocols.md of dotnet/aspnetcore; where they leave something open, what @microsoft/signalr 10.0.11 does,
// and for the texts of errors, what DefaultHubDispatcher of .NET writes.
//
//	POST <hub>/negotiate?negotiateVersion=1       answers one of
//	  {"connectionToken","availableTransports"}   dial <hub>?id=<token>; version 0 has "connectionId" only
//	  {"url","accessToken"}                       negotiate there, with that bearer token (Azure SignalR)
//	  {"error"}
//
//	-> {"protocol":"json","version":1}            handshake; answered by {} or {"error"}. 2: with stateful reconnect
//	<- 1 {"target","arguments","invocationId"?}   invocation: an event; with an id, the server wants a result
//	-> 1 {"target","arguments","invocationId"?}   ours: SUBSCRIBE has an id and waits for 3
//	<- 2 {"invocationId","item"}                  item of a stream
//	<> 3 {"invocationId","result"?|"error"?}      completion
//	-> 4 {"target","arguments","invocationId"}    begins a stream
//	<> 6 {}                                       ping
//	<> 7 {"error"?,"allowReconnect"?}             close
//	<> 8 {"sequenceId"}                           the last record that has arrived, see signalr_resume.go
//	<> 9 {"sequenceId"}                           of the next record, in the place of a handshake
//
// The rules:
//
//   - Every record ends with 0x1e. A WebSocket message holds complete records, one or several; the handshake's answer may
//     share one with what follows.
//   - Each dial negotiates again, as a token is valid for one connection. An "id" in FROM's query, even an empty one, means that
//     there is nothing to negotiate: a hub takes an empty one for a new connection.
//   - A redirect to another host gets the token of the redirect, and nothing that was meant for the first host.
//   - We ping every 15 s, as the server disconnects after 30 s of silence; so do we.
//   - A close without allowReconnect (the hub called Abort, or its OnConnectedAsync failed) is a refusal; official
//     clients do not reconnect either.
//   - What is MessagePack, as signalr_packed.go has it, becomes these records, and what is sent is put into that form.
//   - Without stateful reconnect, which is asked for in each negotiation, every reconnect leaves a gap.

package dialect

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"sidestream/translate"
)

const (
	hubSeparator = 0x1e

	hubInvocation       = 1
	hubStreamItem       = 2
	hubCompletion       = 3
	hubStreamInvocation = 4
	hubCancel           = 5
	hubPing             = 6
	hubClose            = 7
	hubAck              = 8
	hubSequence         = 9

	hubStep    = 10 * time.Second // one step of the opening; the server waits 15 s for the handshake
	hubEvery   = 15 * time.Second
	hubSilence = 30 * time.Second

	hubSubscription = "subscribe-" // before the number of a line in its invocation id

	maxHubHops    = 8        // redirects of one negotiation
	maxHubAddress = 8 << 10  // bytes of an address that a redirect names
	maxHubToken   = 16 << 10 // bytes of a token
	maxHubResults = 256      // results that one message may ask for
)

// signalr speaks the dialect.
type signalr struct {
	Base
	Options
	packed bool // it is inside of a packedSignalR

	// While a dial is prepared.
	at   Dial // where the last answer came from
	hops int

	// Of the present connection.
	agreed  bool
	ready   bool
	sent    int               // invocations of SUBSCRIBE
	waiting map[string]string // methods whose completion is awaited, by invocation id
	streams map[string]string // methods that stream, likewise
	endless bool              // something was subscribed to, or is listened to, that never completes

	hubPlace
	plain  bool     // stateful reconnect is not asked for any more
	handed bool     // another session goes on
	used   bool     // there was a connection that could be gone on with
	going  []string // streams that go on, as another process has saved them
}

func newSignalR(o Options) Session { return &signalr{Options: o} }

func (s *signalr) Open(string) ([]Frame, error) {
	if s.stands {
		return s.reopen()
	}
	s.agreed, s.ready, s.sent, s.endless = false, false, 0, false
	s.waiting, s.streams = map[string]string{}, map[string]string{}
	return []Frame{s.greeting("json")}, nil
}

// greeting is the handshake.
func (s *signalr) greeting(protocol string) Frame {
	version := 1
	if s.id != "" {
		version = 2
	}
	return hubFrame(fmt.Sprintf(`{"protocol":%q,"version":%d}`, protocol, version))
}

// hubFrame is a record in a message of its own.
func hubFrame(record string) Frame { return Frame{Data: append([]byte(record), hubSeparator)} }

func (s *signalr) Timers() Timers {
	switch {
	case s.ready && s.due > 0:
		return Timers{Every: hubAckEvery, Silence: hubSilence}
	case s.ready:
		return Timers{Every: hubEvery, Silence: hubSilence}
	case s.awaiting:
		return Timers{Opening: hubStep, Step: 1, Waiting: "the hub to go on with the connection"}
	case s.agreed:
		return Timers{Opening: hubStep, Step: 2, Waiting: "the completion of what SUBSCRIBE invokes; write stream before a method that streams"}
	}
	return Timers{Opening: hubStep, Step: 1, Waiting: "the answer to the handshake; FROM must be the address of a hub of ASP.NET Core SignalR"}
}

// Ping has none where an acknowledgement follows, which is a sign of life too.
func (s *signalr) Ping() ([]Frame, error) {
	if s.due > 0 {
		return nil, nil
	}
	return []Frame{hubFrame(`{"type":6}`)}, nil
}

func (s *signalr) Leave() []Frame {
	if s.Cuts() {
		return nil
	}
	return []Frame{hubFrame(`{"type":7}`)}
}

// hubRecord is any record.
type hubRecord struct {
	Type           int
	Target         string
	InvocationID   string
	Arguments      json.RawMessage
	Item           json.RawMessage
	Error          *string
	AllowReconnect bool
	SequenceID     int64
}

func (s *signalr) Receive(_ context.Context, _ time.Time, f Frame) (got Received, err error) {
	defer s.forgetAfter(&err)
	if f.Binary {
		return got, errors.New("a binary message, though the hub was asked for JSON")
	}
	if len(f.Data) == 0 || f.Data[len(f.Data)-1] != hubSeparator {
		return got, errors.New("a message that does not end with a record's end (0x1e)")
	}
	for rest := f.Data; len(rest) > 0; {
		end := bytes.IndexByte(rest, hubSeparator)
		record := rest[:end]
		rest = rest[end+1:]
		if err := s.record(record, &got); err != nil {
			return got, err
		}
	}
	s.through(&got)
	return got, nil
}

// through makes the session ready once nothing that was invoked is waited for, and acknowledges.
func (s *signalr) through(got *Received) {
	if s.agreed && !s.ready && !s.awaiting && len(s.waiting) == 0 {
		s.ready, got.Ready = true, true
		s.stands = s.id != ""
		s.used = s.used || s.stands
	}
	if s.dueBytes >= hubAckBytes {
		got.Acks = append(got.Acks, s.acknowledgement())
	}
}

// record adds what one record means to got.
func (s *signalr) record(data []byte, got *Received) error {
	var r hubRecord
	if err := json.Unmarshal(data, &r); err != nil {
		return errors.New("a record that is not JSON of the hub protocol")
	}
	if !s.agreed {
		return s.handshake(r, got)
	}
	if s.id != "" {
		if wanted, err := s.sequenced(r, len(data), got); !wanted || err != nil {
			return err
		}
	}
	switch r.Type {
	case hubInvocation:
		return s.invoked(r, got)
	case hubStreamItem:
		s.item(r, data, got)
	case hubCompletion:
		return s.completed(r, data, got)
	case hubClose:
		return closedByHub(r)
	}
	return nil // pings, and what later versions may add
}

// handshake takes the handshake's answer and sends what SUBSCRIBE asks for.
func (s *signalr) handshake(r hubRecord, got *Received) error {
	if r.Type != 0 {
		return errors.New("a record before the answer to the handshake")
	}
	if r.Error != nil {
		needs := "the JSON protocol, version 1"
		if s.packed {
			needs = "the MessagePack protocol (AddMessagePackProtocol); or write PROTOCOL=signalr"
		}
		return fmt.Errorf("handshake: the hub says %q; it must have %s", serverText(*r.Error), needs)
	}
	lines, err := s.Subscribe()
	if err != nil {
		return err
	}
	s.agreed, s.endless = true, len(lines) == 0
	for i, line := range lines {
		c, err := parseHubCall(line)
		if err != nil {
			return refuseLine(i+1, err)
		}
		got.Replies = append(got.Replies, s.subscribe(c))
	}
	return nil
}

// subscribe begins what a line of SUBSCRIBE asks for.
func (s *signalr) subscribe(c hubCall) Frame {
	s.sent++
	id := hubSubscription + strconv.Itoa(s.sent)
	if c.stream {
		s.streams[id] = c.method
	} else {
		s.waiting[id], s.endless = c.method, true
	}
	return c.frame(id)
}

// invoked adds an invocation, which is an event.
func (s *signalr) invoked(r hubRecord, got *Received) error {
	data, err := oneArgument(r.Arguments)
	if err != nil {
		return err
	}
	got.Messages = append(got.Messages, translate.Message{Event: r.Target, Data: data})
	if r.InvocationID == "" {
		return nil
	}
	if len(got.Replies) >= maxHubResults {
		return fmt.Errorf("more than %d results wanted by one message", maxHubResults)
	}
	answer := jsonFrame(map[string]any{"type": hubCompletion, "invocationId": r.InvocationID, "error": "Client didn't provide a result."})
	got.Replies = append(got.Replies, Frame{Data: append(answer.Data, hubSeparator)})
	return nil
}

// oneArgument is the one argument of a list, else the list.
func oneArgument(list json.RawMessage) ([]byte, error) {
	if len(list) == 0 || string(list) == "null" {
		return []byte("[]"), nil
	}
	in := json.NewDecoder(bytes.NewReader(list))
	if open, err := in.Token(); err != nil || open != json.Delim('[') {
		return nil, errors.New("an invocation whose arguments are no list")
	}
	var one json.RawMessage
	if !in.More() || in.Decode(&one) != nil || in.More() {
		return list, nil
	}
	return one, nil
}

// item is an event when the stream is one of SUBSCRIBE. Otherwise the record is emitted as it is, for the client that began the stream
// by a record of its own.
func (s *signalr) item(r hubRecord, data []byte, got *Received) {
	method, ours := s.streams[r.InvocationID]
	if !ours {
		s.foreign(r, data, got)
		return
	}
	if len(r.Item) == 0 {
		r.Item = json.RawMessage("null")
	}
	got.Messages = append(got.Messages, translate.Message{Event: method, Data: r.Item})
}

// foreign emits what answers a record that HELLO or a client sent.
func (s *signalr) foreign(r hubRecord, data []byte, got *Received) {
	if r.InvocationID != "" && !strings.HasPrefix(r.InvocationID, hubSubscription) {
		got.Messages = append(got.Messages, translate.Message{Data: bytes.Clone(data)})
	}
}

// completed takes a confirmation, a refusal, or the end of a stream.
func (s *signalr) completed(r hubRecord, data []byte, got *Received) error {
	method, invoked := s.waiting[r.InvocationID]
	stream, streamed := s.streams[r.InvocationID]
	if !invoked && !streamed {
		s.foreign(r, data, got)
		return nil
	}
	if r.Error != nil {
		return hubRefusal(method+stream, *r.Error)
	}
	delete(s.waiting, r.InvocationID)
	delete(s.streams, r.InvocationID)
	if streamed && !s.endless && len(s.streams) == 0 {
		return translate.ErrFinished
	}
	return nil
}
