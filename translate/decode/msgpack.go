// This file reads MessagePack (github.com/msgpack/msgpack/blob/master/spec.md):
//
//	00-7f  integer    80-8f map    90-9f array    a0-bf text    e0-ff negative integer
//	c0 null           c2 false     c3 true        c1 never used
//	c4 c5 c6 bytes    c7 c8 c9 extension          ca cb float32, float64
//	cc cd ce cf       unsigned     d0 d1 d2 d3    signed        of 1, 2, 4, 8 bytes
//	d4 d5 d6 d7 d8    extension of 1, 2, 4, 8, 16 bytes
//	d9 da db text     dc dd array  de df map
//
// Extension -1 is a time: RFC 3339 in UTC, with as much of a second as there is. Any other, and a time out of the years 0 to 9999, is
// {"type":5,"data":"base64"}.

package decode

import (
	"errors"
	"math"
	"time"
)

type msgpack struct {
	reading
	notepack bool // extension 0 is notepack.io's
	plain    bool // bytes are written as text
	binary   bool // there were bytes
}

// fromMsgpack is data, which is one value in MessagePack, as JSON of at most bound bytes.
func fromMsgpack(data []byte, bound int) ([]byte, error) {
	r := msgpack{reading: read(data, bound)}
	return r.result(r.value())
}

func (r *msgpack) value() error {
	head, err := r.uint(1)
	if err != nil {
		return err
	}
	switch b := byte(head); {
	case b <= 0x7f:
		return r.number(head, false)
	case b <= 0x8f:
		return r.object(head&0x0f, nil, r.value)
	case b <= 0x9f:
		return r.list(head&0x0f, nil, r.value)
	case b <= 0xbf:
		return r.string(head&0x1f, r.text)
	case b >= 0xe0:
		return r.signed(int64(int8(b)))
	case b >= 0xd4 && b <= 0xd8:
		return r.extension(1<<(b-0xd4), true)
	default:
		return r.sized(b)
	}
}

// sized reads what has a number of 1, 2, 4 or 8 bytes after its first.
func (r *msgpack) sized(b byte) error {
	switch b {
	case 0xc0:
		return r.word("null")
	case 0xc1:
		return errors.New("it has a byte that MessagePack does not use")
	case 0xc2:
		return r.word("false")
	case 0xc3:
		return r.word("true")
	}
	size := sizes[b-0xc4]
	n, err := r.uint(size)
	if err != nil {
		return err
	}
	switch {
	case b <= 0xc6:
		return r.string(n, r.raw)
	case b <= 0xc9:
		return r.extension(n, false)
	case b == 0xca:
		return r.float(float64(math.Float32frombits(uint32(n))))
	case b == 0xcb:
		return r.float(math.Float64frombits(n))
	case b <= 0xcf:
		return r.number(n, false)
	case b <= 0xd3:
		return r.signed(int64(n<<(64-8*size)) >> (64 - 8*size))
	case b <= 0xdb:
		return r.string(n, r.text)
	case b <= 0xdd:
		return r.list(n, nil, r.value)
	}
	return r.object(n, nil, r.value)
}

// sizes are those of the numbers after the bytes from c4 on. d4 to d8 have none.
var sizes = [...]int{1, 2, 4, 1, 2, 4, 4, 8, 1, 2, 4, 8, 1, 2, 4, 8, 0, 0, 0, 0, 0, 1, 2, 4, 2, 4, 2, 4}

// string reads n bytes that write writes.
func (r *msgpack) string(n uint64, write func(string) error) error {
	s, err := r.take(n)
	if err != nil {
		return err
	}
	return write(s)
}

// raw writes bytes.
func (r *msgpack) raw(b string) error {
	r.binary = true
	if r.plain {
		return r.text(b)
	}
	return r.bytes(b)
}

// extension reads one of n bytes; fixed: its size stood in its first byte.
func (r *msgpack) extension(n uint64, fixed bool) error {
	kind, err := r.uint(1)
	if err != nil {
		return err
	}
	data, err := r.take(n)
	if err != nil {
		return err
	}
	switch {
	case r.notepack && kind == 0 && fixed:
		return r.undefinedOrDate(data)
	case r.notepack && kind == 0:
		return r.raw(data)
	case int8(kind) == -1:
		if at, ok := msgpackTime(data); ok {
			return r.text(at.Format(time.RFC3339Nano))
		}
	}
	r.out = append(r.out, `{"type":`...)
	if err := r.signed(int64(int8(kind))); err != nil {
		return err
	}
	r.out = append(r.out, `,"data":`...)
	if err := r.bytes(data); err != nil {
		return err
	}
	return r.word("}")
}

// msgpackTime is the time of an extension -1.
func msgpackTime(data string) (at time.Time, ok bool) {
	r := reading{in: data}
	var seconds int64
	var ns uint64
	switch len(data) {
	case 4:
		v, _ := r.uint(4)
		seconds = int64(v)
	case 8:
		v, _ := r.uint(8)
		seconds, ns = int64(v&(1<<34-1)), v>>34
	case 12:
		ns, _ = r.uint(4)
		v, _ := r.uint(8)
		seconds = int64(v)
	default:
		return at, false
	}
	const first, last = -62167219200, 253402300799 // of the years that RFC 3339 has
	if seconds < first || seconds > last || ns >= 1e9 {
		return at, false
	}
	return time.Unix(seconds, int64(ns)).UTC(), true
}
