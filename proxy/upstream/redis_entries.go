// This file is how the entries that XREAD answers become messages: see redis_streams.go.

package upstream

import (
	"bytes"
	"context"
	"encoding/base64"
	"time"
	"unicode/utf8"

	"sidestream/proxy/redisconn"
	"sidestream/translate"
	"sidestream/translate/dialect"
)

// batch is what was read of one stream and is not emitted yet.
type batch struct {
	key      string
	place    streamPlace // after it
	messages []translate.Message
	size     int
}

func (b *batch) add(m translate.Message) {
	b.messages, b.size = append(b.messages, m), b.size+len(m.Data)
}

// readStream reads what XREAD has answered for one stream.
func (c *redisStreamsConn) readStream(ctx context.Context, emit func([]translate.Message) error) error {
	if err := c.parts(2); err != nil {
		return err
	}
	key, _, err := c.conn.Text(maxNamedSize)
	if err != nil {
		return err
	}
	at, known := c.places[string(key)]
	if !known {
		return redisconn.ErrProtocol
	}
	entries, err := c.conn.List()
	if err != nil {
		return err
	}
	b := batch{key: string(key), place: at}
	for range entries {
		if err := c.readEntry(&b); err != nil {
			return err
		}
		if len(b.messages) >= batchSize || b.size >= batchBytes {
			if err := c.emit(ctx, &b, emit); err != nil {
				return err
			}
		}
	}
	return c.emit(ctx, &b, emit)
}

// parts begins an array that must have so many elements.
func (c *redisStreamsConn) parts(want int64) error {
	got, err := c.conn.List()
	if err == nil && got != want {
		return redisconn.ErrProtocol
	}
	return err
}

// readEntry adds one entry, and a gap after it where that tells of one.
func (c *redisStreamsConn) readEntry(b *batch) error {
	if err := c.parts(2); err != nil {
		return err
	}
	text, _, err := c.conn.Text(maxEntryID)
	if err != nil {
		return err
	}
	id, err := parseEntryID(string(text))
	if err != nil || !b.place.id.before(id) {
		return redisconn.ErrProtocol
	}
	data, cut, err := c.fields()
	if err != nil {
		return err
	}
	var lost bool
	b.place, lost = c.passed(b.key, b.place, id)
	if cut {
		b.add(c.oversize())
	} else if m, kept := c.arrived(b.key, data); kept {
		m.ID = id.String()
		if len(c.at.streams) > 1 { // which may have entries of the same id
			m.ID = b.key + ":" + m.ID
		}
		b.add(m)
	}
	if lost {
		b.add(translate.Message{Gap: translate.GapUpstream})
	}
	return nil
}

// fields reads an entry's into a JSON object. cut: that would be larger than MAX_MESSAGE, and was read past.
func (c *redisStreamsConn) fields() (object []byte, cut bool, err error) {
	most := c.q.Route.settings.MaxMessage
	parts, err := c.conn.List()
	if err != nil {
		return nil, false, err
	}
	object = append(object, '{')
	for i := range parts {
		text, long, err := c.conn.Text(most - len(object))
		if err != nil {
			return nil, false, err
		}
		switch {
		case cut:
			continue
		case i == 0:
		case i%2 == 0:
			object = append(object, ',')
		default:
			object = append(object, ':')
		}
		object = c.appendText(object, text)
		if cut = long || len(object) >= most; cut {
			object, most = nil, -1
		}
	}
	return append(object, '}'), cut, nil
}

// appendText appends a field's name or value. What is not UTF-8 goes by BINARY; what that drops is null.
func (c *redisStreamsConn) appendText(object, text []byte) []byte {
	binary := !utf8.Valid(text)
	switch how := c.q.Route.settings.Binary; {
	case binary && how == dialect.BinaryDrop:
		return append(object, "null"...)
	case binary && how == dialect.BinaryText:
		text = bytes.ToValidUTF8(text, []byte("\ufffd"))
	case binary:
		text = base64.StdEncoding.AppendEncode(nil, text)
	}
	return translate.AppendJSONString(object, string(text), false)
}

// emit emits a batch, and goes on after it.
func (c *redisStreamsConn) emit(ctx context.Context, b *batch, emit func([]translate.Message) error) error {
	out, done, err := c.q.Route.apply(ctx, c.log, b.messages)
	if err != nil {
		return err
	}
	c.places[b.key] = b.place
	b.messages, b.size = nil, 0
	if len(out) > 0 {
		c.saved = time.Now()
		err = emit(out)
	} else {
		err = c.keepPlace(emit, saveTime)
	}
	if err == nil && done {
		err = translate.ErrFinished
	}
	return err
}
