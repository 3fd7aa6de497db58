package jq

import (
	"encoding/json"
	"math"
	"strings"
	"unicode/utf8"

	"github.com/itchyny/gojq"
)

// indices are all places of args[0] in v.
func indices(m *machine, next function, v any, args []any) any {
	return places(m, next, v, args, func(all []any) any { return all }, 0)
}

// index is the first of them.
func index(m *machine, next function, v any, args []any) any {
	return places(m, next, v, args, func(all []any) any {
		if len(all) == 0 {
			return nil
		}
		return all[0]
	}, 1)
}

// rindex is the last of them.
func rindex(m *machine, next function, v any, args []any) any {
	return places(m, next, v, args, func(all []any) any {
		if len(all) == 0 {
			return nil
		}
		return all[len(all)-1]
	}, 0)
}

// places are looked for in a text or list, most of them at the most; 0 for all.
func places(m *machine, next function, v any, args []any, of func([]any) any, most int) any {
	switch v := v.(type) {
	case string:
		if sought, ok := args[0].(string); ok {
			return of(inText(m, v, sought, most))
		}
	case []any:
		sought, ok := args[0].([]any)
		if !ok {
			sought = []any{args[0]}
		}
		return of(inList(m, v, sought, most))
	}
	return next(v, args)
}

// found is .[[…]].
func found(m *machine, list, sought []any) any { return inList(m, list, sought, 0) }

func inList(m *machine, list, sought []any, most int) []any {
	all := []any{}
	if len(sought) == 0 {
		return all
	}
	for i := range len(list) - len(sought) + 1 {
		if m.compare(list[i:i+len(sought)], sought, 0) == 0 {
			all = append(all, i)
		}
		if m.err != nil || len(all) == most && most > 0 {
			break
		}
	}
	return all
}

// inText counts places in code points.
func inText(m *machine, text, sought string, most int) []any {
	all := []any{}
	if sought == "" {
		return all
	}
	for at, runes := 0, 0; ; {
		n := strings.Index(text[at:], sought)
		if n < 0 || !m.charge(32+(n+len(sought))>>4) {
			return all
		}
		runes += utf8.RuneCountInString(text[at : at+n])
		all = append(all, runes)
		if len(all) == most {
			return all
		}
		_, size := utf8.DecodeRuneInString(text[at+n:])
		at, runes = at+n+size, runes+1
	}
}

// subtract is l - r. What is a text or a simple number is looked for in a set.
func subtract(m *machine, next function, v any, args []any) any {
	l, ok1 := args[0].([]any)
	r, ok2 := args[1].([]any)
	if !ok1 || !ok2 {
		return next(v, args)
	}
	if !m.answer(16*len(l) + 48*len(r)) {
		return m.err
	}
	set := make(map[any]struct{}, len(r))
	var others []any
	for _, v := range r {
		if k := setKey(v); k != nil {
			set[k] = struct{}{}
		} else {
			others = append(others, v)
		}
	}
	left := make([]any, 0, len(l))
	for _, v := range l {
		if k := setKey(v); k != nil {
			if _, ok := set[k]; ok {
				continue
			}
			if !numeric(v) {
				left = append(left, v)
				continue
			}
		}
		if !m.among(v, others) {
			left = append(left, v)
		}
		if m.err != nil {
			return m.err
		}
	}
	return left
}

// among reports whether v is equal to one of list.
func (m *machine) among(v any, list []any) bool {
	for _, w := range list {
		if m.compare(v, w, 0) == 0 || m.err != nil {
			return m.err == nil
		}
	}
	return m.work(1) && false
}

// setKey is the same for equal values, and nil where only a comparison tells.
func setKey(v any) any {
	switch v := v.(type) {
	case string:
		return v
	case bool:
		return v
	case int:
		return exact(float64(v))
	case float64:
		return exact(v)
	case json.Number:
		if !long(v) && len(v) < 16 {
			f, ok := gojq.ToFloat64(v)
			if ok {
				return exact(f)
			}
		}
	}
	return nil
}

// exact is f unless numbers beside it are equal to it when they are compared as floating-point numbers.
func exact(f float64) any {
	if math.IsNaN(f) || math.Abs(f) >= 1<<53 {
		return nil
	}
	return f
}
