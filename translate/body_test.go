package translate

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// body writes what comes of text in random pieces, with a proper end.
func body(contentType, format, text string, max int, random *rand.Rand) string {
	b := NewBody(contentType, format, max)
	out := inPieces(b, text, random)
	for _, m := range b.End() {
		word := fmt.Sprintf("%s#%s:%s", m.Event, m.ID, m.Data)
		if m.Gap != "" {
			word = "gap"
		}
		out += " " + strings.ReplaceAll(word, "\n", "|")
	}
	if b.Page() {
		out += " page"
	}
	return strings.TrimSpace(out)
}

func TestBody(t *testing.T) {
	const mixed = `multipart/mixed; boundary="-b"`
	for _, c := range []struct{ contentType, format, text, want string }{
		// The last record needs no line end.
		{"application/x-ndjson", "", "{\"a\":1}\n{\"a\":2}", `#:{"a":1} #:{"a":2}`},
		{"", "", "{\"a\":1}\n2", `#:{"a":1} #:2`},
		{"text/plain", "", "hello\nworld", "#:hello #:world"},
		{"text/plain", "", "dat", "#:dat"},
		{"application/json", "", `{"a":`, ""}, // cut short, of no use
		{"text/event-stream", "", "data: 1\n\ndata: 2\n", "#:1"},
		// A byte order mark decides nothing.
		{"application/x-ndjson", "", "\uFEFF{}\n[]\n", "#:{} #:[]"},
		{"text/event-stream", "", "\uFEFFdata: 1\n\n", "#:1"},
		{"text/event-stream", "", "\uFEFF\uFEFFdata: 1\n\ndata: 2\n\n", "#:2"},
		{"", "", "\uFEFF\r\n text\n", "#:text"},
		{"text/plain", "", "\uFEFF", ""},
		// Events under other types.
		{"text/plain", "", "event: x\nid: 5\ndata: 1\n\ndata: 2\n\n", "x#5:1 #:2"},
		{"application/json, text/event-stream", "", ": hi\n\ndata: {\"a\":1}\n\n", `#:{"a":1}`},
		{"application/json", "", "\n\nretry: 5\n\ndata: 1\n\n", "#:1"},
		{"", "", "data\n\n", "#:"},
		{"text/plain", "", "database: x\n", "#:database: x"},
		{"text/plain; charset=utf-8", "", "identity\nid\n", "#:identity #:id"},
		// JSON, however it is written.
		{"application/json", "", `{"a":1}{"a":"}{"}[1,[2]]`, `#:{"a":1} #:{"a":"}{"} #:[1,[2]]`},
		{"application/json", "", "{\n  \"a\": \"\\\"\"\n}\n{\n  \"a\": 2\n}\n", "#:{|  \"a\": \"\\\"\"|} #:{|  \"a\": 2|}"},
		{"application/vnd.x+json", "", "1 -2.5e3 true\"x\" null\n", `#:1 #:-2.5e3 #:true #:"x" #:null`},
		{"", "", "\x1e{}\n\x1e[]\n", "#:{} #:[]"},
		{"application/json", "", "{oops\n{\"a\":1}\n", `#:{oops #:{"a":1}`},
		{"application/json", "", "nope \"x\n\"y\"\n", `#:nope "x #:"y"`},
		{"application/json", "", "{\"a\":[1,2}\n{\"b\":1}\n", `#:{"a":[1,2} #:{"b":1}`}, // not what closes it
		{"application/json", "", "[[1}\n{\"b\":1}\n", `#:[[1} #:{"b":1}`},
		{"application/json", "", "[{\"a\":[1,{}]},\n {\"b\":\"],\"} , 3,[{}],\"x\",null\n]", `#:{"a":[1,{}]} #:{"b":"],"} #:3 #:[{}] #:"x" #:null`},
		{"", "", " [ \n {} \n,{\"a\":", "#:{}"}, // which never ends
		{"", "json", `[{}][{"a":1}] [] [[{}]] [ 1,{}]7`, `#:{} #:{"a":1} #:[] #:[[{}]] #:[ 1,{}] #:7`},
		{"", "", "[{oops} begun\n[{}", "#:[{oops} begun #:{}"},
		{"", "", "[{},{oops\n{\"a\":1},{}]\n[7,1]\n", `#:{} #:{oops #:{"a":1} #:{} #:[7,1]`},
		{"", "", "[" + strings.Repeat(" ", 60) + "{},{\"a\":\"" + strings.Repeat("x", 60) + "\"},{}]", "#:{} gap #:{}"},
		{"", "", "[INFO] begun\n{}\n", "#:[INFO] begun #:{}"},
		{"application/json", "", "{\"a\":\"" + strings.Repeat("x", 60) + "\"}{}" + strings.Repeat("y", 60) + "\n1\n", "gap #:{} gap #:1"},
		// A page.
		{"text/html; charset=utf-8", "", "{}\n", "page"},
		{"", "", " <!DOCTYPE HTML>\n", "page"},
		{"text/plain", "", "<html lang=en>", "page"},
		{"text/plain", "", "<htm", "#:<htm"},
		{"text/plain", "", "<price>1</price>\n", "#:<price>1</price>"},
		// Parts.
		{mixed, "", "\r\n---b\r\nContent-Type: application/json\r\n\r\n{\"a\":\r\n1}\r\n---b\r\n\r\n{}\r\n---b--\r\nrest", "#:{\"a\":||1} #:{}"},
		{mixed, "", "---b\n\nhello\nworld\n---b\nContent-Length: 3\n\nabc\n---b--\n", "#:hello|world #:abc"},
		{mixed, "", "---b\n\n" + strings.Repeat("x", 60) + "\n---b\n\ny", "gap #:y"},
		// FORMAT decides.
		{"text/html", "lines", "<p>\n{\n", "#:<p> #:{"},
		{"application/json", "lines", "data: x\n{}{}\n", "#:data: x #:{}{}"},
		{"text/plain", "sse", "data: 1\n\n{}\n\n", "#:1"},
		{"text/event-stream", "json", "{}{}\n", "#:{} #:{}"},
	} {
		for seed := range uint64(30) {
			got := body(c.contentType, c.format, c.text, 50, rand.New(rand.NewPCG(seed, 0)))
			if strings.ReplaceAll(got, "\r", "|") != c.want {
				t.Errorf("%s %s %q: %q, want %q", c.contentType, c.format, c.text, got, c.want)
				break
			}
		}
	}
}

