package stream

import (
	"crypto/rand"
	"encoding/binary"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"sidestream/proxy/history"
)

// Epoch is one life of a stream's numbering: the first half of the ids of its events, <epoch>-<seq>. A client that comes back with an
// id of another epoch is told that something may be missing, never given what has the same number by chance.
type Epoch uint64

// NewEpoch is unix ms × 2^20 and 20 random bits: replicas that boot in the same millisecond must not share one.
func NewEpoch(now time.Time) Epoch {
	var random [4]byte
	rand.Read(random[:])
	low := uint64(binary.BigEndian.Uint32(random[:]) & (1<<20 - 1))
	return Epoch(uint64(now.UnixMilli())<<20 | low)
}

// String is the epoch as it stands in ids.
func (e Epoch) String() string { return strconv.FormatUint(uint64(e), 10) }

// LogValue is a text in logs, since JavaScript's numbers do not hold it.
func (e Epoch) LogValue() slog.Value { return slog.StringValue(e.String()) }

// reaches reports whether id is spelled as one of the epoch or a later one.
func (e Epoch) reaches(id string) bool {
	epoch, seq, ok := strings.Cut(id, "-")
	n, err := strconv.ParseUint(epoch, 10, 64)
	_, bad := strconv.ParseUint(seq, 10, 64)
	return ok && err == nil && bad == nil && Epoch(n) >= e
}

// life is one epoch of a ring's numbering. Where a history outlives the process, a ring has events of several.
type life struct {
	epoch Epoch
	ids   idPrefix
	base  uint64 // the ring's number of the event before its first one
	alone bool   // its events are this process's own: no store has them
	turn  uint32 // which of the ring's it is, ever
}

func newLife(epoch Epoch, base uint64) life {
	return life{epoch: epoch, ids: epoch.prefix(), base: base}
}

// numbering is a ring's lives, oldest first, of which there is at least one.
type numbering []life

// of is the life of the event numbered cursor.
func (n numbering) of(cursor uint64) *life {
	for i := len(n) - 1; i > 0; i-- {
		if n[i].base < cursor {
			return &n[i]
		}
	}
	return &n[0]
}

// id is the id of the place after the event numbered cursor: that event's own, unless it has one of the upstream's.
func (n numbering) id(cursor uint64) string {
	l := n.of(cursor)
	return l.ids.id(max(cursor, l.base) - l.base)
}

// position is the place in the stream's history of the event numbered cursor.
func (n numbering) position(cursor uint64) history.Position {
	l := n.of(cursor)
	return history.Position{Epoch: uint64(l.epoch), Seq: max(cursor, l.base) - l.base}
}

// next is the id of the event with this number, which is of the newest epoch.
func (n numbering) next(cursor uint64) string {
	l := n[len(n)-1]
	return l.ids.id(cursor - l.base)
}

// own reports whether id is spelled as one of the ring's.
func (n numbering) own(id string) bool {
	for i := range n {
		if n[i].ids.begins(id) {
			return true
		}
	}
	return false
}

// cursor is the place that id means, in a ring whose newest event has the number last. ok is false where the ring has never been there.
func (n numbering) cursor(id string, last uint64) (cursor uint64, ok bool) {
	for i := len(n) - 1; i >= 0; i-- {
		if !n[i].ids.begins(id) {
			continue
		}
		seq, ok := n[i].ids.seq(id)
		if i < len(n)-1 {
			last = n[i+1].base
		}
		return n[i].base + seq, ok && last >= n[i].base && seq <= last-n[i].base
	}
	return 0, false
}

// idPrefix is what the ids of an epoch begin with.
type idPrefix string

func (e Epoch) prefix() idPrefix { return idPrefix(e.String() + "-") }

// id is the id of the event numbered seq.
func (p idPrefix) id(seq uint64) string { return string(p) + strconv.FormatUint(seq, 10) }

// begins reports whether id is spelled as one of the epoch, whatever follows.
func (p idPrefix) begins(id string) bool { return strings.HasPrefix(id, string(p)) }

// seq is the number in id, which must be spelled as [idPrefix.id] does.
func (p idPrefix) seq(id string) (seq uint64, ok bool) {
	rest, own := strings.CutPrefix(id, string(p))
	if !own {
		return 0, false
	}
	seq, err := strconv.ParseUint(rest, 10, 64)
	return seq, err == nil && strconv.FormatUint(seq, 10) == rest
}
