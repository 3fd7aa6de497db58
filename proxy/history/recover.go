package history

import (
	"bytes"
	"cmp"
	"os"
	"slices"
	"strconv"
	"time"
)

// recover reads the folder's segments. What a killed process was writing last is cut off.
func (f *Folder) recover() error {
	files, err := os.ReadDir(f.Dir)
	if err != nil {
		return err
	}
	for _, file := range files {
		if n, err := strconv.ParseUint(file.Name(), 16, 32); err == nil && file.Name() == segmentName(uint32(n)) {
			f.segments = append(f.segments, &segment{number: uint32(n)})
		}
	}
	slices.SortFunc(f.segments, func(a, b *segment) int { return cmp.Compare(a.number, b.number) })
	found := finds{}
	for i, s := range f.segments {
		if err := f.scan(s, i == len(f.segments)-1, found); err != nil {
			return err
		}
	}
	f.adopt(found)
	return nil
}

// finds are what segments say of streams.
type finds map[name]*find

type find struct {
	epoch, born uint64
	events      []foundEvent
	state, past ref
	upTo        Position // that state and past stand after, the later one
	owed        ref
	owedAt      Position // that it stands after
}

type foundEvent struct {
	kept
	before Position
}

// scan reads one segment into found, and cuts it off where a batch was being written, if it is the last one.
func (f *Folder) scan(s *segment, last bool, found finds) error {
	data, err := os.ReadFile(f.path(segmentName(s.number)))
	if err != nil {
		return err
	}
	s.size = int64(len(data))
	if !bytes.HasPrefix(data, []byte(segmentMagic)) {
		if len(data) >= len(segmentMagic) || !last {
			f.hurt(s, "it is no segment")
		}
		return nil
	}
	numbers := map[uint32]*find{}
	whole := len(segmentMagic) // where the last complete batch ends
	var batch []func()
	for at := whole; at < len(data); {
		r, err := readRecord(data[at:])
		if err != nil {
			if !last || err == errDamage && !zero(data[at:]) {
				f.hurt(s, err.Error())
			}
			break
		}
		where := ref{s, uint32(at), uint32(r.size)}
		batch = append(batch, func() { numbers[r.stream] = found.take(numbers[r.stream], r, where) })
		if at += r.size; !r.more {
			for _, take := range batch {
				take()
			}
			batch, whole = batch[:0], at
		}
	}
	if last && whole < len(data) {
		s.size, f.torn = int64(whole), len(data)-whole
		if f.readOnly {
			return nil
		}
		return os.Truncate(f.path(segmentName(s.number)), int64(whole))
	}
	return nil
}

// zero reports whether there is nothing but zeros: the length of a file can reach the disk before its data does.
func zero(data []byte) bool { return len(bytes.Trim(data, "\x00")) == 0 }

// hurt notes that a segment is damaged.
func (f *Folder) hurt(s *segment, why string) {
	f.damaged, s.hurt = true, true
	f.Stats.Damaged.Add(1)
	f.Log.Error("the history is damaged, and clients are told that events may be missing", "file", segmentName(s.number), "err", why)
}

// take notes what r says of the stream with its number, which is at, and returns that.
func (found finds) take(at *find, r record, where ref) *find {
	if n, epoch, born, ok := r.define(); r.kind == kindDefine && ok {
		if at = found[n]; at == nil {
			at = &find{}
			found[n] = at
		}
		at.epoch, at.born = max(at.epoch, epoch), max(at.born, born)
		return at
	}
	if at == nil { // not defined: only of a segment whose beginning is damaged
		return nil
	}
	switch r.kind {
	case kindEvent:
		if e, before, ok := r.event(); ok {
			at.epoch = max(at.epoch, e.Epoch)
			at.events = append(at.events, foundEvent{kept{e.Position, where, e.Key}, before})
		}
	case kindOwes:
		if p, _, ok := r.blob(); ok {
			at.owed, at.owedAt = where, p
		}
	case kindState, kindPast:
		p, _, ok := r.blob()
		if !ok {
			break
		}
		if r.kind == kindState {
			at.state = where
		} else {
			at.past = where
		}
		if at.upTo.Before(p) {
			at.upTo = p
		}
	}
	return at
}

// adopt makes entries of what was found, but for what is too old.
func (f *Folder) adopt(found finds) {
	for n, at := range found {
		f.number++
		e := &entry{name: n, number: f.number, epoch: at.epoch, born: at.born, state: at.state, past: at.past, idle: time.Now()}
		e.events, e.keyed = chain(at.events, at.born)
		if len(e.events) > 0 {
			e.last = e.events[len(e.events)-1].Position
		}
		if e.last.Before(at.upTo) { // a power failure has taken events, and left what was written after them
			e.lacks, e.state, e.past = true, ref{}, ref{}
		}
		if f.stale || f.damaged {
			f.owe(e)
		}
		if at.owed.segment != nil && !at.owedAt.Before(e.last) { // else its events tell of it
			f.owe(e)
			e.owed = at.owed
			f.unnoted--
		}
		for _, k := range append(e.events[:len(e.events):len(e.events)], e.keyed...) {
			k.segment.live += int64(k.size)
		}
		for _, blob := range []ref{e.state, e.past, e.owed} {
			if blob.segment != nil {
				blob.segment.live += int64(blob.size)
			}
		}
		f.streams[n] = e
	}
}

// chain are the newest of the events, each of which stands after the one before it, and those older ones that are the newest of
// their key. A segment that was rewritten may have left events twice, and older ones that nothing leads to.
func chain(all []foundEvent, born uint64) (events, keyed []kept) {
	slices.SortStableFunc(all, func(a, b foundEvent) int {
		return cmp.Or(cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.Seq, b.Seq))
	})
	all = slices.CompactFunc(all, func(a, b foundEvent) bool { return a.Position == b.Position })
	first := len(all)
	for first > 0 && all[first-1].Epoch >= born && (first == len(all) || all[first].before == all[first-1].Position) {
		first--
	}
	newest := map[string]bool{}
	for i := len(all) - 1; i >= 0 && all[i].Epoch >= born; i-- {
		if k := all[i].kept; i >= first {
			events = append(events, k)
		} else if k.key != "" && !newest[k.key] {
			keyed = append(keyed, k)
		}
		newest[all[i].key] = true
	}
	slices.Reverse(events)
	slices.Reverse(keyed)
	return events, keyed
}
