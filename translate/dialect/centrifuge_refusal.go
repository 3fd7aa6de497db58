// This file reads the errors of Centrifugo. Those of its own begin at 100, those of a service behind it at 400:
//
//	101 109 110        unauthorized, token expired, expired      401
//	102 108            unknown channel, not available            404
//	104 107            method not found, bad request             400
//	112                unrecoverable position                    the subscription is asked for anew, with a gap
//	temporary, 100, 111, 408, 425, 429, 5xx                      retry
//	400 to 499         as in HTTP                                the code
//	others             such as 103, permission denied            403
//
// and of closes, from which a client shall not come back: 3500 (invalid token) 401, 3501 and 3506 400, 3508 404, others 403.

package dialect

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"sidestream/translate"
)

// centInvalidated closes a connection whose state the server has given up.
const centInvalidated = 3014

// centBusy is how long a server is left alone that says its error passes.
const centBusy = time.Second

// centError is a failed command.
type centError struct {
	Code      int
	Message   string
	Temporary bool
}

// lost reports whether the server cannot go on where a subscription was left.
func (e *centError) lost() bool { return e.Code == 112 || e.Code == 108 }

// text is the error for people.
func (e *centError) text(secrets []string) string {
	return fmt.Sprintf("%s (%d)", serverText(without(e.Message, secrets)), e.Code)
}

// meaning is what it means that something of the opening has failed.
func (e *centError) meaning(what string, secrets []string) error {
	text := "the server refused " + what + ": " + e.text(secrets)
	status := e.status()
	if status == 0 {
		return &translate.Later{After: centBusy, Err: errors.New(text)}
	}
	return refuse(status, text)
}

// status is the client's status, 0 where asking again may help.
func (e *centError) status() int {
	switch c := e.Code; {
	case e.Temporary || c >= 500 && c <= 599 || slices.Contains([]int{100, 111, 113, 408, 425, 429}, c):
		return 0
	case c == 101 || c == 109 || c == 110:
		return http.StatusUnauthorized
	case c == 102 || c == 108:
		return http.StatusNotFound
	case c == 104 || c == 107:
		return http.StatusBadRequest
	case c >= 400 && c <= 499:
		return c
	}
	return http.StatusForbidden
}

// centClosed is the refusal that a close means.
func centClosed(code int, reason string, secrets []string) error {
	status := http.StatusForbidden
	switch code {
	case 3500:
		status = http.StatusUnauthorized
	case 3501, 3506:
		status = http.StatusBadRequest
	case 3508:
		status = http.StatusNotFound
	}
	text := fmt.Sprintf("the server closed the connection for good (%d)", code)
	if reason = serverText(without(reason, secrets)); reason != "" {
		text += ": " + reason
	}
	return refuse(status, text)
}

// secrets are the texts of CONNECT and SUBSCRIBE, which a server may repeat.
func (s *centrifuge) secrets() (texts []string) {
	connect, err := s.Connect()
	if err == nil {
		texts = jsonTexts([]byte(connect))
	}
	for _, l := range s.lines {
		for _, value := range l.fields {
			texts = append(texts, jsonTexts(value)...)
		}
	}
	return texts
}

// shown is a text of the server, fit for logs.
func (s *centrifuge) shown(text string) string { return serverText(without(text, s.secrets())) }
