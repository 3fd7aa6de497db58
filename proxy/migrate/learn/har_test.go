package learn_test

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"sidestream/proxy/migrate/learn"
)

// chromium is a file as Chromium 156 exports it, cut to what matters.
const chromium = `{"log":{"version":"1.2","creator":{"name":"WebInspector","version":"537.36"},"pages":[{"startedDateTime":"2026-11-29T12:00:00.000Z","id":"page_1","title":"http://localhost:3000/"}],"entries":[
{"_initiator":{"type":"other"},"_priority":"VeryHigh","_resourceType":"document","request":{"method":"GET","url":"http://localhost:3000/","headers":[],"queryString":[],"cookies":[]},"response":{"status":200,"headers":[],"content":{"size":9,"mimeType":"text/html","text":"<title>x"}},"startedDateTime":"2026-11-29T12:00:00.000Z","time":3.2},
{"_resourceType":"websocket","_webSocketMessages":[
 {"type":"send","time":1795953600.5,"opcode":1,"data":"{\"type\":\"subscribe\",\"channel\":\"prices\"}"},
 {"type":"receive","time":1795953600.51,"opcode":1,"data":"{\"type\":\"subscribed\",\"channel\":\"prices\"}"},
 {"type":"receive","time":1795953601.5,"opcode":1,"data":"{\"type\":\"price\",\"n\":1}"},
 {"type":"receive","time":1795953602.5,"opcode":2,"data":"AAEC"},
 {"type":"error","time":1795953602.6,"opcode":-1,"data":"WebSocket error"},
 {"type":"receive","time":1795953603.5,"opcode":1,"data":"{\"type\":\"price\",\"n\":2}"}],
 "request":{"method":"GET","url":"ws://localhost:3000/ws","headers":[{"name":"Cookie","value":"[REDACTED]"},{"name":"Sec-WebSocket-Key","value":"abc="}],"cookies":[]},"response":{"status":101,"headers":[{"name":"Sec-WebSocket-Extensions","value":"permessage-deflate"}],"content":{"size":0,"mimeType":"x-unknown"}},"startedDateTime":"2026-11-29T12:00:00.400Z","time":3100},
%s
{"_resourceType":"other","request":{"method":"GET","url":"data:text/plain,x","headers":[],"cookies":[]},"response":{"status":200,"headers":[],"content":{}},"startedDateTime":"2026-11-29T12:00:00.000Z","time":0},
"nonsense", {"request":7}, {"startedDateTime":"yesterday"}
]}}`

// polled is an entry of a poll. Firefox writes headers in another order, base64 with its encoding, and no messages.
func polled(second int, body string) string {
	return fmt.Sprintf(`{"pageref":"page_1","startedDateTime":"2026-11-29T12:00:%02d.000+00:00","request":{"bodySize":0,"method":"GET","url":"http://localhost:3000/api/orders","httpVersion":"HTTP/1.1",
	"headers":[{"name":"Cookie","value":"sid=PLANTED-sid"}],"cookies":[{"name":"sid","value":"PLANTED-sid"}],"queryString":[]},
	"response":{"status":200,"headers":[{"name":"Set-Cookie","value":"sid=PLANTED-sid; HttpOnly"}],"content":{"mimeType":"application/json","size":7,"encoding":"base64","text":"%s"}},"cache":{},"timings":{},"time":12},`,
		second, base64.StdEncoding.EncodeToString([]byte(body)))
}

func TestHAR(t *testing.T) {
	o, err := learn.ReadHAR(strings.NewReader(fmt.Sprintf(chromium, polled(1, `{"n":1}`)+polled(3, `{"n":2}`)+polled(5, `{"n":3}`))))
	if err != nil {
		t.Fatal(err)
	}
	r := learn.Conclude(o, nil)
	load(t, r.Env)
	if len(r.Routes) != 2 || strings.Contains(r.Env, "PLANTED") {
		t.Fatal(r.Env)
	}
	has(t, &r.Routes[0], "FROM=ws://localhost:3000/ws", "HELLO=> {\"type\":\"subscribe\",\"channel\":\"prices\"}\n< (.type?)==\"subscribed\"")
	has(t, &r.Routes[1], "FROM=http://localhost:3000/api/orders", "EVERY=2s", "HEADERS=Cookie: sid={cookie.sid}")
	if !strings.Contains(r.Env, "values were taken out") || !strings.Contains(r.Env, "1 of 4 messages are binary") || !strings.Contains(r.Env, "1 of 1 WebSockets are compressed") {
		t.Error(r.Env)
	}
}

// TestHARWithoutMessages is Firefox's: a WebSocket of which there is nothing but the request.
func TestHARWithoutMessages(t *testing.T) {
	o, err := learn.ReadHAR(strings.NewReader(`{"log":{"creator":{"name":"Firefox"},"entries":[{"startedDateTime":"2026-11-29T12:00:00Z","request":{"method":"GET","url":"ws://localhost:3000/ws","headers":[]},"response":{"status":101,"headers":[]}}]}}`))
	if err != nil {
		t.Fatal(err)
	}
	r := learn.Conclude(o, nil)
	load(t, r.Env)
	if len(r.Routes) != 0 || !strings.Contains(r.Env, "Firefox exports none") {
		t.Error(r.Env)
	}
}

