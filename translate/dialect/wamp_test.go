package dialect

import (
	"context"
	"strings"
	"testing"
)

func wampSession(connect string, lines ...string) *wamp {
	return newWAMP(Options{
		Connect:   func() (string, error) { return connect, nil },
		Subscribe: func() ([]string, error) { return lines, nil },
	}).(*wamp)
}

func TestWAMPCheck(t *testing.T) {
	for connect, want := range map[string]string{
		`{"realm":"a"}`: "", `{"realm":"a","authid":"b","ticket":"c"}`: "", `{"realm":"a","authid":"b"}`: "",
		``: "CONNECT: is not what it takes", `{"realm":0}`: "is not what it takes", `a`: "is not what it takes", `{"realm":"a"} {}`: "is not what it takes",
		`{}`: "has no realm", `{"realm":"a","password":"hush"}`: "is not what it takes", `{"realm":"a","ticket":"hush"}`: "no authid",
	} {
		err := checkWAMP(connect, []string{"com.a", `com.b {"match":"prefix"}`})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hush")) {
			t.Errorf("%s: %v, want %q", connect, err, want)
		}
	}
	err := checkWAMP("", []string{"com.a prefix", `{"match":"prefix"}`})
	for _, want := range []string{"CONNECT", "line 1: has no JSON object", "line 2: has no topic"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// The example of the specification's chapter on WAMP-CRA has no expected signature, so this is what another
// implementation (Node's crypto) makes of the same.
func TestWAMPSignatures(t *testing.T) {
	l := wampLogin{Secret: "hunter2"}
	for extra, want := range map[string]string{
		`{"challenge":"abc"}`: "jbhqxXE/g7SqnKPPV7VCbg271bxyc+ScQnMVap5L1ZU=",
		`{"challenge":"abc","salt":"salt123","keylen":32,"iterations":1000}`: "F1VAiuJC9GepWnPmqivEg8mpReHXzlGhG+V1q0P59a4=",
	} {
		if got, err := l.sign([]byte(extra)); err != nil || got != want {
			t.Errorf("%s: %s, %v", extra, got, err)
		}
	}
}

// A router that confirms for ever, or twice, fills nothing.
func TestWAMPBounds(t *testing.T) {
	s := wampSession(`{"realm":"a"}`, "com.a")
	s.Open(wampSubprotocol)
	for _, text := range []string{`[2,1,{}]`, `[33,1,5]`, `[33,1,6]`, `[33,2,7]`, `[33,"1",8]`, `[33]`, `[33,1]`} {
		if _, err := s.Receive(context.Background(), noon, Frame{Data: []byte(text)}); err != nil && text != `[33]` {
			t.Errorf("%s: %v", text, err)
		}
	}
	if len(s.topics) != 1 || len(s.asked) != 0 {
		t.Errorf("%v %v", s.topics, s.asked)
	}
}

func FuzzWAMP(f *testing.F) {
	f.Add(pieces("\x00[2,1,{}]", "\x00[33,1,5]", "\x00[36,5,6,{\"topic\":\"a\"},[1],{\"k\":2}]", "\x04com.a {\"args\":[1]}", "\x00[6,{},\"x\"]", "\x06"))
	f.Add(pieces("\x00[4,\"wampcra\",{\"challenge\":\"x\",\"salt\":\"y\",\"keylen\":32,\"iterations\":3}]", "\x00[2,1,{}]", "\x00[8,32,1,{},\"wamp.error.x\"]"))
	f.Add(pieces("\x00[4,\"ticket\",{}]", "\x00[3,{\"message\":\"hush\"},\"a.b\"]", "\x02[2]"))
	f.Fuzz(func(t *testing.T, script []byte) {
		s := wampSession(`{"realm":"a","authid":"b","ticket":"hush","secret":"hush"}`, "com.a", "com.b {}")
		s.Options.Dial = func() (Dial, error) { return Dial{URL: "ws://h/"}, nil }
		drive(t, s, script, func() {
			if len(s.asked) > 2 || len(s.topics) > 2 || len(s.leaving) > 4*maxServerText+4 {
				t.Fatal("it grows")
			}
		})
	})
}
