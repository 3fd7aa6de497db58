// This file is how a message is read of which the programs look at a few members: an object that holds these alone. The rest is seen to be JSON, and nothing is made of it.

package translate

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// wanted are the names of members, in lists of a program each.
type wanted [6][]string

// wants returns the members of a message that p reads, and false where it may look at anything else of one, or write the whole.
func (p *Program) wants() (names wanted, known bool) {
	items := true // are the message, or may be
	if p.Select != nil {
		if names[0], items, known = p.Select.program.Reads(); !known || items && p.Data == nil && p.Select.fresh {
			return names, false
		}
	}
	if !items {
		return names, true
	}
	for i, c := range [...]*Code{p.Event, p.Data, p.ID, p.Done, p.Key} {
		if c == nil {
			continue
		}
		var itself bool
		if names[i+1], itself, known = c.program.Reads(); !known || itself {
			return names, false
		}
	}
	return names, true
}

// find returns the name that text is, between its quotes.
func (w *wanted) find(text []byte) (name string, found bool) {
	for _, names := range w {
		for _, name := range names {
			if string(text) == name {
				return name, true
			}
		}
	}
	return "", false
}

// objects are those of messages that are done with. Nothing that a program has made refers to them: it has passed them on at most.
var objects = sync.Pool{New: func() any { return map[string]any{} }}

// mostObject is how many members an object has that is used again.
const mostObject = 64

// released lets go of in, whose programs have not failed: an error may hold its value.
func (in *input) released() {
	if object, ok := in.value.(map[string]any); ok && in.partial && len(object) <= mostObject {
		clear(object)
		objects.Put(object)
	}
	*in = input{}
}

var errWhole = errors.New("is to be read as a whole")

// partOf is [newInput] of what names are of m, where that is an object. The error says no more than that it is to be read as a whole.
func partOf(m Message, names *wanted) (in input, err error) {
	data := bytes.TrimLeft(m.Data, " \t\r\n")
	if m.Text || len(data) == 0 || data[0] != '{' || !utf8.Valid(data) {
		return in, errWhole
	}
	object := objects.Get().(map[string]any)
	r := readers.Get().(*reader)
	if err := r.members(data, names, object); err != nil {
		return in, err
	}
	r.done(len(data))
	return input{value: object, known: known(m), document: true, partial: true}, nil
}

// members reads an object, which is all of data.
func (r *reader) members(data []byte, names *wanted, object map[string]any) error {
	r.data = *bytes.NewBuffer(data)
	r.in.Reset(&r.data, lenient...)
	if _, err := r.in.ReadToken(); err != nil {
		return err
	}
	for r.in.PeekKind() == jsontext.KindString {
		text, err := r.in.ReadValue()
		if err != nil {
			return err
		}
		if bytes.IndexByte(text, '\\') >= 0 { // which it may be written with
			return errWhole
		}
		name, found := names.find(text[1 : len(text)-1])
		if found {
			object[name], err = r.value()
		} else {
			err = r.in.SkipValue()
		}
		if err != nil {
			return err
		}
	}
	if _, err := r.in.ReadToken(); err != nil {
		return err
	}
	if _, err := r.in.ReadToken(); err != io.EOF {
		return errWhole
	}
	return nil
}
