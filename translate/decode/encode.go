package decode

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
	"strconv"
)

// AppendMsgpack appends text, which is one JSON value, as MessagePack: integers up to 64 bits as such, other numbers as float64. The error is
// that it is no JSON.
func AppendMsgpack(dst, text []byte) ([]byte, error) {
	if !json.Valid(text) {
		return dst, errors.New("it is no JSON")
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	return appendValue(dst, d)
}

func appendValue(dst []byte, d *json.Decoder) ([]byte, error) {
	token, err := d.Token()
	if err != nil {
		return dst, err
	}
	switch v := token.(type) {
	case json.Delim:
		return appendMany(dst, d, v == '{')
	case string:
		return append(appendLength(dst, len(v)), v...), nil
	case json.Number:
		return appendNumber(dst, v.String()), nil
	case bool:
		if v {
			return append(dst, 0xc3), nil
		}
		return append(dst, 0xc2), nil
	}
	return append(dst, 0xc0), nil
}

// appendMany appends a list or an object, whose length is known only then.
func appendMany(dst []byte, d *json.Decoder, object bool) ([]byte, error) {
	from, n := len(dst), uint32(0)
	dst = append(dst, 0xdd, 0, 0, 0, 0)
	var err error
	for d.More() {
		if dst, err = appendValue(dst, d); err != nil {
			return dst, err
		}
		n++
	}
	if object {
		dst[from] = 0xdf
		n /= 2 // a key is a value of its own here
	}
	binary.BigEndian.PutUint32(dst[from+1:], n)
	_, err = d.Token() // its end
	return dst, err
}

// appendLength appends what stands before n bytes of text.
func appendLength(dst []byte, n int) []byte {
	switch {
	case n < 32:
		return append(dst, 0xa0|byte(n))
	case n <= math.MaxUint8:
		return append(dst, 0xd9, byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(dst, 0xda), uint16(n))
	}
	return binary.BigEndian.AppendUint32(append(dst, 0xdb), uint32(n))
}

func appendNumber(dst []byte, text string) []byte {
	if v, err := strconv.ParseInt(text, 10, 64); err == nil {
		switch {
		case v >= -32 && v < 128:
			return append(dst, byte(v))
		case v >= math.MinInt32 && v <= math.MaxInt32:
			return binary.BigEndian.AppendUint32(append(dst, 0xd2), uint32(v))
		}
		return binary.BigEndian.AppendUint64(append(dst, 0xd3), uint64(v))
	}
	if v, err := strconv.ParseUint(text, 10, 64); err == nil {
		return binary.BigEndian.AppendUint64(append(dst, 0xcf), v)
	}
	v, _ := strconv.ParseFloat(text, 64) // an infinity, where it is too large
	return binary.BigEndian.AppendUint64(append(dst, 0xcb), math.Float64bits(v))
}
