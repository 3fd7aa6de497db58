// This file is MQTT 3.1.1 and 5 over WebSockets, as a subscriber (OASIS MQTT Version 3.1.1 and 5.0; section 6 is the
// WebSocket). The packets are in mqtt_packet.go.
//
//	C-> CONNECT     client identifier, user name, password, keep alive
//	S-> CONNACK     session present, reason code
//	C-> SUBSCRIBE   the lines of SUBSCRIBE, with QoS 0, 1 or 2
//	S-> SUBACK      what was granted
//	S-> PUBLISH     topic, payload; with QoS 1 and 2 a packet identifier
//	C-> PUBACK      QoS 1, once the event is in the ring
//	C-> PUBREC      QoS 2, likewise; S-> PUBREL, C-> PUBCOMP once it is kept that the identifier may be used again
//	C-> PUBLISH     of HELLO and clients; S-> PUBACK, or PUBREC, C-> PUBREL, S-> PUBCOMP
//	C-> PINGREQ     S-> PINGRESP
//	S-> DISCONNECT  5 only, with a reason code
//
// The rules:
//
//   - Messages are binary and pieces of one byte stream: aedes sends one packet as four messages, mosquitto one as one.
//   - A session at the broker bridges an interruption when everything was granted with QoS 1 or 2 and the broker still has it
//     (CONNACK's session present). One whose SUBACK never came, or came for other filters, bridges nothing, and is
//     subscribed to again. With MQTT 5 the broker ends sessions that are abandoned, so one is requested, for two minutes, wherever
//     everything is QoS 1 or 2. With MQTT 3.1.1 it does not: a session is requested only with "cleanSession": false and a configured
//     clientId, and stays at the broker when the stream ends.
//   - The QoS of a message is its publisher's, and what was granted only bounds it: with QoS 0 the broker need not keep it
//     for a client that is disconnected. Once one has come, live or retained, no interruption is bridged any more, and retained
//     messages are requested again after each. Of a publisher that used QoS 0 only during an interruption nothing can be known.
//   - Brokers silently drop what is over the bound of their queue; most have a default of 1000 messages. A gap is reported when
//     nearly as many have come after an interruption, on one connection or several, before PINGREQs were answered for 20 s.
//     One answer does not mean that the queue is empty: mosquitto answers while it still has messages, of which 20 at a time are
//     under way (max_inflight_messages), so that 1000 take 50 round trips. What others subscribed to fills the queue too.
//   - A session that is kept, or has a configured clientId, may hold what another stream, or an earlier configuration, has
//     subscribed to, now or later: only what matches SUBSCRIBE is emitted. Other sessions hold nothing else, and
//     in them a topic may have changed on its way: RabbitMQ delivers a.b as a/b.
//   - What the broker sends again because our PUBACK was lost is known by its packet identifier and contents, where the broker says that it
//     sends it again, and its identifiers continue from one connection to the next (mosquitto). RabbitMQ's start over, so that it is emitted
//     again: QoS 1 is at least once.
//   - QoS 2 is exactly once up to the ring, and with a history up to that: a packet identifier is known from its PUBLISH to its PUBREL, in whatever
//     connection or process these come, and a PUBLISH with it is emitted once. Other contents are another message: whoever has taken over may not know
//     of a PUBREL that was the last to come. The broker bounds it: what publishers send with QoS 1 comes with QoS 1.
//   - What is sent with QoS 2 is sent once. After an interruption PUBREL goes out for all that is under way: where the broker has the message
//     it arrives, and no identifier is used for another one while the broker takes it for the old one's.
//   - Where lines overlap, brokers may send a message once for each. With MQTT 5 each line has a subscription identifier then, made from its filter, so that it
//     is the same in the next process and with other lines; of the copies the one for the foremost line is emitted. What a shared subscription
//     brings of another line's is left out; two of them, of two groups, each bring their own.
//   - Where a history is kept, the session at the broker is handed on to the process that goes on with the stream. It stays there when the
//     stream ends, for as long as it was requested.
//   - A retained message is sent with every new subscription. After a reconnect, one that has not changed is not emitted.
//   - A message over MAX_MESSAGE is acknowledged, or it would come for ever, and is a gap.
//   - Client identifiers are made up for each stream, of at most 23 letters and digits (3.1.3.1): the broker disconnects the older of
//     two connections with the same one.

package dialect

import (
	"cmp"
	"container/list"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"
)

