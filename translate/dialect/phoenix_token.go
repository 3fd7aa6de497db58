// This file is the tokens of Supabase Realtime's channels: a join has one in its params, and the push access_token replaces it in the running channel.
//
//	-> phx_join      {"access_token":"..",..}
//	-> access_token  {"access_token":".."}     which is not answered
//
// The rules:
//
//   - With each heartbeat SUBSCRIBE is filled in anew, as the client supabase-js asks for its token then. Where a line has another one than before, it is pushed.
//   - What a client, HELLO, REPLY or PING pushes is the channel's token from there on: the next join has it in the place of the line's, until the line has another one.
//   - All who read a stream get what its token lets see. So what a client pushes must be of the user that the line's token is of, by the sub of both, as these are
//     JWTs, which the server verifies; and a client joins no channel of a line anew.
//   - Where a join with a token that was pushed is refused, that is forgotten: the next one has the line's. Tokens are not saved.

package dialect

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"strings"

	"sidestream/translate"
)

// maxPhxToken bounds a token that is kept, in bytes.
const maxPhxToken = 16 << 10

const phxTokenEvent = "access_token"

// phxToken is what is known of a channel's token, over connections.
type phxToken struct {
	line   string // what the line had last
	pushed string // in its place; "" none
}

// phxTokenOf is the token in the params of a join or in a push, "" for none.
func phxTokenOf(payload json.RawMessage) string {
	var p struct {
		Token string `json:"access_token"`
	}
	if json.Unmarshal(payload, &p) != nil || len(p.Token) > maxPhxToken {
		return ""
	}
	return p.Token
}

// renewed takes the token that a line has now, and reports whether it is another one than before.
func (s *phoenix) renewed(topic, token string) bool {
	t := s.tokens[topic]
	switch {
	case t == nil:
		s.tokens[topic] = &phxToken{line: token}
		return false
	case t.line == token:
		return false
	}
	t.line, t.pushed = token, ""
	return true
}

// joins is a line's params with the token that the channel has.
func (s *phoenix) joins(topic string, params json.RawMessage) json.RawMessage {
	token := phxTokenOf(params)
	if token == "" {
		return params
	}
	s.renewed(topic, token)
	pushed := s.tokens[topic].pushed
	if pushed == "" {
		return params
	}
	var all map[string]json.RawMessage
	if json.Unmarshal(params, &all) != nil {
		return params
	}
	all[phxTokenEvent] = jsonString(pushed)
	object := map[string]any{}
	for name, value := range all {
		object[name] = value
	}
	return jsonFrame(object).Data
}

// noted takes a push of ours.
func (s *phoenix) noted(topic, event string, payload json.RawMessage) {
	if t := s.tokens[topic]; t != nil && event == phxTokenEvent {
		if token := phxTokenOf(payload); token != "" {
			t.pushed = token
		}
	}
}

// Admit refuses a token of another user than the stream's, by whatever way.
func (s *phoenix) Admit(m translate.Message) error {
	topic, rest := cutWord(string(m.Data))
	event, payload := cutWord(rest)
	switch {
	case s.channels[topic] == nil:
	case event == "phx_join":
		return errors.New("joins a channel that the stream has joined")
	case event == phxTokenEvent && s.tokens[topic] != nil:
		token, ok := phxTokenAlone(payload)
		if !ok {
			return errors.New(`is not a push of a token; write topic access_token {"access_token":".."}`)
		}
		if of := phxUser(s.tokens[topic].line); of == "" || phxUser(token) != of {
			return errors.New("the token is not of the user whose stream this is; open a stream with it")
		}
	}
	return nil
}

// phxTokenAlone is the token in the payload of a push that has nothing else in it: of two names that are alike servers may read another one.
func phxTokenAlone(payload string) (token string, ok bool) {
	d := json.NewDecoder(bytes.NewReader([]byte(payload)))
	var all [4]json.Token
	for i := range all {
		var err error
		if all[i], err = d.Token(); err != nil {
			return "", false
		}
	}
	_, err := d.Token()
	token, text := all[2].(string)
	return token, text && token != "" && len(token) <= maxPhxToken && all[0] == json.Delim('{') && all[1] == phxTokenEvent && all[3] == json.Delim('}') && err == io.EOF
}

// phxUser is whose a JWT says to be, "" for nobody's.
func phxUser(token string) string {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return ""
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	var claims map[string]any
	if err != nil || json.Unmarshal(text, &claims) != nil {
		return ""
	}
	return onlyString(claims["sub"])
}

func onlyString(v any) string {
	text, _ := v.(string)
	return text
}

// renew is the pushes of tokens that lines have by now.
func (s *phoenix) renew() (frames []Frame) {
	if len(s.tokens) == 0 || !s.ready {
		return nil
	}
	lines, err := s.Subscribe()
	if err != nil {
		return nil // the channel has what it has; the next connection tells
	}
	for _, line := range lines {
		topic, params, err := parseTopicLine(line, phxLineForm)
		if err != nil {
			return nil
		}
		c, token := s.channels[topic], phxTokenOf(params)
		if c != nil && token != "" && s.renewed(topic, token) {
			frames = append(frames, s.frame(c.ref, s.nextRef(), topic, phxTokenEvent, jsonFrame(map[string]any{phxTokenEvent: token}).Data))
		}
	}
	return frames
}

// denied is the error of a refused join. One whose token was pushed may be had with the line's.
func (s *phoenix) denied(topic string, err error) error {
	if t := s.tokens[topic]; t != nil && t.pushed != "" {
		pushed := t.pushed
		t.pushed = ""
		text := err.Error()
		if refused, ok := errors.AsType[*translate.Refused](err); ok {
			text = refused.Reason
		}
		return errors.New(without(text, []string{pushed, t.line}) + "; with the token that was pushed, which is forgotten")
	}
	return err
}
