//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"

	"sidestream/translate"
)

// suitePatch is one of json-patch-tests.
type suitePatch struct {
	Doc      json.RawMessage
	Expected json.RawMessage
}

// patchSuite reads json-patch-tests (https://github.com/json-patch/json-patch-tests), which npm has.
func patchSuite(t *testing.T) (all []suitePatch) {
	for _, name := range []string{"tests", "spec_tests"} {
		text, err := os.ReadFile("clients/node_modules/json-patch-test-suite/" + name + ".json")
		if err != nil {
			t.Fatal(err)
		}
		var some []suitePatch
		if err := json.Unmarshal(text, &some); err != nil {
			t.Fatal(err)
		}
		all = append(all, some...)
	}
	return all
}

// padded is a document in another one, so that a patch is smaller than that.
func padded(doc []byte) string {
	return `{"pad":"` + strings.Repeat("p", 400) + `","v":` + string(doc) + `}`
}

// TestPatches has three libraries follow the patches of MODE=patch: from each document of json-patch-tests to each that becomes of another, and from one to the
// next of random ones, with and without a key.
func TestPatches(t *testing.T) {
	t.Parallel()
	var docs []string
	for _, s := range patchSuite(t) {
		for _, doc := range []json.RawMessage{s.Doc, s.Expected} {
			if doc != nil {
				docs = append(docs, padded(doc))
			}
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 1500 {
		doc, err := json.Marshal(anything(random, 4))
		if err != nil {
			t.Fatal(err)
		}
		docs = append(docs, padded(doc))
	}
	key, err := translate.CompileJQ("KEY", ".id")
	if err != nil {
		t.Fatal(err)
	}
	var in bytes.Buffer
	patches := 0
	for _, p := range []*translate.Patcher{translate.NewPatcher(nil), translate.NewPatcher(key)} {
		last := ""
		for _, doc := range docs {
			made, err := p.Next(context.Background(), translate.Message{Data: []byte(doc)})
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range made {
				if m.Event == translate.EventPatch {
					fmt.Fprintf(&in, "[%s,%s,%s]\n", last, m.Data, m.State)
					patches++
				}
				last = string(m.State)
			}
		}
	}
	cmd := exec.Command("node", "clients/patches.mjs")
	cmd.Stdin = &in
	out, err := cmd.CombinedOutput()
	if want := fmt.Sprintf("%d patches\n", patches); err != nil || string(out) != want || patches < 1500 {
		t.Errorf("%v: %.2000s, want %s", err, out, want)
	}
}

// anything is a value that is often like others.
func anything(random *rand.Rand, depth int) any {
	kind := random.IntN(9)
	if depth == 0 {
		kind %= 5
	}
	switch kind {
	case 0:
		return nil
	case 1:
		return random.IntN(3)
	case 2:
		return []string{"", "a", "~/\"\n", "é", "__proto"}[random.IntN(5)]
	case 3:
		return random.IntN(2) == 0
	case 4:
		return 1.5
	case 5, 6:
		list := []any{}
		for range random.IntN(6) {
			list = append(list, anything(random, depth-1))
		}
		return list
	}
	object := map[string]any{}
	for range random.IntN(5) {
		object[[]string{"id", "a", "b~1", "x/y", "", "0", "-", "é"}[random.IntN(8)]] = anything(random, depth-1)
	}
	return object
}
