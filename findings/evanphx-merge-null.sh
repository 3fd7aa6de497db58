#!/usr/bin/env bash
# Guess: a JSON merge patch replaces arrays as a whole (RFC 7396, section 2), and null removes members of objects alone, not of objects in an array. What a library's own
#   CreateMergePatch has made of two documents, its MergePatch turns into the second, where no object outside of an array has a null.
# Instead: evanphx/json-patch takes the members that are null out of the objects in an array that a patch brings, at any depth. But not always: where an object was before, the same
#   array goes in as it is. So what comes of a patch depends on what it replaces, and its own patches do not lead from the one document to the other. No error is returned.
# Version: github.com/evanphx/json-patch/v5 v5.9.11 and gopkg.in/evanphx/json-patch.v4 v4.12.0, Go 1.26; npm json-merge-patch 1.0.2 and json8-merge-patch 1.0.4 for comparison.
# Why it matters: services of Go merge with it (Kubernetes' API server with v4), and a page that has the same patches from a stream merges with another. In lists of rows,
#   {"id":1,"closed":null} is usual; the two copies part there for good, and a page that waits for "closed" to be null, not undefined, waits on.
set -euo pipefail
cd "$(mktemp -d)"; trap 'rm -rf "$PWD"' EXIT
npm init -y >/dev/null && npm install --silent --no-audit --no-fund json-merge-patch@1.0.2 json8-merge-patch@1.0.4 >/dev/null 2>&1
cat >cases.json <<'JSON'
[
  [{}, {"rows":[{"id":1,"closed":null}]}],
  [{"rows":[{"id":1}]}, {"rows":[{"id":1,"closed":null},null]}],
  [{"rows":[]}, {"rows":[{"id":1,"of":[{"closed":null}]}]}],
  [{"rows":{}}, {"rows":[{"id":1,"closed":null}]}]
]
JSON
cat >look.mjs <<'JS'
import { readFileSync } from "node:fs";
import merge from "json-merge-patch";
import json8 from "json8-merge-patch";

for (const [doc, patch] of JSON.parse(readFileSync("cases.json"))) {
  const others = [merge.apply(structuredClone(doc), patch), json8.apply(structuredClone(doc), patch)];
  for (const other of others) console.log(`other: ${JSON.stringify(doc)} with ${JSON.stringify(patch)} is ${JSON.stringify(other)}`);
}
JS
cat >go.mod <<'MOD'
module see

go 1.26.0
MOD
cat >main.go <<'GO'
package main

import (
	"encoding/json"
	"fmt"
	"os"

	jsonpatch "github.com/evanphx/json-patch/v5"
	v4 "gopkg.in/evanphx/json-patch.v4"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func main() {
	var cases [][2]json.RawMessage
	if err := json.Unmarshal(must(os.ReadFile("cases.json")), &cases); err != nil {
		panic(err)
	}
	for _, c := range cases {
		fmt.Printf("evanphx: %s with %s is %s\n", c[0], c[1], must(jsonpatch.MergePatch(c[0], c[1])))
		fmt.Printf("evanphx v4: %s with %s is %s\n", c[0], c[1], must(v4.MergePatch(c[0], c[1])))
	}
	from, to := []byte(`{"rows":[]}`), []byte(`{"rows":[{"id":1,"closed":null}]}`)
	patch := must(jsonpatch.CreateMergePatch(from, to))
	fmt.Printf("evanphx: its own patch from %s to %s is %s, and leads to %s\n", from, to, patch, must(jsonpatch.MergePatch(from, patch)))
}
GO
go mod edit -require=github.com/evanphx/json-patch/v5@v5.9.11 -require=gopkg.in/evanphx/json-patch.v4@v4.12.0
{ node look.mjs && GOFLAGS=-mod=mod go run . 2>err || { cat err >&2; exit 1; }; } | tee saw
cat >want <<'TEXT'
other: {} with {"rows":[{"id":1,"closed":null}]} is {"rows":[{"id":1,"closed":null}]}
other: {} with {"rows":[{"id":1,"closed":null}]} is {"rows":[{"id":1,"closed":null}]}
other: {"rows":[{"id":1}]} with {"rows":[{"id":1,"closed":null},null]} is {"rows":[{"id":1,"closed":null},null]}
other: {"rows":[{"id":1}]} with {"rows":[{"id":1,"closed":null},null]} is {"rows":[{"id":1,"closed":null},null]}
other: {"rows":[]} with {"rows":[{"id":1,"of":[{"closed":null}]}]} is {"rows":[{"id":1,"of":[{"closed":null}]}]}
other: {"rows":[]} with {"rows":[{"id":1,"of":[{"closed":null}]}]} is {"rows":[{"id":1,"of":[{"closed":null}]}]}
other: {"rows":{}} with {"rows":[{"id":1,"closed":null}]} is {"rows":[{"id":1,"closed":null}]}
other: {"rows":{}} with {"rows":[{"id":1,"closed":null}]} is {"rows":[{"id":1,"closed":null}]}
evanphx: {} with {"rows":[{"id":1,"closed":null}]} is {"rows":[{"id":1}]}
evanphx v4: {} with {"rows":[{"id":1,"closed":null}]} is {"rows":[{"id":1}]}
evanphx: {"rows":[{"id":1}]} with {"rows":[{"id":1,"closed":null},null]} is {"rows":[{"id":1},null]}
evanphx v4: {"rows":[{"id":1}]} with {"rows":[{"id":1,"closed":null},null]} is {"rows":[{"id":1},null]}
evanphx: {"rows":[]} with {"rows":[{"id":1,"of":[{"closed":null}]}]} is {"rows":[{"id":1,"of":[{}]}]}
evanphx v4: {"rows":[]} with {"rows":[{"id":1,"of":[{"closed":null}]}]} is {"rows":[{"id":1,"of":[{}]}]}
evanphx: {"rows":{}} with {"rows":[{"id":1,"closed":null}]} is {"rows":[{"id":1,"closed":null}]}
evanphx v4: {"rows":{}} with {"rows":[{"id":1,"closed":null}]} is {"rows":[{"id":1,"closed":null}]}
evanphx: its own patch from {"rows":[]} to {"rows":[{"id":1,"closed":null}]} is {"rows":[{"closed":null,"id":1}]}, and leads to {"rows":[{"id":1}]}
TEXT
diff want saw || { echo "That has changed." >&2; exit 1; }
