// This file is what a reconnect to AnyCable asks for: positions in streams, and a time. See actioncable.go for its rules.

package dialect

import (
	"slices"
	"time"
)

// cablePosition is how far a stream was read.
type cablePosition struct {
	Epoch  string `json:"epoch"`
	Offset int64  `json:"offset"` // to ask from
	seen   []int64
	came   int // messages of a history that was asked for by time alone; -1 when there is an offset to ask from
}

// age gives up resuming once the history may have dropped what was missed.
func (s *cable) age(now time.Time) {
	if s.resuming && now.Sub(s.heard) >= cableHistoryTTL {
		s.resuming = false
		s.forget()
	}
}

// forget drops the positions.
func (s *cable) forget() {
	s.since, s.lost, s.asked, s.streams = 0, false, false, map[string]map[string]*cablePosition{}
}

// Resumable is true when there is a time to ask from: a stream without messages has no other position.
func (s *cable) Resumable() bool { return s.extended && s.since > 0 && !s.lost }

type cableHistory struct {
	Since   int64                     `json:"since"`
	Streams map[string]*cablePosition `json:"streams"`
}

// positions are those of an identifier's streams, never nil.
func (s *cable) positions(id string) map[string]*cablePosition {
	if s.streams[id] == nil {
		return map[string]*cablePosition{}
	}
	for _, at := range s.streams[id] {
		at.Offset = at.complete()
	}
	return s.streams[id]
}

// complete is the last of the offsets seen before which none is missing.
func (p *cablePosition) complete() int64 {
	seen := slices.Sorted(slices.Values(p.seen))
	for i, offset := range seen[1:] {
		if offset != seen[i]+1 {
			return seen[i]
		}
	}
	return seen[len(seen)-1]
}

// track notes a message's position; false: it has been received before.
func (s *cable) track(m cableMessage) bool {
	if m.StreamID == "" || m.Epoch == "" || m.Offset == nil || !slices.Contains(s.ids, m.Identifier) {
		return true
	}
	streams := s.streams[m.Identifier]
	if streams == nil {
		streams = map[string]*cablePosition{}
		s.streams[m.Identifier] = streams
	}
	at := streams[m.StreamID]
	if at == nil && len(streams) >= maxCableKeeps || len(m.StreamID) > maxCableID || len(m.Epoch) > maxCableID {
		s.lost = true
		return true
	}
	if at == nil || at.Epoch != m.Epoch {
		at = &cablePosition{Epoch: m.Epoch, came: -1}
		if s.histories[m.Identifier] {
			at.came = 0
		}
		streams[m.StreamID] = at
	}
	if at.came >= 0 && s.histories[m.Identifier] {
		if at.came++; at.came >= cableHistoryLimit {
			s.complete = false
		}
	}
	if slices.Contains(at.seen, *m.Offset) {
		return false
	}
	if at.seen = append(at.seen, *m.Offset); len(at.seen) > maxCableSeen {
		at.seen = append(at.seen[:0], at.seen[1:]...)
	}
	return true
}
