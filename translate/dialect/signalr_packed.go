// This file is the hub protocol of SignalR in MessagePack, versions 1 and 2 (HubProtocol.md of dotnet/aspnetcore, and @microsoft/signalr-protocol-msgpack
// 10.0.11). The handshake is the JSON one; its answer may be a binary message, in which others follow. Then each message is a varint with its length,
// and a list; a WebSocket message holds several of them:
//
//	[1, {headers}, id|null, target, [arguments], [streams]]    invocation; 4 begins a stream
//	[2, {headers}, id, item]                                    item of a stream
//	[3, {headers}, id, 1, error]  [.., 2]  [.., 3, result]      completion
//	[5, {headers}, id]                                          ends a stream
//	[6]                                                         ping
//	[7, error|null, allowReconnect?]                            close
//	[8, sequenceId]  [9, sequenceId]                            what has arrived, and what is next
//
// The session is that of signalr.go: what comes is given to it as the record in JSON that says the same, and records that it sends are put into this form.

package dialect

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"sidestream/translate"
	"sidestream/translate/decode"
)

const hubPacked = "signalr+msgpack"

const (
	// What a completion has after its id.
	hubFailed = "1"
	hubResult = "3"

	hubLength = 5 // bytes of a length at most
)

var errHubPacked = errors.New("a message that is none of the hub protocol in MessagePack; where the hub has JSON alone, write PROTOCOL=signalr")

type packedSignalR struct{ *signalr }

func newPackedSignalR(o Options) Session {
	if o.MaxMessage == 0 {
		o.MaxMessage = defaultBounds
	}
	return packedSignalR{&signalr{Options: o, packed: true}}
}

func (s packedSignalR) Open(subprotocol string) ([]Frame, error) {
	frames, err := s.signalr.Open(subprotocol)
	if err != nil || s.awaiting {
		return frames, err
	}
	return []Frame{s.greeting("messagepack")}, nil
}

func (s packedSignalR) Receive(_ context.Context, _ time.Time, f Frame) (got Received, err error) {
	defer s.forgetAfter(&err)
	rest := f.Data
	if !s.agreed {
		answer, more, ended := bytes.Cut(rest, []byte{hubSeparator})
		if !ended {
			return got, errors.New("an answer to the handshake that does not end with a record's end (0x1e)")
		}
		if err := s.record(answer, &got); err != nil {
			return got, err
		}
		rest = more
	} else if !f.Binary {
		return got, errors.New("a message that is text, though the hub was asked for MessagePack")
	}
	if err = s.messages(rest, &got); err == nil {
		s.through(&got)
	}
	packed, failed := packHub(got.Replies)
	acks, failedAcks := packHub(got.Acks)
	got.Replies, got.Acks = packed, acks
	return got, errors.Join(err, failed, failedAcks)
}

// messages takes those in one WebSocket message. In JSON each has the bound of one; all together are a few times as large as they came.
func (s packedSignalR) messages(rest []byte, got *Received) error {
	for len(rest) > 0 {
		size, n := binary.Uvarint(rest[:min(len(rest), hubLength)])
		if n <= 0 || size > uint64(len(rest)-n) {
			return errHubPacked
		}
		message := rest[n:][:size]
		rest = rest[n+int(size):]
		text, err := decode.Steps{decode.Msgpack}.Decode(message, s.MaxMessage)
		if errors.Is(err, decode.ErrTooLarge) {
			if s.id != "" && !s.counts(packedHubType(message), len(message)) {
				continue
			}
			got.Decoded = append(got.Decoded, Decoded{Size: len(message), Err: err})
			got.Messages = append(got.Messages, translate.Message{Gap: translate.GapUpstream})
			continue
		}
		if err != nil {
			return errHubPacked
		}
		record, err := hubRecordOf(text)
		if err != nil {
			return err
		}
		if err := s.record(record, got); err != nil {
			return err
		}
	}
	return nil
}

// hubFields are the names in JSON of what a list has at each place, by its type; "" has none.
var hubFields = map[string][]string{
	"1": {"", "", "invocationId", "target", "arguments"},
	"2": {"", "", "invocationId", "item"},
	"3": {"", "", "invocationId", ""},
	"7": {"", "error"},
	"8": {"", "sequenceId"},
	"9": {"", "sequenceId"},
}

