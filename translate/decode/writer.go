package decode

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"strconv"

	"sidestream/translate"
)

const (
	maxDepth = 256 // of arrays, maps and tags in each other

	// maxBignum bounds the bytes of a number that has no other bound: 20,000 digits, as programs may reckon with.
	maxBignum = 8304
)

var errDepth = fmt.Errorf("it is nested deeper than %d", maxDepth)

// reading is what reads MessagePack or CBOR, and writes JSON. The input is a string, so that a part of it is one without a copy.
type reading struct {
	in    string
	at    int
	depth int
	out   []byte
	bound int // bytes of out
}

func read(data []byte, bound int) reading {
	return reading{in: string(data), bound: bound, out: make([]byte, 0, min(2*len(data)+16, bound+1))}
}

// result is what has been written once the one value that the data shall hold has been read with err.
func (r *reading) result(err error) ([]byte, error) {
	switch {
	case errors.Is(err, ErrTooLarge):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("at byte %d: %w", r.at, err)
	case r.at < len(r.in):
		return nil, fmt.Errorf("at byte %d: %w", r.at, errTrailing)
	case len(r.out) > r.bound:
		return nil, ErrTooLarge
	}
	return r.out, nil
}

// take returns the next n bytes.
func (r *reading) take(n uint64) (string, error) {
	if n > uint64(len(r.in)-r.at) {
		return "", errShort
	}
	from := r.at
	r.at += int(n)
	return r.in[from:r.at], nil
}

// uint returns the next size bytes, at most 8, as a number.
func (r *reading) uint(size int) (v uint64, err error) {
	b, err := r.take(uint64(size))
	for i := range len(b) {
		v = v<<8 | uint64(b[i])
	}
	return v, err
}

// room is an error when what is written, and n bytes more, are over the bound.
func (r *reading) room(n int) error {
	if len(r.out)+n > r.bound {
		return ErrTooLarge
	}
	return nil
}

// word writes true, false or null.
func (r *reading) word(w string) error {
	r.out = append(r.out, w...)
	return r.room(0)
}

// number writes an integer: v, or where negative -1-v.
func (r *reading) number(v uint64, negative bool) error {
	switch {
	case !negative:
		r.out = strconv.AppendUint(r.out, v, 10)
	case v == math.MaxUint64:
		r.out = append(r.out, "-18446744073709551616"...)
	default:
		r.out = strconv.AppendUint(append(r.out, '-'), v+1, 10)
	}
	return r.room(0)
}

// signed writes v.
func (r *reading) signed(v int64) error {
	r.out = strconv.AppendInt(r.out, v, 10)
	return r.room(0)
}

// float writes v, whose digits are the fewest that have its value as a float64, as every JavaScript would show it.
func (r *reading) float(v float64) error {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return r.word("null")
	}
	form := byte('f')
	if abs := math.Abs(v); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		form = 'e'
	}
	r.out = strconv.AppendFloat(r.out, v, form, -1, 64)
	if n := len(r.out); form == 'e' && r.out[n-4] == 'e' && r.out[n-3] == '-' && r.out[n-2] == '0' {
		r.out = append(r.out[:n-2], r.out[n-1]) // 1e-7 rather than 1e-07
	}
	return r.room(0)
}

func (r *reading) text(s string) error {
	if err := r.room(len(s) + 2); err != nil {
		return err
	}
	r.out = translate.AppendJSONString(r.out, s, false)
	return r.room(0)
}

// bytes writes b as base64 text.
func (r *reading) bytes(b string) error {
	if err := r.room(base64.StdEncoding.EncodedLen(len(b)) + 2); err != nil {
		return err
	}
	r.out = append(base64.StdEncoding.AppendEncode(append(r.out, '"'), []byte(b)), '"')
	return nil
}

// deeper is called before what is inside of something, and r.depth falls after it.
func (r *reading) deeper() error {
	if r.depth++; r.depth > maxDepth {
		return errDepth
	}
	return nil
}

// list writes a list of n values, each written by value. more, if not nil, is asked before each instead of counting.
func (r *reading) list(n uint64, more func() (bool, error), value func() error) error {
	return r.many('[', ']', n, more, value)
}

// object writes an object of n pairs, likewise.
func (r *reading) object(n uint64, more func() (bool, error), value func() error) error {
	return r.many('{', '}', n, more, func() error {
		if err := r.key(value); err != nil {
			return err
		}
		r.out = append(r.out, ':')
		return value()
	})
}

func (r *reading) many(open, end byte, n uint64, more func() (bool, error), one func() error) error {
	if err := r.deeper(); err != nil {
		return err
	}
	r.out = append(r.out, open)
	for i := uint64(0); ; i++ {
		goesOn, err := i < n, error(nil)
		if more != nil {
			goesOn, err = more()
		}
		if err != nil {
			return err
		}
		if !goesOn {
			break
		}
		if i > 0 {
			r.out = append(r.out, ',')
		}
		if err := one(); err != nil {
			return err
		}
	}
	r.depth--
	r.out = append(r.out, end)
	return r.room(0)
}

// key writes a key: what is no string becomes the text of its JSON.
func (r *reading) key(value func() error) error {
	from := len(r.out)
	if err := value(); err != nil {
		return err
	}
	if r.out[from] == '"' {
		return nil
	}
	r.out = translate.AppendJSONString(r.out[:from], string(r.out[from:]), false)
	return r.room(0)
}
