// This file reads the errors of Meteor, whose code is a number as in HTTP or a word of the application's:
//
//	404                                            no such publication    404
//	408 425 429 5xx, too-many-requests, timeout    retry
//	400 to 499                                     as in HTTP             the code; 403 for login is 401
//	not-authorized, invalid-user, logged-out ...   401
//	others                                         403; 401 for login

package dialect

import (
	"encoding/json"
	"errors"
	"net/http"
	"regexp"
	"strconv"
)

// ddpFault is a failed call or subscription.
type ddpFault struct{ code, reason string }

// fault is the error of a message; nil: it has none.
func (m ddpMessage) fault() *ddpFault {
	if isNull(m.Error) {
		return nil
	}
	var e map[string]json.RawMessage
	if json.Unmarshal(m.Error, &e) != nil {
		return &ddpFault{reason: onlyText(m.Error)}
	}
	f := &ddpFault{code: jsonText(e["error"]), reason: onlyText(e["reason"])}
	if f.reason == "" {
		f.reason = onlyText(e["message"])
	}
	return f
}

func (f *ddpFault) text() string {
	switch {
	case f.reason == "" && f.code == "":
		return "an error without a reason"
	case f.reason == "":
		return f.code
	case f.code == "":
		return f.reason
	}
	return f.reason + " (" + f.code + ")"
}

var (
	ddpBusy    = regexp.MustCompile(`(?i)too-many|rate-?limit|timeout|unavailable`)
	ddpUnknown = regexp.MustCompile(`(?i)not-authori[sz]ed|unauthori[sz]ed|invalid-user|logged-?out|not-logged|token`)
)

// meaning is what it means that something of the opening has failed; other is the status of what is not known.
func (f *ddpFault) meaning(what string, secrets []string, other int) error {
	text := what + ": " + serverText(without(f.text(), secrets))
	status := f.status(other)
	if status == 0 {
		return errors.New(text)
	}
	return refuse(status, text)
}

// status is the client's status, 0 where asking again may help.
func (f *ddpFault) status(other int) int {
	n, _ := strconv.Atoi(f.code)
	switch {
	case n == 408 || n == 425 || n == 429 || n >= 500 && n <= 599 || n == 0 && ddpBusy.MatchString(f.code):
		return 0
	case n == http.StatusForbidden:
		return other
	case n >= 400 && n <= 499:
		return n
	case ddpUnknown.MatchString(f.code):
		return http.StatusUnauthorized
	}
	return other
}
