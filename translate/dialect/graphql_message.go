package dialect

import (
	"bytes"
	"encoding/json"
)

// gqlMessage is any message, both ways.
type gqlMessage struct {
	ID      gqlID           `json:"id,omitempty"`
	Type    string          `json:"type"`
	Payload json.RawMessage `json:"payload,omitempty"`
}

func (m gqlMessage) frame() Frame { return jsonFrame(m) }

// gqlID is an operation's id. Servers of the older dialect may take it for a number and send it back as one.
type gqlID string

// UnmarshalJSON takes a string, or a number as it is written.
func (id *gqlID) UnmarshalJSON(data []byte) error {
	var n json.Number // takes both, but only strings that hold numbers
	if data[0] != '"' && json.Unmarshal(data, &n) == nil {
		*id = gqlID(n)
		return nil
	}
	return json.Unmarshal(data, (*string)(id))
}

// orNullJSON is a copy of value, null when there is none.
func orNullJSON(value json.RawMessage) json.RawMessage {
	if len(value) == 0 {
		return json.RawMessage("null")
	}
	return bytes.Clone(value)
}

func isNull(value json.RawMessage) bool { return len(value) == 0 || string(value) == "null" }
