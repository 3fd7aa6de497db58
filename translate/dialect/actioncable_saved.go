package dialect

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"time"

	"sidestream/translate"
)

// Save is the time to ask from, the session, whether pings are answered and, of each stream, how far it was read. There is nothing where a reconnect would ask for
// nothing.
func (s *cable) Save() (saved []byte) {
	if !s.Resumable() {
		return nil
	}
	for _, field := range []string{strconv.FormatInt(s.since, 10), strconv.FormatInt(s.heard.UnixMilli(), 10), s.sid, strconv.FormatBool(s.pongs)} {
		saved = translate.AppendField(saved, field)
	}
	for _, id := range slices.Sorted(maps.Keys(s.streams)) {
		for _, stream := range slices.Sorted(maps.Keys(s.streams[id])) {
			at := s.streams[id][stream]
			if len(at.seen) == 0 {
				continue
			}
			var seen []byte
			for _, offset := range at.seen {
				seen = translate.AppendField(seen, strconv.FormatInt(offset, 10))
			}
			for _, field := range []string{id, stream, at.Epoch, string(seen)} {
				saved = translate.AppendField(saved, field)
			}
		}
	}
	if len(saved) > translate.MaxSaved {
		return nil
	}
	return saved
}

// Restore is Save's other half.
func (s *cable) Restore(saved []byte) error {
	var head [4]string
	for i := range head {
		field, rest, err := translate.CutField(saved)
		if err != nil {
			return err
		}
		head[i], saved = string(field), rest
	}
	since, err := strconv.ParseInt(head[0], 10, 64)
	heard, err2 := strconv.ParseInt(head[1], 10, 64)
	pongs, err3 := strconv.ParseBool(head[3])
	if err != nil || err2 != nil || err3 != nil || len(head[2]) > maxCableID {
		return translate.ErrSaved
	}
	streams := map[string]map[string]*cablePosition{}
	for len(saved) > 0 {
		var fields [4][]byte
		for i := range fields {
			if fields[i], saved, err = translate.CutField(saved); err != nil {
				return err
			}
		}
		at := &cablePosition{Epoch: string(fields[2]), came: -1}
		for seen := fields[3]; len(seen) > 0; {
			var offset []byte
			if offset, seen, err = translate.CutField(seen); err != nil {
				return err
			}
			n, err := strconv.ParseInt(string(offset), 10, 64)
			if err != nil {
				return translate.ErrSaved
			}
			at.seen = append(at.seen, n)
		}
		id := string(fields[0])
		if len(at.seen) == 0 || !json.Valid(fields[0]) {
			return translate.ErrSaved
		}
		if streams[id] == nil {
			streams[id] = map[string]*cablePosition{}
		}
		streams[id][string(fields[1])] = at
	}
	s.since, s.heard, s.sid, s.streams, s.extended, s.anycable, s.pongs = since, time.UnixMilli(heard), head[2], streams, true, true, pongs
	return nil
}
