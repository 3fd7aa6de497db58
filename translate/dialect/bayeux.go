// This file is the dialect bayeux: Bayeux 1.0 over WebSockets, or over long polls, as a subscriber. Sources: the Bayeux specification 1.0
// (docs.cometd.org, The Bayeux Protocol), CometD 8's acknowledge extension, Salesforce's replay extension, and the servers Faye 1.4.1 and
// its client and that of CometD 8.0.11. Every frame, both ways, is a list of messages:
//
//	-> {"channel":"/meta/handshake","version","supportedConnectionTypes","ext"?}
//	<- {"channel":"/meta/handshake","successful","clientId","advice":{"reconnect","interval","timeout"},"error"?,"ext"?}
//	-> {"channel":"/meta/subscribe","clientId","subscription","ext"?}
//	<- {"channel":"/meta/subscribe","successful","subscription","error"?}
//	-> {"channel":"/meta/connect","clientId","connectionType","ext"?}   held by the server for its timeout
//	<- {"channel":"/meta/connect","successful","advice"?,"error"?,"ext"?}
//	<- {"channel":"/foo","data",..}                                    an event
//	-> {"channel":"/foo","clientId","data"}                            a publication
//	<- {"channel":"/foo","successful"}                                 its outcome
//	-> {"channel":"/meta/disconnect","clientId"}
//
// The rules:
//
//   - There is always a /meta/connect at the server: the next one goes out when one is answered, after the interval of its advice. A server
//     closes, or forgets the client, without it.
//   - A server answers the messages of one frame together, so that a subscription beside a connect would be confirmed when that ends: each message
//     has a frame of its own.
//   - A new connection goes on with the old client's id, by subscribing again, which is answered at once: the server gives what it has kept for it.
//     What it wrote into a connection that was dying is not in that (Faye 1.4.1), so that nothing is known to be lost only where the server had
//     closed in an orderly way, or with one of two extensions: with ack, what is not acknowledged is sent again; with replay, the last id of each
//     channel is said. Otherwise there is a gap.
//   - With replay, whoever was away for longer than events are kept is given a gap, since a server says nothing of ids that have expired.
//   - Errors are "code:arguments:text"; a code from 400 to 499 of a handshake or a subscription refuses, unless its advice is to try again.

package dialect

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"

	"sidestream/translate"
)

const (
	bayeuxMeta    = "/meta/"
	bayeuxPatient = 60 * time.Second // how long a server holds a connect that does not say
	bayeuxMargin  = 15 * time.Second // for its answer to arrive
	maxBayeuxHeld = 10 * time.Minute // of what a server says
	maxBayeuxID   = 1 << 10          // bytes of a client's id, and of what is said back to the server
	bayeuxKept    = 23 * time.Hour   // Salesforce keeps events for 24 h, and some for 72
	maxBayeuxSpin = 16               // connects that a server answers at once with nothing, before they are a second apart
)

// bayeux speaks the dialect.
type bayeux struct {
	Base
	Options
	kind string // of the connection: websocket or long-polling

	// Of the present connection.
	sent     int             // id of the last message
	asked    map[string]bool // channels whose subscription is not confirmed
	old      bool            // it goes on with the id of the client before
	ready    bool
	interval time.Duration     // between an answer and the next connect
	waiting  bool              // for that, until Ping
	at       string            // id of the connect at the server
	renewed  bool              // it went out since the last frame came
	spun     int               // so many in a row came back at once, with nothing
	answered time.Time         // when the last one did
	away     time.Duration     // how long no server was heard before it
	heard    bool              // something came
	before   map[string]string // positions, as it began

	// Over all connections.
	bayeuxPlace
	held    time.Duration // how long the server holds a connect
	orderly bool          // the server has closed the last one, so that nothing was on its way
	handed  bool          // another session goes on
}

// bayeuxPlace is what the next connection goes on from.
type bayeuxPlace struct {
	client    string            // id that the server gave
	ack       string            // the last batch, a number; "": the server has not that extension
	replays   bool              // it has that one
	positions map[string]string // the last replayId of each channel, numbers
	seen      time.Time         // when the server was heard last
}

func newBayeux(o Options) Session {
	kind := "websocket"
	if o.Posts {
		kind = "long-polling"
	}
	return &bayeux{Options: o, kind: kind}
}

func (s *bayeux) Dial(*HTTPResponse) (Dial, error) { return s.Options.Dial() }

