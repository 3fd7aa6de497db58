package jq

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/itchyny/gojq"
)

var shapeVariables = []string{"$event", "$state"}

// withShape compiles src as routes' programs are, with a function beside each variable.
func withShape(src string) (*Program, error) {
	query, err := gojq.Parse(src)
	if err != nil {
		return nil, err
	}
	for _, v := range shapeVariables {
		body, _ := gojq.Parse(v)
		query.FuncDefs = append([]*gojq.FuncDef{{Name: v[1:], Body: body}}, query.FuncDefs...)
	}
	return Compile(query, shapeVariables)
}

func fromText(text string) (v any, ok bool) {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	return v, d.Decode(&v) == nil
}

// yielded is what p yields up to most, as they are written, and its error.
func yielded(p *Program, v any, known []any, most int) (out []string, values []any, err error) {
	err = p.Run(context.Background(), v, known, func(v any) error {
		text, err := Marshal(v)
		if out, values = append(out, string(text)), append(values, v); err == nil && len(out) >= most {
			return errors.New("enough")
		}
		return err
	})
	return out, values, err
}

// sameAsGojq checks that a program with a shape yields what it does without.
func sameAsGojq(t *testing.T, p *Program, src, doc string) {
	t.Helper()
	v, ok := fromText(doc)
	if !ok {
		return
	}
	known := []any{"tick", map[string]any{"n": json.Number("7")}}
	alone := &Program{code: p.code, regexps: p.regexps}
	sameFirst(t, p, alone, src, v, known)
	for _, most := range []int{1, 1000} {
		got, values, err := yielded(p, v, known, most)
		want, wanted, wantErr := yielded(alone, v, known, most)
		if fmt.Sprint(err) != fmt.Sprint(wantErr) || !reflect.DeepEqual(got, want) {
			t.Fatalf("%s of %s: %q, %v, want %q, %v", src, doc, got, err, want, wantErr)
		}
		own := map[uintptr]bool{} // where the message's objects are, whose bytes are known
		objectsIn(v, own)
		for i := range values {
			a, b := reflect.ValueOf(values[i]), reflect.ValueOf(wanted[i])
			if b.Kind() == reflect.Map && own[b.Pointer()] && a.Pointer() != b.Pointer() {
				t.Fatalf("%s of %s: a copy of a value", src, doc)
			}
		}
	}
}

// sameFirst checks that the first output is the same with a shape and without.
func sameFirst(t *testing.T, p, alone *Program, src string, v any, known []any) {
	t.Helper()
	got, any1, err := p.First(context.Background(), v, known)
	want, any2, wantErr := alone.First(context.Background(), v, known)
	if !reflect.DeepEqual(got, want) || any1 != any2 || fmt.Sprint(err) != fmt.Sprint(wantErr) {
		t.Fatalf("the first of %s: %v, %v, %v, want %v, %v, %v", src, got, any1, err, want, any2, wantErr)
	}
	if text, ok, err := p.Text(context.Background(), v, known); err != ErrUnwritten {
		written, wrong := Marshal(want)
		if !any2 {
			written, wrong = nil, nil
		}
		if string(text) != string(written) || ok != any2 || fmt.Sprint(err) != fmt.Sprint(cmp.Or(wantErr, wrong)) {
			t.Fatalf("the text of %s: %s, %v, want %s, %v", src, text, err, written, wantErr)
		}
	}
}

func objectsIn(v any, into map[uintptr]bool) {
	switch v := v.(type) {
	case map[string]any:
		into[reflect.ValueOf(v).Pointer()] = true
		for _, v := range v {
			objectsIn(v, into)
		}
	case []any:
		for _, v := range v {
			objectsIn(v, into)
		}
	}
}

