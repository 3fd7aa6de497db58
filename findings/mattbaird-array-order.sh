#!/usr/bin/env bash
# Guess: a JSON Patch that mattbaird/jsonpatch makes of two documents leads from the one to the other. It does for arrays of the same length, in whatever order.
# Instead: where the lengths differ it takes an array for a bag: it removes and adds what the one has and the other has not, and what is in both stays in the order that it had. ["a","b","c"] to ["c","a"] is one
#   "remove", which leaves ["a","c"]. No error is raised; gomodules' jsonpatch, which began as this one, is right.
# Version: github.com/mattbaird/jsonpatch v0.0.0-20240118010651-0ba75a80ca38, gomodules.xyz/jsonpatch/v2 v2.5.0; applied by github.com/evanphx/json-patch/v5 v5.9.11; Go 1.26.
# Why it matters: a list that is sorted by a rank or a price, of which one falls out while others change places, is the common case of such feeds; a page that follows these patches shows it in an order
#   of before. The sidecar's own patches are held to the document that they lead to.
set -euo pipefail
cd "$(mktemp -d)"; trap 'rm -rf "$PWD"' EXIT
cat >main.go <<'GO'
package main

import (
	"encoding/json"
	"fmt"

	apply "github.com/evanphx/json-patch/v5"
	"github.com/mattbaird/jsonpatch"
	gomodules "gomodules.xyz/jsonpatch/v2"
)

// applied tells what patch makes of doc.
func applied(patch any, doc string) string {
	text, _ := json.Marshal(patch)
	p, err := apply.DecodePatch(text)
	if err != nil {
		return err.Error()
	}
	got, err := p.Apply([]byte(doc))
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%s by %d operations", got, len(p))
}

func main() {
	for _, c := range [][2]string{{`["a","b","c"]`, `["c","b","a"]`}, {`["a","b","c"]`, `["c","a"]`}, {`["a","b"]`, `["b","a","c"]`}, {`[1,2,3]`, `[3,1]`}} {
		theirs, _ := jsonpatch.CreatePatch([]byte(c[0]), []byte(c[1]))
		others, _ := gomodules.CreatePatch([]byte(c[0]), []byte(c[1]))
		fmt.Printf("%s to %s: mattbaird %s, gomodules %s\n", c[0], c[1], applied(theirs, c[0]), applied(others, c[0]))
	}
}
GO
export GOFLAGS=-mod=mod GOTOOLCHAIN=local
go mod init look >/dev/null 2>&1
go get github.com/mattbaird/jsonpatch@v0.0.0-20240118010651-0ba75a80ca38 gomodules.xyz/jsonpatch/v2@v2.5.0 github.com/evanphx/json-patch/v5@v5.9.11 >/dev/null 2>&1
go run . | tee seen
diff seen - <<'WANT'
["a","b","c"] to ["c","b","a"]: mattbaird ["c","b","a"] by 2 operations, gomodules ["c","b","a"] by 2 operations
["a","b","c"] to ["c","a"]: mattbaird ["a","c"] by 1 operations, gomodules ["c","a"] by 3 operations
["a","b"] to ["b","a","c"]: mattbaird ["a","b","c"] by 1 operations, gomodules ["b","a","c"] by 3 operations
[1,2,3] to [3,1]: mattbaird [1,3] by 1 operations, gomodules [3,1] by 3 operations
WANT
# 2026-12-01: as above.
