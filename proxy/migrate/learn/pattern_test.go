package learn

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestPatternsAreCompiledWhenUsed: what no sidecar but one that learns uses takes no memory of the others.
func TestPatternsAreCompiledWhenUsed(t *testing.T) {
	broken := lazily(`(`)
	defer func() {
		if recover() == nil {
			t.Error("a pattern that is none was used")
		}
	}()
	broken.MatchString("")
}

// TestPatterns compiles all that there are.
func TestPatterns(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		for _, m := range regexp.MustCompile("lazily\\(`([^`]*)`\\)").FindAllStringSubmatch(string(text), -1) {
			n++
			if _, err := regexp.Compile(m[1]); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if all := strings.Count(string(text), "lazily("); all != strings.Count(string(text), "lazily(`") && name != "pattern.go" {
			t.Errorf("%s: a pattern is not written as one text", name)
		}
	}
	if n < 10 {
		t.Errorf("%d patterns are found", n)
	}
}
