package upstream

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"sidestream/translate/dialect"
)

// client is what comes from one, for tests of templates.
type client struct {
	query, path, cookie string // "name=value&…", decoded for path and cookie
	header              http.Header
	claims              map[string]string
	sent                *Sent
}

func (c client) expand(rt *Route) (Request, error) {
	r := httptest.NewRequest("GET", "/", nil)
	r.URL.RawQuery = c.query
	for name, values := range c.header {
		r.Header[name] = values
	}
	if name, value, ok := strings.Cut(c.cookie, "="); ok {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	return rt.ExpandSent(r, func(name string) string {
		for pair := range strings.SplitSeq(c.path, "&") {
			if n, value, _ := strings.Cut(pair, "="); n == name {
				return value
			}
		}
		return ""
	}, func(name string) string { return c.claims[name] }, c.sent)
}

func one(string) string { return "1" }

func addressOf(t *testing.T, q Request) string {
	t.Helper()
	s, err := q.text("FROM").Fill(one)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAddressTemplates(t *testing.T) {
	names := []string{"id", "b"}
	for name, test := range map[string]struct {
		from   string
		client client
		want   string // an address, or "400: " and what is said
	}{
		"path":                         {"ws://h/a/{path.id}/b", client{path: "id=7"}, "ws://h/a/7/b"},
		"path, escaped":                {"ws://h/{path.id}", client{path: "id=a/b?c#d e%f;g"}, "ws://h/a%2Fb%3Fc%23d%20e%25f%3Bg"},
		"path, already escaped":        {"ws://h/{path.id}", client{path: "id=%2e%2e"}, "ws://h/%252e%252e"},
		"path, empty":                  {"ws://h/{path.id}", client{}, "400: {path.id} is missing or empty in the request"},
		"path, dot":                    {"ws://h/{path.id}/x", client{path: "id=."}, "400: {path.id} is empty, . or .., which is not a path segment"},
		"path, dots":                   {"ws://h/{path.id}", client{path: "id=.."}, "400: {path.id} is empty, . or .., which is not a path segment"},
		"path, two make dots":          {"ws://h/.{path.id}", client{path: "id=x"}, "ws://h/.x"},
		"path, a literal dot before":   {"ws://h/x/{path.id}{path.b}", client{path: "id=.x&b=.."}, "400: {path.b} is empty, . or .., which is not a path segment"},
		"path, three dots":             {"ws://h/{path.id}", client{path: "id=..."}, "ws://h/..."},
		"query":                        {"ws://h/?s={query.s}", client{query: "s=a%20b%26c%3Dd%23"}, "ws://h/?s=a+b%26c%3Dd%23"},
		"query, first of several":      {"ws://h/?s={query.s}", client{query: "s=1&s=2"}, "ws://h/?s=1"},
		"query in the path":            {"ws://h/{query.s}", client{query: "s=a%2Fb"}, "ws://h/a%2Fb"},
		"query, missing":               {"ws://h/?s={query.s}", client{}, "400: {query.s} is missing or empty in the request"},
		"query, empty":                 {"ws://h/?s={query.s}", client{query: "s="}, "400: {query.s} is missing or empty in the request"},
		"query, default":               {"ws://h/?s={query.s:0}", client{query: "s="}, "ws://h/?s=0"},
		"query, default is escaped":    {"ws://h/?s={query.s:a b&c}", client{}, "ws://h/?s=a+b%26c"},
		"query, empty default":         {"ws://h/?s={query.s:}", client{}, "ws://h/?s="},
		"query, given beats default":   {"ws://h/?s={query.s:0}", client{query: "s=7"}, "ws://h/?s=7"},
		"header":                       {"ws://h/?s={header.X-Team}", client{header: http.Header{"X-Team": {"a&b"}}}, "ws://h/?s=a%26b"},
		"header, any case":             {"ws://h/?s={header.x-team}", client{header: http.Header{"X-Team": {"a"}}}, "ws://h/?s=a"},
		"host":                         {"ws://h/?s={header.host}", client{}, "ws://h/?s=example.com"},
		"cookie":                       {"ws://h/?s={cookie.sid}", client{cookie: "sid=a/b"}, "ws://h/?s=a%2Fb"},
		"cookie, missing":              {"ws://h/?s={cookie.sid}", client{cookie: "other=1"}, "400: {cookie.sid} is missing or empty in the request"},
		"stream":                       {"ws://h/{stream.n}?n={stream.n}", client{}, "ws://h/1?n=1"},
		"whole query":                  {"ws://h/?{query}", client{query: "a=1&b=%20x&lastEventId=7&heartbeat=event&c&heartbeat=5"}, "ws://h/?a=1&b=%20x&c&heartbeat=5"},
		"whole query, after another":   {"ws://h/?k=v&{query}", client{query: "last_event_id=7&a=1"}, "ws://h/?k=v&a=1"},
		"whole query, escaped name":    {"ws://h/?{query}", client{query: "a=1&last%45ventId=7"}, "ws://h/?a=1"},
		"whole query, empty":           {"ws://h/?{query}", client{}, "ws://h/?"},
		"whole query, no room for #":   {"ws://h/?{query}", client{query: "a=1#x <\""}, "ws://h/?a=1%23x%20%3C%22"},
		"whole query as a value":       {"ws://h/{query}", client{query: "a=1&b"}, "ws://h/a=1&b"},
		"looks like a placeholder":     {"ws://h/{query.s}?t={query.t}&n={stream.n}", client{query: "s={query.t}&t={stream.n}"}, "ws://h/%7Bquery.t%7D?t=%7Bstream.n%7D&n=1"},
		"other braces are literal":     {"ws://h/?f={a}&g={}&s={ query.s }&x={query s}&y={stream.m}", client{}, "ws://h/?f={a}&g={}&s={ query.s }&x={query s}&y={stream.m}"},
		"just 1 KiB":                   {"ws://h/?s={query.s}", client{query: "s=" + strings.Repeat("x", 1024)}, "ws://h/?s=" + strings.Repeat("x", 1024)},
		"a token of 9 KiB":             {"ws://h/?s={query.s}", client{query: "s=" + strings.Repeat("x", 9<<10)}, "ws://h/?s=" + strings.Repeat("x", 9<<10)},
		"over 16 KiB":                  {"ws://h/?s={query.s}", client{query: "s=" + strings.Repeat("x", 16385)}, "400: {query.s} is longer than 16384 bytes (SSE_MAX_VALUE)"},
		"over 16 KiB, the whole query": {"ws://h/?{query}", client{query: strings.Repeat("x", 16385)}, "400: {query} is longer than 16384 bytes (SSE_MAX_VALUE)"},
		"over 16 KiB, a header":        {"ws://h/?s={header.A}", client{header: http.Header{"A": {strings.Repeat("x", 16385)}}}, "400: {header.A} is longer than 16384 bytes (SSE_MAX_VALUE)"},
		"control characters in a path": {"ws://h/{path.id}", client{path: "id=a\r\nb\x00"}, "ws://h/a%0D%0Ab%00"},
	} {
		rt := compiled(t, SourceSettings{From: test.from, PathNames: names})
		q, err := test.client.expand(rt)
		got := ""
		var bad *BadRequest
		if errors.As(err, &bad) {
			got = "400: " + bad.Problem
		} else if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		} else {
			got = addressOf(t, q)
		}
		if got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}

func TestTextTemplates(t *testing.T) {
	const nasty = `a"b\c</d` + "\n\u2028{query.t}"
	value := "s=" + url.QueryEscape(nasty)
	for name, test := range map[string]struct{ text, query, want string }{
		"in a JSON string":           {`{"s":"{query.s}"}`, value, `{"s":"a\"b\\c\u003c/d\n\u2028{query.t}"}`},
		"part of a JSON string":      {`{"s":"x-{query.s}-y"}`, "s=%22", `{"s":"x-\"-y"}`},
		"outside a string: number":   {`{"n":{query.s}}`, "s=-1.5e3", `{"n":-1.5e3}`},
		"outside a string: true":     {`{"n":{query.s}}`, "s=true", `{"n":true}`},
		"outside a string: null":     {`[{query.s}]`, "s=null", `[null]`},
		"outside a string: an entry": {`{"n":{query.s}}`, "s=1,%22admin%22:true", "400"},
		"outside a string: a string": {`{"n":{query.s}}`, "s=%22x%22", "400"},
		"outside a string: 01":       {`{"n":{query.s}}`, "s=01", "400"},
		"outside a string: NaN":      {`{"n":{query.s}}`, "s=NaN", "400"},
		"after a stray bracket":      {`] {"n":{query.s}}`, "s=1,2", "400"},
		"after a string":             {`["sub",{query.s}]`, "s=1],[2", "400"},
		"a bracket in a string":      {`{"a":"]}","n":{query.s}}`, "s=1,2", "400"},
		"an escaped quote":           {`{"a":"\"","n":{query.s}}`, "s=1,2", "400"},
		"an escaped backslash":       {`{"a":"\\","n":{query.s}}`, "s=1,2", "400"},
		"a quote written as escape":  {`{"a":"\u0022","s":"{query.s}"}`, "s=%22", `{"a":"\u0022","s":"\""}`},
		"JSON in a JSON string":      {`{"identifier":"{\"room\":\"{query.s}\"}"}`, "s=%22%2C", `{"identifier":"{\"room\":\"\\\",\"}"}`},
		"a number in inner JSON":     {`{"identifier":"{\"room\":{query.s}}"}`, "s=7", `{"identifier":"{\"room\":7}"}`},
		"an entry in inner JSON":     {`{"identifier":"{\"room\":{query.s}}"}`, "s=7,%22x%22:1", "400"},
		"a GraphQL argument":         {`{"query":"subscription { job(id: \"{query.s}\") { state } }"}`, "s=%22)%7B", `{"query":"subscription { job(id: \"\\\"){\") { state } }"}`},
		"a GraphQL word":             {`{"query":"subscription { job(id: {query.s}) { state } }"}`, "s=JOB_7", `{"query":"subscription { job(id: JOB_7) { state } }"}`},
		"no GraphQL word":            {`{"query":"subscription { job(id: {query.s}) { state } }"}`, "s=1){x}", "400"},
		"a GraphQL variable":         {`{"query":"query Q($id: ID = {query.s}) { job(id: $id) { state } }"}`, "s=7", `{"query":"query Q($id: ID = 7) { job(id: $id) { state } }"}`},
		"no GraphQL variable":        {`{"query":"query Q($id: ID = {query.s}) { job(id: $id) { state } }"}`, "s=1)%7Bsecret%7D%23", "400"},
		"no second directive":        {`{"query":"subscription S @live @auth(token: {query.s}) { a }"}`, "s=1)%7Bsecret%7D%23", "400"},
		"no directive of a fragment": {`{"query":"subscription { ...F } fragment F on T @x(v: {query.s}) { a }"}`, "s=1)%7Bsecret%7D%23", "400"},
		"no GraphQL variable, alone": {`query Q($id: ID = {query.s}) { job(id: $id) { state } }`, "s=1)%7Bsecret%7D%23", "400"},
		"a text with parentheses":    {`{"query":"orders (of {query.s})"}`, "s=A%20%26%20B", `{"query":"orders (of A \u0026 B)"}`},
		"a text of a query":          {`query(name, {query.s})`, "s=a%20b", `query(name, a b)`},
		"plain text":                 {`SUBSCRIBE {query.s}`, "s=a%20%22b%7B", `SUBSCRIBE a "b{`},
		"plain text, a line":         {`SUBSCRIBE {query.s}`, "s=a%0Ab", "400"},
		"plain text, NUL":            {`SUBSCRIBE {query.s}`, "s=a%00b", "400"},
		"invalid UTF-8, plain":       {`SUBSCRIBE {query.s}`, "s=%ff", "400"},
		"invalid UTF-8, JSON":        {`{"s":"{query.s}"}`, "s=%ff", "400"},
		"literal braces":             {`{"a":{"b":{}},"q":"{ x }"}`, "", `{"a":{"b":{}},"q":"{ x }"}`},
		"{stream.n} in JSON":         {`{"id":{stream.n},"s":"{query.s}"}`, "s={stream.n}", `{"id":1,"s":"{stream.n}"}`},
	} {
		for _, place := range []string{"HELLO", "PING", "BODY"} {
			s := SourceSettings{From: "ws://h/"}
			switch place {
			case "HELLO":
				s.Hello = "> " + test.text
			case "PING":
				s.Ping = test.text
			default:
				s.Body = test.text
			}
			q, err := client{query: test.query}.expand(compiled(t, s))
			var bad *BadRequest
			if errors.As(err, &bad) && strings.Contains(bad.Problem, "{query.s}") {
				if test.want != "400" {
					t.Errorf("%s, %s: %v", name, place, err)
				}
				continue
			} else if err != nil {
				t.Fatal(err)
			}
			text := q.script.Ping
			if place == "HELLO" {
				text = q.script.Steps[0].Send
			} else if place == "BODY" {
				text = q.text("BODY")
			}
			if got, err := text.Fill(one); err != nil || got != test.want {
				t.Errorf("%s, %s: %s, %v, want %s", name, place, got, err, test.want)
			}
		}
	}
}

func TestFormBodies(t *testing.T) {
	rt := compiled(t, SourceSettings{From: "http://h/", Body: "a={query.s}&b=1"})
	q, err := client{query: "s=x%26b%3D2%20"}.expand(rt)
	if err != nil {
		t.Fatal(err)
	}
	_, h, _ := q.fill(one, false)
	if body, _ := q.text("BODY").Fill(one); body != "a=x%26b%3D2+&b=1" || h.Get("Content-Type") != "application/x-www-form-urlencoded" {
		t.Errorf("%s as %s", body, h.Get("Content-Type"))
	}
}

func TestHeaderTemplates(t *testing.T) {
	for value, want := range map[string]string{"a b": "Bearer a b", "a\tb": "Bearer a\tb", "é": "Bearer é", "a\r\nX: y": "", "a\nb": "", "a\rb": "", "a\x00b": "", "a\x7f": ""} {
		rt := compiled(t, SourceSettings{From: "ws://h/", Headers: "Authorization: Bearer {query.s}\nX-Fixed: {a}"})
		q, err := client{query: "s=" + url.QueryEscape(value)}.expand(rt)
		var bad *BadRequest
		if want == "" {
			if !errors.As(err, &bad) || !strings.HasPrefix(bad.Problem, "{query.s} ") {
				t.Errorf("%q: %v", value, err)
			}
			continue
		}
		_, h, err2 := q.fill(one, false)
		if err != nil || err2 != nil || h.Get("Authorization") != want || h.Get("X-Fixed") != "{a}" || h.Get("User-Agent") != "sidestream" {
			t.Errorf("%q: %v, %v, %v", value, h, err, err2)
		}
	}
}

func TestForward(t *testing.T) {
	rt := compiled(t, SourceSettings{From: "ws://h/", Forward: []string{"cookie", "X-None", "User-Agent", "X-Two"}})
	q, err := client{cookie: "sid=1", header: http.Header{"User-Agent": {"browser"}, "X-Two": {"a", "b"}, "X-Other": {"c"}}}.expand(rt)
	if err != nil {
		t.Fatal(err)
	}
	_, h, err := q.fill(one, false)
	if err != nil || len(h) != 3 || h.Get("Cookie") != "sid=1" || h.Get("User-Agent") != "browser" || strings.Join(h["X-Two"], ",") != "a,b" {
		t.Errorf("%v, %v", h, err)
	}
}

func TestIdentity(t *testing.T) {
	s := SourceSettings{From: "ws://h/{query.a:x}?b={query.b:x}", Headers: "X-C: {query.c:x}\nX-D: {query.d:x}", Forward: []string{"Cookie"},
		Hello: "> {query.e:x}\n> {\"f\":\"{query.f:x}\",\"n\":{stream.n}}", Ping: "{query.g:x}{stream.n}", Body: "{query.h:x}"}
	rt := compiled(t, s)
	keys := map[[32]byte]string{}
	for _, query := range []string{"", "a=y", "b=y", "c=y", "d=y", "e=y", "f=y", "g=y", "h=y", "c=x%3Bx", "c=y&d=y", "e=xx", "g={stream.n}", "g=1", "lastEventId=7", "heartbeat=event", "other=1"} {
		q, err := client{query: query}.expand(rt)
		if err != nil {
			t.Fatalf("%s: %v", query, err)
		}
		if other, same := keys[q.Key]; same != (query == "lastEventId=7" || query == "heartbeat=event" || query == "other=1") {
			t.Errorf("%q and %q: same key is %v", query, other, same)
		}
		keys[q.Key] = query
	}
	with := func(h http.Header) [32]byte {
		q, err := client{header: h}.expand(rt)
		if err != nil {
			t.Fatal(err)
		}
		return q.Key
	}
	none, a, b, both := with(nil), with(http.Header{"Cookie": {"a"}}), with(http.Header{"Cookie": {"b"}}), with(http.Header{"Cookie": {"a", "b"}})
	if none == a || a == b || a == both || with(http.Header{"Cookie": {"a"}}) != a || with(http.Header{"X-Not-Forwarded": {"1"}}) != none {
		t.Error("forwarded headers and the key")
	}
}

// FuzzExpand: whatever values a client sends, they change their own fields of what the legacy service sees and no other.
func FuzzExpand(f *testing.F) {
	f.Add("7", "a b", "x", "token", `he said "hi"`)
	f.Add("..", "&b=2#", "a\r\nX-Evil: 1", "\x00", `"},{"admin":true`)
	f.Add("{query.b}", "{stream.n}", "%2e%2e", "é\xff", `\u0022`)
	rt := compiled(f, SourceSettings{PathNames: []string{"id"}, From: "ws://h/v1/{path.id}/feed?b={query.b}&fixed=1", Headers: "X-Token: {header.X-T}\nX-Fixed: 1",
		Hello: `> {"op":"sub","channel":"{query.c}","inner":"{\"room\":\"{query.c}\"}","n":{stream.n}}` + "\n> {\"n\":{query.n}}"})
	f.Fuzz(func(t *testing.T, id, b, token, n, c string) {
		q, err := client{path: "id=" + strings.ReplaceAll(id, "&", ""), query: url.Values{"b": {b}, "c": {c}, "n": {n}}.Encode(), header: http.Header{"X-T": {token}}}.expand(rt)
		if err != nil {
			var bad *BadRequest
			if !errors.As(err, &bad) || strings.Contains(bad.Problem, "\n") {
				t.Fatal(err)
			}
			return
		}
		raw, h, err := q.fill(one, false)
		if err != nil {
			t.Fatal(err)
		}
		u, err := url.Parse(raw)
		if err != nil || u.Host != "h" || u.Scheme != "ws" || u.User != nil || u.Fragment != "" {
			t.Fatalf("%s: %v", raw, err)
		}
		id = strings.ReplaceAll(id, "&", "")
		if segments := strings.Split(u.EscapedPath(), "/"); len(segments) != 4 || segments[1] != "v1" || segments[3] != "feed" || u.Path != "/v1/"+id+"/feed" || u.JoinPath().Path != u.Path {
			t.Fatalf("path %s of %q", u.EscapedPath(), id)
		}
		if got := u.Query(); len(got) != 2 || got.Get("b") != b || got.Get("fixed") != "1" {
			t.Fatalf("query %s of %q", u.RawQuery, b)
		}
		if len(h) != 3 || h.Get("X-Token") != token || h.Get("X-Fixed") != "1" || strings.ContainsAny(token, "\r\n\x00") {
			t.Fatalf("%v of %q", h, token)
		}
		checkFrames(t, q.script.Steps, c, n)
	})
}

func checkFrames(t *testing.T, steps []dialect.Step, c, n string) {
	t.Helper()
	first, _ := steps[0].Send.Fill(one)
	var frame, inner map[string]any
	if err := json.Unmarshal([]byte(first), &frame); err != nil || len(frame) != 4 || frame["op"] != "sub" || frame["channel"] != c || frame["n"] != 1.0 {
		t.Fatalf("%s of %q: %v", first, c, err)
	}
	if err := json.Unmarshal([]byte(frame["inner"].(string)), &inner); err != nil || len(inner) != 1 || inner["room"] != c {
		t.Fatalf("inside %s of %q: %v", first, c, err)
	}
	second, _ := steps[1].Send.Fill(one)
	frame = nil
	d := json.NewDecoder(strings.NewReader(second))
	d.UseNumber()
	if err := d.Decode(&frame); err != nil || len(frame) != 1 {
		t.Fatalf("%s of %q: %v", second, n, err)
	}
	if _, isMap := frame["n"].(map[string]any); isMap {
		t.Fatalf("%s of %q", second, n)
	}
}

func TestRedact(t *testing.T) {
	for in, want := range map[string]string{
		"wss://user:secret@h:1/p/q?token=secret&x&y=": "wss://h:1/p/q?token=…&…&y=…",
		"ws://h":                           "ws://h",
		"http://h/?":                       "http://h/?…",
		"http://h?a=b=c":                   "http://h?a=…",
		"http://a@b@h/x@y":                 "http://h/x@y",
		"no address secret":                "…",
		"ws://h/{path.id}?k={query.token}": "ws://h/{path.id}?k=…",
		"https://api.telegram.org/bot123456:AAx/getUpdates?timeout=50":   "https://api.telegram.org/…/getUpdates?timeout=…",
		"https://h/hooks/4eC39HqLyjWDarjtT1zdp7dc/a":                     "https://h/hooks/…/a",
		"https://h/token/short/a;jsessionid=1?4eC39HqLyjWDarjtT1zdp7dc=": "https://h/token/…/a;…?…",
		"ws://h/{cookie.sid}/x{header.X-Key}y/{query.k}":                 "ws://h/…/…/{query.k}",
	} {
		if got := Redact(in); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
	rt := compiled(t, SourceSettings{From: "wss://user:secret@h/{path.id}?k=secret&n={stream.n}", PathNames: []string{"id"}})
	q, err := client{path: "id=7"}.expand(rt)
	if err != nil || q.String() != "wss://h/7?k=…&n=…" || rt.From() != "wss://h/{path.id}?k=…&n=…" {
		t.Errorf("%s, %s, %v", q.String(), rt.From(), err)
	}
}

// What FROM holds where it was read from a file is a secret, but for where it leads and what the client names.
func TestFromOfAFileIsNotShown(t *testing.T) {
	rt := compiled(t, SourceSettings{From: "http://u:p@h:1/a/{path.id}/b?c=d", FromFile: true, PathNames: []string{"id"}})
	q, err := client{path: "id=7"}.expand(rt)
	if err != nil || q.String() != "http://h:1/…/7/…?…" || rt.From() != "http://h:1/…/{path.id}/…?…" {
		t.Errorf("%s, %s, %v", q.String(), rt.From(), err)
	}
	if got := RedactAll("http://h/a/b"); got != "http://h/…/…" {
		t.Error(got)
	}
}

// A value of the path is shown as it is, unless it looks like a token.
func TestShownPathValues(t *testing.T) {
	rt := compiled(t, SourceSettings{From: "http://h/{path.id}/x", PathNames: []string{"id"}})
	for value, want := range map[string]string{"7": "7", "big order": "big%20order", "550e8400-e29b-41d4-a716-446655440000": "…"} {
		q, err := rt.Expand(newGet("/"), func(string) string { return value })
		if err != nil || q.String() != "http://h/"+want+"/x" {
			t.Errorf("%s: %s, %v", value, q.String(), err)
		}
	}
}

// An error is shown without what the client and the configuration have given in confidence, and stays what it is.
func TestShownErrors(t *testing.T) {
	rt := compiled(t, SourceSettings{From: "ws://h/?k=wordone", Headers: "X-Key: Bearer wordtwo", Forward: []string{"Cookie"}, Protocol: "graphql-transport-ws",
		Connect: `{"password":"wordthree","a":{"b":["{query.q}"]}}`, Subscribe: "{ a }"})
	r := newGet("/?q=wordfour")
	r.Header.Set("Cookie", "a=1; b=wordfive")
	q, err := rt.Expand(r, func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	refused := passing(401, "not wordone wordtwo wordthree wordfour (wordfive), nor eyJhbGciOiJIUzI1NiJ9.e30.c2ln but Bearer")
	shown := q.Shown(refused)
	if got := shown.Error(); got != "upstream refused (401): not … … … … (…), nor … but Bearer" {
		t.Error(got)
	}
	var mayPass Passing
	if !errors.As(shown, &mayPass) || mayPass.Status != 401 {
		t.Errorf("%T", shown)
	}
	if q.Shown(nil) != nil || q.Shown(io.EOF) != io.EOF {
		t.Error("it is another error")
	}
}

// The text of a fault is that of the first that knew it, and what it wraps is found.
func TestKind(t *testing.T) {
	lost := fmt.Errorf("read the answer: %w", Kind(&url.Error{Op: "Get", URL: "http://h/secret", Err: io.ErrUnexpectedEOF}))
	if got := Kind(lost); got != lost || got.Error() != "read the answer: unexpected EOF" || !errors.Is(got, io.ErrUnexpectedEOF) {
		t.Error(got)
	}
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	if got := Kind(refused); got.Error() != "dial tcp: connection refused" || !errors.Is(got, syscall.ECONNREFUSED) {
		t.Error(got)
	}
	for said, want := range map[string]string{
		"stream error: stream ID 7; INTERNAL_ERROR; secret":                                     "HTTP/2: stream error: stream ID 7; INTERNAL_ERROR",
		`http2: server sent GOAWAY and closed the connection; ErrCode=NO_ERROR, debug="secret"`: "HTTP/2: server sent GOAWAY",
		"secret": "the connection failed, or what came over it is not HTTP",
	} {
		if got := Kind(errors.New(said)).Error(); got != want {
			t.Errorf("%s: %s", said, got)
		}
	}
	for line, want := range map[string]string{
		`Unsolicited response received on idle HTTP channel starting with "a\"secret"; err=<nil>` + "\n": "Unsolicited response received on idle HTTP channel starting with …; err=<nil>",
		"httputil: ReverseProxy read error during body copy: malformed MIME header line: secret":         "httputil: ReverseProxy read error during body copy: the header of the answer is malformed",
		"httputil: ReverseProxy read error during body copy: unexpected EOF":                             "httputil: ReverseProxy read error during body copy: unexpected EOF",
		"http: TLS handshake error from 1.2.3.4:5: EOF":                                                  "http: TLS handshake error from 1.2.3.4:5: EOF",
	} {
		if got := Complaint(line); got != want {
			t.Errorf("%s: %s", line, got)
		}
	}
}

func TestCompileProblems(t *testing.T) {
	for name, test := range map[string]struct {
		s             SourceSettings
		setting, want string
	}{
		"scheme":                         {SourceSettings{From: "ftp://h/"}, "FROM", "must begin with ws://"},
		"port":                           {SourceSettings{From: "ws://h:65536/"}, "FROM", "has a port that is none"},
		"port 0":                         {SourceSettings{From: "http://h:0/"}, "FROM", "has a port that is none"},
		"no host":                        {SourceSettings{From: "ws:///x"}, "FROM", "is not an address"},
		"host":                           {SourceSettings{From: "ws://{query.h}/x"}, "FROM", "{query.h} is not allowed here"},
		"user":                           {SourceSettings{From: "ws://{query.u}@h/x"}, "FROM", "{query.u} is not allowed here"},
		"fragment":                       {SourceSettings{From: "ws://h/#x"}, "FROM", "contains a #"},
		"wildcard":                       {SourceSettings{From: "ws://h/{path.id}"}, "FROM", "{path.id} is not a wildcard of PATH"},
		"default":                        {SourceSettings{From: "ws://h/{query.a:..}"}, "FROM", "the default of {query.a} is empty, . or .."},
		"default, JSON":                  {SourceSettings{From: "ws://h/", Hello: `{"a":{query.a:x}}`}, "HELLO", "the default of {query.a} is in JSON outside a string"},
		"cursor":                         {SourceSettings{From: "ws://h/?{stream.cursor}"}, "CURSOR", "is not set, but {stream.cursor} is used"},
		"no default":                     {SourceSettings{From: "http://h/", Cursor: ".n", Body: `{"since":{stream.cursor}}`}, "BODY", "{stream.cursor} is empty at first, which is not allowed here; give it a default, such as {stream.cursor:0}"},
		"header":                         {SourceSettings{From: "ws://h/", Headers: "X-A b"}, "HEADERS", "a line has no colon"},
		"header, ours":                   {SourceSettings{From: "ws://h/", Headers: "Connection: x"}, "HEADERS", "belongs to the connection"},
		"forward, ours":                  {SourceSettings{From: "ws://h/", Forward: []string{"Upgrade"}}, "FORWARD", "belongs to the connection"},
		"forward, host":                  {SourceSettings{From: "ws://h/", Forward: []string{"host"}}, "FORWARD", "Host cannot be forwarded"},
		"subprotocol":                    {SourceSettings{From: "ws://h/", Headers: "sec-websocket-protocol: x"}, "HEADERS", "is set by SUBPROTOCOL"},
		"jq":                             {SourceSettings{From: "ws://h/", Select: ".a |"}, "SELECT", "is not a jq program"},
		"jq of HELLO":                    {SourceSettings{From: "ws://h/", Hello: "> a\n< .a |"}, "HELLO", "is not a jq program"},
		"jq that assigns, HELLO waits":   {SourceSettings{From: "ws://h/", Hello: "> a\n< .type=\"ready\""}, "HELLO", "HELLO line 2 assigns with = where something is asked"},
		"jq that assigns, HELLO refuses": {SourceSettings{From: "ws://h/", Hello: "! .a and (.type=\"error\")"}, "HELLO", "HELLO line 1 assigns with ="},
		"jq that assigns, HELLO watches": {SourceSettings{From: "ws://h/", Hello: "~ .type|.x=1"}, "HELLO", "HELLO line 1 assigns with ="},
		"jq that assigns, DONE":          {SourceSettings{From: "ws://h/", Done: ".done=true"}, "DONE", "assigns with = where something is asked, which is true for every message; write == to compare"},
		"jq that assigns, PONG":          {SourceSettings{From: "ws://h/", Ping: "p", Pong: ".type=\"pong\""}, "PONG", "assigns with ="},
		"jq that assigns, RESUMED":       {SourceSettings{From: "ws://h/", State: "{a}", Hello: "< .a", Resumed: ".resumed=true"}, "RESUMED", "assigns with ="},
		"jq that assigns, REFUSED":       {SourceSettings{From: "http://h/", Refused: ".error=\"x\""}, "REFUSED", "assigns with ="},
		"jq that assigns, RESET":         {SourceSettings{From: "http://h/?{stream.cursor:0}", Cursor: ".n", Reset: "$status=410"}, "RESET", "assigns with ="},
		"a poll's id":                    {SourceSettings{From: "http://h/", Mode: ModePatch, Key: "id"}, "KEY", "is $id, what the message itself was called, which the answer to a poll does not have; the field is .id"},
		"a poll's event":                 {SourceSettings{From: "http://h/", Event: " $event"}, "EVENT", "the field is .event"},
		"a poll's topic":                 {SourceSettings{From: "http://h/", Mode: ModeItems, ID: "topic"}, "ID", "the field is .topic"},
		"jq missing":                     {SourceSettings{From: "ws://h/", Hello: "<"}, "HELLO", "a jq program is missing after <"},
		"nested too far":                 {SourceSettings{From: "ws://h/", Hello: strings.Repeat(`{"a":"`, 1) + deep(6) + "{query.a}"}, "HELLO", "is not allowed here"},
		"method":                         {SourceSettings{From: "http://h/", Method: "get"}, "METHOD", "is not a method"},
		"mode":                           {SourceSettings{From: "http://h/", Mode: "all"}, "MODE", "is not known"},
		"dialect":                        {SourceSettings{From: "ws://h/", Protocol: "soap"}, "PROTOCOL", "is not a dialect"},
	} {
		_, err := Compile(test.s)
		var bad *SettingError
		if !errors.As(err, &bad) || bad.Setting != test.setting || !strings.Contains(bad.Problem, test.want) {
			t.Errorf("%s: %v, want %s %s", name, err, test.setting, test.want)
		}
	}
}

// What has names and ids of its own may use them.
func TestNamesOfMessages(t *testing.T) {
	for _, s := range []SourceSettings{
		{From: "http://h/", Mode: ModeStream, Event: "event", ID: "id", Key: "id"}, {From: "ws://h/", Event: "event", ID: "$id", Key: "topic"}, {From: "http://h/", Event: ".event", ID: ".id", Key: "id // .id"},
		{From: "routes:a", Event: "topic"},
	} {
		compiled(t, s)
	}
}

// deep opens strings inside strings, n deep.
func deep(n int) string {
	quote, out := `"`, ""
	for range n {
		quoted, _ := json.Marshal(quote)
		quote = string(quoted[1 : len(quoted)-1])
		out += quote
	}
	return out
}

func TestHistoryIsOfPolls(t *testing.T) {
	for from, want := range map[string]bool{"ws://h/": false, "http://h/": true, "https://h/": true, "wss://h/": false} {
		if q := expanded(t, compiled(t, SourceSettings{From: from, Mode: ModeItems}), "/"); q.Source(slog.New(slog.DiscardHandler)).History() != want {
			t.Errorf("%s: history is %v", from, !want)
		}
	}
}

func TestNeeds(t *testing.T) {
	rt := compiled(t, SourceSettings{From: "ws://h/{path.id}?b={query.b}&n={stream.n}", PathNames: []string{"id"}, Headers: "X: {header.X-T}", Hello: "{cookie.c}\n{query.b}", Forward: []string{"cookie"}})
	if got := strings.Join(rt.Needs(), " "); got != "{path.id} {query.b} {header.X-T} {cookie.c} Cookie header" || rt.Shared() {
		t.Errorf("%s", got)
	}
	if got := strings.Join(rt.ClientHeaders(), " "); got != "X-T Cookie" {
		t.Errorf("%s", got)
	}
	if rt := compiled(t, SourceSettings{From: "ws://h/?n={stream.n}"}); !rt.Shared() {
		t.Error("{stream.n} is a client's")
	}
}

func TestBodyThatBeginsWithAPlaceholderIsNoJSON(t *testing.T) {
	rt, err := Compile(SourceSettings{From: "http://h/p", Body: "{query.x}"})
	if err != nil {
		t.Fatal(err)
	}
	if got := rt.headerText("Content-Type"); !strings.HasPrefix(got, "text/plain") {
		t.Errorf("it is sent as %q", got)
	}
}

// headerText is the literal value of a header of the route.
func (rt *Route) headerText(name string) string {
	for _, e := range rt.table {
		if e.header == name {
			return e.template.parts[0].literal
		}
	}
	return ""
}

func TestLogAddressHoldsNothingOfQueryHeadersAndCookies(t *testing.T) {
	rt, err := Compile(SourceSettings{From: "ws://u:hidden@h/ws/{path.id}/{query.token}/{cookie.sid}?k={header.X-Key}", PathNames: []string{"id"}})
	if err != nil {
		t.Fatal(err)
	}
	r, _ := http.NewRequest("GET", "/?token=hidden", nil)
	r.Header.Set("X-Key", "hidden")
	r.AddCookie(&http.Cookie{Name: "sid", Value: "hidden"})
	q, err := rt.Expand(r, func(string) string { return "a b" })
	if got := q.String(); err != nil || got != "ws://h/ws/a%20b/{query.token}/…?k=…" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestExpandsOnce what is the same for all: only where nothing of a client's request is looked at, also in vain.
func TestExpandsOnce(t *testing.T) {
	for name, test := range map[string]struct {
		settings SourceSettings
		only     bool
	}{
		"constant":          {SourceSettings{From: "ws://h/a", Headers: "X-Key: k", Hello: "> topic"}, true},
		"the stream's own":  {SourceSettings{From: "http://h/a?since={stream.cursor:0}", Cursor: ".next"}, true},
		"query":             {SourceSettings{From: "ws://h/a?{query}"}, false},
		"with a default":    {SourceSettings{From: "ws://h/a?s={query.s:1}"}, false},
		"header":            {SourceSettings{From: "ws://h/a", Headers: "X-Key: {header.X-Key:}"}, false},
		"cookie":            {SourceSettings{From: "ws://h/a", Hello: "> {cookie.sid:}"}, false},
		"path":              {SourceSettings{From: "ws://h/{path.id:x}", PathNames: []string{"id"}}, false},
		"forwarded":         {SourceSettings{From: "ws://h/a", Forward: []string{"Cookie"}}, false},
		"a client's own":    {SourceSettings{From: "ws://h/a", Session: true}, false},
		"body":              {SourceSettings{From: "http://h/a", Method: "POST", Body: "{query.s:}"}, false},
		"in the first line": {SourceSettings{From: "ws://h/a", Hello: "> {query.s:}"}, false},
	} {
		rt := compiled(t, test.settings)
		first, err := client{query: "session=" + strings.Repeat("s", 16)}.expand(rt)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		second, err := client{query: "session=" + strings.Repeat("t", 16) + "&s=2"}.expand(rt)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := rt.only.Load() != nil; got != test.only || test.only && first.Key != second.Key {
			t.Errorf("%s: kept: %v, want %v", name, got, test.only)
		}
	}
}

// What a client is authenticated by is a value like any other: part of the identity, escaped, confidential. Nothing but that fills it in.
func TestClaims(t *testing.T) {
	rt := compiled(t, SourceSettings{Claims: []string{"sub", "org"}, From: "ws://h/users/{auth.sub}?o={auth.org:none}", Headers: "X-User: {auth.sub}", Body: ""})
	joe, err := client{claims: map[string]string{"sub": "joe/&x", "org": "acme corp"}, header: http.Header{"X-User": {"root"}, "Sub": {"root"}}, query: "sub=root&auth.sub=root"}.expand(rt)
	if err != nil || addressOf(t, joe) != "ws://h/users/joe%2F&x?o=acme+corp" {
		t.Error(joe, err)
	}
	if _, h, err := joe.fill(one, false); err != nil || h.Get("X-User") != "joe/&x" {
		t.Error(h, err)
	}
	if shown := joe.Shown(errors.New("acme corp is not known")).Error(); strings.Contains(shown, "acme") || strings.Contains(joe.String(), "joe") {
		t.Error(shown, joe.String())
	}
	if !slices.Equal(rt.Needs(), []string{"{auth.sub}", "{auth.org}"}) || rt.Shared() || len(rt.ClientHeaders()) != 0 {
		t.Error(rt.Needs())
	}
	ann, _ := client{claims: map[string]string{"sub": "ann", "org": "acme corp"}}.expand(rt)
	twin, _ := client{claims: map[string]string{"sub": "joe/&x", "org": "acme corp", "other": "x"}}.expand(rt)
	if joe.Key == ann.Key || joe.Key != twin.Key {
		t.Error("the claims that are used, and no others, make the identity")
	}
	var unclaimed *Unclaimed
	if _, err := (client{claims: map[string]string{"org": "x"}}).expand(rt); !errors.As(err, &unclaimed) || unclaimed.Placeholder != "{auth.sub}" {
		t.Error(err)
	}
	if _, err := rt.Expand(httptest.NewRequest("GET", "/?sub=x", nil), one); !errors.As(err, &unclaimed) {
		t.Error("without an authentication: ", err)
	}
	if _, err := Compile(SourceSettings{Claims: []string{"sub"}, From: "ws://h/{auth.email}"}); err == nil || !strings.Contains(err.Error(), "FROM: {auth.email} is not in AUTH_CLAIMS") {
		t.Error(err)
	}
}
