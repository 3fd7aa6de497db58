// This file is the JSON that is written here: in events, and in frames to the upstream. encoding/json reads; what it writes
// differs between releases of Go (1.27 writes the replacement character as itself, 1.26 as \ufffd), and an event's bytes, its
// identity and what MODE=changes compares must not change with the toolchain.
//
//   - In strings, `"` and `\` are escaped, and control characters, in their short form where they have one. U+2028 and
//     U+2029 are, since JSON may end up in JavaScript. What is not UTF-8 is \ufffd. Everything else stands for itself.
//   - Fields are in the order of their struct, names of maps sorted. What is raw is valid JSON and loses its white space.

package translate

import (
	"fmt"
	"unicode/utf8"
)

// AppendJSONString appends text as a JSON string. html also escapes <, > and &, so that the string may stand in a page.
func AppendJSONString(dst []byte, text string, html bool) []byte {
	dst = append(dst, '"')
	from := 0
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRuneInString(text[i:])
		if escape := jsonEscape(r, size, html); escape != "" {
			dst = append(append(dst, text[from:i]...), escape...)
			from = i + size
		}
		i += size
	}
	return append(append(dst, text[from:]...), '"')
}

// jsonEscape is what stands for r in a JSON string, "" for itself.
func jsonEscape(r rune, size int, html bool) string {
	switch r {
	case '"':
		return `\"`
	case '\\':
		return `\\`
	case '\b':
		return `\b`
	case '\f':
		return `\f`
	case '\n':
		return `\n`
	case '\r':
		return `\r`
	case '\t':
		return `\t`
	}
	if r < ' ' || r == '\u2028' || r == '\u2029' || r == utf8.RuneError && size == 1 || html && (r == '<' || r == '>' || r == '&') {
		return fmt.Sprintf(`\u%04x`, r)
	}
	return ""
}
