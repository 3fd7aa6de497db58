package jq

import (
	"encoding/json"
	"math"
	"math/big"
	"strings"
	"testing"

	"github.com/itchyny/gojq"
)

// sameMarshal holds what is written against gojq's.
func sameMarshal(t *testing.T, v any) {
	t.Helper()
	want, err := gojq.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Marshal(v)
	if err != nil || string(got) != string(want) {
		t.Errorf("%.300s, %v, not %.300s", got, err, want)
	}
}

func TestMarshal(t *testing.T) {
	many := map[string]any{}
	for i := range 40 { // more than are sorted in place
		many[strings.Repeat("x", i%7)+string(rune('a'+i%26))] = i
	}
	huge, _ := new(big.Int).SetString("-123456789012345678901234567890", 10)
	for _, v := range []any{nil, true, false, 0, -7, math.MaxInt, math.MinInt, 1.5, 1e300, -1e-7, math.NaN(), math.Inf(1), math.Inf(-1), math.Copysign(0, -1), huge, json.Number("1.50"), json.Number("-0"),
		"", "plain", "\"quoted\" \\ \b\f\n\r\t\x00\x1f\x7f", "é\u2028<>&", "\xff\xed\xa0\x80", []any{}, []any{1, []any{nil}}, map[string]any{}, map[string]any{"b": 1, "a": map[string]any{"\x7f": "x"}, "": nil}, many,
		strings.Repeat("long ", 5000)} {
		sameMarshal(t, v)
	}
}

func FuzzMarshal(f *testing.F) {
	for _, doc := range shapeDocs {
		f.Add(doc)
	}
	f.Add("[\"\\u0000\\ud800\x7f\", {\"b\":1,\"a\":2,\"a\":3}]")
	f.Fuzz(func(t *testing.T, doc string) {
		sameMarshal(t, doc)
		if v, ok := fromText(doc); ok {
			sameMarshal(t, v)
		}
	})
}
