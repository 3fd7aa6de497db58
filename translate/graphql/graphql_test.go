package graphql

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"strings"
	"testing"
)

func canonicalOf(t *testing.T, body string, allowed *Documents) (string, *Problem) {
	t.Helper()
	r, problem := FromBody([]byte(body))
	if problem != nil {
		return "", problem
	}
	return r.Subscription(allowed)
}

func TestCanonical(t *testing.T) {
	const want = `{"query":"subscription A($r: T) { tick(room: $r) { n } }","operationName":"A","variables":{"r":{"a":12345678901234567890,"b":"<é>"}},"extensions":{"x":[1.50]}}`
	for _, body := range []string{
		want,
		" {\n\"variables\" : {\"r\": {\"b\":\"\\u003cé>\", \"a\":12345678901234567890}}, \"operationName\":\"A\",\"extensions\":{\"x\":[1.50]},\"other\":1,\"query\":\"subscription A($r: T) { tick(room: $r) { n } }\"}",
	} {
		if got, problem := canonicalOf(t, body, nil); problem != nil || got != want {
			t.Errorf("%s\n%v\nwant %s", got, problem, want)
		}
	}
	query := url.Values{"query": {"subscription{a}"}, "variables": {`{"b":1, "a":2}`}}
	r, problem := FromQuery(query)
	if problem != nil {
		t.Fatal(problem)
	}
	if got, problem := r.Subscription(nil); problem != nil || got != `{"query":"subscription{a}","variables":{"a":2,"b":1}}` {
		t.Errorf("%s, %v", got, problem)
	}
	for _, body := range []string{`{"query":"subscription{a}","variables":null,"extensions":null,"operationName":null}`, `{"query":"subscription{a}","variables":{}}`} {
		if got, problem := canonicalOf(t, body, nil); problem != nil || got != `{"query":"subscription{a}"}` {
			t.Errorf("%s, %v", got, problem)
		}
	}
}

// nested is a subscription whose fields nest so deep.
func nested(depth int) string {
	return "subscription" + strings.Repeat("{a", depth) + strings.Repeat("}", depth)
}

func request(query string) string {
	text, _ := json.Marshal(map[string]string{"query": query})
	return string(text)
}

func TestDocuments(t *testing.T) {
	for query, code := range map[string]string{
		`subscription{a}`: "", `subscription S{a}`: "", "# c }{\nsubscription S { a(b: \"}\", c: \"\"\" { \\\"\"\" \"\"\") }": "",
		`subscription S($a: In = {x: [{y: 1}]}) @live(d: {e: "f"}) { a(b: {c: $a}) @x { ...F ... on T { b } ... @skip(if: true) { c } } } fragment F on T { d }`: "",
		`subscription{a(b:-1.5e3)}`: "", nested(32): "", `subscription query { fragment: on }`: "",
		`subscription { ... on T { a } }`: "", "subscription S {\uFEFF a, b }": "",
		nested(33): "OPERATION_TOO_LARGE",
		`subscription{` + strings.Repeat("a ", 10_000) + `}`:                                            "OPERATION_TOO_LARGE",
		`subscription { ...A } fragment A on T ` + strings.TrimPrefix(nested(33), "subscription"):       "OPERATION_TOO_LARGE",
		`subscription { x { ...A } } fragment A on T { y { ...B } } fragment B on T ` + nested(31)[12:]: "OPERATION_TOO_LARGE",
		`subscription { ...A } fragment A on T { ...B } fragment B on T { ...A }`:                       "GRAPHQL_VALIDATION_FAILED",
		`query{a}`:                      "OPERATION_NOT_ALLOWED",
		`{a}`:                           "OPERATION_NOT_ALLOWED",
		`mutation{a}`:                   "OPERATION_NOT_ALLOWED",
		`fragment F on T { a }`:         "GRAPHQL_VALIDATION_FAILED",
		`subscription A{a} query B{b}`:  "GRAPHQL_VALIDATION_FAILED",
		`type T { a: Int }`:             "GRAPHQL_PARSE_FAILED",
		`subscription`:                  "GRAPHQL_PARSE_FAILED",
		`subscription {`:                "GRAPHQL_PARSE_FAILED",
		`subscription {}`:               "GRAPHQL_PARSE_FAILED",
		`subscription { a { } }`:        "GRAPHQL_PARSE_FAILED",
		`subscription { a } }`:          "GRAPHQL_PARSE_FAILED",
		`subscription { a(b: [1) }`:     "GRAPHQL_PARSE_FAILED",
		`subscription { a(b: "c }`:      "GRAPHQL_PARSE_FAILED",
		"subscription { a(b: \"c\n\")}": "GRAPHQL_PARSE_FAILED",
		`subscription { a(b: """c }`:    "GRAPHQL_PARSE_FAILED",
		`subscription { a) }`:           "GRAPHQL_PARSE_FAILED",
		`subscription { a % }`:          "GRAPHQL_PARSE_FAILED",
		`subscription { a(b: 1x) }`:     "GRAPHQL_PARSE_FAILED",
		`fragment on on T { a }`:        "GRAPHQL_PARSE_FAILED",
		`fragment A on T { a } fragment A on T { b } subscription { a }`: "GRAPHQL_PARSE_FAILED",
		`"""d""" subscription { a }`:                                     "GRAPHQL_PARSE_FAILED",
	} {
		got, problem := canonicalOf(t, request(query), nil)
		switch {
		case code == "" && (problem != nil || got != request(query)):
			t.Errorf("%.80s: %s, %v", query, got, problem)
		case code != "" && (problem == nil || problem.Code != code || problem.Malformed || got != ""):
			t.Errorf("%.80s: %+v, want %s", query, problem, code)
		}
	}
}

