// This file is MQTT 3.1.1 and 5 over WebSockets, as a subscriber (OASIS MQTT Version 3.1.1 and 5.0; section 6 is the
// WebSocket). Packets are those of mqttpacket.go.
//
//	C-> CONNECT     client identifier, user name, password, keep alive
//	S-> CONNACK     session present, reason code
//	C-> SUBSCRIBE   the lines of SUBSCRIBE, with QoS 0 or 1
//	S-> SUBACK      what was granted
//	S-> PUBLISH     topic, payload; with QoS 1 a packet identifier
//	C-> PUBACK      once the event is in the ring
//	C-> PINGREQ     S-> PINGRESP
//	S-> DISCONNECT  5 only, with a reason code
//
// The rules:
//
//   - Messages are binary and pieces of one byte stream: aedes sends one packet as four messages, mosquitto one as one.
//   - A session at the broker bridges an interruption when everything was granted with QoS 1 and the broker still has it
//     (CONNACK's session present). One whose SUBACK never came, or came for other filters, bridges nothing: it is
//     subscribed to anew. MQTT 5 ends such a session by itself: it is asked for, for two minutes, wherever
//     everything is QoS 1. MQTT 3.1.1 does not: it is asked for only with "cleanSession": false and a clientId of one's own,
//     and is left behind when the stream ends.
//   - What the broker sends again because our PUBACK was lost (4.4 of 5.0) is not emitted again where it is remembered.
//   - A retained message is sent with every new subscription. After a reconnect one that is as it was last is no event.
//   - A message over MAX_MESSAGE is acknowledged, or it would come for ever, and is a gap.
//   - Client identifiers are made up for each stream, of at most 23 letters and digits (3.1.3.1): two connections with the
//     same one throw each other out.

package translate

import (
	"bytes"
	"container/list"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	mqttKeepAlive  = 30 * time.Second
	mqttExpiry     = 2 * time.Minute // of a session that nobody came back to, MQTT 5
	mqttReceive    = 1000            // messages with QoS 1 that the broker may send before we acknowledge, MQTT 5
	mqttHandled    = 1024            // messages with QoS 1 that are remembered
	mqttTopics     = 4096            // topics whose last message is remembered
	mqttUnwell     = 5 * time.Second // before a broker that says it is busy is asked again
	maxMQTTFilters = 1000
)

// mqttSettings is CONNECT.
type mqttSettings struct {
	Username      *string
	Password      *string
	ClientID      string
	Version       json.RawMessage // 4 or "3.1.1", 5 or "5"
	CleanSession  *bool
	SessionExpiry *uint32 // seconds; MQTT 5
	KeepAlive     *uint16 // seconds
}

func readMQTT(connect string) (c mqttSettings, version byte, err error) {
	version = 4
	if strings.TrimSpace(connect) == "" {
		return c, version, nil
	}
	d := json.NewDecoder(strings.NewReader(connect))
	d.DisallowUnknownFields()
	const form = `write {"username":"..","password":"..","clientId":"..","version":5,"keepAlive":30,"sessionExpiry":120,"cleanSession":false} or a part of it`
	if err := d.Decode(&c); err != nil || d.More() {
		return c, 0, badConnect("is no JSON object of what MQTT knows; %s", form)
	}
	switch strings.Trim(string(c.Version), `"`) {
	case "", "4", "3.1.1", "null":
	case "5", "5.0":
		version = 5
	default:
		return c, 0, badConnect(`version is 4 (MQTT 3.1.1) or 5`)
	}
	switch {
	case c.SessionExpiry != nil && version != 5:
		return c, 0, badConnect(`sessionExpiry is for "version":5; with MQTT 3.1.1 write "cleanSession":false`)
	case c.CleanSession != nil && !*c.CleanSession && c.ClientID == "" && version == 4:
		return c, 0, badConnect(`"cleanSession":false needs a "clientId" of its own, by which the broker knows its session`)
	case c.Password != nil && c.Username == nil && version == 4:
		return c, 0, badConnect("a password needs a username, or \"version\":5")
	case c.Username != nil && len(*c.Username) > 1<<16-1, c.Password != nil && len(*c.Password) > 1<<16-1:
		return c, 0, badConnect("username and password have 65535 bytes at the most")
	case len(c.ClientID) > 1<<10:
		return c, 0, badConnect("clientId is over 1 KiB")
	}
	return c, version, nil
}

