// This file is what a route adds to any dialect: its opening script (HELLO), what it remembers (STATE), its replies (REPLY),
// its keepalive (PING, PONG) and what close codes mean to it (CLOSE). The rules:
//
//   - Steps run in order once the dialect is ready: ">" sends, "=" sends what a program computes from the state, "<" waits for a
//     message, "@" makes an HTTP request, "!" means refused, "~" means to reconnect.
//   - Each incoming message meets RESUMED, until the opening is complete, with the state before it; then STATE; then every
//     "!" and "~" seen so far, the waiting "<", PONG, and REPLY. What "<" or PONG takes is not emitted. A "!" or "~" applies
//     from its line on until the connection ends.
//   - A step's program that fails has not matched: feeds mix messages of several shapes. A failing REPLY or STATE is reported,
//     and so is any program that ran out of time.
//   - A ping that is due while the one before has not been answered (PONG) ends the connection.

package dialect

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"sidestream/translate"
)

// StepTimeout is how long one "<" of HELLO waits before the connection is given up for a new one.
const StepTimeout = 10 * time.Second

// Step is one line of HELLO: exactly one field is set.
type Step struct {
	Send      translate.Text
	Compute   *translate.Code // each output over null, or over the answer of the Ask before it, is sent
	Wait      *translate.Code
	Refuse    *translate.Code
	Reconnect *translate.Code
	Ask       func(value func(name string) string) (*HTTPRequest, error) // the request, nil for none; value fills in placeholders
}

// Script is what a route adds to its dialect. The zero value adds nothing.
type Script struct {
	Steps    []Step
	Reply    *translate.Code  // each output is sent back; nil: nothing
	ReplyMax int              // frames of Reply a second; 0 any number
	Capture  *translate.Code  // STATE: each output, an object, is merged into State; nil: nothing is
	State    *translate.State // the stream's own, which templates insert; nil: one that only the script sees
	Resumed  *translate.Code  // true for a message of the opening: nothing was lost since the last connection; nil: that is never known
	Ping     translate.Text   // application-level keepalive; empty: none
	Every    time.Duration    // how often Ping is sent
	Interval *translate.Code  // or: milliseconds, computed over null whenever the state has changed
	Pong     *translate.Code  // true for the answer to Ping; nil: none is expected
	Close    ClosePolicy
	Ticket   func() (*HTTPRequest, error) // what is asked before each dial; nil: nothing
	Dial     *translate.Code              // the address, over Ticket's answer; nil: the dialect's

	Notes bool // what the script does with each frame is noted in Received.Notes

	// Bound gives the context, and what releases it, of programs that run over no message; nil: nothing bounds them.
	Bound func() (context.Context, context.CancelFunc)
}

// helloMarks are what a line of HELLO may begin with.
const helloMarks = "><!=~@"

// SplitHello splits the value of HELLO into its lines: each step's mark (one of > < ! = ~ @) and text. Blank lines are left
// out; a line without mark sends.
func SplitHello(hello string) (marks []byte, lines []string) {
	for line := range strings.Lines(hello) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		mark, text := byte('>'), line
		if strings.IndexByte(helloMarks, line[0]) >= 0 {
			mark, text = line[0], strings.TrimSpace(line[1:])
		}
		marks, lines = append(marks, mark), append(lines, text)
	}
	return marks, lines
}

// Wrap returns inner with what the script adds. What the script sends, inner puts in its own terms.
func (s *Script) Wrap(inner Session) Session {
	if len(s.Steps) == 0 && s.Reply == nil && s.Capture == nil && s.Ping.Empty() && s.Close == nil && s.Ticket == nil && s.Dial == nil {
		return inner
	}
	script := *s
	if script.State == nil {
		script.State = new(translate.State)
	}
	return &scripted{Session: inner, script: &script}
}

type scripted struct {
	Session
	script *Script

	// Of the present connection.
	ready    bool         // the dialect is, so the steps run
	resumed  bool         // according to the dialect or RESUMED
	next     int          // index of the next step
	asking   *HTTPRequest // of the step at next, to be made; nil: none
	at       string       // what DIAL yielded for it; "": it is at FROM
	answer   []byte       // of the last request, JSON; nil: there was none
	parsed   any          // the same, parsed
	fresh    bool         // no = has read it yet
	watching []watch
	count    translate.Counter
	interval time.Duration // of PING, as its program has it
	unheard  bool          // PING was sent and PONG has not come

	// Over all connections.
	failing  string    // what DIAL yielded last, until a connection there was ready
	now      time.Time // of the last frame
	counting time.Time // when the second began in which...
	replies  int       // ...so many frames of REPLY were sent

	// Since each was sent last.
	sinceInner, sinceOwn time.Duration
}

