package deflate

import "hash/crc32"

// Sum is what the end of an answer says of all that was in it (RFC 1952, section 2.3.1). The zero value is that of nothing.
type Sum struct {
	CRC  uint32
	Size uint32 // modulo 2^32
}

// Part is the sum of something that is added to those of many answers.
type Part struct {
	Sum
	shift uint32 // x^(8 × size) modulo the polynomial: what the bytes before it are shifted by
}

// SumOf returns the part that p is.
func SumOf(p []byte) Part { return partOf(Sum{crc32.ChecksumIEEE(p), uint32(len(p))}, uint64(len(p))) }

func partOf(s Sum, size uint64) Part { return Part{s, power(size)} }

// Then returns the part that p with q after it is.
func (p Part) Then(q Part) Part {
	if p.Size == 0 && p.CRC == 0 {
		return q
	}
	s := p.Sum
	s.Add(q)
	return Part{s, times(p.shift, q.shift)}
}

// Add adds p after what s is of.
func (s *Sum) Add(p Part) {
	if p.shift == 0 { // of nothing
		return
	}
	s.CRC, s.Size = times(p.shift, s.CRC)^p.CRC, s.Size+p.Size
}

// polynomial is CRC-32's, the bit of the highest power (x^31) being the lowest; the bit of x^32 is left out.
const polynomial = crc32.IEEE

// one is the polynomial 1 in that order of bits.
const one = 1 << 31

// times multiplies two polynomials modulo CRC-32's.
func times(a, b uint32) (product uint32) {
	for bit := uint32(one); bit != 0; bit >>= 1 {
		product ^= b & -(a & bit / bit) // all of b where a has the bit
		b = b>>1 ^ polynomial&-(b&1)
		if a &= bit - 1; a == 0 {
			break
		}
	}
	return product
}

// powers are x^(8 × 2^n).
var powers = func() (p [64]uint32) {
	p[0] = one >> 8
	for i := 1; i < len(p); i++ {
		p[i] = times(p[i-1], p[i-1])
	}
	return p
}()

// power is x^(8 × n).
func power(n uint64) uint32 {
	p := uint32(one)
	for i := 0; n != 0; i, n = i+1, n>>1 {
		if n&1 != 0 {
			p = times(p, powers[i])
		}
	}
	return p
}
