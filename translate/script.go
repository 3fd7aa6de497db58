// This file is the opening script of a connection (HELLO), its replies (REPLY) and its keepalive (PING), over any
// dialect. The rules:
//
//   - Steps run in order once the dialect is ready: ">" sends, "<" waits for a message, "!" means refused.
//   - Each incoming message meets every "!" seen so far, then the waiting "<", then REPLY; what "<" takes goes no
//     further. A "!" holds from its line on until the connection ends.
//   - A step's program that fails has not matched: feeds mix messages of several shapes. A failing REPLY is reported, and
//     so is any program that was cut for its time.

package translate

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// StepTimeout is how long one "<" of HELLO waits before the connection is given up and made anew.
const StepTimeout = 10 * time.Second

// Step is one line of HELLO: exactly one field is set.
type Step struct {
	Send   Text
	Wait   *Code
	Refuse *Code
}

// Script is what a route adds to its dialect. The zero value adds nothing.
type Script struct {
	Steps []Step
	Reply *Code         // each output is sent back; nil: nothing
	Ping  Text          // application-level keepalive; empty: none
	Every time.Duration // how often Ping is sent
}

// SplitHello splits the value of HELLO into its lines: each step's mark ('>', '<' or '!') and text. Blank lines are left
// out; a line without mark sends.
func SplitHello(hello string) (marks []byte, lines []string) {
	for line := range strings.Lines(hello) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		mark, text := byte('>'), line
		if strings.IndexByte("><!", line[0]) >= 0 {
			mark, text = line[0], strings.TrimSpace(line[1:])
		}
		marks, lines = append(marks, mark), append(lines, text)
	}
	return marks, lines
}

// Wrap returns inner with the script's steps, replies and keepalive. What inner is asked to send, it puts in its own
// terms.
func (s *Script) Wrap(inner Session) Session {
	if len(s.Steps) == 0 && s.Reply == nil && s.Ping.Empty() {
		return inner
	}
	return &scripted{Session: inner, script: s}
}

type scripted struct {
	Session
	script *Script

	// Of the present connection.
	ready    bool // the dialect is, so the steps run
	resumed  bool // as the dialect said
	next     int  // step to be done
	refusing []*Code
	count    Counter

	// Since each was sent last.
	sinceInner, sinceOwn time.Duration
}

func (s *scripted) Open(subprotocol string) ([]Frame, error) {
	s.ready, s.resumed, s.next, s.refusing, s.count = false, false, 0, nil, Counter{}
	s.sinceInner, s.sinceOwn = 0, 0
	frames, err := s.Session.Open(subprotocol)
	if err != nil || s.Session.Timers().Opening > 0 {
		return frames, err
	}
	s.ready = true
	more, err := s.advance()
	return append(frames, more...), err
}

// advance does the steps up to the next wait, or to the end.
func (s *scripted) advance() ([]Frame, error) {
	var frames []Frame
	for ; s.next < len(s.script.Steps); s.next++ {
		step := s.script.Steps[s.next]
		switch {
		case step.Wait != nil:
			return frames, nil
		case step.Refuse != nil:
			s.refusing = append(s.refusing, step.Refuse)
		default:
			sent, err := s.fill(step.Send)
			if err != nil {
				return nil, fmt.Errorf("HELLO line %d: %w", s.next+1, err)
			}
			frames = append(frames, sent...)
		}
	}
	return frames, nil
}

func (s *scripted) fill(t Text) ([]Frame, error) {
	text, err := t.Fill(s.count.Value)
	if err != nil {
		return nil, err
	}
	return s.Session.Send(Message{Data: []byte(text)})
}

func (s *scripted) through() bool { return s.ready && s.next >= len(s.script.Steps) }

func (s *scripted) Receive(ctx context.Context, f Frame) (Received, error) {
	was := s.through()
	got, ended := s.Session.Receive(ctx, f)
	messages := got.Messages
	got.Messages = messages[:0:0]
	for _, m := range messages {
		if err := s.meet(ctx, m, &got); err != nil {
			return got, err
		}
	}
	if ended != nil {
		return got, ended
	}
	if got.Ready {
		s.ready, s.resumed = true, got.Resumed
		frames, err := s.advance()
		if err != nil {
			return got, err
		}
		got.Replies = append(got.Replies, frames...)
	}
	got.Ready = !was && s.through()
	got.Resumed = got.Ready && s.resumed
	return got, nil
}

