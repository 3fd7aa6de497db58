package jq

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/itchyny/gojq"
)

// TestDifferencesFromJQ: the table of what differs from jq 1.7 says what there is. What that jq itself says is looked at end to end, with it.
func TestDifferencesFromJQ(t *testing.T) {
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.ReplaceAll(line, `\|`, "\x00"), "|")
		if len(cells) != 7 || !strings.HasPrefix(line, "| `") || !strings.HasSuffix(strings.TrimSpace(cells[2]), "`") {
			continue
		}
		cell := func(i int) string { return strings.ReplaceAll(strings.Trim(cells[i], " `"), "\x00", "|") }
		src, of, want := cell(1), cell(2), cell(4)
		if got := outcome(t, src, of); got != want {
			t.Errorf("%s of %s is %s, the table says %s", src, of, got, want)
		}
		rows++
	}
	if rows < 25 {
		t.Errorf("the table has %d rows", rows)
	}
}

// outcome is what a program yields, one value, or an error.
func outcome(t *testing.T, src, of string) string {
	q, err := gojq.Parse(src)
	if err != nil {
		return "an error"
	}
	p, err := Compile(q, nil)
	if err != nil {
		return "an error"
	}
	got := all(context.Background(), p, parsed(t, of))
	if strings.Contains(got, "error: ") {
		return "an error"
	}
	return strings.TrimSpace(got)
}
