package translate

import (
	"slices"
	"strconv"
	"strings"
)

// Text is a template of which only the placeholders of the stream itself are left to fill in. The zero value is "".
type Text struct {
	parts []textPart
}

type textPart struct {
	literal  string
	live     func() string // what the literal is now, which literal stands for in comparisons; nil: literal itself
	stream   string        // name, or "" for a literal
	fallback string        // inserted where there is no value
	escape   func(string) (string, error)
	compute  func(value func(name string) string) (string, error) // what stands in literal's place, which tells it from others; nil: literal
}

// Literal returns s as a Text without placeholders.
func Literal(s string) Text { return Text{}.Append(s) }

// Append returns t followed by the literal s.
func (t Text) Append(s string) Text {
	if s == "" {
		return t
	}
	if n := len(t.parts); n > 0 && t.parts[n-1].plain() {
		parts := append([]textPart(nil), t.parts...)
		parts[n-1].literal += s
		return Text{parts}
	}
	return Text{append(t.parts[:len(t.parts):len(t.parts)], textPart{literal: s})}
}

// AppendLive returns t followed by a literal that may change: it is what live returns when the text is filled in. place tells it from
// others where texts are compared.
func (t Text) AppendLive(place string, live func() string) Text {
	return Text{append(t.parts[:len(t.parts):len(t.parts)], textPart{literal: place, live: live})}
}

// AppendStream returns t followed by the placeholder {stream.name}, whose value, or fallback where it is empty, escape
// makes fit for its place.
func (t Text) AppendStream(name, fallback string, escape func(string) (string, error)) Text {
	return Text{append(t.parts[:len(t.parts):len(t.parts)], textPart{stream: name, fallback: fallback, escape: escape})}
}

// AppendComputed returns t followed by what compute returns when the text is filled in, from what is known of the stream then. identity tells
// it from others where texts are compared: it has to hold all that compute knows beside that.
func (t Text) AppendComputed(identity string, compute func(value func(name string) string) (string, error)) Text {
	return Text{append(t.parts[:len(t.parts):len(t.parts)], textPart{literal: identity, compute: compute})}
}

// plain reports whether a part is a literal that never changes.
func (p textPart) plain() bool { return p.stream == "" && p.live == nil && p.compute == nil }

// Fixed reports whether nothing in t is filled in, but for literals that are read again.
func (t Text) Fixed() bool {
	return !slices.ContainsFunc(t.parts, func(p textPart) bool { return p.stream != "" || p.compute != nil })
}

// StateName is the name by which a part that is computed asks for the whole state, as a JSON object, and AnswerName that for the answer of
// the request before it, as JSON.
const (
	StateName  = "state"
	AnswerName = "answer"
)

// StatePrefix is what the names of placeholders begin with that insert the state: {state.NAME} is "state.NAME" here.
const StatePrefix = "state."

// Empty reports whether nothing is in t.
func (t Text) Empty() bool { return len(t.parts) == 0 }

// Identity appends what distinguishes t from any other Text: placeholders of the stream by name, not by value.
func (t Text) Identity(dst []byte) []byte {
	dst = append(strconv.AppendInt(dst, int64(len(t.parts)), 10), ';')
	for _, p := range t.parts {
		kind := byte('l')
		switch {
		case p.stream != "":
			kind = 's'
		case p.live != nil:
			kind = 'f'
		case p.compute != nil:
			kind = 'c'
		}
		dst = append(dst, kind)
		dst = append(strconv.AppendInt(dst, int64(len(p.literal)+len(p.stream)), 10), ':')
		dst = append(append(dst, p.literal...), p.stream...)
		if p.fallback != "" {
			dst = strconv.AppendInt(append(dst, 'd'), int64(len(p.fallback)), 10)
			dst = append(append(dst, ':'), p.fallback...)
		}
	}
	return dst
}

// Fill returns t with its placeholders replaced by what value returns for their names.
func (t Text) Fill(value func(name string) string) (string, error) { return t.fill(value, nil) }

// Sketch is Fill with standIn in place of every placeholder and of what is computed, none of which is asked for.
func (t Text) Sketch(standIn string) (string, error) {
	return t.fill(func(string) string { return standIn }, &standIn)
}

func (t Text) fill(value func(name string) string, computed *string) (string, error) {
	if len(t.parts) == 1 && t.parts[0].plain() {
		return t.parts[0].literal, nil
	}
	var b strings.Builder
	for _, p := range t.parts {
		s, err := p.fill(value, computed)
		if err != nil {
			return "", err
		}
		b.WriteString(s)
	}
	return b.String(), nil
}

func (p textPart) fill(value func(name string) string, computed *string) (string, error) {
	switch {
	case p.live != nil:
		return p.live(), nil
	case p.compute != nil && computed != nil:
		return *computed, nil
	case p.compute != nil:
		return p.compute(value)
	case p.stream == "":
		return p.literal, nil
	}
	v := value(p.stream)
	if v == "" {
		v = p.fallback
	}
	return p.escape(v)
}

// Counter fills {stream.n}: 1 at its first use, growing by one with each. The zero value is ready.
type Counter struct{ n int }

// Value returns the next number for "n", and "" for any other name.
func (c *Counter) Value(name string) string {
	if name != "n" {
		return ""
	}
	c.n++
	return strconv.Itoa(c.n)
}
