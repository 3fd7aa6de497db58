// This file is how a connection of MQTT begins: CONNECT, CONNACK, SUBSCRIBE, SUBACK.

package dialect

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"
)

func (s *mqtt) connect() Frame {
	c := s.settings
	clean := c.CleanSession == nil || *c.CleanSession
	if s.version == 5 {
		s.asked = s.expiry() > 0
		clean = !s.asked || !s.continues() && (!s.lasting() || c.CleanSession != nil && clean)
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

func (s *mqtt) connack(r *mqttReader, got *Received) error {
	present, code := r.byte()&1 == 1, r.byte()
	reason := ""
	s.numbered = s.version == 5 && overlapping(s.filters)
	if s.version == 5 && len(r.b) > 0 {
		var numbers map[int]uint32
		numbers, reason = r.properties()
		if n, set := numbers[propServerKeepAlive]; set {
			s.every = time.Duration(n) * time.Second
		}
		if n, set := numbers[propMaximumQoS]; set {
			s.most = byte(n)
		}
		if n, set := numbers[propSubscriptions]; set && n == 0 {
			s.numbered = false
		}
		s.limits.read(numbers)
	}
	if r.bad {
		return errMQTTFraming
	}
	if code != 0 {
		return s.refusal("CONNECT", code, reason)
	}
	got.Replies = append(got.Replies, s.found(present)...)
	if present && s.continues() && !s.lossy { // and so do its subscriptions
		s.bridges, s.resumed = true, true
		s.bridged, s.missed = true, max(s.missed, 0)
		s.ready(got)
		return nil
	}
	s.missed = -1
	s.kept = nil
	if len(s.filters) == 0 {
		s.ready(got)
		return nil
	}
	s.step = mqttSubscribing
	got.Replies = append(got.Replies, s.subscribe()...)
	return nil
}

// subscribe asks for the lines at once, or for each by itself, so that it has an identifier of its own.
func (s *mqtt) subscribe() (frames []Frame) {
	s.asking = map[uint16][]int{}
	packetID := uint16(0)
	for i := 0; i < len(s.filters); {
		n, props := len(s.filters), []byte(nil)
		if s.numbered {
			n, props = i+1, appendVarint([]byte{propSubscription}, s.filters[i].id())
		}
		for packetID++; slices.Contains(s.under, packetID); { // another packet's, until its PUBCOMP
			packetID++
		}
		body := binary.BigEndian.AppendUint16(nil, packetID)
		if s.version == 5 {
			body = append(appendVarint(body, len(props)), props...)
		}
		for ; i < n; i++ {
			body = append(appendMQTT(body, s.filters[i].filter), s.options(s.filters[i]))
			s.asking[packetID] = append(s.asking[packetID], i)
		}
		frames = append(frames, packet(mqttSubscribe, 2, body))
	}
	s.bridges = s.asked && s.atLeastOnce()
	return frames
}

// options are those of a line. What is retained is not for who shares a subscription (5.0, section 4.8.2), which mosquitto 2.0.11 has to be told (3.8.3.1, Retain Handling).
func (s *mqtt) options(f mqttFilter) byte {
	if _, _, shared := f.group(); shared && s.version == 5 {
		return f.qos | 2<<4
	}
	return f.qos
}

func (s *mqtt) suback(r *mqttReader, got *Received) error {
	id := r.uint16()
	reason := ""
	if s.version == 5 {
		_, reason = r.properties()
	}
	lines := s.asking[id]
	if r.bad || len(lines) == 0 || len(r.b) != len(lines) {
		return errMQTTFraming
	}
	delete(s.asking, id)
	for i, code := range r.b {
		line := lines[i]
		switch {
		case code >= 0x80:
			return s.refusal(fmt.Sprintf("line %d of SUBSCRIBE", line+1), code, reason)
		case code < s.filters[line].qos && s.filters[line].qos == 2:
			got.Complaints = append(got.Complaints, fmt.Sprintf("line %d of SUBSCRIBE is granted with QoS %d alone: QoS 2 is not to be had, and with it exactly once", line+1, code))
		}
		s.bridges = s.bridges && code > 0
	}
	if len(s.asking) > 0 {
		return nil
	}
	if s.bridges {
		s.kept = slices.Clone(s.filters)
	}
	s.ready(got)
	return nil
}

func (s *mqtt) ready(got *Received) {
	s.step, s.opened = mqttReady, true
	got.Ready, got.Resumed = true, s.resumed
}
