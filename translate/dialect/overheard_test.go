package dialect

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestOverhear plays what another client has sent (>) and was sent (<), with ids of its own and a subscription more than the session's. >> and
// << are binary, in hex.
func TestOverhear(t *testing.T) {
	for _, c := range []struct {
		dialect, connect string
		lines            []string
		frames           []string
		want             string
	}{
		{gqlTransport, "", []string{"subscription { price }", `{"query":"subscription($s:String){ job(s:$s) }","variables":{"s":"7"}}`}, []string{
			`>{"type":"connection_init"}`, `<{"type":"connection_ack"}`,
			`>{"id":"b7f1","type":"subscribe","payload":{"query":"subscription {\n  price\n}","variables":{},"operationName":null}}`,
			`>{"id":"c8","type":"subscribe","payload":{"query":"subscription { other }"}}`,
			`>{"id":"d9","type":"subscribe","payload":{"variables":{"s":"7"},"query":"subscription($s:String){ job(s:$s) }"}}`,
			`<{"id":"b7f1","type":"next","payload":{"data":{"price":1}}}`, `<{"id":"c8","type":"next","payload":{"data":{"other":1}}}`, `<{"id":"d9","type":"next","payload":{"data":{"job":1}}}`,
			`<{"id":"c8","type":"complete"}`, `<{"id":"b7f1","type":"complete"}`, `<{"id":"b7f1","type":"next","payload":{}}`, `<{"id":"d9","type":"next","payload":{"data":{"job":2}}}`},
			`1 {"data":{"price":1}}, 2 {"data":{"job":1}}, 2 {"data":{"job":2}}`},
		{gqlLegacy, "", []string{"subscription { price }"}, []string{`>{"type":"connection_init","payload":{}}`, `<{"type":"connection_ack"}`, `<{"type":"ka"}`,
			`>{"id":"5","type":"start","payload":{"query":"subscription { price }","variables":null}}`, `<{"id":"5","type":"data","payload":{"data":{"price":1}}}`, `<{"id":"6","type":"data","payload":{}}`},
			`1 {"data":{"price":1}}`},
		{"stomp", "", []string{"/topic/prices"}, []string{">CONNECT\naccept-version:1.2\n\n\x00", "<CONNECTED\nversion:1.2\nserver:RabbitMQ/3\n\n\x00",
			">SUBSCRIBE\nid:mine\ndestination:/topic/prices\n\n\x00SUBSCRIBE\nid:more\ndestination:/topic/other\n\n\x00",
			"<MESSAGE\nsubscription:mine\nmessage-id:1\ndestination:/exchange/prices\n\none\x00MESSAGE\nsubscription:more\nmessage-id:2\ndestination:/topic/other\n\ntwo\x00\n",
			"<MESSAGE\nsubscription:mine\nmessage-id:3\ndestination:/topic/prices\n\nthree\x00"},
			`/exchange/prices one, /topic/prices three`},
		{"mqtt", "", []string{"prices/#"}, []string{">>101000044d515454040200000004616263" + "64", "<<2002" + "0100", ">>820e" + "000b" + "0003612f62" + "01" + "0003632f64" + "00", "<<9004000b0100",
			"<<300b" + "0008" + hex.EncodeToString([]byte("prices/a")) + "31" + "3009" + "0005" + hex.EncodeToString([]byte("other")) + "3233", "<<320d" + "0008" + hex.EncodeToString([]byte("prices/b")) + "0007" + "34"},
			`prices/a 1, prices/b 4`},
		{"phoenix", "", []string{"room:1"}, []string{`>["9","9","room:1","phx_join",{}]`, `>["10","10","room:2","phx_join",{}]`, `<["9","9","room:1","phx_reply",{"status":"ok","response":{}}]`,
			`<["10","10","room:2","phx_reply",{"status":"ok","response":{}}]`, `<[null,null,"room:1","new",{"a":1}]`, `<["9",null,"room:1","new",{"a":2}]`, `<["10",null,"room:2","new",{"a":3}]`,
			`<["9","1","room:1","phx_reply",{"status":"ok","response":{"pushed":1}}]`, `<[null,"11","phoenix","phx_reply",{"status":"ok","response":{}}]`},
			`room:1 {"a":1}, room:1 {"a":2}, room:1 {"status":"ok","response":{"pushed":1}}`},
		{"wamp", `{"realm":"r"}`, []string{"com.prices"}, []string{`>[1,"r",{}]`, `<[4,"ticket",{}]`, `<[2,77,{"roles":{}}]`, `>[32,900,{},"com.other"]`, `>[32,901,{},"com.prices"]`, `<[33,900,50]`, `<[33,901,51]`,
			`<[36,50,1,{},["no"]]`, `<[36,51,2,{},["yes"]]`, `>[34,902,51]`, `<[36,51,3,{},["late"]]`, `<[35,902]`, `>[32,903,{},"com.prices"]`, `<[33,903,60]`, `<[36,60,4,{},["again"]]`},
			`com.prices {"args":["yes"],"kwargs":{}}, com.prices {"args":["again"],"kwargs":{}}`},
		{"bayeux", "", []string{"/a/*", "/b"}, []string{`>[{"channel":"/meta/handshake"}]`, `<[{"channel":"/meta/handshake","successful":true,"clientId":"theirs","id":"1"}]`, `>[{"channel":"/meta/subscribe","subscription":"/**"}]`,
			`<[{"channel":"/meta/subscribe","successful":true,"subscription":"/**"}]`, `<[{"channel":"/a/1","data":1},{"channel":"/a/1/2","data":2},{"channel":"/c","data":3}]`, `<[{"channel":"/b","data":4},{"channel":"/meta/connect","successful":true,"id":"9"}]`},
			`/a/1 1, /b 4`},
		{"jsonrpc", "", []string{`heads=eth_subscribe ["newHeads"]`, "slotSubscribe"}, []string{`>{"jsonrpc":"2.0","id":77,"method":"eth_subscribe","params":["logs",{}]}`, `>[{"id":"h","method":"eth_subscribe","params":[ "newHeads" ]},{"id":9,"method":"net_version"}]`,
			`>{"id":78,"method":"slotSubscribe","params":[]}`, `<{"jsonrpc":"2.0","id":77,"result":"0xa"}`, `<[{"id":"h","result":"0xb"},{"id":9,"result":"1"}]`, `<{"id":78,"result":4}`,
			`<{"method":"eth_subscription","params":{"subscription":"0xa","result":"no"}}`, `<[{"method":"eth_subscription","params":{"subscription":"0xb","result":1}}]`, `<{"method":"slotNotification","params":{"subscription":4,"result":2}}`,
			`>{"id":80,"method":"eth_unsubscribe","params":["0xb"]}`, `<{"method":"eth_subscription","params":{"subscription":"0xb","result":3}}`, `<{"method":"aria2.onDownloadStart","params":[4]}`},
			`heads 1, slotSubscribe 2,  [4]`},
		{classicName, "", []string{`Chat.Join ["red"]`}, []string{`<{"C":"d-1-A,0","S":1,"M":[]}`, `>{"H":"chat","M":"Join","A":["red"],"I":0}`, `<{"I":"0"}`, `<{"C":"d-1-A,1|B,0","G":"g","M":[{"H":"Chat","M":"tick","A":[1]}]}`,
			`<{}`, `<{"I":"subscribe-1","E":"no"}`, `<{"C":"d-1-A,1|B,1","M":[{"H":"Chat","M":"tick","A":[2]}]}`}, `Chat 1, Chat 2`},
		{pubSubName, "", []string{"a", "b"}, []string{`<{"type":"system","event":"connected","connectionId":"c","reconnectionToken":"t"}`, `>{"type":"joinGroup","group":"c","ackId":1}`, `>{"type":"joinGroup","group":"b","ackId":2}`,
			`<{"type":"ack","ackId":1,"success":true}`, `<{"type":"ack","ackId":2,"success":true}`, `<{"type":"pong"}`, `<{"type":"message","from":"group","group":"b","dataType":"json","data":1,"sequenceId":1}`, `>{"type":"joinGroup","group":"a","ackId":3}`,
			`<{"type":"ack","ackId":3,"success":true}`, `<{"type":"message","from":"group","group":"c","dataType":"json","data":0,"sequenceId":2}`, `<{"type":"message","from":"group","group":"a","dataType":"text","data":"2","sequenceId":3}`,
			`<{"type":"message","from":"server","dataType":"json","data":3,"sequenceId":4}`, `>{"type":"leaveGroup","group":"b","ackId":4}`, `<{"type":"ack","ackId":4,"success":true}`, `<{"type":"message","from":"group","group":"a","dataType":"json","data":5,"sequenceId":5}`},
			`b 1, a 2,  3, a 5`},
		{"nats", "", []string{"news.*", "jobs.>"}, []string{"<INFO {\"server_id\":\"N\"} \r\n", ">CONNECT {}\r\nPING\r\n", "<PONG\r\n", ">SUB news.* 7\r\nSUB _INBOX.x.* 8\r\nPUB a.b 5\r\nSUB x\r\nSUB jobs.> 9\r\nSUB jobs.> group 10\r\n",
			"<MSG news.a 7 3\r\none\r\nMSG _INBOX.x.1 8 2\r\nno\r\nHMSG jobs.a.b 9 reply 12 15\r\nNATS/1.0\r\n\r\ntw", "<o\r\nMSG jobs.a 10 2\r\nno\r\n", ">UNSUB 7\r\n", "<PING\r\nMSG news.a 7 2\r\nno\r\nMSG jobs.x 9 5\r\nthree\r\n"},
			`news.a one, jobs.a.b two, jobs.x three`},
		{"centrifuge", "", []string{`a {"token":"t"}`, "b", "user:joe"}, []string{`>{"connect":{"token":"theirs"},"id":9}`, `<{"id":9,"connect":{"client":"c","subs":{"user:joe":{"recoverable":true}},"pong":true}}`,
			`>{"subscribe":{"channel":"c"},"id":10}` + "\n" + `{"subscribe":{"channel":"b","recover":true,"epoch":"e","offset":3},"id":11}`, `>{"id":12,"subscribe":{"channel":"a","token":"theirs","flag":1}}`,
			`<{"id":10,"subscribe":{}}` + "\n" + `{"id":11,"subscribe":{"recovered":true,"publications":[{"data":1}]}}`, `<{"id":12,"subscribe":{}}`, `<{}`,
			`<{"push":{"channel":"c","pub":{"data":0}}}{"push":{"channel":"a","pub":{"data":2}}}`, `<{"push":{"channel":"user:joe","pub":{"data":3}}}`, `>{"rpc":{},"id":2}`, `<{"id":2,"error":{"code":108}}`,
			`<{"push":{"channel":"a","unsubscribe":{"code":2000}}}`},
			`b 1, a 2, user:joe 3`},
		{"appsync", `{"apiKey":"k"}`, []string{"subscription { price }", `{"query":"subscription($s:String){ job(s:$s) }","variables":{"s":"7"}}`}, []string{`>{"type":"connection_init"}`, `<{"type":"connection_ack","payload":{"connectionTimeoutMs":300000}}`,
			`>{"id":"c","type":"start","payload":{"data":"{\"query\":\"subscription { other }\"}"}}`, `>{"id":"d","type":"start","payload":{"data":"{\"query\":\"subscription($s:String){ job(s:$s) }\",\"variables\":{\"s\":\"7\"}}","extensions":{}}}`,
			`>{"id":"e","type":"start","payload":{"data":"{\"query\":\"subscription {\\n  price\\n}\",\"variables\":{}}"}}`, `<{"id":"c","type":"start_ack"}`, `<{"id":"d","type":"start_ack"}`, `<{"id":"e","type":"start_ack"}`, `<{"type":"ka"}`,
			`<{"id":"c","type":"data","payload":{"data":{"other":1}}}`, `<{"id":"e","type":"data","payload":{"data":{"price":1}}}`, `<{"id":"d","type":"data","payload":{"data":{"job":2}}}`, `>{"id":"e","type":"stop"}`, `<{"id":"e","type":"complete"}`,
			`<{"id":"e","type":"data","payload":{"data":{"price":3}}}`},
			`1 {"data":{"price":1}}, 2 {"data":{"job":2}}`},
		{"appsync", `{"apiKey":"k"}`, []string{"/default/a", "/default/*"}, []string{`<{"type":"connection_ack","connectionTimeoutMs":300000}`, `>{"id":"c","type":"subscribe","channel":"/default/b"}`, `>{"id":"d","type":"subscribe","channel":"default/*"}`,
			`>{"id":"e","type":"subscribe","channel":"/default/a"}`, `<{"id":"c","type":"subscribe_success"}`, `<{"id":"d","type":"subscribe_success"}`, `<{"id":"e","type":"subscribe_success"}`, `>{"id":"p","type":"publish"}`, `<{"id":"p","type":"publish_error","errors":[]}`,
			`<{"id":"c","type":"data","event":"1"}`, `<{"id":"e","type":"data","event":"2"}`, `<{"id":"d","type":"data","event":["3","4"]}`},
			`/default/a 2, /default/* 3, /default/* 4`},
		{"ddp", `{"resume":"t"}`, []string{"prices", `rooms ["a", 1]`}, []string{`<{"server_id":"0"}`, `>{"msg":"connect","version":"1"}`, `<{"msg":"connected","session":"s"}`, `>{"msg":"method","id":"4","method":"login","params":[{"resume":"theirs"}]}`,
			`>{"msg":"sub","id":"Ab","name":"prices","params":[]}`, `>{"msg":"sub","id":"Cd","name":"rooms","params":["a",1]}`, `<{"msg":"result","id":"4","result":{}}`, `<{"msg":"added","collection":"p","id":"1","fields":{"n":1}}`, `<{"msg":"ready","subs":["Ab"]}`,
			`<{"msg":"ready","subs":["Cd"]}`, `<{"msg":"changed","collection":"p","id":"1","fields":{"m":2}}`, `>{"msg":"method","id":"5","method":"x","params":[]}`, `<{"msg":"result","id":"5","error":{"error":403}}`, `<{"msg":"ping"}`},
			`p {"fields":{"n":1},"id":"1"}, p {"fields":{"m":2,"n":1},"id":"1"}`},
		{gqlTransport, "", []string{"subscription { a }"}, []string{`<{"type":"connection_ack"}`, `>{"id":"x","type":"subscribe","payload":{"query":"subscription { a }"}}`, `>{"id":"y","type":"subscribe","payload":{"query":"subscription { a }"}}`,
			`<{"id":"x","type":"next","payload":{"data":1}}`, `<{"id":"y","type":"next","payload":{"data":1}}`, `>{"id":"x","type":"complete"}`, `<{"id":"x","type":"next","payload":{"data":2}}`, `<{"id":"y","type":"next","payload":{"data":3}}`},
			`1 {"data":1}, 1 {"data":3}`},
		{"phoenix", "", []string{"room:1"}, []string{`>["9","9","room:1","phx_join",{}]`, `<["9","9","room:1","phx_reply",{"status":"ok","response":{}}]`, `>["9","10","room:1","phx_leave",{}]`, `<["9","9","room:1","phx_close",{}]`,
			`<["9",null,"room:1","new",{"a":1}]`, `>["11","11","room:1","phx_join",{}]`, `<["11","11","room:1","phx_reply",{"status":"ok","response":{}}]`, `<["11",null,"room:1","new",{"a":2}]`}, `room:1 {"a":2}`},
		{"actioncable", "", []string{`{"channel":"Prices"}`}, []string{`<{"type":"welcome"}`, `>{"command":"subscribe","identifier":"{\"channel\":\"Prices\"}"}`, `<{"identifier":"{\"channel\":\"Prices\"}","type":"confirm_subscription"}`,
			`<{"type":"ping","message":1}`, `<{"identifier":"{\"channel\":\"Prices\"}","message":{"n":1}}`}, `{"channel":"Prices"} {"n":1}`},
	} {
		t.Run(c.dialect, func(t *testing.T) {
			d, err := Find(c.dialect)
			if err != nil || !Overhears(c.dialect) {
				t.Fatal(err)
			}
			o := Options{MaxMessage: 1 << 20, Binary: BinaryText, Dial: func() (Dial, error) { return Dial{URL: "ws://h/socket"}, nil },
				Connect: func() (string, error) { return c.connect, nil }, Subscribe: func() ([]string, error) { return c.lines, nil }}
			s, terms := d.New(o), Overhear(c.dialect, o)
			if _, err := s.Dial(nil); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Open(""); err != nil {
				t.Fatal(err)
			}
			var got []string
			for i, line := range c.frames {
				f := frameOf(t, line)
				if line[0] == '>' {
					terms.Client(f)
					continue
				}
				for _, f := range terms.Server(f) {
					received, err := s.Receive(t.Context(), time.Now(), f)
					if err != nil {
						t.Fatalf("frame %d, %s: %v", i, line, err)
					}
					for _, m := range received.Messages {
						if terms.Wants(m) {
							got = append(got, m.Topic+" "+string(m.Data))
						}
					}
				}
			}
			if all := strings.Join(got, ", "); all != c.want {
				t.Errorf("heard %s\nwant  %s", all, c.want)
			}
		})
	}
}

