package translate

import (
	"bytes"
	"encoding/json"
	"strings"
	"time"
)

// jsonRecords reads JSON values one after the other, with or without white space between them and inside. What turns out to be no
// JSON is a record up to the end of its line, as it would be among lines. The zero mode is between values.
type jsonRecords struct {
	max    int
	mode   byte // 0 between values, or one of the constants below
	depth  int  // of brackets and braces
	quoted bool // in a string
	slash  bool // after its backslash
	over   bool // the value is too large
	buf    []byte
}

const (
	inNested = '{' // an object or a list
	inString = '"'
	inScalar = '1' // a number, true, false or null
	inLine   = '\n'
)

func newJSONRecords(max int) Records { return &jsonRecords{max: max} }

func (r *jsonRecords) LastID() string       { return "" }
func (r *jsonRecords) Retry() time.Duration { return 0 }

// jsonSpace is what may stand between values: white space, and the separator of JSON text sequences (RFC 7464).
const jsonSpace = " \t\r\n\x1e"

// jsonBare is what may stand in an object or list outside of strings, but for brackets and braces.
const jsonBare = " \t\r\n:,0123456789+-.eEtrufalsn"

func (r *jsonRecords) Next(p []byte) (out []Message) {
	for i := 0; i < len(p); {
		if r.mode == 0 && strings.IndexByte(jsonSpace, p[i]) >= 0 {
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

// step looks at the next byte: whether it belongs to the value, and whether the value ends with it.
func (r *jsonRecords) step(c byte) (took, ended bool) {
	switch r.mode {
	case 0:
		r.begin(c)
		return true, false
	case inLine:
		return true, c == '\n'
	case inScalar:
		if c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.IndexByte("+-.", c) >= 0 {
			return true, false
		}
		if strings.IndexByte(jsonSpace+`{["`, c) >= 0 && (r.over || json.Valid(r.buf)) {
			return false, true
		}
	case inString, inNested:
		if r.inside(c) {
			return true, r.mode == inString && !r.quoted || r.mode == inNested && r.depth == 0
		}
	}
	r.mode = inLine
	return true, c == '\n'
}

func (r *jsonRecords) begin(c byte) {
	r.depth, r.quoted, r.slash = 0, false, false
	switch {
	case c == '{' || c == '[':
		r.mode, r.depth = inNested, 1
	case c == '"':
		r.mode, r.quoted = inString, true
	case c == '-' || c >= '0' && c <= '9' || c == 't' || c == 'f' || c == 'n':
		r.mode = inScalar
	default:
		r.mode = inLine
	}
}

// inside takes a byte of a string, an object or a list; false when it is none of JSON's.
func (r *jsonRecords) inside(c byte) bool {
	switch {
	case r.slash:
		r.slash = false
	case r.quoted:
		r.slash, r.quoted = c == '\\', c != '"'
	case c == '"':
		r.quoted = true
	case c == '{' || c == '[':
		r.depth++
	case c == '}' || c == ']':
		r.depth--
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
	r.mode, r.over, r.buf = 0, false, r.buf[:0]
	if cap(r.buf) > 64<<10 {
		r.buf = nil
	}
	return out
}

// End emits a scalar or a line, which nothing else ends. Of an object that is cut short there is no use.
func (r *jsonRecords) End() []Message {
	if r.mode == inScalar || r.mode == inLine {
		return r.emit(nil)
	}
	return nil
}
