// This file finds out what a stream has trimmed in front of a consumer that was behind. What was trimmed and what has another subject look alike, a hole in the
// stream's numbers; only if the stream begins after the hole now, something may be missing there. It is asked for where there is a hole before a message
// that was in the stream when the one before it was delivered, not too often, and the hole is part of the place until that is answered.

package dialect

import (
	"errors"
	"strconv"
	"time"

	"sidestream/translate"
)

// natsLookEvery is after how many messages a stream is looked at again, while more are to come.
const natsLookEvery = 256

// natsHoles is what a consumer has passed over.
type natsHoles struct {
	behind  bool   // more were to come after the last message, or may have been
	looking string // the request that is not answered; "": none
	looked  uint64 // the consumer's number when it was made
	overdue bool   // a PING went out since
	next    uint64 // the first hole since
}

// passed is the place after a message of the stream's, after which so many are to come.
func (c *natsConsumer) passed(at natsPlace, stream, pending uint64) natsPlace {
	if due := at.seq + 1; stream > due && c.behind {
		if at.hole == 0 {
			at.hole = due
		} else if c.looking != "" && c.next == 0 {
			c.next = due
		}
	}
	at.seq, c.behind = stream, pending > 0
	return at
}

// lookForHoles asks about the stream where there is a reason to.
func (s *nats) lookForHoles(c *natsConsumer) []Frame {
	hole := s.places[c.key()].hole
	if hole == 0 || c.looking != "" || c.behind && c.at-c.looked < natsLookEvery {
		return nil
	}
	f := s.request(c, true, "STREAM.INFO."+c.stream, nil)
	c.looking, c.looked, c.overdue = strconv.Itoa(s.requests), c.at, false
	r := s.answers[c.looking]
	r.hole = hole
	s.answers[c.looking] = r
	return []Frame{f}
}

// lookAgain asks again where nothing has come since the last PING but one.
func (s *nats) lookAgain(c *natsConsumer) []Frame {
	if c.looking == "" {
		return nil
	}
	if !c.overdue {
		c.overdue = true
		return nil
	}
	delete(s.answers, c.looking)
	c.looking, c.looked = "", 0
	return s.lookForHoles(c)
}

// lookedAgain takes the answer.
func (s *nats) lookedAgain(r natsRequest, created string, state natsState, got *Received) error {
	c := r.consumer
	at := s.places[c.key()]
	if created != at.created {
		return &translate.Later{After: time.Second, Err: errors.New("the stream of a line of SUBSCRIBE has become another one")}
	}
	if state.FirstSeq > r.hole {
		got.Messages = append(got.Messages, translate.Message{Gap: translate.GapUpstream})
	}
	at.hole, c.next, c.looking = c.next, 0, ""
	s.places[c.key()] = at
	got.Replies = append(got.Replies, s.lookForHoles(c)...)
	return nil
}
