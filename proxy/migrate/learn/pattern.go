package learn

import (
	"regexp"
	"sync"
)

// pattern is a regular expression that is compiled when it is used first: most sidecars learn nothing, and these would be a quarter of what an idle one has in use.
type pattern func() *regexp.Regexp

func lazily(text string) pattern {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(text) })
}

func (p pattern) MatchString(s string) bool                  { return p().MatchString(s) }
func (p pattern) FindStringSubmatch(s string) []string       { return p().FindStringSubmatch(s) }
func (p pattern) FindAllString(s string, n int) []string     { return p().FindAllString(s, n) }
func (p pattern) ReplaceAllString(s, by string) string       { return p().ReplaceAllString(s, by) }
func (p pattern) FindAllStringIndex(s string, n int) [][]int { return p().FindAllStringIndex(s, n) }

func (p pattern) FindAllStringSubmatch(s string, n int) [][]string {
	return p().FindAllStringSubmatch(s, n)
}

func (p pattern) ReplaceAllStringFunc(s string, by func(string) string) string {
	return p().ReplaceAllStringFunc(s, by)
}
