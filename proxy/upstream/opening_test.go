package upstream

import "testing"

func TestShownToPeople(t *testing.T) {
	for want, s := range map[string]SourceSettings{
		"sends 2, waits, asks POST http://h/auth?k=…, computes, asks GET https://x/, may refuse, may reconnect": {From: "ws://h/", Hello: "> a\n> b\n< .x\n@ X-A: secret\n@ http://h/auth?k=secret\n= .\n@ GET https://x/\n! .a\n~ .b"},
		"": {From: "ws://h/"},
	} {
		if got := compiled(t, s).Opening(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	for want, s := range map[string]SourceSettings{
		"changes, every 2s": {From: "http://h/", Every: 2e9},
		"every, the next request at once after each answer": {From: "http://h/?c={stream.cursor}", Cursor: ".c"},
		"stream, reads an answer that never ends":           {From: "http://h/", Mode: ModeStream},
		"": {From: "ws://h/"},
	} {
		if got := compiled(t, s).Mode(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
