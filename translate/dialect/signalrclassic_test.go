package dialect

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"sidestream/translate"
)

const classicAgreed = `{"ConnectionToken":"t","KeepAliveTimeout":20,"DisconnectTimeout":30,"ProtocolVersion":"2.0"}`

func classicSession(lines ...string) *signalRClassic {
	return newSignalRClassic(Options{
		Dial:      func() (Dial, error) { return Dial{URL: "wss://legacy.example/signalr"}, nil },
		Subscribe: func() ([]string, error) { return lines, nil },
	}).(*signalRClassic)
}

// connects begins a connection, and returns the address of its WebSocket.
func (s *signalRClassic) connects(t *testing.T) string {
	t.Helper()
	d, err := s.Dial(nil)
	if d.Request != nil && err == nil {
		d, err = s.Dial(&HTTPResponse{Status: 200, Body: []byte(classicAgreed)})
	}
	if err != nil || d.Request != nil {
		t.Fatalf("%+v, %v", d, err)
	}
	if frames, err := s.Open(""); len(frames) > 0 || err != nil {
		t.Fatalf("%v, %v", frames, err)
	}
	return d.URL
}

func (s *signalRClassic) hears(t *testing.T, at time.Time, text string) Received {
	t.Helper()
	got, err := s.Receive(t.Context(), at, Frame{Data: []byte(text)})
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return got
}

func TestSignalRClassicCheck(t *testing.T) {
	for line, want := range map[string]string{
		`Chat`: "", `Chat.Join`: "", `Chat.Join ["a", {"b":1}]`: "", `chat.join []`: "",
		`Chat.Join a`: "no JSON array", `Chat.Join {"a":1}`: "no JSON array", `Chat.Join ["a"`: "no JSON array", `["a"]`: "no hub", `.Join`: "no hub", `{"H":1}`: "no hub",
		`Chat.`: "no method", `Chat.a.b`: "more than one dot", `Chat ["a"]`: "no method",
	} {
		err := checkSignalRClassic("", []string{"Fine", line})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "line 2")) {
			t.Errorf("%s: %v, want %q", line, err, want)
		}
	}
	s := classicSession("Chat", "CHAT.Join", "Stocks")
	if err := s.read(); err != nil || s.data != `[{"name":"Chat"},{"name":"Stocks"}]` {
		t.Errorf("a server takes no hub twice: %s, %v", s.data, err)
	}
	var refused *translate.Refused
	if _, err := classicSession("Chat.Join {").Dial(nil); !errors.As(err, &refused) || refused.Status != 400 {
		t.Errorf("%v", err)
	}
	if _, err := classicSession().Dial(&HTTPResponse{Status: 200, Body: []byte(classicAgreed)}); err == nil {
		t.Error("an answer without a question was taken")
	}
}

func TestSignalRClassicCursor(t *testing.T) {
	for text, want := range map[string]string{
		"d-1F-A,0": "map[A:0]", "d-1F-A,FFFFFFFFFFFFFFFF|:_,a": "map[:_:10 A:18446744073709551615]",
		"": "", "d-": "", "d-1F": "", "d-1F-": "", "d--A,1": "", "s-0,1": "", "d-1F-A": "", "d-1F-A,": "", "d-1F-A,G": "", "d-1F-A,10000000000000000": "", "d-1F-A,1|A,2": "", "d-1F-A,-1": "",
		"d-1F-" + strings.Repeat("x", maxClassicCursor) + ",1": "",
	} {
		c, ok := readClassicCursor(text)
		if ok != (want != "") || ok && fmt.Sprint(c.topics) != want {
			t.Errorf("%.40s: %v %v", text, c, ok)
		}
	}
	many := "d-1F-"
	for i := range maxClassicTopics + 1 {
		many += fmt.Sprintf("|%x,0", i)
	}
	if _, ok := readClassicCursor(strings.Replace(many, "-|", "-", 1)); ok {
		t.Error("too many topics")
	}
}

