package dialect

import (
	"encoding/json"
	"errors"
	"strings"
	"unicode/utf8"

	"sidestream/translate"
)

// bayeuxMessage is what a server may say.
type bayeuxMessage struct {
	Channel      string
	ID           json.RawMessage
	Successful   *bool
	ClientID     string `json:"clientId"`
	Subscription json.RawMessage
	Error        string
	Data         json.RawMessage
	Advice       *bayeuxAdvice
	Ext          struct {
		Ack    json.RawMessage
		Replay json.RawMessage
	}
}

// id is that of the message which this answers; "" where it says none.
func (m bayeuxMessage) id() string {
	if string(m.ID) == "null" {
		return ""
	}
	return strings.Trim(string(m.ID), `"`)
}

type bayeuxAdvice struct {
	Reconnect         string
	Interval, Timeout json.Number
}

const bayeuxSendForm = "a message to a Bayeux server is a channel and its data in JSON: /orders {\"id\":1}"

// Send publishes.
func (s *bayeux) Send(m translate.Message) ([]Frame, error) {
	channel, data := cutWord(string(m.Data))
	if !strings.HasPrefix(channel, "/") || strings.HasPrefix(channel, bayeuxMeta) || strings.Contains(channel, "*") || !utf8.Valid(m.Data) || !json.Valid([]byte(data)) {
		return nil, errors.New(bayeuxSendForm)
	}
	return []Frame{s.message(channel, map[string]any{"data": json.RawMessage(data)})}, nil
}
