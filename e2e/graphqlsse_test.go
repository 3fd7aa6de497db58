//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// graphQLPage is the page that subscribes with an official client.
func graphQLPage(t *testing.T) map[string]string {
	t.Helper()
	return map[string]string{"/page": "<!doctype html><script src=/page.js></script>", "/page.js": bundle(t, "graphql.js", "")}
}

// faceRoute is the environment of a route for such pages, whose service is h.
func faceRoute(h *hub, f *feed, settings ...string) []string {
	env := []string{"SSE_UPSTREAM=http://" + f.addr(), "SSE_ROUTE_FACE_PATH=/graphql", "SSE_ROUTE_FACE_FROM=ws://" + h.addr + "/graphql", "SSE_ROUTE_FACE_FACE=graphql-sse",
		"SSE_ROUTE_FACE_HEARTBEAT=100ms", "SSE_ROUTE_FACE_FORWARD=Cookie", "SSE_ROUTE_FACE_RETRY=100ms"}
	for _, s := range settings {
		env = append(env, "SSE_ROUTE_FACE_"+s)
	}
	return env
}

// heard is what the page has seen so far, in lines.
func (c *chromium) heard(t *testing.T) (lines []string) {
	t.Helper()
	if err := json.Unmarshal([]byte(c.eval(t, "JSON.stringify(window.saw)")), &lines); err != nil {
		t.Fatal(err)
	}
	return lines
}

// sees waits until the page's newest line is want, and returns all of them.
func (c *chromium) hears(t *testing.T, want string) (lines []string) {
	t.Helper()
	eventually(t, "the page to see "+want, func() bool {
		lines = c.heard(t)
		return slices.Contains(lines, want)
	})
	return lines
}

// present reports whether so many clients of a route are connected.
func (s *sidecar) present(t *testing.T, route string, n int) bool {
	t.Helper()
	return strings.Contains(body(t, "http://"+s.admin+"/metrics"), fmt.Sprintf("sidestream_clients{route=%q,transport=\"sse\"} %d\n", route, n))
}

func (c *chromium) subscribes(t *testing.T, addr, kind, query string) {
	t.Helper()
	c.open(t, "about:blank")
	c.open(t, "http://"+addr+"/page#"+kind+","+url.PathEscape(query))
}

// The clients of GraphQL over SSE that pages use, unmodified: results one by one, heartbeats between them, a lost upstream, errors, the end.
func TestGraphQLSSE(t *testing.T) {
	t.Parallel()
	pages := graphQLPage(t)
	for _, kind := range []string{"graphql-sse", "urql", "urql-sse", "apollo"} {
		for _, protocol := range []string{"graphql-transport-ws", "graphql-ws"} {
			if protocol == "graphql-ws" && kind != "graphql-sse" {
				continue
			}
			t.Run(kind+"/"+protocol, func(t *testing.T) {
				t.Parallel()
				options := `{}`
				if protocol == "graphql-ws" {
					options = `{"legacy":true}`
				}
				h, f := startHub(t, "graphql", options), startFeed(t, pages)
				s := startSidecar(t, faceRoute(h, f, "PROTOCOL="+protocol)...)
				c, other := startChromium(t), startChromium(t)
				t.Cleanup(func() {
					if t.Failed() {
						t.Log(c.heard(t), other.heard(t))
					}
				})
				const query = `subscription T { tick(room: "a") { n } }`
				c.subscribes(t, s.addr, kind, query)
				other.subscribes(t, s.addr, kind, query)
				tick := func(n float64, want string) {
					h.ticks(t, "a", map[string]any{"n": n})
					c.hears(t, want)
					other.hears(t, want)
				}
				typename := ""
				if kind == "apollo" {
					typename = `"__typename":"Tick",` // which its cache asks for
				}
				data := func(n string) string { return `next {"data":{"tick":{` + typename + `"n":` + n + `}}}` }
				eventually(t, "both clients", func() bool { return s.present(t, "face", 2) })
				tick(1, data("1"))
				tick(2, data("2"))
				if seen := h.graphQLSeen(t); seen.Subscribed != 1 {
					t.Errorf("%d subscriptions for equal operations", seen.Subscribed)
				}

				// The upstream is lost. All of them but urql's own reader come back, and say so.
				h.kill()
				if kind == "urql" {
					eventually(t, "an error", func() bool {
						return slices.ContainsFunc(c.heard(t), func(l string) bool { return strings.Contains(l, "errors") })
					})
				} else {
					c.hears(t, "reconnected null")
					other.hears(t, "reconnected null")
					h.start(t)
					tick(3, data("3"))
					h.do(t, map[string]any{"do": "end", "topic": "a"}, nil)
					if kind == "urql-sse" {
						eventually(t, "nobody is left", func() bool { return s.present(t, "face", 0) })
					} else {
						c.hears(t, "complete null")
					}
					for _, line := range c.heard(t) {
						if strings.HasPrefix(line, "error") || strings.Contains(line, "errors") {
							t.Errorf("the page saw %s", line)
						}
					}
				}
				if kind == "urql" {
					h.start(t)
				}
				c.subscribes(t, s.addr, kind, `subscription { tick { nope } }`)
				eventually(t, "the errors", func() bool {
					return slices.ContainsFunc(c.heard(t), func(l string) bool { return strings.Contains(l, "Cannot query field") })
				})
				for query, says := range map[string]string{"subscription " + strings.Repeat("{ tick ", 33) + strings.Repeat("}", 33): "nest deeper", `mutation { say(room: "a", text: "b") }`: "only subscriptions"} {
					if strings.HasPrefix(query, "mutation") && kind != "graphql-sse" {
						continue // the others send none with what is for subscriptions
					}
					c.subscribes(t, s.addr, kind, query)
					eventually(t, "the refusal", func() bool {
						return slices.ContainsFunc(c.heard(t), func(l string) bool { return strings.Contains(l, says) })
					})
				}
			})
		}
	}
}
