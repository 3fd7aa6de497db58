package proxy

import (
	"go/ast"
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
	"sidestream":                       {"config", "proxy", "proxy/admin", "proxy/doctor", "proxy/history", "proxy/migrate/learn", "proxy/sidecar", "e2e/legacy"},
	"sidestream/config":                {"proxy", "proxy/access", "proxy/outbound", "proxy/history", "proxy/history/redis", "proxy/migrate", "proxy/migrate/learn", "proxy/peer", "proxy/redisconn", "proxy/stream", "proxy/upstream"},
	"sidestream/translate":             {"translate/jq", "translate/lines", "translate/sse"},
	"sidestream/translate/decode":      {"translate"},
	"sidestream/translate/graphql":     {},
	"sidestream/translate/dialect":     {"translate", "translate/decode"},
	"sidestream/translate/jq":          {},
	"sidestream/translate/lines":       {},
	"sidestream/translate/sse":         {"translate/lines"},
	"sidestream/proxy":                 {"proxy/access", "proxy/deliver", "proxy/outbound", "proxy/history", "proxy/merge", "proxy/migrate", "proxy/migrate/learn", "proxy/peer", "proxy/probe", "proxy/stream", "proxy/tunnel", "proxy/upstream", "proxy/web", "translate", "translate/graphql", "translate/sse"},
	"sidestream/proxy/access":          {"proxy/outbound"},
	"sidestream/proxy/admin":           {"proxy", "proxy/access", "proxy/deliver", "proxy/descriptors", "proxy/history", "proxy/peer", "proxy/stream", "proxy/upstream", "translate/sse"},
	"sidestream/proxy/deliver":         {"proxy/access", "proxy/deflate", "proxy/deliver/h2", "proxy/stream", "translate", "translate/sse"},
	"sidestream/proxy/deliver/h2":      {},
	"sidestream/proxy/deflate":         {},
	"sidestream/proxy/descriptors":     {},
	"sidestream/proxy/doctor":          {"proxy/probe"},
	"sidestream/proxy/migrate":         {"translate"},
	"sidestream/proxy/migrate/learn":   {"proxy/migrate", "translate/decode", "translate/dialect"},
	"sidestream/proxy/merge":           {"proxy/stream", "proxy/upstream", "translate", "translate/sse"},
	"sidestream/proxy/outbound":        {},
	"sidestream/proxy/sidecar":         {"proxy", "proxy/admin", "proxy/deliver", "proxy/descriptors", "proxy/history"},
	"sidestream/proxy/peer":            {},
	"sidestream/proxy/probe":           {"proxy/deliver", "translate/sse"},
	"sidestream/proxy/tunnel":          {"proxy/deliver", "proxy/peer", "proxy/stream", "translate"},
	"sidestream/proxy/history":         {},
	"sidestream/proxy/history/redis":   {"proxy/history", "proxy/redisconn"},
	"sidestream/proxy/redisconn":       {},
	"sidestream/proxy/stream":          {"proxy/deflate", "proxy/history", "proxy/upstream", "translate", "translate/sse"},
	"sidestream/proxy/upstream":        {"proxy/outbound", "proxy/redisconn", "proxy/upstream/wsconn", "translate", "translate/decode", "translate/dialect", "translate/graphql"},
	"sidestream/proxy/upstream/wsconn": {},
	"sidestream/proxy/web":             {},
	"sidestream/e2e/legacy":            {"e2e/ports"},
	"sidestream/e2e/ports":             {},

	"sidestream/proxy/deliver/h2/h2test": {}, // for tests
}

// foreign are the modules outside the standard library that a package may import, where that is part of the design.
var foreign = map[string][]string{
	"sidestream/translate":             {"github.com/go-json-experiment/json/jsontext", "github.com/itchyny/gojq"},
	"sidestream/translate/decode":      {},
	"sidestream/translate/graphql":     {},
	"sidestream/translate/dialect":     {},
	"sidestream/translate/jq":          {"github.com/itchyny/gojq"},
	"sidestream/translate/lines":       {},
	"sidestream/translate/sse":         {},
	"sidestream/proxy/access":          {"github.com/MicahParks/jwkset", "github.com/golang-jwt/jwt/v5", "golang.org/x/crypto/chacha20poly1305"},
	"sidestream/proxy/deliver":         {"golang.org/x/sys/unix"},
	"sidestream/proxy/deliver/h2":      {"golang.org/x/net/http2/hpack"},
	"sidestream/proxy/outbound":        {"golang.org/x/net/http/httpguts", "golang.org/x/net/http/httpproxy", "golang.org/x/net/idna", "golang.org/x/net/proxy"},
	"sidestream/proxy/history":         {},
	"sidestream/proxy/history/redis":   {"github.com/redis/rueidis"},
	"sidestream/proxy/redisconn":       {},
	"sidestream/proxy/upstream/wsconn": {"github.com/coder/websocket", "golang.org/x/sys/unix"},
	"sidestream/proxy/stream":          {},
}

