package translate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/itchyny/gojq"

	"sidestream/translate/jq"
)

// Bounds on what one message may become, so that a payload cannot make a program eat the memory within its second.
const (
	maxItems  = 1 << 16  // messages out of one
	maxOutput = 64 << 20 // bytes of all of them
	maxKey    = 1 << 10  // bytes of a KEY
)

// variables are what a program knows beside its input. Each is also a function without the dollar sign, which compose
// files and shells would expand.
var variables = []string{"$event", "$id", "$topic", "$headers", "$status", "$state"}

// Code is one compiled jq program. It is safe for concurrent use.
type Code struct {
	setting string
	program *jq.Program
	fresh   bool // see [fresh]
	same    bool // see [constant]
}

// Setting is the setting that c is the value of.
func (c *Code) Setting() string { return c.setting }

// Constant reports whether c is a text, a number, or made of these, whatever the message: a slip where a program is to read it.
func (c *Code) Constant() bool { return c.same }

// CompileJQ compiles src, the value of setting. The error says where the program is wrong.
func CompileJQ(setting, src string) (*Code, error) {
	query, err := gojq.Parse(src)
	if err != nil {
		return nil, fmt.Errorf("is not a jq program: %s", textToken.ReplaceAllString(err.Error(), "unexpected text in quotes"))
	}
	if err := checkRegexps(query); err != nil {
		return nil, err
	}
	made, same := fresh(query), constant(query)
	var defs []*gojq.FuncDef
	for _, v := range variables {
		body, err := gojq.Parse(v)
		if err != nil {
			return nil, fmt.Errorf("define %s: %w", v, err)
		}
		defs = append(defs, &gojq.FuncDef{Name: v[1:], Body: body})
	}
	query.FuncDefs = append(defs, query.FuncDefs...)
	program, err := jq.Compile(query, variables)
	if err != nil {
		return nil, fmt.Errorf("is not a jq program: %w%s", err, hint(src, err))
	}
	return &Code{setting, program, made, same}, nil
}

// textToken is how gojq says that a text stands where none may, which may be a password in a frame.
var textToken = regexp.MustCompile(`unexpected token "\\".*`)

// hint spots the commonest slip: a name without quotes.
func hint(src string, err error) string {
	if strings.Contains(err.Error(), "function not defined") && !strings.ContainsAny(src, " .|()") {
		return fmt.Sprintf(" (a constant is written with its quotes: %q)", src)
	}
	return ""
}

// ProgramError says that a jq program failed for one message.
type ProgramError struct {
	Setting string // whose program, e.g. SELECT
	Err     error  // wraps context.DeadlineExceeded when the program was cut for taking too long
}

func (e *ProgramError) Error() string { return e.Setting + ": " + e.text() }

// preview is where a message of gojq begins to quote a value: in parentheses, bare as JSON, or as a number.
var preview = regexp.MustCompile(`[("\[{]|(: | to )-?[0-9]`)

// text leaves out the values that gojq quotes, and what error(…) raises: payloads do not belong into logs.
func (e *ProgramError) text() string {
	msg := e.Err.Error()
	if strings.HasPrefix(msg, "error: ") || strings.HasPrefix(msg, "halt error: ") {
		return "raised an error"
	}
	if at := preview.FindStringIndex(msg); at != nil {
		msg = strings.TrimRight(msg[:at[0]], ": ")
	}
	return msg
}

// Unwrap returns the reason.
func (e *ProgramError) Unwrap() error { return e.Err }

// input is a message as programs see it.
type input struct {
	value any
	known []any // the values of variables
}

// newInput parses m. Strict: data that is not JSON, or not UTF-8, is an error; otherwise it is a string.
func newInput(m Message, strict bool) (input, error) {
	in := input{known: []any{
		orNull(m.Event), orNull(m.ID), orNull(m.Topic), headerValue(m.Header), statusValue(m.Status), stateValue(m.state),
	}}
	value, err := ParseJSON(m.Data)
	switch {
	case err == nil && !m.Text:
		in.value = value
	case strict:
		return in, err
	default:
		in.value = string(bytes.ToValidUTF8(m.Data, []byte("\uFFFD")))
	}
	return in, nil
}

var stateIndex = slices.Index(variables, "$state")

