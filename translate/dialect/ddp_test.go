package dialect

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"sidestream/translate"
)

func ddpSession(connect string, lines ...string) *ddp {
	s, _ := newDDP(Options{Dial: func() (Dial, error) { return Dial{URL: "ws://h"}, nil }, Connect: fixed(connect), Subscribe: fixedLines(lines...), MaxMessage: fuzzMax}).(*ddp)
	return s
}

func (s *ddp) hears(t *testing.T, texts ...string) (got Received) {
	t.Helper()
	for _, text := range texts {
		var err error
		if got, err = s.Receive(t.Context(), noon, Frame{Data: []byte(text)}); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	return got
}

func TestDDPCheck(t *testing.T) {
	for connect, fine := range map[string]bool{"": true, `{"resume":"t"}`: true, "token": false, "[]": false} {
		if err := checkDDP(connect, []string{"a"}); (err == nil) != fine || err != nil && !strings.Contains(err.Error(), "CONNECT: is not a JSON object; write what the method login takes") {
			t.Errorf("%s: %v", connect, err)
		}
	}
	for line, want := range map[string]string{
		"orders": "", `stream-room-messages ["x",false]`: "", "meteor.loginServiceConfiguration []": "", `x {"a":1}`: "no list", "x null": "no list", "x y": "no list", `["x"]`: "no name", `"x"`: "no name", `{"name":"x"}`: "no name",
	} {
		err := checkDDP("", []string{"fine", line})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "line 2")) {
			t.Errorf("%s: %v, want %q", line, err, want)
		}
	}
	var refused *translate.Refused
	for connect, line := range map[string]string{"x": "a", "": "a b"} {
		s := ddpSession(connect, line)
		_, _ = s.Open("")
		if _, err := s.Receive(t.Context(), noon, Frame{Data: []byte(`{"msg":"connected"}`)}); !errors.As(err, &refused) || refused.Status != 400 {
			t.Errorf("%s, %s: %v", connect, line, err)
		}
	}
}

func TestDDPAddress(t *testing.T) {
	for from, want := range map[string]string{"ws://h": "ws://h/websocket", "wss://h/?a=1": "wss://h/websocket?a=1", "ws://h/websocket": "ws://h/websocket", "ws://h/app/websocket": "ws://h/app/websocket"} {
		s := ddpSession("", "a")
		s.Options.Dial = func() (Dial, error) { return Dial{URL: from}, nil }
		if d, err := s.Dial(nil); err != nil || d.URL != want {
			t.Errorf("%s: %s, %v", from, d.URL, err)
		}
	}
}

// More documents than are kept, or larger ones, are refused, rather than told in part.
func TestDDPBounds(t *testing.T) {
	added := func(id string, size int) Frame {
		return Frame{Data: []byte(`{"msg":"added","collection":"c","id":"` + id + `","fields":{"f":"` + strings.Repeat("x", size) + `"}}`)}
	}
	begin := func() *ddp {
		s := ddpSession("", "a")
		_, _ = s.Open("")
		s.hears(t, `{"msg":"connected"}`, `{"msg":"ready","subs":["1"]}`)
		return s
	}
	refused := func(err error) bool {
		var r *translate.Refused
		return errors.As(err, &r) && r.Status == 400 && strings.Contains(err.Error(), "SUBSCRIBE: ") && strings.Contains(err.Error(), "subscribe to ")
	}
	s := begin()
	if _, err := s.Receive(t.Context(), noon, added("a", fuzzMax)); !refused(err) {
		t.Errorf("one that is too large: %v", err)
	}
	s = begin()
	n := 0
	var err error
	for ; err == nil; n++ {
		_, err = s.Receive(t.Context(), noon, added(fmt.Sprint(n), fuzzMax/2))
	}
	if !refused(err) || n < 25 || n > 2*maxDDPTimes || s.docs.size > maxDDPTimes*fuzzMax {
		t.Errorf("too much: %v after %d", err, n)
	}
	s = begin()
	s.MaxMessage = 1 << 20
	for n, err = 0, nil; err == nil; n++ {
		_, err = s.Receive(t.Context(), noon, added(fmt.Sprint(n), 1))
	}
	if !refused(err) || n != maxDDPDocuments+1 {
		t.Errorf("too many: %v after %d", err, n)
	}
	s = begin()
	s.MaxMessage = 1 << 20
	for n, err = 0, nil; err == nil; n++ { // each field takes far more memory than its bytes
		var many strings.Builder
		for i := range 50000 {
			fmt.Fprintf(&many, `,"%d":1`, i)
		}
		_, err = s.Receive(t.Context(), noon, Frame{Data: []byte(`{"msg":"added","collection":"c","id":"` + fmt.Sprint(n) + `","fields":{` + many.String()[1:] + `}}`)})
	}
	if !refused(err) || n != maxDDPFields/50000+1 {
		t.Errorf("too many fields: %v after %d", err, n)
	}
	s = begin()
	if _, err = s.Receive(t.Context(), noon, added(strings.Repeat("i", maxDDPName), 1)); !refused(err) {
		t.Errorf("a name that is too long: %v", err)
	}
	s = begin()
	for range 1000 { // one that comes and goes is one
		s.hears(t, string(added("a", fuzzMax/2).Data), `{"msg":"changed","collection":"c","id":"a","fields":{"g":1},"cleared":["f"]}`, `{"msg":"removed","collection":"c","id":"a"}`)
	}
	if s.docs.size != 0 || s.docs.fields != 0 || len(s.docs.all) != 0 {
		t.Errorf("%d bytes and %d fields are left", s.docs.size, s.docs.fields)
	}
	s.hears(t, `{"msg":"added","collection":"a","id":"bc"}`, `{"msg":"added","collection":"ab","id":"c"}`)
	if len(s.docs.all) != 2 {
		t.Error("documents of two collections are one")
	}
}

