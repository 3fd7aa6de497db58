// This file is the table of recent fields that a client's heads refer to (HPACK, RFC 7541). net/http has it, and says of it
// nothing; a net/http that is called back has to be given it. So what the client does to it is followed here.

package h2

import (
	"sync"

	"golang.org/x/net/http2/hpack"
)

const (
	tableMost  = 4096          // bytes, as net/http lets a client have; a client says if it uses less
	fieldCost  = 32            // bytes that a field counts besides its own (section 4.1)
	stringMost = 4 * tableMost // bytes of a string by Huffman's code: one that is longer does not fit into the table
	numberMost = 1 << 28       // beyond which there is nothing of sense
)

// table is what of a client's fields can be referred to. It is written the blocks of heads, as they come.
type table struct {
	fields []hpack.HeaderField // newest last
	size   int
	most   int  // bytes
	broken bool // a block was none: net/http ends the connection

	step   uint8
	then   uint8 // after a number
	kind   uint8 // of the field that is read
	coded  bool  // the string that is read is by Huffman's code
	second bool  // it is the value
	shift  uint8 // of what comes of the number
	number int
	left   int    // bytes of the string
	text   []byte // what there is of the string, if the field goes into the table
	field  hpack.HeaderField
}

// What is read next.
const (
	readKind   = iota // a field, or whatever else there is
	readNumber        // more of a number
	readLength        // how long a string is
	readString        // the string
	// What the number was, once it is read.
	isIndex
	isName
	isLimit
	isLength
)

// What a field is.
const (
	fieldPasses = iota // it does not go into the table
	fieldStays
)

// newTable is that of a connection that begins.
func newTable() table { return table{most: tableMost} }

// staticNames are those of appendix A.
var staticNames = sync.OnceValue(func() (names []string) {
	d := hpack.NewDecoder(0, func(f hpack.HeaderField) { names = append(names, f.Name) })
	for i := byte(1); i <= 61; i++ {
		d.Write([]byte{0x80 | i})
	}
	return names
})

// whole is whether no field is begun and not ended.
func (t *table) whole() bool { return t.step == readKind && !t.broken }

// write takes in a part of a block.
func (t *table) write(p []byte) {
	for len(p) > 0 && !t.broken {
		if t.step == readString {
			n := min(len(p), t.left)
			t.keep(p[:n])
			if p, t.left = p[n:], t.left-n; t.left == 0 {
				t.told()
			}
			continue
		}
		b := p[0]
		p = p[1:]
		switch t.step {
		case readKind:
			t.begin(b)
		case readLength:
			t.coded = b&0x80 != 0
			t.count(b, 7, isLength)
		case readNumber:
			t.number += int(b&0x7f) << t.shift
			if t.shift += 7; t.number > numberMost || t.shift > 28 {
				t.broken = true
			} else if b&0x80 == 0 {
				t.counted()
			}
		}
	}
}

// begin reads the first byte of a field (section 6).
func (t *table) begin(b byte) {
	t.kind, t.second, t.field = fieldPasses, false, hpack.HeaderField{}
	switch {
	case b&0x80 != 0:
		t.count(b, 7, isIndex)
	case b&0x40 != 0:
		t.kind = fieldStays
		t.count(b, 6, isName)
	case b&0x20 != 0:
		t.count(b, 5, isLimit)
	default:
		t.count(b, 4, isName)
	}
}

// count reads the first byte of a number, of which so many bits are its (section 5.1).
func (t *table) count(b byte, bits uint, then uint8) {
	t.then, t.shift = then, 0
	t.number = int(b) & (1<<bits - 1)
	if t.step = readNumber; t.number < 1<<bits-1 {
		t.counted()
	}
}

// counted goes on after a number.
func (t *table) counted() {
	switch t.step = readKind; t.then {
	case isName:
		t.step = readLength
		if t.number == 0 {
			return
		}
		t.second = true
		if t.kind == fieldStays {
			name, ok := t.name(t.number)
			t.field.Name, t.broken = name, !ok
		}
	case isLimit:
		if t.broken = t.number > tableMost; !t.broken {
			t.most = t.number
			t.evict()
		}
	case isLength:
		t.left, t.text = t.number, t.text[:0]
		if t.step = readString; t.left == 0 {
			t.told()
		}
	}
}

// keep remembers some of a string.
func (t *table) keep(p []byte) {
	if t.kind == fieldStays && len(t.text) < stringMost {
		t.text = append(t.text, p...)
	}
}

// told goes on after a string.
func (t *table) told() {
	text := ""
	if t.kind == fieldStays {
		text = string(t.text)
		if t.coded && len(t.text) <= stringMost {
			decoded, err := hpack.HuffmanDecodeToString(t.text)
			text, t.broken = decoded, err != nil
		}
	}
	if !t.second {
		t.field.Name, t.second, t.step = text, true, readLength
		return
	}
	t.step = readKind
	if t.kind == fieldStays {
		t.field.Value = text
		t.add(t.field)
	}
	t.field = hpack.HeaderField{}
	if cap(t.text) > 256 {
		t.text = nil
	}
}

// name is that of the field with this index (section 2.3.3).
func (t *table) name(index int) (name string, ok bool) {
	static := staticNames()
	switch newest := index - len(static); {
	case newest <= 0:
		return static[index-1], true
	case newest <= len(t.fields):
		return t.fields[len(t.fields)-newest].Name, true
	}
	return "", false
}

// add has f be the newest field (section 4.4).
func (t *table) add(f hpack.HeaderField) {
	t.fields = append(t.fields, f)
	t.size += int(f.Size())
	t.evict()
}

// evict forgets the oldest fields until the rest has room.
func (t *table) evict() {
	n := 0
	for ; t.size > t.most; n++ {
		t.size -= int(t.fields[n].Size())
	}
	if n > 0 {
		kept := copy(t.fields, t.fields[n:])
		clear(t.fields[kept:])
		t.fields = t.fields[:kept]
	}
}

// appendBlock appends a block after which a table that is empty is as t.
func (t *table) appendBlock(dst []byte) []byte {
	if t.most != tableMost {
		dst = appendNumber(dst, 0x20, 5, t.most)
	}
	for _, f := range t.fields {
		dst = appendString(appendString(append(dst, 0x40), f.Name), f.Value)
	}
	return dst
}

func appendString(dst []byte, s string) []byte { return append(appendNumber(dst, 0, 7, len(s)), s...) }

// appendNumber appends n, with so many bits in its first byte.
func appendNumber(dst []byte, first byte, bits uint, n int) []byte {
	full := 1<<bits - 1
	if n < full {
		return append(dst, first|byte(n))
	}
	dst = append(dst, first|byte(full))
	for n -= full; n >= 0x80; n >>= 7 {
		dst = append(dst, byte(n)|0x80)
	}
	return append(dst, byte(n))
}
