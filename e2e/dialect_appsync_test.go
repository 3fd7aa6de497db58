//go:build e2e

package e2e

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// appSyncSeen is what servers/appsync.mjs has seen of its clients.
type appSyncSeen struct {
	Authorized, Refused []struct {
		Path, Body string
		Names      []string
	}
	Left int
}

func (h *hub) appSyncSeen(t *testing.T) (seen appSyncSeen) {
	t.Helper()
	h.do(t, map[string]any{"do": "seen"}, &seen)
	return seen
}

func (h *hub) appSyncTick(t *testing.T, room string, n int) {
	t.Helper()
	h.reached(t, 1, map[string]any{"do": "tick", "topic": room, "tick": map[string]any{"n": n}})
}

func (h *hub) appSyncPublish(t *testing.T, channel string, events ...string) {
	t.Helper()
	h.reached(t, 1, map[string]any{"do": "publish", "topic": channel, "events": events})
}

const (
	appSyncKey   = `CONNECT={"apiKey":"da2-good"}`
	appSyncIAM   = `{"iam":{"accessKeyId":"AKIDEXAMPLE","secretAccessKey":"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY","sessionToken":"AQoDYXdzEPT//wEX=="},"region":"eu-central-1"}`
	appSyncIAMed = `{"accessKeyId":"AKIDEXAMPLE","secretAccessKey":"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY","sessionToken":"AQoDYXdzEPT//wEX==","region":"eu-central-1"}`
)

func TestDialectAppSync(t *testing.T) {
	t.Parallel()
	h := startHub(t, "appsync", `{}`)
	s := startSidecar(t, hubRoute("appsync", "ws://"+h.addr+"/graphql", `CONNECT={"token":"{query.token}"}`, "EVENT=topic",
		"SUBSCRIBE=subscription { onTick(room: \"a\") { n } }\n"+`{"query":"subscription B($room: String!) { onTick(room: $room) { n } }","variables":{"room":"{query.room}"},"operationName":"B"}`)...)
	events := ask(t, s.addr, "HTTP/1.0", "/events?room=b%22&token=Bearer%20good.user.token", "retry:")
	h.appSyncTick(t, "a", 1)
	events.event(t, "1", `{"data":{"onTick":{"n":1}}}`)
	h.appSyncTick(t, `b"`, 2)
	events.event(t, "B", `{"data":{"onTick":{"n":2}}}`)
	h.comesBack(t, events)
	h.appSyncTick(t, "a", 3)
	events.event(t, "1", `{"data":{"onTick":{"n":3}}}`)
	// One that is ended goes; with the last the stream is finished.
	h.do(t, map[string]any{"do": "raw", "topic": "a", "m": map[string]any{"type": "complete"}}, nil)
	h.appSyncTick(t, `b"`, 4)
	events.event(t, "B", `{"data":{"onTick":{"n":4}}}`)
	h.do(t, map[string]any{"do": "raw", "topic": `b"`, "m": map[string]any{"type": "complete"}}, nil)
	if err := events.rest(); err != nil {
		t.Errorf("ended with %v, want a clean end", err)
	}
	again := ask(t, s.addr, "HTTP/1.0", "/events?room=c&token=good.user.token", "retry:")
	h.appSyncTick(t, "c", 5)
	again.event(t, "B", `{"data":{"onTick":{"n":5}}}`)
	before := h.appSyncSeen(t)
	s.drain(t)
	eventually(t, "stop of both", func() bool { return h.appSyncSeen(t).Left == before.Left+2 })
	if log := s.stderr.String(); strings.Contains(log, "good.user.token") {
		t.Errorf("the token is in the log: %s", log)
	}
}

