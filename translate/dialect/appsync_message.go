package dialect

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"sidestream/translate"
)

// appSyncMessage is any message of the server's. GraphQL has in payload what Events have beside it.
type appSyncMessage struct {
	ID                  gqlID
	Type                string
	Payload             json.RawMessage
	Errors              json.RawMessage
	Event               json.RawMessage
	ConnectionTimeoutMs json.RawMessage
}

// silence is for how long a server that is alive may say nothing.
func (m appSyncMessage) silence() time.Duration {
	var in struct{ ConnectionTimeoutMs json.RawMessage }
	if m.ConnectionTimeoutMs == nil && json.Unmarshal(m.Payload, &in) == nil {
		m.ConnectionTimeoutMs = in.ConnectionTimeoutMs
	}
	var millis float64
	if json.Unmarshal(m.ConnectionTimeoutMs, &millis) != nil || millis <= 0 {
		return appSyncSilence
	}
	millis = min(millis, float64(appSyncMaxSilence/time.Millisecond))
	return max(time.Duration(millis)*time.Millisecond, appSyncMinSilence)
}

// maxAppSyncEvents bounds the events in one message; those after them are skipped. A publish has five at most.
const maxAppSyncEvents = 10000

// events are the payloads of a message of Events': it is a JSON text, or a list of them, of which there may be more than are read.
func (m appSyncMessage) events() (texts [][]byte, more bool) {
	var list []json.RawMessage
	if json.Unmarshal(m.Event, &list) != nil {
		list = []json.RawMessage{m.Event}
	}
	for _, one := range list[:min(len(list), maxAppSyncEvents)] {
		var text string
		switch {
		case isNull(one):
		case one[0] == '"' && json.Unmarshal(one, &text) == nil:
			texts = append(texts, []byte(text))
		default:
			texts = append(texts, bytes.Clone(one))
		}
	}
	return texts, len(list) > maxAppSyncEvents
}

// appSyncRequest is a message to Events.
type appSyncRequest struct {
	ID            string               `json:"id"`
	Type          string               `json:"type"`
	Channel       string               `json:"channel"`
	Events        []string             `json:"events,omitempty"`
	Authorization appSyncAuthorization `json:"authorization"`
}

// appSyncPublication is what is signed of it, byte for byte as the client's JSON.stringify writes it.
type appSyncPublication struct {
	Channel string            `json:"channel"`
	Events  []json.RawMessage `json:"events,omitempty"`
}

// stringified is text as JSON in which, other than elsewhere here, U+2028 and U+2029 are not escaped.
func stringified(text string) json.RawMessage {
	out := []byte{'"'}
	for text != "" {
		n := strings.IndexAny(text, "\u2028\u2029")
		if n < 0 {
			n = len(text)
		}
		quoted := jsonString(text[:n])
		out = append(out, quoted[1:len(quoted)-1]...)
		if text = text[n:]; text != "" {
			out, text = append(out, text[:3]...), text[3:]
		}
	}
	return append(out, '"')
}

const appSyncSendForm = "write a channel and JSON: /default/news {\"text\":\"hello\"}"

func (s *appSync) Send(m translate.Message) ([]Frame, error) {
	if !s.acked {
		return nil, errors.New("not connected")
	}
	if !s.at.events {
		return nil, errors.New("AppSync takes subscriptions alone over its WebSocket, which SUBSCRIBE holds; send mutations to its API over HTTP")
	}
	channel, data := cutWord(string(m.Data))
	if !utf8.Valid(m.Data) || appSyncChannel(channel) != nil || strings.HasSuffix(channel, "*") || !json.Valid([]byte(data)) {
		return nil, errors.New(appSyncSendForm)
	}
	body := jsonFrame(appSyncPublication{channel, []json.RawMessage{stringified(data)}}).Data
	s.sent++
	return []Frame{jsonFrame(appSyncRequest{"s" + strconv.Itoa(s.sent), "publish", channel, []string{data}, s.authorized(body, s.time())})}, nil
}
