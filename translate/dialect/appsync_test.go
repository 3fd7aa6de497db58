package dialect

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"sidestream/translate"
)

func appSyncSession(from, connect string, lines ...string) *appSync {
	s, _ := newAppSync(Options{Dial: func() (Dial, error) { return Dial{URL: from}, nil }, Connect: fixed(connect), Subscribe: fixedLines(lines...), MaxMessage: fuzzMax,
		Now: func() time.Time { return noon }}).(*appSync)
	return s
}

func (s *appSync) hears(t *testing.T, text string) Received {
	t.Helper()
	got, err := s.Receive(t.Context(), noon, Frame{Data: []byte(text)})
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return got
}

func TestAppSyncCheck(t *testing.T) {
	for connect, want := range map[string]string{
		`{"apiKey":"k"}`: "", `{"token":"t","host":"api.example:8443"}`: "", ` {"accessKeyId":"a","secretAccessKey":"b","sessionToken":"c","region":"eu-central-1"} `: "", `{"accessKeyId":"a","secretAccessKey":"b"}`: "",
		"": "is not set", "k": "not a JSON object", "[]": "not a JSON object", "null": "not one way", `{"key":"k"}`: "not a JSON object", `{"apiKey":1}`: "not a JSON object", `{"apiKey":"k"}{}`: "not a JSON object",
		"{}": "not one way", `{"apiKey":"k","token":"t"}`: "not one way", `{"token":"t","secretAccessKey":"b"}`: "not one way", `{"accessKeyId":"a"}`: "half of a key", `{"apiKey":"k","region":"eu-central-1"}`: "go with accessKeyId",
		`{"token":"t","sessionToken":"s"}`: "go with accessKeyId", `{"accessKeyId":"a","secretAccessKey":"b","region":"eu/central"}`: "region that is none", `{"token":"t","host":"https://x"}`: "host that is none", `{"token":"t","host":"a\nb"}`: "host that is none",
	} {
		if err := checkAppSync(connect, []string{"/a"}); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), "CONNECT") || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", connect, err, want)
		}
	}
	const key = `{"apiKey":"k"}`
	for line, want := range map[string]string{
		"/default": "", "/default/news/": "", "/default/*": "", "/a/b/c/d/e": "", "/a-b/0": "", "/a/b/c/d/e/f": "not a channel", "/": "not a channel", "/*": "not a channel", "/a/*/b": "not a channel", "/a b": "not a channel", "/a/-b": "not a channel",
		"/" + strings.Repeat("x", 50): "", "/" + strings.Repeat("x", 51): "not a channel", "subscription { a }": "another kind",
	} {
		err := checkAppSync(key, []string{"/fine", line})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "line 2")) {
			t.Errorf("%s: %v, want %q", line, err, want)
		}
	}
	for line, want := range map[string]string{
		"subscription { a }": "", `{"query":"subscription { a }","variables":{"b":1}}`: "", "default/news": "not an operation", `{"extensions":{"a":1}}`: "has no query", `{"query":null,"extensions":{}}`: "has no query", "/default": "another kind",
	} {
		err := checkAppSync(key, []string{"subscription { fine }", line})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "line 2")) {
			t.Errorf("%s: %v, want %q", line, err, want)
		}
	}
}

