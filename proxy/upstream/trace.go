package upstream

import (
	"fmt"

	"sidestream/translate/dialect"
)

// Trace is told what becomes of what the upstream sends, by the goroutine that reads it. For one who looks on, not for service: see [Route.Trace].
type Trace struct {
	Arrived func(data []byte, binary bool)   // a frame, or the body of a poll; data is good until it returns
	Decoded func(data []byte, err error)     // what DECODE has made of it, or of a part of it, or why it failed
	Step    func(what string)                // something was done with it
	Made    func(events int, dropped string) // so many events came of a message; of none, dropped is what has dropped it
}

// Trace has t told of everything that the route's sources receive from now on. It is set before the first of them connects.
func (rt *Route) Trace(t *Trace) { rt.trace = t }

// Guess is the dialect that a first frame is of, "" when that is not to be told.
func Guess(data []byte) string { return dialect.Guess(data) }

// received tells of a frame and what the session has made of it.
func (t *Trace) received(f dialect.Frame, got dialect.Received, err error) {
	if t == nil {
		return
	}
	t.Arrived(f.Data, f.Binary)
	for _, one := range got.Decoded {
		t.decoded(one)
	}
	for _, note := range got.Notes {
		t.Step(note)
	}
	for _, failed := range got.Failed {
		t.Step("failed: " + failed.Error())
	}
	if len(got.Notes)+len(got.Decoded)+len(got.Failed)+len(got.Messages) == 0 && err == nil {
		t.Step("it is the dialect's own")
	}
	if err != nil {
		t.Step("ends the connection: " + err.Error())
	}
}

// applied tells what the route's programs have made of a message.
func (t *Trace) applied(rt *Route, events int, err error) {
	switch {
	case t == nil:
	case err != nil:
		t.Step("failed: " + err.Error())
		t.Made(0, "a program that failed")
	case events > 0:
		t.Made(events, "")
	case rt.program.Select != nil:
		t.Made(0, "SELECT")
	default:
		t.Made(0, "DATA")
	}
}

// arrived tells of an answer to a poll, or what a Redis has sent.
func (t *Trace) arrived(data []byte, binary bool) {
	if t != nil {
		t.Arrived(data, binary)
	}
}

// decoded tells what DECODE has made of one payload.
func (t *Trace) decoded(one dialect.Decoded) {
	if t != nil {
		t.Decoded(one.Data, one.Err)
	}
}

// step tells of what was done.
func (t *Trace) step(format string, args ...any) {
	if t != nil {
		t.Step(fmt.Sprintf(format, args...))
	}
}
