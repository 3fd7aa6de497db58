// This file tells how a poll's answers change: a list that grows, a large document of which little changes, and fields that change although
// nothing has happened.

package learn

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	patchFrom   = 4 << 10 // bytes of a document for which patches are worth it
	mostPatched = 0.3     // share of its values that change at once
)

// pair is two answers, one after the other.
type pair struct {
	old, new any
	at       time.Time
	differs  []string // where, as paths with [] for any element
	values   int      // in new
}

// pairsOf are the answers of sequences, two by two.
func pairsOf(all []sequence) (out []pair) {
	for _, s := range all {
		var before any
		known := false
		for _, a := range s.answers {
			v, ok := parsed(a.Data)
			if a.Status == 304 && known {
				v, ok = before, true
			}
			if ok && known {
				p := pair{old: before, new: v, at: a.At}
				differ(before, v, "", &p.differs)
				p.values = count(v)
				out = append(out, p)
			}
			before, known = v, ok
		}
	}
	return out
}

func count(v any) (n int) {
	switch v := v.(type) {
	case map[string]any:
		for _, e := range v {
			n += count(e)
		}
		return n
	case []any:
		for _, e := range v {
			n += count(e)
		}
		return n
	}
	return 1
}

const maxDiffers = 4096

// differ adds the paths at which a and b differ.
func differ(a, b any, path string, out *[]string) {
	if len(*out) >= maxDiffers {
		return
	}
	switch x := a.(type) {
	case map[string]any:
		if y, ok := b.(map[string]any); ok {
			for k, v := range x {
				differ(v, y[k], path+field(k), out)
			}
			for k := range y {
				if _, ok := x[k]; !ok {
					*out = append(*out, path+field(k))
				}
			}
			return
		}
	case []any:
		if y, ok := b.([]any); ok {
			if len(x) != len(y) {
				*out = append(*out, path+"[]")
			}
			for i := range min(len(x), len(y)) {
				differ(x[i], y[i], path+"[]", out)
			}
			return
		}
	}
	if !same(a, b) {
		*out = append(*out, path)
	}
}

// same reports whether two values are equal.
func same(a, b any) bool {
	switch a.(type) {
	case map[string]any, []any:
		return encode(a) == encode(b)
	}
	switch b.(type) {
	case map[string]any, []any:
		return false
	}
	return a == b
}

// bodies sets MODE, SELECT, ID and KEY.
func (d *draft) bodies(all []sequence) {
	pairs := pairsOf(all)
	size := 0
	for _, s := range all {
		for _, a := range s.answers {
			size = max(size, len(a.Data), a.Size)
		}
	}
	changed := 0
	for _, p := range pairs {
		if len(p.differs) > 0 {
			changed++
		}
	}
	d.note("%d of %d answers differed from the one before", changed, len(pairs))
	if d.Get("CURSOR") != "" {
		d.pages(all)
		return
	}
	if list, ok := growing(pairs); ok {
		d.set("MODE", "items")
		if list != "" {
			d.set("SELECT", list+"[]")
		}
		d.set("ID", uniqueID(pairs, list))
		d.note("the list only grows: MODE=items")
		return
	}
	restless := d.restless(pairs)
	if size > patchFrom && small(pairs, restless) {
		d.set("MODE", "patch")
		d.set("KEY", anyID(pairs))
		d.note("documents of up to %d KiB, of which little changes at once: MODE=patch", size>>10)
	}
}

// pages sets SELECT where the answers to a cursor are lists of what is new.
func (d *draft) pages(all []sequence) {
	for _, s := range all {
		for _, a := range s.answers {
			v, ok := parsed(a.Data)
			if !ok {
				continue
			}
			switch v := v.(type) {
			case []any:
				d.set("SELECT", ".[]")
				return
			case map[string]any:
				for _, k := range slices.Sorted(mapsKeys(v)) {
					if list, ok := v[k].([]any); ok && (len(list) == 0 || isMap(list[0])) {
						d.set("SELECT", field(k)+"[]")
						return
					}
				}
			}
		}
	}
}

func isMap(v any) bool { _, ok := v.(map[string]any); return ok }

// growing is the path of a list that only grows, "" for the document itself.
func growing(pairs []pair) (path string, ok bool) {
	if len(pairs) == 0 {
		return "", false
	}
	candidates := []string{""}
	if m, ok := pairs[0].old.(map[string]any); ok {
		candidates = nil
		for _, k := range slices.Sorted(mapsKeys(m)) {
			if _, ok := m[k].([]any); ok {
				candidates = append(candidates, k)
			}
		}
	}
	for _, k := range candidates {
		if onlyGrows(pairs, k) {
			if k == "" {
				return "", true
			}
			return field(k), true
		}
	}
	return "", false
}

func listAt(v any, key string) ([]any, bool) {
	if key != "" {
		m, ok := v.(map[string]any)
		if !ok {
			return nil, false
		}
		v = m[key]
	}
	list, ok := v.([]any)
	return list, ok
}