func TestAppSyncAddress(t *testing.T) {
	const api, realtime = "abc.appsync-api.us-east-1.amazonaws.com", "abc.appsync-realtime-api.us-east-1.amazonaws.com"
	for _, c := range []struct {
		from   string
		events bool
		want   appSyncAddress
	}{
		{"wss://" + api + "/graphql", false, appSyncAddress{false, "wss://" + realtime + "/graphql", api, "/graphql", "us-east-1"}},
		{"wss://" + realtime + "/graphql", false, appSyncAddress{false, "wss://" + realtime + "/graphql", api, "/graphql", "us-east-1"}},
		{"wss://" + realtime, false, appSyncAddress{false, "wss://" + realtime + "/graphql", api, "/graphql", "us-east-1"}},
		{"wss://" + api + "/event", true, appSyncAddress{true, "wss://" + realtime + "/event/realtime", api, "/event", "us-east-1"}},
		{"wss://" + realtime + "/event/realtime/", true, appSyncAddress{true, "wss://" + realtime + "/event/realtime", api, "/event", "us-east-1"}},
		{"wss://" + api + "/", true, appSyncAddress{true, "wss://" + realtime + "/event/realtime", api, "/event", "us-east-1"}},
		{"wss://x.appsync-api.cn-north-1.amazonaws.com.cn/graphql", false, appSyncAddress{false, "wss://x.appsync-realtime-api.cn-north-1.amazonaws.com.cn/graphql", "x.appsync-api.cn-north-1.amazonaws.com.cn", "/graphql", "cn-north-1"}},
		{"wss://" + api + ":443/graphql", false, appSyncAddress{false, "wss://" + realtime + "/graphql", api, "/graphql", "us-east-1"}},
		{"wss://ABC.AppSync-API.us-east-1.amazonaws.com/graphql", false, appSyncAddress{false, "wss://" + realtime + "/graphql", api, "/graphql", "us-east-1"}},
		{"wss://api.example:443/graphql", false, appSyncAddress{false, "wss://api.example:443/graphql/realtime", "api.example", "/graphql", ""}},
		{"wss://api.example/graphql", false, appSyncAddress{false, "wss://api.example/graphql/realtime", "api.example", "/graphql", ""}},
		{"ws://api.example:8080/graphql/realtime?a=1", false, appSyncAddress{false, "ws://api.example:8080/graphql/realtime?a=1", "api.example:8080", "/graphql", ""}},
		{"wss://api.example/event", true, appSyncAddress{true, "wss://api.example/event/realtime", "api.example", "/event", ""}},
		{"wss://api.example/team%2Fa/event", true, appSyncAddress{true, "wss://api.example/team%2Fa/event/realtime", "api.example", "/team%2Fa/event", ""}},
		{"wss://abc.appsync-api.us-east-1.amazonaws.com.example/graphql", false, appSyncAddress{false, "wss://abc.appsync-api.us-east-1.amazonaws.com.example/graphql/realtime", "abc.appsync-api.us-east-1.amazonaws.com.example", "/graphql", ""}},
	} {
		if got, err := appSyncAt(c.from, c.events); err != nil || got != c.want {
			t.Errorf("%s: %+v, %v\nwant %+v", c.from, got, err, c.want)
		}
	}
	for from, c := range map[string]struct{ connect, line, says string }{
		"wss://" + api + "/event":          {`{"apiKey":"k"}`, "subscription { a }", "FROM: is the address of AppSync Events"},
		"wss://" + api + "/graphql":        {`{"apiKey":"k"}`, "/default", "FROM: is not the address of AppSync Events"},
		"wss://api.example/event":          {`{"accessKeyId":"a","secretAccessKey":"b"}`, "/default", "CONNECT: names no region"},
		"wss://api.example/event/realtime": {"", "/default", "CONNECT: is not set"},
	} {
		var refused *translate.Refused
		if _, err := appSyncSession(from, c.connect, c.line).Dial(nil); !errors.As(err, &refused) || refused.Status != 400 || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", from, err)
		}
	}
}

// What the connection is authorized with names the API, whatever is dialled.
func TestAppSyncHost(t *testing.T) {
	s := appSyncSession("wss://gateway.example/graphql", `{"accessKeyId":"a","secretAccessKey":"b","host":"abc.appsync-api.eu-west-1.amazonaws.com"}`, "subscription { a }")
	s.Options.Dial = func() (Dial, error) {
		return Dial{URL: "wss://gateway.example/graphql", Subprotocols: []string{"graphql-ws", "x"}}, nil
	}
	d, err := s.Dial(nil)
	if err != nil || len(d.Subprotocols) != 3 || d.Subprotocols[1] != "x" {
		t.Fatalf("%+v, %v", d, err)
	}
	text, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(d.Subprotocols[2], "header-"))
	var header map[string]string
	if err != nil || json.Unmarshal(text, &header) != nil || header["host"] != "abc.appsync-api.eu-west-1.amazonaws.com" || !strings.Contains(header["Authorization"], "/eu-west-1/appsync/") {
		t.Errorf("%s, %v", text, err)
	}
	s.Now = nil
	if _, err := s.Dial(nil); err != nil {
		t.Error(err)
	}
}

