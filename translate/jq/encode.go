package jq

import (
	"encoding/json"
	"slices"
	"strconv"

	"github.com/itchyny/gojq"
)

// maxText is how long the JSON of one value may be.
const maxText = 64 << 20

// Marshal returns v as compact JSON, as gojq writes it. It fails for what is too large or too deep: a program can make a value of a few parts that
// would be written down for ever.
func Marshal(v any) ([]byte, error) {
	s := size{most: maxText}
	if !s.add(v, 0) {
		return nil, s.err()
	}
	return appendJSON(make([]byte, 0, min(s.bytes, 4<<10)), v), nil
}

// appendJSON appends v, which is what gojq yields, as it writes it: FuzzMarshal holds the two side by side. gojq's own begins each time with nothing, and grows.
func appendJSON(dst []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(dst, "null"...)
	case bool:
		return strconv.AppendBool(dst, v)
	case int:
		return strconv.AppendInt(dst, int64(v), 10)
	case json.Number:
		return append(dst, v...)
	case string:
		return appendText(dst, v)
	case []any:
		dst = append(dst, '[')
		for i, v := range v {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendJSON(dst, v)
		}
		return append(dst, ']')
	case map[string]any:
		return appendObject(dst, v)
	}
	text, _ := gojq.Marshal(v) // other numbers; it never fails
	return append(dst, text...)
}

// appendObject appends an object, its names in order.
func appendObject(dst []byte, v map[string]any) []byte {
	var few [16]string
	names := few[:0]
	for name := range v {
		names = append(names, name)
	}
	slices.Sort(names)
	dst = append(dst, '{')
	for i, name := range names {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendText(dst, name), ':')
		dst = appendJSON(dst, v[name])
	}
	return append(dst, '}')
}

// appendText appends a string. Where it has what is to be escaped that is left to gojq.
func appendText(dst []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			text, _ := gojq.Marshal(s)
			return append(dst, text...)
		}
	}
	return append(append(append(dst, '"'), s...), '"')
}