func TestShapesAreFound(t *testing.T) {
	for src, want := range map[string]bool{
		".": true, ".a": true, ".a.b": true, `.["a"].b`: true, `."a b"`: true, ".a[0]": true, ".a[]": true, ".a[]?": true, ".[]|{a,b}": true, `select(.type=="x")`: true,
		`select(.type=="x" and .n>3)|.data`: true, `{a, "b":.c, d:1, $event}`: true, `if .a then "x" else .b end`: true, ".a // .b": true, "event": true, "$state.n": true,
		`select(.a|not)`: true, "1,.a": true, "empty": true, `if .a == null then empty elif .b then . end`: true, `select(event == "tick")`: true,
		"now": false, ".a|length": false, `"\(.a)"`: false, "..": false, ".a as $x|$x": false, "def f: 1; f": false, "[.a]": false, ".[1:]": false, "{(.a):1}": false,
		"-1": false, "1.0": false, `select(.a[]=="x")`: false, ".[-1]": false,
		".a[-1]": false, ".a[1:]": false, ".a[:2]": false, ".a[.b]": false, `.a["x\(.b)"]`: false, `.a."x\(.b)"`: false, `."x\(.b)"`: false, "(.a)[-1].b": false, ".a[-1]?": false, ".[0][-1]": false,
		`{a:.b[-1]}`: false, `select(.a[-1]==1)`: false, ".a[1.5]": false, "{a:.b[1:]}|.a": false, "if .a[-1] then 1 else 2 end": false, ".a[-1] // .b": false,
	} {
		p, err := withShape(src)
		if err != nil {
			t.Errorf("%s: %v", src, err)
		} else if got := p.shape.run != nil; got != want {
			t.Errorf("%s has a shape: %v, want %v", src, got, want)
		}
	}
}

// words are what random programs are made of; %s is another one.
var shapeWords = []string{".", ".a", ".b", ".a.b", ".[]", ".a[]", ".[0]", ".b[1]", `.["a"]`, "1", "0", "2", `"x"`, `"tick"`, "null", "true", "false", "event", "$state", "state.n", "empty",
	"not", ".a[-1]", ".b[1:]", ".b[.a]", `.a["x\(.b)"]`, "select(%s)", "%s|%s", "%s,%s", "%s==%s", "%s!=%s", "%s<%s", "%s<=%s", "%s>%s", "%s>=%s", "%s and %s", "%s or %s", "%s // %s", "{a:%s,b:(%s)}", "{a,b}", "{a:%s,b,a:%s}", "{$event}", "if %s then %s else %s end", "if %s then %s end",
	"(%s)", "(%s)?", "(%s).a", "(%s)[]", "(%s)[-1]", "(%s)[:%s]", "(%s)[%s]", ".a?", `{"c":%s}`, "if %s then %s elif %s then %s else %s end"}

var shapeDocs = []string{`null`, `1`, `"x"`, `[]`, `{}`, `{"a":1,"b":2}`, `{"a":{"b":"x"},"b":[1,2,{"a":null}]}`, `[{"a":1},{"a":"x"},{"b":false},[3]]`, `{"a":[1,1.0,-0,0,1e3,1000,12345678901234567890],"b":"tick"}`,
	`[[1,2],"a",null,true,{"a":{"b":[]}}]`, `{"a":-5,"b":-5.0}`, `{"a":"\u00e9","b":"z"}`}

func randomShape(rng *rand.Rand, depth int) string {
	word := shapeWords[rng.IntN(len(shapeWords))]
	if depth == 0 {
		word = shapeWords[rng.IntN(26)]
	}
	for strings.Contains(word, "%s") {
		word = strings.Replace(word, "%s", randomShape(rng, depth-1), 1)
	}
	return word
}

// TestShapes holds what shapes yield against gojq, with random programs over all kinds of documents.
func TestShapes(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 12))
	found := 0
	for range 20_000 {
		src := randomShape(rng, rng.IntN(4))
		p, err := withShape(src)
		if err != nil || p.shape.run == nil {
			continue
		}
		found++
		sameAsGojq(t, p, src, shapeDocs[rng.IntN(len(shapeDocs))])
	}
	if found < 5000 {
		t.Errorf("only %d programs had a shape", found)
	}
}

