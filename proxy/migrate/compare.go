// This file compares what an old client receives with what a stream emits. Both come as they come; neither waits for the other. The rules:
//
//   - Two messages are equal when their names and data are, which are compared by a hash.
//   - As long as the next of both sides are equal, they are a pair. Where they are not, and Wait has passed, what both have in common
//     in order (a longest common subsequence) tells what is off before the next pair.
//   - What one side has alone is reordered where the other has it elsewhere, changed where both have one of the same name there, else missing,
//     if the old client has it, or extra.
//   - What came before both sides were there, and for a second after, may have its equal, but need not. The same goes for what came while one
//     side was interrupted, and for a second before: one side may hear of the same message later than the other.

package migrate

import (
	"hash/maphash"
	"slices"
	"time"
)

// Results of a comparison, as labels.
const (
	Equal     = "equal"
	Missing   = "missing"
	Extra     = "extra"
	Changed   = "changed"
	Reordered = "reordered"
)

// Results are all of them.
var Results = []string{Equal, Missing, Extra, Changed, Reordered}

const (
	// SettleTime is for how long after both sides are there, and before one of them is interrupted, what comes need not be on both.
	SettleTime = time.Second
	maxItems   = 20_000 // of one side that wait for a decision
)

// Item is a message of one side.
type Item struct {
	Name string
	Hash uint64 // of its name and data
	At   time.Time
	Text string // to be shown; "" where nothing is

	optional bool
	gone     bool // it is decided
}

// Difference is what is not the same on both sides.
type Difference struct {
	Result   string
	Old, New *Item // nil where that side has none
}

// Comparison compares two sides. It is used by one goroutine.
type Comparison struct {
	Wait  time.Duration                   // for how long a message may be ahead of its equal
	Tell  func(d Difference)              // is told each difference; nil: they are counted only
	Equal func(old, new *Item)            // is told each pair; nil: the same
	Same  func(old, new *Item) (yes bool) // reports whether two that differ are to count as the same; nil: none are

	Until time.Time // what comes later need not be on both sides; zero: everything has to be

	// Brief is for how long what one side had is not looked for at the other: a state between two polls. 0: everything is.
	Brief time.Duration

	sides  [2]side // old, new
	counts map[string]int64
	begun  time.Time // when both were there
	now    time.Time // of Settle
	passed int64
	lost   int64 // items that there was no room for
}

const (
	old = 0
	new = 1
)

// side is what came on one side and is not decided, in order.
type side struct {
	items  []*Item
	there  bool
	unsure time.Time // until then nothing has to have its equal
	let    []Item    // the newest that were let go of without one
	last   time.Time // when the newest came
}

// Hash is what Item.Hash is made by.
func Hash(seed maphash.Seed, name string, data []byte) uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	h.WriteString(name)
	h.WriteByte(0)
	h.Write(data)
	return h.Sum64()
}

// There notes that a side has begun, at a time, or goes on after an interruption.
func (c *Comparison) There(isNew bool, at time.Time) {
	s := c.side(isNew)
	s.there, s.unsure = true, at.Add(SettleTime)
	if c.sides[old].there && c.sides[new].there && c.begun.IsZero() {
		c.begun = at.Add(SettleTime)
	}
}

// Away notes that a side is interrupted, or has lost something: what it would have received since the last that it has is not known, so that
// what the other side has had since need not have its equal.
func (c *Comparison) Away(isNew bool) {
	s := c.side(isNew)
	s.there = false
	for _, it := range c.side(!isNew).items {
		if it.At.After(s.last.Add(-SettleTime)) {
			it.optional = true
		}
	}
}

func (c *Comparison) side(isNew bool) *side {
	if isNew {
		return &c.sides[new]
	}
	return &c.sides[old]
}

// Add takes a message of one side.
func (c *Comparison) Add(isNew bool, it Item) {
	it.optional = c.begun.IsZero() || it.At.Before(c.begun) || !c.Until.IsZero() && it.At.After(c.Until) || c.unsure(it.At)
	s := c.side(isNew)
	s.last = it.At
	if s.items = append(s.items, &it); len(s.items) > maxItems {
		c.lost++
		s.items = s.items[1:]
	}
	c.advance()
}

// advance takes what both sides have next, as long as that is equal.
func (c *Comparison) advance() {
	a, b := &c.sides[old], &c.sides[new]
	for {
		o, n := a.head(), b.head()
		switch {
		case o == nil || n == nil:
			return
		case o.Hash == n.Hash:
			c.equal(o, n)
		case !a.skipTo(n) && !b.skipTo(o):
			return
		}
	}
}

