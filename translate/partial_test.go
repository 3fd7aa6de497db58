package translate

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// sameInPart checks that p makes the same of data whether or not it is read as a whole.
func sameInPart(t *testing.T, p *Program, about string, data string) (partial bool) {
	t.Helper()
	m := Message{Data: []byte(data), Event: "e"}
	whole, err := m.Parse(p.Strict)
	if err != nil {
		whole = m
	}
	type made struct {
		Out      []Message
		Contents []string
		Done     bool
		Err      string
	}
	apply := func(m Message) (got made) {
		var err error
		if got.Out, got.Done, err = p.Apply(context.Background(), m); err != nil {
			got.Err = err.Error()
			if failed, ok := errors.AsType[*ProgramError](err); ok {
				got.Err += failed.Err.Error()
			}
		}
		for i := range got.Out {
			got.Contents = append(got.Contents, string(got.Out[i].Content()))
			got.Out[i].item, got.Out[i].whole, got.Out[i].parsed = nil, false, nil
		}
		return got
	}
	want, got := apply(whole), apply(m)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s of %s: %+v, want %+v", about, data, got, want)
	}
	if string(m.Data) != data {
		t.Errorf("%s of %s: it was written to", about, data)
	}
	names, ok := p.wants()
	if !ok {
		return false
	}
	in, err := partOf(m, &names)
	if err != nil {
		return false
	}
	defer in.released()
	all := slices.Concat(names[:]...)
	for name := range in.value.(map[string]any) {
		if !slices.Contains(all, name) {
			t.Errorf("%s of %s: %q is read, of %q", about, data, name, all)
		}
	}
	return true
}

// partPrograms are programs, and whether they look at no more than some members.
var partPrograms = map[string]bool{
	`SELECT=select(.a=="x")`:                              true,
	`SELECT=select(.a=="x"),EVENT=.b,ID=.c`:               true,
	`SELECT=select(.a=="x"),EVENT=.b,ID=.c,DATA={a,d:.b}`: true,
	`DATA={a,b:.b.c,"c":1}`:                               true,
	`DATA={a,b:.}`:                                        false,
	`DATA=.a`:                                             true,
	`DATA=.`:                                              false,
	`DATA=.,.a`:                                           false,
	`EVENT=.a`:                                            true,
	`EVENT=.`:                                             false,
	`ID=.a // .b // "none"`:                               true,
	`DONE=.a`:                                             true,
	`DONE=(.a|not) or (.b and .c)`:                        true,
	`DONE=.|not`:                                          false,
	`DONE=. == {"a":1}`:                                   false,
	`KEY=.a`:                                              true,
	`SELECT=.a,.b`:                                        true,
	`SELECT=.a[]`:                                         true,
	`SELECT=.a[],EVENT=.b,DATA=.`:                         true,
	`SELECT=.a[],DATA={a,b:.}`:                            true,
	`SELECT=.[]`:                                          false,
	`SELECT=.a|.[]|select(.b)`:                            true,
	`SELECT=(.,.)`:                                        true,
	`SELECT=(.,.a)`:                                       true,
	`SELECT=(.,.a),DATA=.`:                                false,
	`SELECT=if .a then . elif .b then .c else empty end`: true,
	`SELECT=if . then .a else .b end`:                    false,
	`SELECT=. // .a`:                                     true,
	`SELECT=select(.a)|select(.b=="x")|.c`:               true,
	`SELECT=select(.a)|{b}`:                              true,
	`SELECT=select(.a)|keys`:                             false,
	`SELECT=select(.a)|{b}|.[]`:                          true,
	`SELECT={a}|.`:                                       true,
	`SELECT=.["a"].b,DATA=.c`:                            true,
	`SELECT=.[0]`:                                        false,
	`SELECT=$event`:                                      true,
	`SELECT=select(event=="e"),DATA=.a`:                  true,
	`SELECT=select(. == .a)`:                             false,
	`SELECT=length`:                                      false,
	`SELECT=.a|length`:                                   false, // which gojq runs
}

