package dialect

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"sidestream/translate"
)

// centReady opens a session whose channels are x, y.. and begin at offset 1 of epoch e.
func centReady(t *testing.T, subs string, lines ...string) *centrifuge {
	t.Helper()
	s := centSession(lines...)
	if _, err := s.Open(""); err != nil {
		t.Fatal(err)
	}
	s.hears(t, `{"id":1,"connect":{"client":"c","ping":25,"subs":{`+subs+`}}}`)
	for i := range lines {
		s.hears(t, fmt.Sprintf(`{"id":%d,"subscribe":{"recoverable":true,"epoch":"e","offset":1}}`, i+2))
	}
	if !s.ready {
		t.Fatal("not ready")
	}
	return s
}

// However long a server says that it is between its pings, a dead connection is noticed.
func TestCentrifugePings(t *testing.T) {
	for _, ping := range []string{"9223372036", "9223372037", "18446744074", "9223372036854775807"} {
		s := centSession("x")
		_, _ = s.Open("")
		s.hears(t, `{"id":1,"connect":{"client":"c","ping":`+ping+`}}{"id":2,"subscribe":{}}`)
		if got := s.Timers().Silence; got != maxCentPing+centMargin {
			t.Errorf("%s: %v", ping, got)
		}
	}
}

// Tags count as what is held.
func TestCentrifugeHeldTags(t *testing.T) {
	s := centSession("x", "y")
	_, _ = s.Open("")
	s.hears(t, `{"id":1,"connect":{"client":"c"}}`)
	for range 4 {
		s.hears(t, `{"push":{"channel":"x","pub":{"data":1,"tags":{"a":"`+strings.Repeat("x", 1000)+`"}}}}`)
	}
	if !s.over || len(s.held) > 0 {
		t.Errorf("%d messages with 1000 bytes of tags each are held where 2048 are allowed", len(s.held))
	}
}

// What several channels have missed together may be more than one of them.
func TestCentrifugeRecoversMany(t *testing.T) {
	s, _ := newCentrifuge(Options{Dial: func() (Dial, error) { return Dial{URL: "ws://h"}, nil }, Connect: fixed(""), Subscribe: fixedLines("a", "b", "c", "d", "e")}).(*centrifuge)
	open := func(answer func(i int) string) (got Received) {
		_, _ = s.Open("")
		s.hears(t, `{"id":1,"connect":{"client":"c"}}`)
		for i := range 5 {
			got = s.hears(t, fmt.Sprintf(`{"id":%d,"subscribe":{"recoverable":true,"epoch":"e"%s}}`, i+2, answer(i)))
		}
		return got
	}
	open(func(int) string { return "" })
	var pubs []string
	for i := range 300 { // what Centrifugo gives back of each channel
		pubs = append(pubs, fmt.Sprintf(`{"data":%d,"offset":%d}`, i, i+1))
	}
	got := open(func(int) string { return `,"recovered":true,"publications":[` + strings.Join(pubs, ",") + `]` })
	if !got.Ready || !got.Resumed || len(got.Messages) != 1500 {
		t.Errorf("ready %v, resumed %v, %d messages of 1500", got.Ready, got.Resumed, len(got.Messages))
	}
}

// A channel that is asked for again on a connection that is ready, and not answered, would be silent for ever.
func TestCentrifugeUnanswered(t *testing.T) {
	s := centReady(t, "", "x", "y")
	if s.Timers().Every != 0 {
		t.Error("it pings")
	}
	s.hears(t, `{"push":{"channel":"x","unsubscribe":{"code":2500}}}`)
	if s.Timers().Every != 10*time.Second {
		t.Errorf("%v", s.Timers())
	}
	if _, err := s.Ping(); err != nil {
		t.Fatal(err)
	}
	s.hears(t, `{"id":4,"subscribe":{"recoverable":true,"epoch":"e","offset":1,"recovered":true}}`)
	if s.Timers().Every != 0 {
		t.Error("it goes on")
	}
	s.hears(t, `{"push":{"channel":"x","unsubscribe":{"code":2500}}}`)
	if _, err := s.Ping(); err != nil {
		t.Fatal(err)
	}
	s.hears(t, `{}{"push":{"channel":"y","pub":{"data":1,"offset":2}}}`)
	if _, err := s.Ping(); err == nil || !strings.Contains(err.Error(), "SUBSCRIBE") || !s.Resumable() {
		t.Errorf("%v, resumable: %v", err, s.Resumable())
	}
}