func FuzzShape(f *testing.F) {
	for i, src := range []string{`select(.type=="x")|{a,b}`, ".a[]|select(.b!=1)", "if .a then .b else empty end", `.a // "x"`, ".a<.b,.a==1"} {
		f.Add(src, shapeDocs[i])
	}
	f.Fuzz(func(t *testing.T, src, doc string) {
		if len(src) > 200 || len(doc) > 2000 {
			return
		}
		if p, err := withShape(src); err == nil && p.shape.run != nil {
			sameAsGojq(t, p, src, doc)
		}
	})
}

// TestShapeStops: a shape looks at its context, too.
func TestShapeStops(t *testing.T) {
	p, err := withShape(".[]")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	v, _ := fromText("[" + string(bytes.Repeat([]byte("1,"), 10_000)) + "1]")
	n := 0
	err = p.Run(ctx, v, []any{nil, nil}, func(any) error {
		if n++; n == 10 {
			cancel()
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) || n > 10+stride {
		t.Errorf("%d outputs, %v", n, err)
	}
}

// TestShapeIsBounded: a program that multiplies what it is given ends soon after its context does, whether it has outputs or not; what takes long is gojq's, and its outputs
// are the same.
func TestShapeIsBounded(t *testing.T) {
	for _, src := range []string{strings.Repeat("(.,.)|", 40) + "empty", strings.Repeat("(.,.)|", 40) + ".", strings.Repeat("(.,.)|", 40) + "select(.b)"} {
		p, err := withShape(src)
		if err != nil || p.shape.run == nil {
			t.Fatalf("%s: %v", src, err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		if err := p.Run(ctx, map[string]any{}, []any{nil, nil}, func(any) error { return nil }); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s ends with %v", src, err)
		}
		cancel()
	}
	p, err := withShape(".[]|.[]")
	if err != nil {
		t.Fatal(err)
	}
	v, _ := fromText("[" + strings.Repeat("[0,1,2,3,4,5,6,7,8,9],", heavySteps/10) + "[10]]")
	n := 0
	if err := p.Run(context.Background(), v, []any{nil, nil}, func(v any) error {
		if want := json.Number(fmt.Sprint(n % 10)); n < heavySteps/10*10 && v != want {
			t.Fatalf("output %d is %v, want %v", n, v, want)
		}
		n++
		return nil
	}); err != nil || n != heavySteps/10*10+1 {
		t.Errorf("%d outputs, %v", n, err)
	}
}

// Choices within choices cost what they are: each is looked at once.
func TestShapeOfChoicesIsLinear(t *testing.T) {
	src := ".a"
	for range 64 {
		src = "(" + src + " // .b)"
	}
	p, err := withShape(src)
	if err != nil || p.shape.run == nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { // ends with the program
		ended <- p.Run(context.Background(), map[string]any{"a": true}, []any{nil, nil}, func(any) error { return nil })
	}()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("it takes for ever")
	}
}

// BenchmarkShape is what programs cost that have a shape, beside gojq in the same run.
func BenchmarkShape(b *testing.B) {
	v, _ := fromText(`{"type":"price","symbol":"ACME","price":101.25,"volume":12000,"seq":9007199254740993}`)
	for _, src := range []string{`select(.type=="price")`, ".symbol", "{price,volume}", `if .type=="x" then . else .price end`} {
		b.Run(src, func(b *testing.B) {
			p, err := withShape(src)
			if err != nil || p.shape.run == nil {
				b.Fatal(err)
			}
			var took [2]time.Duration
			sides := [2]*Program{p, {code: p.code, regexps: p.regexps}}
			for b.Loop() {
				for i, p := range sides {
					began := time.Now()
					for range 100 {
						if err := p.Run(context.Background(), v, []any{nil, nil}, func(any) error { return nil }); err != nil {
							b.Fatal(err)
						}
					}
					took[i] += time.Since(began)
				}
			}
			b.ReportMetric(float64(took[0].Nanoseconds())/float64(b.N)/100, "shape-ns")
			b.ReportMetric(float64(took[0])/float64(took[1]), "of-gojq")
		})
	}
}
