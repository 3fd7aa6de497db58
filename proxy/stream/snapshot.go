package stream

// This file is what stands in for the past of a ring. The rules:
//
//   - Where messages have a key (KEY), it is the newest event of each key, also of those that are evicted. Where they say what
//     all of them come to (Message.State), it is that, as one event called snapshot with the id of the newest event.
//   - A client that begins where START=latest says, or that has fallen off the ring, gets it as one piece and goes on after
//     the newest event. Of a ring with snapshots every client that has no place in it does, whatever START says.
//   - Each event of it has the id that it was given first, so a client that is cut in the middle comes back to a place from where
//     everything after is either kept or said to be missing.
//   - It is bounded as the ring is: REPLAY_EVENTS keys, and REPLAY_BYTES of events that the ring keeps no more.

import (
	"container/list"

	"sidestream/proxy/history"
	"sidestream/translate"
	"sidestream/translate/sse"
)

// snapshot is guarded by its ring's mu. The zero value is none.
type snapshot struct {
	keys     map[string]*list.Element // of keyed, by key; nil until there is one
	order    *list.List               // of keyed, oldest event first
	detached int                      // bytes of those events that the ring keeps no more

	telling bool     // dropped is wanted
	dropped []string // keys that were let go of

	now []byte // Message.State of the newest message that had one

	whole *event // all of it, encoded; nil: it is not
	at    uint64 // for the newest event with this number; 0: not encoded
}

// keyed is the newest event of a key.
type keyed struct {
	key   string
	seq   uint64
	chunk []byte           // the event, as in the ring
	own   bool             // chunk is its own, as the ring keeps the event no more
	gone  bool             // there is a newer one, or it is over the bounds
	was   history.Position // where it stood, if seq is 0
}

func (k *keyed) bytes() []byte { return inChunk(k.chunk) }

// any reports whether something stands in for the past.
func (s *snapshot) any() bool { return s.keys != nil || s.now != nil }

// note takes in the event numbered seq, which is the newest.
// id is what it has as its id.
func (s *snapshot) note(m translate.Message, e *event, seq uint64, id string, b Bounds) {
	s.whole, s.at = nil, 0
	if m.State != nil {
		s.now = append([]byte(nil), m.State...)
	}
	if m.Key == "" || m.Gap != "" {
		return
	}
	if s.keys == nil {
		s.keys, s.order = map[string]*list.Element{}, list.New()
	}
	if old := s.keys[m.Key]; old != nil {
		s.forget(old)
	}
	e.keyed = &keyed{key: m.Key, seq: seq, chunk: e.chunk}
	if m.Stand != nil {
		s.stand(e.keyed, m, id)
	}
	s.keys[m.Key] = s.order.PushBack(e.keyed)
	s.bound(b)
}

// stand gives k what stands in for its event.
func (s *snapshot) stand(k *keyed, m translate.Message, id string) {
	k.chunk = AppendChunk(make([]byte, 0, len(m.Stand.Data)+len(m.Mark)+2*overhead), func(dst []byte) []byte {
		if m.Mark != "" {
			dst = sse.AppendMark(dst, m.Mark)
		}
		return sse.AppendEvent(dst, id, m.Stand.Event, m.Stand.Data)
	})
	k.own = true
	s.detached += len(k.chunk)
}

func (s *snapshot) forget(el *list.Element) {
	k := s.order.Remove(el).(*keyed)
	k.gone = true
	delete(s.keys, k.key)
	if k.own {
		s.detached -= len(k.chunk)
	}
}

// bound forgets the oldest keys that are over the bounds.
func (s *snapshot) bound(b Bounds) {
	for s.order.Len() > 1 {
		over := b.Events > 0 && s.order.Len() > b.Events || b.Bytes > 0 && s.detached > b.Bytes
		if !over {
			return
		}
		if s.telling {
			s.dropped = append(s.dropped, s.order.Front().Value.(*keyed).key)
		}
		s.forget(s.order.Front())
	}
}

// detach is told that an event leaves the ring. What stands for its key gets bytes of its own, so that it does not keep
// a whole block.
func (s *snapshot) detach(k *keyed, b Bounds) {
	if k == nil || k.gone || k.own {
		return
	}
	k.chunk, k.own = append([]byte(nil), k.chunk...), true
	s.detached += len(k.chunk)
	s.bound(b)
}

// older are the events that are kept as the newest of their key only.
func (s *snapshot) older(ids numbering) (events []history.Event) {
	if s.order == nil {
		return nil
	}
	for el := s.order.Front(); el != nil; el = el.Next() {
		k := el.Value.(*keyed)
		if !k.own {
			continue
		}
		p := k.was
		switch {
		case k.seq != 0 && ids.of(k.seq).alone: // which no store has: it stands before all that this process has kept
			p = history.Position{Epoch: uint64(ids[len(ids)-1].epoch)}
		case k.seq != 0:
			p = ids.position(k.seq)
		}
		events = append(events, history.Event{Position: p, Key: k.key, Data: k.bytes()})
	}
	return events
}

// standsIn reports whether the past stands in for where START says that a client begins.
func (s *snapshot) standsIn(b Bounds) bool {
	return s.now != nil || s.keys != nil && (b.Start == 1 || b.Start == StartKeys)
}

// piece is the one piece that stands in for all events up to last, the newest; false when nothing does.
func (s *snapshot) piece(ids numbering, last uint64) (event, bool) {
	if !s.any() || last == 0 {
		return event{}, false
	}
	if s.at == last {
		return *s.whole, true
	}
	size := len(s.now)
	if s.now == nil {
		for el := s.order.Front(); el != nil; el = el.Next() {
			size += len(el.Value.(*keyed).chunk)
		}
	}
	chunk := AppendChunk(make([]byte, 0, size+2*overhead), func(dst []byte) []byte { return s.append(dst, ids.id(last)) })
	s.whole, s.at = &event{chunk: chunk}, last
	return *s.whole, true
}

func (s *snapshot) append(dst []byte, id string) []byte {
	if s.now != nil {
		return sse.AppendEvent(dst, id, translate.EventSnapshot, s.now)
	}
	for el := s.order.Front(); el != nil; el = el.Next() {
		dst = append(dst, el.Value.(*keyed).bytes()...)
	}
	return dst
}

// unseen is how many events a client with this cursor never gets when it gets the past.
func (s *snapshot) unseen(cursor, last uint64) uint64 {
	n := last - cursor
	if s.now != nil {
		return n
	}
	for el := s.order.Back(); el != nil && el.Value.(*keyed).seq > cursor; el = el.Prev() {
		n--
	}
	return n
}
