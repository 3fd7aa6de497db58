//go:build e2e

package e2e

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// What feeds are signed with, and requests in their openings.

func TestRecipeOBS(t *testing.T) {
	t.Parallel()
	f := startFeedServer(t, "obs", `{"password":"YOUR-PASSWORD"}`)
	page := f.client(t, `{"password":"YOUR-PASSWORD"}`)
	page.lines(t, 1, `{"ready":1}`)
	wrong := f.client(t, `{"password":"wrong"}`)
	wrong.lines(t, 1, `{"error":4009}`)
	wrong.killed()
	s := f.sidecar(t)
	events := f.events(t, s)
	scene := fields{"type": "CurrentProgramSceneChanged", "data": fields{"sceneName": "Break", "sceneUuid": "u"}}
	f.reach(t, 2, "emit", scene)
	events.next(t, "CurrentProgramSceneChanged", `{"sceneName":"Break","sceneUuid":"u"}`)
	page.lines(t, 1, `{"event":"CurrentProgramSceneChanged","data":{"sceneName":"Break","sceneUuid":"u"}}`)
	f.reach(t, 2, "emit", fields{"type": "ExitStarted", "intent": 1})
	events.next(t, "ExitStarted", "{}")
	page.killed()
	f.restart(t, `{}`) // which asks for no password
	events.gap(t)
	f.reach(t, 1, "emit", scene)
	events.next(t, "CurrentProgramSceneChanged", `{"sceneName":"Break","sceneUuid":"u"}`)
	f.restart(t, `{"password":"another"}`)
	events.until(t, "event: stream.refused\n")
	f.refuses(t, 401)
}

func TestRecipeOKX(t *testing.T) {
	t.Parallel()
	const good = `{"key":"YOUR-API-KEY","passphrase":"YOUR-PASSPHRASE","secret":"YOUR-SECRET-KEY"`
	f := startFeedServer(t, "okx", good+`,"silence":2500}`)
	page := f.client(t, good+`}`)
	page.lines(t, 1, `{"event":"login"}`)
	page.lines(t, 1, `{"event":"subscribe"}`)
	s := f.sidecar(t, "SSE_ROUTE_OKX_PING_EVERY=1s")
	events := f.events(t, s)
	order := fields{"channel": "orders", "data": []fields{{"ordId": "312269865356374016", "state": "live"}}}
	f.reach(t, 2, "push", order)
	events.next(t, "orders", `[{"ordId":"312269865356374016","state":"live"}]`)
	page.lines(t, 1, `{"channel":"orders","data":[{"ordId":"312269865356374016","state":"live"}]}`)
	page.killed()
	f.reach(t, 1, "push", fields{"channel": "account", "data": []int{}})
	events.next(t, "account", "[]")
	f.beats(t, 4, "SSE_ROUTE_OKX_PING_EVERY=0")
	f.reach(t, 1, "notice", nil) // the server goes away
	events.gap(t)
	f.reach(t, 1, "push", order)
	events.next(t, "orders", `[{"ordId":"312269865356374016","state":"live"}]`)
	if log := s.stderr.String(); strings.Contains(log, "YOUR-SECRET") || strings.Contains(log, "YOUR-PASSPHRASE") {
		t.Error("a secret is in the log")
	}
	f.restart(t, strings.Replace(good, "YOUR-SECRET-KEY", "another", 1)+"}")
	events.until(t, "event: stream.refused\n")
	f.refuses(t, 403)
	f.refuses(t, 403, "SSE_SECRET_OKX=another", "SSE_SECRET_OKX_KEY=wrong")
}

