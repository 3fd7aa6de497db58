package learn

import (
	"cmp"
	"strconv"
	"strings"
)

// finish names the routes, and writes them.
func (c *conclusion) finish() {
	used := map[string]bool{}
	paths := map[string]bool{}
	for _, d := range c.drafts {
		if len(c.report.Routes) == mostRoutes {
			c.note("there are more than " + strconv.Itoa(mostRoutes) + " routes: the others are left out")
			break
		}
		if d.Old == "" {
			d.Old = "/"
		}
		d.Name = free(title(d.Old), used)
		d.Path = freePath(newPath(d.Old), paths)
		d.Settings = append([]Setting{{"PATH", d.Path}}, d.Settings...)
		if c.leaks(d) {
			c.note("a route for " + d.Old + " is left out: something in it looks like a secret")
			continue
		}
		c.report.Routes = append(c.report.Routes, d.Route)
	}
	c.report.Env = write(c.o, &c.report)
}

// leaks reports whether a secret has come into a route after all.
func (c *conclusion) leaks(d *draft) bool {
	for _, s := range d.Settings {
		if c.vault.in(s.Value) {
			return true
		}
	}
	return c.vault.in(strings.Join(d.Notes, "\n")) || c.vault.in(d.Old)
}

func free(name string, used map[string]bool) string {
	for n, base := 2, name; used[name]; n++ {
		name = base + strconv.Itoa(n)
	}
	used[name] = true
	return name
}

// freePath is path, or one beside it that is not used.
func freePath(path string, used map[string]bool) string {
	for n, base := 2, path; used[anyWildcard.ReplaceAllString(path, "{}")]; n++ {
		path = base + "/" + strconv.Itoa(n)
	}
	used[anyWildcard.ReplaceAllString(path, "{}")] = true
	return path
}

// newPath is where events for what is at pattern may be: under /events, without what says that it is an API.
func newPath(pattern string) string {
	var keep []string
	for s := range strings.SplitSeq(pattern, "/") {
		if s == "" || version.MatchString(s) || s == "api" || s == "rest" || s == "events" {
			continue
		}
		if !cleanSegment.MatchString(s) {
			s = lettersOnly(s)
		}
		if s != "" {
			keep = append(keep, s)
		}
	}
	return "/events/" + cmp.Or(strings.Join(keep, "/"), "feed")
}
