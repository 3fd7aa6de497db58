package dialect

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"sidestream/translate"
)

// jsonString is text as JSON.
func jsonString(text string) []byte { return translate.AppendJSONString(nil, text, false) }

// readOnly reads text, which is one JSON value and nothing after it, into a struct that has all its fields.
func readOnly(text string, into any) error {
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) { // More takes a bracket for an end
		return errors.New("something follows the value")
	}
	return nil
}

// jsonFrame is v as a text frame. What is raw in it is valid JSON in UTF-8.
func jsonFrame(v any) Frame { return Frame{Data: appendJSON(nil, reflect.ValueOf(v))} }

var rawJSON = reflect.TypeFor[json.RawMessage]()

// appendJSON knows the types that messages are made of here; another one is a mistake in the program.
func appendJSON(dst []byte, v reflect.Value) []byte {
	switch v.Kind() {
	case reflect.Invalid:
		return append(dst, "null"...)
	case reflect.String:
		return translate.AppendJSONString(dst, v.String(), false)
	case reflect.Bool:
		return strconv.AppendBool(dst, v.Bool())
	case reflect.Int, reflect.Int64:
		return strconv.AppendInt(dst, v.Int(), 10)
	case reflect.Uint, reflect.Uint64:
		return strconv.AppendUint(dst, v.Uint(), 10)
	case reflect.Pointer, reflect.Interface:
		return appendJSON(dst, v.Elem())
	case reflect.Slice:
		return appendJSONList(dst, v)
	case reflect.Map:
		return appendJSONMap(dst, v)
	case reflect.Struct:
		return appendJSONStruct(dst, v)
	}
	panic("dialect: no JSON is made of " + v.Type().String())
}

func appendJSONList(dst []byte, v reflect.Value) []byte {
	if v.IsNil() {
		return append(dst, "null"...)
	}
	if v.Type() == rawJSON {
		out := bytes.NewBuffer(dst)
		if json.Compact(out, v.Bytes()) != nil {
			return append(dst, "null"...) // cannot be
		}
		return out.Bytes()
	}
	dst = append(dst, '[')
	for i := range v.Len() {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendJSON(dst, v.Index(i))
	}
	return append(dst, ']')
}

func appendJSONMap(dst []byte, v reflect.Value) []byte {
	values := make(map[string]reflect.Value, v.Len())
	for name, value := range v.Seq2() {
		values[name.String()] = value
	}
	dst = append(dst, '{')
	for i, name := range slices.Sorted(maps.Keys(values)) {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(translate.AppendJSONString(dst, name, false), ':')
		dst = appendJSON(dst, values[name])
	}
	return append(dst, '}')
}

// appendJSONStruct obeys the tags of encoding/json, a name and omitempty; a field without a name is left out.
func appendJSONStruct(dst []byte, v reflect.Value) []byte {
	dst = append(dst, '{')
	first := true
	for i := range v.NumField() {
		name, option, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		if name == "" || option == "omitempty" && emptyJSON(v.Field(i)) {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(translate.AppendJSONString(dst, name, false), ':')
		dst = appendJSON(dst, v.Field(i))
	}
	return append(dst, '}')
}

func emptyJSON(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Slice, reflect.Map:
		return v.Len() == 0
	}
	return v.IsZero()
}

// jsonTexts are the strings of a JSON value.
func jsonTexts(data []byte) (texts []string) {
	v, err := translate.ParseJSON(data)
	if err != nil {
		return nil
	}
	var each func(v any)
	each = func(v any) {
		switch v := v.(type) {
		case string:
			texts = append(texts, v)
		case []any:
			for _, one := range v {
				each(one)
			}
		case map[string]any:
			for _, one := range v {
				each(one)
			}
		}
	}
	each(v)
	return texts
}
