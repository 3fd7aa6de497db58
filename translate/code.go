package translate

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/itchyny/gojq"

	"sidestream/translate/jq"
)

// Bounds on what one message may become, so that a payload cannot make a program eat the memory within its second.
const (
	maxItems  = 1 << 16  // messages out of one
	maxOutput = 64 << 20 // bytes of all of them
	maxKey    = 1 << 10  // bytes of a KEY
)

// variables are what a program knows besides its input. Each is also a function without the dollar sign, which compose
// files and shells would expand.
var variables = []string{"$event", "$id", "$topic", "$headers", "$status", "$state", "$answer", "$secret"}

// Code is one compiled jq program. It is safe for concurrent use.
type Code struct {
	setting string
	spelled string // as it was understood
	program *jq.Program
	fresh   bool     // see [fresh]
	same    bool     // see [constant]
	timed   bool     // it asks what time it is
	assigns bool     // see [assigns]
	secrets *Secrets // nil: it names none
}

// Setting is the setting that c is the value of.
func (c *Code) Setting() string { return c.setting }

// String is the program as it was understood: jq's own spelling of it.
func (c *Code) String() string { return c.spelled }

// Constant reports whether c yields the same for every message: a slip where a program is meant to read it.
func (c *Code) Constant() bool { return c.same }

// Asks returns an error where c assigns (.a = "b"), so that it is true for every message: a slip where a program is asked whether something is so.
func (c *Code) Asks() error {
	if c.assigns {
		return errAssigns
	}
	return nil
}

// Timed reports whether c asks what time it is (now).
func (c *Code) Timed() bool { return c.timed }

// At has the programs that run with ctx take now for the present time. Without it they ask the system's clock.
func At(ctx context.Context, now time.Time) context.Context { return jq.At(ctx, now) }

// Confides reports whether c names a secret.
func (c *Code) Confides() bool { return c.secrets != nil }

// CompileJQ compiles src, the value of setting, for which there are no secrets. The error tells where the program is wrong, and quotes
// none of its strings.
func CompileJQ(setting, src string) (*Code, error) { return (*Secrets)(nil).CompileJQ(setting, src) }

// CompileJQ is the function of the same name, of programs that may name the secrets of s as $secret.name.
func (s *Secrets) CompileJQ(setting, src string) (*Code, error) {
	query, err := parse(src)
	if err != nil {
		return nil, err
	}
	if name := field(query); name != "" && setting == "EVENT" {
		return nil, fmt.Errorf("is %[1]s, a function of jq's, and not a field; write .%[1]s", name)
	}
	confides, err := s.named(query)
	if err != nil {
		return nil, err
	}
	code := &Code{setting: setting, fresh: fresh(query), same: constant(query), spelled: query.String(), timed: mentions(query, "now"), assigns: assigns(query)}
	if confides {
		code.secrets = s
	}
	code.program, err = compile(src, query, variables)
	return code, err
}

// parse returns src as a program, with what can be said of it before it is known which variables there are.
func parse(src string) (*gojq.Query, error) {
	query, err := gojq.Parse(src)
	if err != nil {
		return nil, fmt.Errorf("is not a jq program: %s%s", textToken.ReplaceAllString(err.Error(), "unexpected text in quotes"), hint(src, err))
	}
	if err := checkConditions(query); err != nil {
		return nil, err
	}
	return query, checkRegexps(query)
}

// compile makes query, whose text is src, a program that knows names: variables, each of which is a function without its $ too.
func compile(src string, query *gojq.Query, names []string) (*jq.Program, error) {
	var defs []*gojq.FuncDef
	for _, v := range names {
		body, err := gojq.Parse(v)
		if err != nil {
			return nil, fmt.Errorf("define %s: %w", v, err)
		}
		defs = append(defs, &gojq.FuncDef{Name: v[1:], Body: body})
	}
	query.FuncDefs = append(defs, query.FuncDefs...)
	program, err := jq.Compile(query, names)
	if err != nil {
		return nil, fmt.Errorf("is not a jq program: %w%s", err, hint(src, err))
	}
	return program, nil
}

// textToken is how gojq reports a string where none may stand; it may be a password in a frame.
var textToken = regexp.MustCompile(`unexpected token "\\".*`)

// ProgramError is the failure of a jq program for one message.
type ProgramError struct {
	Setting string // whose program, e.g. SELECT
	Err     error  // wraps context.DeadlineExceeded when the program was cut for taking too long
}

func (e *ProgramError) Error() string { return e.Setting + ": " + e.text() }

// preview is where a message of gojq begins to quote a value: in parentheses, bare as JSON, or as a number; or the name of a format.
var preview = regexp.MustCompile(`[("\[{]|(: | to )(-?[0-9]|@)`)

// text leaves out the values that gojq quotes, and whatever error(…) raises: payloads do not belong in logs.
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

// each calls f with every output of c over value, until f returns an error.
func (c *Code) each(ctx context.Context, value any, known []any, f func(any) error) error {
	err := c.program.Run(ctx, value, c.knows(known), f)
	if err == nil || err == errStop {
		return nil
	}
	return &ProgramError{c.setting, err}
}

// knows is known, with the secrets that c names.
func (c *Code) knows(known []any) []any {
	if c.secrets != nil {
		known = slices.Clone(known)
		known[secretIndex] = c.secrets.values()
	}
	return known
}

var errStop = errors.New("enough")

// first returns the first output; ok is false when there is none.
func (c *Code) first(ctx context.Context, value any, known []any) (v any, ok bool, err error) {
	if v, ok, err = c.program.First(ctx, value, c.knows(known)); err != nil {
		err = &ProgramError{c.setting, err}
	}
	return v, ok, err
}

// firstWritten is the first output in its written form.
func (c *Code) firstWritten(ctx context.Context, value any, known []any) (text []byte, ok bool, err error) {
	text, ok, err = c.program.Text(ctx, value, c.knows(known))
	if err == nil {
		return text, ok, nil
	}
	if err != jq.ErrUnwritten {
		return nil, false, &ProgramError{c.setting, err}
	}
	v, ok, err := c.first(ctx, value, known)
	if err != nil || !ok {
		return nil, false, err
	}
	if text, err = writtenIn(ctx, v); err != nil {
		err = c.named(err)
	}
	return text, true, err
}

// named is err as c's, unless it is a program's already.
func (c *Code) named(err error) error {
	if _, named := errors.AsType[*ProgramError](err); named {
		return err
	}
	return &ProgramError{c.setting, err}
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
