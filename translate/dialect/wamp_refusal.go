// This file reads a WAMP router's refusals, which are URIs.

package dialect

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// said is a text of the router without our credentials.
func (s *wamp) said(text string) string {
	for _, secret := range []string{s.login.Ticket, s.login.Secret} {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "…")
		}
	}
	return serverText(text)
}

// aborted is what the end of a session, or of the try to begin one, means.
func (s *wamp) aborted(m wampMessage) error {
	reason := m.text(2)
	var details struct{ Message string }
	_ = json.Unmarshal(m[1], &details) // it may say nothing
	text := "aborted by the router: " + s.said(reason)
	if details.Message != "" {
		text += ": " + s.said(details.Message)
	}
	switch status := s.abortStatus(reason); {
	case s.welcome, status == 0:
		return errors.New(text)
	default:
		return refuse(status, text)
	}
}

// abortStatus is what the reason of an ABORT is over HTTP, 0 when asking again may help.
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
	switch own := reason != "" && !strings.HasPrefix(reason, "wamp."); { // an authenticator's own word
	case own && s.challenged:
		return http.StatusUnauthorized
	case own:
		return http.StatusForbidden
	}
	return 0
}

// refused is the answer to a subscription that the router does not want.
func (s *wamp) refused(m wampMessage) error {
	topic, ok := s.asked[m.id(2)]
	if m.id(1) != fmt.Sprint(wampSubscribe) || !ok {
		return nil // to a publication, of which nobody asked for an answer
	}
	reason := m.text(4)
	text := fmt.Sprintf("subscribing to %s: %s", serverText(topic), s.said(reason))
	status := http.StatusForbidden
	switch {
	case strings.HasPrefix(reason, "wamp.error.invalid_"), reason == "wamp.error.option_not_allowed", strings.HasPrefix(reason, "wamp.error.option_disallowed"):
		status = http.StatusBadRequest
	case strings.HasPrefix(reason, "wamp.error.no_such_"):
		status = http.StatusNotFound
	}
	return refuse(status, text)
}