// hubRecordOf is the record in JSON that says what a list does.
func hubRecordOf(list []byte) ([]byte, error) {
	all, err := elements(list)
	if err != nil || len(all) == 0 {
		return nil, errHubPacked
	}
	kind := string(all[0])
	fields := hubFields[kind]
	if len(all) < len(fields) {
		return nil, errHubPacked
	}
	record := append([]byte(`{"type":`), kind...)
	add := func(name string, value []byte) {
		record = append(append(append(record, `,"`+name...), `":`...), value...)
	}
	for i, name := range fields {
		if name != "" {
			add(name, all[i])
		}
	}
	switch {
	case kind == "3" && len(all) > 4 && string(all[3]) == hubFailed:
		add("error", all[4])
	case kind == "3" && len(all) > 4 && string(all[3]) == hubResult:
		add("result", all[4])
	case kind == "7" && len(all) > 2:
		add("allowReconnect", all[2])
	}
	return append(record, '}'), nil
}

func (s packedSignalR) Send(m translate.Message) ([]Frame, error) {
	frames, err := s.signalr.Send(m)
	if err != nil {
		return nil, err
	}
	return packHub(frames)
}

func (s packedSignalR) Ping() ([]Frame, error) {
	frames, err := s.signalr.Ping()
	if err != nil {
		return nil, err
	}
	return packHub(frames)
}

func (s packedSignalR) Leave() []Frame {
	if !s.agreed {
		return nil // in what form it would be read is not known
	}
	frames, _ := packHub(s.signalr.Leave())
	return frames
}

func (s packedSignalR) Acks() []Frame {
	frames, _ := packHub(s.signalr.Acks())
	return frames
}

// packHub puts records into MessagePack.
func packHub(frames []Frame) ([]Frame, error) {
	for i, f := range frames {
		list, err := hubListOf(bytes.TrimSuffix(f.Data, []byte{hubSeparator}))
		if err != nil {
			return nil, err
		}
		message, err := decode.AppendMsgpack(nil, list)
		if err != nil {
			return nil, err
		}
		frames[i] = Frame{Binary: true, Data: append(binary.AppendUvarint(nil, uint64(len(message))), message...)}
	}
	return frames, nil
}

// hubListOf is the list, as JSON, that says what a record does. The error is of a record that a client has made.
func hubListOf(record []byte) ([]byte, error) {
	var r struct {
		Type                                                             int
		Headers, InvocationID, Target, Arguments, StreamIDs, Item, Error json.RawMessage
		Result, SequenceID                                               json.RawMessage
	}
	if err := json.Unmarshal(record, &r); err != nil {
		return nil, errors.New(hubSendForm)
	}
	or := func(value []byte, none string) []byte {
		if len(value) == 0 {
			return []byte(none)
		}
		return value
	}
	list := [][]byte{strconv.AppendInt(nil, int64(r.Type), 10)}
	begin := append(list, or(r.Headers, "{}"), or(r.InvocationID, "null"))
	switch r.Type {
	case hubInvocation, hubStreamInvocation:
		list = append(begin, or(r.Target, `""`), or(r.Arguments, "[]"), or(r.StreamIDs, "[]"))
	case hubStreamItem:
		list = append(begin, or(r.Item, "null"))
	case hubCompletion:
		switch {
		case len(r.Error) > 0:
			list = append(begin, []byte(hubFailed), r.Error)
		case len(r.Result) > 0:
			list = append(begin, []byte(hubResult), r.Result)
		default:
			list = append(begin, []byte("2"))
		}
	case hubCancel:
		list = begin
	case hubPing:
	case hubAck, hubSequence:
		list = append(list, or(r.SequenceID, "0"))
	case hubClose:
		list = append(list, or(r.Error, "null"))
	default:
		return nil, errors.New("a record of a type that is not known in MessagePack; " + hubSendForm)
	}
	return append(append([]byte{'['}, bytes.Join(list, []byte{','})...), ']'), nil
}
