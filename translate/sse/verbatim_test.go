package sse

import (
	"strings"
	"testing"
)

func TestAppendVerbatim(t *testing.T) {
	for name, want := range map[string]string{
		"error": "error", "open": "open", "message": "message", "stream.delta": "stream.delta", "_x": "_x", "": "",
		"stream.gap": "_stream.gap", "stream.refused": "_stream.refused", "stream.open": "_stream.open", "stream.heartbeat": "_stream.heartbeat",
		"a\nid: 7\r\x00": "aid: 7", "stream.\ngap": "_stream.gap", "é": "é", "\xff": "\uFFFD",
	} {
		field := ""
		if want != "" {
			field = "event: " + want + "\n"
		}
		if got := string(AppendVerbatim(nil, "1-2", name, []byte("a\nb"))); got != field+"data: a\ndata: b\nid: 1-2\n\n" {
			t.Errorf("%q: %q", name, got)
		}
		if got := string(AppendVerbatim(nil, "", name, nil)); got != field+"data:\n\n" {
			t.Errorf("%q without data: %q", name, got)
		}
	}
	if got := string(AppendVerbatim(nil, "1-2", strings.Repeat("x", 300), nil)); len(got) > 300 {
		t.Errorf("%d bytes", len(got))
	}
}

// What was written verbatim is read so, and a name that means the same as none is told from it.
func TestDecodeVerbatim(t *testing.T) {
	for verbatim, want := range map[bool]string{true: "message|error|", false: "|error|"} {
		d := NewDecoder(100)
		if verbatim {
			d.Verbatim()
		}
		var names []string
		d.Decode([]byte("event: message\ndata: 1\n\nevent: error\ndata: 2\n\ndata: 3\n\n"), func(e Event) { names = append(names, e.Name) })
		if got := strings.Join(names, "|"); got != want {
			t.Errorf("%v: %q, want %q", verbatim, got, want)
		}
	}
}
