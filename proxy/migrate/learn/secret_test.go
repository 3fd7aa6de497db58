package learn_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"sidestream/proxy/migrate/learn"
)

// planted is a secret, which no output may hold. It is a word, so that nothing but where it stands tells that it is one.
func planted(n int) string {
	return fmt.Sprintf("planted-%s-%s", []string{"amber", "birch", "cedar", "delta"}[n%4], []string{"one", "two", "six", "ten"}[n/4%4])
}

// tokens look like what they are, wherever they stand.
var tokens = []string{
	"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJqb2UifQ.c2lnbmF0dXJlc2lnbmF0dXJl", "0b7e5c1d-93a4-4f0e-8a55-6c2f1f0d9b3e",
	"ghp_x7Gh29aLq81ZpQ0wB5tYu3", "11111111-2222-3333-4444-555555555555", "9f86d081884c7d659a2feaa0c55ad015", "sk_live_4eC39HqLyjWDarjtT1zdp7dc",
}

// TestSecrets plants secrets wherever a client may have one, in every dialect, and looks for them in all that comes out.
func TestSecrets(t *testing.T) {
	cookies := "sid=" + planted(0) + "; XSRF-TOKEN=" + planted(1) + "; _ga=" + planted(2) + "; pref=" + planted(3)
	target := "/ws/" + tokens[3] + "?token=" + planted(4) + "&x=" + tokens[0] + "&apikey=" + planted(5)
	var all []*learn.Conversation
	say := func(path, subprotocol string, lines ...string) {
		c := talk(t, path, cookies, strings.Join(lines, "\n"))
		c.Subprotocol = subprotocol
		c.Header = map[string][]string{"Authorization": {"Bearer " + planted(6)}, "X-Api-Key": {planted(7)}, "Sec-Websocket-Protocol": {"v1, " + tokens[2]}}
		all = append(all, c)
	}
	routes := 0
	for i, secret := range append([]string{planted(0), planted(3), planted(4), planted(6)}, tokens...) {
		all = nil
		q, _ := json.Marshal(secret)
		at := fmt.Sprintf("%d", i)
		say(target, "", `> {"op":"login`+at+`","with":`+string(q)+`,"in":{"deep":["`+secret+`"]},"bearer":"Bearer `+secret+`"}`, `< {"op":"ok","echo":"`+secret+`"}`, `< {"op":"tick","who":"`+secret+`"}`,
			"+5s", `> {"op":"ping","k":`+string(q)+`}`, "+5s", `> {"op":"ping","k":`+string(q)+`}`, "+5s", `> {"op":"ping","k":`+string(q)+`}`)
		say("/text"+at, "", "> LOGIN "+secret, "> "+secret, "> key="+secret, "< hello", "+1s", "< ping", "> pong "+secret, "+1s", "< ping", "> pong "+secret)
		say("/gql"+at, "graphql-transport-ws", `> {"type":"connection_init","payload":{"token":"`+secret+`"}}`, `> {"id":"1","type":"subscribe","payload":{"query":"subscription { a(k: \"`+secret+`\") }","variables":{"v":"`+secret+`"}}}`)
		say("/socket.io/?EIO=4&transport=websocket&t=x", "", `< 0{"sid":"`+secret+`"}`, `> 40{"token":"`+secret+`"}`, `> 40/room-`+secret+`,`, `> 42["join`+at+`","`+secret+`"]`)
		say("/stomp"+at, "v12.stomp", `>q "CONNECT\nlogin:joe\npasscode:`+secret+`\nx-thing:`+secret+`\n\n\x00SUBSCRIBE\nid:0\ndestination:/user/`+secret+`/queue\n\n\x00"`)
		say("/cable"+at, "actioncable-v1-json", `> {"command":"subscribe","identifier":"{\"channel\":\"C\",\"signed_stream_name\":\"`+secret+`\"}"}`)
		say("/socket"+at+"/websocket?vsn=2.0.0&token="+secret, "", `> ["1","1","user:`+secret+`","phx_join",{"k":"`+secret+`"}]`)
		say("/hub"+at+"?access_token="+secret, "", `>q "{\"protocol\":\"json\",\"version\":1}\x1e"`, `>q "{\"type\":1,\"target\":\"Join\",\"arguments\":[\"`+secret+`\"]}\x1e"`)
		say("/wamp"+at, "wamp.2.json", `> [1,"realm",{"roles":{},"authid":"`+secret+`"}]`, `> [5,"`+secret+`",{}]`, `> [32,1,{},"com.`+secret+`"]`)
		o := seen(all...)
		o.Answers = polls(t, "/api/"+tokens[i%len(tokens)]+"?key="+secret+"&since={}", cookies, time.Second, `{"next":1,"k":"`+secret+`"}`, `{"next":2,"k":"`+secret+`"}`, `{"next":3,"k":"`+secret+`"}`)
		r, _ := conclude(t, o)
		routes += len(r.Routes)
		hidesAll(t, r)
	}
	if routes < 80 { // of 10 for each
		t.Errorf("%d routes alone", routes)
	}
}

// hidesAll fails where something secret is in any form of a report.
func hidesAll(t *testing.T, r learn.Report) {
	t.Helper()
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	if err := r.Table(&table); err != nil {
		t.Fatal(err)
	}
	shown := string(text) + r.Env + table.String()
	for n := range 8 {
		if strings.Contains(shown, planted(n)) {
			t.Errorf("%s is shown: %s", planted(n), around(shown, planted(n)))
		}
	}
	for _, secret := range tokens {
		if strings.Contains(shown, secret) {
			t.Errorf("%s is shown: %s", secret, around(shown, secret))
		}
	}
}

// around is what stands about text.
func around(all, text string) string {
	i := strings.Index(all, text)
	return all[max(i-200, 0):min(i+len(text)+60, len(all))]
}

// TestNotSecret checks that words are written as they are.
func TestNotSecret(t *testing.T) {
	for _, word := range []string{"prices", "BTC-USD", "com.myapp.mytopic1", "subscribeToAllMarketPrices", "btcusdt@aggTrade", "2026-11-29T12:00:00Z", "sensors/kitchen/temperature", "orders.v2.eu-west-1"} {
		r, _ := conclude(t, seen(talk(t, "/ws", "", `> {"op":"sub","what":"`+word+`"}`+"\n< {\"a\":1}")))
		has(t, one(t, r), `HELLO=> {"op":"sub","what":"`+word+`"}`)
	}
}
