// This file is what is sent over MQTT, and how much of it the broker takes: with MQTT 5 it may bound how many messages with QoS 1 and 2 are under way (Receive
// Maximum), the size of a packet, and whether anything is retained (3.2.2.3). It disconnects a client that sends more, and with it everybody who shares the connection:
// what is too much waits here for the broker's answers, and what would never be taken is not sent.

package dialect

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"sidestream/translate"
)

// What waits for the broker, of one connection.
const (
	maxMQTTHeld      = 500     // messages
	maxMQTTHeldBytes = 1 << 20 // of them
)

// mqttLimits are what the broker takes on the present connection. The zero value has no bounds, as MQTT 3.1.1 has it.
type mqttLimits struct {
	flying   int  // messages with QoS 1 and 2 that it has not answered; 0 any number
	size     int  // bytes of a packet; 0 any
	noRetain bool // nothing is retained

	unanswered map[uint16]bool // packet identifiers of those messages, where they are bounded
	held       []mqttHeld      // what waits for answers, in order
	heldBytes  int             // of it
}

// mqttHeld is a PUBLISH that waits.
type mqttHeld struct {
	frame Frame
	id    uint16 // 0: QoS 0
}

// read takes the properties of CONNACK.
func (l *mqttLimits) read(numbers map[int]uint32) {
	l.unanswered, l.flying = map[uint16]bool{}, 1<<16-1
	if n := numbers[propReceiveMaximum]; n > 0 {
		l.flying = int(n)
	}
	l.size = int(min(numbers[propMaximumPacket], 1<<31-1))
	retains, set := numbers[propRetain]
	l.noRetain = set && retains == 0
}

// full reports whether no message with QoS 1 or 2 may be sent.
func (l *mqttLimits) full() bool { return l.flying > 0 && len(l.unanswered) >= l.flying }

// waits reports whether a message has to wait.
func (l *mqttLimits) waits(qos byte) bool { return len(l.held) > 0 || qos > 0 && l.full() }

// sends notes that a message is sent.
func (l *mqttLimits) sends(id uint16) {
	if id > 0 && l.flying > 0 {
		l.unanswered[id] = true
	}
}

// room fails where a packet of so many bytes can never be sent, or not now.
func (l *mqttLimits) room(size int, qos byte) error {
	switch {
	case l.size > 0 && size > l.size:
		return fmt.Errorf("has %d bytes, and the broker takes %d", size, l.size)
	case !l.waits(qos) || len(l.held) < maxMQTTHeld && l.heldBytes+size <= maxMQTTHeldBytes:
		return nil
	}
	return fmt.Errorf("cannot be sent now: the broker takes %d messages with QoS 1 or 2 at once, and has not answered those before", l.flying)
}

// out is a message that may be sent now, or nothing while it waits, with all that is sent after it.
func (l *mqttLimits) out(f Frame, id uint16) []Frame {
	if l.waits(byte(min(id, 1))) {
		l.held, l.heldBytes = append(l.held, mqttHeld{f, id}), l.heldBytes+len(f.Data)
		return nil
	}
	l.sends(id)
	return []Frame{f}
}

// answered takes the answer that ends a message, and returns what may be sent for it.
func (l *mqttLimits) answered(id uint16) (frames []Frame) {
	delete(l.unanswered, id)
	for len(l.held) > 0 && (l.held[0].id == 0 || !l.full()) {
		next := l.held[0]
		l.held, l.heldBytes = l.held[1:], l.heldBytes-len(next.frame.Data)
		l.sends(next.id)
		frames = append(frames, next.frame)
	}
	return frames
}

// Send publishes {"topic","payload","qos","retain"}. A payload that is a string is sent as it is, any other as JSON.
func (s *mqtt) Send(m translate.Message) ([]Frame, error) {
	const form = `write {"topic":"a/b","payload":"text or JSON","qos":0,"retain":false}, qos 0, 1 or 2`
	var send struct {
		Topic   string
		Payload json.RawMessage
		QoS     byte
		Retain  bool
	}
	if err := json.Unmarshal(m.Data, &send); err != nil || send.Topic == "" || strings.ContainsAny(send.Topic, "+#\x00") ||
		len(send.Topic) > 1<<16-1 || send.QoS > 2 {
		return nil, errors.New("is not an MQTT message; " + form)
	}
	if send.QoS > s.most {
		return nil, fmt.Errorf("the broker takes messages with QoS %d at the most", s.most)
	}
	payload := []byte(send.Payload)
	if len(payload) > 0 && payload[0] == '"' {
		var text string
		if err := json.Unmarshal(payload, &text); err != nil {
			return nil, errors.New("is not an MQTT message; " + form)
		}
		payload = []byte(text)
	}
	if send.Retain && s.limits.noRetain {
		return nil, errors.New("is to be retained, which the broker does not do")
	}
	return s.publication(send.Topic, payload, send.QoS, send.Retain)
}

func (s *mqtt) publication(topic string, payload []byte, qos byte, retain bool) ([]Frame, error) {
	flags := qos << 1
	if retain {
		flags |= 1
	}
	body, id := appendMQTT(nil, topic), uint16(0)
	at := len(body) // of the packet identifier
	if qos > 0 {
		body = append(body, 0, 0)
	}
	if s.version == 5 {
		body = append(body, 0)
	}
	f := packet(mqttPublish, flags, append(body, payload...))
	if err := s.limits.room(len(f.Data), qos); err != nil {
		return nil, err
	}
	if qos > 0 {
		id = s.number(qos == 2)
		at += len(f.Data) - len(body) - len(payload)
		binary.BigEndian.PutUint16(f.Data[at:], id)
	}
	return s.limits.out(f, id), nil
}