// elsewhere is what is no part of the program: it may import what it likes.
var elsewhere = []string{"e2e", "findings"}

// clocks are the functions that tell the time or wait for it, by their package's path.
var clocks = map[string][]string{
	"time":    {"Now", "Since", "Until", "After", "Tick", "NewTimer", "NewTicker", "AfterFunc", "Sleep"},
	"context": {"WithTimeout", "WithTimeoutCause", "WithDeadline", "WithDeadlineCause"},
}

// sources calls f with every file of the program that is no test, and the path of its package.
func sources(t *testing.T, mode parser.Mode, f func(pkg, name string, file *ast.File)) {
	t.Helper()
	root := os.DirFS("..")
	seen := 0
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && (strings.HasPrefix(d.Name(), ".") && name != "." || d.Name() == "node_modules" || d.Name() == "testdata") {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		seen++
		src, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, src, mode)
		if err == nil {
			f(strings.TrimSuffix("sidestream/"+path.Dir(name), "/."), name, file)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 100 {
		t.Fatalf("only %d files were looked at", seen)
	}
}

func TestArrows(t *testing.T) {
	sources(t, parser.ImportsOnly, func(pkg, name string, file *ast.File) {
		allowed, known := arrows[pkg]
		if !known {
			if room, _, _ := strings.Cut(name, "/"); !slices.Contains(elsewhere, room) {
				t.Errorf("%s is of no package in the table of arrows", name)
			}
			return
		}
		for _, spec := range file.Imports {
			imported := strings.Trim(spec.Path.Value, `"`)
			if own, ok := strings.CutPrefix(imported, "sidestream/"); ok && !slices.Contains(allowed, own) {
				t.Errorf("%s imports %s, against the arrows", name, imported)
			}
			limits, limited := foreign[pkg]
			if limited && strings.Contains(imported, ".") && !slices.Contains(limits, imported) {
				t.Errorf("%s imports %s, which is not part of its design", name, imported)
			}
		}
	})
}

// What translates has no clock and starts nothing: the time is an argument, so that whatever depends on it can be tested by passing
// another one, and stored and gone on with elsewhere.
func TestTranslateAsksNoClock(t *testing.T) {
	files := 0
	sources(t, parser.SkipObjectResolution, func(pkg, name string, file *ast.File) {
		if pkg != "sidestream/translate" && !strings.HasPrefix(pkg, "sidestream/translate/") {
			return
		}
		files++
		for _, fault := range clockless(file) {
			t.Errorf("%s %s", name, fault)
		}
	})
	if files < 50 {
		t.Fatalf("only %d files of translate were looked at", files)
	}
}

// The test above would not notice if it saw nothing.
func TestClocksAreSeen(t *testing.T) {
	for src, faults := range map[string]int{
		`import "time"; var x = time.Now()`:                                     1,
		`import "time"; func f() { time.Sleep(1); <-time.After(1) }`:            2,
		`import clock "time"; var x = clock.Since(clock.Time{})`:                1,
		`import . "time"; var x = Now()`:                                        1,
		`import "time"; var now = time.Now`:                                     1,
		`import "context"; var x, y = context.WithTimeout(nil, 1)`:              1,
		`func f() { go f() }`:                                                   1,
		`import "time"; func f(now time.Time) bool { return now.After(now) }`:   0,
		`import "sidestream/time"; var x = time.Now()`:                          0,
		`import "time"; const x = time.Second; var y = time.Duration(1).String`: 0,
	} {
		file, err := parser.ParseFile(token.NewFileSet(), "x.go", "package x; "+src, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		if got := clockless(file); len(got) != faults {
			t.Errorf("%s: %q, want %d", src, got, faults)
		}
	}
}

// clockless returns what a file does against having no clock and starting no goroutine.
func clockless(file *ast.File) (faults []string) {
	forbidden := map[string]string{} // "name.Function" as the file writes it
	for _, spec := range file.Imports {
		imported := strings.Trim(spec.Path.Value, `"`)
		name := imported
		if spec.Name != nil {
			name = spec.Name.Name
		}
		if clocks[imported] != nil && name == "." {
			faults = append(faults, "imports all of "+imported+" without its name")
		}
		for _, function := range clocks[imported] {
			forbidden[name+"."+function] = imported + "." + function
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			faults = append(faults, "starts a goroutine")
		case *ast.SelectorExpr:
			if name, ok := n.X.(*ast.Ident); ok && forbidden[name.Name+"."+n.Sel.Name] != "" {
				faults = append(faults, "calls "+forbidden[name.Name+"."+n.Sel.Name]+"; let the time, or the context, be passed in")
			}
		}
		return true
	})
	return faults
}
