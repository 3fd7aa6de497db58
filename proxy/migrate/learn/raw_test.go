package learn_test

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"encoding/hex"
	"io"
	"strings"
	"testing"

	"sidestream/proxy/migrate/learn"
)

// seen is an observation of conversations.
func seen(all ...*learn.Conversation) *learn.Observation {
	return &learn.Observation{Conversations: all}
}

const feed = `> {"type":"subscribe","channel":"prices"}
	< {"type":"subscribed","channel":"prices"}
	< {"type":"price","symbol":"A","price":1}
	+1s
	< {"type":"price","symbol":"B","price":2}
	+1s
	< {"type":"ping","id":17}
	> {"type":"pong","id":17}
	< {"type":"trade","symbol":"B","size":2}
	+1s
	< {"type":"price","symbol":"B","price":3}
	< {"type":"trade","symbol":"A","size":3}
	+5s
	< {"type":"ping","id":18}
	> {"type":"pong","id":18}
	< {"type":"price","symbol":"A","price":4}
	`

func TestRawFeed(t *testing.T) {
	r, c := conclude(t, seen(talk(t, "/ws", "_ga=GA1.1.2; sid=s3cr3tSessionValue1", feed)))
	rt := one(t, r)
	has(t, rt, "FROM=ws://localhost:3000/ws", "PATH=/events/ws", "HEADERS=Cookie: sid={cookie.sid}", "FORWARD=", "PROTOCOL=",
		"HELLO=> {\"type\":\"subscribe\",\"channel\":\"prices\"}\n< .type==\"subscribed\"",
		`REPLY=select(.type=="ping")|{"type":"pong","id":.id}`, `SELECT=select(.type=="ping"|not)`, "EVENT=.type")
	if len(c.Routes) != 1 {
		t.Errorf("%d routes are loaded", len(c.Routes))
	}
}

// TestRawCounted checks that numbers by which a client counts its messages are counted.
func TestRawCounted(t *testing.T) {
	r, _ := conclude(t, seen(talk(t, "/ws", "", `> {"id":1,"type":"hello"}
		< {"id":1,"type":"result","success":true}
		> {"id":3,"type":"subscribe"}
		< {"id":3,"type":"result","success":true}
		< {"id":3,"type":"event"}
		+30s
		> {"id":4,"type":"ping"}
		< {"id":4,"type":"pong"}`)))
	has(t, one(t, r), `PING={"id":{stream.n},"type":"ping"}`, "HELLO=> {\"id\":{stream.n},\"type\":\"hello\"}\n< .type==\"result\"\n> {\"id\":{stream.n},\"type\":\"subscribe\"}\n< .type==\"result\"")
}

// TestRawUnanswered checks that a ping that came last is one all the same.
func TestRawUnanswered(t *testing.T) {
	r, _ := conclude(t, seen(talk(t, "/ws", "", `< {"type":"ping","id":17}
		> {"type":"pong","id":17}
		+5s
		< {"type":"ping","id":18}
		< {"type":"tick"}
		> {"type":"pong","id":18}
		+5s
		< {"type":"ping","id":19}`)))
	has(t, one(t, r), `REPLY=select(.type=="ping")|{"type":"pong","id":.id}`, "PING=", "HELLO=")
}

func TestRawPings(t *testing.T) {
	r, _ := conclude(t, seen(talk(t, "/ws", "", `< {"event":"tick","n":1}
		+10s
		> {"op":"ping","n":1}
		< {"op":"pong","n":1}
		< {"event":"tick","n":2}
		+10s
		> {"op":"ping","n":2}
		< {"op":"pong","n":2}
		< {"event":"tick","n":3}
		+10s
		> {"op":"ping","n":3}
		< {"op":"pong","n":3}`)))
	has(t, one(t, r), `PING={"op":"ping","n":{stream.n}}`, "PING_EVERY=10s", `PONG=.op=="pong"`, "HELLO=", "REPLY=", "EVENT=")
}