// overhearing is what reads for a session of the dialect with these settings.
func overhearing(t *testing.T, name, connect string, lines ...string) Overhearing {
	t.Helper()
	o := Overhear(name, Options{MaxMessage: 1 << 20, Dial: func() (Dial, error) { return Dial{URL: "ws://h/socket"}, nil },
		Connect: func() (string, error) { return connect, nil }, Subscribe: func() ([]string, error) { return lines, nil }})
	if o == nil {
		t.Fatal("nothing reads for it")
	}
	return o
}

// TestHears says in which dialects it matters what the client sends.
func TestHears(t *testing.T) {
	for name, want := range map[string]bool{"raw": false, "socket.io": false, sioPacked: false, "socket.io-v2": false, "sockjs": false, "sockjs+raw": false, "signalr": false, hubPacked: false, classicName: false,
		"actioncable": true, gqlTransport: true, gqlLegacy: true, "stomp": true, "mqtt": true, "phoenix": true, "wamp": true, "bayeux": true, "jsonrpc": true, "centrifuge": true, "nats": true, pubSubName: true, "appsync": true, "ddp": true, "parse": true} {
		if got := overhearing(t, name, "").Hears(); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestListening checks when a client has asked for all that SUBSCRIBE asks for: + in its frames is where it has, - where it has not.
func TestListening(t *testing.T) {
	const stompIn, stompA = "<CONNECTED\nversion:1.2\n\n\x00", ">SUBSCRIBE\nid:7\ndestination:/topic/a\n\n\x00"
	mqttSub := func(packet, filter string) string {
		return fmt.Sprintf(">>82%02x%s%04x%x00", 5+len(filter), packet, len(filter), filter)
	}
	const mqttIn, mqttWelcome = ">>101000044d5154540402000000046162636" + "4", "<<20020000"
	const mqtt5In, mqtt5Welcome = ">>100d00044d51545405020000000000", "<<2003000000"
	const cableA, cableB = `{"channel":"A"}`, `{"channel":"B"}`
	cable := func(way, name, command, identifier string) string {
		return fmt.Sprintf("%s{%q:%q,\"identifier\":%q}", way, name, command, identifier)
	}
	for name, c := range map[string]struct {
		dialect, connect string
		lines            []string
		frames           []string
	}{
		"raw": {"raw", "", nil, []string{"+"}},
		"other than the line": {gqlTransport, "", []string{"subscription { prices }"}, []string{"-", `<{"type":"connection_ack"}`,
			`>{"id":"1","type":"subscribe","payload":{"query":"subscription { orders }"}}`, "-", `>{"id":"2","type":"subscribe","payload":{"query":"subscription { prices __typename }"}}`, "-",
			`>{"id":"3","type":"subscribe","payload":{"query":"subscription { prices }"}}`, "+"}},
		"not let in yet": {gqlLegacy, "", []string{"subscription { prices }"}, []string{`>{"id":"1","type":"start","payload":{"query":"subscription { prices }"}}`, "-", `<{"type":"ka"}`, "-", `<{"type":"connection_ack"}`, "+"}},
		"graphql, an end": {gqlTransport, "", []string{"subscription { prices }"}, []string{`<{"type":"connection_ack"}`, `>{"id":"1","type":"subscribe","payload":{"query":"subscription { prices }"}}`, "+",
			`<{"id":"9","type":"complete"}`, `>{"id":"9","type":"complete"}`, "+", `>{"id":"1","type":"complete"}`, "-", `>{"id":"1","type":"subscribe","payload":{"query":"subscription { prices }"}}`, "+", `<{"id":"1","type":"complete"}`, "-"}},
		"graphql, a refusal": {gqlTransport, "", []string{"subscription { prices }"}, []string{`<{"type":"connection_ack"}`, `>{"id":"1","type":"subscribe","payload":{"query":"subscription { prices }"}}`,
			"+", `<{"id":"1","type":"error","payload":[]}`, "-"}},
		"appsync, not confirmed": {"appsync", `{"apiKey":"k"}`, []string{"/default/a"}, []string{`<{"type":"connection_ack"}`, "-", `>{"id":"x","type":"subscribe","channel":"/default/a"}`, "-", `<{"id":"x","type":"subscribe_success"}`, "+",
			`>{"id":"x","type":"unsubscribe"}`, "-"}},
		"ddp, others too": {"ddp", "", []string{"prices"}, []string{`<{"msg":"connected"}`, "-", `>{"msg":"sub","id":"a","name":"prices","params":[]}`, "-", `<{"msg":"ready","subs":["a"]}`, "+", `>{"msg":"sub","id":"b","name":"other","params":[]}`, "-",
			`>{"msg":"unsub","id":"b"}`, "-", `<{"msg":"nosub","id":"b"}`, "-"}},
		"graphql-ws, an end": {gqlLegacy, "", []string{"subscription { prices }"}, []string{`<{"type":"connection_ack"}`, `>{"id":"1","type":"start","payload":{"query":"subscription { prices }"}}`, "+", `>{"id":"1","type":"stop"}`, "-",
			`>{"id":"2","type":"start","payload":{"query":"subscription { prices }"}}`, "+", `>{"type":"connection_terminate"}`, "-"}},
		"graphql, one of two": {gqlTransport, "", []string{"subscription { a }", "subscription { b }"}, []string{`<{"type":"connection_ack"}`, `>{"id":"1","type":"subscribe","payload":{"query":"subscription { a }"}}`, "-",
			`>{"id":"2","type":"subscribe","payload":{"query":"subscription { a }"}}`, "-", `>{"id":"3","type":"subscribe","payload":{"query":"subscription { b }"}}`, "+", `>{"id":"1","type":"complete"}`, "+", `>{"id":"2","type":"complete"}`, "-"}},
		"stomp":                   {"stomp", "", []string{"/topic/a"}, []string{stompA, "-", stompIn, "+", ">UNSUBSCRIBE\nid:8\n\n\x00", "+", ">UNSUBSCRIBE\nid:7\n\n\x00", "-", stompA, "+", ">DISCONNECT\n\n\x00", "-"}},
		"stomp, in pieces":        {"stomp", "", []string{"/topic/a"}, []string{stompA, "<\nCONN", "<ECTED", "-", "<\nversion:1.2\n\n\x00", "+"}},
		"stomp, not let in":       {"stomp", "", []string{"/topic/a"}, []string{stompA, "<ERROR\n\nno\x00", "-", stompIn, "-"}},
		"stomp, another selector": {"stomp", "", []string{`/topic/a {"selector":"x>1","ack":"client"}`}, []string{stompIn, stompA, "-", ">SUBSCRIBE\nid:8\ndestination:/topic/a\nselector:x>1\n\n\x00", "+"}},
		"mqtt": {"mqtt", "", []string{"a/#", "b 1"}, []string{mqttIn, mqttWelcome, "-", mqttSub("0001", "a/#"), mqttSub("0002", "c"), mqttSub("0003", "b"), "-", "<<9003000100", "-", "<<9003000200", "-", "<<9003000300", "+",
			">>a203" + "0004" + "00", "+", ">>a205" + "0005" + "000162", "-", mqttSub("0006", "b"), "-", "<<9003000680", "-", mqttSub("0007", "b"), "<<9003000701", "+", ">>e000", "-"}},
		"mqtt, two in a packet": {"mqtt", "", []string{"b"}, []string{mqttIn, mqttWelcome, ">>820a" + "0001" + "000161" + "00" + "000162" + "00", "<<900400010080", "-", ">>820a" + "0001" + "000161" + "00" + "000162" + "00", "<<900400018000", "+"}},
		"mqtt 5":                {"mqtt", `{"version":5}`, []string{"b"}, []string{mqtt5In, mqtt5Welcome, ">>8207" + "0001" + "00" + "000162" + "00", "-", "<<900400010000", "+", ">>a206" + "0002" + "00" + "000162", "-"}},
		"mqtt, another version": {"mqtt", "", []string{"b"}, []string{mqtt5In, mqtt5Welcome, ">>8207" + "0001" + "00" + "000162" + "00", "<<900400010000", "-"}},
		"phoenix": {"phoenix", "", []string{`room:1 {"a":1,"b":2}`}, []string{`>["1","1","room:2","phx_join",{}]`, `<["1","1","room:2","phx_reply",{"status":"ok","response":{}}]`, `>["2","2","room:1","phx_join",{}]`,
			`<["2","2","room:1","phx_reply",{"status":"ok","response":{}}]`, "-", `>["3","3","room:1","phx_join",{"b":2,"a":1}]`, "-", `<["3","9","room:1","phx_reply",{"status":"ok","response":{}}]`, "-",
			`<["3","3","room:1","phx_reply",{"status":"ok","response":{}}]`, "+", `<["2",null,"room:1","phx_close",{}]`, "+", `>["3","4","room:1","phx_leave",{}]`, "-", `>["5","5","room:1","phx_join",{"b":2,"a":1}]`,
			`<["5","5","room:1","phx_reply",{"status":"error","response":{}}]`, "-"}},
		"phoenix, a crash": {"phoenix", "", []string{"room:1"}, []string{`>["1","1","room:1","phx_join",{}]`, `<["1","1","room:1","phx_reply",{"status":"ok","response":{}}]`, "+", `<["1","1","room:1","phx_error",{}]`, "-"}},
		"wamp": {"wamp", `{"realm":"r"}`, []string{"com.a"}, []string{`<[2,77,{}]`, "-", `>[32,1,{"match":"prefix"},"com.a"]`, `<[33,1,50]`, "-", `>[32,2,{},"com.a"]`, "-", `<[33,2,51]`, "+", `>[34,3,50]`, "+", `>[34,4,51]`, "-",
			`>[32,5,{},"com.a"]`, `<[8,32,5,{},"no"]`, `<[33,5,52]`, "-", `>[32,6,{},"com.a"]`, `<[33,6,53]`, "+", `<[35,0,{"subscription":53}]`, "-"}},
		"bayeux": {"bayeux", "", []string{"/a", `/b {"ext":{"k":1}}`}, []string{`<[{"channel":"/meta/handshake","successful":true,"clientId":"c"}]`, "-", `>[{"channel":"/meta/subscribe","subscription":"/a","clientId":"c","id":"2"},{"channel":"/meta/subscribe","subscription":["/b"],"id":"3"}]`,
			`<[{"channel":"/meta/subscribe","successful":true,"subscription":"/a"},{"channel":"/meta/subscribe","successful":true,"subscription":"/b"}]`, "-", `>[{"channel":"/meta/subscribe","subscription":"/b","ext":{"k":1}}]`, "-",
			`<[{"channel":"/meta/subscribe","successful":true,"subscription":"/b"}]`, "+", `>[{"channel":"/meta/unsubscribe","subscription":"/a"}]`, "-", `>[{"channel":"/meta/subscribe","subscription":["/a"]}]`, `<[{"channel":"/meta/subscribe","successful":false,"subscription":"/a"}]`, "-",
			`>[{"channel":"/meta/subscribe","subscription":["/a"]}]`, `<[{"channel":"/meta/subscribe","successful":true,"subscription":"/a"}]`, "+", `>[{"channel":"/meta/disconnect"}]`, "-"}},
		"actioncable": {"actioncable", "", []string{cableA, cableB}, []string{`<{"type":"welcome"}`, cable(">", "command", "subscribe", cableA), cable(">", "command", "subscribe", cableB), "-",
			cable("<", "type", "confirm_subscription", cableA), "-", cable("<", "type", "confirm_subscription", cableB), "+", cable(">", "command", "unsubscribe", `{"channel":"C"}`), "+", cable(">", "command", "unsubscribe", cableA), "-",
			cable(">", "command", "subscribe", cableA), cable("<", "type", "reject_subscription", cableA), cable("<", "type", "confirm_subscription", cableA), "-"}},
		"actioncable, restored": {"actioncable", "", []string{cableA}, []string{`<{"type":"welcome","sid":"s","restored":true,"restored_ids":["x"]}`, "-", `<{"type":"welcome","sid":"s","restored":true}`, "+"}},
	} {
		t.Run(name, func(t *testing.T) {
			o := overhearing(t, c.dialect, c.connect, c.lines...)
			for i, line := range c.frames {
				switch line[0] {
				case '>':
					o.Client(frameOf(t, line))
				case '<':
					o.Server(frameOf(t, line))
				default:
					if o.Listening() != (line == "+") {
						t.Fatalf("after frame %d, %q, it is %v", i-1, c.frames[max(i-1, 0)], o.Listening())
					}
				}
			}
		})
	}
}

// TestOverheardRemembersLittle checks that ids, which the client chooses, are kept neither without a bound to their number nor to their length.
func TestOverheardRemembersLittle(t *testing.T) {
	for name, c := range map[string]struct {
		line  string
		write func(id string) string
	}{
		gqlTransport: {"subscription { a }", func(id string) string {
			return `{"id":"` + id + `","type":"subscribe","payload":{"query":"subscription { a }"}}`
		}},
		"stomp":   {"a", func(id string) string { return "SUBSCRIBE\nid:" + id + "\ndestination:a\n\n\x00" }},
		"phoenix": {"a", func(id string) string { return `["` + id + `","` + id + `","a","phx_join",{}]` }},
		"wamp":    {"a", func(id string) string { return `[32,"` + id + `",{},"a"]` }},
		"ddp":     {"a", func(id string) string { return `{"msg":"sub","id":"` + id + `","name":"a"}` }},
		"parse": {"a", func(id string) string {
			return `{"op":"subscribe","requestId":"` + id + `","query":{"className":"a","where":{}}}`
		}},
		"appsync": {"/a", func(id string) string { return `{"id":"` + id + `","type":"subscribe","channel":"/a"}` }},
	} {
		t.Run(name, func(t *testing.T) {
			o := overhearing(t, name, `{"realm":"r"}`, c.line)
			o.Client(Frame{Data: []byte(c.write(strings.Repeat("x", 300)))})
			if n := remembered(t, o); n != 0 {
				t.Errorf("an id of 300 bytes is kept")
			}
			for i := range 5000 {
				o.Client(Frame{Data: []byte(c.write(fmt.Sprint(i)))})
			}
			if n := remembered(t, o); n == 0 || n > 256 {
				t.Errorf("%d are kept", n)
			}
		})
	}
}

func remembered(t *testing.T, o Overhearing) int {
	t.Helper()
	switch o := o.(type) {
	case *graphQLOverheard:
		return len(o.of)
	case *stompOverheard:
		return len(o.of)
	case *phxOverheard:
		return len(o.of)
	case *wampOverheard:
		return len(o.of)
	case *appSyncOverheard:
		return len(o.of)
	case *ddpOverheard:
		return len(o.of)
	case *parseOverheard:
		return len(o.of)
	}
	t.Fatal("it is not known what it keeps")
	return 0
}

// TestSameOperation checks when two operations ask for the same. They hold any JSON.
func TestSameOperation(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{`{"query":"subscription {\n a\n}"}`, `{"query":"subscription { a }","variables":{},"operationName":null}`, true},
		{`{"query":"q","variables":{"n":1.5,"m":[1,true,null]}}`, `{"variables":{"m":[1,true,null],"n":1.5},"query":"q"}`, true},
		{`{"query":"q","variables":{"n":1}}`, `{"query":"q","variables":{"n":2}}`, false},
		{`{"query":"q","variables":{"n":1}}`, `{"query":"q","variables":{"n":"1"}}`, false},
		{`{"query":"q","variables":{"n":9007199254740993}}`, `{"query":"q","variables":{"n":9007199254740992}}`, false},
		{`{"query":"{ a __typename }"}`, `{"query":"{ a }"}`, false},
	} {
		if got := sameOperation([]byte(c.a)) == sameOperation([]byte(c.b)); got != c.same {
			t.Errorf("%s and %s: %v", c.a, c.b, got)
		}
	}
}

// TestOverheardIsBounded checks that what cannot be read is not kept, however much of it comes.
func TestOverheardIsBounded(t *testing.T) {
	junk := strings.Repeat("\xff", 10<<10)
	for name, c := range map[string]struct {
		dialect, frame string
	}{
		"mqtt, another version":     {"mqtt", ">>101000044d515454050200000004616263" + "64"},
		"mqtt, a client of no kind": {"mqtt", ">>ffffffffffff"},
		"mqtt, a service of none":   {"mqtt", "<<ffffffffffff"},
		"stomp":                     {"stomp", ">" + junk + "\x00"},
	} {
		t.Run(name, func(t *testing.T) {
			o := overhearing(t, c.dialect, "", "prices")
			if o.Over() {
				t.Fatal("it is over before it begins")
			}
			hear := func(f Frame, asked bool) {
				if asked {
					o.Client(f)
				} else if got := o.Server(f); c.dialect == "mqtt" && o.Over() && len(got) > 0 {
					t.Error("more is read")
				}
			}
			hear(frameOf(t, c.frame), c.frame[0] == '>')
			if !o.Over() {
				t.Fatal("it goes on")
			}
			for i := range 2000 {
				hear(Frame{Binary: true, Data: []byte(junk)}, i%2 == 0)
			}
			kept := 0
			switch o := o.(type) {
			case *mqttOverheard:
				kept = cap(o.client.buf) + cap(o.server.buf)
			case *stompOverheard:
				kept = cap(o.parser.buf)
			}
			if kept > 0 {
				t.Errorf("%d bytes are kept", kept)
			}
		})
	}
}

func frameOf(t *testing.T, line string) Frame {
	t.Helper()
	if line[1] != line[0] {
		return Frame{Data: []byte(line[1:])}
	}
	data, err := hex.DecodeString(line[2:])
	if err != nil {
		t.Fatal(fmt.Errorf("%s: %w", line, err))
	}
	return Frame{Binary: true, Data: data}
}

// FuzzOverhear checks that nothing that passes makes it panic.
func FuzzOverhear(f *testing.F) {
	f.Add(0, "{\"id\":\"1\",\"type\":\"subscribe\",\"payload\":{\"query\":\"subscription { price }\"}}", "{\"id\":\"1\",\"type\":\"next\"}", false)
	f.Add(0, "{\"id\":\"1\",\"type\":\"subscribe\",\"payload\":{\"query\":\"q\",\"variables\":{\"n\":1}}}", "{\"id\":\"1\",\"type\":\"next\"}", false)
	f.Add(2, "SUBSCRIBE\nid:a\ndestination:prices\n\n\x00", "MESSAGE\nsubscription:a\n\nx\x00", false)
	f.Add(3, "\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00", "\x20\x02\x00\x00", true)
	f.Add(4, `["1","1","prices","phx_join",{}]`, `["1","1","prices","phx_reply",{}]`, false)
	f.Add(5, `[32,1,{},"prices"]`, `[33,1,2]`, false)
	f.Add(3, "\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00\x82\x0b\x00\x01\x00\x06prices\x00", "\x20\x02\x00\x00\x90\x03\x00\x01\x00", true)
	f.Add(5, `[34,1,2]`, `[36,2,1,{}]`, false)
	f.Add(6, `{"command":"subscribe","identifier":"{\"channel\":\"prices\"}"}`, `{"identifier":"{\"channel\":\"prices\"}","type":"confirm_subscription"}`, false)
	f.Add(9, `{"msg":"sub","id":"x","name":"prices","params":[]}`, `{"msg":"ready","subs":["x"]}`, false)
	f.Add(10, `{"op":"subscribe","requestId":7,"query":{"className":"prices","where":{}}}`, `{"op":"subscribed","requestId":7}`, false)
	f.Add(8, `{"id":"x","type":"subscribe","channel":"/prices"}`, `{"id":"x","type":"subscribe_success"}`, false)
	f.Add(7, `[{"channel":"/meta/subscribe","subscription":"/prices"}]`, `[{"channel":"/meta/subscribe","subscription":"/prices","successful":true},{"channel":"/prices","data":1}]`, false)
	lines := map[string]string{gqlTransport: "subscription { price }", gqlLegacy: "subscription { price }", "actioncable": `{"channel":"prices"}`, "bayeux": "/prices", "appsync": "/prices"}
	names := []string{gqlTransport, gqlLegacy, "stomp", "mqtt", "phoenix", "wamp", "actioncable", "bayeux", "appsync", "ddp", "parse"}
	f.Fuzz(func(t *testing.T, which int, client, server string, binary bool) {
		name := names[uint(which)%uint(len(names))]
		connect := ""
		if name == "wamp" {
			connect = `{"realm":"r"}`
		} else if name == "parse" {
			connect = `{"applicationId":"a"}`
		} else if name == "appsync" {
			connect = `{"apiKey":"k"}`
		}
		o := Options{MaxMessage: 1 << 16, Dial: func() (Dial, error) { return Dial{URL: "ws://h/"}, nil }, Connect: func() (string, error) { return connect, nil }, Subscribe: func() ([]string, error) { return []string{cmp.Or(lines[name], "prices")}, nil }}
		d, _ := Find(name)
		s, terms := d.New(o), Overhear(name, o)
		if terms == nil {
			return // what SUBSCRIBE has is none of this dialect's
		}
		_, _ = s.Dial(nil)
		if _, err := s.Open(""); err != nil {
			return
		}
		for range 2 {
			terms.Client(Frame{Binary: binary, Data: []byte(client)})
			terms.Listening()
			for _, f := range terms.Server(Frame{Binary: binary, Data: []byte(server)}) {
				got, err := s.Receive(t.Context(), time.Now(), f)
				for _, m := range got.Messages {
					terms.Wants(m)
				}
				if err != nil {
					return
				}
			}
		}
	})
}
