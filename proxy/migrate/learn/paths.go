package learn

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
)

var (
	digits  = lazily(`^[0-9]+$`)
	hexes   = lazily(`(?i)^[0-9a-f]{12,}$`)
	sockJS  = lazily(`^(.*)/[0-9]{3}/[^/]+/(?:websocket|xhr_streaming|xhr|eventsource)$`)
	version = lazily(`^v[0-9]+$`)
)

// varies reports whether a segment of a path is a value rather than a name, for its looks.
func varies(segment string) bool {
	plain, err := url.PathUnescape(segment)
	return err != nil || digits.MatchString(plain) || hexes.MatchString(plain) || random(plain) || len(plain) > 64
}

// shape is path with {} for each segment that varies; what SockJS adds to its prefix is one of them.
func shape(path string) string {
	if m := sockJS.FindStringSubmatch(path); m != nil {
		return shape(m[1]) + "/{sockjs}"
	}
	segments := strings.Split(path, "/")
	for i, s := range segments {
		if varies(s) && s != "" {
			segments[i] = "{}"
		}
	}
	return strings.Join(segments, "/")
}

// leastValues is how many names there must be in a segment for it to be one that varies, where they look like words.
const leastValues = 3

// merge finds shapes that differ in one segment, of which there are several, and returns what each becomes: /rooms/red, /rooms/blue and
// /rooms/green are /rooms/{}.
func merge(shapes []string, alike func(a, b string) bool) map[string]string {
	families := map[string][]string{}
	for _, s := range shapes {
		segments := strings.Split(s, "/")
		for i := 2; i < len(segments); i++ { // what stands first in a path names something
			if strings.HasPrefix(segments[i], "{") {
				continue
			}
			family := slices.Clone(segments)
			family[i] = "{}"
			key := strings.Join(family, "/")
			families[key] = append(families[key], s)
		}
	}
	became := map[string]string{}
	for _, key := range slices.Sorted(mapsKeys(families)) {
		members := families[key]
		if len(members) < leastValues || slices.ContainsFunc(members, func(m string) bool { return became[m] != "" || !alike(members[0], m) }) {
			continue
		}
		for _, m := range members {
			became[m] = key
		}
	}
	return became
}

// wildcards names the segments that vary after what stands before them: /jobs/{} is /jobs/{id}, /a/{}/b/{} is /a/{a}/b/{b}.
func wildcards(shape string) (pattern string, names []string) {
	segments := strings.Split(shape, "/")
	for i, s := range segments {
		if s != "{}" {
			continue
		}
		name := "id"
		if strings.Count(shape, "{}") > 1 && i > 0 {
			name = singular(segments[i-1])
		}
		for n := 2; name == "" || slices.Contains(names, name); n++ {
			name = "id" + strconv.Itoa(n)
		}
		names = append(names, name)
		segments[i] = "{" + name + "}"
	}
	return strings.Join(segments, "/"), names
}

// singular is a name for one of what a segment names; "" for none.
func singular(segment string) string {
	name := strings.ToLower(segment)
	if !regexpName.MatchString(name) {
		return ""
	}
	if s, ok := strings.CutSuffix(name, "ies"); ok {
		return s + "y"
	}
	if s, ok := strings.CutSuffix(name, "s"); ok && len(s) > 2 && !strings.HasSuffix(s, "s") {
		return s
	}
	return name
}

var regexpName = lazily(`^[a-z][a-z0-9_]*$`)

// values are the parts of path that vary, where it is of this shape.
func values(path, shape string) (all []string) {
	segments := strings.Split(path, "/")
	for i, s := range strings.Split(shape, "/") {
		if s == "{}" && i < len(segments) {
			plain, _ := url.PathUnescape(segments[i])
			all = append(all, plain)
		}
	}
	return all
}

// dull are words in paths that say nothing of what is there.
var dull = map[string]bool{"api": true, "ws": true, "wss": true, "websocket": true, "websockets": true, "socket": true, "sockets": true, "rest": true, "events": true, "public": true, "v": true}

// title is what a route for a pattern is called: its last words.
func title(pattern string) string {
	var last, lastDull string
	for s := range strings.SplitSeq(pattern, "/") {
		word := lettersOnly(s)
		switch {
		case s == "" || strings.HasPrefix(s, "{") || version.MatchString(s) || word == "":
		case dull[strings.ToLower(word)]:
			lastDull = word
		default:
			last = word
		}
	}
	if last == "" {
		last = lastDull
	}
	if last == "" {
		last = "feed"
	}
	return strings.ToUpper(last)
}

// lettersOnly is what of s may stand in a route's name.
func lettersOnly(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r < 128 && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9') && b.Len() < 24 {
			b.WriteRune(r)
		}
	}
	return b.String()
}

var (
	anyWildcard  = lazily(`\{[^{}]*\}`)
	cleanSegment = lazily(`^(\{[a-z0-9_]+\}|[A-Za-z0-9._~-]*[A-Za-z0-9_~-][A-Za-z0-9._~-]*)$`)
)

// plainPath is what the paths of routes are made of.
var plainPath = lazily(`^(/([A-Za-z0-9_~!$()*+,;=:@%-][A-Za-z0-9._~!$()*+,;=:@%-]*|\{\}|\{sockjs\})?)*$`)

// learnable reports whether a shape may be the path of FROM.
func learnable(shape string) bool {
	_, err := url.PathUnescape(shape)
	return err == nil && plainPath.MatchString(shape) && !strings.Contains(shape, "//")
}
