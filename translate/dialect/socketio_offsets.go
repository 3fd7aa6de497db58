package dialect

import "regexp"

// redisOffset is a place in a Redis stream. Those of other adapters are random, and then a text at the end of a volatile event, which may
// come again and again, looks the same.
var redisOffset = regexp.MustCompile(`^[0-9]{10,20}-[0-9]{1,20}$`)

// maxSioOffsets is how many are remembered: what comes twice comes soon.
const maxSioOffsets = 1024

// sioOffsets are the last offsets of a session that have come. Servers of one cluster may send them in another order than they have in
// the stream, so the largest does not tell. The zero value has none.
type sioOffsets struct {
	order []string
	set   map[string]bool
}

func (o *sioOffsets) has(offset string) bool { return o.set[offset] }

func (o *sioOffsets) add(offset string) {
	if !redisOffset.MatchString(offset) || o.set[offset] {
		return
	}
	if o.set == nil {
		o.set = map[string]bool{}
	}
	if len(o.order) >= maxSioOffsets {
		delete(o.set, o.order[0])
		o.order = o.order[1:]
	}
	o.order, o.set[offset] = append(o.order, offset), true
}
