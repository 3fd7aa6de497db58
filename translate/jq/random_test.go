package jq

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/itchyny/gojq"
)

var (
	programs = flag.Int("programs", 150, "how many random programs TestRandomPrograms runs")
	seed     = flag.Uint64("seed", 1, "which ones")
)

// TestRandomPrograms runs programs made of everything that gojq has over documents of 1 MB. More of them, and by the bounds of an
// idle machine:
//
//	go test ./translate/jq -run TestRandomPrograms -strict -timeout 0 -programs 20000 -seed 7
func TestRandomPrograms(t *testing.T) {
	g := newGenerator(t, *seed)
	docs := []any{document(t)}
	for range 4 {
		docs = append(docs, g.document(1<<20))
	}
	for i := range *programs {
		src := g.pipe(4)
		if _, err := gojq.Parse(src); err != nil {
			t.Fatalf("%s: %v", src, err)
		}
		if wrong := bounded(t, src, docs[i%len(docs)]); wrong != "" {
			t.Errorf("-seed %d, program %d, document %d: %s", *seed, i, i%len(docs), wrong)
		}
	}
}

type generator struct {
	*rand.Rand
	names [][2]string // of gojq's functions, and their number of arguments
}

func newGenerator(t testing.TB, seed uint64) *generator {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 1))}
	err := program(t, "builtins[]").Run(context.Background(), nil, nil, func(v any) error {
		name, arity, _ := strings.Cut(v.(string), "/")
		switch name {
		case "input", "inputs", "debug", "halt", "halt_error", "modulemeta", "now", "empty", "error", "input_line_number":
		default:
			g.names = append(g.names, [2]string{name, arity})
		}
		return nil
	})
	if err != nil || len(g.names) < 150 {
		t.Fatalf("%d functions, %v", len(g.names), err)
	}
	return g
}

func (g *generator) of(choices ...string) string { return choices[g.IntN(len(choices))] }

// pipe is a program of at most depth functions in one another.
func (g *generator) pipe(depth int) string {
	parts := []string{g.term(depth)}
	for g.IntN(3) > 0 && len(parts) < 4 {
		parts = append(parts, g.term(depth))
	}
	return strings.Join(parts, "|")
}

func (g *generator) term(depth int) string {
	if depth <= 0 {
		return g.leaf()
	}
	one := func() string { return g.term(depth - 1) }
	switch g.IntN(16) {
	case 0, 1, 2, 3, 4, 5:
		f := g.names[g.IntN(len(g.names))]
		n, _ := strconv.Atoi(f[1])
		if n == 0 {
			return f[0]
		}
		args := make([]string, n)
		for i := range args {
			args[i] = g.pipe(depth - 2)
		}
		return f[0] + "(" + strings.Join(args, ";") + ")"
	case 6, 7, 8:
		return "(" + one() + g.of("+", "-", "*", "/", "%", "==", "<", "//", " and ", " or ", ",", ",") + one() + ")"
	case 9:
		return "[" + one() + "]"
	case 10:
		return "{a:" + one() + ",b:" + one() + "}"
	case 11:
		return "(" + g.path() + g.of("=", "|=", "+=", "-=", "*=", "//=") + one() + ")"
	case 12:
		return "(reduce (" + one() + ") as $x (" + one() + ";" + g.of(".+$x", "[.,$x]", ".[$x|tostring]?=1", ". as $y|$x|tojson+($y|tojson)", "$x") + "))"
	case 13:
		return "(" + one() + " as $x|" + g.of("[.[]?|$x]", "$x", "[$x,$x]", "[.,$x]", "{a:$x}") + ")"
	case 14:
		form := g.of("try (%s)", "first(%s)", "[limit(1000;%s)]", "last(%s)", "[range(100000)|%s]", "[.[]?|%s]", "[..|%s]", "(%s)?", "(def f: [f]; %s|f)", "(def f: %s|f; f)")
		return fmt.Sprintf(form, one())
	}
	return g.leaf()
}

func (g *generator) path() string {
	return g.of(".a", ".t", ".[]?", ".a[]?", ".[0]?", ".[-1]?", ".a[100000]?", ".[2:5]?", "..", ".b.c?", ".[\"k1\"]?", "getpath([\"a\",0])?")
}

func (g *generator) leaf() string {
	if g.IntN(2) == 0 {
		return g.path()
	}
	return g.of(".", ".n", ".big", "1", "0", "-1", "3.5", "1e9", "1e18", "100000", "null", "true", `"a"`, `""`, `"(a*)*b"`, `"a|b"`, `"\\b"`, `"g"`, `"x"`, "[]", "{}", "[1,2]", `["a"]`, "range(1e6)", "[range(1000)]",
		`"x"*1000`, "..", "tojson", "keys?", "length", "[.[]?]", "[paths]", "tostring", ".[]?", "$__loc__", `"%Y"`, `@base64`, `@uri`, `@html`, `@csv`, `@sh`)
}

// document is a random one, of about so many bytes.
func (g *generator) document(size int) any {
	root := map[string]any{}
	for i := 0; size > 0; i++ {
		name := g.of("a", "b", "t", "n", "k1", "k2")
		v, n := g.value(size, 0)
		root[name], size = v, size-n
		if i > 20 {
			break
		}
	}
	return root
}

// value is a random one of at most so many bytes, and how many it has.
func (g *generator) value(size, depth int) (any, int) {
	kind := g.IntN(5)
	if depth > 6 {
		kind = g.IntN(3)
	}
	switch kind {
	case 0:
		n := g.IntN(1000)
		return json.Number(fmt.Sprint(n - 500)), 4
	case 1:
		return json.Number(fmt.Sprint(g.NormFloat64())), 20
	case 2:
		text := strings.Repeat(g.of("a", "ab", "é", "x y ", "1,", "<&>", "\u0000", "{\"a\":", "[", "%41"), 1+g.IntN(g.number(3, 40, 100000)))
		return text[:min(len(text), max(1, size))], len(text)
	case 3:
		var list []any
		used := 2
		for n := g.IntN(g.number(4, 50, 100000)); len(list) <= n && used < size; {
			v, k := g.value((size-used)/2, depth+1)
			list, used = append(list, v), used+k+1
		}
		return list, used
	}
	object := map[string]any{}
	used := 2
	for n := g.IntN(g.number(4, 10, 20000)); len(object) <= n && used < size; {
		v, k := g.value((size-used)/2, depth+1)
		name := g.of("a", "b", "k1", "id") + strconv.Itoa(g.IntN(1+n))
		object[name], used = v, used+k+len(name)+4
	}
	return object, used
}

func (g *generator) number(numbers ...int) int { return numbers[g.IntN(len(numbers))] }
