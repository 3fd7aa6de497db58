// This file is how another process goes on with a connection of ASP.NET SignalR. An address that a negotiation has led to comes with a token, and is not
// saved.

package dialect

import (
	"errors"
	"strconv"
	"time"

	"sidestream/translate"
)

// Save is the connection's token, how far it was read, and its groups. Where another process cannot go on that is said too, so that what was saved
// before does not count any more.
func (s *signalRClassic) Save() (saved []byte) {
	if !s.used {
		return nil
	}
	none := translate.AppendField(nil, "")
	if !s.stands || s.elsewhere.URL != "" {
		return none
	}
	for _, field := range []string{s.token, s.written, s.groups, strconv.FormatInt(s.seen.Unix(), 10), strconv.FormatInt(s.away.Milliseconds(), 10), strconv.FormatInt(s.silence.Milliseconds(), 10)} {
		saved = translate.AppendField(saved, field)
	}
	if len(saved) > translate.MaxSaved {
		return none
	}
	return saved
}

// Restore is Save's other half.
func (s *signalRClassic) Restore(saved []byte) error {
	fields, err := translate.AllFields(saved)
	if err != nil {
		return err
	}
	if len(fields) == 1 && fields[0] == "" {
		s.used = true
		return nil
	}
	if len(fields) != 6 || fields[0] == "" || len(fields[0]) > maxHubToken || len(fields[2]) > maxClassicGroups {
		return translate.ErrSaved
	}
	cursor, known := readClassicCursor(fields[1])
	seen, err := strconv.ParseInt(fields[3], 10, 64)
	away, err2 := strconv.ParseInt(fields[4], 10, 64)
	silence, err3 := strconv.ParseInt(fields[5], 10, 64)
	if errors.Join(err, err2, err3) != nil || !known || away < 0 || away > maxClassicAway.Milliseconds() || silence < 0 || silence > maxClassicSilence.Milliseconds() {
		return translate.ErrSaved
	}
	s.classicPlace = classicPlace{token: fields[0], stands: true, cursor: cursor, written: fields[1], groups: fields[2],
		silence: time.Duration(silence) * time.Millisecond, away: time.Duration(away) * time.Millisecond, seen: time.Unix(seen, 0)}
	s.used = true
	return nil
}
