//go:build e2e

package e2e

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestModules: what the binary is built on directly is what proxy/README.md gives reasons for, and each is of a released version.
func TestModules(t *testing.T) {
	t.Parallel()
	var direct, built, told []string
	for line := range strings.Lines(ran(t, "..", "go", "list", "-m", "-f", "{{if not (or .Indirect .Main)}}{{.Path}} {{.Version}}{{end}}", "all")) {
		path, version, _ := strings.Cut(strings.TrimSpace(line), " ")
		direct = append(direct, path)
		if !regexp.MustCompile(`^(v[0-9]+\.[0-9]+\.[0-9]+)?$`).MatchString(version) {
			t.Errorf("%s is of %s, which is no release", path, version)
		}
	}
	for line := range strings.Lines(ran(t, "..", "go", "list", "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}", ".")) {
		if path := strings.TrimSpace(line); slices.Contains(direct, path) && !slices.Contains(built, path) {
			built = append(built, path)
		}
	}
	text, err := os.ReadFile("../proxy/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "\n## What it is built on\n")
	table, _, _ = strings.Cut(table, "\n## ")
	for _, row := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(table, -1) {
		told = append(told, row[1])
	}
	slices.Sort(built)
	slices.Sort(told)
	if len(built) == 0 || !slices.Equal(built, told) {
		t.Errorf("built on %q, proxy/README.md tells %q", built, told)
	}
	ran(t, "..", "go", "mod", "verify")
}
