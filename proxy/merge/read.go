package merge

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"sidestream/proxy/stream"
	"sidestream/proxy/upstream"
	"sidestream/translate"
	"sidestream/translate/sse"
)

const (
	gapEvent = "stream.gap"
	endEvent = "stream.end"
	snapshot = translate.EventSnapshot
)

// batch is what was read of the parts at once.
type batch struct {
	source   *Source
	ctx      context.Context
	messages []translate.Message
	trail    []spoor // of each message
	end      error
	err      error
}

// begin reads the parts for the first time: where a source before this one stopped, or all that they have.
func (b *batch) begin() {
	s := b.source
	if s.restored != nil {
		for _, rd := range s.parts {
			b.resume(rd, s.restored[rd.Label])
		}
		b.read(nil)
		return
	}
	b.seed()
}

// resume has rd go on after the event with this id.
func (b *batch) resume(rd *reader, id string) {
	cursor, ok := rd.seat.Ring.FindAnywhere(b.ctx, id)
	switch {
	case ok:
		rd.at = cursor
	case id == "": // which it had not begun with
	default:
		b.gap(rd, translate.GapRestart, -1)
	}
}

// read reads on. c gives new seats; nil: it is too early for that.
func (b *batch) read(c *conn) {
	over := 0
	for _, rd := range b.source.parts {
		if !rd.over {
			b.readOne(rd, c)
		}
		if rd.over {
			over++
		}
	}
	if over == len(b.source.parts) && b.end == nil {
		b.end = translate.ErrFinished
	}
}

func (b *batch) readOne(rd *reader, c *conn) {
	replacing := c != nil && aged(rd.seat) // before it is read: what comes until then is
	got := rd.seat.Ring.Read(rd.at)
	b.take(rd, got)
	switch {
	case got.End.Kind == stream.Finished:
		rd.over = true
		b.notice(rd, endEvent, "{"+rd.About+"}")
	case got.End.Kind == stream.Refused:
		b.end = fmt.Errorf("%w: %s is refused (%d)", upstream.ErrRetired, rd.Label, got.End.Status)
	case replacing:
		b.replace(rd, c)
	case got.End.Kind == stream.Retired:
		b.end = fmt.Errorf("%w: %s has ended", upstream.ErrRetired, rd.Label)
	}
}

// aged reports whether the stream has reached its age, so that there is a new one for the same request.
func aged(seat *stream.Seat) bool {
	select {
	case <-seat.Retiring():
		return !seat.Leaving().Replaced
	default:
		return false
	}
}

// replace has rd go on with the stream that is there now for its request.
func (b *batch) replace(rd *reader, c *conn) {
	id := rd.seat.Ring.Place(rd.at)
	leave([]*reader{rd})
	if b.err = c.sit(b.ctx, rd); b.err != nil {
		return
	}
	rd.at, rd.since, rd.floor = stream.Begin, b.source.emitted+uint64(len(b.messages)), 0
	b.resume(rd, id)
	b.take(rd, rd.seat.Ring.Read(rd.at))
}

// seed reads all that the parts have, by when it came: the newest, and what clients begin with.
func (b *batch) seed() {
	type one struct {
		rd    *reader
		entry stream.Entry
		key   string
		last  bool // of its part
	}
	var all []one
	states := map[*reader][]byte{}
	for _, rd := range b.source.parts {
		got := rd.seat.Ring.Backlog()
		rd.at, states[rd], rd.document = got.Next, got.State, got.State != nil
		for i, e := range got.Entries {
			last := i == len(got.Entries)-1
			all = append(all, one{rd, e, b.key(rd, e, last), last})
		}
	}
	slices.SortStableFunc(all, func(x, y one) int { return x.entry.At.Compare(y.entry.At) })
	left, seen := b.source.plan.Events, map[string]bool{}
	var kept []one
	for _, o := range slices.Backward(all) {
		if newest := o.key != "" && !seen[o.key]; left <= 0 && !newest {
			o.rd.floor = max(o.rd.floor, o.entry.Cursor)
			continue
		}
		left--
		seen[o.key] = true
		kept = append(kept, o)
	}
	for _, o := range slices.Backward(kept) {
		var state []byte
		if o.last {
			state = states[o.rd]
		}
		b.entry(o.rd, o.entry, o.key, state)
	}
	b.read(nil) // which of them are complete already
}

