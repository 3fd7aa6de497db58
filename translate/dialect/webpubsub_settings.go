// This file is what is asked of Azure Web PubSub: groups, what HELLO and clients send, and how another process goes on.

package dialect

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"

	"sidestream/translate"
)

const (
	pubSubLineForm = "write the name of a group alone"
	pubSubSendForm = `a message is a group's name and its data, such as chat {"text":"hi"}, or a record with a type, such as {"type":"event","event":..,"dataType":"json","data":..}`
	maxPubSubGroup = 1024 // bytes of a name, as the service has it
)

// pubSubGroup looks at a line of SUBSCRIBE.
func pubSubGroup(line string) error {
	if _, rest := cutWord(line); rest != "" || line == "" || len(line) > maxPubSubGroup || strings.HasPrefix(line, "{") {
		return errors.New("is no group; " + pubSubLineForm)
	}
	return nil
}

func checkWebPubSub(_ string, lines []string) error {
	var problems []error
	for i, line := range lines {
		if err := pubSubGroup(line); err != nil {
			problems = append(problems, badLine(i+1, "%v", err))
		}
	}
	return errors.Join(problems...)
}

// Send takes a group and data, or a record.
func (s *webPubSub) Send(m translate.Message) ([]Frame, error) {
	text := string(bytes.TrimSpace(m.Data))
	if !utf8.ValidString(text) {
		return nil, errors.New(pubSubSendForm)
	}
	if len(s.sent) >= maxPubSubSent {
		return nil, errors.New("the service has not acknowledged what was sent before; try again later")
	}
	var record map[string]any
	if strings.HasPrefix(text, "{") {
		var r map[string]json.RawMessage
		if json.Unmarshal([]byte(text), &r) != nil || jsonText(r["type"]) == "" {
			return nil, errors.New(pubSubSendForm)
		}
		record = map[string]any{}
		for name, value := range r {
			if name != "type" && strings.EqualFold(name, "type") || strings.EqualFold(name, "ackId") && name != "ackId" {
				return nil, errors.New(pubSubSendForm)
			}
			record[name] = value
		}
		kind := jsonText(r["type"])
		if strings.EqualFold(kind, pubSubAck) {
			return nil, errors.New("what came is acknowledged by the sidecar alone; " + pubSubSendForm)
		}
		if kind != "event" && kind != "sendToGroup" && kind != "joinGroup" && kind != "leaveGroup" {
			return []Frame{jsonFrame(record)}, nil
		}
	} else {
		group, data := cutWord(text)
		if group == "" || data == "" || len(group) > maxPubSubGroup {
			return nil, errors.New(pubSubSendForm)
		}
		record = map[string]any{"type": "sendToGroup", "group": group, "dataType": "text", "data": data}
		if json.Valid([]byte(data)) {
			record["dataType"], record["data"] = "json", json.RawMessage(data)
		}
	}
	s.sent[s.call()] = true
	record["ackId"] = s.calls // a client's own might be one that the service has seen
	return []Frame{jsonFrame(record)}, nil
}

// Save is the session, and how far it was read. Where another process cannot go on that is said too, so that what was saved before does not count any
// more.
func (s *webPubSub) Save() (saved []byte) {
	if !s.used {
		return nil
	}
	if !s.stands || s.Speaks {
		return translate.AppendField(nil, "")
	}
	for _, field := range []string{s.id, s.token, strconv.FormatUint(s.calls, 10), strconv.FormatUint(s.last, 10)} {
		saved = translate.AppendField(saved, field)
	}
	if len(saved) > translate.MaxSaved {
		return translate.AppendField(nil, "")
	}
	return saved
}

// Restore is Save's other half.
func (s *webPubSub) Restore(saved []byte) error {
	if string(saved) == string(translate.AppendField(nil, "")) {
		s.used = true
		return nil
	}
	fields, err := translate.CutFields(saved, 4)
	if err != nil {
		return err
	}
	calls, err := strconv.ParseUint(fields[2], 10, 64)
	last, err2 := strconv.ParseUint(fields[3], 10, 64)
	if errors.Join(err, err2) != nil || fields[0] == "" || len(fields[0]) > maxPubSubID || fields[1] == "" || len(fields[1]) > maxHubToken {
		return translate.ErrSaved
	}
	s.pubSubPlace = pubSubPlace{id: fields[0], token: fields[1], stands: true, calls: calls, last: last, acked: last}
	s.used = true
	return nil
}
