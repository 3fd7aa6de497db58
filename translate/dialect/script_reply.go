package dialect

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sidestream/translate"
)

// This file is what a script sends of its own accord: REPLY, and the frames of its programs.

// maxReplies bounds the frames that one message, or one line of HELLO, causes to be sent.
const maxReplies = 64

func (s *scripted) reply(ctx context.Context, m translate.Message, got *Received) error {
	if s.script.Reply == nil {
		return nil
	}
	frames, err := s.outputs(ctx, s.script.Reply, m)
	if err != nil {
		got.fail(err)
	}
	if most := s.script.ReplyMax; most > 0 && s.replied(len(frames)) > most {
		return fmt.Errorf("REPLY has sent %d frames within a second, which is what REPLY_MAX allows: does it answer what answers it?", most)
	}
	if len(frames) > 0 {
		s.note(got, fmt.Sprintf("REPLY answered it with %d frames", len(frames)))
	}
	got.Replies = append(got.Replies, frames...)
	return nil
}

// replied counts frames of REPLY, and returns how many there are in the second that has begun with the first of them.
func (s *scripted) replied(n int) int {
	if s.now.Sub(s.counting) >= time.Second {
		s.counting, s.replies = s.now, 0
	}
	s.replies += n
	return s.replies
}

// outputs are the frames of what code yields for m.
func (s *scripted) outputs(ctx context.Context, code *translate.Code, m translate.Message) (frames []Frame, err error) {
	outputs, err := code.Outputs(ctx, m)
	if err == nil && len(outputs) > maxReplies {
		err = fmt.Errorf("more than %d frames at once", maxReplies)
	}
	var failed *translate.ProgramError
	if errors.As(err, &failed) {
		return nil, err
	}
	for _, data := range outputs {
		if err != nil {
			break
		}
		var sent []Frame
		sent, err = s.Session.Send(translate.Message{Data: data})
		frames = append(frames, sent...)
	}
	if err != nil {
		return frames, &translate.ProgramError{Setting: code.Setting(), Err: err}
	}
	return frames, nil
}