type mqttFilter struct {
	filter string
	qos    byte
}

func readFilter(line string) (f mqttFilter, err error) {
	filter, rest := cutWord(line)
	f.filter = filter
	switch rest {
	case "", "0":
	case "1":
		f.qos = 1
	case "2":
		return f, errors.New("QoS 2 is not spoken; write 1, which loses nothing either")
	default:
		return f, errors.New("behind the topic filter comes what is no QoS; write 0 or 1")
	}
	levels := strings.Split(filter, "/")
	for i, level := range levels {
		switch {
		case level == "#" && i < len(levels)-1:
			return f, errors.New("# is the last level of a topic filter or none")
		case level != "#" && level != "+" && strings.ContainsAny(level, "#+"):
			return f, errors.New("# and + stand for whole levels of a topic filter")
		}
	}
	if len(filter) > 1<<16-1 || !utf8.ValidString(filter) || strings.IndexByte(filter, 0) >= 0 {
		return f, errors.New("is no topic filter")
	}
	return f, nil
}

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
	madeUp string // client identifier

	// Over all connections.
	opened  bool                     // one was ready
	kept    []mqttFilter             // what the session at the broker holds, all granted with QoS 1; nil: there is none that bridges
	handled [mqttHandled]mqttDone    // messages with QoS 1 in the ring, of this session at the broker
	at      int                      // where the next goes
	topics  map[string]*list.Element // of *mqttLast
	order   *list.List               // the same, longest unheard of first

	// Of the present connection.
	settings mqttSettings
	version  byte
	filters  []mqttFilter
	asked    bool // for a session that outlives the connection
	bridges  bool // this one is ready, and kept is true of it
	parser   mqttParser
	step     int
	resumed  bool
	again    bool // a connection was ready before
	every    time.Duration
	pinged   bool // and not answered
	sent     uint16
}

// mqttDone is a message with QoS 1 that was handled.
type mqttDone struct {
	id  uint16
	sum [16]byte
}

// mqttLast is what a topic said last.
type mqttLast struct {
	topic string
	sum   [16]byte
}

func mqttSum(topic string, payload []byte) [16]byte {
	h := sha256.New()
	binary.Write(h, binary.BigEndian, uint32(len(topic)))
	h.Write([]byte(topic))
	h.Write(payload)
	return [16]byte(h.Sum(nil))
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
	s.step, s.resumed, s.bridges, s.pinged, s.sent = mqttConnecting, false, false, false, 0
	s.again = s.opened
	s.every = mqttKeepAlive
	if s.settings.KeepAlive != nil {
		s.every = time.Duration(*s.settings.KeepAlive) * time.Second
	}
	return []Frame{s.connect()}, nil
}

// sure says that everything is asked for with QoS 1.
func (s *mqtt) sure() bool {
	return len(s.filters) > 0 && !slices.ContainsFunc(s.filters, func(f mqttFilter) bool { return f.qos == 0 })
}

// expiry is how long the broker shall keep a session that nobody comes back to, in seconds (MQTT 5).
func (s *mqtt) expiry() uint32 {
	switch {
	case s.settings.SessionExpiry != nil:
		return *s.settings.SessionExpiry
	case s.sure() && (s.settings.CleanSession == nil || !*s.settings.CleanSession):
		return uint32(mqttExpiry.Seconds())
	}
	return 0
}

// lasting says that what the user wrote asks for a session that stays at the broker behind the stream's end.
func (s *mqtt) lasting() bool {
	if s.version == 5 {
		return s.settings.SessionExpiry != nil && *s.settings.SessionExpiry > 0
	}
	return s.settings.CleanSession != nil && !*s.settings.CleanSession
}

// goesOn says that the session which the broker may have is the one that is wanted now.
func (s *mqtt) goesOn() bool { return s.asked && s.kept != nil && slices.Equal(s.kept, s.filters) }