const (
	mqttKeepAlive  = 30 * time.Second
	mqttExpiry     = 2 * time.Minute  // how long the broker keeps a session without a connection, MQTT 5
	mqttReceive    = 1000             // messages with QoS 1 that the broker may send before we acknowledge, MQTT 5
	mqttQueue      = 900              // messages after an interruption that may be all that the broker had room for
	mqttSettled    = 20 * time.Second // of answered PINGREQs, after which no message is from before the reconnect
	mqttTopics     = 4096             // topics whose last message is remembered
	mqttUnwell     = 5 * time.Second  // before a broker that reports to be busy is tried again
	maxMQTTKept    = 1 << 10          // bytes of a topic whose last message is remembered
	maxMQTTFilters = 1000
)

// The steps of an opening.
const (
	mqttConnecting = iota
	mqttSubscribing
	mqttReady
)

func newMQTT(o Options) Session {
	if o.MaxMessage == 0 {
		o.MaxMessage = defaultBounds
	}
	return &mqtt{Options: o, madeUp: rand.Text()[:20]}
}

type mqtt struct {
	Base
	Options
	madeUp   string // client identifier
	handedOn bool   // what is saved is kept, and another process may go on with it

	// Over all connections.
	opened  bool                     // one was ready
	kept    []mqttFilter             // what the session at the broker holds, all granted with QoS 1; nil: there is none that bridges
	lossy   bool                     // a message with QoS 0 has come
	bridged bool                     // an interruption was bridged
	missed  int                      // messages since an interruption, until its queue is empty; less than 0: it is
	seen    []mqttSeen               // the last messages with QoS 1
	between map[uint16][16]byte      // what has come with QoS 2 and was emitted, until its PUBREL; by packet identifier, zero over MAX_MESSAGE
	under   []uint16                 // packet identifiers of what was sent with QoS 2, until its PUBCOMP
	sent    uint16                   // the last packet identifier of ours
	topics  map[string]*list.Element // of *mqttLast
	order   *list.List               // the same, least recently heard of first

	// Of the present connection.
	settings    mqttSettings
	version     byte
	filters     []mqttFilter
	asked       bool // for a session that outlives the connection
	bridges     bool // this connection is ready, and the session at the broker is the one in kept
	parser      mqttParser
	step        int
	resumed     bool
	reconnected bool // a connection was ready before
	every       time.Duration
	pinged      bool             // without an answer so far
	settled     time.Duration    // for how long PINGREQs have been answered
	most        byte             // the QoS that may be published with
	limits      mqttLimits       // of what is published
	numbered    bool             // lines have subscription identifiers
	asking      map[uint16][]int // lines in a SUBSCRIBE without an answer
	heard       bool             // a message with QoS 1 has come
	goesOn      bool             // packet identifiers continue those of the connection before
}

func (s *mqtt) Dial(*HTTPResponse) (Dial, error) { return s.Options.Dial() }

func (s *mqtt) Open(string) (frames []Frame, err error) {
	connect, err := s.Options.Connect()
	if err != nil {
		return nil, err
	}
	if s.settings, s.version, err = readMQTT(connect); err != nil {
		return nil, err
	}
	lines, err := s.Options.Subscribe()
	if err != nil {
		return nil, err
	}
	s.filters = s.filters[:0]
	for _, line := range lines {
		f, err := readFilter(line)
		if err != nil {
			return nil, err
		}
		s.filters = append(s.filters, f)
	}
	s.parser = mqttParser{max: s.MaxMessage}
	s.step, s.resumed, s.bridges, s.pinged, s.settled = mqttConnecting, false, false, false, 0
	s.heard, s.goesOn, s.most, s.numbered, s.asking = false, false, 2, false, nil
	s.limits = mqttLimits{}
	s.reconnected = s.opened
	s.every = mqttKeepAlive
	if s.settings.KeepAlive != nil {
		s.every = time.Duration(*s.settings.KeepAlive) * time.Second
	}
	return []Frame{s.connect()}, nil
}

// atLeastOnce reports whether everything is subscribed to with QoS 1 or 2.
func (s *mqtt) atLeastOnce() bool {
	return len(s.filters) > 0 && !slices.ContainsFunc(s.filters, func(f mqttFilter) bool { return f.qos == 0 })
}

// expiry is how long the broker is to keep a session without a connection, in seconds (MQTT 5).
func (s *mqtt) expiry() uint32 {
	switch {
	case s.settings.SessionExpiry != nil:
		return *s.settings.SessionExpiry
	case s.atLeastOnce() && (s.settings.CleanSession == nil || !*s.settings.CleanSession):
		return uint32(mqttExpiry.Seconds())
	}
	return 0
}

