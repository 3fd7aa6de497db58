//go:build e2e

package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Services that one has an account with, each a server of ours in the shape that its documents describe.

func TestRecipeBybit(t *testing.T) {
	t.Parallel()
	const good = `{"key":"YOUR-API-KEY","secret":"YOUR-SECRET-KEY"`
	f := startFeedServer(t, "bybit", good+`,"silence":2500}`)
	s := f.sidecar(t, "SSE_ROUTE_BYBIT_PING_EVERY=1s")
	events := f.events(t, s)
	push := func(topic, state string) {
		t.Helper()
		f.reach(t, 1, "push", fields{"topic": topic, "data": []fields{{"orderId": "312269865356374016", "orderStatus": state}}})
		events.next(t, topic, `{"at":1672364262474,"data":[{"orderId":"312269865356374016","orderStatus":"`+state+`"}]}`)
	}
	push("order", "New")
	push("execution", "Filled")
	f.beats(t, 4, "SSE_ROUTE_BYBIT_PING_EVERY=0")
	f.do(t, "cut", nil, nil)
	events.gap(t)
	push("order", "Cancelled")
	f.restart(t, good+"}")
	events.gap(t)
	push("order", "Rejected")
	s.hides(t, "YOUR-SECRET-KEY", "YOUR-API-KEY")
	f.refuses(t, 403, "SSE_SECRET_BYBIT=another")
	f.refuses(t, 403, "SSE_SECRET_BYBIT_KEY=another")
	f.refuses(t, 403, "SSE_ROUTE_BYBIT_HELLO="+`! .success == false and (.op == "auth" or .op == "subscribe")
= (now * 1000 | floor + 10000) as $expires | {op: "auth", args: [$secret.bybit_key, $expires, ("GET/realtime\($expires)" | hmac_sha256($secret.bybit))]}
< .op == "auth" and .success
> {"op":"subscribe","args":["nonesuch"]}
< .op == "subscribe" and .success`)
	f.restart(t, strings.Replace(good, "YOUR-SECRET-KEY", "another", 1)+"}")
	events.until(t, "event: stream.refused\n")
}

func TestRecipeCoinbasePrivate(t *testing.T) {
	t.Parallel()
	const good = `{"key":"YOUR-API-KEY","passphrase":"YOUR-PASSPHRASE","secret":"WU9VUi1TRUNSRVQ=","heartbeat":50}`
	f := startFeedServer(t, "coinbase-private", good)
	s := f.sidecar(t)
	events := f.events(t, s)
	order := func(id string) {
		t.Helper()
		f.reach(t, 1, "order", fields{"type": "received", "order_id": id})
		events.until(t, "event: received\ndata: {\"order_id\":\""+id+`","product_id":"BTC-USD","sequence":`)
		if got := events.got.String(); strings.Contains(got, "not for pages") || strings.Contains(got, "heartbeat") {
			t.Errorf("%q", got)
		}
	}
	order("a")
	f.do(t, "cut", nil, nil)
	events.gap(t)
	order("b")
	f.restart(t, good)
	events.gap(t)
	order("c")
	s.hides(t, "YOUR-PASSPHRASE", "YOUR-API-KEY", "WU9VUi1TRUNSRVQ")
	f.refuses(t, 403, "SSE_SECRET_COINBASE=d3Jvbmc=")
	f.refuses(t, 403, "SSE_SECRET_COINBASE_PASSPHRASE=wrong")
	f.restart(t, strings.Replace(good, "YOUR-API-KEY", "another", 1))
	events.until(t, "event: stream.refused\n")
}