func (s *bayeux) Open(string) ([]Frame, error) {
	s.sent, s.asked, s.ready, s.waiting, s.heard, s.spun = 0, map[string]bool{}, false, false, false, 0
	s.before = maps.Clone(s.positions)
	s.interval = 0
	if s.held == 0 {
		s.held = bayeuxPatient
	}
	if s.old = s.client != "" && !s.replays; s.old {
		return s.subscribeAll()
	}
	return s.handshake()
}

// handshake begins with a new client's id.
func (s *bayeux) handshake() ([]Frame, error) {
	connect, err := s.Connect()
	if err != nil {
		return nil, err
	}
	fields, err := bayeuxObject(connect)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "CONNECT "+err.Error())
	}
	ext := map[string]json.RawMessage{"ack": json.RawMessage("true")} // servers that do not know it ignore it
	if fields["ext"] != nil && json.Unmarshal(fields["ext"], &ext) != nil {
		return nil, refuse(http.StatusBadRequest, "CONNECT has an ext that is no object")
	}
	s.old, s.client, s.ack = false, "", ""
	s.asked = map[string]bool{}
	message := map[string]any{"version": "1.0", "minimumVersion": "1.0", "supportedConnectionTypes": []string{s.kind}}
	for name, value := range fields {
		message[name] = value
	}
	message["ext"] = ext
	return []Frame{s.message(bayeuxMeta+"handshake", message)}, nil
}

// message is a frame with one message.
func (s *bayeux) message(channel string, fields map[string]any) Frame {
	s.sent++
	fields["channel"], fields["id"] = channel, strconv.Itoa(s.sent)
	if s.client != "" {
		fields["clientId"] = s.client
	}
	return jsonFrame([]any{fields})
}

// connect is the message that the server holds.
func (s *bayeux) connect() Frame {
	s.waiting = false
	fields := map[string]any{"connectionType": s.kind}
	if s.ack != "" {
		fields["ext"] = map[string]any{"ack": json.RawMessage(s.ack)}
	}
	f := s.message(bayeuxMeta+"connect", fields)
	f.Held, s.at, s.renewed = true, strconv.Itoa(s.sent), true
	return f
}

// subscribeAll subscribes to every line, and connects.
func (s *bayeux) subscribeAll() (frames []Frame, err error) {
	lines, err := s.Subscribe()
	if err != nil {
		return nil, err
	}
	for i, line := range lines {
		channel, fields, err := bayeuxLine(line)
		if err != nil {
			return nil, refuseLine(i+1, err)
		}
		frames = append(frames, s.subscription(channel, fields))
	}
	return append(frames, s.connect()), nil
}

func (s *bayeux) subscription(channel string, own map[string]json.RawMessage) Frame {
	fields := map[string]any{"subscription": channel}
	for name, value := range own {
		fields[name] = value
	}
	if s.positions[channel] != "" {
		fields["ext"] = s.replayFrom(channel, own["ext"])
	}
	s.asked[channel] = true
	return s.message(bayeuxMeta+"subscribe", fields)
}

// replayFrom is the ext of a subscription from where its channel was left.
func (s *bayeux) replayFrom(channel string, own json.RawMessage) map[string]any {
	var ext map[string]json.RawMessage
	if own != nil {
		_ = json.Unmarshal(own, &ext) // anything but an object is the server's to refuse
	}
	all := map[string]any{}
	for name, value := range ext {
		all[name] = value
	}
	if at := s.positions[channel]; at != "" {
		all["replay"] = map[string]any{channel: json.RawMessage(at)}
	}
	return all
}

func (s *bayeux) Timers() Timers {
	if !s.ready {
		t := Timers{Opening: openingTime, Step: 1, Waiting: "the handshake; FROM must be the address of a Bayeux server, such as /cometd or /faye"}
		if s.client != "" {
			t.Step, t.Waiting = 2+s.sent-len(s.asked), "the answers to SUBSCRIBE"
		}
		return t
	}
	t := Timers{Silence: s.held + s.pause() + bayeuxMargin}
	if s.waiting {
		t.Every = max(s.pause(), time.Millisecond)
	}
	return t
}

// pause is how long to wait between an answer and the next connect.
func (s *bayeux) pause() time.Duration {
	if s.spun >= maxBayeuxSpin {
		return max(s.interval, time.Second)
	}
	return s.interval
}

// Ping sends the connect that waits for its interval, unless that says that a batch has arrived.
func (s *bayeux) Ping() ([]Frame, error) {
	if !s.waiting || s.ack != "" {
		return nil, nil
	}
	return []Frame{s.connect()}, nil
}

