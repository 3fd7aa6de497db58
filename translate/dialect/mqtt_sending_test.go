package dialect

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"sidestream/translate"
)

// limited is a connection of MQTT 5 whose CONNACK has these properties.
func limited(t *testing.T, props ...byte) *mqtt {
	t.Helper()
	s := newMQTT(Options{Connect: fixed(`{"version":5}`), Subscribe: fixedLines("a 0")}).(*mqtt)
	s.Open("mqtt")
	for _, p := range []Frame{packet(mqttConnack, 0, append([]byte{0, 0, byte(len(props))}, props...)), packet(mqttSuback, 0, []byte{0, 1, 0, 0})} {
		if _, err := s.Receive(context.Background(), noon, p); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// mqttSends sends a message, and returns the packet identifiers of what goes out for it, 0 for QoS 0.
func mqttSends(t *testing.T, s *mqtt, qos int) (ids []uint16) {
	t.Helper()
	frames, err := s.Send(translate.Message{Data: fmt.Appendf(nil, `{"topic":"t","payload":"x","qos":%d}`, qos)})
	if err != nil {
		t.Fatal(err)
	}
	return publishedIDs(frames)
}

func publishedIDs(frames []Frame) (ids []uint16) {
	for _, f := range frames {
		switch {
		case f.Data[0]>>4 != mqttPublish:
		case f.Data[0]&6 == 0:
			ids = append(ids, 0)
		default:
			ids = append(ids, binary.BigEndian.Uint16(f.Data[5:]))
		}
	}
	return ids
}

// A broker disconnects a client that has more messages under way than it takes (MQTT 5.0, section 4.9): they wait for its answers, in their order.
func TestMQTTReceiveMaximum(t *testing.T) {
	s := limited(t, propReceiveMaximum, 0, 2)
	if _, err := s.Send(translate.Message{Data: []byte(`{"topic":"t","payload":"x","qos":0}`)}); err != nil {
		t.Fatal(err)
	}
	one, two := mqttSends(t, s, 1), mqttSends(t, s, 2)
	if len(one) != 1 || len(two) != 1 {
		t.Fatalf("%v and %v go out", one, two)
	}
	for _, qos := range []int{1, 0, 2, 0} {
		if out := mqttSends(t, s, qos); out != nil {
			t.Errorf("%v goes out before there is an answer", out)
		}
	}
	answers := func(kind byte, id uint16, want ...uint16) {
		t.Helper()
		got, err := s.Receive(context.Background(), noon, Frame{Binary: true, Data: answer(kind, id)})
		if err != nil || !slices.Equal(publishedIDs(got.Replies), want) {
			t.Errorf("%v, %v, want %v", publishedIDs(got.Replies), err, want)
		}
	}
	answers(mqttPubrec, two[0]) // which is no end of it
	answers(mqttPuback, one[0], two[0]+1, 0)
	answers(mqttPubcomp, two[0], two[0]+2, 0)
	answers(mqttPuback, two[0]+1)
	if out := mqttSends(t, s, 1); len(out) != 1 {
		t.Error("it does not go out although there is room")
	}

	// What is refused is answered too, and the next connection begins with nothing.
	mqttSends(t, s, 1)
	refused := packet(mqttPubrec, 0, append(binary.BigEndian.AppendUint16(nil, two[0]+2), 0x87)).Data
	if got, err := s.Receive(context.Background(), noon, Frame{Binary: true, Data: refused}); err != nil || len(publishedIDs(got.Replies)) != 1 || len(got.Complaints) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	s.Open("mqtt")
	s.Receive(context.Background(), noon, packet(mqttConnack, 0, []byte{0, 0, 0}))
	for range 100 {
		if out := mqttSends(t, s, 1); len(out) != 1 {
			t.Fatal("a bound of the connection before counts")
		}
	}
}

// What waits is bounded, and a client is told.
func TestMQTTWaitingIsBounded(t *testing.T) {
	const full = "cannot be sent now"
	s := limited(t, propReceiveMaximum, 0, 1)
	for range 1 + maxMQTTHeld {
		mqttSends(t, s, 1)
	}
	for qos := range 3 {
		before := s.sent
		if _, err := s.Send(translate.Message{Data: fmt.Appendf(nil, `{"topic":"t","payload":"x","qos":%d}`, qos)}); err == nil || !strings.Contains(err.Error(), full) || s.sent != before {
			t.Errorf("QoS %d: %v, %d", qos, err, s.sent)
		}
	}
	s = limited(t, propReceiveMaximum, 0, 1)
	large := fmt.Appendf(nil, `{"topic":"t","payload":%q,"qos":1}`, strings.Repeat("x", maxMQTTHeldBytes/4))
	n := 0
	for range 8 {
		if _, err := s.Send(translate.Message{Data: large}); err == nil {
			n++
		}
	}
	if n != 1+3 || s.heldBytes() > maxMQTTHeldBytes {
		t.Errorf("%d were taken, %d bytes of them wait", n, s.heldBytes())
	}
}

func (s *mqtt) heldBytes() (n int) {
	for _, h := range s.limits.held {
		n += len(h.frame.Data)
	}
	return n
}

// What a broker never takes is not sent, since it would end the connection for all.
func TestMQTTNeverTaken(t *testing.T) {
	s := limited(t, propMaximumPacket, 0, 0, 0, 40, propRetain, 0)
	for text, want := range map[string]string{
		`{"topic":"t","payload":"` + strings.Repeat("x", 34) + `"}`:         "",
		`{"topic":"t","payload":"` + strings.Repeat("x", 35) + `"}`:         "has 41 bytes, and the broker takes 40",
		`{"topic":"t","payload":"` + strings.Repeat("x", 32) + `","qos":1}`: "",
		`{"topic":"t","payload":"` + strings.Repeat("x", 33) + `","qos":2}`: "has 41 bytes, and the broker takes 40",
		`{"topic":"t","payload":"x","retain":true}`:                         "retained, which the broker does not do",
	} {
		frames, err := s.Send(translate.Message{Data: []byte(text)})
		if want == "" && (err != nil || len(frames) != 1 || len(frames[0].Data) != 40) || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, %v", text, frames, err)
		}
	}
	if s = limited(t, propRetain, 1); s.limits.noRetain || s.limits.size != 0 {
		t.Errorf("%+v", s.limits)
	}
}
