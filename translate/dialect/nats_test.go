package dialect

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"sidestream/translate"
)

func natsSession(lines ...string) *nats {
	s, _ := newNATS(Options{Dial: func() (Dial, error) { return Dial{URL: "ws://h"}, nil }, Connect: fixed(""), Subscribe: fixedLines(lines...), MaxMessage: 1 << 10}).(*nats)
	s.inbox = "i"
	return s
}

func (s *nats) hears(t *testing.T, text string) Received {
	t.Helper()
	got, err := s.Receive(t.Context(), noon, Frame{Binary: true, Data: []byte(text)})
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return got
}

// answers has the server answer request n.
func (s *nats) answersJS(t *testing.T, n int, body string) Received {
	t.Helper()
	return s.hears(t, fmt.Sprintf("MSG _INBOX.i.r.%d 1 %d\r\n%s\r\n", n, len(body), body))
}

// consuming opens a session with one line of JetStream's, whose stream is as said, and returns what was said when it was ready.
func (s *nats) consuming(t *testing.T, stream string) Received {
	t.Helper()
	if _, err := s.Open(""); err != nil {
		t.Fatal(err)
	}
	s.hears(t, "INFO {}\r\nPONG\r\n")
	s.answersJS(t, 1, stream)
	return s.answersJS(t, 2, `{"name":"x"}`)
}

// delivers has the present consumer deliver message number own of its own, which is number seq of the stream.
func (s *nats) deliversJS(t *testing.T, own, seq int) Received {
	t.Helper()
	return s.hears(t, fmt.Sprintf("MSG a.b %s $JS.ACK.A.x.1.%d.%d.1.0 1\r\n1\r\n", s.consumers[0].sid, seq, own))
}

func streamOf(created string, first, last int, config string) string {
	return fmt.Sprintf(`{"created":%q,"config":{%s},"state":{"first_seq":%d,"last_seq":%d}}`, created, config, first, last)
}

func TestNATSCheck(t *testing.T) {
	const seed = "SUAMK2FG4MI6UE3ACF3FK3OIQBCEIEZV7NSWFFEW63UXMRLFM2XLAXK4GY"
	for connect, want := range map[string]string{
		"": "", `{"user":"joe","pass":"x","name":"n","inbox":"_INBOX_joe"}`: "", `{"auth_token":"t"}`: "", `{"jwt":"j","seed":"` + seed + `"}`: "", `{"seed":"` + seed + `"}`: "", "token": "not a JSON object", `{"token":"t"}`: "not a JSON object",
		`{"seed":"SU"}`: "none of an nkey", `{"seed":"` + seed[:57] + `A"}`: "none of an nkey", `{"inbox":"a.>"}`: "inbox",
	} {
		if err := checkNATS(connect, nil); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "CONNECT")) {
			t.Errorf("%s: %v, want %q", connect, err, want)
		}
	}
	for line, want := range map[string]string{
		"a": "", "a.*.b.>": "", ">": "", `a.> {"stream":"A"}`: "", `> {"stream":"A","domain":"hub","deliver":"all"}`: "",
		"a..b": "no subject", "a.>.b": "no subject", "a b": "no JSON object", "a {}": "", `a {"queue":"q"}`: "something else", `a {"deliver":"all"}`: "names no stream", `a {"stream":"a.b"}`: "that can be", `a {"stream":"A","deliver":"last"}`: "neither new nor all", "{}": "no topic",
	} {
		err := checkNATS("", []string{"fine", line})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "line 2")) {
			t.Errorf("%s: %v, want %q", line, err, want)
		}
	}
	if checkNATS("", make([]string, maxNATSLines+1)) == nil {
		t.Error("any number of lines is taken")
	}
}

