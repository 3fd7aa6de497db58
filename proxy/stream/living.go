package stream

import (
	"context"
	"slices"
	"sync"
	"time"
)

// This file is what a stream has in the place of channels and contexts that each of thousands would keep for good, while next to nobody waits for them.

// gate is lifted once. The zero value is closed.
type gate struct {
	mu     sync.Mutex // guards what follows
	lifted bool
	waits  chan struct{} // nil: nobody does
}

// open is what a gate that is lifted has them wait for.
var open = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// lift lets all pass.
func (g *gate) lift() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lifted = true
	if g.waits != nil {
		close(g.waits)
		g.waits = nil
	}
}

// passed is closed once the gate is lifted.
func (g *gate) passed() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.lifted:
		return open
	case g.waits == nil:
		g.waits = make(chan struct{})
	}
	return g.waits
}

// living is a context that ends once it is told to. What package context has for that keeps a map of all that is to be done then, and a context for each.
type living struct {
	mu    sync.Mutex // guards what follows
	err   error      // [context.Canceled]; nil: it goes on
	done  chan struct{}
	after []*func()
}

// end ends it.
func (l *living) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return
	}
	l.err = context.Canceled
	if l.done != nil {
		close(l.done)
	}
	for _, f := range l.after {
		go (*f)() // whose it is, who has asked for it says
	}
	l.after = nil
}

// AfterFunc is [context.AfterFunc] for l, which package context looks for.
func (l *living) AfterFunc(f func()) (stop func() bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		go f()
		return func() bool { return false }
	}
	one := &f
	l.after = append(l.after, one)
	return func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		i := slices.Index(l.after, one)
		if i >= 0 {
			l.after = slices.Delete(l.after, i, i+1)
		}
		return i >= 0
	}
}

// Done is context.Context's.
func (l *living) Done() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.done == nil {
		l.done = make(chan struct{})
		if l.err != nil {
			close(l.done)
		}
	}
	return l.done
}

// Err is context.Context's.
func (l *living) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Deadline is context.Context's.
func (l *living) Deadline() (at time.Time, ok bool) { return at, false }

// Value is context.Context's.
func (l *living) Value(any) any { return nil }
