package admin

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"sidestream/proxy"
	"sidestream/proxy/deliver"
	"sidestream/proxy/stream"
)

// How bad a problem is.
const (
	bad  = "bad"  // clients go without, or have missed something
	warn = "warn" // they will, if it goes on
)

// Problem is something that an operator should know now, with what to do about it.
type Problem struct {
	Level string `json:"level"`           // bad or warn
	Route string `json:"route,omitempty"` // "": it concerns all
	What  string `json:"what"`
	Fix   string `json:"fix"`
}

// problems are what is wrong now, or was in the last ten minutes, the worst first.
func (a *Port) problems() (all []Problem) {
	p := a.Proxy
	from, to, ok := a.samples.span(lookBack)
	if !ok {
		from = to
	}
	say := func(level, route, fix, what string, args ...any) {
		all = append(all, Problem{level, route, fmt.Sprintf(what, args...), fix})
	}
	for _, rt := range p.Routes() {
		upstreamProblems(say, rt)
		routeProblems(say, rt, from.routes[rt.Name], to.routes[rt.Name])
	}
	a.generalProblems(say, from, to)
	slices.SortStableFunc(all, func(x, y Problem) int { return cmp.Compare(x.Level, y.Level) })
	return all
}

// many is a number of something, whose plural is regular.
func many(n int64, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}

type sayer func(level, route, fix, what string, args ...any)

func upstreamProblems(say sayer, rt *proxy.Route) {
	h := rt.Streams.Health()
	since := time.Since(h.Since).Round(time.Second)
	switch h.State {
	case stream.Down:
		if h.Error == "" {
			say(warn, rt.Name, "If it stays so, the service takes connections and does not answer: look at its own log.", "connecting for %v", since)
			return
		}
		say(bad, rt.Name, fix(h.Error), "upstream down for %v: %s", since, h.Error)
	case stream.Partial:
		say(warn, rt.Name, fix(h.Error), "%d of %d streams have no upstream connection: %s", h.Streams-h.Connected, h.Streams, cmp.Or(h.Error, "connecting"))
	}
}

func routeProblems(say sayer, rt *proxy.Route, from, to counts) {
	for i, reason := range stream.GapReasons {
		if n := to.Gaps[i] - from.Gaps[i]; n > 0 {
			level := bad
			if reason == "restart" {
				level = warn
			}
			say(level, rt.Name, gapFixes[reason], "%s (%s) in the last 10 minutes", many(n, "gap"), reason)
		}
	}
	if n := to.Refused - from.Refused; n > 0 {
		h := rt.Streams.Health()
		say(warn, rt.Name, fix(h.Error), "%s refused by the upstream in the last 10 minutes; the last failure: %s", many(n, "stream"), h.Error)
	}
	if n := to.HeldBack - from.HeldBack; n > 0 {
		say(warn, rt.Name, "Something between them and the sidecar holds events back until it has many: a proxy that buffers (in nginx: proxy_buffering off, gzip off), or software on their machines. They go on with long polls. `sidestream doctor` and the page /_sidestream/doctor tell what it is.",
			"events held back from %s in the last 10 minutes", many(n, "page"))
	}
	if n := to.JQ - from.JQ; n > 0 {
		say(bad, rt.Name, "A jq program and the feed do not agree: the log has the message's error; try the route with tap.", "%s dropped by a program that failed, in the last 10 minutes", many(n, "message"))
	}
	if n := to.Undecoded - from.Undecoded; n > 0 {
		say(bad, rt.Name, "DECODE names something else than what the feed packs its messages in: the log has what is wrong with them; tap -raw shows their bytes.", "%s not decoded in the last 10 minutes", many(n, "message"))
	}
	if n := to.Oversize - from.Oversize; n > 0 {
		say(bad, rt.Name, "Raise MAX_MESSAGE.", "%s over MAX_MESSAGE in the last 10 minutes", many(n, "message"))
	}
	if n := to.AuthDown - from.AuthDown; n > 0 {
		say(bad, rt.Name, "AUTH_URL, or what JWT_KEYS names, does not answer: those who are there stay, nobody new comes in. Look at that service.", "AUTH could not be asked %s in the last 10 minutes", many(n, "time"))
	}
	if n := to.Failures - from.Failures; n > 20 && rt.Streams.Health().State == stream.Up {
		say(warn, rt.Name, fix(rt.Streams.Health().Error), "the upstream was lost %s in the last 10 minutes: %s", many(n, "time"), rt.Streams.Health().Error)
	}
}

// rejectedFixes are what to do about requests that were turned away, by the reason; "": nothing is.
var rejectedFixes = [len(proxy.Rejections)]string{
	proxy.Forbidden:   "Pages of another origin asked: SSE_CORS_ORIGINS allows them, if they are yours.",
	proxy.FullClients: "Raise SSE_MAX_CLIENTS or the route's MAX_CLIENTS, and the limit of file descriptors with it.",
	proxy.FullStreams: "Raise SSE_MAX_STREAMS or the route's MAX_STREAMS, or have clients share streams: sidestream check shows what tells them apart.",
	proxy.FullAddress: "Many clients come from one address: behind a proxy SSE_TRUSTED_PROXIES must name it; else raise SSE_MAX_CLIENTS_PER_IP.",
	proxy.Unsure:      "AUTH_URL, or what JWT_KEYS names, does not answer.",
}

func (a *Port) generalProblems(say sayer, from, to sample) {
	for why, fix := range rejectedFixes {
		if n := to.rejected[why] - from.rejected[why]; n > 0 && fix != "" {
			level := bad
			if why == proxy.Forbidden {
				level = warn
			}
			say(level, "", fix, "%s turned away (%s) in the last 10 minutes", many(n, "request"), proxy.Rejections[why])
		}
	}
	if n := to.disconnected[deliver.Stalled] - from.disconnected[deliver.Stalled]; n > 0 {
		say(warn, "", "Their connections took nothing for half a minute: sleeping laptops and lost networks do that. Many at once are a proxy that does not read.", "%s given up as stalled in the last 10 minutes", many(n, "client"))
	}
	if n := to.linesLost - from.linesLost; n > 0 {
		say(warn, "", "What reads the log is stuck or too slow.", "%s lost in the last 10 minutes", many(n, "log line"))
	}
	if n := to.peerFailed - from.peerFailed; n > 0 {
		say(bad, "", "Do all replicas have the same SSE_PEER_SECRET, and does SSE_PEER lead to each from the others? A replica that was replaced is in here, too.", "%s not answered by another replica in the last 10 minutes", many(n, "request"))
	}
	if h := a.Proxy.History; h != nil && !h.Report().Up {
		say(bad, "", "Events go on from memory; a restart now would lose what is not kept. Look at the store of SSE_HISTORY: disk, permissions, network, password.", "the history cannot be written")
	}
	if failed := a.Proxy.Reloads.Last().Failed; failed != nil {
		say(warn, "", "The configuration from before is in use. Put these right, or take the change back; sidestream check says the same.", "the configuration was not reloaded: %v", failed)
	}
	if a.Proxy.Draining() {
		say(warn, "", "The sidecar is being stopped.", "draining")
	}
}
