package merge

import (
	"context"
	"encoding/json"
	"time"

	"sidestream/proxy/stream"
	"sidestream/translate"
	"sidestream/translate/sse"
)

// This file is where a client of a merged stream begins. The rules:
//
//   - Every client is told an id before the first event of any part, so that it misses nothing when it is cut before it has one.
//   - A client may know its place in each part, by the ids that events have there, and none in this stream: the set of its parts was another one before, or
//     the stream is new. It begins where all that it misses is still to come, and is told how many events of each part it has already. So nothing is lost and
//     nothing comes twice, and no client has a stream of its own for it.
//   - In a part in which it has no place it begins as if it had asked for that alone: what that is it gets before everything else.

const (
	// ReadyTime is how long a client waits for the stream to be there.
	ReadyTime = 3 * time.Second
	startMost = 256 << 10 // bytes that a client is given of parts in which it has no place
)

// Place is where a client begins.
type Place struct {
	Cursor uint64
	Words  []byte // what it is told before that, complete events
}

// Enter is where a client of a merged route begins in ring that has no place there.
func Enter(ring *stream.Ring) Place {
	cursor, id := ring.Enter()
	return Place{cursor, sse.AppendOpen(nil, id)}
}

// Place finds out where a client begins in ring, which is the stream's, that has no place there. ids are what it has received last of each part; "" nothing, and
// nil nothing of any. ok is false when the stream is not there yet.
func (s *Source) Place(ctx context.Context, ring *stream.Ring, ids []string) (at Place, ok bool) {
	wait := time.NewTimer(ReadyTime)
	defer wait.Stop()
	select {
	case <-s.ready:
	case <-wait.C:
		return at, false
	case <-ctx.Done():
		return at, false
	}
	s.refresh(ctx, ids)
	s.mu.Lock()
	defer s.mu.Unlock()
	p := placing{source: s, ring: ring, parts: make([]placed, len(s.parts))}
	for _, id := range ids {
		if id != "" && len(ids) == len(s.parts) {
			return p.back(ids)
		}
	}
	return p.enter()
}

// refresh has the parts' rings come to where the client is, which may come from another replica that is ahead of this one.
func (s *Source) refresh(ctx context.Context, ids []string) {
	rings := make([]*stream.Ring, len(ids))
	s.mu.Lock()
	for i, rd := range s.parts {
		if rd.seat != nil && i < len(ids) && ids[i] != "" {
			rings[i] = rd.seat.Ring
		}
	}
	s.mu.Unlock()
	for i, ring := range rings {
		if ring != nil {
			ring.FindAnywhere(ctx, ids[i])
		}
	}
}

// placing finds one client's place. The source's mu is held.
type placing struct {
	source *Source
	ring   *stream.Ring
	words  []byte
	parts  []placed
}

// placed is where the client is in a part.
type placed struct {
	has  uint64 // cursor up to which it has, or is given here, all of the part; pending: that is not known, it gets what comes
	from uint64 // where in the merged stream what it misses begins
	skip uint64 // events of the part from there on that it has
}

// enter is for a client without a place anywhere.
func (p *placing) enter() (at Place, ok bool) {
	cursor, id := p.ring.Enter()
	for i, rd := range p.source.parts {
		p.parts[i].has = rd.at
	}
	return Place{cursor, p.open(id)}, true
}

// back is for one that has been in parts.
func (p *placing) back(ids []string) (at Place, ok bool) {
	s := p.source
	from, kept := s.emitted, p.ring.Kept()
	for i, rd := range s.parts {
		one := &p.parts[i]
		if p.find(rd, one, ids[i]); stream.Pending(one.has) {
			continue
		}
		one.from = s.missing(rd, one.has)
		if one.from < kept || one.has < rd.floor {
			p.evicted(rd, one, kept)
		}
		from = min(from, one.from)
	}
	for i, rd := range s.parts {
		p.parts[i].skip = s.having(rd, p.parts[i].has, from)
	}
	return Place{from, p.open(p.ring.Place(from))}, true
}