func TestOperationName(t *testing.T) {
	const query = `subscription A { a } query B { b }`
	for name, code := range map[string]string{"A": "", "B": "OPERATION_NOT_ALLOWED", "C": "GRAPHQL_VALIDATION_FAILED", "": "GRAPHQL_VALIDATION_FAILED"} {
		text, _ := json.Marshal(map[string]string{"query": query, "operationName": name})
		if _, problem := canonicalOf(t, string(text), nil); code == "" && problem != nil || code != "" && (problem == nil || problem.Code != code) {
			t.Errorf("%s: %+v, want %q", name, problem, code)
		}
	}
}

// What is looked at is what the service runs: which of two operations of the same name that is, nobody knows.
func TestOperationsOfTheSameName(t *testing.T) {
	for _, query := range []string{`subscription A { a } mutation A { b }`, `mutation A { b } subscription A { a }`, `subscription A { a } subscription A { b }`} {
		text, _ := json.Marshal(map[string]string{"query": query, "operationName": "A"})
		if got, problem := canonicalOf(t, string(text), nil); problem == nil || problem.Code != "GRAPHQL_VALIDATION_FAILED" {
			t.Errorf("%s: %s %+v", query, got, problem)
		}
	}
}

func TestMalformed(t *testing.T) {
	deep := strings.Repeat("[", 17) + strings.Repeat("]", 17)
	var many []string
	for i := range 65 {
		many = append(many, `"v`+strings.Repeat("x", i)+`":1`)
	}
	for body, code := range map[string]string{
		``: "BAD_REQUEST", `[]`: "BAD_REQUEST", `{}`: "BAD_REQUEST", `{"query":1}`: "BAD_REQUEST", `{"query":""}`: "BAD_REQUEST", `{"query":" "}`: "BAD_REQUEST",
		`{"query":"subscription{a}"} x`: "BAD_REQUEST", "{\"query\":\"\xff\"}": "BAD_REQUEST", `{"query":"subscription{a}","variables":[]}`: "BAD_REQUEST",
		`{"query":"subscription{a}","variables":"a"}`:                                    "BAD_REQUEST",
		`[{"query":"subscription{a}"}]`:                                                  "BAD_REQUEST",
		`{"query":"` + strings.Repeat("a", MaxRequest) + `"}`:                            "BAD_REQUEST",
		`{"query":"subscription{a}","variables":{"a":` + deep + `}}`:                     "OPERATION_TOO_LARGE",
		`{"query":"subscription{a}","extensions":{"a":` + deep + `}}`:                    "OPERATION_TOO_LARGE",
		`{"query":"subscription{a}","variables":{` + strings.Join(many, ",") + `}}`:      "OPERATION_TOO_LARGE",
		`{"query":"subscription{a}","extensions":{"persistedQuery":{"sha256Hash":"0"}}}`: "BAD_REQUEST",
	} {
		if _, problem := canonicalOf(t, body, nil); problem == nil || problem.Code != code {
			t.Errorf("%.80s: %+v, want %s", body, problem, code)
		}
	}
	if _, problem := FromQuery(url.Values{"query": {strings.Repeat("a", MaxRequest)}, "variables": {"{}"}}); problem == nil || !problem.Malformed {
		t.Errorf("%v", problem)
	}
	for _, more := range []string{"}", "]", "} x", " {}", "null"} {
		r, _ := FromQuery(url.Values{"query": {"subscription{a}"}, "variables": {`{"a":1}` + more}})
		if got, problem := r.Subscription(nil); problem == nil || !problem.Malformed {
			t.Errorf("variables and %s after them: %s %v", more, got, problem)
		}
	}
	if _, problem := FromQuery(url.Values{"query": {"\xff"}}); problem == nil || !problem.Malformed {
		t.Errorf("%v", problem)
	}
}