// onlyGrows reports whether in each pair the old list's elements are in the new one, unchanged and in their order, but for those that were dropped
// at the end at which none are added.
func onlyGrows(pairs []pair, key string) bool {
	grew := 0
	for _, p := range pairs {
		old, ok1 := listAt(p.old, key)
		new, ok2 := listAt(p.new, key)
		if !ok1 || !ok2 {
			return false
		}
		a, b := encodeAll(old), encodeAll(new)
		switch {
		case slices.Equal(a, b):
		case len(a) == 0:
			grew++
		case appended(a, b) || appended(reversed(a), reversed(b)):
			grew++
		default:
			return false
		}
	}
	return grew > 0
}

// appended reports whether b is the end of a, at least half of it where a is not short, and more.
func appended(a, b []string) bool {
	for drop := 0; drop <= len(a)/2; drop++ {
		rest := a[drop:]
		if drop > 0 && len(b) < len(a) { // a list that loses more than it gets does not only grow
			return false
		}
		if len(b) > len(rest) && slices.Equal(b[:len(rest)], rest) {
			return true
		}
	}
	return false
}

func reversed(a []string) []string {
	b := slices.Clone(a)
	slices.Reverse(b)
	return b
}

func encodeAll(list []any) (out []string) {
	for _, e := range list {
		out = append(out, encode(e))
	}
	return out
}

// uniqueID is the field of a list's elements that is in all of them and different in each; "" for none.
func uniqueID(pairs []pair, path string) string {
	key := strings.TrimPrefix(path, ".")
	last, _ := listAt(pairs[len(pairs)-1].new, key)
	return idOf(last)
}

var idNames = []string{"id", "_id", "uuid", "key", "seq"}

func idOf(list []any) string {
	for _, name := range idNames {
		var seen []string
		for _, e := range list {
			m, _ := e.(map[string]any)
			switch v := m[name].(type) {
			case string:
				seen = append(seen, "s"+v)
			case json.Number:
				seen = append(seen, "n"+v.String())
			}
		}
		if len(seen) == len(list) && len(list) > 1 && distinct(seen) == len(seen) {
			return "." + name
		}
	}
	return ""
}

// anyID is what identifies the elements of the first list of objects.
func anyID(pairs []pair) string {
	var find func(v any, depth int) string
	find = func(v any, depth int) string {
		switch v := v.(type) {
		case []any:
			return idOf(v)
		case map[string]any:
			for _, k := range slices.Sorted(mapsKeys(v)) {
				if depth < 3 {
					if id := find(v[k], depth+1); id != "" {
						return id
					}
				}
			}
		}
		return ""
	}
	return find(pairs[len(pairs)-1].new, 0)
}

// small reports whether little of the documents changes at once.
func small(pairs []pair, restless []string) bool {
	n := 0
	for _, p := range pairs {
		left := 0
		for _, at := range p.differs {
			if !slices.Contains(restless, at) {
				left++
			}
		}
		if left > 0 {
			n++
		}
		if float64(left) > mostPatched*float64(p.values) {
			return false
		}
	}
	return n > 0
}

// restlessNames are fields that change although nothing has happened.
var restlessNames = lazily(`(?i)time|date|now$|stamp|uptime|request_?id|trace|nonce|generated|fetched|elapsed|duration|took|age$|^ts$|^t$|clock`)

// restless sets SELECT to leave out what changes with each answer and says when it was made, and returns it.
func (d *draft) restless(pairs []pair) (paths []string) {
	counts := map[string]int{}
	for _, p := range pairs {
		for _, at := range slices.Compact(slices.Sorted(slices.Values(p.differs))) {
			counts[at]++
		}
	}
	for _, at := range slices.Sorted(mapsKeys(counts)) {
		if counts[at]*10 >= len(pairs)*9 && len(pairs) >= 2 && at != "" && !strings.HasSuffix(at, "[]") && saysWhen(pairs, at) {
			paths = append(paths, at)
		}
	}
	differed, nothingElse, remains := 0, 0, false
	for _, p := range pairs {
		if len(p.differs) == 0 {
			continue
		}
		differed++
		if !slices.ContainsFunc(p.differs, func(at string) bool { return !slices.Contains(paths, at) }) {
			nothingElse++
		}
		remains = remains || p.values > len(paths)
	}
	if len(paths) == 0 || nothingElse == 0 || !remains {
		return nil
	}
	d.set("SELECT", "del("+strings.Join(paths, ", ")+")")
	d.note("%d %% of the answers that differed did so by %s alone", 100*nothingElse/differed, strings.Join(paths, ", "))
	return paths
}

// saysWhen reports whether the values at a path are times, or have a name that says so.
func saysWhen(pairs []pair, at string) bool {
	name := at[strings.LastIndexAny(at, ".[")+1:]
	if restlessNames.MatchString(strings.Trim(name, `"]`)) {
		return true
	}
	for _, p := range pairs {
		v, ok := lookup(p.new, at)
		if !ok || !isTime(fmt.Sprint(v), p.at) {
			return false
		}
	}
	return true
}

// lookup is the value at a path of plain names.
func lookup(v any, path string) (any, bool) {
	for name := range strings.SplitSeq(strings.TrimPrefix(path, "."), ".") {
		m, ok := v.(map[string]any)
		if !ok {
			return nil, false
		}
		if v, ok = m[name]; !ok {
			return nil, false
		}
	}
	return v, true
}