var partDocuments = []string{
	`{"a":"x","b":1,"c":true,"d":[1]}`, `{"d":{"a":"y"},"a":"x"}`, `{}`, ` { } `, `{"a":null}`, `{"a":[{"b":"x"},{"b":null}],"b":{"c":[1, 2]}}`, `{"a":"y","a":"x"}`, `{"a":{"b":{"c":{ "d" : 1}}}}`,
	`{"\u0061":"x"}`, `{"a":"x","\u0061":"y"}`, `{"\\":1,"a":"x"}`, `{"a":"\ud800","b":"\u2028"}`, `{"b":"\ud800","\ud800":1,"a":"x"}`, `{"a":1.50,"b":9007199254740993,"c":-0}`,
	`[{"a":"x"}]`, `"a"`, `1`, `null`, `x`, ``, ` `, `{`, `{"a"`, `{"a":`, `{"a":1`, `{"a":1,`, `{"a":1,}`, `{"a":1}}`, `{"a":1} {}`, `{"a":1}x`, `{"a" 1}`, `{"z":tru,"a":"x"}`, `{"z":01,"a":"x"}`, `{"z":"`, `{"z":[1,}]`,
	`{"a":"x","z":"` + "\x01" + `"}`, `{"a":"x","z":"` + "\xff" + `"}`, `{1:2}`, `{"a":"x"` + "\n\t\r" + `}` + "\n", `{"":1,"a":"x"}`, "\xef\xbb\xbf" + `{"a":"x"}`, "\x0b" + `{"a":"x"}`,
	`{"z":` + strings.Repeat("[", 9999) + strings.Repeat("]", 9999) + `,"a":"x"}`, `{"z":` + strings.Repeat("[", 10000) + strings.Repeat("]", 10000) + `,"a":"x"}`,
	`{"z":` + strings.Repeat(`{"a":`, 9999) + "1" + strings.Repeat("}", 9999) + `,"a":"x"}`, `{"z":` + strings.Repeat(`{"a":`, 10000) + "1" + strings.Repeat("}", 10000) + `,"a":"x"}`,
}

// settingsOf splits a list of settings.
func settingsOf(text string) (settings []string) {
	for _, part := range strings.Split(text, ",") {
		if name, _, ok := strings.Cut(part, "="); ok && slices.Contains([]string{"SELECT", "EVENT", "ID", "DATA", "DONE", "KEY"}, name) {
			settings = append(settings, part)
			continue
		}
		settings[len(settings)-1] += "," + part
	}
	return settings
}

func TestReadInPart(t *testing.T) {
	for text, want := range partPrograms {
		for _, strict := range []string{"", ",strict="} {
			p := program(t, strings.Split(strings.Join(settingsOf(text), "\n")+strings.ReplaceAll(strict, ",", "\n"), "\n")...)
			if _, partly := p.wants(); partly != want {
				t.Errorf("%s: is read in part: %v", text, partly)
			}
			partial := 0
			for _, data := range partDocuments {
				if sameInPart(t, p, text+strict, data) {
					partial++
				}
			}
			if want != (partial > 10) {
				t.Errorf("%s: %d documents are read in part", text, partial)
			}
		}
	}
}

// randomPlain is a plain program.
func randomPlain(g *rand.Rand, depth int) string {
	if depth == 0 {
		return []string{".", ".a", ".b", ".c", ".a.b", `.["b"]`, `"x"`, "1", "null", "true", "$event", "empty", ".[]", ".a[]", ".[0]"}[g.IntN(15)]
	}
	one := func() string { return randomPlain(g, g.IntN(depth)) }
	switch g.IntN(9) {
	case 0:
		return fmt.Sprintf("(%s|%s)", one(), one())
	case 1:
		return fmt.Sprintf("(%s,%s)", one(), one())
	case 2:
		return fmt.Sprintf("(%s %s %s)", one(), []string{"==", "!=", "<", "<="}[g.IntN(4)], one())
	case 3:
		return fmt.Sprintf("(%s %s %s)", one(), []string{"and", "or", "//"}[g.IntN(3)], one())
	case 4:
		return fmt.Sprintf("select(%s)", one())
	case 5:
		return fmt.Sprintf("{a:%s,b:%s}", one(), one())
	case 6:
		return fmt.Sprintf("(if %s then %s else %s end)", one(), one(), one())
	case 7:
		return fmt.Sprintf("(%s|not)", one())
	}
	return one()
}

// randomProgram is some settings of such.
func randomProgram(t testing.TB, g *rand.Rand) (p *Program, text string) {
	var settings []string
	for _, name := range []string{"SELECT", "EVENT", "ID", "DATA", "DONE", "KEY"} {
		if g.IntN(3) == 0 || name == "SELECT" && g.IntN(2) == 0 {
			settings = append(settings, name+"="+randomPlain(g, 1+g.IntN(3)))
		}
	}
	if g.IntN(2) == 0 {
		settings = append(settings, "strict=")
	}
	return program(t, settings...), strings.Join(settings, " ")
}

// TestReadInPartAlike runs random programs over documents.
func TestReadInPartAlike(t *testing.T) {
	g := rand.New(rand.NewPCG(1, 2))
	partial := 0
	for range 4000 {
		p, text := randomProgram(t, g)
		for range 3 {
			if sameInPart(t, p, text, partDocuments[g.IntN(len(partDocuments)-4)]) {
				partial++
			}
		}
		if t.Failed() {
			return
		}
	}
	if partial < 1000 {
		t.Errorf("%d were read in part", partial)
	}
}

func FuzzReadInPart(f *testing.F) {
	for i, data := range partDocuments {
		f.Add([]byte(data), uint64(i))
	}
	f.Fuzz(func(t *testing.T, data []byte, seed uint64) {
		g := rand.New(rand.NewPCG(seed, 3))
		for range 3 {
			p, text := randomProgram(t, g)
			sameInPart(t, p, text, string(data))
		}
	})
}
