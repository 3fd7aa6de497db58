// This file is the dialect nats: the client protocol of NATS over WebSockets, as a subscriber, with JetStream. Sources: the NATS client protocol and
// JetStream wire API reference (docs.nats.io), ADR-4 (headers), ADR-15 and ADR-17 (ordered consumers), nats-server 2.15.2 and the client
// @nats-io/nats-core 3.4. Frames are pieces of one stream of bytes, of lines that end in CR LF:
//
//	<- INFO {"nonce"?,"max_payload",..}                         first, and whenever something changes
//	-> CONNECT {"user","pass"|"auth_token"|"jwt","nkey","sig",..}
//	-> SUB subject sid
//	-> PUB subject [reply] size CRLF payload
//	-> HPUB subject [reply] size-of-headers size CRLF headers payload
//	<- MSG subject sid [reply] size CRLF payload
//	<- HMSG subject sid [reply] size-of-headers size CRLF NATS/1.0[ status[ text]] headers payload
//	<- PING  -> PONG    -> PING  <- PONG
//	<- -ERR 'text'      after which the server closes, but for permissions and subjects
//
// JetStream is spoken in messages: requests to $JS.API, and what a consumer delivers to a subject of ours, see nats_jetstream.go.
//
// The rules:
//
//   - The answer to a PING comes after all that the lines before it have brought, refusals too.
//   - NATS by itself keeps nothing: each reconnect is a gap. JetStream does, where SUBSCRIBE names a stream: what was missed is asked for by number.
//   - Who reads too slowly is cut without a word, which is a connection that was lost.
//   - A message over MAX_MESSAGE is left out, and is a gap.

package dialect

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"sidestream/translate"
)

const (
	natsEvery    = 10 * time.Second // between PINGs
	maxNATSLines = 500              // of SUBSCRIBE
	maxNATSInfo  = 64 << 10         // bytes of a line, of which INFO's is the longest
)

// The steps of an opening.
const (
	natsGreeted = iota // INFO is awaited
	natsAdmitted
	natsConsuming
	natsReady
)

type nats struct {
	Base
	Options
	inbox  string // the word of ours in subjects and names
	opened int    // connections so far

	// Of the present connection.
	settings   natsSettings
	lines      []natsLine
	parser     natsParser
	step       int
	pinged     bool // without an answer so far
	maxPayload int
	sid        int                      // the last
	core       map[string]bool          // sids of lines that are not JetStream's
	consumers  []*natsConsumer          // of the other lines
	delivers   map[string]*natsConsumer // by sid
	requests   int
	answers    map[string]natsRequest // requests that are not answered, by the end of their reply subject
	whole      bool                   // all consumers went on where they were left

	// Over all connections.
	places map[string]natsPlace // by line
	before map[string]natsPlace // what they were when the present connection began
}

func newNATS(o Options) Session {
	if o.MaxMessage == 0 {
		o.MaxMessage = defaultBounds
	}
	return &nats{Options: o, inbox: rand.Text()[:20]}
}

func (s *nats) Dial(*HTTPResponse) (Dial, error) { return s.Options.Dial() }

func (s *nats) Open(string) (_ []Frame, err error) {
	connect, err := s.Connect()
	if err != nil {
		return nil, err
	}
	if s.settings, err = readNATS(connect); err != nil {
		return nil, refuse(http.StatusBadRequest, err.Error())
	}
	lines, err := s.Subscribe()
	if err != nil {
		return nil, err
	}
	s.lines = s.lines[:0]
	seen := map[string]bool{}
	for i, line := range lines {
		l, err := natsSubscription(line)
		if err == nil && seen[l.key()] {
			err = errors.New("has the subject and the stream of a line before")
		}
		if err != nil {
			return nil, refuseLine(i+1, err)
		}
		seen[l.key()], s.lines = true, append(s.lines, l)
	}
	s.keep()
	s.parser = natsParser{max: s.MaxMessage}
	s.step, s.pinged, s.maxPayload, s.sid, s.requests, s.whole = natsGreeted, false, 0, 0, 0, true
	s.core, s.consumers, s.delivers, s.answers = map[string]bool{}, nil, map[string]*natsConsumer{}, map[string]natsRequest{}
	return nil, nil
}

func (s *nats) Timers() Timers {
	switch s.step {
	case natsGreeted:
		return Timers{Opening: openingTime, Step: 1, Waiting: "INFO; FROM must be the WebSocket listener of a NATS server"}
	case natsAdmitted:
		return Timers{Opening: openingTime, Step: 2, Waiting: "the answer to CONNECT and SUBSCRIBE"}
	case natsConsuming:
		return Timers{Opening: openingTime, Step: 3 + s.requests - len(s.answers), Waiting: "JetStream's answers to SUBSCRIBE"}
	}
	return Timers{Every: natsEvery}
}

// Ping also looks after consumers of which nothing has been heard.
func (s *nats) Ping() (frames []Frame, err error) {
	if s.pinged {
		return nil, errors.New("the server did not answer PING")
	}
	s.pinged = true
	for _, c := range s.consumers {
		if c.quiet++; c.quiet >= maxNATSQuiet {
			again, err := s.renew(c, "nothing comes of it any more")
			if err != nil {
				return nil, err
			}
			frames = append(frames, again...)
		}
		frames = append(frames, s.lookAgain(c)...)
	}
	return append(frames, natsFrame("PING\r\n")), nil
}

