package merge

import (
	"strconv"

	"sidestream/proxy/stream"
)

// This file is what a client of a merged stream begins with that has no place in it: what it would begin with in each part. The merged ring has it as the
// newest events of keys: of a part whose START is latest the newest event has one, and each newer one replaces it; with a number n there are n keys in
// turn; a part with KEY has those of its own; a document has one, for which its whole stands in.

// key is what a newer event of rd replaces this one by where clients begin; "" nothing. last: it is the newest that there is.
func (b *batch) key(rd *reader, e stream.Entry, last bool) string {
	switch {
	case !b.source.plan.Keys:
		return ""
	case rd.document && last:
		return b.whole(rd)
	case rd.document: // of which the newest alone means something
		return ""
	case e.Key != "" && (rd.Start == 1 || rd.Start == stream.StartKeys):
		return rd.Label + ":" + e.Key
	case rd.Start == 0 || rd.Start == stream.StartKeys:
		return ""
	}
	turns := rd.Start
	if turns == stream.StartAll {
		turns = max(b.source.plan.Events, 1)
	}
	rd.count++
	return rd.Label + " " + strconv.Itoa(rd.count%turns)
}

// whole is the key of a document.
func (b *batch) whole(rd *reader) string {
	if !b.source.plan.Keys {
		return ""
	}
	return rd.Label
}