// The key and the signature are those that github.com/nats-io/nkeys 0.4.16 makes of the seed.
func TestNATSKey(t *testing.T) {
	c, err := readNATS(`{"seed":"SUAMK2FG4MI6UE3ACF3FK3OIQBCEIEZV7NSWFFEW63UXMRLFM2XLAXK4GY"}`)
	if err != nil {
		t.Fatal(err)
	}
	login, err := c.login("nonce")
	if err != nil || !strings.Contains(string(login), `"nkey":"UAT6BWCSCWLUKJT6K6MBJJOEOTXZ5AJDOYKNEVRFC7VNO6OA43N4TRNO"`) || !strings.Contains(string(login), `"sig":"m50It12aTgfbJwsQhucujqhXbsq7tLM-Mf_hSjBQsG_4onm8y2Vkw6JG1bbcDkdxXe-Ng0K-7X9ov4rZ4wFcDg"`) || strings.Contains(string(login), "SUAM") {
		t.Errorf("%s %v", login, err)
	}
	if c.JWT = "j"; true {
		if login, _ = c.login("nonce"); strings.Contains(string(login), "nkey") || !strings.Contains(string(login), `"jwt":"j"`) {
			t.Errorf("%s", login)
		}
	}
}

func TestNATSJetStreamResumes(t *testing.T) {
	for name, c := range map[string]struct {
		stream  string // found by the second connection, after number 5
		resumed bool
		from    string
	}{
		"nothing new":       {streamOf("t", 1, 5, ""), true, `"opt_start_seq":6`},
		"something":         {streamOf("t", 1, 9, ""), true, `"opt_start_seq":6`},
		"just not trimmed":  {streamOf("t", 6, 9, ""), true, `"opt_start_seq":6`},
		"trimmed":           {streamOf("t", 7, 9, ""), false, `"opt_start_seq":7`},
		"empty":             {streamOf("t", 6, 5, ""), true, `"opt_start_seq":6`},
		"cut short on disk": {streamOf("t", 1, 4, `"storage":"file"`), false, `"opt_start_seq":5`},
		"purged":            {streamOf("t", 10, 9, ""), false, `"opt_start_seq":10`},
		"another":           {streamOf("u", 1, 9, ""), false, `"opt_start_seq":1`},
		"shorter":           {streamOf("t", 1, 4, ""), false, `"opt_start_seq":1`},
		"the last of each":  {streamOf("t", 1, 9, `"max_msgs_per_subject":1`), false, `"opt_start_seq":6`},
		"none of the last":  {streamOf("t", 1, 5, `"max_msgs_per_subject":1`), true, `"opt_start_seq":6`},
		"for a time each":   {streamOf("t", 1, 9, `"allow_msg_ttl":true`), false, `"opt_start_seq":6`},
		"rolled up":         {streamOf("t", 1, 9, `"allow_rollup_hdrs":true`), false, `"opt_start_seq":6`},
		"only with readers": {streamOf("t", 6, 9, `"retention":"interest"`), false, `"opt_start_seq":6`},
	} {
		t.Run(name, func(t *testing.T) {
			s := natsSession(`a.> {"stream":"A"}`)
			if got := s.consuming(t, streamOf("t", 1, 3, `"retention":"limits"`)); !got.Ready || got.Resumed || len(got.Messages) > 0 {
				t.Fatalf("%+v", got)
			}
			for i := range 2 {
				if got := s.deliversJS(t, i+1, i+4); len(got.Messages) != 1 {
					t.Fatalf("%+v", got)
				}
			}
			saved := s.Save()
			if !s.Resumable() {
				t.Fatal("not resumable")
			}
			other := natsSession(`a.> {"stream":"A"}`)
			if err := other.Restore(saved); err != nil {
				t.Fatal(err)
			}
			for _, s := range []*nats{s, other} {
				_, _ = s.Open("")
				s.hears(t, "INFO {}\r\nPONG\r\n")
				asked := s.answersJS(t, 1, c.stream)
				if len(asked.Replies) != 1 || !strings.Contains(string(asked.Replies[0].Data), c.from+"}") && !strings.Contains(string(asked.Replies[0].Data), c.from+",") || len(asked.Messages) > 0 {
					t.Errorf("%+v", asked)
				}
				if got := s.answersJS(t, 2, `{"name":"x"}`); !got.Ready || got.Resumed != c.resumed {
					t.Errorf("%+v", got)
				}
			}
		})
	}
}

