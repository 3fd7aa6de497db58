package translate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// remembering is a session that keeps every object it hears.
func remembering(t *testing.T, s *Script) (Session, func(frame any) Received) {
	t.Helper()
	s.State, s.Kept = compiled(t, "STATE", "objects"), new(State)
	session := rawSession(t, s, "")
	if _, err := session.Open(""); err != nil {
		t.Fatal(err)
	}
	return session, func(frame any) Received {
		data, err := json.Marshal(frame)
		if err != nil {
			t.Fatal(err)
		}
		got, err := session.Receive(context.Background(), Frame{Data: data})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
}

func TestStateIsBounded(t *testing.T) {
	s := new(Script)
	_, hear := remembering(t, s)
	for i := range maxStateNames {
		hear(map[string]int{fmt.Sprint(i): i})
	}
	most := strings.Repeat("x", maxStateValue)
	for _, test := range []struct {
		what  string
		frame map[string]any
		kept  bool
	}{
		{"one name more", map[string]any{"more": 1}, false},
		{"another value", map[string]any{"7": "other"}, true},
		{"a value of the most", map[string]any{"8": most}, true},
		{"a longer one", map[string]any{"9": most + "x"}, false},
		{"a longer list", map[string]any{"9": []string{most}}, false},
		{"one for another", map[string]any{"10": nil, "!": "first of all"}, true},
	} {
		what := test.what
		got := hear(test.frame)
		if (len(got.Failed) == 0) != test.kept {
			t.Errorf("%s: %v", what, got.Failed)
		}
		for _, err := range got.Failed {
			if strings.Contains(err.Error(), "xxx") {
				t.Errorf("%s: the error shows the value", what)
			}
		}
	}
	if len(s.Kept.values) != maxStateNames || s.Kept.Text("7") != "other" || s.Kept.Text("8") != most || s.Kept.Text("9") != "9" || s.Kept.Text("10") != "" {
		t.Errorf("%d names: %v", len(s.Kept.values), slices.Sorted(maps.Keys(s.Kept.values)))
	}
	hear(map[string]any{"11": nil})
	if hear(map[string]int{strings.Repeat("n", maxStateName+1): 1}); len(s.Kept.values) != maxStateNames-1 {
		t.Error("a name without end is kept")
	}
}

// A message in the ring's hands keeps the state that it came with.
func TestStateOfAMessageStays(t *testing.T) {
	_, hear := remembering(t, new(Script))
	first, second := hear(map[string]int{"n": 1}).Messages, hear(map[string]int{"n": 2}).Messages
	p := program(t, "DATA=state.n")
	for i, ms := range [][]Message{first, second} {
		if out, _, err := p.Apply(context.Background(), ms[0]); err != nil || string(out[0].Data) != fmt.Sprint(i+1) {
			t.Errorf("message %d: %s, %v", i+1, said(out), err)
		}
	}
	if out, _, err := p.Apply(context.Background(), Message{Data: []byte("1")}); err != nil || string(out[0].Data) != "null" {
		t.Errorf("a message without state: %s, %v", said(out), err)
	}
}

func TestMadeFramesAreBounded(t *testing.T) {
	for n, fits := range map[int]bool{maxReplies: true, maxReplies + 1: false} {
		s := rawSession(t, script(t, fmt.Sprintf("= range(%d)", n), "", ""), "")
		frames, err := s.Open("")
		if fits && (err != nil || len(frames) != n) || !fits && err == nil {
			t.Errorf("%d: %d frames, %v", n, len(frames), err)
		}
	}
	forever := script(t, "= last(repeat(1))", "", "")
	forever.ProgramFor = 10 * time.Millisecond
	if _, err := rawSession(t, forever, "").Open(""); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a program without end: %v", err)
	}
}

func TestRecordsAreBounded(t *testing.T) {
	s := newRaw(Options{Separator: "\n"})
	got, err := s.Receive(context.Background(), Frame{Data: []byte(strings.Repeat("x\n", maxItems+1))})
	if err != nil || len(got.Messages) != maxItems+1 || got.Messages[maxItems].Gap != GapUpstream || got.Messages[maxItems-1].Gap != "" {
		t.Errorf("%d messages, %v", len(got.Messages), err)
	}
	given := []byte("abc")[:2]
	if frames, err := s.Send(Message{Data: given}); err != nil || string(frames[0].Data) != "ab\n" || string(given[:3]) != "abc" {
		t.Errorf("%q from %q, %v", frames[0].Data, given[:3], err)
	}
}

func TestParseCloseProblems(t *testing.T) {
	for text, want := range map[string]string{
		"4004":              `"4004" has no = ; write code=what, such as 4004=refused`,
		"4004=refuse":       `"4004=refuse" says none of retry, refused, finished, new; write one of them behind the = `,
		"4000=new,999=new":  `"999=new" has a code that no connection is closed with; write 1000 to 4999, or a range such as 4010-4014`,
		"5000=new":          `"5000=new" has a code that no connection is closed with; write 1000 to 4999, or a range such as 4010-4014`,
		"a=new":             `"a=new" has a code that no connection is closed with; write 1000 to 4999, or a range such as 4010-4014`,
		"4009-4001=retry":   `"4009-4001=retry" ends before it begins; write the smaller code first`,
		"4004=refused:500":  `"4004=refused:500" refuses with a status that says something else; write 400 to 499, such as refused:401`,
		"4004=finished:401": `"4004=finished:401" has a status, which only refused can have`,
	} {
		if _, err := ParseClose(text); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
	if p, err := ParseClose(" , "); err != nil || p != nil {
		t.Errorf("%v, %v", p, err)
	}
}

// The first rule counts.
func TestClosePolicyOrder(t *testing.T) {
	p, err := ParseClose("4001=finished,4000-4999=refused")
	if err != nil {
		t.Fatal(err)
	}
	var refused *Refused
	if p.rule(4001).verdict != ErrFinished || !errors.As(p.rule(4999).verdict, &refused) || p.rule(1000) != nil || p.rule(0) != nil {
		t.Error(p)
	}
}

func TestElsewhere(t *testing.T) {
	h := http.Header{"Authorization": {"k"}, "Cookie": {"c"}, "Host": {"h"}, "Origin": {"o"}, "User-Agent": {"u"}}
	for address, credentials := range map[string]bool{
		"ws://a.example/x": true, "ws://A.example:80/x": true, "ws://a.example": true,
		"ws://b.example/": false, "ws://a.example:81/": false, "wss://a.example/": false, "ws://a.example.b.example/": false,
	} {
		d, err := elsewhere(Dial{URL: "ws://a.example/feed", Header: h.Clone()}, address)
		if err != nil || (d.Header.Get("Authorization") != "") != credentials || (d.Header.Get("Host") != "") != credentials ||
			(d.Header.Get("Cookie") != "") != credentials || d.Header.Get("Origin") != "o" || d.Header.Get("User-Agent") != "u" {
			t.Errorf("%s: %v, %v", address, d, err)
		}
	}
	for _, address := range []string{"http://a.example/", "//a.example/", "ws:///x", "ws:opaque", "ws://a.example/#f", "ws://u:p@a.example/", "", "ws://a\n/", "ws://a.example/" + strings.Repeat("x", maxAddress)} {
		if d, err := elsewhere(Dial{URL: "ws://a.example/feed"}, address); err == nil {
			t.Errorf("%q: dials %s", address, d.URL)
		}
	}
}
