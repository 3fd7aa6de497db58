// This file is the messages of MQTT: what becomes of one, and what it shows about those that are missing.

package dialect

import (
	"bytes"
	"container/list"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"net/http"

	"sidestream/translate"
)

// mqttLast identifies the last message of a topic.
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

func (s *mqtt) publish(pk mqttPacket, r *mqttReader, got *Received) error {
	qos := pk.flags >> 1 & 3
	if qos == 3 || qos == 2 && !s.others() && !s.exactlyOnce() {
		return errors.New("the broker sent a message with a QoS that was not asked for")
	}
	topic := r.string()
	var id uint16
	if qos > 0 {
		id = r.uint16()
		kind := map[byte]byte{1: mqttPuback, 2: mqttPubrec}[qos]
		reply := packet(kind, 0, binary.BigEndian.AppendUint16(nil, id))
		defer func() { got.Acks = append(got.Acks, reply) }()
	}
	if s.version == 5 && !pk.over {
		if numbers, _ := r.properties(); numbers[propTopicAlias] != 0 {
			return errors.New("the broker used a topic alias, of which none were allowed")
		}
	}
	if r.bad {
		return errMQTTFraming
	}
	if pk.over && s.version == 5 { // which may end within them
		all := *r
		all.properties()
		r.subscriptions = all.subscriptions
	}
	wanted := s.wanted(topic) && s.foremost(topic, r.subscriptions)
	retained, over := pk.flags&1 != 0, pk.over || len(r.b) > s.MaxMessage
	var sum [16]byte
	if !over {
		sum = mqttSum(topic, r.b)
	}
	if wanted && qos == 2 {
		again, err := s.begun(id, sum)
		if again && s.full(qos) { // the broker's queue had it too
			got.Messages = append(got.Messages, translate.Message{Gap: translate.GapUpstream})
		}
		if again || err != nil {
			return err
		}
	}
	if full, may := s.full(qos), wanted && s.unkept(qos); full || may || wanted && over {
		got.Messages = append(got.Messages, translate.Message{Gap: translate.GapUpstream})
	}
	if over || !wanted {
		return nil
	}
	if s.told(pk, id, topic, sum) {
		return nil
	}
	m := translate.Message{Topic: topic, Data: bytes.Clone(r.b)}
	if retained {
		m.Header = http.Header{"Retain": {"true"}}
	}
	s.bytes(m, got)
	return nil
}

// told notes a message, and is true if it was emitted before: the broker has sent it twice, or it is retained and has not changed.
func (s *mqtt) told(pk mqttPacket, id uint16, topic string, sum [16]byte) bool {
	qos, dup, retained := pk.flags>>1&3, pk.flags&8 != 0, pk.flags&1 != 0
	twice := dup && s.newest(id) == sum // perhaps: an identifier is soon used for another that says the same
	if qos == 1 && s.again(dup, id, sum) {
		return true
	}
	same := s.remember(topic, sum)
	return same && retained && s.reconnected && (!s.resumed || twice) // a session that goes on asks for none: what aedes marks so, it has kept
}

// full counts a message after an interruption, and reports whether the broker may have had no room for more.
func (s *mqtt) full(qos byte) bool {
	if s.missed < 0 || qos == 0 {
		return false
	}
	if s.missed++; s.missed < mqttQueue {
		return false
	}
	s.missed = -1
	return true
}

// unkept reports whether a message is the first to show that the broker need not have kept others, although an interruption was bridged.
func (s *mqtt) unkept(qos byte) bool {
	if qos > 0 || s.lossy {
		return false
	}
	s.lossy = true
	return s.bridged
}

// remember notes the last message of a topic, and reports whether the one before was the same.
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
	if len(topic) > maxMQTTKept {
		return false
	}
	s.topics[topic] = s.order.PushBack(&mqttLast{topic, sum})
	if s.order.Len() > mqttTopics {
		delete(s.topics, s.order.Remove(s.order.Front()).(*mqttLast).topic)
	}
	return false
}
