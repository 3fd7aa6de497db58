package jq

import "context"

// briefSteps is how many steps a run may have that is to take no time to speak of: some microseconds.
const briefSteps = 256

type briefKey struct{}

// Briefly returns a context with which a run ends with [ErrLong] where it would take time to speak of, or where gojq is to run the program; it may have called f before. It is for callers that
// others wait for, which have the program run again by somebody who has time. The input is to be small, too.
func Briefly(ctx context.Context) context.Context { return context.WithValue(ctx, briefKey{}, true) }

// IsBrief reports whether ctx is, or is made of, one of Briefly's.
func IsBrief(ctx context.Context) bool { return ctx.Value(briefKey{}) != nil }

// Brief reports whether p may take no time to speak of: it is a plain program, which gojq runs only where its input is not as plain.
func (p *Program) Brief() bool { return p.shape != nil }
