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
	shape   part // gojq runs it where that has none

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
	brief, err := begin(ctx)
	if err != nil {
		return err
	}
	given := 0 // outputs that f has had already
	if p.shape.run != nil {
		n, err := p.runShape(ctx, brief, value, variables, f)
		if err != errShape {
			return err
		}
		given = n
	}
	if brief != nil {
		return ErrLong
	}
	return p.runAll(ctx, value, variables, given, f)
}

// First returns the first output of p over value; ok is false when there is none. The error is Run's.
func (p *Program) First(ctx context.Context, value any, variables []any) (v any, ok bool, err error) {
	if p.shape.one == nil {
		return first(func(f func(any) error) error { return p.Run(ctx, value, variables, f) })
	}
	brief, err := begin(ctx)
	if err != nil {
		return nil, false, err
	}
	if v, ok, err = p.only(ctx, brief, value, variables); err != errShape {
		return v, ok, err
	}
	if brief != nil {
		return nil, false, ErrLong
	}
	return first(func(f func(any) error) error { return p.runAll(ctx, value, variables, 0, f) })
}

// AtMostOne reports whether p is known to have one output at most.
func (p *Program) AtMostOne() bool { return p.shape.one != nil }

var errFirst = errors.New("the first is enough")

// first is the first output that run gives.
func first(run func(f func(any) error) error) (v any, ok bool, err error) {
	err = run(func(out any) error {
		v, ok = out, true
		return errFirst
	})
	if err == errFirst {
		err = nil
	}
	return v, ok, err
}

// begin sees whether there is time for a run, and returns the [Brief] that it is in.
func begin(ctx context.Context) (brief *Brief, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if brief = BriefOf(ctx); !brief.take(runShares) {
		return nil, ErrLong
	}
	return brief, nil
}

// runAll has gojq run p from its beginning, of whose outputs so many are left out.
func (p *Program) runAll(ctx context.Context, value any, variables []any, given int, f func(any) error) error {
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
