// This file is how far a connection of ASP.NET SignalR was read. A cursor is "d-", a number that the server's process has made up, "-", and then for each topic
// that the connection listens to - its hub, itself, its groups - a name, a comma and how many messages the topic has had, in hexadecimal, with | between
// them. The rules:
//
//   - A server keeps the last 1,000 messages of each topic, or as many as it is told, at least 32, in fragments of a quarter of that. What it has let go of, it
//     leaves out without a word. It sends at most 10 messages of one topic at once, so that a topic that is further on than that has left some out. Of the
//     smallest fragments, of 8 or 9, 8 come at once: there what came is counted.
//   - Not every message that a topic counts comes: commands to the connection do not, nor what was sent to others alone.
//   - Another process's cursor, or one of topics that it has let go of, a server takes for none, and goes on with what comes next. The process's number, and
//     the topics' names, tell. The first message of a connection that goes on is held against what came to the last message.
//   - A group that the connection is told to join while it is lost, or was told to just before, is one of which it gets what comes from then on. What it is told
//     comes before the message with S.
//   - A server with a backplane (Redis, SQL, Service Bus) has other cursors, "s-", which tell nothing of this: each reconnect is a new connection, with a gap.

package dialect

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
)

const (
	classicBatch   = 10 // messages of a topic that come at once
	classicQuarter = 8  // of the smallest ring

	maxClassicCursor = 4 << 10 // bytes of a cursor that is gone on from; servers take no long addresses
	maxClassicGroups = 8 << 10 // of what says the groups
	maxClassicTopics = 256
)

// classicPlace is what is known of a connection at the server. The zero value is one that ends with its WebSocket.
type classicPlace struct {
	token     string // "" there is none
	elsewhere Dial   // where a redirect has led; without URL it is at FROM
	stands    bool   // it was ready, so that the next WebSocket goes on with it
	tries     int    // WebSockets since it was ready

	cursor  classicCursor // of the last message
	written string        // the same, as it came
	groups  string        // the last G; "" it is in none

	silence time.Duration // KeepAliveTimeout; 0: none
	away    time.Duration // DisconnectTimeout
	seen    time.Time     // when the last message came
}

// classicCursor is how far each topic was read.
type classicCursor struct {
	process string // that has written it
	topics  map[string]uint64
}

// readClassicCursor reads a cursor; false: it is of another kind, or too long.
func readClassicCursor(text string) (c classicCursor, ok bool) {
	rest, ok := strings.CutPrefix(text, "d-")
	process, rest, cut := strings.Cut(rest, "-")
	if !ok || !cut || process == "" || len(text) > maxClassicCursor {
		return c, false
	}
	c = classicCursor{strings.Clone(process), map[string]uint64{}}
	for topic := range strings.SplitSeq(rest, "|") {
		name, place, _ := strings.Cut(topic, ",")
		n, err := strconv.ParseUint(place, 16, 64)
		if _, has := c.topics[name]; err != nil || has || len(c.topics) == maxClassicTopics {
			return classicCursor{}, false
		}
		c.topics[strings.Clone(name)] = n
	}
	return c, true
}

// moved holds the cursor of a message against the one before and how many messages have come, and reports whether some are missing. An error means that the
// server goes on with something else.
func (s *signalRClassic) moved(now classicCursor, known bool, came int) (missing bool, err error) {
	was, first := s.cursor, s.going && !s.begun
	switch {
	case was.topics == nil:
		return false, nil
	case !known || now.process != was.process:
		if first {
			return false, errors.New("the server does not know any more how far the connection was read; another process of it has answered")
		}
		return true, nil
	}
	total, far, wide := uint64(0), false, false
	for name, at := range was.topics {
		to, has := now.topics[name]
		switch {
		case !has && first:
			return false, errors.New("the server has let go of what the connection listens to")
		case !has: // it has left a group
			continue
		case to < at:
			return false, errors.New("the server counts messages anew")
		}
		far, wide = far || to-at > classicBatch, wide || to-at > classicQuarter
		total += min(to-at, math.MaxUint32)
	}
	if s.going && !s.caught {
		for name := range now.topics {
			if _, had := was.topics[name]; !had {
				return true, nil
			}
		}
	}
	if s.unsure {
		return false, nil
	}
	return far || total > uint64(came) && (wide || first), nil
}

// reached notes where a message ends.
func (s *signalRClassic) reached(now classicCursor, known bool, written string) {
	s.unsure = false
	s.cursor, s.written = now, ""
	if known {
		s.written = strings.Clone(written)
	}
	s.settle()
}

// settle finds out whether the connection can be gone on with.
func (s *signalRClassic) settle() {
	s.stands = s.ready && s.token != "" && s.written != "" && len(s.groups) <= maxClassicGroups
	s.used = s.used || s.stands
}

// forget lets go of the connection: the next WebSocket begins another one.
func (s *signalRClassic) forget() { s.classicPlace = classicPlace{} }
