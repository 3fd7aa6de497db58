// This file reads the errors of JSON-RPC. There is one meaning for those of the specification and of EIP-1474; others have none but their texts:
//
//	-32601 -32004          no such method          404
//	-32600 -32602 -32700   the call is wrong       400
//	-32001                 no such thing           404
//	-32006                 another version         400
//	-32603                 an internal error       retry
//	-32002 -32005 429 5xx  unavailable, limits     retry
//	400 to 499             as in HTTP              the code
//	others                 by text: authorization is 401, no such method 404, limits and what is unavailable are retried; else 403

package dialect

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
)

const rpcNoMethod = -32601

// rpcError is a failed call.
type rpcError struct {
	Code    json.Number
	Message string
}

// rpcAnswer answers a call of the service's own.
type rpcAnswer struct {
	JSONRPC string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Error   rpcCode         `json:"error"`
}

type rpcCode struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

var (
	rpcBusy    = regexp.MustCompile(`(?i)limit|too many|busy|unavailable|overload|timed? ?out|unhealthy|syncing|try again`)
	rpcNothing = regexp.MustCompile(`(?i)no such method|method not found`) // of aria2, whose errors have the code 1
	rpcUnknown = regexp.MustCompile(`(?i)unauthori[sz]ed|authenticat|api key|credential`)
)

// text is the error for people.
func (e *rpcError) text() string {
	return fmt.Sprintf("%s (%s)", serverText(e.Message), serverText(e.Code.String()))
}

// meaning is what it means that a method of SUBSCRIBE has failed.
func (e *rpcError) meaning(method string) error {
	text := "SUBSCRIBE: " + printable(method) + ": " + e.text()
	status := e.status()
	if status == 0 {
		return errors.New(text)
	}
	return refuse(status, text)
}

// status is the client's status, 0 where asking again may help.
func (e *rpcError) status() int {
	code, err := e.Code.Int64()
	if err != nil {
		code = 0
	}
	switch {
	case code == rpcNoMethod || code == -32004 || code == -32001 && !rpcUnknown.MatchString(e.Message):
		return http.StatusNotFound
	case code == -32600 || code == -32602 || code == -32700 || code == -32006:
		return http.StatusBadRequest
	case code == -32603 || code == -32002 || code == -32005 || code == 408 || code == 425 || code == 429 || code >= 500 && code <= 599:
		return 0
	case code >= 400 && code <= 499:
		return int(code)
	case rpcUnknown.MatchString(e.Message):
		return http.StatusUnauthorized
	case rpcNothing.MatchString(e.Message):
		return http.StatusNotFound
	case rpcBusy.MatchString(e.Message):
		return 0
	}
	return http.StatusForbidden
}
