package translate

import (
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
}

// Literal returns s as a Text without placeholders.
func Literal(s string) Text { return Text{}.Append(s) }

// Append returns t followed by the literal s.
func (t Text) Append(s string) Text {
	if s == "" {
		return t
	}
	if n := len(t.parts); n > 0 && t.parts[n-1].stream == "" && t.parts[n-1].live == nil {
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
func (t Text) Fill(value func(name string) string) (string, error) {
	if len(t.parts) == 1 && t.parts[0].stream == "" && t.parts[0].live == nil {
		return t.parts[0].literal, nil
	}
	var b strings.Builder
	for _, p := range t.parts {
		if p.live != nil {
			b.WriteString(p.live())
			continue
		}
		b.WriteString(p.literal)
		if p.stream == "" {
			continue
		}
		v := value(p.stream)
		if v == "" {
			v = p.fallback
		}
		s, err := p.escape(v)
		if err != nil {
			return "", err
		}
		b.WriteString(s)
	}
	return b.String(), nil
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