// meet takes one message past "!", "<" and REPLY into got.
func (s *scripted) meet(ctx context.Context, m Message, got *Received) error {
	if m.Gap != "" || !s.reads() {
		got.Messages = append(got.Messages, m)
		return nil
	}
	in, err := newInput(m, false)
	if err != nil {
		return err
	}
	m.parsed = &in
	for _, refuse := range s.refusing {
		yes, err := refuse.truth(ctx, in.value, in.known)
		if yes && err == nil {
			return &Refused{403, "a message matched a ! line of HELLO"}
		}
		got.cut(err)
	}
	if taken, err := s.wait(ctx, in, got); taken || err != nil {
		return err
	}
	s.reply(ctx, in, got)
	got.Messages = append(got.Messages, m)
	return nil
}

// reads says whether any program wants to see messages now.
func (s *scripted) reads() bool {
	return len(s.refusing) > 0 || s.script.Reply != nil || s.ready && s.next < len(s.script.Steps)
}

// wait tries the waiting step, and does those behind it if it has what it waits for.
func (s *scripted) wait(ctx context.Context, in input, got *Received) (taken bool, err error) {
	if !s.ready || s.next >= len(s.script.Steps) {
		return false, nil
	}
	yes, err := s.script.Steps[s.next].Wait.truth(ctx, in.value, in.known)
	if !yes || err != nil {
		got.cut(err)
		return false, nil
	}
	s.next++
	frames, err := s.advance()
	got.Replies = append(got.Replies, frames...)
	return true, err
}

// cut notes a program that was cut for its time, once for a message: those behind it had none left.
func (r *Received) cut(err error) {
	if errors.Is(err, context.DeadlineExceeded) && len(r.Failed) == 0 {
		r.Failed = append(r.Failed, err)
	}
}

// maxReplies bounds what one message can make us send.
const maxReplies = 64

func (s *scripted) reply(ctx context.Context, in input, got *Received) {
	if s.script.Reply == nil {
		return
	}
	outputs, err := s.script.Reply.outputs(ctx, in.value, in.known)
	if err == nil && len(outputs) > maxReplies {
		err = &ProgramError{s.script.Reply.setting, fmt.Errorf("more than %d replies to one message", maxReplies)}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		got.cut(err)
		return
	}
	if err != nil {
		got.Failed = append(got.Failed, err)
		return
	}
	for _, data := range outputs {
		frames, err := s.Session.Send(Message{Data: data})
		if err != nil {
			got.Failed = append(got.Failed, &ProgramError{s.script.Reply.setting, err})
			return
		}
		got.Replies = append(got.Replies, frames...)
	}
}

func (s *scripted) Timers() Timers {
	t := s.Session.Timers()
	if s.ready && s.next < len(s.script.Steps) {
		t.Opening, t.Step = StepTimeout, t.Step+1+s.next
		t.Waiting = fmt.Sprintf("line %d of HELLO", s.next+1)
	}
	t.Every = shorter(t.Every, s.every())
	return t
}

// every is how often PING is sent, 0 never.
func (s *scripted) every() time.Duration {
	if s.script.Ping.Empty() {
		return 0
	}
	return s.script.Every
}

// shorter is the shorter of two spans of which 0 means never.
func shorter(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// Ping is asked for at the shorter of two intervals: the dialect's and PING's.
func (s *scripted) Ping() ([]Frame, error) {
	inner, own := s.Session.Timers().Every, s.every()
	passed := shorter(inner, own)
	var frames []Frame
	if s.sinceInner += passed; inner > 0 && s.sinceInner >= inner {
		s.sinceInner = 0
		sent, err := s.Session.Ping()
		if err != nil {
			return nil, err
		}
		frames = sent
	}
	if s.sinceOwn += passed; own > 0 && s.sinceOwn >= own {
		s.sinceOwn = 0
		sent, err := s.fill(s.script.Ping)
		if err != nil {
			return nil, err
		}
		frames = append(frames, sent...)
	}
	return frames, nil
}
