// This file reads a WAMP router's refusals, which are URIs.

package dialect

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// shown is a text of the router, fit for an error and without our credentials.
func (s *wamp) shown(text string) string {
	for _, secret := range []string{s.login.Ticket, s.login.Secret} {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "…")
		}
	}
	return serverText(text)
}

// aborted is what an ABORT means: the end of a session, or of the attempt to begin one.
func (s *wamp) aborted(m wampMessage) error {
	reason := m.text(2)
	var details struct{ Message string }
	_ = json.Unmarshal(m[1], &details) // the message is optional
	text := "aborted by the router: " + s.shown(reason)
	if details.Message != "" {
		text += ": " + s.shown(details.Message)
	}
	switch status := s.abortStatus(reason); {
	case s.welcome, status == 0:
		return errors.New(text)
	default:
		return refuse(status, text)
	}
}

// abortStatus is the HTTP status for the reason of an ABORT, 0 when asking again may help.
func (s *wamp) abortStatus(reason string) int {
	switch reason {
	case "wamp.error.no_such_realm":
		return http.StatusNotFound
	case "wamp.error.not_authorized", "wamp.error.authorization_failed", "wamp.error.authorization_denied", "wamp.error.no_such_role":
		return http.StatusForbidden
	case "wamp.error.authentication_failed", "wamp.error.authentication_denied", "wamp.error.authentication_required", "wamp.error.not_authenticated",
		"wamp.error.no_auth_method", "wamp.error.no_matching_auth_method", "wamp.error.no_such_principal", "wamp.error.invalid_authid":
		return http.StatusUnauthorized
	}
	switch own := reason != "" && !strings.HasPrefix(reason, "wamp."); { // an authenticator's own URI
	case own && s.challenged:
		return http.StatusUnauthorized
	case own:
		return http.StatusForbidden
	}
	return 0
}

// refused takes an ERROR, which refuses a subscription.
func (s *wamp) refused(m wampMessage) error {
	topic, ok := s.asked[m.id(2)]
	if m.id(1) != fmt.Sprint(wampSubscribe) || !ok {
		return nil // to a publication, whose outcome is not awaited
	}
	reason := m.text(4)
	text := fmt.Sprintf("subscribing to %s: %s", serverText(topic), s.shown(reason))
	status := http.StatusForbidden
	switch {
	case strings.HasPrefix(reason, "wamp.error.invalid_"), reason == "wamp.error.option_not_allowed", strings.HasPrefix(reason, "wamp.error.option_disallowed"):
		status = http.StatusBadRequest
	case strings.HasPrefix(reason, "wamp.error.no_such_"):
		status = http.StatusNotFound
	}
	return refuse(status, text)
}
