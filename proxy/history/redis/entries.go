package redis

import (
	"cmp"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"sidestream/proxy/history"
)

// errForeign is returned for what no sidecar has written.
var errForeign = errors.New("an entry of the stream is not what a sidecar writes")

// entry is one of a stream.
type entry struct {
	history.Event
	before history.Position // of a marker: the entry before
	past   bool             // meta has a past for it
}

// marker reports whether it is an epoch's beginning.
func (e *entry) marker() bool { return e.Seq == 0 }

// after reports whether nothing is missing between the entry at last and e.
func (e *entry) after(last history.Position) bool {
	if e.marker() {
		return e.before == last
	}
	return e.Epoch == last.Epoch && e.Seq == last.Seq+1
}

// place is a position as an id of Redis's.
func place(p history.Position) string {
	var room [48]byte
	return string(appendPlace(room[:0], p))
}

func appendPlace(b []byte, p history.Position) []byte {
	b = append(strconv.AppendUint(b, p.Epoch, 10), '-')
	return strconv.AppendUint(b, p.Seq, 10)
}

func parsePlace(text string) (p history.Position, err error) {
	epoch, seq, ok := strings.Cut(text, "-")
	if p.Epoch, err = strconv.ParseUint(epoch, 10, 64); err == nil && ok {
		p.Seq, err = strconv.ParseUint(seq, 10, 64)
	}
	if err != nil || !ok {
		return p, errForeign
	}
	return p, nil
}

// parseEntries reads an answer of XRANGE.
func parseEntries(m rueidis.RedisMessage) (entries []entry, err error) {
	list, err := m.AsXRange()
	if err != nil {
		return nil, err
	}
	for _, x := range list {
		var e entry
		if e.Position, err = parsePlace(x.ID); err != nil {
			return nil, err
		}
		f := x.FieldValues
		if p, ok := f["p"]; ok {
			if e.before, err = parsePlace(p); err != nil || !e.marker() {
				return nil, errForeign
			}
			entries = append(entries, e)
			continue
		}
		ms, err := strconv.ParseInt(f["t"], 10, 64)
		if err == nil && f["x"] != "" {
			e.End, err = strconv.Atoi(f["x"])
		}
		if err != nil || e.marker() {
			return nil, errForeign
		}
		e.At, e.ID, e.Key, e.Data = time.UnixMilli(ms), f["i"], f["k"], []byte(f["d"])
		e.past = f["h"] != ""
		entries = append(entries, e)
	}
	return entries, nil
}

// parseKeyed reads a stream's hash of keys, oldest event first.
func parseKeyed(m rueidis.RedisMessage) (events []history.Event, err error) {
	values, err := m.AsStrMap()
	if err != nil {
		return nil, err
	}
	for key, v := range values {
		e := history.Event{Key: key}
		fields := strings.SplitN(v, " ", 4)
		if len(fields) < 4 {
			return nil, errForeign
		}
		ms, err := strconv.ParseInt(fields[1], 10, 64)
		n, bad := strconv.Atoi(fields[2])
		if err != nil || bad != nil || n < 0 || n > len(fields[3]) {
			return nil, errForeign
		}
		if e.Position, err = parsePlace(fields[0]); err != nil {
			return nil, err
		}
		e.At, e.ID, e.Data = time.UnixMilli(ms), fields[3][:n], []byte(fields[3][n:])
		events = append(events, e)
	}
	slices.SortFunc(events, func(a, b history.Event) int {
		return cmp.Or(cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.Seq, b.Seq))
	})
	return events, nil
}

// keyedOnly is what the script takes for an event that is kept as the newest of its key only.
const keyedOnly = "k"

// arguments appends what the script takes for the events after the entry at last, with a marker where an epoch begins between them.
func arguments(dst []string, last history.Position, events []history.Event) []string {
	for i := range events {
		e := &events[i]
		if e.Epoch != last.Epoch && last != (history.Position{}) {
			dst = append(dst, place(history.Position{Epoch: e.Epoch}), "", "", "", "", place(last), "")
		}
		how := ""
		if e.End != 0 {
			how = strconv.Itoa(e.End)
		}
		dst = argument(dst, e, how)
		last = e.Position
	}
	return dst
}

func argument(dst []string, e *history.Event, how string) []string {
	return append(dst, place(e.Position), strconv.FormatInt(e.At.UnixMilli(), 10), e.ID, e.Key, rueidis.BinaryString(e.Data), "", how)
}

// meta is what stands beside the entries.
type meta struct {
	pos         string
	state, past []byte
}

func parseMeta(fields []rueidis.RedisMessage) (m meta) {
	if len(fields) < 3 {
		return m
	}
	m.pos, _ = fields[0].ToString()
	if text, err := fields[1].ToString(); err == nil {
		m.state = []byte(text)
	}
	if text, err := fields[2].ToString(); err == nil {
		m.past = []byte(text)
	}
	return m
}

func parseLoaded(m rueidis.RedisMessage) (entries []entry, about meta, keyed []history.Event, holder string, err error) {
	parts, err := m.ToArray()
	if err != nil || len(parts) < 4 {
		return nil, about, nil, "", errForeign
	}
	if entries, err = parseEntries(parts[0]); err != nil {
		return nil, about, nil, "", err
	}
	fields, err := parts[1].ToArray()
	if err != nil {
		return nil, about, nil, "", err
	}
	keyed, err = parseKeyed(parts[2])
	holder, _ = parts[3].ToString() // none is no string
	return entries, parseMeta(fields), keyed, holder, err
}
