// This file reads a STOMP broker's ERROR frames, which have no codes, and its close codes.

package dialect

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// Closed explains the end that RabbitMQ 3.10 does not: it closes with 1000, without a reason, for a queue or exchange that
// does not exist, or not for this user.
func (s *stomp) Closed(code int, reason string) error {
	if s.Died(code, reason) && s.step != stompSubscribing {
		return fmt.Errorf("the broker closed with code %d and %q", code, stompDied)
	}
	if s.step == stompSubscribing && code != 0 {
		return fmt.Errorf("the broker closed with code %d instead of confirming SUBSCRIBE; does every destination exist, and may the user of CONNECT read it?", code)
	}
	return nil
}

// stompDied is the reason that RabbitMQ gives whenever it closes, above all for missing heart-beats.
const stompDied = "STOMP died"

// Died reports whether a close is a loss whatever its code is: RabbitMQ's is 1000, which is that of a normal end.
func (*stomp) Died(_ int, reason string) bool { return reason == stompDied }

// stompWords are what brokers write into an ERROR that is a refusal.
var stompWords = []struct {
	status int
	words  []string
}{
	{http.StatusUnauthorized, []string{"bad connect", "bad_connect", "access refused for user", "authentication", "not authenticated", "unable to validate user", "login", "credentials", "username", "password"}},
	{http.StatusForbidden, []string{"access_refused", "access refused", "forbidden", "not authorized", "access denied", "access is denied", "permission"}},
	{http.StatusNotFound, []string{"not_found", "not found", "does not exist"}},
	{http.StatusBadRequest, []string{"unknown destination", "invalid destination", "precondition_failed"}},
}

// aboutSend reports whether an ERROR is only about what a client has sent: then the other clients of the stream need not lose
// their connection. RabbitMQ keeps it usable; a broker that closes it, as the specification demands, does so by itself.
func (s *stomp) aboutSend(f stompFrame) bool {
	_, subscription := f.headers["subscription"]
	return s.step == stompReady && s.sent && !subscription
}

// failure reads an ERROR frame. Brokers have no codes, only words: those of the message header come first, as the body
// repeats names, which may be any words. After a client's SEND it may be about that alone, so it does not refuse the stream
// to all the others: the next opening will show.
func (s *stomp) failure(f stompFrame) error {
	header := f.headers["message"]
	shown := s.hidden(header)
	for _, text := range []string{header, string(f.body[:min(len(f.body), 1<<10)])} {
		if status := s.refusal(strings.ToLower(text)); status != 0 && !s.sent {
			return refuse(status, "the broker said: "+shown)
		}
	}
	return fmt.Errorf("the broker said: %s", shown)
}

// refusal is the HTTP status for a text, 0 when it is no refusal. Words about versions count only while one is being negotiated: Spring
// has them in the names of exceptions, such as MessageConversionException.
func (s *stomp) refusal(text string) int {
	says := func(word string) bool { return strings.Contains(text, word) }
	for _, v := range stompWords {
		if slices.ContainsFunc(v.words, says) {
			return v.status
		}
	}
	if s.step == stompConnecting && (says("version") || says("supported")) {
		return http.StatusBadRequest
	}
	return 0
}

// hidden is text, fit for logs, without the values of CONNECT.
func (s *stomp) hidden(text string) string {
	return serverText(without(text, s.secrets))
}