func TestPersisted(t *testing.T) {
	const text = "subscription Ticks { tick { n } }"
	sum := sha256.Sum256([]byte(text))
	hash := hex.EncodeToString(sum[:])
	for name, file := range map[string]string{
		"relay":  `{"` + hash + `":"` + text + `","other":"query Q { q }"}`,
		"apollo": `{"format":"apollo-persisted-query-manifest","version":1,"operations":[{"id":"` + hash + `","name":"Ticks","type":"subscription","body":"` + text + `"}]}`,
		"bom":    "\uFEFF" + `{"` + strings.ToUpper(hash) + `":"` + text + `"}`,
	} {
		allowed, err := ParseDocuments([]byte(file))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		apq := `"extensions":{"persistedQuery":{"version":1,"sha256Hash":"` + hash + `"}}`
		for body, code := range map[string]string{
			`{` + apq + `}`: "", `{"query":"` + text + `",` + apq + `}`: "", `{"query":"` + text + `"}`: "", `{"documentId":"` + hash + `"}`: "",
			`{"query":"subscription  Ticks{tick,{n}} # c"}`:      "",
			`{"query":"subscription Ticks { tick { n text } }"}`: "PERSISTED_QUERY_NOT_IN_LIST",
			`{"query":"subscription Ticks { tic k { n } }"}`:     "PERSISTED_QUERY_NOT_IN_LIST",
			`{"query":"%"}`:                              "PERSISTED_QUERY_NOT_IN_LIST",
			`{"documentId":"0"}`:                         "PERSISTED_QUERY_NOT_FOUND",
			`{"documentId":"other"}`:                     map[string]string{"relay": "OPERATION_NOT_ALLOWED"}[name],
			`{"query":"subscription { x }",` + apq + `}`: "BAD_REQUEST",
		} {
			if body == `{"documentId":"other"}` && code == "" {
				code = "PERSISTED_QUERY_NOT_FOUND"
			}
			got, problem := canonicalOf(t, body, allowed)
			switch {
			case code == "" && (problem != nil || strings.Contains(got, "persistedQuery") || !strings.Contains(got, "Ticks")):
				t.Errorf("%s %s: %s %v", name, body, got, problem)
			case code != "" && (problem == nil || problem.Code != code):
				t.Errorf("%s %s: %+v, want %s", name, body, problem, code)
			}
		}
	}
	if _, problem := canonicalOf(t, `{"extensions":{"persistedQuery":{"sha256Hash":"`+hash+`"}}}`, nil); problem == nil || problem.Message != "PersistedQueryNotFound" {
		t.Errorf("without a list: %+v", problem)
	}
	for file, says := range map[string]string{
		`[]`: "not a JSON object", `{"a":1}`: "no text", `{}`: "no document with a subscription", `{"a":"query{a}"}`: "no document with a subscription", "\xff": "UTF-8",
		`{"operations":[]}`: "manifest", `{"a":"subscription{"}`: `the document "a"`, `{"format":"apollo-persisted-query-manifest","version":2,"operations":[]}`: "version 1",
	} {
		if _, err := ParseDocuments([]byte(file)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", file, err, says)
		}
	}
}

// Ids are those of the file. Only a hash is the same in upper and lower case.
func TestDocumentIDs(t *testing.T) {
	allowed, err := ParseDocuments([]byte(`{"aB":"subscription One { a }","Ab":"subscription Two { a }","AB12":"subscription Three { a }","":"subscription Four { a }"}`))
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]string{"aB": "One", "Ab": "Two", "AB12": "Three", "ab12": "Three"} {
		if got, problem := canonicalOf(t, `{"documentId":"`+id+`"}`, allowed); !strings.Contains(got, want) {
			t.Errorf("%s: %s %v, want %s", id, got, problem, want)
		}
	}
	for name, id := range map[string]string{"as near to one as to another": "ab", "unknown": "x"} {
		if got, problem := canonicalOf(t, `{"documentId":"`+id+`"}`, allowed); problem == nil || problem.Code != "PERSISTED_QUERY_NOT_FOUND" {
			t.Errorf("%s: %s %v", name, got, problem)
		}
	}
	if allowed.Len() != 4 {
		t.Errorf("%d documents", allowed.Len())
	}
}

func TestFailure(t *testing.T) {
	if got := string((&Problem{Code: "A", Message: `b"<`}).Result()); got != `{"errors":[{"message":"b\"\u003c","extensions":{"code":"A"}}]}` {
		t.Error(got)
	}
}

// What comes out is a subscription in its one form, whatever came in: it comes out of itself unchanged.
func FuzzRequest(f *testing.F) {
	f.Add([]byte(`{"query":"subscription A($r: T = {a: [1]}) @l { tick(room: $r) { n ...F } } fragment F on T { ... on U { x } }","variables":{"b":1,"a":[{}]},"operationName":"A"}`))
	f.Add([]byte(`{"query":"subscription { a(b: \"\"\" \\\"\"\" \"\"\", c: -1.5e3) } # x","extensions":{"persistedQuery":{"sha256Hash":"00"}}}`))
	f.Add([]byte(request(nested(40))))
	f.Fuzz(func(t *testing.T, body []byte) {
		r, problem := FromBody(body)
		if problem != nil {
			return
		}
		one, problem := r.Subscription(nil)
		if problem != nil {
			if !json.Valid(problem.Result()) || problem.Message == "" {
				t.Errorf("%+v", problem)
			}
			return
		}
		again, problem := FromBody([]byte(one))
		if problem != nil && len(one) <= MaxRequest {
			t.Fatalf("%s: %v", one, problem)
		}
		if problem == nil {
			if two, problem := again.Subscription(nil); problem != nil || two != one {
				t.Errorf("%s\n%s\n%v", one, two, problem)
			}
		}
	})
}
