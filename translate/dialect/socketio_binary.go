// This file collects the attachments of Socket.IO events.

package dialect

import (
	"encoding/base64"
	"errors"
	"slices"

	"sidestream/translate"
)

// binaryFrame takes an attachment.
func (s *socketio) binaryFrame(data []byte, got *Received) error {
	if s.v2 {
		if len(data) == 0 || data[0] != 4 {
			return errors.New("the server sent a binary message of no Engine.IO type")
		}
		data = data[1:]
	}
	if s.pending == nil {
		if s.skipped {
			return nil
		}
		return errors.New("the server sent a binary message that belongs to no event; where its parser is socket.io-msgpack-parser, write PROTOCOL=" + sioPacked + "; other parsers than that and the default one are not spoken")
	}
	s.attach(data)
	return s.complete(got)
}

// base64Frame takes an attachment from a server that was asked for text (b64=1).
func (s *socketio) base64Frame(data []byte, got *Received) error {
	if s.v2 && len(data) > 0 && data[0] == '4' {
		data = data[1:]
	}
	decoded, err := base64.StdEncoding.AppendDecode(nil, data)
	if err != nil || s.pending == nil && !s.skipped {
		return errors.New("the server sent an attachment that belongs to no event or is not base64")
	}
	if s.pending == nil {
		return nil
	}
	s.attach(decoded)
	return s.complete(got)
}

// attach keeps one attachment. MAX_MESSAGE bounds the event with all of its attachments.
func (s *socketio) attach(data []byte) {
	p := s.pending
	p.left--
	p.size += len(data)
	if p.over = p.over || p.size > s.MaxMessage; p.over || p.space == nil {
		p.parts = nil
		return
	}
	p.parts = append(p.parts, slices.Clone(data))
}

// Skipped: the frame was an attachment, if one was due; otherwise it may have been an event that attachments belong to.
func (s *socketio) Skipped() error {
	if s.pending == nil {
		s.skipped = true
		return nil
	}
	p := s.pending
	p.left, p.parts, p.space = p.left-1, nil, nil // the gap has been reported already
	if p.left <= 0 {
		s.pending = nil
	}
	return nil
}

// complete emits the pending event once all of it has arrived.
func (s *socketio) complete(got *Received) error {
	p := s.pending
	if p.left > 0 {
		return nil
	}
	s.pending = nil
	if p.space == nil || p.packet.kind != sioBinaryEvent {
		return nil
	}
	if !p.over {
		return s.event(p.packet, p.space, p.parts, got)
	}
	got.Messages = append(got.Messages, translate.Message{Gap: translate.GapUpstream})
	if p.packet.id != "" { // so that it is not sent again and again
		got.Replies = append(got.Replies, Frame{Data: []byte("43" + sioPrefix(p.packet.space) + p.packet.id + "[]")})
	}
	return nil
}
