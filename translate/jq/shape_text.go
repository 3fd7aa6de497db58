package jq

import (
	"context"
	"errors"
	"slices"
	"strings"
)

// This file is how an object that a program makes is written at once, without there being one: most programs that make one are run for its text alone.

// text is what [Marshal] makes of the output of a part that makes an object.
type text func(v any, in *pass) ([]byte, error)

// written is the text of an object. Of a name that is there twice the last member counts; all are run, in their order.
func written(members []entry) text {
	type place struct {
		head   []byte // its name and what is before it
		member int
	}
	var places []place
	for i, m := range members {
		places = slices.DeleteFunc(places, func(p place) bool { return members[p.member].name == m.name })
		places = append(places, place{nil, i})
	}
	slices.SortFunc(places, func(a, b place) int { return strings.Compare(members[a.member].name, members[b.member].name) })
	heads := len("}")
	for i := range places {
		head := []byte{','}
		if i == 0 {
			head[0] = '{'
		}
		places[i].head = append(appendText(head, members[places[i].member].name), ':')
		heads += len(places[i].head)
	}
	return func(v any, in *pass) ([]byte, error) {
		var few [8]any
		values := few[:0]
		for i := range members {
			value, err := members[i].value.one(v, in)
			if err != nil {
				return nil, err
			}
			values = append(values, value)
		}
		s := in.room()
		for _, p := range places {
			if !s.add(values[p.member], 1) {
				return nil, in.full(&s)
			}
		}
		if !in.brief.take(s.bytes / 16) {
			return nil, ErrLong
		}
		dst := make([]byte, 0, min(heads+s.bytes, 4<<10))
		for _, p := range places {
			dst = appendJSON(append(dst, p.head...), values[p.member])
		}
		if len(places) == 0 {
			dst = append(dst, '{')
		}
		return append(dst, '}'), nil
	}
}

// room is what may be written.
func (in *pass) room() size {
	if in.brief == nil {
		return size{most: maxText}
	}
	return size{most: min(maxText, 16*max(in.brief.left, 0))}
}

// full is why s has no more room.
func (in *pass) full(s *size) error {
	if in.brief != nil {
		return ErrLong
	}
	return s.err()
}

// ErrUnwritten is [Program.Text]'s where [Program.First] is to be asked.
var ErrUnwritten = errors.New("is not written without being made")

// Text returns what [Marshal] makes of the first output of p over value, and ok where there is one, where p is a plain program that makes an object, and value no more than what
// such programs take.
func (p *Program) Text(ctx context.Context, value any, variables []any) (text []byte, ok bool, err error) {
	if p.shape.text == nil {
		return nil, false, ErrUnwritten
	}
	brief, err := begin(ctx)
	if err != nil {
		return nil, false, err
	}
	in := passOf(ctx, brief, variables, nil)
	defer in.over()
	defer in.end(&err)
	if text, err = p.shape.text(value, in); err == nil {
		err = in.step()
	}
	switch {
	case err == errNone:
		return nil, false, nil
	case err == errShape && brief != nil:
		err = ErrLong
	case err == errShape:
		err = ErrUnwritten
	}
	return text, err == nil, err
}
