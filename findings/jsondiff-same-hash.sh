#!/usr/bin/env bash
# Guess: with Factorize, wI2L/jsondiff writes "copy" in place of "add" where the document already has the value that is added; with Equivalent it leaves out arrays of the same elements in another
#   order. Either patch, applied, gives the other document, or one that differs from it in the order of arrays.
# Instead: both hold values for the same when a hash is, into which all texts within a value go one after another without what stands between or around them: "x" is ["x"], {"k":"v"} is ["k","v"],
#   ["ab","c"] is ["a","bc"], "", [] and {} are one. Factorize copies the one where the other is meant; Equivalent sees no difference, nor one between [1,2,2] and [1,1,2]. No error is raised.
#   Without options the patches are right, and so are those of gomodules' jsonpatch for the same.
# Version: github.com/wI2L/jsondiff v0.7.1, gomodules.xyz/jsonpatch/v2 v2.5.0; applied by github.com/evanphx/json-patch/v5 v5.9.11; Go 1.26.
# Why it matters: a page that follows such patches shows what nobody said from then on, and nothing tells it. The sidecar's own patches copy nothing and compare values whole.
set -euo pipefail
cd "$(mktemp -d)"; trap 'rm -rf "$PWD"' EXIT
cat >main.go <<'GO'
package main

import (
	"encoding/json"
	"fmt"

	apply "github.com/evanphx/json-patch/v5"
	"github.com/wI2L/jsondiff"
	"gomodules.xyz/jsonpatch/v2"
)

// applied tells what patch makes of doc.
func applied(patch any, doc string) string {
	text, _ := json.Marshal(patch)
	if string(text) == "null" {
		text = []byte("[]")
	}
	p, err := apply.DecodePatch(text)
	if err != nil {
		return err.Error()
	}
	got, err := p.Apply([]byte(doc))
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%s by %s", got, text)
}

func main() {
	for _, c := range [][2]string{
		{`{"a":"x"}`, `{"a":"x","b":["x"]}`},
		{`{"a":{"k":"v"}}`, `{"a":{"k":"v"},"b":["k","v"]}`},
		{`{"a":["ab","c"]}`, `{"a":["ab","c"],"b":["a","bc"]}`},
		{`{"a":""}`, `{"a":"","b":{}}`},
	} {
		copies, _ := jsondiff.CompareJSON([]byte(c[0]), []byte(c[1]), jsondiff.Factorize())
		adds, _ := jsondiff.CompareJSON([]byte(c[0]), []byte(c[1]))
		other, _ := jsonpatch.CreatePatch([]byte(c[0]), []byte(c[1]))
		fmt.Printf("%s to %s\n  Factorize: %s\n  without: %s\n  gomodules: %s\n", c[0], c[1], applied(copies, c[0]), applied(adds, c[0]), applied(other, c[0]))
	}
	for _, c := range [][2]string{{`[["a","b"]]`, `[["b","a"]]`}, {`[["a"],"b"]`, `["a",["b"]]`}, {`[1,2,2]`, `[1,1,2]`}, {`[1,2]`, `[1,3]`}} {
		patch, _ := jsondiff.CompareJSON([]byte(c[0]), []byte(c[1]), jsondiff.Equivalent())
		fmt.Printf("Equivalent, %s to %s: %d operations\n", c[0], c[1], len(patch))
	}
}
GO
export GOFLAGS=-mod=mod GOTOOLCHAIN=local
go mod init look >/dev/null 2>&1
go get github.com/wI2L/jsondiff@v0.7.1 gomodules.xyz/jsonpatch/v2@v2.5.0 github.com/evanphx/json-patch/v5@v5.9.11 >/dev/null 2>&1
go run . | tee seen
diff seen - <<'WANT'
{"a":"x"} to {"a":"x","b":["x"]}
  Factorize: {"a":"x","b":"x"} by [{"op":"copy","from":"/a","path":"/b"}]
  without: {"a":"x","b":["x"]} by [{"value":["x"],"op":"add","path":"/b"}]
  gomodules: {"a":"x","b":["x"]} by [{"op":"add","path":"/b","value":["x"]}]
{"a":{"k":"v"}} to {"a":{"k":"v"},"b":["k","v"]}
  Factorize: {"a":{"k":"v"},"b":{"k":"v"}} by [{"op":"copy","from":"/a","path":"/b"}]
  without: {"a":{"k":"v"},"b":["k","v"]} by [{"value":["k","v"],"op":"add","path":"/b"}]
  gomodules: {"a":{"k":"v"},"b":["k","v"]} by [{"op":"add","path":"/b","value":["k","v"]}]
{"a":["ab","c"]} to {"a":["ab","c"],"b":["a","bc"]}
  Factorize: {"a":["ab","c"],"b":["ab","c"]} by [{"op":"copy","from":"/a","path":"/b"}]
  without: {"a":["ab","c"],"b":["a","bc"]} by [{"value":["a","bc"],"op":"add","path":"/b"}]
  gomodules: {"a":["ab","c"],"b":["a","bc"]} by [{"op":"add","path":"/b","value":["a","bc"]}]
{"a":""} to {"a":"","b":{}}
  Factorize: {"a":"","b":""} by [{"op":"copy","from":"/a","path":"/b"}]
  without: {"a":"","b":{}} by [{"value":{},"op":"add","path":"/b"}]
  gomodules: {"a":"","b":{}} by [{"op":"add","path":"/b","value":{}}]
Equivalent, [["a","b"]] to [["b","a"]]: 0 operations
Equivalent, [["a"],"b"] to ["a",["b"]]: 0 operations
Equivalent, [1,2,2] to [1,1,2]: 0 operations
Equivalent, [1,2] to [1,3]: 1 operations
WANT
# 2026-12-01: as above.
