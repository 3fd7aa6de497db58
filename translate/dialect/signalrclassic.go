// This file is the dialect signalr-classic: ASP.NET SignalR 1 and 2, of .NET Framework: hubs, and persistent connections. Sources: PersistentConnection,
// ForeverTransport, HubDispatcher, Cursor and MessageStore of github.com/SignalR/SignalR, and the client signalr 2.4.3. With <q> for the query of FROM and
// connectionData=[{"name":"<hub>"},..], which a persistent connection has not:
//
//	GET <from>/negotiate?<q>&clientProtocol       answers one of
//	  {"ConnectionToken","KeepAliveTimeout","DisconnectTimeout","TryWebSockets","ProtocolVersion"}
//	  {"RedirectUrl","AccessToken","ProtocolVersion"}   negotiate there, with that bearer token (Azure SignalR)
//	  {"Error","ProtocolVersion"}
//	<from>/connect?<q>&transport=webSockets&clientProtocol=1.3&connectionToken[&messageId=<C>][&groupsToken=<G>]
//
//	<- {"C","S":1,"M":[]}                         the connection stands
//	<- {"C","M":[..],"G"?}                        messages: {"H":hub,"M":method,"A":[..]}, or the JSON of a persistent connection
//	<- {"C","M":[],"T":1}                         the server goes away
//	<- {}                                         keep-alive
//	-> {"H","M","A","I"}                          invokes a method of a hub
//	<- {"I","R"?|"E","H"?}                        its result, or error; H: a HubException
//	<- {"I":"P|id","P":..}                        its progress
//
// The rules:
//
//   - Below version 1.4 of the protocol, which every server still knows, a connection has begun with its first message. From 1.4 on there is one more
//     request, <from>/start, in its middle.
//   - C is a place in all that the connection listens to, G the groups that it is in. The next WebSocket has them in its address, and gets what the server has
//     kept since: see signalrclassic_cursor.go.
//   - Official clients go on at <from>/reconnect, whose first message comes with the next news, perhaps hours later. <from>/connect does the same, does
//     not call OnConnected again while the server knows the connection, and says at once where it goes on.
//   - A server that goes away (T) takes with it what it has kept.
//   - A server ends a connection that is lost for longer than its DisconnectTimeout, and would take it up again without a word: after that time it is a new
//     connection, with a gap. So it is where the server closes in an orderly way though it sends keep-alives, since it may have called Abort.
//   - A connection is dead after KeepAliveTimeout without a message, where the server has that.

package dialect

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"sidestream/translate"
)

const (
	classicName = "signalr-classic"

	maxClassicSilence = time.Hour        // of what a server says
	maxClassicAway    = 24 * time.Hour   // likewise
	classicAway       = 30 * time.Second // where it does not say
)

// signalRClassic speaks the dialect.
type signalRClassic struct {
	Base
	Options

	// While a dial is prepared.
	at    Dial // where the last answer came from
	hops  int
	lines []classicLine // of SUBSCRIBE
	data  string        // connectionData; "" it is a persistent connection

	// Of the present connection.
	going   bool // it goes on where another one ended
	begun   bool // its first message has come
	caught  bool // S has come: the connection has been told all that it was to be told meanwhile
	ready   bool
	calls   int               // id of the last invocation
	waiting map[string]string // methods of SUBSCRIBE whose result is awaited, by id
	unsure  bool              // a message was left out, so that nobody knows what the next place counts

	classicPlace
	used bool // there was a connection that could be gone on with
}

func newSignalRClassic(o Options) Session { return &signalRClassic{Options: o} }

// Open sends nothing: the server speaks first.
func (s *signalRClassic) Open(string) ([]Frame, error) {
	s.going, s.begun, s.caught, s.ready, s.unsure = s.stands, false, false, false, false
	s.calls, s.waiting = 0, map[string]string{}
	if s.going {
		s.tries++
	}
	return nil, nil
}

func (s *signalRClassic) Timers() Timers {
	switch {
	case s.ready:
		return Timers{Silence: s.silence}
	case s.begun:
		return Timers{Opening: openingTime, Step: 2, Waiting: "the results of what SUBSCRIBE invokes"}
	}
	return Timers{Opening: openingTime, Step: 1, Waiting: "the server's first message"}
}

// classicMessage is whatever a server says.
type classicMessage struct {
	C    *string
	M    []json.RawMessage
	S, T json.RawMessage
	D    json.RawMessage // of version 1: the server has ended the connection
	G    *string
	I    json.RawMessage // of an answer to an invocation; so are the rest
	E    *string
	H    json.RawMessage
}

var errClassic = errors.New("a message that is not of ASP.NET SignalR's protocol")

func (s *signalRClassic) Receive(_ context.Context, now time.Time, f Frame) (got Received, err error) {
	var m classicMessage
	if f.Binary || json.Unmarshal(f.Data, &m) != nil {
		s.forget() // it would come again
		return got, errClassic
	}
	switch {
	case !isNull(m.I):
		err = s.answered(m, f.Data, &got)
	case m.E != nil:
		s.forget()
		err = errors.New("the server says: " + serverText(*m.E))
	case m.C != nil:
		err = s.news(m, now, &got)
	}
	if err != nil {
		return got, err
	}
	if !s.going || s.begun {
		s.seen = now
	}
	if s.begun && !s.ready && len(s.waiting) == 0 {
		s.ready, got.Ready = true, true
		s.settle()
	}
	return got, nil
}

