// This file reads CBOR (RFC 8949). The first byte of an item has its major type in three bits, and in five a number, or how many bytes it has:
//
//	0 unsigned   1 negative: -1-n   2 bytes   3 text   4 array   5 map   6 tag   7 simple values and floats
//	0-23 the number itself   24 25 26 27 it has 1, 2, 4, 8 bytes   31 of indefinite length: up to ff
//
// Tag 2 and 3 are integers of any length, 21 to 23 say how the bytes inside are written as text. Any other is left out: a time of tag 0 is
// its text, one of tag 1 its number of seconds.

package decode

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"math"
	"math/big"
	"strings"
)

var errCBOR = errors.New("it has a byte that CBOR does not have there")

// The major types.
const (
	cborUnsigned = iota
	cborNegative
	cborBytes
	cborText
	cborArray
	cborMap
	cborTag
	cborSimple
)

const (
	cborEndless = 31   // of indefinite length
	cborBreak   = 0xff // ends it
)

type cbor struct {
	reading
	form uint64 // the tag 21 to 23 that the bytes are inside of; 0 none
}

// fromCBOR is data, which is one item, as JSON of at most bound bytes.
func fromCBOR(data []byte, bound int) ([]byte, error) {
	r := cbor{reading: read(data, bound)}
	return r.result(r.item())
}

// head reads the first byte of an item and its number.
func (r *cbor) head() (major int, info byte, n uint64, err error) {
	b, err := r.uint(1)
	if err != nil {
		return 0, 0, 0, err
	}
	major, info = int(b>>5), byte(b&31)
	switch {
	case info < 24:
		n = uint64(info)
	case info < 28:
		n, err = r.uint(1 << (info - 24))
	case info != cborEndless || major <= cborNegative || major == cborTag:
		err = errCBOR
	}
	return major, info, n, err
}

func (r *cbor) item() error {
	major, info, n, err := r.head()
	if err != nil {
		return err
	}
	var more func() (bool, error)
	if info == cborEndless {
		more = r.more
	}
	switch major {
	case cborUnsigned, cborNegative:
		return r.number(n, major == cborNegative)
	case cborBytes, cborText:
		s, err := r.string(major, info, n)
		if err == nil && major == cborText {
			return r.text(s)
		} else if err == nil {
			return r.binary(s)
		}
		return err
	case cborArray:
		return r.list(n, more, r.item)
	case cborMap:
		return r.object(n, more, r.item)
	case cborTag:
		return r.tag(n)
	}
	return r.simple(info, n)
}

// more reports whether what is of indefinite length goes on.
func (r *cbor) more() (bool, error) {
	if r.at == len(r.in) {
		return false, errShort
	}
	if r.in[r.at] != cborBreak {
		return true, nil
	}
	r.at++
	return false, nil
}

// string reads bytes or text, which may come in chunks.
func (r *cbor) string(major int, info byte, n uint64) (string, error) {
	if info != cborEndless {
		return r.take(n)
	}
	var all strings.Builder
	for {
		switch goesOn, err := r.more(); {
		case err != nil:
			return "", err
		case !goesOn:
			return all.String(), nil
		}
		kind, info, n, err := r.head()
		if err == nil && (kind != major || info == cborEndless) {
			err = errCBOR
		}
		if err != nil {
			return "", err
		}
		chunk, err := r.take(n)
		if err != nil {
			return "", err
		}
		all.WriteString(chunk)
	}
}

// binary writes bytes in the form that a tag has asked for.
func (r *cbor) binary(s string) error {
	if err := r.room(2 * len(s)); r.form != 0 && err != nil {
		return err
	}
	switch r.form {
	case 21:
		return r.text(base64.RawURLEncoding.EncodeToString([]byte(s)))
	case 23:
		return r.text(strings.ToUpper(hex.EncodeToString([]byte(s))))
	}
	return r.bytes(s)
}

func (r *cbor) tag(n uint64) error {
	if err := r.deeper(); err != nil {
		return err
	}
	defer func() { r.depth-- }()
	switch {
	case n == 2 || n == 3:
		return r.bignum(n == 3)
	case n >= 21 && n <= 23:
		was := r.form
		r.form = n
		defer func() { r.form = was }()
	}
	return r.item()
}

// bignum reads the bytes of an integer.
func (r *cbor) bignum(negative bool) error {
	major, info, n, err := r.head()
	if err != nil {
		return err
	}
	if major != cborBytes {
		return errors.New("it has a bignum that is not made of bytes")
	}
	b, err := r.string(major, info, n)
	if err != nil {
		return err
	}
	if b = strings.TrimLeft(b, "\x00"); len(b) > maxBignum {
		return errors.New("it has an integer of more than 20,000 digits")
	}
	v := new(big.Int).SetBytes([]byte(b))
	if negative {
		v.Not(v)
	}
	r.out = v.Append(r.out, 10)
	return r.room(0)
}

func (r *cbor) simple(info byte, n uint64) error {
	switch info {
	case 20:
		return r.word("false")
	case 21:
		return r.word("true")
	case 24:
		if n < 32 {
			return errCBOR
		}
	case 25:
		return r.float(float16(uint16(n)))
	case 26:
		return r.float(float64(math.Float32frombits(uint32(n))))
	case 27:
		return r.float(math.Float64frombits(n))
	case cborEndless:
		return errCBOR // an end of nothing
	}
	return r.word("null")
}

// float16 is the value of a number of half precision (RFC 8949, appendix D).
func float16(half uint16) float64 {
	exponent, mantissa := int(half>>10&31), float64(half&1023)
	var v float64
	switch exponent {
	case 0:
		v = math.Ldexp(mantissa, -24)
	case 31:
		return math.NaN() // or an infinity, which is null likewise
	default:
		v = math.Ldexp(mantissa+1024, exponent-25)
	}
	if half>>15 == 1 {
		return -v
	}
	return v
}
