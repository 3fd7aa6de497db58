package jq

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"

	"github.com/itchyny/gojq"
)

// Errors that a program ends with, beside its own and its context's.
var (
	ErrMemory = errors.New("takes too much memory")
	ErrDepth  = errors.New("makes values that are nested too deeply")
	ErrNumber = fmt.Errorf("counts with a number of more than %d digits", maxDigits)
	ErrPanic  = errors.New("is something that gojq fails at") // a fault of gojq's, or of the package's
	ErrLong   = errors.New("is not known to take no time")    // see Brief
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
// returned too: its own, one of the package's, or that of ctx. A panic is an error of the program, but for one of f's.
func (p *Program) Run(ctx context.Context, value any, variables []any, f func(any) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	given := 0 // outputs that f has had already
	brief := BriefOf(ctx)
	if !brief.take(runShares) {
		return ErrLong
	}
	if p.shape != nil {
		n, err := p.runShape(ctx, brief, value, variables, f)
		if err != errShape {
			return err
		}
		given = n
	}
	if brief != nil {
		return ErrLong
	}
	m := p.take()
	m.begin(ctx, value, variables)
	sound := false // a machine that stopped in the midst of a step can't begin again
	defer func() {
		m.end()
		if sound {
			p.idle.Store(m)
		}
	}()
	err := m.run(value, variables, given, f)
	sound = !errors.Is(err, ErrPanic)
	return err
}

// run calls f with every output but those that it was given already.
func (m *machine) run(value any, variables []any, given int, f func(any) error) (err error) {
	guard := guard{f: f}
	defer guard.end(&err)
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
		if err := guard.call(v); err != nil {
			return err
		}
	}
}

// guard makes errors of panics, but for those of f, which is not a program's.
type guard struct {
	f     func(any) error
	calls bool // f runs
}

func (g *guard) call(v any) error {
	g.calls = true
	err := g.f(v)
	g.calls = false
	return err
}

// end is deferred.
func (g *guard) end(err *error) {
	if g.calls {
		return
	}
	switch fault := recover().(type) {
	case nil:
	case runtime.Error: // whose text has nothing of a value
		*err = fmt.Errorf("%w: %w", ErrPanic, fault)
	default:
		*err = ErrPanic
	}
}

// take returns a machine that no other run has.
func (p *Program) take() *machine {
	if m := p.idle.Swap(nil); m != nil {
		return m
	}
	return newMachine(p)
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
