package upstream

import (
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// redis is a FROM that names a Redis. Its placeholders stand in the names of what is read there, and nowhere else.
func (c *compiler) redis() {
	from := c.s.From
	head, _, _ := strings.Cut(from, "?")
	at := 0
	var before string // the literals so far
	all, err := placeholders(from)
	if err != nil {
		c.bad("FROM", "%v", err)
		return
	}
	for _, f := range all {
		literal := from[at:f.from]
		before, at = before+literal, f.to
		if problem := redisPlaceProblem(f.part, f.from > len(head), before, literal); problem != "" {
			c.bad("FROM", "%s %s", f.part.text(), problem)
			return
		}
	}
	if _, err := parseRedisFrom(replaced(from, "x")); err != nil {
		c.bad("FROM", "%v", err)
		return
	}
	c.entry(entry{setting: "FROM", field: redisField}, from, inRedis())
}

var cutEscape = regexp.MustCompile(`%[0-9A-Fa-f]?$`)

// redisPlaceProblem says why p may not stand after these literals, the last of which is the one in front of it.
func redisPlaceProblem(p part, asked bool, before, literal string) string {
	name, value, valued := redisPair(before)
	switch {
	case !asked, !valued, !slices.Contains(redisNames, name), p.whole():
		return "is not allowed here; in the address of a Redis a placeholder may be used in the value of channel, pattern or stream only"
	case p.kind == "stream", p.kind == "program", p.kind == "secret":
		return "is not allowed here: what is read at a Redis is the same at each connection"
	case cutEscape.MatchString(literal):
		return "stands after a % that begins no escape; write it as %25"
	case name == "pattern" && endsEscaping(value):
		return `stands after a \, which would take the escape of what the client sends; write \\ for a backslash`
	}
	return ""
}

// redisPair is the name of the parameter that the end of an address is in, and its value so far.
func redisPair(before string) (name, value string, valued bool) {
	return strings.Cut(before[strings.LastIndexAny(before, "?&")+1:], "=")
}

// endsEscaping reports whether a pattern so far ends with a backslash that escapes what follows.
func endsEscaping(value string) bool {
	text, err := url.QueryUnescape(value)
	return err == nil && (len(text)-len(strings.TrimRight(text, `\`)))%2 == 1
}

// inRedis keeps a value inside the name that it is a part of.
func inRedis() place {
	var before string
	return func(literal string, _ bool) escape {
		before += literal
		if name, _, _ := redisPair(before); name == "pattern" {
			return inPattern
		}
		return queryValue
	}
}

var globMarks = regexp.MustCompile(`[*?\[\]^\\-]`)

// inPattern has a value stand for itself in a pattern: none of Redis' wildcards has a meaning in it.
func inPattern(v string) (string, error) { return queryValue(globMarks.ReplaceAllString(v, `\$0`)) }
