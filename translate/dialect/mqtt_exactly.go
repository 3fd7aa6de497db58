// This file is MQTT's QoS 2 (5.0, section 4.3.3), and what is once where lines overlap.

package dialect

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
)

// maxMQTTUnder bounds the messages with QoS 2 that are under way, in and out. With MQTT 5 the broker is told; others have bounds of their own, of 20
// (mosquitto) or 32 (EMQX).
const maxMQTTUnder = mqttReceive

// exactlyOnce reports whether anything is subscribed to with QoS 2.
func (s *mqtt) exactlyOnce() bool {
	return slices.ContainsFunc(s.filters, func(f mqttFilter) bool { return f.qos == 2 })
}

// begun notes a message with QoS 2, and reports whether it has come before, with its PUBREL still to come.
func (s *mqtt) begun(id uint16, sum [16]byte) (again bool, err error) {
	was, known := s.between[id]
	if known && was == sum {
		return true, nil
	}
	if !known && len(s.between) >= maxMQTTUnder {
		return false, fmt.Errorf("the broker has more than %d messages with QoS 2 under way", maxMQTTUnder)
	}
	if s.between == nil {
		s.between = map[uint16][16]byte{}
	}
	s.between[id] = sum
	return false, nil
}

// found takes whether the broker has the session, and returns what completes what was sent in it.
func (s *mqtt) found(present bool) (frames []Frame) {
	if !present {
		s.between, s.under = nil, nil
		return nil
	}
	if s.sent == 0 { // what another process has under way there is not known, or not all of it
		s.sent = uint16(rand.N(1 << 16))
	}
	for _, id := range s.under {
		frames = append(frames, packet(mqttPubrel, 2, binary.BigEndian.AppendUint16(nil, id)))
	}
	return frames
}

// number is the packet identifier of what is sent next.
func (s *mqtt) number(exactly bool) uint16 {
	for s.sent = s.sent%0xffff + 1; s.sent == 1 || slices.Contains(s.under, s.sent); { // 1 is SUBSCRIBE's
		s.sent = s.sent%0xffff + 1
	}
	if exactly {
		if len(s.under) >= maxMQTTUnder { // the broker answers none of them
			s.under = slices.Delete(s.under, 0, 1)
		}
		s.under = append(s.under, s.sent)
	}
	return s.sent
}

// taken takes the broker's answers to what was sent.
func (s *mqtt) taken(kind byte, r *mqttReader, got *Received) {
	id := r.uint16()
	var code byte
	reason := ""
	if s.version == 5 && len(r.b) > 0 {
		if code = r.byte(); len(r.b) > 0 {
			_, reason = r.properties()
		}
	}
	if r.bad {
		return
	}
	if kind == mqttPubrec && code < 0x80 {
		got.Replies = append(got.Replies, packet(mqttPubrel, 2, binary.BigEndian.AppendUint16(nil, id)))
		return
	}
	s.under = slices.DeleteFunc(s.under, func(one uint16) bool { return one == id })
	got.Replies = append(got.Replies, s.limits.answered(id)...)
	if kind != mqttPubcomp && code >= 0x80 {
		text := fmt.Sprintf("a message that was sent is refused with code %d (0x%02x)", code, code)
		if reason != "" {
			text += ": " + s.hidden(reason)
		}
		got.Complaints = append(got.Complaints, text)
	}
}

// id is the subscription identifier that stands for f, 1 to 268435455.
func (f mqttFilter) id() int {
	h := fnv.New32a()
	h.Write([]byte(f.filter))
	return int(h.Sum32()%(1<<28-1)) + 1
}

// overlaps reports whether a topic may match both. What begins with $ is not told from other topics here.
func (f mqttFilter) overlaps(other mqttFilter) bool {
	_, one, _ := f.group()
	_, two, _ := other.group()
	for {
		a, moreA, deeperA := strings.Cut(one, "/")
		b, moreB, deeperB := strings.Cut(two, "/")
		switch {
		case a == "#" || b == "#":
			return true
		case a != b && a != "+" && b != "+":
			return false
		case !deeperA:
			return !deeperB || moreB == "#"
		case !deeperB:
			return moreA == "#"
		}
		one, two = moreA, moreB
	}
}

func overlapping(filters []mqttFilter) bool {
	for i, f := range filters {
		if slices.ContainsFunc(filters[:i], f.overlaps) {
			return true
		}
	}
	return false
}

// foremost reports whether a message with these subscription identifiers is the copy to be emitted, where the broker may have sent others: that of the line
// with the highest QoS, of several the first. A shared subscription gives way to any other, which has the message all the same.
func (s *mqtt) foremost(topic string, subscriptions []int) bool {
	if len(subscriptions) == 0 || !s.numbered {
		return true
	}
	var best *mqttFilter
	for i := range s.filters {
		f := &s.filters[i]
		if _, _, shared := f.group(); !shared && f.matches(topic) && (best == nil || f.qos > best.qos) {
			best = f
		}
	}
	return best == nil || slices.Contains(subscriptions, best.id())
}

// savedBetween is for Save: packet identifiers and what came with them, in order.
func (s *mqtt) savedBetween() (saved []byte) {
	for _, id := range slices.Sorted(maps.Keys(s.between)) {
		sum := s.between[id]
		saved = append(binary.BigEndian.AppendUint16(saved, id), sum[:]...)
	}
	return saved
}

// savedUnder is the packet identifiers of what was sent.
func (s *mqtt) savedUnder() (saved []byte) {
	for _, id := range s.under {
		saved = binary.BigEndian.AppendUint16(saved, id)
	}
	return saved
}

// restoreExactly is the other half of both; it reports whether they read.
func (s *mqtt) restoreExactly(between, under string) bool {
	const one = 2 + 16
	if len(between)%one != 0 || len(between) > one*maxMQTTUnder || len(under)%2 != 0 || len(under) > 2*maxMQTTUnder {
		return false
	}
	s.between, s.under = map[uint16][16]byte{}, nil
	for rest := []byte(between); len(rest) > 0; rest = rest[one:] {
		s.between[binary.BigEndian.Uint16(rest)] = [16]byte(rest[2:one])
	}
	for rest := []byte(under); len(rest) > 0; rest = rest[2:] {
		s.under = append(s.under, binary.BigEndian.Uint16(rest))
	}
	return true
}