// news takes messages, and where they end.
func (s *signalRClassic) news(m classicMessage, at time.Time, got *Received) error {
	// Another process's clock may be behind.
	if most := s.away; s.going && !s.begun && at.Sub(s.seen).Abs() > most {
		s.forget()
		return fmt.Errorf("away for longer than the server keeps a connection (DisconnectTimeout, %v)", most)
	}
	came, caught := len(m.M), !isNull(m.S)
	if caught {
		came++ // the command that it answers
	}
	now, known := readClassicCursor(*m.C)
	missing, err := s.moved(now, known, came)
	if err != nil {
		s.forget()
		return err
	}
	if s.going && !s.begun {
		s.begun, s.ready, s.tries = true, true, 0
		got.Ready, got.Resumed, got.Continued = true, !missing, true
	} else if missing {
		got.Messages = append(got.Messages, translate.Message{Gap: translate.GapUpstream})
	}
	if m.G != nil {
		s.groups = strings.Clone(*m.G)
	}
	s.caught = s.caught || caught
	s.take(m.M, got)
	s.reached(now, known, *m.C)
	switch {
	case !isNull(m.D):
		s.forget()
		return errors.New("the server has ended the connection")
	case !isNull(m.T):
		s.forget() // what it keeps goes with it
		return errors.New("the server goes away")
	case caught && !s.begun:
		s.begun = true
		s.invoke(got)
	}
	return nil
}

// take adds messages.
func (s *signalRClassic) take(list []json.RawMessage, got *Received) {
	for i, one := range list {
		if i == maxRecords {
			got.Messages = append(got.Messages, translate.Message{Gap: translate.GapUpstream})
			return
		}
		var call struct {
			H, M string
			A    json.RawMessage
		}
		if s.data == "" || json.Unmarshal(one, &call) != nil || call.M == "" {
			got.Messages = append(got.Messages, translate.Message{Data: one})
			continue
		}
		data, err := oneArgument(call.A)
		if err != nil {
			data = one
		}
		got.Messages = append(got.Messages, translate.Message{Event: call.M, Topic: call.H, Data: data})
	}
}

// answered takes the answer to an invocation: one of SUBSCRIBE's, one that had no id, or one of a client that has chosen its own.
func (s *signalRClassic) answered(m classicMessage, data []byte, got *Received) error {
	id := jsonText(m.I)
	method, ours := s.waiting[id]
	switch {
	case ours && m.E != nil:
		return classicRefusal(method, *m.E, string(m.H) == "true")
	case ours:
		delete(s.waiting, id)
	case strings.HasPrefix(id, classicSent) && m.E != nil:
		got.Complaints = append(got.Complaints, "what was invoked has failed: "+serverText(*m.E))
	case id == "", strings.HasPrefix(id, classicSent), strings.HasPrefix(id, classicProgress+classicSent), strings.HasPrefix(id, hubSubscription), strings.HasPrefix(id, classicProgress+hubSubscription):
	default:
		got.Messages = append(got.Messages, translate.Message{Data: bytes.Clone(data)})
	}
	return nil
}

// classicRefusal decides by an error whether invoking a method again may help. Without EnableDetailedErrors a server has one text for all that is no
// HubException.
func classicRefusal(method, text string, hubException bool) error {
	reason := fmt.Sprintf("%s: %s", serverText(method), serverText(text))
	switch {
	case hubException, strings.HasPrefix(text, "Caller is not authorized"):
		return refuse(http.StatusForbidden, reason)
	case strings.Contains(text, "method could not be resolved"), strings.HasSuffix(text, "Hub could not be resolved."):
		return refuse(http.StatusBadRequest, reason)
	}
	return errors.New(reason)
}

// Skipped makes the next place one that cannot be held against what came.
func (s *signalRClassic) Skipped() error {
	if s.going && !s.begun {
		s.forget() // it would come again
		return errors.New("what came meanwhile is larger than MAX_MESSAGE, and is not asked for again")
	}
	s.unsure = true
	return nil
}

// Closed lets go of a connection that the server has closed though it is kept alive. One that is not is closed after 110 s and gone on with.
func (s *signalRClassic) Closed(code int, _ string) error {
	if code == 1000 && s.silence > 0 {
		s.forget()
	}
	return nil
}

func (s *signalRClassic) Resumable() bool { return s.stands }

// Denied is true where the server does not let us go on with the connection.
func (s *signalRClassic) Denied(status int) bool {
	passing := status == http.StatusRequestTimeout || status == http.StatusTooEarly || status == http.StatusTooManyRequests
	if !s.stands || passing || status < 300 || status > 499 {
		return false
	}
	s.forget()
	return true
}

// Failed is true while the connection may still stand: nothing has come on the WebSocket.
func (s *signalRClassic) Failed() bool {
	if s.stands && !s.begun && s.tries < maxHubTries {
		return true
	}
	s.forget()
	return false
}
