package jq

import "context"

// Shares of a [Brief], of about a tenth of a microsecond each.
const (
	briefShares   = 400
	runShares     = 2 // of a run, beside its steps
	messageShares = 8 // of a message, for what is done with it besides
)

// Brief is a context with which what is run, parsed and written may take some tens of microseconds in all, until it is renewed. It is for callers that others wait for, one at a time: what ends with
// [ErrLong] they have done by somebody who has time.
type Brief struct {
	context.Context
	left int
}

type briefKey struct{}

// Briefly returns a Brief that ends with ctx, and is to be renewed first.
func Briefly(ctx context.Context) *Brief { return &Brief{Context: ctx} }

// Renew gives it its whole time.
func (b *Brief) Renew() { b.left = briefShares }

// Value is context.Context's.
func (b *Brief) Value(key any) any {
	if key == (briefKey{}) {
		return b
	}
	return b.Context.Value(key)
}

// BriefOf is the Brief that ctx is, or is made of; nil: none.
func BriefOf(ctx context.Context) *Brief {
	b, _ := ctx.Value(briefKey{}).(*Brief)
	return b
}

// Message takes the time for one more message, and reports whether it is there. Of nil it always is.
func (b *Brief) Message() bool { return b.take(messageShares) }

// Bytes takes the time for so many bytes to be parsed, and reports whether it is there.
func (b *Brief) Bytes(n int) bool { return b.take(n / 8) }

// Writes takes the time for v to be written, and reports whether it is there.
func (b *Brief) Writes(v any) bool {
	if b == nil {
		return true
	}
	s := size{most: 16 * max(b.left, 0)}
	return s.add(v, 0) && b.take(s.bytes/16)
}

func (b *Brief) take(shares int) bool {
	if b != nil {
		b.left -= shares
	}
	return b == nil || b.left >= 0
}

// Brief reports whether p may be run within one: it is a plain program, which gojq runs only where its input is not as plain.
func (p *Program) Brief() bool { return p.shape.run != nil }