// TestHARElsewhere checks that the service is the one that was asked most.
func TestHARElsewhere(t *testing.T) {
	text := strings.ReplaceAll(fmt.Sprintf(chromium, polled(1, `{"n":1}`)+polled(3, `{"n":2}`)+polled(5, `{"n":3}`)), "ws://localhost:3000", "wss://feeds.example.com")
	o, err := learn.ReadHAR(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	r := learn.Conclude(o, nil)
	load(t, r.Env)
	if !strings.Contains(r.Env, "SSE_UPSTREAM=http://localhost:3000\n") || !strings.Contains(r.Env, "FROM=wss://feeds.example.com/ws\n") {
		t.Error(r.Env)
	}
}

func TestNoHAR(t *testing.T) {
	for _, text := range []string{"", "{", "[]", "PLANTED", `{"log":7}`, `{"log":{"entries":{}}}`, `{"a":1}`, `{"log":{"entries":[]}}`, `{"log":{"entries":[{},`, "\x1f\x8b\x08"} {
		if _, err := learn.ReadHAR(strings.NewReader(text)); err == nil || strings.Contains(err.Error(), "PLANTED") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// FuzzHAR checks that no file makes the reader, or what concludes from it, fail otherwise than by an error, or write an env file that is none.
func FuzzHAR(f *testing.F) {
	f.Add(fmt.Sprintf(chromium, polled(1, `{"n":1}`)))
	f.Add(`{"log":{"entries":[{"startedDateTime":"2026-11-29T12:00:00Z","request":{"url":"ws://a/b?x={query.y}&'=%27"},"_webSocketMessages":[{"type":"send","time":-1,"opcode":1,"data":"{query.x}'\n"},{"type":"receive","time":1e99,"opcode":2,"data":"!"}]}]}}`)
	for _, ours := range []string{"{= x", "{=1}", "{secret.a}", "@ b", "a {= b"} { // which would be more than text
		f.Add(fmt.Sprintf(`{"log":{"entries":[{"startedDateTime":"2026-11-29T12:00:00Z","request":{"url":"ws://a/b/%[1]s?x=%[1]s"},"_webSocketMessages":[{"type":"send","time":1,"opcode":1,"data":"%[1]s"},{"type":"receive","time":2,"opcode":1,"data":"{\"a\":1}"},{"type":"send","time":3,"opcode":1,"data":"{\"a\":\"%[1]s\"}"}]}]}}`, ours))
	}
	f.Fuzz(func(t *testing.T, text string) {
		o, err := learn.ReadHAR(strings.NewReader(text))
		if err != nil {
			return
		}
		load(t, learn.Conclude(o, nil).Env)
	})
}

// FuzzConclude checks that whatever is said in a conversation, an env file that loads comes of it.
func FuzzConclude(f *testing.F) {
	f.Add("/ws?a=b", "c=d", "", `{"type":"subscribe"}`, `{"type":"ok"}`, "ping", "pong")
	f.Add("/a/{x}/..", "s id=1", "v12.stomp", "SUBSCRIBE\ndestination:/a\n\n\x00", "CONNECTED\n\n\x00", "", "")
	f.Add("/s?EIO=4", "", "", `40/a?b=c,{"a":"'"}`, `42["x"]`, `42["'",{}]`, "3")
	f.Add("/q", "", "mqtt", "\x10\x0e\x00\x04MQTT\x04\x02\x00\x1e\x00\x02c1", "\x20\x02\x00\x00", "\x82\x08\x00\x01\x00\x03a/#\x01", "\xd0\x00")
	f.Add("/g", "", "graphql-ws", `{"type":"connection_init"}`, `{"type":"start","payload":{"query":"subscription{a}"}}`, `{"type":"subscribe","payload":{"query":"subscription\n{a}"}}`, "")
	f.Add("/w", "", "wamp.2.json", `[1,"r",{"roles":{}}]`, `[2,1,{}]`, `[32,1,{},"a b"]`, "")
	f.Fuzz(func(t *testing.T, path, cookie, subprotocol, c1, s1, c2, s2 string) {
		c := &learn.Conversation{Subprotocol: subprotocol}
		c.Path, _, _ = strings.Cut(path, "?")
		c.At = begin
		if name, v, ok := strings.Cut(cookie, "="); ok {
			c.Cookies = []learn.Pair{{Name: name, Value: v}}
		}
		_, query, _ := strings.Cut(path, "?")
		if name, v, ok := strings.Cut(query, "="); ok {
			c.Query = []learn.Pair{{Name: name, Value: v}}
		}
		for i, text := range []string{c1, s1, c2, s2, s2, c2, s2, c2, s2} {
			c.Frames = append(c.Frames, learn.Frame{At: begin.Add(learnTime(i)), FromClient: i == 0 || i == 2 || i == 5 || i == 7, Data: []byte(text)})
		}
		o := &learn.Observation{Base: base, Conversations: []*learn.Conversation{c}}
		load(t, learn.Conclude(o, nil).Env)
	})
}
