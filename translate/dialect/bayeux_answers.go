// This file is what Bayeux servers answer: to the handshake, to subscriptions, and to connects.

package dialect

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"sidestream/translate"
)

// admitted takes the answer to the handshake.
func (s *bayeux) admitted(m bayeuxMessage, good bool, got *Received) (err error) {
	if s.renewed {
		return nil // one in this frame was an answer
	}
	if !good {
		return s.failed("the handshake", m, http.StatusForbidden)
	}
	if m.ClientID == "" || len(m.ClientID) > maxBayeuxID {
		return errors.New("the handshake gave no client id")
	}
	s.client = m.ClientID
	if string(m.Ext.Ack) == "true" {
		s.ack = "-1"
	}
	if s.replays = string(m.Ext.Replay) == "true"; s.replays && s.positions == nil {
		s.positions = map[string]string{}
	}
	got.Replies, err = s.subscribeAll()
	return err
}

func (s *bayeux) subscribed(m bayeuxMessage, good bool, got *Received) (err error) {
	if !good {
		return s.stranger("a subscription", m, got)
	}
	var channel string
	if json.Unmarshal(m.Subscription, &channel) != nil {
		var list []string
		if json.Unmarshal(m.Subscription, &list) != nil || len(list) != 1 {
			return errors.New("an answer to a subscription names none")
		}
		channel = list[0]
	}
	delete(s.asked, channel)
	if !s.ready && len(s.asked) == 0 {
		s.ready = true
		got.Ready, got.Resumed = true, s.nothingLost()
		s.orderly = false
	}
	return nil
}

// connected takes the answer to a connect: the next one goes out.
func (s *bayeux) connected(m bayeuxMessage, good bool, got *Received) error {
	if !good {
		return s.stranger("/meta/connect", m, got)
	}
	var batch json.Number
	acknowledged := s.ack != "" && json.Unmarshal(m.Ext.Ack, &batch) == nil && bayeuxNumber.MatchString(string(batch))
	if acknowledged {
		s.ack = string(batch)
	}
	if s.spun++; len(got.Messages) > 0 || s.seen.Sub(s.answered) >= s.pause()+time.Second/2 {
		s.spun = 0
	}
	s.answered = s.seen
	switch {
	case s.pause() > 0:
		s.waiting = true
	case acknowledged:
		got.Acks = append(got.Acks, s.connect()) // which says that the batch has arrived
	default:
		got.Replies = append(got.Replies, s.connect())
	}
	return nil
}

// stranger takes an answer that is no success: of a server that does not know the client any more, a new one is asked for.
func (s *bayeux) stranger(what string, m bayeuxMessage, got *Received) (err error) {
	code, _, _ := strings.Cut(m.Error, ":")
	advised := m.Advice != nil && m.Advice.Reconnect == "handshake"
	unknown := advised || code == "401" || code == "402"
	switch {
	case unknown && s.old:
		got.Replies, err = s.handshake()
		return err
	case unknown && s.client == "":
		return nil // to what was sent with the old id
	case unknown && (s.ready || advised):
		s.client = ""
		return &translate.Later{After: max(s.interval, time.Second), Err: errors.New("the server does not know the client any more")}
	}
	return s.failed(what, m, http.StatusForbidden)
}
