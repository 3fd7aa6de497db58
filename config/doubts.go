package config

import (
	"slices"
	"strings"

	"sidestream/proxy"
)

// understood prints what a route's programs were read as, so that a $ that a shell or Compose has taken is seen, and what is doubtful.
func (c *Config) understood(line printer, rt *proxy.RouteSettings) {
	if speaks := rt.Upstream.Protocol(); speaks != "" {
		line("speaks", "%s", speaks)
	}
	if mode := rt.Upstream.Mode(); mode != "" {
		line("mode", "%s", mode)
	}
	switch opening := rt.Upstream.Opening(); {
	case opening == "":
	case c.given.routes[rt.Name].values["HELLO"].file:
		line("opening", "(from a file)")
	default:
		line("opening", "%s", opening)
	}
	if packed := rt.Upstream.Decodes(); packed != "" {
		line("decodes", "%s", packed)
	}
	for _, code := range rt.Upstream.Programs() {
		text := strings.Join(strings.Fields(code.String()), " ")
		if c.given.routes[rt.Name].values[code.Setting()].file {
			text = "(from a file)"
		}
		line(strings.ToLower(code.Setting()), "%s", text)
	}
	for _, doubt := range doubts(rt) {
		line("doubt", "%s", doubt)
	}
}

// doubts are what works, and costs more than it has to, or brings less than it seems to.
func doubts(rt *proxy.RouteSettings) (all []string) {
	if slices.ContainsFunc(rt.Upstream.Forwards(), func(name string) bool { return strings.EqualFold(name, "Cookie") }) {
		all = append(all, "FORWARD=Cookie: browsers that differ in any cookie, such as one for analytics, have upstream connections of their own; if the service looks at "+
			"one cookie only, write HEADERS=Cookie: sid={cookie.sid} instead")
	}
	if line := rt.Upstream.Divides(); line != "" {
		all = append(all, "SUBSCRIBE: "+line+" is shared, and clients have streams of their own: the broker gives each message to one of these alone; leave out what tells clients apart, or "+
			"subscribe to the topic")
	}
	return all
}
