// This file is how polls follow each other: between two requests nothing is to be done, and no goroutine waits.

package upstream

import (
	"context"
	"sync"
	"time"

	"sidestream/translate"
)

// pollConn is a run of polls that succeed.
type pollConn struct {
	*poll
	has     answer // that is to be emitted
	resumed bool
	slept   bool // it is time for the next request
	rouse   rouse
}

// Resumed is false when RESET has forgotten the cursor since.
func (c *pollConn) Resumed() bool { return c.resumed }

// Run is Conn's.
func (c *pollConn) Run(ctx context.Context, emit func([]translate.Message) error) error {
	_, err := c.Turn(ctx, emit, nil, false)
	return err
}

// Turn is Dozer's: between two requests there is nothing to be done.
func (c *pollConn) Turn(ctx context.Context, emit func([]translate.Message) error, wake func(), _ bool) (asleep bool, err error) {
	defer func() {
		if !asleep {
			c.rouse.release()
		}
	}()
	for {
		if c.slept {
			c.rouse.end()
			if err := ctx.Err(); err != nil {
				return false, err
			}
			c.slept = false
			if c.has, err = c.ask(ctx); err != nil {
				return false, err
			}
		}
		if err := c.tell(emit); err != nil {
			return false, err
		}
		c.slept = true
		wait := time.Until(c.next())
		if wake != nil && wait > 0 {
			c.rouse.begin(ctx, wait, wake)
			return true, nil
		}
		if err := sleep(ctx, wait); err != nil {
			return false, err
		}
	}
}

// Comes is [Foreseer]'s: an answer's messages are emitted at once.
func (c *pollConn) Comes() Coming { return ComesNothing }

// tell emits what an answer has brought.
func (c *pollConn) tell(emit func([]translate.Message) error) error {
	a := c.has
	c.has = answer{}
	// The first answer of a list is history even when it is empty, so the stream is told of it in any case.
	c.ahead = a.cursor
	if a.first || len(a.messages) > 0 {
		if err := emit(a.messages); err != nil {
			return err
		}
	}
	c.keep(a.cursor)
	if a.done {
		return translate.ErrFinished
	}
	return nil
}

// rouse calls somebody once each time that it is begun, after a time or at the end of a context. The zero value calls nobody.
type rouse struct {
	mu    sync.Mutex // guards what follows: who is called may be sooner than begin returns
	wake  func()     // who is to be called; nil: nobody
	timer *time.Timer
	stop  func() bool // waiting for the context's end
}

// begin is given the same context each time, until release.
func (r *rouse) begin(ctx context.Context, after time.Duration, wake func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wake = wake
	if r.timer == nil {
		r.timer = time.AfterFunc(after, r.call)
		r.stop = whenOver(ctx, r.call)
		return
	}
	if ctx.Err() != nil { // of which nobody was told
		after = 0
	}
	r.timer.Reset(after)
}

// call is what the timer, and the context's end, do.
func (r *rouse) call() {
	r.mu.Lock()
	wake := r.wake
	r.wake = nil
	r.mu.Unlock()
	if wake != nil {
		wake()
	}
}

// end has nobody called any more, until begin is called again.
func (r *rouse) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wake = nil
	if r.timer != nil {
		r.timer.Stop()
	}
}

// release is end for good.
func (r *rouse) release() {
	r.end()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stop != nil {
		r.stop()
	}
	r.timer, r.stop = nil, nil
}

// whenOver is [context.AfterFunc], without a context for it where ctx can do so by itself.
func whenOver(ctx context.Context, f func()) (stop func() bool) {
	if ctx, ok := ctx.(interface{ AfterFunc(func()) func() bool }); ok {
		return ctx.AfterFunc(f)
	}
	return context.AfterFunc(ctx, f)
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
