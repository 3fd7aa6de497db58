package dialect

import (
	"encoding/binary"
	"slices"

	"sidestream/translate"
)

// maxMQTTSeen is how many of the last messages with QoS 1 are remembered by their packet identifiers.
const maxMQTTSeen = 32

// mqttSeen identifies a message that may come again, since the broker may not have had our PUBACK.
type mqttSeen struct {
	id  uint16
	sum [16]byte
}

// newest is the last message that had this identifier; zero: none is known.
func (s *mqtt) newest(id uint16) (sum [16]byte) {
	for _, one := range s.seen {
		if one.id == id {
			sum = one.sum
		}
	}
	return sum
}

// again notes a message with QoS 1, and reports whether the broker has sent it before: it says so, with the same packet identifier and the same
// contents (MQTT 5.0, 4.4). Where a connection's first identifier is 1 they may have started over (RabbitMQ), and then identify nothing.
func (s *mqtt) again(dup bool, id uint16, sum [16]byte) bool {
	if !s.heard {
		s.heard, s.goesOn = true, s.resumed && id > 1
	}
	one := mqttSeen{id, sum}
	if dup && s.goesOn && slices.Contains(s.seen, one) {
		return true
	}
	if len(s.seen) >= maxMQTTSeen {
		s.seen = append(s.seen[:0], s.seen[1:]...)
	}
	s.seen = append(s.seen, one)
	return false
}

// mqttNothing is saved where nothing bridges, or it would be too much.
var mqttNothing = translate.AppendField(translate.AppendField(translate.AppendField(nil, ""), ""), "")

// HandOn has the session stay at the broker when this one leaves: another process may go on with it.
func (s *mqtt) HandOn() { s.handedOn = true }

// Save is by what name the broker knows the session, what it holds, which messages may come again, and, where there are any, which are in the middle of QoS 2. Where there is none that bridges
// an interruption, that is said too, so that what was saved before does not count any more.
func (s *mqtt) Save() (saved []byte) {
	if s.step != mqttReady {
		return nil
	}
	var filters, seen []byte
	name := ""
	if s.bridges && !s.lossy {
		name = s.madeUp
		for _, f := range s.kept {
			filters = translate.AppendField(filters, string('0'+rune(f.qos))+f.filter)
		}
		for _, one := range s.seen {
			seen = append(binary.BigEndian.AppendUint16(seen, one.id), one.sum[:]...)
		}
	}
	for _, field := range []string{name, string(filters), string(seen)} {
		saved = translate.AppendField(saved, field)
	}
	if s.asked && len(s.between)+len(s.under) > 0 { // also of a session that bridges nothing: the broker completes it
		saved = translate.AppendField(translate.AppendField(saved, s.savedBetween()), s.savedUnder())
	}
	if len(saved) > translate.MaxSaved {
		return slices.Clone(mqttNothing)
	}
	return saved
}

// Restore is Save's other half.
func (s *mqtt) Restore(saved []byte) error {
	fields, err := translate.AllFields(saved)
	if err != nil || len(fields) != 3 && len(fields) != 5 {
		return translate.ErrSaved
	}
	var kept []mqttFilter
	for rest := []byte(fields[1]); len(rest) > 0; {
		var field string
		if field, rest, err = cutText(rest); err != nil || len(field) < 2 || field[0] != '1' && field[0] != '2' || len(kept) == maxMQTTFilters {
			return translate.ErrSaved
		}
		kept = append(kept, mqttFilter{filter: field[1:], qos: field[0] - '0'})
	}
	if len(fields) == 5 && !s.restoreExactly(fields[3], fields[4]) {
		return translate.ErrSaved
	}
	const one = 2 + 16
	if len(fields[2])%one != 0 || len(fields[2]) > one*maxMQTTSeen {
		return translate.ErrSaved
	}
	for rest := []byte(fields[2]); len(rest) > 0; rest = rest[one:] {
		s.seen = append(s.seen, mqttSeen{binary.BigEndian.Uint16(rest), [16]byte(rest[2:one])})
	}
	if fields[0] != "" {
		s.madeUp = fields[0]
	}
	s.kept, s.opened = kept, true
	return nil
}

func cutText(saved []byte) (text string, rest []byte, err error) {
	field, rest, err := translate.CutField(saved)
	return string(field), rest, err
}
