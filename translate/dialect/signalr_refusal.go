// This file reads a hub's errors, which are texts alone.

package dialect

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// hubRefusal decides by a completion's error whether asking again may help.
func hubRefusal(method, text string) error {
	reason := fmt.Sprintf("%s: %s", serverText(method), serverText(text))
	switch {
	case strings.Contains(text, "HubException:"), strings.HasSuffix(text, "because user is unauthorized"):
		return refuse(http.StatusForbidden, reason)
	case strings.HasPrefix(text, "An unexpected error occurred"), strings.HasPrefix(text, "An error occurred on the server"):
		return errors.New(reason) // the method failed, and may not fail again
	case strings.HasPrefix(text, "Unknown hub method"), strings.HasPrefix(text, "Failed to invoke"), strings.HasPrefix(text, "The client attempted to invoke"):
		return refuse(http.StatusBadRequest, reason)
	}
	return refuse(http.StatusForbidden, reason)
}

// hubCloseText is a close record for people.
func hubCloseText(r hubRecord) string {
	if r.Error != nil {
		return "closed by the hub: " + serverText(*r.Error)
	}
	return "closed by the hub"
}

// closedByHub is what a close record means.
func closedByHub(r hubRecord) error {
	text := hubCloseText(r)
	if r.AllowReconnect {
		return errors.New(text)
	}
	return refuse(http.StatusForbidden, text+" (allowReconnect is not set)")
}
