package config

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"sidestream/proxy"
	"sidestream/proxy/migrate"
	"sidestream/proxy/redisconn"
)

// replaces finds out which old paths' clients r is to replace: those of REPLACES, else FROM's where it is the service's that is passed
// through to.
func (l *loader) replaces(route string, vs values, s settings, r *proxy.RouteSettings) {
	if len(s.Replaces) == 1 && none(s.Replaces[0]) {
		r.Replaces = nil
		return
	}
	for _, path := range s.Replaces {
		if problem := oldPathProblem(path); problem != "" {
			l.problems.add(vs.variable(name{route, "REPLACES"}), "%s %s", quote(path), problem)
		}
	}
	if _, set := vs["REPLACES"]; !set && l.passed != nil {
		if path := l.oldPath(s); path != "" {
			r.Replaces = patterns([]string{path})
		}
	}
}

// checkParity reports a PARITY that could compare nothing.
func (l *loader) checkParity(route string, vs values, r *proxy.RouteSettings) {
	variable := vs.variable(name{route, "PARITY"})
	switch {
	case !r.Parity || r.Upstream == nil:
	case len(r.Replaces) == 0:
		l.problems.add(variable, "has no old clients to compare with: FROM is not at SSE_UPSTREAM, and REPLACES names no path; set one of them, or unset PARITY")
	case !r.Upstream.Overhears():
		l.problems.add(variable, "cannot read what old clients are sent in this protocol or mode (over SockJS, in several pages, without an end, or of several routes); unset it, and use the command compare, which is a client itself")
	}
}

func patterns(paths []string) (all []migrate.Pattern) {
	for _, path := range paths {
		all = append(all, migrate.Pattern(path))
	}
	return all
}

// oldPathProblem says why path is none that clients have used, and the fix; "" when it is.
func oldPathProblem(path string) string {
	switch {
	case strings.Contains(path, "://"):
		return "is a URL; write its path only, such as /ws"
	case !strings.HasPrefix(path, "/"):
		return "does not begin with /; write a path, such as /ws or /jobs/{id}/ws"
	case strings.ContainsAny(path, " \t?#"):
		return "is more than a path; leave out everything from ? on"
	case len(path) > 200:
		return "is too long; write a path of at most 200 bytes, with {name} for segments that differ"
	}
	for i, segment := range strings.Split(path, "/") {
		open, end := strings.HasPrefix(segment, "{"), strings.HasSuffix(segment, "}")
		inner := strings.TrimSuffix(strings.Trim(segment, "{}"), "...")
		if open != end || strings.ContainsAny(inner, "{}") || open && inner == "" {
			return "has a { or } that is no segment of its own; write such as /jobs/{id}/ws"
		}
		if open && strings.HasSuffix(segment, "...}") && i != strings.Count(path, "/") {
			return "has {" + inner + "...} before its end, which stands for all that follows; write {" + inner + "}"
		}
	}
	return ""
}

// oldPath is the path of FROM as clients of the service use it, "" where FROM is not at the service that is passed through to. A segment with
// a placeholder is a wildcard.
func (l *loader) oldPath(s settings) string {
	if strings.Contains(s.From, "{=") { // old clients' addresses are not computed
		return ""
	}
	scheme, rest, _ := strings.Cut(strings.TrimSpace(s.From), "://")
	if slices.Contains(redisconn.Schemes, scheme) {
		return "" // whose path is the number of a database
	}
	var path string
	if strings.HasSuffix(scheme, "+unix") {
		socket, after, _ := strings.Cut(rest, ":")
		if l.passing.Socket == "" || l.passing.Socket != socket {
			return ""
		}
		path = after
	} else {
		authority, after, found := strings.Cut(rest, "/")
		if found {
			path = "/" + after
		}
		authority, _, _ = strings.Cut(authority, "?")
		if l.passing.Socket != "" || !sameService(l.passed, scheme, authority) {
			return ""
		}
	}
	path = wildcarded(path)
	under, ok := strings.CutPrefix(path, strings.TrimSuffix(l.passed.Path, "/"))
	if !ok || under != "" && !strings.HasPrefix(under, "/") {
		return ""
	}
	old := asDialled(s.Protocol, "/"+strings.TrimPrefix(under, "/"))
	if oldPathProblem(old) != "" {
		return ""
	}
	return old
}

// wildcarded is a template's path, in which each segment with a placeholder is {1}, {2} and so on.
func wildcarded(path string) string {
	if end := strings.IndexAny(path, "?#"); end >= 0 {
		path = path[:end]
	}
	segments := strings.Split(path, "/")
	for i, s := range segments {
		if strings.ContainsAny(s, "{}") {
			segments[i] = fmt.Sprintf("{%d}", i)
		}
	}
	return strings.Join(segments, "/")
}

// asDialled is where the clients of a dialect connect, which FROM need not say.
func asDialled(protocol, path string) string {
	switch {
	case strings.HasPrefix(protocol, "socket.io") && path == "/":
		return "/socket.io/"
	case protocol == "phoenix" && !strings.HasSuffix(path, "/websocket"):
		return strings.TrimSuffix(path, "/") + "/websocket"
	case strings.HasPrefix(protocol, "sockjs") && !strings.HasSuffix(path, "/websocket"):
		return strings.TrimSuffix(path, "/") + "/{server}/{session}/websocket"
	}
	return path
}

// sameService reports whether scheme and authority are those of what is passed through to. The names of this machine are one.
func sameService(passed *url.URL, scheme, authority string) bool {
	u, err := url.Parse(scheme + "://" + authority)
	if err != nil {
		return false
	}
	plainly := func(u *url.URL) string {
		host, port := strings.ToLower(u.Hostname()), u.Port()
		if slices.Contains(ownNames["127.0.0.1"], host) || host == "127.0.0.1" || host == "::1" {
			host = "localhost"
		}
		if port == "" {
			port = map[bool]string{true: "443", false: "80"}[strings.HasSuffix(u.Scheme, "s")]
		}
		return host + " " + port
	}
	return plainly(u) == plainly(passed)
}

// sunsets reads SSE_SUNSET: from when which old paths are gone.
func (l *loader) sunsets(vs values, given list) (all []proxy.Sunset) {
	variable := vs.variable(name{setting: "SUNSET"})
	const write = "write such as /ws=2027-03-01"
	for _, item := range given {
		path, day, ok := strings.Cut(item, "=")
		if path, day = strings.TrimSpace(path), strings.TrimSpace(day); !ok {
			l.problems.add(variable, "%s has no day; %s", quote(item), write)
			continue
		}
		if problem := oldPathProblem(path); problem != "" {
			l.problems.add(variable, "%s %s", quote(path), problem)
			continue
		}
		at, err := time.Parse(time.DateOnly, day)
		if err != nil {
			at, err = time.Parse(time.RFC3339, day)
		}
		if err != nil {
			l.problems.add(variable, "%s is neither a day nor a time (RFC 3339); %s", quote(day), write)
			continue
		}
		if slices.ContainsFunc(all, func(s proxy.Sunset) bool { return string(s.Path) == path }) {
			l.problems.add(variable, "names %s twice; keep one", quote(path))
			continue
		}
		all = append(all, proxy.Sunset{Path: migrate.Pattern(path), At: at})
	}
	if v, set := vs["UPSTREAM"]; len(all) > 0 && l.passed == nil && (!set || none(v.text)) {
		l.problems.add(variable, "has no effect without SSE_UPSTREAM, where the old paths are; set it to your service's base URL")
	}
	return all
}
