package translate

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// parsedByTheLibrary is what encoding/json makes of data.
func parsedByTheLibrary(data []byte) (v any, err error) {
	if !utf8.Valid(data) {
		return nil, errors.New("is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("something follows")
	}
	return v, nil
}

// jsonTexts are what readers of JSON differ about.
var jsonTexts = []string{
	``, ` `, `null`, `true`, ` false `, `0`, `-0`, `-`, `01`, `1.50`, `1.`, `.5`, `1e5`, `1E+05`, `1e`, `9007199254740993`, `1e400`, `+1`, `NaN`, `Infinity`, `0x1`,
	`""`, `"a`, `"\u00e9\n\/\""`, `"\ud83d\ude00"`, `"\ud83d"`, `"\ude00\ud83d"`, `"\ud83dx"`, `"\ud83d\u0041"`, `"\x41"`, `"\u12"`, "\"\t\"", "\"\x7f\u2028\"", "\"\xff\"", "\"\xed\xa0\x80\"", `'a'`,
	`[]`, `[ ]`, `[1,2]`, `[1,]`, `[,1]`, `[1 2]`, `[`, `]`, `[1}`, `[[[]]]`, `{}`, `{"a":1}`, `{"a":1,}`, `{,"a":1}`, `{"a"}`, `{"a":}`, `{a:1}`, `{1:2}`, `{"a" 1}`, `{"a":1 "b":2}`, `{null:1}`, `{[]:1}`,
	`{"a":1,"a":{"b":2}}`, `{"a":{"b":2},"a":{"c":3}}`, `{"a":[1],"\u0061":[2]}`, `{"":""}`, `{"\ud800":1,"\udc00":2}`, `{"a":{"b":[{"c":null},true]}}`,
	`1 2`, `{} {}`, `null,`, `"a" b`, `[1]]`, "\xef\xbb\xbf{}", "{}\x00", "\u00a0{}", "// no\n1", `{"a":1}//`, `truex`, `nul`, `tru`, "1\r\n\t ",
	strings.Repeat("[", 10000) + strings.Repeat("]", 10000), strings.Repeat("[", 10001) + strings.Repeat("]", 10001),
	strings.Repeat(`{"a":`, 10000) + "1" + strings.Repeat("}", 10000), strings.Repeat(`{"a":`, 10001) + "1" + strings.Repeat("}", 10001), strings.Repeat("[", 20000),
}

// sameParse holds ParseJSON against encoding/json.
func sameParse(t *testing.T, data []byte) {
	before := bytes.Clone(data)
	want, wrong := parsedByTheLibrary(data)
	got, err := ParseJSON(data)
	if (err == nil) != (wrong == nil) || !reflect.DeepEqual(got, want) {
		t.Errorf("%.200q: %v, %v; encoding/json %v, %v", data, got, err, want, wrong)
	}
	if !bytes.Equal(data, before) {
		t.Errorf("%.200q was written to", before)
	}
}

func TestParseJSON(t *testing.T) {
	for _, text := range jsonTexts {
		sameParse(t, []byte(text))
	}
}

// TestParsedIsItsOwn checks that a value does not change with the bytes that it was read from, which may be a buffer's.
func TestParsedIsItsOwn(t *testing.T) {
	data := []byte(`{"name":"value","list":[12.50,"é\n"]}`)
	v, err := ParseJSON(data)
	if err != nil {
		t.Fatal(err)
	}
	for i := range data {
		data[i] = 'x'
	}
	want := map[string]any{"name": "value", "list": []any{json.Number("12.50"), "é\n"}}
	if !reflect.DeepEqual(v, want) {
		t.Errorf("%v", v)
	}
}

func FuzzParseJSON(f *testing.F) {
	for _, text := range jsonTexts {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) { sameParse(t, data) })
}

// BenchmarkParseJSON is what reading a message costs, beside encoding/json in the same run.
func BenchmarkParseJSON(b *testing.B) {
	data := []byte(`{"type":"price","symbol":"ACME","price":101.25,"volume":12000,"seq":9007199254740993,"text":"` + strings.Repeat("x", 100) + `"}`)
	var took [2]time.Duration
	b.ReportAllocs()
	for b.Loop() {
		for i, parse := range []func([]byte) (any, error){ParseJSON, parsedByTheLibrary} {
			began := time.Now()
			for range 100 {
				if _, err := parse(data); err != nil {
					b.Fatal(err)
				}
			}
			took[i] += time.Since(began)
		}
	}
	b.ReportMetric(float64(took[0])/float64(took[1]), "of-encoding/json")
}