func (s *mqtt) connect() Frame {
	c := s.settings
	clean := c.CleanSession == nil || *c.CleanSession
	if s.version == 5 {
		s.asked = s.expiry() > 0
		clean = !s.asked || !s.goesOn() && !s.lasting()
	} else {
		s.asked = !clean
	}
	var flags byte
	if clean {
		flags |= 2
	}
	if c.Username != nil {
		flags |= 0x80
	}
	if c.Password != nil {
		flags |= 0x40
	}
	body := append(appendMQTT(nil, "MQTT"), s.version, flags)
	body = binary.BigEndian.AppendUint16(body, uint16(s.every/time.Second))
	if s.version == 5 {
		var props []byte
		if n := s.expiry(); n > 0 {
			props = binary.BigEndian.AppendUint32(append(props, propSessionExpiry), n)
		}
		props = binary.BigEndian.AppendUint16(append(props, propReceiveMaximum), mqttReceive)
		body = append(appendVarint(body, len(props)), props...)
	}
	id := c.ClientID
	if id == "" {
		id = "ss" + s.madeUp
	}
	body = appendMQTT(body, id)
	if c.Username != nil {
		body = appendMQTT(body, *c.Username)
	}
	if c.Password != nil {
		body = appendMQTT(body, *c.Password)
	}
	return packet(mqttConnect, 0, body)
}

func (s *mqtt) subscribe() Frame {
	body := []byte{0, 1} // packet identifier
	if s.version == 5 {
		body = append(body, 0)
	}
	for _, f := range s.filters {
		body = append(appendMQTT(body, f.filter), f.qos)
	}
	return packet(mqttSubscribe, 2, body)
}

