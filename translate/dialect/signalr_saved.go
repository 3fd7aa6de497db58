// This file is how another process goes on with a connection at the hub. The rules:
//
//   - It does so only where nothing is sent but what SUBSCRIBE and HELLO ask for, and results: it cannot know what was sent since the numbers were
//     saved, and the hub would take what it sends for that.
//   - What was sent and not acknowledged is not saved, since clients' values may be in it. Where the hub has not had it, the numbers do not fit.
//   - An address that a negotiation has led to comes with a token, and is not saved.

package dialect

import (
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"

	"sidestream/translate"
)

// HandOn keeps the connection at the hub.
func (s *signalr) HandOn() { s.handed = true }

// Cuts is true where another process may go on: a hub forgets what is closed in an orderly way.
func (s *signalr) Cuts() bool { return s.handed && s.saves() }

// saves reports whether another process can go on with the connection.
func (s *signalr) saves() bool { return s.stands && !s.Speaks && s.elsewhere.URL == "" }

// Save is the connection's id, the numbers, and which streams go on. Where another process cannot go on that is said too, so that what was
// saved before does not count any more.
func (s *signalr) Save() (saved []byte) {
	if !s.used {
		return nil
	}
	none := translate.AppendField(nil, "")
	if !s.saves() {
		return none
	}
	fields := []string{s.id, strconv.FormatInt(s.received, 10), strconv.FormatInt(s.counted, 10), strconv.FormatBool(s.endless)}
	fields = append(fields, s.going...)
	for _, f := range append(fields, slices.Sorted(maps.Keys(s.streams))...) {
		saved = translate.AppendField(saved, f)
	}
	if len(saved) > translate.MaxSaved {
		return none
	}
	return saved
}

// Restore is Save's other half.
func (s *signalr) Restore(saved []byte) error {
	fields, err := translate.AllFields(saved)
	if err != nil {
		return err
	}
	if len(fields) == 1 && fields[0] == "" {
		s.used = true
		return nil
	}
	if len(fields) < 4 || fields[0] == "" || len(fields[0]) > maxHubToken {
		return translate.ErrSaved
	}
	received, err := strconv.ParseInt(fields[1], 10, 64)
	counted, err2 := strconv.ParseInt(fields[2], 10, 64)
	endless, err3 := strconv.ParseBool(fields[3])
	if errors.Join(err, err2, err3) != nil || received < 0 || counted < 0 {
		return translate.ErrSaved
	}
	s.hubPlace = hubPlace{id: fields[0], stands: true, received: received, coming: received + 1, counted: counted}
	s.agreed, s.used, s.endless, s.going, s.streams = true, true, endless, fields[4:], nil
	return nil
}

// restoreStreams finds the methods of the streams that go on.
func (s *signalr) restoreStreams() error {
	lines, err := s.Subscribe()
	if err != nil {
		return err
	}
	s.waiting, s.streams = map[string]string{}, map[string]string{}
	for i, line := range lines {
		id := hubSubscription + strconv.Itoa(i+1)
		if c, err := parseHubCall(line); err == nil && slices.Contains(s.going, id) {
			s.streams[id] = strings.Clone(c.method)
		}
	}
	s.going = nil
	return nil
}
