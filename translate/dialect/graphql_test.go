package dialect

import (
	"errors"
	"strings"
	"testing"

	"sidestream/translate"
)

func gqlSession(legacy bool, connect string, lines ...string) *graphql {
	s := newGraphQLTransport(Options{Connect: fixed(connect), Subscribe: fixedLines(lines...), MaxMessage: fuzzMax}).(*graphql)
	s.legacy = legacy
	return s
}

func TestGraphQLCheck(t *testing.T) {
	for line, want := range map[string]string{
		`subscription { a }`: "", `{ a }`: "", `{a}`: "", `query($x:Int){a(x:$x)}`: "", `subscription @live { a(b: "}\"{") }`: "",
		`{"query":"subscription { a }"}`: "", `{ "query":"{a}","variables":{"b":1}}`: "", `{"extensions":{"persistedQuery":{}}}`: "",
		`{"query":"# all\nsubscription { a } # {"}`: "",
		`subscribe { a }`:                     "not an operation",
		`subscriptions { a }`:                 "not an operation",
		`[1]`:                                 "not an operation",
		`subscription { a`:                    "one line",
		`subscription { a(b: "c) }`:           "one line",
		`{}`:                                  "no query",
		`{"queri":"{a}"}`:                     "no query",
		`{"query":1}`:                         "not JSON of that form",
		`{"query":"{a}"`:                      "not JSON of that form",
		`{"query":"a"}`:                       "not an operation",
		`{"query":""}`:                        "not an operation",
		`{ a(b: """c""") }`:                   "block string",
		`{"query":"{ a(b: \"\"\"c\"\"\") }"}`: "block string",
		`{"query":"# \"\n{ a(b: 0) }"}`:       "comment with a quote",
		"subscription { a(b: \"\xff\") }":     "UTF-8",
	} {
		err := checkGraphQL("", []string{"{fine}", line})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "line 2")) {
			t.Errorf("%s: %v, want %q", line, err, want)
		}
	}
	for connect, fine := range map[string]bool{"": true, `{}`: true, ` {"a":[1]} `: true, `[]`: false, `"a"`: false, `{"a"`: false, "token": false} {
		if err := checkGraphQL(connect, nil); (err == nil) != fine {
			t.Errorf("%s: %v", connect, err)
		}
	}
	if err := checkGraphQL("[]", []string{"a", "b"}); err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("not all problems are reported: %v", err)
	}
}

// What a server sends as an error becomes a reason and a status, however it is wrapped.
// Servers of the older dialect may take ids for numbers.
func TestGraphQLNumericIDs(t *testing.T) {
	s := gqlSession(true, "", "subscription { a }", "subscription { b }")
	s.Open("graphql-ws")
	s.Receive(t.Context(), noon, Frame{Data: []byte(`{"type":"connection_ack"}`)})
	got, err := s.Receive(t.Context(), noon, Frame{Data: []byte(`{"id":2,"type":"data","payload":{"data":{"b":1}}}`)})
	if err != nil || len(got.Messages) != 1 || string(got.Messages[0].Data) != `{"data":{"b":1}}` {
		t.Errorf("%+v, %v", got, err)
	}
	for _, text := range []string{`{"id":1,"type":"complete"}`, `{"id":null,"type":"ka"}`, `{"id":"2","type":"complete"}`} {
		_, err = s.Receive(t.Context(), noon, Frame{Data: []byte(text)})
	}
	if !errors.Is(err, translate.ErrFinished) {
		t.Errorf("both are complete: %v", err)
	}
	if _, err := s.Receive(t.Context(), noon, Frame{Data: []byte(`{"id":{},"type":"ka"}`)}); err == nil {
		t.Error("an object is taken for an id")
	}
}

func TestGraphQLErrors(t *testing.T) {
	for payload, want := range map[string]struct {
		status int
		why    string
	}{
		`[{"message":"a"},{"message":"b"}]`:                                {400, "a"},
		`{"message":"a","extensions":{"code":"UNAUTHENTICATED"}}`:          {401, "a"},
		`{"errors":[{"message":"a","extensions":{"code":"FORBIDDEN"}}]}`:   {403, "a"},
		`[{"message":"a","extensions":{"code":7}}]`:                        {400, "a"},
		`{"errors":[{"errorType":"UnauthorizedException","message":"a"}]}`: {401, "a"},
		`"a\nb"`: {400, "a b"}, `{}`: {400, "without a message"}, `[]`: {400, "without a message"}, ``: {400, "without a message"}, `null`: {400, "without a message"},
		`{"message":"` + strings.Repeat("x", 200) + `"}`: {400, strings.Repeat("x", maxServerText) + "…"},
	} {
		status, why := gqlError([]byte(payload))
		if status != want.status || !strings.Contains(why, want.why) || len(why) > maxServerText+10 {
			t.Errorf("%s: %d %q", payload, status, why)
		}
	}
}

