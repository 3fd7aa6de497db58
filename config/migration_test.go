package config

import (
	"fmt"
	"strings"
	"testing"
)

// TestReplaces checks which old paths a route replaces.
func TestReplaces(t *testing.T) {
	for name, c := range map[string]struct {
		upstream, from string
		more           []string
		want           string
	}{
		"FROM's path":                {"http://legacy:3000", "ws://legacy:3000/ws?token={query.token}", nil, "[/ws]"},
		"below a base":               {"http://legacy:3000/app", "ws://legacy:3000/app/ws", nil, "[/ws]"},
		"beside a base":              {"http://legacy:3000/app", "ws://legacy:3000/apple/ws", nil, "[]"},
		"a poll":                     {"http://legacy:3000", "http://legacy:3000/api/prices", nil, "[/api/prices]"},
		"another host":               {"http://legacy:3000", "ws://feed:3000/ws", nil, "[]"},
		"another port":               {"http://legacy:3000", "ws://legacy:3001/ws", nil, "[]"},
		"the usual port":             {"https://legacy", "wss://legacy:443/ws", nil, "[/ws]"},
		"names of this machine":      {"http://127.0.0.1:3000", "ws://localhost:3000/ws", nil, "[/ws]"},
		"a placeholder in a segment": {"http://legacy:3000", "ws://legacy:3000/jobs/{path.id}/ws", nil, "[/jobs/{2}/ws]"},
		"no path":                    {"http://legacy:3000", "ws://legacy:3000", nil, "[/]"},
		"Socket.IO":                  {"http://legacy:3000", "ws://legacy:3000", []string{"SSE_ROUTE_A_PROTOCOL=socket.io"}, "[/socket.io/]"},
		"SockJS":                     {"http://legacy:3000", "ws://legacy:3000/echo", []string{"SSE_ROUTE_A_PROTOCOL=sockjs"}, "[/echo/{server}/{session}/websocket]"},
		"Phoenix":                    {"http://legacy:3000", "ws://legacy:3000/socket", []string{"SSE_ROUTE_A_PROTOCOL=phoenix", "SSE_ROUTE_A_SUBSCRIBE=room:1"}, "[/socket/websocket]"},
		"a Unix socket":              {"http+unix:///run/app.sock", "ws+unix:///run/app.sock:/ws", nil, "[/ws]"},
		"another Unix socket":        {"http+unix:///run/app.sock", "ws+unix:///run/b.sock:/ws", nil, "[]"},
		"given":                      {"http://legacy:3000", "ws://feed/ws", []string{"SSE_ROUTE_A_REPLACES=/old, /api/{name}/prices,/x/{rest...}"}, "[/old /api/{name}/prices /x/{rest...}]"},
		"off":                        {"http://legacy:3000", "ws://legacy:3000/ws", []string{"SSE_ROUTE_A_REPLACES=off"}, "[]"},
	} {
		c2 := load(t, append([]string{"SSE_UPSTREAM=" + c.upstream, "SSE_ROUTE_A_PATH=/events/{id}", "SSE_ROUTE_A_FROM=" + c.from}, c.more...)...)
		if got := fmt.Sprint(c2.Routes[0].Replaces); got != c.want {
			t.Errorf("%s: replaces %s, want %s", name, got, c.want)
		}
	}
	if c := load(t, "SSE_ROUTE_A_PATH=/a", "SSE_ROUTE_A_FROM=ws://legacy/ws"); c.Routes[0].Replaces != nil {
		t.Errorf("without SSE_UPSTREAM: %v", c.Routes[0].Replaces)
	}
}

func TestMigrationProblems(t *testing.T) {
	for value, want := range map[string]string{
		"SSE_ROUTE_FEED_REPLACES=ws":                   `SSE_ROUTE_FEED_REPLACES: "ws" does not begin with /`,
		"SSE_ROUTE_FEED_REPLACES=ws://legacy/ws":       `SSE_ROUTE_FEED_REPLACES: "ws://legacy/ws" is a URL`,
		"SSE_ROUTE_FEED_REPLACES=/ws?x=1":              `is more than a path`,
		"SSE_ROUTE_FEED_REPLACES=/a{b}":                `that is no segment of its own`,
		"SSE_ROUTE_FEED_REPLACES=/{a...}/b":            `write {a}`,
		"SSE_MIGRATION_DAYS=0":                         `SSE_MIGRATION_DAYS: `,
		"SSE_SUNSET=/ws":                               `SSE_SUNSET: "/ws" has no day; write such as /ws=2027-03-01`,
		"SSE_SUNSET=/ws=soon":                          `SSE_SUNSET: "soon" is neither a day nor a time`,
		"SSE_SUNSET=ws=2027-03-01":                     `SSE_SUNSET: "ws" does not begin with /`,
		"SSE_SUNSET=/ws=2027-03-01,/ws=2027-04-01":     `SSE_SUNSET: names "/ws" twice`,
		"SSE_SUNSET=/ws=2027-02-01\nSSE_UPSTREAM=off":  `SSE_SUNSET: has no effect without SSE_UPSTREAM`,
		"SSE_SUNSET=/ws=2027-02-01\nSSE_UPSTREAM=ws:/": `SSE_UPSTREAM: `,
	} {
		_, err := Load(append(base[:len(base):len(base)], strings.Split(value, "\n")...), ReadFile)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", value, err, want)
		}
		if strings.HasSuffix(value, "ws:/") && strings.Contains(err.Error(), "SSE_SUNSET") {
			t.Errorf("SSE_SUNSET is blamed for a wrong SSE_UPSTREAM: %v", err)
		}
	}
}