func TestRecipeNodeRED(t *testing.T) {
	t.Parallel()
	const good = `{"token":"YOUR-TOKEN","heartbeat":500}`
	f := startFeedServer(t, "nodered", good)
	s := f.sidecar(t)
	events := f.events(t, s)
	status := func(id, text string) string {
		return `{"id":"` + id + `","status":{"fill":"grey","shape":"dot","text":"` + text + `"}}`
	}
	f.reach(t, 1, "status", fields{"id": "n1", "text": "connecting"})
	events.next(t, "status", status("n1", "connecting"))
	f.reach(t, 1, "deploy", nil)
	f.reach(t, 1, "debug", fields{"times": 120}) // more than one frame, several in each
	for i := range 120 {
		events.next(t, "debug", fmt.Sprintf(`{"format":"string[1]","id":"d1","msg":"%d","name":"out","property":"payload","topic":"prices"}`, i))
	}
	f.reach(t, 1, "status", fields{"id": "n1", "text": "connected"})
	events.next(t, "status", status("n1", "connected"))
	late := f.events(t, s)
	late.until(t, status("n1", "connected"))
	if got := late.got.String(); strings.Contains(got, "connecting") || strings.Count(got, "event: debug\n") != 1 {
		t.Errorf("who comes later has %q", got)
	}
	f.beats(t, 3) // which are no events
	f.reach(t, 1, "status", fields{"id": "n1", "text": "connected"})
	events.next(t, "status", status("n1", "connected"))
	if got := events.got.String() + late.got.String(); strings.Contains(got, "stream.gap") || strings.Contains(got, "hb") {
		t.Errorf("%q", got)
	}
	f.do(t, "cut", nil, nil)
	events.gap(t)
	events.next(t, "status", status("n1", "connected"))
	f.restart(t, good)
	events.gap(t)
	f.reach(t, 1, "status", fields{"id": "n2", "text": "anew"})
	events.next(t, "status", status("n2", "anew"))
	s.hides(t, "YOUR-TOKEN")
	f.refuses(t, 403, "SSE_SECRET_NODERED=wrong")
	f.restart(t, `{"token":"another"}`)
	events.until(t, "event: stream.refused\n")
}

func TestRecipeFirebase(t *testing.T) {
	t.Parallel()
	f := startFeedServer(t, "firebase", `{"tokens":["ann","bob"],"data":{"a":{"text":"one"}},"keepalive":100}`)
	s := f.sidecar(t, "SSE_ROUTE_FIREBASE_IDLE=1s", "SSE_REFUSE_AFTER=1h") // so that it is what the events say
	at := func(token string) *stream {
		return ask(t, s.addr, "HTTP/1.0", "/events/firebase?token="+token, "retry: ")
	}
	ann, bob := at("ann"), at("bob")
	for _, events := range []*stream{ann, bob} {
		events.next(t, "put", `{"path":"/","data":{"a":{"text":"one"}}}`)
	}
	f.reach(t, 2, "put", fields{"key": "b", "value": 2})
	ann.whole(t, "put", `{"path":"/b","data":2}`)
	f.reach(t, 2, "patch", fields{"values": fields{"b": 3}})
	ann.whole(t, "patch", `{"path":"/","data":{"b":3}}`)
	tab := at("ann") // the same stream, from its beginning
	tab.whole(t, "put", `{"path":"/","data":{"a":{"text":"one"}}}`)
	tab.whole(t, "put", `{"path":"/b","data":2}`)
	tab.whole(t, "patch", `{"path":"/","data":{"b":3}}`)
	f.reach(t, 2, "cut", nil)
	f.do(t, "put", fields{"key": "b", "value": 4}, nil)
	ann.gap(t)
	ann.next(t, "put", `{"path":"/","data":{"a":{"text":"one"},"b":4}}`)
	if strings.Contains(ann.got.String(), "keep-alive") {
		t.Error("a keep-alive is an event")
	}
	// A token that expires, and rules that no longer let a user read.
	f.reach(t, 1, "revoke", fields{"token": "ann"})
	ann.until(t, "event: stream.refused\ndata: {\"status\":401}\n")
	f.reach(t, 1, "cancel", fields{"token": "bob"})
	bob.until(t, "event: stream.refused\ndata: {\"status\":403}\n")
	for query, want := range map[string]int{"?token=ann": 401, "?token=bad": 401, "": 400} {
		if got := status("http://" + s.addr + f.path + query); got != want {
			t.Errorf("%q answers %d, want %d", query, got, want)
		}
	}
	s.hides(t, "=ann", "=bob")

	// Where the data is on another host, that is said, and the token is not sent there.
	f.restart(t, `{"tokens":["ann"],"elsewhere":"http://elsewhere.invalid"}`)
	moved := f.sidecar(t)
	if got := status("http://" + moved.addr + "/events/firebase?token=ann"); got != 401 {
		t.Errorf("answers %d, want 401", got)
	}
	moved.explains(t, "http://elsewhere.invalid")
	moved.hides(t, "=ann")
}

