package translate

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// input is a message as programs see it.
type input struct {
	value any
	known []any // the values of variables

	document bool // value is what the message is as JSON; else its text
	partial  bool // of an object value holds no more than what programs read: see partial.go
}

// nothingKnown is what is known of most messages. Nobody writes to it.
var nothingKnown = []any{nil, nil, nil, nil, nil, map[string]any{}, nil, nil}

// newInput parses m. Strict: data that is not JSON, or not UTF-8, is an error; otherwise it is a string.
func newInput(m Message, strict bool) (input, error) {
	in := input{known: known(m)}
	value, err := ParseJSON(m.Data)
	switch {
	case err == nil && !m.Text:
		in.value, in.document = value, true
	case strict:
		return in, err
	default:
		in.value = string(bytes.ToValidUTF8(m.Data, []byte("\uFFFD")))
	}
	return in, nil
}

// known are the values of variables of m.
func known(m Message) []any {
	if m.Event == "" && m.ID == "" && m.Topic == "" && m.Header == nil && m.Status == 0 && m.state == nil && m.answer == nil {
		return nothingKnown
	}
	return []any{
		orNull(m.Event), orNull(m.ID), orNull(m.Topic), headerValue(m.Header), statusValue(m.Status), stateValue(m.state), m.answer,
		nil, // what is secret, which [Code.knows] adds
	}
}

var (
	stateIndex  = slices.Index(variables, "$state")
	answerIndex = slices.Index(variables, "$answer")
	secretIndex = slices.Index(variables, "$secret")
)

// setState lets the programs that follow see values.
func (in *input) setState(values map[string]any) { in.know(stateIndex, stateValue(values)) }

// know sets a variable.
func (in *input) know(index int, value any) {
	in.known = slices.Clone(in.known)
	in.known[index] = value
}

// input returns m parsed, once.
func (m Message) input(strict bool) (input, error) {
	if m.parsed != nil {
		return *m.parsed, nil
	}
	return newInput(m, strict)
}

func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func headerValue(h http.Header) any {
	if h == nil {
		return nil
	}
	values := make(map[string]any, len(h))
	for name, v := range h {
		values[strings.ToLower(name)] = strings.Join(v, ", ")
	}
	return values
}

// stateValue is never null, so that programs may look for names.
func stateValue(values map[string]any) any {
	if values == nil {
		return nothingKnown[stateIndex]
	}
	return values
}

func statusValue(status int) any {
	if status == 0 {
		return nil
	}
	return status
}

// ErrPayload is wrapped by Apply's error when the data is not what the route expects, whatever its programs.
var ErrPayload = errors.New("payload")

// Parse parses m once for all programs that run over it. Strict: data that is not JSON, or not UTF-8, is an error that
// wraps [ErrPayload]; otherwise it is a string.
func (m Message) Parse(strict bool) (Message, error) {
	in, err := newInput(m, strict)
	if err != nil {
		return m, fmt.Errorf("%w %w", ErrPayload, err)
	}
	m.parsed = &in
	return m, nil
}

// Check is Parse(true) for a message that no program runs over.
func (m Message) Check() (Message, error) {
	if err := checkJSON(m.Data); err != nil {
		return m, fmt.Errorf("%w %w", ErrPayload, err)
	}
	m.checked = true
	return m, nil
}
