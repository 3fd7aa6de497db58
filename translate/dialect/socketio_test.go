package dialect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"sidestream/translate"
	"sidestream/translate/decode"
)

func sioSession(t testing.TB, max int, lines ...string) *socketio {
	t.Helper()
	s := newSocketIO(Options{Connect: fixed(""), Subscribe: fixedLines(lines...), MaxMessage: max}).(*socketio)
	if _, err := s.Open(""); err != nil {
		t.Fatal(err)
	}
	sioSay(t, s, `0{"pingInterval":25000,"pingTimeout":20000}`)
	for _, n := range s.spaces {
		sioSay(t, s, "40"+sioPrefix(n.name)+`{"sid":"a","pid":"p"}`)
	}
	return s
}

// sioSay gives s text messages, or binary ones where they begin with 0x00, and returns what became of the last.
func sioSay(t testing.TB, s Session, frames ...string) (got Received) {
	t.Helper()
	for _, text := range frames {
		data, binary := strings.CutPrefix(text, "\x00")
		var err error
		if got, err = s.Receive(context.Background(), noon, Frame{Binary: binary, Data: []byte(data)}); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
	}
	return got
}

func TestSocketIOChecks(t *testing.T) {
	for _, c := range []struct {
		v2            bool
		connect, line string
		want          string
	}{
		{false, "", "/admin", ""}, {false, `{"a":1}`, "/", ""}, {false, "{}", "admin", ""}, {true, "", "/admin?token=0", ""},
		{false, "token", "/", "CONNECT: is not a JSON object"}, {false, "[1]", "/", "CONNECT: is not a JSON object"}, {false, "null", "/", "CONNECT: is not a JSON object"},
		{false, "", "/admin?token=0", "SUBSCRIBE: line 2: has a query"}, {false, "", "/a,/b", "SUBSCRIBE: line 2: has a comma"},
		{true, "", "/a b", "SUBSCRIBE: line 2: has a comma or a blank"},
	} {
		check := checkSocketIO
		if c.v2 {
			check = checkSocketIOv2
		}
		err := check(c.connect, []string{"/fine", c.line})
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestSocketIOAddress(t *testing.T) {
	for _, c := range []struct {
		v2         bool
		from, want string
	}{
		{false, "ws://h", "ws://h/socket.io/?EIO=4&transport=websocket"},
		{false, "wss://u:p@h:1/", "wss://u:p@h:1/socket.io/?EIO=4&transport=websocket"},
		{true, "ws://h/?a=%7B%22&", "ws://h/socket.io/?a=%7B%22&EIO=3&transport=websocket"},
		{false, "ws://h/a%2Fb/io?transport=websocket&x=1&EIO=4", "ws://h/a%2Fb/io?transport=websocket&x=1&EIO=4"},
		{false, "ws://h/?EIO=3", "write PROTOCOL=socket.io-v2"},
		{true, "ws://h/?EIO=4", "write PROTOCOL=socket.io,"},
		{false, "ws://h/?transport=polling", "another transport than websocket"},
		{false, "ws://h/?EIO=4&EIO=4", "another EIO"},
	} {
		s := &socketio{v2: c.v2}
		got, err := s.address(c.from)
		if err != nil {
			got = err.Error()
		}
		if got != c.want && (err == nil || !strings.Contains(got, c.want)) {
			t.Errorf("%s: %s, want %s", c.from, got, c.want)
		}
	}
}

func TestSocketIONamespaces(t *testing.T) {
	s := sioSession(t, 0, "/a", "a", "/b", "/a")
	if len(s.spaces) != 2 || !s.ready {
		t.Fatalf("%d namespaces, ready %v", len(s.spaces), s.ready)
	}
	frames, err := s.Send(translate.Message{Data: []byte(` ["x"] `)})
	if err != nil || string(frames[0].Data) != `42/a,["x"]` {
		t.Errorf("%v, %v", frames, err)
	}
	for _, bad := range []string{``, `[]`, `{}`, `[{}]`, `["a"`, `/c,["a"]`, `/a`, `/a,`, "[\"\xff\"]", `"a"`} {
		if frames, err := s.Send(translate.Message{Data: []byte(bad)}); err == nil {
			t.Errorf("%q is sent as %q", bad, frames[0].Data)
		}
	}
	if _, err := s.Send(translate.Message{Data: []byte(`["a"]`), Binary: true}); err == nil {
		t.Error("bytes are emitted")
	}
	if got := sioSay(t, s, `42/c,["not ours"]`, `42["nor this"]`, "452-/c,[\"bin\"]", "\x001", "\x002", `432[1]`, `461-5[1]`, "\x00a"); len(got.Messages) > 0 {
		t.Errorf("%v", got.Messages)
	}
}

func TestSocketIOPackets(t *testing.T) {
	for text, want := range map[string]string{
		`2["a"]`:           `2 0 / "" ["a"]`,
		`212["a"]`:         `2 0 / "12" ["a"]`,
		`2/x,12["a"]`:      `2 0 /x "12" ["a"]`,
		`2/x?q=1,["a"]`:    `2 0 /x "" ["a"]`,
		`0/x`:              `0 0 /x "" `,
		`52-/x,7["a"]`:     `5 2 /x "7" ["a"]`,
		`51-["a-b"]`:       `5 1 / "" ["a-b"]`,
		`52147483647-[1]`:  `5 2147483647 / "" [1]`,
		``:                 "error",
		`7`:                "error",
		`5["a"]`:           "error",
		`5-["a"]`:          "error",
		`5-1-["a"]`:        "error",
		`52147483648-[1]`:  "error",
		`500000000001-[1]`: "error",
		`2` + strings.Repeat("1", maxSioID+1) + `["a"]`: "error",
	} {
		p, err := parseSioPacket([]byte(text))
		got := fmt.Sprintf("%c %d %s %q %s", p.kind, p.attachments, p.space, p.id, p.data)
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

func TestSocketIOArguments(t *testing.T) {
	for text, want := range map[string]string{
		`["a"]`: `a []`, ` [ "a" , 1.10 ] `: `a 1.10`, `["a",1,{"b":[1,"],"]},"\",["]`: `a [1,{"b":[1,"],"]},"\",["]`, `[7,null]`: `7 null`, `["é\u00e9"]`: `éé []`,
		`[]`: "error", `{}`: "error", `["a"`: "error", `[null]`: "error", `["a",]`: "error", `[["a"]]`: "error", ``: "error", `["a"]x`: "error",
	} {
		p := sioPacket{data: []byte(text)}
		name, args, err := p.event()
		got := name + " " + string(joined(args))
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

func TestSocketIOPlaceholders(t *testing.T) {
	parts := [][]byte{{1}, {2}}
	for text, want := range map[string]string{
		`{"_placeholder":true,"num":0}`:                                                      `"AQ=="`,
		`[{"num":1,"_placeholder":true},"{\"_placeholder\":true,\"num\":0}"]`:                `["Ag==","{\"_placeholder\":true,\"num\":0}"]`,
		`{"a":{"_placeholder":true,"num":0,"x":{"_placeholder":true,"num":1}},"n":1.10}`:     `{"a":"AQ==","n":1.10}`,
		`[{"_placeholder":false,"num":0},{"_placeholder":"true","num":0},{"num":0},{},[],0]`: `[{"_placeholder":false,"num":0},{"_placeholder":"true","num":0},{"num":0},{},[],0]`,
		`{"_placeholder":true,"num":-1}`:                                                     `{"_placeholder":true,"num":-1}`,
		`{"_placeholder":true,"num":2}`:                                                      "error",
		`[{"_placeholder":true,"num":0},{"_placeholder":true,"num":0}]`:                      "error",
		`[` + strings.Repeat(`{"_placeholder":true,"num":0},`, maxSioAttachments+1) + `0]`:   "error",
	} {
		got, err := putBack([]byte(text), parts, "")
		if err != nil {
			got = []byte("error")
		} else if !json.Valid(got) {
			t.Errorf("%s: %s is no JSON", text, got)
		}
		if string(got) != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

// Whatever is announced, no more than MAX_MESSAGE is kept, what is over leaves a gap and an answer, and events go on.
func TestSocketIOBounds(t *testing.T) {
	const header = `451-7["bin",{"_placeholder":true,"num":0}]`
	at := 100 - len(header) + len("451-7")
	s := sioSession(t, 100)
	if got := sioSay(t, s, header, "\x00"+strings.Repeat("x", at)); len(got.Messages) != 1 || got.Messages[0].Gap != "" {
		t.Errorf("at the limit: %+v", got.Messages)
	}
	for name, frames := range map[string][]string{
		"a large attachment": {header, "\x00" + strings.Repeat("x", at+1)},
		"many attachments":   append([]string{fmt.Sprintf(`45%d-7["bin"]`, maxSioAttachments+1)}, strings.Split(strings.Repeat("\x00\n", maxSioAttachments)+"\x00", "\n")...),
		"two places":         {`451-7["bin",{"_placeholder":true,"num":0},{"_placeholder":true,"num":0}]`, "\x00x"},
		"no attachment":      {`450-7["bin",{"_placeholder":true,"num":0}]`},
	} {
		got := sioSay(t, s, frames...)
		if len(got.Messages) != 1 || got.Messages[0].Gap != translate.GapUpstream || len(got.Replies) != 1 || string(got.Replies[0].Data) != "437[]" {
			t.Errorf("%s: %+v", name, got)
		}
		if got := sioSay(t, s, `42["on"]`); len(got.Messages) != 1 || got.Messages[0].Event != "on" {
			t.Errorf("after %s: %+v", name, got)
		}
	}
	for _, left := range []string{`["a"]`, "9", `45["a"]`, "4", "x", "bAQ==", "451-[1]", `42{}`, "1", ""} {
		s := sioSession(t, 100)
		if left == "451-[1]" {
			sioSay(t, s, "451-[1]")
		}
		if got, err := s.Receive(context.Background(), noon, Frame{Data: []byte(left)}); err == nil {
			t.Errorf("%q: %+v", left, got)
		}
	}
}

// A message that was over MAX_MESSAGE may have been an event or an attachment.
func TestSocketIOSkipped(t *testing.T) {
	s := sioSession(t, 0)
	sioSay(t, s, `453-["bin"]`, "\x001")
	s.Skipped()
	if got := sioSay(t, s, "\x003", `42["on"]`); len(got.Messages) != 1 || got.Messages[0].Event != "on" {
		t.Errorf("%+v", got)
	}
	sioSay(t, s, `451-["bin"]`)
	s.Skipped()
	s.Skipped()
	if got := sioSay(t, s, "\x001", "\x002", "2", "\x003", `42["on"]`); len(got.Messages) != 1 {
		t.Errorf("%+v", got)
	}
	if _, err := s.Receive(context.Background(), noon, Frame{Binary: true, Data: []byte("1")}); err == nil {
		t.Error("an attachment of nothing was taken")
	}
}

func TestSocketIOOffsets(t *testing.T) {
	s := sioSession(t, 0)
	for _, c := range []struct{ frame, data, offset string }{
		{`42["a",1,"o1"]`, `1`, "o1"}, {`42["a","o2"]`, `[]`, "o2"}, {`42["a","no offset"]`, `"no offset"`, "o2"}, {`42["a",""]`, `""`, "o2"},
		{`427["a","x"]`, `"x"`, "o2"}, {`42["a",{"b":"c"}]`, `{"b":"c"}`, "o2"}, {`42["a","` + strings.Repeat("x", maxSioResume) + `"]`, `"` + strings.Repeat("x", maxSioResume) + `"`, "o2"},
		{`42["a","\u0000"]`, `"\u0000"`, "o2"}, {`42["a",1,"1690000000000-0"]`, "1", "1690000000000-0"},
	} {
		got := sioSay(t, s, c.frame)
		if string(got.Messages[0].Data) != c.data || s.spaces[0].now.offset != c.offset {
			t.Errorf("%s: %s, offset %q", c.frame, got.Messages[0].Data, s.spaces[0].now.offset)
		}
	}
	// Without a pid an argument is an argument.
	s.Open("")
	sioSay(t, s, `0{}`, `40{"sid":"b","pid":"`+strings.Repeat("x", maxSioResume+1)+`"}`)
	if got := sioSay(t, s, `42["a",1,"text"]`); string(got.Messages[0].Data) != `[1,"text"]` || s.Resumable() {
		t.Errorf("%s", got.Messages[0].Data)
	}
}

// The names that Socket.IO keeps for itself would end the connection that all clients of the stream share.
func TestSocketIOReservedNames(t *testing.T) {
	for _, v2 := range []bool{false, true} {
		s := sioSession(t, 0)
		s.v2 = v2
		for text, fine := range map[string]bool{
			`["connect"]`: false, `["disconnect",1]`: false, `["disconnecting"]`: false, `["newListener","a"]`: false, `["removeListener"]`: false, `/,["dis\u0063onnect"]`: false,
			`["connect_error",{"a":1}]`: v2, `["error","x"]`: !v2, `["disconnected"]`: true, `["Connect"]`: true, `["message","disconnect"]`: true,
		} {
			frames, err := s.Send(translate.Message{Data: []byte(text)})
			if (err == nil) != fine || err != nil && !strings.Contains(err.Error(), "keeps the name") {
				t.Errorf("v2 %v, %s: %v, %v", v2, text, frames, err)
			}
		}
	}
}

// A server whose offsets are places in a Redis stream may send what has come once more.
func TestSocketIOReplays(t *testing.T) {
	s := sioSession(t, 0)
	names := func(frames ...string) (names string) {
		for _, f := range frames {
			for _, m := range sioSay(t, s, f).Messages {
				names += m.Event
			}
		}
		return names
	}
	live := []string{`42["a",1,"1700000000000-0"]`, `42["b",1,"1700000000002-0"]`, `42["c",1,"1700000000001-0"]`, `42["v",1]`, `42["w","0-1"]`, `42["w","0-1"]`}
	if got := names(append([]string{`0{}`, `40{"sid":"a","pid":"p"}`}, live...)...); got != "abcvww" {
		t.Errorf("live: %s", got)
	}
	if !s.Resumable() {
		t.Fatal("is not to be resumed")
	}
	s.Open("") // and fails before it is ready: what it brought does not count
	if got := names(`0{}`, `42["d",1,"1700000000003-0"]`); got != "d" {
		t.Errorf("dropped: %s", got)
	}
	s.Open("")
	got := names(`0{}`, `42["b",1,"1700000000002-0"]`, `42["v",1,"1700000000002-5"]`, `42["d",1,"1700000000003-0"]`, `40{"sid":"b","pid":"p"}`, `42["d",1,"1700000000003-0"]`, `42["e",1,"1700000000004-0"]`)
	if got != "vde" {
		t.Errorf("resumed: %s", got)
	}
	for i := range 2 * maxSioOffsets {
		sioSay(t, s, fmt.Sprintf(`42["f",1,"17000000%05d-0"]`, i))
	}
	s.Resumable()
	if n := s.spaces[0]; len(n.seen.order) != maxSioOffsets || len(n.seen.set) != maxSioOffsets {
		t.Errorf("%d and %d are remembered", len(n.seen.order), len(n.seen.set))
	}
	s.Open("")
	if got := names(`0{}`, `40{"sid":"c","pid":"other"}`, fmt.Sprintf(`42["f",1,"17000000%05d-0"]`, 2*maxSioOffsets-1)); got != "f" {
		t.Errorf("another session: %q", got)
	}
}

func TestSocketIOAuth(t *testing.T) {
	for _, c := range []struct{ auth, pid, offset, want string }{
		{"", "", "", ""}, {"", "p", "", ""}, {"", "p", "o", `{"pid":"p","offset":"o"}`}, {" { } ", "p", `o"`, `{"pid":"p","offset":"o\"" }`},
		{` {"a":1.10} `, "p", "o", `{"pid":"p","offset":"o","a":1.10}`}, {`{"a":1}`, "", "o", `{"a":1}`}, {"[]", "p", "o", "error"}, {"\"\xff\"", "", "", "error"}, {"{\"a\":\"\xff\"}", "", "", "error"},
	} {
		got, err := sioAuth(c.auth, c.pid, c.offset)
		if err != nil {
			got = "error"
		}
		if got != c.want || err == nil && got != "" && !json.Valid([]byte(got)) {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

func TestSocketIOVerdicts(t *testing.T) {
	for payload, want := range map[string]int{
		`{"message":"Invalid namespace"}`: 404, `"Invalid namespace"`: 404, `{"message":"no"}`: 403, ``: 403, `7`: 403, `{"message":7}`: 403,
		`{"message":"Authentication error"}`: 401, `"Unauthorized"`: 401, `{"message":"x","data":{"status":422}}`: 422, `{"message":"x","data":{"code":"E","statusCode":402}}`: 402,
		`{"message":"x","data":"401"}`: 403, `{"message":"x","data":{"code":7}}`: 403, `{"status":451}`: 451,
		`{"message":"x","data":{"status":503}}`: 0, `{"data":{"code":429}}`: 0, `{"data":{"code":408}}`: 0,
	} {
		s := sioSession(t, 0)
		_, err := s.Receive(context.Background(), noon, Frame{Data: []byte("44" + payload)})
		var refused *translate.Refused
		errors.As(err, &refused)
		if err == nil || want == 0 && refused != nil || want != 0 && (refused == nil || refused.Status != want) {
			t.Errorf("%s: %v, want %d", payload, err, want)
		}
	}
}

func TestSocketIOSpans(t *testing.T) {
	for ms, want := range map[float64]time.Duration{0: 7, -1: 7, 1: sioMinPing, 300: 300 * time.Millisecond, 1e300: sioMaxPing} {
		if got := sioSpan(ms, 7); got != want {
			t.Errorf("%v: %v", ms, got)
		}
	}
}

// Openings that take too long say what they wait for.
func TestSocketIOWaits(t *testing.T) {
	for _, v2 := range []bool{false, true} {
		s := socketIO(Options{Connect: fixed(""), Subscribe: fixedLines("/a", "/b")}, v2)
		s.Open("")
		frames := []string{"0{}", `40{"sid":"a"}`, `40/a,{"sid":"a"}`, `40/b,{"sid":"a"}`}
		want := []string{"the Engine.IO open packet", "the namespace /a", "the namespace /a", "the namespace /b"}
		if v2 {
			want[1] = "the namespace /"
		}
		step := -1
		for i, frame := range frames {
			timers := s.Timers()
			if !strings.Contains(timers.Waiting, want[i]) || timers.Opening != openingTime || timers.Step < step {
				t.Errorf("v2 %v, before %s: %+v", v2, frame, timers)
			}
			step = timers.Step
			if got := sioSay(t, s, frame); got.Ready != (i == len(frames)-1) {
				t.Errorf("v2 %v, after %s: ready %v", v2, frame, got.Ready)
			}
		}
		if timers := s.Timers(); timers.Opening != 0 || timers.Silence == 0 || (timers.Every > 0) != v2 {
			t.Errorf("v2 %v: %+v", v2, timers)
		}
	}
}

func fuzzSocketIO(f *testing.F, v2, packed bool) {
	packet := func(text string) string {
		data, err := decode.AppendMsgpack([]byte{2}, []byte(text))
		if err != nil {
			f.Fatal(err)
		}
		return string(data)
	}
	f.Add(pieces("\x00"+`0{"pingInterval":1,"pingTimeout":1}`, packet(`{"type":0,"nsp":"/","data":{"sid":"a","pid":"p"}}`), packet(`{"type":0,"nsp":"/b","data":{"sid":"a"}}`),
		packet(`{"type":2,"nsp":"/","id":7,"data":["n",{"a":[1.5]},"off"]}`), packet(`{"type":5,"nsp":"/b","data":["n",1]}`), "\x04"+`/b,["x",{"y":"z"}]`, packet(`{"type":1,"nsp":"/b"}`), "\x06"))
	f.Add(pieces("\x00"+`0{"pingInterval":1,"pingTimeout":1}`, "\x00"+`40{"sid":"a","pid":"p"}`, "\x00"+`40/b,{"sid":"a","pid":"q"}`,
		"\x00"+`452-/b,3["n",{"_placeholder":true,"num":0},[{"num":1,"_placeholder":true}],"off"]`, "\x02\x04abc", "\x02\x04\x00", "\x00"+`42["a",1,"o"]`, "\x042[1]", "\x06"))
	f.Add(pieces("\x00"+`0{}`, "\x00"+`44/b,{"message":"hush","data":{"status":401}}`, "\x00"+"0", "\x00"+"41", "\x00"+"2probe"))
	f.Add(pieces("\x00"+`0{}`, "\x00"+`40`, "\x00"+"b4AQID", "\x05", "\x02\x04abc", "\x04"+`/b,["x",1]`))
	f.Fuzz(func(t *testing.T, script []byte) {
		s := socketIO(Options{
			Dial:    func() (Dial, error) { return Dial{URL: "ws://h/", Header: http.Header{}}, nil },
			Connect: fixed(`{"token":"hush"}`), Subscribe: fixedLines("/", "/b"), MaxMessage: 64,
		}, v2).(*socketio)
		var session Session = s
		if s.packed = packed; packed {
			session = packedSocketIO{s}
		}
		drive(t, session, script, func() {
			if p := s.pending; p != nil {
				size := 0
				for _, part := range p.parts {
					size += len(part)
				}
				if size > s.MaxMessage || len(p.parts) > maxSioAttachments {
					t.Fatalf("%d bytes in %d attachments are kept", size, len(p.parts))
				}
			}
			for _, n := range s.spaces {
				if len(n.pid+n.offset+n.now.pid+n.now.offset) > 4*maxSioResume {
					t.Fatal("it grows")
				}
			}
		})
	})
}

func FuzzSocketIO(f *testing.F) { fuzzSocketIO(f, false, false) }

func FuzzSocketIOPacked(f *testing.F) { fuzzSocketIO(f, false, true) }

func FuzzSocketIOv2(f *testing.F) { fuzzSocketIO(f, true, false) }

// A packet that is too large is a gap, whichever form of it is, and no end.
func TestSocketIOPackedBounds(t *testing.T) {
	s := newPackedSocketIO(Options{Connect: fixed(""), Subscribe: fixedLines(), MaxMessage: 64})
	s.Open("")
	sioSay(t, s, `0{"sid":"a"}`)
	say := func(text string) Received {
		data, err := decode.AppendMsgpack(nil, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.Receive(t.Context(), noon, Frame{Binary: true, Data: data})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if got := say(`{"type":0,"nsp":"/","data":{"sid":"a"}}`); !got.Ready {
		t.Errorf("%+v", got)
	}
	got := say(`{"type":2,"nsp":"/","data":["n","` + strings.Repeat("\\n", 40) + `"]}`)
	if len(got.Messages) != 1 || got.Messages[0].Gap != translate.GapUpstream || len(got.Decoded) != 1 || !errors.Is(got.Decoded[0].Err, decode.ErrTooLarge) {
		t.Errorf("%+v", got)
	}
	if err := s.Skipped(); err != nil {
		t.Error(err)
	}
	if got := say(`{"type":5,"nsp":"/","data":["n",{"_placeholder":true,"num":0}]}`); len(got.Messages) != 1 || string(got.Messages[0].Data) != `{"_placeholder":true,"num":0}` {
		t.Errorf("%+v", got) // nothing takes a place here
	}
	if got := say(`{"type":2,"nsp":"/","data":["n",1]}`); len(got.Messages) != 1 || string(got.Messages[0].Data) != "1" {
		t.Errorf("%+v", got)
	}
}
