// This file is the dialect actioncable: Rails' Action Cable, and AnyCable's extension of it. Sources: ActionCable 6.1
// (Connection::Base, Connection::Subscriptions), the clients @rails/actioncable 8.1 and @anycable/core 1.1.7, and the
// Action Cable Protocol of AnyCable's documentation.
//
//	<- {"type":"welcome"}                                    sid, restored, restored_ids
//	-> {"command":"subscribe","identifier":"{..}"}           history
//	<- {"type":"confirm_subscription","identifier":"{..}"}   or reject_subscription
//	<- {"identifier":"{..}","message":..}                    stream_id, epoch, offset
//	<- {"type":"ping","message":1700000000}                  every 3 s; answered by {"command":"pong"}
//	-> {"command":"message","identifier":"{..}","data":".."} data is JSON in a string
//	<- {"type":"disconnect","reason":"..","reconnect":false}
//	-> {"command":"history","identifier":"{..}","history":{"since":..,"streams":{"<id>":{"epoch":"..","offset":1}}}}
//	<- {"type":"confirm_history","identifier":"{..}"}        or reject_history
//
// What stands on the right, pong, and everything below disconnect are only AnyCable's (actioncable-v1-ext-json). The rules:
//
//   - A line of SUBSCRIBE is an identifier; it is sent, and compared, byte for byte.
//   - Rails and AnyCable both choose among what is offered; Rails has only actioncable-v1-json. AnyCable may prefer that too,
//     but its welcome has a sid, and from then on only the extension is offered.
//   - Rails does not answer a subscription to a channel that it does not know.
//   - Pings come every 3 s, unless AnyCable is configured otherwise, which the time between two of them shows. Silence of four times
//     that, 12 s at least, ends a connection that has seen one. Pongs are sent once AnyCable has disconnected for want of them.
//   - A reconnect to AnyCable asks for what came since the last ping and, in each stream, after the last message before which none
//     is missing, as broadcasts may overtake each other. Nothing was lost when all of it is confirmed; without a ping before
//     the interruption there is no time to ask from. What is delivered twice is left out. disconnect ends the session, not
//     the positions in the streams.
//   - Of a stream that has had no message yet, AnyCable does not report whether its history reaches back far enough. By default
//     that holds 5 min and 100 messages a stream (history_ttl, history_limit): an interruption that is longer, or brings more,
//     is a gap. So is one after which the session was not restored, for the history may be a new one.

package dialect

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"sidestream/translate"
)

const (
	cableV1          = "actioncable-v1-json"
	cableExtended    = "actioncable-v1-ext-json"
	cableUnsupported = "actioncable-unsupported"

	cableStep     = 10 * time.Second // for welcome, then for all confirmations
	cableSilence  = 12 * time.Second // at least
	cableLongest  = 2 * time.Minute  // at most, whatever the time between pings
	cableMissed   = 4                // pings that may be missing
	maxCableID    = 256              // bytes of a sid, a stream's id, an epoch
	maxCableKeeps = 64               // streams of one identifier
	maxCableSeen  = 128              // offsets of one stream that are remembered

	cableHistoryTTL   = 4*time.Minute + 30*time.Second // AnyCable's default of 5 min, less the time until it is asked
	cableHistoryLimit = 100
)

var cableOffered = []string{cableExtended, cableV1, cableUnsupported}

// cable speaks the dialect.
type cable struct {
	Base
	Options
	sid      string                               // of the session that may be restored
	since    int64                                // Unix time of the last ping, 0 none
	heard    time.Time                            // when it came
	anycable bool                                 // the server is AnyCable's
	pongs    bool                                 // and wants them
	streams  map[string]map[string]*cablePosition // by identifier and stream
	lost     bool                                 // a position could not be kept
	asked    bool                                 // for history, without an answer so far

	// Of the present connection.
	extended  bool
	spoken    bool // the server has
	welcomed  bool
	resuming  bool            // what was missed is asked for
	complete  bool            // nothing that was missed is known to be lost
	ids       []string        // of SUBSCRIBE
	confirm   map[string]bool // those to be confirmed
	histories map[string]bool // those whose history is to come
	ready     bool
	silence   time.Duration
	pinged    int64 // time of the last ping of this connection
}

func newActionCable(o Options) Session { return &cable{Options: o} }

const cableLineForm = `write an identifier such as {"channel":"ChatChannel","room":"1"}`

func cableIdentifier(line string) error {
	var id struct{ Channel string }
	if !strings.HasPrefix(line, "{") || !utf8.ValidString(line) || json.Unmarshal([]byte(line), &id) != nil {
		return errors.New("is not a JSON object; " + cableLineForm)
	}
	if id.Channel == "" {
		return errors.New("has no channel; " + cableLineForm)
	}
	return nil
}

