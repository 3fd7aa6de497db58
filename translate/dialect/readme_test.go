package dialect

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The README's table has a row for every dialect, which agrees with what the dialect declares, and a section.
func TestReadmeTable(t *testing.T) {
	data, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	_, table, ok := strings.Cut(text, "|---|---|---|---|---|---|---|\n")
	if !ok {
		t.Fatal("the README has no table of dialects")
	}
	table, _, _ = strings.Cut(table, "\n\n")
	linked := regexp.MustCompile("\\[`([^`]+)`\\]\\(#([a-z-]+)\\)")
	seen := map[string]bool{}
	for row := range strings.Lines(table) {
		cells := strings.Split(strings.Trim(row, "| \n"), " | ")
		if len(cells) != 7 {
			t.Fatalf("%d cells: %s", len(cells), row)
		}
		for _, m := range linked.FindAllStringSubmatch(cells[0], -1) {
			d, err := Find(m[1])
			if err != nil {
				t.Error(err)
				continue
			}
			seen[d.Name] = true
			if inner := cells[1] == "as inner"; !inner && (strings.HasPrefix(cells[1], "-") == d.Connects || strings.HasPrefix(cells[2], "-") != (d.Subscribes == NoSubscribe)) {
				t.Errorf("%s: %q and %q are not what the dialect takes", d.Name, cells[1], cells[2])
			}
			if !slices.Contains(headings(text), m[2]) {
				t.Errorf("%s: there is no section #%s", d.Name, m[2])
			}
		}
	}
	for _, d := range Table {
		if !seen[d.Name] {
			t.Errorf("the table has no row for %s", d.Name)
		}
	}
}

// headings are the anchors of a text's sections.
func headings(text string) (anchors []string) {
	for line := range strings.Lines(text) {
		if title, ok := strings.CutPrefix(strings.TrimSpace(line), "## "); ok {
			anchors = append(anchors, strings.NewReplacer(" ", "-", ".", "").Replace(strings.ToLower(title)))
		}
	}
	return anchors
}
