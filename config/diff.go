package config

import (
	"maps"
	"reflect"
	"slices"
	"strings"

	"sidestream/proxy"
)

// This file is what differs between two configurations, as a reload has to know. The rules:
//
//   - What is compared are the values that the settings have come to, not their texts: 15s is 15000ms, and a default that is written down is
//     none that has changed. All settings are in it, since the table of settings is gone through.
//   - What stands in a file that its owner looks at by itself has not changed because the text in the file has.
//   - Variables are named, their values never: these may be secrets.

// given is what a struct of settings was made of, and has come to.
type given[T any] struct {
	values   values
	settings T
}

// allGiven is what a configuration was made of.
type allGiven struct {
	globals given[globals]
	routes  map[string]given[settings] // by the routes' names
}

// Diff is what a reload would do, or has done.
type Diff struct {
	Restart []string    // variables that differ and cannot change while the sidecar runs: if there are any, nothing does
	Global  []string    // the other global variables that differ
	Routes  []RouteDiff // all of both configurations, in order of their names
}

// RouteDiff is how a route differs.
type RouteDiff struct {
	Name    string
	How     string   // Same, Changed, Added or Removed
	Because []string // with Changed: the variables
}

// How a route differs.
const (
	Same    = "unchanged"
	Changed = "changed"
	Added   = "added"
	Removed = "removed"
)

// Nothing reports whether nothing differs.
func (d Diff) Nothing() bool {
	return len(d.Restart)+len(d.Global) == 0 && len(d.named(Same)) == len(d.Routes)
}

// named are the names of the routes that differ in this way.
func (d Diff) named(how string) (names []string) {
	for _, rt := range d.Routes {
		if rt.How == how {
			names = append(names, rt.Name)
		}
	}
	return names
}

// Diff returns what a sidecar that goes by c would do to go by next.
func (c *Config) Diff(next *Config) (d Diff) {
	was, now := c.given, next.given
	for _, f := range globalFields {
		if !differs(f, was.globals, now.globals) || f.env == "TICKET_KEY" && reread(f.env, was.globals.values, now.globals.values) {
			continue
		}
		into := &d.Global
		if f.reload == reloadRestart {
			into = &d.Restart
		}
		*into = append(*into, variableOf(name{setting: f.env}, was.globals.values, now.globals.values))
	}
	d.Global = append(d.Global, secretsDiff(was.globals.values, now.globals.values)...)
	d.Restart = append(d.Restart, c.tunnelDiff(next)...)
	d.Restart = append(d.Restart, c.networkDiff(next)...)
	names := maps.Clone(was.routes)
	maps.Copy(names, now.routes)
	for _, route := range slices.Sorted(maps.Keys(names)) {
		d.Routes = append(d.Routes, c.routeDiff(next, route))
	}
	d.merged(next)
	return d
}

// merged has routes change with those that they merge.
func (d Diff) merged(next *Config) {
	changed := d.named(Changed)
	for i := range d.Routes {
		rt := next.routeNamed(d.Routes[i].Name)
		if rt == nil || d.Routes[i].How != Same {
			continue
		}
		for _, part := range rt.Upstream.Merges() {
			if slices.Contains(changed, part) {
				d.Routes[i].How = Changed
				d.Routes[i].Because = append(d.Routes[i].Because, "route "+part)
			}
		}
	}
}

func (c *Config) routeDiff(next *Config, route string) RouteDiff {
	was, now := c.routeNamed(route), next.routeNamed(route)
	switch {
	case was == nil:
		return RouteDiff{Name: route, How: Added}
	case now == nil:
		return RouteDiff{Name: route, How: Removed}
	}
	d := RouteDiff{Name: route, How: Same}
	a, b := c.given.routes[route], next.given.routes[route]
	follows := was.Upstream.Becomes(now.Upstream) && (was.Access == nil && now.Access == nil || was.Access != nil && now.Access != nil && was.Access.Becomes(*now.Access))
	for _, f := range routeFields {
		if !f.hasEffect(was) && !f.hasEffect(now) || !differs(f, a, b) || followed[f.env] && follows && reread(f.env, a.values, b.values) {
			continue
		}
		d.Because = append(d.Because, variableOf(name{strings.ToUpper(route), f.env}, a.values, b.values))
	}
	if c.MaxValue != next.MaxValue {
		d.Because = append(d.Because, prefix+"MAX_VALUE")
	}
	if len(d.Because) > 0 {
		d.How = Changed
	}
	return d
}

