package config

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"sidestream/proxy"
)

// mostMerged is how many routes one merges at most.
const mostMerged = 32

// ofMerged are the settings that have an effect on a route whose FROM names other routes.
var ofMerged = map[string]bool{"PATH": true, "FROM": true, "SELECT": true, "EVENT": true, "DATA": true, "ID": true, "KEY": true, "DONE": true, "START": true,
	"HEARTBEAT": true, "COALESCE": true, "COMPRESS": true, "RETRY": true, "REPLAY_EVENTS": true, "REPLAY_BYTES": true, "REPLAY_AGE": true, "LINGER": true, "MAX_AGE": true,
	"HISTORY": true, "MAX_CLIENTS": true, "MAX_CLIENTS_PER_STREAM": true, "MAX_STREAMS": true, "AUTH": true, "AUTH_URL": true, "AUTH_HEADERS": true,
	"AUTH_CLAIMS": true, "JWT_KEYS": true, "JWT_ISSUER": true, "JWT_AUDIENCE": true, "JWT_FROM": true, "REVALIDATE": true}

// ofMergedAlone is s without what has been reported, or is global and for other routes.
func ofMergedAlone(s settings) settings {
	return settings{Path: s.Path, From: s.From, Select: s.Select, Event: s.Event, Data: s.Data, ID: s.ID, Key: s.Key, Done: s.Done, MaxMessage: s.MaxMessage,
		Cookies: true, AuthClaims: s.AuthClaims}
}

// sets are the settings of streams that pages choose. shared are the global values of routes' settings.
func sets(shared settings) proxy.SetSettings {
	linger := max(shared.Linger.duration(), 2*shared.Retry.duration()+time.Second) // whoever comes back finds it
	return proxy.SetSettings{Heartbeat: shared.Heartbeat.duration(), Coalesce: shared.Coalesce.duration(), Compress: shared.Compress == "gzip", Retry: shared.Retry.duration(), Linger: linger,
		ReplayEvents: int(shared.ReplayEvents), ReplayBytes: int(shared.ReplayBytes), ReplayAge: shared.ReplayAge.duration()}
}

// checkMerged reports what is wrong with routes that merge others, and makes the names in FROM what the others are called.
func (l *loader) checkMerged(routes []*proxy.RouteSettings, own map[string]values) {
	for _, rt := range routes {
		route := strings.ToUpper(rt.Name)
		vs := own[route]
		if rt.Upstream == nil || rt.Upstream.Merges() == nil || vs["FROM"].bad {
			continue
		}
		seen := map[string]bool{}
		for _, part := range rt.Upstream.Merges() {
			l.checkPart(rt, part, seen, routes, vs)
		}
		if len(seen) > mostMerged {
			l.problems.add(vs.variable(name{route, "FROM"}), "merges %d routes; write at most %d", len(seen), mostMerged)
		}
	}
}

func (l *loader) checkPart(rt *proxy.RouteSettings, part string, seen map[string]bool, routes []*proxy.RouteSettings, vs values) {
	variable := vs.variable(name{strings.ToUpper(rt.Name), "FROM"})
	i := slices.IndexFunc(routes, func(other *proxy.RouteSettings) bool { return other.Name == part })
	switch {
	case part == "":
		l.problems.add(variable, "names no route where a name is expected; write routes: and names with commas, such as routes:prices,orders")
		return
	case part != strings.ToLower(part):
		l.problems.add(variable, "%s is not in lower case, in which routes are named; write %s", quote(part), strings.ToLower(part))
		return
	case part == rt.Name:
		l.problems.add(variable, "names the route itself; write the names of the routes that it is to merge")
		return
	case i < 0:
		l.problems.add(variable, "%s is no route; %s", quote(part), knownRoutes(rt, part, routes))
		return
	case seen[part]:
		l.problems.add(variable, "names %s twice; keep one", part)
		return
	}
	seen[part] = true
	other := routes[i]
	if other.Upstream == nil {
		return // what is wrong with it is said
	}
	if other.Upstream.Merges() != nil {
		l.problems.add(variable, "%s merges routes itself; write the names of those instead: %s", part, strings.Join(other.Upstream.Merges(), ","))
		return
	}
	if brings(other) {
		l.problems.add(variable, "%s answers what its clients bring themselves (FACE=graphql-sse or SCOPE=run); it cannot be merged, so leave it out", part)
		return
	}
	l.checkPartPath(rt, other, variable)
	if other.Upstream.Patches() {
		l.checkDocument(rt, part, vs)
	}
}

