// This file is what is asked of a hub: lines of SUBSCRIBE, and what HELLO and clients send.

package dialect

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"unicode/utf8"

	"sidestream/translate"
)

// hubCall is what a line of SUBSCRIBE, or a client's message, asks for.
type hubCall struct {
	stream bool
	method string
	args   json.RawMessage // a JSON array
}

const hubLineForm = `write Method or Method [arguments as JSON], after the word stream for a method that streams`

// parseHubCall reads a line of SUBSCRIBE.
func parseHubCall(line string) (c hubCall, err error) {
	word, rest := cutWord(line)
	if word == "stream" && rest != "" && rest[0] != '[' {
		c.stream = true
		word, rest = cutWord(rest)
	}
	c.method, c.args = word, json.RawMessage("[]")
	if c.method == "" || strings.ContainsAny(c.method, `[]{}"`) {
		return c, errors.New("has no method; " + hubLineForm)
	}
	if rest != "" {
		c.args = json.RawMessage(rest)
	}
	if c.args[0] != '[' || !json.Valid(c.args) {
		return c, errors.New("has arguments that are no JSON array; " + hubLineForm)
	}
	return c, nil
}

func checkSignalR(_ string, lines []string) error {
	var problems []error
	for i, line := range lines {
		if _, err := parseHubCall(line); err != nil {
			problems = append(problems, badLine(i+1, "%v", err))
		}
	}
	return errors.Join(problems...)
}

// frame is the record of c, without invocation id if that is "".
func (c hubCall) frame(id string) Frame {
	kind := hubInvocation
	if c.stream {
		kind = hubStreamInvocation
	}
	record := jsonFrame(struct {
		Type         int             `json:"type"`
		InvocationID string          `json:"invocationId,omitempty"`
		Target       string          `json:"target"`
		Arguments    json.RawMessage `json:"arguments"`
	}{kind, id, c.method, c.args})
	return Frame{Data: append(record.Data, hubSeparator)}
}

const hubSendForm = `a message to a hub is a record, {"type":1,"target":..,"arguments":[..]}, or Method [arguments as JSON]`

// Send takes a record, or a method with its arguments, for which no completion is requested.
func (s *signalr) Send(m translate.Message) ([]Frame, error) {
	text := bytes.TrimSpace(m.Data)
	if !utf8.Valid(text) {
		return nil, errors.New(hubSendForm)
	}
	if len(text) == 0 || text[0] != '{' {
		c, err := parseHubCall(string(text))
		if err != nil {
			return nil, errors.New(hubSendForm)
		}
		if c.stream {
			return nil, errors.New("streams are begun by SUBSCRIBE, or by a record of type 4")
		}
		return []Frame{c.frame("")}, nil
	}
	var r struct{ Type *int }
	if json.Unmarshal(text, &r) != nil || r.Type == nil {
		return nil, errors.New(hubSendForm)
	}
	var out bytes.Buffer
	if err := json.Compact(&out, text); err != nil {
		return nil, errors.New(hubSendForm)
	}
	out.WriteByte(hubSeparator)
	return []Frame{{Data: out.Bytes()}}, nil
}