func (s *mqtt) Timers() Timers {
	t := Timers{Opening: openingTime, Step: s.step}
	switch s.step {
	case mqttConnecting:
		t.Waiting = "CONNACK; FROM must be the broker's WebSocket listener, and the subprotocol mqtt"
	case mqttSubscribing:
		t.Waiting = "SUBACK"
	default:
		return Timers{Every: s.every * 3 / 4}
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

func (s *mqtt) Skipped() error {
	return errors.New("a WebSocket message over MAX_MESSAGE was skipped, and with it the MQTT framing")
}

func (s *mqtt) Closed(int, string) error {
	if s.step == mqttConnecting {
		return errors.New("the broker closed the connection instead of answering CONNECT; does it speak this version (CONNECT's version), and know the client?")
	}
	return nil
}

// Resumable is true when the broker keeps everything for us meanwhile.
func (s *mqtt) Resumable() bool { return s.bridges }

// Leave ends the session at the broker too, unless it was asked to last.
func (s *mqtt) Leave() []Frame {
	if s.version == 5 && s.asked && !s.lasting() {
		props := binary.BigEndian.AppendUint32([]byte{propSessionExpiry}, 0)
		return []Frame{packet(mqttDisconnect, 0, append([]byte{0, byte(len(props))}, props...))}
	}
	return []Frame{packet(mqttDisconnect, 0, nil)}
}

func (s *mqtt) Receive(_ context.Context, f Frame) (got Received, err error) {
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
		s.pinged = false
	case pk.kind == mqttPuback && s.step != mqttConnecting: // for what we have sent
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

func (s *mqtt) connack(r *mqttReader, got *Received) error {
	present, code := r.byte()&1 == 1, r.byte()
	reason := ""
	if s.version == 5 && len(r.b) > 0 {
		var numbers map[int]uint32
		numbers, reason = r.properties()
		if n, set := numbers[propServerKeepAlive]; set {
			s.every = time.Duration(n) * time.Second
		}
	}
	if r.bad {
		return errMQTTFraming
	}
	if code != 0 {
		return s.refusal("CONNECT", code, reason)
	}
	if !present {
		s.handled = [mqttHandled]mqttDone{}
	}
	if s.resumed = present && s.goesOn(); s.resumed { // and so are the subscriptions
		s.bridges = true
		s.ready(got)
		return nil
	}
	s.kept = nil
	if len(s.filters) == 0 {
		s.ready(got)
		return nil
	}
	s.step = mqttSubscribing
	got.Replies = append(got.Replies, s.subscribe())
	return nil
}

func (s *mqtt) ready(got *Received) {
	s.step, s.opened = mqttReady, true
	got.Ready, got.Resumed = true, s.resumed
}

func (s *mqtt) suback(r *mqttReader, got *Received) error {
	r.uint16()
	reason := ""
	if s.version == 5 {
		_, reason = r.properties()
	}
	if r.bad || len(r.b) != len(s.filters) {
		return errMQTTFraming
	}
	s.bridges = s.asked && s.sure()
	for i, code := range r.b {
		switch {
		case code >= 0x80:
			return s.refusal(fmt.Sprintf("line %d of SUBSCRIBE", i+1), code, reason)
		case code == 0:
			s.bridges = false
		}
	}
	if s.bridges {
		s.kept = slices.Clone(s.filters)
	}
	s.ready(got)
	return nil
}

func (s *mqtt) publish(pk mqttPacket, r *mqttReader, got *Received) error {
	qos := pk.flags >> 1 & 3
	if qos > 1 {
		return errors.New("the broker sent a message with a QoS that was not asked for")
	}
	topic := r.string()
	var id uint16
	if qos == 1 {
		id = r.uint16()
		reply := packet(mqttPuback, 0, binary.BigEndian.AppendUint16(nil, id))
		defer func() { got.Replies = append(got.Replies, reply) }()
	}
	if pk.over {
		got.Messages = append(got.Messages, Message{Gap: GapUpstream})
		return nil
	}
	if s.version == 5 {
		if numbers, _ := r.properties(); numbers[propTopicAlias] != 0 {
			return errors.New("the broker used a topic alias, of which none were allowed")
		}
	}
	if r.bad {
		return errMQTTFraming
	}
	if len(r.b) > s.MaxMessage {
		got.Messages = append(got.Messages, Message{Gap: GapUpstream})
		return nil
	}
	retained := pk.flags&1 != 0
	if s.known(topic, r.b, id, qos, pk.flags&8 != 0, retained) {
		return nil
	}
	m := Message{Topic: topic, Data: bytes.Clone(r.b)}
	if retained {
		m.Header = http.Header{"Retain": {"true"}}
	}
	if s.bytes(&m) {
		got.Messages = append(got.Messages, m)
	}
	return nil
}

// known says that a message was an event before, and remembers it.
func (s *mqtt) known(topic string, payload []byte, id uint16, qos byte, dup, retained bool) bool {
	sum := mqttSum(topic, payload)
	same := s.remember(topic, sum) && retained && s.again
	if qos == 0 {
		return same
	}
	done := mqttDone{id, sum}
	if dup && slices.Contains(s.handled[:], done) {
		return true
	}
	s.handled[s.at] = done
	s.at = (s.at + 1) % mqttHandled
	return same
}

// remember notes what a topic says, and returns whether that is what it said last.
func (s *mqtt) remember(topic string, sum [16]byte) (same bool) {
	if s.topics == nil {
		s.topics, s.order = map[string]*list.Element{}, list.New()
	}
	if el := s.topics[topic]; el != nil {
		last := el.Value.(*mqttLast)
		same = last.sum == sum
		last.sum = sum
		s.order.MoveToBack(el)
		return same
	}
	if len(topic) > maxKey {
		return false
	}
	s.topics[topic] = s.order.PushBack(&mqttLast{topic, sum})
	if s.order.Len() > mqttTopics {
		delete(s.topics, s.order.Remove(s.order.Front()).(*mqttLast).topic)
	}
	return false
}

func (s *mqtt) disconnected(r *mqttReader) error {
	var code byte
	reason := ""
	if len(r.b) > 0 {
		code = r.byte()
	}
	if len(r.b) > 0 {
		_, reason = r.properties()
	}
	if code == 0x8e {
		return &Refused{http.StatusConflict, "another client has taken over the session; give each sidecar a clientId of its own, or none"}
	}
	return s.refusal("the connection", code, reason)
}

// refusal is what a code of the broker means (3.1.1: 3.2.2.3; 5.0: 2.4).
func (s *mqtt) refusal(what string, code byte, reason string) error {
	text := fmt.Sprintf("the broker refused %s with code %d (0x%02x)", what, code, code)
	if reason != "" {
		text += ": " + s.hidden(reason)
	}
	version := text + "; it does not speak MQTT 5, leave version out of CONNECT"
	if s.version == 4 {
		version = text + `; it does not speak MQTT 3.1.1, write "version":5 in CONNECT`
	}
	if what == "CONNECT" && code < 0x80 { // also from brokers that do not know MQTT 5, asked for it
		return oldRefusal(code, version, text)
	}
	subscribing := strings.HasPrefix(what, "line")
	switch code {
	case 0x84:
		return &Refused{http.StatusBadRequest, version}
	case 0x85:
		return &Refused{http.StatusBadRequest, text + "; it does not take the clientId"}
	case 0x86, 0x8c:
		return &Refused{http.StatusUnauthorized, text}
	case 0x87:
		if subscribing {
			return &Refused{http.StatusForbidden, text}
		}
		return &Refused{http.StatusUnauthorized, text}
	case 0x8a:
		return &Refused{http.StatusForbidden, text}
	case 0x8f, 0x90, 0x9e, 0xa1, 0xa2:
		return &Refused{http.StatusBadRequest, text}
	case 0x9c, 0x9d:
		return fmt.Errorf("%s; the broker wants its clients elsewhere, change FROM", text)
	case 0x80:
		if subscribing {
			return &Refused{http.StatusForbidden, text}
		}
	case 0x88, 0x89, 0x97, 0x9f, 0x96:
		return &Later{mqttUnwell, errors.New(text)}
	}
	return errors.New(text)
}

// oldRefusal is what a return code of MQTT 3.1.1 means; version is what to say of a version that is not spoken.
func oldRefusal(code byte, version, text string) error {
	switch code {
	case 1:
		return &Refused{http.StatusBadRequest, version}
	case 2:
		return &Refused{http.StatusBadRequest, text + "; it does not take the clientId"}
	case 4, 5:
		return &Refused{http.StatusUnauthorized, text}
	}
	return &Later{mqttUnwell, errors.New(text)}
}

// hidden is a text of the broker without what CONNECT holds.
func (s *mqtt) hidden(text string) string {
	for _, secret := range []*string{s.settings.Username, s.settings.Password, &s.settings.ClientID} {
		if secret != nil && len(*secret) > 2 {
			text = strings.ReplaceAll(text, *secret, "…")
		}
	}
	return serverText(text)
}

// Send publishes {"topic","payload","qos","retain"}. A payload that is a string is sent as it is, any other as JSON.
func (s *mqtt) Send(m Message) ([]Frame, error) {
	const form = `write {"topic":"a/b","payload":"text or JSON","qos":0,"retain":false}`
	var send struct {
		Topic   string
		Payload json.RawMessage
		QoS     byte
		Retain  bool
	}
	if err := json.Unmarshal(m.Data, &send); err != nil || send.Topic == "" || strings.ContainsAny(send.Topic, "+#\x00") ||
		len(send.Topic) > 1<<16-1 || send.QoS > 1 {
		return nil, errors.New("is no MQTT message; " + form)
	}
	payload := []byte(send.Payload)
	if len(payload) > 0 && payload[0] == '"' {
		var text string
		if err := json.Unmarshal(payload, &text); err != nil {
			return nil, errors.New("is no MQTT message; " + form)
		}
		payload = []byte(text)
	}
	flags := send.QoS << 1
	if send.Retain {
		flags |= 1
	}
	body := appendMQTT(nil, send.Topic)
	if send.QoS > 0 {
		s.sent = s.sent%0xffff + 1
		if s.sent == 1 { // SUBSCRIBE's
			s.sent = 2
		}
		body = binary.BigEndian.AppendUint16(body, s.sent)
	}
	if s.version == 5 {
		body = append(body, 0)
	}
	return []Frame{packet(mqttPublish, flags, append(body, payload...))}, nil
}

// checkMQTT looks at the settings before anything is dialled.
func checkMQTT(connect string, lines []string) error {
	var problems []error
	if _, _, err := readMQTT(connect); err != nil {
		problems = append(problems, err)
	}
	if len(lines) > maxMQTTFilters {
		problems = append(problems, badLine(maxMQTTFilters+1, "no more than %d topic filters", maxMQTTFilters))
	}
	for i, line := range lines {
		if _, err := readFilter(line); err != nil {
			problems = append(problems, badLine(i+1, "%v", err))
		}
	}
	return errors.Join(problems...)
}
