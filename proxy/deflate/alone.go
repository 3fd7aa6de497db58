package deflate

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"sync"
)

// Header is what an answer begins with (RFC 1952, section 2.3): no flags, no time, no system.
const Header = "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"

const (
	storedMost = 64        // bytes that are stored: compressed they would hardly be fewer
	blockMost  = 1<<16 - 1 // bytes of a stored block (RFC 1951, section 3.2.4)
	blockFront = 5         // bytes before those
	outMost    = 256 << 10 // bytes that a buffer keeps for the next use
)

// AppendAlone appends blocks that stand alone for what parts are, put together.
func AppendAlone(dst []byte, parts ...[]byte) []byte {
	size := 0
	for _, p := range parts {
		size += len(p)
	}
	if size == 0 {
		return dst
	}
	if size <= storedMost {
		return appendStored(dst, size, parts)
	}
	a := aloners.Get().(*aloner)
	defer aloners.Put(a)
	a.out.Reset()
	a.w.Reset(&a.out)
	for _, p := range parts {
		a.w.Write(p) // to memory, which does not fail
	}
	a.w.Flush()
	if a.out.Len() > size+(size/blockMost+1)*blockFront+len(flush) { // what is compressed or random already
		dst = appendStored(dst, size, parts)
	} else {
		dst = append(dst, a.out.Bytes()...)
	}
	letGo(&a.out)
	return dst
}

// aloner compresses what stands alone: fast, since each client that is behind may need that of its own.
type aloner struct {
	w   *flate.Writer
	out bytes.Buffer
}

// letGo lets go of a buffer that something large has been in.
func letGo(b *bytes.Buffer) {
	if b.Cap() > outMost {
		*b = bytes.Buffer{}
	}
}

var aloners = sync.Pool{New: func() any {
	w, _ := flate.NewWriter(nil, flate.BestSpeed) // which is a level that there is
	return &aloner{w: w}
}}

// flush is an empty stored block, with which flate.Writer's Flush ends too. What stands in a stored block alone Go's reader (1.26, 1.27) holds until the next one.
const flush = "\x00\x00\x00\xff\xff"

// appendStored appends blocks that are not compressed.
func appendStored(dst []byte, size int, parts [][]byte) []byte {
	left := 0 // of the present block
	for _, p := range parts {
		for len(p) > 0 {
			if left == 0 {
				left = min(size, blockMost)
				size -= left
				dst = append(dst, 0)
				dst = binary.LittleEndian.AppendUint16(dst, uint16(left))
				dst = binary.LittleEndian.AppendUint16(dst, ^uint16(left))
			}
			n := min(left, len(p))
			dst, p, left = append(dst, p[:n]...), p[n:], left-n
		}
	}
	return append(dst, flush...)
}

// AppendEnd appends the end of an answer that is complete: a last block, empty, and the sum of all that was in it (RFC 1952, section 2.3).
func AppendEnd(dst []byte, s Sum) []byte {
	dst = append(dst, 1, 0, 0, 0xff, 0xff)
	dst = binary.LittleEndian.AppendUint32(dst, s.CRC)
	return binary.LittleEndian.AppendUint32(dst, s.Size)
}
