package upstream

import (
	"net/url"
	"testing"
)

// logins are what a protocol cannot be without.
var logins = map[string]string{"wamp": `{"realm":"r"}`, "appsync": `{"apiKey":"k"}`}

// A value stays inside one word of a NATS subject, in the namespace of a channel of Centrifugo's, and in one segment of a channel of AppSync's or one
// value of its GraphQL.
func TestLevelsOfTopics(t *testing.T) {
	for protocol, cases := range map[string]map[string]string{
		"nats":       {"orders.{query.v}.> {\"stream\":\"A\"}": "a.b", "{query.v}.x": "a.b", "x{query.v}": ".a"},
		"stomp":      {"/topic/orders.{query.v}": "a.b", "/topic/{query.v}.x": "a.b", "/exchange/amq.topic/{query.v} {\"a\":\"b\"}": "a.b"},
		"wamp":       {"com.app.{query.v}": "a.b", "com.{query.v}.x {\"match\":\"prefix\"}": "a.b"},
		"centrifuge": {"{query.v}-news": "private:a", "pre{query.v}": ":a"},
		"appsync":    {"/default/{query.v}": "a/b", "/{query.v}/news": "a/b", "/default/x{query.v}": "*", "subscription { a(b: {query.v}) { c } }": "1) { d } b(c: 2", `{"query":"subscription { a }","variables":{"v":{query.v}}}`: `1},"query":{"a":2`},

		// A value in the head of an operation is no other document.
		"graphql-transport-ws": {
			"subscription S($n: Int = {query.v}) { a(n: $n) }":                                "1) { secret } #",
			"subscription S ( $n: Int, $m: Int = {query.v}) { a(n: $n) }":                     "1) { secret } #",
			"subscription @live(n: {query.v}) { a }":                                          "1) { secret } #",
			"subscription S{query.v} { a }":                                                   "x { secret } #",
			"subscription S($n: Int) @live { a(n: {query.v}) }":                               "1) { secret } #",
			"fragment F on T { b } subscription S($n: Int = {query.v}) { a(n: $n) }":          "1) { secret } #",
			`{"query":"subscription S($n: Int = {query.v}) { a(n: $n) }"}`:                    "1) { secret } #",
			`{"query":"# of a\nsubscription S(\n  $n: Int = {query.v}) { a(n: $n) }"}`:        "1) { secret } #",
			`{"query":"fragment F on T { b } query S($n: [Int] = [{query.v}]) { a(n: $n) }"}`: "1) { secret } #",
		},
		"graphql-ws": {"subscription S($n: Int = {query.v}) { a(n: $n) }": "1) { secret } #"},

		// Nor does a value that names a hub name a method, which would be invoked.
		"signalr-classic": {"{query.v}": "Admin.Reset", "{query.v}.Watch [1]": "Admin.Reset", "Admin{query.v}": ".Reset", "Chat.{query.v}": "a.b"},
	} {
		for line, bad := range cases {
			rt := compiled(t, SourceSettings{From: "ws://legacy", Protocol: protocol, Connect: logins[protocol], Subscribe: line})
			for _, value := range []string{"7", bad} {
				q, err := rt.Expand(newGet("/?"+url.Values{"v": {value}}.Encode()), func(string) string { return "" })
				if err == nil {
					_, err = q.texts("SUBSCRIBE")[0].Fill(func(string) string { return "" })
				}
				if (err == nil) != (value == "7") {
					t.Errorf("%s: %s with %s: %v", protocol, line, value, err)
				}
			}
		}
	}
	for protocol, line := range map[string]string{"graphql-transport-ws": `{"query":"subscription S($n: Int) { a(n: $n, b: \"{query.v}\") }"}`, "actioncable": `{"channel":"C","text":"(query S($n: {query.v})"}`, "stomp": "/topic/orders/{query.v} {\"a\":\"b.c\"}", "wamp": "{query.v}", "nats": "{query.v} {\"stream\":\"A\"}", "centrifuge": "news:{query.v}"} {
		rt := compiled(t, SourceSettings{From: "ws://legacy", Protocol: protocol, Connect: logins[protocol], Subscribe: line})
		q, err := rt.Expand(newGet("/?v=a.b:c"), func(string) string { return "" })
		if err == nil {
			_, err = q.texts("SUBSCRIBE")[0].Fill(func(string) string { return "" })
		}
		if err != nil {
			t.Errorf("%s: %v", protocol, err)
		}
	}
}

// Nor does a value of HELLO's make another document, unless the document is the client's.
func TestDocumentsOfHello(t *testing.T) {
	const value = "x { secret } #"
	for line, want := range map[string]string{"mutation {query.v} { a }": "", "mutation M($n: Int = {query.v}) { a(n: $n) }": "", `mutation { a(n: "{query.v}") }`: `mutation { a(n: "x { secret } #") }`, "{query.v}": value} {
		rt := compiled(t, SourceSettings{From: "ws://legacy", Protocol: "graphql-ws", Subscribe: "subscription { a }", Hello: "> " + line})
		q, err := rt.Expand(newGet("/?"+url.Values{"v": {value}}.Encode()), func(string) string { return "" })
		if (err == nil) != (want != "") {
			t.Errorf("%s: %v", line, err)
		}
		if err != nil {
			continue
		}
		if got, err := q.script.Steps[0].Send.Fill(one); err != nil || got != want {
			t.Errorf("%s: %s, %v", line, got, err)
		}
	}
}
