package dialect

import (
	"fmt"
	"strings"
	"testing"

	"sidestream/translate"
)

func rpcSession(lines ...string) *jsonrpc {
	s, _ := newJSONRPC(Options{Dial: func() (Dial, error) { return Dial{URL: "ws://h/"}, nil }, Subscribe: fixedLines(lines...)}).(*jsonrpc)
	return s
}

func (s *jsonrpc) hears(t *testing.T, text string) Received {
	t.Helper()
	got, err := s.Receive(t.Context(), noon, Frame{Data: []byte(text)})
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return got
}

func TestJSONRPCCheck(t *testing.T) {
	for line, want := range map[string]string{
		`eth_subscribe ["newHeads"]`: "", `heads=eth_subscribe ["newHeads"]`: "", `slotSubscribe`: "", `a.b/c:1=x {"a":1}`: "",
		`heads=`: "no method", `["x"]`: "no method", `a=b=c`: "no method", `x newHeads`: "neither a list nor an object", `x [1`: "neither a list nor an object", `x 1`: "neither a list",
	} {
		err := checkJSONRPC("", []string{"fine", line})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "line 2")) {
			t.Errorf("%s: %v, want %q", line, err, want)
		}
	}
	for line, topic := range map[string]string{`heads=a [1]`: "heads", `a [ 1, 2 ]`: "a [1,2]", `a`: "a"} {
		if c, err := parseRPCLine(line); err != nil || c.topic != topic {
			t.Errorf("%s: %q %v", line, c.topic, err)
		}
	}
}

// What comes before the answers waits up to a bound, and what does not fit is a gap.
func TestJSONRPCHeld(t *testing.T) {
	s := rpcSession("x")
	_, _ = s.Open("")
	for i := range maxRPCHeld + 1 {
		if got := s.hears(t, fmt.Sprintf(`{"method":"m","params":{"subscription":7,"result":%d}}`, i)); len(got.Messages) > 0 {
			t.Fatal("an event goes out before its subscription is known")
		}
	}
	got := s.hears(t, `{"id":1,"result":7}`)
	if !got.Ready || len(got.Messages) != maxRPCHeld+1 || got.Messages[0].Topic != "x" || got.Messages[maxRPCHeld].Gap != translate.GapUpstream || len(s.held) != 0 {
		t.Errorf("%d messages, the last %+v", len(got.Messages), got.Messages[len(got.Messages)-1])
	}
	_, _ = s.Open("")
	s.hears(t, `{"method":"m","params":{"subscription":7,"result":"`+strings.Repeat("x", maxRPCHeldBytes)+`"}}`)
	if len(s.held) != 0 || !s.lost {
		t.Error("an event is held that is over the bound")
	}
}

// Errors are said of calls that were made, and of no others, whose number is bounded.
func TestJSONRPCComplaints(t *testing.T) {
	s := rpcSession()
	_, _ = s.Open("")
	for i := range maxRPCCalls + 10 {
		if _, err := s.Send(translate.Message{Data: fmt.Appendf(nil, "call [%d]", i)}); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.own) != maxRPCCalls {
		t.Errorf("%d calls are awaited", len(s.own))
	}
	const failed = `{"id":%s,"error":{"code":-32000,"message":"no 0123456789abcdef0123456789abcdef"}}`
	if got := s.hears(t, fmt.Sprintf(failed, "1")); len(got.Complaints) != 1 || got.Complaints[0] != "call: no … (-32000)" || len(got.Messages) > 0 {
		t.Errorf("%+v", got)
	}
	for _, id := range []string{"1", "null", `"x"`, "9999"} {
		if got := s.hears(t, fmt.Sprintf(failed, id)); len(got.Complaints) != 0 {
			t.Errorf("%s: %q", id, got.Complaints)
		}
	}
	if _, err := s.Receive(t.Context(), noon, Frame{Data: []byte("[" + strings.Repeat(`{"id":1,"method":"x"},`, maxRPCAnswers) + `{"id":1,"method":"x"}]`)}); err == nil {
		t.Error("all calls of the service's are answered")
	}
	if _, err := s.Receive(t.Context(), noon, Frame{Data: []byte("[" + strings.Repeat(`{},`, maxRPCBatch) + `{}]`)}); err == nil {
		t.Error("a list of any length is taken")
	}
}

func FuzzJSONRPC(f *testing.F) {
	f.Add(pieces("\x00{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":\"0x1\"}", "\x00{\"id\":2,\"result\":5}", "\x00{\"method\":\"m\",\"params\":{\"subscription\":\"0x1\",\"result\":{\"a\":1}}}", "\x04net_version []", "\x00{\"id\":3,\"error\":{\"code\":-32000,\"message\":\"no\"}}"))
	f.Add(pieces("\x00[{\"id\":1,\"result\":true},{\"id\":7,\"method\":\"x\",\"params\":[1]}]", "\x04[{\"id\":\"a\",\"method\":\"b\"}]", "\x00[{\"id\":\"a\",\"result\":1}]", "\x06", "\x03", "\x02x"))
	f.Add(pieces("\x00{\"id\":1,\"error\":{\"code\":-32601}}"))
	f.Fuzz(func(t *testing.T, script []byte) {
		s := rpcSession(`a=x ["y"]`, "z")
		drive(t, s, script, func() {
			if len(s.asked) > 2 || len(s.topics) > 2 || len(s.own) > maxRPCCalls || len(s.held) > maxRPCHeld || s.size > maxRPCHeldBytes {
				t.Fatal("it grows")
			}
		})
	})
}