func (c *Config) routeNamed(route string) *proxy.RouteSettings {
	for _, rt := range c.Routes {
		if rt.Name == route {
			return rt
		}
	}
	return nil
}

// followed are the settings whose files their owners look at by themselves, as far as these can: see [upstream.Route.Becomes] and
// [access.Settings.Becomes].
var followed = map[string]bool{"FROM": true, "FIRST": true, "HEADERS": true, "BODY": true, "CONNECT": true, "SUBSCRIBE": true, "TICKET": true, "PING": true,
	"HELLO": true, "JWT_KEYS": true}

// hasEffect reports whether a route with this setting is another one than without. Those of polls mean nothing to one that subscribes.
func (f field) hasEffect(rt *proxy.RouteSettings) bool {
	if _, isAccess := accessSettings[f.env]; isAccess && rt.Access == nil {
		return false
	}
	kinds := strings.Fields(f.kind)
	switch {
	case rt.Upstream.Merges() != nil:
		return ofMerged[f.env]
	case rt.Upstream.Redis():
		return f.ofRedis()
	case len(kinds) == 0:
		return true
	case rt.Upstream.Polls():
		return slices.Contains(kinds, "poll") || rt.Upstream.Follows() && slices.Contains(kinds, "stream")
	}
	return slices.Contains(kinds, "ws")
}

// differs reports whether a setting has come to another value, or stands elsewhere.
func differs[T any](f field, a, b given[T]) bool {
	value := func(g given[T]) any { return reflect.ValueOf(g.settings).FieldByName(f.goName).Interface() }
	x, y := a.values[f.env], b.values[f.env]
	return !reflect.DeepEqual(value(a), value(b)) || x.file != y.file || x.path != y.path
}

// reread reports whether a setting stands in the same file in both.
func reread(setting string, a, b values) bool {
	x, y := a[setting], b[setting]
	return x.file && y.file && x.path == y.path
}

// variableOf names the variable that a setting's value comes from, in b or else in a.
func variableOf(n name, a, b values) string {
	if _, set := b[n.setting]; set {
		return b.variable(n)
	}
	return a.variable(n)
}

// tunnelDiff are the global values of routes' settings that pages with tunnels have too, and keep.
func (c *Config) tunnelDiff(next *Config) (restart []string) {
	if c.Tunnel == nil || next.Tunnel == nil {
		return nil // or SSE_TUNNEL itself differs
	}
	a, b := reflect.ValueOf(*c.Tunnel), reflect.ValueOf(*next.Tunnel)
	for _, f := range routeFields {
		if x := a.FieldByName(f.goName); x.IsValid() && !x.Equal(b.FieldByName(f.goName)) {
			restart = append(restart, variableOf(name{setting: f.env}, c.given.globals.values, next.given.globals.values))
		}
	}
	return restart
}

// networkDiff are the variables of how servers are reached that what is passed through, and routes that have not changed, keep.
func (c *Config) networkDiff(next *Config) (restart []string) {
	if c.forward != next.forward {
		restart = append(restart, "HTTP_PROXY, HTTPS_PROXY or NO_PROXY")
	}
	if c.Upstream == nil || next.Upstream == nil {
		return restart // nothing is passed through, or SSE_UPSTREAM itself differs
	}
	for _, setting := range upstreamTLS {
		was, now := c.given.globals.values[setting], next.given.globals.values[setting]
		if was.text != now.text {
			restart = append(restart, variableOf(name{setting: setting}, c.given.globals.values, next.given.globals.values))
		}
	}
	return restart
}

// adopt has c, which a sidecar is about to go by, keep of was what has not changed.
func (c *Config) adopt(was *Config, d Diff) {
	c.secrets.Succeed(was.secrets)
	for _, same := range d.named(Same) {
		i := slices.Index(c.Routes, c.routeNamed(same))
		c.Routes[i] = was.routeNamed(same)
	}
	if !slices.ContainsFunc(d.Global, func(variable string) bool { return strings.HasPrefix(variable, prefix+"TICKET_") }) {
		c.Tickets = was.Tickets
	}
}
