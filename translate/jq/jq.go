package jq

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/itchyny/gojq"
)

// Errors that a program ends with, beside its own and its context's.
var (
	ErrMemory = errors.New("takes too much memory")
	ErrDepth  = errors.New("makes values that are nested too deeply")
	ErrNumber = fmt.Errorf("counts with a number of more than %d digits", maxDigits)
)

// Program is one compiled jq program. It is safe for concurrent use.
type Program struct {
	code    *gojq.Code
	regexps *cache
	shape   shape // nil: gojq runs it

	idle atomic.Pointer[machine] // the one that is kept for the next run
}

// Compile returns the program that query is. variables are the names, with $, of what [Program.Run] is given.
func Compile(query *gojq.Query, variables []string) (*Program, error) {
	if known.err != nil {
		return nil, known.err
	}
	code, err := gojq.Compile(query, append(added(), gojq.WithVariables(variables))...)
	if err != nil {
		return nil, err
	}
	return &Program{code: code, regexps: new(cache), shape: shapeOf(query, variables)}, nil
}

// Run calls f with every output of p over value, until f returns an error, which it returns. An error of the program is
// returned too: its own, one of the package's, or that of ctx.
func (p *Program) Run(ctx context.Context, value any, variables []any, f func(any) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	given := 0 // outputs that f has had already
	if p.shape != nil {
		n, err := p.runShape(ctx, value, variables, f)
		if err != errShape {
			return err
		}
		given = n
	}
	m := p.take()
	defer p.give(m)
	m.begin(ctx, value, variables)
	iter := m.code.RunWithContext(&m.meter, value, variables...)
	m.env = envOf(iter)
	for {
		v, ok := iter.Next()
		if m.err != nil {
			return m.err
		}
		if !ok {
			return nil
		}
		if err, failed := v.(error); failed {
			return err
		}
		if given > 0 {
			given--
			continue
		}
		if err := f(v); err != nil {
			return err
		}
	}
}

// take returns a machine that no other run has.
func (p *Program) take() *machine {
	if m := p.idle.Swap(nil); m != nil {
		return m
	}
	return newMachine(p)
}

func (p *Program) give(m *machine) {
	m.end()
	p.idle.Store(m)
}

// maxText is how long the JSON of one value may be.
const maxText = 64 << 20

// Marshal returns v as compact JSON. It fails for what is too large or too deep: a program can make a value of a few parts that
// would be written down for ever.
func Marshal(v any) ([]byte, error) {
	if s := (size{most: maxText}); !s.add(v, 0) {
		return nil, s.err()
	}
	return gojq.Marshal(v)
}
