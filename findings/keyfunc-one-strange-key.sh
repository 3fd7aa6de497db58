#!/usr/bin/env bash
# Guess: a JWKS that holds, beside the key in use, one of a type or curve that the library does not know (an issuer tries out ML-DSA, or has
#   a secp256k1 key for something else) goes on verifying tokens of the known key: RFC 7517, section 5, has implementations ignore keys
#   whose "kty" is not understood.
# What happens: the whole set is refused. No token verifies from the moment at which the issuer publishes the strange key, whatever key signed
#   it, and the error names the strange key only.
# Versions: github.com/MicahParks/keyfunc/v3 v3.9.2 with jwkset v0.11.4, Go 1.26.
# Why it matters here: whoever reads an issuer's keys has to take them one by one, or an addition at the issuer locks everybody out.
set -euo pipefail
cd "$(mktemp -d)"; trap 'rm -rf "$PWD"' EXIT
cat >go.mod <<'MOD'
module see

go 1.26.0
MOD
cat >main.go <<'GO'
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"fmt"

	"github.com/MicahParks/keyfunc/v3"
)

func main() {
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	point, _ := key.PublicKey.Bytes()
	text := base64.RawURLEncoding.EncodeToString
	known := fmt.Sprintf(`{"kty":"EC","crv":"P-256","kid":"a","x":%q,"y":%q}`, text(point[1:33]), text(point[33:]))
	for _, beside := range []string{``, `,{"kty":"AKP","alg":"ML-DSA-44","kid":"b","pub":"AA"}`, `,{"kty":"EC","crv":"secp256k1","kid":"b","x":"AA","y":"AA"}`} {
		_, err := keyfunc.NewJWKSetJSON([]byte(`{"keys":[` + known + beside + `]}`))
		fmt.Println(err == nil)
	}
}
GO
go get github.com/MicahParks/keyfunc/v3@v3.9.2 github.com/MicahParks/jwkset@v0.11.4 >/dev/null 2>&1
go mod tidy >/dev/null 2>&1
saw="$(go run . | tr '\n' ' ')"
echo "$saw"
[ "$saw" = "true false false " ] || { echo "this has changed" >&2; exit 1; }