// take makes messages of what was read of rd.
func (b *batch) take(rd *reader, got stream.Reading) {
	if got.Lost {
		b.gap(rd, translate.GapHistory, -1)
	} else if got.Missed > 0 {
		b.gap(rd, translate.GapEvicted, int64(got.Missed))
	}
	rd.document = got.State != nil
	if got.Stands {
		b.add(spoor{rd.index, got.Next}, b.standing(rd, got))
	}
	for i, e := range got.Entries {
		var state []byte
		if i == len(got.Entries)-1 {
			state = got.State
		}
		b.entry(rd, e, b.key(rd, e, i == len(got.Entries)-1), state)
	}
	rd.at = got.Next
}

// standing is the message that stands in for all that a document's part has.
func (b *batch) standing(rd *reader, got stream.Reading) translate.Message {
	return translate.Message{Event: b.name(rd, snapshot), Topic: rd.Label, Data: got.State, Key: b.whole(rd), Mark: b.mark(rd, rd.seat.Ring.Place(got.Next))}
}

// entry makes a message of an event of rd. state is what its part comes to with it; nil: that is not known, or nothing.
func (b *batch) entry(rd *reader, e stream.Entry, key string, state []byte) {
	event := decode(rd, e.Bytes)
	at := spoor{rd.index, e.Cursor}
	switch {
	case event.Name == gapEvent:
		b.add(at, translate.Message{Gap: reasonOf(event.Data), Notice: gapEvent, Data: about(event.Data, rd.About), Mark: b.mark(rd, event.ID)})
		return
	case strings.HasPrefix(event.Name, "stream."):
		b.add(at, translate.Message{Notice: event.Name, Data: about(event.Data, rd.About), Mark: b.mark(rd, event.ID)})
		return
	}
	m := translate.Message{Event: b.name(rd, event.Name), Topic: rd.Label, Data: event.Data, Key: key, Mark: b.mark(rd, event.ID)}
	if state != nil && b.source.plan.Keys {
		m.Stand = &translate.Stand{Event: b.name(rd, snapshot), Data: bytes.Clone(state)}
	}
	b.add(at, m)
}

// decode reads one event of a ring.
func decode(rd *reader, text []byte) (event sse.Event) {
	rd.decoder.Decode(text, func(e sse.Event) { event = e })
	return event
}

// name is what an event of rd is called that has this name there.
func (b *batch) name(rd *reader, name string) string {
	switch {
	case !b.source.plan.Indexed:
		return cmp.Or(name, rd.Label)
	case name == "":
		return rd.Label
	}
	return rd.Label + ":" + name
}

func (b *batch) mark(rd *reader, id string) string {
	if !b.source.plan.Marks {
		return ""
	}
	return rd.Label + " " + id
}

// gap notes that events of rd are missing; missed is negative where their number is not known.
func (b *batch) gap(rd *reader, reason string, missed int64) {
	b.add(spoor{part: -1}, translate.Message{Gap: reason, Notice: gapEvent, Data: Gap(reason, missed, rd.About), Mark: b.mark(rd, "")})
}

// Gap is the data of a gap of a part, of which about is a member.
func Gap(reason string, missed int64, about string) []byte {
	number := "null"
	if missed >= 0 {
		number = strconv.FormatInt(missed, 10)
	}
	return fmt.Appendf(nil, `{"reason":"%s","missed":%s,%s}`, reason, number, about)
}

func (b *batch) notice(rd *reader, name, data string) {
	b.add(spoor{part: -1}, translate.Message{Notice: name, Data: []byte(data), Mark: b.mark(rd, "")})
}

// add adds what the programs make of m.
func (b *batch) add(at spoor, m translate.Message) {
	s := b.source
	if m.Notice != "" || s.plan.Route == nil {
		b.messages, b.trail = append(b.messages, m), append(b.trail, at)
		return
	}
	made, done, err := s.plan.Route.Apply(b.ctx, s.log, []translate.Message{m})
	if err != nil {
		b.err = err
		return
	}
	for _, one := range made {
		one.Key, one.Mark, one.Stand = cmp.Or(one.Key, m.Key), m.Mark, m.Stand
		b.messages, b.trail = append(b.messages, one), append(b.trail, at)
	}
	if done && b.end == nil {
		b.end = translate.ErrFinished
	}
}

// about is a notice's data with one more member.
func about(data []byte, member string) []byte {
	inner, ok := bytes.CutSuffix(bytes.TrimSpace(data), []byte("}"))
	if !ok {
		return []byte("{" + member + "}")
	}
	if len(inner) > 1 {
		inner = append(bytes.Clone(inner), ',')
	}
	return append(append(bytes.Clone(inner), member...), '}')
}

// reasonOf is that of a gap.
func reasonOf(data []byte) string {
	var said struct {
		Reason string `json:"reason"`
	}
	if json.Unmarshal(data, &said) != nil || said.Reason == "" {
		return translate.GapUpstream
	}
	return said.Reason
}
