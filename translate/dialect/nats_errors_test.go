package dialect

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"sidestream/translate"
)

// outcomeOf is what a server's text makes of a session.
func (s *nats) outcomeOf(t *testing.T, text string) string {
	t.Helper()
	got, err := s.Receive(t.Context(), noon, Frame{Binary: true, Data: []byte(text)})
	var refused *translate.Refused
	switch {
	case err == nil && len(got.Complaints) > 0:
		return "complaint"
	case err == nil:
		return "nothing"
	case errors.As(err, &refused):
		return fmt.Sprint("refused ", refused.Status)
	}
	word, _, _ := strings.Cut(outcome(err), " ")
	return word
}

// A login that ends in the middle of a connection is made anew by the next one, whose CONNECT is read anew; while one is opened it is a refusal.
func TestNATSExpires(t *testing.T) {
	for _, text := range []string{"User Authentication Expired", "Account Authentication Expired", "User Authentication Revoked", "Authorization Violation"} {
		line := "-ERR '" + text + "'\r\n"
		s := natsSession(`a.> {"stream":"A"}`)
		s.consuming(t, streamOf("t", 1, 3, ""))
		if got := s.outcomeOf(t, line); got != "retry" || !s.Resumable() {
			t.Errorf("%s, when it was ready: %s, resumable: %v", text, got, s.Resumable())
		}
		_, _ = s.Open("")
		s.hears(t, "INFO {}\r\n")
		if got := s.outcomeOf(t, line); got != "refused 401" {
			t.Errorf("%s, while it is opened: %s", text, got)
		}
	}
}

// What JetStream lacks for the moment, such as room for a consumer beside the one of the connection before, is tried again.
func TestNATSPasses(t *testing.T) {
	for body, want := range map[string]string{
		`{"code":400,"err_code":10026,"description":"maximum consumers limit reached"}`:          "later",
		`{"code":400,"err_code":10002,"description":"resource limits exceeded for account"}`:     "later",
		`{"code":400,"err_code":10005,"description":"no suitable peers for placement"}`:          "later",
		`{"code":400,"err_code":10124,"description":"stream move already in progress"}`:          "later",
		`{"code":503,"err_code":10008,"description":"JetStream system temporarily unavailable"}`: "later",
		`{"code":400,"err_code":10098,"description":"workqueue stream requires explicit ack"}`:   "refused 400",
		`{"code":404,"err_code":10059,"description":"stream not found"}`:                         "refused 404",
	} {
		s := natsSession(`a.> {"stream":"A"}`)
		_, _ = s.Open("")
		s.hears(t, "INFO {}\r\nPONG\r\n")
		s.answersJS(t, 1, streamOf("t", 1, 3, ""))
		body = `{"error":` + body + `}`
		if got := s.outcomeOf(t, fmt.Sprintf("MSG _INBOX.i.r.2 1 %d\r\n%s\r\n", len(body), body)); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s", body, got)
		}
	}
}

// A consumer whose flow control may not be answered would stand still for ever.
func TestNATSFlowControlDenied(t *testing.T) {
	s := natsSession(`a.> {"stream":"A"}`)
	s.consuming(t, streamOf("t", 1, 3, ""))
	if got := s.outcomeOf(t, "-ERR 'Permissions Violation for Publish to \"$JS.FC.A."+s.consumer(s.consumers[0])+".x1Yz\"'\r\n"); got != "refused 403" {
		t.Error(got)
	}
	if got := s.outcomeOf(t, "-ERR 'Permissions Violation for Publish to \"$JS.FC.A.another.x1Yz\"'\r\n"); got != "complaint" {
		t.Errorf("what a client sends ends the stream: %s", got)
	}
}