// watch is a program that ends the connection when it is true.
type watch struct {
	code *translate.Code
	err  error
}

var (
	errMatchedRefusal   = translate.Ruled{Refused: &translate.Refused{Status: 403, Reason: "a message matched a ! line of HELLO"}}
	errMatchedReconnect = errors.New("a message matched a ~ line of HELLO")
)

func (s *scripted) Open(subprotocol string) ([]Frame, error) {
	s.ready, s.resumed, s.next, s.watching, s.count = false, false, 0, nil, translate.Counter{}
	s.asking, s.answer, s.parsed, s.fresh = nil, nil, nil, false
	s.sinceInner, s.sinceOwn, s.unheard = 0, 0, false
	s.bounded(s.schedule) // one that fails without a state sets no interval yet
	frames, err := s.Session.Open(subprotocol)
	if err != nil || s.Session.Timers().Opening > 0 {
		return frames, err
	}
	s.ready = true
	more, err := s.advance()
	return append(frames, more...), err
}

// bounded runs f, which runs programs that belong to no message.
func (s *scripted) bounded(f func(context.Context) error) error {
	if s.script.Bound == nil {
		return f(context.Background())
	}
	ctx, release := s.script.Bound()
	defer release()
	return f(ctx)
}

// advance takes the steps up to the next wait, or to the end.
func (s *scripted) advance() ([]Frame, error) {
	var frames []Frame
	for ; s.next < len(s.script.Steps); s.next++ {
		step := s.script.Steps[s.next]
		var sent []Frame
		var err error
		switch {
		case step.Wait != nil:
			return frames, nil
		case step.Ask != nil:
			if s.asking, err = step.Ask(s.value); err != nil {
				return nil, fmt.Errorf("HELLO line %d: %w", s.next+1, err)
			}
			if s.asking != nil {
				return frames, nil
			}
			s.answer, s.parsed, s.fresh = []byte("null"), nil, true
		case step.Refuse != nil, step.Reconnect != nil:
			s.watchFor(step)
		case step.Compute != nil:
			sent, err = s.computed(step.Compute)
		default:
			sent, err = s.fill(step.Send)
		}
		if err != nil {
			return nil, fmt.Errorf("HELLO line %d: %w", s.next+1, err)
		}
		frames = append(frames, sent...)
	}
	s.failing = ""
	return frames, nil
}

// skip is for a connection on which everything that the steps ask for still stands: only what they watch for applies.
func (s *scripted) skip() {
	for _, step := range s.script.Steps {
		s.watchFor(step)
	}
	s.next = len(s.script.Steps)
}

// watchFor begins to watch, if that is what the step asks for.
func (s *scripted) watchFor(step Step) {
	switch {
	case step.Refuse != nil:
		s.watching = append(s.watching, watch{step.Refuse, errMatchedRefusal})
	case step.Reconnect != nil:
		s.watching = append(s.watching, watch{step.Reconnect, errMatchedReconnect})
	}
}

// computed is what code computes from the state.
func (s *scripted) computed(code *translate.Code) (frames []Frame, err error) {
	err = s.bounded(func(ctx context.Context) error {
		m := s.nothing()
		if s.fresh {
			m.Data, s.fresh = s.answer, false
		}
		frames, err = s.outputs(ctx, code, m)
		return err
	})
	return frames, err
}

// nothing is the message that programs see which run over the state alone.
func (s *scripted) nothing() translate.Message {
	m := translate.Message{Data: []byte("null")}
	m.SetState(s.script.State)
	m.SetAnswer(s.parsed)
	return m
}

// value fills in the placeholders of frames.
func (s *scripted) value(name string) string {
	switch name {
	case translate.StateName:
		return s.script.State.JSON()
	case translate.AnswerName:
		return string(s.answer)
	}
	if name, ok := strings.CutPrefix(name, translate.StatePrefix); ok {
		return s.script.State.Text(name)
	}
	return s.count.Value(name)
}

func (s *scripted) fill(t translate.Text) ([]Frame, error) {
	text, err := t.Fill(s.value)
	if err != nil {
		return nil, err
	}
	return s.Session.Send(translate.Message{Data: []byte(text)})
}

// complete reports whether the opening is.
func (s *scripted) complete() bool { return s.ready && s.next >= len(s.script.Steps) }

