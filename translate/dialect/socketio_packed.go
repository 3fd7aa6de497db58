// This file is Socket.IO over socket.io-msgpack-parser (3.0.2, of notepack.io 2.2), as servers 3 and 4 have it where they are told to. Engine.IO's
// own packets are text as ever. Each packet of Socket.IO is one binary message, without Engine.IO's type: a map in MessagePack of
//
//	type   0 to 4, as socketio_packet.go has them; 5 and 6, with bytes in them, are 2 and 3
//	nsp    the namespace
//	data   what is JSON after the text's head; attachments are in their places
//	id     of what wants an answer, or is it
//
// The session is that of socketio.go: what comes is given to it as a packet, and the packets that it sends are put into that form.

package dialect

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"sidestream/translate"
	"sidestream/translate/decode"
)

const sioPacked = "socket.io+msgpack"

type packedSocketIO struct{ *socketio }

func newPackedSocketIO(o Options) Session {
	s := socketIO(o, false).(*socketio)
	s.packed = true
	return packedSocketIO{s}
}

func (s packedSocketIO) Receive(ctx context.Context, now time.Time, f Frame) (Received, error) {
	got, err := s.socketio.Receive(ctx, now, f)
	got.Replies = packSio(got.Replies)
	return got, err
}

func (s packedSocketIO) Send(m translate.Message) ([]Frame, error) {
	frames, err := s.socketio.Send(m)
	return packSio(frames), err
}

func (s packedSocketIO) Leave() []Frame { return packSio(s.socketio.Leave()) }

// Skipped lets the connection go on: no attachments can follow.
func (s packedSocketIO) Skipped() error { return nil }

// unpacked takes a packet in MessagePack.
func (s *socketio) unpacked(data []byte, got *Received) error {
	text, binary, err := decode.Notepack(data, s.MaxMessage, s.Binary == BinaryText)
	if errors.Is(err, decode.ErrTooLarge) {
		got.Decoded = append(got.Decoded, Decoded{Size: len(data), Err: err})
		got.Messages = append(got.Messages, translate.Message{Gap: translate.GapUpstream})
		return nil
	}
	if err != nil {
		return errors.New("the server sent a binary message that is not MessagePack; where it uses the default parser, write PROTOCOL=socket.io")
	}
	p, err := readPacked(text)
	if err != nil {
		return err
	}
	before := len(got.Messages)
	err = s.take(p, got)
	if binary && s.Binary == BinaryDrop {
		got.Messages = got.Messages[:before]
	}
	return err
}

// readPacked reads a packet that has become JSON.
func readPacked(text []byte) (p sioPacket, err error) {
	var packet struct {
		Type *uint8
		NSP  *string
		Data json.RawMessage
		ID   *uint64
	}
	if json.Unmarshal(text, &packet) != nil || packet.Type == nil || packet.NSP == nil || *packet.Type > sioBinaryAck-'0' {
		return p, errSioPacket
	}
	p = sioPacket{kind: '0' + *packet.Type, space: *packet.NSP, data: packet.Data}
	switch p.kind {
	case sioBinaryEvent:
		p.kind = sioEvent
	case sioBinaryAck:
		p.kind = sioAck
	}
	if packet.ID != nil {
		p.id = strconv.FormatUint(*packet.ID, 10)
	}
	return p, nil
}

// packSio puts packets that are text into MessagePack.
func packSio(frames []Frame) []Frame {
	for i, f := range frames {
		if f.Binary || len(f.Data) == 0 || f.Data[0] != '4' {
			continue
		}
		p, err := parseSioPacket(f.Data[1:])
		if err != nil {
			continue // cannot be: the session made it
		}
		text := append([]byte(`{"type":`), p.kind, ',')
		text = append(append(text, `"nsp":`...), jsonString(p.space)...)
		if p.id != "" {
			text = append(append(text, `,"id":`...), p.id...)
		}
		if len(p.data) > 0 {
			text = append(append(text, `,"data":`...), p.data...)
		}
		if packed, err := decode.AppendMsgpack(nil, append(text, '}')); err == nil {
			frames[i] = Frame{Binary: true, Data: packed}
		}
	}
	return frames
}
