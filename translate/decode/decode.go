// Package decode undoes what a legacy service has packed its messages in: compression (gzip, zlib, raw deflate), MessagePack and CBOR, of which
// JSON is made in one pass. A route names the [Steps] in DECODE.
//
// # Rules
//
//   - A message decodes whole or not at all: one that is cut short, or that something follows, is an error. Members of gzip that stand one
//     after the other are one message (RFC 1952, section 2.2).
//   - No result, of a step between neither, is larger than the bound that the caller sets. Nothing is allocated by a length that the data
//     declares, and nesting is bounded (maxDepth).
//   - Numbers keep all their digits, maps the order of their keys, and keys that come twice come twice, as in any JSON.
//   - What JSON does not have becomes what RFC 8949, section 6.1, advises: NaN, infinities, undefined and simple values without a meaning
//     are null, tags are left out. Bytes are base64 text, in the standard encoding, as BINARY=base64 has it.
//   - A key that is no text becomes its JSON's text. What is not UTF-8 in text is the replacement character.
//   - Errors say where, and quote nothing of the data.
//
// MessagePack and CBOR are read by code of this package for these rules: libraries that decode into a map lose the order of its keys and
// take five times as long, and the one that writes JSON at once, tinylib/msgp, writes NaN as such and has no bound for what it writes. Tests
// hold this package to such libraries where both have an answer.
package decode

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Step is one codec, by the name that DECODE gives it.
type Step string

// The codecs.
const (
	Gzip    Step = "gzip"    // RFC 1952
	Deflate Step = "deflate" // RFC 1951, without a frame
	Zlib    Step = "zlib"    // RFC 1950
	Msgpack Step = "msgpack" // github.com/msgpack/msgpack, spec.md of 2017, with timestamps
	CBOR    Step = "cbor"    // RFC 8949
)

// Steps are what a message goes through, in order. None: it stays as it is.
type Steps []Step

// ErrTooLarge is the error of a message that is larger than its bound once it is decoded, or on the way there.
var ErrTooLarge = errors.New("it is larger than MAX_MESSAGE once it is decoded")

const maxSteps = 4

// Parse reads the value of DECODE: names with commas. The error completes a sentence that begins with the setting, and tells the fix.
func Parse(text string) (steps Steps, err error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	for name := range strings.SplitSeq(text, ",") {
		step := Step(strings.TrimSpace(name))
		switch {
		case !slices.Contains([]Step{Gzip, Deflate, Zlib, Msgpack, CBOR}, step):
			return nil, fmt.Errorf("%q is not known; write gzip, deflate, zlib, msgpack or cbor, or several in the order in which they are undone, such as zlib,msgpack", string(step))
		case steps.JSON():
			return nil, fmt.Errorf("%s yields JSON, of which nothing is left to decode; write it last, and %s before it", steps[len(steps)-1], step)
		case len(steps) == maxSteps:
			return nil, fmt.Errorf("has more than %d steps; write those that the service has taken", maxSteps)
		}
		steps = append(steps, step)
	}
	return steps, nil
}

// JSON reports whether the result is JSON of this package's making; otherwise it is whatever was compressed.
func (s Steps) JSON() bool {
	return len(s) > 0 && (s[len(s)-1] == Msgpack || s[len(s)-1] == CBOR)
}

// String is the value of DECODE.
func (s Steps) String() string {
	names := make([]string, len(s))
	for i, step := range s {
		names[i] = string(step)
	}
	return strings.Join(names, ",")
}

// Decode returns what data holds, in memory of its own. The result of each step has at most bound bytes; above that the error wraps
// [ErrTooLarge]. Any other is of data that does not decode. Safe for concurrent use.
func (s Steps) Decode(data []byte, bound int) (out []byte, err error) {
	out = data
	for _, step := range s {
		switch step {
		case Msgpack:
			out, err = fromMsgpack(out, bound)
		case CBOR:
			out, err = fromCBOR(out, bound)
		default:
			out, err = inflated(step, out, bound)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", step, err)
		}
	}
	return out, nil
}
