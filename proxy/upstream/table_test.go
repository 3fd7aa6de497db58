package upstream

import (
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"sidestream/translate"
)

// full are routes that have every setting with a template between them; {query.FIELD:0} stands in each.
func full() map[string]SourceSettings {
	return map[string]SourceSettings{
		"raw": {Claims: []string{"who"}, From: "ws://h/{query.From:0}", Headers: "X-A: {query.Headers:0}\nX-B: {auth.who:0}", Forward: []string{"X-Forward"},
			Hello: "> {query.Hello:0}\n@ X-Asked: {query.AskHeader:0}\n@ http://h/{query.Ask:0} {\"a\":\"{query.AskBody:0}\"}\n> {= $query.Program}\n> last", Ping: "{query.Ping:0}", Ticket: "GET http://h/{query.Ticket:0}", Dial: ".url", Session: true},
		"dialect": {From: "ws://h/", Protocol: "actioncable", Subscribe: `{"channel":"{query.Subscribe:0}"}` + "\n" + `{"channel":"B"}`},
		"connect": {From: "ws://h/", Protocol: "graphql-transport-ws", Connect: `{"a":"{query.Connect:0}"}`, Subscribe: "subscription { a }"},
		"faced":   {From: "ws://h/", Protocol: "graphql-transport-ws", Face: FaceGraphQL},
		"run":     {From: "http://h/", Method: "POST", Mode: ModeStream, Run: true, Forward: []string{"X-Forward"}},
		"poll":    {From: "http://h/?c={stream.cursor:0}", First: "http://h/{query.First:0}", Cursor: ".c", Body: "a={query.Body:0}"},
	}
}

// Whatever a route's table takes of a client parts those who differ in it, and nothing but that is sent.
func TestEveryEntryIsPartOfTheIdentity(t *testing.T) {
	seen := map[string]bool{}
	for name, s := range full() {
		rt := compiled(t, s)
		keys := map[[32]byte]string{keyWith(t, rt, "", ""): "none"}
		for _, e := range rt.table {
			for _, p := range e.template.parts {
				for _, use := range p.uses() {
					if other, same := keys[keyWith(t, rt, use.Kind, use.Name)]; same {
						t.Errorf("%s: two clients that differ in what %s uses share a stream, as %s", name, p.text(), other)
					}
					seen["program"] = true
				}
				if p.kind == "" || p.ours() {
					continue
				}
				seen[e.setting], seen[p.kind] = true, true
				if other, same := keys[keyWith(t, rt, p.kind, p.name)]; same {
					t.Errorf("%s: two clients that differ in %s of %s share a stream, as %s", name, p.text(), e.setting, other)
				}
				keys[keyWith(t, rt, p.kind, p.name)] = e.setting
			}
		}
	}
	for _, setting := range []string{"FROM", "FIRST", "HEADERS", "FORWARD", "BODY", "CONNECT", "SUBSCRIBE", "HELLO", "PING", "TICKET", "SCOPE", "program", "operation", "body"} {
		if !seen[setting] {
			t.Errorf("%s is tried by no route", setting)
		}
	}
}