func checkActionCable(_ string, lines []string) error {
	var problems []error
	for i, line := range lines {
		if err := cableIdentifier(line); err != nil {
			problems = append(problems, badLine(i+1, "%v", err))
		}
	}
	return errors.Join(problems...)
}

func (s *cable) Dial(*HTTPResponse) (Dial, error) {
	d, err := s.Options.Dial()
	if err != nil {
		return d, err
	}
	if s.anycable && slices.Equal(d.Subprotocols, cableOffered) {
		d.Subprotocols = []string{cableExtended}
	}
	if s.sid == "" {
		return d, nil
	}
	u, err := url.Parse(d.URL)
	if err != nil {
		return Dial{}, errors.New("FROM is not an address")
	}
	u.RawQuery = withQuery(u.RawQuery, "sid="+url.QueryEscape(s.sid))
	d.URL = u.String()
	return d, nil
}

func (s *cable) Open(subprotocol string) ([]Frame, error) {
	if subprotocol == cableUnsupported {
		return nil, refuse(http.StatusBadRequest, "the server speaks neither "+cableV1+" nor "+cableExtended+"; set SUBPROTOCOL to one that it does and is JSON")
	}
	lines, err := s.Subscribe()
	if err != nil {
		return nil, err
	}
	s.ids = nil
	for i, line := range lines {
		if err := cableIdentifier(line); err != nil {
			return nil, refuseLine(i+1, err)
		}
		if !slices.Contains(s.ids, line) { // Rails confirms it once
			s.ids = append(s.ids, line)
		}
	}
	if s.asked { // and never answered: not again
		s.forget()
	}
	s.extended = subprotocol == cableExtended
	s.resuming, s.spoken = s.Resumable(), false
	s.welcomed, s.ready, s.complete, s.silence, s.pinged = false, false, true, 0, 0
	s.confirm, s.histories = map[string]bool{}, map[string]bool{}
	if !s.resuming {
		s.forget()
	}
	return nil, nil
}

func (s *cable) Timers() Timers {
	switch {
	case !s.welcomed:
		return Timers{Opening: cableStep, Step: 1, Waiting: "welcome; FROM must be the address of Action Cable, e.g. wss://host/cable", Silence: s.silence}
	case !s.ready:
		return Timers{Opening: cableStep, Step: 2, Waiting: "confirm_subscription; Rails is silent about a channel in SUBSCRIBE that it does not know", Silence: s.silence}
	}
	return Timers{Silence: s.silence}
}

// cableMessage is any message of the server.
type cableMessage struct {
	Type        string
	Identifier  string
	Message     json.RawMessage
	Reason      string
	Reconnect   *bool
	SID         string
	Restored    bool
	RestoredIDs []string `json:"restored_ids"`
	StreamID    string   `json:"stream_id"`
	Epoch       string
	Offset      *int64
}

func (s *cable) Receive(_ context.Context, now time.Time, f Frame) (Received, error) {
	var m cableMessage
	if err := json.Unmarshal(f.Data, &m); err != nil || !utf8.Valid(f.Data) {
		return Received{}, errors.New("the server sent something that is not an Action Cable message; FROM must be its address")
	}
	if !s.spoken {
		s.spoken = true
		s.age(now)
	}
	switch m.Type {
	case "welcome":
		return s.welcome(m), nil
	case "ping":
		return s.ping(now, m.Message), nil
	case "confirm_subscription":
		delete(s.confirm, m.Identifier)
		return s.progress(), nil
	case "reject_subscription":
		if i := slices.Index(s.ids, m.Identifier); i >= 0 {
			return Received{}, refuse(http.StatusForbidden, fmt.Sprintf("the subscription of line %d was rejected", i+1))
		}
		return Received{}, nil
	case "confirm_history", "reject_history":
		if s.histories[m.Identifier] {
			delete(s.histories, m.Identifier)
			s.complete = s.complete && m.Type == "confirm_history"
			for _, at := range s.streams[m.Identifier] {
				at.came = -1 // from now on there is an offset to ask from
			}
		}
		return s.progress(), nil
	case "disconnect":
		return Received{}, s.disconnect(m)
	case "", "presence":
		return s.data(m)
	}
	return Received{}, nil
}