// lasting reports whether CONNECT asks for a session that stays at the broker after the stream's end.
func (s *mqtt) lasting() bool {
	if s.version == 5 {
		return s.settings.SessionExpiry != nil && *s.settings.SessionExpiry > 0
	}
	return s.settings.CleanSession != nil && !*s.settings.CleanSession
}

// others reports whether the session at the broker may hold what another client has subscribed to.
func (s *mqtt) others() bool { return s.asked && (s.settings.ClientID != "" || s.lasting()) }

// wanted reports whether a message with this topic is for this stream.
func (s *mqtt) wanted(topic string) bool {
	return !s.others() || slices.ContainsFunc(s.filters, func(f mqttFilter) bool { return f.matches(topic) })
}

// continues reports whether the session that the broker may have is the one that is needed now.
func (s *mqtt) continues() bool { return s.asked && s.kept != nil && slices.Equal(s.kept, s.filters) }

func (s *mqtt) Timers() Timers {
	t := Timers{Opening: openingTime, Step: s.step}
	switch s.step {
	case mqttConnecting:
		t.Waiting = "CONNACK; FROM must be the broker's WebSocket listener, and the subprotocol mqtt"
	case mqttSubscribing:
		t.Waiting = "SUBACK"
	default:
		t = Timers{Every: s.every * 3 / 4}
		if s.missed >= 0 {
			t.Every = cmp.Or(t.Every, mqttSettled)
		}
	}
	return t
}

func (s *mqtt) Ping() ([]Frame, error) {
	if s.pinged {
		return nil, errors.New("the broker did not answer PINGREQ")
	}
	s.pinged = true
	return []Frame{packet(mqttPingreq, 0, nil)}, nil
}

// answered takes PINGRESP.
func (s *mqtt) answered() {
	if s.pinged {
		s.settled += s.Timers().Every
	}
	if s.pinged = false; s.settled >= mqttSettled {
		s.missed = -1
	}
}

func (s *mqtt) Skipped() error {
	return errors.New("a WebSocket message over MAX_MESSAGE was skipped, and with it the MQTT framing")
}

func (s *mqtt) Closed(int, string) error {
	if s.step == mqttConnecting {
		return errors.New("the broker closed the connection instead of answering CONNECT; does it speak this version (CONNECT's version), and know the client?")
	}
	return nil
}

// Resumable is true when the broker keeps everything meanwhile.
func (s *mqtt) Resumable() bool { return s.bridges && !s.lossy }

// Leave ends the session at the broker too, unless it was asked to last.
func (s *mqtt) Leave() []Frame {
	if s.version == 5 && s.asked && !s.lasting() && !s.handedOn {
		props := binary.BigEndian.AppendUint32([]byte{propSessionExpiry}, 0)
		return []Frame{packet(mqttDisconnect, 0, append([]byte{0, byte(len(props))}, props...))}
	}
	return []Frame{packet(mqttDisconnect, 0, nil)}
}

func (s *mqtt) Receive(_ context.Context, _ time.Time, f Frame) (got Received, err error) {
	if !f.Binary {
		return got, errMQTTFraming
	}
	s.parser.feed(f.Data)
	for {
		pk, ok, err := s.parser.next()
		if err != nil || !ok {
			return got, err
		}
		if err := s.packet(pk, &got); err != nil {
			return got, err
		}
	}
}

func (s *mqtt) packet(pk mqttPacket, got *Received) error {
	if pk.over && pk.kind != mqttPublish {
		return errMQTTFraming
	}
	r := &mqttReader{b: pk.body}
	var err error
	switch {
	case pk.kind == mqttConnack && s.step == mqttConnecting:
		err = s.connack(r, got)
	case pk.kind == mqttSuback && s.step == mqttSubscribing:
		err = s.suback(r, got)
	case pk.kind == mqttPublish && s.step != mqttConnecting:
		err = s.publish(pk, r, got)
	case pk.kind == mqttPingresp:
		s.answered()
	case (pk.kind == mqttPuback || pk.kind == mqttPubrec || pk.kind == mqttPubcomp) && s.step != mqttConnecting:
		s.taken(pk.kind, r, got)
	case pk.kind == mqttPubrel && s.step != mqttConnecting:
		id := r.uint16()
		delete(s.between, id)
		got.Acks = append(got.Acks, packet(mqttPubcomp, 0, binary.BigEndian.AppendUint16(nil, id)))
	case pk.kind == mqttDisconnect && s.version == 5:
		err = s.disconnected(r)
	default:
		return fmt.Errorf("the broker sent a packet (type %d) that is out of place", pk.kind)
	}
	if r.bad {
		return errMQTTFraming
	}
	return err
}
