package dialect

import (
	"fmt"
	"strings"
	"testing"

	"sidestream/translate"
)

// What is trimmed while a consumer is catching up is a gap; what is not for the line, or came after all before it, is none.
func TestNATSJetStreamTrimmedBehind(t *testing.T) {
	const first = 3 // of the requests after the opening
	open := func() *nats {
		s := natsSession(`a.> {"stream":"A"}`)
		s.consuming(t, streamOf("t", 1, 5, ""))
		s.deliversJS(t, 1, 6) // 7 to 99 come while nobody is connected
		_, _ = s.Open("")
		s.hears(t, "INFO {}\r\nPONG\r\n")
		s.answersJS(t, 1, streamOf("t", 2, 99, ""))
		s.answersJS(t, 2, "{}")
		return s
	}
	says := func(s *nats, own, seq, pending int) Received {
		t.Helper()
		return s.hears(t, fmt.Sprintf("MSG a.b %s $JS.ACK.A.x.1.%d.%d.1.%d 1\r\n1\r\n", s.consumers[0].sid, seq, own, pending))
	}
	asks := func(got Received, n int) bool {
		return len(got.Replies) == 1 && strings.HasPrefix(string(got.Replies[0].Data), fmt.Sprintf("PUB $JS.API.STREAM.INFO.A _INBOX.i.r.%d ", n))
	}
	s := open()
	if got := says(s, 1, 50, 0); len(got.Messages) != 1 || !asks(got, first) {
		t.Fatalf("%+v", got)
	}
	if got := s.answersJS(t, first, streamOf("t", 40, 99, "")); len(got.Messages) != 1 || got.Messages[0].Gap != translate.GapUpstream || len(got.Replies) > 0 {
		t.Errorf("7 to 39 were trimmed: %+v", got)
	}
	if got := says(s, 2, 60, 0); len(got.Messages) != 1 || len(got.Replies) > 0 {
		t.Errorf("what has come since is not for the line: %+v", got)
	}
	s = open()
	if got := says(s, 1, 50, 0); !asks(got, first) {
		t.Fatalf("%+v", got)
	}
	if got := s.answersJS(t, first, streamOf("t", 7, 99, "")); len(got.Messages)+len(got.Replies) > 0 {
		t.Errorf("all was there: %+v", got)
	}
	s = open()
	for i := range 50 { // no hole
		if got := says(s, i+1, i+7, 49-i); len(got.Messages) != 1 || len(got.Replies) > 0 {
			t.Fatalf("%+v", got)
		}
	}
	s = open() // it asks in between, not for each
	asked := 0
	for i := range 1000 {
		got := says(s, i+1, 2*i+8, 1000-i)
		if len(got.Messages) != 1 {
			t.Fatalf("%+v", got)
		}
		if asked += len(got.Replies); len(got.Replies) > 0 {
			s.answersJS(t, s.requests, streamOf("t", 7, 9999, ""))
		}
	}
	if asked < 2 || asked > 10 {
		t.Errorf("it asked %d times", asked)
	}
	s = open()
	says(s, 1, 50, 0)
	if got := s.outcomeOf(t, "MSG _INBOX.i.r.3 1 22\r\n{\"error\":{\"code\":404}}\r\n"); got != "later" {
		t.Error(got)
	}
	other := natsSession(`a.> {"stream":"A"}`) // another process, or connection, finds out
	if err := other.Restore(s.Save()); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*nats{s, other} {
		_, _ = s.Open("")
		s.hears(t, "INFO {}\r\nPONG\r\n")
		s.answersJS(t, 1, streamOf("t", 40, 99, ""))
		if got := s.answersJS(t, 2, "{}"); !got.Ready || got.Resumed {
			t.Errorf("%+v", got)
		}
	}
	s = open() // an answer that does not come is asked for again
	says(s, 1, 50, 0)
	for i := range 2 {
		frames, err := s.Ping()
		if err != nil || (len(frames) == 2) != (i == 1) || len(s.answers) != 1 {
			t.Errorf("%d: %d frames, %d are awaited, %v", i, len(frames), len(s.answers), err)
		}
		s.hears(t, "PONG\r\n")
	}
	if got := s.answersJS(t, first+1, streamOf("t", 40, 99, "")); len(got.Messages) != 1 {
		t.Errorf("%+v", got)
	}
}
