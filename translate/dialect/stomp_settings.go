// This file reads CONNECT and SUBSCRIBE for the dialect stomp.

package dialect

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

type stompSub struct {
	destination string
	headers     map[string]string
}

type stompHeader struct{ name, value string }

// stompHeaders reads CONNECT: name:value a line.
func stompHeaders(text string) (headers []stompHeader, err error) {
	for _, line := range SplitLines(text) {
		name, value, ok := strings.Cut(line, ":")
		if name = strings.TrimSpace(name); !ok || name == "" {
			return nil, errors.New("a line of CONNECT is not name:value")
		}
		headers = append(headers, stompHeader{name, strings.TrimSpace(value)})
	}
	return headers, nil
}

func valueOf(headers []stompHeader, name string) string {
	for _, h := range headers {
		if h.name == name {
			return h.value
		}
	}
	return ""
}

func withDefault(headers []stompHeader, name, value string) []stompHeader {
	for _, h := range headers {
		if h.name == name {
			return headers
		}
	}
	return append(headers, stompHeader{name, value})
}

// parseStompSub reads a line of SUBSCRIBE: destination {headers}.
func parseStompSub(line string) (stompSub, error) {
	destination, rest, _ := strings.Cut(line, " ")
	sub := stompSub{destination: destination, headers: map[string]string{}}
	if rest = strings.TrimSpace(rest); rest == "" {
		return sub, nil
	}
	headers, err := scalars(rest)
	if err != nil {
		return sub, fmt.Errorf("after the destination %w; write headers as {\"name\":\"value\"}", err)
	}
	for _, own := range []string{"id", "destination", "receipt"} {
		if _, set := headers[own]; set {
			return sub, fmt.Errorf("the header %s is the sidecar's own; leave it out", own)
		}
	}
	sub.headers = headers
	return sub, nil
}

// scalars reads a JSON object of scalars as texts.
func scalars(text string) (map[string]string, error) {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &raw); err != nil || raw == nil {
		return nil, errors.New("comes something that is not a JSON object")
	}
	out := make(map[string]string, len(raw))
	for name, value := range raw {
		var s string
		switch value[0] {
		case '"':
			if err := json.Unmarshal(value, &s); err != nil {
				return nil, err
			}
		case '{', '[':
			return nil, errors.New("comes an object with more than plain values in it")
		default:
			s = string(value)
		}
		out[name] = s
	}
	return out, nil
}

// checkStomp looks at the settings before anything is dialled.
func checkStomp(connect string, lines []string) error {
	var problems []error
	headers, err := stompHeaders(connect)
	if err != nil {
		problems = append(problems, badConnect("is not a list of headers; write one name:value a line, such as login:guest"))
	}
	if value := valueOf(headers, "heart-beat"); value != "" {
		if out, in, ok := strings.Cut(value, ","); !ok || !wholeMS(out) || !wholeMS(in) {
			problems = append(problems, badConnect("heart-beat is not two numbers of ms with a comma between, such as 10000,10000"))
		}
	}
	if len(lines) > maxStompSubs {
		problems = append(problems, badLine(maxStompSubs+1, "no more than %d subscriptions", maxStompSubs))
	}
	for i, line := range lines {
		sub, err := parseStompSub(line)
		if err != nil {
			problems = append(problems, badLine(i+1, "%v", err))
			continue
		}
		if ack := sub.headers["ack"]; ack != "" && ack != "auto" && ack != "client" && ack != "client-individual" {
			problems = append(problems, badLine(i+1, "ack is one of auto, client, client-individual"))
		}
	}
	return errors.Join(problems...)
}

func wholeMS(text string) bool {
	_, err := strconv.ParseUint(strings.TrimSpace(text), 10, 31)
	return err == nil
}