func (s *scripted) Receive(ctx context.Context, now time.Time, f Frame) (Received, error) {
	was := s.complete()
	s.now = now
	got, ended := s.Session.Receive(ctx, now, f)
	messages := got.Messages
	got.Messages = messages[:0:0]
	for _, m := range messages {
		if err := s.meet(ctx, m, &got); err != nil {
			s.Session.Failed() // what the script gives up is not gone on with
			return got, err
		}
	}
	if ended != nil {
		return got, ended
	}
	if got.Ready {
		s.ready, s.resumed = true, s.resumed || got.Resumed
		if got.Continued {
			s.skip()
		}
		frames, err := s.advance()
		if err != nil {
			return got, err
		}
		got.Replies = append(got.Replies, frames...)
	}
	got.Ready = !was && s.complete()
	got.Resumed = got.Ready && s.resumed
	return got, nil
}

// meet shows the programs one message, and adds it to got unless one of them takes it.
func (s *scripted) meet(ctx context.Context, m translate.Message, got *Received) error {
	m.SetState(s.script.State)
	m.SetAnswer(s.parsed)
	if m.Gap != "" || !s.reads() {
		got.Messages = append(got.Messages, m)
		return nil
	}
	m, err := m.Parse(false)
	if err != nil {
		return err
	}
	s.remember(ctx, &m, got)
	for _, w := range s.watching {
		yes, err := w.code.Truth(ctx, m)
		if yes && err == nil && w.err == errMatchedReconnect && s.moves() {
			s.note(got, "a line of HELLO that watches (~) is true for it: the connection moves to another address")
			got.Moving = true
			return nil
		}
		if yes && err == nil {
			s.note(got, "a line of HELLO that watches (! or ~) is true for it")
			return w.err
		}
		got.cut(err)
	}
	if taken, err := s.wait(ctx, m, got); taken || err != nil {
		return err
	}
	if s.answered(ctx, m, got) {
		s.note(got, "PONG took it")
		return nil
	}
	if err := s.reply(ctx, m, got); err != nil {
		return err
	}
	got.Messages = append(got.Messages, m)
	return nil
}

// remember runs RESUMED with the state before m, then STATE, and lets the programs after these see the new state.
func (s *scripted) remember(ctx context.Context, m *translate.Message, got *Received) {
	if s.script.Resumed != nil && !s.complete() && !s.resumed {
		yes, err := s.script.Resumed.Truth(ctx, *m)
		s.resumed = yes && err == nil
		got.cut(err)
	}
	if s.script.Capture == nil {
		return
	}
	if err := s.script.State.Take(ctx, s.script.Capture, *m); err != nil {
		got.fail(err)
	}
	m.SetState(s.script.State)
	if err := s.schedule(ctx); err != nil {
		got.fail(err)
	}
}

// answered reports whether a message is the answer to PING.
func (s *scripted) answered(ctx context.Context, m translate.Message, got *Received) bool {
	if s.script.Pong == nil {
		return false
	}
	yes, err := s.script.Pong.Truth(ctx, m)
	got.cut(err)
	if !yes || err != nil {
		return false
	}
	s.unheard = false
	return true
}

// reads reports whether any program has to see messages now.
func (s *scripted) reads() bool {
	return len(s.watching) > 0 || s.script.Reply != nil || s.script.Capture != nil || s.script.Pong != nil || s.ready && s.next < len(s.script.Steps)
}

// wait tries the waiting step, and takes the ones after it if this is the message that it waits for.
func (s *scripted) wait(ctx context.Context, m translate.Message, got *Received) (taken bool, err error) {
	if !s.ready || s.next >= len(s.script.Steps) || s.asking != nil {
		return false, nil
	}
	yes, err := s.script.Steps[s.next].Wait.Truth(ctx, m)
	if !yes || err != nil {
		got.cut(err)
		return false, nil
	}
	s.next++
	s.note(got, fmt.Sprintf("line %d of HELLO took it", s.next))
	frames, err := s.advance()
	got.Replies = append(got.Replies, frames...)
	return true, err
}

// Resumable is also true when RESUMED can tell on the next connection whether anything was lost.
func (s *scripted) Resumable() bool {
	return s.Session.Resumable() || s.script.Resumed != nil && s.script.State.Len() > 0
}

// Closed lets the route's policy decide before the dialect.
func (s *scripted) Closed(code int, reason string) error {
	rule := s.script.Close.rule(code)
	if d, ok := s.Session.(interface{ Died(int, string) bool }); ok && d.Died(code, reason) {
		rule = nil
	}
	if rule == nil {
		return s.Session.Closed(code, reason)
	}
	if rule.forget {
		s.script.State.Forget()
	}
	if rule.err != nil {
		return rule.err
	}
	return fmt.Errorf("closed by the upstream with code %d", code)
}
