#!/usr/bin/env bash
# Guess: a flate.Writer of Go that is flushed after each message refers back to the messages before it, whatever its level and its Go, so that messages that are alike
#   take a fraction of their size.
# What happens: since Go 1.27 a flush of less than 128 bytes is compressed without looking back at the levels 2 to 6, the default among them, and what came before
#   it is forgotten for what comes after, too: a stream of small messages is hardly smaller than the messages. From level 7 on, and with Go 1.26 from level 2 on, it is
#   less than half.
# Versions: Go 1.26.8 and 1.27.3, compress/flate.
# Why it matters here: events of a stream are flushed one by one, and so are WebSocket messages with context takeover; a change of the toolchain, which changes no
#   test of correctness, makes them grow. Runs of COMPRESS=gzip are at level 7 for that.
set -euo pipefail
cd "$(mktemp -d)"; trap 'rm -rf "$PWD"' EXIT
cat >main.go <<'GO'
package main

import (
	"bytes"
	"compress/flate"
	"fmt"
	"runtime"
)

func main() {
	fmt.Print(runtime.Version())
	for _, level := range []int{2, 4, 6, -1, 7, 9} {
		var out bytes.Buffer
		w, _ := flate.NewWriter(&out, level)
		in := 0
		for i := range 500 {
			n, _ := fmt.Fprintf(w, `{"type":"ticker","symbol":"ACME","n":%d}`, i)
			in += n
			w.Flush()
		}
		fmt.Printf(" level %d: %v;", level, out.Len() < in/2)
	}
	fmt.Println()
}
GO
printf 'module x\n\ngo 1.26\n' >go.mod
saw="$(for go in go1.26.8 go1.27.3; do GOTOOLCHAIN=$go go run .; done)"
echo "$saw"
# Seen: whether 500 messages of some 40 bytes, each flushed, take less than half of their bytes
[ "$saw" = "go1.26.8 level 2: true; level 4: true; level 6: true; level -1: true; level 7: true; level 9: true;
go1.27.3 level 2: false; level 4: false; level 6: false; level -1: false; level 7: true; level 9: true;" ] || { echo "this has changed" >&2; exit 1; }
