package learn

import (
	"slices"
	"strings"
)

const (
	leastKinds = 2
	mostKinds  = 24
)

// events sets SELECT, which leaves out what is no event, and EVENT, by what tells the others apart.
func (g *group) events(d *draft, control []string) {
	slices.Sort(control)
	control = slices.Compact(control)
	if len(control) > 0 {
		d.set("SELECT", "select("+strings.Join(control, " or ")+"|not)")
	}
	var left []*said
	for _, t := range g.talks {
		for i := range t.all {
			if s := &t.all[i]; !s.FromClient && !s.Cut && !g.controls(s, control) && !g.takenByHello(d, s) && !g.isPong(d, s) {
				left = append(left, s)
			}
		}
	}
	if path := distinguishes(left); path != "" {
		d.set("EVENT", path)
	}
}

// controls reports whether one of the conditions is that of s.
func (g *group) controls(s *said, control []string) bool {
	return len(control) > 0 && slices.Contains(control, g.tells(s.shape))
}

func (g *group) takenByHello(d *draft, s *said) bool {
	hello := d.Get("HELLO")
	if hello == "" {
		return false
	}
	condition := g.tells(s.shape)
	return condition != "" && (strings.Contains(hello, "< "+condition+"\n") || strings.Contains(hello, "! "+condition+"\n"))
}

func (g *group) isPong(d *draft, s *said) bool {
	pong := d.Get("PONG")
	return pong != "" && g.tells(s.shape) == pong
}

// distinguishes is the path of the field that tells messages apart: nearly all have it, it is a word, and there are a few of them.
func distinguishes(left []*said) string {
	counts := map[string]int{}
	words := map[string][]string{}
	for _, s := range left {
		for _, l := range s.leaves {
			if l.quoted && l.depth <= kindDepth && slices.Contains(kinds, l.key) && !strings.Contains(l.path, "[") && shows(l.text) && l.text != "" {
				counts[l.path]++
				if !slices.Contains(words[l.path], l.text) && len(words[l.path]) <= mostKinds {
					words[l.path] = append(words[l.path], l.text)
				}
			}
		}
	}
	best, rank := "", len(kinds)
	for path, n := range counts {
		if n*10 < len(left)*8 || len(words[path]) < leastKinds || len(words[path]) > mostKinds || len(words[path])*2 > len(left)+2 {
			continue
		}
		r := slices.IndexFunc(kinds, func(k string) bool { return strings.HasSuffix(path, field(k)) })
		if r >= 0 && (r < rank || r == rank && len(path) < len(best)) {
			best, rank = path, r
		}
	}
	if strings.Count(best, ".") > 1 {
		return best + "?"
	}
	return best
}