func TestRecipeTwitch(t *testing.T) {
	t.Parallel()
	f := startFeedServer(t, "twitch", `{"token":"YOUR-USER-ACCESS-TOKEN","grace":3000,"slow":300}`)
	s := f.sidecar(t)
	events := f.events(t, s)
	f.reach(t, 1, "notify", fields{"n": 1})
	events.next(t, "_stream.online", `{"n":1}`)
	for n := range 3 { // moved, and moved again: nothing is lost, though there is an event at each moment
		f.reach(t, 1, "move", nil)
		for i := range 20 {
			f.reach(t, 1, "notify", fields{"n": 100*n + i})
			events.whole(t, "_stream.online", `{"n":`+strconv.Itoa(100*n+i)+`}`)
		}
		eventually(t, "the old connection to go", func() bool { return f.seen(t).Open == 1 })
	}
	seen := f.seen(t)
	if len(seen.Asked) != 1 || len(seen.Dials) != 4 {
		t.Errorf("subscribed %d times over %d connections", len(seen.Asked), len(seen.Dials))
	}
	if moves := metric(t, s, `sidestream_upstream_moves_total{route="twitch"}`); moves != 3 {
		t.Errorf("%v moves are counted", moves)
	}
	// A move that fails, and one that is lost: anew, with a gap.
	f.reach(t, 1, "move", fields{"wrong": true})
	events.gap(t)
	f.reach(t, 1, "notify", fields{"n": 2})
	events.next(t, "_stream.online", `{"n":2}`)
	f.do(t, "cut", nil, nil)
	events.gap(t)
	f.reach(t, 1, "notify", fields{"n": 3})
	events.next(t, "_stream.online", `{"n":3}`)
	if log := s.stderr.String(); strings.Contains(log, "YOUR-USER") {
		t.Error("the token is in the log")
	}
	f.reach(t, 1, "revoke", nil)
	events.until(t, "event: stream.refused\n")
	f.restart(t, `{"token":"another"}`)
	f.refuses(t, 401)
}

func TestRecipePusherPrivate(t *testing.T) {
	t.Parallel()
	f := startFeedServer(t, "pusher-private", `{"key":"YOUR-APP-KEY","activity":1}`)
	f.path = "/events/orders/7"
	page := f.client(t, `{"key":"YOUR-APP-KEY","activity":30,"channels":["private-orders.7"],"cookie":"laravel_session=7","token":"token=7"}`)
	page.lines(t, 1, `{"subscribed":"private-orders.7"}`)
	s := f.sidecar(t)
	events := ask(t, s.addr, "HTTP/1.0\r\nCookie: _ga=x; laravel_session=7; XSRF-TOKEN=token%3D7", f.path, "retry: ")
	other := ask(t, s.addr, "HTTP/1.0\r\nCookie: laravel_session=8; XSRF-TOKEN=token%3D8", "/events/orders/8", "retry: ")
	f.reach(t, 2, "trigger", fields{"channel": "private-orders.7", "event": "paid", "data": fields{"id": 1}})
	events.next(t, "paid", `{"id":1}`)
	page.lines(t, 1, `{"event":"paid","data":{"id":1},"channel":"private-orders.7"}`)
	page.killed()
	f.reach(t, 1, "trigger", fields{"channel": "private-orders.8", "event": "paid", "data": fields{"id": 2}})
	other.next(t, "paid", `{"id":2}`)
	if strings.Contains(events.got.String(), `{"id":2}`) || strings.Contains(other.got.String(), `{"id":1}`) {
		t.Error("one user's events are another's")
	}
	for cookies, want := range map[string]string{
		"":                  "400", // no session, so that nothing is asked
		"laravel_session=7": "419",
		"laravel_session=7; XSRF-TOKEN=token%3D8": "419",
		"laravel_session=8; XSRF-TOKEN=token%3D8": "403", // of another
	} {
		got := ask(t, s.addr, "HTTP/1.0\r\nCookie: a=b; "+cookies, f.path, "HTTP/1.")
		got.until(t, "\r\n")
		if !strings.Contains(got.got.String(), " "+want+" ") {
			t.Errorf("%q: %s, want %s", cookies, got.got.String(), want)
		}
	}
	// A connection that is lost is signed for anew.
	f.do(t, "cut", nil, nil)
	events.gap(t)
	f.reach(t, 1, "trigger", fields{"channel": "private-orders.7", "event": "paid", "data": fields{"id": 3}})
	events.next(t, "paid", `{"id":3}`)
}

