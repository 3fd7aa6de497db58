package dialect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"sidestream/translate"
)

func stompSession(t testing.TB, max int, lines ...string) *stomp {
	t.Helper()
	s := newStomp(Options{Connect: fixed(""), Subscribe: fixedLines(lines...), MaxMessage: max}).(*stomp)
	if _, err := s.Open("v12.stomp"); err != nil {
		t.Fatal(err)
	}
	return s
}

// give feeds s in pieces of at most n bytes and returns what it made of them.
func give(s Session, data []byte, random *rand.Rand, n int) (got Received, err error) {
	for len(data) > 0 {
		k := min(len(data), 1+random.IntN(n))
		piece := bytes.Clone(data[:k])
		part, err := s.Receive(context.Background(), noon, Frame{Data: piece})
		for _, m := range part.Messages { // it may be written over as soon as the next call
			m.Data = bytes.Clone(m.Data)
			got.Messages = append(got.Messages, m)
		}
		clear(piece)
		got.Replies = append(append(got.Replies, part.Replies...), part.Acks...)
		got.Ready = got.Ready || part.Ready
		if err != nil {
			return got, err
		}
		data = data[k:]
	}
	return got, nil
}

func TestStompFramesInPieces(t *testing.T) {
	var all bytes.Buffer
	all.WriteString("CONNECTED\nversion:1.2\n\n\x00")
	var want []string
	for i := range 50 {
		body := strings.Repeat("b", i*7) + "\x00"
		fmt.Fprintf(&all, "MESSAGE\nsubscription:sub-0\nmessage-id:%d\ncontent-length:%d\n\n%s\x00\n\r\n", i, len(body), body)
		fmt.Fprintf(&all, "MESSAGE\r\nsubscription:sub-0\r\ndestination:a\\cb\r\n\r\n%d\x00", i)
		want = append(want, body, fmt.Sprint(i))
	}
	for seed := range uint64(30) {
		s := stompSession(t, 1<<20, "/topic/a")
		got, err := give(s, all.Bytes(), rand.New(rand.NewPCG(seed, 0)), 1+int(seed)*20)
		if err != nil || !got.Ready || len(got.Messages) != len(want) {
			t.Fatalf("seed %d: %d messages, %v", seed, len(got.Messages), err)
		}
		for i, m := range got.Messages {
			if string(m.Data) != want[i] || i%2 == 1 && m.Topic != "a:b" || i%2 == 0 && m.Topic != "/topic/a" {
				t.Fatalf("seed %d: message %d is %q of %q", seed, i, m.Data, m.Topic)
			}
		}
	}
}

func TestStompBounds(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	connected := "CONNECTED\nversion:1.2\n\n\x00"
	for name, test := range map[string]struct {
		data, want string // messages, "gap" among them, and the error
	}{
		"at the limit":               {"MESSAGE\ncontent-length:100\n\n" + strings.Repeat("x", 100) + "\x00", strings.Repeat("x", 100)},
		"over it":                    {"MESSAGE\ncontent-length:101\n\n" + strings.Repeat("x", 101) + "\x00MESSAGE\n\n1\x00", "gap 1"},
		"at the limit, up to a NUL":  {"MESSAGE\n\n" + strings.Repeat("x", 100) + "\x00", strings.Repeat("x", 100)},
		"over it, up to a NUL":       {"MESSAGE\n\n" + strings.Repeat("x", 5000) + "\x00MESSAGE\n\n1\x00", "gap 1"},
		"a length that is none":      {"MESSAGE\ncontent-length:-1\n\nx\x00", "upstream does not speak STOMP"},
		"a length of anything":       {"MESSAGE\ncontent-length:99999999999999999999\n\nx\x00", "upstream does not speak STOMP"},
		"headers without end":        {"MESSAGE\n" + strings.Repeat("a:b\n", maxStompHead), "upstream does not speak STOMP"},
		"a length that is too short": {"MESSAGE\ncontent-length:1\n\nxx\x00", "upstream does not speak STOMP"},
	} {
		s := stompSession(t, 100, "/topic/a")
		if _, err := give(s, []byte(connected), random, 1000); err != nil {
			t.Fatal(err)
		}
		got, err := give(s, []byte(test.data), random, 50)
		var words []string
		for _, m := range got.Messages {
			if m.Gap != "" {
				words = append(words, "gap")
				continue
			}
			words = append(words, string(m.Data))
		}
		if err != nil {
			words = append(words, strings.TrimPrefix(err.Error(), "the "))
		}
		if strings.Join(words, " ") != test.want {
			t.Errorf("%s: %q", name, words)
		}
		if len(s.parser.buf) > 2*maxStompHead {
			t.Errorf("%s: %d bytes are kept", name, len(s.parser.buf))
		}
	}
}