// A connection that ended before it was ready does not change what is compared with.
func TestDDPBefore(t *testing.T) {
	s := ddpSession("", "a")
	_, _ = s.Open("")
	s.hears(t, `{"msg":"connected"}`, `{"msg":"added","collection":"c","id":"1"}`, `{"msg":"ready","subs":["1"]}`)
	_, _ = s.Open("")
	s.hears(t, `{"msg":"connected"}`, `{"msg":"added","collection":"c","id":"2"}`)
	_, _ = s.Open("")
	got := s.hears(t, `{"msg":"connected"}`, `{"msg":"added","collection":"c","id":"3"}`, `{"msg":"removed","collection":"c","id":"0"}`, `{"msg":"changed","collection":"x","id":"0","fields":{}}`, `{"msg":"ready","subs":["7","1"]}`)
	var said []string
	for _, m := range got.Messages {
		said = append(said, m.Event+" "+m.Topic+" "+string(m.Data))
	}
	if all := strings.Join(said, ", "); all != `removed c {"id":"1"}, added c {"fields":{},"id":"3"}` || !got.Ready {
		t.Errorf("%s", all)
	}
	if got = s.hears(t, `{"msg":"ready","subs":["1"]}`); got.Ready {
		t.Error("ready twice")
	}
	if got = s.hears(t, `{"msg":"connected"}`); len(got.Replies) > 0 {
		t.Error("it subscribes twice")
	}
	if got = s.hears(t, `{"msg":"changed","collection":"x","id":"0","cleared":["a"]}`); len(got.Messages) != 1 || string(got.Messages[0].Data) != `{"cleared":["a"],"fields":{},"id":"0"}` {
		t.Errorf("%+v", got)
	}
}

// Whatever there is before and after a reconnect, all that is told then fits into what a connection may bring before it is ready (proxy/upstream), or the
// connection would be made again and again.
func TestDDPTellsAll(t *testing.T) {
	const maxEarly, maxEarlyBytes = 16 << 10, 16 << 20
	for name, one := range map[string]struct {
		documents int
		id, value string
	}{
		"large":      {11, "", `"` + strings.Repeat("x", 1<<20-200) + `"`},
		"long names": {maxDDPDocuments, strings.Repeat("i", maxDDPName-100), `"` + strings.Repeat("x", 500) + `"`},
	} {
		s := ddpSession("", "a")
		s.MaxMessage = 8 << 20
		for connection := range 2 {
			_, _ = s.Open("")
			s.hears(t, `{"msg":"connected"}`)
			for i := range one.documents {
				s.hears(t, fmt.Sprintf(`{"msg":"added","collection":"c%d","id":"%s%d","fields":{"f":%s}}`, connection, one.id, i, one.value))
			}
			got := s.hears(t, `{"msg":"ready","subs":["1"]}`)
			size := 0
			for _, m := range got.Messages {
				size += m.Size()
			}
			if size > maxEarlyBytes || len(got.Messages) != (connection+1)*one.documents || len(got.Messages) > maxEarly {
				t.Errorf("%s: %d messages of %d bytes", name, len(got.Messages), size)
			}
		}
	}
}

