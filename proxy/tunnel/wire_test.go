package tunnel

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"sidestream/translate/sse"
)

// decoded is what a page makes of an event's bytes.
func decoded(t *testing.T, data []byte) (n int, kind string, rest []any) {
	t.Helper()
	block := string(sse.AppendEvent(nil, "", "", data))
	if strings.Count(block, "\n") != 2 || strings.ContainsRune(block, '\r') {
		t.Fatalf("not one line of data: %q", block)
	}
	_, line, _ := strings.Cut(strings.TrimSuffix(block, "\n\n"), "data: ")
	var e []any
	if err := json.Unmarshal([]byte(line), &e); err != nil || len(e) < 3 {
		t.Fatalf("%q: %v", line, err)
	}
	return int(e[0].(float64)), e[1].(string), e[2:]
}

func FuzzText(f *testing.F) {
	for _, s := range []string{"", "a", "a\rb\nc\r\n", "\x00\x1f\x7f\"\\/", "\u2028\u2029\ufeff", "é😀", "\\u0041", "</script>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if !utf8.ValidString(s) {
			return // comes in no text message
		}
		n, kind, rest := decoded(t, appendText(nil, 7, []byte(s)))
		if n != 7 || kind != textKind || len(rest) != 1 || rest[0] != s {
			t.Errorf("%q becomes %d %s %q", s, n, kind, rest)
		}
		if _, _, rest := decoded(t, appendOpen(nil, 7, s)); rest[0] != s {
			t.Errorf("protocol %q becomes %q", s, rest)
		}
	})
}

func FuzzBinary(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0, 1, 0xff, '\r', '\n'})
	f.Fuzz(func(t *testing.T, b []byte) {
		_, kind, rest := decoded(t, appendBinary(nil, maxNumber, b))
		got, err := base64.StdEncoding.DecodeString(rest[0].(string))
		if err != nil || kind != binaryKind || !bytes.Equal(got, b) {
			t.Errorf("%x becomes %s %x, %v", b, kind, got, err)
		}
	})
}

func TestCloseEvent(t *testing.T) {
	_, kind, rest := decoded(t, appendClose(nil, 1, ending{4000, "a\"\n\xff", true, 0}))
	if kind != closeKind || fmt.Sprint(rest) != "[4000 a\"\n\uFFFD true 0]" {
		t.Errorf("%s %q", kind, rest)
	}
	if got := string(appendClose(nil, 2, ending{code: 1006, status: 403})); got != `[2,"close",1006,"",false,403]` {
		t.Error(got)
	}
	if got := string(appendPage(nil, 512, 30*time.Second, "")); got != `[0,"page",512,30000,"",1]` {
		t.Error(got)
	}
}

// drip gives one byte at a time.
type drip struct{ io.Reader }

func (d drip) Read(p []byte) (int, error) { return d.Reader.Read(p[:min(1, len(p))]) }

func FuzzFrames(f *testing.F) {
	f.Add([]byte("hello"), []byte{0, 0xff, '\n'}, "bye", uint16(4000))
	f.Add([]byte(""), []byte("t5\nabcde"), "", uint16(1000))
	f.Fuzz(func(t *testing.T, text, bin []byte, reason string, code uint16) {
		reason = strings.ToValidUTF8(reason, "")
		if !utf8.Valid(text) || len(reason) > maxReason || code < 3000 || code > 4999 {
			return
		}
		bye := fmt.Sprintf("%d %s", code, reason)
		body := fmt.Sprintf("t%d\n%sb%d\n%sc%d\n%s", len(text), text, len(bin), bin, len(bye), bye)
		in := bufio.NewReader(drip{strings.NewReader(body)})
		var buf bytes.Buffer
		for _, want := range []frame{{kind: 't', data: text}, {kind: 'b', data: bin}, {kind: 'c', data: []byte(bye), code: int(code), reason: reason}} {
			got, err := readFrame(in, &buf, 1<<20)
			if err != nil || got.kind != want.kind || !bytes.Equal(got.data, want.data) || got.code != want.code || got.reason != want.reason {
				t.Fatalf("got %+v, %v, want %+v", got, err, want)
			}
		}
		if _, err := readFrame(in, &buf, 1<<20); err != io.EOF {
			t.Errorf("after the last: %v", err)
		}
	})
}

// Whatever comes, reading ends, and keeps no more than came.
func FuzzBody(f *testing.F) {
	f.Add([]byte("{\"page\":\"x\",\"tunnel\":1,\"seq\":1}\nt1\na"))
	f.Add([]byte("{\"page\":\"x\",\"tunnel\":1,\"open\":[]}\nb2147483647\na"))
	f.Add([]byte("t\xff\n"))
	f.Fuzz(func(t *testing.T, body []byte) {
		in := bufio.NewReader(bytes.NewReader(body))
		if _, _, err := readHeader(in); err != nil {
			return
		}
		var buf bytes.Buffer
		for range len(body) + 1 {
			f, err := readFrame(in, &buf, 1<<31-1)
			if err != nil {
				if buf.Cap() > 2*len(body)+1024 {
					t.Errorf("%d bytes kept for a body of %d", buf.Cap(), len(body))
				}
				return
			}
			if f.kind != binaryFrame && !utf8.Valid(f.data) {
				t.Errorf("text that is none: %q", f.data)
			}
		}
		t.Error("no end")
	})
}

func TestFrameBounds(t *testing.T) {
	for body, want := range map[string]error{
		"t4\nabcd": nil, "t5\nabcde": errTooLarge, "b5\n": errTooLarge, "b2147483648\n": errMalformed, "x1\na": errMalformed, "t01\na": nil,
		"t\n": errMalformed, "t 1\na": errMalformed, "t12345678901\n": errMalformed, "t2\na": io.ErrUnexpectedEOF, "t2": io.ErrUnexpectedEOF,
		"c0\n": nil, "c5\n1000 ": nil, "c4\n1000": errMalformed, "c5\n1002 ": errMalformed, "c5\n5000 ": errMalformed, "c5\n1001 ": nil,
		"c129\n" + strings.Repeat("x", 129): errMalformed, "t1\n\xff": errMalformed, "b1\n\xff": nil,
	} {
		var buf bytes.Buffer
		if _, err := readFrame(bufio.NewReader(strings.NewReader(body)), &buf, 4); !errors.Is(err, want) {
			t.Errorf("%.20q: %v, want %v", body, err, want)
		}
	}
}

func TestUnder(t *testing.T) {
	for _, c := range []struct {
		path, prefix string
		want         bool
	}{
		{"/socket", "/socket", true}, {"/socket/", "/socket", true}, {"/socket/a//b", "/socket", true}, {"/socket", "/socket/", true},
		{"/socketry", "/socket", false}, {"/Socket", "/socket", false}, {"/a/socket", "/socket", false}, {"/sock", "/socket", false},
		{"/", "/", true}, {"//a", "/", true}, {"/a|b", "/", true}, {"/a.b/..c/...", "/", true},
		{"/socket/../admin", "/socket", false}, {"/socket/..", "/socket", false}, {"/socket/./a", "/socket", false},
		{"/socket/%2E%2e/admin", "/socket", false}, {"/socket/..%2fadmin", "/socket", false}, {"/socket/..;x=1/admin", "/socket", false},
		{`/socket/..\admin`, "/socket", false}, {"/socket%5c..%5cadmin", "/socket", false}, {"/socket/%zz", "/socket", false},
	} {
		if got := Under(c.path, c.prefix); got != c.want {
			t.Errorf("%s under %s: %v", c.path, c.prefix, got)
		}
	}
}
