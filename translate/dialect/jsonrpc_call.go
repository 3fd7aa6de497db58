// This file is what is asked of a JSON-RPC service: lines of SUBSCRIBE, and what HELLO and clients send.

package dialect

import (
	"bytes"
	"encoding/json"
	"errors"
	"regexp"
	"strings"
	"unicode/utf8"

	"sidestream/translate"
)

// rpcCall is a line of SUBSCRIBE, or what a client asks for.
type rpcCall struct {
	topic  string // the line's name, else the method and its params
	method string
	params json.RawMessage // a list or an object; nil: none
}

const rpcLineForm = `write name=method and its params as JSON: heads=eth_subscribe ["newHeads"]; name= and the params may be left out`

var rpcName = regexp.MustCompile(`^([A-Za-z0-9_.:/-]+)=`)

// parseRPCLine reads a line of SUBSCRIBE.
func parseRPCLine(line string) (c rpcCall, err error) {
	if m := rpcName.FindStringSubmatch(strings.TrimSpace(line)); m != nil {
		c, err = parseRPCCall(strings.TrimSpace(line)[len(m[0]):])
		c.topic = m[1]
		return c, err
	}
	return parseRPCCall(line)
}

// parseRPCCall reads a method and its params.
func parseRPCCall(line string) (c rpcCall, err error) {
	var rest string
	c.method, rest = cutWord(line)
	if c.method == "" || strings.ContainsAny(c.method, `[]{}"=`) {
		return c, errors.New("has no method; " + rpcLineForm)
	}
	c.topic = c.method
	if rest == "" {
		return c, nil
	}
	var compact bytes.Buffer
	if rest[0] != '[' && rest[0] != '{' || json.Compact(&compact, []byte(rest)) != nil {
		return c, errors.New("has params that are neither a list nor an object; " + rpcLineForm)
	}
	c.params = compact.Bytes()
	c.topic += " " + compact.String()
	return c, nil
}

func checkJSONRPC(_ string, lines []string) error {
	var problems []error
	for i, line := range lines {
		if _, err := parseRPCLine(line); err != nil {
			problems = append(problems, badLine(i+1, "%v", err))
		}
	}
	return errors.Join(problems...)
}

// frame is the call with an id.
func (c rpcCall) frame(id int) Frame {
	return jsonFrame(struct {
		JSONRPC string          `json:"jsonrpc"`
		ID      int             `json:"id"`
		Method  string          `json:"method"`
		Params  json.RawMessage `json:"params,omitempty"`
	}{"2.0", id, c.method, c.params})
}

const rpcSendForm = `a message to a JSON-RPC service is a method and its params, net_version [], or a complete message, {"jsonrpc":"2.0","id":"mine","method":".."}, or a list of such`

// Send calls a method, or takes messages as they are: one without id is a notification, and the answer to another is an event.
func (s *jsonrpc) Send(m translate.Message) ([]Frame, error) {
	text := bytes.TrimSpace(m.Data)
	if !utf8.Valid(text) || len(text) == 0 {
		return nil, errors.New(rpcSendForm)
	}
	if text[0] != '{' && text[0] != '[' {
		c, err := parseRPCCall(string(text))
		if err != nil {
			return nil, errors.New(rpcSendForm)
		}
		s.calls++
		return s.await(c.frame(s.calls).Data, false)
	}
	var out bytes.Buffer
	if json.Compact(&out, text) != nil {
		return nil, errors.New(rpcSendForm)
	}
	return s.await(out.Bytes(), true)
}

// await is the frame of text. It notes which calls are in it, and whether their answers are events. The answers to those over the bound are not looked at.
func (s *jsonrpc) await(text []byte, shown bool) ([]Frame, error) {
	all, err := rpcMessages(Frame{Data: text})
	if err != nil || len(all) == 0 {
		return nil, errors.New(rpcSendForm)
	}
	calls := map[string]rpcOwn{}
	for _, one := range all {
		var m rpcMessage
		if !isObject(one) || json.Unmarshal(one, &m) != nil || m.Method == "" && m.Result == nil && m.Error == nil {
			return nil, errors.New(rpcSendForm)
		}
		if m.Method != "" && m.ID != nil && !isNull(m.ID) && len(m.ID) <= maxRPCID && len(m.Method) <= maxRPCID {
			calls[string(m.ID)] = rpcOwn{strings.Clone(m.Method), shown}
		}
	}
	for id, call := range calls {
		if len(s.own) < maxRPCCalls {
			s.own[id] = call
		}
	}
	return []Frame{{Data: text}}, nil
}
