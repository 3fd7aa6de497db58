// This file finds the bytes of a value that a program has taken out of a message unchanged, so that they are emitted as the
// upstream wrote them: its order of names, its escapes, its white space.

package translate

import (
	"bytes"
	"encoding/json"
	"reflect"

	"github.com/itchyny/gojq"
)

// origin is the document that items are taken out of.
type origin struct {
	data  []byte
	value any              // of which some members may not be there
	spans map[place][2]int // of every object and list in data; nil until asked for
}

// place is where an object or list is in memory. gojq never writes to its input, so a value that is still there has not
// changed. A part of a list begins where the list does, and has another length.
type place struct {
	at   uintptr
	size int // -1 for objects
}

// placeOf returns where value is. Objects have a place of their own, and lists that hold something.
func placeOf(value any) (p place, ok bool) {
	switch value := value.(type) {
	case map[string]any:
		return place{reflect.ValueOf(value).Pointer(), -1}, value != nil
	case []any:
		return place{reflect.ValueOf(value).Pointer(), len(value)}, len(value) > 0
	}
	return place{}, false
}

// whole reports whether item is the document itself.
func (o *origin) whole(item any) bool {
	p, ok := placeOf(item)
	document, has := placeOf(o.value)
	return ok && has && p == document
}

// bytes returns how item is written in the document, nil when it is no part of it.
func (o *origin) bytes(item any) []byte {
	if o.whole(item) {
		return bytes.TrimSpace(o.data)
	}
	p, ok := placeOf(item)
	if !ok {
		return nil
	}
	if o.spans == nil {
		o.spans = map[place][2]int{}
		o.scan(0, o.value)
	}
	span, ok := o.spans[p]
	if !ok {
		return nil
	}
	return o.data[span[0]:span[1]]
}

// scan walks the JSON at i beside its value and returns where it ends. The data is valid JSON: it has been parsed. Of a name
// that an object has twice the last one counts, whose places are written over those of the first.
func (o *origin) scan(i int, value any) int {
	i = o.blanks(i)
	start := i
	switch o.data[i] {
	case '{':
		i = o.object(i+1, value)
	case '[':
		i = o.list(i+1, value)
	case '"':
		return o.text(i)
	default:
		for i < len(o.data) && !bytes.ContainsRune([]byte(",]} \t\r\n"), rune(o.data[i])) {
			i++
		}
		return i
	}
	if p, ok := placeOf(value); ok {
		o.spans[p] = [2]int{start, i}
	}
	return i
}

func (o *origin) object(i int, value any) int {
	object, _ := value.(map[string]any)
	for i = o.blanks(i); o.data[i] != '}'; i = o.blanks(i) {
		if o.data[i] == ',' {
			i = o.blanks(i + 1)
		}
		end := o.text(i)
		name := o.data[i+1 : end-1]
		if bytes.IndexByte(name, '\\') >= 0 {
			var text string
			json.Unmarshal(o.data[i:end], &text) // it has been parsed before
			name = []byte(text)
		}
		i = o.scan(o.blanks(end)+1, object[string(name)])
	}
	return i + 1
}

func (o *origin) list(i int, value any) int {
	list, _ := value.([]any)
	n := 0
	for i = o.blanks(i); o.data[i] != ']'; i = o.blanks(i) {
		if o.data[i] == ',' {
			i++
		}
		var element any
		if n < len(list) {
			element = list[n]
		}
		i = o.scan(i, element)
		n++
	}
	return i + 1
}

func (o *origin) blanks(i int) int {
	for i < len(o.data) && (o.data[i] == ' ' || o.data[i] == '\n' || o.data[i] == '\t' || o.data[i] == '\r') {
		i++
	}
	return i
}

// text returns the end of the string that begins at i.
func (o *origin) text(i int) int {
	for i++; o.data[i] != '"'; i++ {
		if o.data[i] == '\\' {
			i++
		}
	}
	return i + 1
}

// fresh reports whether all outputs of a program are values that it makes itself, so that looking for them in the message is
// of no use. It finds most of the programs of which this is true, and none of which it is not.
func fresh(q *gojq.Query) bool {
	if q.Term != nil {
		return freshTerm(q.Term)
	}
	switch q.Op {
	case gojq.OpPipe:
		return fresh(q.Right)
	case gojq.OpComma, gojq.OpAlt:
		return fresh(q.Left) && fresh(q.Right)
	case gojq.OpEq, gojq.OpNe, gojq.OpLt, gojq.OpLe, gojq.OpGt, gojq.OpGe, gojq.OpAnd, gojq.OpOr:
		return true
	}
	return false
}

func freshTerm(t *gojq.Term) bool {
	if len(t.SuffixList) > 0 {
		return false
	}
	switch t.Type {
	case gojq.TermTypeObject, gojq.TermTypeArray, gojq.TermTypeString, gojq.TermTypeFormat, gojq.TermTypeNumber, gojq.TermTypeUnary,
		gojq.TermTypeNull, gojq.TermTypeTrue, gojq.TermTypeFalse:
		return true
	case gojq.TermTypeQuery:
		return fresh(t.Query)
	}
	return false
}