// What a cursor says of what is missing: on a connection that goes on, and while it stands.
func TestSignalRClassicMissing(t *testing.T) {
	list := func(n int) string { return "[" + strings.TrimSuffix(strings.Repeat("1,", n), ",") + "]" }
	for name, c := range map[string]struct {
		next          string // cursor, after A at 16 and B at 1
		more          string
		came          int
		resumed, live string // "", "gap" or "over"
	}{
		"nothing":                    {next: "d-1-A,10|B,1"},
		"all came":                   {next: "d-1-A,1A|B,2", came: 11},
		"and a command":              {next: "d-1-A,1A|B,2", more: `,"S":1`, came: 10},
		"one is for others":          {next: "d-1-A,12|B,1", came: 1, resumed: "gap"},
		"more than come at once":     {next: "d-1-A,1B|B,1", came: 10, resumed: "gap", live: "gap"},
		"of fragments of eight":      {next: "d-1-A,19|B,1", came: 8, resumed: "gap", live: "gap"},
		"nine of fragments of nine":  {next: "d-1-A,19|B,1", came: 9},
		"eight, of which one is not": {next: "d-1-A,18|B,1", came: 7, resumed: "gap"},
		"far away":                   {next: "d-1-A,FFFFFFFFFFFFFFFF|B,FFFFFFFFFFFFFFFF", resumed: "gap", live: "gap"},
		"another process":            {next: "d-2-A,10|B,1", resumed: "over", live: "gap"},
		"another kind":               {next: "s-0,1", resumed: "over", live: "gap"},
		"a topic less":               {next: "d-1-A,10", resumed: "over"},
		"a topic more":               {next: "d-1-A,10|B,1|C,7", resumed: "gap"},
		"it counts anew":             {next: "d-1-A,0|B,1", resumed: "over", live: "over"},
	} {
		for _, goes := range []bool{true, false} {
			s := classicSession()
			s.connects(t)
			s.hears(t, noon, `{"C":"d-1-A,10|B,1","S":1,"M":[]}`)
			want := c.live
			if goes {
				s.connects(t)
				want = c.resumed
			}
			got, err := s.Receive(t.Context(), noon, Frame{Data: fmt.Appendf(nil, `{"C":%q%s,"M":%s}`, c.next, c.more, list(c.came))})
			is := ""
			switch {
			case err != nil:
				is = "over"
			case goes && !got.Resumed, !goes && len(got.Messages) > 0 && got.Messages[0].Gap != "":
				is = "gap"
			}
			if is != want || err == nil && got.Ready != goes || err == nil && goes && !got.Continued || err != nil && s.Resumable() {
				t.Errorf("%s, going on %v: %q, want %q (%+v, %v)", name, goes, is, want, got, err)
			}
		}
	}
}

// A group that is joined while nobody was there is a gap, until the server has said all that it had to say meanwhile.
func TestSignalRClassicJoins(t *testing.T) {
	s := classicSession()
	s.connects(t)
	s.hears(t, noon, `{"C":"d-1-A,0","S":1,"M":[]}`)
	s.connects(t)
	if got := s.hears(t, noon, `{"C":"d-1-A,A","M":[1,1,1,1,1,1,1,1,1,1]}`); !got.Resumed {
		t.Errorf("%+v", got)
	}
	if got := s.hears(t, noon, `{"C":"d-1-A,C|G,7","G":"g","S":1,"M":[1]}`); len(got.Messages) != 2 || got.Messages[0].Gap != translate.GapUpstream {
		t.Errorf("%+v", got)
	}
	if got := s.hears(t, noon, `{"C":"d-1-A,C|G,7|H,1","G":"h","M":[]}`); len(got.Messages) != 0 {
		t.Errorf("%+v", got)
	}
	if to := s.connects(t); !strings.Contains(to, "&messageId=d-1-A%2CC%7CG%2C7%7CH%2C1&groupsToken=h") {
		t.Error(to)
	}
}

// A connection that was away for longer than the server keeps it is another one, whatever the cursor says, also after a keep-alive.
func TestSignalRClassicAway(t *testing.T) {
	for away, want := range map[time.Duration]bool{0: true, 30 * time.Second: true, 30*time.Second + 1: false, time.Hour: false} {
		s := classicSession()
		s.connects(t)
		s.hears(t, noon, `{"C":"d-1-A,0","S":1,"M":[]}`)
		s.hears(t, noon.Add(time.Hour), `{}`)
		s.connects(t)
		then := noon.Add(time.Hour + away)
		s.hears(t, then, `{}`)
		got, err := s.Receive(t.Context(), then, Frame{Data: []byte(`{"C":"d-1-A,1","S":1,"M":[]}`)})
		if (err == nil) != want || got.Resumed != want || s.Resumable() != want {
			t.Errorf("%v: %+v, %v", away, got, err)
		}
	}
}

// What was left out as too large is no second gap; where it comes again and again, the connection is given up.
func TestSignalRClassicSkipped(t *testing.T) {
	s := classicSession()
	s.connects(t)
	s.hears(t, noon, `{"C":"d-1-A,0","S":1,"M":[]}`)
	if err := s.Skipped(); err != nil {
		t.Fatal(err)
	}
	if got := s.hears(t, noon, `{"C":"d-1-A,14","M":[1]}`); len(got.Messages) != 1 {
		t.Errorf("%+v", got)
	}
	if got := s.hears(t, noon, `{"C":"d-1-A,28","M":[1]}`); len(got.Messages) != 2 {
		t.Errorf("%+v", got)
	}
	s.connects(t)
	if err := s.Skipped(); err == nil || s.Resumable() {
		t.Errorf("%v", err)
	}
}

