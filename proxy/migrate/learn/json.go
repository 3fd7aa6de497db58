package learn

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	maxLeaves = 512
	maxDepth  = 24
)

// leaf is a scalar in a JSON text.
type leaf struct {
	path     string // as jq writes it: .a.b[0]; . for the whole
	key      string // the last name in it
	depth    int
	from, to int    // its place in the text
	text     string // a string's value, or what is written
	quoted   bool   // it is a string
}

var plainKey = lazily(`^[A-Za-z_][A-Za-z0-9_]*$`)

// jqKeywords cannot follow a dot in older versions of jq.
var jqKeywords = []string{"and", "or", "not", "if", "then", "else", "elif", "end", "def", "as", "reduce", "foreach", "try", "catch", "label", "import", "include", "__loc__"}

// field is jq that takes the field key.
func field(key string) string {
	if plainKey.MatchString(key) && !slices.Contains(jqKeywords, key) {
		return "." + key
	}
	return ".[" + quote(key) + "]"
}

// quote writes s as jq and JSON have strings, on one line and without the quote that ends a value of an env file.
func quote(s string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s)
	return strings.ReplaceAll(strings.TrimSuffix(b.String(), "\n"), "'", `\u0027`)
}

// walker reads the scalars of one JSON text.
type walker struct {
	data   []byte
	d      *json.Decoder
	leaves []leaf
	at     int
	ok     bool
}

// leavesOf are the scalars of data, in order; false when it is not one JSON value, or too large a one.
func leavesOf(data []byte) ([]leaf, bool) {
	if !utf8.Valid(data) || len(bytes.TrimSpace(data)) == 0 {
		return nil, false
	}
	w := walker{data: data, d: json.NewDecoder(bytes.NewReader(data)), ok: true}
	w.d.UseNumber()
	w.value("", "", 0)
	if _, err := w.d.Token(); w.ok && err == nil || err != nil && err.Error() != "EOF" {
		w.ok = false
	}
	return w.leaves, w.ok
}

func (w *walker) token() json.Token {
	before := int(w.d.InputOffset())
	t, err := w.d.Token()
	if err != nil || len(w.leaves) > maxLeaves {
		w.ok = false
		return nil
	}
	w.at = before
	for w.at < len(w.data) && strings.IndexByte(" \t\r\n,:", w.data[w.at]) >= 0 {
		w.at++
	}
	return t
}

func (w *walker) value(path, key string, depth int) {
	t := w.token()
	if !w.ok || depth > maxDepth {
		w.ok = false
		return
	}
	switch t := t.(type) {
	case json.Delim:
		w.inside(t, path, key, depth)
	case string:
		w.leaf(path, key, depth, t, true)
	default:
		to := int(w.d.InputOffset())
		w.leaf(path, key, depth, string(w.data[w.at:to]), false)
	}
}

func (w *walker) leaf(path, key string, depth int, text string, quoted bool) {
	if path == "" {
		path = "."
	}
	w.leaves = append(w.leaves, leaf{path, key, depth, w.at, int(w.d.InputOffset()), text, quoted})
}

func (w *walker) inside(open json.Delim, path, key string, depth int) {
	for i := 0; w.ok && w.d.More(); i++ {
		if open == '[' {
			at := path
			if at == "" {
				at = "."
			}
			w.value(at+"["+strconv.Itoa(i)+"]", key, depth+1)
			continue
		}
		name, _ := w.token().(string)
		w.value(path+field(name), name, depth+1)
	}
	if w.ok {
		_, err := w.d.Token()
		w.ok = err == nil
	}
}

// replace puts texts in the place of leaves of data, by their index.
func replace(data []byte, all []leaf, texts map[int]string) string {
	var out strings.Builder
	at := 0
	for i, l := range all {
		if text, ok := texts[i]; ok {
			out.Write(data[at:l.from])
			out.WriteString(text)
			at = l.to
		}
	}
	out.Write(data[at:])
	return out.String()
}

// compact is data without white space between its tokens.
func compact(data []byte) []byte {
	var out bytes.Buffer
	if json.Compact(&out, data) != nil {
		return data
	}
	return out.Bytes()
}

// isObject reports whether data begins as a JSON object or list.
func isObject(data []byte) bool {
	data = bytes.TrimLeft(data, " \t\r\n")
	return len(data) > 0 && (data[0] == '{' || data[0] == '[')
}

// parsed is one JSON value, with numbers as they are written.
func parsed(data []byte) (v any, ok bool) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if d.Decode(&v) != nil {
		return nil, false
	}
	_, err := d.Token()
	return v, err != nil
}

// encode writes a value as compact JSON, fit for a line.
func encode(v any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if e.Encode(v) != nil {
		return "null"
	}
	return strings.ReplaceAll(strings.TrimSuffix(b.String(), "\n"), "'", `\u0027`)
}