// find finds the client's place in a part, by the id that it has received last of it.
func (p *placing) find(rd *reader, one *placed, id string) {
	if rd.seat == nil { // the stream ends
		one.has = stream.Begin
		return
	}
	if id != "" {
		var ok bool
		if one.has, ok = rd.seat.Ring.Find(id); ok {
			return
		}
		p.gap(rd, translate.GapRestart)
	}
	p.start(rd, one)
}

// start gives the client what it would begin with if it asked for the part alone.
func (p *placing) start(rd *reader, one *placed) {
	alone := *rd
	alone.decoder = sse.NewDecoder(maxEvent)
	b := batch{source: p.source}
	b.take(&alone, rd.seat.Ring.Read(stream.Begin))
	one.has = alone.at
	one.from = p.source.missing(rd, one.has)
	size, first := len(p.words), len(b.messages)
	for first > 0 && size < startMost {
		first--
		size += len(b.messages[first].Data)
	}
	if first > 0 {
		p.gap(rd, translate.GapEvicted)
	}
	for _, m := range b.messages[first:] {
		p.words = appendMessage(p.words, m)
	}
}

// appendMessage appends an event without an id: its place is told when all of them are through.
func appendMessage(dst []byte, m translate.Message) []byte {
	if m.Mark != "" {
		dst = sse.AppendMark(dst, m.Mark)
	}
	if m.Notice != "" {
		return sse.AppendNotice(dst, "", m.Notice, m.Data)
	}
	return sse.AppendEvent(dst, "", m.Event, m.Data)
}

// evicted tells the client that it misses events of a part. It goes on with the oldest that there is, but where that means nothing without those before it.
func (p *placing) evicted(rd *reader, one *placed, kept uint64) {
	p.gap(rd, translate.GapEvicted)
	if rd.seat != nil && rd.document {
		p.start(rd, one)
	}
	one.from = max(one.from, kept)
}

func (p *placing) gap(rd *reader, reason string) {
	p.ring.CountGap(reason)
	b := batch{source: p.source}
	p.words = appendMessage(p.words, translate.Message{Notice: gapEvent, Data: Gap(reason, -1, rd.About), Mark: b.mark(rd, "")})
}

// open tells the client where it stands. Those that know of parts are told where in each, and what they have already.
func (p *placing) open(id string) []byte {
	s := p.source
	if !s.plan.Marks {
		return sse.AppendOpen(p.words, id)
	}
	said := struct {
		At   map[string]string `json:"at"`
		Skip map[string]uint64 `json:"skip"`
	}{map[string]string{}, map[string]uint64{}}
	for i, rd := range s.parts {
		if has := p.parts[i].has; rd.seat != nil && !stream.Pending(has) && !stream.Ahead(has) {
			said.At[rd.Label] = rd.seat.Ring.Place(has)
		}
		if n := p.parts[i].skip; n > 0 {
			said.Skip[rd.Label] = n
		}
	}
	data, _ := json.Marshal(said) // which can be marshalled
	return sse.AppendNotice(p.words, id, openEvent, data)
}

const openEvent = "stream.open"

// missing is where what a client misses of a part begins that has it up to cursor: after so many events of the merged stream. mu is held.
func (s *Source) missing(rd *reader, cursor uint64) uint64 {
	before := s.emitted - uint64(len(s.trail))
	for i, at := range s.trail {
		if seq := before + uint64(i) + 1; at.part == rd.index && seq > rd.since && at.cursor > cursor {
			return seq - 1
		}
	}
	return s.emitted
}

// having is how many events of a part come after from that a client has which has the part up to cursor. mu is held.
func (s *Source) having(rd *reader, cursor, from uint64) (n uint64) {
	if stream.Pending(cursor) {
		return 0
	}
	before := s.emitted - uint64(len(s.trail))
	for i, at := range s.trail {
		if seq := before + uint64(i) + 1; at.part == rd.index && seq > max(rd.since, from) && at.cursor <= cursor {
			n++
		}
	}
	if !stream.Pending(rd.at) && cursor > rd.at {
		n += cursor - rd.at
	}
	return n
}
