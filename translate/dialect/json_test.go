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

// A setting that is an object has nothing after it, not even a bracket.
func TestNothingAfterConnect(t *testing.T) {
	for name, check := range map[string]func(connect string) error{
		"wamp":    func(connect string) error { _, err := parseWampLogin(connect); return err },
		"mqtt":    func(connect string) error { _, _, err := readMQTT(connect); return err },
		"nats":    func(connect string) error { _, err := readNATS(connect); return err },
		"appsync": func(connect string) error { _, err := parseAppSync(connect); return err },
		"parse":   func(connect string) error { _, err := parseConnect(connect); return err },
	} {
		fine := map[string]string{"wamp": `{"realm":"r"}`, "mqtt": `{"username":"u"}`, "nats": `{"user":"u","pass":"p"}`, "appsync": `{"apiKey":"k"}`, "parse": `{"applicationId":"a"}`}[name]
		if err := check(fine + " "); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, after := range []string{"}", "]", "x", "{}", ","} {
			if check(fine+after) == nil {
				t.Errorf("%s: %s%s is taken", name, fine, after)
			}
		}
	}
}