// Many small frames in one message take as long as they are: the search for the end of each one's headers goes no further.
func TestStompManyFramesAtOnce(t *testing.T) {
	s := stompSession(t, 1<<20, "/topic/a")
	data := append([]byte("CONNECTED\nversion:1.2\n\n\x00"), bytes.Repeat([]byte("X\n\n\x00"), 1<<20)...)
	ended := make(chan error, 1)
	go func() { // ends with the message
		_, err := s.Receive(context.Background(), noon, Frame{Data: append(data, "MESSAGE\nsubscription:sub-0\n\nx\x00"...)})
		ended <- err
	}()
	select {
	case err := <-ended:
		if err != nil || len(s.parser.buf) > 0 {
			t.Errorf("%v, %d bytes are left", err, len(s.parser.buf))
		}
	case <-time.After(time.Minute):
		t.Fatal("it takes for ever")
	}
}

func TestStompEscapes(t *testing.T) {
	const value = "a:b\\c\nd"
	for version, want := range map[string]string{"1.2": `a\cb\\c\nd`, "1.1": `a\cb\\c\nd`} {
		s := &stomp{version: version}
		got, err := s.escape(value)
		if err != nil || got != want || unescape(got, version) != value {
			t.Errorf("%s: %q, %v, back %q", version, got, err, unescape(got, version))
		}
	}
	for _, test := range []struct{ version, value, want string }{
		{"1.2", "a\rb", `a\rb`}, {"1.1", "a\rb", "error"}, {"1.0", "a\nb", "error"}, {"1.0", "a:b\\", `a:b\`}, {"1.2", "a\x00", "error"},
	} {
		got, err := (&stomp{version: test.version}).escape(test.value)
		if err != nil {
			got = "error"
		}
		if got != test.want {
			t.Errorf("%s: %q became %q", test.version, test.value, got)
		}
	}
	for _, test := range []struct{ version, text, want string }{
		{"1.2", `\r\t\`, "\r\\t\\"}, {"1.1", `\r`, `\r`}, {"1.0", `\n\c`, `\n\c`},
	} {
		if got := unescape(test.text, test.version); got != test.want {
			t.Errorf("%s: %q became %q", test.version, test.text, got)
		}
	}
}

func TestStompHeartBeats(t *testing.T) {
	for _, test := range []struct{ ours, theirs, want string }{
		{"", "0,0", "0s 0s"},
		{"", "10000,10000", "6.666s 20s"},
		{"", "5000,30000", "20s 20s"},
		{"", "0,20000", "13.333s 0s"},
		{"0,0", "10000,10000", "0s 0s"},
		{"0,1000", "4000,1", "0s 8s"},
		{"1,1", "1,1", "1ms 2ms"},
		{"", "", "0s 0s"},
		{"", "x,-5", "0s 0s"},
	} {
		connect := ""
		if test.ours != "" {
			connect = "heart-beat:" + test.ours
		}
		s := newStomp(Options{Connect: fixed(connect), Subscribe: fixedLines("a")})
		s.Open("")
		if _, err := s.Receive(context.Background(), noon, Frame{Data: []byte("CONNECTED\nversion:1.2\nheart-beat:" + test.theirs + "\n\n\x00")}); err != nil {
			t.Fatal(err)
		}
		if timers := s.Timers(); fmt.Sprint(timers.Every, " ", timers.Silence) != test.want {
			t.Errorf("%q and %q: %v %v, want %s", test.ours, test.theirs, timers.Every, timers.Silence, test.want)
		}
	}
}

func TestStompSettings(t *testing.T) {
	for _, test := range []struct {
		connect string
		line    string
		want    string
	}{
		{"login:guest\npasscode:a:b", `/topic/a {"ack":"client","x":1,"y":true}`, ""},
		{"guest", "/a", "CONNECT: is not a list of headers; write one name:value a line, such as login:guest"},
		{"heart-beat:1", "/a", "CONNECT: heart-beat is not two numbers of ms with a comma between, such as 10000,10000"},
		{"", "/a ack:client", `SUBSCRIBE: line 1: after the destination comes something that is not a JSON object; write headers as {"name":"value"}`},
		{"", `/a {"x":{}}`, `SUBSCRIBE: line 1: after the destination comes an object with more than plain values in it; write headers as {"name":"value"}`},
		{"", `/a {"id":"1"}`, "SUBSCRIBE: line 1: the header id is the sidecar's own; leave it out"},
		{"", `/a {"ack":"yes"}`, "SUBSCRIBE: line 1: ack is one of auto, client, client-individual"},
	} {
		got := ""
		if err := checkStomp(test.connect, []string{test.line}); err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("%q, %q: %s", test.connect, test.line, got)
		}
	}
	for _, bad := range []string{"", "x", `{"body":"x"}`, `{"destination":"/a","headers":{"x":{}}}`, `{"destination":"/a","headers":"x"}`} {
		if frames, err := stompSession(t, 100, "/a").Send(translate.Message{Data: []byte(bad)}); err == nil || !strings.Contains(err.Error(), "write {") {
			t.Errorf("%q: %d frames, %v", bad, len(frames), err)
		}
	}
}

// What an ERROR means is in its header; its body repeats names, which may be any words. These are as
// RabbitMQ, Spring, ActiveMQ and Artemis write them.
func TestStompVerdicts(t *testing.T) {
	for _, test := range []struct {
		step                  int
		version, header, body string
		want                  int
	}{
		{stompSubscribing, "1.2", "Unknown destination", "'/login/a' is not a valid destination.\nValid destination types are: /topic", 400},
		{stompConnecting, "1.2", "Version mismatch", "Supported versions are 1.0,1.1,1.2\n", 400},
		{stompSubscribing, "1.2", "not_found", "NOT_FOUND - no queue 'login-events' in vhost '/'\n", 404},
		{stompSubscribing, "1.2", "access_refused", "ACCESS_REFUSED - access to queue 'password-resets' refused\n", 403},
		{stompConnecting, "1.2", "Bad CONNECT", "Virtual host 'nope' access denied", 401},
		{stompReady, "1.2", `Failed to send message to ExecutorSubscribableChannel[clientInboundChannel]; nested exception is org.springframework.security.access.AccessDeniedException\c Access is denied`, "", 403},
		{stompReady, "1.2", "org.springframework.messaging.converter.MessageConversionException", "", 0},
		{stompConnecting, "1.1", "User name [joe] or password is invalid.", "", 401},
		{stompConnecting, "1.2", "AMQ229031: Unable to validate user from 127.0.0.1", "", 401},
		{stompReady, "1.2", "Server cancelled subscription", "The server has canceled a subscription.\nNo more messages will be delivered for sub-0.\n", 0},
		{stompReady, "1.2", "", "", 0},
	} {
		s := stompSession(t, 100, "/a")
		s.step, s.version = test.step, test.version
		_, err := s.Receive(context.Background(), noon, Frame{Data: []byte("ERROR\nmessage:" + test.header + "\n\n" + test.body + "\x00")})
		var refused *translate.Refused
		status := 0
		if errors.As(err, &refused) {
			status = refused.Status
		}
		if err == nil || status != test.want {
			t.Errorf("%q, %q: %d, %v", test.header, test.body, status, err)
		}
	}
}

func FuzzStomp(f *testing.F) {
	f.Add(bytes.Join([][]byte{step(6, "CONNECTED\nversion:1.1\nheart-beat:1,1\nserver:RabbitMQ\n\n\x00"), step(6, "RECEIPT\nreceipt-id:r-0\n\n\x00"),
		step(7, "MESSAGE\nsubscription:sub-0\nack:1\ncontent-length:3\n\nabc\x00\nMESS"), step(1, ""), step(2, `{"destination":"a","body":{}}`), step(5, "")}, nil))
	f.Fuzz(func(t *testing.T, script []byte) {
		fuzzSession(t, "stomp", Options{Connect: fixed("login:x"), Subscribe: fixedLines(`/a {"ack":"client"}`)}, script, func(s Session) int {
			return cap(s.(*stomp).parser.buf)
		})
	})
}

// TestStompErrorBehindASend is no verdict on the stream, which others read: one client may send to anywhere.
func TestStompErrorBehindASend(t *testing.T) {
	const unknown = "ERROR\nmessage:not_found\n\nNOT_FOUND - no exchange 'nowhere'\x00"
	for _, sends := range []bool{false, true} {
		s := newStomp(Options{Connect: fixed(""), Subscribe: fixedLines("/topic/a")}).(*stomp)
		for range 2 { // what was sent on an earlier connection does not count
			s.Open("")
			if got, err := s.Receive(t.Context(), noon, Frame{Data: []byte("CONNECTED\nversion:1.2\n\n\x00")}); err != nil || !got.Ready {
				t.Fatal(err)
			}
			if sends {
				s.Send(translate.Message{Data: []byte(`{"destination":"/exchange/nowhere/x","body":"y"}`)})
			}
			got, err := s.Receive(t.Context(), noon, Frame{Data: []byte(unknown + "MESSAGE\nsubscription:sub-0\ndestination:/topic/a\n\nnext\x00")})
			if refused := errors.As(err, new(*translate.Refused)); refused == sends {
				t.Errorf("sends: %v: %v", sends, err)
			}
			if sends && (err != nil || len(got.Messages) != 1 || len(got.Complaints) != 1 || got.Complaints[0] != "the broker said: not_found") {
				t.Errorf("the connection does not go on: %+v, %v", got, err)
			}
			if _, err := s.Receive(t.Context(), noon, Frame{Data: []byte("ERROR\nsubscription:sub-0\nmessage:Server cancelled subscription\n\n\x00")}); err == nil {
				t.Error("a subscription that the broker has ended goes on")
			}
			sends = false
		}
	}
}

// RabbitMQ closes with 1000 for lost heart-beats too.
func TestStompDied(t *testing.T) {
	policy, err := ParseClose("1000=finished")
	if err != nil {
		t.Fatal(err)
	}
	script := Script{Close: policy}
	inner := newStomp(Options{Connect: fixed(""), Subscribe: fixedLines("/topic/a")})
	s := script.Wrap(inner)
	s.Open("")
	if _, err := s.Receive(t.Context(), noon, Frame{Data: []byte("CONNECTED\nversion:1.2\n\n\x00")}); err != nil {
		t.Fatal(err)
	}
	for _, session := range []Session{s, inner} {
		if err := session.Closed(1000, "STOMP died"); err == nil || errors.Is(err, translate.ErrFinished) || !strings.Contains(err.Error(), "STOMP died") {
			t.Errorf("STOMP died: %v", err)
		}
	}
	if err := s.Closed(1000, "bye"); !errors.Is(err, translate.ErrFinished) {
		t.Errorf("bye: %v", err)
	}
}
