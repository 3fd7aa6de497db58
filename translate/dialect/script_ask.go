// This file is a request in the middle of an opening (the "@" line of HELLO): the signature of a private channel, a subscription that is made
// over HTTP for a connection that is open. The rules:
//
//   - The connection makes the request and reads no frame until it is answered; what arrives meanwhile is taken afterwards.
//   - Where it comes to no request, it is left out, and its answer is null.
//   - The answer, 2xx, is JSON or empty, which is null. It is the input of the next "=", and $answer of every program and {= } after it.

package dialect

import (
	"bytes"
	"fmt"

	"sidestream/translate"
)

// Asking is a session whose opening makes requests: after each Open, Receive and Answered the connection has to look at Request.
type Asking interface {
	Session
	// Request is what the opening waits for; nil: nothing.
	Request() *HTTPRequest
	// Answered goes on with the answer to Request. What comes of it is as of Receive.
	Answered(answer *HTTPResponse) (Received, error)
}

// Request is that of the present line.
func (s *scripted) Request() *HTTPRequest { return s.asking }

func (s *scripted) Answered(answer *HTTPResponse) (got Received, err error) {
	line := s.next + 1
	s.asking, s.answer, s.parsed, s.fresh = nil, []byte("null"), nil, true
	if body := bytes.TrimSpace(answer.Body); len(body) > 0 {
		if s.parsed, err = translate.ParseJSON(body); err != nil {
			return got, fmt.Errorf("HELLO line %d: the answer %w", line, err)
		}
		s.answer = body
	}
	s.next++
	got.Replies, err = s.advance()
	if got.Ready = err == nil && s.complete(); got.Ready {
		got.Resumed = s.resumed
	}
	return got, err
}
