package upstream

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"sidestream/translate"
)

var keys = map[string]string{"okx": "key of a feed", "tail": "a\"b\nc"}

// filledWith is what setting comes to for a client, of whose stream value tells.
func filledWith(t *testing.T, s SourceSettings, c client, setting string, value func(string) string) (string, error) {
	t.Helper()
	s.Secrets = translate.NewSecrets(keys)
	if s.From == "" {
		s.From = "ws://h/"
	}
	q, err := c.expand(compiled(t, s))
	if err != nil {
		t.Fatal(err)
	}
	text := q.text(setting)
	if text.Empty() {
		t.Fatalf("there is no %s", setting)
	}
	if value == nil {
		value = func(string) string { return "" }
	}
	if setting == "FROM" {
		return fillAddress(text, value)
	}
	return text.Fill(value)
}

func TestPrograms(t *testing.T) {
	state := func(name string) string {
		return map[string]string{translate.StateName: `{"seq":9007199254740993,"name":"a\"b"}`, translate.AnswerName: `{"auth":"x"}`}[name]
	}
	c := client{query: "room=a%22b&n=7", cookie: "sid=abc", header: http.Header{"X-Lang": {"de"}}}
	for name, row := range map[string]struct {
		s             SourceSettings
		setting, want string
	}{
		"signature": {SourceSettings{Hello: `> {"sig":"{= "1700000000GET/users/self/verify"|hmac_sha256($secret.okx; "base64")}"}`}, "HELLO",
			`{"sig":"uXX3l8RD5cqoxvsg3q511swhhGEPjET8xPwuhBa7Br0="}`},
		"in a JSON string":       {SourceSettings{Hello: `> {"a":"{= $query.room}"}`}, "HELLO", `{"a":"a\"b"}`},
		"in a string's JSON":     {SourceSettings{Hello: `> {"a":"{\"b\":\"{= $query.room}\"}"}`}, "HELLO", `{"a":"{\"b\":\"a\\\"b\"}"}`},
		"a number in JSON":       {SourceSettings{Hello: `> {"a":{= $query.n|tonumber+1}}`}, "HELLO", `{"a":8}`},
		"braces nest":            {SourceSettings{Hello: `> {"a":"{= {a:{b:"}"}}|.a.b}"}`}, "HELLO", `{"a":"}"}`},
		"two, and text":          {SourceSettings{Hello: `> {= 1}-{= 2}`}, "HELLO", `1-2`},
		"the state's digits":     {SourceSettings{Hello: `> {"a":{= $state.seq}}`, State: ".x"}, "HELLO", `{"a":9007199254740993}`},
		"without $":              {SourceSettings{Hello: `> {= state.name}`, State: ".x"}, "HELLO", `a"b`},
		"nothing is null":        {SourceSettings{Hello: `> {= $query.none // "all"}`}, "HELLO", `all`},
		"a name with a dash":     {SourceSettings{Hello: `> {= $header["X-Lang"]}`}, "HELLO", `de`},
		"in a header":            {SourceSettings{Headers: `X-A: {= $cookie.sid|sha1}`}, "HEADERS", "a9993e364706816aba3e25717850c26c9cd0d89d"},
		"in a path":              {SourceSettings{From: `ws://h/{= "a/b?c"}`}, "FROM", "ws://h/a%2Fb%3Fc"},
		"in a query":             {SourceSettings{From: `ws://h/?s={= "a&b=c" }`}, "FROM", "ws://h/?s=a%26b%3Dc"},
		"a secret":               {SourceSettings{Headers: `X-A: {secret.OKX}`}, "HEADERS", "key of a feed"},
		"a secret in JSON":       {SourceSettings{Hello: `> {"k":"{secret.tail}"}`}, "HELLO", `{"k":"a\"b\nc"}`},
		"of a program's own":     {SourceSettings{Hello: `> {= {a:1} as {a:$query} | $query}`}, "HELLO", "1"},
		"a poll's body":          {SourceSettings{From: "http://h/", Body: `a={= "x&y"}`}, "BODY", "a=x%26y"},
		"blanks in an address":   {SourceSettings{Ticket: `GET http://h/?s={= "a" + "b" }`, Dial: ".url"}, "TICKET", "http://h/?s=ab"},
		"and without its method": {SourceSettings{Ticket: `http://h/?s={= "a" + "b" }`, Dial: ".url"}, "TICKET", "http://h/?s=ab"},
	} {
		got, err := filledWith(t, row.s, c, row.setting, state)
		if err != nil || got != row.want {
			t.Errorf("%s: %s %v", name, got, err)
		}
	}
}

