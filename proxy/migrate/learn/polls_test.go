package learn_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"sidestream/proxy/migrate/learn"
)

func asked(all ...[]*learn.Answer) *learn.Observation {
	o := &learn.Observation{}
	for _, a := range all {
		o.Answers = append(o.Answers, a...)
	}
	return o
}

func TestPolls(t *testing.T) {
	long := strings.Repeat("x", 100)
	var rows []string
	for i := range 60 {
		rows = append(rows, fmt.Sprintf(`{"id":%d,"name":"%s","state":"idle"}`, i, long))
	}
	board := func(n int) string {
		return `{"at":"2026-11-29T12:00:0` + fmt.Sprint(n) + `Z","rows":[` + strings.Replace(strings.Join(rows, ","), `"idle"`, fmt.Sprintf(`"busy%d"`, n), 1) + `]}`
	}
	for name, c := range map[string]struct {
		target string
		every  time.Duration
		bodies []string
		want   []string
	}{
		"changes": {"/api/orders", 1990 * time.Millisecond, []string{`{"n":1}`, `{"n":2}`, `{"n":3}`},
			[]string{"PATH=/events/orders", "FROM=http://localhost:3000/api/orders", "EVERY=2s", "MODE=", "SELECT=", "CURSOR="}},
		"restless": {"/api/state", time.Second, []string{`{"serverTime":1795953600,"s":"a"}`, `{"serverTime":1795953601,"s":"a"}`, `{"serverTime":1795953602,"s":"b"}`, `{"serverTime":1795953603,"s":"b"}`},
			[]string{"SELECT=del(.serverTime)", "EVERY=1s", "MODE="}},
		"only a time": {"/api/time", time.Second, []string{`{"time":1}`, `{"time":2}`, `{"time":3}`}, []string{"SELECT="}},
		"items": {"/api/log", 5 * time.Second, []string{`[{"id":1}]`, `[{"id":1},{"id":2}]`, `[{"id":1},{"id":2}]`, `[{"id":1},{"id":2},{"id":3}]`},
			[]string{"MODE=items", "ID=.id", "SELECT=", "EVERY=5s"}},
		"items within, newest first": {"/api/log", 5 * time.Second, []string{`{"total":1,"log":["a"]}`, `{"total":2,"log":["b","a"]}`, `{"total":3,"log":["c","b","a"]}`},
			[]string{"MODE=items", "SELECT=.log[]", "ID="}},
		"a list that changes": {"/api/log", 5 * time.Second, []string{`["a"]`, `["b"]`, `["b","c"]`}, []string{"MODE="}},
		"patch": {"/api/board", 3 * time.Second, []string{board(1), board(2), board(3), board(4)},
			[]string{"MODE=patch", "KEY=.id", "SELECT="}},
		"cursor": {"/api/events?since={}", 2 * time.Second, []string{`{"events":[{"id":"a"}],"next":1}`, `{"events":[],"next":2}`, `{"events":[{"id":"b"}],"next":3}`, `{"events":[],"next":4}`},
			[]string{"CURSOR=.next", "FROM=http://localhost:3000/api/events?since={stream.cursor:0}", "SELECT=.events[]", "MODE=", "FIRST="}},
		"a cursor among others": {"/api/events?after=1{}", 2 * time.Second, []string{`{"a":11,"last":11,"n":7}`, `{"a":99,"last":12,"n":7}`, `{"a":98,"last":13,"n":7}`, `{"a":97,"last":14,"n":7}`},
			[]string{"CURSOR=.last", "SELECT="}},
		"cache buster": {"/api/n?_=179595360{}000", time.Second, []string{`{"n":1}`, `{"n":2}`, `{"n":2}`, `{"n":3}`},
			[]string{"FROM=http://localhost:3000/api/n", "CURSOR="}},
	} {
		t.Run(name, func(t *testing.T) {
			r, _ := conclude(t, asked(polls(t, c.target, "", c.every, c.bodies...)))
			has(t, one(t, r), c.want...)
		})
	}
}

