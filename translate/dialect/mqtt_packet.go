// This file is MQTT's packets, 3.1.1 and 5 (OASIS MQTT Version 3.1.1 and 5.0, sections 2 and 3), as far as a subscriber
// that sometimes publishes needs them.
//
//	fixed header    type and flags, remaining length as a variable byte integer of at most four bytes (2.1.4 of 5.0)
//	strings         two bytes of length, UTF-8 (1.5.4)
//	properties      5 only: a variable byte integer of length, then identifier and value (2.2.2)

package dialect

import (
	"encoding/binary"
	"errors"
)

// Types of packets, as the upper half of the first byte.
const (
	mqttConnect    = 1
	mqttConnack    = 2
	mqttPublish    = 3
	mqttPuback     = 4
	mqttPubrec     = 5
	mqttPubrel     = 6
	mqttPubcomp    = 7
	mqttSubscribe  = 8
	mqttSuback     = 9
	mqttPingreq    = 12
	mqttPingresp   = 13
	mqttDisconnect = 14
)

// Properties of MQTT 5 that matter here.
const (
	propSubscription    = 0x0b // identifiers of the subscriptions that a message is for
	propSessionExpiry   = 0x11
	propServerKeepAlive = 0x13
	propReason          = 0x1f
	propReceiveMaximum  = 0x21
	propTopicAlias      = 0x23
	propMaximumQoS      = 0x24
	propRetain          = 0x25 // whether anything is retained
	propMaximumPacket   = 0x27
	propSubscriptions   = 0x29 // whether there are identifiers of subscriptions
)

var errMQTTFraming = errors.New("the upstream does not speak MQTT over binary WebSocket messages")

// mqttPacket is a packet of the broker.
type mqttPacket struct {
	kind  byte
	flags byte
	body  []byte // valid until the next feed
	over  bool   // over MAX_MESSAGE: only the beginning of the body is here, with a PUBLISH's topic and packet identifier
}

// mqttParser finds packets in pieces of bytes. What it returns is never written over.
type mqttParser struct {
	max  int // bytes of a body
	buf  []byte
	drop int // bytes of a packet that is over max, still to come
}

func (p *mqttParser) feed(data []byte) {
	if n := min(p.drop, len(data)); n > 0 {
		data, p.drop = data[n:], p.drop-n
	}
	if len(p.buf) == 0 && cap(p.buf) > 64<<10 {
		p.buf = nil
	}
	p.buf = append(p.buf, data...)
}

// maxMQTTTopic is how much of a PUBLISH comes before its payload at the most, but for properties: topic and packet
// identifier.
const maxMQTTTopic = 2 + 1<<16 + 2

// next returns the next complete packet, false when there is none yet.
func (p *mqttParser) next() (pk mqttPacket, ok bool, err error) {
	if len(p.buf) < 2 {
		return pk, false, nil
	}
	length, n := varint(p.buf[1:])
	if n == 0 {
		if len(p.buf) >= 5 {
			return pk, false, errMQTTFraming
		}
		return pk, false, nil
	}
	head := 1 + n
	pk.kind, pk.flags = p.buf[0]>>4, p.buf[0]&15
	if length > p.max+maxMQTTTopic {
		have := len(p.buf) - head
		if have < min(length, maxMQTTTopic) {
			return pk, false, nil
		}
		pk.over, pk.body = true, p.buf[head:head+min(have, length)]
		p.buf, p.drop = p.buf[head+len(pk.body):], length-len(pk.body)
		return pk, true, nil
	}
	if len(p.buf) < head+length {
		return pk, false, nil
	}
	pk.body, p.buf = p.buf[head:head+length:head+length], p.buf[head+length:]
	return pk, true, nil
}

// varint reads a variable byte integer; n is 0 when it is not complete, or too long.
func varint(b []byte) (value, n int) {
	for i := range min(len(b), 4) {
		value |= int(b[i]&127) << (7 * i)
		if b[i] < 128 {
			return value, i + 1
		}
	}
	return 0, 0
}

func appendVarint(dst []byte, v int) []byte {
	for ; v >= 128; v >>= 7 {
		dst = append(dst, byte(v)|128)
	}
	return append(dst, byte(v))
}

// packet writes a packet.
func packet(kind, flags byte, body []byte) Frame {
	return Frame{Binary: true, Data: append(appendVarint([]byte{kind<<4 | flags}, len(body)), body...)}
}

func appendMQTT(dst []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(dst, uint16(len(s))), s...)
}

// mqttReader reads a body from its beginning. Once something is missing it is bad, and everything from there on is zero.
type mqttReader struct {
	b             []byte
	bad           bool
	subscriptions []int // identifiers among the properties
}

func (r *mqttReader) take(n int) []byte {
	if n > len(r.b) {
		r.bad, r.b = true, nil
		return make([]byte, min(n, 4))
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *mqttReader) byte() byte { return r.take(1)[0] }

func (r *mqttReader) uint16() uint16 { return binary.BigEndian.Uint16(r.take(2)) }

func (r *mqttReader) string() string {
	n := int(r.uint16())
	if n > len(r.b) {
		r.bad, r.b = true, nil
		return ""
	}
	return string(r.take(n))
}

// properties reads the properties of MQTT 5 that matter: numbers by identifier, the reason string, and subscriptions.
func (r *mqttReader) properties() (numbers map[int]uint32, reason string) {
	length, n := varint(r.b)
	if n == 0 {
		r.bad, r.b = true, nil
		return nil, ""
	}
	r.take(n)
	in := mqttReader{b: r.take(length)}
	if r.bad {
		return nil, ""
	}
	numbers = map[int]uint32{}
	for len(in.b) > 0 && !in.bad {
		switch id := int(in.byte()); id {
		case 0x01, 0x17, 0x19, propMaximumQoS, propRetain, 0x28, propSubscriptions, 0x2a:
			numbers[id] = uint32(in.byte())
		case propServerKeepAlive, propReceiveMaximum, 0x22, propTopicAlias:
			numbers[id] = uint32(in.uint16())
		case 0x02, propSessionExpiry, 0x18, propMaximumPacket:
			numbers[id] = binary.BigEndian.Uint32(in.take(4))
		case propSubscription:
			one, n := varint(in.b)
			if n == 0 {
				in.bad = true
			}
			in.take(n)
			r.subscriptions = append(r.subscriptions, one)
		case propReason:
			reason = in.string()
		case 0x03, 0x08, 0x09, 0x12, 0x15, 0x16, 0x1a, 0x1c:
			in.string()
		case 0x26:
			in.string()
			in.string()
		default:
			in.bad = true
		}
	}
	r.bad = r.bad || in.bad
	return numbers, reason
}