// What a program makes of a stream's state cannot leave its field either.
func TestProgramsCannotEscape(t *testing.T) {
	for name, row := range map[string]struct {
		s       SourceSettings
		setting string
		state   string
	}{
		"a header":           {SourceSettings{Headers: "X-A: {= $state.a}", State: ".x"}, "HEADERS", `{"a":"x\r\nX-B: y"}`},
		"JSON":               {SourceSettings{Hello: `> {"a":{= $state.a}}`, State: ".x"}, "HELLO", `{"a":"1,\"b\":2"}`},
		"a list":             {SourceSettings{Hello: `> {"a":{= $state.a}}`, State: ".x"}, "HELLO", `{"a":[1]}`},
		"a path":             {SourceSettings{From: "ws://h/{= $state.a}/x", State: ".x"}, "FROM", `{"a":".."}`},
		"a path of two":      {SourceSettings{From: "ws://h/a/.{= $state.a}", State: ".x"}, "FROM", `{"a":"."}`},
		"a path of state":    {SourceSettings{From: "ws://h/a/{state.a:x}{= $state.a}", State: ".x"}, "FROM", `{"a":"."}`},
		"nothing":            {SourceSettings{Hello: `> {= $state.none}`, State: ".x"}, "HELLO", `{}`},
		"empty":              {SourceSettings{Hello: `> {= empty}`}, "HELLO", `{}`},
		"an error":           {SourceSettings{Hello: `> {= error("confidential")}`}, "HELLO", `{}`},
		"much":               {SourceSettings{Hello: `> {= "x"*70000}`}, "HELLO", `{}`},
		"no end":             {SourceSettings{Hello: `> {= [limit(1e12; repeat(1))]|length}`}, "HELLO", `{}`},
		"a control in lines": {SourceSettings{Protocol: "stomp", Connect: "login:{= $state.a}", Subscribe: "/topic/a", State: ".x"}, "CONNECT", `{"a":"x\nadmin:true"}`},
	} {
		got, err := filledWith(t, row.s, client{}, row.setting, func(name string) string {
			if name == translate.StateName {
				return row.state
			}
			return strings.Trim(row.state[len(`{"a":`):len(row.state)-1], `"`)
		})
		if err == nil || strings.Contains(err.Error(), "confidential") {
			t.Errorf("%s: %q %v", name, got, err)
		}
	}
}

// TestProgramsPart checks that clients who differ in what a program uses have streams of their own, and others share one.
func TestProgramsPart(t *testing.T) {
	s := SourceSettings{From: "ws://h/", Hello: `> {"s":"{= [$query.a, $query.b]|join("-")|sha256}"}`, Secrets: translate.NewSecrets(keys)}
	rt := compiled(t, s)
	seen := map[[32]byte]string{}
	for _, query := range []string{"", "a=1", "b=1", "a=1&b=1", "a=1b", "a=11", "a=1&b=11"} {
		q, err := client{query: query}.expand(rt)
		if err != nil {
			t.Fatal(err)
		}
		if other, same := seen[q.Key]; same {
			t.Errorf("%q and %q share a stream", query, other)
		}
		seen[q.Key] = query
	}
	one, _ := client{query: "a=1&c=2"}.expand(rt)
	two, _ := client{query: "c=3&a=1"}.expand(rt)
	if one.Key != two.Key {
		t.Error("what no program uses parts clients")
	}
	if !slices.Equal(rt.Needs(), []string{"{query.a}", "{query.b}"}) || rt.Shared() {
		t.Errorf("needs %v", rt.Needs())
	}
	if missing := rt.Missing(newGet("/"), func(string) string { return "" }, nil); len(missing) > 0 {
		t.Errorf("programs may do without a value, but %v are missing", missing)
	}
	s.MaxValue = 4
	var bad *BadRequest
	if _, err := (client{query: "a=12345"}).expand(compiled(t, s)); !errors.As(err, &bad) || !strings.Contains(err.Error(), "{query.a} is longer than 4 bytes") {
		t.Error(err)
	}
}