// A consumer that has lost something, is stalled, has ended or says nothing is dealt with, and no message is emitted twice.
func TestNATSJetStreamConsumers(t *testing.T) {
	s := natsSession(`a.> {"stream":"A"}`)
	s.consuming(t, streamOf("t", 1, 3, ""))
	s.deliversJS(t, 1, 4)
	status := func(text, reply string, headers ...string) Received {
		t.Helper()
		head := "NATS/1.0 " + text + "\r\n" + strings.Join(append(headers, ""), "\r\n") + "\r\n"
		return s.hears(t, fmt.Sprintf("HMSG _INBOX.i.d.1 %s %s%d %d\r\n%s\r\n", s.consumers[0].sid, reply, len(head), len(head), head))
	}
	if got := status("100 FlowControl Request", "$JS.FC.A.x.1 "); len(got.Acks) != 1 || string(got.Acks[0].Data) != "PUB $JS.FC.A.x.1 0\r\n\r\n" || len(got.Replies) > 0 {
		t.Errorf("%+v", got)
	}
	if got := status("100 Idle Heartbeat", "", "Nats-Last-Consumer: 1", "Nats-Consumer-Stalled: $JS.FC.A.x.2"); len(got.Acks) != 1 || string(got.Acks[0].Data) != "PUB $JS.FC.A.x.2 0\r\n\r\n" || len(got.Replies) > 0 {
		t.Errorf("%+v", got)
	}
	requests := 2
	again := func(got Received, stream string, gap bool) {
		t.Helper()
		if len(got.Messages) > 0 || len(got.Replies) != 2 || !strings.HasPrefix(string(got.Replies[0].Data), "UNSUB ") {
			t.Fatalf("%+v", got)
		}
		old := s.sid
		if late := s.hears(t, fmt.Sprintf("MSG a.b %d $JS.ACK.A.x.1.99.99.1.0 1\r\n1\r\n", old)); len(late.Messages)+len(late.Replies) > 0 {
			t.Errorf("what a consumer of before says is taken: %+v", late)
		}
		got = s.answersJS(t, requests+1, stream)
		if len(got.Messages) > 0 != gap || gap && got.Messages[0].Gap != translate.GapUpstream {
			t.Errorf("%+v", got.Messages)
		}
		if got = s.answersJS(t, requests+2, `{"name":"x"}`); len(got.Replies) != 1 || !strings.HasPrefix(string(got.Replies[0].Data), "SUB ") || got.Ready {
			t.Errorf("%+v", got)
		}
		requests += 2
	}
	again(status("100 Idle Heartbeat", "", "Nats-Last-Consumer: 2"), streamOf("t", 1, 5, ""), false)
	if got := s.deliversJS(t, 1, 5); len(got.Messages) != 1 {
		t.Errorf("%+v", got)
	}
	again(s.deliversJS(t, 3, 7), streamOf("t", 7, 7, ""), true)
	again(status("409 Consumer Deleted", ""), streamOf("t", 7, 7, ""), false)
	again(s.deliversJS(t, 1, 6), streamOf("t", 7, 7, ""), false) // which is said to be gone
	if got := s.deliversJS(t, 1, 7); len(got.Messages) != 1 {
		t.Errorf("%+v", got)
	}
	again(s.hears(t, fmt.Sprintf("MSG a.b %s no.number 1\r\n1\r\n", s.consumers[0].sid)), streamOf("u", 1, 1, ""), true)
	var quiet []Frame
	for i := range maxNATSQuiet {
		frames, err := s.Ping()
		if err != nil || i < maxNATSQuiet-1 && len(frames) != 1 {
			t.Fatalf("%d frames, %v", len(frames), err)
		}
		quiet = frames[:len(frames)-1]
		s.hears(t, "PONG\r\n")
	}
	again(Received{Replies: quiet}, streamOf("u", 1, 1, ""), false)
	for i := 0; ; i++ {
		got, err := s.Receive(t.Context(), noon, Frame{Data: fmt.Appendf(nil, "HMSG _INBOX.i.d.1 %s 21 21\r\nNATS/1.0 409 Gone\r\n\r\n\r\n", s.consumers[0].sid)})
		if err != nil && i > 10 {
			break
		}
		if err != nil || i > maxNATSRenews {
			t.Fatal(i, err)
		}
		again(got, streamOf("u", 1, 1, ""), false)
	}
	s.hears(t, "INFO {}\r\n")
	_, _ = s.Open("")
	if s.hears(t, "INFO {}\r\n"); s.step != natsAdmitted || s.Timers().Opening != 10*time.Second {
		t.Error("the next connection does not begin anew")
	}
}

