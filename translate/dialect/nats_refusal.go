// This file reads what a NATS server complains of. Its texts are fixed (server/errors.go of nats-server); what is not known here is tried again:
//
//	Authorization Violation, .. Expired, .. Revoked        401 while a connection is opened; else a new one
//	Permissions Violation for Subscription to ".."         403
//	Permissions Violation for Publish to ".."              403 for $JS.API while a connection is opened; else a complaint
//	Invalid Subject, Invalid Publish Subject               400 while a connection is opened; else a complaint
//	Permissions Violation for Publish to "$JS.FC.."        403 where it is of a consumer of ours
//	maximum subscriptions exceeded                         403
//
// and JetStream's errors by code: 404 (10059: no such stream) is 404, 400 is 400, 403 and 401 as they are, others are tried again.

package dialect

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"sidestream/translate"
)

// natsPassing are JetStream's errors that pass although their code is 400: limits of an account and of consumers, of which those of connections before are some for a
// while; no place, and a stream or cluster that is being changed.
var natsPassing = []int{10002, 10005, 10026, 10124, 10202, 10226}

// complaint takes -ERR.
func (s *nats) complaint(text string, got *Received) error {
	shown := "the server says " + serverText(without(text, s.settings.secrets()))
	low := strings.ToLower(text)
	has := func(part string) bool { return strings.Contains(low, part) }
	opening := s.step != natsReady
	switch {
	case has("authorization violation") || has("authentication expired") || has("authentication revoked"):
		if opening {
			return refuse(http.StatusUnauthorized, shown)
		}
		return errors.New(shown) // the next connection has CONNECT as it is then
	case has("permissions violation for subscription"), has("maximum subscriptions exceeded"):
		return refuse(http.StatusForbidden, shown)
	case has("permissions violation for publish") && has("$js.fc.") && has(strings.ToLower(s.inbox)+"-"):
		return refuse(http.StatusForbidden, shown+"; without it a consumer stands still")
	case has("permissions violation for publish") && opening && has("$js"):
		return refuse(http.StatusForbidden, shown+"; SUBSCRIBE with a stream asks $JS.API for it")
	case has("invalid subject") && opening:
		return refuse(http.StatusBadRequest, shown)
	case has("permissions violation"), has("invalid subject"), has("invalid publish subject"):
		got.Complaints = append(got.Complaints, shown)
		return nil
	}
	return errors.New(shown)
}

// failed is what it means that JetStream does not do what was asked.
func (s *nats) failed(r natsRequest, e *natsError) error {
	text := fmt.Sprintf("line %d of SUBSCRIBE: JetStream says %s (%d)", r.consumer.line, serverText(without(e.Description, s.settings.secrets())), e.Code)
	if e.ErrCode != 0 {
		text = fmt.Sprintf("%s, %d)", strings.TrimSuffix(text, ")"), e.ErrCode)
	}
	if s.step == natsReady { // the next connection will see
		return &translate.Later{After: openingTime / 10, Err: errors.New(text)}
	}
	if slices.Contains(natsPassing, e.ErrCode) {
		e.Code = 0
	}
	switch e.Code {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound:
		return refuse(e.Code, text)
	}
	return &translate.Later{After: openingTime / 10, Err: errors.New(text)}
}
