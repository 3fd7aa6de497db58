package dialect

import (
	"fmt"
	"strings"
	"testing"

	"sidestream/translate"
)

func centSession(lines ...string) *centrifuge {
	s, _ := newCentrifuge(Options{Dial: func() (Dial, error) { return Dial{URL: "ws://h"}, nil }, Connect: fixed(""), Subscribe: fixedLines(lines...), MaxMessage: 1 << 10}).(*centrifuge)
	return s
}

func (s *centrifuge) hears(t *testing.T, text string) Received {
	t.Helper()
	got, err := s.Receive(t.Context(), noon, Frame{Data: []byte(text)})
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return got
}

func TestCentrifugeCheck(t *testing.T) {
	for connect, want := range map[string]string{
		"": "", `{"token":"a.b.c","data":{"x":1},"name":"n","version":"1","headers":{"a":"b"}}`: "", "token": "fields of connect", "[1]": "fields of connect", "null": "fields of connect",
		`{"subs":{}}`: "holds subs",
	} {
		if err := checkCentrifuge(connect, nil); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), "CONNECT") || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", connect, err, want)
		}
	}
	for line, want := range map[string]string{
		"news": "", "$secret:a#1,2": "", `x {"token":"t","data":1,"tf":{"key":"a","cmp":"eq","val":"b"},"join_leave":true,"recoverable":false}`: "",
		`{"channel":"x"}`: "no topic", "x y": "no JSON object", `x {"delta":"fossil"}`: "sets delta", `x {"epoch":"e"}`: "sets epoch", strings.Repeat("x", maxCentName+1): "more than 256 bytes",
	} {
		err := checkCentrifuge("", []string{"fine", line})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "line 2")) {
			t.Errorf("%s: %v, want %q", line, err, want)
		}
	}
	if _, err := centSession("a", "a").Open(""); err == nil || !strings.Contains(err.Error(), "line before") {
		t.Errorf("a channel twice: %v", err)
	}
}

// What comes before everything is confirmed waits up to a bound, and what does not fit is a gap; the place after it counts.
func TestCentrifugeHeld(t *testing.T) {
	s := centSession("x", "y")
	_, _ = s.Open("")
	s.hears(t, `{"id":1,"connect":{"client":"c"}}`+"\n"+`{"id":2,"subscribe":{"recoverable":true,"epoch":"e"}}`)
	for i := range maxCentHeld + 1 {
		if got := s.hears(t, fmt.Sprintf(`{"push":{"channel":"x","pub":{"data":1,"offset":%d}}}`, i+1)); len(got.Messages) > 0 {
			t.Fatal("an event before the opening is complete")
		}
	}
	got := s.hears(t, `{"id":3,"subscribe":{"recoverable":true,"epoch":"e"}}`)
	if !got.Ready || got.Resumed || len(got.Messages) != 1 || got.Messages[0].Gap != translate.GapUpstream || s.places["x"].offset != maxCentHeld+1 {
		t.Errorf("%+v %+v", got, s.places)
	}
	if got = s.hears(t, `{"push":{"channel":"x","pub":{"data":1}}}`); len(got.Messages) != 1 {
		t.Errorf("%+v", got)
	}
	_, _ = s.Open("")
	s.hears(t, `{"id":1,"connect":{"client":"c"}}`)
	s.hears(t, `{"push":{"channel":"x","pub":{"data":"`+strings.Repeat("x", 2<<10)+`"}}}`)
	if len(s.held) != 0 || !s.over {
		t.Error("more is held than twice MAX_MESSAGE")
	}
}

// A server that puts out and takes in again without end is left.
func TestCentrifugeAgain(t *testing.T) {
	s := centSession("x")
	_, _ = s.Open("")
	s.hears(t, `{"id":1,"connect":{"client":"c"}}{"id":2,"subscribe":{}}`)
	const out = `{"push":{"channel":"x","unsubscribe":{"code":2500}}}`
	for i := range maxCentAgain {
		if got := s.hears(t, out+out); len(got.Replies) != 1 {
			t.Fatalf("%d: %+v", i, got)
		}
		s.hears(t, fmt.Sprintf(`{"id":%d,"subscribe":{}}`, i+3))
	}
	if _, err := s.Receive(t.Context(), noon, Frame{Data: []byte(out)}); err == nil {
		t.Error("it goes on for ever")
	}
	if got := s.hears(t, strings.Repeat("{}", 100)); len(got.Replies) != 0 {
		t.Error("pings are answered although no pong was asked for")
	}
	s.pong = true
	if got := s.hears(t, strings.Repeat("{}", 100)); len(got.Replies) != 1 {
		t.Errorf("%d pongs to one frame", len(got.Replies))
	}
}

// What does not fit is said to be nothing, so that what was saved before does not count.
func TestCentrifugeSaved(t *testing.T) {
	s := centSession("x")
	if s.Save() != nil || s.Restore(s.Save()) != nil || s.Restore([]byte{1}) == nil || s.Restore(fieldsOf("a", "b")) == nil || s.Restore(fieldsOf("a", "b", "-1")) == nil || s.Restore(fieldsOf("a", "", "1")) == nil {
		t.Error("what is saved, or restored")
	}
	s.hears(t, `{"id":7}`) // before anything
	_, _ = s.Open("")
	s.hears(t, `{"id":1,"connect":{"client":"c"}}{"id":2,"subscribe":{"recoverable":true,"epoch":"e"}}`)
	for i := range maxCentChannels {
		s.hears(t, fmt.Sprintf(`{"push":{"channel":"%d%s","subscribe":{"recoverable":true,"epoch":"e"}}}`, i, strings.Repeat("x", 200)))
	}
	saved := s.Save()
	if string(saved) != "\x00" || s.Restore(saved) != nil || len(s.places) != 0 {
		t.Errorf("%d bytes", len(saved))
	}
}

func FuzzCentrifuge(f *testing.F) {
	f.Add(pieces("\x00{\"id\":1,\"connect\":{\"client\":\"c\",\"subs\":{\"u\":{\"recoverable\":true,\"epoch\":\"e\",\"offset\":1}},\"ping\":25,\"pong\":true}}", "\x00{\"id\":2,\"subscribe\":{\"recoverable\":true,\"epoch\":\"e\",\"offset\":3}}\n{\"id\":3,\"subscribe\":{}}",
		"\x00{\"push\":{\"channel\":\"x\",\"pub\":{\"data\":1,\"offset\":4,\"tags\":{\"a\":\"b\"}}}}", "\x00{}", "\x04x 1", "\x04{\"rpc\":{}}", "\x00{\"push\":{\"channel\":\"x\",\"unsubscribe\":{\"code\":2500}}}", "\x02x", "\x00{\"id\":1,\"connect\":{}}"))
	f.Add(pieces("\x00{\"id\":1,\"error\":{\"code\":109,\"message\":\"token expired\"}}", "\x06", "\x03"))
	f.Fuzz(func(t *testing.T, script []byte) {
		s := centSession(`x {"tf":{}}`, "z")
		drive(t, s, script, func() {
			held := 0
			for _, m := range s.held {
				held += len(m.Data)
			}
			if len(s.asked) > 2 || len(s.own) > maxCentCalls || len(s.held) > maxCentHeld || held > 2<<10 || len(s.server) > maxCentChannels || len(s.places) > maxCentChannels+2 || len(s.Save()) > translate.MaxSaved {
				t.Fatalf("it grows: %d asked, %d own, %d held (%d bytes), %d of the server's, %d places, %d saved", len(s.asked), len(s.own), len(s.held), held, len(s.server), len(s.places), len(s.Save()))
			}
		})
	})
}
