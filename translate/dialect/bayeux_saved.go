package dialect

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"time"

	"sidestream/translate"
)

// HandOn keeps the client at the server.
func (s *bayeux) HandOn() { s.handed = true }

// Save is the client's id, the last batch, and the last id of each channel. Without a client, as while a handshake goes on or is refused for now, the channels' ids
// are what counts.
func (s *bayeux) Save() (saved []byte) {
	if s.client == "" && !s.replays {
		return nil
	}
	fields := []string{s.client, s.ack, "", strconv.FormatInt(s.seen.Unix(), 10)}
	if s.replays {
		fields[2] = "replays"
	}
	for _, channel := range slices.Sorted(maps.Keys(s.positions)) {
		fields = append(fields, channel, s.positions[channel])
	}
	for _, f := range fields {
		saved = translate.AppendField(saved, f)
	}
	if len(saved) > translate.MaxSaved {
		return nil
	}
	return saved
}

// bayeuxNumber is what is said back to a server as it has said it.
var bayeuxNumber = regexp.MustCompile(`^-?[0-9]{1,31}$`)

// Failed lets go of what a connection has brought that was not ready: with replay it is asked for again.
func (s *bayeux) Failed() bool {
	if s.replays {
		s.positions = maps.Clone(s.before)
	}
	return s.replays
}

// Restore is Save's other half.
func (s *bayeux) Restore(saved []byte) error {
	fields, err := translate.AllFields(saved)
	if err != nil {
		return err
	}
	if len(fields) < 4 || len(fields)%2 != 0 || len(fields) > 4+2*maxOverheard {
		return translate.ErrSaved
	}
	seen, err := strconv.ParseInt(fields[3], 10, 64)
	if err != nil || fields[0] == "" && fields[2] == "" || len(fields[0]) > maxBayeuxID || fields[1] != "" && !bayeuxNumber.MatchString(fields[1]) {
		return translate.ErrSaved
	}
	place := bayeuxPlace{client: fields[0], ack: fields[1], replays: fields[2] != "", seen: time.Unix(seen, 0), positions: map[string]string{}}
	for at := 4; at < len(fields); at += 2 {
		if !bayeuxNumber.MatchString(fields[at+1]) {
			return translate.ErrSaved
		}
		place.positions[fields[at]] = fields[at+1]
	}
	s.bayeuxPlace, s.orderly = place, false
	return nil
}

// nothingLost reports whether what came between the last connection and this one is known to come.
func (s *bayeux) nothingLost() bool {
	if s.old {
		return s.orderly || s.ack != ""
	}
	if !s.replays || s.away > bayeuxKept {
		return false
	}
	lines, err := s.Subscribe()
	for _, line := range lines {
		if channel, _, err := bayeuxLine(line); err != nil || s.positions[channel] == "" {
			return false
		}
	}
	return err == nil
}
