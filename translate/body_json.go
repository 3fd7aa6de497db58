package translate

import (
	"bytes"
	"encoding/json"
	"strings"
	"time"
)

// jsonRecords reads JSON values one after the other, with or without white space between them and inside. What turns out not to be
// JSON is a record up to the end of its line, as it would be among lines. The zero mode is between values.
//
// A list that begins with an object may never end, so the values in it are the records, each once it is complete. Any other
// list is one value: feeds have messages such as [7,"hb"].
type jsonRecords struct {
	max    int
	list   bool   // in a list that begins with an object
	lead   []byte // of that list, until its first value is known to be JSON
	mode   byte   // 0 between values, or one of the constants below
	open   []byte // brackets and braces that are not closed yet
	quoted bool   // in a string
	slash  bool   // after its backslash
	over   bool   // the value is too large
	buf    []byte
}

const (
	inOpened = '[' // a list, of which nothing has come but white space
	inNested = '{' // an object or a list
	inString = '"'
	inScalar = '1' // a number, true, false or null
	inLine   = '\n'
)

func newJSONRecords(max int) Records { return &jsonRecords{max: max} }

func (r *jsonRecords) Retry() time.Duration { return 0 }

// jsonSpace is what may stand between values: white space, and the separator of JSON text sequences (RFC 7464).
const jsonSpace = " \t\r\n\x1e"

// jsonBare is what may stand in an object or list outside of strings, but for brackets and braces.
const jsonBare = " \t\r\n:,0123456789+-.eEtrufalsn"

func (r *jsonRecords) Next(p []byte) (out []Message) {
	for i := 0; i < len(p); {
		if r.mode == 0 && r.between(p[i]) {
			i++
			continue
		}
		took, ended := r.step(p[i])
		if took {
			if !ended || r.mode != inLine { // but for its line end
				r.keep(p[i])
			}
			i++
		}
		if ended {
			out = r.emit(out)
		}
	}
	return out
}

// between reports whether c stands between values.
func (r *jsonRecords) between(c byte) bool {
	if r.list && (c == ',' || c == ']') {
		r.list = c == ','
		return true
	}
	return strings.IndexByte(jsonSpace, c) >= 0
}

// maxOpen bounds how deep a value is nested.
const maxOpen = 10_000

// opened looks at what follows the bracket of a list; false when the list is a value like any other.
func (r *jsonRecords) opened(c byte) bool {
	if strings.IndexByte(jsonSpace, c) >= 0 {
		return true
	}
	if r.mode, r.open = inNested, append(r.open[:0], '['); c != '{' {
		return false
	}
	r.open[0] = c
	r.list, r.lead, r.over = true, bytes.Clone(r.buf), false
	r.buf = r.buf[:0]
	return true
}

// step looks at the next byte: whether it belongs to the value, and whether the value ends with it.
func (r *jsonRecords) step(c byte) (took, ended bool) {
	switch r.mode {
	case 0:
		r.begin(c)
		return true, false
	case inLine:
		return true, c == '\n'
	case inOpened:
		if r.opened(c) {
			return true, false
		}
		return r.step(c)
	case inScalar:
		if c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.IndexByte("+-.", c) >= 0 {
			return true, false
		}
		if (strings.IndexByte(jsonSpace+`{["`, c) >= 0 || r.list && (c == ',' || c == ']')) && (r.over || json.Valid(r.buf)) {
			return false, true
		}
	case inString, inNested:
		if r.inside(c) {
			return true, r.mode == inString && !r.quoted || r.mode == inNested && len(r.open) == 0
		}
	}
	if r.lead != nil { // it was no list after all
		r.list, r.buf, r.lead = false, append(r.lead, r.buf...), nil
		if len(r.buf) > r.max+1 {
			r.buf, r.over = r.buf[:r.max+1], true
		}
	}
	r.mode = inLine
	return true, c == '\n'
}

func (r *jsonRecords) begin(c byte) {
	r.open, r.quoted, r.slash = r.open[:0], false, false
	switch {
	case c == '[' && !r.list:
		r.mode = inOpened
	case c == '{' || c == '[':
		r.mode, r.open = inNested, append(r.open, c)
	case c == '"':
		r.mode, r.quoted = inString, true
	case c == '-' || c >= '0' && c <= '9' || c == 't' || c == 'f' || c == 'n':
		r.mode = inScalar
	default:
		r.mode = inLine
	}
}

// inside takes a byte of a string, an object or a list; false when JSON does not allow it.
func (r *jsonRecords) inside(c byte) bool {
	switch {
	case r.slash:
		r.slash = false
	case r.quoted:
		r.slash, r.quoted = c == '\\', c != '"'
	case c == '"':
		r.quoted = true
	case c == '{' || c == '[':
		r.open = append(r.open, c)
		return len(r.open) <= maxOpen
	case c == '}' || c == ']': // of what was opened last; anything else would leave what follows within this value
		last := len(r.open) - 1
		if r.open[last] != c-2 {
			return false
		}
		r.open = r.open[:last]
	default:
		return strings.IndexByte(jsonBare, c) >= 0
	}
	return c >= ' '
}

func (r *jsonRecords) keep(c byte) {
	if r.over = r.over || len(r.buf) >= r.max+1; !r.over {
		r.buf = append(r.buf, c)
	}
}

// emit ends a value.
func (r *jsonRecords) emit(out []Message) []Message {
	data := bytes.TrimSpace(r.buf)
	switch {
	case r.over || len(data) > r.max:
		out = append(out, Message{Gap: GapUpstream})
	case len(data) > 0:
		out = append(out, Message{Data: bytes.Clone(data)})
	}
	r.mode, r.over, r.lead, r.buf = 0, false, nil, r.buf[:0]
	if cap(r.buf) > 64<<10 {
		r.buf = nil
	}
	return out
}

// End emits a scalar or a line, which nothing else ends. An object that is cut short is of no use.
func (r *jsonRecords) End() []Message {
	if r.mode == inScalar || r.mode == inLine {
		return r.emit(nil)
	}
	return nil
}
