package migrate

import (
	"fmt"
	"slices"
	"sort"

	"sidestream/translate"
)

// Canonical is data in the one form in which equal values are equal: JSON without white space and its names sorted, numbers as they are
// written. What is no JSON is itself, and so like nothing that is.
func Canonical(data []byte) []byte {
	v, err := translate.ParseJSON(data)
	if err != nil {
		return data
	}
	if s, ok := v.(string); ok { // which would be written raw
		return translate.AppendJSONString(nil, s, false)
	}
	text, err := translate.Written(v)
	if err != nil {
		return data
	}
	return text
}

// FirstDifference is where two texts differ first, for people: a path into the JSON, with both values, or a place.
func FirstDifference(a, b []byte) string {
	one, err := translate.ParseJSON(a)
	two, err2 := translate.ParseJSON(b)
	if err == nil && err2 == nil {
		if path, was, is, differs := differing("", one, two); differs {
			return fmt.Sprintf("%s: %s, on the stream %s", path, short(was), short(is))
		}
		return "in the order of names or in white space only"
	}
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Sprintf("from byte %d on", i)
		}
	}
	return fmt.Sprintf("in length: %d bytes, on the stream %d", len(a), len(b))
}

// absent stands for what is not there.
type absent struct{}

// differing is the first path at which two values differ, and what is there.
func differing(path string, a, b any) (at string, was, is any, differs bool) {
	switch one := a.(type) {
	case map[string]any:
		if two, ok := b.(map[string]any); ok {
			return differingObjects(path, one, two)
		}
	case []any:
		if two, ok := b.([]any); ok {
			for i := range max(len(one), len(two)) {
				if at, was, is, differs = differing(fmt.Sprintf("%s[%d]", path, i), place(one, i), place(two, i)); differs {
					return at, was, is, true
				}
			}
			return "", nil, nil, false
		}
	default:
		if _, composed := b.(map[string]any); !composed {
			if _, composed = b.([]any); !composed && a == b {
				return "", nil, nil, false
			}
		}
	}
	if path == "" {
		path = "."
	}
	return path, a, b, true
}

func differingObjects(path string, one, two map[string]any) (at string, was, is any, differs bool) {
	var names []string
	for name := range one {
		names = append(names, name)
	}
	for name := range two {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range slices.Compact(names) {
		a, has := one[name]
		if !has {
			a = absent{}
		}
		b, has := two[name]
		if !has {
			b = absent{}
		}
		if at, was, is, differs = differing(path+"."+name, a, b); differs {
			return at, was, is, true
		}
	}
	return "", nil, nil, false
}

func place(list []any, i int) any {
	if i < len(list) {
		return list[i]
	}
	return absent{}
}

// short is a value fit for a line.
func short(v any) string {
	if _, missing := v.(absent); missing {
		return "not there"
	}
	text, err := translate.Written(v)
	if err != nil {
		return "what cannot be written"
	}
	const most = 60
	if _, isText := v.(string); isText {
		return fmt.Sprintf("%.*q", most, text)
	}
	if len(text) > most {
		return fmt.Sprintf("%.*s…", most, text)
	}
	return string(text)
}