// A connection that fails before all is there has changed nothing, and a message over MAX_MESSAGE is a gap.
func TestNATSFails(t *testing.T) {
	s := natsSession(`a.> {"stream":"A"}`, "b")
	_, _ = s.Open("")
	s.hears(t, "INFO {}\r\nPONG\r\n")
	s.answersJS(t, 1, streamOf("t", 1, 3, ""))
	if !s.Failed() || len(s.places) != 0 {
		t.Errorf("%v", s.places)
	}
	big := strings.Repeat("x", 1<<10+1)
	_, _ = s.Open("")
	s.hears(t, "INFO {}\r\nPONG\r\n")
	s.answersJS(t, 1, streamOf("t", 1, 3, ""))
	s.answersJS(t, 2, "{}")
	if s.Resumable() {
		t.Error("a line without a stream is resumable")
	}
	for _, frame := range []string{"MSG b 1 1025\r\n" + big[:100], big[100:], "\r\nMSG b 1 1\r\n1\r\n"} {
		if got := s.hears(t, frame); strings.HasPrefix(frame, "\r\n") != (len(got.Messages) == 2 && got.Messages[0].Gap != "" && string(got.Messages[1].Data) == "1") {
			t.Errorf("%+v", got)
		}
	}
	if _, err := s.Receive(t.Context(), noon, Frame{Data: []byte(strings.Repeat("x", maxNATSInfo+1))}); err == nil {
		t.Error("a line has any length")
	}
	if s.Restore([]byte{0}) != nil || s.Restore([]byte{1}) == nil || s.Restore(fieldsOf("a", "b")) == nil || s.Restore(fieldsOf("a", "b", "c")) == nil || s.Restore(fieldsOf("", "b", "1")) == nil {
		t.Error("what is restored")
	}
}

func FuzzNATS(f *testing.F) {
	f.Add(pieces("\x01INFO {\"nonce\":\"x\"} \r\n", "\x01PONG\r\n", "\x01MSG _INBOX.i.r.1 2 51\r\n{\"created\":\"t\",\"state\":{\"first_seq\":1,\"last_seq\":3}}\r\n", "\x01MSG _INBOX.i.r.2 2 2\r\n{}\r\n", "\x01MSG a.b 3 $JS.ACK.A.x.1.4.1.1.0 1\r\n1\r\n",
		"\x01HMSG d 3 reply 28 28\r\nNATS/1.0 100 Idle Heartbeat\r\n\r\n\r\n", "\x02x", "\x04{\"subject\":\"a\",\"payload\":1}", "\x01PING\r\n-ERR 'no'\r\n"))
	f.Add(pieces("\x01INFO {}\r\n", "\x01PONG\r\nMSG b 1 3\r\nx", "\x01yz\r\n", "\x06", "\x03"))
	f.Fuzz(func(t *testing.T, script []byte) {
		s := natsSession("b", `a.> {"stream":"A"}`)
		drive(t, s, script, func() {
			if len(s.answers) > 64 || len(s.delivers) > 1 || len(s.core) > 1 || len(s.places) > 1 || cap(s.parser.buf) > 2*maxNATSInfo+len(script) || len(s.Save()) > translate.MaxSaved {
				t.Fatal("it grows")
			}
		})
	})
}

