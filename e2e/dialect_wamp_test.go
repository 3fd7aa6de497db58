//go:build e2e

package e2e

import (
	"strings"
	"testing"
)

// wampSeen is what servers/wamp.mjs has seen of its clients.
type wampSeen struct {
	Received [][]any
	Ends     []struct {
		Code int
		Why  string
	}
}

func (h *hub) wampSeen(t *testing.T) (seen wampSeen) {
	t.Helper()
	h.do(t, map[string]any{"do": "seen"}, &seen)
	return seen
}

// publishes has the router publish to n subscribers, once there are so many. nil is left out.
func (h *hub) publishes(t *testing.T, n int, topic string, args, kwargs any) {
	t.Helper()
	command := map[string]any{"do": "publish", "topic": topic}
	if args != nil {
		command["args"] = args
	}
	if kwargs != nil {
		command["kwargs"] = kwargs
	}
	h.reached(t, n, command)
}

func TestDialectWAMP(t *testing.T) {
	t.Parallel()
	h := startHub(t, "wamp", `{}`)
	from := "ws://" + h.addr + "/ws"
	s := startSidecar(t, hubRoute("wamp", from, `CONNECT={"realm":"open"}`, "SUBSCRIBE=com.acme.price\ncom.acme {\"match\":\"prefix\"}\ncom..other {\"match\":\"wildcard\"}",
		"EVENT=topic", `HELLO=org.hello {"args":[1.10,"x"],"kwargs":{"k":true}}`)...)
	page := official(t, "wamp", from, `{"realm":"open","subscribe":[["org.hello"],["com.acme.price"],["com",{"match":"prefix"}],["com.secret.x"]]}`)
	page.shows(t, `{"error":"wamp.error.not_authorized","topic":"com.secret.x"}`)
	events := ask(t, s.addr, "HTTP/1.0", "/events", "retry: ")
	page.shows(t, `{"topic":"org.hello","args":[1.1,"x"],"kwargs":{"k":true}}`)
	h.publishes(t, 2, "com.acme.price", []any{"hé\n", 1.5}, map[string]any{"k": 1})
	events.event(t, "com.acme.price", `{"args":["hé\n",1.5],"kwargs":{"k":1}}`)
	h.publishes(t, 2, "com.acme.sub", []any{}, nil)
	events.event(t, "com.acme.sub", `{"args":[],"kwargs":{}}`)
	h.publishes(t, 2, "com.wild.other", nil, nil)
	events.event(t, "com.wild.other", `{"args":[],"kwargs":{}}`)
	for _, want := range []string{
		`{"topic":"com.acme.price","args":["hé\n",1.5],"kwargs":{"k":1}}`, `{"topic":"com.acme.sub","args":[],"kwargs":null}`, `{"topic":"com.wild.other","args":null,"kwargs":null}`,
	} {
		page.shows(t, want)
	}
	sender := official(t, "wamp", from, `{"realm":"open","publish":[["com.acme.sent",7]]}`)
	sender.shows(t, `{"published":"number"}`)
	events.event(t, "com.acme.sent", `{"args":[7],"kwargs":{}}`)
	for _, p := range []*process{page, sender} {
		p.Process.Kill()
		<-p.ended
	}

	h.comesBack(t, events)
	h.publishes(t, 1, "com.acme.price", []any{2}, nil)
	events.event(t, "com.acme.price", `{"args":[2],"kwargs":{}}`)
	for _, reason := range []string{"wamp.close.system_shutdown", "wamp.close.normal"} {
		events.got.Reset()
		h.reached(t, 1, map[string]any{"do": "goodbye", "reason": reason})
		events.event(t, "stream.gap", gapEvent)
		s.explains(t, "the router said goodbye: "+reason)
		h.publishes(t, 1, "com.acme.price", []any{reason}, nil)
		events.event(t, "com.acme.price", `{"args":["`+reason+`"],"kwargs":{}}`)
	}
	s.drain(t)
	eventually(t, "goodbye", func() bool {
		ends := h.wampSeen(t).Ends
		return len(ends) == 3 && ends[0].Why == "wamp.close.goodbye_and_out" && ends[2].Why == "wamp.close.normal"
	})
}

