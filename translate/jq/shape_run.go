package jq

import (
	"context"
	"sync"
)

// pass is one run of a shape.
type pass struct {
	guard
	ctx   context.Context
	brief *Brief
	known []any // the variables' values
	steps int
	given int // outputs

	yield func(any) error // give
}

// step counts what a pipe passes on, and each output: all else of a program runs as often as it is written. It fails with the context, and when the run
// takes long.
func (in *pass) step() error {
	if in.steps++; in.steps%stride == 0 {
		if err := in.ctx.Err(); err != nil {
			return err
		}
	}
	if in.steps > heavySteps || !in.brief.take(1) {
		return errShape
	}
	return nil
}

// passes are those of runs that are over.
var passes = sync.Pool{New: func() any {
	in := new(pass)
	in.yield = in.give
	return in
}}

// passOf begins a run.
func passOf(ctx context.Context, brief *Brief, variables []any, f func(any) error) *pass {
	in := passes.Get().(*pass)
	in.guard, in.ctx, in.brief, in.known = guard{f: f}, ctx, brief, variables
	return in
}

// over ends it.
func (in *pass) over() {
	*in = pass{yield: in.yield}
	passes.Put(in)
}

// give gives an output.
func (in *pass) give(v any) error {
	if err := in.step(); err != nil {
		return err
	}
	in.given++
	return in.call(v)
}

// runShape is Run for a program with a shape. It returns errShape, and how many outputs f has had, where gojq is to run it.
func (p *Program) runShape(ctx context.Context, brief *Brief, value any, variables []any, f func(any) error) (given int, err error) {
	in := passOf(ctx, brief, variables, f)
	defer func() { // after a panic too
		given = in.given
		in.over()
	}()
	defer in.end(&err)
	return 0, p.shape.run(value, in, in.yield)
}

// only is First for a program with a shape that has one output, or none. It returns errShape where gojq is to run it.
func (p *Program) only(ctx context.Context, brief *Brief, value any, variables []any) (v any, ok bool, err error) {
	in := passOf(ctx, brief, variables, nil)
	defer in.over()
	defer in.end(&err)
	v, err = p.shape.one(value, in)
	switch err {
	case nil:
		err = in.step()
		return v, err == nil, err
	case errNone:
		return nil, false, nil
	}
	return nil, false, err
}