func TestGraphQLSendBound(t *testing.T) {
	for _, legacy := range []bool{false, true} {
		s := gqlSession(legacy, "", "subscription { a }")
		s.Open("")
		receive(t, s, Frame{Data: []byte(`{"type":"connection_ack"}`)})
		for i := range maxGraphQLSent {
			if _, err := s.Send(translate.Message{Data: []byte("{ a }")}); err != nil {
				t.Fatalf("%d: %v", i, err)
			}
		}
		if _, err := s.Send(translate.Message{Data: []byte("{ a }")}); err == nil || !strings.Contains(err.Error(), "64") {
			t.Errorf("more than the bound: %v", err)
		}
		receive(t, s, Frame{Data: []byte(`{"type":"complete","id":"s7"}`)})
		if _, err := s.Send(translate.Message{Data: []byte("{ a }")}); err != nil {
			t.Errorf("after one completed: %v", err)
		}
	}
}

func TestGraphQLBadValues(t *testing.T) {
	var refused *translate.Refused
	if _, err := gqlSession(false, "[]", "{a}").Open(""); !errors.As(err, &refused) || refused.Status != 400 {
		t.Errorf("CONNECT: %v", err)
	}
	s := gqlSession(false, "", "{a}", "nothing")
	s.Open("")
	if _, err := receive(t, s, Frame{Data: []byte(`{"type":"connection_ack"}`)}); !errors.As(err, &refused) || refused.Status != 400 || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("SUBSCRIBE: %v", err)
	}
}

// An operation of a client's own goes out as it is, and its errors are what the client reads.
func TestGraphQLOperation(t *testing.T) {
	const operation = `{"query":"subscription { a(b: \"\"\"c\"\"\") } # \""}`
	for name, c := range map[string]struct {
		legacy bool
		frames []string
		want   string
	}{
		"error":              {false, []string{`{"type":"error","id":"1","payload":[{"message":"no"}]}`}, `{"errors":[{"message":"no"}]}`},
		"after results":      {false, []string{`{"type":"next","id":"1","payload":{"data":1}}`, `{"type":"error","id":"1","payload":[{"message":"no"}]}`}, `{"data":1} {"errors":[{"message":"no"}]}`},
		"result of errors":   {false, []string{`{"type":"next","id":"1","payload":{"errors":[{"message":"no"}]}}`, `{"type":"complete","id":"1"}`}, `{"errors":[{"message":"no"}]}`},
		"complete":           {false, []string{`{"type":"complete","id":"1"}`}, ``},
		"one error":          {true, []string{`{"type":"error","id":"1","payload":{"message":"no"}}`}, `{"errors":[{"message":"no"}]}`},
		"error of nothing":   {true, []string{`{"type":"error","id":"1"}`}, `{"errors":[null]}`},
		"before it is ready": {false, []string{`{"type":"pong"}`, `{"type":"error","id":"1","payload":[{"message":"no"}]}`}, `{"errors":[{"message":"no"}]}`},
	} {
		s := gqlSession(c.legacy, "", operation)
		s.Operation = true
		s.Open("")
		got := receive1(t, s, `{"type":"connection_ack"}`)
		if sent := string(got.Replies[0].Data); !strings.Contains(sent, `"payload":`+operation) {
			t.Errorf("%s: sent %s", name, sent)
		}
		var results []string
		var err error
		for _, text := range c.frames {
			got, err = s.Receive(t.Context(), noon, Frame{Data: []byte(text)})
			for _, m := range got.Messages {
				if m.Last != (err != nil && len(m.Data) == 0) {
					t.Errorf("%s: %+v", name, m)
				} else if !m.Last {
					results = append(results, string(m.Data))
				}
			}
		}
		if !errors.Is(err, translate.ErrFinished) || strings.Join(results, " ") != c.want {
			t.Errorf("%s: %q, %v", name, results, err)
		}
	}
}

func receive1(t *testing.T, s *graphql, text string) Received {
	t.Helper()
	got, err := s.Receive(t.Context(), noon, Frame{Data: []byte(text)})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func FuzzGraphQL(f *testing.F) {
	ack := "\x00{\"type\":\"connection_ack\"}"
	f.Add(pieces(ack, "\x00{\"type\":\"pong\"}", "\x00{\"type\":\"pong\"}", "\x00{\"id\":\"1\",\"type\":\"next\",\"payload\":{\"data\":{\"a\":1}}}",
		"\x00{\"type\":\"ping\",\"payload\":{\"n\":1}}", "\x04{ a }", "\x00{\"id\":\"s1\",\"type\":\"error\",\"payload\":[{\"message\":\"a\"}]}", "\x00{\"id\":\"1\",\"type\":\"complete\"}"), false)
	f.Add(pieces("\x00{\"type\":\"connection_ack\",\"payload\":{\"connectionTimeoutMs\":3e5}}", "\x00{\"type\":\"ka\"}", "\x04{\"query\":\"{a}\",\"operationName\":\"b\"}",
		"\x00{\"id\":\"s1\",\"type\":\"data\",\"payload\":{\"errors\":[]}}", "\x00{\"type\":\"connection_error\",\"payload\":{\"message\":\"x\"}}", "\x06no"), true)
	f.Fuzz(func(t *testing.T, script []byte, legacy bool) {
		s := gqlSession(legacy, `{"a":1}`, "subscription { a }", `{"query":"subscription B { b }","operationName":"B"}`)
		s.Options.Dial = func() (Dial, error) { return Dial{}, nil }
		drive(t, s, script, func() {
			if len(s.running) > maxGraphQLSent+2 || s.left < 0 || s.left > 2 || s.pongs < 0 || s.silence < 0 || s.silence > gqlMaxSilence {
				t.Fatal("it grows")
			}
		})
	})
}
