package decode

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/tinylib/msgp/msgp"
)

// What notepack.io 2.2.0 has written, and JSON.stringify of the same.
func TestNotepack(t *testing.T) {
	for packed, want := range map[string]string{
		"92d4000001":             "[null,1]",                   // [undefined, 1]
		"d7000000018df4dc5495":   `"2024-02-29T12:34:56.789Z"`, // new Date(...)
		"d700ffffffffffffffff":   `"1969-12-31T23:59:59.999Z"`,
		"d7007fffffffffffffff":   "null", // no Date
		"c40301 0203":            `"AQID"`,
		"c7030001 0203":          `"AQID"`, // an ArrayBuffer
		"c80003 000102 03":       `"AQID"`,
		"c708000000000000000000": `"AAAAAAAAAAA="`, // of eight bytes
		"d40105":                 `{"type":1,"data":"BQ=="}`,
		"d6ff00000001":           `"1970-01-01T00:00:01Z"`,
	} {
		data, err := hex.DecodeString(strings.ReplaceAll(packed, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		got, binary, err := Notepack(data, bound, false)
		if err != nil || string(got) != want || binary != (want[0] == '"' && !strings.Contains(want, "-")) {
			t.Errorf("%s: %s, %v, %v; want %s", packed, got, binary, err, want)
		}
	}
	if got, binary, err := Notepack([]byte("\xc4\x03a\xff\""), bound, true); err != nil || !binary || string(got) != `"a\ufffd\""` {
		t.Errorf("%s, %v, %v", got, binary, err)
	}
	if _, _, err := Notepack([]byte("\xc4\x03abc"), 5, false); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
	if got, _, err := Notepack([]byte("\xd7\x00\x00"), bound, false); err == nil || got != nil || err.Error() != "msgpack: at byte 2: it is cut short" {
		t.Errorf("%s, %v", got, err)
	}
}

// What is encoded is read back as it was, by this package and by another.
func TestAppendMsgpack(t *testing.T) {
	for _, text := range []string{
		"null", "true", "false", "0", "127", "128", "-32", "-33", "255", "65536", "2147483647", "2147483648", "-2147483648", "-2147483649", "9223372036854775807", "-9223372036854775808",
		"9223372036854775808", "18446744073709551615", "1.5", "-0.25", `""`, `"a\"é\u2028"`, `"` + strings.Repeat("x", 31) + `"`, `"` + strings.Repeat("x", 32) + `"`, `"` + strings.Repeat("x", 255) + `"`,
		`"` + strings.Repeat("x", 256) + `"`, `"` + strings.Repeat("x", 65536) + `"`, "[]", "{}", `[1,[2,{"z":3,"a":[null]}]]`, `{"b":{},"a":[[],{}],"b":1}`,
	} {
		packed, err := AppendMsgpack([]byte("before"), []byte(" "+text+"\n"))
		packed, had := bytes.CutPrefix(packed, []byte("before"))
		if err != nil || !had {
			t.Fatalf("%.50s: %v", text, err)
		}
		if got, err := (Steps{Msgpack}).Decode(packed, bound); err != nil || string(got) != text {
			t.Errorf("%.50s became %.50s, %v", text, got, err)
		}
		var theirs bytes.Buffer
		if rest, err := msgp.UnmarshalAsJSON(&theirs, packed); err != nil || len(rest) > 0 || !sameJSON([]byte(text), theirs.Bytes()) {
			t.Errorf("%.50s is %.50s to tinylib/msgp, %v", text, &theirs, err)
		}
	}
	if got, err := AppendMsgpack(nil, []byte("18446744073709551616")); err != nil || hex.EncodeToString(got) != "cb43f0000000000000" {
		t.Errorf("%x, %v", got, err)
	}
	for _, text := range []string{"", "{", "[1,]", "1 2", "x"} {
		if _, err := AppendMsgpack(nil, []byte(text)); err == nil {
			t.Errorf("%q is encoded", text)
		}
	}
}
