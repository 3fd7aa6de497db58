package dialect

import (
	"encoding/json"
	"testing"
)

func TestJSONValues(t *testing.T) {
	text := "t"
	for want, v := range map[string]any{
		`null`:                                    nil,
		`["a",-1,2,true,null,{},[1]]`:             []any{"a", -1, uint64(2), true, nil, struct{}{}, json.RawMessage(" [ 1 ] ")},
		`{"a":"<","b":null,"\ufffd":[]}`:          map[string]any{"b": json.RawMessage(nil), "a": "<", "\xff": []string{}},
		`{"command":"pong"}`:                      cableCommand{Command: "pong"},
		`{"command":"message","data":"t"}`:        cableCommand{Command: "message", Data: &text},
		`{"type":"x","payload":{"a":"\u00e9 <"}}`: gqlMessage{Type: "x", Payload: json.RawMessage(`{ "a": "\u00e9 <" }`)},
	} {
		if got := string(jsonFrame(v).Data); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
