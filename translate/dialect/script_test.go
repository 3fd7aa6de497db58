package dialect

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"sidestream/translate"
	"sidestream/translate/sse"
)

func same(s string) (string, error) { return s, nil }

// script compiles what a route has. {stream.n} and {state.NAME} are the placeholders known.
func script(t testing.TB, hello, reply, ping string) *Script {
	t.Helper()
	s := &Script{Reply: compiled(t, "REPLY", reply), Ping: text(ping), Every: 30 * time.Second}
	marks, lines := SplitHello(hello)
	for i, mark := range marks {
		switch mark {
		case '<':
			s.Steps = append(s.Steps, Step{Wait: compiled(t, "HELLO", lines[i])})
		case '!':
			s.Steps = append(s.Steps, Step{Refuse: compiled(t, "HELLO", lines[i])})
		case '~':
			s.Steps = append(s.Steps, Step{Reconnect: compiled(t, "HELLO", lines[i])})
		case '=':
			s.Steps = append(s.Steps, Step{Compute: compiled(t, "HELLO", lines[i])})
		default:
			s.Steps = append(s.Steps, Step{Send: text(lines[i])})
		}
	}
	return s
}

var ours = regexp.MustCompile(`\{(stream\.n|state\.[^{}]+)\}`)

func text(s string) translate.Text {
	var t translate.Text
	pos := 0
	for _, m := range ours.FindAllStringSubmatchIndex(s, -1) {
		t = t.Append(s[pos:m[0]])
		name, fallback, _ := strings.Cut(s[m[2]:m[3]], ":")
		t = t.AppendStream(strings.TrimPrefix(name, "stream."), fallback, same)
		pos = m[1]
	}
	return t.Append(s[pos:])
}

func rawSession(t testing.TB, s *Script, binary string) Session {
	t.Helper()
	d, err := Find("raw")
	if err != nil {
		t.Fatal(err)
	}
	return s.Wrap(d.New(Options{Binary: binary}))
}

func TestSplitHello(t *testing.T) {
	marks, lines := SplitHello("> a\n\n  <  .b  \r\n!.c\nplain > text\n>\n")
	if string(marks) != "><!>>" || !slices.Equal(lines, []string{"a", ".b", ".c", "plain > text", ""}) {
		t.Errorf("%q %q", marks, lines)
	}
	if marks, _ := SplitHello(" \n\n"); marks != nil {
		t.Errorf("steps of nothing: %q", marks)
	}
}

func TestWrapOfNothingIsTheDialect(t *testing.T) {
	d, _ := Find("raw")
	inner := d.New(Options{})
	if (&Script{Every: time.Second}).Wrap(inner) != inner {
		t.Error("an empty script was put around the dialect")
	}
}

func TestFind(t *testing.T) {
	if _, err := Find("soap"); err == nil || !strings.Contains(err.Error(), "raw") {
		t.Errorf("%v", err)
	}
}

// sent writes frames as their texts.
func sent(frames []Frame) []string {
	var out []string
	for _, f := range frames {
		out = append(out, string(f.Data))
	}
	return out
}

func TestCounterStartsOverWithTheConnection(t *testing.T) {
	s := rawSession(t, script(t, "> {\"id\":{stream.n}}\n> {\"id\":{stream.n}}\n< .ok\n> {\"id\":{stream.n}}", "", "ping {stream.n}"), "")
	for connection := range 3 {
		frames, err := s.Open("")
		if err != nil || !slices.Equal(sent(frames), []string{`{"id":1}`, `{"id":2}`}) {
			t.Fatalf("connection %d: %q, %v", connection, sent(frames), err)
		}
		if connection == 1 {
			continue // lost in the middle of HELLO
		}
		got, err := s.Receive(context.Background(), noon, Frame{Data: []byte(`{"ok":1}`)})
		if err != nil || !slices.Equal(sent(got.Replies), []string{`{"id":3}`}) || !got.Ready || len(got.Messages) != 0 {
			t.Fatalf("connection %d: %+v, %v", connection, got, err)
		}
		for want := 4; want < 6; want++ {
			frames, err := s.Ping()
			if err != nil || !slices.Equal(sent(frames), []string{fmt.Sprintf("ping %d", want)}) {
				t.Fatalf("connection %d: %q, %v", connection, sent(frames), err)
			}
		}
	}
}

