// This file is the format of a folder's files. A folder holds
//
//	lock       locked by the process that has the folder (flock)
//	key        32 random bytes: streams are named by an HMAC of their identity, so that the folder tells no cookie or token
//	stale      "yes" where events were given to clients that could not be written, since the disk was full, and no record says so; else "no"
//	NNNNNNNN   segments, eight hexadecimal digits, in the order in which they were begun
//
// A segment begins with the 8 bytes "sidehst1", then records one after the other:
//
//	crc     4 bytes  CRC-32C of all that follows in the record
//	length  4 bytes  of what follows it
//	kind    1 byte
//	stream  4 bytes  the stream's number, which a record of kind define has given it in this segment
//	body
//
// Numbers are little-endian. The bodies:
//
//	define  name 32 bytes, epoch 8: the newest that was used, born 8: events of older epochs are void
//	event   epoch 8, seq 8, ms since 1970 8, length of id 2, length of key 2, id, key, data; where seq is 1, the epoch and the seq of the
//	        event before, 8 each, stand before the data
//	state   epoch 8, seq 8 of the event that it stands after, then what the source needs to go on there
//	past    epoch 8, seq 8 of the event that it stands after, then what all events up to there come to
//	owes    epoch 8, seq 8 of the event that it stands after: where that is the newest one, clients may have been given some after it
//
// Records of a batch stand together, and all but the last have the bit more in their kind. A batch that is cut short at the end of the
// last segment was being written when the process ended: nothing of it was given to a client. Whatever else does not read is damage.

package history

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"time"
)

const (
	segmentMagic = "sidehst1"
	frontSize    = 8     // crc and length
	headSize     = 1 + 4 // kind and stream

	// maxRecord bounds what a length may claim: the largest event is MAX_MESSAGE and what encoding adds to it.
	maxRecord = 1 << 30
)

type kind byte

const (
	kindDefine kind = 1 + iota
	kindEvent
	kindState
	kindPast
	kindOwes

	more kind = 0x80 // the batch goes on
)

// nameSize is that of a stream's name.
const nameSize = 32

type name [nameSize]byte

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendRecord appends a record whose body is what body appends. Those below are for the midst of a batch, see endBatch.
func appendRecord(dst []byte, k kind, stream uint32, body func([]byte) []byte) []byte {
	start := len(dst)
	dst = append(dst, make([]byte, frontSize)...)
	dst = binary.LittleEndian.AppendUint32(append(dst, byte(k)), stream)
	dst = body(dst)
	rest := dst[start+frontSize:]
	binary.LittleEndian.PutUint32(dst[start+4:], uint32(len(rest)))
	binary.LittleEndian.PutUint32(dst[start:], crc32.Checksum(dst[start+4:], castagnoli))
	return dst
}

func appendPosition(dst []byte, p Position) []byte {
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(dst, p.Epoch), p.Seq)
}

func appendDefine(dst []byte, stream uint32, n name, epoch, born uint64) []byte {
	return appendRecord(dst, kindDefine|more, stream, func(b []byte) []byte {
		return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(append(b, n[:]...), epoch), born)
	})
}

// maxField bounds id and key in a record: a longer one is left out.
const maxField = 1<<16 - 1

// appendEvent appends e, which stands after before.
func appendEvent(dst []byte, stream uint32, e *Event, before Position) []byte {
	id, key := e.ID, e.Key
	if len(id) > maxField {
		id = ""
	}
	if len(key) > maxField {
		key = ""
	}
	return appendRecord(dst, kindEvent|more, stream, func(b []byte) []byte {
		b = binary.LittleEndian.AppendUint64(appendPosition(b, e.Position), uint64(e.At.UnixMilli()))
		b = binary.LittleEndian.AppendUint16(b, uint16(len(id)))
		b = binary.LittleEndian.AppendUint16(b, uint16(len(key)))
		b = append(append(b, id...), key...)
		if e.Seq == 1 {
			b = appendPosition(b, before)
		}
		return append(b, e.Data...)
	})
}

// appendBlob appends a state or a past, which stands after the event at p.
func appendBlob(dst []byte, k kind, stream uint32, p Position, blob []byte) []byte {
	return appendRecord(dst, k|more, stream, func(b []byte) []byte { return append(appendPosition(b, p), blob...) })
}

// appendCopy appends a record with the same body.
func appendCopy(dst []byte, stream uint32, r record) []byte {
	return appendRecord(dst, r.kind|more, stream, func(b []byte) []byte { return append(b, r.body...) })
}

// endBatch clears the bit more in the record, and mends its sum.
func endBatch(record []byte) {
	record[frontSize] &^= byte(more)
	length := int(binary.LittleEndian.Uint32(record[4:]))
	binary.LittleEndian.PutUint32(record, crc32.Checksum(record[4:frontSize+length], castagnoli))
}

// record is one that was read. What it holds is a part of what it was read from.
type record struct {
	kind   kind // without more
	more   bool
	stream uint32
	body   []byte
	size   int // of the whole record
}

var (
	errCut    = errors.New("a record is cut short")
	errDamage = errors.New("a record fails its checksum")
)

// readRecord reads the first record of data, which must not be empty. The error is errCut where data ends within it, or errDamage.
func readRecord(data []byte) (record, error) {
	if len(data) < frontSize+headSize {
		return record{}, errCut
	}
	length := int(binary.LittleEndian.Uint32(data[4:]))
	switch {
	case length < headSize || length > maxRecord:
		return record{}, errDamage
	case len(data)-frontSize < length:
		return record{}, errCut
	case crc32.Checksum(data[4:frontSize+length], castagnoli) != binary.LittleEndian.Uint32(data):
		return record{}, errDamage
	}
	rest := data[frontSize : frontSize+length]
	k := kind(rest[0])
	return record{k &^ more, k&more != 0, binary.LittleEndian.Uint32(rest[1:]), rest[headSize:], frontSize + length}, nil
}

func position(b []byte) Position {
	return Position{binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])}
}

// define reads the body of a definition.
func (r record) define() (n name, epoch, born uint64, ok bool) {
	if len(r.body) != nameSize+16 {
		return n, 0, 0, false
	}
	copy(n[:], r.body)
	return n, binary.LittleEndian.Uint64(r.body[nameSize:]), binary.LittleEndian.Uint64(r.body[nameSize+8:]), true
}

// blob reads the body of a state or a past.
func (r record) blob() (p Position, blob []byte, ok bool) {
	if len(r.body) < 16 {
		return p, nil, false
	}
	return position(r.body), r.body[16:], true
}

// event reads the body of an event, whose data is a part of the record's, and where the event before it stands.
func (r record) event() (e Event, before Position, ok bool) {
	const fixed = 16 + 8 + 2 + 2
	if len(r.body) < fixed {
		return e, before, false
	}
	e.Position = position(r.body)
	e.At = time.UnixMilli(int64(binary.LittleEndian.Uint64(r.body[16:])))
	id, key := int(binary.LittleEndian.Uint16(r.body[24:])), int(binary.LittleEndian.Uint16(r.body[26:]))
	rest := r.body[fixed:]
	if len(rest) < id+key {
		return e, before, false
	}
	e.ID, e.Key, rest = string(rest[:id]), string(rest[id:id+key]), rest[id+key:]
	before = Position{e.Epoch, e.Seq - 1}
	if e.Seq == 1 {
		if len(rest) < 16 {
			return e, before, false
		}
		before, rest = position(rest), rest[16:]
	}
	e.Data = rest
	return e, before, e.Seq > 0
}
