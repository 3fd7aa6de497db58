// This file is how far the channels of Centrifugo were read, and whether a connection goes on from there.

package dialect

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	"sidestream/translate"
)

// keep makes the places of a connection that was ready those that the next one goes on from, or leaves what they were before one that was not.
func (s *centrifuge) keep() {
	if s.before != nil && !s.ready {
		s.places = s.before
	}
	if s.places == nil {
		s.places = map[string]centPlace{}
	}
	s.before = maps.Clone(s.places)
}

// Failed lets go of what a connection has brought that was not ready.
func (s *centrifuge) Failed() bool {
	if s.before != nil {
		s.places = maps.Clone(s.before)
	}
	return true
}

// serverSide is what connect asks to go on with of the channels that the server subscribes to by itself.
func (s *centrifuge) serverSide(own map[string]bool) map[string]any {
	subs := map[string]any{}
	for channel, at := range s.places {
		if !own[channel] || s.theirs[channel] {
			subs[channel] = map[string]any{"recover": true, "epoch": at.epoch, "offset": at.offset}
		}
	}
	return subs
}

// taken takes it that the server has subscribed to a channel.
func (s *centrifuge) taken(channel string, sub *centSubscribed, got *Received) {
	if !s.server[channel] && len(s.server) >= maxCentChannels || len(channel) > maxCentName {
		got.Complaints = append(got.Complaints, fmt.Sprintf("it has subscribed the client to more than %d channels, or to one with a name of more than %d bytes, which is left out", maxCentChannels, maxCentName))
		s.show(translate.Message{Gap: translate.GapUpstream}, got)
		return
	}
	from, resumes := s.places[channel]
	s.server[channel] = true
	whole := s.goesOn(centAsk{centLine: centLine{channel: channel}, from: from, resumes: resumes && !s.ready}, sub)
	s.whole = s.whole && whole
	s.emit("subscribe", channel, sub.Data, got)
	for _, p := range sub.Publications {
		s.published(channel, p, got)
	}
}

// goesOn notes the place that an answer gives, and reports whether nothing is missing before it.
func (s *centrifuge) goesOn(ask centAsk, sub *centSubscribed) bool {
	whole := ask.resumes && sub.Recovered
	switch at := ask.from.offset; {
	case !whole:
	case ask.filtered:
		whole = len(sub.Publications) != 1 || sub.Publications[0].Offset == at+1
	default:
		for _, p := range sub.Publications {
			at++
			whole = whole && p.Offset == at
		}
		whole = whole && sub.Offset <= at
	}
	if !sub.Recoverable || sub.Epoch == "" || len(sub.Epoch) > maxCentName {
		delete(s.places, ask.channel)
		return false
	}
	at := centPlace{sub.Epoch, sub.Offset}
	if ask.resumes && sub.Recovered {
		at.offset = ask.from.offset // whatever the answer says; its publications have theirs
	}
	s.places[ask.channel] = at
	return whole
}

// Resumable is true where every channel has a place.
func (s *centrifuge) Resumable() bool {
	for _, l := range s.lines {
		if _, known := s.places[l.channel]; !known {
			return false
		}
	}
	for channel := range s.server {
		if _, known := s.places[channel]; !known {
			return false
		}
	}
	return len(s.places) > 0
}

// Save is the place of each channel.
func (s *centrifuge) Save() (saved []byte) {
	if !s.ready {
		return nil
	}
	none := translate.AppendField(nil, "")
	for _, channel := range slices.Sorted(maps.Keys(s.places)) {
		at := s.places[channel]
		for _, field := range []string{channel, at.epoch, strconv.FormatUint(at.offset, 10)} {
			saved = translate.AppendField(saved, field)
		}
	}
	if len(saved) == 0 || len(saved) > translate.MaxSaved {
		return none // what was saved before does not count any more
	}
	return saved
}

// Restore is Save's other half.
func (s *centrifuge) Restore(saved []byte) error {
	places := map[string]centPlace{}
	for len(saved) > 1 {
		var fields [3]string
		for i := range fields {
			field, rest, err := translate.CutField(saved)
			if err != nil {
				return err
			}
			fields[i], saved = string(field), rest
		}
		offset, err := strconv.ParseUint(fields[2], 10, 64)
		if err != nil || fields[0] == "" || fields[1] == "" || len(fields[1]) > maxCentName {
			return translate.ErrSaved
		}
		places[fields[0]] = centPlace{fields[1], offset}
	}
	if len(saved) == 1 && (saved[0] != 0 || len(places) > 0) {
		return translate.ErrSaved
	}
	s.places, s.before = places, nil
	return nil
}
