package sse

import (
	"bytes"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/tmaxmax/go-sse"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAppendEventData(t *testing.T) {
	for name, test := range map[string]struct{ data, want string }{
		"one line":              {"a", "data: a\n\n"},
		"empty":                 {"", "data: \n\n"},
		"LF":                    {"a\nb", "data: a\ndata: b\n\n"},
		"CR":                    {"a\rb", "data: a\ndata: b\n\n"},
		"CRLF is one end":       {"a\r\nb", "data: a\ndata: b\n\n"},
		"LFCR is two":           {"a\n\rb", "data: a\ndata: \ndata: b\n\n"},
		"CRCRLF is two":         {"a\r\r\nb", "data: a\ndata: \ndata: b\n\n"},
		"at the end":            {"a\n", "data: a\ndata: \n\n"},
		"CR at the end":         {"a\r", "data: a\ndata: \n\n"},
		"CRLF at the end":       {"a\r\n", "data: a\ndata: \n\n"},
		"only ends":             {"\n\n", "data: \ndata: \ndata: \n\n"},
		"leading space":         {" a", "data:  a\n\n"},
		"a field of its own":    {"a\nid: 7\nevent: x\n\nretry: 1", "data: a\ndata: id: 7\ndata: event: x\ndata: \ndata: retry: 1\n\n"},
		"NUL stays":             {"a\x00b", "data: a\x00b\n\n"},
		"invalid UTF-8":         {"a\xffb", "data: a\uFFFDb\n\n"},
		"a cut character":       {"\xe2\x82\nb", "data: \uFFFD\ndata: b\n\n"},
		"separators stay":       {"a\u2028b\u2029c\u0085d", "data: a\u2028b\u2029c\u0085d\n\n"},
		"a byte order mark too": {"\uFEFFa", "data: \uFEFFa\n\n"},
	} {
		if got := string(AppendEvent(nil, "", "", []byte(test.data))); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

func TestAppendEventName(t *testing.T) {
	long := strings.Repeat("n", maxName)
	for name, want := range map[string]string{
		"":                                    "",
		"price":                               "price",
		"a:b c":                               "a:b c",
		" price":                              " price",
		"a\r\nid: 7":                          "aid: 7",
		"a\x00b\rc\nd":                        "abcd",
		"\n":                                  "",
		"error":                               "_error",
		"open":                                "_open",
		"stream.gap":                          "_stream.gap",
		"stream.":                             "_stream.",
		"stream":                              "stream",
		"Error":                               "Error",
		"errors":                              "errors",
		"er\nror":                             "_error",
		"o\x00pen":                            "_open",
		"str\ream.gap":                        "_stream.gap",
		"a\xff":                               "a\uFFFD",
		long + "x":                            long,
		long[1:] + "é":                        long[1:],
		"stream." + long:                      "_stream." + long[len("stream."):],
		strings.Repeat("\n", maxName) + "end": "end",
	} {
		want := want
		if want != "" {
			want = "event: " + want + "\n"
		}
		if got := string(AppendEvent(nil, "7", name, []byte("d"))); got != want+"data: d\nid: 7\n\n" {
			t.Errorf("name %q: %q", name, got)
		}
	}
}

func TestAppendExactBytes(t *testing.T) {
	for name, test := range map[string]struct{ got, want string }{
		"gap known":        {string(AppendGap(nil, "b-1", "evicted", 7)), "event: stream.gap\ndata: {\"reason\":\"evicted\",\"missed\":7}\nid: b-1\n\n"},
		"gap of none":      {string(AppendGap(nil, "b-1", "evicted", 0)), "event: stream.gap\ndata: {\"reason\":\"evicted\",\"missed\":0}\nid: b-1\n\n"},
		"gap unknown":      {string(AppendGap(nil, "b-1", "restart", -1)), "event: stream.gap\ndata: {\"reason\":\"restart\",\"missed\":null}\nid: b-1\n\n"},
		"gap upstream":     {string(AppendGap(nil, "b-1", "upstream", -1)), "event: stream.gap\ndata: {\"reason\":\"upstream\",\"missed\":null}\nid: b-1\n\n"},
		"refused":          {string(AppendRefused(nil, "b-1", 403)), "event: stream.refused\ndata: {\"status\":403}\nid: b-1\n\n"},
		"busy":             {string(AppendBusy(nil, "b-1")), "event: stream.busy\ndata: {}\nid: b-1\n\n"},
		"open":             {string(AppendOpen(nil, "b-1")), "event: stream.open\ndata: {}\nid: b-1\n\n"},
		"cut":              {string(AppendCut(nil, "b-1")), ":\nevent: stream.cut\nid: b-1\n\n"},
		"cut without id":   {string(AppendCut(nil, "")), ":\nevent: stream.cut\nid:\n\n"},
		"cut, hostile id":  {string(AppendCut(nil, "1\n\ndata: x")), ":\nevent: stream.cut\nid:\n\n"},
		"busy without id":  {string(AppendBusy(nil, "")), "event: stream.busy\ndata: {}\n\n"},
		"busy, hostile id": {string(AppendBusy(nil, "1\nevent: x")), "event: stream.busy\ndata: {}\n\n"},
		"retry":            {string(AppendRetry(nil, 3*time.Second)), "retry: 3000\n"},
		"retry, rounded":   {string(AppendRetry(nil, 2873999*time.Microsecond)), "retry: 2873\n"},
		"heartbeat":        {Heartbeat, ":\n"},
		"appended":         {string(AppendRetry([]byte("x"), 0)), "xretry: 0\n"},
	} {
		if test.got != test.want {
			t.Errorf("%s: %q, want %q", name, test.got, test.want)
		}
	}
}

func TestValidID(t *testing.T) {
	for id, want := range map[string]bool{
		"": false, "7": true, "azAZ09._~:-": true, strings.Repeat("i", 128): true, strings.Repeat("i", 129): false,
		"a b": false, "a\n": false, "a\x00": false, "é": false, "a/b": false, `a"b`: false, "a,b": false, "{7}": false,
	} {
		if ValidID(id) != want {
			t.Errorf("ValidID(%q) is %v", id, !want)
		}
	}
}

// parsed is what an independent parser makes of b.
func parsed(t *testing.T, b []byte) []sse.Event {
	t.Helper()
	var events []sse.Event
	for e, err := range sse.Read(bytes.NewReader(b), &sse.ReadConfig{MaxEventSize: len(b) + 1<<16}) {
		if err != nil {
			t.Fatalf("%q: %v", b, err)
		}
		events = append(events, e)
	}
	return events
}

// received is what a client must get for data.
func received(data string) string {
	return strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(strings.ToValidUTF8(data, "\uFFFD"))
}

func FuzzAppendEvent(f *testing.F) {
	f.Add("7", "price", []byte(`{"a":1}`))
	f.Add("", "", []byte(""))
	f.Add("a\nb", "er\rror", []byte("a\r\n\rb\xff"))
	f.Add("x-1", "stream.gap\x00", []byte("data: x\n\nid: 8\n\n"))
	f.Add("1", strings.Repeat("é", 200), []byte("\uFEFF \u2028"))
	f.Fuzz(func(t *testing.T, id, name string, data []byte) {
		if !ValidID(id) {
			id = "fallback"
		}
		given := bytes.Clone(data)
		out := AppendEvent([]byte("before"), id, name, data)
		if !bytes.Equal(given, data) {
			t.Fatal("the data was written to")
		}
		out, ok := bytes.CutPrefix(out, []byte("before"))
		if !ok || !utf8.Valid(out) || bytes.ContainsRune(out, '\r') {
			t.Fatalf("%q", out)
		}
		// After another event, so that a field that escapes is seen in its neighbour.
		events := parsed(t, append(append([]byte("id: first\ndata: first\n\n"), out...), "data: last\n\n"...))
		if len(events) != 3 {
			t.Fatalf("%d events of %q", len(events), out)
		}
		if e := events[1]; e.LastEventID != id || e.Data != received(string(data)) || e.Type != cleanName(name) {
			t.Fatalf("%+v of id %q, name %q, data %q", e, id, name, data)
		}
		if e := events[2]; e.LastEventID != id || e.Data != "last" || e.Type != "" {
			t.Fatalf("the event after %q is %+v", out, e)
		}
		checkName(t, name, events[1].Type)
	})
}

// checkName holds a cleaned name against what the name was, without knowing how it was cleaned.
func checkName(t *testing.T, given, name string) {
	t.Helper()
	if strings.ContainsAny(name, "\r\n\x00") || len(name) > maxName+1 {
		t.Fatalf("name %q", name)
	}
	if name == "error" || name == "open" || strings.HasPrefix(name, "stream.") {
		t.Fatalf("name %q of %q is reserved", name, given)
	}
	if harmless := utf8.ValidString(given) && !strings.ContainsAny(given, "\r\n\x00") && len(given) <= maxName; harmless && strings.TrimPrefix(name, "_") != strings.TrimPrefix(given, "_") {
		t.Fatalf("name %q became %q", given, name)
	}
}

func BenchmarkAppendEvent(b *testing.B) {
	data := []byte(`{"symbol":"ACME","price":101.25,"volume":12000,"at":"2026-11-22T10:00:00Z"}`)
	var dst []byte
	b.ReportAllocs()
	for b.Loop() {
		dst = AppendEvent(dst[:0], "1234567890123456789-42", "price", data)
	}
}

func BenchmarkAppendEventLarge(b *testing.B) {
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<12)
	var dst []byte
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		dst = AppendEvent(dst[:0], "1234567890123456789-42", "", data)
	}
}