func TestDialectAppSyncEvents(t *testing.T) {
	t.Parallel()
	h := startHub(t, "appsync", `{}`)
	s := startSidecar(t, hubRoute("appsync", "ws://"+h.addr+"/event/realtime", appSyncKey, "SUBSCRIBE=/default/news\n/default/chat/*", "EVENT=topic", "SEND=true", `HELLO=> /default/chat/hello {"hello":1}`, "MAX_MESSAGE=4KiB")...)
	events := ask(t, s.addr, "HTTP/1.0", "/events", "retry:")
	events.event(t, "/default/chat/*", `{"hello":1}`)
	h.appSyncPublish(t, "/default/news", `{"n":1.5}`, `"zwei\nß"`)
	events.event(t, "/default/news", `{"n":1.5}`)
	events.until(t, "data: zwei\ndata: ß\n")
	page := official(t, "appsync", "http://"+h.addr, `{"apiKey":"da2-good","channels":["/default/chat/a"]}`)
	page.shows(t, `{"subscribed":"/default/chat/a"}`)
	if !s.posts(`/default/chat/a {"from":"page"}`) || !s.posts(`/default/readonly 1`) || s.posts("news 1") || s.posts("/default/* 1") {
		t.Error("a message is refused, or what is none is taken")
	}
	events.event(t, "/default/chat/*", `{"from":"page"}`)
	page.shows(t, `{"channel":"/default/chat/a","event":{"from":"page"}}`)
	s.explains(t, "publish: Unauthorized: nobody may publish here")
	events.got.Reset()
	h.do(t, map[string]any{"do": "raw", "topic": "/default/news", "m": map[string]any{"type": "broadcast_error", "errors": []any{map[string]any{"errorType": "MessageProcessingError", "message": "There was an error processing the message"}}}}, nil)
	events.event(t, "stream.gap", gapEvent)
	if n := s.connects(); n != 1 {
		t.Errorf("%d connections", n)
	}
	atLimit(t, events, func(filling string) { h.appSyncPublish(t, "/default/news", filling) },
		func(filling string) int { return len(`{"id":"1","type":"data","event":"` + filling + `"}`) }, 4<<10, func(filling string) string { return "data: " + filling + "\n" })
	h.comesBack(t, events)
	h.appSyncPublish(t, "/default/news", "7")
	events.event(t, "/default/news", "7")
}

// AWS's own signer agrees with every signature: of the connection, of subscriptions, and of what is published, whatever is in it.
func TestDialectAppSyncSigned(t *testing.T) {
	t.Parallel()
	h := startHub(t, "appsync", appSyncIAM)
	official(t, "appsync", "http://"+h.addr, strings.Replace(appSyncIAM, "}", `},"channels":["/default/theirs"]`, 1)).shows(t, `{"subscribed":"/default/theirs"}`)
	s := startSidecar(t, hubRoute("appsync", "ws://"+h.addr+"/event", "CONNECT="+appSyncIAMed, "SUBSCRIBE=/default/news\n/default/*", "SEND=true")...)
	events := ask(t, s.addr, "HTTP/1.0", "/events", "retry:")
	for _, text := range []string{`{"a":"<&> \u2028 ü \"q\" \\ \u0007"}`, `{"b":"😀 ` + "\u2028" + `"}`} {
		if !s.posts("/default/news " + text) {
			t.Fatal("a message is refused")
		}
		events.until(t, "data: "+text+"\n")
	}
	g := startSidecar(t, hubRoute("appsync", "ws://"+h.addr+"/graphql/realtime", "CONNECT="+appSyncIAMed, "SUBSCRIBE=subscription { onTick(room: \"ä<&>\") { n } }")...)
	ticks := ask(t, g.addr, "HTTP/1.0", "/events", "retry:")
	h.appSyncTick(t, "ä<&>", 1)
	ticks.event(t, "", `{"data":{"onTick":{"n":1}}}`)
	seen := h.appSyncSeen(t)
	if len(seen.Refused) > 0 {
		t.Errorf("refused: %+v", seen.Refused)
	}
	for _, path := range []string{"/event", "/graphql/connect", "/graphql"} {
		if !slices.ContainsFunc(seen.Authorized, func(a struct {
			Path, Body string
			Names      []string
		}) bool {
			return a.Path == path && slices.Contains(a.Names, "Authorization") && slices.Contains(a.Names, "x-amz-security-token")
		}) {
			t.Errorf("nothing is signed for %s", path)
		}
	}
	for _, log := range []string{s.stderr.String(), g.stderr.String(), s.apiStatus(t)} {
		if strings.Contains(log, "wJalrXUtnFEMI") || strings.Contains(log, "AQoDYXdzEPT") {
			t.Error("a key is in the log, or the status")
		}
	}
}

