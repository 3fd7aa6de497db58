package config

import (
	"net/http"
	"path"
	"strings"

	"sidestream/proxy"
)

// reserved is where the sidecar serves its own scripts.
const reserved = "/_sidestream"

func (l *loader) checkPath(route string, vs values, pattern string) {
	if vs["PATH"].bad {
		return
	}
	if problem := pathProblem(pattern); problem != "" {
		l.problems.add(vs.variable(name{route, "PATH"}), "%s", problem)
	}
}

// pathProblem says why pattern cannot be a PATH, and the fix; "" when it can.
func pathProblem(pattern string) string {
	method, rest, spaced := strings.Cut(pattern, " ")
	first, _, _ := strings.Cut(strings.TrimPrefix(pattern, "/"), "/")
	switch {
	case pattern == "":
		return "required; write the path that browsers will ask for, such as /prices"
	case spaced && strings.HasPrefix(strings.TrimSpace(rest), "/") && !strings.HasPrefix(method, "/"):
		return quote(pattern) + " names a method; write only " + strings.TrimSpace(rest)
	case strings.ContainsAny(pattern, " \t\r\n"):
		return quote(pattern) + " contains a space; write %20, or leave it out"
	case strings.Contains(pattern, "://"):
		return quote(pattern) + " is a URL; write its path only, such as /prices"
	case pattern[0] != '/':
		return quote(pattern) + " does not begin with /; write a path without host, such as /" + first
	case strings.ContainsAny(pattern, "?#"):
		return quote(pattern) + " contains ? or #; write the path only ({query.NAME} in FROM takes a client's parameter)"
	case pattern == reserved || strings.HasPrefix(pattern, reserved+"/"):
		return quote(pattern) + " is under " + reserved + "/, which the sidecar serves itself; choose another path"
	case !clean(pattern):
		return quote(pattern) + " can never match, since only clean paths reach a route; write " + quote(path.Clean(pattern))
	}
	if !registers(http.NewServeMux(), pattern) {
		return quote(pattern) + " is not a net/http pattern; write each wildcard as a whole segment with a name of its own, such as /jobs/{id}/progress"
	}
	return ""
}

// clean is what net/http holds clean, where one slash at the end is.
func clean(p string) bool {
	c := path.Clean(p)
	return p == c || p == c+"/"
}

// registers reports whether mux took pattern. ServeMux knows no other answer than to panic.
func registers(mux *http.ServeMux, pattern string) (ok bool) {
	defer func() { ok = recover() == nil }()
	mux.Handle(pattern, http.NotFoundHandler())
	return
}

// checkConflicts reports each PATH that conflicts with one before it, naming both.
func (l *loader) checkConflicts(routes []*proxy.RouteSettings, own map[string]values) {
	variable := func(r *proxy.RouteSettings) string {
		route := strings.ToUpper(r.Name)
		return own[route].variable(name{route, "PATH"})
	}
	mux := http.NewServeMux()
	for i, r := range routes {
		if pathProblem(r.Path) != "" || registers(mux, r.Path) {
			continue
		}
		for _, earlier := range routes[:i] {
			if pathProblem(earlier.Path) == "" && conflict(earlier.Path, r.Path) {
				l.problems.add(variable(r), "%s conflicts with %s of %s: some paths match both, and neither is more specific; change one",
					quote(r.Path), quote(earlier.Path), variable(earlier))
			}
		}
	}
}

func conflict(a, b string) bool {
	mux := http.NewServeMux()
	registers(mux, a)
	return !registers(mux, b)
}

// wildcards lists the names in a pattern: id of /jobs/{id}, rest of /files/{rest...}.
func wildcards(pattern string) (names []string) {
	for segment := range strings.SplitSeq(pattern, "/") {
		inner, ok := strings.CutPrefix(segment, "{")
		if !ok || !strings.HasSuffix(inner, "}") {
			continue
		}
		if n := strings.TrimSuffix(strings.TrimSuffix(inner, "}"), "..."); n != "$" && n != "" {
			names = append(names, n)
		}
	}
	return names
}
