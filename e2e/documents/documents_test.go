package documents

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// root is the repository's, seen from here. (A test that changes its folder is taken for unchanged when what it reads is not.)
const root = "../.."

// walk calls f with every file of the repository, by its path with slashes.
func walk(t *testing.T, f func(name string)) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(root), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "node_modules" || strings.HasPrefix(d.Name(), ".") && name != "." && name != ".github"):
			return fs.SkipDir
		case !d.IsDir():
			f(name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestLinks: every relative link of the documentation leads to a file or folder, and its anchor to a heading.
func TestLinks(t *testing.T) {
	links := 0
	walk(t, func(name string) {
		if path.Ext(name) != ".md" {
			return
		}
		text := read(t, name)
		links += len(linked(text))
		for _, fault := range brokenLinks(name, text, func(name string) (string, bool) {
			data, err := os.ReadFile(filepath.Join(root, name))
			if err != nil {
				_, err = os.Stat(filepath.Join(root, name)) // a folder
			}
			return string(data), err == nil
		}) {
			t.Error(fault)
		}
	})
	if links < 100 {
		t.Fatalf("only %d links were looked at", links)
	}
}

// The test above would not notice if it saw nothing.
func TestBrokenLinksAreSeen(t *testing.T) {
	files := map[string]string{"a/README.md": "# A b\n## `C`, d-e (f)\n```\n# not this\n```\n## A b\n", "a/x.go": ""}
	for text, faults := range map[string]int{
		"[x](a/README.md) [x](a/README.md#a-b) [x](a/x.go)":        0,
		"[x](a/README.md#c-d-e-f) [x](a/README.md#a-b-1)":          0,
		"[x](https://example.com/#y) [x](mailto:a@b.c)":            0,
		"# Here\n[x](#here) and a text that\n[is long\nx](#there)": 1,
		"[x](b/README.md)":             1,
		"[x](a/README.md#not-this)":    1,
		"[x](a/README.md#a-c)":         1,
		"![x](a/y.png)":                1,
		"```\n[x](nowhere)\n```\n":     0,
		"`[x](nowhere)` [x](nowhere2)": 1,
	} {
		got := brokenLinks("README.md", text, func(name string) (string, bool) { text, ok := files[name]; return text, ok })
		if len(got) != faults {
			t.Errorf("%q: %q, want %d", text, got, faults)
		}
	}
}

var (
	fences  = regexp.MustCompile("(?ms)^ *```.*?^ *```$")
	codes   = regexp.MustCompile("`[^`\n]*`")
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	title   = regexp.MustCompile(`(?m)^#+ +(.*)$`)
	dropped = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)
)

// linked returns where a text's links lead.
func linked(text string) (targets []string) {
	text = codes.ReplaceAllString(fences.ReplaceAllString(text, ""), "")
	for _, m := range link.FindAllStringSubmatch(text, -1) {
		targets = append(targets, m[1])
	}
	return targets
}

// anchors are those of a text's headings, as GitHub makes them.
func anchors(text string) map[string]bool {
	all, times := map[string]bool{}, map[string]int{}
	for _, m := range title.FindAllStringSubmatch(fences.ReplaceAllString(text, ""), -1) {
		anchor := strings.ReplaceAll(dropped.ReplaceAllString(strings.ToLower(strings.TrimSpace(m[1])), ""), " ", "-")
		if n := times[anchor]; n > 0 {
			all[fmt.Sprintf("%s-%d", anchor, n)] = true
		}
		times[anchor]++
		all[anchor] = true
	}
	return all
}

// brokenLinks returns the relative links of text, which is file's, that lead nowhere. open returns the text of a file.
func brokenLinks(file, text string, open func(name string) (text string, ok bool)) (faults []string) {
	for _, target := range linked(text) {
		if strings.Contains(target, ":") {
			continue // another site's
		}
		name, anchor, anchored := strings.Cut(target, "#")
		there, ok := text, true
		if name != "" {
			there, ok = open(path.Join(path.Dir(file), name))
		}
		if !ok || anchored && !anchors(there)[anchor] {
			faults = append(faults, fmt.Sprintf("%s: the link to %s leads nowhere", file, target))
		}
	}
	return faults
}

// TestReadmeIsShort: what it answers fits into five minutes; everything else stands beside the code that it describes.
func TestReadmeIsShort(t *testing.T) {
	if n := strings.Count(read(t, "README.md"), "\n"); n > 150 {
		t.Errorf("README.md has %d lines, of which 150 are allowed", n)
	}
	if n := len(read(t, ".github/demo.png")); n > 200<<10 {
		t.Errorf("the screenshot has %d bytes, of which 200 KiB are allowed", n)
	}
}

// TestPackagesAreDescribed: each package of the program has a comment that tells what it is for.
func TestPackagesAreDescribed(t *testing.T) {
	comments := map[string]string{}
	walk(t, func(name string) {
		if path.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") || strings.Contains(name, "testdata/") {
			return
		}
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, name), nil, parser.ParseComments|parser.PackageClauseOnly)
		if err != nil {
			t.Error(err)
			return
		}
		comments[path.Dir(name)] += described(file)
	})
	for dir, comment := range comments {
		if comment == "" {
			t.Errorf("no file of %s has a package comment", dir)
		}
	}
	if len(comments) < 15 {
		t.Fatalf("only %d packages were looked at", len(comments))
	}
}

// described returns the comment of a file's package that begins as godoc wants it, "" where there is none.
func described(file *ast.File) string {
	text := file.Doc.Text()
	if file.Name.Name != "main" && !strings.HasPrefix(text, "Package "+file.Name.Name+" ") {
		return ""
	}
	return text
}

// The test above would not notice if it saw nothing.
func TestMissingDescriptionsAreSeen(t *testing.T) {
	for src, good := range map[string]bool{
		"// Package x is for y.\npackage x":              true,
		"// Prog does z.\npackage main":                  true,
		"package main":                                   false,
		"package x":                                      false,
		"// This file is w.\n\npackage x":                false,
		"// This file is w, not the package.\npackage x": false,
	} {
		file, err := parser.ParseFile(token.NewFileSet(), "x.go", src, parser.ParseComments|parser.PackageClauseOnly)
		if err != nil {
			t.Fatal(err)
		}
		if got := described(file) != ""; got != good {
			t.Errorf("%q: %v", src, got)
		}
	}
}