// The vectors of AWS's test suite of signature version 4, whose paths are not escaped.
func TestSigV4(t *testing.T) {
	key := sigV4{"AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "us-east-1", "service"}
	now := time.Date(2015, 8, 30, 12, 36, 0, 0, time.UTC)
	const session = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA=="
	for name, c := range map[string]struct {
		method, path, body, want string
		header                   map[string]string
	}{
		"get-vanilla":    {"GET", "/", "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31", nil},
		"post-vanilla":   {"POST", "/", "", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b", nil},
		"get-unreserved": {"GET", "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", "", "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f", nil},
		"get-utf8":       {"GET", "/ሴ", "", "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85", nil},
		"get-space":      {"GET", "/example space/", "", "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741", nil},
		"post-x-www-form-urlencoded": {"POST", "/", "Param1=value1", "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
			map[string]string{"content-type": "application/x-www-form-urlencoded"}},
		"post-sts-header-before": {"POST", "/", "", "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead", map[string]string{"x-amz-security-token": session}},
		"get-header-value-trim":  {"GET", "/", "", "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736", map[string]string{"my-header1": " value1", "my-header2": ` "a   b   c"`}},
	} {
		header := map[string]string{"host": "example.amazonaws.com"}
		for name, value := range c.header {
			header[name] = value
		}
		key.sign(header, c.method, c.path, []byte(c.body), now)
		if got := header["Authorization"]; !strings.HasSuffix(got, "Signature="+c.want) || header["x-amz-date"] != "20150830T123600Z" || !strings.HasPrefix(got, "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=") {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func TestAppSyncStringified(t *testing.T) {
	for text, want := range map[string]string{"": `""`, "a\u2028\u2029": "\"a\u2028\u2029\"", "\u2028\"\\u2028\n<&>": "\"\u2028\\\"\\\\u2028\\n<&>\"", "\b\f\x00\x7f": `"\b\f\u0000` + "\x7f\""} {
		if got := string(stringified(text)); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

// What the server complains of is said, and what it could not deliver is a gap.
func TestAppSyncComplaints(t *testing.T) {
	s := appSyncSession("wss://h/event", `{"apiKey":"da2-secret"}`, "/default/a")
	_, _ = s.Dial(nil)
	_, _ = s.Open("")
	s.hears(t, `{"type":"connection_ack"}`)
	s.hears(t, `{"type":"subscribe_success","id":"1"}`)
	for text, want := range map[string]string{
		`{"type":"broadcast_error","id":"1","errors":[{"errorType":"MessageProcessingError","message":"of da2-secret"}]}`: "an event could not be delivered: MessageProcessingError: of …",
		`{"type":"broadcast_error","id":"2","errors":[{"errorType":"MessageProcessingError"}]}`:                           "",
		`{"type":"publish_error","id":"s1","errors":[{"errorType":"Unauthorized"}]}`:                                      "publish: Unauthorized",
		`{"type":"error","errors":[{"errorType":"UnsupportedOperation","message":"no"}]}`:                                 "UnsupportedOperation: no",
		`{"type":"ka"}`: "", `{"type":"whatever","id":"1"}`: "", `{}`: "", `null`: "",
	} {
		got := s.hears(t, text)
		if strings.Join(got.Complaints, ", ") != want || (len(got.Messages) == 1 && got.Messages[0].Gap == translate.GapUpstream) != strings.HasPrefix(want, "an event") {
			t.Errorf("%s: %+v", text, got)
		}
	}
}

// What a server says of itself is bounded.
func TestAppSyncSilence(t *testing.T) {
	for text, want := range map[string]time.Duration{
		`{"payload":{"connectionTimeoutMs":300000}}`: 5 * time.Minute, `{"connectionTimeoutMs":2000}`: 2 * time.Second, `{}`: appSyncSilence, `{"payload":[]}`: appSyncSilence, `{"connectionTimeoutMs":"1"}`: appSyncSilence,
		`{"connectionTimeoutMs":1e300}`: appSyncMaxSilence, `{"connectionTimeoutMs":0.001}`: appSyncMinSilence, `{"connectionTimeoutMs":-5}`: appSyncSilence,
	} {
		var m appSyncMessage
		if err := json.Unmarshal([]byte(text), &m); err != nil || m.silence() != want {
			t.Errorf("%s: %v, %v", text, m.silence(), err)
		}
	}
}

// An error is known by its type, then by its code.
func TestAppSyncFaults(t *testing.T) {
	for text, want := range map[string]int{
		`{"payload":{"errors":[{"errorType":"UnauthorizedException","errorCode":400}]}}`: 401, `{"errors":[{"errorType":"Unauthorized"}]}`: 401, `{"errors":[{"errorType":"NotAuthorizedException"}]}`: 401, `{"errors":[{"errorCode":401}]}`: 401,
		`{"errors":[{"errorType":"a.b#AccessDeniedException"}]}`: 403, `{"errors":[{"errorType":"BadRequestException","errorCode":500.5}]}`: 400, `{"errors":[{"errorCode":404}]}`: 404, `{"errors":[{"errorCode":429}]}`: 0, `{"errors":[{"errorCode":599}]}`: 0,
		`{"errors":[{"errorType":"LimitExceededError","errorCode":400}]}`: 0, `{"payload":{"errorType":"MaxSubscriptionsReachedException"}}`: 0, `{"errors":[{"errorType":"ThrottlingException","errorCode":400}]}`: 0, `{"errors":[{"errorType":"SubscriptionProcessingError"}]}`: 0,
		`{"errors":[{"errorType":"ExecutionTimeout"}]}`: 0, `{"errors":[{"errorType":"DynamoDB:ProvisionedThroughputExceededException","errorCode":400}]}`: 0, `{"errors":[{"errorType":"TooManyRequestsException","errorCode":400}]}`: 0,
		`{"errors":[{"errorType":"InvalidSignatureException","errorCode":400}]}`: 401, `{"errors":[{"errorType":"UnrecognizedClientException","errorCode":400}]}`: 401, `{"errors":[{"errorType":"ExpiredTokenException"}]}`: 401, `{"errors":[{"errorType":"MissingAuthenticationTokenException"}]}`: 401,
		`{"errors":[{"errorType":"InternalFailure"}]}`: 0, `{"errors":[{"errorType":7,"message":[]}]}`: 418, `{"errors":"x"}`: 418, `{}`: 418, `{"errors":[]}`: 418, `{"payload":{"errors":{"message":"m"}}}`: 418, `{"errors":[{"errorCode":1000}]}`: 418,
	} {
		var m appSyncMessage
		if err := json.Unmarshal([]byte(text), &m); err != nil {
			t.Fatal(err)
		}
		if f := m.fault(); f.status(418) != want || f.text(nil) == "" {
			t.Errorf("%s: %d, want %d; %q", text, f.status(418), want, f.text(nil))
		}
	}
	f := appSyncFault{kind: "Type-secret-key", message: "no secret-key " + strings.Repeat("word ", 100)}
	if got := f.text([]string{"secret-key"}); strings.Contains(got, "secret-key") || len(got) > 3*maxServerText {
		t.Errorf("%q", got)
	}
}

// What is asked for after the settings were checked holds what clients insert.
func TestAppSyncBadValues(t *testing.T) {
	for line, says := range map[string]string{"/default/a b": "line 2: is not a channel", "subscription { a }": "line 2: is of another kind"} {
		s := appSyncSession("wss://h/event", `{"apiKey":"k"}`, "/default/a", line)
		if _, err := s.Dial(nil); err != nil {
			t.Fatal(err)
		}
		_, _ = s.Open("")
		var refused *translate.Refused
		if _, err := s.Receive(t.Context(), noon, Frame{Data: []byte(`{"type":"connection_ack"}`)}); !errors.As(err, &refused) || refused.Status != 400 || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", line, err)
		}
	}
	s := appSyncSession("wss://h/graphql", `{"apiKey":"k"}`, "subscription { a }")
	if _, err := s.Send(translate.Message{Data: []byte("/a 1")}); err == nil {
		t.Error("something is sent before there is a connection")
	}
	_, _ = s.Dial(nil)
	_, _ = s.Open("")
	s.hears(t, `{"type":"connection_ack"}`)
	if got := s.hears(t, `{"type":"connection_ack"}`); len(got.Replies) != 0 {
		t.Error("subscriptions go out twice")
	}
	if got := s.hears(t, `{"type":"data","id":1,"payload":{"data":{}}}`); !got.Ready || len(got.Messages) != 1 {
		t.Errorf("an event confirms what it is of: %+v", got)
	}
	if got := s.hears(t, `{"type":"start_ack","id":"1"}`); got.Ready {
		t.Error("ready twice")
	}
	if _, err := s.Receive(t.Context(), noon, Frame{Binary: true, Data: []byte("{}")}); err == nil {
		t.Error("a binary frame is taken")
	}
}

func FuzzAppSync(f *testing.F) {
	f.Add(pieces("\x07", "\x00{\"type\":\"connection_ack\",\"payload\":{\"connectionTimeoutMs\":3e5}}", "\x00{\"type\":\"ka\"}", "\x00{\"id\":\"1\",\"type\":\"start_ack\"}", "\x00{\"id\":\"2\",\"type\":\"data\",\"payload\":{\"data\":{}}}",
		"\x00{\"id\":\"1\",\"type\":\"error\",\"payload\":{\"errors\":[{\"errorType\":\"a#UnauthorizedException\",\"errorCode\":401}]}}", "\x04x", "\x00{\"id\":\"2\",\"type\":\"complete\"}"), false)
	f.Add(pieces("\x07", "\x00{\"type\":\"connection_ack\",\"connectionTimeoutMs\":1}", "\x00{\"id\":\"1\",\"type\":\"subscribe_success\"}", "\x00{\"id\":1,\"type\":\"data\",\"event\":[\"1\",{\"a\":2}]}", "\x00{\"id\":\"1\",\"type\":\"broadcast_error\",\"errors\":[{}]}",
		"\x04/a/b {\"c\":1}", "\x00{\"id\":\"s1\",\"type\":\"publish_error\",\"errors\":[]}", "\x06bye", "\x00{\"type\":\"connection_error\",\"errors\":[{\"message\":\"x\"}]}"), true)
	f.Fuzz(func(t *testing.T, script []byte, events bool) {
		s := appSyncSession("wss://h", `{"accessKeyId":"a","secretAccessKey":"b","region":"r"}`, "subscription { a }", `{"query":"subscription B { b }","operationName":"B"}`)
		if events {
			s = appSyncSession("wss://h", `{"token":"t"}`, "/default/a", "/default/*")
		}
		drive(t, s, script, func() {
			if len(s.running) > 2 || s.waiting < 0 || s.waiting > 2 || s.silence < 0 || s.silence > appSyncMaxSilence {
				t.Fatalf("it grows: %d running, %d waiting, %v", len(s.running), s.waiting, s.silence)
			}
		})
	})
}

// More events in one message than are read are a gap.
func TestAppSyncManyEvents(t *testing.T) {
	s := &appSync{at: appSyncAddress{events: true}, running: map[string]*appSyncRunning{"1": {topic: "/a"}}}
	for n, gap := range map[int]bool{maxAppSyncEvents: false, 2 * maxAppSyncEvents: true} {
		got, err := s.Receive(t.Context(), noon, Frame{Data: []byte(`{"type":"data","id":"1","event":[1` + strings.Repeat(",1", n-1) + `]}`)})
		last := got.Messages[len(got.Messages)-1]
		if err != nil || (last.Gap != "") != gap || len(got.Messages) > maxAppSyncEvents+1 {
			t.Errorf("%d: %d messages, %q, %v", n, len(got.Messages), last.Gap, err)
		}
	}
}
