package jq

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/itchyny/gojq"
)

// compare orders l and r as gojq does. It is 0 when the run has ended meanwhile.
func (m *machine) compare(l, r any, depth int) int {
	if depth > maxDepth {
		m.stop(ErrDepth)
	}
	if !m.work(1) {
		return 0
	}
	switch a := l.(type) {
	case []any:
		if b, ok := r.([]any); ok {
			for i := range min(len(a), len(b)) {
				if c := m.compare(a[i], b[i], depth+1); c != 0 || m.err != nil {
					return c
				}
			}
			return cmp.Compare(len(a), len(b))
		}
	case map[string]any:
		if b, ok := r.(map[string]any); ok {
			return m.compareObjects(a, b, depth)
		}
	case string:
		if b, ok := r.(string); ok {
			m.work(min(len(a), len(b)) >> 12)
			return strings.Compare(a, b)
		}
	}
	if nested(l) || nested(r) {
		// Values of two types: only the type counts, and gojq need not look into them.
		return gojq.Compare(flat(l), flat(r))
	}
	if long(l) || long(r) {
		m.stop(ErrNumber)
		return 0
	}
	return gojq.Compare(l, r)
}

func nested(v any) bool {
	switch v.(type) {
	case []any, map[string]any:
		return true
	}
	return false
}

// flat is a small value of v's type.
func flat(v any) any {
	switch v := v.(type) {
	case []any:
		return []any(nil)
	case map[string]any:
		return map[string]any(nil)
	case json.Number:
		return 0
	default:
		return v
	}
}

// compareObjects compares the names of two objects, and then what they have in order of these.
func (m *machine) compareObjects(a, b map[string]any, depth int) int {
	names, others := m.names(a), m.names(b)
	if c := slices.Compare(names, others); c != 0 {
		return c
	}
	for _, name := range names {
		if c := m.compare(a[name], b[name], depth+1); c != 0 || m.err != nil {
			return c
		}
	}
	return 0
}

// names are those of an object, sorted.
func (m *machine) names(v map[string]any) []string {
	if !m.charge(16 * len(v)) {
		return nil
	}
	return slices.Sorted(maps.Keys(v))
}

// comparison is one of the operators.
func comparison(holds func(int) bool) native {
	return func(m *machine, next function, v any, args []any) any {
		if !nested(args[0]) || !nested(args[1]) {
			return next(v, args)
		}
		return holds(m.compare(args[0], args[1], 0))
	}
}

// keyed is an element of a list, and what it is compared by.
type keyed struct{ value, key any }

// sorted is sort and what it is part of; keep takes the list's elements in order.
func sorted(keep func(m *machine, list []keyed) any) native {
	return func(m *machine, next function, v any, args []any) any {
		list, keys, ok := lists(v, args)
		if !ok {
			return next(v, args)
		}
		if !m.answer(96 * len(list)) {
			return m.err
		}
		items := make([]keyed, len(list))
		for i, v := range list {
			items[i] = keyed{v, plain(keys[i])}
		}
		slices.SortStableFunc(items, func(a, b keyed) int { return m.compare(a.key, b.key, 0) })
		return keep(m, items)
	}
}

// lists are a list and the keys of its elements, which are the elements themselves where no others are given.
func lists(v any, args []any) (list, keys []any, ok bool) {
	list, ok = v.([]any)
	if !ok || len(args) == 0 {
		return list, list, ok
	}
	keys, ok = args[0].([]any)
	return list, keys, ok && len(keys) == len(list)
}

// plain is a number as it compares fastest.
func plain(v any) any {
	if n, ok := v.(json.Number); ok && !long(v) {
		if i, err := n.Int64(); err == nil {
			return int(i)
		}
	}
	if list, ok := v.([]any); ok && len(list) == 1 { // as sort_by has it
		if _, ok := list[0].(json.Number); ok {
			return []any{plain(list[0])}
		}
	}
	return v
}

func keepAll(_ *machine, list []keyed) any {
	out := make([]any, len(list))
	for i, item := range list {
		out[i] = item.value
	}
	return out
}

func keepFirst(m *machine, list []keyed) any {
	out := []any{}
	for i, item := range list {
		if i == 0 || m.compare(list[i-1].key, item.key, 0) != 0 {
			out = append(out, item.value)
		}
	}
	return out
}

func keepGroups(m *machine, list []keyed) any {
	out := []any{}
	for i, item := range list {
		if i == 0 || m.compare(list[i-1].key, item.key, 0) != 0 {
			out = append(out, []any{item.value})
		} else {
			out[len(out)-1] = append(out[len(out)-1].([]any), item.value)
		}
	}
	return out
}

// extreme is the smallest element, the first of equal ones, or the largest, the last of them.
func extreme(sign int) native {
	return func(m *machine, next function, v any, args []any) any {
		list, keys, ok := lists(v, args)
		if !ok || len(list) == 0 {
			return next(v, args)
		}
		best := 0
		for i := 1; i < len(keys) && m.err == nil; i++ {
			if c := m.compare(keys[best], keys[i], 0); sign < 0 && c > 0 || sign > 0 && c <= 0 {
				best = i
			}
		}
		return list[best]
	}
}

func bsearch(m *machine, next function, v any, args []any) any {
	list, ok := v.([]any)
	if !ok {
		return next(v, args)
	}
	i, ok := slices.BinarySearchFunc(list, args[0], func(a, b any) int { return m.compare(a, b, 0) })
	if ok {
		return i
	}
	return -i - 1
}

// contains is whether r is in v, by gojq's rules for each type.
func contains(m *machine, next function, v any, args []any) any {
	return m.contains(next, v, args[0], 0)
}

func inside(m *machine, next function, v any, args []any) any {
	return m.contains(func(r any, args []any) any { return next(args[0], []any{r}) }, args[0], v, 0)
}

func (m *machine) contains(next function, l, r any, depth int) any {
	if depth > maxDepth {
		return m.stop(ErrDepth)
	}
	if !m.work(1) {
		return m.err
	}
	switch a := l.(type) {
	case string:
		if b, ok := r.(string); ok {
			m.work((len(a) + len(b)) >> 10)
			return strings.Contains(a, b)
		}
	case []any:
		if b, ok := r.([]any); ok {
			return m.containsAll(next, a, b, depth)
		}
	case map[string]any:
		if b, ok := r.(map[string]any); ok {
			return m.containsObject(next, a, b, depth)
		}
	}
	if long(l) || long(r) {
		return ErrNumber
	}
	return next(l, []any{r})
}

func (m *machine) containsAll(next function, l, r []any, depth int) any {
	for _, b := range r {
		if !slices.ContainsFunc(l, func(a any) bool { return m.contains(next, a, b, depth+1) == true }) {
			return false
		}
	}
	return true
}

func (m *machine) containsObject(next function, l, r map[string]any, depth int) any {
	if len(l) < len(r) {
		return false
	}
	for name, b := range r {
		if a, ok := l[name]; !ok || m.contains(next, a, b, depth+1) != true {
			return false
		}
	}
	return true
}
