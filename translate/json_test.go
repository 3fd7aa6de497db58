package translate

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestJSONStrings(t *testing.T) {
	for text, want := range map[string]string{
		"":                              `""`,
		"é€😀":                           `"é€😀"`,
		"\"\\/":                         `"\"\\/"`,
		"\b\f\n\r\t\x00\x1f\x7f":        `"\b\f\n\r\t\u0000\u001f` + "\x7f\"",
		"a\u2028b\u2029":                `"a\u2028b\u2029"`,
		"\ufffd":                        "\"\ufffd\"", // it came as itself
		"\xff":                          `"\ufffd"`,
		"a\xc3(\xf0\x9f\x98":            `"a\ufffd(\ufffd\ufffd\ufffd"`,
		"\xed\xa0\x80":                  `"\ufffd\ufffd\ufffd"`, // a surrogate
		`<script>alert("&")</script>`:   `"<script>alert(\"&\")</script>"`,
		strings.Repeat("long é ", 1000): `"` + strings.Repeat("long é ", 1000) + `"`,
	} {
		if got := string(AppendJSONString(nil, text, false)); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
	if got := string(AppendJSONString([]byte("x"), "<&>\xff", true)); got != `x"\u003c\u0026\u003e\ufffd"` {
		t.Errorf("for a page: %s", got)
	}
}

// What is written by encoding/json differs between releases of Go.
func TestNoForeignJSON(t *testing.T) {
	for _, dir := range []string{".", "decode", "dialect", "sse", "../proxy/upstream", "../proxy/stream"} {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil || len(files) < 4 {
			t.Fatalf("%d files in %s, %v", len(files), dir, err)
		}
		for _, file := range files {
			src, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, call := range []string{"json.Marshal", "json.NewEncoder", "json.HTMLEscape"} {
				if !strings.HasSuffix(file, "_test.go") && strings.Contains(strings.ReplaceAll(string(src), "gojq.Marshal", ""), call) {
					t.Errorf("%s calls %s: what is written must not depend on the toolchain; see translate/json.go", file, call)
				}
			}
		}
	}
}
