package translate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

func sameJSON(a, b any) bool {
	d := differ{ctx: context.Background(), most: 1}
	return d.equal(a, b)
}

// follow gives p the next document and holds that its event leads there from was.
func follow(t testing.TB, p *Patcher, was any, doc string) (now any, event string) {
	t.Helper()
	made, err := p.Next(context.Background(), Message{Data: []byte(doc)})
	if err != nil {
		t.Fatalf("%s: %v", doc, err)
	}
	want, err := ParseJSON([]byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	now = was
	for _, m := range made {
		if m.Event == EventSnapshot {
			now, err = ParseJSON(m.Data)
		} else {
			now, err = ApplyPatch(was, m.Data)
		}
		if state, bad := ParseJSON(m.State); bad != nil || !sameJSON(state, want) {
			t.Fatalf("the state of %s is %s", doc, m.State)
		}
		event = m.Event + " " + string(m.Data)
	}
	if err != nil || !sameJSON(now, want) {
		t.Fatalf("%s became %v by %s: %v", doc, now, event, err)
	}
	return now, event
}

func TestPatches(t *testing.T) {
	const pad = `"pad":"so that a patch is smaller than the document that it is of, which is not what is tested here"`
	for name, test := range map[string]struct{ key, was, now, want string }{
		"equal":                  {"", `{"a":1}`, ` { "a" : 1 } `, ""},
		"order of members":       {"", `{"a":1,"b":2}`, `{"b":2,"a":1}`, ""},
		"replace, add, remove":   {"", `{"a":1,"b":2,` + pad + `}`, `{"a":2,"c":3,` + pad + `}`, `patch [{"op":"replace","path":"/a","value":2},{"op":"remove","path":"/b"},{"op":"add","path":"/c","value":3}]`},
		"pointers":               {"", `{"a/b":{"~":1},"":2,` + pad + `}`, `{"a/b":{"~":2},"":3,` + pad + `}`, `patch [{"op":"replace","path":"/","value":3},{"op":"replace","path":"/a~1b/~0","value":2}]`},
		"digits are kept":        {"", `{"a":9007199254740993,` + pad + `}`, `{"a":9007199254740994,` + pad + `}`, `patch [{"op":"replace","path":"/a","value":9007199254740994}]`},
		"a type":                 {"", `{"a":{},` + pad + `}`, `{"a":[],` + pad + `}`, `patch [{"op":"replace","path":"/a","value":[]}]`},
		"null":                   {"", `{"a":null,` + pad + `}`, `{"a":0,"b":null,` + pad + `}`, `patch [{"op":"replace","path":"/a","value":0},{"op":"add","path":"/b","value":null}]`},
		"larger than the doc":    {"", `{"a":1}`, `{"b":2}`, `snapshot {"b":2}`},
		"another root":           {"", `{"a":1}`, `[1]`, `snapshot [1]`},
		"grows at its end":       {"", `{"l":[1,2],` + pad + `}`, `{"l":[1,2,3],` + pad + `}`, `patch [{"op":"add","path":"/l/2","value":3}]`},
		"grows at its beginning": {"", `{"l":[1,2],` + pad + `}`, `{"l":[3,1,2],` + pad + `}`, `patch [{"op":"add","path":"/l/0","value":3}]`},
		"shrinks in the middle":  {"", `{"l":[1,2,3,4],` + pad + `}`, `{"l":[1,4],` + pad + `}`, `patch [{"op":"remove","path":"/l/2"},{"op":"remove","path":"/l/1"}]`},
		"first to last, keyed": {".id", `{"l":[{"id":1},{"id":2},{"id":3},{"id":4}],` + pad + `}`, `{"l":[{"id":2},{"id":3},{"id":4},{"id":1}],` + pad + `}`,
			`patch [{"op":"move","from":"/l/0","path":"/l/3"}]`},
		"last to first, keyed": {".id", `{"l":[{"id":1},{"id":2},{"id":3},{"id":4}],` + pad + `}`, `{"l":[{"id":4},{"id":1},{"id":2},{"id":3}],` + pad + `}`,
			`patch [{"op":"move","from":"/l/3","path":"/l/0"}]`},
		"gone, new and changed, keyed": {".id", `{"l":[{"id":1,"x":1},{"id":2,"x":2},{"id":3,"x":3}],` + pad + `}`, `{"l":[{"id":4,"x":4},{"id":2,"x":2},{"id":3,"x":9}],` + pad + `}`,
			`patch [{"op":"remove","path":"/l/0"},{"op":"add","path":"/l/0","value":{"id":4,"x":4}},{"op":"replace","path":"/l/2/x","value":9}]`},
		"the same key twice": {".id", `{"l":[{"id":1},{"id":1}],` + pad + `}`, `{"l":[{"id":1},{"id":2}],` + pad + `}`, `patch [{"op":"replace","path":"/l/1/id","value":2}]`},
		"a key is missing":   {".id", `{"l":[{"id":1},{}],` + pad + `}`, `{"l":[{"id":2},{}],` + pad + `}`, `patch [{"op":"replace","path":"/l/0/id","value":2}]`},
		"1 is not \"1\"":     {".id", `{"l":[{"id":1},{"id":"1"}],` + pad + `}`, `{"l":[{"id":"1"},{"id":1}],` + pad + `}`, `patch [{"op":"move","from":"/l/0","path":"/l/1"}]`},
	} {
		p := patcher(t, test.key)
		was, event := follow(t, p, nil, test.was)
		if want := "snapshot " + strings.TrimSpace(test.was); event != want {
			t.Errorf("%s: begins with %s", name, event)
		}
		if _, event := follow(t, p, was, test.now); event != test.want {
			t.Errorf("%s:\n\t%s\nwant\n\t%s", name, event, test.want)
		}
	}
}

func patcher(t testing.TB, key string) *Patcher {
	t.Helper()
	if key == "" {
		return NewPatcher(nil)
	}
	code, err := CompileJQ("KEY", key)
	if err != nil {
		t.Fatal(err)
	}
	return NewPatcher(code)
}

// A document that cannot be read changes nothing, and neither does one that took too long.
func TestPatcherFails(t *testing.T) {
	p := patcher(t, "if .slow then last(repeat(1)) else .id end")
	const long = "long enough for a patch to be smaller than it, and that is long"
	was, _ := follow(t, p, nil, `[{"id":1,"x":"`+long+`"}]`)
	if _, err := p.Next(context.Background(), Message{Data: []byte(`{`)}); !errors.Is(err, ErrPayload) {
		t.Errorf("%v", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	stop()
	var program *ProgramError
	if _, err := p.Next(ctx, Message{Data: []byte(`[{"id":1,"slow":1},{"id":2}]`)}); !errors.As(err, &program) || !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if _, event := follow(t, p, was, `[{"id":1,"x":"`+long+`","y":2}]`); !strings.HasPrefix(event, "patch") {
		t.Errorf("%s", event)
	}
}

// Few elements of a long list that change places cost few operations.
func TestPatchesOfReordering(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	ids := random.Perm(500)
	list := func() string {
		var b bytes.Buffer
		for i, id := range ids {
			fmt.Fprintf(&b, `%c{"id":%d,"name":"element %d"}`, ",["[min(1, max(0, 1-i))], id, id)
		}
		return b.String() + "]"
	}
	p := patcher(t, ".id")
	was, _ := follow(t, p, nil, list())
	for range 20 {
		for range 3 {
			from, to := random.IntN(len(ids)), random.IntN(len(ids))
			id := ids[from]
			ids = slices.Insert(slices.Delete(ids, from, from+1), to, id)
		}
		var event string
		was, event = follow(t, p, was, list())
		if n := strings.Count(event, `"op"`); n > 3 || !strings.HasPrefix(event, "patch") {
			t.Fatalf("%d operations: %s", n, event)
		}
	}
}

// randomJSON writes a value that is often like others it writes.
func randomJSON(random *rand.Rand, depth int) any {
	kind := random.IntN(8)
	if depth == 0 {
		kind %= 4
	}
	switch kind {
	case 0:
		return nil
	case 1:
		return random.IntN(3)
	case 2:
		return []string{"", "a", "~/\"\n", "é"}[random.IntN(4)]
	case 3:
		return random.IntN(2) == 0
	case 4, 5:
		list := []any{}
		for range random.IntN(6) {
			list = append(list, randomJSON(random, depth-1))
		}
		return list
	}
	object := map[string]any{"pad": strings.Repeat("x", random.IntN(80))}
	for range random.IntN(5) {
		object[[]string{"id", "a", "b", "x/y", ""}[random.IntN(5)]] = randomJSON(random, depth-1)
	}
	return object
}

func TestPatchesOfAnything(t *testing.T) {
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 0))
		p := patcher(t, []string{"", ".id"}[seed%2])
		var was any
		for range 12 {
			doc, err := json.Marshal(map[string]any{"pad": strings.Repeat("p", 200), "v": randomJSON(random, 4)})
			if err != nil {
				t.Fatal(err)
			}
			was, _ = follow(t, p, was, string(doc))
		}
	}
}

