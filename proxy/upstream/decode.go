// This file is DECODE: what it is for, and what becomes of messages that it fails for. What packs them is package decode's.

package upstream

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"sidestream/translate/decode"
	"sidestream/translate/dialect"
)

// decode compiles DECODE.
func (c *compiler) decode() {
	s, rt := c.s, c.rt
	var err error
	if rt.decode, err = decode.Parse(s.Decode); err != nil {
		c.bad("DECODE", "%v", err)
		return
	}
	switch {
	case len(rt.decode) == 0:
	case rt.RedisStreams():
		c.bad("DECODE", "is for whole messages, and an entry of a Redis stream has fields; unset it")
	case rt.Follows():
		c.bad("DECODE", "is for whole messages, and MODE=stream reads one answer that never ends; unset it (an answer's Content-Encoding is undone without it), or poll with another MODE")
	case !rt.Polls() && rt.dialect.New != nil && !rt.dialect.Decodes:
		c.bad("DECODE", "is for the messages of raw, mqtt, stomp and phoenix, and for polls; what %s carries is not packed, unset it", s.Protocol)
	case !rt.Polls() && s.Binary == dialect.BinaryDrop:
		c.bad("DECODE", "decodes binary messages, and BINARY=drop drops them; unset BINARY")
	}
}

// accepts is the Accept of a poll, unless HEADERS have one.
func accepts(steps decode.Steps) string {
	switch {
	case len(steps) == 0:
		return "application/json"
	case steps[len(steps)-1] == decode.Msgpack:
		return "application/msgpack, application/x-msgpack, application/vnd.msgpack, */*;q=0.5"
	case steps[len(steps)-1] == decode.CBOR:
		return "application/cbor, */*;q=0.5"
	}
	return "*/*"
}

// decoding counts and says what DECODE has failed for.
func (rt *Route) decoding(log *slog.Logger, all []dialect.Decoded) {
	for _, one := range all {
		switch {
		case errors.Is(one.Err, decode.ErrTooLarge):
			rt.Stats.Oversize.Add(1)
			log.Warn("message larger than MAX_MESSAGE skipped", "limit", rt.settings.MaxMessage, "received", one.Size)
		case one.Err != nil:
			rt.Stats.Undecoded.Add(1)
			if more, ok := rt.undecoded.Allow(); ok {
				log.Warn("message does not decode, dropped", "err", one.Err, "size", one.Size, "suppressed", more)
			}
		}
	}
}

// unpack is the body of an answer without what DECODE undoes; an empty one is none. The error is that of a poll that failed.
func (rt *Route) unpack(log *slog.Logger, resp *http.Response, body []byte) ([]byte, error) {
	if len(rt.decode) == 0 || len(body) == 0 {
		return body, nil
	}
	data, err := rt.decode.Decode(body, rt.settings.MaxMessage)
	one := dialect.Decoded{Size: len(body), Data: data, Err: err}
	rt.trace.decoded(one)
	if err == nil {
		return bytes.TrimPrefix(data, byteOrderMark), nil
	}
	if page := login(resp, true, false); page != nil {
		return nil, page
	}
	rt.decoding(log, []dialect.Decoded{one})
	return nil, fmt.Errorf("the answer does not decode: %w", err)
}
