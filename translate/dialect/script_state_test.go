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
)

// remembering is a session that keeps every object it hears.
func remembering(t *testing.T, s *Script) (Session, func(frame any) Received) {
	t.Helper()
	s.Capture, s.State = compiled(t, "STATE", "objects"), new(translate.State)
	session := rawSession(t, s, "")
	if _, err := session.Open(""); err != nil {
		t.Fatal(err)
	}
	return session, func(frame any) Received {
		data, err := json.Marshal(frame)
		if err != nil {
			t.Fatal(err)
		}
		got, err := session.Receive(context.Background(), noon, Frame{Data: data})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
}

// What STATE cannot keep is reported, without its value, and is an event all the same.
func TestStateThatIsNotKeptIsReported(t *testing.T) {
	s := new(Script)
	_, hear := remembering(t, s)
	hear(map[string]any{"a": "short"})
	got := hear(map[string]any{"a": strings.Repeat("x", 5<<10), "b": 1})
	if len(got.Failed) != 1 || strings.Contains(got.Failed[0].Error(), "xxx") || len(got.Messages) != 1 {
		t.Errorf("%v, %d messages", got.Failed, len(got.Messages))
	}
	if s.State.Text("a") != "short" || s.State.Text("b") != "1" {
		t.Errorf("kept are %q and %q", s.State.Text("a"), s.State.Text("b"))
	}
}

// A message in the ring's hands keeps the state that it came with.
func TestStateOfAMessageStays(t *testing.T) {
	_, hear := remembering(t, new(Script))
	first, second := hear(map[string]int{"n": 1}).Messages, hear(map[string]int{"n": 2}).Messages
	p := program(t, "DATA=state.n")
	for i, ms := range [][]translate.Message{first, second} {
		if out, _, err := p.Apply(context.Background(), ms[0]); err != nil || string(out[0].Data) != fmt.Sprint(i+1) {
			t.Errorf("message %d: %s, %v", i+1, said(out), err)
		}
	}
	if out, _, err := p.Apply(context.Background(), translate.Message{Data: []byte("1")}); err != nil || string(out[0].Data) != "null" {
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
	forever.Bound = func() (context.Context, context.CancelFunc) {
		return context.WithTimeout(context.Background(), 10*time.Millisecond)
	}
	if _, err := rawSession(t, forever, "").Open(""); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a program without end: %v", err)
	}
}

func TestRecordsAreBounded(t *testing.T) {
	s := newRaw(Options{Separator: "\n"})
	got, err := s.Receive(context.Background(), noon, Frame{Data: []byte(strings.Repeat("x\n", maxRecords+1))})
	if err != nil || len(got.Messages) != maxRecords+1 || got.Messages[maxRecords].Gap != translate.GapUpstream || got.Messages[maxRecords-1].Gap != "" {
		t.Errorf("%d messages, %v", len(got.Messages), err)
	}
	given := []byte("abc")[:2]
	if frames, err := s.Send(translate.Message{Data: given}); err != nil || string(frames[0].Data) != "ab\n" || string(given[:3]) != "abc" {
		t.Errorf("%q from %q, %v", frames[0].Data, given[:3], err)
	}
}

func TestParseCloseProblems(t *testing.T) {
	for text, want := range map[string]string{
		"4004":              `"4004" has no = ; write code=what, such as 4004=refused`,
		"4004=refuse":       `"4004=refuse" is none of retry, refused, finished, new; write one of them after the = `,
		"4000=new,999=new":  `"999=new" has a code that no connection is closed with; write 1000 to 4999, or a range such as 4010-4014`,
		"5000=new":          `"5000=new" has a code that no connection is closed with; write 1000 to 4999, or a range such as 4010-4014`,
		"a=new":             `"a=new" has a code that no connection is closed with; write 1000 to 4999, or a range such as 4010-4014`,
		"4009-4001=retry":   `"4009-4001=retry" ends before it begins; write the smaller code first`,
		"4004=refused:500":  `"4004=refused:500" refuses with a status that is not a refusal; write 400 to 499, such as refused:401`,
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
	var refused *translate.Refused
	if p.rule(4001).err != translate.ErrFinished || !errors.As(p.rule(4999).err, &refused) || p.rule(1000) != nil || p.rule(0) != nil {
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