func FuzzPatch(f *testing.F) {
	f.Add(`[{"id":1},{"id":2},{"id":3}]`, `[{"id":3,"x":1},{"id":1}]`, true)
	f.Add(`{"a":[1,2,3]}`, `{"a":[0,1,3]}`, false)
	f.Fuzz(func(t *testing.T, a, b string, keyed bool) {
		key := ""
		if keyed {
			key = ".id"
		}
		p := patcher(t, key)
		for _, doc := range []*string{&a, &b} {
			if _, err := ParseJSON([]byte(*doc)); err != nil {
				return
			}
			*doc = fmt.Sprintf(`{"pad":"%s","doc":%s}`, strings.Repeat("p", 200), *doc)
		}
		was, _ := follow(t, p, nil, a)
		was, _ = follow(t, p, was, b)
		follow(t, p, was, a)
	})
}

// Lists in lists cost no more than their time.
func TestPatchesOfDeepListsAreCut(t *testing.T) {
	p := NewPatcher(nil)
	doc := func(last int) Message {
		return Message{Data: []byte(strings.Repeat("[", 3000) + strings.Repeat("0,", 50000) + strconv.Itoa(last) + strings.Repeat("]", 3000))}
	}
	if _, err := p.Next(context.Background(), doc(1)); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer stop()
	began := time.Now()
	if _, err := p.Next(ctx, doc(2)); !errors.Is(err, context.DeadlineExceeded) && err != nil {
		t.Errorf("%v", err)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("took %v", took)
	}
}

// TestApplyPatch checks that what is no patch, or does not fit, is an error.
func TestApplyPatch(t *testing.T) {
	for _, patch := range []string{`{}`, `[1]`, `[{"op":"add","path":"/x"}]`, `[{"op":"remove","path":"/y"}]`, `[{"op":"replace","path":"/y","value":1}]`, `[{"op":"test","path":"/a"}]`,
		`[{"op":"remove","path":"a"}]`, `[{"op":"add","path":"/l/9","value":1}]`, `[{"op":"remove","path":"/l/-1"}]`, `[{"op":"add","path":"/l/x","value":1}]`,
		`[{"op":"add","path":"/a/b","value":1}]`, `[{"op":"move","path":"/b","from":7}]`, `[{"op":"remove","path":7}]`, `nonsense`} {
		doc, _ := ParseJSON([]byte(`{"a":1,"l":[1,2]}`))
		if got, err := ApplyPatch(doc, []byte(patch)); err == nil {
			t.Errorf("%s was applied: %v", patch, got)
		}
	}
}