// keyWith is the key of a client that gives the placeholder another value than all others do.
func keyWith(t *testing.T, rt *Route, kind, name string) [32]byte {
	t.Helper()
	key, err := keyOf(rt, kind, name)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func keyOf(rt *Route, kind, name string) ([32]byte, error) {
	c := client{query: "session=aaaaaaaaaaaaaaaa", header: http.Header{"X-Forward": {"0"}}, sent: &Sent{Operation: `{"query":"subscription{a}"}`, Body: "a"}}
	switch kind {
	case "query":
		c.query += "&" + name + "=1"
	case "auth":
		c.claims = map[string]string{name: "1"}
	case "forward":
		c.header = http.Header{name: {"1"}}
	case "session":
		c.query = "session=bbbbbbbbbbbbbbbb"
	case "operation", "body":
		c.sent = &Sent{Operation: `{"query":"subscription{b}"}`, Body: "b"}
	}
	q, err := c.expand(rt)
	return q.Key, err
}

// A setting that takes a placeholder has it in the table: a new one that was compiled past it would share streams between clients that
// send different things.
func TestNoTemplatePastTheTable(t *testing.T) {
	filled := 0
	for route, s := range full() {
		for i := range reflect.TypeFor[SourceSettings]().NumField() {
			field := reflect.TypeFor[SourceSettings]().Field(i).Name
			for _, probed := range probes(s, i) {
				rt, err := Compile(probed)
				if err != nil {
					continue // no placeholder may stand there
				}
				none, err := keyOf(rt, "", "")
				if err != nil {
					continue // it makes no address
				}
				filled++
				if rt.Shared() || !slices.Contains(rt.Needs(), "{query.probe}") {
					if !literals[field] {
						t.Errorf("%s: %s takes a placeholder that is not in the table", route, field)
					}
				} else if none == keyWith(t, rt, "query", "probe") {
					t.Errorf("%s: %s is no part of the identity", route, field)
				}
			}
		}
	}
	if filled < 10 {
		t.Errorf("only %d settings took a placeholder", filled)
	}
}

// literals are the settings in which a brace is a brace: of text, or of jq.
var literals = map[string]bool{"Documents": true, "Subprotocol": true, "PathNames": true, "Separator": true, "Forward": true, "Claims": true,
	"Reply": true, "State": true, "Event": true, "Data": true, "Key": true, "Next": true, "Interval": true, "Dial": true, "PingProgram": true}

// probes are s with a placeholder in field i, in each of the ways in which it may stand there.
func probes(s SourceSettings, i int) (all []SourceSettings) {
	for _, way := range []string{"%s{query.probe:0}", "{query.probe:0}%s", "%s/{query.probe:0}", "%s\nX-C: {query.probe:0}", "%s?p={query.probe:0}", "{\"a\":\"{query.probe:0}\"}"} {
		probed := s
		switch v := reflect.ValueOf(&probed).Elem().Field(i); v.Interface().(type) {
		case string:
			if strings.Contains(way, "%s") {
				way = fmt.Sprintf(way, v.String())
			}
			v.SetString(way)
		case []string:
			v.Set(reflect.ValueOf([]string{"{query.probe:0}"}))
		default:
			return nil
		}
		all = append(all, probed)
	}
	return all
}

// Texts that look the same when put one after the other are told apart.
func TestIdentityHasNoSeams(t *testing.T) {
	rt := compiled(t, SourceSettings{From: "ws://h/", Headers: "A: {query.a:x}", Forward: []string{"B", "C"}})
	keys := map[[32]byte]string{}
	for _, h := range []http.Header{{"B": {"1", "2"}}, {"B": {"1"}, "C": {"2"}}, {"C": {"1", "2"}}, {"B": {"12"}}, {"B": {"2", "1"}}, {"C": {"12"}}, {"B": {"1, 2"}}} {
		q, err := client{header: h}.expand(rt)
		if err != nil {
			t.Fatal(err)
		}
		if other, same := keys[q.Key]; same {
			t.Errorf("%v and %s have one key", h, other)
		}
		keys[q.Key] = fmt.Sprint(h)
	}
}

// TestFixed: what is the same for every client is there once, and means the same as if it were made for each.
func TestFixed(t *testing.T) {
	rt := compiled(t, SourceSettings{From: "http://legacy/feed", Headers: "X-Who: {query.who}\nX-All: one", Every: time.Second, MaxMessage: 1 << 20})
	a, b := expanded(t, rt, "/?who=a"), expanded(t, rt, "/?who=b")
	if a.Key == b.Key {
		t.Error("two clients share a stream")
	}
	fixed := map[string]bool{}
	for _, e := range rt.table {
		fixed[e.setting+" "+e.header] = !e.fixed.Empty()
		e.fixed = translate.Text{}
	}
	if !fixed["FROM "] || !fixed["HEADERS X-All"] || fixed["HEADERS X-Who"] {
		t.Errorf("%v", fixed)
	}
	value := func(string) string { return "" }
	for want, q := range map[string]Request{"a": a, "b": b} {
		anew := expanded(t, rt, "/?who="+want)
		from, h, err := q.fill(value, true)
		from2, h2, err2 := anew.fill(value, true)
		if anew.Key != q.Key || from != from2 || err != nil || err2 != nil || h.Get("X-Who") != want || h.Get("X-All") != "one" || !maps.EqualFunc(h, h2, slices.Equal) {
			t.Errorf("%s with %v (%v), made anew %s with %v (%v)", from, h, err, from2, h2, err2)
		}
	}
}
