package learn

import (
	"slices"
	"strings"
)

// tells is a jq condition that is true for the service's messages of a shape and for no other that was seen; "" when there is none.
func (g *group) tells(shape string) string {
	condition, known := g.told[shape]
	if !known {
		if g.told == nil {
			g.told = map[string]string{}
		}
		condition = g.condition(shape)
		g.told[shape] = condition
	}
	return condition
}

// condition is what tells returns.
func (g *group) condition(shape string) string {
	var these, others []*said
	for _, t := range g.talks {
		for i := range t.all {
			switch s := &t.all[i]; {
			case s.FromClient:
			case s.shape == shape:
				these = append(these, s)
			default:
				others = append(others, s)
			}
		}
	}
	return tells(these, others)
}

// tells is a condition for these messages and for none of the others.
func tells(these, others []*said) string {
	if len(these) == 0 {
		return ""
	}
	if !these[0].json {
		return tellsText(these)
	}
	var best string
	rank := len(kinds) + 1
	for _, l := range these[0].leaves {
		if l.depth > kindDepth || len(l.text) > 48 || !shows(l.text) || strings.Contains(l.path, "[") || secret(l.key, l.text) {
			continue
		}
		if r := rankOf(l); r < rank && common(these, l) && !slices.ContainsFunc(others, func(o *said) bool { return has(o, l) }) {
			best, rank = compare(l, others), r
		}
	}
	if best != "" {
		return best
	}
	return tellsField(these, others)
}

// rankOf is how surely a leaf tells kinds apart, less being better.
func rankOf(l leaf) int {
	if i := slices.Index(kinds, l.key); i >= 0 {
		return i
	}
	return len(kinds)
}

// common reports whether all messages have l, and whether it is more than a number that they happen to share.
func common(these []*said, l leaf) bool {
	if rankOf(l) == len(kinds) && (len(these) < 2 && l.text != "true" && l.text != "false" || idKeys.MatchString(l.key)) {
		return false
	}
	return !slices.ContainsFunc(these, func(s *said) bool { return !has(s, l) })
}

func has(s *said, l leaf) bool {
	other, ok := s.get(l.path)
	return ok && other.text == l.text && other.quoted == l.quoted
}

// compare is jq that compares with a leaf.
func compare(l leaf, others []*said) string {
	text := l.text
	if l.quoted {
		text = quote(l.text)
	}
	return optional(l.path, others) + "==" + text
}

// optional is path such that no message of another kind is an error.
func optional(path string, others []*said) string {
	if slices.ContainsFunc(others, func(o *said) bool { return !o.json || o.Data[0] == '[' }) || strings.Count(path, ".") > 1 {
		return "(" + path + "?)"
	}
	return path
}

// tellsField is a condition by a field that only these messages have.
func tellsField(these, others []*said) string {
	for _, l := range these[0].leaves {
		if l.depth != 1 || strings.Contains(l.path, "[") || l.text == "null" || l.text == "false" || !shows(l.key) || idKeys.MatchString(l.key) {
			continue
		}
		missing := func(s *said) bool { _, ok := s.get(l.path); return !ok }
		if !slices.ContainsFunc(these, missing) && !slices.ContainsFunc(others, func(o *said) bool { return !missing(o) }) {
			return optional(l.path, others) + "!=null"
		}
	}
	return ""
}

// tellsText is a condition for messages that are short texts.
func tellsText(these []*said) string {
	text := strings.TrimSpace(string(these[0].Data))
	if these[0].Binary || len(text) > 32 || !shows(text) || slices.ContainsFunc(these, func(s *said) bool { return strings.TrimSpace(string(s.Data)) != text }) {
		return ""
	}
	if string(these[0].Data) != text && text != "" {
		return "." + "==" + quote(string(these[0].Data))
	}
	return ".==" + program(text)
}