// A token that has expired when a channel is asked for again may be another one on the next connection.
func TestCentrifugeExpiredAgain(t *testing.T) {
	s := centReady(t, "", "x")
	for _, code := range []int{101, 103, 109, 110} {
		s = centReady(t, "", "x")
		s.hears(t, `{"push":{"channel":"x","unsubscribe":{"code":2500}}}`)
		_, err := s.Receive(t.Context(), noon, Frame{Data: fmt.Appendf(nil, `{"id":3,"error":{"code":%d,"message":"token expired"}}`, code)})
		var refused *translate.Refused
		if err == nil || errors.As(err, &refused) != (code == 103) || !s.Resumable() {
			t.Errorf("%d: %v, resumable: %v", code, err, s.Resumable())
		}
	}
	_, _ = s.Open("")
	s.hears(t, `{"id":1,"connect":{"client":"c"}}`)
	_, err := s.Receive(t.Context(), noon, Frame{Data: []byte(`{"id":2,"error":{"code":109,"message":"token expired"}}`)})
	if outcome(err) != "refused" {
		t.Errorf("while it is opened: %v", err)
	}
}

// A channel of the server's that is not there any more was lost sight of at a moment that nobody knows.
func TestCentrifugeServersChannelGone(t *testing.T) {
	s := centReady(t, `"u":{"recoverable":true,"epoch":"e","offset":1}`, "x")
	_, _ = s.Open("")
	s.hears(t, `{"id":1,"connect":{"client":"c"}}`)
	if got := s.hears(t, `{"id":2,"subscribe":{"recoverable":true,"epoch":"e","offset":1,"recovered":true}}`); !got.Ready || got.Resumed {
		t.Errorf("%+v", got)
	}
}

// Channels of the server's over the bound are said to be left out.
func TestCentrifugeTooManyChannels(t *testing.T) {
	s := centReady(t, "", "x")
	for i := range maxCentChannels {
		if got := s.hears(t, fmt.Sprintf(`{"push":{"channel":"%d","subscribe":{}}}`, i)); len(got.Complaints) > 0 {
			t.Fatal(got.Complaints)
		}
	}
	for _, channel := range []string{"one more", strings.Repeat("x", maxCentName+1)} {
		if got := s.hears(t, `{"push":{"channel":"`+channel+`","subscribe":{}}}`); len(got.Complaints) != 1 || len(got.Messages) != 1 || got.Messages[0].Gap == "" {
			t.Errorf("%+v", got)
		}
	}
}

// An answer that is recovered, but whose last offset is not that of its last publication, has left something out; so may have one with a filter whose only
// publication is not the next one, as of a channel that remembers its last value alone.
func TestCentrifugeRecoveredInPart(t *testing.T) {
	for _, test := range []struct {
		line, answer string
		resumed      bool
	}{
		{"x", `"offset":1`, true},
		{"x", `"offset":3`, false},
		{"x", `"offset":3,"publications":[{"offset":2},{"offset":3}]`, true},
		{"x", `"offset":4,"publications":[{"offset":2},{"offset":3}]`, false},
		{"x", `"offset":1,"publications":[{"offset":2},{"offset":4}]`, false},
		{"x", `"offset":1,"publications":[{"offset":3}]`, false},
		{`x {"tf":{}}`, `"offset":1,"publications":[{"offset":2}]`, true},
		{`x {"tf":{}}`, `"offset":1,"publications":[{"offset":3},{"offset":7}]`, true},
		{`x {"tf":{}}`, `"offset":1,"publications":[{"offset":3}]`, false},
		{`x {"tf":{}}`, `"offset":1`, true},
	} {
		s := centReady(t, "", test.line)
		_, _ = s.Open("")
		s.hears(t, `{"id":1,"connect":{"client":"c"}}`)
		if got := s.hears(t, `{"id":2,"subscribe":{"recoverable":true,"epoch":"e","recovered":true,`+test.answer+`}}`); !got.Ready || got.Resumed != test.resumed {
			t.Errorf("%s: %s: resumed: %v", test.line, test.answer, got.Resumed)
		}
	}
}