// TestNoPolls checks what is none.
func TestNoPolls(t *testing.T) {
	twice := polls(t, "/api/a", "", time.Second, `{"n":1}`, `{"n":2}`)
	uneven := polls(t, "/api/b", "", time.Second, `{"n":1}`, `{"n":2}`, `{"n":3}`, `{"n":4}`)
	for i, at := range []time.Duration{0, time.Second, 20 * time.Second, 21 * time.Second} {
		uneven[i].At = begin.Add(at)
		uneven[i].End = uneven[i].At.Add(time.Millisecond)
	}
	html := polls(t, "/page", "", time.Second, "<p>", "<p>", "<p>")
	posts := polls(t, "/api/c", "", time.Second, `{"n":1}`, `{"n":2}`, `{"n":3}`)
	for _, a := range posts {
		a.Method = "POST"
	}
	if r, _ := conclude(t, asked(twice, uneven, html, posts)); len(r.Routes) != 0 {
		t.Error(r.Env)
	}
}

// TestLongPoll checks that what is asked again as soon as it was answered has no interval.
func TestLongPoll(t *testing.T) {
	all := polls(t, "/api/updates?offset={}", "", 30*time.Second, `{"result":[{"update_id":0}]}`, `{"result":[{"update_id":1}]}`, `{"result":[{"update_id":2}]}`, `{"result":[]}`)
	for _, a := range all {
		a.End = a.At.Add(30*time.Second - 20*time.Millisecond)
	}
	r, _ := conclude(t, asked(all))
	has(t, one(t, r), "EVERY=0", "CURSOR=.result[-1].update_id|select(.)+1", "SELECT=.result[]", "FROM=http://localhost:3000/api/updates?offset={stream.cursor:0}")
}

// TestPollTemplates checks that polls of several things of one kind are one route, and several lists of one path are told apart by the page.
func TestPollTemplates(t *testing.T) {
	one1 := polls(t, "/api/jobs/17", "", time.Second, `{"p":1}`, `{"p":2}`, `{"p":3}`)
	two := polls(t, "/api/jobs/18", "", time.Second, `{"p":1}`, `{"p":2}`, `{"p":3}`)
	r, _ := conclude(t, asked(one1, two))
	has(t, one(t, r), "FROM=http://localhost:3000/api/jobs/{path.id}", "PATH=/events/jobs/{id}")
	a := polls(t, "/api/list?of=a&size=9", "", time.Second, `{"p":1}`, `{"p":2}`, `{"p":3}`)
	b := polls(t, "/api/list?of=b&size=9", "", time.Second, `{"p":1}`, `{"p":2}`, `{"p":3}`)
	r, _ = conclude(t, asked(a, b))
	has(t, one(t, r), "FROM=http://localhost:3000/api/list?of={query.of}&size=9")
}

// TestCookies checks which cookie is sent on.
func TestCookies(t *testing.T) {
	for cookies, want := range map[string]string{
		"_ga=1; theme=dark; JSESSIONID=x":        "Cookie: JSESSIONID={cookie.JSESSIONID}",
		"_ga=1; lang=en":                         "",
		"csrftoken=aaaa; sessionid=b":            "Cookie: sessionid={cookie.sessionid}",
		"a=x7Gh29aLq81ZpQ0w; b=plain":            "Cookie: a={cookie.a}",
		"hidden=plain; other=plain; third=plain": "Cookie: hidden={cookie.hidden}",
	} {
		all := polls(t, "/api/me", cookies, time.Second, `{"p":1}`, `{"p":2}`, `{"p":3}`)
		all[0].Set = []string{"hidden"}
		r, _ := conclude(t, asked(all))
		has(t, one(t, r), "HEADERS="+want, "FORWARD=")
	}
}

// TestProbed checks that what the service was asked wins.
func TestProbed(t *testing.T) {
	o := asked(polls(t, "/api/me", "sid=1; odd=2", time.Second, `{"p":1}`, `{"p":2}`, `{"p":3}`))
	o.Base = base
	r := learn.Conclude(o, learn.Probed{"/api/me": {"sid": false, "odd": true}})
	has(t, one(t, r), "HEADERS=Cookie: odd={cookie.odd}")
}

// TestUnread checks that a poll that could not be read is named.
func TestUnread(t *testing.T) {
	all := polls(t, "/api/packed", "", time.Second, `{"n":1}`, `{"n":2}`, `{"n":3}`)
	for _, a := range all {
		a.Data = nil
	}
	if r, _ := conclude(t, asked(all)); len(r.Routes) != 0 || !strings.Contains(r.Env, "# answers at /api/packed could not be read") {
		t.Error(r.Env)
	}
}
