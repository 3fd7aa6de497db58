// This file reads the messages of Phoenix, of both versions, in JSON and in binary. See phoenix.go for their layout.

package dialect

import (
	"encoding/json"
	"errors"
)

// phxMessage is a message of either version, in JSON or not.
type phxMessage struct {
	joinRef, ref, topic, event string
	payload                    []byte // JSON, or the bytes of a binary message
	status                     string // of a binary reply
	binary                     bool
}

func (s *phoenix) parse(f Frame) (phxMessage, error) {
	switch {
	case f.Binary && s.v1:
		return phxMessage{}, errors.New("a binary message, which version 1 does not have; take vsn=1.0.0 out of FROM")
	case f.Binary:
		return parsePhxBinary(f.Data)
	case s.v1:
		return parsePhxV1(f.Data)
	}
	return parsePhxV2(f.Data)
}

func parsePhxV2(data []byte) (m phxMessage, err error) {
	var parts []json.RawMessage
	if json.Unmarshal(data, &parts) != nil || len(parts) != 5 || json.Unmarshal(parts[2], &m.topic) != nil || json.Unmarshal(parts[3], &m.event) != nil {
		return m, errors.New("a message that is not of version 2; write vsn=1.0.0 in FROM's query if the server speaks version 1")
	}
	m.joinRef, m.ref, m.payload = phxRef(parts[0]), phxRef(parts[1]), parts[4]
	return m, nil
}

func parsePhxV1(data []byte) (phxMessage, error) {
	var v struct {
		Topic, Event *string
		Payload, Ref json.RawMessage
		JoinRef      json.RawMessage `json:"join_ref"`
	}
	if json.Unmarshal(data, &v) != nil || v.Topic == nil || v.Event == nil {
		return phxMessage{}, errors.New("a message that is not of version 1; take vsn=1.0.0 out of FROM if the server speaks version 2")
	}
	if v.Payload == nil {
		v.Payload = json.RawMessage("null")
	}
	return phxMessage{joinRef: phxRef(v.JoinRef), ref: phxRef(v.Ref), topic: *v.Topic, event: *v.Event, payload: v.Payload}, nil
}

// phxRef is a ref as a string, "" for null.
func phxRef(data json.RawMessage) string {
	var text string
	if json.Unmarshal(data, &text) == nil {
		return text
	}
	return string(data) // other implementations send numbers
}

func parsePhxBinary(data []byte) (m phxMessage, err error) {
	m.binary = true
	var fields []*string
	if len(data) > 0 {
		switch data[0] {
		case phxPush:
			fields = []*string{&m.joinRef, &m.topic, &m.event}
		case phxReply:
			m.event = "phx_reply"
			fields = []*string{&m.joinRef, &m.ref, &m.topic, &m.status}
		case phxBroadcast:
			fields = []*string{&m.topic, &m.event}
		}
	}
	if fields == nil || len(data) <= len(fields) {
		return m, errors.New("a binary message of no known kind")
	}
	sizes, rest := data[1:1+len(fields)], data[1+len(fields):]
	for i, field := range fields {
		n := int(sizes[i])
		if n > len(rest) {
			return m, errors.New("a binary message shorter than its lengths")
		}
		*field, rest = string(rest[:n]), rest[n:]
	}
	m.payload = rest
	return m, nil
}