// TestRawState checks that what the service has said before comes back by STATE, and is waited for.
func TestRawState(t *testing.T) {
	session := func(id string) string {
		return `< {"type":"hello","session":"` + id + `"}
			> {"type":"join","session":"` + id + `","room":"lobby"}
			< {"type":"joined"}
			< {"type":"said","text":"a"}
			< {"type":"said","text":"b"}
			< {"type":"left","text":"c"}
			< {"type":"left","text":"c"}`
	}
	r, _ := conclude(t, seen(talk(t, "/ws", "", session("f00b1c9a77de")), talk(t, "/ws", "", session("0a1b2c3d4e5f"))))
	has(t, one(t, r), `STATE=(select(.type=="hello")|{session:.session})`,
		"HELLO=< .type==\"hello\"\n> {\"type\":\"join\",\"session\":\"{state.session}\",\"room\":\"lobby\"}\n< .type==\"joined\"", "EVENT=.type")
}

// TestRawStateLate checks that a value is waited for whatever the message that has it is called, here after another one.
func TestRawStateLate(t *testing.T) {
	session := func(id string) string {
		return `> {"op":"begin"}
			< {"op":"salt","of":"` + id + `"}
			> {"op":"go","with":"` + id + `"}
			< {"op":"tick","n":1}
			< {"op":"tick","n":2}`
	}
	r, _ := conclude(t, seen(talk(t, "/ws", "", session("f00b1c9a")), talk(t, "/ws", "", session("0a1b2c3d"))))
	has(t, one(t, r), `STATE=(select(.op=="salt")|{of:.of})`, "HELLO=> {\"op\":\"begin\"}\n< .op==\"salt\"\n> {\"op\":\"go\",\"with\":\"{state.of}\"}", "EVENT=")
}

// TestRawChat checks that what people send now and then is neither a ping nor a part of the opening.
func TestRawChat(t *testing.T) {
	r, _ := conclude(t, seen(talk(t, "/chat", "", `> {"op":"join"}
		< {"op":"said","text":"a"}
		+40s
		> {"op":"say","text":"one"}
		+3s
		> {"op":"say","text":"two"}
		+65s
		> {"op":"say","text":"three"}
		< {"op":"said","text":"b"}
		+7s
		> {"op":"say","text":"four"}`)))
	rt := one(t, r)
	has(t, rt, "PING=", "REPLY=", `HELLO=> {"op":"join"}`)
	if !strings.Contains(strings.Join(rt.Notes, "\n"), "SEND=true") {
		t.Errorf("%q", rt.Notes)
	}
}

// TestRawPlaces checks where values come from that differ between clients.
func TestRawPlaces(t *testing.T) {
	job := func(id, user, cookie, room string) *learn.Conversation {
		return talk(t, "/jobs/"+id+"/progress?user="+user+"&v=2", "who="+cookie, `> {"op":"watch","job":`+id+`,"as":"`+user+`","auth":"`+cookie+`","room":"`+room+`","at":"`+room+`"}
			< {"op":"progress","percent":1}
			< {"op":"progress","percent":2}
			< {"op":"progress","percent":3}`)
	}
	r, _ := conclude(t, seen(job("1001", "ann", "cookieCookie111", "red"), job("1002", "bob", "cookieCookie222", "blue")))
	rt := one(t, r)
	has(t, rt, "FROM=ws://localhost:3000/jobs/{path.id}/progress?user={query.user}&v=2", "PATH=/events/jobs/{id}/progress",
		`HELLO=> {"op":"watch","job":{path.id},"as":"{query.user}","auth":"{cookie.who}","room":"{query.room}","at":"{query.at}"}`, "EVENT=")
	if rt.Old != "/jobs/{id}/progress" || rt.Seen != 2 {
		t.Errorf("%s was seen %d times", rt.Old, rt.Seen)
	}
}

