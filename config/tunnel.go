package config

import (
	"slices"
	"strings"
	"time"

	"sidestream/proxy"
)

// tunnel checks SSE_TUNNEL; nil when it is off. shared are the global values of routes' settings.
func (l *loader) tunnel(vs values, prefixes list, shared settings, upstream bool) *proxy.TunnelSettings {
	variable := vs.variable(name{setting: "TUNNEL"})
	if len(prefixes) == 0 || len(prefixes) == 1 && none(prefixes[0]) {
		return nil
	}
	t := &proxy.TunnelSettings{Heartbeat: shared.Heartbeat.duration(), Coalesce: shared.Coalesce.duration(), Compress: shared.Compress == "gzip", Retry: shared.Retry.duration(),
		Linger: shared.Linger.duration(), ReplayBytes: int(shared.ReplayBytes), MaxMessage: int(shared.MaxMessage)}
	for _, prefix := range prefixes {
		if problem := prefixProblem(prefix); problem != "" {
			l.problems.add(variable, "%s %s", quote(prefix), problem)
		} else if !slices.Contains(t.Prefixes, prefix) {
			t.Prefixes = append(t.Prefixes, prefix)
		}
	}
	if v, set := vs["UPSTREAM"]; !upstream && (!set || none(v.text)) {
		l.problems.add(variable, "needs SSE_UPSTREAM, where the WebSockets are; set it to your service's base URL, such as http://localhost:3000")
	}
	if t.Linger <= 2*min(t.Retry, time.Second) && !vs["LINGER"].bad && !vs["RETRY"].bad {
		l.problems.add(variable, "pages come back after up to 2 s, but SSE_LINGER is %v; set SSE_LINGER above 2s", t.Linger)
	}
	return t
}

// prefixProblem says why prefix cannot be one, and the fix; "" when it can.
func prefixProblem(prefix string) string {
	switch {
	case strings.Contains(prefix, "://"):
		return "is a URL; write its path only, such as /socket"
	case !strings.HasPrefix(prefix, "/"):
		return "does not begin with /; write a path, such as /socket"
	case strings.ContainsAny(prefix, " \t?#*{}"):
		return "contains characters that a path prefix cannot; write a path, such as /socket, which covers everything below it too"
	case !clean(prefix):
		return "is not a clean path; leave out doubled slashes, . and .."
	}
	return ""
}
