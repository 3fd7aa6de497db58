package dialect

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func bayeuxSession(connect string, lines ...string) *bayeux {
	s, _ := newBayeux(Options{
		Dial:      func() (Dial, error) { return Dial{URL: "ws://h/"}, nil },
		Connect:   func() (string, error) { return connect, nil },
		Subscribe: func() ([]string, error) { return lines, nil },
	}).(*bayeux)
	return s
}

func TestBayeuxCheck(t *testing.T) {
	for connect, want := range map[string]string{
		``: "", `{}`: "", `{"ext":{"token":"hush"}}`: "", `hush`: "is not what it takes", `[]`: "is not what it takes", `null`: "is not what it takes",
		`{"channel":"/x"}`: "holds channel", `{"clientId":"x"}`: "holds clientId",
	} {
		err := checkBayeux(connect, []string{"/a", `/b/** {"ext":{}}`})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hush")) {
			t.Errorf("%s: %v, want %q", connect, err, want)
		}
	}
	err := checkBayeux("", []string{"a", "/meta/connect", `/a {"clientId":"x"}`, "/a x", ""})
	for i, want := range []string{"line 1: has no channel", "line 2: has no channel", "line 3: sets a field", "line 4: has no JSON object", "line 5: has no topic"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%d: %v", i, err)
		}
	}
}

// take gives s what a server says at now.
func (s *bayeux) hears(t *testing.T, now time.Time, text string) Received {
	t.Helper()
	got, err := s.Receive(t.Context(), now, Frame{Data: []byte(text)})
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return got
}

// TestBayeuxReplayExpires: who was away for longer than events are kept is told of a gap, in this process and in the next.
func TestBayeuxReplayExpires(t *testing.T) {
	const hello = `[{"channel":"/meta/handshake","successful":true,"clientId":"c","ext":{"replay":true}}]`
	const ready = `[{"channel":"/meta/subscribe","successful":true,"subscription":"/a"}]`
	for _, c := range []struct {
		away time.Duration
		want bool
	}{{time.Hour, true}, {22 * time.Hour, true}, {24 * time.Hour, false}, {100 * time.Hour, false}} {
		for _, restored := range []bool{false, true} {
			s := bayeuxSession("", "/a")
			_, _ = s.Open("")
			s.hears(t, noon, hello)
			if s.hears(t, noon, ready).Resumed {
				t.Error("resumed at first")
			}
			s.hears(t, noon, `[{"channel":"/a","data":{"event":{"replayId":7}}}]`)
			if restored {
				saved := s.Save()
				s = bayeuxSession("", "/a")
				if err := s.Restore(saved); err != nil {
					t.Fatal(err)
				}
			}
			_ = s.Closed(1000, "")
			_, _ = s.Open("")
			s.hears(t, noon.Add(c.away), hello)
			if got := s.hears(t, noon.Add(c.away), ready); got.Resumed != c.want || !got.Ready {
				t.Errorf("away for %v, restored %v: resumed %v", c.away, restored, got.Resumed)
			}
		}
	}
}

// TestBayeuxPlaceOutlivesARefusal: a handshake that is refused, as while a token is renewed, forgets nothing of where the channels were, nor does the process that goes on meanwhile.
func TestBayeuxPlaceOutlivesARefusal(t *testing.T) {
	const hello = `[{"channel":"/meta/handshake","successful":true,"clientId":"c","ext":{"replay":true}}]`
	const ready = `[{"channel":"/meta/subscribe","successful":true,"subscription":"/a"}]`
	s := bayeuxSession("", "/a")
	_, _ = s.Open("")
	s.hears(t, noon, hello)
	s.hears(t, noon, ready)
	s.hears(t, noon, `[{"channel":"/a","data":{"event":{"replayId":7}}}]`)
	_ = s.Closed(1000, "")
	_, _ = s.Open("")
	if _, err := s.Receive(t.Context(), noon.Add(time.Second), Frame{Data: []byte(`[{"channel":"/meta/handshake","successful":false,"error":"401::Authentication invalid"}]`)}); err == nil {
		t.Fatal("not refused")
	}
	if !s.Failed() || s.positions["/a"] != "7" {
		t.Fatal("what was known is given up")
	}
	_, _ = s.Open("") // what comes before it is ready, and then fails, was given to nobody
	s.hears(t, noon.Add(time.Second), hello)
	s.hears(t, noon.Add(time.Second), `[{"channel":"/a","data":{"event":{"replayId":9}}}]`)
	if !s.Failed() || s.positions["/a"] != "7" {
		t.Fatalf("goes on after what nobody was given: %v", s.positions)
	}
	s.client = ""
	saved := s.Save()
	next := bayeuxSession("", "/a")
	if err := next.Restore(saved); err != nil || !next.Resumable() {
		t.Fatalf("%q: %v", saved, err)
	}
	_, _ = next.Open("")
	next.hears(t, noon.Add(2*time.Second), hello)
	if got := next.hears(t, noon.Add(2*time.Second), ready); !got.Resumed || next.positions["/a"] != "7" {
		t.Errorf("resumed %v, %v", got.Resumed, next.positions)
	}
}

