package config

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"sidestream/proxy/stream"
)

// parts are three routes that may be merged.
var parts = []string{"SSE_ROUTE_PRICES_PATH=/prices", "SSE_ROUTE_PRICES_FROM=ws://h/p", "SSE_ROUTE_ORDERS_PATH=/orders/{id}", "SSE_ROUTE_ORDERS_FROM=http://h/o/{path.id}?{query.since:0}",
	"SSE_ROUTE_DOC_PATH=/doc", "SSE_ROUTE_DOC_FROM=http://h/d", "SSE_ROUTE_DOC_MODE=patch"}

func TestMerged(t *testing.T) {
	c := load(t, append(parts, "SSE_ROUTE_ALL_PATH=/all/{id}", "SSE_ROUTE_ALL_FROM=routes:prices, orders", "SSE_START=latest", "SSE_ROUTE_ALL_EVENT=$topic",
		"SSE_ROUTE_ALL_SELECT=select(.x)", "SSE_ROUTE_ALL_HEARTBEAT=1s", "SSE_ROUTE_ALL_REPLAY_EVENTS=9", "SSE_ROUTE_ALL_LINGER=1m", "SSE_ROUTE_ALL_RETRY=2s", "SSE_ROUTE_ALL_MAX_CLIENTS=3",
		"SSE_ROUTE_BOTH_PATH=/both", "SSE_ROUTE_BOTH_FROM=routes:prices,doc", "SSE_ROUTE_NEW_PATH=/new", "SSE_ROUTE_NEW_FROM=routes:prices", "SSE_ROUTE_NEW_START=live",
		"SSE_HEADERS=", "SSE_EVERY=9s", "SSE_REFUSE_AFTER=1s")...)
	all, both, fresh := c.Routes[0], c.Routes[1], c.Routes[3]
	if got := strings.Join(all.Upstream.Merges(), " "); got != "prices orders" || all.Start != stream.StartKeys || all.Heartbeat != time.Second || all.ReplayEvents != 9 || all.MaxClients != 3 || all.Forgets {
		t.Errorf("%q %+v", got, all)
	}
	if !both.Forgets || fresh.Start != 0 || len(fresh.Upstream.Needs()) != 0 {
		t.Errorf("%+v %+v", both, fresh)
	}
	var out bytes.Buffer
	if err := c.Check(&out); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"route all\n  path    /all/{id}\n  from    merges prices, orders\n  sharing one stream for each different {path.id}, {query.since}, and for which of these are refused\n",
		"  select  select(.x)\n  event   $topic\n", "route both\n  path    /both\n  from    merges prices, doc\n  sharing one stream, shared by all clients"} {
		if !strings.Contains(out.String(), line) {
			t.Errorf("no %q in\n%s", line, &out)
		}
	}
}

// Each mistake is one line that names the variable and what to write.
func TestMergedProblems(t *testing.T) {
	for name, test := range map[string]struct {
		env  []string
		want string
	}{
		"unknown":        {[]string{"FROM=routes:prices,order"}, `SSE_ROUTE_ALL_FROM: "order" is no route; the nearest that there is is orders`},
		"itself":         {[]string{"FROM=routes:prices,all"}, "SSE_ROUTE_ALL_FROM: names the route itself; write the names of the routes that it is to merge"},
		"twice":          {[]string{"FROM=routes:prices,prices"}, "SSE_ROUTE_ALL_FROM: names prices twice; keep one"},
		"none":           {[]string{"FROM=routes:"}, "SSE_ROUTE_ALL_FROM: names no route where a name is expected; write routes: and names with commas, such as routes:prices,orders"},
		"capitals":       {[]string{"FROM=routes:PRICES"}, `SSE_ROUTE_ALL_FROM: "PRICES" is not in lower case, in which routes are named; write prices`},
		"merged":         {[]string{"FROM=routes:other", "OTHER_PATH=/other", "OTHER_FROM=routes:prices,doc"}, "SSE_ROUTE_ALL_FROM: other merges routes itself; write the names of those instead: prices,doc"},
		"a path":         {[]string{"PATH=/all", "FROM=routes:orders"}, "SSE_ROUTE_ALL_FROM: orders takes {id} of its path, /orders/{id}, which PATH, /all, has not; write {id} there too"},
		"a document":     {[]string{"FROM=routes:doc", "SELECT=.x"}, "SSE_ROUTE_ALL_SELECT: cannot be where doc is merged, whose MODE is patch: each of its events is for the one before; unset it"},
		"where it begin": {[]string{"FROM=routes:doc", "START=live"}, "SSE_ROUTE_ALL_START: cannot be where doc is merged, whose MODE is patch: each of its events is for the one before; unset it"},
		"a session":      {[]string{"FROM=routes:chat", "CHAT_PATH=/chat", "CHAT_FROM=ws://h/", "CHAT_SCOPE=session"}, "SSE_ROUTE_ALL_FROM: chat has SCOPE=session, a connection for each page; it cannot be merged, so leave it out"},
		"hello":          {[]string{"FROM=routes:prices", "HELLO=> x"}, alone("HELLO")},
		"protocol":       {[]string{"FROM=routes:prices", "PROTOCOL=stomp"}, alone("PROTOCOL")},
		"every":          {[]string{"FROM=routes:prices", "EVERY=1s"}, alone("EVERY")},
		"send":           {[]string{"FROM=routes:prices", "SEND=true"}, alone("SEND")},
		"eager":          {[]string{"FROM=routes:prices", "EAGER=true"}, alone("EAGER")},
		"forward":        {[]string{"FROM=routes:prices", "FORWARD=Cookie"}, alone("FORWARD")},
		"scope":          {[]string{"FROM=routes:prices", "SCOPE=session"}, alone("SCOPE")},
	} {
		env := parts
		if !strings.HasPrefix(test.env[0], "PATH") {
			env = append(env[:len(env):len(env)], "SSE_ROUTE_ALL_PATH=/all/{id}")
		}
		for _, setting := range test.env {
			prefix := "SSE_ROUTE_ALL_"
			if strings.HasPrefix(setting, "OTHER_") || strings.HasPrefix(setting, "CHAT_") {
				prefix = "SSE_ROUTE_"
			}
			env = append(env[:len(env):len(env)], prefix+setting)
		}
		if _, err := Load(env, files(nil)); err == nil || err.Error() != test.want {
			t.Errorf("%s: got\n%v\nwant\n%s", name, err, test.want)
		}
	}
}

func alone(setting string) string {
	return "SSE_ROUTE_ALL_" + setting + ": has no effect here: FROM merges other routes, which have their own; set it on them, or unset it"
}

// A route changes with those that it merges.
func TestMergedDiff(t *testing.T) {
	env := append(parts, "SSE_ROUTE_ALL_PATH=/all/{id}", "SSE_ROUTE_ALL_FROM=routes:prices,orders", "SSE_ROUTE_X_PATH=/x", "SSE_ROUTE_X_FROM=routes:doc")
	was := load(t, env...)
	d := was.Diff(load(t, append(env, "SSE_ROUTE_PRICES_HEARTBEAT=7s")...))
	if got := strings.Join(d.named(Changed), " "); got != "all prices" {
		t.Errorf("changed: %s", got)
	}
	if d := was.Diff(load(t, append(env, "SSE_EVERY=7s")...)); strings.Join(d.named(Changed), " ") != "all doc orders x" {
		t.Errorf("changed: %v", d.named(Changed))
	}
	if d := was.Diff(load(t, env...)); !d.Nothing() {
		t.Errorf("%+v", d)
	}
}