func TestRecipeOpenAIRealtime(t *testing.T) {
	t.Parallel()
	f := startFeedServer(t, "openai-realtime", `{"key":"YOUR-API-KEY"}`)
	s := f.sidecar(t)
	const a, b = "/events/openai?session=aaaaaaaaaaaaaaaa", "/events/openai?session=bbbbbbbbbbbbbbbb"
	say := func(path, text string) {
		t.Helper()
		resp, err := plain.Post("http://"+s.addr+path, "application/json", strings.NewReader(text))
		if err != nil || resp.StatusCode != http.StatusAccepted {
			t.Fatal(resp, err)
		}
		resp.Body.Close()
	}
	item := func(text string) string {
		return `{"type":"conversation.item.create","item":{"type":"message","role":"user","content":[{"type":"input_text","text":"` + text + `"}]}}`
	}
	ann, bob := ask(t, s.addr, "HTTP/1.0", a, "retry: "), ask(t, s.addr, "HTTP/1.0", b, "retry: ")
	say(a, item("one two"))
	say(b, item("three"))
	say(a, `{"type":"response.create"}`)
	say(b, `{"type":"response.create"}`)
	for _, delta := range []string{"owt", "eno"} {
		ann.until(t, "event: response.output_text.delta\n")
		ann.until(t, `"delta":"`+delta+`"`)
	}
	ann.until(t, "event: response.done\n")
	bob.until(t, `"delta":"eerht"`)
	bob.until(t, "event: response.done\n")
	if strings.Contains(ann.got.String(), "eerht") || strings.Contains(bob.got.String(), "owt") {
		t.Error("one page's session is another's")
	}
	say(a, `{"type":"nonesuch"}`)
	ann.until(t, "event: failed\n")
	ann.until(t, `"message":"Invalid value: 'nonesuch'"`)
	seen := f.seen(t)
	if len(seen.Dials) != 2 || seen.Dials[0].URL != "/v1/realtime?model=gpt-realtime" || len(seen.Asked) != 2 || seen.Asked[0].Method != "Be brief." {
		t.Errorf("%+v", seen)
	}
	ann.got.Reset()
	f.do(t, "expire", nil, nil)
	ann.until(t, `"code":"session_expired"`)
	ann.gap(t)
	eventually(t, "a new conversation", func() bool { return len(f.seen(t).Asked) == 4 })
	say(a, item("anew"))
	say(a, `{"type":"response.create"}`)
	ann.until(t, `"delta":"wena"`)
	s.hides(t, "YOUR-API-KEY")
	f.refuses(t, 401, "SSE_SECRET_OPENAI=wrong")
	f.refuses(t, 403, "SSE_ROUTE_OPENAI_HELLO="+`! .type == "error" and (.error.type == "invalid_request_error") and .error.event_id == "hello"
< .type == "session.created"
> {"type":"session.update","event_id":"hello","session":{"type":"other"}}
< .type == "session.updated"`)
}

func TestRecipeSalesforce(t *testing.T) {
	t.Parallel()
	const options = `{"token":"first-token"}`
	f := startFeedServer(t, "salesforce", options)
	secret := filepath.Join(t.TempDir(), "token")
	write := func(token string) {
		t.Helper()
		if err := os.WriteFile(secret, []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("first-token")
	s := f.sidecarWith(t, map[string]string{"SSE_SECRET_SALESFORCE=YOUR-ACCESS-TOKEN": "SSE_SECRET_SALESFORCE_FILE=" + secret})
	events := f.events(t, s)
	n := 0
	event := func(to int) {
		t.Helper()
		n++
		f.reach(t, to, "event", fields{"channel": "/event/Order__e", "payload": fields{"Number__c": n}})
	}
	come := func(from int) {
		t.Helper()
		for i := from; i <= n; i++ {
			events.whole(t, "Order__e", fmt.Sprintf(`{"payload":{"Number__c":%d},"replayId":%d}`, i, 100+i))
		}
	}
	event(1)
	come(1)
	n++
	f.reach(t, 1, "event", fields{"channel": "/data/ChangeEvents", "payload": fields{"Name": "x"}})
	events.whole(t, "ChangeEvents", `{"payload":{"Name":"x"},"replayId":102}`)

	// A node that is replaced knows nobody, and what was said meanwhile is asked for: nothing is lost, nothing comes twice.
	for range 3 {
		f.do(t, "forget", nil, nil)
		first := n + 1
		event(0)
		event(0)
		come(first)
		event(1)
		come(n)
	}
	if got := events.got.String(); strings.Contains(got, "event: Order__e") || strings.Contains(got, "event: ChangeEvents") {
		t.Errorf("besides: %q", got)
	}
	// The token expires: the file has the new one, a little later.
	f.do(t, "expire", fields{"token": "second-token"}, nil)
	eventually(t, "the old token to be refused", func() bool { return strings.Contains(s.stderr.String(), "retried for REFUSE_AFTER") })
	write("second-token")
	first := n + 1
	event(1)
	come(first)
	s.hides(t, "first-token", "second-token")
	f.refuses(t, 401)
	f.refuses(t, 403, "SSE_SECRET_SALESFORCE=second-token", "SSE_ROUTE_SALESFORCE_SUBSCRIBE=/event/Nonesuch__e")
}