// setState lets the programs that follow see values.
func (in *input) setState(values map[string]any) { in.known[stateIndex] = stateValue(values) }

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
		return map[string]any{}
	}
	return values
}

func statusValue(status int) any {
	if status == 0 {
		return nil
	}
	return status
}

var errNotJSON = errors.New("is not JSON")

// ParseJSON parses data, which must be one JSON value in UTF-8. Numbers are kept as they are written: 9007199254740993 has no
// float64. The error completes a sentence that begins with what data is, and quotes nothing of it.
func ParseJSON(data []byte) (any, error) {
	if !utf8.Valid(data) {
		return nil, errors.New("is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, errNotJSON
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("%w: something follows it", errNotJSON)
	}
	return v, nil
}

// each calls f with every output of c over value, until f returns an error.
func (c *Code) each(ctx context.Context, value any, known []any, f func(any) error) error {
	err := c.program.Run(ctx, value, known, f)
	if err == nil || err == errStop {
		return nil
	}
	return &ProgramError{c.setting, err}
}

var errStop = errors.New("first output is enough")

// first returns the first output; ok is false when there is none.
func (c *Code) first(ctx context.Context, value any, known []any) (v any, ok bool, err error) {
	err = c.each(ctx, value, known, func(out any) error {
		v, ok = out, true
		return errStop
	})
	return v, ok, err
}

// truth returns whether the first output is neither null nor false, as jq's own select has it.
func (c *Code) truth(ctx context.Context, value any, known []any) (bool, error) {
	v, ok, err := c.first(ctx, value, known)
	return ok && v != nil && v != false, err
}

// Outputs returns every output of c over m in its written form, of which there are no more than a message may become.
func (c *Code) Outputs(ctx context.Context, m Message) ([][]byte, error) {
	in, err := m.input(false)
	if err != nil {
		return nil, err
	}
	var out [][]byte
	size := 0
	err = c.each(ctx, in.value, in.known, func(v any) error {
		data, err := Written(v)
		if size += len(data); err == nil && (size > maxOutput || len(out) >= maxItems) {
			err = errTooMuch
		}
		out = append(out, data)
		return err
	})
	return out, err
}

var errTooMuch = fmt.Errorf("more than %d items or %d bytes out of one message", maxItems, maxOutput)

// Written is how a value leaves a program: strings raw, the rest as compact JSON.
func Written(v any) ([]byte, error) {
	if s, ok := v.(string); ok {
		return []byte(s), nil
	}
	return jq.Marshal(v)
}

// Program is what a route makes of its messages. The zero value passes them through unparsed.
type Program struct {
	Select *Code // items out of a message; nil: the message
	Event  *Code // name of an item; nil: the dialect's
	Data   *Code // data of an item; nil: the item
	ID     *Code // id of an item; nil: the dialect's
	Done   *Code // true ends the stream after the item; nil: never
	Key    *Code // key of an item; nil: none

	// Strict makes data that is not JSON, or not UTF-8, an error: polls. Otherwise programs see it as a string.
	Strict bool
}

// ErrPayload is wrapped by Apply's error when the data is not what the route expects, whatever its programs.
var ErrPayload = errors.New("payload")

// Apply runs the route's jq programs over m: `.` is the data, $event, $id, $topic, $headers, $status and $state what is
// known beside it. done says that the stream ends after out. A *[ProgramError] says that a program failed or was cut by ctx; an
// error wrapping [ErrPayload], that the program is strict and the data is not JSON. In both cases nothing of m is to be
// emitted.
func (p *Program) Apply(ctx context.Context, m Message) (out []Message, done bool, err error) {
	if m.Gap != "" || p.Plain() && !p.Strict {
		return []Message{m}, false, nil
	}
	in, err := m.input(p.Strict)
	if err != nil {
		return nil, false, fmt.Errorf("%w %w", ErrPayload, err)
	}
	if p.Strict {
		m.Data = bytes.TrimSpace(m.Data) // around a JSON document white space says nothing, and would be lines of data
	}
	from := &origin{data: m.Data, value: in.value}
	if p.Select == nil {
		return p.appendItem(ctx, nil, m, in, in.value, from)
	}
	if p.Select.fresh {
		from = nil
	}
	ctx, finished := jq.Share(ctx)
	defer finished()
	size := 0
	err = p.Select.each(ctx, in.value, in.known, func(item any) error {
		if len(out) >= maxItems || size > maxOutput {
			return errTooMuch
		}
		before := len(out)
		var last bool
		out, last, err = p.appendItem(ctx, out, m, in, item, from)
		done = done || last
		if len(out) > before {
			size += len(out[before].Data)
		}
		if err == nil && done {
			return errStop // nothing comes behind the end
		}
		return err
	})
	if err != nil {
		return nil, false, unnest(err)
	}
	return out, done, nil
}

// unnest drops SELECT's name from an error of a program run on its items.
func unnest(err error) error {
	var outer, inner *ProgramError
	if errors.As(err, &outer) && errors.As(outer.Err, &inner) {
		return inner
	}
	return err
}

// Plain says that no program is set: the bytes pass through unparsed.
func (p *Program) Plain() bool {
	return p.Select == nil && p.Event == nil && p.Data == nil && p.ID == nil && p.Done == nil && p.Key == nil
}

// appendItem makes one message of item, or none when DATA yields nothing. from is what item may be a part of, nil when it is
// made by SELECT.
func (p *Program) appendItem(ctx context.Context, out []Message, m Message, in input, item any, from *origin) ([]Message, bool, error) {
	made := Message{Event: m.Event, ID: m.ID, Topic: m.Topic, Data: m.Data}
	var err error
	if p.Event != nil {
		if made.Event, err = p.Event.text(ctx, item, in.known); err != nil {
			return out, false, err
		}
	}
	if p.ID != nil {
		if made.ID, err = p.ID.text(ctx, item, in.known); err != nil {
			return out, false, err
		}
	}
	done := false
	if p.Done != nil {
		if done, err = p.Done.truth(ctx, item, in.known); err != nil {
			return out, false, err
		}
	}
	if p.Key != nil {
		if made.Key, err = p.Key.text(ctx, item, in.known); err != nil {
			return out, false, err
		}
		if len(made.Key) > maxKey {
			return out, false, &ProgramError{p.Key.setting, fmt.Errorf("yields more than %d bytes", maxKey)}
		}
	}
	// DONE and KEY alone read the value but change nothing: the bytes stay as they came.
	if p.Data == nil && p.Select == nil && p.Event == nil && p.ID == nil {
		return append(out, made), done, nil
	}
	if p.Data == nil && from != nil {
		if raw := from.bytes(item); raw != nil {
			made.Data, made.item = raw, item
			return append(out, made), done, nil
		}
	}
	value, ok := item, true
	if p.Data != nil {
		value, ok, err = p.Data.first(ctx, item, in.known)
	}
	if err != nil || !ok {
		return out, done, err
	}
	made.Data, err = Written(value)
	return append(out, made), done, err
}

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

// Value returns the first output of c over m in its written form: strings as they are, the rest as compact JSON. ok is
// false when it is null, or there is none.
func (c *Code) Value(ctx context.Context, m Message) (text string, ok bool, err error) {
	v, ok, err := c.Output(ctx, m)
	if err != nil || !ok || v == nil {
		return "", false, err
	}
	data, err := Written(v)
	return string(data), true, err
}

// Output returns the first output of c over m, as gojq has it; ok is false when there is none.
func (c *Code) Output(ctx context.Context, m Message) (v any, ok bool, err error) {
	in, err := m.input(false)
	if err != nil {
		return nil, false, err
	}
	return c.first(ctx, in.value, in.known)
}

// Truth reports whether the first output of c over m is neither null nor false.
func (c *Code) Truth(ctx context.Context, m Message) (bool, error) {
	in, err := m.input(false)
	if err != nil {
		return false, err
	}
	return c.truth(ctx, in.value, in.known)
}

// text returns the first output as a name or id; null, nothing and "" are "".
func (c *Code) text(ctx context.Context, value any, known []any) (string, error) {
	v, ok, err := c.first(ctx, value, known)
	if err != nil || !ok || v == nil {
		return "", err
	}
	switch v.(type) {
	case map[string]any, []any:
		return "", &ProgramError{c.setting, errors.New("yields an object or a list where a string is needed")}
	}
	text, err := Written(v)
	return string(text), err
}
