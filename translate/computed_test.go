package translate

import (
	"strings"
	"testing"
)

// TestComputedHidesNothing: a program that has a variable of its own by the name of one of ours would depend on nothing of the client where it uses both.
func TestComputedHidesNothing(t *testing.T) {
	s := NewSecrets(map[string]string{"k": "hush"})
	for src, want := range map[string]string{
		`$query.room + (1 as $query | "")`: "called $query", `def f: def state: 1; state; f + state.x`: "called $state", `(1 as $secret | 2), $secret.k`: "called $secret",
		`def state: 1; state`: "", `def f($secret): $secret; f(2)`: "", `{a:1} as {a:$query} | $query`: "",
		`$query.room as $room | $room`: "", `. as {a:$b} | $b`: "", `def f(g): g; f($path.a)`: "",
	} {
		_, err := s.CompileComputed(src)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", src, err)
		}
	}
}

// TestComputedErrorsHoldNoValue is of those that name what they fail for.
func TestComputedErrorsHoldNoValue(t *testing.T) {
	s := NewSecrets(map[string]string{"k": "hushhush"})
	for _, src := range []string{`1|format($secret.k)`, `$secret.k|tonumber`, `$secret.k|error`, `{}|.[$secret.k].x|keys`, `"x"|test($secret.k+"(")`, `[$secret.k]|implode`, `reduce $secret.k as $x (0; . + $x)`} {
		c, err := s.CompileComputed(src)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Text(t.Context(), nil, func(string) string { return "" }); err == nil || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: %v", src, err)
		}
	}
}