// A value is a record as soon as it is complete, also in a part whose end comes with the next one.
func TestBodyAtOnce(t *testing.T) {
	b := NewBody("application/json", "", 100)
	if got := b.Next([]byte(`{"a":1}`)); len(got) != 1 {
		t.Errorf("%d records", len(got))
	}
	b = NewBody("application/json", "", 100) // of a list that may never end
	for _, piece := range []string{`[{"a":1}`, `,{"a":1}`, "\n,\n{\"a\":1}"} {
		if got := b.Next([]byte(piece)); len(got) != 1 || string(got[0].Data) != `{"a":1}` {
			t.Errorf("%d records", len(got))
		}
	}
	b = NewBody("multipart/mixed; boundary=b", "", 100)
	if got := b.Next([]byte("--b\r\n\r\n{\"a\":1}")); len(got) != 1 || string(got[0].Data) != `{"a":1}` {
		t.Errorf("%d records", len(got))
	}
	if got := b.Next([]byte("\r\n--b\r\n\r\n")); len(got) != 0 {
		t.Errorf("%d records", len(got))
	}
}

// Whatever the bytes and the pieces, what comes out is the same, and what is kept is bounded.
func FuzzBody(f *testing.F) {
	f.Add("application/json", "{\"a\":1}[]\n\"x\" 5 oops\n", uint64(1))
	f.Add("multipart/mixed; boundary=b", "--b\n\n{}\n--b\n\nx\n--b--", uint64(2))
	f.Add("multipart/mixed; boundary=b", "--b\n\n{0--b\n0", uint64(4))
	f.Add("application/json", "{\n\n\n\n\n\n\n\n\n\n", uint64(4))
	f.Add("", "data: x\n\n", uint64(3))
	f.Add("application/json", "[{},\n[1],{oops\n]\n[ {x\n[{},[{}]", uint64(5))
	f.Fuzz(func(t *testing.T, contentType, text string, seed uint64) {
		whole := body(contentType, "", text, 1000, rand.New(rand.NewPCG(0, 0)))
		if got := body(contentType, "", text, 1000, rand.New(rand.NewPCG(seed, 1))); got != whole {
			t.Fatalf("%q in other pieces: %q and %q", text, got, whole)
		}
		small := newJSONRecords(8).(*jsonRecords)
		for i := range len(text) {
			small.Next([]byte{text[i]})
			if len(small.buf) > 8+2 {
				t.Fatalf("%d bytes are kept", len(small.buf))
			}
		}
	})
}

// A body that is read verbatim keeps the names of its events, and the one that its end completes.
func TestVerbatimBody(t *testing.T) {
	for _, c := range []struct{ kind, format string }{{"text/event-stream", ""}, {"", FormatEvents}, {"application/octet-stream", ""}} {
		b := NewVerbatimBody(c.kind, c.format, 100)
		all := b.Next([]byte("event: message\ndata: 1\n\nevent: error\ndata: 2"))
		all = append(all, b.End()...)
		if len(all) != 2 || all[0].Event != "message" || all[1].Event != "error" || string(all[1].Data) != "2" {
			t.Errorf("%v: %+v", c, all)
		}
	}
	b := NewVerbatimBody("application/x-ndjson", "", 100)
	if all := append(b.Next([]byte("{\"a\":1}\n{\"b\"")), b.End()...); len(all) != 2 {
		t.Errorf("lines: %+v", all)
	}
	for kind, want := range map[string]bool{"text/event-stream; charset=utf-8": true, "application/x-ndjson": true, "application/json": false, "text/html": false, "": false} {
		if IsEvents(kind) != want {
			t.Errorf("%s: %v", kind, !want)
		}
	}
}
