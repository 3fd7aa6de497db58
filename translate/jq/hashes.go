// This file is the functions that are no jq's own: what feeds that are signed need. The rules:
//
//   - sha1, sha256, sha512, md5 hash their input; hmac_sha1, hmac_sha256, hmac_sha512 (RFC 2104) sign it with a key, their first argument.
//   - Input and key are text, {"hex": text} or {"base64": text} (either alphabet, padded or not), or an array of these, put together.
//   - The last argument is what the result is written in: "hex" (as without it), "base64" or "base64url" (RFC 4648, section 5, without
//     padding).
//   - base64url and base64url_decode are for text. uuid is a random one (RFC 9562, version 4).

package jq

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"strings"
	"unicode/utf8"

	"github.com/itchyny/gojq"
)

// hashes are the functions by their names; each has an hmac_ too, but for md5, of which nothing should be made any more.
var hashes = map[string]func() hash.Hash{"sha1": sha1.New, "sha256": sha256.New, "sha512": sha512.New, "md5": md5.New}

// Names are the functions of this file, for the documentation.
var Names = []string{"sha1", "sha256", "sha512", "md5", "hmac_sha1", "hmac_sha256", "hmac_sha512", "base64url", "base64url_decode", "uuid"}

// added are gojq's options that make them known.
func added() (all []gojq.CompilerOption) {
	for name, made := range hashes {
		all = append(all, gojq.WithFunction(name, 0, 1, func(v any, args []any) any { return digest(name, made(), v, args) }))
		if name != "md5" {
			all = append(all, gojq.WithFunction("hmac_"+name, 1, 2, func(v any, args []any) any {
				key, err := octets(args[0])
				if err != nil {
					return fmt.Errorf("hmac_%s: the key %w", name, err)
				}
				return digest("hmac_"+name, hmac.New(made, key), v, args[1:])
			}))
		}
	}
	return append(all,
		gojq.WithFunction("base64url", 0, 0, func(v any, _ []any) any {
			text, ok := v.(string)
			if !ok {
				return errors.New("base64url: the input is no text")
			}
			return base64.RawURLEncoding.EncodeToString([]byte(text))
		}),
		gojq.WithFunction("base64url_decode", 0, 0, func(v any, _ []any) any {
			text, _ := v.(string)
			data, err := decoded64(text)
			if _, ok := v.(string); !ok || err != nil || !utf8.Valid(data) {
				return errors.New("base64url_decode: the input is no text in base64")
			}
			return string(data)
		}),
		gojq.WithFunction("uuid", 0, 0, func(any, []any) any { return newUUID() }))
}

// digest is the hash h of v, written as the first of args says.
func digest(name string, h hash.Hash, v any, args []any) any {
	data, err := octets(v)
	if err != nil {
		return fmt.Errorf("%s: the input %w", name, err)
	}
	h.Write(data)
	form := any("hex")
	if len(args) > 0 {
		form = args[0]
	}
	switch sum := h.Sum(nil); form {
	case "hex":
		return hex.EncodeToString(sum)
	case "base64":
		return base64.StdEncoding.EncodeToString(sum)
	case "base64url":
		return base64.RawURLEncoding.EncodeToString(sum)
	}
	return fmt.Errorf(`%s: the form is none of "hex", "base64" and "base64url"`, name)
}

var errOctets = errors.New(`is neither text, {"hex": text}, {"base64": text}, nor an array of these`)

// octets are the bytes that a value stands for.
func octets(v any) ([]byte, error) {
	list, ok := v.([]any)
	if !ok {
		return oneOf(v)
	}
	var all []byte
	for _, part := range list {
		data, err := oneOf(part)
		if err != nil {
			return nil, err
		}
		all = append(all, data...)
	}
	return all, nil
}

func oneOf(v any) ([]byte, error) {
	switch v := v.(type) {
	case string:
		return []byte(v), nil
	case map[string]any:
		if text, ok := v["hex"].(string); ok && len(v) == 1 {
			data, err := hex.DecodeString(text)
			if err != nil {
				return nil, errors.New("has hex that is none")
			}
			return data, nil
		}
		if text, ok := v["base64"].(string); ok && len(v) == 1 {
			return decoded64(text)
		}
	}
	return nil, errOctets
}

// decoded64 reads base64 in either alphabet, with or without padding.
func decoded64(text string) ([]byte, error) {
	text = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(text, "="))
	data, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil {
		return nil, errors.New("has base64 that is none")
	}
	return data, nil
}

func newUUID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
