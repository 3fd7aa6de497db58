#!/usr/bin/env bash
# Guess: "/" is the member whose name is empty, and "" the whole document, as the example of RFC 6901, section 5, has it. A name is a name: what is done to the member "" comes out as for
#   any other, or there is an error.
# Instead: where a value is read, evanphx/json-patch takes the empty name for the object itself. "test" of the member fails, "copy" of it at the top copies the whole document, "move" from further
#   down writes null and loses the value, and what is done below it changes nothing at the top and is an error further down. Where the member itself is set or removed all is well.
# Version: github.com/evanphx/json-patch/v5 v5.9.11, Go 1.26; npm rfc6902 5.4.0 for comparison.
# Why it matters: with MODE=patch a program holds a document by the patches of a stream, and one of Go may have another document from then on
#   without knowing. Such members are not made up: in package-lock.json "" is the package itself.
set -euo pipefail
cd "$(mktemp -d)"; trap 'rm -rf "$PWD"' EXIT
npm init -y >/dev/null && npm install --silent --no-audit --no-fund rfc6902@5.4.0 >/dev/null 2>&1
cat >cases.json <<'JSON'
[
  [{"":1,"a":2}, [{"op":"test","path":"/","value":1}]],
  [{"":1,"a":2}, [{"op":"copy","from":"/","path":"/b"}]],
  [{"o":{"":1}}, [{"op":"move","from":"/o/","path":"/b"}]],
  [{"o":{"a":1}}, [{"op":"move","from":"/o/a","path":"/b"}]],
  [{"":{"a":1}}, [{"op":"add","path":"//b","value":2}]],
  [{"o":{"":{"a":1}}}, [{"op":"replace","path":"/o//a","value":2}]],
  [{"":1,"a":2}, [{"op":"replace","path":"/","value":3}]],
  [{"":1,"a":2}, [{"op":"remove","path":"/"}]]
]
JSON
cat >look.mjs <<'JS'
import { readFileSync } from "node:fs";
import { applyPatch } from "rfc6902";

for (const [doc, patch] of JSON.parse(readFileSync("cases.json"))) {
  const [error] = applyPatch(doc, patch);
  console.log(`rfc6902: ${JSON.stringify(patch[0])}: ${error ? "an error" : JSON.stringify(doc)}`);
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
)

func main() {
	text, err := os.ReadFile("cases.json")
	if err != nil {
		panic(err)
	}
	var cases [][2]json.RawMessage
	if err := json.Unmarshal(text, &cases); err != nil {
		panic(err)
	}
	for _, c := range cases {
		patch, err := jsonpatch.DecodePatch(c[1])
		if err != nil {
			panic(err)
		}
		out, err := patch.Apply(c[0])
		if err != nil {
			out = []byte("an error")
		}
		fmt.Printf("evanphx: %s: %s\n", c[1][1:len(c[1])-1], out)
	}
}
GO
go mod edit -require=github.com/evanphx/json-patch/v5@v5.9.11
{ node look.mjs && GOFLAGS=-mod=mod go run . 2>err || { cat err >&2; exit 1; }; } | tee saw
cat >want <<'TEXT'
rfc6902: {"op":"test","path":"/","value":1}: {"":1,"a":2}
rfc6902: {"op":"copy","from":"/","path":"/b"}: {"":1,"a":2,"b":1}
rfc6902: {"op":"move","from":"/o/","path":"/b"}: {"o":{},"b":1}
rfc6902: {"op":"move","from":"/o/a","path":"/b"}: {"o":{},"b":1}
rfc6902: {"op":"add","path":"//b","value":2}: {"":{"a":1,"b":2}}
rfc6902: {"op":"replace","path":"/o//a","value":2}: {"o":{"":{"a":2}}}
rfc6902: {"op":"replace","path":"/","value":3}: {"":3,"a":2}
rfc6902: {"op":"remove","path":"/"}: {"a":2}
evanphx: {"op":"test","path":"/","value":1}: an error
evanphx: {"op":"copy","from":"/","path":"/b"}: {"":1,"a":2,"b":{"":1,"a":2}}
evanphx: {"op":"move","from":"/o/","path":"/b"}: {"o":{},"b":null}
evanphx: {"op":"move","from":"/o/a","path":"/b"}: {"o":{},"b":1}
evanphx: {"op":"add","path":"//b","value":2}: {"":{"a":1}}
evanphx: {"op":"replace","path":"/o//a","value":2}: an error
evanphx: {"op":"replace","path":"/","value":3}: {"":3,"a":2}
evanphx: {"op":"remove","path":"/"}: {"a":2}
TEXT
diff want saw || { echo "That has changed." >&2; exit 1; }