// TestRawTemplatesOfWords checks that names of one kind in a path are found where there are several of them.
func TestRawTemplatesOfWords(t *testing.T) {
	room := func(name string) *learn.Conversation {
		return talk(t, "/rooms/"+name+"/feed", "", "< {\"text\":\"a\"}\n< {\"text\":\"b\"}")
	}
	r, _ := conclude(t, seen(room("red"), room("green"), room("blue"), talk(t, "/rooms", "", "< {\"list\":[]}")))
	if len(r.Routes) != 2 {
		t.Fatal(r.Env)
	}
	has(t, &r.Routes[0], "FROM=ws://localhost:3000/rooms")
	has(t, &r.Routes[1], "FROM=ws://localhost:3000/rooms/{path.id}/feed")
}

// TestRawRefused checks that what a service says before it closes is what refuses.
func TestRawRefused(t *testing.T) {
	good := `< {"type":"auth_required"}
		> {"type":"auth","access_token":"abc"}
		< {"type":"auth_ok"}
		> {"id":1,"type":"subscribe_events"}
		< {"id":1,"type":"result","success":true}
		< {"id":1,"type":"event","data":1}
		< {"id":1,"type":"event","data":2}
		< {"id":1,"type":"event","data":3}`
	bad := `< {"type":"auth_required"}
		> {"type":"auth","access_token":"xyz"}
		< {"type":"auth_invalid","message":"no"}
		closed 4401`
	r, _ := conclude(t, seen(talk(t, "/api/websocket", "", good), talk(t, "/api/websocket", "", bad)))
	has(t, one(t, r), "HELLO=< .type==\"auth_required\"\n> {\"type\":\"auth\",\"access_token\":\"{query.access_token}\"}\n< .type==\"auth_ok\"\n> {\"id\":1,\"type\":\"subscribe_events\"}\n< .type==\"result\"")
	r, _ = conclude(t, seen(talk(t, "/api/websocket", "", bad)))
	has(t, one(t, r), "HELLO=< .type==\"auth_required\"\n! .type==\"auth_invalid\"\n> {\"type\":\"auth\",\"access_token\":\"{query.access_token}\"}", "CLOSE=4401=refused:401")
}

// TestRawSnapshot checks that a first message that holds data is not taken for an answer: it would be no event.
func TestRawSnapshot(t *testing.T) {
	r, _ := conclude(t, seen(talk(t, "/ws", "", `> {"op":"subscribe","channel":"book"}
		< {"op":"snapshot","channel":"book","bids":[1,2,3]}
		< {"op":"update","channel":"book","bid":1}
		< {"op":"update","channel":"book","bid":2}
		< {"op":"update","channel":"book","bid":3}
		< {"op":"update","channel":"book","bid":4}`)))
	has(t, one(t, r), `HELLO=> {"op":"subscribe","channel":"book"}`, "EVENT=.op", "SELECT=")
}

// TestRawForms checks what becomes of messages that are binary, or several in one, or text.
func TestRawForms(t *testing.T) {
	r, _ := conclude(t, seen(talk(t, "/a", "", "<< 7b2261223a317d\n<< 7b2261223a327d")))
	has(t, one(t, r), "BINARY=text")
	r, _ = conclude(t, seen(talk(t, "/a", "", "<< 00ff01\n<< 00ff02")))
	has(t, one(t, r), "BINARY=")
	r, _ = conclude(t, seen(talk(t, "/a", "", `<q "{\"n\":1}\x1e{\"n\":2}\x1e"
		<q "{\"n\":3}\x1e"`)))
	has(t, one(t, r), `SEPARATOR=\x1e`, "PROTOCOL=")
	r, _ = conclude(t, seen(talk(t, "/a", "", `<q "{\"n\":1}\n{\"n\":2}\n"`)))
	has(t, one(t, r), `SEPARATOR=\n`)
	r, _ = conclude(t, seen(talk(t, "/a", "", `> LOGIN joe PLANTED0secret1value2
		< OK welcome
		> SUB it's
		> it's {"a":1}
		>q "{\"text\":\"it's\"}"
		>q " it's two\nlines"
		< tick 1
		+20s
		> ping
		< pong
		+20s
		> ping
		< pong
		+20s
		> ping
		< pong`)))
	has(t, one(t, r), "PING=ping", "PING_EVERY=20s", `PONG=.=="pong"`, "HELLO=> LOGIN joe {query.joe}\n< .==\"OK welcome\"\n> {\"text\":\"it\\u0027s\"}\n= \" it\\u0027s two\\nlines\"")
}