// Offsets of what is pushed have no holes; what was over MAX_MESSAGE has been said, a filter leaves out what it likes, and an offset from before moves no place back.
func TestCentrifugeJumps(t *testing.T) {
	push := func(s *centrifuge, offset int) (gaps int) {
		t.Helper()
		got := s.hears(t, fmt.Sprintf(`{"push":{"channel":"x","pub":{"data":1,"offset":%d}}}`, offset))
		if n := len(got.Messages); n == 0 || got.Messages[n-1].Gap != "" {
			t.Fatalf("%+v", got)
		}
		return len(got.Messages) - 1
	}
	s := centReady(t, "", "x")
	if push(s, 2) != 0 || push(s, 4) != 1 || push(s, 5) != 0 || push(s, 3) != 0 || push(s, 5) != 0 || push(s, 6) != 0 || s.places["x"].offset != 6 {
		t.Errorf("%v", s.places)
	}
	if s.Skipped() != nil || push(s, 8) != 0 || push(s, 10) != 1 {
		t.Error("what was skipped")
	}
	s = centReady(t, "", `x {"tf":{}}`)
	if push(s, 9) != 0 || s.places["x"].offset != 9 {
		t.Errorf("with a filter: %v", s.places)
	}
	s = centReady(t, "", "x", "y") // while it is opened
	_, _ = s.Open("")
	s.hears(t, `{"id":1,"connect":{"client":"c"}}{"id":2,"subscribe":{"recoverable":true,"epoch":"e","offset":1,"recovered":true}}{"push":{"channel":"x","pub":{"data":1,"offset":3}}}`)
	if got := s.hears(t, `{"id":3,"subscribe":{"recoverable":true,"epoch":"e","offset":1,"recovered":true}}`); !got.Ready || got.Resumed {
		t.Errorf("%+v", got)
	}
}

// What the server subscribes to by itself, although SUBSCRIBE has it too, is gone on with as well.
func TestCentrifugeServersOwnLine(t *testing.T) {
	const answer = `{"id":1,"connect":{"client":"c","subs":{"x":{"recoverable":true,"epoch":"e","offset":1%s}}}}`
	s := centSession("x", "y")
	open := func(more string) (Received, string) {
		frames, err := s.Open("")
		if err != nil {
			t.Fatal(err)
		}
		s.hears(t, fmt.Sprintf(answer, more))
		return s.hears(t, `{"id":2,"subscribe":{"recoverable":true,"epoch":"e","offset":1`+more+`}}`), string(frames[0].Data)
	}
	open("")
	_, _ = s.Open("") // one that fails
	s.Failed()
	for range 2 {
		if got, sent := open(`,"recovered":true`); !got.Ready || !got.Resumed || !strings.Contains(sent, `"subs":{"x":{"epoch":"e","offset":1,"recover":true}}`) {
			t.Errorf("%s: %+v", sent, got)
		}
	}
}

// A filter that is null is none.
func TestCentrifugeNoFilter(t *testing.T) {
	if l, err := centSubscription(`x {"tf":null}`); err != nil || l.filtered {
		t.Errorf("%+v %v", l, err)
	}
}