// knownRoutes says what could be written for part.
func knownRoutes(rt *proxy.RouteSettings, part string, routes []*proxy.RouteSettings) string {
	var names []string
	for _, other := range routes {
		if other != rt && (other.Upstream == nil || other.Upstream.Merges() == nil) {
			names = append(names, other.Name)
		}
	}
	if len(names) == 0 {
		return "there is none that could be merged; define it with SSE_ROUTE_" + strings.ToUpper(compact(part)) + "_PATH and _FROM"
	}
	return "the nearest that there is is " + nearest(part, names)
}

// checkPartPath holds that what a part takes of its path is in the path of the whole.
func (l *loader) checkPartPath(rt, part *proxy.RouteSettings, variable string) {
	has := wildcards(rt.Path)
	needs := wildcards(part.Path)
	for _, need := range part.Upstream.Needs() {
		if named, ok := strings.CutPrefix(strings.TrimSuffix(need, "}"), "{path."); ok && !slices.Contains(needs, named) {
			needs = append(needs, named)
		}
	}
	for _, named := range needs {
		if !slices.Contains(has, named) {
			l.problems.add(variable, "%s takes {%s} of its path, %s, which PATH, %s, has not; write {%s} there too", part.Name, named, part.Path, rt.Path, named)
		}
	}
	if part.Upstream.Scoped() {
		l.problems.add(variable, "%s has SCOPE=session, a connection for each page; it cannot be merged, so leave it out", part.Name)
	}
}

// checkDocument reports what would spoil the patches of a document.
func (l *loader) checkDocument(rt *proxy.RouteSettings, part string, vs values) {
	for _, setting := range []string{"SELECT", "EVENT", "DATA", "ID", "KEY", "START"} {
		if v, set := vs[setting]; set {
			l.problems.add(v.variable, "cannot be where %s is merged, whose MODE is patch: each of its events is for the one before; unset it", part)
		}
	}
	rt.Forgets = true // a document's events cannot be kept apart from it
}

// checkMergedRoute prints what a route that merges others amounts to.
func (c *Config) checkMergedRoute(w io.Writer, rt *proxy.RouteSettings) {
	var needs []string
	for _, part := range rt.Upstream.Merges() {
		for _, need := range c.routeNamed(part).Upstream.Needs() {
			if !slices.Contains(needs, need) {
				needs = append(needs, need)
			}
		}
	}
	sharing := "one stream, shared by all clients"
	if len(needs) > 0 {
		sharing = "one stream for each different " + strings.Join(needs, ", ")
	}
	fmt.Fprintf(w, "\nroute %s\n  path    %s\n  from    merges %s\n  sharing %s, and for which of these are refused\n", rt.Name, rt.Path, strings.Join(rt.Upstream.Merges(), ", "), sharing)
	line := printer(func(label, format string, args ...any) {
		fmt.Fprintf(w, "  %-8s"+format+"\n", append([]any{label}, args...)...)
	})
	if rt.Access != nil {
		line("auth", "%s", authShown(rt.Access))
	}
	for _, part := range rt.Upstream.Merges() {
		if other := c.routeNamed(part); other.Access != nil {
			line("", "%s: %s", part, authShown(other.Access))
		}
	}
	if c.History != nil {
		line("restart", "%s", restarts(rt)+c.takeovers(rt))
	}
	c.understood(line, rt)
}
