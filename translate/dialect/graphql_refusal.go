// This file reads a GraphQL server's errors and close codes.

package dialect

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

func gqlRefusal(id string, errs json.RawMessage) error {
	status, why := gqlError(errs)
	return refuse(status, fmt.Sprintf("the operation of line %s: %s", id, why))
}

// connectionError is a refusal, unless the connection has been acknowledged already.
func (s *graphql) connectionError(payload json.RawMessage) error {
	status, why := gqlError(payload)
	if s.acked {
		return errors.New("connection_error: " + why)
	}
	if status == http.StatusBadRequest {
		status = http.StatusForbidden
	}
	return refuse(status, "connection_error: "+why)
}

// gqlError reads the first error of what servers send as one: a list of errors, an error, either under "errors", or a text.
func gqlError(payload json.RawMessage) (status int, why string) {
	var under struct{ Errors json.RawMessage }
	if json.Unmarshal(payload, &under) == nil && under.Errors != nil {
		payload = under.Errors
	}
	var list []json.RawMessage
	if json.Unmarshal(payload, &list) == nil && len(list) > 0 {
		payload = list[0]
	}
	var e struct {
		Message    string
		ErrorType  string // AppSync's
		Extensions struct{ Code any }
	}
	if json.Unmarshal(payload, &e.Message) != nil {
		json.Unmarshal(payload, &e) // what does not fit is left out
	}
	status = http.StatusBadRequest
	switch {
	case e.Extensions.Code == "UNAUTHENTICATED", strings.HasPrefix(e.ErrorType, "Unauthorized"):
		status = http.StatusUnauthorized
	case e.Extensions.Code == "FORBIDDEN":
		status = http.StatusForbidden
	}
	if why = serverText(e.Message); why == "" {
		why = "an error without a message"
	}
	return status, why
}

// Closed knows the close codes of graphql-ws's server.
func (s *graphql) Closed(code int, reason string) error {
	why := fmt.Sprintf("closed with code %d: %s", code, serverText(reason))
	switch code {
	case 4400:
		if s.pongs > 0 {
			s.mute = true
			return errors.New(why)
		}
		return refuse(http.StatusBadRequest, why)
	case 4004, 4005, 4409, 4429:
		return refuse(http.StatusBadRequest, why)
	case 4401:
		return refuse(http.StatusUnauthorized, why)
	case 4403:
		return refuse(http.StatusForbidden, why)
	case 4406, 1002:
		if !s.acked {
			return s.wrong()
		}
	case 4500:
		if s.pongs > 0 {
			s.pongs = 0
			return refuse(http.StatusBadRequest, why)
		}
	}
	if code < 4000 {
		return nil
	}
	return errors.New(why)
}
