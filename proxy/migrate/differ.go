// What a comparison decides about messages that are not equal; see compare.go for the rules.

package migrate

import (
	"slices"
	"time"
)

// near bounds how far both sides are looked at for what they have in common.
const near = 200

// differ decides about what is off before the next pair.
func (c *Comparison) differ() {
	items := [2][]*Item{c.sides[old].next(near), c.sides[new].next(near)}
	first := [2]int{len(items[old]), len(items[new])} // the next pair
	paired := map[*Item]bool{}
	for i, pair := range inCommon(items[old], items[new]) {
		if i == 0 {
			first = pair
		}
		paired[items[old][pair[old]]], paired[items[new][pair[new]]] = true, true
	}
	var alone [2][]*Item
	for side := range items {
		for _, it := range items[side][:first[side]] {
			if other := elsewhere(it, items[1-side], paired); other != nil {
				c.moved(side, it, other)
			} else if !it.gone {
				alone[side] = append(alone[side], it)
			}
		}
	}
	c.alone(alone)
}

// next are at most so many undecided items.
func (s *side) next(most int) (all []*Item) {
	for _, it := range s.items {
		if !it.gone {
			if all = append(all, it); len(all) == most {
				break
			}
		}
	}
	return all
}

// inCommon is the longest common subsequence of both, as pairs of places.
func inCommon(olds, news []*Item) (pairs [][2]int) {
	width := len(news) + 1
	length := make([]int16, (len(olds)+1)*width) // of what is in common from there on
	for i := len(olds) - 1; i >= 0; i-- {
		for j := len(news) - 1; j >= 0; j-- {
			if at := i*width + j; olds[i].Hash == news[j].Hash {
				length[at] = length[at+width+1] + 1
			} else {
				length[at] = max(length[at+width], length[at+1])
			}
		}
	}
	for i, j := 0, 0; i < len(olds) && j < len(news); {
		switch at := i*width + j; {
		case olds[i].Hash == news[j].Hash:
			pairs = append(pairs, [2]int{i, j})
			i, j = i+1, j+1
		case length[at+width] >= length[at+1]:
			i++
		default:
			j++
		}
	}
	return pairs
}

// elsewhere is an item of the other side that is equal to it and in no pair.
func elsewhere(it *Item, others []*Item, paired map[*Item]bool) *Item {
	for _, o := range others {
		if o.Hash == it.Hash && !o.gone && !paired[o] && !it.gone {
			return o
		}
	}
	return nil
}

// moved notes that both sides have an item, at different places.
func (c *Comparison) moved(at int, it, other *Item) {
	it.gone, other.gone = true, true
	if it.optional || other.optional {
		return
	}
	if at == new {
		it, other = other, it
	}
	c.count(Reordered, it, other)
}

// alone decides about what one side only has between two pairs: two of the same name are one that has changed, as many as there are, in their order,
// those that have come closest to each other.
func (c *Comparison) alone(sides [2][]*Item) {
	with := map[*Item]*Item{}
	for _, same := range byName(sides) {
		for _, pair := range closest(same[old], same[new]) {
			with[pair[old]], with[pair[new]] = pair[new], pair[old]
		}
	}
	for at := range sides {
		for _, it := range sides[at] {
			it.gone = true
			switch other := with[it]; {
			case other == nil:
				c.single(it, at)
			case at == old:
				c.changed(it, other)
			}
		}
	}
}

// byName are the items of each name.
func byName(sides [2][]*Item) (all map[string]*[2][]*Item) {
	all = map[string]*[2][]*Item{}
	for at := range sides {
		for _, it := range sides[at] {
			if all[it.Name] == nil {
				all[it.Name] = &[2][]*Item{}
			}
			all[it.Name][at] = append(all[it.Name][at], it)
		}
	}
	return all
}

// never is more than the time between any two: what it costs to leave one over.
const never = 1000 * time.Hour

// closest pairs as many items as can be, in their order, so that the times between those of each pair are least in all.
func closest(olds, news []*Item) (pairs [][2]*Item) {
	width := len(news) + 1
	least := make([]time.Duration, (len(olds)+1)*width) // from there on
	for i := len(olds); i >= 0; i-- {
		for j := len(news); j >= 0; j-- {
			at := i*width + j
			switch {
			case i == len(olds):
				least[at] = time.Duration(len(news)-j) * never
			case j == len(news):
				least[at] = time.Duration(len(olds)-i) * never
			default:
				least[at] = min(least[at+width+1]+distance(olds[i], news[j]), least[at+width]+never, least[at+1]+never)
			}
		}
	}
	for i, j := 0, 0; i < len(olds) && j < len(news); {
		switch at := i*width + j; {
		case least[at] == least[at+width]+never:
			i++
		case least[at] == least[at+1]+never:
			j++
		default:
			pairs = append(pairs, [2]*Item{olds[i], news[j]})
			i, j = i+1, j+1
		}
	}
	return pairs
}

// distance is the time between two. What need not be there stands for nothing that came at another time.
func distance(o, n *Item) time.Duration {
	d := o.At.Sub(n.At).Abs()
	if d > SettleTime && o.optional != n.optional {
		return 2 * never
	}
	return min(d, never)
}

// changed decides about two that stand in each other's place, which is nothing where one of them need not be there.
func (c *Comparison) changed(o, n *Item) {
	switch {
	case o.optional || n.optional:
	case c.Same != nil && c.Same(o, n):
		c.count(Equal, o, n)
	default:
		c.count(Changed, o, n)
	}
}

// single decides about an item that the other side has nothing for.
func (c *Comparison) single(it *Item, at int) {
	switch {
	case it.optional, c.sides[1-at].had(it):
	case c.brief(it, at):
		c.passed++
	case at == old:
		c.count(Missing, it, nil)
	default:
		c.count(Extra, nil, it)
	}
}

// brief reports whether the next of the same side followed an item at once, or may yet.
func (c *Comparison) brief(it *Item, at int) bool {
	if c.Brief == 0 {
		return false
	}
	items := c.sides[at].items
	if i := slices.Index(items, it); i >= 0 && i+1 < len(items) {
		return items[i+1].At.Sub(it.At) < c.Brief
	}
	return c.now.Sub(it.At) < c.Brief
}
