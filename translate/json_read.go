// This file is the JSON that is read: payloads, as the values that gojq knows. jsontext, which Go 1.27 has in its standard library, takes half of what encoding/json's
// decoder takes (that looks at each byte twice), and of what it reads this makes the same values; FuzzParseJSON holds the two side by side.

package translate

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

var errNotJSON = errors.New("is not JSON")

// ParseJSON parses data, which must be one JSON value (RFC 8259) in UTF-8, of which at most 10,000 are within each other. Numbers are kept as they are written:
// 9007199254740993 has no float64. Of a name that an object has twice the last one counts, and half of a surrogate pair is U+FFFD. The error completes a
// sentence that begins with what data is, and quotes nothing of it.
func ParseJSON(data []byte) (any, error) {
	if !utf8.Valid(data) {
		return nil, errors.New("is not UTF-8")
	}
	r := readers.Get().(*reader)
	r.data = *bytes.NewBuffer(data)
	r.in.Reset(&r.data, lenient...)
	v, err := r.value()
	if err != nil {
		return nil, errNotJSON
	}
	if _, err := r.in.ReadToken(); err != io.EOF {
		return nil, fmt.Errorf("%w: something follows it", errNotJSON)
	}
	r.done(len(data))
	return v, nil
}

// checkJSON is ParseJSON without the value.
func checkJSON(data []byte) (err error) {
	if !utf8.Valid(data) || !json.Valid(data) {
		_, err = ParseJSON(data)
	}
	return err
}

// lenient is what encoding/json lets pass. UTF-8 is looked at before: what is not valid then is half of a surrogate pair.
var lenient = []jsontext.Options{jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)}

// reader reads one text. It only reads data, which stays its caller's.
type reader struct {
	in   jsontext.Decoder
	data bytes.Buffer
}

var readers = sync.Pool{New: func() any { return new(reader) }}

// keptReader is the length of the longest text whose reader is used again: one of many levels has grown. After an error none is, as it may hold names of the text.
const keptReader = 64 << 10

// done lets go of the text.
func (r *reader) done(size int) {
	if size > keptReader {
		return
	}
	r.data = bytes.Buffer{}
	r.in.Reset(&r.data)
	readers.Put(r)
}

func (r *reader) value() (any, error) {
	t, err := r.in.ReadToken()
	if err != nil {
		return nil, err
	}
	switch t.Kind() {
	case jsontext.KindBeginObject:
		return r.object()
	case jsontext.KindBeginArray:
		return r.list()
	case jsontext.KindString:
		return t.String(), nil
	case jsontext.KindNumber:
		return json.Number(t.String()), nil
	case jsontext.KindTrue:
		return true, nil
	case jsontext.KindFalse:
		return false, nil
	}
	return nil, nil
}

func (r *reader) object() (any, error) {
	object := map[string]any{}
	for {
		t, err := r.in.ReadToken()
		switch {
		case err != nil:
			return nil, err
		case t.Kind() == jsontext.KindEndObject:
			return object, nil
		}
		name := t.String()
		if object[name], err = r.value(); err != nil {
			return nil, err
		}
	}
}

func (r *reader) list() (any, error) {
	list := []any{}
	for {
		switch r.in.PeekKind() {
		case jsontext.KindEndArray:
			_, err := r.in.ReadToken()
			return list, err
		case jsontext.KindInvalid:
			_, err := r.in.ReadToken()
			if err == nil {
				err = errNotJSON
			}
			return nil, err
		}
		v, err := r.value()
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
}