func TestRecipeSupabase(t *testing.T) {
	t.Parallel()
	f := startFeedServer(t, "supabase", `{"key":"YOUR-ANON-KEY"}`)
	page := f.client(t, `{"key":"YOUR-ANON-KEY","token":"ann"}`)
	page.lines(t, 1, `{"status":"SUBSCRIBED","error":null}`)
	wrong := f.client(t, `{"key":"YOUR-ANON-KEY","token":"bad"}`)
	wrong.holds(t, "CHANNEL_ERROR")
	wrong.killed()
	s := f.sidecar(t)
	events := f.events(t, s)
	other := ask(t, s.addr, "HTTP/1.0", "/events/messages?token=bob", "retry: ")
	row := func(n int, owner string) fields {
		return fields{"type": "INSERT", "table": "messages", "owner": owner, "record": fields{"id": n}}
	}
	f.reach(t, 2, "change", row(1, "ann"))
	events.next(t, "INSERT", `{"at":"2026-11-29T00:00:00Z","old_record":null,"record":{"id":1},"table":"messages"}`)
	page.lines(t, 1, `{"type":"INSERT","record":{"id":1}}`)
	page.killed()
	f.reach(t, 1, "change", row(2, "bob"))
	other.next(t, "INSERT", `{"at":"2026-11-29T00:00:00Z","old_record":null,"record":{"id":2},"table":"messages"}`)
	if strings.Contains(events.got.String(), `"id":2`) {
		t.Error("one user's row is another's")
	}
	// The token expires: that is said, and who comes back with another one has another stream.
	f.reach(t, 1, "expire", fields{"owner": "ann"})
	events.until(t, "event: stream.")
	f.reach(t, 1, "change", row(3, "bob"))
	other.next(t, "INSERT", `{"at":"2026-11-29T00:00:00Z","old_record":null,"record":{"id":3},"table":"messages"}`)
	// A page that gives the channel a new token in time keeps its stream, over a reconnect too, although the first one has expired.
	token := func(user string, n int) string {
		return "e30." + base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"sub":%q,"n":%d}`, user, n)) + ".c2ln"
	}
	first, second := token("cat", 1), token("cat", 2)
	kept := ask(t, s.addr, "HTTP/1.0", "/events/messages?token="+first, "retry: ")
	f.reach(t, 1, "change", row(4, "cat"))
	kept.next(t, "INSERT", `{"at":"2026-11-29T00:00:00Z","old_record":null,"record":{"id":4},"table":"messages"}`)
	push := func(pushed string) int {
		resp, err := plain.Post("http://"+s.addr+"/events/messages?token="+first, "text/plain", strings.NewReader(`realtime:messages access_token {"access_token":"`+pushed+`"}`))
		if err != nil {
			return 0
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	eventually(t, "another user's token to be refused", func() bool { return push(token("bob", 1)) == 400 })
	f.reach(t, 1, "change", row(7, "bob"))
	other.next(t, "INSERT", `{"at":"2026-11-29T00:00:00Z","old_record":null,"record":{"id":7},"table":"messages"}`)
	eventually(t, "a new token to be taken", func() bool { return push(second)/100 == 2 })
	f.do(t, "lapse", fields{"token": first}, nil)
	f.reach(t, 1, "change", row(5, "cat"))
	kept.next(t, "INSERT", `{"at":"2026-11-29T00:00:00Z","old_record":null,"record":{"id":5},"table":"messages"}`)
	f.do(t, "cut", nil, nil)
	kept.gap(t)
	f.reach(t, 1, "change", row(6, "cat"))
	kept.next(t, "INSERT", `{"at":"2026-11-29T00:00:00Z","old_record":null,"record":{"id":6},"table":"messages"}`)
	if strings.Contains(kept.got.String(), "stream.refused") || strings.Contains(kept.got.String(), `"id":7`) || strings.Contains(s.stderr.String(), second) {
		t.Errorf("%s\n%s", kept.got.String(), &s.stderr)
	}
	for query, want := range map[string]int{"?token=bad": 403, "": 400} {
		if got := status("http://" + s.addr + "/events/messages" + query); got != want {
			t.Errorf("%q answers %d, want %d", query, got, want)
		}
	}
	f.refuses(t, 403, `SSE_ROUTE_MESSAGES_SUBSCRIBE=realtime:x {"config":{"postgres_changes":[{"event":"*","schema":"public","table":"nothing"}]},"access_token":"{query.token}"}`)
}
