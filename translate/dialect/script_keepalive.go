package dialect

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"sidestream/translate"
)

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
	switch {
	case s.script.Ping.Empty():
		return 0
	case s.script.Interval != nil:
		return s.interval
	}
	return s.script.Every
}

// Bounds on an interval that may come from upstream.
const (
	minInterval = 10 * time.Millisecond
	maxInterval = 24 * time.Hour
)

// schedule computes the interval of PING; without a number there are no pings.
func (s *scripted) schedule(ctx context.Context) error {
	s.interval = 0
	if s.script.Interval == nil {
		return nil
	}
	v, _, err := s.script.Interval.Output(ctx, s.nothing())
	if err == nil {
		s.interval = milliseconds(v)
	}
	return err
}

// milliseconds is a program's number as a duration within the bounds, 0 for anything else.
func milliseconds(v any) time.Duration {
	if _, quoted := v.(string); quoted {
		return 0
	}
	text, err := translate.Written(v)
	if err != nil {
		return 0
	}
	ms, err := strconv.ParseFloat(string(text), 64) // null, which a NaN is written as too, is none
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return 0
	}
	least, most := float64(minInterval.Milliseconds()), float64(maxInterval.Milliseconds())
	return time.Duration(min(max(ms, least), most) * float64(time.Millisecond))
}

// shorter is the shorter of two intervals of which 0 means never.
func shorter(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

var errUnheard = errors.New("no message matched PONG since the last PING")

// due adds passed to the time since a ping, and reports whether the next one is due: now, or before Ping is called again.
func due(since *time.Duration, passed, every time.Duration) bool {
	*since += passed
	if every == 0 || *since+passed <= every {
		return false
	}
	*since = 0
	return true
}

// Ping is called at the shorter of two intervals: the dialect's and PING's. The other one is kept early rather than late,
// as servers disconnect clients that are late.
func (s *scripted) Ping() ([]Frame, error) {
	inner, own := s.Session.Timers().Every, s.every()
	passed := shorter(inner, own)
	var frames []Frame
	if due(&s.sinceInner, passed, inner) {
		sent, err := s.Session.Ping()
		if err != nil {
			return nil, err
		}
		frames = sent
	}
	if due(&s.sinceOwn, passed, own) {
		if s.unheard {
			return nil, errUnheard
		}
		s.unheard = s.script.Pong != nil
		sent, err := s.fill(s.script.Ping)
		if err != nil {
			return nil, err
		}
		frames = append(frames, sent...)
	}
	return frames, nil
}
