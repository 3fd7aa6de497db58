package legacy

import "strings"

// Env returns the variables, KEY=value each, that put a sidecar in front of the service at addr (host:port) with one
// route for each of the three things it offers, and a tunnel for its old WebSocket clients.
func Env(addr string) []string {
	return []string{
		"SSE_UPSTREAM=http://" + addr,
		"SSE_TUNNEL=/ws",

		"SSE_ROUTE_PRICES_PATH=/prices",
		"SSE_ROUTE_PRICES_FROM=ws://" + addr + "/ws",
		`SSE_ROUTE_PRICES_HELLO=> {"type":"subscribe","channel":"prices"}` + "\n" +
			`! .type=="error"` + "\n" +
			`< .type=="subscribed"`,
		`SSE_ROUTE_PRICES_REPLY=select(.type=="ping")|{type:"pong",id}`,
		`SSE_ROUTE_PRICES_SELECT=select(.type=="price")`,
		`SSE_ROUTE_PRICES_EVENT="price"`,

		"SSE_ROUTE_WEATHER_PATH=/weather",
		"SSE_ROUTE_WEATHER_FROM=http://" + addr + "/api/weather",
		"SSE_ROUTE_WEATHER_EVERY=1s",
		`SSE_ROUTE_WEATHER_EVENT="weather"`,

		"SSE_ROUTE_JOB_PATH=/jobs/{id}",
		"SSE_ROUTE_JOB_FROM=http://" + addr + "/export/{path.id}",
		"SSE_ROUTE_JOB_EVERY=500ms",
		`SSE_ROUTE_JOB_EVENT="progress"`,
		`SSE_ROUTE_JOB_DONE=.status=="complete"`,
	}
}

// envFile writes env as -env-file reads it: one variable a line, several lines between single quotes, a blank line
// where another route begins.
func envFile(env []string) string {
	var b strings.Builder
	last := ""
	for _, kv := range env {
		name, value, _ := strings.Cut(kv, "=")
		if group := routeOf(name); last != "" && group != last {
			b.WriteByte('\n')
		}
		last = routeOf(name)
		if strings.Contains(value, "\n") {
			value = "'" + value + "'"
		}
		b.WriteString(name + "=" + value + "\n")
	}
	return b.String()
}

// routeOf returns the part of a variable's name that its route's other variables share, else the whole name.
func routeOf(name string) string {
	rest, ok := strings.CutPrefix(name, "SSE_ROUTE_")
	if !ok {
		return name
	}
	route, _, _ := strings.Cut(rest, "_")
	return route
}
