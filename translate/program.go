package translate

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"sidestream/translate/jq"
)

// Program is what a route makes of its messages. The zero value passes them through unparsed.
type Program struct {
	Select *Code // items out of a message; nil: the message
	Event  *Code // name of an item; nil: the dialect's
	Data   *Code // data of an item; nil: the item
	ID     *Code // id of an item; nil: the dialect's
	Done   *Code // true ends the stream after the item; nil: never
	Key    *Code // key of an item; nil: none

	// Strict makes data that is not JSON, or not UTF-8, an error: polls. Otherwise programs see it as a string.
	Strict bool
}

// Brief is a context with which Apply fails with an error that wraps [ErrLong] where it would take more than some tens of microseconds since it was renewed.
type Brief = jq.Brief

// BriefOf is the Brief that ctx is, or is made of; nil: none, whose time is always there.
func BriefOf(ctx context.Context) *Brief { return jq.BriefOf(ctx) }

// Briefly returns one that ends with ctx, and is to be renewed first.
func Briefly(ctx context.Context) *Brief { return jq.Briefly(ctx) }

// ErrLong is wrapped by Apply's error where that is to take no time, and would: see [Brief].
var ErrLong = jq.ErrLong

// Brief reports whether most messages take no time to speak of: its programs are plain ones, and name no secret, which may have to be read.
func (p *Program) Brief() bool {
	for _, c := range []*Code{p.Select, p.Event, p.Data, p.ID, p.Done, p.Key} {
		if c != nil && (!c.program.Brief() || c.secrets != nil) {
			return false
		}
	}
	return true
}

// Apply runs the route's jq programs over m: `.` is the data, $event, $id, $topic, $headers, $status and $state what is
// known besides it. done reports that the stream ends after out. A *[ProgramError] means that a program failed or was cut by ctx; an
// error wrapping [ErrPayload], that the program is strict and the data is not JSON. In both cases nothing of m is to be
// emitted.
func (p *Program) Apply(ctx context.Context, m Message) (out []Message, done bool, err error) {
	if m.Gap != "" || m.Notice != "" || m.Last || p.Plain() && !p.Strict {
		return []Message{m}, false, nil
	}
	if p.Plain() {
		if !m.checked && m.parsed == nil {
			if m, err = m.Check(); err != nil {
				return nil, false, err
			}
		}
		return []Message{{Event: m.Event, ID: m.ID, Topic: m.Topic, Data: bytes.TrimSpace(m.Data)}}, false, nil
	}
	if !jq.BriefOf(ctx).Bytes(len(m.Data)) {
		return nil, false, jq.ErrLong
	}
	in, err := p.input(m)
	if err != nil {
		return nil, false, fmt.Errorf("%w %w", ErrPayload, err)
	}
	if p.Strict {
		m.Data = bytes.TrimSpace(m.Data) // around a JSON document white space means nothing, and would become lines of data
	}
	if p.Select != nil && !p.Select.program.AtMostOne() {
		out, done, err = p.applyEach(ctx, m, in)
	} else {
		out, done, err = p.applyOnce(ctx, m, in)
	}
	if err == nil {
		in.released()
	}
	return out, done, err
}

// input is m as p's programs see it, as far as they look.
func (p *Program) input(m Message) (input, error) {
	if m.parsed == nil {
		if names, ok := p.wants(); ok {
			if in, err := partOf(m, &names); err == nil {
				return in, nil
			}
		}
	}
	return m.input(p.Strict)
}

// applyOnce makes a message of SELECT's output, if there is one.
func (p *Program) applyOnce(ctx context.Context, m Message, in input) (out []Message, done bool, err error) {
	item := in.value
	if p.Select != nil {
		var ok bool
		if item, ok, err = p.Select.first(ctx, in.value, in.known); err != nil || !ok {
			return nil, false, err
		}
	}
	out, done, err = p.appendItem(ctx, nil, m, in, item, p.origin(m, in))
	if err != nil && p.Select != nil {
		return nil, false, p.Select.named(err)
	}
	return out, done, err
}

// origin is what items of m may be a part of, as they are written there; nil: they are not.
func (p *Program) origin(m Message, in input) *origin {
	if !in.document || p.Data != nil || p.Select != nil && p.Select.fresh {
		return nil
	}
	return &origin{data: m.Data, value: in.value}
}

// applyEach makes a message of each of SELECT's outputs.
func (p *Program) applyEach(ctx context.Context, m Message, in input) (out []Message, done bool, err error) {
	from := p.origin(m, in)
	shared := jq.Share(ctx)
	defer shared.Release()
	size := 0
	err = p.Select.each(shared, in.value, in.known, func(item any) error {
		if len(out) >= maxItems || size > maxOutput {
			return errTooMuch
		}
		before := len(out)
		var last bool
		out, last, err = p.appendItem(shared, out, m, in, item, from)
		done = done || last
		if len(out) > before {
			size += len(out[before].Data)
		}
		if err == nil && done {
			return errStop // nothing comes after the end
		}
		return err
	})
	if err != nil {
		return nil, false, unnest(err)
	}
	return out, done, nil
}

// unnest drops SELECT's name from an error of a program run on its items.
func unnest(err error) error {
	var outer, inner *ProgramError
	if errors.As(err, &outer) && errors.As(outer.Err, &inner) {
		return inner
	}
	return err
}

// Plain reports whether no program is set: the bytes pass through unparsed.
func (p *Program) Plain() bool {
	return p.Select == nil && p.Event == nil && p.Data == nil && p.ID == nil && p.Done == nil && p.Key == nil
}

// appendItem makes one message of item, or none when DATA yields nothing. from is what item may be a part of, nil when it is
// made by SELECT.
func (p *Program) appendItem(ctx context.Context, out []Message, m Message, in input, item any, from *origin) ([]Message, bool, error) {
	made := Message{Event: m.Event, ID: m.ID, Topic: m.Topic, Data: m.Data}
	var err error
	if p.Event != nil {
		if made.Event, err = p.Event.text(ctx, item, in.known); err != nil {
			return out, false, err
		}
	}
	if p.ID != nil {
		if made.ID, err = p.ID.text(ctx, item, in.known); err != nil {
			return out, false, err
		}
	}
	done := false
	if p.Done != nil {
		if done, err = p.Done.truth(ctx, item, in.known); err != nil {
			return out, false, err
		}
	}
	if p.Key != nil {
		if made.Key, err = p.Key.text(ctx, item, in.known); err != nil {
			return out, false, err
		}
		if len(made.Key) > maxKey {
			return out, false, &ProgramError{p.Key.setting, fmt.Errorf("yields more than %d bytes", maxKey)}
		}
	}
	// DONE and KEY alone read the value but change nothing: the bytes stay as they came.
	if p.Data == nil && p.Select == nil && p.Event == nil && p.ID == nil {
		return append(out, made), done, nil
	}
	if p.Data == nil && from != nil {
		if raw := from.bytes(item); raw != nil {
			made.Data = raw
			if made.whole = in.partial && from.whole(item); !made.whole {
				made.item = item
			}
			return append(out, made), done, nil
		}
	}
	ok := true
	if p.Data != nil {
		made.Data, ok, err = p.Data.firstWritten(ctx, item, in.known)
	} else {
		made.Data, err = writtenIn(ctx, item)
	}
	if err != nil || !ok {
		return out, done, err
	}
	return append(out, made), done, nil
}

// writtenIn is [Written] where ctx has the time for it.
func writtenIn(ctx context.Context, v any) ([]byte, error) {
	if !jq.BriefOf(ctx).Writes(v) {
		return nil, jq.ErrLong
	}
	return Written(v)
}