func TestSignalRClassicBounds(t *testing.T) {
	s := classicSession("Chat")
	for range maxHubHops {
		_, _ = s.Dial(nil)
		s.hops = maxHubHops - 1
		if _, err := s.Dial(&HTTPResponse{Status: 200, Body: []byte(`{"RedirectUrl":"https://other.example/"}`)}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Dial(&HTTPResponse{Status: 200, Body: []byte(`{"RedirectUrl":"https://other.example/"}`)}); err == nil || !strings.Contains(err.Error(), "redirected more than") {
		t.Errorf("%v", err)
	}
	for _, answer := range []string{
		fmt.Sprintf(`{"RedirectUrl":"https://other.example/%s"}`, strings.Repeat("x", maxHubAddress)),
		fmt.Sprintf(`{"RedirectUrl":"https://other.example/","AccessToken":"%s"}`, strings.Repeat("x", maxHubToken+1)),
		fmt.Sprintf(`{"ProtocolVersion":"2.0","ConnectionToken":"%s"}`, strings.Repeat("x", maxHubToken+1)),
	} {
		_, _ = s.Dial(nil)
		if _, err := s.Dial(&HTTPResponse{Status: 200, Body: []byte(answer)}); err == nil || len(err.Error()) > 200 {
			t.Errorf("%.60s: %v", answer, err)
		}
	}
	for seconds, want := range map[float64]time.Duration{0: 0, -1: 0, 0.001: time.Second, 2.5: 2500 * time.Millisecond, 1e300: time.Hour} {
		if got := classicSeconds(&seconds, 7, time.Hour); got != want {
			t.Errorf("%v s: %v", seconds, got)
		}
	}
	s.connects(t)
	got := s.hears(t, noon, `{"C":"d-1-A,0","S":1,"M":[`+strings.Repeat("0,", maxRecords)+`0]}`)
	if len(got.Messages) != maxRecords+1 || got.Messages[maxRecords].Gap == "" || !s.Resumable() {
		t.Errorf("%d messages", len(got.Messages))
	}
	// Groups or a cursor that no address can hold end with the WebSocket.
	s.hears(t, noon, `{"C":"d-1-A,0","G":"`+strings.Repeat("x", maxClassicGroups+1)+`","M":[]}`)
	if s.Resumable() || string(s.Save()) != "\x00" {
		t.Error("it is gone on with")
	}
	s.connects(t)
	s.hears(t, noon, `{"C":"d-1-A,0","S":1,"M":[]}`)
	s.hears(t, noon, `{"C":"d-1-`+strings.Repeat("A", maxClassicCursor)+`,0","M":[]}`)
	if s.Resumable() {
		t.Error("it is gone on with")
	}
}

// Attempts that come to nothing end.
func TestSignalRClassicFailed(t *testing.T) {
	s := classicSession()
	s.connects(t)
	s.hears(t, noon, `{"C":"d-1-A,0","S":1,"M":[]}`)
	for range maxHubTries - 1 {
		s.connects(t)
		if !s.Failed() {
			t.Fatal("given up")
		}
	}
	s.connects(t)
	if s.Failed() || s.Resumable() {
		t.Error("it goes on for ever")
	}
	for status, want := range map[int]bool{101: false, 302: true, 400: true, 403: true, 404: true, 408: false, 425: false, 429: false, 500: false, 503: false} {
		s.connects(t)
		if s.Denied(400) {
			t.Error("there was nothing to go on with")
		}
		s.hears(t, noon, `{"C":"d-1-A,0","S":1,"M":[]}`)
		if got := s.Denied(status); got != want || s.Resumable() == want {
			t.Errorf("%d: %v", status, got)
		}
		s.forget()
	}
	// An orderly end means something where there are keep-alives.
	for code, want := range map[int]bool{0: true, 1000: false, 1001: true, 1006: true} {
		s.connects(t)
		s.hears(t, noon, `{"C":"d-1-A,0","S":1,"M":[]}`)
		if err := s.Closed(code, ""); err != nil || s.Resumable() != want {
			t.Errorf("%d: %v", code, err)
		}
		s.forget()
	}
}

func TestSignalRClassicAddress(t *testing.T) {
	for from, want := range map[string]string{
		"wss://h/signalr": "wss://h/signalr", "ws://h/signalr/?a=1&b=%2F": "ws://h/signalr/?a=1&b=%2F", "ws://h/connect": "ws://h/connect",
		"ws://h/signalr/reconnect?transport=webSockets&connectionToken=x&a=1&messageId=d&groupsToken=g&connectionData=%5B%5D": "ws://h/signalr?a=1",
	} {
		if got, err := classicBase(Dial{URL: from}); err != nil || got.URL != want || got.Header == nil {
			t.Errorf("%s: %+v, %v", from, got, err)
		}
	}
	if _, err := classicBase(Dial{URL: "ws://h/%zz"}); err == nil {
		t.Error("no address")
	}
}

// Another process does not go on where a token has led.
func TestSignalRClassicSaved(t *testing.T) {
	s := classicSession("Chat")
	s.connects(t)
	if s.Save() != nil {
		t.Errorf("%q", s.Save())
	}
	s.hears(t, noon, `{"C":"d-1-A,7","S":1,"G":"g","M":[]}`)
	next := classicSession("Chat")
	if err := next.Restore(s.Save()); err != nil || !next.Resumable() || next.silence != 20*time.Second || next.away != 30*time.Second {
		t.Errorf("%+v, %v", next.classicPlace, err)
	}
	if to := next.connects(t); !strings.HasSuffix(to, "&connectionToken=t&messageId=d-1-A%2C7&groupsToken=g&connectionData=%5B%7B%22name%22%3A%22Chat%22%7D%5D") {
		t.Error(to)
	}
	if got := next.hears(t, noon.Add(20*time.Second), `{"C":"d-1-A,8","S":1,"M":[]}`); !got.Resumed || !got.Continued || len(got.Replies) > 0 {
		t.Errorf("%+v", got)
	}
	s.elsewhere = Dial{URL: "https://other.example/?token=hush", Header: http.Header{}}
	saved := s.Save()
	if next = classicSession("Chat"); string(saved) != "\x00" || next.Restore(saved) != nil || next.Resumable() || next.Save() == nil {
		t.Errorf("%q", saved)
	}
	good := []string{"t", "d-1-A,7", "g", "1700000000", "30000", "20000"}
	for at, bad := range map[int][]string{0: {"", strings.Repeat("x", maxHubToken+1)}, 1: {"", "s-0,1"}, 2: {strings.Repeat("x", maxClassicGroups+1)}, 3: {"x"}, 4: {"-1", "x", "86400001"}, 5: {"-1", "x", "3600001"}} {
		for _, value := range bad {
			fields := append([]string(nil), good...)
			fields[at] = value
			if err := classicSession().Restore(fieldsOf(fields...)); !errors.Is(err, translate.ErrSaved) {
				t.Errorf("%d %.20q: %v", at, value, err)
			}
		}
	}
	if err := classicSession().Restore(fieldsOf(good[:5]...)); !errors.Is(err, translate.ErrSaved) {
		t.Error(err)
	}
}

func FuzzSignalRClassic(f *testing.F) {
	first := "\x00{\"C\":\"d-1-A,0|B,1\",\"S\":1,\"M\":[]}"
	f.Add(pieces("\x07"+classicAgreed, first, "\x00{\"I\":\"subscribe-1\",\"R\":1}", "\x00{\"C\":\"d-1-A,2|B,1|C,0\",\"G\":\"g\",\"M\":[{\"H\":\"Chat\",\"M\":\"a\",\"A\":[1]},2]}", "\x04Chat.Say [1]", "\x06", "\x07", "\x00{\"C\":\"d-1-A,9|B,1|C,0\",\"M\":[]}"))
	f.Add(pieces("\x07{\"ProtocolVersion\":\"2.0\",\"RedirectUrl\":\"https://a/b\",\"AccessToken\":\"t\"}", "\x07"+classicAgreed, first, "\x00{\"I\":\"subscribe-1\",\"E\":\"no\",\"H\":true}"))
	f.Add(pieces("\x07"+classicAgreed, first, "\x00{\"I\":\"subscribe-1\"}", "\x00{}", "\x05", "\x00{\"C\":\"s-0,1\",\"T\":1,\"M\":[]}", "\x02\x01", "\x04{\"H\":\"a\",\"M\":\"b\"}", "\x03"))
	f.Fuzz(func(t *testing.T, script []byte) {
		s := classicSession("Chat.Join [1]", "Stocks")
		drive(t, s, script, func() {
			if len(s.waiting) > 1 || s.hops > maxHubHops+1 || len(s.cursor.topics) > maxClassicTopics || len(s.written) > maxClassicCursor || len(s.token) > maxHubToken || len(s.Save()) > translate.MaxSaved {
				t.Fatal("it grows")
			}
			if s.stands && len(s.groups) > maxClassicGroups {
				t.Fatal("it would go on with more than an address can hold")
			}
		})
	})
}
