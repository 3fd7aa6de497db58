package decode

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	fxcbor "github.com/fxamacker/cbor/v2"
	"github.com/tinylib/msgp/msgp"
)

// checked is what must hold of any result.
func checked(t *testing.T, s Steps, data []byte, bound int) (got []byte, ok bool) {
	t.Helper()
	was := bytes.Clone(data)
	got, err := s.Decode(data, bound)
	if !bytes.Equal(was, data) {
		t.Fatal("the message was changed")
	}
	if err != nil {
		if got != nil {
			t.Fatalf("%q with %v", got, err)
		}
		return nil, false
	}
	if len(got) > bound {
		t.Fatalf("%d bytes of %d", len(got), bound)
	}
	if s.JSON() && !json.Valid(got) {
		t.Fatalf("%q is not JSON", got)
	}
	return got, true
}

func seeds(f *testing.F, step Step) {
	for _, one := range golden(f) {
		if one[0] == string(step) {
			f.Add([]byte(one[1]))
		}
	}
}

func FuzzDecodeMsgpack(f *testing.F) {
	seeds(f, Msgpack)
	f.Fuzz(func(t *testing.T, data []byte) {
		got, ok := checked(t, Steps{Msgpack}, data, 4096)
		if packed, _, err := Notepack(data, 4096, true); err == nil && (!json.Valid(packed) || len(packed) > 4096) || ok && len(got) < 1024 && err != nil {
			t.Fatalf("%q, %v", packed, err)
		}
		// tinylib/msgp shall find the same value, but for what it has other rules for.
		var theirs bytes.Buffer
		rest, err := msgp.UnmarshalAsJSON(&theirs, data)
		if ok && err == nil && len(rest) > 0 {
			t.Fatalf("%q, and tinylib/msgp finds %d bytes after it", got, len(rest))
		}
		if ok && err == nil && !foreign(data) && !sameJSON(got, theirs.Bytes()) {
			t.Fatalf("%q, tinylib/msgp: %q", got, &theirs)
		}
	})
}

// foreign reports whether data may have what tinylib/msgp writes in a form of its own: floats, extensions and bytes.
func foreign(data []byte) bool {
	return slices.ContainsFunc(data, func(b byte) bool { return b >= 0xc4 && b <= 0xcb || b >= 0xd4 && b <= 0xd8 })
}

func FuzzDecodeCBOR(f *testing.F) {
	seeds(f, CBOR)
	f.Fuzz(func(t *testing.T, data []byte) {
		_, ok := checked(t, Steps{CBOR}, data, 4096)
		// fxamacker/cbor shall call the same messages well-formed: what decodes is, with as many levels.
		if err := wellFormed(data); ok && err != nil {
			t.Fatalf("fxamacker/cbor: %v", err)
		} else if _, err2 := (Steps{CBOR}).Decode(data, 1<<20); err == nil && err2 != nil && !errors.Is(err2, ErrTooLarge) && !errors.Is(err2, errDepth) && !strings.Contains(err2.Error(), "bignum") && !strings.Contains(err2.Error(), "digits") {
			t.Fatalf("%v, which fxamacker/cbor finds well-formed", err2)
		}
	})
}

var wellFormed = func() func([]byte) error {
	mode, err := fxcbor.DecOptions{MaxNestedLevels: 2 * maxDepth, MaxArrayElements: 1 << 30, MaxMapPairs: 1 << 30}.DecMode()
	if err != nil {
		panic(err)
	}
	return mode.Wellformed
}()

func FuzzDecodeCompressed(f *testing.F) {
	for i, step := range []Step{Gzip, Zlib, Deflate} {
		f.Add(compressed(f, step, `{"a":1}`), byte(i))
	}
	f.Fuzz(func(t *testing.T, data []byte, which byte) {
		step := []Step{Gzip, Zlib, Deflate}[which%3]
		checked(t, Steps{step}, data, 4096)
		checked(t, Steps{step, Msgpack}, data, 4096)
		if got, ok := checked(t, Steps{step}, compressed(t, step, string(data)), 1<<20); !ok || !bytes.Equal(got, data) {
			t.Fatalf("%s: %q of %q", step, got, data)
		}
	})
}

// sameJSON compares two texts as values whose numbers have all their digits.
func sameJSON(a, b []byte) bool {
	value := func(text []byte) any {
		d := json.NewDecoder(bytes.NewReader(text))
		d.UseNumber()
		var v any
		if d.Decode(&v) != nil {
			return "not JSON"
		}
		return v
	}
	x, errX := json.Marshal(value(a))
	y, errY := json.Marshal(value(b))
	return errX == nil && errY == nil && bytes.Equal(x, y)
}