func TestDialectAppSyncRefusals(t *testing.T) {
	t.Parallel()
	keyed, signed := startHub(t, "appsync", `{}`), startHub(t, "appsync", appSyncIAM)
	const tick = "SUBSCRIBE=subscription { onTick(room: \"a\") { n } }"
	for name, c := range map[string]struct {
		hub                      *hub
		path, connect, subscribe string
		status                   int
		says                     string
	}{
		"a wrong key":               {keyed, "/graphql", `CONNECT={"apiKey":"da2-wrong-key"}`, tick, 401, "connection_error: UnauthorizedException: Permission denied for …"},
		"a wrong token":             {keyed, "/event", `CONNECT={"token":"bad.user.token"}`, "SUBSCRIBE=/default/a", 401, "connection_error: UnauthorizedException"},
		"another host":              {keyed, "/event", `CONNECT={"apiKey":"da2-good","host":"api.example"}`, "SUBSCRIBE=/default/a", 400, "connection_error: BadRequestException: host is api.example"},
		"a wrong signature":         {signed, "/event", "CONNECT=" + strings.Replace(appSyncIAMed, "wJalr", "xJalr", 1), "SUBSCRIBE=/default/a", 401, "signature"},
		"another region":            {signed, "/graphql", "CONNECT=" + strings.Replace(appSyncIAMed, "central", "west", 1), tick, 401, "signature"},
		"no region":                 {signed, "/graphql", `CONNECT={"accessKeyId":"a","secretAccessKey":"b"}`, tick, 400, "CONNECT: names no region"},
		"no such field":             {keyed, "/graphql", appSyncKey, "SUBSCRIBE=subscription { nothing }", 400, "the subscription of line 1: BadRequestException: Validation error"},
		"no such namespace":         {keyed, "/event", appSyncKey, "SUBSCRIBE=/default/a\n/other/a", 400, "the subscription of line 2: BadRequestException: Invalid channel namespace"},
		"denied":                    {keyed, "/event", appSyncKey, "SUBSCRIBE=/default/denied", 401, "the subscription of line 1: Unauthorized: You shall not listen"},
		"too many":                  {keyed, "/graphql", appSyncKey, "SUBSCRIBE=subscription { onTick(room: \"full\") { n } }", 200, "MaxSubscriptionsReachedError: Max number of"},
		"the address of the other":  {keyed, "/event/realtime", appSyncKey, tick, 400, "FROM: is the address of AppSync Events"},
		"channels where GraphQL is": {keyed, "/graphql", appSyncKey, "SUBSCRIBE=/default/a", 400, "FROM: is not the address of AppSync Events"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startSidecar(t, hubRoute("appsync", "ws://"+c.hub.addr+c.path, c.connect, c.subscribe)...)
			if got := s.firstStatus(t); got != c.status {
				t.Errorf("answered %d, want %d", got, c.status)
			}
			s.explains(t, c.says)
		})
	}
}

// A session with nothing to say lives as long as there is ka; one whose server falls silent is given up after what connection_ack has told.
func TestDialectAppSyncIdle(t *testing.T) {
	t.Parallel()
	h := startHub(t, "appsync", `{"ka":600}`)
	s := startSidecar(t, hubRoute("appsync", "ws://"+h.addr+"/event", appSyncKey, "SUBSCRIBE=/default/a")...)
	events := ask(t, s.addr, "HTTP/1.0", "/events", "retry:")
	h.appSyncPublish(t, "/default/a", "1")
	events.event(t, "", "1")
	h.idles(t, s, events, 4*time.Second, func() { h.appSyncPublish(t, "/default/a", "2") }, "2")
}

// TestLearnAppSync learns from AWS's own client, of GraphQL and of Events. Its key is in no file.
func TestLearnAppSync(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		options, shows string
		lines          []string
		say            func(t *testing.T, h *hub, n int)
	}{
		"GraphQL": {`"graphql":[["subscription S($room: String!) { onTick(room: $room) { n } }",{"room":"a"}]]`, `{"subscribed":"a"}`, []string{`_SUBSCRIBE={"query":"subscription S($room: String!) {\n  onTick(room: $room) {\n    n\n  }\n}\n","variables":{"room":"a"}}`},
			func(t *testing.T, h *hub, n int) { h.appSyncTick(t, "a", n) }},
		"Events": {`"channels":["default/news","/default/chat/*"]`, `{"subscribed":"/default/chat/*"}`, []string{"/default/news\n/default/chat/*", "_EVENT=topic"},
			func(t *testing.T, h *hub, n int) {
				h.appSyncPublish(t, []string{"/default/news", "/default/chat/a"}[n%2], `{"n":1}`)
			}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := startHub(t, "appsync", `{}`)
			file, text := learned(t, h.addr, func(front string) {
				page := official(t, "appsync", "http://"+front, `{"apiKey":"da2-good",`+c.options+`}`)
				page.shows(t, c.shows)
				c.say(t, h, 0)
				c.say(t, h, 1)
			})
			holds(t, text, append(c.lines, "_PROTOCOL=appsync", `_CONNECT={"apiKey":"{query.apiKey}"}`)...)
			if strings.Contains(text, "da2-good") || strings.Contains(text, "header-") {
				t.Errorf("the key is in the file:\n%s", text)
			}
			side := startSidecar(t, "SSE_ENV_FILE="+file)
			route := map[string]string{"GraphQL": "/events/graphql/realtime", "Events": "/events/event/realtime"}[name]
			events := ask(t, side.addr, "HTTP/1.0", route+"?apiKey=da2-good", "retry:")
			c.say(t, h, 0)
			events.until(t, `"n":`)
			proves(t, side, file, "realtime", func(n int) { c.say(t, h, n) }, "query.apiKey=da2-good")
		})
	}
}