// skipTo lets go of what need not have its equal, up to the equal of what the other side has next, and reports whether that is there.
func (s *side) skipTo(next *Item) bool {
	for i, it := range s.items {
		if it.Hash == next.Hash && !it.gone {
			for _, skipped := range s.items[:i] {
				s.letGo(skipped)
			}
			return i > 0
		}
		if !it.optional && !it.gone {
			return false
		}
	}
	return false
}

// head is the next item; nil: there is none.
func (s *side) head() *Item {
	for len(s.items) > 0 {
		if it := s.items[0]; !it.gone {
			return it
		}
		s.items[0] = nil
		s.items = s.items[1:]
	}
	return nil
}

// equal notes a pair. What came before both sides were there proves nothing: a stream may begin with what was.
func (c *Comparison) equal(o, n *Item) {
	o.gone, n.gone = true, true
	if c.begun.IsZero() || o.optional && n.optional && o.At.Before(c.begun) {
		return
	}
	c.count(Equal, o, n)
}

// unsure reports whether what came at this time need not be on both sides.
func (c *Comparison) unsure(at time.Time) bool {
	for i := range c.sides {
		if s := &c.sides[i]; !s.there || at.Before(s.unsure) {
			return true
		}
	}
	return false
}

func (c *Comparison) count(result string, o, n *Item) {
	if c.counts == nil {
		c.counts = map[string]int64{}
	}
	c.counts[result]++
	switch {
	case result == Equal && c.Equal != nil:
		c.Equal(o, n)
	case result != Equal && c.Tell != nil:
		c.Tell(Difference{result, o, n})
	}
}

// Settle decides about what came Wait before now, or earlier, but at least twice Brief.
func (c *Comparison) Settle(now time.Time) {
	before := now.Add(-c.Patience())
	c.now = now
	for {
		c.sides[old].drop(before, &c.sides[new])
		c.sides[new].drop(before, &c.sides[old])
		o, n := c.sides[old].head(), c.sides[new].head()
		if (o == nil || !o.At.Before(before)) && (n == nil || !n.At.Before(before)) {
			return
		}
		c.differ()
		c.advance()
	}
}

// drop lets go of what is next, has waited, need not have its equal, and has none: a stream or a list may begin with much that was.
func (s *side) drop(before time.Time, other *side) {
	for it := s.head(); it != nil && it.optional && it.At.Before(before) && !other.has(it); it = s.head() {
		s.letGo(it)
	}
}

// letMost is how many are remembered that were let go of.
const letMost = 64

// letGo lets go of an item that need not have its equal.
func (s *side) letGo(it *Item) {
	if it.gone {
		return
	}
	it.gone = true
	if s.let = append(s.let, *it); len(s.let) > letMost {
		s.let = append(s.let[:0], s.let[1:]...)
	}
}

// had reports whether an item was let go of on this side for which it may stand, of the same name and from about the same time, and uses that up: where two messages change
// places, or one has changed, just as both sides have begun or are interrupted, one of them need not be there and the other has to.
func (s *side) had(it *Item) bool {
	near := func(o Item) bool { return o.Name == it.Name && o.At.Sub(it.At).Abs() < SettleTime }
	i := slices.IndexFunc(s.let, func(o Item) bool { return o.Hash == it.Hash && near(o) })
	if i < 0 {
		i = slices.IndexFunc(s.let, near)
	}
	if i < 0 {
		return false
	}
	s.let = slices.Delete(s.let, i, i+1)
	return true
}

// has reports whether an equal of it is not decided.
func (s *side) has(it *Item) bool {
	return slices.ContainsFunc(s.items, func(o *Item) bool { return o != nil && !o.gone && o.Hash == it.Hash })
}

// Patience is for how long a message waits until it is decided about.
func (c *Comparison) Patience() time.Duration { return max(c.Wait, 2*c.Brief) }

// Open reports whether something has to find its equal yet.
func (c *Comparison) Open() bool {
	for i := range c.sides {
		if slices.ContainsFunc(c.sides[i].items, func(it *Item) bool { return !it.gone && !it.optional }) {
			return true
		}
	}
	return false
}

// Counts are how many pairs and differences there were, by result.
func (c *Comparison) Counts() map[string]int64 { return c.counts }

// Passed counts states that only one side has had, briefly, between two polls of the other.
func (c *Comparison) Passed() int64 { return c.passed }

// Lost counts messages that were not compared, since too many waited.
func (c *Comparison) Lost() int64 { return c.lost }