// What is no document, as in Rocket.Chat's streams, is not lost while another line is not ready.
func TestDDPStreamsBeforeReady(t *testing.T) {
	s := ddpSession("", "a", "b")
	_, _ = s.Open("")
	s.hears(t, `{"msg":"connected"}`, `{"msg":"ready","subs":["1"]}`, `{"msg":"added","collection":"c","id":"1","fields":{"n":1}}`)
	if got := s.hears(t, `{"msg":"changed","collection":"stream","id":"id","fields":{"args":[1]}}`); len(got.Messages) != 1 || string(got.Messages[0].Data) != `{"fields":{"args":[1]},"id":"id"}` {
		t.Errorf("%+v", got)
	}
	if got := s.hears(t, `{"msg":"changed","collection":"c","id":"1","fields":{"n":2}}`); len(got.Messages) != 0 {
		t.Errorf("a document that is collected: %+v", got)
	}
	if got := s.hears(t, `{"msg":"ready","subs":["2"]}`); len(got.Messages) != 1 || string(got.Messages[0].Data) != `{"fields":{"n":2},"id":"1"}` {
		t.Errorf("%+v", got)
	}
}

// A connection that was ready here, but was given up before HELLO was, has told nobody of anything.
func TestDDPFailed(t *testing.T) {
	s := ddpSession("", "a")
	_, _ = s.Open("")
	s.hears(t, `{"msg":"connected"}`, `{"msg":"added","collection":"c","id":"1"}`, `{"msg":"ready","subs":["1"]}`)
	_, _ = s.Open("")
	s.hears(t, `{"msg":"connected"}`, `{"msg":"added","collection":"c","id":"2"}`, `{"msg":"ready","subs":["1"]}`)
	s.Failed()
	_, _ = s.Open("")
	got := s.hears(t, `{"msg":"connected"}`, `{"msg":"ready","subs":["1"]}`)
	var said []string
	for _, m := range got.Messages {
		said = append(said, m.Event+string(m.Data))
	}
	if all := strings.Join(said, " "); all != `removed{"id":"1"} removed{"id":"2"}` {
		t.Error(all)
	}
}

// In SockJS a connection may fail before DDP begins on it. What was removed while another was ready is not told again.
func TestDDPInSockJS(t *testing.T) {
	inner := ddpSession("", "a")
	s := overSockJS(Dialect{Name: "ddp", New: func(o Options) Session { inner.Options.Carried = o.Carried; return inner }}).New(Options{})
	begin := func(texts ...string) (got Received) {
		d, err := s.Dial(nil)
		if err != nil || !strings.HasPrefix(d.URL, "ws://h/") || strings.Count(d.URL, "/websocket") != 1 {
			t.Fatalf("%s: %v", d.URL, err)
		}
		_, _ = s.Open("")
		for _, text := range texts {
			if got, err = s.Receive(t.Context(), noon, Frame{Data: []byte(text)}); err != nil {
				t.Fatal(err)
			}
		}
		return got
	}
	frame := func(texts ...string) string { // as a SockJS server sends them
		out := make([]string, len(texts))
		for i, text := range texts {
			out[i] = string(jsonString(text))
		}
		return "a[" + strings.Join(out, ",") + "]"
	}
	const connected, ready = `{"msg":"connected"}`, `{"msg":"ready","subs":["1"]}`
	begin("o", frame(`{"server_id":"0"}`), frame(connected), frame(`{"msg":"added","collection":"c","id":"1"}`, `{"msg":"added","collection":"c","id":"2"}`, ready))
	begin("o", frame(connected, ready, `{"msg":"added","collection":"c","id":"3"}`))
	begin()
	s.Failed()
	got := begin("o", frame(connected, ready))
	if len(got.Messages) != 1 || string(got.Messages[0].Data) != `{"id":"3"}` || got.Messages[0].Event != "removed" || !got.Ready {
		t.Errorf("%+v", got.Messages)
	}
}

// What was too large may have changed a document, whose later changes would show it as it never was.
func TestDDPSkipped(t *testing.T) {
	s := ddpSession("", "a")
	_, _ = s.Open("")
	var refused *translate.Refused
	s.hears(t, `{"msg":"connected"}`)
	if err := s.Skipped(); !errors.As(err, &refused) || refused.Status != 400 || !strings.Contains(err.Error(), "MAX_MESSAGE") {
		t.Errorf("before it is ready: %v", err)
	}
	s.hears(t, `{"msg":"added","collection":"c","id":"1","fields":{"n":1}}`, `{"msg":"ready","subs":["1"]}`)
	if err := s.Skipped(); err == nil || errors.As(err, &refused) {
		t.Errorf("once it is ready: %v", err)
	}
}

