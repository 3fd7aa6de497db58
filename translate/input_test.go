package translate

import (
	"fmt"
	"strings"
	"testing"
)

// FuzzCheck: what is only checked is refused for what it would be refused for if it were parsed.
func FuzzCheck(f *testing.F) {
	for _, text := range []string{"", " ", "null", " {} ", "{}x", "{} {}", "[1,]", `"\ud800"`, `"` + "\xff" + `"`, "\"\x01\"", "1e999999", "-0", "01", `{"a":1,"a":2}`, "\uFEFF1", "nul", "[", "1 ]",
		strings.Repeat("[", 10001) + strings.Repeat("]", 10001), strings.Repeat("[", 10000) + strings.Repeat("]", 10000)} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		_, want := Message{Data: data}.Parse(true)
		m, got := Message{Data: data}.Check()
		if fmt.Sprint(got) != fmt.Sprint(want) || m.checked != (want == nil) {
			t.Errorf("%.40q: %v, parsed %v", data, got, want)
		}
	})
}
