package learn

import (
	"fmt"
	"slices"
	"strings"
)

// closes sets CLOSE for codes that say by their number that there is no point in coming back, and notes the others.
func (g *group) closes(d *draft) {
	codes := map[int]int{}
	for _, t := range g.talks {
		if t.Over && t.Code != 0 {
			codes[t.Code]++
		}
	}
	var rules, seen []string
	for _, code := range slices.Sorted(mapsKeys(codes)) {
		if code >= 4400 && code < 4500 && d.Protocol == "raw" { // dialects know their own
			rules = append(rules, fmt.Sprintf("%d=refused:%d", code, code-4000))
		}
		seen = append(seen, fmt.Sprintf("%d (%d×)", code, codes[code]))
	}
	d.set("CLOSE", strings.Join(rules, ","))
	if len(seen) > 0 {
		d.note("close codes seen: %s", strings.Join(seen, ", "))
	}
}