// Words are between ASCII blanks alone: a publisher's subject may hold other spaces, and must not end the streams of all others.
func TestNATSSubjectsOfPublishers(t *testing.T) {
	for _, subject := range []string{"a.\u3000b", "a.\u00a0x", "x\u0085.a", "a\u2028b.c"} {
		s := natsSession(">")
		_, _ = s.Open("")
		s.hears(t, "INFO {}\r\nPONG\r\n")
		got, err := s.Receive(t.Context(), noon, Frame{Binary: true, Data: []byte("MSG " + subject + " 1 reply 1\r\n1\r\nMSG " + subject + "\t1  1\r\n2\r\n")})
		if err != nil || len(got.Messages) != 2 || got.Messages[0].Topic != subject || got.Messages[1].Topic != subject {
			t.Errorf("%q: %+v %v", subject, got, err)
		}
		o := newNATSOverhearing(t, subject)
		o.Client(Frame{Data: []byte("SUB " + subject + " 7\r\n")})
		o.Server(Frame{Data: []byte("INFO {}\r\n")})
		if frames := o.Server(Frame{Data: []byte("MSG " + subject + " 7 1\r\n1\r\n")}); len(frames) != 1 || string(frames[0].Data) != "MSG "+subject+" 1 1\r\n1\r\n" {
			t.Errorf("%q is not overheard: %v", subject, frames)
		}
	}
}

func newNATSOverhearing(t *testing.T, lines ...string) Overhearing {
	t.Helper()
	return newNATSOverheard(Options{}, lines)
}

// Two lines alike would share a place.
func TestNATSLinesAlike(t *testing.T) {
	for _, lines := range [][]string{{"a", "a"}, {`a {"stream":"A"}`, `a {"stream":"A","deliver":"all"}`}} {
		if _, err := natsSession(lines...).Open(""); err == nil || !strings.Contains(err.Error(), "line 2") {
			t.Errorf("%q: %v", lines, err)
		}
	}
	if _, err := natsSession("a", `a {"stream":"A"}`, `a {"stream":"A","domain":"d"}`).Open(""); err != nil {
		t.Error(err)
	}
}

// A PONG may stand behind much that was sent before it: whatever arrives is life.
func TestNATSAlive(t *testing.T) {
	s := natsSession("a")
	_, _ = s.Open("")
	s.hears(t, "INFO {}\r\nPONG\r\n")
	for _, piece := range []string{"MSG a 1 1\r\n1\r\n", "MSG a 1 9\r\n1234", "5678", "9\r\n"} {
		if _, err := s.Ping(); err != nil {
			t.Fatal(err)
		}
		s.hears(t, piece)
	}
	if _, err := s.Ping(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Ping(); err == nil {
		t.Error("a dead connection is not given up")
	}
}

// A bearer's JWT needs no signature.
func TestNATSBearer(t *testing.T) {
	c, err := readNATS(`{"jwt":"j.w.t"}`)
	if err != nil {
		t.Fatal(err)
	}
	if login, err := c.login("nonce"); err != nil || !strings.Contains(string(login), `"jwt":"j.w.t"`) || strings.Contains(string(login), "sig") {
		t.Errorf("%s %v", login, err)
	}
}

// Headers are a publisher's: what they say is neither the server's word, nor the end of the connection.
func TestNATSHeadersOfPublishers(t *testing.T) {
	for _, head := range []string{"HTTP", "", "NATS/1.0 100 Idle Heartbeat\r\n\r\n", "NATS/1.0 409 Consumer Deleted\r\n\r\n", "NATS/1.0 503\r\n\r\n", "NATS/1.0\r\n: x\r\n\x00:\r\n\r\n", "NATS/1.0\r\nName: cut"} {
		s := natsSession(`a.> {"stream":"A"}`)
		s.consuming(t, streamOf("t", 1, 3, ""))
		for i := range 2 {
			got, err := s.Receive(t.Context(), noon, Frame{Binary: true, Data: fmt.Appendf(nil, "HMSG a.b %s $JS.ACK.A.x.1.%d.%d.1.0 %d %d\r\n%s7\r\n", s.consumers[0].sid, i+4, i+1, len(head), len(head)+1, head)})
			if err != nil || len(got.Messages) != 1 || string(got.Messages[0].Data) != "7" || len(got.Replies)+len(got.Acks) > 0 {
				t.Errorf("%q: %+v %v", head, got, err)
			}
		}
	}
}
