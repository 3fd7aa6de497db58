package jq

import (
	"context"
	"math"
	"math/bits"
	"runtime"
	"time"
)

// Bounds on one run.
const (
	stride     = 64       // steps between two looks at the context
	maxHeld    = 64 << 20 // bytes that a run may hold, beside its input and once more as much as that
	lookEvery  = 24 << 20 // bytes charged until what is held is looked at
	maxAnswer  = 32 << 20 // bytes that one call may make, or as many as the input has
	maxDigits  = 20000    // of a number that is counted with: arithmetic on it is not linear
	maxDepth   = 10000    // of nested values, as encoding/json reads them
	maxElement = 1 << 20  // the largest index that an assignment may fill a list up to
	heavySteps = 1 << 16  // from here on a run takes one of the slots
	heavyBytes = 8 << 20
)

// slots bounds how many runs that take long go on at once; the others wait, for as long as their context lets them.
var slots = make(chan struct{}, max(2, runtime.GOMAXPROCS(0)))

// turn lets runs inside each other share a slot.
type turn struct{ held bool }

type turnKey struct{}

// Shared is a context whose runs count as one where only so many may go on at once: needed where one is started by the
// output of another. It is to be released after them all.
type Shared struct {
	context.Context
	turn turn
}

// Share returns such a context, which ends with ctx.
func Share(ctx context.Context) *Shared { return &Shared{Context: ctx} }

// Release is called after all runs.
func (s *Shared) Release() { s.turn.release() }

// Value is context.Context's.
func (s *Shared) Value(key any) any {
	if key == (turnKey{}) {
		return &s.turn
	}
	return s.Context.Value(key)
}

func (t *turn) release() {
	if t.held {
		t.held = false
		<-slots
	}
}

// meter is the context of one run as gojq sees it, which asks for Done at every step.
type meter struct {
	machine *machine
	ctx     context.Context
	err     error // why the run ends
	env     *env
	value   any
	given   []any

	left    int // steps until the next look at the context
	steps   int
	charged int  // bytes, since what is held was looked at
	until   int  // how many of them until the next look
	stacks  int  // bytes of gojq's stacks that are part of charged
	input   int  // bytes of the input, 0 when they have not been counted
	heavy   bool // it has a slot, or shares one
	own     turn
}

func (m *meter) begin(ctx context.Context, value any, given []any) {
	m.ctx, m.value, m.given, m.left, m.until = ctx, value, given, stride, lookEvery
}

// end forgets the run.
func (m *meter) end() {
	m.own.release()
	*m = meter{machine: m.machine}
}

// Deadline, Done, Err and Value make it a context.
func (m *meter) Deadline() (time.Time, bool) { return m.ctx.Deadline() }

var closed = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// Done is called by gojq before each of its steps.
func (m *meter) Done() <-chan struct{} {
	if m.left--; m.left > 0 {
		return nil
	}
	m.check()
	if m.err != nil {
		return closed
	}
	return nil
}

// Err returns why the run ends.
func (m *meter) Err() error { return m.err }

// Value returns nothing: gojq asks for none.
func (m *meter) Value(any) any { return nil }

// stop ends the run at its next step.
func (m *meter) stop(err error) error {
	if m.err == nil {
		m.err = err
	}
	m.left = 0
	return m.err
}

// work counts n steps of a function. It reports whether the run may go on.
func (m *meter) work(n int) bool {
	if m.left -= n; m.left <= 0 && m.err == nil {
		m.check()
	}
	return m.err == nil
}

// charge counts bytes that are made, and the work to make them.
func (m *meter) charge(bytes int) bool {
	m.charged += bytes
	return m.work(bytes >> 9)
}

// product is a times b, neither of which is negative, or the most that an int holds where that is less: an int of 32 bits holds not all of them.
func product(a, b int) int {
	if high, low := bits.Mul64(uint64(a), uint64(b)); high == 0 && low <= math.MaxInt {
		return int(low)
	}
	return math.MaxInt
}

// answer charges for what a function is to return; false if that is too much.
func (m *meter) answer(bytes int) bool {
	if bytes > maxAnswer && bytes > m.inputSize() {
		m.stop(ErrMemory)
		return false
	}
	return m.charge(bytes)
}

// check looks at the context, and at what is held if much has been made.
func (m *meter) check() {
	done := stride - m.left
	m.steps, m.left = m.steps+done, stride
	m.charged += 8 * done // numbers and the like, which steps make
	if m.env != nil {
		now := m.env.stacked()
		m.charged += max(0, now-m.stacks)
		m.stacks = max(m.stacks, now)
	}
	if err := m.ctx.Err(); err != nil {
		m.stop(err)
		return
	}
	if !m.heavy && (m.steps > heavySteps || m.charged > heavyBytes) {
		m.enter()
	}
	if m.err == nil && m.charged > m.until {
		m.look()
	}
}

// enter waits for a slot.
func (m *meter) enter() {
	t, shared := m.ctx.Value(turnKey{}).(*turn)
	if !shared {
		t = &m.own
	}
	if !t.held {
		select {
		case slots <- struct{}{}:
			t.held = true
		case <-m.ctx.Done():
			m.stop(m.ctx.Err())
			return
		}
	}
	m.heavy = true
}

// stacked is how many bytes the stacks of a program take.
func (e *env) stacked() int {
	return 24*cap(e.stack.data) + 40*cap(e.paths.data) + 48*cap(e.scopes.data) + 16*cap(e.values) + 72*cap(e.forks)
}

// look measures what the run holds.
func (m *meter) look() {
	w := walk{most: math.MaxInt}
	w.input(m)
	m.input = w.bytes
	w.bytes, w.looks, w.most = 0, 0, maxHeld+m.input
	w.env(m.env)
	if w.bytes > w.most {
		m.stop(ErrMemory)
		return
	}
	m.charged, m.until = 0, max(lookEvery, w.bytes/2, m.input/2)
}

// inputSize is how many bytes the input has.
func (m *meter) inputSize() int {
	if m.input == 0 {
		w := walk{most: math.MaxInt}
		w.input(m)
		m.input = w.bytes
	}
	return m.input
}