func TestTimersOfSteps(t *testing.T) {
	s := rawSession(t, script(t, "< .a\n> x\n< .b", "", ""), "")
	if _, err := s.Open(""); err != nil {
		t.Fatal(err)
	}
	first := s.Timers()
	if first.Opening != StepTimeout || first.Every != 0 {
		t.Fatalf("%+v", first)
	}
	receive := func(frame string) Received {
		got, err := s.Receive(context.Background(), noon, Frame{Data: []byte(frame)})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if receive(`{"b":1}`); s.Timers().Step != first.Step {
		t.Error("a message that is not waited for starts the step over")
	}
	if receive(`{"a":1}`); s.Timers().Step <= first.Step || s.Timers().Opening != StepTimeout {
		t.Errorf("the next step is %+v", s.Timers())
	}
	if got := receive(`{"b":1}`); !got.Ready || s.Timers().Opening != 0 {
		t.Errorf("after the last step: %+v, %+v", got, s.Timers())
	}
	if got := receive(`{"b":1}`); got.Ready || len(got.Messages) != 1 {
		t.Errorf("ready twice, or a message taken: %+v", got)
	}
}

func TestRefusals(t *testing.T) {
	for name, test := range map[string]struct {
		hello  string
		frames []string
		at     int // the frame that is refused, from 1; 0 none
	}{
		"before any wait":            {"! .e\n< .ok", []string{`{"e":1}`}, 1},
		"not before its line":        {"< .ok\n! .e", []string{`{"e":1}`, `{"ok":1}`, `{"e":1}`}, 3},
		"meets ! before <":           {"! .e\n< .ok", []string{`{"e":1,"ok":1}`}, 1},
		"holds from its line on":     {"< .ok\n! .e\n< .more", []string{`{"ok":1}`, `{"e":1}`}, 2},
		"its own < is not refused":   {"< .ok\n! .ok\n", []string{`{"ok":1}`, `{"ok":1}`}, 2},
		"holds behind the last step": {"! .e", []string{`{"a":1}`, `{"e":1}`}, 2},
		"every one is met":           {"! .e\n! .f", []string{`{"f":1}`}, 1},
		"a failing one does not":     {"! .a.b", []string{`{"a":"text"}`, `5`, `text`}, 0},
		"null does not":              {"! .e", []string{`{"e":null}`, `{"e":false}`}, 0},
	} {
		s := rawSession(t, script(t, test.hello, "", ""), "")
		if _, err := s.Open(""); err != nil {
			t.Fatal(err)
		}
		refusedAt := 0
		for i, frame := range test.frames {
			_, err := s.Receive(context.Background(), noon, Frame{Data: []byte(frame)})
			var refused *translate.Refused
			if errors.As(err, &refused) && refused.Status == 403 {
				refusedAt = i + 1
				break
			} else if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		if refusedAt != test.at {
			t.Errorf("%s: refused at frame %d, want %d", name, refusedAt, test.at)
		}
		// The next connection begins without any.
		if _, err := s.Open(""); err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(test.hello, "<") {
			if _, err := s.Receive(context.Background(), noon, Frame{Data: []byte(`{"e":1}`)}); err != nil {
				t.Errorf("%s: a ! of the last connection holds in the next: %v", name, err)
			}
		}
	}
}

func TestReplies(t *testing.T) {
	s := rawSession(t, script(t, "", `if .n then range(.n) else (., "a b", {b:2,a:1}) end`, ""), "")
	if _, err := s.Open(""); err != nil {
		t.Fatal(err)
	}
	got, err := s.Receive(context.Background(), noon, Frame{Data: []byte(`{"x": 9007199254740993}`)})
	if err != nil || !slices.Equal(sent(got.Replies), []string{`{"x":9007199254740993}`, `a b`, `{"a":1,"b":2}`}) || len(got.Messages) != 1 {
		t.Errorf("%q, %v", sent(got.Replies), err)
	}
	got, err = s.Receive(context.Background(), noon, Frame{Data: []byte(fmt.Sprint(`{"n":`, maxReplies, `}`))})
	if err != nil || len(got.Replies) != maxReplies {
		t.Errorf("%d replies, %v", len(got.Replies), err)
	}
	for _, frame := range []string{fmt.Sprint(`{"n":`, maxReplies+1, `}`), `5`} {
		got, err = s.Receive(context.Background(), noon, Frame{Data: []byte(frame)})
		var failed *translate.ProgramError
		if err != nil || len(got.Replies) != 0 || len(got.Failed) != 1 || !errors.As(got.Failed[0], &failed) || failed.Setting != "REPLY" || len(got.Messages) != 1 {
			t.Errorf("%s: %+v, %v", frame, got, err)
		}
	}
}

// A program that is cut has no answer, which is worth more than a mismatch: it is reported, once for the message.
func TestCutProgramsAreReported(t *testing.T) {
	for _, test := range []struct{ hello, reply string }{
		{"! last(repeat(1))", ""}, {"< last(repeat(1))", ""}, {"", "repeat(empty)"}, {"! last(repeat(1))\n! .\n< .", "."},
	} {
		s := rawSession(t, script(t, test.hello, test.reply, ""), "")
		if _, err := s.Open(""); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
		got, err := s.Receive(ctx, noon, Frame{Data: []byte(`1`)})
		cancel()
		if err != nil || len(got.Failed) != 1 || !errors.Is(got.Failed[0], context.DeadlineExceeded) || len(got.Messages) != 1 {
			t.Errorf("%+v: %+v, %v", test, got, err)
		}
	}
}

func TestProgramsSeeWhatTheScriptParsed(t *testing.T) {
	s := rawSession(t, script(t, "", "empty", ""), "")
	if _, err := s.Open(""); err != nil {
		t.Fatal(err)
	}
	for frame, want := range map[string]string{`{"n":9007199254740993}`: `#={"n":9007199254740993}`, `tick`: `#=tick`} {
		got, err := s.Receive(context.Background(), noon, Frame{Data: []byte(frame)})
		if err != nil || len(got.Messages) != 1 {
			t.Fatalf("%+v, %v", got, err)
		}
		got.Messages[0].Data = []byte("not looked at again")
		if out, _, err := program(t, "DATA=.").Apply(context.Background(), got.Messages[0]); err != nil || said(out) != want {
			t.Errorf("%q, %v", said(out), err)
		}
	}
}

func FuzzReceive(f *testing.F) {
	f.Add([]byte(`{"type":"welcome"}`), []byte(`{"type":"ping","id":9007199254740993}`), false)
	f.Add([]byte("tick"), []byte("\xff\x00"), true)
	f.Add([]byte(`{"type":"error"}`), []byte(``), false)
	f.Add([]byte(strings.Repeat("[", 12000)), []byte(`"\ud800"`), false)
	sc := script(f, "> hi {stream.n}\n! .type==\"error\"\n< .type==\"welcome\"\n> sub\n= $state", `select(.type=="ping")|.type="pong"`, "{state.id:1}")
	sc.Capture, sc.Resumed, sc.Interval = compiled(f, "STATE", "objects"), compiled(f, "RESUMED", ".id == $state.id"), compiled(f, "PING_EVERY", "$state.type")
	p := program(f, "SELECT=if type==\"array\" then .[] else . end", "EVENT=.type?")
	f.Fuzz(func(t *testing.T, first, second []byte, binary bool) {
		s := rawSession(t, sc, BinaryBase64)
		if frames, err := s.Open(""); err != nil || !slices.Equal(sent(frames), []string{"hi 1"}) {
			t.Fatal(sent(frames), err)
		}
		for _, data := range [][]byte{first, second} {
			given := bytes.Clone(data)
			got, err := s.Receive(context.Background(), noon, Frame{Binary: binary, Data: data})
			var refused *translate.Refused
			if err != nil && !errors.As(err, &refused) {
				t.Fatalf("%q: %v", data, err)
			}
			if !bytes.Equal(given, data) {
				t.Fatal("the frame was written to")
			}
			for _, m := range got.Messages {
				want := string(data)
				if binary {
					want = base64.StdEncoding.EncodeToString(data)
				}
				if string(m.Data) != want {
					t.Fatalf("%q became %q", data, m.Data)
				}
				out, _, _ := p.Apply(context.Background(), m)
				for _, o := range out {
					if !utf8.Valid(sse.AppendEvent(nil, "7", o.Event, o.Data)) {
						t.Fatalf("%q", o.Data)
					}
				}
			}
			if err != nil {
				return
			}
			frames, err := s.Ping()
			if every := s.Timers().Every; err != nil || every != 0 && (every < minInterval || every > maxInterval) || len(frames) > 1 {
				t.Fatal(frames, err, every)
			}
			if kept := s.(*scripted).script.State; kept.Len() > 64 {
				t.Fatal(kept)
			}
		}
	})
}

// beating is a dialect with a keepalive of its own.
type beating struct {
	raw
	every time.Duration
}

func (b *beating) Timers() Timers         { return Timers{Every: b.every} }
func (b *beating) Ping() ([]Frame, error) { return []Frame{{Data: []byte("beat")}}, nil }

// Two keepalives of different intervals: neither is ever late.
func TestKeepalivesTogether(t *testing.T) {
	for _, test := range []struct{ inner, own time.Duration }{{15, 10}, {10, 15}, {10, 10}, {10, 35}, {35, 10}, {0, 10}, {10, 0}, {7, 100}} {
		sc := script(t, "", "", "own")
		sc.Every = test.own * time.Second
		s := sc.Wrap(&beating{every: test.inner * time.Second})
		if _, err := s.Open(""); err != nil {
			t.Fatal(err)
		}
		every := s.Timers().Every
		last := map[string]time.Duration{}
		for now := every; now <= 10*time.Minute; now += every {
			for name, most := range map[string]time.Duration{"beat": test.inner * time.Second, "own": test.own * time.Second} {
				if most > 0 && now-last[name] > most {
					t.Fatalf("%v and %v: %s was sent %v ago", test.inner, test.own, name, now-last[name])
				}
			}
			frames, err := s.Ping()
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range frames {
				last[string(f.Data)] = now
			}
		}
		if (test.inner == 0) != (last["beat"] == 0) || (test.own == 0) != (last["own"] == 0) {
			t.Errorf("%v and %v: %v", test.inner, test.own, last)
		}
	}
}

// A REPLY that answers too much ends the connection before it floods the service, over all connections of a stream; after a second it may go on.
func TestRepliesAreLimited(t *testing.T) {
	own := script(t, "", `.`, "")
	own.ReplyMax = 3
	s := rawSession(t, own, "")
	receive := func(after time.Duration) error {
		_, err := s.Receive(context.Background(), noon.Add(after), Frame{Data: []byte(`{"a":1}`)})
		return err
	}
	if _, err := s.Open(""); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if err := receive(time.Duration(i) * 100 * time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	if err := receive(500 * time.Millisecond); err == nil || !strings.Contains(err.Error(), "REPLY_MAX") {
		t.Errorf("the fourth: %v", err)
	}
	if _, err := s.Open(""); err != nil {
		t.Fatal(err)
	}
	if err := receive(900 * time.Millisecond); err == nil {
		t.Error("a new connection begins anew")
	}
	if err := receive(1100 * time.Millisecond); err != nil {
		t.Errorf("a second later: %v", err)
	}
	s = rawSession(t, script(t, "", `.`, ""), "") // without a limit
	if _, err := s.Open(""); err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		if err := receive(1100 * time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
}
