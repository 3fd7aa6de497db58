package jq

import (
	"context"
	"time"
)

type nowKey struct{}

// At has the programs that run with ctx take t for the present time (now). Without it they ask the system's clock.
func At(ctx context.Context, t time.Time) context.Context {
	return context.WithValue(ctx, nowKey{}, t)
}

// now is the seconds since 1970, with the microseconds that jq has.
func now(m *machine, next function, v any, args []any) any {
	if t, ok := m.ctx.Value(nowKey{}).(time.Time); ok {
		return float64(t.UnixMicro()) / 1e6
	}
	return next(v, args)
}
