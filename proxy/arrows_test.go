package proxy

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
)

// arrows are the packages of the house that each may import: one way, from the network's edge to the pure core.
var arrows = map[string][]string{
	"sidestream":                   {"config", "proxy", "proxy/admin", "proxy/deliver", "proxy/upstream", "e2e/legacy"},
	"sidestream/config":            {"proxy/upstream"},
	"sidestream/translate":         {"translate/jq", "translate/lines", "translate/sse"},
	"sidestream/translate/dialect": {"translate"},
	"sidestream/translate/jq":      {},
	"sidestream/translate/lines":   {},
	"sidestream/translate/sse":     {"translate/lines"},
	"sidestream/proxy":             {"config", "proxy/deliver", "proxy/stream", "proxy/tunnel", "proxy/upstream", "proxy/web", "translate", "translate/sse"},
	"sidestream/proxy/admin":       {"proxy", "proxy/deliver", "proxy/stream", "proxy/upstream"},
	"sidestream/proxy/deliver":     {"proxy/stream", "translate", "translate/sse"},
	"sidestream/proxy/tunnel":      {"proxy/deliver", "proxy/stream", "translate"},
	"sidestream/proxy/stream":      {"proxy/upstream", "translate", "translate/sse"},
	"sidestream/proxy/upstream":    {"translate", "translate/dialect"},
	"sidestream/proxy/web":         {},
	"sidestream/e2e/legacy":        {},
}

// foreign are the modules outside the standard library that a package may import, where that is part of the design.
var foreign = map[string][]string{
	"sidestream/translate":         {"github.com/itchyny/gojq"},
	"sidestream/translate/dialect": {},
	"sidestream/translate/jq":      {"github.com/itchyny/gojq"},
	"sidestream/translate/lines":   {},
	"sidestream/translate/sse":     {},
	"sidestream/proxy/deliver":     {"golang.org/x/sys/unix"},
	"sidestream/proxy/stream":      {},
}

func TestArrows(t *testing.T) {
	root := os.DirFS("..")
	seen := 0
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && (strings.HasPrefix(d.Name(), ".") && name != "." || d.Name() == "node_modules") {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		pkg := strings.TrimSuffix("sidestream/"+path.Dir(name), "/.")
		allowed, known := arrows[pkg]
		if !known {
			return nil
		}
		seen++
		src, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, src, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range f.Imports {
			imported := strings.Trim(spec.Path.Value, `"`)
			if own, ok := strings.CutPrefix(imported, "sidestream/"); ok && !slices.Contains(allowed, own) {
				t.Errorf("%s imports %s, against the arrows", name, imported)
			}
			limits, limited := foreign[pkg]
			if limited && strings.Contains(imported, ".") && !slices.Contains(limits, imported) {
				t.Errorf("%s imports %s, which is not part of its design", name, imported)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 30 {
		t.Fatalf("only %d files were looked at", seen)
	}
}