// Acks is that connect, once what it acknowledges is kept.
func (s *bayeux) Acks() []Frame {
	if !s.waiting || s.ack == "" {
		return nil
	}
	return []Frame{s.connect()}
}

func (s *bayeux) Leave() []Frame {
	if s.client == "" || s.handed {
		return nil
	}
	return []Frame{s.message(bayeuxMeta+"disconnect", map[string]any{})}
}

func (s *bayeux) Closed(code int, _ string) error {
	s.orderly = code != 0
	return nil
}

// Skipped ends a connection on which the frame was, or may have been, the answer to the connect. Where the server waits for its batch to be
// acknowledged it would send it again for ever: then there is a new client.
func (s *bayeux) Skipped() error {
	if s.ack == "" && s.kind == "websocket" {
		return nil // events have frames of their own; if this was the answer too, Silence tells
	}
	s.client = ""
	return &translate.Later{After: time.Second, Err: errors.New("what was larger than MAX_MESSAGE was the answer to /meta/connect")}
}

// Resumable is also true where the server may have kept something: it is asked for, and a gap is said when it is not known to be all.
func (s *bayeux) Resumable() bool { return s.client != "" || s.replays }

func (s *bayeux) Receive(_ context.Context, now time.Time, f Frame) (got Received, err error) {
	var all []json.RawMessage
	if f.Binary || json.Unmarshal(f.Data, &all) != nil {
		return got, errors.New("the server sent something that is no list of Bayeux messages")
	}
	if !s.heard {
		s.heard, s.away = true, now.Sub(s.seen)
	}
	s.seen, s.renewed = now, false
	for _, one := range all {
		var m bayeuxMessage
		if err := json.Unmarshal(one, &m); err != nil {
			if s.ack != "" { // a batch that came before it here counts as taken, with what comes after it
				s.client = ""
			}
			return got, errors.New("the server sent something that is no Bayeux message")
		}
		s.advised(m.Advice)
		if err := s.take(m, &got); err != nil {
			return got, err
		}
	}
	return got, nil
}

// advised takes how long the server holds a connect, and how long to wait before the next.
func (s *bayeux) advised(a *bayeuxAdvice) {
	if a == nil {
		return
	}
	if ms, err := a.Timeout.Int64(); err == nil && ms >= 0 {
		s.held = min(time.Duration(min(ms, 1<<32))*time.Millisecond, maxBayeuxHeld)
	}
	if ms, err := a.Interval.Int64(); err == nil && ms >= 0 {
		s.interval = min(time.Duration(min(ms, 1<<32))*time.Millisecond, maxBayeuxHeld)
	}
}

func (s *bayeux) take(m bayeuxMessage, got *Received) error {
	good := m.Successful != nil && *m.Successful
	switch {
	case m.Channel == bayeuxMeta+"handshake":
		return s.admitted(m, good, got)
	case m.Channel == bayeuxMeta+"subscribe":
		return s.subscribed(m, good, got)
	case m.Channel == bayeuxMeta+"connect" && (m.id() != "" && m.id() != s.at || s.renewed || s.waiting):
		return nil // to one of the client before, whose answer may come late over HTTP, or a second one to the same
	case m.Channel == bayeuxMeta+"connect":
		return s.connected(m, good, got)
	case strings.HasPrefix(m.Channel, bayeuxMeta):
		return nil // of disconnect and the like nothing follows
	case m.Successful != nil && m.Data == nil:
		if !good {
			got.Complaints = append(got.Complaints, "a publication to "+serverText(m.Channel)+": "+bayeuxError(m.Error))
		}
		return nil
	case m.Data != nil:
		s.event(m, got)
	}
	return nil
}

// event is one of a channel's. Its place is known once it is in the ring, which is what Save is asked for.
func (s *bayeux) event(m bayeuxMessage, got *Received) {
	var salesforce struct {
		Event struct{ ReplayID json.Number }
	}
	if s.replays && json.Unmarshal(m.Data, &salesforce) == nil && bayeuxNumber.MatchString(string(salesforce.Event.ReplayID)) {
		if _, known := s.positions[m.Channel]; known || len(s.positions) < maxOverheard {
			s.positions[m.Channel] = string(salesforce.Event.ReplayID)
		}
	}
	got.Messages = append(got.Messages, translate.Message{Topic: m.Channel, Data: m.Data})
}
