package config

import (
	"reflect"
	"slices"
	"strings"
)

// notOfRedis are the settings without a kind that have no effect on a route whose FROM is a Redis: what they are about is HTTP's, or a WebSocket's.
var notOfRedis = []string{"HEADERS", "FORWARD", "COOKIES", "PROTOCOL", "STATUS", "SEND"}

// ofRedis reports whether a setting has an effect on such a route.
func (f field) ofRedis() bool {
	return f.env == "IDLE" || f.env == "BINARY" || f.kind == "" && !slices.Contains(notOfRedis, f.env)
}

// checkRedis reports settings of a route's own that have no effect on one whose FROM is a Redis, and returns s without them.
func (l *loader) checkRedis(own values, s settings) settings {
	for _, f := range routeFields {
		v, set := own[f.env]
		if !set || f.ofRedis() {
			continue
		}
		kinds := strings.Fields(f.kind)
		about := "it is for WebSockets and HTTP, and FROM is a Redis; unset it"
		switch {
		case f.env == "SEND":
			if !s.Send {
				continue
			}
			about = "what is read at a Redis cannot be sent to; begin FROM with ws:// or wss://, or unset SEND"
		case slices.Contains(kinds, "ws"):
			about = "it is for WebSockets, and FROM is a Redis; unset it"
		case len(kinds) > 0:
			about = "it is for polls, and FROM is a Redis; unset it"
		}
		l.problems.add(v.variable, "has no effect here: %s", about)
		reflect.ValueOf(&s).Elem().FieldByName(f.goName).SetZero()
	}
	return s
}
