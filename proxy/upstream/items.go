// This file finds the new elements of a list that is polled (MODE=items). The rules:
//
//   - With ID, an element is new when its id was in none of the pages remembered.
//   - Without, elements may be equal to the byte. A list that has grown at one end, or slid, overlaps the page before:
//     what is outside the overlap is new. Without an overlap, elements that the pages remembered have not had are.
//   - A page of which nothing is remembered has slid past: elements between the two were never seen. That is a gap.
//   - The first page is history.
//   - What is emitted is oldest first, whichever end a list grows at. Where new elements stand before those that are known, its newest is
//     first. That is a word of the route's list, so it holds for its other streams too; on a first page, which tells nothing yet, ids
//     that are numbers and fall do.
//   - Where a cursor leads from page to page nothing lies between them, so there is no gap; the memory only drops what an
//     inclusive cursor brings twice.

package upstream

import (
	"cmp"
	"crypto/sha256"
	"slices"
	"strings"
	"sync/atomic"

	"sidestream/translate"
)

// minRemembered is how many elements are remembered at least; for long pages it is four of them.
const minRemembered = 4096

type itemKey [sha256.Size]byte

// items remembers the elements of a list. The zero value has seen none.
type items struct {
	order *listOrder         // the route's; nil: not known beyond this list
	page  []itemKey          // the last one that held something
	known map[itemKey]uint64 // when each was last on a page, counted in pages
	pages uint64
}

// news returns the messages of the new elements, in order, led by a gap if there is one. continuous: a cursor led here.
func (it *items) news(out []translate.Message, continuous bool) []translate.Message {
	page := make([]itemKey, len(out))
	named := true
	for i, m := range out {
		if m.ID != "" {
			page[i] = digest(translate.Message{ID: m.ID})
		} else {
			page[i], named = digest(m), false
		}
	}
	if len(page) == 0 {
		return nil
	}
	from, to, overlaps := 0, len(page), false
	if !named && !continuous {
		from, to, overlaps = overlap(it.page, page)
	}
	var news []translate.Message
	first, gaps := len(it.page) == 0, 0
	if !continuous && len(it.page) > 0 && !overlaps && !slices.ContainsFunc(page, it.has) {
		news, gaps = append(news, translate.Message{Gap: translate.GapUpstream}), 1
	}
	isNew := make([]bool, len(page))
	for i := from; i < to; i++ {
		if isNew[i] = overlaps || !it.has(page[i]); isNew[i] {
			news = append(news, out[i])
		}
		if named { // the same id twice on one page is one element
			it.remember(page[i])
		}
	}
	it.turn(page)
	if it.newestFirst(isNew, first, continuous, news[gaps:]) {
		slices.Reverse(news[gaps:])
	}
	return news
}

// listOrder is how a route's list is sorted, as far as its pages have told.
type listOrder struct{ atomic.Int32 }

const (
	untold = iota
	oldestLeads
	newestLeads
)

// newestFirst reports whether news stands in its page from the newest to the oldest.
func (it *items) newestFirst(isNew []bool, first, continuous bool, news []translate.Message) bool {
	if it.order == nil {
		it.order = new(listOrder)
	}
	switch told := orderOf(isNew); {
	case told != untold:
		it.order.Store(int32(told))
		return told == newestLeads
	case continuous: // a cursor leads on, from what is older
		return false
	case it.order.Load() != untold:
		return it.order.Load() == newestLeads
	}
	return first && falls(news)
}

// orderOf is what a page tells by where its known elements stand: after the new ones, or before them.
func orderOf(isNew []bool) int {
	firstNew, firstKnown := slices.Index(isNew, true), slices.Index(isNew, false)
	if firstNew < 0 || firstKnown < 0 {
		return untold
	}
	lastIsNew := isNew[len(isNew)-1]
	switch {
	case firstNew == 0 && !lastIsNew:
		return newestLeads
	case firstKnown == 0 && lastIsNew:
		return oldestLeads
	}
	return untold // in the midst, or at both ends
}

// falls reports whether the ids of ms are numbers, each smaller than the one before.
func falls(ms []translate.Message) bool {
	for i, m := range ms {
		if m.ID == "" || strings.Trim(m.ID, "0123456789") != "" {
			return false
		}
		if i > 0 && compareNumbers(ms[i-1].ID, m.ID) <= 0 {
			return false
		}
	}
	return len(ms) > 1
}

// compareNumbers compares decimal numbers of any length.
func compareNumbers(a, b string) int {
	a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b))
}

// part is news of a list whose rest is not known: elements that were not seen before. What comes next is not compared with it, which
// would take the rest for new.
func (it *items) part(out []translate.Message) []translate.Message {
	news := it.news(out, true)
	it.page = nil
	return news
}

// overlap finds where now continues was: elements from..to of now are new. The longer overlap counts, and growth at the
// end where both are equal.
func overlap(was, now []itemKey) (from, to int, ok bool) {
	end, start := border(was, now), border(now, was)
	switch {
	case end == 0 && start == 0:
		return 0, len(now), false
	case end >= start:
		return end, len(now), true
	default:
		return 0, len(now) - start, true
	}
}

// border is the length of the longest end of a that is a beginning of b (Knuth, Morris and Pratt's failure function, so
// that a long list of equal elements costs no more than any other).
func border(a, b []itemKey) int {
	fail := make([]int, len(b)+1) // fail[i]: longest border of b[:i]
	for i, n := 1, 0; i < len(b); i++ {
		for n > 0 && b[i] != b[n] {
			n = fail[n]
		}
		if b[i] == b[n] {
			n++
		}
		fail[i+1] = n
	}
	n := 0
	for _, k := range a[max(0, len(a)-len(b)):] {
		for n > 0 && (n == len(b) || k != b[n]) {
			n = fail[n]
		}
		if k == b[n] {
			n++
		}
	}
	return n
}

func (it *items) has(k itemKey) bool {
	_, ok := it.known[k]
	return ok
}

func (it *items) remember(k itemKey) {
	if it.known == nil {
		it.known = map[itemKey]uint64{}
	}
	it.known[k] = it.pages
}

// turn ends a page: it is remembered, and the oldest are forgotten when they are too many.
func (it *items) turn(page []itemKey) {
	it.pages++
	it.page = page
	for _, k := range page {
		it.remember(k)
	}
	most := max(minRemembered, 4*len(page))
	if len(it.known) <= 2*most {
		return
	}
	ages := make([]uint64, 0, len(it.known))
	for _, at := range it.known {
		ages = append(ages, at)
	}
	slices.Sort(ages)
	oldest := ages[len(ages)-most]
	for k, at := range it.known {
		if at < oldest {
			delete(it.known, k)
		}
	}
}
