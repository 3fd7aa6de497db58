package dialect

import "regexp"

// redisOffset is a place in a Redis stream. The offsets of other adapters are random, and cannot be told from a string at the end of a
// volatile event, which may rightly be the same again and again.
var redisOffset = regexp.MustCompile(`^[0-9]{10,20}-[0-9]{1,20}$`)

// maxSioOffsets is how many are remembered: whatever comes twice comes soon after.
const maxSioOffsets = 1024

// sioOffsets are the last offsets received in a session. The servers of a cluster may send them in another order than the
// stream's, so the largest one is not enough. The zero value has none.
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
