package translate

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/itchyny/gojq"

	"sidestream/translate/jq"
)

// clientVariables are what a program in a template knows of the client's request, each an object of which it names what it needs.
var clientVariables = []string{"path", "query", "header", "cookie", "auth"}

// Computed is a program that stands in a template, as {= program }. It is safe for concurrent use.
type Computed struct {
	Uses []Use // what it takes of the client's request; Kind is path, query, header, cookie or auth

	spelled string
	program *jq.Program
	secrets *Secrets
	state   bool // it looks at the state
	answer  bool // it looks at the answer of the request before it
}

// CompileComputed compiles the program of a {= }. The error completes a sentence that begins with it.
func (s *Secrets) CompileComputed(src string) (*Computed, error) {
	query, err := parse(src)
	if err != nil {
		return nil, err
	}
	c := &Computed{spelled: query.String(), secrets: s}
	if c.Uses, err = usesOf(query, clientVariables); err != nil {
		return nil, err
	}
	if _, err = s.named(query); err != nil {
		return nil, err
	}
	c.state, c.answer = mentions(query, "state"), mentions(query, "answer")
	names := []string{"$state", "$answer", "$secret"}
	for _, v := range clientVariables {
		names = append(names, "$"+v)
	}
	if err = hides(src, query, names); err != nil {
		return nil, err
	}
	c.program, err = compile(src, query, names)
	return c, err
}

// hides is an error where a program makes a variable or function by one of names and uses the one of ours too: what it uses of ours is not known then.
func hides(src string, query *gojq.Query, names []string) error {
	own := ownNames(query)
	for _, name := range names {
		if !slices.Contains(own, name) && !slices.Contains(own, name[1:]) {
			continue
		}
		again, err := parse(src)
		if err != nil {
			return err
		}
		others := slices.DeleteFunc(slices.Clone(names), func(other string) bool { return other == name })
		if _, err := compile(src, again, others); err != nil {
			return fmt.Errorf("makes a variable or function called %s, and uses the %[1]s that is there too, which it hides; give its own another name", name)
		}
	}
	return nil
}

// mentions reports whether a program uses a variable of ours, or a function without arguments.
func mentions(q *gojq.Query, name string) (found bool) {
	eachVariable(q, func(_ *gojq.Term, used string) { found = found || used == name })
	return found
}

// String is the program as it was understood.
func (c *Computed) String() string { return c.spelled }

// Text is what the program yields over null: its first output, in its written form. client has the values of Uses; value tells of the
// stream, by [StateName] and [AnswerName]. The error holds no value.
func (c *Computed) Text(ctx context.Context, client map[Use]string, value func(name string) string) (string, error) {
	objects := map[string]map[string]any{}
	for use, text := range client {
		if objects[use.Kind] == nil {
			objects[use.Kind] = map[string]any{}
		}
		if text != "" {
			objects[use.Kind][use.Name] = text
		}
	}
	known := []any{c.asked(c.state, StateName, value), c.asked(c.answer, AnswerName, value), c.secrets.values()}
	for _, v := range clientVariables {
		object := objects[v]
		if object == nil {
			object = map[string]any{}
		}
		known = append(known, object)
	}
	var out any
	err := c.program.Run(ctx, nil, known, func(v any) error {
		out = v
		return errStop
	})
	if err != nil && err != errStop {
		return "", &ProgramError{"{= }", err}
	}
	if out == nil {
		return "", &ProgramError{"{= }", ErrNothing}
	}
	text, err := Written(out)
	if err == nil && len(text) > maxComputed {
		err = fmt.Errorf("yields more than %d bytes", maxComputed)
	}
	if err != nil {
		return "", &ProgramError{"{= }", err}
	}
	return string(text), nil
}

// ErrNothing is why a {= } that yields nothing, or null, fails.
var ErrNothing = errors.New("yields nothing")

// maxComputed bounds what a {= } yields, in bytes.
const maxComputed = 64 << 10

// asked is what value says of a name, where that is wanted.
func (c *Computed) asked(wanted bool, name string, value func(string) string) any {
	var v any
	if wanted {
		if parsed, err := ParseJSON([]byte(value(name))); err == nil {
			v = parsed
		}
	}
	if v == nil && name == StateName {
		return map[string]any{}
	}
	return v
}
