package config

import (
	"fmt"
	"io"
	"strings"
	"time"

	"sidestream/proxy"
	"sidestream/proxy/upstream"
)

// Check prints what the configuration amounts to. It fails when w does.
func (c *Config) Check(w io.Writer) error {
	to := "nothing: other requests get 404 (SSE_UPSTREAM is not set)"
	if c.Upstream != nil {
		redact := upstream.Redact
		if c.UpstreamFile {
			redact = upstream.RedactAll
		}
		to = redact(c.upstreamShown())
	}
	fmt.Fprintf(w, "listen   %s\nadmin    %s\nupstream %s\n", c.Listen, orOff(c.AdminListen), to)
	if c.Upstream != nil {
		line := printer(func(label, format string, args ...any) {
			fmt.Fprintf(w, "%-9s"+format+"\n", append([]any{label}, args...)...)
		})
		line.proxy(c.Network.Proxies, c.upstreamShown())
		if c.Upstream.Scheme == "https" {
			line.trust(c.Network.Trust, time.Now())
		}
	}
	if c.History != nil {
		fmt.Fprintf(w, "history  %s\n", c.History)
	}
	if c.Peer != nil {
		fmt.Fprintf(w, "peer     %s, listening on %s\n", c.Peer.URL, c.Peer.Listen)
	}
	if c.Tunnel != nil {
		fmt.Fprintf(w, "tunnel   WebSockets under %s, over /_sidestream/tunnel%s\n", strings.Join(c.Tunnel.Prefixes, ", "), c.reachesPages())
	}
	if c.Tickets != nil {
		fmt.Fprintf(w, "tickets  for %v, with a last id for %v\n", c.Tickets.TTL, c.Tickets.Reuse)
	}
	for _, s := range c.Sunsets {
		fmt.Fprintf(w, "sunset   %s is gone from %s on\n", s.Path, s.At.UTC().Format(time.RFC3339))
	}
	for _, rt := range c.Routes {
		c.checkRoute(w, rt)
	}
	_, err := fmt.Fprintln(w, "\nok")
	return err
}

func (c *Config) checkRoute(w io.Writer, rt *proxy.RouteSettings) {
	if rt.Upstream.Merges() != nil {
		c.checkMergedRoute(w, rt)
		return
	}
	kind, sharing := "subscribes to", "one upstream connection, shared by all clients"
	switch {
	case rt.Upstream.Polls():
		kind = "polls"
	case rt.Upstream.RedisStreams():
		kind = "reads"
	}
	if needs := rt.Upstream.Needs(); rt.Upstream.Runs() {
		kind, sharing = "posts to", "one upstream request for each POST of a client's"
	} else if len(needs) > 0 {
		sharing = "one upstream connection for each different " + strings.Join(needs, ", ")
	}
	fmt.Fprintf(w, "\nroute %s\n  path    %s\n  from    %s %s\n  sharing %s\n", rt.Name, rt.Path, kind, rt.Upstream.From(), sharing)
	line := printer(func(label, format string, args ...any) {
		fmt.Fprintf(w, "  %-8s"+format+"\n", append([]any{label}, args...)...)
	})
	network := rt.Upstream.Network()
	line.proxy(network.Proxies, rt.Upstream.From())
	if rt.Upstream.Secure() {
		line.trust(network.Trust, time.Now())
	}
	if len(rt.Replaces) > 0 {
		line("old", "%s", oldPaths(rt))
	}
	if rt.Access != nil {
		fmt.Fprintf(w, "  auth    %s\n          for events and POSTs of the path; what is passed through is the service's own to check\n", authShown(rt.Access))
	}
	checkBrought(line, rt)
	if c.History != nil && !rt.Upstream.Runs() {
		fmt.Fprintf(w, "  restart %s\n", restarts(rt)+c.takeovers(rt))
	}
	if rt.Send {
		fmt.Fprintf(w, "  send    POST to the path sends one message upstream%s\n", c.reachesMessages(rt))
	}
	c.understood(line, rt)
}

// upstreamShown is SSE_UPSTREAM as it was written.
func (c *Config) upstreamShown() string {
	if c.Network.Socket == "" {
		return c.Upstream.String()
	}
	return "http+unix://" + c.Network.Socket + ":" + c.Upstream.EscapedPath()
}

// oldPaths are the paths whose clients rt is to replace.
func oldPaths(rt *proxy.RouteSettings) string {
	var all []string
	for _, p := range rt.Replaces {
		all = append(all, string(p))
	}
	text := "clients at " + strings.Join(all, ", ")
	if rt.Parity {
		text += ", whose messages are compared with the events"
	}
	return text
}

func orOff(s string) string {
	if s == "" {
		return "off"
	}
	return s
}

// takeovers is what the same means where several replicas share a history.
func (c *Config) takeovers(rt *proxy.RouteSettings) string {
	switch {
	case !c.shared():
		return ""
	case rt.Forgets:
		return "; so is one that comes to another replica"
	default:
		return "; the same when another replica takes over"
	}
}

// restarts is what clients of rt are told when they come back after a restart.
func restarts(rt *proxy.RouteSettings) string {
	switch kind := rt.Upstream.Resumes(); {
	case rt.Upstream.Operates():
		return "every client is cut, and subscribes anew"
	case rt.Forgets:
		return "every client is told that events may be missing (HISTORY=memory)"
	case rt.Upstream.Merges() != nil:
		return "clients are given what they missed; each part goes on as it does by itself"
	case kind == "":
		return "clients are given what they missed up to the restart, and told that events may be missing around it"
	default:
		return "clients are given what they missed; it goes on with " + kind
	}
}