// TestRawWays checks that clients that open otherwise are other routes, and those that were cut are none.
func TestRawWays(t *testing.T) {
	open := func(op string) string {
		return `> {"op":"` + op + `"}
			< {"op":"tick"}
			< {"op":"tick"}
			< {"op":"tick"}
			< {"op":"tick"}
			< {"op":"tick"}`
	}
	r, _ := conclude(t, seen(talk(t, "/ws", "", open("a")), talk(t, "/ws", "", open("b")), talk(t, "/ws", "", open("b")), talk(t, "/ws", "", "closed 1006")))
	if len(r.Routes) != 2 || r.Routes[0].Name == r.Routes[1].Name || r.Routes[0].Path == r.Routes[1].Path || r.Routes[1].Seen != 2 {
		t.Errorf("%s", r.Env)
	}
}

// TestOthersHosts checks that a WebSocket of another service keeps its address.
func TestOtherHosts(t *testing.T) {
	c := talk(t, "/stream", "", "< {\"a\":1}")
	c.Base = "https://feeds.example.com"
	r, _ := conclude(t, seen(c))
	has(t, one(t, r), "FROM=wss://feeds.example.com/stream")
}

// TestRawCompressed checks that what is compressed is looked into, and named.
func TestRawCompressed(t *testing.T) {
	packed := func(w interface {
		io.WriteCloser
		Reset(io.Writer)
	}, text string) string {
		var out bytes.Buffer
		w.Reset(&out)
		io.WriteString(w, text)
		w.Close()
		return "\n<< " + hex.EncodeToString(out.Bytes())
	}
	gz, zl := gzip.NewWriter(nil), zlib.NewWriter(nil)
	talked := `> {"sub":"market.btcusdt.ticker","id":"id1"}` + packed(gz, `{"id":"id1","status":"ok","subbed":"market.btcusdt.ticker","ts":1}`) +
		packed(gz, `{"ping":101}`) + "\n" + `> {"pong":101}` + packed(gz, `{"ch":"market.btcusdt.ticker","tick":{"close":1}}`) +
		"\n+5s" + packed(gz, `{"ping":102}`) + "\n" + `> {"pong":102}` + packed(gz, `{"ch":"market.btcusdt.ticker","tick":{"close":2}}`) +
		"\n+5s" + packed(gz, `{"ping":103}`) + "\n" + `> {"pong":103}` + packed(gz, `{"ch":"market.btcusdt.ticker","tick":{"close":3}}`)
	r, _ := conclude(t, seen(talk(t, "/a", "", talked)))
	has(t, one(t, r), "DECODE=gzip", "BINARY=", `REPLY=select(.ping!=null)|{"pong":.ping}`, "HELLO=> {\"sub\":\"market.btcusdt.ticker\",\"id\":\"id1\"}\n< .status!=null", "SELECT=select(.ping!=null|not)")
	r, _ = conclude(t, seen(talk(t, "/a", "", packed(zl, `{"a":1}`)+packed(zl, `{"a":2}`))))
	has(t, one(t, r), "DECODE=zlib")
	for name, lines := range map[string]string{
		"both": packed(zl, `{"a":1}`) + packed(gz, `{"a":2}`), "not all": packed(gz, `{"a":1}`) + "\n<< 00ff", "cut short": packed(gz, `{"a":1}`)[:40],
		"a bomb": packed(gz, strings.Repeat("x", 16<<10)), "text": "\n< x\u009c",
	} {
		r, _ = conclude(t, seen(talk(t, "/a", "", lines)))
		if strings.Contains(r.Env, "_DECODE=") {
			t.Errorf("%s:\n%s", name, r.Env)
		}
	}
}