func TestDialectWAMPLogin(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ options, connect, page string }{
		"ticket":       {`{}`, `{"realm":"staff","authid":"joe","ticket":"secret!!!"}`, `"authid":"joe","ticket":"secret!!!"`},
		"salted":       {`{}`, `{"realm":"staff","authid":"ann","secret":"hunter2"}`, `"authid":"ann","secret":"hunter2"`},
		"without salt": {`{"unsalted":true}`, `{"realm":"staff","authid":"ann","secret":"hunter2"}`, `"authid":"ann","secret":"hunter2"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := startHub(t, "wamp", c.options)
			from := "ws://" + h.addr + "/ws"
			s := startSidecar(t, hubRoute("wamp", from, "CONNECT="+c.connect, "SUBSCRIBE=com.acme.price")...)
			events := ask(t, s.addr, "HTTP/1.0", "/events", "retry: ")
			page := official(t, "wamp", from, `{"realm":"staff",`+c.page+`,"subscribe":[["com.acme.price"]]}`)
			page.shows(t, `{"subscribed":"com.acme.price"}`)
			h.publishes(t, 2, "com.acme.price", []any{1}, nil)
			events.event(t, "", `{"args":[1],"kwargs":{}}`)
			page.shows(t, `{"topic":"com.acme.price","args":[1],"kwargs":null}`)
		})
	}
}

func TestDialectWAMPRefusals(t *testing.T) {
	t.Parallel()
	h := startHub(t, "wamp", `{}`)
	other := startHub(t, "wamp", `{"method":"scram"}`)
	deaf := startHub(t, "wamp", `{"deaf":true}`)
	for name, c := range map[string]struct {
		addr, connect, subscribe string
		status                   int
		says                     string
	}{
		"no realm":       {h.addr, `{"realm":"none"}`, "com.a", 404, "wamp.error.no_such_realm"},
		"no login":       {h.addr, `{"realm":"staff"}`, "com.a", 401, "wamp.error.no_matching_auth_method"},
		"wrong ticket":   {h.addr, `{"realm":"staff","authid":"joe","ticket":"swordfish"}`, "com.a", 401, "the signature … is wrong"},
		"wrong secret":   {h.addr, `{"realm":"staff","authid":"ann","secret":"swordfish"}`, "com.a", 401, "wamp.error.authentication_failed"},
		"other method":   {other.addr, `{"realm":"staff","authid":"joe","ticket":"swordfish"}`, "com.a", 401, "for which CONNECT has nothing"},
		"not authorized": {h.addr, `{"realm":"open"}`, "com.a\ncom.secret.a", 403, "subscribing to com.secret.a: wamp.error.not_authorized"},
		"bad topic":      {h.addr, `{"realm":"open"}`, "com..a", 400, "wamp.error.invalid_uri"},
		"subprotocol":    {deaf.addr, `{"realm":"open"}`, "com.a", 200, "check SUBPROTOCOL"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startSidecar(t, hubRoute("wamp", "ws://"+c.addr+"/ws", "CONNECT="+c.connect, "SUBSCRIBE="+c.subscribe)...)
			if got := s.firstStatus(t); got != c.status {
				t.Errorf("answered %d, want %d", got, c.status)
			}
			s.explains(t, c.says)
			if text := s.stderr.String() + s.apiStatus(t); strings.Contains(text, "swordfish") {
				t.Errorf("a credential is told: %s", text)
			}
		})
	}
	page := official(t, "wamp", "ws://"+h.addr+"/ws", `{"realm":"none"}`)
	page.shows(t, `"refused":"wamp.error.no_such_realm"`)
}

func TestDialectWAMPLimitAndKeepalive(t *testing.T) {
	t.Parallel()
	h := startHub(t, "wamp", `{"silence":1000}`)
	from := "ws://" + h.addr + "/ws"
	s := startSidecar(t, hubRoute("wamp", from, `CONNECT={"realm":"open"}`, "SUBSCRIBE=com.a", "IDLE=400ms", "MAX_MESSAGE=4KiB")...)
	events := ask(t, s.addr, "HTTP/1.0", "/events", "retry: ")
	size := func(filling string) int { return len(`[36,1234567890123456,1234567890123456,{},["` + filling + `"]]`) }
	atLimit(t, events, func(filling string) { h.publishes(t, 1, "com.a", []any{filling}, nil) }, size, 4096,
		func(filling string) string { return `data: {"args":["` + filling + `"],"kwargs":{}}` })

	idle := startSidecar(t, hubRoute("wamp", from, `CONNECT={"realm":"open"}`, "SUBSCRIBE=com.b", "IDLE=off")...)
	ask(t, idle.addr, "HTTP/1.0", "/events", "retry: ")
	eventually(t, "the one that never pings to be cut twice", func() bool {
		n := 0
		for _, end := range h.wampSeen(t).Ends {
			if end.Why == "silence" {
				n++
			}
		}
		return n >= 2
	})
	events.got.Reset()
	h.publishes(t, 1, "com.a", []any{"still"}, nil)
	events.event(t, "", `{"args":["still"],"kwargs":{}}`)
	if text := events.got.String(); strings.Contains(text, "stream.gap") {
		t.Errorf("the pinging connection was lost: %q", text)
	}
}
