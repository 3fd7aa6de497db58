package jq

import "context"

// pass is one run of a shape.
type pass struct {
	guard
	ctx   context.Context
	brief *Brief
	known []any // the variables' values
	steps int
	given int // outputs
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

// runShape is Run for a program with a shape. It returns errShape, and how many outputs f has had, where gojq is to run it.
func (p *Program) runShape(ctx context.Context, brief *Brief, value any, variables []any, f func(any) error) (given int, err error) {
	in := &pass{guard: guard{f: f}, ctx: ctx, brief: brief, known: variables}
	defer func() { given = in.given }() // after a panic too
	defer in.end(&err)
	err = p.shape(value, in, func(v any) error {
		if err := in.step(); err != nil {
			return err
		}
		in.given++
		return in.call(v)
	})
	return 0, err
}
