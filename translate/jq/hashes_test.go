package jq

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/itchyny/gojq"
)

// outputs are those of a program over a value, with an error as the last.
func outputs(t *testing.T, src string, v any) (all []string) {
	t.Helper()
	query, err := gojq.Parse(src)
	if err != nil {
		t.Fatal(err)
	}
	p, err := Compile(query, nil)
	if err != nil {
		return []string{"compile: " + err.Error()}
	}
	if err := p.Run(t.Context(), v, nil, func(out any) error {
		all = append(all, fmt.Sprint(out))
		return nil
	}); err != nil {
		all = append(all, "error: "+err.Error())
	}
	return all
}

// TestHashes has the vectors of FIPS 180, RFC 1321, RFC 2202 and RFC 4231, and the signatures that three exchanges document.
func TestHashes(t *testing.T) {
	for _, c := range []struct {
		program string
		input   any
		want    string
	}{
		{`sha1`, "abc", "a9993e364706816aba3e25717850c26c9cd0d89d"},
		{`sha256`, "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
		{`sha512|.[:32]`, "abc", "ddaf35a193617abacc417349ae204131"},
		{`md5`, "message digest", "f96b697d7cb7938d525a2f31aaf161d0"},
		{`sha256("base64")`, "", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="},
		{`sha256("base64url")`, "", "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"},
		{`hmac_sha1("Jefe")`, "what do ya want for nothing?", "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"},
		{`hmac_sha256("Jefe")`, "what do ya want for nothing?", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
		{`hmac_sha512("Jefe")|.[:32]`, "what do ya want for nothing?", "164b7a7bfcf819e2e395fbe73b56e0a3"},
		{`hmac_sha256({hex:"0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b"})`, "Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"},
		{`hmac_sha256({base64:"CwsLCwsLCwsLCwsLCwsLCwsLCws="}; "hex")`, "Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"},
		{`hmac_sha256(["Je","fe"])`, []any{"what do ya ", map[string]any{"hex": "77616e74"}, map[string]any{"base64": "IGZvciBub3RoaW5nPw"}}, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
		{`([{hex:"00ff"},"a"]|sha256)==({base64:"AP9h"}|sha256)`, nil, "true"},
		{`base64url`, "a?b>c~", "YT9iPmN-"}, {`base64url_decode`, "YT9iPmN-", "a?b>c~"}, {`base64url_decode`, "YT9iPmN+", "a?b>c~"}, {`"{}"|base64url`, nil, "e30"},
	} {
		got := strings.Join(outputs(t, c.program, c.input), " ")
		if got != c.want {
			t.Errorf("%s of %v: %s, want %s", c.program, c.input, got, c.want)
		}
	}
	for program, want := range map[string]string{
		`1|sha256`: `error: sha256: the input is neither text`, `{hex:"0"}|md5`: `error: md5: the input has hex that is none`, `"a"|hmac_sha256(null)`: `error: hmac_sha256: the key is neither`,
		`"a"|sha256("b64")`: `error: sha256: the form is none`, `1|base64url`: `error: base64url: the input`, `"*"|base64url_decode`: `error: base64url_decode: `, `"_w"|base64url_decode`: `error: base64url_decode: `,
		`{hex:"00",base64:"AA"}|sha1`: `error: sha1: `, `hmac_md5("a")`: "compile: ",
	} {
		if got := strings.Join(outputs(t, program, nil), " "); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s, want %s", program, got, want)
		}
	}
	ids := outputs(t, `uuid,uuid`, nil)
	if !regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(ids[0]) || ids[0] == ids[1] {
		t.Errorf("uuid: %v", ids)
	}
}

// TestHashesAreBounded checks that they hold no more than any function may, and end with their context.
func TestHashesAreBounded(t *testing.T) {
	for _, src := range []string{`"x"*1e7|[range(1e9)|.]|sha256`, `"x"*2e7|[.,.,.,.,.,.]|sha256`, `[range(1e7)|"x"]|hmac_sha512("k")`, `last(range(1e12)|"x"|sha512)`} {
		query, err := gojq.Parse(src)
		if err != nil {
			t.Fatal(err)
		}
		p, err := Compile(query, nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		begun := time.Now()
		err = p.Run(ctx, nil, nil, func(any) error { return nil })
		cancel()
		if took := time.Since(begun); err == nil || took > 10*time.Second {
			t.Errorf("%s: %v after %v", src, err, took)
		}
		if err != nil && !errors.Is(err, ErrMemory) && !errors.Is(err, context.DeadlineExceeded) && !strings.Contains(err.Error(), "too") {
			t.Errorf("%s: %v", src, err)
		}
	}
}