func TestProgramProblems(t *testing.T) {
	for name, row := range map[string]struct {
		s    SourceSettings
		want string
	}{
		"empty":            {SourceSettings{Hello: "> {=  }"}, "HELLO: {=} has no program"},
		"open":             {SourceSettings{Hello: `> {= "a"`}, "HELLO: {= is never closed"},
		"no jq":            {SourceSettings{Hello: "> {= .a[ }"}, "HELLO: {= holds no jq program"},
		"a password in it": {SourceSettings{Hello: `> {= 1 "hunter22" }`}, "unexpected text in quotes"},
		"a whole query":    {SourceSettings{Hello: "> {= $query|tojson}"}, "uses $query as a whole; write the name"},
		"all secrets":      {SourceSettings{Hello: "> {= $secret|tojson}"}, "uses $secret as a whole"},
		"no such secret":   {SourceSettings{Hello: "> {= $secret.bybit}"}, "set SSE_SECRET_BYBIT"},
		"nor here":         {SourceSettings{Headers: "X: {secret.BYBIT}"}, "HEADERS: {secret.bybit}: there is no secret called bybit"},
		"nor in jq":        {SourceSettings{Reply: `select(.a)|$secret.bybit`}, "REPLY: names $secret.bybit, but"},
		"a default":        {SourceSettings{Headers: "X: {secret.OKX:none}"}, "has a default"},
		"a claim":          {SourceSettings{Hello: "> {= $auth.sub}"}, "{auth.sub} is not in AUTH_CLAIMS"},
		"no wildcard":      {SourceSettings{Hello: "> {= $path.id}"}, "$path.id, which is not a wildcard of PATH"},
		"in a host":        {SourceSettings{From: `ws://{= "h"}/`}, "is not allowed here"},
		"kept":             {SourceSettings{State: "{a:$secret.okx}"}, "STATE: names a secret, and what it yields is kept"},
		"a store's key":    {SourceSettings{Key: ".a+$secret.okx"}, "KEY: names a secret"},
	} {
		s := row.s
		s.Secrets = translate.NewSecrets(keys)
		if s.From == "" {
			s.From = "ws://h/"
		}
		_, err := Compile(s)
		if err == nil || !strings.Contains(err.Error(), row.want) || strings.Contains(err.Error(), "hunter22") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A secret that changes counts from the next use on, parts nobody, and is not shown by errors.
func TestSecretsChange(t *testing.T) {
	s := SourceSettings{From: "ws://h/", Headers: "X-Key: {secret.OKX}", Secrets: translate.NewSecrets(keys)}
	rt := compiled(t, s)
	before := expanded(t, rt, "/")
	next := translate.NewSecrets(map[string]string{"okx": "another key"})
	next.Succeed(s.Secrets)
	after := expanded(t, rt, "/")
	_, h, err := before.fill(func(string) string { return "" }, false)
	if err != nil || h.Get("X-Key") != "another key" || before.Key != after.Key {
		t.Errorf("%v %v", h, err)
	}
	next.Set(map[string]string{"okx": "third-secret-key"})
	if shown := before.Shown(errors.New("wrong key third-secret-key!")); strings.Contains(shown.Error(), "third") {
		t.Error(shown)
	}
	if rt.settings.Secrets == next || !rt.Becomes(compiled(t, SourceSettings{From: "ws://h/", Headers: "X-Key: {secret.OKX}", Secrets: next})) {
		t.Error("a route whose secret has changed is another one")
	}
}

// TestHelloAsks signs in to a private channel in the middle of the opening, as Pusher has it.
func TestHelloAsks(t *testing.T) {
	f := &feed{}
	var asked []string
	f.refuse = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Upgrade") != "" {
			return false
		}
		body := make([]byte, 200)
		n, _ := r.Body.Read(body)
		asked = append(asked, r.Method+" "+r.Host+r.URL.String()+" "+r.Header.Get("Content-Type")+" "+r.Header.Get("X-Key")+" "+r.Header.Get("X-Own")+" "+r.Header.Get("Origin")+" "+string(body[:n]))
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"auth":"app:signed","n":9007199254740993}`))
		return true
	}
	f.talk = func(p *peer) {
		p.say(`{"event":"established","id":"12.34"}`)
		f.note(p.hear())
		f.note(p.hear())
		p.say(`{"early":1}`, `{"event":"subscribed"}`, `{"news":1}`)
		f.listen(p)
	}
	s := SourceSettings{
		From: "ws://legacy/app", Headers: "X-Key: k", State: "select(.id)|{id}", Select: "select(.news, .early)",
		Hello: `< .event=="established"
@ http://legacy/auth socket_id={state.id:0}&channel={query.room:a b}
= {subscribe: .auth, n}
@ X-Own: {= $answer.auth}
@ PUT http://elsewhere/x?a={= $answer.auth} {"n":{= $answer.n}}
> {= $answer.auth}
< .event=="subscribed"`,
	}
	subscribed(t, s, f, func(t *testing.T, k *taking) {
		time.Sleep(time.Second)
		f.expect(t, `0s {"n":9007199254740993,"subscribe":"app:signed"}`, "0s app:signed")
		k.expect(`0s {"early":1}`, `0s {"news":1}`)
	})
	want := []string{
		"POST legacy/auth application/x-www-form-urlencoded k  http://legacy socket_id=12.34&channel=a+b",
		`PUT elsewhere/x?a=app%3Asigned application/json  app:signed  {"n":9007199254740993}`,
	}
	if !slices.Equal(asked, want) {
		t.Errorf("asked\n\t%s\nwant\n\t%s", strings.Join(asked, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// TestHelloAsksNothing: a {= } that yields nothing leaves its request out.
func TestHelloAsksNothing(t *testing.T) {
	f := &feed{talk: func(p *peer) { p.say(`{"id":7}`) }}
	talk := f.talk
	f.talk = func(p *peer) { talk(p); f.listen(p) }
	f.refuse = func(w http.ResponseWriter, r *http.Request) bool { return r.Header.Get("Upgrade") == "" }
	s := SourceSettings{State: "{id}", Hello: "< .id\n@ http://legacy/ {\"id\":{= if $state.id==7 then empty else 1 end}}\n= {was:.}"}
	subscribed(t, s, f, func(t *testing.T, k *taking) {
		time.Sleep(time.Second)
		f.expect(t, `0s {"was":null}`)
		f.mu.Lock()
		defer f.mu.Unlock()
		if len(f.requests) != 1 {
			t.Errorf("%d requests", len(f.requests))
		}
	})
}

// TestHelloAsksInVain: what an answer means is what one to the upgrade would.
func TestHelloAsksInVain(t *testing.T) {
	for status, refused := range map[int]int{401: 401, 403: 403, 404: 404, 500: 0, 502: 0, 200: 0, 204: 200} {
		f := &feed{talk: func(p *peer) { p.hear() }}
		f.refuse = func(w http.ResponseWriter, r *http.Request) bool {
			if r.Header.Get("Upgrade") == "" {
				w.WriteHeader(status)
				if status == 200 {
					_, _ = w.Write([]byte("no JSON: confidential"))
				}
				return true
			}
			return false
		}
		subscribed(t, SourceSettings{Hello: "@ http://legacy/auth"}, f, func(t *testing.T, k *taking) {
			time.Sleep(500 * time.Millisecond)
			err := k.end()
			var no *translate.Refused
			switch {
			case refused == 200: // no content is null
				if len(k.lines) > 0 {
					t.Errorf("%d: %v %q", status, err, k.lines)
				}
			case refused > 0:
				if !errors.As(err, &no) || no.Status != refused {
					t.Errorf("%d: %v", status, err)
				}
			case len(k.lines) != 1 || !strings.HasPrefix(k.lines[0], "0s lost: ") || strings.Contains(k.lines[0], "confidential"):
				t.Errorf("%d: %q", status, k.lines)
			}
		})
	}
}

func TestHelloAskProblems(t *testing.T) {
	for hello, want := range map[string]string{
		"@":                            "line 1: an address is missing after @",
		"@ /auth":                      "line 1: begins with neither an address nor a method",
		"@ post http://h/":             "line 1: begins with neither",
		"@ POST":                       "line 1: has no address to request",
		"@ POST ws://h/":               "line 1: has no address to request",
		"@ http://{query.h}/":          "is not allowed here",
		"@ http://h/#a":                "without #",
		"@ http://h/ {\"a\":{query.b":  "",
		"@ X-A: b":                     "line 1: is a header, and no request follows it",
		"@ Connection: b\n@ http://h/": "belongs to the connection",
	} {
		_, err := Compile(SourceSettings{From: "ws://h/", Hello: hello})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v", hello, err)
		}
	}
}

// TestHelloAsksQuietly: what looks on sees where a request went, and no secret in its path.
func TestHelloAsksQuietly(t *testing.T) {
	f := &feed{talk: func(p *peer) { p.say("1"); p.hear() }}
	f.refuse = func(w http.ResponseWriter, r *http.Request) bool { return r.Method == http.MethodPost }
	s := SourceSettings{From: "ws://legacy/", Hello: "@ http://legacy/hook/{secret.okx}/{= $secret.okx}/{query.token} {}", Secrets: translate.NewSecrets(keys)}
	bubble(t, f.ServeHTTP, func(t *testing.T) {
		rt := compiled(t, s)
		var said []string
		rt.Trace(&Trace{Arrived: func([]byte, bool) {}, Decoded: func([]byte, error) {}, Step: func(what string) { said = append(said, what) }, Made: func(int, string) {}})
		q, err := client{query: "token=hush"}.expand(rt)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := q.Source(quietLog).Connect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		text := strings.Join(said, " ")
		if !strings.Contains(text, "POST http://legacy/") || strings.Contains(text, "feed") || strings.Contains(text, "hush") {
			t.Error(text)
		}
		ctx, stop := context.WithCancel(t.Context())
		stop()
		_ = conn.Run(ctx, func([]translate.Message) error { return nil })
	})
}

// TestSecretThatIsGone: nothing is sent with an empty place in it where a secret was.
func TestSecretThatIsGone(t *testing.T) {
	secrets := translate.NewSecrets(map[string]string{"a": "hush", "b": "x"})
	q, err := client{}.expand(compiled(t, SourceSettings{From: "ws://h/", Headers: "Authorization: Bearer {secret.a}", Secrets: secrets}))
	if err != nil {
		t.Fatal(err)
	}
	translate.NewSecrets(map[string]string{"b": "x"}).Succeed(secrets)
	if _, h, err := q.fill(func(string) string { return "" }, false); err == nil || !strings.Contains(err.Error(), "no secret called a") {
		t.Errorf("%v is sent, %v", h, err)
	}
}
