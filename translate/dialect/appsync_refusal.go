// This file reads the errors of AppSync. The type decides, which is a name at the end of what may be qualified; then the code:
//
//	*LimitExceeded*, MaxSubscriptionsReached*, *Throttl*, *Internal*, *Unavailable*,
//	*ProcessingError, *Timeout*, *TooManyRequests*, *Throughput*, 408, 425, 429, 5xx   retry
//	Unauthorized*, NotAuthorized*, 401, and what IAM says of keys: *Signature*,
//	*UnrecognizedClient*, *ExpiredToken*, *InvalidClientToken*, *AuthenticationToken*  401
//	AccessDenied*, Forbidden*, 403                                                     403
//	BadRequest*                                                                        400
//	400 to 499                                                                         the code
//	others                                                                             400 for a subscription, retry for the connection
//
// What is refused after it was confirmed is tried again on a new connection, with CONNECT as it is then: a token has expired.

package dialect

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
)

// appSyncFault is one error of AppSync's.
type appSyncFault struct {
	kind, message string
	code          int
}

// fault is the first error of a message.
func (m appSyncMessage) fault() appSyncFault {
	errs := m.Errors
	if errs == nil {
		errs = m.Payload
	}
	var under struct{ Errors json.RawMessage }
	if json.Unmarshal(errs, &under) == nil && under.Errors != nil {
		errs = under.Errors
	}
	var list []json.RawMessage
	if json.Unmarshal(errs, &list) == nil && len(list) > 0 {
		errs = list[0]
	}
	var e map[string]json.RawMessage
	_ = json.Unmarshal(errs, &e) // what does not fit is left out
	f := appSyncFault{kind: onlyText(e["errorType"]), message: onlyText(e["message"])}
	f.kind = f.kind[strings.LastIndexByte(f.kind, '#')+1:]
	f.code, _ = strconv.Atoi(strings.Trim(string(e["errorCode"]), `"`))
	return f
}

// onlyText is a JSON string, "" for what is none.
func onlyText(value json.RawMessage) (s string) {
	if json.Unmarshal(value, &s) != nil {
		return ""
	}
	return s
}

// text is the error for people.
func (f appSyncFault) text(secrets []string) string {
	said := serverText(without(f.kind, secrets))
	if message := serverText(without(f.message, secrets)); message != "" && said != "" {
		said += ": " + message
	} else {
		said += message
	}
	switch {
	case said == "" && f.code != 0:
		return "an error without a message (" + strconv.Itoa(f.code) + ")"
	case said == "":
		return "an error without a message"
	}
	return said
}

// status is the client's status, 0 where asking again may help; other is that of an error that is not known.
func (f appSyncFault) status(other int) int {
	has := func(words ...string) bool {
		for _, word := range words {
			if strings.Contains(f.kind, word) {
				return true
			}
		}
		return false
	}
	switch c := f.code; {
	case has("LimitExceeded", "MaxSubscriptionsReached", "Throttl", "Internal", "Unavailable", "ProcessingError", "Timeout", "TooManyRequests", "Throughput"), c == 408, c == 425, c == 429, c >= 500 && c <= 599:
		return 0
	case has("Unauthorized", "NotAuthorized", "Signature", "UnrecognizedClient", "ExpiredToken", "InvalidClientToken", "AuthenticationToken"), c == 401:
		return http.StatusUnauthorized
	case has("AccessDenied", "Forbidden"), c == 403:
		return http.StatusForbidden
	case has("BadRequest"):
		return http.StatusBadRequest
	case c >= 400 && c <= 499:
		return c
	}
	return other
}

// connectionError is an error of no subscription.
func (s *appSync) connectionError(m appSyncMessage) error {
	f := m.fault()
	text := m.Type + ": " + f.text(s.login.secrets())
	if status := f.status(0); status != 0 && !s.ready {
		return refuse(status, text)
	}
	return errors.New(text)
}

// failed takes an error, of a subscription or of none.
func (s *appSync) failed(r *appSyncRunning, m appSyncMessage, got *Received) error {
	f := m.fault()
	text := f.text(s.login.secrets())
	switch {
	case r == nil && s.ready:
		got.Complaints = append(got.Complaints, text)
		return nil
	case r == nil:
		return s.connectionError(m)
	}
	text = "the subscription of line " + string(m.ID) + ": " + text
	if status := f.status(http.StatusBadRequest); status != 0 && !r.confirmed {
		return refuse(status, text)
	}
	return errors.New(text)
}
