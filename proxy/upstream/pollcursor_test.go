package upstream

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sidestream/translate"
)

// told writes each request that came as f has it.
func (a *api) told(f func(r *http.Request) string) (all []string) {
	synctest.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range a.requests {
		all = append(all, f(r))
	}
	return all
}

// asked are the request targets that a was asked for.
func (a *api) asked() []string { return a.told(func(r *http.Request) string { return r.RequestURI }) }

func targets(t *testing.T, a *api, want ...string) {
	t.Helper()
	if got := a.asked(); !slices.Equal(got, want) {
		t.Errorf("asked for\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// A long poll that brought something is followed by the next at once, from where its events end.
func TestLongPoll(t *testing.T) {
	a := &api{answer: func(n int, w http.ResponseWriter, r *http.Request) {
		switch n {
		case 1:
			io.WriteString(w, `{"ok":true,"result":[{"update_id":7,"x":"a"},{"update_id":8,"x":"b"}]}`)
		case 2:
			time.Sleep(50 * time.Second) // longer than polls that are no long polls may take
			io.WriteString(w, `{"ok":true,"result":[]}`)
		case 3:
			time.Sleep(20 * time.Second)
			io.WriteString(w, `{"ok":true,"result":[{"update_id":9,"x":"b"}]}`)
		default:
			<-r.Context().Done()
		}
	}}
	s := SourceSettings{From: "http://legacy/getUpdates?timeout=50&offset={stream.cursor:0}", Timeout: time.Minute,
		Select: ".result[]", Data: ".x", ID: ".update_id", Cursor: `.result | last.update_id | select(.) + 1`}
	polled(t, s, a, func(k *taking) {
		time.Sleep(100 * time.Second)
		k.expect("0s a#7 b#8", "1m10s b#9")
		targets(t, a, "/getUpdates?timeout=50&offset=0", "/getUpdates?timeout=50&offset=9", "/getUpdates?timeout=50&offset=9", "/getUpdates?timeout=50&offset=10")
	})
}

// The wait is for more, not for all: a long poll may send its header at once, and white space to stay alive.
func TestLongPollTimeoutIsInactivity(t *testing.T) {
	trickle := func(w http.ResponseWriter, beats int) {
		for range beats {
			time.Sleep(8 * time.Second)
			io.WriteString(w, "\n")
			http.NewResponseController(w).Flush()
		}
	}
	a := &api{answer: func(n int, w http.ResponseWriter, r *http.Request) {
		trickle(w, 5)
		if n == 2 {
			<-r.Context().Done()
		}
		fmt.Fprintf(w, `{"last_seq":%d}`, n)
	}}
	s := SourceSettings{From: "http://legacy/_changes?since={stream.cursor}", Timeout: 10 * time.Second, Cursor: ".last_seq"}
	polled(t, s, a, func(k *taking) {
		time.Sleep(95 * time.Second)
		k.expect("40s {\"last_seq\":1}", "1m30s lost: no answer within TIMEOUT (10s)")
	})
	s.Every = time.Second // no long poll: TIMEOUT is for all of it
	a = &api{answer: a.answer}
	polled(t, s, a, func(k *taking) {
		time.Sleep(15 * time.Second)
		if got := k.texts(); len(got) == 0 || got[0] != "lost: no answer within TIMEOUT (10s)" {
			t.Errorf("%q", got)
		}
	})
}

// A cursor that goes nowhere, and an upstream that has always something new, are asked at a bounded rate.
func TestNoHotLoop(t *testing.T) {
	for name, test := range map[string]struct {
		cursor string
		most   int
	}{
		"a cursor that stays": {`.x//"x"`, 130},
		"always something":    {".n", 330},
	} {
		a := &api{answer: func(n int, w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, `{"n":%d}`, n) }}
		polled(t, SourceSettings{From: "http://legacy/?{stream.cursor}", Cursor: test.cursor}, a, func(k *taking) {
			time.Sleep(time.Minute)
			if n := len(a.at()); n > test.most || n < test.most*2/3 {
				t.Errorf("%s: asked %d times in a minute", name, n)
			}
		})
	}
}

// A cursor is kept once its events are in the ring, and not when they are not.
func TestCursorIsKeptBehindItsEvents(t *testing.T) {
	a := &api{answer: func(n int, w http.ResponseWriter, _ *http.Request) {
		if n == 2 {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		fmt.Fprintf(w, `{"n":%d}`, n)
	}}
	s := SourceSettings{From: "http://legacy/?after={stream.cursor}", Cursor: ".n", Every: 10 * time.Second}
	bubble(t, a.ServeHTTP, func(t *testing.T) {
		source := expanded(t, compiled(t, s), "/").Source(quietLog)
		full := errors.New("no room")
		for i, refuse := range []bool{true, false, false} {
			conn, err := source.Connect(t.Context())
			if err != nil {
				if i != 1 {
					t.Fatal(err)
				}
				continue // the 502
			}
			if err := conn.Run(t.Context(), func([]translate.Message) error {
				if refuse {
					return full
				}
				return errors.New("taken, and the connection lost")
			}); err == nil {
				t.Fatal("no error")
			}
		}
		targets(t, a, "/?after=", "/?after=", "/?after=")
	})
}

func TestCursorReset(t *testing.T) {
	a := &api{answer: func(n int, w http.ResponseWriter, r *http.Request) {
		switch n {
		case 1: // the snapshot
			w.Header().Set("X-Etcd-Index", "6")
			io.WriteString(w, `{"action":"get","node":{"nodes":[]}}`)
		case 2:
			io.WriteString(w, `{"action":"set","node":{"key":"/a","modifiedIndex":7}}`)
		case 3:
			w.WriteHeader(http.StatusBadRequest)
			io.WriteString(w, `{"errorCode":401,"message":"The event in requested index is outdated and cleared","index":1105}`)
		case 4:
			w.Header().Set("X-Etcd-Index", "1105")
			io.WriteString(w, `{"action":"get","node":{"nodes":[1]}}`)
		default:
			<-r.Context().Done()
		}
	}}
	s := SourceSettings{From: "http://legacy/v2/keys/feed?wait=true&waitIndex={stream.cursor}", First: "http://legacy/v2/keys/feed",
		Cursor: `(if .action == "get" then $headers["x-etcd-index"] | tonumber else .node.modifiedIndex end) + 1`,
		Reset:  ".errorCode? == 401", Data: ".action"}
	polled(t, s, a, func(k *taking) {
		time.Sleep(10 * time.Second)
		k.expect("0s get", "0s set", "0s gap upstream", "500ms get")
		targets(t, a, "/v2/keys/feed", "/v2/keys/feed?wait=true&waitIndex=7", "/v2/keys/feed?wait=true&waitIndex=8", "/v2/keys/feed",
			"/v2/keys/feed?wait=true&waitIndex=1106")
	})
	// Without a cursor there is nothing to forget, and 400 is what it always is.
	a = &api{answer: func(n int, w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		io.WriteString(w, `{"errorCode":401}`)
	}}
	polled(t, s, a, func(k *taking) {
		var refused *translate.Refused
		if err := k.wait(); !errors.As(err, &refused) || refused.Status != 400 {
			t.Errorf("%v", err)
		}
	})
}

func TestGoneIsAReset(t *testing.T) {
	a := &api{answer: func(n int, w http.ResponseWriter, r *http.Request) {
		if n == 2 {
			w.WriteHeader(http.StatusGone)
			return
		}
		fmt.Fprintf(w, `{"n":%d}`, n)
	}}
	polled(t, SourceSettings{From: "http://legacy/?{stream.cursor}", Cursor: ".n", Every: 10 * time.Second}, a, func(k *taking) {
		time.Sleep(25 * time.Second)
		if got := k.texts(); !slices.Equal(got, []string{`{"n":1}`, "gap upstream", `{"n":3}`}) {
			t.Errorf("%q", got)
		}
		targets(t, a, "/?", "/?1", "/?")
	})
}

// An index that goes backwards says that the upstream has started over (Consul).
func TestCursorGoesBackwards(t *testing.T) {
	indexes := []string{"100", "101", "7", "9", "9"}
	a := &api{answer: func(n int, w http.ResponseWriter, r *http.Request) {
		if n > len(indexes) {
			<-r.Context().Done()
			return
		}
		w.Header().Set("X-Consul-Index", indexes[n-1])
		fmt.Fprintf(w, `["%s"]`, []string{"a", "b", "c", "c", "d"}[n-1])
	}}
	s := SourceSettings{From: "http://legacy/v1/kv?wait=5m&index={stream.cursor:0}", Cursor: `headers["x-consul-index"]`, Mode: ModeChanges}
	polled(t, s, a, func(k *taking) {
		time.Sleep(10 * time.Second)
		if got := k.texts(); !slices.Equal(got, []string{`["a"]`, `["b"]`, `gap upstream ["c"]`, `["d"]`}) {
			t.Errorf("%q", got)
		}
		u := "/v1/kv?wait=5m&index="
		targets(t, a, u+"0", u+"100", u+"101", u+"0", u+"9", u+"9")
	})
}

// What a program fails for would come again for ever: it is left out, and that is said.
func TestPoisonBehindACursor(t *testing.T) {
	a := &api{answer: func(n int, w http.ResponseWriter, r *http.Request) {
		x := `1`
		if n == 2 {
			x = `"poison"`
		}
		fmt.Fprintf(w, `{"n":%d,"x":%s}`, n, x)
	}}
	polled(t, SourceSettings{From: "http://legacy/?{stream.cursor}", Cursor: ".n", Data: ".x + 1", Every: 10 * time.Second}, a, func(k *taking) {
		time.Sleep(25 * time.Second)
		if got := k.texts(); !slices.Equal(got, []string{"2", "gap upstream", "2"}) {
			t.Errorf("%q", got)
		}
		targets(t, a, "/?", "/?1", "/?2")
	})
}

// A hostile cursor stays in its field, and a large one is none.
func TestCursorIsEscapedAndBounded(t *testing.T) {
	a := &api{answer: func(n int, w http.ResponseWriter, r *http.Request) {
		switch n {
		case 1:
			io.WriteString(w, `{"c":"a&b=c#d/../{query.x}\r\n"}`)
		case 2:
			io.WriteString(w, `{"c":["5","g1"]}`)
		default:
			fmt.Fprintf(w, `{"c":"%s"}`, strings.Repeat("x", maxCursor+1))
		}
	}}
	polled(t, SourceSettings{From: "http://legacy/?c={stream.cursor}", Cursor: ".c", Every: 10 * time.Second, Data: `"x"`}, a, func(k *taking) {
		time.Sleep(25 * time.Second)
		targets(t, a, "/?c=", "/?c=a%26b%3Dc%23d%2F..%2F%7Bquery.x%7D%0D%0A", "/?c=%5B%225%22%2C%22g1%22%5D")
		if got := k.texts(); len(got) != 3 || !strings.Contains(got[2], "CURSOR yields more than") {
			t.Errorf("%q", got)
		}
	})
}

// An inclusive cursor brings its last element again, and between pages lies nothing.
func TestItemsBehindACursor(t *testing.T) {
	a := &api{answer: bodies(`[{"id":1,"at":1}]`, `[{"id":1,"at":1},{"id":2,"at":2}]`, `[{"id":9,"at":9}]`)}
	s := SourceSettings{From: "http://legacy/?since={stream.cursor:0}", Mode: ModeItems, Cursor: "last.at", ID: ".id", Data: ".id", Every: 10 * time.Second}
	polled(t, s, a, func(k *taking) {
		time.Sleep(35 * time.Second)
		if got := k.texts(); !slices.Equal(got, []string{"1#1", "2#2", "9#9"}) {
			t.Errorf("%q", got)
		}
	})
}

// Validators are of one address, and are not sent to another.
func TestCursorAndValidators(t *testing.T) {
	a := &api{answer: func(n int, w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", fmt.Sprint(n))
		if r.Header.Get("If-None-Match") != "" {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		fmt.Fprintf(w, `{"n":%d}`, min(n, 2))
	}}
	polled(t, SourceSettings{From: "http://legacy/?{stream.cursor}", Cursor: ".n", Mode: ModeChanges, Every: 10 * time.Second}, a, func(k *taking) {
		time.Sleep(36 * time.Second)
		sent := a.told(func(r *http.Request) string { return r.RequestURI + " " + r.Header.Get("If-None-Match") })
		if !slices.Equal(sent, []string{"/? ", "/?1 ", "/?2 ", "/?2 3"}) {
			t.Errorf("%q", sent)
		}
	})
}

func TestPages(t *testing.T) {
	link := func(n int, w http.ResponseWriter, _ *http.Request) {
		if n%3 != 0 {
			w.Header().Set("Link", fmt.Sprintf(`<http://legacy/list?page=1>; rel="first", </list?q=a,b&page=%d>; title="x, y"; rel="prev next"`, n%3+1))
		}
		fmt.Fprintf(w, `[%d]`, n)
	}
	for name, test := range map[string]struct {
		s      SourceSettings
		answer func(int, http.ResponseWriter, *http.Request)
		texts  string
		asked  string
	}{
		"without PAGES":     {SourceSettings{Select: ".[]"}, link, "1", "/list"},
		"Link":              {SourceSettings{Select: ".[]", Pages: 5}, link, "1 2 3", "/list /list?q=a,b&page=2 /list?q=a,b&page=3"},
		"Link, two at most": {SourceSettings{Select: ".[]", Pages: 2}, link, "1 2", "/list /list?q=a,b&page=2"},
		"an object":         {SourceSettings{From: "http://legacy/list?a=1&limit=2", Select: ".items[]", Next: ".next|select(.)|{cursor:.,limit:null}"}, bodies(`{"items":[1],"next":"x&y"}`, `{"items":[2],"next":null}`), "1 2", "/list?a=1&limit=2 /list?a=1&cursor=x%26y"},
		"an address":        {SourceSettings{Select: ".items[]", Next: ".next"}, bodies(`{"items":[1],"next":"?page=2"}`, `{"items":[2],"next":"/other"}`, `{"items":[3]}`), "1 2 3", "/list /list?page=2 /other"},
		"the new cursor":    {SourceSettings{From: "http://legacy/list?after={stream.cursor:0}", Cursor: ".after", Select: ".items[]", Next: ".end | not"}, bodies(`{"items":[1],"after":"a","end":false}`, `{"items":[2],"after":"b","end":true}`), "1 2", "/list?after=0 /list?after=a"},
		"elsewhere":         {SourceSettings{Select: ".items[]", Next: ".next"}, bodies(`{"items":[1],"next":"http://evil/?x"}`), "1", "/list"},
		"over TLS":          {SourceSettings{Select: ".items[]", Next: ".next"}, bodies(`{"items":[1],"next":"https://legacy:8443/list?x"}`, `{"items":[2]}`), "1 2", "/list /list?x"},
		"the same again":    {SourceSettings{Select: ".items[]", Next: ".next"}, bodies(`{"items":[1],"next":"/list"}`), "1", "/list"},
		"without end":       {SourceSettings{Select: ".items[]", Next: `"?n=\(.n)"`, Pages: 3}, func(n int, w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, `{"items":[%d],"n":%d}`, n, n) }, "1 2 3", "/list /list?n=1 /list?n=2"},
		"the second is down": {SourceSettings{Select: ".[]", Pages: 5}, func(n int, w http.ResponseWriter, r *http.Request) {
			if n == 2 {
				w.WriteHeader(http.StatusBadGateway)
				return
			}
			link(n, w, r)
		}, "lost: answered 502", "/list /list?q=a,b&page=2"},
		"DONE ends it": {SourceSettings{Select: ".[]", Pages: 5, Done: ". == 2"}, link, "1 2", "/list /list?q=a,b&page=2"},
	} {
		a := &api{answer: test.answer}
		if test.s.From == "" {
			test.s.From = "http://legacy/list"
		}
		test.s.Every = 10 * time.Second
		polled(t, test.s, a, func(k *taking) {
			time.Sleep(5 * time.Second)
			if got := strings.Join(k.texts(), " "); got != test.texts {
				t.Errorf("%s: %q, want %q", name, got, test.texts)
			}
			if got := strings.Join(a.asked(), " "); got != test.asked {
				t.Errorf("%s: asked for %s, want %s", name, got, test.asked)
			}
		})
	}
}

func TestNextLink(t *testing.T) {
	for header, want := range map[string]string{
		"":                                 "",
		"</a>; rel=next":                   "/a",
		`</a>;rel="next"`:                  "/a",
		`</a>; REL=NEXT`:                   "/a",
		`</a>; rel="prev", </b>; rel=next`: "/b",
		`</a>; title="rel=next"; rel=prev`: "",
		`</a>; title="</x>; rel=next, ",`:  "",
		`</a,b;c>; rel="last next"`:        "/a,b;c",
		"<":                                "", "></a>; rel=next": "", "</a": "", ",,,": "", `<x>; rel="next`: "x",
	} {
		if got := nextLink([]string{header}); got != want {
			t.Errorf("%s: %q, want %q", header, got, want)
		}
	}
}

// What the upstream asks can only lengthen our own interval, and not for ever.
func TestPollInterval(t *testing.T) {
	for name, test := range map[string]struct {
		interval string
		answer   func(w http.ResponseWriter)
		want     time.Duration // of the second poll, at least, and less than a second later
	}{
		"X-Poll-Interval": {"", func(w http.ResponseWriter) { w.Header().Set("X-Poll-Interval", "60") }, time.Minute},
		"shorter":         {"", func(w http.ResponseWriter) { w.Header().Set("X-Poll-Interval", "1") }, 10 * time.Second},
		"Retry-After":     {"", func(w http.ResponseWriter) { w.Header().Set("Retry-After", "30"); w.WriteHeader(202) }, 30 * time.Second},
		"304":             {"", func(w http.ResponseWriter) { w.Header().Set("X-Poll-Interval", "60"); w.WriteHeader(304) }, time.Minute},
		"a field":         {".backoff", nil, 42500 * time.Millisecond},
		"no number":       {".text", nil, 10 * time.Second},
		"negative":        {"-5", nil, 10 * time.Second},
		"nothing":         {"empty", nil, 10 * time.Second},
		"for ever":        {"1e300", nil, time.Hour},
		"of an error":     {".backoff", func(w http.ResponseWriter) { w.WriteHeader(429) }, 42500 * time.Millisecond},
	} {
		a := &api{answer: func(n int, w http.ResponseWriter, _ *http.Request) {
			if test.answer != nil {
				test.answer(w)
			}
			io.WriteString(w, `{"backoff":42.5,"text":"x"}`)
		}}
		polled(t, SourceSettings{Every: 10 * time.Second, Interval: test.interval}, a, func(k *taking) {
			time.Sleep(2 * time.Hour)
			if at := a.at(); len(at) < 2 || at[1] < test.want || at[1] > test.want+time.Second {
				t.Errorf("%s: %v, want %v", name, at[:min(3, len(at))], test.want)
			}
		})
	}
}

func TestPatchMode(t *testing.T) {
	a := &api{answer: bodies(`{"list":[{"id":1,"x":1},{"id":2,"x":2},{"id":3,"x":"a long text that is no part of any patch"}]}`,
		`{"list":[{"id":1,"x":1},{"id":2,"x":2},{"id":3,"x":"a long text that is no part of any patch"}]}`,
		`{"list":[{"id":3,"x":"a long text that is no part of any patch"},{"id":1,"x":5},{"id":2,"x":2}]}`, `[`, `{}`)}
	polled(t, SourceSettings{Every: 10 * time.Second, Mode: ModePatch, Data: ".list", Key: ".id"}, a, func(k *taking) {
		time.Sleep(55 * time.Second)
		got := k.texts()
		want := []string{`snapshot:[{"id":1,"x":1},{"id":2,"x":2},{"id":3,"x":"a long text that is no part of any patch"}]`,
			`patch:[{"op":"move","from":"/2","path":"/0"},{"op":"replace","path":"/1/x","value":5}]`,
			"lost: payload is not JSON", "snapshot:null"}
		if !slices.Equal(got, want) {
			t.Errorf("%q", got)
		}
	})
	a = &api{answer: bodies(`[1,2]`)}
	polled(t, SourceSettings{Every: 10 * time.Second, Mode: ModePatch, Select: ".[]"}, a, func(k *taking) {
		if got := k.texts(); len(got) != 1 || got[0] != "lost: MODE=patch needs one document from each answer, but SELECT and DATA made 2" {
			t.Errorf("%q", got)
		}
	})
}

// An upstream that starts over may use its ids again.
func TestItemsStartOver(t *testing.T) {
	a := &api{answer: bodies(`[{"id":4,"at":4},{"id":5,"at":5}]`, `[{"id":1,"at":1}]`, `[{"id":4,"at":4},{"id":5,"at":5}]`)}
	s := SourceSettings{From: "http://legacy/?since={stream.cursor:0}", Mode: ModeItems, Cursor: "last.at", ID: ".id", Data: ".id", Every: 10 * time.Second}
	polled(t, s, a, func(k *taking) {
		time.Sleep(25 * time.Second)
		if got := k.texts(); !slices.Equal(got, []string{"4#4 5#5", "gap upstream 1#1", "4#4 5#5"}) {
			t.Errorf("%q", got)
		}
	})
}

// What a program fails for takes no other page with it.
func TestPoisonOnALaterPage(t *testing.T) {
	a := &api{answer: bodies(`{"x":1,"n":1}`, `{"x":"poison","n":2}`, `{"x":3,"n":3}`)}
	s := SourceSettings{From: "http://legacy/?{stream.cursor}", Cursor: ".n", Next: ".n == 1", Data: ".x + 1", Every: 10 * time.Second}
	polled(t, s, a, func(k *taking) {
		time.Sleep(15 * time.Second)
		if got := k.texts(); !slices.Equal(got, []string{"2 gap upstream", "4"}) {
			t.Errorf("%q", got)
		}
	})
}

// The validators of an answer that was not understood are not kept: 304 would hide it.
func TestPatchOfAnAnswerThatFailed(t *testing.T) {
	a := &api{answer: func(n int, w http.ResponseWriter, r *http.Request) {
		tag := fmt.Sprintf(`"%d"`, min(n, 2))
		if r.Header.Get("If-None-Match") == tag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Header().Set("ETag", tag)
		fmt.Fprintf(w, `{"n":%d,"twice":%v}`, min(n, 2), n == 2)
	}}
	s := SourceSettings{Mode: ModePatch, Select: "if .twice then (.,.) else . end", Data: ".n", Every: 10 * time.Second}
	polled(t, s, a, func(k *taking) {
		time.Sleep(25 * time.Second)
		if got := k.texts(); len(got) != 3 || got[0] != "snapshot:1" || got[2] != "snapshot:2" {
			t.Errorf("%q", got)
		}
	})
}