func TestBayeuxSaved(t *testing.T) {
	s := bayeuxSession("", "/a")
	if s.Save() != nil {
		t.Error("something is saved of nothing")
	}
	_, _ = s.Open("")
	s.hears(t, noon, `[{"channel":"/meta/handshake","successful":true,"clientId":"c","ext":{"ack":true}}]`)
	s.hears(t, noon, `[{"channel":"/meta/connect","successful":true,"ext":{"ack":5}}]`)
	saved := s.Save()
	next := bayeuxSession("", "/a")
	if err := next.Restore(saved); err != nil || next.client != "c" || next.ack != "5" || !next.Resumable() {
		t.Errorf("%+v %v", next.bayeuxPlace, err)
	}
	if s.Leave() == nil {
		t.Error("a session that ends does not say goodbye")
	}
	if s.HandOn(); s.Leave() != nil {
		t.Error("a session that is handed on is ended at the server")
	}
	for n := range saved {
		_ = bayeuxSession("").Restore(saved[:n]) // no panic; some are whole
	}
	bad := []byte(strings.ReplaceAll(string(saved), "\x015", "\x01x"))
	if err := bayeuxSession("").Restore(bad); err == nil {
		t.Errorf("%q is restored", bad)
	}
}

// What a server says fills nothing.
func TestBayeuxBounds(t *testing.T) {
	s := bayeuxSession("", "/**")
	_, _ = s.Open("")
	s.hears(t, noon, `[{"channel":"/meta/handshake","successful":true,"clientId":"c","ext":{"replay":true},"advice":{"timeout":1e99,"interval":99999999999}}]`)
	s.hears(t, noon, `[{"channel":"/meta/subscribe","successful":true,"subscription":"/**"}]`)
	for i := range 1000 {
		s.hears(t, noon, fmt.Sprintf(`[{"channel":"/%d","data":{"event":{"replayId":%d}}}]`, i, i))
	}
	if len(s.positions) > maxOverheard || s.Timers().Silence > 2*maxBayeuxHeld+bayeuxMargin {
		t.Errorf("%d positions, %v", len(s.positions), s.Timers().Silence)
	}
	_, err := s.Receive(t.Context(), noon, Frame{Data: []byte(`[{"channel":"/meta/handshake","successful":true,"clientId":"` + strings.Repeat("x", 2000) + `"}]`)})
	if err == nil {
		t.Error("an id of 2,000 characters is taken")
	}
}

func FuzzBayeux(f *testing.F) {
	f.Add(pieces("\x00[{\"channel\":\"/meta/handshake\",\"successful\":true,\"clientId\":\"c\",\"ext\":{\"ack\":true,\"replay\":true}}]", "\x00[{\"channel\":\"/meta/subscribe\",\"successful\":true,\"subscription\":\"/a\"}]",
		"\x00[{\"channel\":\"/a\",\"data\":{\"event\":{\"replayId\":1}}},{\"channel\":\"/meta/connect\",\"successful\":true,\"ext\":{\"ack\":1}}]", "\x04/a 1", "\x02[]", "\x06"))
	f.Add(pieces("\x00[{\"channel\":\"/meta/handshake\",\"successful\":false,\"error\":\"403:hush:no\"}]", "\x00[{\"channel\":\"/meta/connect\",\"successful\":false,\"error\":\"402::x\",\"advice\":{\"interval\":1}}]"))
	f.Fuzz(func(t *testing.T, script []byte) {
		s := bayeuxSession(`{"ext":{"token":"hush"}}`, "/a", `/b {"ext":{"x":1}}`)
		drive(t, s, script, func() {
			if len(s.asked) > 2 || len(s.positions) > maxOverheard || len(s.client) > maxBayeuxID || len(s.ack) > 32 {
				t.Fatal("it grows")
			}
		})
	})
}

// TestBayeuxAnswersOnce: each connect and each handshake is answered once, whatever a server says.
func TestBayeuxAnswersOnce(t *testing.T) {
	for _, interval := range []string{"0", "5000"} {
		s := bayeuxSession("", "/a")
		_, _ = s.Open("")
		hello := `{"channel":"/meta/handshake","successful":true,"clientId":"c","advice":{"interval":` + interval + `}}`
		if got := s.hears(t, noon, "["+strings.Repeat(hello+",", 99)+hello+"]"); len(got.Replies) != 2 {
			t.Errorf("%d frames after the handshakes", len(got.Replies))
		}
		s.hears(t, noon, `[{"channel":"/meta/subscribe","successful":true,"subscription":"/a"}]`)
		for _, id := range []string{"", `"id":"3",`} {
			held := `{"channel":"/meta/connect",` + id + `"successful":true}`
			got := s.hears(t, noon, "["+strings.Repeat(held+",", 99)+held+"]")
			sent := len(got.Replies)
			if s.waiting {
				frames, _ := s.Ping()
				sent += len(frames)
			}
			if id == "" && sent != 1 || id != "" && sent > 1 {
				t.Errorf("interval %s, id %s: %d frames", interval, id, sent)
			}
		}
	}
}