func TestDDPFaults(t *testing.T) {
	for text, want := range map[string]int{
		`{"error":403}`: 418, `{"error":404}`: 404, `{"error":"404"}`: 404, `{"error":429}`: 0, `{"error":500}`: 0, `{"error":599}`: 0, `{"error":408}`: 0, `{"error":"too-many-requests"}`: 0, `{"error":"error-too-many-requests"}`: 0,
		`{"error":"not-authorized"}`: 401, `{"error":"error-invalid-user"}`: 401, `{"error":"error-not-allowed"}`: 418, `{"error":399}`: 418, `"text"`: 418, `{}`: 418, `[]`: 418, `{"error":{"a":1}}`: 418,
	} {
		f := ddpMessage{Error: []byte(text)}.fault()
		if f == nil || f.status(418) != want || f.text() == "" {
			t.Errorf("%s: %+v", text, f)
		}
	}
	if (ddpMessage{}).fault() != nil || (ddpMessage{Error: []byte("null")}).fault() != nil {
		t.Error("an error where there is none")
	}
	if err := (&ddpFault{"403", "no secret-token " + strings.Repeat("word ", 100)}).meaning("x", []string{"secret-token"}, 401); strings.Contains(err.Error(), "secret-token") || len(err.Error()) > 3*maxServerText {
		t.Error(err)
	}
	s := ddpSession("", "a")
	if _, err := s.Send(translate.Message{Data: []byte("a")}); err == nil {
		t.Error("something is sent before there is a connection")
	}
	_, _ = s.Open("")
	if _, err := s.Receive(t.Context(), noon, Frame{Binary: true, Data: []byte("{}")}); err == nil {
		t.Error("a binary frame is taken")
	}
	s.hears(t, `{"msg":"connected"}`, `{"msg":"ready","subs":["1"]}`)
	for text, want := range map[string]string{
		`{"msg":"error","reason":"Bad request","offendingMessage":{"token":"x"}}`: "error: Bad request", `{"msg":"result","id":"s1","error":{"error":404,"reason":"Method 'x' not found"}}`: "a method failed: Method 'x' not found (404)",
		`{"msg":"result","id":"s1","result":1}`: "", `{"msg":"updated","methods":["s1"]}`: "", `{"msg":"movedBefore","collection":"c","id":"a"}`: "", `{}`: "", `null`: "",
	} {
		if got := s.hears(t, text); strings.Join(got.Complaints, ", ") != want || len(got.Messages) > 0 {
			t.Errorf("%s: %+v", text, got)
		}
	}
}

func FuzzDDP(f *testing.F) {
	f.Add(pieces("\x00{\"server_id\":\"0\"}", "\x00{\"msg\":\"connected\",\"session\":\"x\"}", "\x00{\"msg\":\"result\",\"id\":\"login\",\"result\":{}}", "\x00{\"msg\":\"added\",\"collection\":\"a\",\"id\":\"1\",\"fields\":{\"n\":1}}", "\x00{\"msg\":\"ready\",\"subs\":[\"1\",\"2\"]}",
		"\x00{\"msg\":\"changed\",\"collection\":\"a\",\"id\":\"1\",\"fields\":{\"m\":1},\"cleared\":[\"n\"]}", "\x00{\"msg\":\"removed\",\"collection\":\"a\",\"id\":\"1\"}", "\x03", "\x00{\"msg\":\"ping\",\"id\":\"x\"}", "\x04say [1]", "\x00{\"msg\":\"nosub\",\"id\":\"1\",\"error\":{\"error\":403}}"), true)
	f.Add(pieces("\x00{\"msg\":\"connected\"}", "\x00{\"msg\":\"added\",\"collection\":\"a\",\"id\":\"1\"}", "\x00{\"msg\":\"ready\",\"subs\":[\"1\",\"2\"]}", "\x06", "\x00{\"msg\":\"connected\"}", "\x00{\"msg\":\"ready\",\"subs\":[\"1\",\"2\"]}", "\x00{\"msg\":\"error\",\"reason\":\"x\"}"), false)
	f.Fuzz(func(t *testing.T, script []byte, login bool) {
		connect := ""
		if login {
			connect = `{"resume":"t"}`
		}
		s := ddpSession(connect, "a", `b [1,{"c":2}]`)
		drive(t, s, script, func() {
			size, fields := 0, 0
			for _, d := range s.docs.all {
				size += d.size
				fields += len(d.fields)
			}
			if size != s.docs.size || fields != s.docs.fields || size > maxDDPTimes*fuzzMax || len(s.docs.all) > maxDDPDocuments || len(s.before) > maxDDPDocuments {
				t.Fatalf("it grows: %d documents, %d bytes, counted %d, %d fields, counted %d, %d before", len(s.docs.all), size, s.docs.size, fields, s.docs.fields, len(s.before))
			}
			if len(s.waiting) > 2 {
				t.Fatal("it waits for more than it has asked for")
			}
		})
	})
}
