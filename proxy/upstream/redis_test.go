package upstream

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sidestream/proxy/redisconn"
	"sidestream/translate"
)

func TestParseRedisFrom(t *testing.T) {
	for text, want := range map[string]string{
		"redis://h?channel=a":                              "[a] [] []",
		"redis://h/?channel=a&pattern=b*&channel=c":        "[a c] [b*] []",
		"redis://h/1?stream=a%26b&stream=c+d&stream=c%20d": "[] [] [a&b c d]",
		"redis://u:p%3Fq@h:1/1?channel=a=b":                "[a=b] [] []",
		"rediss+sentinel://a,b/main?channel=a":             "[a] [] []",
		"redis+cluster://a:1,b:2?stream={x}1&stream={x}2":  "[] [] [{x}1 {x}2]",
		"redis://h":                    "FROM does not say what to read",
		"redis://h?":                   "FROM does not say what to read",
		"redis://h?channel=":           "FROM has an empty channel",
		"redis://h?channels=secret":    "FROM has something after the ?",
		"redis://h?channel=a&":         "FROM has something after the ?",
		"redis://h?channel=a&stream=b": "FROM names streams beside channels",
		"redis://h?channel=%zz":        "FROM has a % in a name",
		"redis://h/x?channel=a":        "FROM is not the address of a Redis",
		"redis://:secr?et@h?channel=a": "FROM is not the address of a Redis",
		"redis://h?" + strings.Repeat("channel=a&", 63) + "channel=b": "[a b] [] []",
	} {
		at, err := parseRedisFrom(text)
		got := fmt.Sprint(at.channels, at.patterns, at.streams)
		if err != nil {
			got = "FROM " + err.Error()
		}
		if !strings.HasPrefix(got, want) || strings.Contains(got, "secr") {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
	many := "redis://h?"
	for i := range 65 {
		many += fmt.Sprintf("&channel=%d", i)
	}
	if _, err := parseRedisFrom(strings.Replace(many, "?&", "?", 1)); err == nil || !strings.Contains(err.Error(), "at most 64") {
		t.Error(err)
	}
}

func TestRedisPlaceholders(t *testing.T) {
	for from, want := range map[string]string{
		"redis://{query.a}?channel=x":             "only",
		"redis://u:{query.a}@h?channel=x":         "only",
		"redis://h/{query.a}?channel=x":           "only",
		"redis://h?{query.a}=x":                   "only",
		"redis://h?channel=x&{query.a}":           "only",
		"redis://h?channel={query}":               "only",
		"redis://h?room={query.a}":                "only",
		"redis://h?channel={stream.n}":            "the same at each connection",
		`redis://h?channel={= "a?b"}`:             "the same at each connection",
		"redis://h?channel={= .a[ }":              "no jq program",
		"redis://h?channel=%{query.a}":            "write it as %25",
		"redis://h?channel=%4{query.a}":           "write it as %25",
		`redis://h?pattern=a\{query.a}`:           `write \\`,
		`redis://h?pattern={query.b}%5C{query.a}`: `write \\`,
		`redis://h?pattern=a\\{query.a}`:          "",
		`redis://h?channel=a\{query.a}`:           "",
		"redis://h?channel=a%25{query.a}":         "",
		"redis://h?channel={cookie.sid:anonymous}&pattern={query.a}.{header.X-Team}": "",
	} {
		_, err := Compile(SourceSettings{From: from, MaxMessage: 1})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %s", from, err, want)
		}
	}
}

// Whatever a client sends stays in the name that it is a part of, and means itself.
func TestRedisValuesStayInTheirName(t *testing.T) {
	rt := compiled(t, SourceSettings{From: `redis://h?pattern=[^{query.a}]{query.a}.*&channel=c.{query.a}`})
	for _, v := range []string{"plain", "*", "a&channel=all", "a=b", "%2A", `\`, `[^a-z]?\*`, "a+b c", "日本", "\r\nFLUSHALL\r\n", "\x00"} {
		q := expanded(t, rt, "/?a="+url.QueryEscape(v))
		at, err := (&redisSource{q: q, log: quietLog}).from()
		if err != nil || len(at.patterns) != 1 || len(at.channels) != 1 || at.channels[0] != "c."+v {
			t.Errorf("%q: %q, %v", v, at, err)
			continue
		}
		escaped := globMarks.ReplaceAllString(v, `\$0`)
		if at.patterns[0] != "[^"+escaped+"]"+escaped+".*" {
			t.Errorf("%q: %q", v, at.patterns[0])
		}
		if !globs(escaped, v) || globs(escaped, v+"x") || globs(escaped, "x"+v) {
			t.Errorf("%q, as %q, matches something else than itself", v, escaped)
		}
	}
	empty := compiled(t, SourceSettings{From: `redis://h?channel={query.a:}`})
	if _, err := empty.Expand(newGet("/"), nil); !errors.As(err, new(*BadRequest)) {
		t.Errorf("an empty channel: %v", err)
	}
	if _, err := empty.Expand(newGet("/?a="+strings.Repeat("x", maxNamedSize+1)), nil); !errors.As(err, new(*BadRequest)) {
		t.Errorf("a long channel: %v", err)
	}
	if a, b := expanded(t, rt, "/?a=x"), expanded(t, rt, "/?a=y"); a.Key == b.Key {
		t.Error("different names are one stream")
	}
}

// globs is Redis' matching of a pattern without brackets that are not escaped.
func globs(pattern, text string) bool {
	for ; pattern != ""; pattern = pattern[1:] {
		switch {
		case pattern[0] == '*':
			for i := range len(text) + 1 {
				if globs(pattern[1:], text[i:]) {
					return true
				}
			}
			return false
		case text == "":
			return false
		case pattern[0] == '?':
		case pattern[0] == '\\' && len(pattern) > 1 && pattern[1] == text[0]:
			pattern = pattern[1:]
		case pattern[0] == '\\' || pattern[0] != text[0]:
			return false
		}
		text = text[1:]
	}
	return text == ""
}

func TestRedisShown(t *testing.T) {
	for from, want := range map[string]string{
		"redis://user:secret@h:1/2?channel=prices&pattern=p.*":   "redis://h:1/2?channel=prices&pattern=p.*",
		"rediss+sentinel://:secret@a,b/main?stream=orders":       "rediss+sentinel://a,b/main?stream=orders",
		"redis://h?channel={path.id}.{cookie.sid}":               "redis://h?channel=7.{cookie.sid}",
		"redis://h?channel=eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9": "redis://h?channel=…",
	} {
		rt := compiled(t, SourceSettings{From: from, PathNames: []string{"id"}})
		r := newGet("/")
		r.Header.Set("Cookie", "sid=secret")
		q, err := rt.Expand(r, func(string) string { return "7" })
		if err != nil || q.String() != want {
			t.Errorf("%s: %s, %v; want %s", from, q.String(), err, want)
		}
	}
	if got := redact("redis://:secret@h/1?channel=secret", true); strings.Contains(got, "secret") {
		t.Error(got)
	}
}

func TestRedisVerdicts(t *testing.T) {
	for text, want := range map[string]int{
		"WRONGPASS invalid username-password pair or user is disabled.": 401,
		"NOAUTH Authentication required.":                               401,
		"ERR invalid password":                                          401,
		"ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?": 401,
		"ERR Client sent AUTH, but no password is set":                      401,
		"NOPERM this user has no permissions to access one of the channels": 403,
		"DENIED Redis is running in protected mode because ...":             403,
		"WRONGTYPE Operation against a key holding the wrong kind of value": 404,
		"CROSSSLOT Keys in request don't hash to the same slot":             404,
		"ERR DB index is out of range":                                      404,
		"ERR SELECT is not allowed in cluster mode":                         404,
		"ERR unknown command `XREAD`, with args beginning with: ":           404,
		"MOVED 1 h:1": 404,
		"LOADING Redis is loading the dataset in memory":                       0,
		"READONLY You can't write against a read only replica.":                0,
		"CLUSTERDOWN The cluster is down":                                      0,
		"MASTERDOWN Link with MASTER is down and replica-serve-stale-data ...": 0,
		"UNBLOCKED client unblocked via CLIENT UNBLOCK":                        0,
		"ERR max number of clients reached":                                    0,
		"ERR secret":                                                           0,
	} {
		withRedis(t, func(t *testing.T, r *fakeRedis) {
			r.answers(func(_ *fakePeer, words []string) (string, bool) {
				return "-" + text + "\r\n", words[0] == "SUBSCRIBE"
			})
			_, err := expanded(t, compiled(t, SourceSettings{From: "redis://h?channel=a"}), "/").Source(quietLog).Connect(t.Context())
			var refused *translate.Refused
			status := 0
			if errors.As(err, &refused) {
				status = refused.Status
			}
			if err == nil || status != want || strings.Contains(err.Error(), "secret") || !errors.As(err, new(Passing)) && want != 0 {
				t.Errorf("%s: %v, want %d", text, err, want)
			}
		})
	}
	moved := redisVerdict(movedError(t), true)
	if final(moved) {
		t.Errorf("in a cluster: %v", moved)
	}
}

func movedError(t *testing.T) (err error) {
	withRedis(t, func(t *testing.T, r *fakeRedis) {
		r.answers(func(_ *fakePeer, words []string) (string, bool) { return "-MOVED 1 h:1\r\n", words[0] == "PING" })
		a, _ := redisconn.Parse("redis://h")
		c, openErr := a.Open(t.Context(), redisconn.Dialer{Dial: redisDial})
		if openErr != nil {
			t.Fatal(openErr)
		}
		_, err = c.Ask(1, "PING")
		c.Close()
	})
	return err
}

func TestPubSub(t *testing.T) {
	withRedis(t, func(t *testing.T, r *fakeRedis) {
		k := start(t, SourceSettings{From: "redis://u:p@h/2?channel=a&channel=b&pattern=c.*", Idle: 60 * time.Second, MaxMessage: 10, Event: "$topic", Data: "."})
		synctest.Wait()
		r.publish("a", `"one"`)
		r.push(array("pmessage", "c.*", "c.x", `{"n":1}`))
		r.push(array("unsubscribe", "b", "c", "d", "e"))
		r.publish("b", "01234567890")
		r.publish("b", "\xff\xfe")
		r.cut()
		time.Sleep(time.Second)
		synctest.Wait()
		r.publish("b", "2")
		k.expect(`0s a:one`, `0s c.x:{"n":1}`, "0s gap upstream", "0s b://4=",
			"0s lost: the Redis closed the connection", "1s b:2")
		if n := k.route.Stats.Received.Load(); n != 5 || k.route.Stats.Oversize.Load() != 1 || k.route.Stats.Connects.Load() != 2 {
			t.Errorf("%d received, %d oversize, %d connects", n, k.route.Stats.Oversize.Load(), k.route.Stats.Connects.Load())
		}
		k.end()
		if got := r.commands("")[:3]; !slices.Equal(got, []string{"AUTH u p", "CLIENT SETNAME sidestream", "SELECT 2"}) {
			t.Errorf("%q", got)
		}
	})
}

// What is packed is unpacked; what does not decode is dropped and counted, and what is too large then is a gap.
func TestPubSubDecodes(t *testing.T) {
	withRedis(t, func(t *testing.T, r *fakeRedis) {
		k := start(t, SourceSettings{From: "redis://h?channel=a", Idle: time.Minute, Decode: "msgpack", MaxMessage: 24})
		synctest.Wait()
		r.publish("a", "\x81\xa1n\xcf\x00\x20\x00\x00\x00\x00\x00\x01") // {"n":9007199254740993}
		r.publish("a", "\x81")
		r.publish("a", "\xda\x00\x0c\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01") // control characters, six bytes each in JSON
		r.publish("a", "")
		r.publish("a", "\x07")
		k.expect(`0s {"n":9007199254740993}`, "0s gap upstream", "0s ", "0s 7")
		if s := k.route.Stats; s.Undecoded.Load() != 1 || s.Oversize.Load() != 1 {
			t.Errorf("%d undecoded, %d oversize", s.Undecoded.Load(), s.Oversize.Load())
		}
		k.end()
	})
	_, err := Compile(SourceSettings{From: "redis://h?stream=a", Decode: "gzip"})
	if err == nil || !strings.Contains(err.Error(), "DECODE: is for whole messages, and an entry of a Redis stream has fields") {
		t.Error(err)
	}
}

// What is published while nobody listens is a gap, each time.
func TestPubSubLoses(t *testing.T) {
	withRedis(t, func(t *testing.T, r *fakeRedis) {
		w := watch(t, SourceSettings{From: "redis://h?channel=a", Idle: time.Minute}, nil)
		var want []string
		for i := range 3 {
			synctest.Wait()
			r.publish("a", fmt.Sprint(i))
			r.cut()
			time.Sleep(5 * time.Second)
			want = append(want, fmt.Sprint(i), "gap")
		}
		if w.end(); !slices.Equal(*w.seen, want) {
			t.Errorf("%q, want %q", *w.seen, want)
		}
	})
}

// It is connected once every subscription is confirmed, and what came before that is not lost.
func TestPubSubIsReadyWhenConfirmed(t *testing.T) {
	withRedis(t, func(t *testing.T, r *fakeRedis) {
		r.answers(func(c *fakePeer, words []string) (string, bool) {
			if words[0] != "SUBSCRIBE" {
				return "", false
			}
			return "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n" + array("message", "a", "early"), true
		})
		s := expanded(t, compiled(t, SourceSettings{From: "redis://h?channel=a&channel=b"}), "/").Source(quietLog)
		begun := time.Now()
		_, err := s.Connect(t.Context())
		if err == nil || time.Since(begun) != dialTime || !strings.Contains(err.Error(), "no answer within") {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
		r.answers(func(c *fakePeer, words []string) (string, bool) {
			if words[0] != "SUBSCRIBE" {
				return "", false
			}
			return "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n" + array("message", "a", "early") + "*3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n", true
		})
		k := start(t, SourceSettings{From: "redis://h?channel=a&channel=b"})
		k.expect("0s early")
		k.end()
	})
}

// Half of IDLE without anything sends a PING, and all of it without anything ends the connection.
func TestRedisLiveness(t *testing.T) {
	withRedis(t, func(t *testing.T, r *fakeRedis) {
		k := start(t, SourceSettings{From: "redis://h?channel=a", Idle: 20 * time.Second})
		time.Sleep(65 * time.Second)
		synctest.Wait()
		if n := len(r.commands("PING")); n != 6 {
			t.Errorf("%d PINGs in 65 s, want one each 10 s", n)
		}
		k.expect()
		r.answers(func(_ *fakePeer, words []string) (string, bool) { // a user that may not is alive too
			return "-NOPERM this user has no permissions to run the 'ping' command\r\n", words[0] == "PING"
		})
		time.Sleep(time.Minute)
		k.expect()
		r.answers(nil)
		r.mu.Lock()
		r.mute = true
		r.mu.Unlock()
		time.Sleep(20 * time.Second)
		k.expect("2m20s lost: nothing was received within IDLE (20s)")
		k.end()
	})
	withRedis(t, func(t *testing.T, r *fakeRedis) {
		r.answers(func(_ *fakePeer, words []string) (string, bool) {
			return "", words[0] == "XREAD" && words[3] == "BLOCK"
		})
		k := start(t, SourceSettings{From: "redis://h?stream=a", Idle: 20 * time.Second})
		time.Sleep(20 * time.Second)
		k.expect("0s ", "20s lost: nothing was received within IDLE")
		k.end()
	})
}

// A peer that answers what no Redis would is left.
func TestHostileRedis(t *testing.T) {
	entry := func(id string) string { return fmt.Sprintf("*2\r\n$%d\r\n%s\r\n*0\r\n", len(id), id) }
	for _, text := range []string{
		"*1\r\n*2\r\n$1\r\nb\r\n*1\r\n" + entry("9-9"), "*1\r\n*2\r\n$1\r\na\r\n*1\r\n" + entry("x"), "*1\r\n*3\r\n$1\r\na\r\n", "+OK\r\n",
		"*1\r\n*2\r\n$1\r\na\r\n*2\r\n" + entry("9-9") + entry("9-9"), "*1\r\n*2\r\n$1\r\na\r\n*1\r\n*2\r\n$3\r\n9-9\r\n*1\r\n$4611686018427387904\r\n",
	} {
		withRedis(t, func(t *testing.T, r *fakeRedis) {
			r.answers(func(_ *fakePeer, words []string) (string, bool) {
				return text, words[0] == "XREAD" && words[3] == "BLOCK"
			})
			c, err := expanded(t, compiled(t, SourceSettings{From: "redis://h?stream=a"}), "/").Source(quietLog).Connect(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			err = c.Run(t.Context(), func([]translate.Message) error { return nil })
			if !errors.Is(err, redisconn.ErrProtocol) {
				t.Errorf("%q: %v", text, err)
			}
		})
	}
	// Fields without end are not kept.
	withRedis(t, func(t *testing.T, r *fakeRedis) {
		r.answers(func(_ *fakePeer, words []string) (string, bool) {
			return "*1\r\n*2\r\n$1\r\na\r\n*1\r\n*2\r\n$3\r\n9-9\r\n*200000\r\n" + strings.Repeat("$0\r\n\r\n", 200000), words[0] == "XREAD" && words[3] == "BLOCK" && words[len(words)-1] == "0-0"
		})
		k := start(t, SourceSettings{From: "redis://h?stream=a", MaxMessage: 1000})
		k.expect("0s ", "0s gap upstream")
		k.end()
	})
}

func TestRedisHasNoUplink(t *testing.T) {
	for _, c := range []Conn{new(redisPubSubConn), new(redisStreamsConn)} {
		if err := c.Send(t.Context(), translate.Message{}); !errors.Is(err, ErrNoUplink) {
			t.Error(err)
		}
	}
}