// TestBayeuxSkipped: a batch that is too large is not asked for again and again, and over HTTP no connect is waited for that was answered.
func TestBayeuxSkipped(t *testing.T) {
	for _, c := range []struct{ posts, ack, ends bool }{{false, false, false}, {false, true, true}, {true, false, true}} {
		s, _ := newBayeux(Options{Posts: c.posts, Connect: func() (string, error) { return "", nil }, Subscribe: func() ([]string, error) { return []string{"/a"}, nil }}).(*bayeux)
		_, _ = s.Open("")
		s.hears(t, noon, fmt.Sprintf(`[{"channel":"/meta/handshake","successful":true,"clientId":"c","ext":{"ack":%v}}]`, c.ack))
		s.hears(t, noon, `[{"channel":"/meta/subscribe","successful":true,"subscription":"/a"}]`)
		if err := s.Skipped(); (err != nil) != c.ends {
			t.Errorf("%+v: %v", c, err)
		}
		frames, _ := s.Open("")
		if anew := strings.Contains(string(frames[0].Data), "handshake"); anew != c.ends {
			t.Errorf("%+v: then %s", c, frames[0].Data)
		}
	}
}

// TestBayeuxAcknowledgesWhatIsKept: a connect that waits for its interval acknowledges a batch no sooner than others do.
func TestBayeuxAcknowledgesWhatIsKept(t *testing.T) {
	for _, ack := range []bool{false, true} {
		s := bayeuxSession("", "/a")
		_, _ = s.Open("")
		s.hears(t, noon, fmt.Sprintf(`[{"channel":"/meta/handshake","successful":true,"clientId":"c","ext":{"ack":%v},"advice":{"interval":5000}}]`, ack))
		s.hears(t, noon, `[{"channel":"/meta/subscribe","successful":true,"subscription":"/a"}]`)
		got := s.hears(t, noon, `[{"channel":"/meta/connect","successful":true,"ext":{"ack":5}},{"channel":"/a","data":1}]`)
		if len(got.Replies)+len(got.Acks) > 0 || len(got.Messages) != 1 {
			t.Errorf("at once: %+v", got)
		}
		pings, _ := s.Ping()
		acks := s.Acks()
		if len(pings) == len(acks) || len(acks) > 0 != ack {
			t.Errorf("ack %v: %+v and %+v", ack, pings, acks)
		}
		if again, _ := s.Ping(); len(again)+len(s.Acks()) > 0 {
			t.Error("a second one")
		}
	}
}

// TestBayeuxBrokenBatch: what comes with something that is no message, after the answer that numbers a batch, is not said to be there.
func TestBayeuxBrokenBatch(t *testing.T) {
	s := bayeuxSession("", "/a")
	_, _ = s.Open("")
	s.hears(t, noon, `[{"channel":"/meta/handshake","successful":true,"clientId":"c","ext":{"ack":true}}]`)
	s.hears(t, noon, `[{"channel":"/meta/subscribe","successful":true,"subscription":"/a"}]`)
	if _, err := s.Receive(t.Context(), noon, Frame{Data: []byte(`[{"channel":"/meta/connect","successful":true,"ext":{"ack":5}},7,{"channel":"/a","data":1}]`)}); err == nil {
		t.Error("no error")
	}
	if s.Save() != nil {
		t.Error("the next session goes on after the batch")
	}
	frames, _ := s.Open("")
	if len(frames) != 1 || !strings.Contains(string(frames[0].Data), "handshake") {
		t.Errorf("%+v", frames)
	}
}

// TestBayeuxSpins: a server that holds no connect is not asked without a pause, unless it has something to say.
func TestBayeuxSpins(t *testing.T) {
	for _, event := range []string{"", `{"channel":"/a","data":1},`} {
		s := bayeuxSession("", "/a")
		_, _ = s.Open("")
		s.hears(t, noon, `[{"channel":"/meta/handshake","successful":true,"clientId":"c","advice":{"interval":0}}]`)
		s.hears(t, noon, `[{"channel":"/meta/subscribe","successful":true,"subscription":"/a"}]`)
		sent, now := 0, noon
		for end := noon.Add(10 * time.Second); now.Before(end); {
			s.hears(t, now, "["+event+`{"channel":"/meta/connect","successful":true}]`)
			sent++
			if now = now.Add(time.Millisecond); s.waiting {
				now = now.Add(s.Timers().Every)
				_, _ = s.Ping()
			}
		}
		if event == "" && sent > 60 || event != "" && sent < 9000 {
			t.Errorf("%q: %d connects in ten seconds", event, sent)
		}
		if s.hears(t, now.Add(9*time.Second), `[{"channel":"/meta/connect","successful":true}]`); s.waiting {
			t.Error("a server that holds a connect is made to wait")
		}
	}
}