func (s *nats) Skipped() error {
	return errors.New("a WebSocket message over MAX_MESSAGE was skipped, and with it the framing of NATS")
}

func (s *nats) Closed(int, string) error {
	if s.step == natsGreeted {
		return errors.New("the connection was closed before INFO; FROM must be the WebSocket listener of a NATS server")
	}
	return nil
}

func (s *nats) Receive(_ context.Context, _ time.Time, f Frame) (got Received, err error) {
	s.pinged = false // a PONG may stand behind much else
	s.parser.feed(f.Data)
	for {
		op, ok, err := s.parser.next()
		if err != nil || !ok {
			return got, err
		}
		if err := s.take(op, &got); err != nil {
			return got, err
		}
	}
}

func (s *nats) take(op natsOp, got *Received) error {
	switch {
	case op.verb == "INFO" && s.step == natsGreeted:
		return s.greeted(op.rest, got)
	case op.verb == "INFO":
		return nil // of the cluster, and that the server is about to go
	case s.step == natsGreeted:
		return errNATS
	case op.verb == "PING":
		got.Replies = natsOnce(got.Replies, "PONG\r\n")
	case op.verb == "PONG" && s.step == natsAdmitted:
		return s.admitted(got)
	case op.verb == "-ERR":
		return s.complaint(strings.Trim(op.rest, "'"), got)
	case op.verb == "MSG" || op.verb == "HMSG":
		return s.message(op, got)
	}
	return nil
}

// greeted answers INFO, once.
func (s *nats) greeted(text string, got *Received) error {
	var info struct {
		Nonce      string
		MaxPayload int `json:"max_payload"`
		Headers    bool
	}
	if json.Unmarshal([]byte(text), &info) != nil {
		return errNATS
	}
	s.step, s.maxPayload = natsAdmitted, info.MaxPayload
	login, err := s.settings.login(info.Nonce)
	if err != nil {
		return err
	}
	out := "CONNECT " + string(login) + "\r\n"
	for i, l := range s.lines {
		if l.stream != "" {
			s.consumers = append(s.consumers, &natsConsumer{line: i + 1, natsLine: l})
			continue
		}
		out += "SUB " + l.subject + " " + s.nextSID() + "\r\n"
		s.core[strconv.Itoa(s.sid)] = true
	}
	if len(s.consumers) > 0 {
		out += "SUB " + s.own("r.*") + " " + s.nextSID() + "\r\n"
	}
	got.Replies = append(got.Replies, natsFrame(out+"PING\r\n"))
	return nil
}

func (s *nats) nextSID() string {
	s.sid++
	return strconv.Itoa(s.sid)
}

// own is a subject of this session's.
func (s *nats) own(end string) string {
	prefix := s.settings.Inbox
	if prefix == "" {
		prefix = "_INBOX"
	}
	return prefix + "." + s.inbox + "." + end
}

// admitted takes it that the server has taken CONNECT and all SUBs.
func (s *nats) admitted(got *Received) error {
	s.step = natsConsuming
	for _, c := range s.consumers {
		got.Replies = append(got.Replies, s.look(c))
	}
	s.settle(got)
	return nil
}

// settle makes the session ready once every consumer is there, and lets them begin.
func (s *nats) settle(got *Received) {
	if s.step != natsConsuming || len(s.answers) > 0 {
		return
	}
	s.step = natsReady
	for _, c := range s.consumers {
		got.Replies = append(got.Replies, s.begin(c)...)
	}
	got.Ready, got.Resumed = true, s.whole && len(s.core) == 0
}

// message takes MSG and HMSG.
func (s *nats) message(op natsOp, got *Received) error {
	if c := s.delivers[op.sid]; c != nil {
		return s.delivered(c, op, got)
	}
	if s.core[op.sid] {
		s.emit(op, got)
		return nil
	}
	if end, ours := strings.CutPrefix(op.subject, s.own("r.")); ours {
		return s.answered(end, op, got)
	}
	return nil // of a consumer before
}

// emit adds a message for the application.
func (s *nats) emit(op natsOp, got *Received) {
	if op.over {
		got.Messages = append(got.Messages, translate.Message{Gap: translate.GapUpstream})
		return
	}
	s.bytes(translate.Message{Topic: strings.ToValidUTF8(op.subject, "\ufffd"), Data: op.payload, Header: op.headers}, got)
}

// Send publishes {"subject","payload","headers"}. A payload that is a string is sent as it is, any other as JSON.
func (s *nats) Send(m translate.Message) ([]Frame, error) {
	const form = `write {"subject":"a.b","payload":"text or JSON","headers":{"name":"value"}}`
	var send struct {
		Subject string
		Payload json.RawMessage
		Headers map[string]string
	}
	if json.Unmarshal(m.Data, &send) != nil || !natsSubject(send.Subject) || strings.ContainsAny(send.Subject, "*>") {
		return nil, errors.New("is not a NATS message; " + form)
	}
	payload := []byte(send.Payload)
	if text := ""; len(payload) > 0 && payload[0] == '"' && json.Unmarshal(payload, &text) == nil {
		payload = []byte(text)
	}
	headers, err := natsHeaders(send.Headers)
	if err != nil {
		return nil, errors.New(err.Error() + "; " + form)
	}
	if n := len(headers) + len(payload); s.maxPayload > 0 && n > s.maxPayload {
		return nil, fmt.Errorf("has %d bytes, and the server takes %d", n, s.maxPayload)
	}
	return []Frame{natsPublish(send.Subject, "", headers, payload)}, nil
}
