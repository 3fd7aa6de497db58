package learn

import "testing"

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
