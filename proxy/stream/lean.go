package stream

import (
	"context"
	"log/slog"
	"time"
)

// This file is what a stream has only once it is needed, as there may be one for each of thousands of users.

// alarm is a timer that is made when it is set first: most of a great many streams never set theirs. The zero value is stopped.
type alarm struct{ timer *time.Timer }

// set has f called after d, rather than when it was to be called. f is the same each time.
func (a *alarm) set(d time.Duration, f func()) {
	if a.timer == nil {
		a.timer = time.AfterFunc(d, f)
		return
	}
	a.timer.Reset(d)
}

func (a *alarm) stop() {
	if a.timer != nil {
		a.timer.Stop()
	}
}

// aboutStream is a log of one stream. What its lines have of that is put together when there is one.
type aboutStream struct {
	slog.Handler
	epoch    Epoch
	upstream string
}

func (a *aboutStream) named() slog.Handler {
	return a.Handler.WithAttrs([]slog.Attr{slog.Any("stream", a.epoch), slog.String("upstream", a.upstream)})
}

// Handle, WithAttrs and WithGroup are slog.Handler's.
func (a *aboutStream) Handle(ctx context.Context, r slog.Record) error {
	return a.named().Handle(ctx, r)
}

// WithAttrs adds to what lines have.
func (a *aboutStream) WithAttrs(attrs []slog.Attr) slog.Handler { return a.named().WithAttrs(attrs) }

// WithGroup puts what follows into a group.
func (a *aboutStream) WithGroup(name string) slog.Handler { return a.named().WithGroup(name) }