// welcome subscribes to whatever the server has not restored.
func (s *cable) welcome(m cableMessage) Received {
	if s.welcomed {
		return Received{}
	}
	s.welcomed = true
	s.sid = ""
	if m.SID != "" && len(m.SID) <= maxCableID {
		s.anycable = true
		if s.extended {
			s.sid = m.SID
		}
	}
	var replies []Frame
	for _, id := range s.ids {
		command := cableCommand{Command: "subscribe", Identifier: id}
		if m.Restored && (m.RestoredIDs == nil || slices.Contains(m.RestoredIDs, id)) {
			command.Command = "history"
		} else {
			s.confirm[id] = true
			s.complete = s.complete && len(s.streams[id]) > 0
		}
		if s.resuming {
			command.History = &cableHistory{s.since, s.positions(id)}
			s.histories[id], s.asked = true, true
		} else if command.Command == "history" {
			continue
		}
		replies = append(replies, jsonFrame(command))
	}
	got := s.progress()
	got.Replies = replies
	return got
}

type cableCommand struct {
	Command    string        `json:"command"`
	Identifier string        `json:"identifier,omitempty"`
	Data       *string       `json:"data,omitempty"`
	History    *cableHistory `json:"history,omitempty"`
}

// progress makes the session ready once all is confirmed.
func (s *cable) progress() Received {
	if s.ready || !s.welcomed || len(s.confirm)+len(s.histories) > 0 {
		return Received{}
	}
	s.ready, s.asked = true, false
	return Received{Ready: true, Resumed: s.resuming && s.complete}
}

// ping is a sign of life, and holds the time.
func (s *cable) ping(now time.Time, message json.RawMessage) (got Received) {
	var at float64
	json.Unmarshal(message, &at)
	scale := 1.0
	for at/scale >= 1e11 { // milliseconds and finer
		scale *= 1000
	}
	if sent := int64(at / scale); sent > 0 {
		if every := time.Duration(sent-s.pinged) * time.Second; s.pinged > 0 && sent > s.pinged && every < cableLongest {
			s.silence = max(cableSilence, min(cableMissed*every, cableLongest))
		}
		s.pinged = sent
		if s.ready && s.extended {
			s.since, s.heard = sent, now
		}
	}
	s.silence = max(s.silence, cableSilence)
	if s.pongs && s.extended {
		got.Replies = []Frame{jsonFrame(cableCommand{Command: "pong"})}
	}
	return got
}

func (s *cable) disconnect(m cableMessage) error {
	s.sid = ""
	s.pongs = s.pongs || m.Reason == "no_pong"
	why := "the server disconnects: " + serverText(m.Reason)
	switch {
	case m.Reconnect == nil || *m.Reconnect:
		return errors.New(why)
	case m.Reason == "unauthorized":
		return refuse(http.StatusUnauthorized, why)
	case m.Reason == "invalid_request":
		return refuse(http.StatusBadRequest, why)
	}
	return refuse(http.StatusForbidden, why)
}

// data is a message of a channel. A string, such as Turbo's HTML, becomes the text in it.
func (s *cable) data(m cableMessage) (Received, error) {
	if m.Message == nil || m.Identifier == "" {
		return Received{}, nil
	}
	if s.extended && m.Type == "" && !s.track(m) {
		return Received{}, nil
	}
	out := translate.Message{Event: m.Type, Topic: m.Identifier, Data: bytes.Clone(m.Message)}
	var text string
	if m.Message[0] == '"' && json.Unmarshal(m.Message, &text) == nil {
		out.Data, out.Text = []byte(text), true
	}
	return Received{Messages: []translate.Message{out}}, nil
}

const cableSendForm = `write the data for the only subscription, e.g. {"action":"speak"}, or {"identifier":{...},"data":{...}}`

func (s *cable) Send(m translate.Message) ([]Frame, error) {
	text := bytes.TrimSpace(m.Data)
	if len(text) == 0 || text[0] != '{' || !json.Valid(text) || !utf8.Valid(text) {
		return nil, errors.New("is not a JSON object; " + cableSendForm)
	}
	var form struct{ Command, Identifier, Data json.RawMessage }
	json.Unmarshal(text, &form)
	if form.Identifier == nil {
		if len(s.ids) != 1 {
			return nil, errors.New("there are several subscriptions; " + cableSendForm)
		}
		return []Frame{cableSend(s.ids[0], text)}, nil
	}
	if form.Command != nil { // AnyCable's presence and whispers
		return []Frame{{Data: bytes.Clone(text)}}, nil
	}
	if form.Data == nil {
		return nil, errors.New("has no data; " + cableSendForm)
	}
	return []Frame{cableSend(jsonText(form.Identifier), []byte(jsonText(form.Data)))}, nil
}

func cableSend(identifier string, data []byte) Frame {
	text := string(data)
	return jsonFrame(cableCommand{Command: "message", Identifier: identifier, Data: &text})
}

// jsonText is the text in a string, and any other JSON as it is written.
func jsonText(value json.RawMessage) (text string) {
	if json.Unmarshal(value, &text) != nil {
		return string(value)
	}
	return text
}
