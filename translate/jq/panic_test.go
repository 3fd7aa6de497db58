package jq

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/itchyny/gojq"
)

// TestPanicsAreErrors: what gojq or a shape panics with is an error of the program, which has nothing of the value, gives back what its run has taken and runs again.
// What f panics with is not.
func TestPanicsAreErrors(t *testing.T) {
	const secret = "hunter2"
	wild := true
	index := func(v any, _ []any) any {
		if wild {
			return []any{}[len(v.(string))]
		}
		return v
	}
	// Long enough to have to wait for its turn.
	query, err := gojq.Parse(fmt.Sprintf("last(range(%d)) as $n | (\"hunter2\" | boom), $n", 2*heavySteps))
	if err != nil {
		t.Fatal(err)
	}
	code, err := gojq.Compile(query, append(added(), gojq.WithFunction("boom", 0, 0, index))...)
	if err != nil {
		t.Fatal(err)
	}
	p := &Program{code: code, regexps: new(cache)}
	for _, c := range []struct {
		name string
		set  func()
		want string // "": no error
	}{
		{"an index", func() {}, "gojq fails at: runtime error: index out of range"},
		{"nothing", func() { wild = false }, ""},
		{"a shape's text", func() { p.shape.run = func(any, *pass, func(any) error) error { panic(secret) } }, "gojq fails at"},
		{"nothing again", func() { p.shape.run = nil }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.set()
			for range cap(slots) + 1 {
				var out []any
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				err := p.Run(ctx, nil, nil, func(v any) error { out = append(out, v); return nil })
				cancel()
				switch {
				case c.want == "" && (err != nil || len(out) != 2):
					t.Fatalf("%v, %v", out, err)
				case c.want != "" && (!errors.Is(err, ErrPanic) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), secret)):
					t.Fatalf("%v", err)
				}
			}
		})
	}
	t.Run("f's own", func(t *testing.T) {
		defer func() {
			if fault := recover(); fault != "f" {
				t.Errorf("recovered %v", fault)
			}
		}()
		p.Run(context.Background(), nil, nil, func(any) error { panic("f") })
		t.Error("f's panic is lost")
	})
}
